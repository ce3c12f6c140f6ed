#!/usr/bin/env bash
# Makes a folder with newer servers than this Debian has (PostgreSQL 18, Redis 8, Valkey 9, etcd 3.5), for those tests of
# crates/source that use them when it is there. Takes a minute, a gigabyte, and root.
set -euo pipefail

folder=${BACKSTAY_CACHE:-$HOME/.cache/backstay}/roots/servers
[ -x "$folder/usr/lib/postgresql/18/bin/postgres" ] && exit 0
"$(dirname "${BASH_SOURCE[0]}")/apt.sh" debootstrap
rm -rf "$folder.part"
mkdir -p "$(dirname "$folder")"
debootstrap --variant=minbase --include=postgresql-18,etcd-server,etcd-client,valkey-server,redis-server sid "$folder.part"
mv "$folder.part" "$folder"
