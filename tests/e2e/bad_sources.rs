//! Servers that are wrong, locked, damaged, restarted or full, met by `backstay run`: nothing is committed that is not
//! whole, and the snapshot before stays as it was.
//!
//! Invariant: each case fails for its own reason, by the server's own words.
//! Never here: every way in which a source may fail (see the tests of `source`).

use std::process::{Child, Command, Stdio};

use harness::binary::{Host, Ran, Run as _, is_root, shell};
use harness::mount::SmallDisk;
use harness::servers::postgres::{Server, Version};
use harness::servers::stores::{free_port, redis_says, until};
use rustix::process::Signal;

const ROWS: &str = "create table items as select n as id, md5(n::text) as name from generate_series(1, 20000) n";
const HASH: &str = "select count(*), md5(string_agg(t::text, ',' order by id)) from items t";

/// A process of ours, killed when dropped.
struct Running(Child);

impl Running {
    fn start(command: &mut Command) -> Self {
        let command = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        Self(command.spawn().unwrap_or_else(|error| panic!("{command:?}: {error}")))
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A host whose file names these sources, each of them a job of its own by the same name.
fn host_with(sources: &str) -> Host {
    let host = Host::with_repository();
    let names = sources.lines().filter_map(|line| line.strip_prefix("[sources.")?.strip_suffix(']'));
    let jobs: String = names.map(|name| format!("[jobs.{name}]\nsources = [\"{name}\"]\n")).collect();
    let (repository, password) = (host.repository(), host.path("password"));
    host.write(
        "backstay.toml",
        format!(
            "[repositories.main]\nurl = \"{}\"\npassword_file = \"{}\"\n{sources}\n{jobs}",
            repository.display(),
            password.display()
        ),
    );
    host
}

fn command(host: &Host, words: &[&str]) -> Command {
    let mut command = host.backstay(words);
    command.current_dir(host.path("")).env("TOKEN", "hunter2");
    command
}

/// Runs a job that must fail wholly, for this reason; nothing more may be committed.
#[track_caller]
fn refused(host: &Host, job: &str, reason: &str) {
    let before = host.snapshots();
    is_refusal(&command(host, &["run", job]).run().expect_code(2), reason);
    assert_eq!(host.snapshots(), before, "{job}");
}

#[track_caller]
fn is_refusal(ran: &Ran, reason: &str) {
    assert!(ran.stderr.contains(reason) && !ran.stderr.contains("hunter2"), "not {reason:?}: {ran}");
}

fn own_postgres(settings: &[&str]) -> Server {
    let version = Version::all().into_iter().find(|version| version.major == 15);
    Server::start(&version.expect("the machine's own Postgres"), settings)
}

/// A table stays locked for longer than a dump waits; and the server is restarted while another dump waits.
fn locked_and_restarted(server: &Server, host: &Host) {
    let mut lock = server.client("psql");
    lock.args(["-qXd", "postgres", "-c", "begin; lock table items in access exclusive mode; select pg_sleep(120)"]);
    let lock = Running::start(&mut lock);
    until("the lock", || {
        server.sql("select count(*) from pg_locks where mode = 'AccessExclusiveLock' and granted") != "0"
    });
    refused(host, "db", "statement timeout");
    // A dump that waits for the lock, while the server is restarted.
    let mut waiting = Running::start(&mut command(host, &["run", "patient"]));
    until("the dump", || {
        server.sql("select count(*) from pg_stat_activity where wait_event_type = 'Lock' and query like 'LOCK TABLE%'")
            != "0"
    });
    let _ = server.stop("immediate");
    server.run();
    assert_eq!(waiting.0.wait().expect("ends").code(), Some(2));
    drop(lock);
    let mut said = String::new();
    std::io::Read::read_to_string(waiting.0.stderr.as_mut().expect("is piped"), &mut said).expect("is text");
    assert!(said.contains("server closed the connection") || said.contains("terminating connection"), "{said}");
    assert_eq!(host.snapshots().len(), 2);
}

#[test]
fn postgres_that_refuses_or_breaks_leaves_the_snapshot_before_as_it_was() {
    let server = own_postgres(&[]);
    let (port, url) = (server.port, format!("127.0.0.1:{}", server.port));
    let host = host_with(&format!(
        "[sources.db]\nkind = \"postgres\"\nurl = \"postgres://owner@{url}/postgres\"\nlock_timeout = \"1s\"\n\
         [sources.whole]\nkind = \"postgres-physical\"\nurl = \"postgres://owner@{url}\"\n\
         [sources.stranger]\nkind = \"postgres\"\nurl = \"postgres://guarded@{url}/postgres\"\npassword = \"${{TOKEN}}\"\n\
         [sources.meek]\nkind = \"postgres-physical\"\nurl = \"postgres://meek@{url}\"\n\
         [sources.shut]\nkind = \"postgres-physical\"\nurl = \"postgres://nobody@{url}\"\n\
         [sources.nowhere]\nkind = \"postgres\"\nurl = \"postgres://owner@{url}/nothing\"\n\
         [sources.patient]\nkind = \"postgres\"\nurl = \"postgres://owner@{url}/postgres\"\n"
    ));
    let _ = server.sql(ROWS);
    let _ = server.sql("create role guarded login password 'right'; create role meek login");
    server.write(
        "pg_hba.conf",
        "local all owner trust\nhost all guarded 127.0.0.1/32 scram-sha-256\nhost all owner 127.0.0.1/32 trust\n\
         host replication owner 127.0.0.1/32 trust\nhost replication meek 127.0.0.1/32 trust\n",
    );
    let _ = server.sql("select pg_reload_conf()");
    for job in ["db", "whole"] {
        command(&host, &["run", job]).run().expect_code(0);
    }
    refused(&host, "stranger", "password authentication failed");
    refused(&host, "stranger", "hint: correct the user or the password");
    refused(&host, "meek", "replication role");
    refused(&host, "shut", "pg_hba.conf");
    refused(&host, "nowhere", "database \"nothing\" does not exist");

    locked_and_restarted(&server, &host);
    command(&host, &["run", "patient"]).run().expect_code(0);

    let path = server.data().join(server.sql("select pg_relation_filepath('items')"));
    let _ = server.stop("fast");
    let mut bytes = std::fs::read(&path).expect("a file of the server");
    bytes[8192 + 4000] ^= 0x40;
    std::fs::write(&path, &bytes).expect("a file of the server");
    server.run();
    refused(&host, "whole", "checksum");
    refused(&host, "db", "invalid page");
    let _ = server.stop("fast");
    refused(&host, "whole", &format!("postgres at 127.0.0.1:{port}"));
    refused(&host, "db", "refused");

    bytes[8192 + 4000] ^= 0x40;
    std::fs::write(&path, &bytes).expect("a file of the server");
    server.run();
    let _ = server.sql("create database fresh");
    let dumped = host.snapshots().first().expect("the first")["id"].as_str().expect("an id").to_owned();
    command(&host, &["restore", &dumped, "db", "--to", &format!("postgres://owner@{url}/fresh")]).run().expect_code(0);
    assert_eq!(server.sql_in("fresh", HASH), server.sql(HASH));
    host.check();
}

/// A Redis over a folder.
fn redis(host: &Host, port: u16, more: &[&str]) -> Running {
    let mut command = Command::new("redis-server");
    command.args(["--port", &port.to_string(), "--bind", "127.0.0.1", "--enable-debug-command", "local", "--dir"]);
    let running = Running::start(command.arg(host.path("redis")).args(more));
    until("Redis", || redis_says(port, "ping") == "PONG");
    running
}

#[test]
fn redis_at_its_limit_restarted_or_out_of_disk_gives_a_whole_snapshot_or_none() {
    let port = free_port();
    let host = host_with(&format!(
        "[sources.cache]\nkind = \"redis\"\nurls = [\"redis://127.0.0.1:{port}\"]\n\
         [sources.user]\nkind = \"redis\"\nurls = [\"redis://127.0.0.1:{port}\"]\nuser = \"meek\"\npassword = \"${{TOKEN}}\"\n"
    ));
    std::fs::create_dir(host.path("redis")).expect("a new folder");
    let first = redis(&host, port, &["--save", ""]);
    redis_says(port, "debug populate 20000");
    // Out of memory by its own limit: it refuses writes, and is read.
    redis_says(port, "config set maxmemory 1mb");
    assert!(redis_says(port, "set a b").starts_with("OOM"));
    command(&host, &["run", "cache"]).run().expect_code(0);
    redis_says(port, "acl setuser meek on >hunter2 +info +replconf");
    refused(&host, "user", "NOPERM");
    redis_says(port, "config set maxmemory 0");
    redis_says(port, "set late value");
    redis_says(port, "save");
    let original = redis_says(port, "debug digest");
    drop(first);
    refused(&host, "cache", "refused");

    // The next day, after a restart, its order of keys is another.
    let second = redis(&host, port, &["--save", ""]);
    assert_eq!(redis_says(port, "debug digest"), original);
    command(&host, &["run", "cache"]).run().expect_code(0);
    let restored = host.path("restored");
    command(&host, &["restore", "latest", "cache", "--to"]).arg(&restored).run().expect_code(0);
    drop(second);
    shell(&host.path(""), "rm -rf redis && mkdir redis && cp restored/dump.rdb redis/");
    let third = redis(&host, port, &["--save", ""]);
    assert_eq!(redis_says(port, "debug digest"), original);
    assert_eq!(host.snapshots().len(), 2);
    drop(third);

    assert!(is_root(), "a small disk takes root");
    let disk = SmallDisk::mount(&host.path("redis"), 1);
    let _full = redis(&host, port, &["--save", "", "--repl-diskless-sync", "no"]);
    redis_says(port, "debug populate 200000");
    refused(&host, "cache", &format!("redis at 127.0.0.1:{port}"));
    drop(disk);
    host.check();
}

#[test]
fn sqlite_that_is_locked_damaged_or_has_no_room_for_its_copy_is_refused() {
    let host = host_with("[sources.app]\nkind = \"sqlite\"\npath = \"disk/app.db\"\nlock_timeout = \"1s\"\n");
    assert!(is_root(), "a small disk takes root");
    let disk = SmallDisk::mount(&host.path("disk"), 8);
    let python = |script: &str| {
        let lines =
            format!("import sqlite3, sys, time\nc = sqlite3.connect('disk/app.db', isolation_level=None)\n{script}");
        host.write("script.py", lines);
        let mut command = Command::new("python3");
        command.arg("script.py").current_dir(host.path(""));
        command
    };
    python("c.execute('create table t (a, b)')\nc.execute(\"insert into t values (1, hex(randomblob(1000000)))\")")
        .run()
        .expect_code(0);
    command(&host, &["run", "app"]).run().expect_code(0);
    let lock = Running::start(&mut python("c.execute('begin exclusive')\nopen('locked', 'w')\ntime.sleep(100)"));
    until("the lock", || host.path("locked").exists());
    refused(&host, "app", "locked");
    drop(lock);
    // A copy beside a file of five of eight MiB has no room.
    python("c.execute(\"insert into t values (2, hex(randomblob(1500000)))\")").run().expect_code(0);
    refused(&host, "app", "no room is left in disk, where the copy is made");
    refused(&host, "app", "hint: make room in the folder that is named");
    disk.resize(30);
    let path = host.path("disk/app.db");
    let whole = std::fs::read(&path).expect("the file");
    let mut damaged = whole.clone();
    damaged[4096..4200].fill(0xee);
    std::fs::write(&path, damaged).expect("our own file");
    refused(&host, "app", "sqlite at disk/app.db");
    std::fs::write(&path, whole).expect("our own file");
    command(&host, &["run", "app"]).run().expect_code(0);
    assert_eq!(host.snapshots().len(), 2);
    host.check();
}

/// Folders in which copies for a backup are made.
fn copies(host: &Host) -> Vec<String> {
    let entries = std::fs::read_dir(host.path("srv")).expect("a folder").flatten();
    entries
        .filter_map(|entry| entry.file_name().into_string().ok())
        .filter(|name| name.starts_with(".backstay"))
        .collect()
}

#[test]
fn run_that_is_killed_leaves_the_next_one_no_slot_and_no_copy_and_none_is_ever_backed_up() {
    let server = own_postgres(&[]);
    let _ = server.sql("create table noise as select sha512(random()::text::bytea) from generate_series(1, 300000)");
    let host = host_with(&format!(
        "[sources.whole]\nkind = \"postgres-physical\"\nurl = \"postgres://owner@127.0.0.1:{}\"\n\
         [sources.app]\nkind = \"sqlite\"\npath = \"srv/app.db\"\n[sources.srv]\nkind = \"files\"\npaths = [\"srv\"]\n\
         [jobs.all]\nsources = [\"whole\", \"app\", \"srv\"]\nsources_at_once = 3\n",
        server.port
    ));
    host.write("srv/file", "beside the database");
    let python = "import sqlite3\nc = sqlite3.connect('srv/app.db')\nc.execute('create table t (a)')\n\
                  c.execute('insert into t values (randomblob(40000000))')\nc.commit()";
    Command::new("python3").args(["-c", python]).current_dir(host.path("")).run().expect_code(0);
    let slots = || server.sql("select count(*) from pg_replication_slots");
    let slowly = command(&host, &["--limit-upload", "1M", "run", "all"]);
    let mut killed = harness::running::Running::start(slowly, false);
    killed.wait_until("all are read", || slots() == "1" && !copies(&host).is_empty());
    killed.signal(Signal::KILL);
    assert_eq!(killed.finish().0.code, None);
    assert_eq!(copies(&host).len(), 1, "nobody was left to remove it");
    until("the slot's end", || slots() == "0");
    assert!(host.snapshots().is_empty());
    // The copy that is made while the files are read is none of them either.
    command(&host, &["run", "all"]).run().expect_code(0);
    assert_eq!(copies(&host), [""; 0]);
    let listed = host.backstay(["ls", "latest"]).run().expect_code(0);
    assert!(listed.text().contains("srv/file") && !listed.text().contains(".backstay"), "{listed}");
    host.check();
}

#[test]
fn password_that_cannot_be_read_fails_its_own_source_and_no_other() {
    let host = Host::with_repository();
    let port = free_port();
    std::fs::create_dir(host.path("redis")).expect("a new folder");
    let _server = redis(&host, port, &["--save", ""]);
    redis_says(port, "set a b");
    let open = host.write("open", "hunter2\n");
    harness::binary::set_mode(&open, 0o644);
    let source = |name: &str, password: &str| {
        format!("[sources.{name}]\nkind = \"redis\"\nurls = [\"redis://127.0.0.1:{port}\"]\n{password}\n")
    };
    let sources = [
        source("good", ""),
        source("lost", "password_file = \"/nowhere/secret\""),
        source("open", &format!("password_file = \"{}\"", open.display())),
        source("broken", "password_command = \"echo hunter2; exit 3\""),
    ];
    let (repository, password) = (host.repository(), host.path("password"));
    host.write(
        "backstay.toml",
        format!(
            "[repositories.main]\nurl = \"{}\"\npassword_file = \"{}\"\n{}[jobs.all]\n\
             sources = [\"lost\", \"good\", \"open\", \"broken\"]\n[jobs.bad]\nsources = [\"lost\", \"broken\"]\n",
            repository.display(),
            password.display(),
            sources.join("")
        ),
    );
    let ran = command(&host, &["run", "all", "--json"]).run().expect_code(1);
    let document = ran.json();
    let components = document["components"].as_array().expect("components");
    let of = |name: &str| components.iter().find(|one| one["name"] == name).expect("a component");
    assert_eq!(of("good")["state"], "complete", "{ran}");
    for (name, why) in [("lost", "/nowhere/secret"), ("open", "others"), ("broken", "exited with 3")] {
        assert_eq!(of(name)["state"], "failed", "{ran}");
        assert!(of(name)["failure"].to_string().contains(why), "not {why}: {ran}");
    }
    assert!(!ran.text().contains("hunter2") && !ran.stderr.contains("hunter2"), "{ran}");
    assert_eq!(host.snapshots().len(), 1);
    let ran = command(&host, &["run", "all"]).run().expect_code(1);
    is_refusal(&ran, "lost: redis: ");
    refused(&host, "bad", "/nowhere/secret");
}
