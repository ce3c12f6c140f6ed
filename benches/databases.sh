#!/usr/bin/env bash
# Compares what a second day of a database costs, in stored bytes and seconds: backstay, other backup tools fed with the same bytes,
# and pgBackRest.
#
#   BACKSTAY_BENCH=DIR benches/databases.sh [SET…]      SET: postgres redis valkey etcd source (default: all; ten minutes)
#
# DIR (default $HOME/.cache/backstay/bench) is that of compare.sh: env.sh exports BIN_RESTIC, BIN_RUSTIC and
# BIN_BORG where they are to be compared with. BENCH_KEEP=1 keeps the lines of earlier runs, and the table shows medians.
# Servers are those of the folder that scripts/servers.sh makes (Postgres 18, Redis 8, Valkey 9, etcd 3.5), each on a free port of loopback;
# running them takes root. pgBackRest is measured where DIR/pgbackrest holds Debian's packages for that folder, unpacked:
#
#   chroot FOLDER apt-get download pgbackrest libssh2-1t64, and dpkg -x PACKAGE DIR/pgbackrest for both
#
# A set is a chain of days, for which each tool has one repository:
#
#   base    pg_basebackup's tar of 700 MB: first; 2,000 random rows updated; idle
#   dump    pg_dump -Fc -Z0 of the same: first; 2,000 random rows updated; 20,000 more; 2 % of the rows of text deleted
#   redis   RDB of a million keys: first; idle; 1 % rewritten; restarted
#   valkey  the same of Valkey with a `hash-seed`, which lets it keep the order of its keys when it starts again
#   etcd    snapshot of 100,000 keys: first; idle; 5 % rewritten
#
# Among the tools, `own` is backstay reading the server by itself (Redis lets a replica wait five seconds first), and `incremental`
# the same while Postgres sends only what changed; `wire` is what then came over the wire, one segment of WAL of 16 MiB with it.
# `source` is no set, but the speed of reading: pg_basebackup to nowhere, backstay's source to nowhere (BIN_READ_POSTGRES, made by
# cargo build --release -p backstay-benches; left out if it is not there), a dry run, and a first backup, in turns. What is stored
# is the sum of the sizes of a repository's files. Lines are kept in DIR/databases.tsv; a table of medians is printed at the end. Seconds are
# worth reading only when the machine does nothing else.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
bench=${BACKSTAY_BENCH:-$HOME/.cache/backstay/bench}
root=${BACKSTAY_CACHE:-$HOME/.cache/backstay}/roots/servers
programs=/usr/lib/postgresql/18/bin
[ "$(id -u)" -eq 0 ] || { echo "databases.sh: servers in a folder of their own need root" >&2; exit 1; }
for needed in "$bench/env.sh" "$root$programs/postgres"; do
    [ -e "$needed" ] || { echo "databases.sh: $needed is missing; the head of this script says what it is" >&2; exit 1; }
done
# shellcheck source=/dev/null
. "$bench/env.sh"
BIN_BACKSTAY=${BIN_BACKSTAY:-$(realpath "$here/../target/backstay")}
reader=${BIN_READ_POSTGRES:-${CARGO_TARGET_DIR:-$HOME/.cache/backstay/target}/release/read-postgres}
sets=("$@")
[ ${#sets[@]} -gt 0 ] || sets=(postgres redis valkey etcd source)

# Scratch space, which the servers see as `inside`.
work=$(mktemp -d "$root/tmp/databases.XXXXXX")
inside=${work#"$root"}
results=$bench/databases.tsv
chmod 755 "$work"
mkdir -m 777 "$work/server" "$work/repository"
started=()
stop() {
    [ ! -e "$work/server/data" ] || as_postgres "$programs/pg_ctl" -D "$inside/server/data" -m immediate stop >/dev/null 2>&1 || true
    for process in "${started[@]}"; do kill "$process" 2>/dev/null || true; done
    wait
    rm -rf "$work"
}
trap stop EXIT

export HOME=$work/home LC_ALL=C
export BACKSTAY_PASSWORD=bench RESTIC_PASSWORD=bench RUSTIC_PASSWORD=bench BORG_PASSPHRASE=bench PGBACKREST_REPO1_CIPHER_PASS=bench
export BACKSTAY_CACHE_DIR=$work/cache RESTIC_CACHE_DIR=$work/home/restic BORG_BASE_DIR=$work/home/borg RUSTIC_NO_PROGRESS=true
mkdir "$HOME"

as_postgres() { chroot --userspec=postgres "$root" "$@"; }
free_port() { python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])'; }
stored() { find "$1" -type f -printf '%s\n' | awk '{ sum += $1 } END { printf "%d", sum }'; }
note() { (IFS=$'\t' && echo "$*") | tee -a "$results"; }

# step SET TOOL DAY COMMAND…: runs it with our standard input; notes the bytes that it stored, and its seconds.
step() {
    local set=$1 tool=$2 day=$3 repository=$work/repository/$1-$2 before
    shift 3
    before=$(stored "$repository")
    if ! /usr/bin/time -q -o "$work/time" -f %e "$@" >"$work/log" 2>&1; then
        echo "databases.sh: $* failed:" >&2
        tail -n 20 "$work/log" >&2
        exit 1
    fi
    note "$set" "$tool" "$day" $(($(stored "$repository") - before)) "$(tail -n 1 "$work/time")"
}

is_there() {
    local binary=BIN_${1^^}
    [ -n "${!binary:-}" ]
}

# repository TOOL PATH: makes it, if there is none.
repository() {
    [ ! -e "$2" ] || return 0
    case $1 in
        backstay) "$BIN_BACKSTAY" -q -r "$2" init ;;
        restic) "$BIN_RESTIC" -q -r "$2" init ;;
        rustic) "$BIN_RUSTIC" -r "$2" init ;;
        borg) "$BIN_BORG" init -e repokey-blake2 "$2" ;;
    esac >"$work/log" 2>&1
}

