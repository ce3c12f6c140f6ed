#!/usr/bin/env bash
# Compares tools over S3 with 30 ms for each round trip: seconds and memory of first backups, next days and restores.
#
#   BACKSTAY_BENCH=DIR benches/s3.sh [RUNS]       (default 3) prints medians
#
# DIR is that of compare.sh; its env.sh also exports BIN_DELAY_PROXY, called as `LISTEN TARGET RTT_MS`. The server is s3s-fs on this
# machine, so every tool has the same one and none is held up by bandwidth. Before a restore the tool's cache is removed, as on
# a new machine. A run takes some four minutes; what was stored is removed at the end.
set -euo pipefail

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
bench=${BACKSTAY_BENCH:-$HOME/.cache/backstay/bench}
runs=${1:-3} tools=${BENCH_TOOLS:-backstay restic rustic}
# shellcheck source=/dev/null
. "$bench/env.sh"
BIN_BACKSTAY=${BIN_BACKSTAY:-$(realpath "$root/target/backstay")}
server=$("$root/scripts/s3s.sh")
work=$bench/work/s3
files=$bench/data/files dump=$bench/data/pgdump
port=18714 delayed=18715
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
"$BIN_DELAY_PROXY" 127.0.0.1:$delayed 127.0.0.1:$port 30 >/dev/null 2>&1 &
for _ in $(seq 50); do (exec 3<>/dev/tcp/127.0.0.1/$delayed) 2>/dev/null && break; sleep 0.1; done
sleep 1

export BACKSTAY_PASSWORD=bench RESTIC_PASSWORD=bench RUSTIC_PASSWORD=bench

# place NAME: the repository that the commands below mean, empty caches included.
place() {
    export BACKSTAY_REPOSITORY=s3://bench/$1 BACKSTAY_CACHE_DIR=$work/cache
    export RESTIC_REPOSITORY=s3:$AWS_ENDPOINT_URL/bench/$1 RESTIC_CACHE_DIR=$work/cache RUSTIC_CACHE_DIR=$work/cache
    export RUSTIC_USE_PROFILE=$work/rustic
    cat >"$work/rustic.toml" <<END
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
END
    forget_cache
}
forget_cache() { rm -rf "$work/cache" && mkdir -p "$work/cache"; }

# step TOOL NAME COMMAND…: measures one command; its input and output are the caller's.
step() {
    local tool=$1 name=$2
    shift 2
    sync
    if [ "$(id -u)" = 0 ]; then echo 3 >/proc/sys/vm/drop_caches; fi
    /usr/bin/time -a -o "$work/times" -f "$tool|$name|%e|%U|%S|%M" "$@" 2>"$work/stderr" ||
        { echo "s3.sh: $tool failed at $name:" >&2; tail -n 5 "$work/stderr" >&2; exit 1; }
}

backstay() {
    "$BIN_BACKSTAY" -q init
    case $1 in
        dump)
            step backstay "dump: first backup" "$BIN_BACKSTAY" -q backup --stdin --name dump <"$dump.day1"
            step backstay "dump: next day" "$BIN_BACKSTAY" -q backup --stdin --name dump <"$dump.day2"
            forget_cache
            step backstay "dump: restored as a stream, cold" "$BIN_BACKSTAY" -q cat latest >"$work/out"
            ;;
        files)
            step backstay "files: first backup" "$BIN_BACKSTAY" -q backup "$files"
            step backstay "files: no change" "$BIN_BACKSTAY" -q backup "$files"
            step backstay "snapshots" "$BIN_BACKSTAY" snapshots >/dev/null
            forget_cache
            step backstay "files: restored, cold" "$BIN_BACKSTAY" -q restore latest --target "$work/tree"
            ;;
    esac
}

restic() {
    "$BIN_RESTIC" -q init
    case $1 in
        dump)
            step restic "dump: first backup" "$BIN_RESTIC" -q backup --stdin --stdin-filename dump <"$dump.day1"
            step restic "dump: next day" "$BIN_RESTIC" -q backup --stdin --stdin-filename dump <"$dump.day2"
            forget_cache
            step restic "dump: restored as a stream, cold" "$BIN_RESTIC" -q dump latest dump >"$work/out"
            ;;
        files)
            step restic "files: first backup" "$BIN_RESTIC" -q backup "$files"
            step restic "files: no change" "$BIN_RESTIC" -q backup "$files"
            step restic "snapshots" "$BIN_RESTIC" snapshots >/dev/null
            forget_cache
            step restic "files: restored, cold" "$BIN_RESTIC" -q restore latest --target "$work/tree"
            ;;
    esac
}

rustic() {
    "$BIN_RUSTIC" init >/dev/null 2>&1
    case $1 in
        dump)
            step rustic "dump: first backup" "$BIN_RUSTIC" backup --stdin-filename dump - <"$dump.day1" >/dev/null
            step rustic "dump: next day" "$BIN_RUSTIC" backup --stdin-filename dump - <"$dump.day2" >/dev/null
            forget_cache
            step rustic "dump: restored as a stream, cold" "$BIN_RUSTIC" dump latest:dump >"$work/out"
            ;;
        files)
            step rustic "files: first backup" "$BIN_RUSTIC" backup "$files" >/dev/null
            step rustic "files: no change" "$BIN_RUSTIC" backup "$files" >/dev/null
            step rustic "snapshots" "$BIN_RUSTIC" snapshots >/dev/null
            forget_cache
            step rustic "files: restored, cold" "$BIN_RUSTIC" restore latest "$work/tree" >/dev/null
            ;;
    esac
}

for run in $(seq "$runs"); do
    for tool in $tools; do
        for set in dump files; do
            place "$tool-$set-$run"
            "$tool" "$set"
            # rustic takes a second stream of the same name for unchanged and does not read it.
            [ "$set" = files ] || cmp -s "$work/out" "$dump.day2" || cmp -s "$work/out" "$dump.day1" ||
                { echo "s3.sh: $tool gave another dump" >&2; exit 1; }
            [ "$set" = dump ] || diff -rq --no-dereference "$files" "$(find "$work/tree" -name "$(basename "$files")" -print -quit)" >/dev/null ||
                [ "$tool" != backstay ] || { echo "s3.sh: $tool gave another tree" >&2; exit 1; }
            rm -rf "$work/out" "$work/tree" "$work/store/bench/$tool-$set-$run"
        done
    done
done

python3 - "$work/times" <<'END'
import statistics, sys
runs = {}
for line in open(sys.argv[1]):
    tool, step, wall, user, system, peak = line.rstrip("\n").split("|")
    runs.setdefault(step, {}).setdefault(tool, []).append((float(wall), float(user) + float(system), float(peak) / 1024))
print("wall s (least to most) / CPU s / peak MiB")
for step, tools in runs.items():
    for tool, rows in tools.items():
        wall, cpu, peak = (statistics.median(column) for column in zip(*rows))
        least, most = min(row[0] for row in rows), max(row[0] for row in rows)
        print(f"{step:34} {tool:9} {wall:6.2f} ({least:.2f}-{most:.2f}) / {cpu:6.2f} / {peak:6.0f}")
END
