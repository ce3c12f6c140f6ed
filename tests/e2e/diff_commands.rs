//! `diff`, as typed: every kind of change between two snapshots, each with its sizes.
//!
//! Invariant: every change that was made is told once, and nothing else.
//! Never here: what it costs (see `cost`).

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

use harness::binary::{Host, Run as _, noise, set_mode, shell};
use serde_json::Value;

/// Two snapshots between which every kind of change was made.
fn changed() -> Host {
    let host = Host::with_repository();
    for (name, content) in
        [("same", "the same"), ("gone", "was here"), ("text", "old"), ("rights", "x"), ("kind", "file")]
    {
        host.write(&format!("tree/{name}"), content);
    }
    for at in 0..300 {
        host.write(&format!("tree/many/{at:03}"), at.to_string());
    }
    symlink("old", host.path("tree/link")).expect("links");
    host.back_up(&[&host.path("tree")]);
    host.write("tree/new", noise("new", 2048));
    fs::remove_file(host.path("tree/gone")).expect("removes");
    host.write("tree/text", "newer");
    set_mode(&host.path("tree/rights"), 0o600);
    fs::remove_file(host.path("tree/kind")).expect("removes");
    fs::create_dir(host.path("tree/kind")).expect("creates");
    fs::remove_file(host.path("tree/link")).expect("removes");
    symlink("new", host.path("tree/link")).expect("links");
    host.back_up(&[&host.path("tree")]);
    host
}

fn ids(host: &Host) -> Vec<String> {
    host.snapshots().iter().map(|one| one["id"].as_str().expect("an id").to_owned()).collect()
}

/// Letter and name of what `diff` says below `folder`, but for folders whose time alone changed.
fn letters(text: &str, folder: &Path) -> Vec<(char, String)> {
    let prefix = format!("{}/", folder.display().to_string().trim_start_matches('/'));
    let named = text.lines().filter_map(|line| {
        let (_, rest) = line.split_once(&prefix)?;
        Some((line.chars().next()?, rest.split(' ').next()?.to_owned()))
    });
    named.collect()
}

#[test]
fn every_kind_of_change_is_told_with_its_sizes() {
    let host = changed();
    let ids = ids(&host);
    let shown = host.backstay(["diff", &ids[0], &ids[1]]).run().expect_code(0);
    let expected = [('-', "gone"), ('T', "kind"), ('M', "link"), ('+', "new"), ('U', "rights"), ('M', "text")];
    let expected: Vec<_> = expected.into_iter().map(|(letter, name)| (letter, name.to_owned())).collect();
    assert_eq!(letters(shown.text(), &host.path("tree")), expected, "{shown}");
    for text in ["3 B -> 5 B", "2.0 KiB", "(mode)", "(file -> directory)"] {
        assert!(shown.text().contains(text), "{text}: {shown}");
    }
    shown.says(&["1 added (2.0 KiB), 1 removed (8 B), 2 with other content (3 B -> 5 B)", "1 of another type"]);
    let back = host.backstay(["diff", &ids[1], &ids[0]]).run().expect_code(0);
    assert_eq!(letters(back.text(), &host.path("tree"))[3], ('-', "new".to_owned()), "{back}");
    let same = host.backstay(["diff", &ids[1], "latest"]).run().expect_code(0).says(&["nothing differs"]);
    assert_eq!(same.text(), "");
    let alone = host.backstay(["diff", "latest"]).run().expect_code(0);
    assert_eq!(alone.text(), host.backstay(["diff", &ids[0], &ids[1]]).run().text(), "with the one before it");
    host.backstay(["diff", &ids[0]]).run().expect_code(2).says(&["no snapshot of the same host and source is older"]);
}

