//! A recovery point: a Postgres (as dump and whole), a Redis, an etcd, a SQLite file and a directory in one snapshot, and
//! each of them back in a fresh server.
//!
//! Invariant: what comes back is compared with the original by the servers' own means.

use std::path::Path;
use std::process::Command;

use harness::binary::{Host, Run as _, shell};
use harness::servers::postgres::{self, Server, Version};
use harness::servers::stores::{Running, etcd, etcdctl, free_port, redis, redis_says, until};
use serde_json::Value;

/// The server's tables, and how they are compared.
const TABLES: &str = "create table items as select n as id, md5(n::text) as name from generate_series(1, 60000) n;
    alter table items add primary key (id);";
const HASH: &str = "select count(*), md5(string_agg(t::text, ',' order by id)) from items t";

fn sqlite(path: &Path, script: &str) -> String {
    let python = "import sqlite3,sys\nc=sqlite3.connect(sys.argv[1])\nfor l in sys.argv[2].split(';'):\n \
                  print(*c.execute(l).fetchall())\nc.commit()";
    let output = Command::new("python3").args(["-c", python]).arg(path).arg(script).output().expect("python3 runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).trim().to_owned()
}

/// All that a team has.
struct Team {
    host: Host,
    postgres: Server,
    /// Of the newest version that there is: from 17 on it tells what changed.
    whole: Server,
    redis_port: u16,
    etcd_port: u16,
    _redis: Running,
    _etcd: Running,
}

impl Team {
    fn new() -> Self {
        let host = Host::with_repository();
        let all = Version::all();
        let is_own =
            |version: &&Version| Path::new(&format!("/usr/lib/postgresql/{}/bin/pg_dump", version.major)).exists();
        let own = all.iter().rev().find(is_own).expect("the machine has a Postgres of its own");
        let newest = all.last().expect("a Postgres is installed");
        let postgres = Server::start(own, &[]);
        let settings: &[&str] = if newest.major >= 17 { &["summarize_wal = on"] } else { &[] };
        let whole = Server::start(newest, settings);
        let _ = postgres.sql("create database shop");
        let _ = postgres.sql_in("shop", TABLES);
        let _ = whole.sql(TABLES);
        let (redis_port, etcd_port) = (free_port(), free_port());
        for folder in ["redis", "etcd", "tree/sub"] {
            std::fs::create_dir_all(host.path(folder)).expect("a new folder");
        }
        let redis = redis(&host.path("redis"), redis_port, &[]);
        redis_says(redis_port, "debug populate 30000");
        let etcd = etcd(&host.path("etcd"), etcd_port);
        for n in 0..20 {
            etcdctl(etcd_port, &["put", &format!("key{n}"), "value"]);
        }
        sqlite(&host.path("app.db"), "create table t (a, b);insert into t values (1, 'one'), (2, 'two')");
        host.write("tree/sub/file", b"a file");
        Self { host, postgres, whole, redis_port, etcd_port, _redis: redis, _etcd: etcd }
    }

    /// The configuration, with `more` at its end.
    fn configure(&self, more: &str) {
        let (postgres, whole, redis, etcd) = (self.postgres.port, self.whole.port, self.redis_port, self.etcd_port);
        let folder = self.host.path("").display().to_string();
        let folder = folder.trim_end_matches('/');
        let text = format!(
            "[repositories.main]\nurl = \"{repository}\"\npassword_file = \"${{BACKSTAY_PASSWORD_FILE}}\"\n\
             [sources.db]\nkind = \"postgres\"\nurl = \"postgres://owner@127.0.0.1:{postgres}/shop\"\n\
             [sources.whole]\nkind = \"postgres-physical\"\nurl = \"postgres://owner@127.0.0.1:{whole}\"\n\
             [sources.cache]\nkind = \"redis\"\nurls = [\"redis://127.0.0.1:{redis}\"]\n\
             [sources.kv]\nkind = \"etcd\"\nendpoints = [\"http://127.0.0.1:{etcd}\"]\n\
             [sources.app]\nkind = \"sqlite\"\npath = \"{folder}/app.db\"\n\
             [sources.media]\nkind = \"files\"\npaths = [\"{folder}/tree\"]\n\
             [jobs.nightly]\nsources = [\"db\", \"whole\", \"cache\", \"kv\", \"app\", \"media\"]\ntags = [\"daily\"]\n{more}",
            repository = self.host.repository().display(),
        );
        self.host.write("backstay.toml", text);
    }

    fn command(&self, words: &[&str]) -> Command {
        let mut command = self.host.backstay(words);
        command.current_dir(self.host.path(""));
        command
    }

    fn run(&self, job: &str) -> Value {
        self.command(&["--json", "run", job]).run().expect_code(0).json()
    }
}

fn component<'r>(report: &'r Value, name: &str) -> &'r Value {
    let all = report["components"].as_array().expect("components");
    all.iter().find(|component| component["name"] == name).unwrap_or_else(|| panic!("no {name} in {report}"))
}

