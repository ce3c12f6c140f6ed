//! What `check` remembers of what it verified: ages, time limits, shards, and the packs of one snapshot.
//!
//! Invariant: what is written down spares reading for as long as the age that was asked for, and hides nothing for longer.
//! Never here: what damage breaks (see `check`, `damage`).

use std::fs;
use std::path::{Path, PathBuf};

use harness::binary::{Host, Ran, Run as _, noise, set_mode, shell};
use pack::names;
use serde_json::Value;

/// Backups of a file each: a pack of data and one of names for each.
const BACKUPS: usize = 4;

fn host_with_packs() -> (Host, Vec<PathBuf>) {
    let host = Host::with_repository();
    let files: Vec<PathBuf> =
        (0..BACKUPS).map(|at| host.write(&format!("tree/{at}"), noise(&format!("{at}"), 40_000))).collect();
    for file in &files {
        host.back_up(&[file]);
    }
    (host, files)
}

fn files_below(folder: &Path) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(folder) else { return Vec::new() };
    let paths = entries.map(|entry| entry.expect("an entry").path());
    let mut found: Vec<_> =
        paths.flat_map(|path| if path.is_dir() { files_below(&path) } else { vec![path] }).collect();
    found.sort();
    found
}

fn packs(host: &Host) -> Vec<PathBuf> {
    files_below(&host.repository().join(names::PACKS))
}

fn records(host: &Host) -> Vec<PathBuf> {
    files_below(&host.repository().join(names::CHECKS))
}

fn len_of(files: &[PathBuf]) -> u64 {
    files.iter().map(|path| fs::metadata(path).expect("is there").len()).sum()
}

fn largest(files: &[PathBuf]) -> PathBuf {
    files.iter().max_by_key(|path| fs::metadata(path).expect("is there").len()).expect("some").clone()
}

/// Flips the lowest bit of a byte in the middle.
fn flip(path: &Path) {
    let mut bytes = fs::read(path).expect("reads");
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    set_mode(path, 0o600);
    fs::write(path, bytes).expect("writes");
}

/// Makes the store say that it took each record so long ago.
fn age(host: &Host, ago: &str) {
    for record in records(host) {
        shell(&host.path(""), &format!("touch -d '{ago} ago' {}", record.display()));
    }
}

fn check(host: &Host, words: &[&str]) -> Ran {
    host.backstay(["--json", "check"]).args(words).run()
}

fn read_len(report: &Value) -> u64 {
    report["read_len"].as_u64().expect("a length")
}

#[test]
fn check_that_runs_out_of_time_ends_well_and_the_next_one_goes_on_with_what_was_verified_longest_ago() {
    let (host, _) = host_with_packs();
    let packs = packs(&host);
    let mut read = 0;
    for round in 1..=packs.len() {
        // No time at all is enough for one pack.
        let report = check(&host, &["--max-age", "30d", "--max-duration", "1ms"]).expect_code(0).json();
        read += read_len(&report);
        let verified = &report["verified"];
        assert_eq!(verified["left_pack_count"], packs.len() - round, "{report}");
        assert_eq!((&verified["within_len"], &verified["max_age_seconds"]), (&read.into(), &2_592_000.into()));
        assert_eq!(verified["never_len"], len_of(&packs) - read, "{report}");
        assert_eq!(records(&host).len(), 1, "one record holds all");
    }
    assert_eq!(read, len_of(&packs), "every pack once");
    let done = check(&host, &["--max-age", "30d"]).expect_code(0).json();
    assert_eq!((read_len(&done), &done["verified"]["within_len"]), (0, &read.into()), "{done}");
    // Without an age the oldest comes again.
    let again = check(&host, &["--max-duration", "1ms"]).expect_code(0).json();
    assert!(read_len(&again) > 0 && read_len(&again) < read, "{again}");
    let said = host.backstay(["check", "--max-age", "30d", "--max-duration", "1ms"]).run().expect_code(0);
    said.says(&["verified within 30 days: 100 % of the repository", "the oldest part at "]);
    let said = host.backstay(["check", "--max-duration", "1ms"]).run().expect_code(0);
    said.says(&["time is over: ", "goes on from there"]);
}

#[test]
fn shards_on_machines_of_their_own_read_every_pack_once_and_remember_it_together() {
    let (host, _) = host_with_packs();
    let total = len_of(&packs(&host));
    let shards: Vec<_> = std::thread::scope(|scope| {
        let run = |k: usize| {
            let mut command = host.backstay(["--json", "check", "--read-data", "--shard", &format!("{k}/3")]);
            command.env("BACKSTAY_CACHE_DIR", host.path(&format!("cache-{k}")));
            command.run().expect_code(0).json()
        };
        let running: Vec<_> = (1..=3).map(|k| scope.spawn(move || run(k))).collect();
        running.into_iter().map(|shard| shard.join().expect("ends")).collect()
    });
    assert_eq!(shards.iter().map(read_len).sum::<u64>(), total);
    assert!((1..=3).contains(&records(&host).len()), "{:?}", records(&host));
    let after = check(&host, &["--max-age", "1h"]).expect_code(0).json();
    assert_eq!((read_len(&after), &after["verified"]["within_len"]), (0, &total.into()), "{after}");
    check(&host, &["--read-data-subset", "1"]).expect_code(0);
    assert_eq!(records(&host).len(), 1, "they were merged");
    host.backstay(["check", "--shard", "4/3"]).run().expect_code(2).says(&["a shard is K/N"]);
}

