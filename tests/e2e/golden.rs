//! Repositories that an earlier version of the binary wrote: they open, are whole, restore, and can be written to.
//!
//! `tests/golden/record.sh` records them.

use std::fs;
use std::path::{Path, PathBuf};

use harness::binary::{Host, PASSWORD, Run as _, shell};
use harness::listing::{Listing, listing_of};
use pack::{Config, Frame, Role, names};
use seal::ObjectKind;

const SOURCE: &str = "/tmp/backstay-golden";
const FIRST_AT: &str = "mtime=1795086400.123456789";
const SECOND_AT: &str = "mtime=1795176000.000000000";

/// A host with a copy of a golden repository.
fn host_with(name: &str) -> Host {
    let host = Host::new();
    let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("golden").join(name);
    shell(&host.path(""), &format!("cp -r '{}' repository", golden.display()));
    host
}

fn restored(host: &Host, tag: &str) -> PathBuf {
    let target = host.path(&format!("target-{tag}"));
    let mut command = host.backstay(["restore", "--verify", "--owner", "none", "--tag", tag, "--target"]);
    command.arg(&target).arg(format!("latest:{SOURCE}")).run().expect_code(0);
    target
}

fn numbers(last: u32) -> String {
    (1..=last).map(|number| format!("{number}\n")).collect()
}

fn text(path: PathBuf) -> String {
    String::from_utf8(fs::read(&path).unwrap_or_else(|error| panic!("{path:?}: {error}"))).expect("text")
}

fn names_in(listing: &Listing) -> Vec<String> {
    listing.keys().map(|path| path.escape_ascii().to_string()).collect()
}

fn check_trees(host: &Host) {
    let (first, second) = (restored(host, "first"), restored(host, "second"));
    let (before, after) = (listing_of(&first), listing_of(&second));
    let below = ["sub", "sub/empty", "sub/link", "sub/not-utf8-\\xff", "sub/numbers", "sub/second-name", "sub/sparse"];
    assert_eq!(names_in(&before), [&["", "hello", "nothing"][..], &below].concat());
    assert_eq!(names_in(&after), [&["", "hello", "new"][..], &below].concat());
    assert!(before.values().all(|line| line.contains(FIRST_AT)), "{before:#?}");
    assert!(after.values().all(|line| line.contains(SECOND_AT)), "{after:#?}");
    for (listing, folder) in [(&before, &first), (&after, &second)] {
        let has =
            |path: &str, what: &str| assert!(listing[path.as_bytes()].contains(what), "{}", listing[path.as_bytes()]);
        has("sub", "mode=40750");
        has("sub/numbers", "mode=100640");
        has("sub/link", "symlink to=../hello");
        has("sub/second-name", "links=2 first=hello");
        assert_eq!(text(folder.join("hello")), "hello\n");
        let sparse = fs::read(folder.join("sub/sparse")).expect("the sparse file");
        assert!(sparse == [&[0; 1 << 20][..], b"end"].concat());
    }
    assert_eq!(text(first.join("nothing")), "");
    assert_eq!(text(second.join("new")), "new\n");
    assert_eq!(text(first.join("sub/numbers")), numbers(4000));
    assert_eq!(text(second.join("sub/numbers")), numbers(4000).replace("\n2000\n", "\nchanged\n"));
}

fn check_repository(name: &str) {
    let host = host_with(name);
    let snapshots = host.snapshots();
    let sources: Vec<_> = snapshots.iter().filter_map(|snapshot| snapshot["source"].as_str()).collect();
    assert_eq!(sources, ["files", "out.txt", "files"]);
    host.check();
    check_trees(&host);
    let cat = host.backstay(["cat", "latest", "--source", "out.txt"]).run().expect_code(0);
    assert_eq!(cat.text(), numbers(2000));

    // What is there serves what is written now.
    host.write("tree/numbers", numbers(4000));
    let report = host.back_up(&[&host.path("tree")]);
    assert!(report["new_len"].as_u64() < Some(5000), "known content was stored again: {report}");
    host.check();
    let folder = host.path("tree").display().to_string();
    let cat = host.backstay(["cat", &format!("latest:{folder}/numbers")]).run().expect_code(0);
    assert_eq!(cat.text(), numbers(4000));
}

#[test]
fn repository_of_one_epoch_opens_restores_and_goes_on() {
    check_repository("v1-one-epoch");
}

#[test]
fn repository_of_two_epochs_opens_restores_and_goes_on() {
    check_repository("v1-two-epochs");
}