#[test]
fn json_of_a_diff_has_both_sides_and_ends_in_a_summary() {
    let host = changed();
    let ids = ids(&host);
    let ran = host.backstay(["diff", &ids[0], "latest", "--json"]).run().expect_code(0);
    let lines: Vec<Value> = ran.text().lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    let summary = lines.last().expect("a summary");
    assert_eq!((&summary["before_id"], &summary["after_id"]), (&ids[0].as_str().into(), &ids[1].as_str().into()));
    assert_eq!((&summary["is_whole"], &summary["summary"]["added"]["after_len"]), (&true.into(), &2048.into()));
    assert_eq!(summary["summary"]["type"]["count"], 1);
    let of = |name: &str| {
        let path = host.path(name).display().to_string();
        lines.iter().find(|line| line["path"] == path.trim_start_matches('/')).cloned().unwrap_or_default()
    };
    let text = of("tree/text");
    assert_eq!(
        (&text["change"], &text["before"]["content_len"], &text["after"]["content_len"]),
        (&"content".into(), &3.into(), &5.into())
    );
    let rights = of("tree/rights");
    assert_eq!((&rights["change"], &rights["fields"]), (&"metadata".into(), &serde_json::json!(["mode"])));
    assert_eq!((&rights["before"]["mode"], &rights["after"]["mode"]), (&0o644.into(), &0o600.into()));
    assert_eq!((&of("tree/new")["before"], &of("tree/gone")["after"]), (&Value::Null, &Value::Null));
    assert_eq!(of("tree/same"), Value::Null);
}

#[test]
fn a_path_limits_a_diff_and_two_paths_compare_two_folders() {
    let host = Host::with_repository();
    shell(&host.path(""), "mkdir -p a/sub b/sub; echo 1 > a/sub/x; echo 1 > b/sub/x; echo 2 > a/y; echo 3 > b/z");
    shell(&host.path(""), "touch -d @1700000000 a/sub/x b/sub/x a/sub b/sub");
    host.backstay(["backup"]).arg(host.path("a")).arg(host.path("b")).run().expect_code(0);
    host.write("a/sub/x", "changed");
    host.write("b/z", "changed too");
    host.backstay(["backup"]).arg(host.path("a")).arg(host.path("b")).run().expect_code(0);
    let ids = ids(&host);
    let (a, b) = (host.path("a").display().to_string(), host.path("b").display().to_string());
    let limited = host.backstay(["diff", &format!("{}:{a}", ids[0]), "latest"]).run().expect_code(0);
    assert_eq!(letters(limited.text(), Path::new(&a)), [('M', "sub/x".to_owned())], "{limited}");
    assert!(!limited.text().contains("/b/"), "{limited}");

    let two = host.backstay(["diff", &format!("{}:{a}", ids[0]), &format!("{}:{b}", ids[0])]).run().expect_code(0);
    assert!(two.text().contains("- ") && two.text().contains("/a/y") && two.text().contains("/b/z"), "{two}");
    assert!(!two.text().contains("sub"), "the same below both: {two}");
    let missing = host.backstay(["diff", &format!("{}:/nowhere", ids[0]), "latest"]).run();
    missing.expect_code(2).says(&["there is no nowhere", "hint:"]);
}

#[test]
fn diff_of_trees_with_many_entries_tells_the_same_as_their_listings() {
    let host = Host::with_repository();
    for at in 0..2500 {
        host.write(&format!("tree/{}/{at:04}", at % 7), at.to_string());
    }
    host.back_up(&[&host.path("tree")]);
    for at in (0..2500).step_by(250) {
        fs::remove_file(host.path(&format!("tree/{}/{at:04}", at % 7))).expect("removes");
        host.write(&format!("tree/{}/{at:04}-new", at % 7), "n");
    }
    host.back_up(&[&host.path("tree")]);
    let ids = ids(&host);
    let files = |id: &str| {
        let ran =
            host.backstay(["ls", "--json", &format!("{id}:{}", host.path("tree").display())]).run().expect_code(0);
        let documents = ran.text().lines().map(|line| serde_json::from_str::<Value>(line).expect("JSON"));
        let files = documents.filter(|one| one["kind"] == "file");
        files.map(|one| one["path"].as_str().expect("a path").to_owned()).collect::<std::collections::BTreeSet<_>>()
    };
    let (before, after) = (files(&ids[0]), files(&ids[1]));
    let ran = host.backstay(["diff", &ids[0], &ids[1], "--json"]).run().expect_code(0);
    let told = |change: &str| {
        let lines = ran.text().lines().map(|line| serde_json::from_str::<Value>(line).expect("JSON"));
        let paths = lines.filter(|line| line["change"] == change);
        paths.map(|one| one["path"].as_str().expect("a path").to_owned()).collect::<std::collections::BTreeSet<_>>()
    };
    assert_eq!(told("added"), after.difference(&before).cloned().collect());
    assert_eq!(told("removed"), before.difference(&after).cloned().collect());
    assert_eq!(told("content").len(), 0);
}
