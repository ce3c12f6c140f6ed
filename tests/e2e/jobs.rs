//! `backup` as a job that comes back: what it is told to leave out, what it is compared with, and what it says it stored.
//!
//! Invariant: what is in a snapshot is what `ls` of the real binary shows.
//! Never here: metadata and content (see `fidelity`).

use std::collections::BTreeSet;
use std::fs;
use std::path::PathBuf;

use harness::binary::{Host, Run as _, need_root, noise};
use harness::mount::SmallDisk;
use serde_json::Value;

const CACHE_TAG: &str = "Signature: 8a477f597d28d172789f06886806bc55\n# a comment\n";

/// What a backup of `tree` with these words has in it, as paths below the tree; the tree and what leads to it left out.
fn kept(host: &Host, words: &[&str]) -> BTreeSet<String> {
    host.backstay(["backup", "--force"]).args(words).arg(host.path("tree")).run().expect_code(0);
    let listed = host.backstay(["ls", "latest"]).run().expect_code(0);
    let front = format!("{}/", host.path("tree").display()).trim_start_matches('/').to_owned();
    let paths = listed.text().lines().map(|line| line.trim_start_matches('/').trim_end_matches('/'));
    paths.filter_map(|line| line.strip_prefix(&front)).map(str::to_owned).collect()
}

fn set(paths: &[&str]) -> BTreeSet<String> {
    paths.iter().map(|path| (*path).to_owned()).collect()
}

/// A small tree with everything that can be left out.
fn host_with_tree() -> Host {
    let host = Host::with_repository();
    for (name, len) in [("a.log", 10), ("b.txt", 10), ("deep/c.log", 10), ("deep/d.txt", 10), ("large", 5_000)] {
        host.write(&format!("tree/{name}"), noise(name, len));
    }
    host.write("tree/cache/CACHEDIR.TAG", CACHE_TAG);
    host.write("tree/cache/content", "can be made again");
    host.write("tree/no-cache/CACHEDIR.TAG", "something else");
    host.write("tree/no-cache/content", "cannot");
    host.write("tree/marked/.nobackup", "because I say so");
    host.write("tree/marked/below/content", "not wanted");
    host.write("tree/unmarked/.nobackup", "for another reason");
    host
}

const ALL: [&str; 18] = [
    "a.log",
    "b.txt",
    "cache",
    "cache/CACHEDIR.TAG",
    "cache/content",
    "deep",
    "deep/c.log",
    "deep/d.txt",
    "large",
    "marked",
    "marked/.nobackup",
    "marked/below",
    "marked/below/content",
    "no-cache",
    "no-cache/CACHEDIR.TAG",
    "no-cache/content",
    "unmarked",
    "unmarked/.nobackup",
];

/// All but these.
fn all_but(left_out: &[&str]) -> BTreeSet<String> {
    set(&ALL).difference(&set(left_out)).cloned().collect()
}

#[test]
fn patterns_leave_out_what_they_match_and_what_is_below() {
    let host = host_with_tree();
    assert_eq!(kept(&host, &[]), set(&ALL));
    assert_eq!(kept(&host, &["--exclude", "*.log"]), all_but(&["a.log", "deep/c.log"]));
    assert_eq!(
        kept(&host, &["--exclude", "deep", "-e", "large"]),
        all_but(&["deep", "deep/c.log", "deep/d.txt", "large"])
    );
    let anchored = host.path("tree/b.txt");
    assert_eq!(kept(&host, &["--exclude", &anchored.display().to_string()]), all_but(&["b.txt"]));
    assert_eq!(kept(&host, &["--exclude", "/b.txt"]), set(&ALL), "a leading slash means the root of the system");
    assert_eq!(kept(&host, &["--exclude", "*.log", "--exclude", "!c.log"]), all_but(&["a.log"]));
    let file = host.write("excludes", "# a comment\n\n*.txt\nlarge\n");
    let words = ["--exclude-file", &file.display().to_string()];
    assert_eq!(kept(&host, &words), all_but(&["b.txt", "deep/d.txt", "large"]));
}

#[test]
fn includes_keep_only_files_that_match_and_every_directory() {
    let host = host_with_tree();
    let folders = set(&["cache", "deep", "marked", "marked/below", "no-cache", "unmarked"]);
    let with = |files: &[&str]| folders.union(&set(files)).cloned().collect::<BTreeSet<_>>();
    assert_eq!(kept(&host, &["--include", "*.log"]), with(&["a.log", "deep/c.log"]));
    assert_eq!(kept(&host, &["--include", "deep"]), with(&["deep/c.log", "deep/d.txt"]));
    assert_eq!(kept(&host, &["--include", "deep", "--exclude", "*.log"]), with(&["deep/d.txt"]));
}