#[test]
fn every_system_of_a_team_comes_back_out_of_one_snapshot() {
    let team = Team::new();
    team.configure("");
    let first = team.run("nightly");
    assert_eq!(
        (&first["state"], first["components"].as_array().map(Vec::len)),
        (&"complete".into(), Some(6)),
        "{first}"
    );
    for (server, database) in [(&team.postgres, "shop"), (&team.whole, "postgres")] {
        let _ = server.sql_in(database, "update items set name = 'changed' where id between 30000 and 30060");
    }
    redis_says(team.redis_port, "set late value");
    etcdctl(team.etcd_port, &["put", "key7", "changed"]);
    sqlite(&team.host.path("app.db"), "insert into t values (3, 'three')");
    let second = team.run("nightly");
    let new = |report: &Value, name: &str| component(report, name)["new_len"].as_u64().expect("a count");
    assert!(new(&second, "db") < new(&first, "db") / 5, "{second}");
    assert!(new(&second, "media") == 0 && new(&second, "whole") < new(&first, "whole"), "{second}");
    assert_eq!(team.host.snapshots().len(), 2);
    if team.whole.version.major >= 17 {
        assert_eq!(component(&second, "whole")["facts"]["method"], "incremental", "{second}");
    }

    let _ = team.postgres.sql("create database fresh");
    let url = format!("postgres://owner@127.0.0.1:{}/fresh", team.postgres.port);
    team.command(&["restore", "latest", "db", "--to", &url]).run().expect_code(0);
    assert_eq!(team.postgres.sql_in("fresh", HASH), team.postgres.sql_in("shop", HASH));

    let folder = team.host.path("fresh-redis");
    team.command(&["restore", "latest", "cache", "--to"]).arg(&folder).run().expect_code(0);
    let port = free_port();
    let _redis = redis(&folder, port, &["--appendonly", "yes"]);
    assert_eq!(redis_says(port, "debug digest"), redis_says(team.redis_port, "debug digest"));

    let restored = team.host.path("restored");
    team.command(&["restore", "latest", "kv", "--target"]).arg(&restored).run().expect_code(0);
    let data = team.host.path("fresh-etcd");
    let snapshot = restored.join("snapshot.db");
    let restore = format!(
        "ETCDCTL_API=3 etcdctl snapshot restore {} --data-dir {} --name one --initial-cluster one=http://127.0.0.1:1 \
         --initial-advertise-peer-urls http://127.0.0.1:1",
        snapshot.display(),
        data.display()
    );
    shell(&team.host.path(""), &restore);
    let port = free_port();
    let _etcd = etcd(&data, port);
    assert_eq!(etcdctl(port, &["get", "", "--prefix"]), etcdctl(team.etcd_port, &["get", "", "--prefix"]));

    team.command(&["restore", "latest", "app", "--target"]).arg(&restored).run().expect_code(0);
    let rows = "pragma integrity_check;select * from t order by a";
    assert_eq!(sqlite(&restored.join("app.db"), rows), sqlite(&team.host.path("app.db"), rows));
    let tree = team.host.path("restored-tree");
    team.command(&["restore", "latest", "media", "--target"]).arg(&tree).run().expect_code(0);
    shell(&team.host.path(""), &format!("diff -r tree restored-tree{}/tree", team.host.path("").display()));

    let version = &team.whole.version;
    let target = version.folder();
    let data = target.path().join("data");
    let bare = team.command(&["restore", "latest", "whole", "--target"]).arg(&data).run().expect_code(0);
    bare.says(&["bare files of a Postgres server"]);
    assert_eq!(postgres::verify_backup(version, &data), None);
    let fresh = Server::start_on(version, target, &data, &[]);
    assert_eq!(fresh.sql(HASH), team.whole.sql(HASH));
    team.host.check();
}

