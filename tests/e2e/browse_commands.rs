//! `ls`, `find`, `versions` and `cat` of ranges, as typed: what is in which snapshot, and how large it is.
//!
//! Invariant: what a command says is compared with the trees that were backed up.
//! Never here: what changed between two snapshots (see `diff_commands`).

use std::collections::BTreeSet;
use std::ffi::{OsStr, OsString};
use std::fs;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

use harness::binary::{Host, Ran, Run as _, noise};
use serde_json::Value;

/// Every line of stdout as a JSON document.
fn documents(ran: &Ran) -> Vec<Value> {
    let lines = ran.text().lines().map(serde_json::from_str);
    lines.map(|line| line.unwrap_or_else(|error| panic!("no JSON ({error}): {ran}"))).collect()
}

/// A host with a tree that was backed up.
fn with_tree() -> Host {
    let host = Host::with_repository();
    host.write("tree/a.conf", "one");
    host.write("tree/sub/large.bin", noise("large", 3 << 20));
    host.write("tree/sub/deep/b.conf", "three");
    host.write("tree/sub/deep/c.txt", "four");
    host.back_up(&[&host.path("tree")]);
    host
}

/// A path below the tree as snapshots have it.
fn stored(host: &Host, name: &str) -> String {
    host.path(name).display().to_string().trim_start_matches('/').to_owned()
}

#[test]
fn ls_shows_folders_with_the_size_of_all_that_is_below_them() {
    let host = with_tree();
    let place = format!("latest:{}", host.path("tree").display());
    let all = host.backstay(["ls", &place]).run().expect_code(0);
    assert_eq!(all.text().lines().count(), 7, "{all}");
    let one = documents(&host.backstay(["ls", "--depth", "1", "--json", &place]).run().expect_code(0));
    let of = |documents: &[Value], name: &str| {
        let path = stored(&host, name);
        documents.iter().find(|document| document["path"] == path.as_str()).cloned().unwrap_or_default()
    };
    assert_eq!(one.len(), 3, "the folder, a file and a folder: {one:?}");
    assert_eq!(of(&one, "tree/sub")["below_len"], (3 << 20) + 9);
    assert_eq!(of(&one, "tree/a.conf")["content_len"], 3);
    let two = documents(&host.backstay(["ls", "--depth", "2", "--json", &place]).run().expect_code(0));
    assert_eq!(
        (of(&two, "tree/sub")["below_len"].clone(), of(&two, "tree/sub/deep")["below_len"].clone()),
        (Value::Null, 9.into())
    );
    assert_eq!(two.len(), 5);
    let long = host.backstay(["ls", "-l", "--depth", "1", &place]).run().expect_code(0);
    assert!(long.text().contains("3.0 MiB"), "{long}");
    host.backstay(["ls", "--depth", "1", "latest:nowhere"]).run().expect_code(2).says(&["there is no nowhere"]);
    let deep = documents(&host.backstay(["ls", "--depth", "99", "--json", &place]).run().expect_code(0));
    let paths = |documents: &[Value]| documents.iter().map(|one| one["path"].to_string()).collect::<BTreeSet<_>>();
    assert_eq!(paths(&deep), paths(&documents(&host.backstay(["ls", "--json", &place]).run().expect_code(0))));
}

#[test]
fn ls_recursive_groups_names_by_folder() {
    let host = with_tree();
    let place = format!("latest:{}", host.path("tree").display());
    let shown = host.backstay(["ls", "-R", &place]).run().expect_code(0);
    let tree = stored(&host, "tree");
    let expected = format!("{tree}:\na.conf\nsub\n\n{tree}/sub:\ndeep\nlarge.bin\n\n{tree}/sub/deep:\nb.conf\nc.txt\n");
    assert_eq!(shown.text(), expected);
    let long = host.backstay(["ls", "-lR", &place]).run().expect_code(0);
    assert!(long.text().contains(&format!("{tree}/sub/deep: 9 B\n")), "{long}");
    assert!(long.text().lines().any(|line| line.starts_with("-rw") && line.ends_with(" b.conf")), "{long}");
}

#[test]
fn names_that_could_steer_a_terminal_are_escaped_by_every_listing() {
    let host = Host::with_repository();
    let name = Path::new(std::ffi::OsStr::from_bytes(b"tree/odd\n\x1b[31m\xff.conf")).to_path_buf();
    fs::create_dir(host.path("tree")).expect("creates");
    fs::write(host.path("").join(&name), "x").expect("writes");
    host.back_up(&[&host.path("tree")]);
    for words in [&["ls", "-lR", "latest"][..], &["find", "odd*"], &["find", "-l", "odd*"]] {
        let shown = host.backstay(words).run().expect_code(0);
        assert!(!shown.text().contains('\u{1b}') && shown.text().contains("\\xff"), "{shown}");
    }
    let found = documents(&host.backstay(["find", "odd*", "--json"]).run().expect_code(0));
    let hex = found[0]["path_hex"].as_str().expect("the bytes");
    assert!(hex.ends_with("6f64640a1b5b33316dff2e636f6e66"), "{hex}");
}

