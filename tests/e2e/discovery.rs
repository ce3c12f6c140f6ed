//! Which of several servers a job reads: by Patroni, and by a name that stands for many.
//!
//! Never here: what Patroni says in every state (see the tests of `source`).

use std::process::Command;

use harness::binary::{Host, Run as _, binary, is_root};
use harness::servers::patroni::Cluster;
use serde_json::Value;

fn host_with(sources: &str, names: &str) -> Host {
    let host = Host::with_repository();
    let (repository, password) = (host.repository(), host.path("password"));
    host.write(
        "backstay.toml",
        format!(
            "[repositories.main]\nurl = \"{}\"\npassword_file = \"{}\"\n{sources}\n[jobs.all]\nsources = [{names}]\n",
            repository.display(),
            password.display()
        ),
    );
    host
}

fn fact<'r>(report: &'r Value, name: &str, fact: &str) -> &'r Value {
    let all = report["components"].as_array().expect("components");
    &all.iter().find(|component| component["name"] == name).expect("is there")["facts"][fact]
}

#[test]
fn patroni_tells_the_servers_of_a_job_and_a_replica_is_read() {
    let cluster = Cluster::start();
    let (leader, follower) = cluster.roles();
    let _ = cluster.sql(leader, "create table t as select generate_series(1, 1000) n");
    let patroni = format!("patroni = [\"http://127.0.0.1:1\", \"http://127.0.0.1:{}\"]", cluster.rest[leader]);
    let host = host_with(
        &format!(
            "[sources.db]\nkind = \"postgres\"\nurl = \"postgres://owner@/postgres\"\n{patroni}\n\
             [sources.whole]\nkind = \"postgres-physical\"\nurl = \"postgres://owner@\"\n{patroni}\n"
        ),
        "\"db\", \"whole\"",
    );
    let check = host.backstay(["config", "check"]).current_dir(host.path("")).run().expect_code(0);
    let place = format!("postgres at 127.0.0.1:{}: standby", cluster.ports[follower]);
    assert!(check.text().matches(&place).count() == 2, "{check}");
    let report = host.backstay(["--json", "run", "all"]).current_dir(host.path("")).run().expect_code(0).json();
    assert_eq!(
        (fact(&report, "db", "is_standby"), fact(&report, "whole", "in_recovery")),
        (&"true".into(), &"true".into())
    );
}

/// A process, killed when dropped.
struct Redis(std::process::Child);

impl Redis {
    fn start(host: &Host, address: &str, port: u16, more: &[&str]) -> Self {
        let folder = host.path(address);
        std::fs::create_dir(&folder).expect("a new folder");
        let mut command = Command::new("redis-server");
        command.args(["--bind", address, "--port", &port.to_string(), "--save", "", "--dir"]).arg(&folder).args(more);
        let running = Self(command.stdout(std::process::Stdio::null()).spawn().expect("redis-server starts"));
        for _ in 0..200 {
            if info(address, port).contains("role:") {
                return running;
            }
            std::thread::sleep(std::time::Duration::from_millis(50));
        }
        panic!("Redis does not start");
    }
}

impl Drop for Redis {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn info(address: &str, port: u16) -> String {
    let mut command = Command::new("redis-cli");
    let output = command.args(["-h", address, "-p", &port.to_string(), "info", "replication"]).output();
    String::from_utf8_lossy(&output.expect("redis-cli runs").stdout).into_owned()
}

/// Hands on what comes to a port of an address to the same machine's port `to`.
fn forward(address: &str, port: u16, to: u16) {
    let listener = std::net::TcpListener::bind((address, port)).expect("the port is free now");
    std::thread::Builder::new()
        .spawn(move || {
            for client in listener.incoming().flatten() {
                let server = std::net::TcpStream::connect(("127.0.0.1", to)).expect("the server answers");
                for (mut from, mut to) in
                    [(client.try_clone().expect("clones"), server.try_clone().expect("clones")), (server, client)]
                {
                    std::thread::Builder::new()
                        .spawn(move || {
                            let _ = std::io::copy(&mut from, &mut to);
                            let _ = to.shutdown(std::net::Shutdown::Both);
                        })
                        .expect("a thread");
                }
            }
        })
        .expect("a thread");
}

#[test]
fn every_address_of_a_name_is_tried_and_the_one_that_is_wanted_is_read() {
    assert!(is_root(), "a name of our own takes root");
    let cluster = Cluster::start();
    let (leader, follower) = cluster.roles();
    let port = std::net::TcpListener::bind("127.0.0.1:0").and_then(|one| one.local_addr()).expect("a port").port();
    let host = host_with(
        &format!(
            "[sources.cache]\nkind = \"redis\"\nurls = [\"redis://many.example:{port}\"]\n\
             [sources.standby]\nkind = \"postgres-physical\"\n\
             url = \"postgres://owner@many.example:{port}?target_session_attrs=standby\"\n"
        ),
        "\"cache\"",
    );
    // 127.0.0.3 is where nobody listens, 127.0.0.4 the primary, 127.0.0.5 a replica of it.
    let _primary = Redis::start(&host, "127.0.0.4", port, &[]);
    let _replica = Redis::start(&host, "127.0.0.5", port, &["--replicaof", &format!("127.0.0.4 {port}")]);
    for _ in 0..200 {
        if info("127.0.0.5", port).contains("master_link_status:up") {
            break;
        }
        std::thread::sleep(std::time::Duration::from_millis(50));
    }
    host.write("hosts", "127.0.0.3 many.example\n127.0.0.4 many.example\n127.0.0.5 many.example\n");
    let named = |words: &[&str]| {
        let mut command = Command::new("unshare");
        let inside = "mount --bind hosts /etc/hosts && exec \"$@\"";
        command.args(["--mount", "sh", "-c", inside, "sh"]).arg(binary()).args(words).current_dir(host.path(""));
        for (name, value) in host.backstay(["x"]).get_envs() {
            match value {
                Some(value) => command.env(name, value),
                None => command.env_remove(name),
            };
        }
        command
    };
    let report = named(&["--json", "run", "all"]).run().expect_code(0).json();
    assert_eq!(fact(&report, "cache", "role"), "slave", "{report}");
    let server = fact(&report, "cache", "server").as_str().expect("a server");
    assert!(server.contains("many.example") && server.contains("127.0.0.5"), "{server}");
    assert_eq!(report["components"][0]["warnings"], serde_json::json!([]), "one address need not answer: {report}");

    // `localhost` of a host with two protocols, where the server listens on one of them.
    let (config, hosts) = ("backstay.toml", std::fs::read_to_string(host.path("hosts")).expect("was written"));
    let text = std::fs::read_to_string(host.path(config)).expect("was written");
    host.write(config, text.replace("redis://many.example", "redis://localhost"));
    host.write("hosts", "::1 localhost\n127.0.0.4 localhost\n");
    let report = named(&["--json", "run", "all"]).run().expect_code(0).json();
    let server = fact(&report, "cache", "server").as_str().expect("a server");
    assert!(server.contains("localhost") && server.contains("127.0.0.4"), "{server}");
    assert_eq!(report["components"][0]["warnings"], serde_json::json!([]), "{report}");
    host.write(config, text);
    host.write("hosts", hosts);

    // The same for Postgres: both servers behind one name and port, of which only one is a standby.
    drop((_primary, _replica));
    forward("127.0.0.4", port, cluster.ports[leader]);
    forward("127.0.0.5", port, cluster.ports[follower]);
    let check = named(&["config", "check"]).run().expect_code(1); // Redis is gone
    assert!(check.text().contains(&format!("many.example:{port} (127.0.0.5): standby")), "{check}");
}
