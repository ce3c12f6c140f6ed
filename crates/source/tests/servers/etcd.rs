//! etcd by snapshot and back, against private members.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use source::etcd::{EtcdSnapshot, RestorePlan, RestoreTool, snapshot};
use source::events::Layout;
use source::{Fault, Secret, SourceError, Tls};
use tempfile::TempDir;

use crate::running::{Running, failed, free_port, newer_root, printed, read, read_with, until};

mod preflight;

struct Etcd {
    folder: TempDir,
    port: u16,
    process: Running,
    scheme: &'static str,
}

impl Etcd {
    fn start() -> Self {
        Self::start_in(TempDir::with_prefix("backstay-etcd-").unwrap(), "http", "etcd", &[])
    }

    fn start_in(folder: TempDir, scheme: &'static str, program: impl AsRef<std::ffi::OsStr>, args: &[&str]) -> Self {
        let (port, peer) = (free_port(), free_port());
        let client = format!("{scheme}://127.0.0.1:{port}");
        let peer = format!("http://127.0.0.1:{peer}");
        let mut command = Command::new(program);
        command.arg("--data-dir").arg(folder.path().join("data")).args(["--name", "one"]);
        command.args(["--listen-client-urls", &client, "--advertise-client-urls", &client]);
        command.args(["--listen-peer-urls", &peer]).args(args);
        if args.is_empty() {
            command.args(["--initial-advertise-peer-urls", &peer, "--initial-cluster", &format!("one={peer}")]);
        }
        let process = Running::start(&mut command);
        let server = Self { folder, port, process, scheme };
        if scheme == "http" {
            until(|| server.ctl_output(&["endpoint", "health"]).status.success());
        } else {
            until(|| std::net::TcpStream::connect(("127.0.0.1", port)).is_ok());
        }
        server
    }

    fn url(&self) -> String {
        format!("{}://127.0.0.1:{}", self.scheme, self.port)
    }

    fn request(&self) -> EtcdSnapshot {
        EtcdSnapshot::new(vec![self.url()])
    }

    fn ctl_command(&self, args: &[&str]) -> Command {
        let mut command = Command::new("etcdctl");
        command.env("ETCDCTL_API", "3").args(["--endpoints", &self.url()]).args(args);
        command
    }

    fn ctl_output(&self, args: &[&str]) -> std::process::Output {
        self.ctl_command(args).output().unwrap()
    }

    fn ctl(&self, args: &[&str]) -> String {
        printed(&mut self.ctl_command(args))
    }

    fn fill(&self, count: u32) {
        for n in 0..count {
            self.ctl(&["put", &format!("/key/{n}"), &"value ".repeat(1000)]);
        }
    }
}

fn plan(folder: &Path, data: &[u8], peer: &str) -> RestorePlan {
    std::fs::write(folder.join("snapshot.db"), data).unwrap();
    RestorePlan {
        snapshot: folder.join("snapshot.db"),
        data_folder: folder.join("data"),
        name: "one".into(),
        initial_cluster: vec![("one".into(), peer.into())],
        cluster_token: "restored-1".into(),
        peer_urls: vec![peer.into()],
        bump_revision: None,
    }
}

fn run(command: &source::command::CommandLine) {
    let mut started = Command::new(&command.program);
    printed(started.args(&command.args).envs(command.env.iter().cloned()));
}

#[tokio::test]
async fn a_snapshot_is_verified_and_restores() {
    let server = Etcd::start();
    server.fill(30);
    let read = read(snapshot(server.request())).await.unwrap();
    let entry = read.entry("snapshot.db");
    assert_eq!(entry.layout, Layout::Pages(4096));
    assert_eq!(entry.data.len() % 512, 32);
    assert_eq!((read.fact("server_version"), read.fact("revision"), read.fact("role")), ("3.4.23", "31", "leader"));
    assert!(u64::from_str_radix(read.fact("member_id"), 16).is_ok() && read.warnings.is_empty());
    let folder = TempDir::with_prefix("backstay-etcd-").unwrap();
    let peer = format!("http://127.0.0.1:{}", free_port());
    let tool = RestoreTool::find(&[]).await.unwrap();
    let mut wanted = plan(folder.path(), &entry.data, &peer);
    run(&tool.command(&wanted).unwrap());
    let restored = Etcd::start_in(folder, "http", "etcd", &["--initial-advertise-peer-urls", &peer]);
    let all = ["get", "--prefix", "/key/"];
    assert_eq!(restored.ctl(&all), server.ctl(&all));
    // This etcdctl is from before revisions could be bumped.
    wanted.bump_revision = Some(1000);
    let refused = tool.command(&wanted).unwrap_err();
    assert!(matches!(&refused, SourceError::Server { fault: Fault::Version, .. }), "{refused}");
}

