//! Redis, etcd and SQLite back at their places by `restore --to`, started by the very commands that it prints.
//!
//! Invariant: what comes back is compared with the original by the servers' own means.

use std::path::Path;
use std::process::Command;

use harness::binary::{Host, Ran, Run as _, set_mode, shell};
use harness::servers::stores::{etcd, etcdctl, free_port, redis, redis_says};
use serde_json::Value;

/// A host with a configuration of these sources, which all are of the job `all`.
fn host(sources: &str) -> Host {
    let host = Host::with_repository();
    let names: Vec<String> = sources
        .lines()
        .filter_map(|line| line.strip_prefix("[sources."))
        .map(|rest| format!("\"{}\"", rest.trim_end_matches(']')))
        .collect();
    let repository = format!("[repositories.main]\nurl = \"{}\"\n", host.repository().display());
    let text = format!("{repository}{sources}\n[jobs.all]\nsources = [{}]\n", names.join(", "));
    host.write("backstay.toml", text.replace("FOLDER", &host.path("").display().to_string()));
    host
}

fn command(host: &Host, words: &[&str]) -> Command {
    let mut command = host.backstay(words);
    command.current_dir(host.path(""));
    command
}

fn run(host: &Host) {
    command(host, &["run", "all"]).run().expect_code(0);
}

/// Restores with `--json`, and gives the document.
fn restored(host: &Host, words: &[&str]) -> Value {
    command(host, &[&["--json", "restore", "latest"], words].concat()).run().expect_code(0).json()
}

fn refused(host: &Host, words: &[&str]) -> Ran {
    command(host, &[&["restore", "latest"], words].concat()).run().expect_code(2)
}

/// The commands that a document says come next.
fn steps(document: &Value) -> Vec<String> {
    let steps = document["next_steps"].as_array().expect("steps").iter();
    steps.map(|step| step["command"].as_str().expect("a command").to_owned()).collect()
}

fn mode(path: &Path) -> u32 {
    use std::os::unix::fs::PermissionsExt as _;
    std::fs::metadata(path).expect("is there").permissions().mode() & 0o777
}

#[test]
fn redis_is_loaded_with_and_without_an_append_only_file() {
    let port = free_port();
    let host = host(&format!("[sources.cache]\nkind = \"redis\"\nurls = [\"redis://127.0.0.1:{port}\"]"));
    std::fs::create_dir(host.path("redis")).expect("a new folder");
    let _original = redis(&host.path("redis"), port, &[]);
    redis_says(port, "debug populate 5000");
    redis_says(port, "rpush list a b c");
    run(&host);
    let digest = redis_says(port, "debug digest");
    for append_only in ["yes", "no"] {
        let folder = host.path(&format!("fresh-{append_only}"));
        let document = restored(&host, &["cache", "--to", folder.to_str().expect("text")]);
        let steps = steps(&document);
        assert!(steps[1].starts_with("redis-check-rdb ") && steps[2].contains("redis-server --dir "), "{document}");
        assert!(shell(&host.path(""), &steps[1]).contains("RDB looks OK"));
        assert_eq!((mode(&folder), mode(&folder.join("dump.rdb"))), (0o700, 0o600));
        let fresh = free_port();
        let _server = redis(&folder, fresh, &["--appendonly", append_only]);
        assert_eq!(redis_says(fresh, "debug digest"), digest, "appendonly {append_only}");
    }
    let folder = host.path("fresh-no").display().to_string();
    refused(&host, &["cache", "--to", &folder]).says(&["dump.rdb"]);
    refused(&host, &["cache", "--to", &folder, "--dry-run"]).says(&["dump.rdb"]);
    refused(&host, &["cache", "--to", &folder, "--table", "x"]).says(&["--table does not go with"]);
}

#[test]
fn etcd_comes_back_by_the_command_that_is_printed_with_the_same_hash() {
    let port = free_port();
    let host = host(&format!("[sources.kv]\nkind = \"etcd\"\nendpoints = [\"http://127.0.0.1:{port}\"]"));
    std::fs::create_dir(host.path("etcd")).expect("a new folder");
    let _original = etcd(&host.path("etcd"), port);
    for n in 0..30 {
        etcdctl(port, &["put", &format!("key{}", n % 20), &format!("value {n}")]);
    }
    etcdctl(port, &["del", "key3"]);
    run(&host);
    let hash_of = |port: u16| {
        let said: Value = serde_json::from_str(&etcdctl(port, &["endpoint", "hashkv", "-w", "json"])).expect("JSON");
        (said[0]["HashKV"]["hash"].clone(), said[0]["HashKV"]["header"]["revision"].clone())
    };
    let folder = host.path("fresh").display().to_string();
    let planned = restored(&host, &["kv", "--to", &folder, "--dry-run"]);
    assert!(planned["is_dry_run"] == true && !Path::new(&folder).exists(), "{planned}");
    let document = restored(&host, &["kv", "--to", &folder]);
    assert_eq!((document["files"][0]["path"].as_str(), steps(&document)), (Some("snapshot.db"), steps(&planned)));
    let steps = steps(&document);
    assert!(steps[1].contains("--bump-revision 1000000000 --mark-compacted"), "{document}");
    shell(&host.path(""), &steps[0]);
    let fresh = free_port();
    let _member = started(&host.path("fresh/data"), fresh);
    assert_eq!(hash_of(fresh), hash_of(port));
    assert_eq!(etcdctl(fresh, &["get", "", "--prefix"]), etcdctl(port, &["get", "", "--prefix"]));
    refused(&host, &["kv", "--to", &folder]).says(&["snapshot.db", "--replace"]);
    restored(&host, &["kv", "--to", &folder, "--replace"]);
}

