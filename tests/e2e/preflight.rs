//! `config check`: every repository and source is asked, in time, and what is wrong comes with its next step.
//!
//! Invariant: a check commits nothing and shows no secret.
//! Never here: each verdict of each server (see the tests of `source`).

use std::net::TcpListener;
use std::time::{Duration, Instant};

use harness::binary::{Host, Ran, Run as _};
use harness::servers::postgres::{Server, Version};
use serde_json::Value;

fn host_with(sources: &str) -> Host {
    let host = Host::with_repository();
    let repository = host.repository().display().to_string();
    let password = host.path("password").display().to_string();
    let names: Vec<String> = sources
        .lines()
        .filter_map(|line| line.strip_prefix("[sources.")?.strip_suffix(']'))
        .map(|name| format!("\"{name}\""))
        .collect();
    host.write(
        "backstay.toml",
        format!(
            "[repositories.main]\nurl = \"{repository}\"\npassword_file = \"{password}\"\n{sources}\n\
             [jobs.all]\nsources = [{}]\n",
            names.join(", ")
        ),
    );
    host
}

fn check(host: &Host, words: &[&str]) -> Ran {
    let mut command = host.backstay(["config", "check"]);
    command.args(words).current_dir(host.path("")).env_remove("BACKSTAY_REPOSITORY");
    command.env_remove("BACKSTAY_PASSWORD_FILE").env("TOKEN", "hunter2").run()
}

fn of<'d>(document: &'d Value, name: &str) -> &'d Value {
    let all = document["checks"].as_array().expect("checks");
    all.iter().find(|one| one["name"] == name).unwrap_or_else(|| panic!("no {name} in {document}"))
}

#[test]
fn sources_that_could_be_backed_up_are_found_ok_and_nothing_is_committed() {
    let version = Version::all().into_iter().find(|version| version.major == 15).expect("the machine's own Postgres");
    let server = Server::start(&version, &[]);
    let _ =
        server.sql("create table t (n int); create role backup login replication; grant pg_read_all_data to backup");
    let port = server.port;
    let host = host_with(&format!(
        "[sources.db]\nkind = \"postgres\"\nurl = \"postgres://backup@127.0.0.1:{port}/postgres\"\n\
         [sources.whole]\nkind = \"postgres-physical\"\nurl = \"postgres://backup@127.0.0.1:{port}\"\n\
         [sources.etc]\nkind = \"files\"\npaths = [\"/etc\"]\n\
         [sources.list]\nkind = \"command\"\ncommand = [\"ls\", \"/\"]\n"
    ));
    let ran = check(&host, &[]).expect_code(0);
    for line in ["main", "may read all of 1 tables", "lets backup replicate", "/etc: may be read", "ls: runs /"] {
        assert!(ran.text().contains(line), "{line}: {ran}");
    }
    assert!(ran.stderr.contains("no mistake in it, 0 problems"), "{ran}");
    let document = check(&host, &["--json"]).expect_code(0).json();
    assert_eq!(
        (&of(&document, "main")["subject"], &of(&document, "db")["state"]),
        (&"repository".into(), &"ok".into())
    );
    assert!(host.snapshots().is_empty());

    // What a backup then meets is what the check found: a right is taken away, and later the whole server.
    let _ = server.sql("revoke pg_read_all_data from backup; alter role backup noreplication");
    let document = check(&host, &["--json"]).expect_code(1).json();
    let findings = of(&document, "db")["findings"].to_string();
    assert!(findings.contains("may not read table public.t") && findings.contains("pg_read_all_data"), "{document}");
    assert!(of(&document, "whole")["findings"].to_string().contains("alter role"), "{document}");
    assert_eq!(document["problems"].as_array().map(Vec::len), Some(2), "{document}");
    let ran = host.backstay(["run", "all"]).current_dir(host.path("")).run().expect_code(1);
    assert!(ran.stderr.contains("permission denied for table t") && ran.stderr.contains("replication role"), "{ran}");
    drop(server);
    let ran = check(&host, &[]).expect_code(1);
    assert!(ran.text().contains("next: see that it runs"), "{ran}");
    check(&host, &["--offline"]).expect_code(0);
}

