#!/usr/bin/env bash
# Compares mounts over S3 with 30 ms for each round trip, each step with a fresh mount and no cache: seconds and memory.
#
#   BACKSTAY_BENCH=DIR benches/mount.sh [RUNS]       (default 3) prints medians; BENCH_TOOLS="backstay restic rustic" says which tools
#
# DIR and the server are described in slow_s3.sh. Mounting takes root or fusermount3. One snapshot has the tree of DIR/data/files, a file
# of 500 MB (the start of pgdump.day1) and 10,000 small files of the tree in one folder. Steps: the first `ls -lR` of the tree, from
# the start of the mount on; `cat` of the large file; `grep -r` over the small files; 100 random reads of 4 KiB in the large file.
# The others take minutes for the third, restic ten, so only BENCH_PATIENT=1 asks them for that; rustic mounts only if it was built with that feature. Then, in a local repository, backstay's own mount is read
# beside its `restore` of the same file, from when it is mounted.
set -euo pipefail

bench=${BACKSTAY_BENCH:-$HOME/.cache/backstay/bench}
runs=${1:-3} tools=${BENCH_TOOLS:-backstay restic}
work=$bench/work/mount data=$bench/data/mount point=$bench/work/mountpoint
# shellcheck source=benches/slow_s3.sh
. "$(dirname "${BASH_SOURCE[0]}")/slow_s3.sh"

if [ ! -e "$data/made" ]; then
    mkdir -p "$data/small"
    head -c 500000000 "$bench/data/pgdump.day1" >"$data/large"
    # shellcheck disable=SC2312
    find "$bench/data/files/" -type f -size -16k -print0 | sort -z |
        awk -v RS='\0' -v to="$data/small" 'NR <= 10000 { printf "%s%c%s/%05d%c", $0, 0, to, NR, 0 }' | xargs -0 -n 2 cp
    touch "$data/made"
fi
mkdir -p "$point"
roots=("$bench/data/files" "$data")

# mounted TOOL: mounts in the background and sets `tree`, the folder in which the snapshot's paths begin, when it is there.
mounted() {
    case $1 in
        backstay) "$BIN_BACKSTAY" -q mount "$point" >"$work/log" 2>&1 & tree=$point/latest/files ;;
        restic) "$BIN_RESTIC" -q mount "$point" >"$work/log" 2>&1 & tree=$point/snapshots/latest ;;
        rustic) "$BIN_RUSTIC" mount "$point" latest >"$work/log" 2>&1 & tree=$point ;;
        *) echo "mount.sh: no tool is called $1" >&2; exit 2 ;;
    esac
    mounter=$!
    for _ in $(seq 3000); do [ ! -d "$tree$data" ] || return 0; sleep 0.01; done
    echo "mount.sh: $1 has not mounted:" >&2
    tail -n 5 "$work/log" >&2
    exit 1
}

unmounted() {
    peak=$(awk '/VmHWM/ { print $2 }' "/proc/$mounter/status")
    used=$(awk '{ print ($14 + $15) / 100 }' "/proc/$mounter/stat")
    umount "$point" 2>/dev/null || fusermount3 -u "$point"
    wait "$mounter" || true
}

random_reads() {
    python3 -c '
import os, random, sys
dice, file = random.Random(7), os.open(sys.argv[1], os.O_RDONLY)
size = os.fstat(file).st_size
for _ in range(100):
    assert len(os.pread(file, 4096, dice.randrange(size // 4096) * 4096)) == 4096
' "$1"
}

# step TOOL NAME COMMAND…: a fresh mount without a cache, and the seconds from its start to the command`s end.
step() {
    local tool=$1 name=$2
    shift 2
    forget_cache
    drop_caches
    local began ended
    began=$(date +%s.%N)
    mounted "$tool"
    [[ $name != local* ]] || began=$(date +%s.%N)
    "$@" || { echo "mount.sh: $tool failed at $name" >&2; exit 1; }
    ended=$(date +%s.%N)
    unmounted
    echo "$tool|$name|$(echo "$ended - $began" | bc)|$used|$peak" >>"$work/times"
}

list_all() { ls -lR "$tree$bench/data/files" >/dev/null; }
read_large() { cmp "$tree$data/large" "$data/large"; }
read_through() { cat "$tree$data/large" >/dev/null; }
search_small() { test "$(grep -r -l . "$tree$data/small" | wc -l)" -gt 5000; }
read_here_and_there() { random_reads "$tree$data/large"; }

for run in $(seq "$runs"); do
    for tool in $tools; do
        place "$tool-$run"
        case $tool in
            backstay) "$BIN_BACKSTAY" -q init && "$BIN_BACKSTAY" -q backup "${roots[@]}" ;;
            restic) "$BIN_RESTIC" -q init && "$BIN_RESTIC" -q backup "${roots[@]}" ;;
            rustic) "$BIN_RUSTIC" init >/dev/null 2>&1 && "$BIN_RUSTIC" backup "${roots[@]}" >/dev/null 2>&1 ;;
        esac
        step "$tool" "first ls -lR of 61,000 files" list_all
        step "$tool" "500 MB from start to end" read_large
        [[ $tool != backstay && -z ${BENCH_PATIENT:-} ]] || step "$tool" "grep -r over 10,000 small files" search_small
        step "$tool" "100 random reads of 4 KiB" read_here_and_there
        rm -rf "$work/store/bench/$tool-$run"
    done
done

unset AWS_ENDPOINT_URL
export BACKSTAY_REPOSITORY=$work/local
"$BIN_BACKSTAY" -q init
"$BIN_BACKSTAY" -q backup "$data/large"
for run in $(seq "$runs"); do
    step backstay "local: 500 MB from start to end" read_through
    drop_caches
    began=$(date +%s.%N)
    "$BIN_BACKSTAY" -q restore latest --target "$work/restored"
    ended=$(date +%s.%N)
    echo "backstay|local: the same restored|$(echo "$ended - $began" | bc)|0|0" >>"$work/times"
    rm -rf "$work/restored"
done

python3 - "$work/times" <<'TABLE'
import statistics, sys
runs = {}
for line in open(sys.argv[1]):
    tool, step, wall, used, peak = line.rstrip("\n").split("|")
    runs.setdefault(step, {}).setdefault(tool, []).append((float(wall), float(used), float(peak) / 1024))
print("wall s (least to most) / CPU s of the mount / its peak MiB")
for step, tools in runs.items():
    for tool, rows in tools.items():
        wall, used, peak = (statistics.median(column) for column in zip(*rows))
        least, most = min(row[0] for row in rows), max(row[0] for row in rows)
        print(f"{step:34} {tool:9} {wall:6.2f} ({least:.2f}-{most:.2f}) / {used:6.2f} / {peak:6.0f}")
TABLE
