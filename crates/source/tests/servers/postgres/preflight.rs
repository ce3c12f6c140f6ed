//! Whether a whole server could be read, asked of servers that are set up right and wrong.

use source::Verdict;
use source::postgres::{BaseBackup, Host, Server as Reached, base_backup, preflight};
use zeroize::Zeroizing;

use crate::postgres_server::{OWNER, Server, Version};
use crate::preflight::finds;
use crate::sink::write;

fn version(wanted: impl Fn(u32) -> bool) -> Version {
    let found = Version::all().into_iter().rev().find(|version| wanted(version.major));
    found.expect("scripts/servers.sh makes the versions that tests need")
}

fn as_role(server: &Server, user: &str) -> Reached {
    let mut reached = Reached::new(vec![Host::new("127.0.0.1", server.port)], user);
    reached.password = Some(Zeroizing::new("hunter2".to_owned()));
    reached
}

#[tokio::test]
async fn a_server_that_can_be_read_is_found_fine_and_nothing_of_it_stays() {
    for version in Version::all() {
        let settings: &[&str] = if version.major >= 17 { &["summarize_wal = on"] } else { &[] };
        let server = Server::start(&version, settings);
        let told = preflight(&as_role(&server, OWNER), true).await;
        finds(&told, Verdict::Fine, &format!("primary of version {}", version.major), "");
        finds(&told, Verdict::Fine, "a slot keeps the log", "");
        assert_eq!(server.sql("select count(*) from pg_replication_slots"), "0");
    }
}

/// The role of docs/guides/least-privilege.md.
#[tokio::test]
async fn the_least_role_that_the_guide_makes_reads_a_whole_server_of_every_version() {
    for version in Version::all() {
        let server = Server::start(&version, &[]);
        let _ = server.sql("create role backup login replication password 'hunter2'");
        server.write(
            "pg_hba.conf",
            "local all owner trust\nhost all owner 127.0.0.1/32 trust\n\
             host replication backup 127.0.0.1/32 scram-sha-256\nhost replication backup 127.0.0.1/32 md5\n",
        );
        let _ = server.sql("alter system set password_encryption = 'scram-sha-256'");
        let _ = server.sql("select pg_reload_conf()");
        let _ = server.sql("set password_encryption = 'scram-sha-256'; alter role backup password 'hunter2'");
        let told = preflight(&as_role(&server, "backup"), false).await;
        assert_eq!(told.verdict(), Verdict::Fine, "{version:?}: {told:#?}");
        let folder = version.folder();
        write(base_backup(as_role(&server, "backup"), BaseBackup::default()), folder.path(), None).await.unwrap();
    }
}

#[tokio::test]
async fn every_refusal_of_a_server_has_its_next_step() {
    let server = Server::start(&version(|major| major == 15), &[]);
    let _ = server.sql("create role meek login password 'hunter2'; create role backup login replication password 'x'");
    server.write(
        "pg_hba.conf",
        "local all owner trust\nhost all owner 127.0.0.1/32 trust\nhost replication owner 127.0.0.1/32 trust\n\
         host replication meek 127.0.0.1/32 scram-sha-256\nhost replication backup 127.0.0.1/32 scram-sha-256\n",
    );
    let _ = server.sql("select pg_reload_conf()");
    let told = preflight(&as_role(&server, "meek"), false).await;
    finds(&told, Verdict::Problem, "replication role", "alter role \"meek\" replication");
    let told = preflight(&as_role(&server, "backup"), false).await;
    finds(&told, Verdict::Problem, "password authentication failed", "password");
    let told = preflight(&as_role(&server, "nobody"), false).await;
    finds(&told, Verdict::Problem, "pg_hba.conf", "host replication nobody ADDRESS");
    let _ = server.stop("fast");
    let told = preflight(&as_role(&server, OWNER), false).await;
    finds(&told, Verdict::Problem, "refused", "see that it runs");
}

#[tokio::test]
async fn settings_that_make_backups_dear_or_impossible_are_told() {
    let newest = version(|major| major >= 17);
    let server = Server::start(&newest, &["wal_level = minimal", "max_wal_senders = 0", "summarize_wal = off"]);
    let told = preflight(&as_role(&server, OWNER), true).await;
    finds(&told, Verdict::Problem, "max_wal_senders", "wal_level = replica");

    let _ = server.stop("fast");
    server.configure(&["wal_level = replica", "max_wal_senders = 5"]);
    server.run();
    let told = preflight(&as_role(&server, OWNER), true).await;
    finds(&told, Verdict::Warning, "summarize_wal is off", "alter system set summarize_wal = on");
    assert_eq!(preflight(&as_role(&server, OWNER), false).await.verdict(), Verdict::Fine, "who does not want it");

    let _ = server.stop("fast");
    server.configure(&["max_replication_slots = 0", "summarize_wal = on"]);
    server.run();
    let told = preflight(&as_role(&server, OWNER), true).await;
    finds(&told, Verdict::Warning, "no slot", "max_replication_slots");

    let _ = server.stop("fast");
    server.configure(&["max_replication_slots = 5", "max_wal_senders = 1"]);
    server.run();
    let told = preflight(&as_role(&server, OWNER), true).await;
    finds(&told, Verdict::Warning, "no slot", "two senders");
}

#[tokio::test]
async fn a_server_without_page_checksums_is_told() {
    let version = version(|major| major == 15);
    let server = Server::start(&version, &[]);
    let _ = server.stop("fast");
    let mut command = version.command("pg_checksums");
    command.args(["--disable", "-D"]).arg(version.inside(server.data()));
    crate::postgres_server::ran(&mut command);
    server.run();
    let told = preflight(&as_role(&server, OWNER), false).await;
    finds(&told, Verdict::Warning, "pages have no checksums", "pg_checksums --enable");
}
