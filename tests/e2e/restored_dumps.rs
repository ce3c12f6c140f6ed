//! Dumps of Postgres back in a server: whole, some tables of them, several databases with their roles; refused where
//! something is in the way or lacking.
//!
//! Invariant: what comes back is compared with the original by hashes of rows and by what Postgres says of its tables.

use std::process::Command;

use harness::binary::{Host, Ran, Run as _, shell};
use harness::running::Running;
use harness::servers::postgres::{Server, Version};
use rustix::process::Signal;
use serde_json::Value;

const SHOP: &str = "
create schema app; create type app.mood as enum ('good', 'bad');
create table app.customers (id serial primary key, name text not null, mood app.mood default 'good');
insert into app.customers (name) select md5(n::text) from generate_series(1, 500) n;
create function app.price(base numeric, mood app.mood, factor int default 2) returns numeric language sql
    as 'select base * factor';
create table app.orders (id bigint generated always as identity primary key, customer int references app.customers,
    note text check (note <> 'never'), price numeric default app.price(21, 'good'));
insert into app.orders (customer, note) select 1 + n % 500, 'note ' || n from generate_series(1, 2000) n;
create index orders_customer on app.orders (customer);
create function app.stamp() returns trigger language plpgsql as 'begin new.note := coalesce(new.note, ''-''); return new; end';
create trigger stamped before insert on app.orders for each row execute function app.stamp();
comment on table app.orders is 'what was ordered';
grant select on app.orders to clerk;
create table public.days (day int, k int) partition by list (k);
create table public.days1 partition of public.days for values in (1);
insert into public.days select n, 1 from generate_series(1, 50) n;
create table \"Odd name\" (\"a b\" int); insert into \"Odd name\" values (7)";

/// Rows of each table, and all that Postgres says of the tables themselves.
const ORDERS: &str = "
select count(*), md5(string_agg(o::text, ',' order by id)) from app.orders o union all
select count(*), md5(string_agg(pg_get_indexdef(indexrelid), ',' order by 1)) from pg_index
    where indrelid = 'app.orders'::regclass union all
select count(*), md5(string_agg(pg_get_triggerdef(oid), ',')) from pg_trigger
    where tgrelid = 'app.orders'::regclass and not tgisinternal union all
select last_value, obj_description('app.orders'::regclass) from app.orders_id_seq union all
select count(*), string_agg(grantee, ',' order by grantee) from information_schema.role_table_grants
    where table_name = 'orders' and privilege_type = 'SELECT'";
const CUSTOMERS: &str = "select count(*), md5(string_agg(c::text, ',' order by id)) from app.customers c";

struct Shop {
    host: Host,
    server: Server,
}

impl Shop {
    /// A server with a database, backed up by the job `all`; `more` goes into the source's table.
    fn new(more: &str) -> Self {
        Self::of(more, &[])
    }

    /// The same with further databases.
    fn of(more: &str, databases: &[&str]) -> Self {
        let is_own = |version: &&Version| {
            std::path::Path::new(&format!("/usr/lib/postgresql/{}/bin/pg_dump", version.major)).exists()
        };
        let all = Version::all();
        let server = Server::start(all.iter().rev().find(is_own).expect("the machine has a Postgres of its own"), &[]);
        let _ = server.sql("create role clerk");
        let _ = server.sql("create database shop");
        let _ = server.sql_in("shop", SHOP);
        for name in databases {
            let _ = server.sql(&format!("create database \"{name}\""));
            let _ = server.sql_in(name, "create table odd as select 7 as n");
        }
        let host = Host::with_repository();
        let (repository, port) = (host.repository().display().to_string(), server.port);
        host.write(
            "backstay.toml",
            format!(
                "[repositories.main]\nurl = \"{repository}\"\n[sources.db]\nkind = \"postgres\"\n\
                 url = \"postgres://owner@127.0.0.1:{port}/shop\"\n{more}\n[jobs.all]\nsources = [\"db\"]\n"
            ),
        );
        let shop = Self { host, server };
        shop.command(&["run", "all"]).run().expect_code(0);
        shop
    }

    fn command(&self, words: &[&str]) -> Command {
        let mut command = self.host.backstay(words);
        command.current_dir(self.host.path(""));
        command
    }

