#!/usr/bin/env bash
# Shows backstay at work: backs up a directory and a Postgres server of its own, changes both, backs up again,
# restores everything and compares every byte.
#
#   scripts/demo.sh BACKSTAY        DEMO_ORDERS=200000 sets the size of the database (about 75 MB of dump)
#
# Everything happens in a scratch folder that is removed at the end: the server listens on a socket in there and on no port,
# the repository is a local directory, the password a generated file. Exit code 0 means that every comparison held.
set -euo pipefail

backstay=$(realpath "${1:?usage: scripts/demo.sh BACKSTAY}")
orders=${DEMO_ORDERS:-200000}

fail() { echo "demo: $*" >&2; exit 1; }
say() { printf '\n\033[1m%s\033[0m\n' "$*"; }
[ -t 1 ] || say() { printf '\n== %s\n' "$*"; }

pg_bin=$(compgen -G '/usr/lib/postgresql/*/bin' | sort -V | tail -n 1 || true)
[ -n "$pg_bin" ] || pg_bin=$(dirname "$(command -v initdb || fail "no PostgreSQL server here; apt-get install postgresql")")

scratch=$(mktemp -d "${TMPDIR:-/tmp}/backstay-demo.XXXXXX")
chmod 711 "$scratch" # the server's user walks through, and sees nothing
mkdir "$scratch/pg" "$scratch/files"

# PostgreSQL refuses to run as root.
as_server=()
if [ "$(id -u)" -eq 0 ]; then
    server_user=nobody
    if id postgres >/dev/null 2>&1; then server_user=postgres; fi
    chown "$server_user" "$scratch/pg"
    as_server=(runuser -u "$server_user" --)
fi

cleanup() {
    (cd / && "${as_server[@]}" "$pg_bin/pg_ctl" -D "$scratch/pg/data" -m immediate stop) >/dev/null 2>&1 || true
    rm -rf "$scratch"
}
trap cleanup EXIT
trap 'exit 130' INT TERM
cd "$scratch"

export PGHOST=$scratch/pg PGUSER=demo PGDATABASE=shop PGPORT=5432 PGOPTIONS='' PATH=$pg_bin:$PATH
export BACKSTAY_CACHE_DIR=$scratch/cache
unset BACKSTAY_REPOSITORY BACKSTAY_PASSWORD

# shown COMMAND…: prints the command as a user would type it, then runs it. The first goes around any redirection.
exec 3>&1
shown() {
    local words=$*
    words=${words/"$backstay -r $scratch/repository --password-file $scratch/password"/backstay}
    printf '$ %s\n' "${words//"$scratch/"/}" >&3
    "$@"
}
bs=("$backstay" -r "$scratch/repository" --password-file "$scratch/password")

# json_field NAME: a field of the document on stdin.
json_field() { python3 -c 'import json, sys; print(json.load(sys.stdin)[sys.argv[1]])' "$1"; }

megabytes() { awk -v bytes="$1" 'BEGIN { printf "%.1f MB", bytes / 1e6 }'; }

# back_up LABEL ARGUMENTS…: runs one backup and remembers its snapshot id and the bytes that it added.
declare -A id added
back_up() {
    local label=$1 report=$scratch/report-$1.json started=$SECONDS
    shift
    shown "${bs[@]}" -q --json backup "$@" >"$report"
    id[$label]=$(json_field snapshot_id <"$report")
    added[$label]=$(json_field stored_len <"$report")
    echo "snapshot ${id[$label]}: $(megabytes "${added[$label]}") added in $((SECONDS - started)) s"
}

