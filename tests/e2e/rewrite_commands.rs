//! `backstay rewrite`, as typed: the plan, what is done, and what is refused.
//!
//! Invariant: without `--yes` nothing is written.
//! Never here: what a rewritten snapshot holds (see `rewrite`).

use std::fs;

use harness::binary::{Host, Ran, Run as _, noise, set_mode};

/// A host with three snapshots, two of which have `tree/alice`.
fn with_alice() -> Host {
    let host = Host::with_repository();
    host.write("tree/kept", noise("kept", 300_000));
    host.back_up(&[&host.path("tree")]);
    host.write("tree/alice/letter", noise("letter", 50_000));
    host.back_up(&[&host.path("tree")]);
    host.write("tree/more", "words");
    host.back_up(&[&host.path("tree")]);
    host
}

fn rewrite(host: &Host, words: &[&str]) -> Ran {
    host.backstay(["rewrite", "--exclude-path"]).arg(host.path("tree/alice")).args(words).run()
}

fn object_count(host: &Host) -> usize {
    harness::running::file_count(&host.repository())
}

#[test]
fn plan_is_shown_and_carried_out_only_when_it_is_confirmed() {
    let host = with_alice();
    let before = object_count(&host);
    let plan = rewrite(&host, &[]).expect_code(2).says(&["2 snapshots would be rewritten; nothing was done", "--yes"]);
    assert!(plan.text().lines().count() == 3 && plan.text().contains("48.8 KiB"), "{plan}");
    rewrite(&host, &["--dry-run"]).expect_code(0).says(&["2 snapshots would be rewritten"]);
    assert_eq!(object_count(&host), before);
    let ids: Vec<_> = host.snapshots().iter().map(|one| one["id"].clone()).collect();
    rewrite(&host, &["--yes"]).expect_code(0).says(&["replaced by", "2 of 2 snapshots rewritten"]);
    let after = host.snapshots();
    assert_eq!(after.len(), 3);
    assert_eq!(after[0]["id"], ids[0]);
    assert_eq!((&after[1]["rewritten_from"][0], &after[2]["rewritten_from"][0]), (&ids[1], &ids[2]));
    for snapshot in &after {
        let id = snapshot["id"].as_str().expect("an id");
        let listed = host.backstay(["ls", id]).run().expect_code(0);
        assert!(!listed.text().contains("alice"), "{listed}");
    }
    rewrite(&host, &["--yes"]).expect_code(0).says(&["nothing to rewrite: none of 3 snapshots has it"]);
    host.check();
}

#[test]
fn filters_and_ids_choose_and_json_tells_what_became_of_each() {
    let host = with_alice();
    rewrite(&host, &["--host", "nobody", "--yes"]).expect_code(0).says(&["none of 0 snapshots"]);
    let id = host.snapshots()[1]["id"].as_str().expect("an id").to_owned();
    let json = rewrite(&host, &["--yes", "--json", &id]).expect_code(0).json();
    assert_eq!((&json["done"], &json["snapshots"][0]["id"]), (&true.into(), &id.clone().into()), "{json}");
    assert_eq!(json["snapshots"][0]["entry_count"], 2, "{json}");
    assert_eq!(json["snapshots"][0]["replaced_by"], host.snapshots()[1]["id"], "{json}");
    let json = rewrite(&host, &["--json"]);
    json.expect_code(2);
}