/// The objects below `prefix`, as bytes.
fn objects(host: &Host, prefix: &str) -> Vec<Vec<u8>> {
    let entries = fs::read_dir(host.repository().join(prefix)).expect("a folder of the repository");
    entries.map(|entry| fs::read(entry.expect("an entry").path()).expect("reads")).collect()
}

#[test]
fn repository_backed_up_with_a_key_of_a_writer_opens_restores_and_goes_on() {
    check_repository("v1-writers-key");
}

#[test]
fn what_a_key_of_a_writer_wrote_is_believed_by_its_certificate_alone() {
    let host = host_with("v1-writers-key");
    let config = Config::decode(&fs::read(host.repository().join(names::CONFIG)).expect("reads")).expect("decodes");
    for (prefix, kind) in [(names::SNAPSHOTS, ObjectKind::SnapshotStructure), (names::INDEX, ObjectKind::Segment)] {
        let all = objects(&host, prefix);
        assert_eq!(all.len(), 3, "{prefix}");
        for bytes in all {
            let frame = Frame::decode(&bytes, kind, config.repository).expect("decodes");
            assert_eq!(frame.role(config.owner, config.repository), Some(Role::Writer), "{prefix}");
            assert_ne!(frame.signer, config.owner, "{prefix}");
        }
    }
    let keys = host.backstay(["--json", "key", "list"]).run().expect_code(0).json();
    let writer = keys.as_array().and_then(|keys| keys.iter().find(|key| key["role"] == "writer")).expect("a writer");
    let slot = writer["id"].as_str().expect("an id");
    for folder in [names::KEYS, names::KEYS_COPY] {
        fs::remove_file(host.repository().join(folder).join(slot)).expect("the writer's slot");
    }
    assert!(host.snapshots().iter().all(|snapshot| snapshot["trusted"] == true), "{:?}", host.snapshots());
    host.check();
    check_trees(&host);
}

#[test]
fn password_of_the_golden_repositories_is_in_their_readme() {
    let readme = Path::new(env!("CARGO_MANIFEST_DIR")).join("golden").join("README.md");
    assert!(text(readme).contains(&format!("`{PASSWORD}`")));
}

/// Everything that is there or forgotten, as its tag and its id.
fn tagged(host: &Host, options: &[&str]) -> Vec<(String, String)> {
    let listed = host.backstay(["--json", "snapshots"]).args(options).run().expect_code(0).json();
    let text = |value: &serde_json::Value| value.as_str().unwrap_or_default().to_owned();
    let all = listed.as_array().expect("a list").iter();
    all.map(|one| (text(&one["tags"][0]), text(&one["id"]))).collect()
}

#[test]
fn repository_of_the_day_on_which_the_format_was_frozen_opens_restores_and_goes_on() {
    let host = host_with("v1-frozen");
    check_trees(&host);
    host.check();
    let there = tagged(&host, &[]);
    let tags: Vec<&str> = there.iter().map(|(tag, _)| tag.as_str()).collect();
    assert_eq!(tags, ["", "first", "", "second", "back", "rewritten"], "the copied stream is the oldest");
    for (tag, id) in &there {
        let target = host.path(&format!("of {id}"));
        host.backstay(["restore", "--owner", "none", id, "--target"]).arg(&target).run().expect_code(0);
        let secret = target.join(SOURCE.trim_start_matches('/')).join("secret");
        assert!(!secret.exists(), "{tag} was rewritten without it");
    }
    let cat = host.backstay(["cat", "latest", "--source", "out.txt"]).run().expect_code(0);
    assert_eq!(cat.text(), numbers(2000));
    let held: Vec<bool> = host.snapshots().iter().map(|one| !one["held"].is_null()).collect();
    assert_eq!(held, [false, true, false, false, false, false]);
    // What is forgotten comes back, and what is not needed any more goes.
    let forgotten = tagged(&host, &["--forgotten"]);
    let (_, id) = forgotten.iter().find(|(tag, _)| tag == "forgotten").expect("is still there");
    host.backstay(["undelete", id]).run().expect_code(0);
    let place = format!("latest:{SOURCE}/forgotten");
    assert_eq!(host.backstay(["cat", &place]).run().expect_code(0).text(), "forgotten\n");
    host.backstay(["prune", "--max-unused", "0", "--give-up-after", "0s", "--yes"]).run().expect_code(0);
    host.check();
    check_trees(&host);
    assert!(fs::read_dir(host.repository().join("writers")).map_or(true, |mut left| left.next().is_none()));
}
