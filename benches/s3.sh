#!/usr/bin/env bash
# Compares tools over S3 with 30 ms for each round trip: seconds and memory of first backups, next days and restores.
#
#   BACKSTAY_BENCH=DIR benches/s3.sh [RUNS]       (default 3) prints medians
#
# DIR and the server are described in slow_s3.sh. Before a restore the tool's cache is removed, as on
# a new machine. A run takes some four minutes; what was stored is removed at the end.
set -euo pipefail

bench=${BACKSTAY_BENCH:-$HOME/.cache/backstay/bench}
runs=${1:-3} tools=${BENCH_TOOLS:-backstay restic rustic}
work=$bench/work/s3
files=$bench/data/files dump=$bench/data/pgdump
# shellcheck source=benches/slow_s3.sh
. "$(dirname "${BASH_SOURCE[0]}")/slow_s3.sh"

# step TOOL NAME COMMAND…: measures one command; its input and output are the caller's.
step() {
    local tool=$1 name=$2
    shift 2
    drop_caches
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
