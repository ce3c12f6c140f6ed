//! Tables chosen out of dumps by every version of Postgres that is there, restored by that version's own pg_restore.

use std::fs;
use std::process::{Command, Stdio};

use source::dump::{Archive, Contents, Present, Wanted};

use crate::postgres_server::{Server, Version, ran};

const TABLES: &str = "
create schema app;
create type app.mood as enum ('good', 'bad');
create table app.customers (id serial primary key, name text, mood app.mood);
create table app.orders (id bigint generated always as identity primary key, customer int references app.customers);
create index on app.orders (customer);
comment on column app.orders.customer is 'who';
create table parts (id int, kind int) partition by list (kind);
create table parts1 partition of parts for values in (1);
create index on parts (id);
insert into app.customers (name, mood) select n, 'good' from generate_series(1, 300) n;
insert into app.orders (customer) select n from generate_series(1, 300) n;
insert into parts select n, 1 from generate_series(1, 300) n";
const STATE: &str = "
select 'customers', count(*), sum(id)::text, max(mood)::text from app.customers union all
select 'orders', count(*), sum(customer)::text, col_description('app.orders'::regclass, 2) from app.orders union all
select 'parts', count(*), sum(id)::text, '' from parts union all
select 'keys', count(*), '', string_agg(conname, ',' order by conname) from pg_constraint
    where conrelid in ('app.orders'::regclass, 'app.customers'::regclass) and contype <> 'n' union all
select 'indexes', count(*), '', '' from pg_index i join pg_class c on c.oid = indrelid join pg_namespace n
    on n.oid = relnamespace where nspname in ('app', 'public') union all
select 'next', nextval('app.customers_id_seq'), nextval('app.orders_id_seq')::text, ''";

/// A dump by the server's own pg_dump, written to a pipe as a source reads it.
fn dumped(server: &Server, folder: &std::path::Path) -> Vec<u8> {
    let dump = ran(reaching(server, "pg_dump").args(["-Fc", "-Z0", "postgres"])).stdout;
    fs::write(folder.join("dump"), &dump).unwrap();
    dump
}

/// A program of the server's own version.
fn reaching(server: &Server, program: &str) -> Command {
    let mut command = server.version.command(program);
    command.args(["-h", "127.0.0.1", "-U", "owner", "-p", &server.port.to_string()]);
    command
}

fn contents(dump: &[u8]) -> Contents {
    let mut archive = Archive::listing();
    archive.push(dump).unwrap();
    archive.finish().unwrap_or_else(|error| panic!("{error:?}"))
}

fn comes_back(version: &Version) {
    let (server, folder) = (Server::start(version, &[]), version.folder());
    version.own(folder.path());
    let _ = server.sql(TABLES);
    let dump = dumped(&server, folder.path());
    let contents = contents(&dump);
    let input = || Stdio::from(fs::File::open(folder.path().join("dump")).unwrap());
    let listed = ran(server.version.command("pg_restore").arg("--list").stdin(input()));
    let listed = String::from_utf8(listed.stdout).unwrap();
    for line in listed.lines().filter(|line| !line.starts_with(';') && !line.is_empty()) {
        let (id, words) = line.split_once(';').unwrap();
        let item = contents.items.iter().find(|item| item.id.to_string() == id).unwrap();
        let schema = if item.schema.is_empty() { "-" } else { &item.schema };
        let expected = format!(" {} {schema} {} {}", item.kind, item.name, item.owner);
        assert!(words.ends_with(expected.trim_end()) || words.ends_with(&expected), "{line}: {item:?}");
    }
    let tables = ["app.customers", "orders", "parts"].map(str::to_owned).to_vec();
    let present = Present { schemas: ["public".to_owned()].into(), ..Present::default() };
    let choice = Wanted { tables, ..Wanted::default() }.choose(&contents, &present).unwrap();
    assert_eq!(choice.left_out, [""; 0]);
    let list: String = choice.ids.iter().map(|id| format!("{id};\n")).collect();
    let path = folder.path().join("list");
    fs::write(&path, list).unwrap();
    version.own(&path);
    let _ = server.sql("create database fresh");
    let mut restore = reaching(&server, "pg_restore");
    restore.args(["--exit-on-error", "--dbname=fresh", "--use-list"]).arg(version.inside(&path)).stdin(input());
    ran(&mut restore);
    assert_eq!(server.sql_in("fresh", STATE), server.sql(STATE), "Postgres {}", version.major);
}

#[test]
fn a_table_is_chosen_out_of_dumps_of_every_version() {
    for version in Version::all().iter().filter(|version| version.has("pg_restore") && version.has("pg_dump")) {
        comes_back(version);
    }
}
