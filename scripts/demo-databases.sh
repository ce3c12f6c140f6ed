#!/usr/bin/env bash
# Shows a recovery point: a Postgres, a Redis, an etcd, a SQLite file and a directory in one snapshot, then each of them back
# in a fresh server or folder, compared with the original by the servers' own means.
#
#   scripts/demo-databases.sh BACKSTAY
#
# Everything happens in a scratch folder that is removed at the end; the servers listen on free ports of the loopback only.
# Exit code 0 means that every comparison held.
set -euo pipefail

backstay=$(realpath "${1:?usage: scripts/demo-databases.sh BACKSTAY}")

fail() { echo "demo: $*" >&2; exit 1; }
say() { printf '\n== %s\n' "$*"; }
equal() { # WHAT ONE OTHER
    [ "$2" = "$3" ] || fail "$1 differs: $2 and $3"
    echo "equal: $1 ($2)"
}
free_port() { python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])'; }
until_true() { for _ in $(seq 300); do "$@" >/dev/null 2>&1 && return; sleep 0.1; done; fail "$1 does not start"; }

for program in redis-server redis-cli etcd etcdctl python3; do
    command -v "$program" >/dev/null || fail "$program is missing; scripts/setup.sh installs it"
done
pg_bin=$(compgen -G '/usr/lib/postgresql/*/bin' | sort -V | tail -n 1 || true)
[ -n "$pg_bin" ] || fail "no PostgreSQL server here; apt-get install postgresql"

scratch=$(mktemp -d "${TMPDIR:-/tmp}/backstay-demo.XXXXXX")
chmod 711 "$scratch"
mkdir "$scratch/pg" "$scratch/redis" "$scratch/tree"
as_server=()
if [ "$(id -u)" -eq 0 ]; then
    chown postgres "$scratch/pg"
    as_server=(runuser -u postgres --)
fi
cleanup() {
    (cd / && "${as_server[@]}" "$pg_bin/pg_ctl" -D "$scratch/pg/data" -m immediate stop) >/dev/null 2>&1 || true
    for running in $(jobs -p); do kill "$running" 2>/dev/null || true; done
    wait 2>/dev/null || true
    rm -rf "$scratch"
}
trap cleanup EXIT
trap 'exit 130' INT TERM
cd "$scratch"
export BACKSTAY_CACHE_DIR=$scratch/cache ETCDCTL_API=3 PGHOST=127.0.0.1 PGUSER=demo PATH=$pg_bin:$PATH
unset BACKSTAY_REPOSITORY BACKSTAY_PASSWORD BACKSTAY_CONFIG
PGPORT=$(free_port)
export PGPORT
redis_port=$(free_port) etcd_port=$(free_port) peer_port=$(free_port)

