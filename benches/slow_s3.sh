#!/usr/bin/env bash
# To be sourced: an S3 server with 30 ms for each round trip, and repositories on it for each tool.
#
#   bench=DIR work=FOLDER; . benches/slow_s3.sh
#
# DIR is that of compare.sh. The link is benches/src/bin/slow-link.rs: cargo build --release -p backstay-benches. The server is s3s-fs on
# this machine, so every tool has the same one and none is held up by bandwidth. FOLDER is emptied, and removed at the end.

: "${bench:?names where data and tools are}" "${work:?is scratch space}"
benches=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
# shellcheck source=/dev/null
. "$bench/env.sh"
BIN_BACKSTAY=${BIN_BACKSTAY:-$(realpath "$benches/../target/backstay")}
server=$("$benches/../scripts/s3s.sh")
link=${BIN_SLOW_LINK:-${CARGO_TARGET_DIR:-$HOME/.cache/backstay/target}/release/slow-link}
port=18714 delayed=18715
[ -x "$link" ] || { echo "slow_s3.sh: $link is missing" >&2; exit 2; }
rm -rf "$work"

cleanup() {
    # shellcheck disable=SC2046
    kill $(jobs -p) 2>/dev/null || true
    rm -rf "$work"
}
trap cleanup EXIT

mkdir -p "$work/store/bench"
export AWS_ACCESS_KEY_ID=bench AWS_SECRET_ACCESS_KEY=bench-secret AWS_REGION=us-east-1 AWS_DEFAULT_REGION=us-east-1
export AWS_ENDPOINT_URL=http://127.0.0.1:$delayed
"$server" --host 127.0.0.1 --port $port --access-key "$AWS_ACCESS_KEY_ID" --secret-key "$AWS_SECRET_ACCESS_KEY" \
    "$work/store" >/dev/null 2>&1 &
"$link" 127.0.0.1:$delayed 127.0.0.1:$port 30 >/dev/null 2>&1 &
for _ in $(seq 50); do (exec 3<>/dev/tcp/127.0.0.1/$delayed) 2>/dev/null && break; sleep 0.1; done
sleep 1

export BACKSTAY_PASSWORD=bench RESTIC_PASSWORD=bench RUSTIC_PASSWORD=bench

# place NAME: the repository that the commands below mean, empty caches included.
place() {
    export BACKSTAY_REPOSITORY=s3://bench/$1 BACKSTAY_CACHE_DIR=$work/cache
    export RESTIC_REPOSITORY=s3:$AWS_ENDPOINT_URL/bench/$1 RESTIC_CACHE_DIR=$work/cache RUSTIC_CACHE_DIR=$work/cache
    export RUSTIC_USE_PROFILE=$work/rustic
    cat >"$work/rustic.toml" <<PROFILE
[repository]
repository = "opendal:s3"
[repository.options]
bucket = "bench"
root = "/$1"
endpoint = "$AWS_ENDPOINT_URL"
region = "$AWS_REGION"
access_key_id = "$AWS_ACCESS_KEY_ID"
secret_access_key = "$AWS_SECRET_ACCESS_KEY"
enable_virtual_host_style = "false"
PROFILE
    forget_cache
}
forget_cache() { rm -rf "$work/cache" && mkdir -p "$work/cache"; }

# drop_caches: the kernel's, which takes root.
drop_caches() {
    sync
    if [ "$(id -u)" = 0 ]; then echo 3 >/proc/sys/vm/drop_caches; fi
}
