//! The index cache is a hint: whatever becomes of it, the command does its work and says what it could not remember.
//!
//! Invariant: each test runs the real binary, and looks at what was committed with a cache of its own.
//! Never here: what the cache holds (see `store::index_cache`).

use std::fs;
use std::path::Path;

use harness::binary::{Host, Ran, Run as _, need_root, noise, shell};
use harness::mount::SmallDisk;

/// A host with a repository, a tree, and a place of its own for temporary files.
fn host_with_tree() -> Host {
    let host = Host::with_repository();
    let temporary = host.path("tmp");
    fs::create_dir(&temporary).expect("a folder");
    let host = host.with("TMPDIR", &temporary);
    host.write("tree/file", "precious");
    host.write("tree/sub/more", noise("more", 300_000));
    host
}

/// Fails unless the last snapshot restores and every stored byte is right, through a cache that nothing happened to.
#[track_caller]
fn assert_committed(host: &Host, content: &[u8]) {
    let fresh = host.path("fresh-cache").display().to_string();
    let path = format!("latest:{}", host.path("tree/file").display());
    let read = host.backstay(["cat", &path, "--cache-dir", &fresh]).run().expect_code(0);
    assert!(read.stdout == content, "the last snapshot holds something else");
    host.backstay(["check", "--read-data", "--cache-dir", &fresh]).run().expect_code(0);
}

/// Fails unless one warning names the cache and says what to do, and nothing temporary is left.
#[track_caller]
fn warned_once(ran: Ran, host: &Host, texts: &[&str]) {
    let ran = ran.expect_code(0).says(texts);
    let about_cache = ran.stderr.lines().filter(|line| line.starts_with("warning:") && line.contains("index cache"));
    let lines: Vec<_> = about_cache.collect();
    assert_eq!(lines.len(), 1, "{ran}");
    assert!(lines[0].contains(host.path("cache").to_str().expect("a plain path")), "{ran}");
    for left in fs::read_dir(host.path("tmp")).expect("a folder").flatten() {
        assert_eq!(fs::read_dir(left.path()).expect("a folder").count(), 0, "{} is left", left.path().display());
    }
}

#[test]
fn cache_that_cannot_be_a_folder_is_told_and_every_command_works_without() {
    let host = host_with_tree();
    fs::remove_dir_all(host.path("cache")).expect("the cache");
    fs::write(host.path("cache"), "a file").expect("a file");
    let texts = ["cannot use", "this user may write to"];
    warned_once(host.backstay(["backup"]).arg(host.path("tree")).run(), &host, &texts);
    let again = host.backstay(["--json", "backup"]).arg(host.path("tree")).run();
    let report = again.json();
    warned_once(again, &host, &texts);
    assert!(report["stored_len"].as_u64() < Some(10_000), "without a cache it still deduplicates: {report}");
    assert!(report["warnings"][0].as_str().is_some_and(|text| text.contains("index cache")), "{report}");
    warned_once(host.backstay(["ls", "latest"]).run(), &host, &texts);
    warned_once(host.backstay(["check", "--read-data"]).run(), &host, &texts);
    let target = host.path("target");
    warned_once(host.backstay(["restore", "latest", "--target"]).arg(&target).run(), &host, &texts);
    assert_eq!(fs::read_to_string(host.path("cache")).expect("the file"), "a file");
    assert_committed(&host, b"precious");
}

#[test]
fn host_without_a_disk_to_write_to_keeps_its_cache_in_memory() {
    let host = host_with_tree();
    fs::remove_dir_all(host.path("cache")).expect("the cache");
    fs::write(host.path("cache"), "a file").expect("a file");
    fs::remove_dir(host.path("tmp")).expect("the folder");
    let tree = host.path("tree");
    let back_up = || host.backstay(["--json", "backup"]).arg(&tree).run().expect_code(0).says(&["/dev/shm/"]);
    back_up();
    assert!(back_up().json()["stored_len"].as_u64() < Some(10_000));
    assert_committed(&host, b"precious");
}

#[test]
fn garbage_on_a_read_only_disk_in_place_of_the_cache_is_told_and_the_backup_committed() {
    need_root();
    let host = host_with_tree();
    let kept = host.path("kept");
    fs::rename(host.path("cache"), &kept).expect("the cache");
    let disk = SmallDisk::mount(&host.path("cache"), 16);
    shell(&kept, &format!("cp -a . '{}'", disk.path().display()));
    shell(disk.path(), "find . -type f | while read -r file; do head -c 5000 /dev/urandom >\"$file\"; done");
    shell(disk.path(), "mount -o remount,ro .");
    let ran = host.backstay(["backup"]).arg(host.path("tree")).run();
    warned_once(ran, &host, &["Read-only file system", "keep it in another one"]);
    assert_committed(&host, b"precious");
}

