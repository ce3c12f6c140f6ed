//! Append-only files of servers which go on writing and rewriting them.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use source::redis::{append_only, append_only_preflight};

use super::*;
use source::Verdict;

use crate::preflight::finds;
use crate::running::Read;

const APPENDS: [&str; 2] = ["--appendonly", "yes"];
/// A server that takes nothing that is cut.
const STRICT: [&str; 4] = ["--appendonly", "yes", "--aof-load-truncated", "no"];

fn folder_of(server: &Redis) -> PathBuf {
    server.folder.path().join("appendonlydir")
}

/// A server over what was read.
fn restored(read: &Read, settings: &[&str]) -> Redis {
    let folder = TempDir::with_prefix("backstay-redis-").unwrap();
    for entry in &read.entries {
        let path = folder.path().join(&entry.name);
        match entry.name.contains('/') {
            true => std::fs::write(path, &entry.data).unwrap(),
            false => std::fs::create_dir(path).unwrap(),
        }
    }
    let server = Redis::start_in(folder, &[settings, &DEBUG].concat());
    until(|| server.cli(&["info", "persistence"]).contains("\nloading:0"));
    server
}

async fn read_folder(folder: &Path) -> Read {
    read(append_only(folder.to_owned())).await.unwrap()
}

#[tokio::test]
async fn an_append_only_file_comes_back_with_what_was_written_since_its_base() {
    for preamble in ["yes", "no"] {
        let settings = [APPENDS.as_slice(), &DEBUG, &["--aof-use-rdb-preamble", preamble]].concat();
        let server = Redis::start(&settings);
        server.fill(5000, 20);
        server.cli(&["bgrewriteaof"]);
        until(|| server.cli(&["info", "persistence"]).contains("aof_rewrite_in_progress:0"));
        server.cli(&["-n", "3", "rpush", "list", "a", "b"]);
        server.cli(&["eval", "redis.call('set', 'a', 1) redis.call('set', 'b', 2)", "0"]);
        let read = read_folder(&folder_of(&server)).await;
        assert!(read.fact("command_count").parse::<u64>().unwrap() >= 4 && read.fact("cut_len") == "0");
        assert!(read.fact("base").ends_with(if preamble == "yes" { ".base.rdb" } else { ".base.aof" }));
        assert!(read.names().last().unwrap().ends_with("appendonlydir/appendonly.aof.manifest"));
        let copy = restored(&read, &STRICT);
        assert_eq!(copy.hash(), server.hash());
        assert_eq!(copy.cli(&["dbsize"]), "5002");
    }
}

#[tokio::test]
async fn what_is_read_while_a_server_writes_and_rewrites_is_of_one_moment_and_loads() {
    let server = Redis::start(&[APPENDS.as_slice(), &DEBUG, &["--auto-aof-rewrite-percentage", "0"]].concat());
    server.fill(20_000, 20);
    let is_over = Arc::new(AtomicBool::new(false));
    let (stop, port) = (Arc::clone(&is_over), server.port.to_string());
    let writer = std::thread::Builder::new()
        .spawn(move || {
            // Pairs in one transaction, so that a moment within one would show.
            let script = "for i = 1, 200 do redis.call('incr', 'one') redis.call('incr', 'two') end";
            let say = |words: &[&str]| printed(Command::new("redis-cli").args(["-p", &port]).args(words));
            while !stop.load(Ordering::Relaxed) {
                say(&["eval", script, "0"]);
                say(&["bgrewriteaof"]);
            }
        })
        .unwrap();
    until(|| server.cli(&["get", "one"]).parse::<u64>().is_ok());
    let mut last = 0;
    for _ in 0..6 {
        let before: u64 = server.cli(&["get", "one"]).parse().unwrap();
        let read = read_folder(&folder_of(&server)).await;
        let copy = restored(&read, &STRICT);
        let count = |key: &str| copy.cli(&["get", key]).parse::<u64>().unwrap();
        assert_eq!((count("one"), copy.cli(&["dbsize"])), (count("two"), "20002".to_owned()));
        assert!(count("one") >= before.max(last), "{} < {before}", count("one"));
        last = count("one");
    }
    is_over.store(true, Ordering::Relaxed);
    writer.join().unwrap();
}