# feed SET DAY FILE: the same bytes to every tool; `given` is how many.
feed() {
    local set=$1 day=$2 tool at
    note "$set" given "$day" "$(stat -c %s "$3")" -
    for tool in backstay restic rustic borg; do
        is_there $tool || continue
        at=$work/repository/$set-$tool
        repository $tool "$at"
        case $tool in
            backstay) step "$set" $tool "$day" "$BIN_BACKSTAY" -q -r "$at" backup --stdin --name "$set" ;;
            restic) step "$set" $tool "$day" "$BIN_RESTIC" -q -r "$at" backup --stdin --stdin-filename "$set" ;;
            # Without --force rustic keeps the content that it had under this name.
            rustic) step "$set" $tool "$day" "$BIN_RUSTIC" -r "$at" backup --force --stdin-filename "$set" - ;;
            borg) step "$set" $tool "$day" "$BIN_BORG" create -C zstd,3 --stdin-name "$set" "$at::$day" - ;;
        esac <"$3"
    done
}

# own SET DAY [JOB]: backstay reads the server itself.
own() {
    local job=${3:-own}
    repository backstay "$work/repository/$1-$job"
    step "$1" "$job" "$2" "$BIN_BACKSTAY" -q --config "$work/backstay.toml" -r "$work/repository/$1-$job" run "$job"
}

# source_is TEXT: what backstay is to read. Where to is said by --repository.
source_is() { printf '[repositories.any]\nurl = "/any"\n[sources.own]\n%s\n[jobs]\nown = { sources = ["own"] }\n' "$1" >"$work/backstay.toml"; }

# until_it COMMAND…: waits until it succeeds.
until_it() {
    for _ in $(seq 600); do
        ! "$@" >/dev/null 2>&1 || return 0
        sleep 0.1
    done
    echo "databases.sh: this takes too long: $*" >&2
    exit 1
}

sql() { as_postgres /usr/bin/psql -X -q -v ON_ERROR_STOP=1 -h "$inside/server" -p "$postgres_port" -U owner "$@" >/dev/null; }

# 700 MB: pgbench's 4 million rows, which compress well, and 400,000 rows of text, which do not.
start_postgres() {
    [ ! -e "$work/server/data" ] || return 0
    postgres_port=$(free_port)
    as_postgres "$programs/initdb" -U owner -A trust -E UTF8 --locale=C --no-sync -D "$inside/server/data" >/dev/null
    cat >>"$work/server/data/postgresql.conf" <<END
listen_addresses = '127.0.0.1'
port = $postgres_port
unix_socket_directories = '$inside/server'
fsync = off
autovacuum = off
shared_buffers = 512MB
max_wal_size = 8GB
summarize_wal = on
END
    as_postgres "$programs/pg_ctl" -D "$inside/server/data" -w -l "$inside/server/log" start >/dev/null
    sql postgres -c 'create database bench'
    as_postgres "$programs/pgbench" -h "$inside/server" -p "$postgres_port" -U owner -q -i -s 40 bench 2>/dev/null
    sql bench <<'END'
create table notes as
    select n as id, concat_ws(' ', md5('a' || n), md5('b' || n), md5('c' || n), md5('w' || n % 5000), md5('v' || n % 700)) as note
    from generate_series(1, 400000) n;
alter table notes add primary key (id);
vacuum freeze analyze;
checkpoint;
END
    proxy_port=$(free_port)
    python3 "$here/databases.py" proxy "$proxy_port" "$postgres_port" "$work/wire" &
    started+=($!)
}