#[test]
fn source_that_fails_is_named_and_never_hides_behind_the_others() {
    let team = Team::new();
    team.configure(
        "[sources.down]\nkind = \"redis\"\nurls = [\"redis://127.0.0.1:1\"]\n\
         [sources.dies]\nkind = \"command\"\ncommand = [\"sh\", \"-c\", \"echo half; exit 3\"]\n\
         [jobs.part]\nsources = [\"media\", \"down\", \"dies\"]\n\
         hooks = { before = [\"touch\", \"began\"], after = [\"sh\", \"-c\", \"echo $BACKSTAY_OUTCOME > after\"], \
         on_failure = [\"sh\", \"-c\", \"echo $BACKSTAY_OUTCOME > failure\"] }\n\
         [jobs.nothing]\nsources = [\"down\", \"dies\"]\nhooks = { on_failure = [\"sh\", \"-c\", \"echo $BACKSTAY_OUTCOME > failure\"] }\n",
    );
    let ran = team.command(&["run", "part"]).run().expect_code(1);
    assert!(ran.stderr.contains("down: redis at 127.0.0.1:1") && ran.stderr.contains("exit status 3"), "{ran}");
    let read = |name: &str| std::fs::read_to_string(team.host.path(name)).unwrap_or_default();
    assert_eq!((read("after").trim(), read("failure").trim()), ("partial", "partial"));
    let snapshots = team.host.snapshots();
    assert_eq!((snapshots.len(), &snapshots[0]["state"]), (1, &Value::from("partial")));
    let states: Vec<_> =
        snapshots[0]["components"].as_array().expect("components").iter().map(|own| &own["state"]).collect();
    assert_eq!(states, ["complete", "failed", "failed"]);
    let ran = team.command(&["run", "nothing"]).run().expect_code(2);
    assert!(ran.stderr.contains("none of 2 components"), "{ran}");
    assert_eq!((team.host.snapshots().len(), read("failure").trim()), (1, "failed"));
    team.command(&["run", "nightli"]).run().expect_code(2).says(&["there is no job nightli", "nightly"]);
    team.host.check();
}

#[test]
fn configuration_that_others_may_write_runs_nothing_unless_it_is_named() {
    let host = Host::new();
    let text = "[repositories.main]\nurl = \"/nowhere\"\npassword_command = \"touch ran; echo x\"\n";
    let file = host.write("backstay.toml", text);
    harness::binary::set_mode(&file, 0o666);
    let run = |words: &[&str]| {
        let mut command = host.backstay(words);
        command.current_dir(host.path("")).env_remove("BACKSTAY_REPOSITORY").env_remove("BACKSTAY_PASSWORD_FILE");
        command.run().expect_code(2)
    };
    let ran = run(&["snapshots"]);
    assert!(ran.stderr.contains("others may write it") && !host.path("ran").exists(), "{ran}");
    let named = run(&["snapshots", "--config", "backstay.toml"]);
    assert!(named.stderr.contains("/nowhere"), "{named}");
}

#[test]
fn component_that_shrinks_overnight_is_refused_or_told() {
    let team = Team::new();
    let sources = "[sources.log]\nkind = \"command\"\ncommand = [\"cat\", \"log\"]\n\
         [sources.told]\nkind = \"command\"\ncommand = [\"cat\", \"log\"]\nshrink = { percent_max = 50, then = \"warn\" }\n\
         [jobs.logs]\nsources = [\"log\", \"told\", \"media\"]\n";
    team.configure(sources);
    team.host.write("log", vec![b'x'; 100_000]);
    team.run("logs");
    team.host.write("log", vec![b'x'; 9_000]);
    let ran = team.command(&["run", "logs"]).run().expect_code(1);
    assert!(ran.stderr.contains("log has 9000 bytes, and had 100000"), "{ran}");
    assert!(ran.stderr.contains("told: told has 9000 bytes"), "{ran}");
    let newest = team.host.snapshots().pop().expect("a snapshot");
    assert_eq!(
        (&component(&newest, "log")["state"], &component(&newest, "told")["state"]),
        (&"failed".into(), &"complete".into())
    );
}

