//! A cluster that a real Patroni keeps: the replica is read, and the leader where there is no other.

use source::dump::{Dump, Selection, Server as DumpServer, dump};
use source::postgres::{BaseBackup, Patroni, Server as Reached, base_backup, preflight};
use source::{Fault, SourceError, Verdict};
use tempfile::TempDir;

use crate::patroni_cluster::Cluster;
use crate::preflight::finds;
use crate::running::read;
use crate::sink::write;

#[tokio::test]
async fn a_replica_is_read_and_the_leader_where_there_is_none() {
    let mut cluster = Cluster::start();
    let (leader, follower) = cluster.roles();
    let _ = cluster.sql(leader, "create table t as select generate_series(1, 1000) n");
    let endpoint = |rest: u16| format!("http://127.0.0.1:{rest}");
    let patroni = Patroni {
        endpoints: vec![endpoint(1), endpoint(cluster.rest[0]), endpoint(cluster.rest[1])],
        ..Patroni::default()
    };
    let shown = |hosts: Vec<source::postgres::Host>| hosts.iter().map(ToString::to_string).collect::<Vec<_>>();
    let at = |index: usize| format!("127.0.0.1:{}", cluster.ports[index]);
    let (leads, follows) = (at(leader), at(follower));
    assert_eq!(shown(patroni.hosts().await.unwrap()), [follows.as_str(), leads.as_str()]);

    let mut reached = Reached::new(Vec::new(), "owner");
    reached.patroni = Some(patroni.clone());
    finds(&preflight(&reached, false).await, Verdict::Fine, &format!("{follows}: standby"), "");
    let target = TempDir::new().unwrap();
    let told = write(base_backup(reached.clone(), BaseBackup::default()), target.path(), None).await.unwrap();
    assert_eq!(told.facts["in_recovery"], "true");
    let dumped = Dump {
        server: DumpServer { patroni: Some(patroni.clone()), user: Some("owner".into()), ..DumpServer::default() },
        selection: Selection { databases: vec!["postgres".into()], ..Selection::default() },
        ..Dump::default()
    };
    let one = read(dump(dumped.clone())).await.unwrap();
    assert_eq!((one.fact("is_standby"), one.fact("server")), ("true", &*format!("postgres at {follows}")));

    cluster.stop(follower);
    cluster.until(|told| !told.contains("\"role\": \"replica\", \"state\": \"running\""));
    let target = TempDir::new().unwrap();
    let told = write(base_backup(reached.clone(), BaseBackup::default()), target.path(), None).await.unwrap();
    assert_eq!(told.facts["in_recovery"], "false");
    assert_eq!(read(dump(dumped)).await.unwrap().fact("is_standby"), "false");

    cluster.stop(leader);
    let error = patroni.hosts().await.unwrap_err();
    assert!(matches!(&error, SourceError::Server { fault: Fault::Unreachable | Fault::Missing, .. }), "{error}");
    finds(&preflight(&reached, false).await, Verdict::Problem, "patroni at", "see that it runs");
}

#[tokio::test]
async fn what_is_not_patroni_is_said_so() {
    let listener = tokio::net::TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
    let endpoints = vec![format!("http://{}", listener.local_addr().unwrap())];
    let served = tokio::spawn(async move {
        use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
        for body in ["<html>", "{\"members\": []}"] {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut asked = [0; 1000];
            let _ = stream.read(&mut asked).await.unwrap();
            let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\nConnection: close\r\n\r\n", body.len());
            stream.write_all((head + body).as_bytes()).await.unwrap();
        }
    });
    let patroni = Patroni { endpoints, ..Patroni::default() };
    let error = patroni.hosts().await.unwrap_err().to_string();
    assert!(error.contains("not that of Patroni"), "{error}");
    let error = patroni.hosts().await.unwrap_err().to_string();
    assert!(error.contains("none of the cluster's servers runs"), "{error}");
    served.await.unwrap();
}