/// The member that the printed command makes: its name and peer URL are etcd's own defaults.
fn started(data: &Path, port: u16) -> harness::servers::stores::Running {
    let (client, peer) = (format!("http://127.0.0.1:{port}"), format!("http://127.0.0.1:{}", free_port()));
    let mut command = Command::new("etcd");
    command.args(["--listen-client-urls", &client, "--advertise-client-urls", &client, "--listen-peer-urls", &peer]);
    let member = harness::servers::stores::Running::start(command.arg("--data-dir").arg(data));
    harness::servers::stores::until("etcd", || etcdctl(port, &["endpoint", "health"]).contains("is healthy"));
    member
}

#[test]
fn sqlite_replaces_nothing_unless_told_and_never_keeps_a_stale_log() {
    let host = host(
        "[sources.app]\nkind = \"sqlite\"\npath = \"FOLDER/app.db\"\n[sources.log]\nkind = \"command\"\ncommand = [\"seq\", \"1\", \"9\"]",
    );
    let sql =
        |name: &str, script: &str| shell(&host.path(""), &format!("sqlite3 {name} \"{script}\"")).trim().to_owned();
    sql("app.db", "pragma journal_mode = wal; create table t (a); insert into t values (1), (2), (3)");
    set_mode(&host.path("app.db"), 0o640);
    run(&host);
    let to = |place: &str| {
        [vec!["app", "--to"], vec![Box::leak(host.path(place).display().to_string().into_boxed_str())]].concat()
    };
    restored(&host, &to("new/copy.db"));
    assert_eq!(sql("new/copy.db", "pragma integrity_check; select sum(a) from t"), "ok\n6");
    assert_eq!(mode(&host.path("new/copy.db")), 0o640);
    restored(&host, &to("new/"));
    assert_eq!(sql("new/app.db", "select count(*) from t"), "3");

    sql("new/copy.db", "insert into t values (100)");
    refused(&host, &to("new/copy.db")).says(&["copy.db", "--replace"]);
    assert_eq!(sql("new/copy.db", "select sum(a) from t"), "106");
    host.write("new/copy.db-wal", "a log of something else");
    restored(&host, &[to("new/copy.db"), vec!["--replace"]].concat());
    assert_eq!(sql("new/copy.db", "select sum(a) from t"), "6");
    assert!(std::fs::read_dir(host.path("new")).expect("a folder").count() <= 4, "nothing of ours stays");
    host.write("alone.db-wal", "a log without its file");
    refused(&host, &to("alone.db")).says(&["alone.db-wal"]);
    refused(&host, &[to("new/copy.db"), vec!["--dry-run"]].concat()).says(&["copy.db"]);
    restored(&host, &[to("planned/copy.db"), vec!["--dry-run"]].concat());
    assert!(!host.path("planned").exists(), "a dry run writes nothing");

    let ran = command(&host, &["restore", "latest", "log", "--to", "-"]).run().expect_code(0);
    assert_eq!(ran.text(), "1\n2\n3\n4\n5\n6\n7\n8\n9\n");
    restored(&host, &["log", "--to", "numbers"]);
    restored(&host, &["log", "--to", "new/"]);
    refused(&host, &["log", "--to", "new/"]).says(&["new/log"]);
    refused(&host, &["log", "--to", "other", "--include", "x"]).says(&["--include"]);
    refused(&host, &["log", "--to", "numbers"]).says(&["numbers"]);
    refused(&host, &["--to", "numbers"]).says(&["several components", "app, log"]);
    refused(&host, &["app", "--to", "mysql://x"]).says(&["cannot be restored to mysql://x"]);
    let listed = command(&host, &["restore", "latest", "app", "--list"]).run().expect_code(0);
    assert!(listed.text().contains("app.db") && listed.text().contains("journal_mode"), "{listed}");
}

