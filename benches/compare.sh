#!/usr/bin/env bash
# Compares backstay with other backup tools on one machine: speed, memory, and bytes stored for a first and a second day.
#
#   BACKSTAY_BENCH=DIR benches/compare.sh [NAME…]       NAME: backstay restic borg rustic bupstash (default: backstay restic)
#
# DIR (default $HOME/.cache/backstay/bench) is made outside this repository, because data sets and peers are some 12 GB:
#
#   DIR/env.sh          exports BIN_RESTIC=…, BIN_BORG=…, …: where each peer's binary is
#   DIR/data            the sets: files/ (day 2 by rename), pgdump.day1, pgdump.day2, pgbase.*, redis-*, etcd.*, random.day1
#   DIR/tools/bench.py  runs one contender after the other on an otherwise idle machine, one JSON line per step
#   DIR/tools/backstay.json   how the steps are spelled for backstay
#   DIR/results.jsonl   what was measured so far; DIR/work is scratch space
#
# A step is init, backup of day 1, backup of day 2, backup without a change, restore, check, check of all data, prune.
# Caches of the kernel are dropped before each when run as root. Compare figures of one machine and one run of this script
# only. BENCH_SETS=pgdump,files and BENCH_RUNS=3 narrow it; the table of medians is printed at the end.
set -euo pipefail

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
bench=${BACKSTAY_BENCH:-$HOME/.cache/backstay/bench}
for needed in env.sh data tools/bench.py tools/backstay.json; do
    [ -e "$bench/$needed" ] || { echo "compare.sh: $bench/$needed is missing; the head of this script says what it is" >&2; exit 1; }
done
[ -x "$root/target/backstay" ] || { echo "compare.sh: run make build first" >&2; exit 1; }

names=("$@")
[ ${#names[@]} -gt 0 ] || names=(backstay restic)
# shellcheck source=/dev/null
. "$bench/env.sh"
BIN_BACKSTAY=${BIN_BACKSTAY:-$(realpath "$root/target/backstay")}
export BIN_BACKSTAY

python3 "$bench/tools/bench.py" --data "$bench/data" --work "$bench/work" --out "$bench/results.jsonl" \
    --spec "$bench/tools/backstay.json" --only "$(IFS=, && echo "${names[*]}")" \
    --sets "${BENCH_SETS:-files,pgdump}" --runs "${BENCH_RUNS:-3}"
python3 "$bench/tools/bench.py" --table "$bench/results.jsonl"
