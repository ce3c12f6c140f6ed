#!/usr/bin/env bash
# Compares what it costs to get one stream back: user and system seconds, wall seconds, peak memory.
#
#   BACKSTAY_BENCH=DIR benches/cat.sh [RUNS]     (default 5) prints medians
#
# DIR is that of compare.sh: env.sh exports BIN_BACKSTAY, BIN_BUPSTASH and BIN_RUSTIC, data/pgdump.day1 is the stream. The tools take
# turns, so that whatever else the machine does befalls all of them. Nothing is dropped from the kernel's cache: it is the
# tools' own work that is compared. Repositories are made below DIR/work/cat and removed at the end.
set -euo pipefail

bench=${BACKSTAY_BENCH:-$HOME/.cache/backstay/bench}
runs=${1:-5}
# shellcheck source=/dev/null
. "$bench/env.sh"
work=$bench/work/cat
dump=$bench/data/pgdump.day1
rm -rf "$work" && mkdir -p "$work"
trap 'rm -rf "$work"' EXIT

export BACKSTAY_REPOSITORY=$work/backstay BACKSTAY_PASSWORD=secret BACKSTAY_CACHE_DIR=$work/cache
export BUPSTASH_REPOSITORY=$work/bupstash BUPSTASH_KEY=$work/key
export RUSTIC_REPOSITORY=$work/rustic RUSTIC_PASSWORD=secret RUSTIC_NO_CACHE=true HOME=$work

"$BIN_BACKSTAY" -q init && "$BIN_BACKSTAY" -q backup --stdin --name dump <"$dump"
"$BIN_BUPSTASH" init && "$BIN_BUPSTASH" new-key -o "$BUPSTASH_KEY"
"$BIN_BUPSTASH" put -q --compression zstd:3 day=1 - <"$dump" >/dev/null
"$BIN_RUSTIC" init >/dev/null 2>&1 && "$BIN_RUSTIC" backup --stdin-filename dump - <"$dump" >/dev/null 2>&1

get() {
    case $1 in
        backstay) echo "$BIN_BACKSTAY" cat latest ;;
        bupstash) echo "$BIN_BUPSTASH" get -q day=1 ;;
        rustic) echo "$BIN_RUSTIC" dump latest:dump ;;
    esac
}

for sink in /dev/null "$work/out"; do
    to=$(basename "$sink")
    for _ in $(seq "$runs"); do
        for tool in backstay bupstash rustic; do
            rm -f "$work/out"
            # shellcheck disable=SC2046
            /usr/bin/time -a -o "$work/times" -f "$tool $to %U %S %e %M" $(get $tool) >"$sink" 2>/dev/null
            [ "$sink" = /dev/null ] || cmp -s "$sink" "$dump" || { echo "cat.sh: $tool gave something else" >&2; exit 1; }
        done
    done
done

python3 - "$work/times" <<'END'
import statistics, sys
runs = {}
for line in open(sys.argv[1]):
    tool, sink, *figures = line.split()
    runs.setdefault((sink, tool), []).append([float(figure) for figure in figures])
print("sink      tool      user s  sys s  cpu s  wall s (least)  peak MiB")
for (sink, tool), rows in runs.items():
    user, system, wall, peak = (statistics.median(column) for column in zip(*rows))
    cpu = statistics.median(row[0] + row[1] for row in rows)
    least = min(row[2] for row in rows)
    print(f"{sink:9} {tool:9} {user:6.2f} {system:6.2f} {cpu:6.2f} {wall:6.2f} ({least:.2f}) {peak / 1024:12.0f}")
END