    fn url(&self, database: &str) -> String {
        format!("postgres://owner@127.0.0.1:{}/{database}", self.server.port)
    }

    fn restore(&self, words: &[&str]) -> Ran {
        self.command(&[&["restore", "latest"], words].concat()).run()
    }

    fn made(&self, database: &str) -> String {
        let _ = self.server.sql(&format!("create database {database}"));
        self.url(database)
    }

    fn sql(&self, database: &str, text: &str) -> String {
        self.server.sql_in(database, text)
    }
}

#[test]
fn one_table_comes_back_with_all_that_belongs_to_it() {
    let shop = Shop::new("");
    let url = shop.made("one");
    let told = shop.restore(&["db", "--to", &url, "--table", "app.customers", "--table", "orders"]).expect_code(0);
    told.says(&["app.customers", "app.orders"]);
    assert_eq!(shop.sql("one", ORDERS), shop.sql("shop", ORDERS));
    assert_eq!(shop.sql("one", CUSTOMERS), shop.sql("shop", CUSTOMERS));
    assert_eq!(shop.sql("one", "insert into app.customers (name) values ('new') returning id, mood"), "501|good");
    assert_eq!(shop.sql("one", "select to_regclass('public.days')"), "");

    // Beside what is there, and again only if it may be replaced.
    shop.restore(&["db", "--to", &url, "--table", "public.days"]).expect_code(0);
    assert_eq!(shop.sql("one", "select count(*), sum(day) from days"), "50|1275");
    let again = shop.restore(&["db", "--to", &url, "--table", "app.orders"]).expect_code(2);
    again.says(&["in the way", "app.orders", "--replace"]);
    shop.sql("one", "delete from app.orders where id > 100");
    shop.restore(&["db", "--to", &url, "--table", "app.orders", "--replace"]).expect_code(0);
    assert_eq!(shop.sql("one", "select count(*) from app.orders"), "2000");

    let alone = shop.made("alone");
    shop.restore(&["db", "--to", &alone, "--table", "app.orders"]).expect_code(0).says(&["foreign key", "left out"]);
    shop.restore(&["db", "--to", &alone, "--table", "Odd name"]).expect_code(0);
    assert_eq!(shop.sql("alone", "select \"a b\" from \"Odd name\""), "7");
    shop.restore(&["db", "--to", &alone, "--table", "app.order"]).expect_code(2).says(&["has no table app.order"]);
}

#[test]
fn a_schema_comes_back_alone_and_a_part_that_fails_leaves_nothing() {
    let shop = Shop::new("");
    let url = shop.made("part");
    shop.restore(&["db", "--to", &url, "--schema", "app"]).expect_code(0);
    assert_eq!(shop.sql("part", ORDERS), shop.sql("shop", ORDERS));
    assert_eq!(shop.sql("part", "select to_regclass('public.days')"), "");
    let body = "select prosrc from pg_proc where oid = 'app.price'::regproc";
    let _ = shop.sql(
        "part",
        "create or replace function app.price(base numeric, mood app.mood, factor int default 2)
        returns numeric language sql as 'select 0::numeric'",
    );
    shop.restore(&["db", "--to", &url, "--schema", "app", "--replace"]).expect_code(0);
    assert_eq!((shop.sql("part", body), shop.sql("part", ORDERS)), (shop.sql("shop", body), shop.sql("shop", ORDERS)));
    let url = shop.made("begun");
    let _ = shop.sql("begun", "create schema app; create type app.mood as enum ('good', 'bad', 'new')");
    let ran = shop.restore(&["db", "--to", &url, "--schema", "app"]).expect_code(0);
    ran.says(&["type app.mood is there already and stays as it is"]);
    let url = shop.made("fails");
    // A view of the same name as a constraint's index is not seen beforehand.
    let _ = shop.sql("fails", "create schema app; create type app.orders_pkey as (x int)");
    let ran = shop.restore(&["db", "--to", &url, "--table", "app.orders"]).expect_code(2);
    assert!(ran.stderr.contains("orders_pkey"), "{ran}");
    assert_eq!(shop.sql("fails", "select to_regclass('app.orders')"), "");
}

