//! Redis and etcd over a folder, on ports of loopback.
//!
//! Invariant: a server is killed when it is dropped.
//! Never here: the code under test.

use std::net::TcpListener;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

const START_FOR_MAX: Duration = Duration::from_secs(60);

/// A server process, killed when dropped.
#[derive(Debug)]
pub struct Running(Child);

impl Running {
    /// Starts it; what it prints goes nowhere.
    pub fn start(command: &mut Command) -> Self {
        let command = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        Self(command.spawn().unwrap_or_else(|error| panic!("{command:?}: {error}")))
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A port of loopback that nobody listens on.
#[must_use]
pub fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr()).expect("a free port").port()
}

/// Waits until something is so.
pub fn until(what: &str, is_so: impl Fn() -> bool) {
    let began = Instant::now();
    while !is_so() {
        assert!(began.elapsed() < START_FOR_MAX, "{what} takes too long");
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// A Redis over a folder.
#[must_use]
pub fn redis(folder: &Path, port: u16, more: &[&str]) -> Running {
    let mut command = Command::new("redis-server");
    command.args(["--port", &port.to_string(), "--bind", "127.0.0.1", "--save", "", "--enable-debug-command", "local"]);
    let running = Running::start(command.arg("--dir").arg(folder).args(more));
    until("Redis", || redis_says(port, "ping") == "PONG");
    running
}

/// What it answers to a few words.
pub fn redis_says(port: u16, words: &str) -> String {
    let output = Command::new("redis-cli").args(["-p", &port.to_string()]).args(words.split(' ')).output();
    String::from_utf8_lossy(&output.expect("redis-cli runs").stdout).trim().to_owned()
}

/// One etcd member over a folder.
#[must_use]
pub fn etcd(folder: &Path, port: u16) -> Running {
    let (client, peer) = (format!("http://127.0.0.1:{port}"), format!("http://127.0.0.1:{}", free_port()));
    let mut command = Command::new("etcd");
    command.args(["--name", "one", "--listen-client-urls", &client, "--advertise-client-urls", &client]);
    command.args(["--listen-peer-urls", &peer, "--initial-advertise-peer-urls", &peer]);
    command.args(["--initial-cluster", &format!("one={peer}"), "--unsafe-no-fsync", "--data-dir"]).arg(folder);
    let running = Running::start(&mut command);
    until("etcd", || etcdctl(port, &["endpoint", "health"]).contains("is healthy"));
    running
}

/// What etcdctl prints.
pub fn etcdctl(port: u16, args: &[&str]) -> String {
    let endpoint = format!("127.0.0.1:{port}");
    let output = Command::new("etcdctl").env("ETCDCTL_API", "3").args(["--endpoints", &endpoint]).args(args).output();
    let output = output.expect("etcdctl runs");
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}