#[test]
fn tree_that_has_become_empty_is_refused_unless_that_is_meant() {
    let host = Host::with_repository();
    host.write("tree/a", b"content");
    let tree = host.path("tree");
    host.back_up(&[&tree]);
    std::fs::remove_file(tree.join("a")).expect("removes");
    let refused = |options: &[&str]| host.backstay(["backup"]).args(options).arg(&tree).run().expect_code(2);
    let nothing = format!("there is nothing in {}; nothing was committed", tree.display());
    refused(&[]).says(&[&nothing, "mounted", "--allow-empty"]);
    host.write("tree/excluded", b"content");
    refused(&["--exclude", "excluded"]).says(&[&nothing, "what is excluded"]);
    host.write("tree/excluded", b"");
    refused(&[]).says(&["had 7 in the last whole snapshot", "mounted"]);
    std::fs::remove_file(tree.join("excluded")).expect("removes");
    assert_eq!(host.snapshots().len(), 1);
    host.backstay(["backup", "--allow-empty"]).arg(&tree).run().expect_code(0);
}

#[test]
fn job_of_which_a_folder_is_gone_makes_no_snapshot_that_could_push_whole_ones_out() {
    let host = Host::with_repository();
    host.write("tree/a", b"content");
    let paths = format!("paths = [\"{}\", \"{}\"]", host.path("tree").display(), host.path("gone").display());
    let text = format!(
        "[repositories.main]\nurl = \"{}\"\n[sources.tree]\nkind = \"files\"\n{paths}\n[jobs.nightly]\nsources = [\"tree\"]\n",
        host.path("repository").display()
    );
    host.write("backstay.toml", text);
    let config = host.path("backstay.toml");
    let ran = host.backstay(["run", "nightly", "--config"]).arg(&config).run().expect_code(2);
    ran.says(&[&host.path("gone").display().to_string()]);
    assert!(host.snapshots().is_empty());
    host.write("gone/b", b"content");
    host.backstay(["run", "nightly", "--config"]).arg(&config).run().expect_code(0);
}

#[test]
fn file_that_the_system_makes_up_as_it_is_read_is_backed_up_whole() {
    let host = Host::with_repository();
    host.back_up(&[std::path::Path::new("/proc/version")]);
    let expected = std::fs::read("/proc/version").expect("reads");
    assert_eq!(host.backstay(["cat", "latest:/proc/version"]).run().expect_code(0).stdout, expected);
    host.back_up(&[std::path::Path::new("/proc/version")]);
    assert_eq!(host.backstay(["cat", "latest:/proc/version"]).run().expect_code(0).stdout, expected);
    host.check();
}

#[test]
fn folder_that_was_always_empty_is_refused_too_and_other_folders_push_nothing_out() {
    let host = Host::with_repository();
    for folder in ["empty", "tree", "other"] {
        std::fs::create_dir(host.path(folder)).expect("makes");
    }
    host.backstay(["backup"])
        .arg(host.path("empty"))
        .run()
        .expect_code(2)
        .says(&["there is nothing in", "--allow-empty"]);
    host.write("tree/file", b"content");
    host.write("other/file", b"content");
    for folder in ["tree", "other", "tree"] {
        host.back_up(&[&host.path(folder)]);
    }
    host.backstay(["backup"]).args([host.path("tree"), host.path("other")]).run().expect_code(0);
    host.backstay(["forget", "--keep-last", "1", "--yes"]).run().expect_code(0);
    let left = host.snapshots();
    let sources: Vec<_> = left.iter().map(|snapshot| snapshot["source"].as_str().expect("a source")).collect();
    let (tree, other) = (host.path("tree").display().to_string(), host.path("other").display().to_string());
    assert_eq!(sources, [&other, &tree, &format!("{other}, {tree}")]);
}