say "A Postgres server of its own ($("$pg_bin/postgres" --version)), and a directory"
"${as_server[@]}" "$pg_bin/initdb" -D "$scratch/pg/data" -U demo -A trust -E UTF8 --locale=C --no-sync >/dev/null
cat >"$scratch/server.conf" <<CONF
listen_addresses = ''
unix_socket_directories = '$scratch/pg'
fsync = off
full_page_writes = off
synchronous_commit = off
max_wal_size = 2GB
CONF
cat "$scratch/server.conf" >>"$scratch/pg/data/postgresql.conf"
"${as_server[@]}" "$pg_bin/pg_ctl" -D "$scratch/pg/data" -w -t 60 -l "$scratch/pg/log" start >/dev/null || { cat "$scratch/pg/log"; fail "the server did not start"; }
createdb shop
psql -qX -v ON_ERROR_STOP=1 -v orders="$orders" <<'SQL'
create table customers (id int primary key, name text not null, email text unique, city text, joined date);
insert into customers select n, initcap(substr(md5('n' || n), 1, 3 + n % 9)) || ' ' || initcap(substr(md5('f' || n), 1, 4 + n % 7)),
    'c' || n || '@' || substr(md5('d' || n % 400), 1, 8) || '.example', (array['Lyon','Oslo','Porto','Kyoto','Quito','Perth','Turin','Accra'])[1 + n % 8],
    date '2019-01-01' + n % 2400 from generate_series(1, :orders / 8) n;
create table products (id int primary key, sku text unique, title text, price numeric(8, 2));
insert into products select n, upper(substr(md5('p' || n), 1, 10)), 'Item ' || n || ' ' || md5('t' || n), (n * 37 % 20000) / 100.0 + 1
    from generate_series(1, 4000) n;
create table orders (id int primary key, customer_id int references customers, placed_at timestamptz, status text, note text);
insert into orders select n, 1 + n * 7919 % (:orders / 8), timestamptz '2024-01-01 00:00+00' + n * interval '4 minutes',
    (array['paid','packed','shipped','returned'])[1 + n % 4], case when n % 5 = 0 then 'Ring at ' || md5('r' || n) end
    from generate_series(1, :orders) n;
create table order_lines (order_id int references orders, line int, product_id int references products, quantity int, primary key (order_id, line));
insert into order_lines select o, l, 1 + (o * 31 + l * 977) % 4000, 1 + (o + l) % 5 from generate_series(1, :orders) o, generate_series(1, 1 + o % 4) l;
create table events (id bigint generated always as identity primary key, at timestamptz, kind text, payload jsonb);
insert into events (at, kind, payload) select timestamptz '2024-01-01 00:00+00' + n * interval '97 seconds', (array['login','view','click','buy'])[1 + n % 4],
    jsonb_build_object('session', md5('s' || n / 12)::uuid, 'path', '/items/' || n % 4000, 'ms', n * 13 % 900, 'trace', md5('e' || n))
    from generate_series(1, :orders * 6 / 5) n;
create index on orders (customer_id);
create view revenue as select date_trunc('month', placed_at) as month, sum(price * quantity) as total
    from orders join order_lines on order_id = orders.id join products on products.id = product_id group by 1;
SQL
# Of a fixed key rather than a random one: two dumps of one database are then equal byte for byte.
dump=(pg_dump --no-sync)
if pg_dump --help | grep restrict-key >/dev/null; then dump+=(--restrict-key=demo); fi
dump+=(shop)

cp -r /usr/share/doc "$scratch/files/doc"
mkdir "$scratch/files/own"
head -c 8000000 /dev/urandom >"$scratch/files/own/photo.raw"
seq 1 400000 >"$scratch/files/own/numbers.txt"
truncate -s 50M "$scratch/files/own/sparse.img"
printf 'data past the hole' >>"$scratch/files/own/sparse.img"
ln -s numbers.txt "$scratch/files/own/link"
ln "$scratch/files/own/photo.raw" "$scratch/files/own/hard-link"
touch -d '2001-02-03 04:05:06.789' "$scratch/files/own/numbers.txt"
chmod 640 "$scratch/files/own/photo.raw"
echo "$(find files -type f | wc -l) files, $(du -sh --apparent-size files | cut -f1); database of $(psql -qXAt -c "select pg_size_pretty(pg_database_size('shop'))")"

say "Day 1: a repository, and everything into it"
(umask 077 && head -c 24 /dev/urandom | base64 >"$scratch/password")
shown "${bs[@]}" -q init
back_up files1 "$scratch/files"
"${dump[@]}" >"$scratch/day1.sql"
back_up db1 --name db.sql --command -- "${dump[@]}"
cp -a "$scratch/files" "$scratch/files-day1"