start_redis() { # FOLDER PORT OPTIONS…
    redis-server --dir "$1" --port "$2" --bind 127.0.0.1 --save '' --enable-debug-command local "${@:3}" >/dev/null &
    until_true redis-cli -p "$2" ping
}
start_etcd() { # FOLDER PORT PEER_PORT
    etcd --name one --data-dir "$1" --listen-client-urls "http://127.0.0.1:$2" --advertise-client-urls "http://127.0.0.1:$2" \
        --listen-peer-urls "http://127.0.0.1:$3" --initial-advertise-peer-urls "http://127.0.0.1:$3" \
        --initial-cluster "one=http://127.0.0.1:$3" >/dev/null 2>&1 &
    until_true etcdctl --endpoints "127.0.0.1:$2" endpoint health
}
sqlite() { python3 -c 'import sqlite3, sys
c = sqlite3.connect(sys.argv[1])
for line in sys.argv[2].split(";"): print(*c.execute(line).fetchall())
c.commit()' "$@"; }

say "The systems of a team"
"${as_server[@]}" "$pg_bin/initdb" -D pg/data -U demo -A trust -E UTF8 --locale=C --no-sync >/dev/null
settings="-c listen_addresses=127.0.0.1 -c port=$PGPORT -c fsync=off -k $scratch/pg"
"${as_server[@]}" "$pg_bin/pg_ctl" -D "$scratch/pg/data" -w -l "$scratch/pg/log" -o "$settings" start >/dev/null
createdb shop
psql -qX shop -c 'create table orders as select n as id, md5(n::text) as name from generate_series(1, 300000) n'
start_redis "$scratch/redis" "$redis_port"
redis-cli -p "$redis_port" debug populate 50000 >/dev/null
start_etcd "$scratch/etcd" "$etcd_port" "$peer_port"
for n in $(seq 20); do etcdctl --endpoints "127.0.0.1:$etcd_port" put "key$n" "value $n" >/dev/null; done
sqlite app.db 'create table t (a, b);insert into t select 1, "one"'
seq 1 20000 >tree/numbers
(umask 077; head -c 24 /dev/urandom | base64 >password)

cat >backstay.toml <<TOML
[repositories.main]
url = "$scratch/repository"
password_file = "$scratch/password"

[sources.db]
kind = "postgres"
url = "postgres://demo@127.0.0.1:$PGPORT/shop"

[sources.whole]
kind = "postgres-physical"
url = "postgres://demo@127.0.0.1:$PGPORT"

[sources.cache]
kind = "redis"
urls = ["redis://127.0.0.1:$redis_port"]

[sources.kv]
kind = "etcd"
endpoints = ["http://127.0.0.1:$etcd_port"]

[sources.app]
kind = "sqlite"
path = "$scratch/app.db"

[sources.media]
kind = "files"
paths = ["$scratch/tree"]

[jobs.nightly]
sources = ["db", "whole", "cache", "kv", "app", "media"]
TOML

say "One snapshot of all of them, and another after some changes"
"$backstay" -q init
"$backstay" config check
"$backstay" run nightly
psql -qX shop -c "update orders set name = 'changed' where id between 1000 and 1100"
redis-cli -p "$redis_port" set late value >/dev/null
etcdctl --endpoints "127.0.0.1:$etcd_port" put key7 changed >/dev/null
sqlite app.db 'insert into t select 2, "two"'
"$backstay" run nightly
"$backstay" snapshots --long
"$backstay" report latest

say "Each of them back in a fresh server, and compared"
hash='select count(*), md5(string_agg(t::text, chr(10) order by id)) from orders t'
createdb fresh
"$backstay" -q restore latest db --to "postgres://demo@127.0.0.1:$PGPORT/fresh"
equal 'Postgres, from the dump' "$(psql -AtX shop -c "$hash")" "$(psql -AtX fresh -c "$hash")"

"$backstay" -q restore latest cache --to "$scratch/fresh-redis"
fresh_port=$(free_port)
start_redis "$scratch/fresh-redis" "$fresh_port" --appendonly yes
equal 'Redis' "$(redis-cli -p "$redis_port" debug digest)" "$(redis-cli -p "$fresh_port" debug digest)"

# What is left to do is printed as commands; the first makes a cluster of one member.
"$backstay" -q --json restore latest kv --to "$scratch/fresh-etcd" >etcd.json
bash -c "$(python3 -c 'import json; print(json.load(open("etcd.json"))["next_steps"][0]["command"])')" 2>/dev/null
fresh_port=$(free_port) fresh_peer=$(free_port)
etcd --data-dir "$scratch/fresh-etcd/data" --listen-client-urls "http://127.0.0.1:$fresh_port" \
    --advertise-client-urls "http://127.0.0.1:$fresh_port" --listen-peer-urls "http://127.0.0.1:$fresh_peer" >/dev/null 2>&1 &
until_true etcdctl --endpoints "127.0.0.1:$fresh_port" endpoint health
keys() { etcdctl --endpoints "127.0.0.1:$1" get '' --prefix | sha256sum | cut -c 1-16; }
equal 'etcd' "$(keys "$etcd_port")" "$(keys "$fresh_port")"

"$backstay" -q restore latest app --to "$scratch/restored/app.db"
rows='pragma integrity_check;select * from t order by a'
equal 'SQLite' "$(sqlite app.db "$rows" | tr '\n' ' ')" "$(sqlite restored/app.db "$rows" | tr '\n' ' ')"

"$backstay" -q restore "latest:$scratch/tree" media --target "$scratch/restored-tree"
diff -r tree restored-tree && echo 'equal: the directory'

before=$(psql -AtX shop -c "$hash")
"$backstay" -q restore latest whole --to "$scratch/pg/fresh"
if [ "$(id -u)" -eq 0 ]; then chown -R postgres "$scratch/pg/fresh"; fi
"${as_server[@]}" "$pg_bin/pg_verifybackup" -n "$scratch/pg/fresh"
"${as_server[@]}" "$pg_bin/pg_ctl" -D "$scratch/pg/data" -m fast stop >/dev/null
"${as_server[@]}" "$pg_bin/pg_ctl" -D "$scratch/pg/fresh" -w -l "$scratch/pg/log2" -o "$settings" start >/dev/null
equal 'Postgres, the whole server' "$before" "$(psql -AtX shop -c "$hash")"
"${as_server[@]}" "$pg_bin/pg_ctl" -D "$scratch/pg/fresh" -m immediate stop >/dev/null

"$backstay" -q check --read-data && echo 'every stored byte was read and is right'