#[test]
fn marked_directories_keep_their_marker_and_lose_their_content() {
    let host = host_with_tree();
    assert_eq!(kept(&host, &["--exclude-caches"]), all_but(&["cache/content"]));
    let marked = ["marked/below", "marked/below/content"];
    assert_eq!(kept(&host, &["--exclude-if-present", ".nobackup"]), all_but(&marked));
    assert_eq!(kept(&host, &["--exclude-if-present", ".nobackup:because"]), all_but(&marked));
    assert_eq!(kept(&host, &["--exclude-if-present", ".nobackup:since"]), set(&ALL));
    let ran = host.backstay(["backup", "--exclude-if-present", "a/b"]).arg(host.path("tree")).run();
    ran.expect_code(2).says(&["a/b"]);
}

#[test]
fn files_longer_than_a_limit_are_left_out_and_those_of_just_that_length_are_not() {
    let host = host_with_tree();
    assert_eq!(kept(&host, &["--exclude-larger-than", "4999"]), all_but(&["large"]));
    assert_eq!(kept(&host, &["--exclude-larger-than", "5000"]), set(&ALL));
    assert_eq!(kept(&host, &["--exclude-larger-than", "4K"]), all_but(&["large"]));
}

#[test]
fn other_file_systems_are_entered_unless_told_otherwise_and_their_directory_is_kept() {
    need_root();
    let host = Host::with_repository();
    host.write("tree/own", "own content");
    let disk = SmallDisk::mount(&host.path("tree/mounted"), 1);
    fs::write(disk.path().join("other"), "content of another file system").expect("writes");
    let all = set(&["mounted", "mounted/other", "own"]);
    assert_eq!(kept(&host, &[]), all);
    for option in ["-x", "--one-file-system"] {
        assert_eq!(kept(&host, &[option]), set(&["mounted", "own"]), "{option}");
    }
    // What is named itself is entered, on whatever file system it is.
    host.backstay(["backup", "-x"]).arg(disk.path()).run().expect_code(0);
    let listed = host.backstay(["ls", "latest"]).run().expect_code(0);
    assert!(listed.text().contains("mounted/other"), "{listed}");
}

/// Backs up one folder; gives the ids of the snapshot and of its parent.
fn back_up(host: &Host, folder: &PathBuf, password: &PathBuf, cache: &str) -> (Value, Value) {
    let mut command = host.backstay(["--json", "backup", "--source", "files"]);
    command.arg(folder).env("BACKSTAY_PASSWORD_FILE", password).env("BACKSTAY_CACHE_DIR", host.path(cache));
    let report = command.run().expect_code(0).json();
    (report["snapshot_id"].clone(), report["parent_id"].clone())
}

#[test]
fn jobs_of_other_roots_under_one_source_name_are_each_compared_with_their_own() {
    let host = Host::with_repository();
    let writer = host.write_secret("writer", "another password entirely\n");
    host.backstay(["key", "add", "--role", "writer", "--new-password-file"]).arg(&writer).run().expect_code(0);
    let folders = ["one", "two"].map(|name| {
        host.write(&format!("{name}/file"), name);
        host.path(name)
    });
    for (password, cache) in [(host.path("password"), "cache"), (writer.clone(), "writers-cache")] {
        let first = back_up(&host, &folders[0], &password, cache).0;
        let second = back_up(&host, &folders[1], &password, cache).0;
        let (third, parent) = back_up(&host, &folders[0], &password, cache);
        assert_eq!(parent, first, "{cache}");
        assert_eq!(back_up(&host, &folders[1], &password, cache).1, second, "{cache}");
        assert_eq!(back_up(&host, &folders[0], &password, cache).1, third, "{cache}");
    }
    // The owner reads the roots; a writer without its cache takes the newest, whatever it is of.
    let owner = host.path("password");
    let newest = back_up(&host, &folders[0], &owner, "cache").0;
    back_up(&host, &folders[1], &owner, "cache");
    assert_eq!(back_up(&host, &folders[0], &owner, "fresh").1, newest);
    let newest = back_up(&host, &folders[0], &writer, "writers-cache").0;
    assert_eq!(back_up(&host, &folders[1], &writer, "writers-fresh").1, newest);
}

#[test]
fn stored_is_one_figure_in_the_report_in_the_list_and_on_the_disk() {
    let host = Host::with_repository();
    let file = host.write("tree/file", noise("file", 200_000));
    let len = |name: &str| -> u64 {
        let output = host.backstay(["--json", "stats"]).run().expect_code(0).json();
        output[name].as_u64().expect("a length")
    };
    for content in ["file", "other"] {
        fs::write(&file, noise(content, 200_000)).expect("writes");
        let before = len("stored_len");
        let report = host.back_up(&[&file]);
        let listed = host.snapshots().pop().expect("was committed");
        assert_eq!(report["stored_len"], listed["stored_len"]);
        assert_eq!(
            report["stored_len"].as_u64(),
            Some(len("stored_len") - before),
            "and so much larger is the repository"
        );
    }
    let summary = host.backstay(["backup", "--force"]).arg(&file).run().expect_code(0);
    let table = host.backstay(["snapshots"]).run().expect_code(0);
    let stored = summary.stderr.split(" stored in").next().and_then(|front| front.rsplit(", ").next());
    let last = table.text().lines().last().expect("has lines");
    assert!(stored.is_some_and(|stored| last.contains(stored)), "{stored:?} is not in {last}");
}