#[test]
fn report_and_list_of_snapshots_name_what_failed_however_long_ago() {
    let host = Host::with_repository();
    host.write("tree/file", b"content");
    let text = format!(
        "[repositories.main]\nurl = \"{}\"\n[sources.media]\nkind = \"files\"\npaths = [\"tree\"]\n\
         [sources.log]\nkind = \"command\"\ncommand = [\"seq\", \"1\", \"9\"]\n\
         [sources.down]\nkind = \"redis\"\nurls = [\"redis://127.0.0.1:1\"]\n\
         [jobs.part]\nsources = [\"media\", \"down\"]\n[jobs.nightly]\nsources = [\"media\", \"log\"]\n",
        host.repository().display()
    );
    host.write("backstay.toml", text);
    let command = |words: &[&str]| {
        let mut command = host.backstay(words);
        command.current_dir(host.path(""));
        command
    };
    let ran = command(&["--json", "run", "part"]).run().expect_code(1).json();
    command(&["run", "nightly"]).run().expect_code(0);
    let listed = command(&["snapshots", "--long"]).run().expect_code(0);
    let text = listed.text();
    assert!(
        text.contains("(partial: down failed)") && text.contains("log command") && text.contains("yearly"),
        "{text}"
    );
    let id = ran["snapshot_id"].as_str().expect("an id");
    let report = command(&["report", id]).run().expect_code(0);
    let text = report.text();
    assert!(text.contains("part of ") && text.contains("partial") && text.contains(" protected, "), "{report}");
    assert!(text.contains("down failed: redis at 127.0.0.1:1") && text.contains("refused"), "{report}");
    let kept = command(&["--json", "report", id]).run().expect_code(0).json();
    for name in ["media", "down"] {
        let (told, kept) = (component(&ran, name), component(&kept, name));
        for field in ["kind", "state", "entry_count", "content_len", "new_len", "stored_len"] {
            assert_eq!(told[field], kept[field], "{field} of {name}");
        }
        assert!(kept["seconds"].as_f64().is_some_and(|seconds| seconds >= 0.0), "{kept}");
    }
    assert_eq!(component(&kept, "down")["problems"][0], component(&ran, "down")["failure"]);
    assert_eq!(kept["class"], Value::Null, "what is not whole has no class");
    let newest = host.snapshots().pop().expect("a snapshot");
    assert_eq!((&newest["class"], &newest["state"]), (&"yearly".into(), &"complete".into()));
}

#[test]
fn an_append_only_file_of_redis_is_a_source_and_comes_back() {
    let host = Host::with_repository();
    let (folder, port) = (host.path("redis"), free_port());
    std::fs::create_dir(&folder).expect("a new folder");
    let server =
        redis(&folder, port, &["--appendonly", "yes", "--appenddirname", "our log", "--appendfilename", "cache.aof"]);
    redis_says(port, "debug populate 2000");
    redis_says(port, "bgrewriteaof");
    until("the rewrite", || redis_says(port, "info persistence").contains("aof_rewrite_in_progress:0"));
    redis_says(port, "set after the-rewrite");
    let config = format!(
        "[repositories.main]\nurl = \"{}\"\npassword_file = \"{}\"\n[sources.cache]\nkind = \"redis-aof\"\n\
         path = \"{}\"\n[jobs.cache]\nsources = [\"cache\"]\n",
        host.repository().display(),
        host.path("password").display(),
        folder.join("our log").display(),
    );
    host.write("backstay.toml", config);
    let config = host.path("backstay.toml");
    host.backstay(["run", "cache", "--config"]).arg(&config).run().expect_code(0);
    let hash = redis_says(port, "debug digest");
    drop(server);
    let restored = host.path("restored");
    let document =
        host.backstay(["--json", "restore", "latest", "cache", "--to"]).arg(&restored).run().expect_code(0).json();
    let command = document["next_steps"][1]["command"].as_str().expect("a command");
    assert!(command.ends_with("--appenddirname 'our log' --appendfilename cache.aof"), "{document}");
    let port = free_port();
    let options =
        format!("--port {port} --bind 127.0.0.1 --save '' --enable-debug-command local --aof-load-truncated no");
    let _server = Running::start(Command::new("sh").args(["-c", &format!("exec {command} {options}")]));
    until("Redis", || redis_says(port, "ping") == "PONG");
    until("loading", || redis_says(port, "info persistence").contains("\nloading:0"));
    assert_eq!((redis_says(port, "debug digest"), redis_says(port, "get after")), (hash, "the-rewrite".to_owned()));

    // Without its largest object the repository has no longer all of it: nobody is told to start a server on the rest.
    let largest = shell(&host.repository(), "find . -type f -printf '%s %p\\n' | sort -n | tail -n 1 | cut -d' ' -f2");
    std::fs::remove_file(host.repository().join(largest.trim())).expect("our own repository");
    let lossy = host.path("lossy");
    let document =
        host.backstay(["--json", "restore", "latest", "cache", "--to"]).arg(&lossy).run().expect_code(1).json();
    let problems = document["problems"].as_array().expect("problems");
    assert!(document["problem_count"] == 3 && problems.iter().all(|problem| problem["loses"] == true), "{document}");
    assert_eq!(document["next_steps"], Value::Array(Vec::new()));
    let ran = host.backstay(["restore", "latest", "cache", "--to"]).arg(host.path("again")).run().expect_code(1);
    assert!(ran.stderr.contains("restored, but for what is named above") && !ran.stderr.contains("next,"), "{ran}");
}