#[test]
fn component_of_a_job_is_removed_from_all_of_its_snapshots() {
    let host = Host::with_repository();
    host.write("one/file", "first");
    host.write("two/file", "second");
    let folder = host.path("").display().to_string();
    let folder = folder.trim_end_matches('/');
    let config = format!(
        "[repositories.main]\nurl = \"{folder}/repository\"\npassword_file = \"{folder}/password\"\n\
         [sources.one]\nkind = \"files\"\npaths = [\"{folder}/one\"]\n\
         [sources.two]\nkind = \"files\"\npaths = [\"{folder}/two\"]\n\
         [jobs.nightly]\nsources = [\"one\", \"two\"]\n"
    );
    let config = host.write("backstay.toml", config);
    host.backstay(["run", "nightly", "--config"]).arg(&config).run().expect_code(0);
    let remove = ["rewrite", "--remove-component", "two", "--source", "nightly", "--yes"];
    host.backstay(remove).run().expect_code(0).says(&["1 of 1 snapshot rewritten"]);
    let snapshots = host.snapshots();
    let names: Vec<_> = snapshots[0]["components"].as_array().expect("a list").iter().map(|one| &one["name"]).collect();
    assert_eq!(names, ["one"]);
    let place = format!("latest:{folder}/one/file");
    assert_eq!(host.backstay(["cat", &place]).run().expect_code(0).text(), "first");
    host.check();
}

#[test]
fn requests_that_make_no_sense_and_keys_that_may_not_are_refused() {
    let host = with_alice();
    let all = host.backstay(["rewrite", "--exclude-path", "/", "--yes"]).run();
    all.expect_code(2).says(&["--exclude-path names all of a snapshot", "backstay forget"]);
    host.backstay(["rewrite", "--yes"]).run().expect_code(2);
    let key = host.write_secret("writer.key", noise("writer", 64));
    set_mode(&key, 0o600);
    host.backstay(["key", "add", "--role", "writer", "--new-key-file"]).arg(&key).run().expect_code(0);
    let mut writer = host.backstay(["rewrite", "--exclude-path", "/x", "--yes", "--key-file"]);
    let writer = writer.env_remove("BACKSTAY_PASSWORD_FILE").arg(&key).run();
    writer.expect_code(2).says(&["a writer key cannot rewrite snapshots", "hint:"]);
}

#[test]
fn content_stays_under_further_names_and_that_is_said() {
    let host = with_alice();
    fs::hard_link(host.path("tree/alice/letter"), host.path("tree/same")).expect("links");
    host.back_up(&[&host.path("tree")]);
    rewrite(&host, &["--yes"]).expect_code(0).says(&["warning:", "may have further names elsewhere"]);
    let place = format!("latest:{}", host.path("tree/same").display());
    let cat = host.backstay(["cat", &place]).run().expect_code(0);
    assert!(cat.stdout == noise("letter", 50_000));
}

#[test]
fn copy_of_a_rewritten_snapshot_is_rewritten_where_it_is() {
    let host = with_alice();
    let far = host.path("far");
    let at_far = |words: &[&str]| host.backstay(words).env("BACKSTAY_REPOSITORY", &far).run();
    at_far(&["init"]).expect_code(0);
    let copy = || {
        let mut copy = host.backstay(["copy", "--to"]);
        copy.arg(&far).arg("--to-password-file").arg(host.path("password")).run().expect_code(0)
    };
    copy().says(&["3 snapshots copied"]);
    rewrite(&host, &["--yes"]).expect_code(0);
    copy().says(&["still has what was removed here: rewrite it there too", "0 snapshots copied, 3 there already"]);
    let path = host.path("tree/alice").display().to_string();
    at_far(&["rewrite", "--exclude-path", &path, "--yes"]).expect_code(0).says(&["2 of 2 snapshots rewritten"]);
    let again = copy();
    assert!(!again.stderr.contains("warning"), "{again}");
    assert_eq!(at_far(&["--json", "snapshots"]).json().as_array().map(Vec::len), Some(3));
}

#[test]
fn what_is_held_is_held_after_it_was_rewritten() {
    let host = with_alice();
    let id = host.snapshots()[1]["id"].as_str().expect("an id").to_owned();
    host.backstay(["hold", &id]).run().expect_code(0);
    rewrite(&host, &["--yes"]).expect_code(0);
    let kept = host.backstay(["forget", "--keep-last", "1", "--yes"]).run().expect_code(0);
    assert!(kept.text().contains("held"), "{kept}");
    let left: Vec<_> = host.snapshots().iter().map(|one| one["rewritten_from"][0].clone()).collect();
    assert!(left.contains(&id.into()), "{left:?}");
}