#[test]
fn everything_that_is_wrong_is_told_in_time_and_without_secrets() {
    let silent = TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = silent.local_addr().expect("an address").port();
    let host = host_with(&format!(
        "[sources.silent]\nkind = \"postgres-physical\"\nurl = \"postgres://x@127.0.0.1:{port}\"\npassword = \"${{TOKEN}}\"\n\
         [sources.mute]\nkind = \"redis\"\nurls = [\"redis://127.0.0.1:{port}\"]\npassword = \"${{TOKEN}}\"\n\
         [sources.down]\nkind = \"etcd\"\nendpoints = [\"http://127.0.0.1:1\"]\n\
         [sources.secretless]\nkind = \"redis\"\nurls = [\"redis://127.0.0.1:1\"]\npassword_file = \"/nowhere\"\n\
         [sources.appended]\nkind = \"redis-aof\"\npath = \"/etc\"\n\
         [sources.gone]\nkind = \"sqlite\"\npath = \"/nowhere/app.db\"\n\
         [sources.missing]\nkind = \"command\"\ncommand = [\"no-such-program\"]\nenv = {{ TOKEN = \"${{TOKEN}}\" }}\n\
         [sources.media]\nkind = \"files\"\npaths = [\"/nowhere/media\", \"/etc\"]\n"
    ));
    let began = Instant::now();
    // Longer than a busy machine takes to open the repository, which is asked too.
    let ran = check(&host, &["--timeout", "8s"]).expect_code(1);
    assert!(began.elapsed() < Duration::from_secs(40), "{:?}", began.elapsed());
    for line in [
        "no answer within 8s",
        "etcd at http://127.0.0.1:1",
        "/nowhere cannot be read",
        "there is no such file",
        "there is no program no-such-program",
        "root /nowhere/media does not exist",
        "/etc: may be read",
        "append-only file in /etc: it has no manifest",
        "next: ",
    ] {
        assert!(ran.text().contains(line), "{line}: {ran}");
    }
    assert!(!ran.text().contains("hunter2") && !ran.stderr.contains("hunter2"), "{ran}");
    assert!(ran.stderr.contains("8 problems"), "{ran}");
    let offline = check(&host, &["--offline", "--json"]).expect_code(1).json();
    assert_eq!(offline["problems"].as_array().map(Vec::len), Some(4), "{offline}");
    check(&host, &["--timeout", "soon"]).expect_code(2);
}

#[test]
fn repository_that_does_not_open_is_told_beside_the_sources() {
    let host = host_with("[sources.etc]\nkind = \"files\"\npaths = [\"/etc\"]\n");
    let text = std::fs::read_to_string(host.path("backstay.toml")).expect("was written");
    let missing = host.path("elsewhere").display().to_string();
    host.write("backstay.toml", text.replace(&host.repository().display().to_string(), &missing));
    let document = check(&host, &["--json"]).expect_code(1).json();
    assert_eq!((&of(&document, "main")["state"], &of(&document, "etc")["state"]), (&"problem".into(), &"ok".into()));
    assert!(of(&document, "main")["findings"][0]["advice"].is_string(), "{document}");
}

#[test]
fn time_that_a_password_takes_is_not_counted() {
    let host = host_with("[sources.etc]\nkind = \"files\"\npaths = [\"/etc\"]\n");
    let text = std::fs::read_to_string(host.path("backstay.toml")).expect("was written");
    let file = format!("password_file = \"{}\"", host.path("password").display());
    let slow = format!("password_command = \"sleep 5; cat '{}'\"", host.path("password").display());
    assert!(text.contains(&file), "{text}");
    host.write("backstay.toml", text.replace(&file, &slow));
    let ran = check(&host, &["--timeout", "4s"]).expect_code(0);
    assert!(ran.text().contains("opens") && ran.text().contains("free"), "{ran}");
}