#[test]
fn disk_of_the_cache_that_fills_up_during_a_backup_costs_no_snapshot() {
    need_root();
    let host = host_with_tree();
    fs::remove_dir_all(host.path("cache")).expect("the cache");
    // Too small for RocksDB to claim space ahead, which would outlast the rest.
    let disk = SmallDisk::mount(&host.path("cache"), 6);
    let (first, second) = (noise("first", 20 << 20), noise("second", 60 << 20));
    let (one, other) = (host.write("one", &first), host.write("other", &second));
    let fill = disk.path().join("fill");
    let quote = |path: &Path| path.display().to_string();
    let script = format!(
        "cat {0}; dd if=/dev/zero of={2} bs=4k 2>/dev/null; cat {1} {1}",
        quote(&one),
        quote(&other),
        quote(&fill)
    );
    let back_up = || {
        let mut command = host.backstay(["--json", "backup", "--name", "dump", "--cutter", "cdc-4k"]);
        command.args(["--command", "--", "sh", "-c", &script]).run()
    };
    let ran = back_up();
    let report = ran.json();
    assert!(report["warnings"].to_string().contains("no space is left"), "{report}");
    assert!(!report["warnings"].to_string().contains("IO error"), "in the library's own words: {report}");
    warned_once(ran, &host, &["no space is left", "free some space", "may not notice"]);
    let fresh = host.path("fresh-cache").display().to_string();
    let read = host.backstay(["cat", "latest:dump", "--cache-dir", &fresh]).run().expect_code(0);
    assert!(read.stdout == [first.as_slice(), &second, &second].concat(), "what was committed is not what was read");
    host.backstay(["check", "--read-data", "--cache-dir", &fresh]).run().expect_code(0);

    // Still full: the index has to be read, and finds place elsewhere.
    warned_once(host.backstay(["ls", "latest"]).run(), &host, &["no space is left"]);
    fs::remove_file(&fill).expect("the file");
    disk.resize(200);
    let report = back_up().expect_code(0).json();
    assert_eq!(report["warnings"].as_array().map(Vec::len), Some(0), "{report}");
    assert!(report["new_len"].as_u64() < Some(1 << 20), "all of it was found again: {report}");
}

#[test]
fn command_beside_another_says_that_it_remembers_nothing() {
    let host = host_with_tree();
    let tree = host.path("tree");
    host.back_up(&[&tree]);
    let entries = fs::read_dir(host.path("cache")).expect("the cache").map(|entry| entry.expect("an entry").path());
    let lock = entries.filter(|path| path.extension().is_some_and(|name| name == "lock")).collect::<Vec<_>>();
    let [lock] = lock.try_into().expect("one repository");
    let held = fs::File::open(&lock).expect("the lock");
    held.lock().expect("nobody has it");
    let ran = host.backstay(["--json", "backup"]).arg(&tree).run();
    assert!(ran.json()["warnings"].to_string().contains("another command uses the index cache"), "{ran}");
    warned_once(ran, &host, &["remembers nothing", "a cache folder of its own"]);
    drop(held);
    let ran = host.backstay(["backup"]).arg(&tree).run().expect_code(0);
    assert!(!ran.stderr.contains("warning"), "{ran}");
}

#[test]
fn pack_that_no_listed_segment_names_is_not_deduplicated_against() {
    let host = host_with_tree();
    let tree = host.path("tree");
    host.back_up(&[&tree]);
    shell(&host.repository(), "rm index/*");
    let report = host.back_up(&[&tree]);
    assert!(report["stored_len"].as_u64() > Some(300_000), "the packs exist, but nobody else can find them: {report}");
    // No check: the page of the first snapshot that holds the times of /tmp is in no segment, unless nobody used /tmp.
    let fresh = host.path("fresh-cache").display().to_string();
    let target = host.path("restored");
    host.backstay(["restore", "latest", "--cache-dir", &fresh, "--target"]).arg(&target).run().expect_code(0);
    shell(&host.path(""), &format!("diff -r tree restored{}", tree.display()));
    let report = host.back_up(&[&tree]);
    assert!(report["stored_len"].as_u64() < Some(10_000), "{report}");
}

#[test]
fn snapshot_that_vanished_is_told_by_every_host_that_saw_it_until_its_cache_is_cleared() {
    let host = host_with_tree();
    let tree = host.path("tree");
    host.back_up(&[&tree]);
    let second = host.back_up(&[&tree]);
    let id = second["snapshot_id"].as_str().expect("an id");
    let other = host.path("other-cache").display().to_string();
    host.backstay(["snapshots", "--cache-dir", &other]).run().expect_code(0);
    fs::remove_file(host.repository().join("snapshots").join(id)).expect("the snapshot");

    let texts = ["warning: a snapshot that this host has seen vanished", id, "tree of ", "clear this host's cache"];
    for cache in [host.path("cache").display().to_string(), other.clone()] {
        for _ in 0..2 {
            let ran = host.backstay(["snapshots", "--cache-dir", &cache]).run().expect_code(0).says(&texts);
            assert_eq!(ran.stderr.matches("vanished").count(), 1, "{ran}");
        }
    }
    for command in [vec!["--json", "backup"], vec!["--json", "check"]] {
        let is_backup = command.contains(&"backup");
        let ran = host.backstay(command).args(is_backup.then_some(&tree)).run().expect_code(0).says(&texts);
        let warnings = ran.json()["warnings"].to_string();
        assert!(warnings.contains(id), "{warnings}");
    }
    let fresh = host.path("fresh-cache").display().to_string();
    let ran = host.backstay(["snapshots", "--cache-dir", &fresh]).run().expect_code(0);
    assert!(ran.stderr.is_empty(), "a host that never saw it cannot know: {ran}");
    host.backstay(["cache", "clear"]).run().expect_code(0);
    let ran = host.backstay(["snapshots"]).run().expect_code(0);
    assert!(ran.stderr.is_empty(), "{ran}");
}