/// A host with two snapshots by the job `all` of a file and a command, which failed in the newer one; and the ids of both.
fn host_with_a_failure() -> (Host, [String; 2]) {
    let host = host(
        "[sources.tree]\nkind = \"files\"\npaths = [\"tree\"]\n[sources.log]\nkind = \"command\"\ncommand = [\"cat\", \"log\"]",
    );
    host.write("tree/file", b"kept");
    host.write("log", b"what was logged");
    run(&host);
    std::fs::remove_file(host.path("log")).expect("removes");
    command(&host, &["run", "all"]).run().expect_code(1);
    let id = |snapshot: &Value| snapshot["id"].as_str().expect("an id").to_owned();
    let ids = host.snapshots().iter().map(id).collect::<Vec<_>>();
    (host, ids.try_into().expect("two snapshots"))
}

#[test]
fn a_component_that_failed_is_taken_from_the_newest_snapshot_that_has_it_or_refused_where_one_is_named() {
    let (host, [whole, failed]) = host_with_a_failure();
    let read = |name: &str| std::fs::read_to_string(host.path(name)).unwrap_or_default();
    let told = command(&host, &["restore", "latest", "log", "--to", "a"]).run().expect_code(0);
    told.says(&["log failed in the newest snapshot", &failed[..8], "taking", &whole[..8]]);
    command(&host, &["restore", "--at", "now", ":/", "log", "--target", "b"]).run().expect_code(0);
    assert_eq!(read("a"), "what was logged");
    assert_eq!(std::fs::read_dir(host.path("b")).expect("a folder").count(), 1);
    command(&host, &["restore", "latest", "log", "--list"]).run().expect_code(0).says(&["taking"]);
    for more in [&["--to", "c"][..], &["--target", "c"], &["--target", "c", "--verify"], &["--list"]] {
        let words = [&["restore", &failed[..8], "log"], more].concat();
        let refused = command(&host, &words).run().expect_code(2);
        refused.says(&[
            &format!("log failed in snapshot {}: ", &failed[..8]),
            "exit status 1",
            "the newest",
            &whole[..8],
        ]);
    }
    assert!(!host.path("c").exists());
    command(&host, &["restore", &failed[..8], "tree", "--target", "d"]).run().expect_code(0);
}

#[test]
fn a_whole_snapshot_that_is_partial_is_restored_with_a_warning_of_what_failed() {
    let (host, [whole, failed]) = host_with_a_failure();
    let restore =
        |words: &[&str]| command(&host, &[&["restore", "--target", "out"], words].concat()).run().expect_code(0);
    let told = restore(&["latest"]);
    told.says(&[&format!("snapshot {} is partial: log is failed: ", &failed[..8]), "exit status 1"]);
    let document = restore(&["--json", "latest"]).json();
    let lacking = &document["lacking"][0];
    assert_eq!((&lacking["component"], &lacking["state"]), (&"log".into(), &"failed".into()), "{document}");
    for words in [&[&*whole][..], &[&failed, "tree"], &[&format!("{failed}:{}", host.path("tree").display())]] {
        let told = restore(words);
        assert!(!told.stderr.contains("partial"), "{told}");
    }
}

#[test]
fn what_is_in_the_way_of_data_of_a_server_is_told_without_an_option_that_it_refuses() {
    let port = free_port();
    let host = host(&format!("[sources.cache]\nkind = \"redis\"\nurls = [\"redis://127.0.0.1:{port}\"]"));
    std::fs::create_dir(host.path("redis")).expect("a new folder");
    let _running = redis(&host.path("redis"), port, &[]);
    run(&host);
    host.write("there/dump.rdb", b"of another");
    let ran = refused(&host, &["cache", "--to", "there"]).says(&["dump.rdb", "name a folder that is new or empty"]);
    assert!(!ran.stderr.contains("--replace"), "{ran}");
    assert_eq!(std::fs::read(host.path("there/dump.rdb")).expect("is there"), b"of another");
}

#[test]
fn a_component_beside_a_time_is_no_snapshot() {
    let (host, [whole, _]) = host_with_a_failure();
    let restore = |words: &[&str]| command(&host, &[&["restore"], words].concat()).run();
    let read = |name: &str| std::fs::read_to_string(host.path(name)).unwrap_or_default();
    restore(&["--at", "now", "log", "--to", "a"]).expect_code(0).says(&["taking", &whole[..8]]);
    restore(&["--at", "now", ":", "log", "--to", "b"]).expect_code(0);
    assert_eq!((read("a").as_str(), read("b").as_str()), ("what was logged", "what was logged"));
    restore(&["tree", "--at", "now", "--target", "c"]).expect_code(0);
    restore(&["--at", "now", "cafe", "--target", "d"]).expect_code(2).says(&["no component cafe", "it has: "]);
    for twice in [&["latest"][..], &["latest:/etc"], &[&whole, "log"]] {
        let words = [&["--at", "now", "--target", "d"], twice].concat();
        restore(&words).expect_code(2).says(&["both by --at and by its id"]);
    }
    restore(&["newest", "--target", "d"]).expect_code(2).says(&["newest names no snapshot", "`latest` or the start"]);
    assert!(!host.path("d").exists());
}
