//! Redis and Valkey by replication and back, against private servers.

use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use source::events::Layout;
use source::file_sink::FileSink as _;
use source::redis::{Address, RdbRestore, RedisDump, dump};
use source::{Fault, Secret, SourceError, Tls};
use tempfile::TempDir;

use crate::running::{Running, failed, free_port, newer_root, printed, read, read_with, until};

mod aof;
mod preflight;

struct Redis {
    folder: TempDir,
    port: u16,
    process: Running,
    root: Option<PathBuf>,
}

impl Redis {
    fn start(settings: &[&str]) -> Self {
        Self::start_in(TempDir::with_prefix("backstay-redis-").unwrap(), settings)
    }

    fn start_in(folder: TempDir, settings: &[&str]) -> Self {
        let port = free_port();
        let mut command = Command::new("redis-server");
        command.args(["--bind", "127.0.0.1", "--save", "", "--port", &port.to_string(), "--dir"]).arg(folder.path());
        let process = Running::start(command.args(settings));
        Self { folder, port, process, root: None }.answering()
    }

    /// The server of another system, in its folder.
    fn start_newer(root: &Path, program: &str, settings: &[&str]) -> Self {
        let folder = TempDir::with_prefix_in("backstay-redis-", root.join("tmp")).unwrap();
        let port = free_port();
        let mut command = Command::new("chroot");
        let dir = Path::new("/").join(folder.path().strip_prefix(root).unwrap());
        command.arg(root).arg(program).args(["--bind", "127.0.0.1", "--save", "", "--port", &port.to_string()]);
        let process = Running::start(command.arg("--dir").arg(dir).args(settings));
        Self { folder, port, process, root: Some(root.to_owned()) }.answering()
    }

    fn answering(self) -> Self {
        until(|| {
            let mut command = Command::new("redis-cli");
            command.args(["-p", &self.port.to_string(), "PING"]);
            command.output().is_ok_and(|output| {
                let said = String::from_utf8_lossy(&output.stdout).into_owned();
                said.contains("PONG") || said.contains("NOAUTH")
            })
        });
        self
    }

    fn cli(&self, words: &[&str]) -> String {
        printed(Command::new("redis-cli").args(["-p", &self.port.to_string()]).args(words)).trim().to_owned()
    }

    fn fill(&self, count: u64, len: u64) {
        let script =
            format!("for i = 1, {count} do redis.call('set', 'key:' .. i, string.rep(tostring(i) .. ',', {len})) end");
        self.cli(&["eval", &script, "0"]);
    }

    fn address(&self) -> Address {
        Address::Tcp("127.0.0.1".into(), self.port)
    }

    fn request(&self) -> RedisDump {
        RedisDump::new(self.address())
    }

    fn hash(&self) -> String {
        self.cli(&["debug", "DIGEST"])
    }
}

const DEBUG: [&str; 2] = ["--enable-debug-command", "yes"];
const DISKLESS: [&str; 4] = ["--repl-diskless-sync", "yes", "--repl-diskless-sync-delay", "0"];
const DISK_BACKED: [&str; 2] = ["--repl-diskless-sync", "no"];

fn restore(data: &[u8]) -> TempDir {
    let folder = TempDir::with_prefix("backstay-redis-").unwrap();
    let mut restore = RdbRestore::create(folder.path()).unwrap();
    data.chunks(1000).for_each(|piece| restore.write(piece).unwrap());
    restore.finish().unwrap();
    folder
}

#[tokio::test]
async fn an_rdb_comes_diskless_and_from_disk_and_is_loaded_under_either_setting() {
    for framing in [DISKLESS.as_slice(), &DISK_BACKED] {
        let server = Redis::start(&[framing, &DEBUG].concat());
        server.fill(5000, 20);
        server.cli(&["-n", "3", "rpush", "list", "a", "b"]);
        let read = read(dump(server.request())).await.unwrap();
        let entry = read.entry("dump.rdb");
        assert_eq!(entry.layout, Layout::Records);
        assert_eq!((read.fact("keys"), read.fact("role"), read.fact("rdb_checksum")), ("5001", "master", "right"));
        assert!(read.fact("server_version").starts_with("redis 7.") && read.fact("replid").len() == 40);
        assert!(read.fact("offset").parse::<u64>().is_ok() && read.warnings.is_empty());
        let file = server.folder.path().join("checked.rdb");
        std::fs::write(&file, &entry.data).unwrap();
        assert!(printed(Command::new("redis-check-rdb").arg(&file)).contains("Checksum OK"));
        for appends in ["yes", "no"] {
            let settings = [["--appendonly", appends].as_slice(), &DEBUG].concat();
            let restored = Redis::start_in(restore(&entry.data), &settings);
            until(|| restored.cli(&["info", "persistence"]).contains("loading:0"));
            assert_eq!(restored.hash(), server.hash());
        }
    }
}