#[test]
fn find_shows_each_version_once_with_the_snapshots_that_have_it() {
    let host = with_tree();
    host.back_up(&[&host.path("tree")]);
    host.write("tree/sub/deep/b.conf", "another");
    host.back_up(&[&host.path("tree")]);
    let ids: Vec<String> = host.snapshots().iter().map(|one| one["id"].as_str().expect("an id").to_owned()).collect();
    let found = documents(&host.backstay(["find", "*.conf", "--json"]).run().expect_code(0));
    let b: Vec<_> = found.iter().filter(|one| one["path"] == stored(&host, "tree/sub/deep/b.conf").as_str()).collect();
    assert_eq!(found.len(), 3, "{found:?}");
    assert_eq!(b[0]["snapshots"], serde_json::json!([ids[0], ids[1]]));
    assert_eq!(b[1]["snapshots"], serde_json::json!([ids[2]]));
    assert_eq!((&b[0]["content_len"], &b[1]["content_len"]), (&5.into(), &7.into()));
    assert_ne!(b[0]["content_id"], b[1]["content_id"]);

    let shown = host.backstay(["find", "b.conf"]).run().expect_code(0).says(&["2 versions in 3 snapshots"]);
    for (reference, content) in shown.text().lines().zip(["three", "another"]) {
        assert_eq!(host.backstay(["cat", reference]).run().expect_code(0).text(), content, "{reference}");
    }
    let one = host.backstay(["find", "b.conf", "--snapshot", &ids[0], "--snapshot", &ids[1]]).run().expect_code(0);
    assert_eq!(one.text().lines().count(), 1, "{one}");
}

#[test]
fn find_chooses_by_name_path_type_size_and_time() {
    let host = with_tree();
    let tree = host.path("tree").display().to_string();
    let names = |words: &[&str]| -> Vec<String> {
        let ran = host.backstay(["find", "--json", "--in", &tree]).args(words).run().expect_code(0);
        let name =
            |one: &Value| one["path"].as_str().expect("a path").rsplit('/').next().unwrap_or_default().to_owned();
        documents(&ran).iter().map(name).collect()
    };
    assert_eq!(names(&["*.conf"]), ["a.conf", "b.conf"]);
    assert_eq!(names(&["*.CONF", "-i"]), ["a.conf", "b.conf"]);
    assert_eq!(names(&["*.CONF"]), [""; 0]);
    assert_eq!(names(&[&format!("{tree}/*.conf")]), ["a.conf"]);
    assert_eq!(names(&[&format!("{tree}/**/b*")]), ["b.conf"]);
    assert_eq!(names(&["--type", "directory"]), ["tree", "sub", "deep"]);
    assert_eq!(names(&["-t", "f", "--larger-than", "1M"]), ["large.bin"]);
    assert_eq!(names(&["--smaller-than", "5"]), ["a.conf", "c.txt"]);
    assert_eq!(names(&["*.conf", "--older-than", "2020-01-01"]), [""; 0]);
    assert_eq!(names(&["*.conf", "--newer-than", "2020-01-01"]), ["a.conf", "b.conf"]);
    host.backstay(["find", "[x"]).run().expect_code(2).says(&["no pattern", "hint:"]);
    host.backstay(["find", "x", "--newer-than", "soon"]).run().expect_code(2);
}

#[test]
fn versions_of_a_path_are_told_apart_and_name_their_snapshots() {
    let host = with_tree();
    let file = host.path("tree/a.conf");
    host.back_up(&[&host.path("tree")]);
    for content in ["two!", "three"] {
        fs::write(&file, content).expect("writes");
        host.back_up(&[&host.path("tree")]);
    }
    fs::remove_file(&file).expect("removes");
    host.back_up(&[&host.path("tree")]);
    let path = file.display().to_string();
    let versions = host.backstay(["versions", &path, "--json"]).run().expect_code(0).json();
    let versions = versions.as_array().expect("a list").clone();
    let lens: Vec<_> = versions.iter().map(|one| one["content_len"].as_u64().expect("a length")).collect();
    let counts: Vec<_> = versions.iter().map(|one| one["snapshots"].as_array().expect("a list").len()).collect();
    assert_eq!((lens, counts), (vec![3, 4, 5], vec![2, 1, 1]));
    let ids: BTreeSet<_> = versions.iter().map(|one| one["content_id"].to_string()).collect();
    assert_eq!(ids.len(), 3);
    let newest = versions[1]["snapshots"][0]["id"].as_str().expect("an id");
    assert_eq!(host.backstay(["cat", &format!("{newest}:{path}")]).run().expect_code(0).text(), "two!");
    let shown = host.backstay(["versions", &path]).run().expect_code(0);
    assert_eq!(shown.text().lines().count(), 4, "a head and three versions: {shown}");
    assert!(shown.text().contains("snapshots ") && shown.text().contains(&newest[..8]), "{shown}");
    host.backstay(["versions", "/no/such/path"]).run().expect_code(2).says(&["no snapshot has no/such/path", "hint:"]);
}