source_is_postgres() {
    cat >"$work/backstay.toml" <<END
[repositories.any]
url = "/any"
[sources.own]
kind = "postgres-physical"
url = "postgres://owner@127.0.0.1:$postgres_port"
incremental = false
[sources.incremental]
kind = "postgres-physical"
url = "postgres://owner@127.0.0.1:$proxy_port"
[jobs]
own = { sources = ["own"] }
incremental = { sources = ["incremental"] }
END
}

# update COUNT SEED: random rows.
update() {
    sql bench <<END
select setseed($2);
update pgbench_accounts set abalance = abalance + 1
    where aid in (select 1 + floor(random() * 4000000)::int from generate_series(1, $1));
checkpoint;
END
}

base_backup() { as_postgres "$programs/pg_basebackup" -h "$inside/server" -p "$postgres_port" -U owner -D - -Ft -X "$1" -c fast; }
dump() { as_postgres "$programs/pg_dump" -h "$inside/server" -p "$postgres_port" -U owner -Fc -Z0 bench; }

# pgbackrest DAY KIND: with its own way of keeping blocks, encrypted, zstd 3.
pgbackrest() {
    [ -e "$bench/pgbackrest/usr/bin/pgbackrest" ] || return 0
    local call=(chroot --userspec=postgres "$root" env "LD_LIBRARY_PATH=$inside/pgbackrest/usr/lib/x86_64-linux-gnu"
        "$inside/pgbackrest/usr/bin/pgbackrest" --stanza=bench --no-config --pg1-path="$inside/server/data" --pg1-port="$postgres_port"
        --pg1-socket-path="$inside/server" --pg1-user=owner --pg1-database=bench --repo1-path="$inside/repository/base-pgbackrest"
        --repo1-cipher-type=aes-256-cbc --lock-path="$inside/server" --log-level-console=warn --log-level-file=off)
    if [ ! -e "$work/pgbackrest" ]; then
        cp -r "$bench/pgbackrest" "$work/pgbackrest"
        install -d -m 777 "$work/repository/base-pgbackrest"
        "${call[@]}" --no-online stanza-create
    fi
    step base pgbackrest "$1" "${call[@]}" --no-archive-check --start-fast --process-max=2 --repo1-bundle --repo1-block \
        --compress-type=zst --compress-level=3 --type="$2" backup
}

# base_day DAY KIND: the whole server, by every way that there is; KIND is pgBackRest's.
base_day() {
    own base "$1"
    rm -f "$work/wire"
    own base "$1" incremental
    until_it test -s "$work/wire"
    note base wire "$1" "$(awk '{ sum += $1 } END { printf "%d", sum }' "$work/wire")" -
    pgbackrest "$1" "$2"
    base_backup none >"$work/tar" 2>"$work/log"
    feed base "$1" "$work/tar"
    rm "$work/tar"
}

dump_day() {
    dump >"$work/dump"
    feed dump "$1" "$work/dump"
    rm "$work/dump"
}

set_postgres() {
    start_postgres
    source_is_postgres
    base_day first full
    dump_day first
    update 2000 0.1
    # The first to read a changed page writes to it once more, so the dump comes before the day's base backup, and the last day is idle.
    dump_day updates-2000
    sql bench -c checkpoint
    base_day updates-2000 incr
    base_day idle incr
    rm -r "$work/repository"/base-*
    update 20000 0.2
    dump_day updates-20000
    sql bench -c 'select setseed(0.3)' -c 'delete from notes where random() < 0.02'
    dump_day deletes
    rm -r "$work/repository"/dump-*
}

redis() { chroot "$root" redis-cli -p "$port" "$@"; }

start_redis() {
    chroot "$root" "$1" --port "$port" --bind 127.0.0.1 --dir "$inside/server" --save '' "${@:2}" >/dev/null 2>&1 &
    started+=($!)
    until_it eval 'redis ping | grep -q PONG'
}

# redis_day SET DAY: its file, and what replication gives.
redis_day() {
    own "$1" "$2"
    redis save >/dev/null
    feed "$1" "$2" "$work/server/dump.rdb"
}

