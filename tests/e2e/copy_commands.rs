//! `backstay copy` and the copies of a job, as typed: where to, with which keys, and what is said.
//!
//! Invariant: a copy that fails is named, and the exit code says that something is missing.
//! Never here: what a copy holds (see `copy`).

use std::fs;

use harness::binary::{Host, Run as _, noise};
use harness::listing::{assert_same, listing_of};

/// A host with a tree, its repository, and another repository with another password in `far`.
fn with_two() -> Host {
    let host = Host::with_repository();
    host.write_secret("far-password", "another one\n");
    host.write("tree/large", noise("large", 2 << 20));
    host.write("tree/folder/small", "some words");
    far(&host, &["init"]).expect_code(0);
    host
}

/// A command about the repository that is copied to.
fn far(host: &Host, words: &[&str]) -> harness::binary::Ran {
    let mut command = host.backstay(words);
    command.env("BACKSTAY_REPOSITORY", host.path("far")).env("BACKSTAY_PASSWORD_FILE", host.path("far-password")).run()
}

fn copy(host: &Host, words: &[&str]) -> std::process::Command {
    let mut command = host.backstay(["copy", "--to"]);
    command.arg(host.path("far")).arg("--to-password-file").arg(host.path("far-password")).args(words);
    command
}

#[test]
fn snapshots_come_with_a_password_of_the_other_repository_and_restore() {
    let host = with_two();
    let tree = host.path("tree");
    host.back_up(&[&tree]);
    let first = listing_of(&tree);
    host.write("tree/more", "new");
    host.back_up(&[&tree]);
    let dry = copy(&host, &["--dry-run"]).run().expect_code(0).says(&["dry run, 2 snapshots would be copied"]);
    assert_eq!(dry.text().lines().count(), 2, "{dry}");
    assert_eq!(far(&host, &["--json", "snapshots"]).expect_code(0).text(), "[]\n");

    copy(&host, &["latest", "--source", tree.to_str().expect("plain")])
        .run()
        .expect_code(0)
        .says(&["copied as", "1 snapshot copied"]);
    let done = copy(&host, &["--json"]).run().expect_code(0).json();
    assert_eq!((&done["copied_count"], &done["failed_count"]), (&1.into(), &0.into()), "{done}");
    let results: Vec<_> = done["snapshots"].as_array().expect("a list").iter().map(|one| &one["result"]).collect();
    assert_eq!(results, ["copied", "present"]);
    copy(&host, &[]).run().expect_code(0).says(&["0 snapshots copied, 2 there already"]);

    let there = far(&host, &["--json", "snapshots"]).expect_code(0).json();
    let here = host.snapshots();
    for (copy, original) in there.as_array().expect("a list").iter().zip(&here) {
        assert_eq!(copy["origin"]["snapshot"], original["id"]);
        assert_eq!((&copy["started_at"], &copy["host"]), (&original["started_at"], &original["host"]));
    }
    let target = host.path("restored");
    let id = there[0]["id"].as_str().expect("an id");
    let place = format!("{id}:{}", tree.display());
    far(&host, &["restore", &place, "--target", target.to_str().expect("a name")]).expect_code(0);
    assert_same(&listing_of(&target), &first);
    far(&host, &["check", "--read-data"]).expect_code(0);
}

#[test]
fn wrong_and_missing_keys_of_the_other_repository_are_named_with_a_next_step() {
    let host = with_two();
    host.back_up(&[&host.path("tree")]);
    let bare = || {
        let mut command = host.backstay(["copy", "--to"]);
        command.arg(host.path("far"));
        command
    };
    bare().run().expect_code(2).says(&["no password or key file is given"]);
    bare().env("BACKSTAY_TO_PASSWORD", "another one").arg("-n").run().expect_code(0);
    let wrong = bare().arg("--to-password-file").arg(host.path("password")).run();
    wrong.expect_code(2).says(&["no key of the repository at", "far", "hint:"]);
    copy(&host, &["latest:/etc"]).run().expect_code(2).says(&["only whole snapshots are copied"]);
    copy(&host, &["0000"]).run().expect_code(2).says(&["no snapshot"]);
    let here = host.repository();
    let same = host.backstay(["copy", "--to"]).arg(&here).arg("--to-password-file").arg(host.path("password")).run();
    same.expect_code(2).says(&["both are the same repository"]);
    let key = host.write_secret("writer.key", noise("writer", 64));
    host.backstay(["key", "add", "--role", "writer", "--new-key-file"]).arg(&key).run().expect_code(0);
    let writer = copy(&host, &[]).env_remove("BACKSTAY_PASSWORD_FILE").arg("--key-file").arg(&key).run();
    writer.expect_code(2).says(&["a writer key cannot open what is to be copied", "hint:"]);
}

