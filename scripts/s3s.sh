#!/usr/bin/env bash
# Builds the S3 server of the tests once per machine and prints where it is.
#
#   server=$(scripts/s3s.sh)
#   "$server" --host 127.0.0.1 --port 8014 --access-key test --secret-key testsecret FOLDER
#
# s3s-fs keeps each bucket as a folder below FOLDER, checks signatures and honours If-None-Match. It is a tool of
# the tests and no dependency: about four minutes of building, then $HOME/.cache/backstay/tools/bin/s3s-fs stays.
#
# stdout is the path and nothing else; what happens is told on stderr.
set -euo pipefail

version=0.14.1
cache=${BACKSTAY_CACHE:-$HOME/.cache/backstay}
tools=$cache/tools
server=$tools/bin/s3s-fs

is_there() { [ -x "$server" ] && grep -q "^\"s3s-fs $version " "$tools/.crates.toml" 2>/dev/null; }

build() {
    local target=$tools/target log=$tools/s3s.log
    echo "s3s.sh: building s3s-fs $version once, about four minutes on two cores (log: $log)" >&2
    if ! CARGO_PROFILE_RELEASE_OPT_LEVEL=1 CARGO_PROFILE_RELEASE_LTO=false CARGO_TARGET_DIR=$target \
        nice cargo install s3s-fs --version "$version" --features binary --locked --force --root "$tools" >"$log" 2>&1; then
        tail -n 40 "$log" >&2
        echo "s3s.sh: s3s-fs does not build; the whole log is $log" >&2
        exit 1
    fi
    rm -rf "$target"
}

if ! is_there; then
    mkdir -p "$tools"
    exec 9>"$tools/s3s.lock"
    flock 9 # a second caller waits for the first and then finds the server
    is_there || build
fi
echo "$server"
