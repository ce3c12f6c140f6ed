//! What happens to a server, or to the repository's disk, just while a job reads it: nothing is committed that is not whole.
//!
//! Invariant: the moment is after the first megabyte of the server, and before its last.
//! Never here: servers that are wrong from the start (see `bad_sources`).

use std::io::Write as _;
use std::process::{Command, Stdio};

use harness::binary::{Host, Run as _, is_root};
use harness::mount::SmallDisk;
use harness::running::Running;
use harness::servers::gate::Gate;
use harness::servers::postgres::{Server, Version};
use harness::servers::stores::{etcd, etcdctl, free_port, redis, redis_says};

/// What the gate lets pass: less than any of the servers here has to say.
const PASSES: u64 = 1 << 20;
/// 40 MB that do not compress.
const NOISE: &str = "create table noise as select sha512(random()::text::bytea) as a from generate_series(1, 400000)";

/// A file with one source, a job of its own, which is reached by the gate.
fn configure(host: &Host, source: &str) {
    let (repository, password) = (host.repository(), host.path("password"));
    host.write(
        "backstay.toml",
        format!(
            "[repositories.main]\nurl = \"{}\"\npassword_file = \"{}\"\n[sources.db]\n{source}\n[jobs.db]\nsources = [\"db\"]\n",
            repository.display(),
            password.display()
        ),
    );
}

fn command(host: &Host) -> Command {
    let mut command = host.backstay(["run", "db"]);
    command.current_dir(host.path(""));
    command
}

/// Backs up a server that something happens to while the gate holds its bytes back; that must fail for this reason.
#[track_caller]
fn fails_when(host: &Host, gate: &Gate, happens: impl FnOnce(), reasons: &[&str]) {
    let before = host.snapshots();
    let mut running = Running::start(command(host), false);
    running.wait_until("the gate", || gate.is_reached());
    happens();
    gate.open();
    let ran = running.finish().0.expect_code(2);
    assert!(reasons.iter().any(|reason| ran.stderr.contains(reason)), "none of {reasons:?}: {ran}");
    assert!(ran.stderr.contains("hint: "), "{ran}");
    assert_eq!(host.snapshots(), before, "nothing is committed, and what was there stays");
    host.check();
}

fn own_postgres(settings: &[&str]) -> Server {
    let version = Version::all().into_iter().find(|version| version.major == 15);
    Server::start(&version.expect("the machine's own Postgres"), settings)
}

#[test]
fn postgres_killed_in_mid_stream_or_out_of_its_log_is_no_snapshot() {
    // Without a slot, the log that the backup needs goes with the second checkpoint after it.
    let server = own_postgres(&["max_replication_slots = 0"]);
    let _ = server.sql(NOISE);
    let host = Host::with_repository();
    let physical = |port: u16| format!("kind = \"postgres-physical\"\nurl = \"postgres://owner@127.0.0.1:{port}\"");
    let logical = |port: u16| format!("kind = \"postgres\"\nurl = \"postgres://owner@127.0.0.1:{port}/postgres\"");
    configure(&host, &physical(server.port));
    command(&host).run().expect_code(0);

    let gate = Gate::before(server.port, PASSES);
    configure(&host, &physical(gate.port));
    let recycles = || {
        for _ in 0..6 {
            let _ = server.sql_lines("create table if not exists more (a int); insert into more values (1); select pg_switch_wal(); checkpoint;");
        }
    };
    fails_when(&host, &gate, recycles, &["WAL", "wal"]);

    for source in [physical, logical] {
        let gate = Gate::before(server.port, PASSES);
        configure(&host, &source(gate.port));
        let killed = || drop(server.stop("immediate"));
        fails_when(&host, &gate, killed, &["terminating", "terminated", "closed", "reset", "unexpected"]);
        server.run();
    }
    configure(&host, &logical(server.port));
    command(&host).run().expect_code(0);
}

#[test]
fn redis_and_etcd_killed_in_mid_stream_are_no_snapshot() {
    let host = Host::with_repository();
    for folder in ["redis", "etcd"] {
        std::fs::create_dir(host.path(folder)).expect("a new folder");
    }
    let (redis_port, etcd_port) = (free_port(), free_port());
    let server = redis(&host.path("redis"), redis_port, &[]);
    redis_says(redis_port, "debug populate 60000 key 700");
    let gate = Gate::before(redis_port, PASSES);
    configure(&host, &format!("kind = \"redis\"\nurls = [\"redis://127.0.0.1:{}\"]", gate.port));
    fails_when(&host, &gate, || drop(server), &["closed", "reset", "ended", "end of"]);

    let member = etcd(&host.path("etcd"), etcd_port);
    for key in 0..12 {
        let mut put = Command::new("etcdctl");
        put.env("ETCDCTL_API", "3").args([
            "--endpoints",
            &format!("127.0.0.1:{etcd_port}"),
            "put",
            &format!("key{key}"),
        ]);
        let mut put = put.stdin(Stdio::piped()).stdout(Stdio::null()).spawn().expect("etcdctl runs");
        put.stdin.take().expect("a pipe").write_all(&vec![b'x'; 1 << 20]).expect("it reads");
        assert!(put.wait().expect("it ends").success());
    }
    assert!(etcdctl(etcd_port, &["get", "key11"]).len() > 1 << 20);
    let gate = Gate::before(etcd_port, PASSES);
    configure(&host, &format!("kind = \"etcd\"\nendpoints = [\"http://127.0.0.1:{}\"]", gate.port));
    fails_when(&host, &gate, || drop(member), &["closed", "reset", "broke", "error"]);
}

#[test]
fn repository_that_fills_up_while_a_server_is_read_keeps_what_it_had() {
    assert!(is_root(), "a small disk takes root");
    let host = Host::new();
    let disk = SmallDisk::mount(&host.repository(), 20);
    host.backstay(["init"]).run().expect_code(0);
    let server = own_postgres(&[]);
    configure(&host, &format!("kind = \"postgres-physical\"\nurl = \"postgres://owner@127.0.0.1:{}\"", server.port));
    command(&host).run().expect_code(0);
    let _ = server.sql(NOISE);
    command(&host).run().expect_code(2).says(&["no space is left", "free some space"]);
    assert_eq!(host.snapshots().len(), 1);
    assert_eq!(server.sql("select count(*) from pg_replication_slots"), "0");
    disk.resize(200);
    command(&host).run().expect_code(0);
    host.check();
}