#[test]
fn snapshot_that_is_damaged_is_named_and_the_others_are_copied() {
    let host = with_two();
    host.back_up(&[&host.path("tree/folder")]);
    host.back_up(&[&host.path("tree")]);
    let packs = harness::binary::shell(&host.repository(), "find packs -type f -size +1M");
    for pack in packs.lines() {
        let path = host.repository().join(pack);
        let mut bytes = fs::read(&path).expect("a pack");
        bytes[5000] ^= 1;
        fs::write(&path, bytes).expect("writes");
    }
    let ran = copy(&host, &[]).run().expect_code(1);
    ran.says(&["problem:", "was not copied", "tree/large cannot be read", "is lost", "1 snapshot copied, 1 failed"]);
    let json = copy(&host, &["--json"]).run().expect_code(1).json();
    assert_eq!((&json["copied_count"], &json["failed_count"]), (&0.into(), &1.into()), "{json}");
}

/// A configuration with both repositories and a job that copies to these.
fn configure(host: &Host, copy_to: &str) {
    let text = format!(
        "[repositories.near]\nurl = \"{0}/repository\"\npassword_file = \"{0}/password\"\n\
         [repositories.offsite]\nurl = \"{0}/far\"\npassword_file = \"{0}/far-password\"\n\
         [repositories.gone]\nurl = \"{0}/gone\"\npassword_file = \"{0}/far-password\"\n\
         [sources.tree]\nkind = \"files\"\npaths = [\"{0}/tree\"]\n\
         [jobs.nightly]\nrepository = \"near\"\nsources = [\"tree\"]\ncopy_to = {copy_to}\n",
        host.path("").display().to_string().trim_end_matches('/')
    );
    host.write("backstay.toml", text);
}

fn by_configuration(host: &Host, words: &[&str]) -> harness::binary::Ran {
    let mut command = host.backstay(words);
    command.current_dir(host.path("")).env_remove("BACKSTAY_REPOSITORY").env_remove("BACKSTAY_PASSWORD_FILE").run()
}

#[test]
fn job_copies_its_snapshots_and_names_a_copy_that_failed() {
    let host = with_two();
    configure(&host, "[\"offsite\"]");
    let run = by_configuration(&host, &["run", "nightly"]).expect_code(0);
    run.says(&["committed", "to offsite: 1 snapshot copied"]);
    configure(&host, "[\"gone\", \"offsite\"]");
    let run = by_configuration(&host, &["run", "nightly"]).expect_code(1);
    run.says(&["nothing more was copied to gone", "there is no backstay repository", "to offsite: 1 snapshot copied"]);
    let json = by_configuration(&host, &["run", "nightly", "--json"]).expect_code(1).json();
    assert!(json["snapshot_id"].is_string(), "{json}");
    assert_eq!((&json["copies"][0]["to"], &json["copies"][1]["copied_count"]), (&"gone".into(), &1.into()), "{json}");
    let there = far(&host, &["--json", "snapshots", "--source", "nightly"]).expect_code(0).json();
    assert_eq!(there.as_array().map(Vec::len), Some(3));

    let named = by_configuration(&host, &["copy", "--repository", "near", "--to", "offsite"]).expect_code(0);
    named.says(&["0 snapshots copied, 3 there already"]);
    by_configuration(&host, &["forget", "-r", "offsite", "--keep-last", "1", "--yes"]).expect_code(0);
    by_configuration(&host, &["run", "nightly"]).expect_code(1).says(&["to offsite: 1 snapshot copied"]);
    assert_eq!(far(&host, &["--json", "snapshots"]).json().as_array().map(Vec::len), Some(2));
}

#[test]
fn mistakes_about_copies_are_found_in_the_configuration() {
    let host = with_two();
    for (copy_to, what) in [
        ("[\"ofsite\"]", "there is no repository \"ofsite\"; did you mean \"offsite\"?"),
        ("[\"near\"]", "\"near\" is its own repository"),
        ("[\"offsite\", \"offsite\"]", "repository \"offsite\" is named twice"),
    ] {
        configure(&host, copy_to);
        by_configuration(&host, &["config", "check", "--offline"]).expect_code(2).says(&[what]);
    }
}