#[test]
fn a_target_that_is_not_empty_or_lacks_something_is_refused_before_anything_is_written() {
    let shop = Shop::new("");
    let url = shop.made("taken");
    let _ = shop.sql("taken", "create table mine as select 1 as n");
    let ran = shop.restore(&["db", "--to", &url]).expect_code(2);
    ran.says(&["database taken", "not empty", "public.mine", "hint:"]);
    assert_eq!(shop.sql("taken", "select to_regclass('app.orders'), count(*) from mine"), "|1");
    shop.restore(&["db", "--to", &url, "--replace"]).expect_code(0);
    assert_eq!(shop.sql("taken", "select count(*) from mine"), "1");
    let _ = shop.sql("taken", "delete from app.orders");
    shop.restore(&["db", "--to", &url, "--replace"]).expect_code(0);
    assert_eq!(shop.sql("taken", ORDERS), shop.sql("shop", ORDERS));
    shop.restore(&["db", "--to", &shop.url("nowhere")]).expect_code(2).says(&["has no database nowhere", "createdb"]);

    let other = Server::start(&shop.server.version, &[]);
    let _ = other.sql("create database fresh");
    let url = format!("postgres://owner@127.0.0.1:{}/fresh", other.port);
    let planned = shop.restore(&["db", "--to", &url, "--dry-run"]).expect_code(2);
    planned.says(&["lacks the roles clerk"]);
    assert_eq!(other.sql_in("fresh", "select count(*) from pg_namespace where nspname = 'app'"), "0");
    shop.restore(&["db", "--to", &url, "--owner", "none", "--no-privileges"]).expect_code(0);
    assert_eq!(other.sql_in("fresh", CUSTOMERS), shop.sql("shop", CUSTOMERS));
}

#[test]
fn several_databases_come_back_under_their_own_names_with_their_roles() {
    let shop = Shop::of("databases = [\"shop\", \"it's [odd]\"]\nglobals = true", &["it's [odd]"]);
    let other = Server::start(&shop.server.version, &[]);
    let url = format!("postgres://owner@127.0.0.1:{}", other.port);
    let one = shop.restore(&["db", "--to", &format!("{url}/postgres")]).expect_code(2);
    one.says(&["2 dumps", "--database", "shop.dump"]);
    let _ = other.sql("create database shop"); // an empty one is used as it is
    shop.restore(&["db", "--to", &url]).expect_code(0).says(&["made for it"]);
    assert_eq!(other.sql_in("shop", ORDERS), shop.sql("shop", ORDERS));
    assert_eq!(other.sql_in("it's [odd]", "select n from odd"), "7");
    assert_eq!(other.sql("select count(*) from pg_roles where rolname = 'clerk'"), "1");
    shop.restore(&["db", "--to", &url]).expect_code(2).says(&["database", "not empty"]);

    shop.restore(&["db", "--to", &url, "--database", "it's [odd]", "--replace"]).expect_code(0);
    let _ = other.sql("create database single");
    shop.restore(&["db", "--to", &format!("{url}/single"), "--database", "it's [odd]"]).expect_code(0);
    assert_eq!(other.sql_in("single", "select n from odd"), "7");
    shop.restore(&["db", "--to", &url, "--database", "odd"]).expect_code(2).says(&["no dump of database odd"]);
    let folder = shop.host.path("dumps").display().to_string();
    shop.restore(&["db", "--to", &folder, "--database", "it's [odd]"]).expect_code(0);
    let names: Vec<_> =
        std::fs::read_dir(&folder).expect("a folder").map(|entry| entry.expect("a file").file_name()).collect();
    assert_eq!(names, ["it's [odd].dump"]);
    shop.restore(&["db", "--to", "-"]).expect_code(2).says(&["3 files"]);
}

