#!/usr/bin/env bash
# Makes folders with older and newer servers than this Debian has (PostgreSQL 13, 17 and 18, Redis 8, Valkey 9, etcd 3.5) for the
# tests of sources, and with a restic whose retention is ours. Takes a minute and a gigabyte each, once, and root; without root those tests fail. PostgreSQL 14 and 16 are in
# no Debian: put them beside one of these, and they are tested; with BACKSTAY_POSTGRES_MORE=14,16 tests fail without them.
set -euo pipefail

cache=${BACKSTAY_CACHE:-$HOME/.cache/backstay}/roots
[ "$(id -u)" -eq 0 ] || { echo "servers.sh: not root: tests with other servers than this machine's will fail" >&2; exit 0; }

# make_root NAME SUITE MARK PACKAGES: MARK is a file that shows that the folder is whole.
make_root() {
    [ -e "$cache/$1/$3" ] && return
    echo "servers.sh: making $cache/$1" >&2
    "$(dirname "${BASH_SOURCE[0]}")/apt.sh" debootstrap
    rm -rf "$cache/$1.part"
    mkdir -p "$cache"
    debootstrap --variant=minbase --include="$4" "$2" "$cache/$1.part" >/dev/null
    rm -rf "${cache:?}/$1"
    mv "$cache/$1.part" "$cache/$1"
}
make_root bullseye bullseye usr/lib/postgresql/13/bin/postgres postgresql-13
make_root trixie trixie usr/bin/restic postgresql-17,restic
make_root servers sid usr/lib/postgresql/18/bin/postgres postgresql-18,etcd-server,etcd-client,valkey-server,redis-server
