//! Whether databases could be dumped, asked as roles that may do more and less; a dump shows that the answer is right.

use source::Verdict;
use source::dump::{Dump, dump, preflight};

use super::{Postgres, newer_root, pretending};
use crate::preflight::finds;
use crate::running::read;

const OBJECTS: &str = "
create schema hidden; create table hidden.inside (n int);
create table plain (id serial primary key, name text); insert into plain (name) values ('x');
create sequence alone;
create table other (id int generated always as identity);
create extension pgcrypto";

fn request(server: &Postgres, user: &str) -> Dump {
    let mut request = server.dump(&["shop \"x\""]);
    request.server = server.server_as(user);
    request.selection.without_globals = true;
    request
}

/// Fails unless preflight and dump agree.
#[track_caller]
fn agrees(told: &source::Preflight, dumped: &Result<crate::running::Read, source::SourceError>) {
    assert_eq!(told.verdict() != Verdict::Problem, dumped.is_ok(), "{told:#?}\n{:?}", dumped.as_ref().err());
}

fn shop() -> Postgres {
    let server = Postgres::start();
    server.sql("postgres", "create role backup login");
    server.sql("postgres", "create database \"shop \"\"x\"\"\"");
    server.sql("shop \"x\"", OBJECTS);
    server
}

/// The role of docs/guides/least-privilege.md, and what it lacks where.
#[tokio::test]
async fn rights_that_a_dump_needs_are_found_one_after_the_other() {
    let server = shop();
    let sql = |statement: &str| server.sql("shop \"x\"", statement);
    let asked = async |what: &str, advice: &str| {
        let told = preflight(&request(&server, "backup")).await;
        agrees(&told, &read(dump(request(&server, "backup"))).await);
        finds(&told, Verdict::Problem, what, advice);
        told
    };
    let told = asked("may not read table", "pg_read_all_data").await;
    finds(&told, Verdict::Problem, "may not enter schema hidden", "usage");
    finds(&told, Verdict::Problem, "may not read sequence public.alone, public.other_id_seq, public.plain_id_seq", "");
    sql("grant select on all tables in schema public, hidden to backup; grant usage on schema hidden to backup");
    asked("may not read sequence", "select on the sequences").await;
    sql("grant pg_read_all_data to backup");
    let told = preflight(&request(&server, "backup")).await;
    finds(&told, Verdict::Fine, "may read all of 3 tables", "");
    agrees(&told, &read(dump(request(&server, "backup"))).await);

    sql("select lo_from_bytea(77, 'x')");
    asked("may not read large object 77", "grant select on each large object").await;
    sql("grant select on large object 77 to backup; alter table plain enable row level security");
    asked("row security hides rows of public.plain", "bypassrls").await;
    sql("alter role backup bypassrls");
    let told = preflight(&request(&server, "backup")).await;
    assert_eq!(told.verdict(), Verdict::Fine, "{told:#?}");
    agrees(&told, &read(dump(request(&server, "backup"))).await);
}

#[tokio::test]
async fn only_what_is_selected_has_to_be_readable() {
    let server = shop();
    server.sql("shop \"x\"", "grant select on plain, plain_id_seq, other, other_id_seq, alone to backup");
    let mut part = request(&server, "backup");
    agrees(&preflight(&part).await, &read(dump(part.clone())).await);
    for (tables, schemas, excluded, is_readable) in [
        (["plain"].as_slice(), [].as_slice(), [].as_slice(), true),
        (&["PUBLIC.pl*", "oth?r"], &[], &[], true),
        (&["hidden.*"], &[], &[], false),
        (&["inside", "plain"], &[], &[], true),
        (&[], &["public"], &[], true),
        (&[], &[], &["hidden.\"inside\""], true),
    ] {
        let owned = |words: &[&str]| words.iter().map(|&word| word.to_owned()).collect::<Vec<_>>();
        (part.selection.tables, part.selection.schemas) = (owned(tables), owned(schemas));
        part.selection.exclude_tables = owned(excluded);
        let told = preflight(&part).await;
        assert_eq!(told.verdict() != Verdict::Problem, is_readable, "{tables:?} {schemas:?}: {told:#?}");
        if !tables.contains(&"inside") {
            // pg_dump refuses a pattern that matches nothing, which is not a matter of rights.
            agrees(&told, &read(dump(part.clone())).await);
        }
    }
}

#[tokio::test]
async fn servers_databases_and_programs_that_are_not_there_are_told_with_what_to_do() {
    let server = shop();
    let mut request = request(&server, "owner");
    request.selection.databases = vec!["nothing".into()];
    finds(&preflight(&request).await, Verdict::Problem, "there is no database nothing", "correct the name");
    request.selection.databases = vec!["postgres".into()];
    finds(&preflight(&request).await, Verdict::Warning, "has no table", "tables and schemas");
    request.server = server.server_as("guarded");
    server.sql(
        "postgres",
        "create role guarded login password 'right'; grant select on all tables in schema public to guarded",
    );
    request.server.password = Some(source::Secret::new("hunter2".into()));
    finds(&preflight(&request).await, Verdict::Problem, "password authentication failed", "the user or the password");
    request.server.password = Some(source::Secret::new("right".into()));
    request.selection.without_globals = false;
    finds(&preflight(&request).await, Verdict::Warning, "roles are dumped without their passwords", "superuser");
    request.server.host = Some("/nowhere".into());
    finds(&preflight(&request).await, Verdict::Problem, "postgres at /nowhere", "see that it runs");
}

#[tokio::test]
async fn a_server_newer_than_the_programs_names_what_to_install() {
    let root = newer_root();
    let server = Postgres::start_in(Some(&root), std::path::Path::new("/usr/lib/postgresql/18/bin"));
    let mut request = server.dump(&["postgres"]);
    finds(&preflight(&request).await, Verdict::Problem, "postgresql-client-18", "install");
    // Programs that say that they are new enough.
    let own = Postgres::start();
    let programs = own.programs().await;
    let newer = pretending(&programs, "pg_dump", "");
    std::fs::write(newer.path().join("pg_dump"), "#!/bin/sh\necho 'pg_dump (PostgreSQL) 18.9'\n").unwrap();
    request.folders = vec![newer.path().to_owned()];
    finds(&preflight(&request).await, Verdict::Warning, "has no table", "");
    // What may not be read of a newer server is asked in the same words.
    server.sql("postgres", OBJECTS.replace("create extension pgcrypto", "select lo_create(5)").as_str());
    server.sql("postgres", "create role backup login; grant pg_read_all_data to backup");
    request.server = server.server_as("backup");
    finds(&preflight(&request).await, Verdict::Problem, "may not read large object 5", "grant select");
}
