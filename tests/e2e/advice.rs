//! Hints and wording: what is advised is something that helps.

use std::fs;
use std::path::Path;

use harness::binary::{Host, Run as _, noise, set_mode, shell};

/// Changes a byte in the middle of the first object of a folder of the repository.
fn flip(host: &Host, folder: &str) {
    let mut place = host.repository().join(folder);
    while place.is_dir() {
        place = fs::read_dir(&place).expect("a folder").next().expect("an entry").expect("an entry").path();
    }
    let mut bytes = fs::read(&place).expect("an object");
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    set_mode(&place, 0o600);
    fs::write(&place, bytes).expect("an object");
}

#[test]
fn backup_with_a_removed_key_is_told_that_the_key_was_removed() {
    let host = Host::with_repository();
    host.write("tree/file", "x");
    let key = host.write_secret("writer.key", noise("writer", 64));
    let mut add = host.backstay(["--json", "key", "add", "--role", "writer", "--new-key-file"]);
    add.arg(&key).run().expect_code(0);
    let listed = host.backstay(["--json", "key", "list"]).run().expect_code(0).json();
    let of_writer = |keys: &serde_json::Value| {
        let keys = keys.as_array().expect("a list").iter();
        keys.filter(|key| key["role"] == "writer").filter_map(|key| key["id"].as_str()).next().map(str::to_owned)
    };
    shell(&host.repository(), "cp -a keys ../kept");
    host.backstay(["key", "remove", &of_writer(&listed).expect("the writer's key")]).run().expect_code(0);
    // As in a store that lets nobody delete.
    shell(&host.repository(), "cp -an ../kept/. keys");
    let by_writer = |words: &[&str]| {
        let mut command = host.backstay(words);
        command.env_remove("BACKSTAY_PASSWORD_FILE").arg("--key-file").arg(&key).run()
    };
    let tree = host.path("tree").display().to_string();
    let refused = by_writer(&["backup", &tree]).expect_code(2).says(&["removed", "hint: use another key"]);
    assert!(!refused.stderr.contains("only backs up"), "{refused}");
}

#[test]
fn check_advises_a_backup_only_for_what_a_backup_makes_again() {
    let again = "back up what is affected again";
    let lost = "is not made again by a backup";
    let cases = [("packs", again, lost), ("snapshots", lost, again), ("index", "loses nothing while its packs", lost)];
    for (folder, says, says_not) in cases {
        let host = Host::with_repository();
        let file = host.write("tree/file", noise("content", 100_000));
        host.back_up(&[&file]);
        flip(&host, folder);
        host.backstay(["cache", "clear"]).run().expect_code(0);
        let ran = host.backstay(["check", "--read-data"]).run().expect_code(1).says(&[says]);
        assert!(!ran.stderr.contains(says_not), "{folder}: {ran}");
    }
}

#[test]
fn stream_that_lacks_command_is_told_about_command() {
    let host = Host::with_repository();
    let ran = host.backstay(["backup", "--name", "x", "--", "echo", "hi"]).run().expect_code(2);
    ran.says(&["--name is for a stream", "hint: add --command"]);
    assert!(host.snapshots().is_empty());
}

#[test]
fn snapshots_at_a_time_are_those_that_began_before_it() {
    let host = Host::with_repository();
    let file = host.write("tree/file", "x");
    host.back_up(&[&file]);
    let count = |at: &str| {
        let listed = host.backstay(["--json", "snapshots", "--at", at]).run().expect_code(0).json();
        listed.as_array().expect("a list").len()
    };
    assert_eq!((count("now"), count("yesterday")), (1, 0));
    host.backstay(["snapshots", "--at", "whenever"]).run().expect_code(2).says(&["whenever", "hint:"]);
}

#[test]
fn usage_shows_no_option_as_required_that_the_environment_gives() {
    let host = Host::with_repository();
    for words in [&["restore", "latest"][..], &["restore", "latest", "--target", "x", "--yes"], &["cat"], &["ls"]] {
        let ran = host.backstay(words).run().expect_code(2).says(&["Usage: backstay"]);
        assert!(!ran.stderr.contains("--repository") && !ran.stderr.contains("--cache-dir"), "{ran}");
    }
}

#[test]
fn cache_that_is_not_there_is_not_counted_as_cleared() {
    let host = Host::with_repository();
    let file = host.write("tree/file", "x");
    host.back_up(&[&file]);
    let clear = || host.backstay(["cache", "clear"]).run().expect_code(0);
    clear().says(&["1 cache cleared"]);
    let again = clear().says(&["there was no cache to clear"]);
    assert!(!again.stderr.contains("1 cache"), "{again}");
    assert!(Path::new(&file).exists());
}

#[test]
fn listing_gives_the_bytes_of_a_link_that_is_no_text() {
    let host = Host::with_repository();
    host.write("tree/file", "x");
    let tree = host.path("tree");
    shell(&tree, r"ln -s $'to-\xff' odd; ln -s file plain");
    host.back_up(&[&tree]);
    let listed = host.backstay(["--json", "ls", "latest"]).run().expect_code(0);
    let entry = |name: &str| {
        let entries = listed.text().lines().map(|line| serde_json::from_str::<serde_json::Value>(line).expect("JSON"));
        let mut fitting = entries.filter(|entry| entry["path"].as_str().is_some_and(|path| path.ends_with(name)));
        fitting.next().expect("an entry")
    };
    assert_eq!(entry("odd")["link_target_hex"], "746f2dff");
    assert_eq!((&entry("plain")["link_target"], entry("plain").get("link_target_hex")), (&"file".into(), None));
}
