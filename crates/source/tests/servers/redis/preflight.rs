//! Whether a Redis or Valkey server could be read; a server that is asked never forks.

use source::redis::{Address, RedisDump, dump, preflight};
use source::{Secret, Verdict};

use super::{Redis, newer_root};
use crate::preflight::finds;
use crate::running::{read, until};

fn forks(server: &Redis) -> String {
    let info = server.cli(&["info", "stats"]);
    info.lines().find(|line| line.starts_with("total_forks:")).expect("counts forks").trim().to_owned()
}

#[tokio::test]
async fn a_server_that_may_be_read_is_fine_and_does_not_fork() {
    let server = Redis::start(&[]);
    server.fill(10, 1);
    let told = preflight(&server.request()).await;
    finds(&told, Verdict::Fine, "primary, redis 7.", "");
    finds(&told, Verdict::Fine, "PSYNC is allowed", "");
    assert_eq!(forks(&server), "total_forks:0");
    // A replica that keeps up is chosen, and one that is down is told.
    let replica = Redis::start(&["--replicaof", &format!("127.0.0.1 {}", server.port)]);
    until(|| replica.cli(&["info", "replication"]).contains("master_link_status:up"));
    let mut request = server.request();
    request.addresses.extend([replica.address(), Address::Tcp("127.0.0.1".into(), 1)]);
    let told = preflight(&request).await;
    finds(&told, Verdict::Warning, "redis at 127.0.0.1:1", "leave it out");
    assert!(told.findings.iter().any(|finding| finding.what.contains("replica, redis 7.")), "{told:#?}");
    assert_eq!(forks(&replica), "total_forks:0");
}

#[tokio::test]
async fn newer_servers_tell_without_forking_too() {
    let root = newer_root();
    for program in ["redis-server", "valkey-server"] {
        let server = Redis::start_newer(&root, program, &[]);
        finds(&preflight(&server.request()).await, Verdict::Fine, "PSYNC is allowed", "");
        server.cli(&["acl", "setuser", "backup", "on", ">hunter2", "+replconf", "+info"]);
        finds(&preflight(&as_backup(&server)).await, Verdict::Problem, "PSYNC", "+psync");
        assert_eq!(forks(&server), "total_forks:0", "{program}");
    }
}

fn as_backup(server: &Redis) -> RedisDump {
    RedisDump { user: Some("backup".into()), password: Some(Secret::new("hunter2".into())), ..server.request() }
}

/// The user of docs/guides/least-privilege.md.
#[tokio::test]
async fn rights_passwords_and_lost_primaries_are_told_with_the_next_step() {
    let mut server = Redis::start(&["--enable-debug-command", "local"]);
    server.cli(&["acl", "setuser", "backup", "on", ">hunter2", "+psync", "+replconf", "+info"]);
    finds(&preflight(&as_backup(&server)).await, Verdict::Fine, "PSYNC is allowed", "");
    read(dump(as_backup(&server))).await.unwrap();
    server.cli(&["acl", "setuser", "backup", "-psync"]);
    finds(&preflight(&as_backup(&server)).await, Verdict::Problem, "it refuses PSYNC", "ACL SETUSER name +psync");
    server.cli(&["acl", "setuser", "backup", ">other", "<hunter2"]);
    finds(&preflight(&as_backup(&server)).await, Verdict::Problem, "WRONGPASS", "the user or the password");

    let replica = Redis::start(&["--replicaof", &format!("127.0.0.1 {}", server.port)]);
    until(|| replica.cli(&["info", "replication"]).contains("master_link_status:up"));
    server.process.kill();
    until(|| replica.cli(&["info", "replication"]).contains("master_link_status:down"));
    finds(&preflight(&replica.request()).await, Verdict::Problem, "lost its primary", "repair the link");
    finds(&preflight(&server.request()).await, Verdict::Problem, "refused", "see that it runs");
}

#[tokio::test]
async fn a_server_without_psync_and_one_that_cannot_write_are_told() {
    let server = Redis::start(&["--rename-command", "PSYNC", ""]);
    finds(&preflight(&server.request()).await, Verdict::Problem, "unknown command", "their own export");
    let server = Redis::start(&["--dbfilename", "dump.rdb"]);
    std::fs::create_dir(server.folder.path().join("dump.rdb")).unwrap();
    server.cli(&["set", "a", "b"]);
    server.cli(&["bgsave"]);
    until(|| server.cli(&["info", "persistence"]).contains("rdb_last_bgsave_status:err"));
    finds(&preflight(&server.request()).await, Verdict::Warning, "could not be written", "room on its disk");
}
