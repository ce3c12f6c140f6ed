//! A cluster that Patroni keeps: an etcd, and two Postgres servers, one of which follows the other.
//!
//! Invariant: all is stopped, and its folder removed, when it is dropped.
//! Never here: the code under test.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

const START_FOR_MAX: Duration = Duration::from_secs(120);

/// A running cluster.
#[derive(Debug)]
pub struct Cluster {
    /// Ports of the REST interfaces of both.
    pub rest: [u16; 2],
    /// Ports of both Postgres servers.
    pub ports: [u16; 2],
    members: [Child; 2],
    etcd: Child,
    folder: TempDir,
}

impl Cluster {
    /// Makes a cluster with the superuser `owner`, and waits until one leads and the other follows.
    #[must_use]
    pub fn start() -> Self {
        let folder = TempDir::with_prefix("backstay-patroni-").expect("a temporary folder");
        fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).expect("our own folder");
        let [client, peer, rest_a, rest_b, port_a, port_b] = free_ports();
        let (client_url, peer_url) = (format!("http://127.0.0.1:{client}"), format!("http://127.0.0.1:{peer}"));
        let mut etcd = Command::new("etcd");
        etcd.args(["--name", "one", "--listen-client-urls", &client_url, "--advertise-client-urls", &client_url]);
        etcd.args(["--listen-peer-urls", &peer_url, "--initial-advertise-peer-urls", &peer_url]);
        etcd.args(["--initial-cluster", &format!("one={peer_url}"), "--unsafe-no-fsync", "--data-dir"]);
        let etcd = spawn(etcd.arg(folder.path().join("etcd")));
        let (rest, ports) = ([rest_a, rest_b], [port_a, port_b]);
        let members = [0, 1].map(|index| member(folder.path(), index, client, rest[index], ports[index]));
        let cluster = Self { rest, ports, members, etcd, folder };
        cluster.until(|told| told.contains("\"role\": \"leader\"") && has_follower(told));
        cluster
    }

    /// What Patroni says of the cluster.
    #[must_use]
    pub fn told(&self) -> String {
        let asked = self.rest.iter().map(|rest| {
            let url = format!("http://127.0.0.1:{rest}/cluster");
            let output = Command::new("curl").args(["-s", "--max-time", "5", &url]).output().expect("curl runs");
            String::from_utf8_lossy(&output.stdout).into_owned()
        });
        asked.into_iter().find(|told| !told.is_empty()).unwrap_or_default()
    }

    /// Waits until Patroni says something.
    pub fn until(&self, is_so: impl Fn(&str) -> bool) {
        let began = Instant::now();
        while !is_so(&self.told()) {
            assert!(began.elapsed() < START_FOR_MAX, "the cluster is not as it should be: {}", self.told());
            std::thread::sleep(Duration::from_millis(200));
        }
    }

    /// The index of the leader, and of the other.
    #[must_use]
    pub fn roles(&self) -> (usize, usize) {
        let leads = |port: u16| sql(port, "select not pg_is_in_recovery()") == "t";
        if leads(self.ports[0]) { (0, 1) } else { (1, 0) }
    }

    /// Runs SQL on one of them.
    #[must_use]
    pub fn sql(&self, index: usize, text: &str) -> String {
        sql(self.ports[index], text)
    }

    /// Stops a member with its server, in good order.
    pub fn stop(&mut self, index: usize) {
        stop(&mut self.members[index]);
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        self.members.iter_mut().for_each(stop);
        let _ = self.etcd.kill();
        let _ = self.etcd.wait();
        // A server whose Patroni was killed goes on.
        for name in ["0", "1"] {
            let pid = fs::read_to_string(self.folder.path().join(name).join("data/postmaster.pid")).unwrap_or_default();
            if let Some(pid) = pid.lines().next().and_then(|pid| pid.parse().ok()).and_then(Pid::from_raw) {
                let _ = kill_process(pid, Signal::QUIT);
            }
        }
    }
}

fn has_follower(told: &str) -> bool {
    let follower = told.split("{\"name\"").find(|member| member.contains("\"role\": \"replica\"")).unwrap_or_default();
    (follower.contains("\"running\"") || follower.contains("\"streaming\"")) && follower.contains("\"lag\": 0")
}

fn member(folder: &Path, index: usize, etcd: u16, rest: u16, port: u16) -> Child {
    let own = folder.join(index.to_string());
    fs::create_dir(&own).expect("a new folder");
    let (own_shown, is_root) = (own.display(), rustix::process::geteuid().is_root());
    let programs = fs::read_dir("/usr/lib/postgresql").expect("Postgres is installed").flatten();
    let programs = programs.map(|entry| entry.path().join("bin")).max().expect("Postgres is installed");
    let config = format!(
        r#"{{"scope": "demo", "name": "m{index}",
        "restapi": {{"listen": "127.0.0.1:{rest}", "connect_address": "127.0.0.1:{rest}"}},
        "etcd3": {{"host": "127.0.0.1:{etcd}"}},
        "bootstrap": {{"dcs": {{"ttl": 20, "loop_wait": 1, "retry_timeout": 3}},
            "initdb": [{{"encoding": "UTF8"}}, {{"locale": "C"}}, "data-checksums", "no-sync"],
            "pg_hba": ["local all all trust", "host all all 127.0.0.1/32 trust",
                "host replication all 127.0.0.1/32 trust"]}},
        "postgresql": {{"listen": "127.0.0.1:{port}", "connect_address": "127.0.0.1:{port}",
            "data_dir": "{own_shown}/data", "bin_dir": "{}", "pgpass": "{own_shown}/pgpass",
            "authentication": {{"replication": {{"username": "replicator", "password": "x"}},
                "superuser": {{"username": "owner", "password": "x"}}}},
            "parameters": {{"unix_socket_directories": "{own_shown}", "fsync": "off"}}}}}}"#,
        programs.display()
    );
    fs::write(own.join("patroni.yml"), config).expect("our own folder");
    let mut command = Command::new(if is_root { "runuser" } else { "patroni" });
    if is_root {
        let given = Command::new("chown").args(["-R", "postgres:"]).arg(&own).status();
        assert!(given.is_ok_and(|status| status.success()), "the folder cannot be given away");
        command.args(["-u", "postgres", "--", "patroni"]);
    }
    spawn(command.arg(own.join("patroni.yml")).current_dir("/"))
}

fn spawn(command: &mut Command) -> Child {
    let quiet = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    quiet.spawn().unwrap_or_else(|error| panic!("{command:?} does not start: {error}"))
}

fn stop(child: &mut Child) {
    if let Some(pid) = i32::try_from(child.id()).ok().and_then(Pid::from_raw)
        && matches!(child.try_wait(), Ok(None))
    {
        let _ = kill_process(pid, Signal::TERM);
        let _ = child.wait();
    }
}

fn sql(port: u16, text: &str) -> String {
    let mut command = Command::new("psql");
    command.args(["-X", "-q", "-A", "-t", "-h", "127.0.0.1", "-U", "owner", "-d", "postgres"]);
    let output = command.args(["-p", &port.to_string(), "-c", text]).output().expect("psql runs");
    String::from_utf8_lossy(&output.stdout).trim().to_owned()
}

fn free_ports<const N: usize>() -> [u16; N] {
    let listeners = [(); N].map(|()| std::net::TcpListener::bind("127.0.0.1:0").expect("a free port"));
    listeners.map(|listener| listener.local_addr().expect("an address").port())
}