#[test]
fn damage_is_found_when_the_age_is_over_by_the_stores_time_and_again_until_it_is_gone() {
    let (host, _) = host_with_packs();
    let total = len_of(&packs(&host));
    check(&host, &["--read-data"]).expect_code(0);
    let damaged = largest(&packs(&host));
    flip(&damaged);
    assert_eq!(read_len(&check(&host, &["--max-age", "30d"]).expect_code(0).json()), 0, "it need not be read yet");
    // What the record says of its own time counts no longer than what the store says.
    age(&host, "40 days");
    let found = check(&host, &["--max-age", "30d"]).expect_code(1).json();
    assert_eq!(read_len(&found), total);
    // All others are young now; what is damaged counts as never verified, however often it is read.
    for _ in 0..2 {
        let again = check(&host, &["--max-age", "30d"]).expect_code(1).json();
        assert_eq!(read_len(&again), len_of(std::slice::from_ref(&damaged)), "{again}");
        assert_eq!(again["verified"]["never_len"], len_of(std::slice::from_ref(&damaged)));
    }
}

#[test]
fn damaged_record_is_told_ignored_and_replaced() {
    let (host, _) = host_with_packs();
    let total = len_of(&packs(&host));
    check(&host, &["--read-data"]).expect_code(0);
    let [record] = <[PathBuf; 1]>::try_from(records(&host)).expect("one record");
    flip(&record);
    let report = check(&host, &["--max-age", "30d"]).expect_code(0).json();
    assert_eq!(read_len(&report), total, "it spares nothing");
    let name = record.file_name().and_then(|name| name.to_str()).expect("a name");
    let warnings: Vec<_> = report["warnings"].as_array().expect("a list").iter().filter_map(Value::as_str).collect();
    assert!(matches!(warnings.as_slice(), [one] if one.contains(name) && one.contains("not used")), "{warnings:?}");
    let [fresh] = <[PathBuf; 1]>::try_from(records(&host)).expect("one record");
    assert_ne!(fresh, record);
    let report = check(&host, &["--max-age", "30d"]).expect_code(0).json();
    assert_eq!((read_len(&report), report["warnings"].as_array().map(Vec::len)), (0, Some(0)), "{report}");
    // One under the name of another says nothing either.
    fs::rename(&fresh, &record).expect("renames");
    assert_eq!(read_len(&check(&host, &["--max-age", "30d"]).expect_code(0).json()), total);
}

#[test]
fn check_without_data_writes_nothing_and_a_reader_says_that_it_may_not() {
    let (host, _) = host_with_packs();
    check(&host, &[]).expect_code(0);
    assert_eq!(records(&host), Vec::<PathBuf>::new());
    let password = host.write_secret("reader", "another password entirely\n");
    host.backstay(["key", "add", "--role", "reader", "--new-password-file"]).arg(&password).run().expect_code(0);
    let mut command = host.backstay(["check", "--read-data"]);
    command.env("BACKSTAY_PASSWORD_FILE", &password).env("BACKSTAY_CACHE_DIR", host.path("readers-cache"));
    let said = command.run().expect_code(0);
    said.says(&["could not be written down", "a reader key cannot", "the repository is whole"]);
    assert_eq!(records(&host), Vec::<PathBuf>::new());
}

#[test]
fn what_a_writer_hashed_counts_for_writers_and_only_what_the_owner_opened_for_the_owner() {
    let (host, _) = host_with_packs();
    let total = len_of(&packs(&host));
    let password = host.write_secret("writer", "another password entirely\n");
    host.backstay(["key", "add", "--role", "writer", "--new-password-file"]).arg(&password).run().expect_code(0);
    let as_writer = |words: &[&str]| {
        let mut command = host.backstay(["--json", "check"]);
        command.args(words).env("BACKSTAY_PASSWORD_FILE", &password);
        command.env("BACKSTAY_CACHE_DIR", host.path("writers-cache"));
        command.run().expect_code(0).json()
    };
    as_writer(&["--read-data"]);
    assert_eq!(read_len(&as_writer(&["--max-age", "30d"])), 0);
    assert_eq!(read_len(&check(&host, &["--max-age", "30d"]).expect_code(0).json()), total, "hashed is not opened");
    assert_eq!(records(&host).len(), 1, "the owner's record holds the writer's");
    assert_eq!(read_len(&as_writer(&["--max-age", "30d"])), 0);
    // A writer leaves the owner's record alone: what was opened stays known.
    as_writer(&["--read-data"]);
    assert_eq!(records(&host).len(), 2);
    assert_eq!(read_len(&check(&host, &["--max-age", "30d"]).expect_code(0).json()), 0);
}

#[test]
fn packs_of_one_snapshot_are_read_and_no_others() {
    let host = Host::with_repository();
    let mut own = Vec::new();
    for at in 0..3 {
        let before = packs(&host);
        let file = host.write(&format!("tree/{at}"), noise(&format!("{at}"), 40_000));
        let id = host.back_up(&[&file])["snapshot_id"].as_str().expect("an id").to_owned();
        own.push((id, packs(&host).into_iter().filter(|pack| !before.contains(pack)).collect::<Vec<_>>()));
    }
    for (id, packs) in &own {
        let report = check(&host, &["--snapshot", &id[..12]]).expect_code(0).json();
        assert_eq!(read_len(&report), len_of(packs), "{report}");
    }
    let newest = check(&host, &["--snapshot", "latest"]).expect_code(0).json();
    assert_eq!(read_len(&newest), len_of(&own[2].1));
    flip(&largest(&own[0].1));
    check(&host, &["--snapshot", &own[1].0]).expect_code(0);
    let found = check(&host, &["--snapshot", &own[0].0]).expect_code(1).json();
    assert_eq!(found["damages"].as_array().map(Vec::len), Some(1), "{found}");
    host.backstay(["check", "--snapshot", "ffffffff"]).run().expect_code(2).says(&["no snapshot"]);
}
