//! Hints and wording: what is advised is something that helps.

use std::fs;
use std::path::{Path, PathBuf};

use harness::binary::{Host, Run as _, noise, set_mode, shell};
use harness::running::Running;
use rustix::process::Signal;

/// Changes a byte in the middle of the first object of a folder of the repository.
fn flip(host: &Host, folder: &str) {
    let mut place = host.repository().join(folder);
    while place.is_dir() {
        place = fs::read_dir(&place).expect("a folder").next().expect("an entry").expect("an entry").path();
    }
    let middle = fs::metadata(&place).expect("an object").len() / 2;
    flip_at(&place, usize::try_from(middle).expect("short"));
}

/// Changes a byte of an object.
fn flip_at(place: &Path, at: usize) {
    let mut bytes = fs::read(place).expect("an object");
    bytes[at] ^= 1;
    set_mode(place, 0o600);
    fs::write(place, bytes).expect("an object");
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
    let lost = "bring it back from a copy of the repository";
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
fn check_names_the_copy_that_is_right_for_one_that_is_not() {
    for (damaged, right) in [("keys-copy", "keys/"), ("epochs-copy", "epochs/"), ("keys", "keys-copy/")] {
        let host = Host::with_repository();
        flip(&host, damaged);
        let ran = host.backstay(["check"]).run().expect_code(1);
        ran.says(&["in the store, copy ", right, &format!(" onto {damaged}/")]);
        shell(&host.repository(), &format!("cp {right}* {damaged}"));
        host.check();
    }
}

/// The only object of the repository of a folder whose length fits.
fn pack(host: &Host, sizes: &str) -> PathBuf {
    let found = shell(&host.repository(), &format!("find packs -type f -size {sizes}"));
    assert_eq!(found.lines().count(), 1, "{found}");
    host.repository().join(found.trim())
}

#[test]
fn check_does_not_say_that_a_pack_is_unneeded_when_lost_names_may_need_it() {
    let host = Host::with_repository();
    host.write("tree/file", noise("content", 1_500_000));
    host.back_up(&[&host.path("tree")]);
    let (names, content) = (pack(&host, "-1000k"), pack(&host, "+1000k"));
    fs::remove_file(&names).expect("removes");
    fs::rename(&content, host.path("kept")).expect("moves");
    let unknown = "whether a snapshot needs it cannot be told";
    let ran = host.backstay(["check"]).run().expect_code(1);
    assert!(ran.text().contains("tree/file") && !ran.text().contains(unknown), "this host remembers the names: {ran}");
    let elsewhere = host.path("elsewhere").display().to_string();
    let ran = host.backstay(["check", "--cache-dir", &elsewhere]).run().expect_code(1).says(&[unknown]);
    assert!(!ran.stderr.contains("no snapshot needs it"), "{ran}");
    fs::rename(host.path("kept"), &content).expect("moves back");
    flip_at(&content, 700_000);
    let ran = host.backstay(["check", "--read-data", "--cache-dir", &elsewhere]).run().expect_code(1);
    assert!(ran.text().contains(unknown) && !ran.stderr.contains("no snapshot needs it"), "{ran}");
}

#[test]
fn next_steps_after_lost_content_lead_to_a_whole_repository() {
    let host = Host::with_repository();
    host.write("tree/file", noise("content", 1_500_000));
    host.write("tree/small", "stays");
    host.back_up(&[&host.path("tree")]);
    flip_at(&pack(&host, "+1000k"), 700_000);
    host.backstay(["check", "--read-data"]).run().expect_code(1).says(&["backstay repair packs"]);
    host.backstay(["repair", "packs", "--yes"]).run().expect_code(1).says(&["backstay repair snapshots"]);
    let steps = ["backstay repair index", "what is missed even then is lost", "backstay repair snapshots --forget"];
    host.backstay(["check"]).run().expect_code(1).says(&steps);
    let index = host.backstay(["repair", "index", "--yes"]).run().expect_code(0);
    assert!(!index.stderr.contains("check"), "it leads back to nothing: {index}");
    let kept = host.backstay(["repair", "snapshots", "--yes"]).run().expect_code(1);
    kept.says(&["1 snapshot committed", "hint:", "backstay repair snapshots --forget --yes"]);
    host.backstay(["check"]).run().expect_code(1).says(&steps);
    host.backstay(["repair", "snapshots", "--yes"]).run().expect_code(1).says(&["--forget hides"]);
    host.backstay(["repair", "snapshots", "--forget", "--yes"]).run().expect_code(1).says(&["1 snapshot hidden"]);
    host.backstay(["repair", "snapshots"]).run().expect_code(0).says(&["no snapshot needs repair"]);
    host.backstay(["check"]).run().expect_code(0);
}

#[test]
fn snapshot_that_cannot_be_read_is_told_with_what_mends_it_wherever_it_is_met() {
    let host = Host::with_repository();
    let file = host.write("tree/file", "x");
    host.back_up(&[&file]);
    flip(&host, "snapshots");
    host.backstay(["cache", "clear"]).run().expect_code(0);
    let mends = "backstay repair snapshots --forget";
    let target = host.path("target").display().to_string();
    for (words, code) in [
        (&["snapshots"][..], 0),
        (&["check"], 1),
        (&["restore", "latest", "--target", &target], 2),
        (&["ls", "latest"], 2),
    ] {
        host.backstay(words).run().expect_code(code).says(&[mends]);
    }
    host.backstay(["repair", "snapshots", "--yes"]).run().expect_code(1);
    host.backstay(["repair", "snapshots", "--forget", "--yes"]).run().expect_code(1).says(&["1 snapshot hidden"]);
    host.backstay(["repair", "snapshots"]).run().expect_code(0);
    host.backstay(["check"]).run().expect_code(0);
}

#[test]
fn prune_says_since_when_a_killed_backup_is_silent_and_how_long_it_is_waited_for() {
    let host = Host::with_repository();
    let file = host.write("tree/file", noise("content", 100_000));
    host.back_up(&[&file]);
    let mut running = Running::start(host.backstay(["backup", "--stdin", "--name", "late"]), true);
    let writers = host.repository().join("writers");
    running.wait_until("an announced writer", || {
        let folders = writers.read_dir().into_iter().flatten().flatten();
        let mut records = folders.filter_map(|folder| folder.path().read_dir().ok()).flatten().flatten();
        records.any(|record| !record.file_name().to_string_lossy().contains('#'))
    });
    running.signal(Signal::KILL);
    let (killed, _) = running.finish();
    assert_eq!(killed.code, None, "{killed}");
    let id = host.snapshots()[0]["id"].as_str().expect("an id").to_owned();
    host.backstay(["forget", &id, "--allow-last", "--yes"]).run().expect_code(0);
    let plan = host.backstay(["prune", "-n"]).run().expect_code(0);
    for text in ["not ended: the backup of", "its last sign of life was at 2", "gives it up from 2", "--give-up-after"]
    {
        assert!(plan.text().contains(text), "lacks {text:?}: {plan}");
    }
    host.backstay(["prune", "--yes", "--give-up-after", "0s"]).run().expect_code(0).says(&["1 backup without a sign"]);
    let again = host.backstay(["prune", "-n"]).run().expect_code(0);
    assert!(!again.text().contains("not ended"), "{again}");
}

#[test]
fn restore_that_verifies_says_last_what_it_verified() {
    let host = Host::with_repository();
    let file = host.write("tree/file", "x");
    host.back_up(&[&file]);
    let mut restore = host.backstay(["restore", "latest", "--verify", "--target"]);
    let ran = restore.arg(host.path("target")).run().expect_code(0);
    let last = ran.stderr.lines().last().unwrap_or_default();
    assert!(last.starts_with("verified: content and metadata of") && last.ends_with("as in the snapshot"), "{ran}");
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
