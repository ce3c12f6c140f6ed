#!/usr/bin/env bash
# Thirty days of random page updates in a database file, of which seven are kept: what is stored after the prune.
#
#   benches/pages30.sh WORK       env: BIN_BACKSTAY, BIN_RESTIC name the binaries, MIB (256) and CHANGES (a day, 1500) the work
#
# The file is a stream of pages of 8 KiB, half noise and half text. backstay prunes twice, on copies of one repository: by
# the maintenance key, which opens no content, and by the owner's. Bytes are seeded; restic cuts by a random polynomial.
set -euo pipefail

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
backstay=${BIN_BACKSTAY:-$root/target/backstay} restic=${BIN_RESTIC:-restic} mib=${MIB:-256} changes=${CHANGES:-1500}
mkdir -p "$1"
cd "$1"
rm -rf pages backstay restic by-* cache-* home
mkdir home
export HOME=$PWD/home RESTIC_PASSWORD=x BACKSTAY_CACHE_DIR=$PWD/cache-backstay RESTIC_CACHE_DIR=$PWD/cache-restic
for name in owner keeper; do (umask 077 && echo "$name" >"home/$name"); done
export BACKSTAY_PASSWORD_FILE=$PWD/home/owner

day() {
    python3 - pages "$1" "$mib" "$changes" <<'END'
import random, sys
path, day, mib, changes = sys.argv[1], *map(int, sys.argv[2:])
drawn = random.Random(day)
words = [b"%x" % random.Random(at).getrandbits(40) for at in range(4000)]
page = lambda: drawn.randbytes(4096) + b" ".join(drawn.choices(words, k=420))[:4096].ljust(4096)
if day == 0:
    with open(path, "wb") as file:
        for _ in range(mib * 128):
            file.write(page())
with open(path, "r+b") as file:
    for _ in range(changes):
        file.seek(drawn.randrange(mib * 128) * 8192)
        file.write(page())
END
}
size() { du -sb "$1" | awk '{ printf "%.1f MB", $1 / 1e6 }'; }
# measured NAME REPOSITORY COMMAND…
measured() {
    local name=$1 place=$2 mark=mark before
    shift 2
    before=$(size "$place")
    touch $mark && sleep 1
    /usr/bin/time -q -o time -f "%e s, %U+%S CPU s, %M KiB" "$@" >log 2>&1 || { cat log >&2; exit 1; }
    echo "$name: $before -> $(size "$place"), $(find "$place" -type f -newer $mark -printf '%s\n' | awk '{ sum += $1 } END { printf "%.1f", sum / 1e6 }') MB written, $(cat time)"
}

"$backstay" -q -r backstay init
"$backstay" -q -r backstay key add --role maintenance --label keeper --new-password-file home/keeper
"$restic" -q -r restic init
# shellcheck disable=SC2094 # nothing writes to the file meanwhile
for at in $(seq 0 29); do
    day "$at"
    "$backstay" -q -r backstay backup --stdin --name pages --cutter pages-8192 <pages
    "$restic" -q -r restic backup --stdin --stdin-filename pages <pages
done
"$backstay" -q -r backstay forget --keep-last 7 --yes >/dev/null
cp -a backstay by-maintenance
measured "backstay, maintenance key" by-maintenance "$backstay" -r by-maintenance --password-file home/keeper prune --yes
cp -a backstay by-owner
measured "backstay, owner's key" by-owner "$backstay" -r by-owner prune --yes
cp -a backstay by-owner-0
measured "backstay, owner's key, --max-unused 0" by-owner-0 "$backstay" -r by-owner-0 prune --max-unused 0 --yes
measured "restic" restic "$restic" -q -r restic forget --keep-last 7 --prune
for place in by-maintenance by-owner by-owner-0; do
    "$backstay" -q -r "$place" check --read-data >/dev/null
    "$backstay" -q -r "$place" cat latest | cmp - pages
done