#[tokio::test]
async fn an_empty_server_has_an_rdb_and_unix_sockets_serve_as_well() {
    let folder = TempDir::with_prefix("backstay-redis-").unwrap();
    let socket = folder.path().join("sock");
    let server = Redis::start_in(folder, &["--unixsocket", socket.to_str().unwrap()]);
    let mut request = server.request();
    request.addresses = vec![Address::Socket(socket)];
    let read = read(dump(request)).await.unwrap();
    assert_eq!(read.fact("keys"), "0");
    assert!(read.entry("dump.rdb").data.len() > 50);
}

#[tokio::test]
async fn a_replica_is_preferred_and_servers_that_are_down_are_passed_over() {
    let primary = Redis::start(&[]);
    primary.fill(10, 1);
    let replica = Redis::start(&["--replicaof", &format!("127.0.0.1 {}", primary.port)]);
    until(|| replica.cli(&["info", "replication"]).contains("master_link_status:up"));
    let mut request = primary.request();
    request.addresses = vec![Address::Tcp("127.0.0.1".into(), 1), primary.address(), replica.address()];
    let read = read(dump(request)).await.unwrap();
    assert_eq!((read.fact("role"), read.fact("keys")), ("slave", "10"));
    assert_eq!(read.fact("server"), format!("redis at 127.0.0.1:{}", replica.port));
    assert!(read.warnings.len() == 1 && read.warnings[0].contains("redis at 127.0.0.1:1"), "{:?}", read.warnings);
}

#[tokio::test]
async fn a_replica_that_lost_its_primary_is_busy() {
    let mut primary = Redis::start(&[]);
    let replica = Redis::start(&["--replicaof", &format!("127.0.0.1 {}", primary.port)]);
    until(|| replica.cli(&["info", "replication"]).contains("master_link_status:up"));
    primary.process.kill();
    until(|| replica.cli(&["info", "replication"]).contains("master_link_status:down"));
    let words = failed(read(dump(replica.request())).await, Fault::Busy);
    assert!(words.contains("NOMASTERLINK"), "{words}");
}

#[tokio::test]
async fn passwords_users_and_rights_decide_the_fault() {
    let server = Redis::start(&["--requirepass", "right"]);
    let mut request = server.request();
    failed(read(dump(request.clone())).await, Fault::Login);
    request.password = Some(Secret::new("wrong".into()));
    let words = failed(read(dump(request.clone())).await, Fault::Login);
    assert!(words.contains("WRONGPASS") && !words.contains("wrong"), "{words}");
    request.password = Some(Secret::new("right".into()));
    read(dump(request.clone())).await.unwrap();
    let acl = |words: &[&str]| {
        server.cli(&[["--no-auth-warning", "-a", "right", "acl", "setuser"].as_slice(), words].concat())
    };
    acl(&["backup", "on", ">secret", "+psync", "+replconf", "+info", "+ping"]);
    request.user = Some("backup".into());
    request.password = Some(Secret::new("secret".into()));
    read(dump(request.clone())).await.unwrap();
    acl(&["backup", "-psync"]);
    let words = failed(read(dump(request.clone())).await, Fault::Right);
    assert!(words.contains("+psync +replconf +info"), "{words}");
    acl(&["backup", "-info"]);
    failed(read(dump(request)).await, Fault::Right);
}

#[tokio::test]
async fn a_server_that_renamed_psync_says_what_else_to_do() {
    let server = Redis::start(&["--rename-command", "PSYNC", ""]);
    let words = failed(read(dump(server.request())).await, Fault::Setting);
    assert!(words.contains("managed services"), "{words}");
}

#[tokio::test]
async fn a_server_without_checksums_is_read_with_a_warning() {
    let server = Redis::start(&["--rdbchecksum", "no"]);
    server.fill(10, 1);
    let read = read(dump(server.request())).await.unwrap();
    assert_eq!(read.fact("rdb_checksum"), "off");
    assert!(read.warnings[0].contains("no checksum"), "{:?}", read.warnings);
    let folder = TempDir::new().unwrap();
    let mut restore = RdbRestore::create(folder.path()).unwrap();
    restore.write(&read.entry("dump.rdb").data).unwrap();
    restore.finish().unwrap();
    assert!(folder.path().join("dump.rdb").exists());
}

#[tokio::test]
async fn a_server_killed_in_mid_stream_leaves_no_whole_rdb() {
    for framing in [DISKLESS.as_slice(), &DISK_BACKED] {
        let mut server = Redis::start(&[framing, &["--rdbcompression", "no"]].concat());
        server.fill(100_000, 60);
        let mut is_killed = false;
        let request = server.request();
        let read_part = read_with(dump(request.clone()), |len| {
            if len > 1_000_000 && !is_killed {
                is_killed = true;
                server.process.kill();
            }
        });
        failed(read_part.await, Fault::Interrupted);
        assert!(is_killed);
        failed(read(dump(request)).await, Fault::Unreachable);
    }
}

/// A server of our own that says these words after a replica has asked for everything, then holds the line.
fn actor(after_psync: Vec<u8>, holds_for: Duration) -> Address {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    std::thread::Builder::new()
        .spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            answer(&mut stream, &after_psync);
            std::thread::sleep(holds_for);
        })
        .unwrap();
    Address::Tcp("127.0.0.1".into(), port)
}

