//! Servers that answer, but not as one would wish: too new for our programs, behind authentication, without a quorum.
//!
//! Invariant: no password is shown, and nothing is committed that is not whole.
//! Never here: each fault of each server (see the tests of `source`).

use std::process::Command;

use harness::binary::{Host, Ran, Run as _};
use harness::servers::postgres::{Server, Version};
use harness::servers::stores::{Running, etcd, etcdctl, free_port, until};

/// A host whose file has these sources, each a job of its own by the same name.
fn host_with(sources: &[(&str, String)]) -> Host {
    let host = Host::with_repository();
    let (repository, password) = (host.repository(), host.path("password"));
    let tables: String = sources
        .iter()
        .map(|(name, table)| format!("[sources.{name}]\n{table}\n[jobs.{name}]\nsources = [\"{name}\"]\n"))
        .collect();
    host.write(
        "backstay.toml",
        format!(
            "[repositories.main]\nurl = \"{}\"\npassword_file = \"{}\"\n{tables}",
            repository.display(),
            password.display()
        ),
    );
    host
}

fn run(host: &Host, words: &[&str]) -> Ran {
    let ran = host.backstay(words).current_dir(host.path("")).env("TOKEN", "hunter2").run();
    assert!(!ran.stderr.contains("hunter2"), "{ran}");
    ran
}

#[test]
fn server_newer_than_every_pg_dump_is_refused_with_what_to_install_and_read_whole_all_the_same() {
    let Some(version) = Version::find(18) else { return };
    let server = Server::start(&version, &[]);
    let port = server.port;
    let host = host_with(&[
        ("db", format!("kind = \"postgres\"\nurl = \"postgres://owner@127.0.0.1:{port}/postgres\"")),
        ("whole", format!("kind = \"postgres-physical\"\nurl = \"postgres://owner@127.0.0.1:{port}\"")),
    ]);
    run(&host, &["run", "db"]).expect_code(2).says(&["the server is of version 18.", "postgresql-client-18", "hint: "]);
    assert!(host.snapshots().is_empty());
    run(&host, &["run", "whole"]).expect_code(0);
}

#[test]
fn databases_that_are_empty_or_named_oddly_come_back_empty_and_by_name() {
    let version = Version::all().into_iter().find(|version| version.major == 15).expect("the machine's own Postgres");
    let server = Server::start(&version, &[]);
    let odd = r#"it's "odd" $(x) %d ü"#;
    for name in ["empty".to_owned(), odd.replace('"', "\"\"")] {
        let _ = server.sql(&format!("create database \"{name}\""));
    }
    let _ = server.sql_in(odd, "create table \"a \"\"b\"\" 'c'\" as select 1 as \"n;--\"");
    let url = format!("postgres://owner@127.0.0.1:{}", server.port);
    let host = host_with(&[("db", format!("kind = \"postgres\"\nurl = \"{url}/postgres\"\ndatabases = [\"*\"]"))]);
    run(&host, &["run", "db"]).expect_code(0);
    for name in ["empty", odd] {
        let _ = server.sql("create database fresh");
        run(&host, &["restore", "latest", "db", "--database", name, "--to", &format!("{url}/fresh")]).expect_code(0);
        let tables = "select string_agg(relname, '|') from pg_class where relnamespace = 'public'::regnamespace";
        assert_eq!(server.sql_in("fresh", tables), server.sql_in(name, tables), "{name}");
        let _ = server.sql("drop database fresh");
    }
    host.check();
}

#[test]
fn etcd_behind_authentication_is_read_by_who_may_and_by_nobody_else() {
    let port = free_port();
    let endpoint = format!("kind = \"etcd\"\nendpoints = [\"http://127.0.0.1:{port}\"]");
    let as_user = |user: &str, password: &str| format!("{endpoint}\nuser = \"{user}\"\npassword = \"{password}\"");
    let host = host_with(&[
        ("nobody", endpoint.clone()),
        ("root", as_user("root", "${TOKEN}")),
        ("by_file", format!("{endpoint}\nuser = \"root\"\npassword_file = \"secret\"")),
        ("by_command", format!("{endpoint}\nuser = \"root\"\npassword_command = \"cat secret\"")),
        ("wrong", as_user("root", "${TOKEN}-wrong")),
        ("reader", as_user("reader", "${TOKEN}")),
    ]);
    std::fs::create_dir(host.path("etcd")).expect("a new folder");
    let member = etcd(&host.path("etcd"), port);
    etcdctl(port, &["put", "key", "value"]);
    for words in [
        &["user", "add", "root:hunter2"][..],
        &["user", "grant-role", "root", "root"],
        &["user", "add", "reader:hunter2"],
        &["auth", "enable"],
    ] {
        etcdctl(port, words);
    }
    host.write_secret("secret", "hunter2\n");
    for job in ["root", "by_file", "by_command"] {
        run(&host, &["run", job]).expect_code(0);
    }
    run(&host, &["run", "nobody"]).expect_code(2).says(&["etcd", "hint: "]);
    run(&host, &["run", "wrong"])
        .expect_code(2)
        .says(&["authentication failed", "hint: correct the user or the password"]);
    run(&host, &["run", "reader"]).expect_code(2).says(&["permission denied", "hint: give the user the right"]);
    assert_eq!(host.snapshots().len(), 3);
    drop(member);
    run(&host, &["run", "root"]).expect_code(2).says(&["refused", "hint: see that it runs"]);
    assert_eq!(host.snapshots().len(), 3);
    host.check();
}

#[test]
fn etcd_without_a_quorum_is_read_and_said_to_be_behind() {
    let folder = tempfile::TempDir::with_prefix("backstay-etcd-").expect("a temporary folder");
    let [client, other, peer, other_peer] = [(); 4].map(|()| free_port());
    let cluster = format!("a=http://127.0.0.1:{peer},b=http://127.0.0.1:{other_peer}");
    let member = |name: &str, client: u16, peer: u16| {
        let [client, peer] = [client, peer].map(|port| format!("http://127.0.0.1:{port}"));
        let mut command = Command::new("etcd");
        command.args(["--name", name, "--data-dir"]).arg(folder.path().join(name));
        command.args(["--listen-client-urls", &client, "--advertise-client-urls", &client, "--unsafe-no-fsync"]);
        command.args(["--listen-peer-urls", &peer, "--initial-advertise-peer-urls", &peer]);
        Running::start(command.args(["--initial-cluster", &cluster]))
    };
    let (_left, lost) = (member("a", client, peer), member("b", other, other_peer));
    until("the cluster", || etcdctl(client, &["put", "key", "value"]).contains("OK"));
    let host = host_with(&[("kv", format!("kind = \"etcd\"\nendpoints = [\"http://127.0.0.1:{client}\"]"))]);
    drop(lost);
    until("the loss", || etcdctl(client, &["endpoint", "status", "-w", "fields"]).contains("\"Leader\" : 0"));
    let ran = run(&host, &["--json", "run", "kv"]).expect_code(0);
    let warnings = ran.json()["components"][0]["warnings"].to_string();
    assert!(warnings.contains("no leader"), "{ran}");
    host.check();
}