say "Day 2: some of both changes, and everything is backed up again"
psql -qX -v ON_ERROR_STOP=1 -v orders="$orders" <<'SQL'
insert into orders select n, 1 + n * 7919 % (:orders / 8), now(), 'paid', 'new today' from generate_series(:orders + 1, :orders + :orders / 50) n;
insert into order_lines select n, 1, 1 + n % 4000, 1 from generate_series(:orders + 1, :orders + :orders / 50) n;
update orders set status = 'shipped' where id > :orders * 9 / 10 and status = 'packed' and id % 3 = 0;
delete from events where id % 1000 = 7;
SQL
find files/doc -name copyright -type f | sort | sed -n 1,40p | while read -r file; do echo "read again on day 2" >>"$file"; done
sed -i '200000s/.*/changed in the middle/' files/own/numbers.txt
mv files/own/photo.raw files/own/holiday.raw
find files/doc -mindepth 1 -maxdepth 1 -type d | sort | tail -n 5 | xargs rm -rf
date >files/own/new.txt
back_up files2 "$scratch/files"
"${dump[@]}" >"$scratch/day2.sql"
back_up db2 --name db.sql --command -- "${dump[@]}"

say "What is there"
shown "${bs[@]}" snapshots

say "Restore, and compare every byte"
same_tree() { diff -r --no-dereference "$1" "$2" >/dev/null || fail "$2 differs from $1"; }
listing() { (cd "$1" && find . -type d -printf '%p %y %m %U %G %T@\n' -o -printf '%p %y %m %n %U %G %s %T@ %l\n' | sort); }
# A restore puts the whole path below the target or the folder alone; find the copy of our folder in it.
restored() { find "$1" -type d -name own -path '*files/own' -printf '%h\n' -quit | grep . || dirname "$(find "$1" -type d -name own -print -quit)"; }

shown "${bs[@]}" -q restore "${id[files2]}" --target "$scratch/restored2"
copy=$(restored restored2)
same_tree files "$copy"
diff <(listing files) <(listing "$copy") >"$scratch/metadata.diff" || { head -n 20 "$scratch/metadata.diff"; fail "names, modes, owners, times or link targets differ"; }
echo "diff -r: equal. Modes, owners, times, links and hard links: equal. ($(find "$copy" -type f | wc -l) files)"
[ "$(stat -c %b "$copy/own/sparse.img")" -lt 2000 ] && echo "the sparse file is still sparse"

shown "${bs[@]}" -q restore "${id[files1]}" --target "$scratch/restored1"
same_tree files-day1 "$(restored restored1)"
echo "diff -r: day 1 is equal too."

for day in 1 2; do
    shown "${bs[@]}" -q cat "${id[db$day]}:db.sql" >"$scratch/restored$day.sql"
    cmp "$scratch/day$day.sql" "$scratch/restored$day.sql" || fail "the dump of day $day differs"
    echo "cmp: equal ($(megabytes "$(stat -c %s "restored$day.sql")"))"
done

createdb fresh
psql -qX -v ON_ERROR_STOP=1 -d fresh -o /dev/null <"$scratch/restored2.sql"
# Loading may put a row where an earlier one did not fit: a table has no order, so the lines are compared without one.
cmp <("${dump[@]/#shop/fresh}" | LC_ALL=C sort) <(LC_ALL=C sort day2.sql) || fail "the fresh database differs from the one backed up"
echo "psql into a fresh database, dumped again: the same lines. Its revenue view sums to $(psql -qXAt -d fresh -c 'select sum(total) from revenue')."

shown "${bs[@]}" -q check --read-data
echo "check --read-data: whole."

say "What the second day cost"
cost() { # NAME LEN FIRST SECOND
    printf '%-10s %10s  day 1 added %10s  day 2 added %10s\n' "$1" "$(megabytes "$2")" "$(megabytes "$3")" "$(megabytes "$4")"
}
cost directory "$(du -sb --apparent-size files | cut -f1)" "${added[files1]}" "${added[files2]}"
cost database "$(stat -c %s day2.sql)" "${added[db1]}" "${added[db2]}"
echo "repository: $(megabytes "$(du -sb repository | cut -f1)") for four snapshots"
printf '\ndemo: everything that was backed up came back byte for byte (%d s)\n' "$SECONDS"