#[tokio::test]
async fn a_command_that_is_being_written_is_left_out_and_damage_is_refused() {
    let server = Redis::start(&APPENDS);
    server.fill(100, 20);
    server.cli(&["set", "last", "value"]);
    let folder = TempDir::new().unwrap();
    let copied = folder.path().join("aof");
    printed(Command::new("cp").arg("-r").arg(folder_of(&server)).arg(&copied));
    let file = copied.join("appendonly.aof.1.incr.aof");
    let whole = std::fs::read(&file).unwrap();
    std::fs::write(&file, &whole[..whole.len() - 5]).unwrap();
    let read_cut = read_folder(&copied).await;
    let cut_len: u64 = read_cut.fact("cut_len").parse().unwrap();
    assert!(cut_len > 20, "{cut_len}");
    let mut damaged = whole.clone();
    damaged[whole.len() - 12] = b'9';
    std::fs::write(&file, &damaged).unwrap();
    let words = failed(read(append_only(copied.clone())).await, Fault::Damaged);
    assert!(words.contains("appendonly.aof.1.incr.aof"), "{words}");
    std::fs::write(&file, &whole).unwrap();
    let base = copied.join("appendonly.aof.1.base.rdb");
    let mut bytes = std::fs::read(&base).unwrap();
    let last = bytes.len() - 1;
    bytes[last] ^= 1;
    std::fs::write(&base, &bytes).unwrap();
    failed(read(append_only(copied.clone())).await, Fault::Damaged);
    std::fs::remove_file(&base).unwrap();
    failed(read(append_only(copied.clone())).await, Fault::Missing);
    std::fs::write(copied.join("appendonly.aof.manifest"), "file ../x seq 1 type b\n").unwrap();
    failed(read(append_only(copied.clone())).await, Fault::Protocol);
    std::fs::remove_file(copied.join("appendonly.aof.manifest")).unwrap();
    let words = failed(read(append_only(copied)).await, Fault::Missing);
    assert!(words.contains("is appendonly on"), "{words}");
}

#[tokio::test]
async fn newer_servers_write_the_same_form() {
    let root = newer_root();
    for program in ["redis-server", "valkey-server"] {
        let settings =
            [APPENDS.as_slice(), &["--aof-timestamp-enabled", "yes", "--enable-debug-command", "yes"]].concat();
        let server = Redis::start_newer(&root, program, &settings);
        server.fill(1000, 20);
        server.cli(&["bgrewriteaof"]);
        until(|| server.cli(&["info", "persistence"]).contains("aof_rewrite_in_progress:0"));
        server.cli(&["set", "a", "b"]);
        let read = read_folder(&folder_of(&server)).await;
        assert!(read.fact("command_count").parse::<u64>().unwrap() >= 1);
        assert_eq!(read.fact("increment_count"), "1");
    }
}

#[tokio::test]
async fn a_preflight_opens_what_a_backup_opens_and_says_what_is_missing() {
    let server = Redis::start(&APPENDS);
    server.fill(100, 20);
    let preflight = append_only_preflight;
    finds(&preflight(folder_of(&server)).await, Verdict::Fine, "in 2 files, all of which open", "");
    let folder = TempDir::new().unwrap();
    let copied = folder.path().join("aof");
    printed(Command::new("cp").arg("-r").arg(folder_of(&server)).arg(&copied));
    std::fs::remove_file(copied.join("appendonly.aof.1.incr.aof")).unwrap();
    finds(&preflight(copied.clone()).await, Verdict::Problem, "1.incr.aof cannot be read", "redis-check-aof");
    std::fs::write(copied.join("appendonly.aof.manifest"), "file ../x seq 1 type b\n").unwrap();
    finds(&preflight(copied.clone()).await, Verdict::Problem, "is not a manifest", "see that the folder");
    std::fs::remove_file(copied.join("appendonly.aof.manifest")).unwrap();
    finds(&preflight(copied).await, Verdict::Problem, "it has no manifest", "turn appendonly on");
    let elsewhere = folder.path().join("none");
    finds(&preflight(elsewhere).await, Verdict::Problem, "the folder cannot be read", "correct the path");
}