#[tokio::test]
async fn an_empty_server_has_a_snapshot_and_dead_endpoints_are_passed_over() {
    let server = Etcd::start();
    let mut request = server.request();
    request.endpoints.insert(0, format!("http://user:hidden@127.0.0.1:{}", free_port()));
    let read = read(snapshot(request.clone())).await.unwrap();
    assert_eq!(read.fact("revision"), "1");
    assert!(read.warnings.len() == 1 && !read.warnings[0].contains("hidden"), "{:?}", read.warnings);
    request.endpoints.pop();
    let words = failed(crate::running::read(snapshot(request)).await, Fault::Unreachable);
    assert!(words.contains("refused") && !words.contains("hidden"), "{words}");
}

#[tokio::test]
async fn authentication_decides_the_fault() {
    let server = Etcd::start();
    let mut request = server.request();
    request.user = Some(("root".into(), Secret::new("right".into())));
    failed(read(snapshot(request.clone())).await, Fault::Setting);
    for args in [
        ["user", "add", "root:right"].as_slice(),
        &["user", "grant-role", "root", "root"],
        &["user", "add", "reader:secret"],
        &["auth", "enable"],
    ] {
        server.ctl(args);
    }
    read(snapshot(request.clone())).await.unwrap();
    request.user = Some(("root".into(), Secret::new("wrong-one".into())));
    let words = failed(read(snapshot(request.clone())).await, Fault::Login);
    assert!(!words.contains("wrong-one"), "{words}");
    request.user = None;
    failed(read(snapshot(request.clone())).await, Fault::Login);
    request.user = Some(("reader".into(), Secret::new("secret".into())));
    let words = failed(read(snapshot(request)).await, Fault::Right);
    assert!(words.contains("role root"), "{words}");
}

#[tokio::test]
async fn a_member_killed_in_mid_stream_leaves_no_whole_snapshot() {
    let mut server = Etcd::start();
    let value = "x".repeat(100_000);
    for n in 0..150 {
        server.ctl(&["put", &format!("/large/{n}"), &value]);
    }
    let request = server.request();
    let mut is_killed = false;
    let read_part = read_with(snapshot(request.clone()), |len| {
        if len > 100_000 && !is_killed {
            is_killed = true;
            server.process.kill();
        }
    });
    failed(read_part.await, Fault::Interrupted);
    failed(read(snapshot(request)).await, Fault::Unreachable);
}

#[tokio::test]
async fn a_follower_is_preferred_and_members_that_are_down_are_passed_over() {
    let names = ["a", "b", "c"];
    let peers: Vec<String> = names.iter().map(|_| format!("http://127.0.0.1:{}", free_port())).collect();
    let clients: Vec<String> = names.iter().map(|_| format!("http://127.0.0.1:{}", free_port())).collect();
    let cluster: Vec<String> = names.iter().zip(&peers).map(|(name, peer)| format!("{name}={peer}")).collect();
    let folder = TempDir::with_prefix("backstay-etcd-").unwrap();
    let start = |index: usize| {
        let mut command = Command::new("etcd");
        command.args(["--name", names[index], "--data-dir"]).arg(folder.path().join(names[index]));
        command.args(["--listen-client-urls", &clients[index], "--advertise-client-urls", &clients[index]]);
        command.args(["--listen-peer-urls", &peers[index], "--initial-advertise-peer-urls", &peers[index]]);
        Running::start(command.args(["--initial-cluster", &cluster.join(",")]))
    };
    let mut members: Vec<Running> = (0..3).map(start).collect();
    let ctl = |args: &[&str]| {
        let mut command = Command::new("etcdctl");
        command.env("ETCDCTL_API", "3").arg("--endpoints").arg(clients.join(",")).args(args);
        command.output().unwrap()
    };
    until(|| ctl(&["endpoint", "health"]).status.success());
    assert!(ctl(&["put", "/key", "value"]).status.success());
    let mut request = EtcdSnapshot::new(clients.clone());
    let read_one = read(snapshot(request.clone())).await.unwrap();
    assert_eq!((read_one.fact("role"), read_one.fact("revision")), ("follower", "2"));
    members[0].kill();
    let without_one = read(snapshot(request.clone())).await.unwrap();
    assert!(without_one.warnings.iter().any(|warning| warning.contains(&clients[0])), "{:?}", without_one.warnings);
    request.endpoints.remove(0);
    assert!(read(snapshot(request)).await.unwrap().warnings.is_empty());
}