fn answer(stream: &mut TcpStream, after_psync: &[u8]) {
    let mut lines = BufReader::new(stream.try_clone().unwrap()).lines();
    while let Some(Ok(line)) = lines.next() {
        match line.as_str() {
            "INFO" => stream.write_all(b"$13\r\nrole:master\r\n\r\n").unwrap(),
            "REPLCONF" => stream.write_all(b"+OK\r\n").unwrap(),
            "PSYNC" => {
                stream.write_all(b"+FULLRESYNC 0123456789012345678901234567890123456789 0\r\n").unwrap();
                stream.write_all(after_psync).unwrap();
                return;
            }
            _ => {}
        }
    }
}

#[tokio::test]
async fn damage_on_the_way_is_found_and_keep_alives_are_not_content() {
    let server = Redis::start(&DISK_BACKED);
    server.fill(100, 10);
    let whole = read(dump(server.request())).await.unwrap().entry("dump.rdb").data.clone();
    let framed =
        |data: &[u8]| [b"\n\n\n", format!("${}\r\n", data.len()).as_bytes(), data, b"*1\r\n$4\r\nPING\r\n"].concat();
    let alive = read(dump(RedisDump::new(actor(framed(&whole), Duration::ZERO)))).await.unwrap();
    assert_eq!(alive.entry("dump.rdb").data, whole);
    let mark = [b'e'; 40];
    let marked = [b"$EOF:".as_slice(), &mark, b"\r\n", &whole, &mark].concat();
    let marked = read(dump(RedisDump::new(actor(marked, Duration::ZERO)))).await.unwrap();
    assert_eq!(marked.entry("dump.rdb").data, whole);
    let mut flipped = whole.clone();
    flipped[whole.len() / 2] ^= 4;
    let words = failed(read(dump(RedisDump::new(actor(framed(&flipped), Duration::ZERO)))).await, Fault::Damaged);
    assert!(words.contains("fails its checksum"), "{words}");
    let mut request = RedisDump::new(actor(framed(&whole)[..whole.len() / 2].to_vec(), Duration::from_secs(5)));
    request.idle_for = Duration::from_millis(500);
    let words = failed(read(dump(request)).await, Fault::Busy);
    assert!(words.contains("sent nothing for 500ms"), "{words}");
}

#[tokio::test]
async fn tls_is_checked_against_our_own_authority() {
    let folder = TempDir::with_prefix("backstay-redis-").unwrap();
    let path = |name: &str| folder.path().join(name).display().to_string();
    let subject = ["-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost"];
    let mut made = Command::new("openssl");
    made.args(["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "3650"]);
    made.args(subject).args(["-addext", "basicConstraints=critical,CA:FALSE"]);
    printed(made.args(["-keyout", &path("key"), "-out", &path("cert")]));
    let tls_port = free_port();
    let settings =
        ["--tls-port", &tls_port.to_string(), "--tls-cert-file", &path("cert"), "--tls-key-file", &path("key")];
    let ca = path("cert");
    let settings = [settings.as_slice(), &["--tls-ca-cert-file", &ca, "--tls-auth-clients", "no"]].concat();
    let server = Redis::start(&settings);
    server.fill(10, 1);
    let mut request = RedisDump::new(Address::Tcp("localhost".into(), tls_port));
    request.tls = Some(Tls { authorities: Some(ca.into()), ..Tls::default() });
    assert_eq!(read(dump(request.clone())).await.unwrap().fact("keys"), "10");
    request.tls = Some(Tls::default());
    let words = failed(read(dump(request.clone())).await, Fault::Unreachable);
    assert!(words.contains("TLS fails"), "{words}");
    request.tls =
        Some(Tls { server_name: Some("other".into()), authorities: Some(path("cert").into()), identity: None });
    failed(read(dump(request)).await, Fault::Unreachable);
}

#[test]
fn a_restore_overwrites_nothing_and_lays_out_nothing_that_is_damaged() {
    let folder = TempDir::new().unwrap();
    let mut restore = RdbRestore::create(folder.path()).unwrap();
    restore.write(b"REDIS0011 but no more").unwrap();
    assert!(matches!(restore.finish(), Err(SourceError::Server { fault: Fault::Damaged, .. })));
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
    std::fs::create_dir(folder.path().join("appendonlydir")).unwrap();
    assert!(matches!(RdbRestore::create(folder.path()), Err(SourceError::Occupied { .. })));
}

#[tokio::test]
async fn newer_servers_are_read_as_well() {
    let root = newer_root();
    for (program, version) in [("redis-server", "redis 8."), ("valkey-server", "valkey 9.")] {
        for framing in [DISKLESS.as_slice(), &DISK_BACKED] {
            let server = Redis::start_newer(&root, program, framing);
            assert!(server.root.is_some());
            server.fill(5000, 20);
            let read = read(dump(server.request())).await.unwrap();
            assert!(read.fact("server_version").starts_with(version), "{:?}", read.facts);
            assert_eq!((read.fact("keys"), read.fact("rdb_checksum")), ("5000", "right"));
        }
    }
}
