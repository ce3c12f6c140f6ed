//! Repositories that an earlier version of the binary wrote: they open, are whole, restore, and can be written to.
//!
//! `tests/golden/record.sh` records them.

use std::fs;
use std::path::{Path, PathBuf};

use harness::binary::{Host, PASSWORD, Run as _, shell};
use harness::listing::{Listing, listing_of};

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

fn names(listing: &Listing) -> Vec<String> {
    listing.keys().map(|path| path.escape_ascii().to_string()).collect()
}

fn check_trees(host: &Host) {
    let (first, second) = (restored(host, "first"), restored(host, "second"));
    let (before, after) = (listing_of(&first), listing_of(&second));
    let below = ["sub", "sub/empty", "sub/link", "sub/not-utf8-\\xff", "sub/numbers", "sub/second-name", "sub/sparse"];
    assert_eq!(names(&before), [&["", "hello", "nothing"][..], &below].concat());
    assert_eq!(names(&after), [&["", "hello", "new"][..], &below].concat());
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

#[test]
fn password_of_the_golden_repositories_is_in_their_readme() {
    let readme = Path::new(env!("CARGO_MANIFEST_DIR")).join("golden").join("README.md");
    assert!(text(readme).contains(&format!("`{PASSWORD}`")));
}