#[test]
fn what_a_dump_holds_is_listed_as_pg_restore_lists_it_and_planned_without_a_write() {
    let shop = Shop::new("");
    let listed = shop.command(&["--json", "restore", "latest", "db", "--list"]).run().expect_code(0).json();
    let folder = shop.host.path("dumps").display().to_string();
    let document = shop.command(&["--json", "restore", "latest", "db", "--to", &folder]).run().expect_code(0).json();
    let dump = shop.host.path("dumps/shop.dump");
    assert!(
        document["next_steps"][0]["command"].as_str().is_some_and(|text| text.contains("pg_restore")),
        "{document}"
    );
    let input = std::fs::File::open(&dump).expect("the dump");
    let list = shop.server.client("pg_restore").arg("--list").stdin(input).run().expect_code(0);
    let entries: Vec<&str> = list.text().lines().filter(|line| !line.starts_with(';')).collect();
    let items = listed["dumps"][0]["items"].as_array().expect("items");
    // pg_restore leaves out what sets the session up.
    let shown: Vec<&Value> = items
        .iter()
        .filter(|item| !["ENCODING", "STDSTRINGS", "SEARCHPATH"].contains(&item["kind"].as_str().unwrap_or("")))
        .collect();
    assert!(entries.len() > 20 && shown.len() >= entries.len(), "{listed}");
    for entry in entries {
        let (id, rest) = entry.split_once(';').expect("an entry");
        let item =
            items.iter().find(|item| item["id"].as_i64() == id.parse().ok()).unwrap_or_else(|| panic!("{entry}"));
        let (kind, name) = (item["kind"].as_str().expect("text"), item["name"].as_str().expect("text"));
        assert!(rest.contains(kind) && rest.contains(name), "{entry}: {item}");
    }
    let text = shop.restore(&["db", "--list"]).expect_code(0);
    assert!(text.text().contains("shop.dump") && text.text().contains("TABLE DATA"), "{text}");
    shop.restore(&["db", "--to", &folder]).expect_code(2).says(&["shop.dump", "--replace"]);

    let url = shop.made("planned");
    let words = ["--json", "restore", "latest", "db", "--to", &url, "--table", "app.orders", "--dry-run"];
    let plan = shop.command(&words).run().expect_code(0).json();
    let database = &plan["databases"][0];
    assert_eq!(
        (&plan["is_dry_run"], &database["into"], &database["creates"]),
        (&true.into(), &"planned".into(), &false.into())
    );
    assert_eq!(database["relations"], serde_json::json!(["app.orders", "app.orders_id_seq"]));
    assert_eq!(shop.sql("planned", "select to_regnamespace('app')"), "");
    let stdout = shop.command(&["restore", "latest", "db", "--to", "-"]).run().expect_code(0);
    assert_eq!(stdout.stdout, std::fs::read(dump).expect("the dump"));
    shell(&shop.host.path(""), "rm -r dumps");
}

#[test]
fn a_restore_that_fails_says_what_it_leaves_where_and_replacing_goes_on() {
    let shop = Shop::new("");
    let url = shop.made("half");
    // Makes a row of the dump fail after tables were made.
    let _ = shop.sql(
        "half",
        "create function public.no() returns event_trigger language plpgsql as \
        'begin raise exception ''no index here''; end'; \
        create event trigger no_index on ddl_command_end when tag in ('CREATE INDEX') execute function public.no()",
    );
    let failed = shop.restore(&["db", "--to", &url]).expect_code(2);
    failed.says(&["no index here", "stays in database half of", "without rows", "--replace", "dropdb"]);
    assert_eq!(shop.sql("half", "select count(*) > 0 from pg_tables where schemaname = 'app'").trim(), "t");
    let _ = shop.sql("half", "drop event trigger no_index; drop function public.no()");
    let refused = shop.restore(&["db", "--to", &url]).expect_code(2);
    refused.says(&["is not empty", "--replace"]);
    shop.restore(&["db", "--to", &url, "--replace"]).expect_code(0);
    assert_eq!(shop.sql("half", ORDERS), shop.sql("shop", ORDERS));
}

#[test]
fn a_restore_that_is_interrupted_says_what_it_leaves_where() {
    let shop = Shop::new("");
    let url = shop.made("half");
    let _ = shop.sql(
        "half",
        "create function public.slow() returns event_trigger language plpgsql as 'begin perform pg_sleep(5); end'; \
         create event trigger slow on ddl_command_end when tag in ('CREATE INDEX') execute function public.slow()",
    );
    let mut running = Running::start(shop.command(&["restore", "latest", "db", "--to", &url]), false);
    let sleeps = "select count(*) from pg_stat_activity where wait_event = 'PgSleep'";
    running.wait_until("an index is made", || shop.sql("half", sleeps).trim() == "1");
    running.signal(Signal::INT);
    let (ran, _) = running.finish();
    ran.expect_code(130).says(&["interrupted; ", "stays in database half of", "--replace", "dropdb"]);
}