#[tokio::test]
async fn something_else_than_etcd_is_given_up_in_time() {
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let mut request = EtcdSnapshot::new(vec![format!("http://{}", silent.local_addr().unwrap())]);
    request.idle_for = Duration::from_millis(500);
    failed(read(snapshot(request)).await, Fault::Busy);
}

#[tokio::test]
async fn tls_is_checked_against_our_own_authority() {
    let folder = TempDir::with_prefix("backstay-etcd-").unwrap();
    let path = |name: &str| folder.path().join(name).display().to_string();
    let mut made = Command::new("openssl");
    made.args(["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "3650"]);
    made.args(["-subj", "/CN=etcd", "-addext", "subjectAltName=IP:127.0.0.1"]);
    made.args(["-addext", "basicConstraints=critical,CA:FALSE"]);
    printed(made.args(["-keyout", &path("key"), "-out", &path("cert")]));
    let (cert, key) = (path("cert"), path("key"));
    let peer = format!("http://127.0.0.1:{}", free_port());
    let cluster = format!("one={peer}");
    let settings = ["--cert-file", &cert, "--key-file", &key, "--initial-cluster", &cluster];
    let settings = [settings.as_slice(), &["--initial-advertise-peer-urls", &peer]].concat();
    let server = Etcd::start_in(folder, "https", "etcd", &settings);
    assert!(server.folder.path().exists());
    let mut request = server.request();
    request.tls = Tls { authorities: Some(cert.into()), ..Tls::default() };
    let read_all = read(snapshot(request.clone())).await.unwrap();
    assert_eq!(read_all.fact("revision"), "1");
    request.tls = Tls::default();
    let words = failed(read(snapshot(request)).await, Fault::Unreachable);
    assert!(words.contains("ertificate"), "{words}");
}

#[tokio::test]
async fn a_newer_server_is_read_and_restored_with_revisions_ahead() {
    let root = newer_root();
    let programs: PathBuf = root.join("usr/bin");
    let folder = TempDir::with_prefix("backstay-etcd-").unwrap();
    let server = Etcd::start_in(folder, "http", programs.join("etcd"), &[]);
    server.fill(5);
    let read = read(snapshot(server.request())).await.unwrap();
    assert!(read.fact("server_version").starts_with("3.5.") || read.fact("server_version").starts_with("3.6."));
    let folder = TempDir::with_prefix("backstay-etcd-").unwrap();
    let peer = format!("http://127.0.0.1:{}", free_port());
    let tool = RestoreTool::find(std::slice::from_ref(&programs)).await.unwrap();
    let mut wanted = plan(folder.path(), &read.entry("snapshot.db").data, &peer);
    wanted.bump_revision = Some(1_000_000);
    run(&tool.command(&wanted).unwrap());
    let restored = Etcd::start_in(folder, "http", programs.join("etcd"), &["--initial-advertise-peer-urls", &peer]);
    assert_eq!(restored.ctl(&["get", "/key/3"]), server.ctl(&["get", "/key/3"]));
    let status = restored.ctl(&["endpoint", "status", "-w", "json"]);
    let status: serde_json::Value = serde_json::from_str(&status).unwrap();
    assert!(status[0]["Status"]["header"]["revision"].as_u64().unwrap() > 1_000_000, "{status}");
}