# redis_days SET SERVER [OPTION…]
redis_days() {
    local set=$1
    shift
    port=$(free_port)
    source_is "kind = \"redis\"
urls = [\"redis://127.0.0.1:$port\"]"
    start_redis "$@"
    python3 "$here/databases.py" redis "$port" 1 | redis --pipe >/dev/null
    redis_day "$set" first
    redis_day "$set" idle
    python3 "$here/databases.py" redis "$port" 0.01 | redis --pipe >/dev/null
    redis_day "$set" rewritten
    redis shutdown save || true
    start_redis "$@"
    redis_day "$set" restarted
    redis shutdown nosave || true
    rm -r "$work/repository/$set"-* "$work/server/dump.rdb"
}

set_redis() { redis_days redis redis-server; }
set_valkey() { redis_days valkey valkey-server --hash-seed databases; }

# etcd_day DAY: etcdctl's file, and what backstay asks for.
etcd_day() {
    own etcd "$1"
    rm -f "$work/server/etcd.db"
    chroot "$root" etcdctl --endpoints "127.0.0.1:$port" snapshot save "$inside/server/etcd.db" >/dev/null 2>&1
    feed etcd "$1" "$work/server/etcd.db"
}

set_etcd() {
    port=$(free_port)
    local peer
    peer=http://127.0.0.1:$(free_port)
    source_is "kind = \"etcd\"
endpoints = [\"http://127.0.0.1:$port\"]"
    chroot "$root" etcd --name one --data-dir "$inside/server/etcd" --listen-client-urls "http://127.0.0.1:$port" \
        --advertise-client-urls "http://127.0.0.1:$port" --listen-peer-urls "$peer" --initial-advertise-peer-urls "$peer" \
        --initial-cluster "one=$peer" --unsafe-no-fsync --quota-backend-bytes 4294967296 --log-level error >/dev/null 2>&1 &
    started+=($!)
    until_it chroot "$root" etcdctl --endpoints "127.0.0.1:$port" endpoint health
    python3 "$here/databases.py" etcd "$port" 1
    etcd_day first
    etcd_day idle
    python3 "$here/databases.py" etcd "$port" 0.05
    etcd_day rewritten
    rm -r "$work/repository"/etcd-* "$work/server/etcd.db"
}

set_source() {
    start_postgres
    source_is_postgres
    local round
    # With the WAL that its start needs, as backstay asks for it.
    repository backstay "$work/repository/source-dry"
    mkdir "$work/repository/source-nowhere" "$work/repository/source-reader"
    export -f base_backup as_postgres
    export root programs inside postgres_port
    for round in 1 2 3 4 5; do
        step source nowhere "$round" bash -c 'base_backup fetch >/dev/null'
        [ ! -x "$reader" ] || step source reader "$round" "$reader" "$postgres_port"
        step source dry "$round" "$BIN_BACKSTAY" -q --config "$work/backstay.toml" -r "$work/repository/source-dry" run --dry-run own
        rm -rf "$work/repository/source-own"
        own source "$round"
    done
}

# table: medians, where something was measured several times.
table() {
    awk -F '\t' '
        function median(values, key,    at, before, value) {
            for (at = 2; at <= runs[key]; at++) {
                value = values[key, at]
                for (before = at - 1; before >= 1 && values[key, before] + 0 > value + 0; before--) values[key, before + 1] = values[key, before]
                values[key, before + 1] = value
            }
            return values[key, int((runs[key] + 1) / 2)]
        }
        !(($1, $3) in seen) { seen[$1, $3] = 1; order[++count] = $1 FS $3 }
        !($2 in known) { known[$2] = 1; tools[++tool_count] = $2 }
        { key = $1 FS $3 FS $2; runs[key]++; stored[key, runs[key]] = $4; seconds[key, runs[key]] = $5 }
        END {
            printf "%-8s%-16s", "set", "day"
            for (t = 1; t <= tool_count; t++) printf "%16s", tools[t]
            print ""
            for (n = 1; n <= count; n++) {
                split(order[n], row, FS)
                printf "%-8s%-16s", row[1], row[2]
                for (t = 1; t <= tool_count; t++) {
                    key = order[n] FS tools[t]
                    cell = key in runs ? sprintf("%.2f / %s", median(stored, key) / 1e6, median(seconds, key)) : ""
                    printf "%16s", cell
                }
                print ""
            }
        }' "$results"
}

[ -n "${BENCH_KEEP:-}" ] || : >"$results"
for set in "${sets[@]}"; do "set_$set"; done
echo
echo "MB stored / seconds"
table
