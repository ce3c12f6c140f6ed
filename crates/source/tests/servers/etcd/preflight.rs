//! Whether an etcd member could be read.

use std::process::Command;

use source::etcd::{EtcdSnapshot, preflight, snapshot};
use source::{Secret, Verdict};
use tempfile::TempDir;

use super::Etcd;
use crate::preflight::finds;
use crate::running::{Running, free_port, read, until};

#[tokio::test]
async fn a_member_that_may_be_read_is_fine_and_one_that_is_down_is_told() {
    let server = Etcd::start();
    server.fill(5);
    let mut request = server.request();
    finds(&preflight(&request).await, Verdict::Fine, "leader of version 3.4", "");
    request.endpoints.push("http://127.0.0.1:1".into());
    finds(&preflight(&request).await, Verdict::Warning, "127.0.0.1:1", "repair the member");
    request.endpoints.remove(0);
    finds(&preflight(&request).await, Verdict::Problem, "refused", "see that it runs");
}

/// The user of docs/guides/least-privilege.md.
#[tokio::test]
async fn a_user_without_the_role_root_is_told_which_role_it_takes() {
    let server = Etcd::start();
    for args in [
        ["user", "add", "root:right"].as_slice(),
        &["user", "grant-role", "root", "root"],
        &["user", "add", "backup:hunter2"],
        &["role", "add", "everything"],
        &["role", "grant-permission", "everything", "--prefix=true", "read", ""],
        &["user", "grant-role", "backup", "everything"],
        &["auth", "enable"],
    ] {
        server.ctl(args);
    }
    let mut request = server.request();
    finds(&preflight(&request).await, Verdict::Problem, "authentication is on", "grant-role NAME root");
    request.user = Some(("backup".into(), Secret::new("hunter2".into())));
    finds(&preflight(&request).await, Verdict::Problem, "role root", "grant-role NAME root");
    server.ctl(&["--user", "root:right", "user", "grant-role", "backup", "root"]);
    finds(&preflight(&request).await, Verdict::Fine, "lets us take a snapshot", "");
    read(snapshot(request.clone())).await.unwrap();
    request.user = Some(("backup".into(), Secret::new("wrong".into())));
    finds(&preflight(&request).await, Verdict::Problem, "authentication", "password");
}

#[tokio::test]
async fn a_member_without_a_quorum_is_read_and_says_that_it_may_be_behind() {
    let folder = TempDir::with_prefix("backstay-etcd-").unwrap();
    let peers = [0, 1].map(|_| format!("http://127.0.0.1:{}", free_port()));
    let clients = [0, 1].map(|_| format!("http://127.0.0.1:{}", free_port()));
    let cluster = format!("a={},b={}", peers[0], peers[1]);
    let mut members: Vec<Running> = ["a", "b"]
        .iter()
        .enumerate()
        .map(|(index, name)| {
            let mut command = Command::new("etcd");
            command.args(["--name", name, "--data-dir"]).arg(folder.path().join(name));
            command.args(["--listen-client-urls", &clients[index], "--advertise-client-urls", &clients[index]]);
            command.args(["--listen-peer-urls", &peers[index], "--initial-advertise-peer-urls", &peers[index]]);
            Running::start(command.args(["--initial-cluster", &cluster]))
        })
        .collect();
    let ctl = |args: &[&str]| {
        let mut command = Command::new("etcdctl");
        command.env("ETCDCTL_API", "3").args(["--endpoints", &clients[0]]).args(args);
        command.output().unwrap()
    };
    until(|| ctl(&["put", "/key", "kept"]).status.success());
    members[1].kill();
    let request = EtcdSnapshot::new(vec![clients[0].clone()]);
    let has_no_leader = |told: &source::Preflight| told.findings.iter().any(|one| one.what.contains("knows no leader"));
    let mut told = preflight(&request).await;
    for _ in 0..100 {
        if has_no_leader(&told) {
            break;
        }
        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
        told = preflight(&request).await;
    }
    finds(&told, Verdict::Warning, "knows no leader", "quorum");
    let read_alone = read(snapshot(request)).await.unwrap();
    assert!(read_alone.warnings.iter().any(|warning| warning.contains("no leader")), "{:?}", read_alone.warnings);
    let data = &read_alone.entry("snapshot.db").data;
    assert!(data.windows(4).any(|window| window == b"kept"), "what was committed is in it");
}