#[test]
fn cat_gives_any_range_of_a_file() {
    let host = with_tree();
    let whole = fs::read(host.path("tree/sub/large.bin")).expect("reads");
    let place = format!("latest:{}", host.path("tree/sub/large.bin").display());
    let part = |offset: &str, length: Option<&str>| {
        let mut command = host.backstay(["cat", &place, "--offset", offset]);
        if let Some(length) = length {
            command.args(["--length", length]);
        }
        command.run().expect_code(0).stdout
    };
    assert_eq!(part("0", None), whole);
    assert_eq!(part("1M", Some("4K")), whole[1 << 20..(1 << 20) + 4096]);
    assert_eq!(part("12345", Some("1")), whole[12345..12346]);
    assert_eq!(part("3000000", None), whole[3_000_000..]);
    assert_eq!(part("3145727", Some("1G")), whole[3_145_727..]);
    assert_eq!((part("3M", None), part("9G", Some("1")), part("5", Some("0"))), (vec![], vec![], vec![]));
}

#[test]
fn ranges_of_a_file_with_holes_are_zeros_where_the_holes_are() {
    let host = Host::with_repository();
    fs::create_dir(host.path("tree")).expect("creates");
    let file = fs::File::create(host.path("tree/sparse")).expect("creates");
    std::os::unix::fs::FileExt::write_all_at(&file, b"begin", 0).expect("writes");
    std::os::unix::fs::FileExt::write_all_at(&file, b"end", 64 << 20).expect("writes");
    host.back_up(&[&host.path("tree")]);
    let place = format!("latest:{}", host.path("tree/sparse").display());
    let part = |offset: u64, length: u64| {
        let words = [offset.to_string(), length.to_string()];
        host.backstay(["cat", &place, "--offset", &words[0], "--length", &words[1]]).run().expect_code(0).stdout
    };
    assert_eq!(part(2, 6), b"gin\0\0\0");
    assert_eq!(part(32 << 20, 100_000), vec![0; 100_000]);
    assert_eq!(part((64 << 20) - 2, 100), b"\0\0end");
}

#[test]
fn path_as_ls_shows_it_is_taken_by_every_command_that_takes_one() {
    let host = Host::with_repository();
    for name in
        [&b"new\nline"[..], b"back\\slash", b"no\xfftext", b"q'u\"o te", b"tab\there", b"lit\\n", b"esc\x1b[31m"]
    {
        let path = host.path("tree").join(OsStr::from_bytes(name));
        fs::create_dir_all(host.path("tree")).expect("a folder");
        fs::write(path, name).expect("writes");
    }
    host.back_up(&[&host.path("tree")]);
    let listed = host.backstay(["ls", "latest"]).run().expect_code(0);
    let shown: Vec<_> = listed.text().lines().filter(|line| line.contains("/tree/")).collect();
    assert_eq!(shown.len(), 7, "{listed}");
    for (at, shown) in shown.iter().enumerate() {
        let named = format!("latest:{shown}");
        let content = host.backstay(["cat", &named]).run().expect_code(0).stdout;
        let target = host.path(&format!("target-{at}"));
        host.backstay(["restore", &named, "--target"]).arg(&target).run().expect_code(0);
        assert_eq!(fs::read(target.join(OsStr::from_bytes(&content))).expect("restored"), content);
        assert!(!host.backstay(["dump", &named]).run().expect_code(0).stdout.is_empty());
        assert_eq!(host.backstay(["ls", &named]).run().expect_code(0).text().trim_end(), *shown);
        host.backstay(["versions", shown]).run().expect_code(0);
        host.backstay(["diff", &named, &named]).run().expect_code(0);
        // As it is called, too.
        let folder = host.path("tree");
        let mut typed = OsString::from("latest:");
        typed.push(folder.join(OsStr::from_bytes(&content)));
        assert_eq!(host.backstay([OsStr::new("cat"), &typed]).run().expect_code(0).stdout, content);
    }
}

#[test]
fn path_that_is_there_as_it_was_typed_is_not_taken_for_an_escaped_one() {
    let host = Host::with_repository();
    host.write("tree/a\\n", "as typed");
    host.write("tree/a\n", "with a line's end");
    host.back_up(&[&host.path("tree")]);
    let named = format!("latest:{}/a\\n", host.path("tree").display());
    assert_eq!(host.backstay(["cat", &named]).run().expect_code(0).text(), "as typed");
    host.backstay(["cat", &format!("{named}\\x")]).run().expect_code(2).says(&["there is no"]);
}
