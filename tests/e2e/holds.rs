//! Holds: what keeps a snapshot from being forgotten, set and lifted after its backup.
//!
//! Invariant: a held snapshot goes neither by a policy nor by name, and lifting alone forgets nothing.
//! Never here: the order in which records are read (see the engine's own tests).

use std::fs;
use std::path::PathBuf;

use engine::{Forget, GroupBy, Policy, SnapshotFilter};
use harness::binary::{Host, Run as _, noise, set_mode, shell};
use harness::{COST, Forge, Site, names_of, password};
use pack::{Role, SnapshotId, names};
use store::Store as _;

/// A host with three snapshots of a tree, oldest first.
fn with_three() -> (Host, Vec<String>) {
    let host = Host::with_repository();
    for at in 0..3 {
        let file = host.write("tree/file", format!("state {at}"));
        host.back_up(&[file.parent().expect("the tree")]);
    }
    let ids = left(&host);
    (host, ids)
}

fn left(host: &Host) -> Vec<String> {
    host.snapshots().iter().map(|snapshot| snapshot["id"].as_str().expect("an id").to_owned()).collect()
}

fn records(host: &Host, id: &str) -> Vec<PathBuf> {
    let found = fs::read_dir(host.repository().join("holds").join(id)).into_iter().flatten();
    found.map(|entry| entry.expect("lists").path()).collect()
}

#[test]
fn held_snapshot_stays_with_its_reason_until_that_is_lifted() {
    let (host, ids) = with_three();
    let hold = ["hold", &ids[0][..8], "--reason", "audit of 2026"];
    host.backstay(hold).run().expect_code(0).says(&["is held: audit of 2026"]);
    let shown = host.backstay(["snapshots"]).run().expect_code(0);
    assert!(shown.text().contains("(held: audit of 2026)"), "{shown}");
    let listed = host.snapshots();
    assert_eq!(listed[0]["held"], serde_json::json!({ "until": null, "reason": "audit of 2026" }));
    assert!(listed[1]["held"].is_null());
    let plan = host.backstay(["forget", "--keep-last", "1", "--dry-run"]).run().expect_code(0);
    assert!(plan.text().contains("held: audit of 2026"), "{plan}");
    host.backstay(["forget", "--keep-last", "1", "--yes"]).run().expect_code(0).says(&["1 snapshot forgotten"]);
    let why =
        ["error:", &ids[0][..8], "is held: audit of 2026; nothing was forgotten", "hint:", "backstay hold --lift"];
    host.backstay(["forget", &ids[0], "--yes"]).run().expect_code(2).says(&why);
    host.backstay(["forget", &ids[0]]).run().expect_code(2).says(&why);
    host.backstay(["forget", &ids[0], "-n"]).run().expect_code(0).says(&["is held: audit of 2026, and stays"]);
    assert_eq!(left(&host), [ids[0].clone(), ids[2].clone()]);
    let both = ["forget", &ids[0], &ids[2], "--yes"];
    host.backstay(both).run().expect_code(1).says(&["1 snapshot forgotten", "is held: audit of 2026, and stays"]);
    host.backstay(["undelete", &ids[2]]).run().expect_code(0);
    let ids = [ids[0].clone(), ids[1].clone(), left(&host)[1].clone()];
    host.backstay(["hold", "--lift", &ids[0]]).run().expect_code(0).says(&["is held no more"]);
    assert_eq!(left(&host), [ids[0].clone(), ids[2].clone()], "lifting forgets nothing");
    host.backstay(["forget", "--keep-last", "1", "--yes"]).run().expect_code(0);
    assert_eq!(left(&host), ids[2..]);
    host.check();
}

#[test]
fn several_holds_add_up_and_are_lifted_together() {
    let (host, ids) = with_three();
    host.backstay(["hold", &ids[0], &ids[1], "--until", "2 days"]).run().expect_code(0);
    let longer = ["--json", "hold", &ids[0], "--until", "2090-01-01"];
    let longer = host.backstay(longer).run().expect_code(0).json();
    assert!(longer[0]["held"]["until"].as_str().is_some_and(|until| until.starts_with("2090-01-01")), "{longer}");
    assert_eq!(records(&host, &ids[0]).len(), 2);
    host.backstay(["hold", "--lift", &ids[0]]).run().expect_code(0);
    assert_eq!(records(&host, &ids[0]).len(), 3, "nothing is removed, so that it works without a right to delete");
    let held: Vec<_> = host.snapshots().iter().map(|snapshot| snapshot["held"].is_object()).collect();
    assert_eq!(held, [false, true, false]);
    let again = host.backstay(["hold", "--lift", &ids[0]]).run().expect_code(0);
    assert_eq!(records(&host, &ids[0]).len(), 3, "{again}");
    host.backstay(["hold", "latest"]).run().expect_code(0);
    assert!(host.snapshots()[2]["held"].is_object());
}

#[test]
fn hold_ends_at_its_time() {
    let (host, ids) = with_three();
    host.backstay(["hold", &ids[0], "--until", "2 days"]).run().expect_code(0);
    let forget = || host.backstay(["forget", &ids[0], "--yes"]);
    forget().run().expect_code(2).says(&["nothing was forgotten"]);
    let later = store::Env::system().now().secs + 3 * 86_400;
    forget().env("BACKSTAY_REPLAY", format!("{later}:1")).run().expect_code(0).says(&["1 snapshot forgotten"]);
    host.backstay(["hold", &ids[1], "--until", "yesterday"]).run().expect_code(2).says(&["--until", "has passed"]);
    host.backstay(["hold", &ids[0]]).run().expect_code(2).says(&["has an id beginning with"]);
    host.backstay(["hold"]).run().expect_code(2);
    host.backstay(["hold", &ids[1], "--also-keep-until"]).run().expect_code(2);
}

#[test]
fn keep_until_of_a_backup_is_lifted_by_the_owner_and_only_when_that_is_said() {
    let (host, _) = with_three();
    let key = host.write_secret("maintenance.key", noise("maintenance", 64));
    host.backstay(["key", "add", "--role", "maintenance", "--new-key-file"]).arg(&key).run().expect_code(0);
    host.backstay(["backup", "--keep-until", "70y"]).arg(host.path("tree")).run().expect_code(0);
    let held = left(&host).pop().expect("was committed");
    let lift = ["hold", "--lift", &held];
    host.backstay(lift).run().expect_code(0).says(&["is still held until", "--also-keep-until"]);
    let mut by_maintenance = host.backstay(lift);
    by_maintenance.env_remove("BACKSTAY_PASSWORD_FILE").args(["--also-keep-until", "--key-file"]).arg(&key);
    by_maintenance
        .run()
        .expect_code(2)
        .says(&["cannot lift the keep-until of a backup", "only the owner's key may do this"]);
    host.backstay(["forget", &held, "--yes"])
        .run()
        .expect_code(2)
        .says(&["nothing was forgotten", "--also-keep-until"]);
    host.backstay(lift).arg("--also-keep-until").run().expect_code(0).says(&["is held no more"]);
    host.backstay(["forget", &held, "--yes"]).run().expect_code(0).says(&["1 snapshot forgotten"]);
}

#[test]
fn maintenance_key_holds_and_a_writer_may_not() {
    let (host, ids) = with_three();
    for role in ["writer", "maintenance"] {
        let key = host.write_secret(&format!("{role}.key"), noise(role, 64));
        host.backstay(["key", "add", "--role", role, "--new-key-file"]).arg(&key).run().expect_code(0);
    }
    let as_role = |role: &str, words: &[&str]| {
        let mut command = host.backstay(words);
        command.env_remove("BACKSTAY_PASSWORD_FILE").arg("--key-file").arg(host.path(&format!("{role}.key")));
        command.run()
    };
    let refused = as_role("writer", &["hold", &ids[0]]).expect_code(2);
    refused.says(&["a writer key cannot hold snapshots", "or one of role maintenance"]);
    as_role("maintenance", &["hold", &ids[0]]).expect_code(0);
    as_role("maintenance", &["hold", "--lift", &ids[0]]).expect_code(0).says(&["is held no more"]);
}

#[test]
fn damaged_hold_holds_until_it_is_lifted() {
    let (host, ids) = with_three();
    host.backstay(["hold", &ids[0]]).run().expect_code(0);
    let record = records(&host, &ids[0]).pop().expect("a record");
    let mut bytes = fs::read(&record).expect("reads");
    bytes[40] ^= 1;
    fs::write(&record, bytes).expect("writes");
    let plan = host.backstay(["forget", "--keep-last", "1", "--dry-run"]).run().expect_code(0);
    assert!(plan.text().contains("held: by a record that cannot be read"), "{plan}");
    host.backstay(["hold", "--lift", &ids[0]]).run().expect_code(0).says(&["is held no more"]);
    host.backstay(["forget", &ids[0], "--yes"]).run().expect_code(0).says(&["1 snapshot forgotten"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn snapshot_that_is_held_after_a_forget_was_planned_is_not_forgotten() {
    let site = Site::new(1);
    let repository = site.init(site.store(), "cache").await.expect("makes");
    fs::write(site.tree().join("one"), b"some bytes").expect("writes");
    let ids = [site.backup(&repository).await, site.backup(&repository).await].map(|report| report.snapshot);
    let ids: Vec<SnapshotId> = ids.into_iter().flatten().collect();
    let what = Forget::Named(ids.clone());
    let plan = repository.plan_forget(&what, GroupBy::default(), &jiff::Zoned::now()).await.expect("plans");
    repository.hold(&ids[..1], None, "").await.expect("holds");
    let error = repository.forget(&plan).await.expect_err("one is held now");
    assert!(error.to_string().contains("was held since this was planned; nothing was forgotten"), "{error}");
    assert_eq!(repository.snapshots(&SnapshotFilter::default()).await.expect("lists").len(), 2);
    repository.lift_holds(&ids, false).await.expect("lifts");
    repository.forget(&plan).await.expect("forgets");
    let error = repository.hold(&ids[..1], None, "").await.expect_err("it is forgotten");
    assert!(error.to_string().contains("was just forgotten"), "{error}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn hold_of_a_key_that_may_not_and_one_under_another_name_hold_nothing() {
    let site = Site::new(2);
    let repository = site.init(site.store(), "cache").await.expect("makes");
    repository.add_key(Role::Writer, password("writer"), "writer", COST).await.expect("adds");
    fs::write(site.tree().join("one"), b"some bytes").expect("writes");
    let first = site.backup(&repository).await.snapshot.expect("was committed");
    let second = site.backup(&repository).await.snapshot.expect("was committed");
    let (name, record) = Forge::open(&site.memory, "writer").await.hold(first);
    site.memory.put_new(&name, vec![record]).await.expect("creates");
    let (name, record) = Forge::open(&site.memory, "owner").await.hold(second);
    let moved = name.replace(&second.to_string(), &first.to_string());
    site.memory.put_new(&moved, vec![record]).await.expect("creates");
    assert_eq!(names_of(&site.memory, names::HOLDS).await.len(), 2);
    let policy = Policy { tags: vec![vec!["none".to_owned()]], ..Policy::default() };
    let what = Forget::ByPolicy(policy, SnapshotFilter::default());
    let plan = repository.plan_forget(&what, GroupBy::default(), &jiff::Zoned::now()).await.expect("plans");
    assert_eq!(plan.going().count(), 2);
}

#[test]
fn holds_of_a_snapshot_go_with_what_hid_it_and_no_sooner() {
    let (host, ids) = with_three();
    for id in &ids {
        host.backstay(["hold", id]).run().expect_code(0);
    }
    let is_held = |id: &String| !records(&host, id).is_empty();
    let prune = || host.backstay(["prune", "--yes", "--max-unused", "0"]).run().expect_code(0);
    host.backstay(["hold", "--lift", &ids[0]]).run().expect_code(0);
    host.backstay(["forget", "--yes", &ids[0]]).run().expect_code(0);
    // The second one is gone, and nobody let it go.
    let lost = host.repository().join("snapshots").join(&ids[1]);
    let object = fs::read(&lost).expect("reads");
    fs::remove_file(&lost).expect("removes");
    host.backstay(["prune", "--yes"]).run().expect_code(2).says(&["held and gone", &ids[1]]);
    assert!(is_held(&ids[1]), "it is missed for as long as it is held");
    fs::write(&lost, object).expect("writes");
    prune();
    assert!(ids.iter().all(is_held), "what was forgotten a moment ago may still be asked about");
    let hides = host.repository().join("forgotten").join(&ids[0]);
    shell(&host.repository(), &format!("touch -d '40 days ago' {}", hides.display()));
    // A prune that has nothing else to do does nothing.
    let another = host.back_up(&[&host.path("tree")])["snapshot_id"].as_str().expect("an id").to_owned();
    host.backstay(["forget", "--yes", &another]).run().expect_code(0);
    prune();
    assert!(!is_held(&ids[0]) && !hides.exists());
    host.backstay(["forget", "--yes", "--keep-last", "1"]).run().expect_code(0);
    assert_eq!(left(&host), ids[1..], "the one that came back is held");
}

#[test]
fn record_that_cannot_be_read_holds_is_named_by_check_and_may_be_lifted() {
    let (host, ids) = with_three();
    host.backstay(["hold", &ids[0], "--until", "7y"]).run().expect_code(0);
    let record = records(&host, &ids[0]).pop().expect("a record");
    let mut bytes = fs::read(&record).expect("reads");
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    set_mode(&record, 0o600);
    fs::write(&record, bytes).expect("writes");
    let checked = host.backstay(["check"]).run().expect_code(1).says(&["hint:", "backstay hold --lift"]);
    assert!(checked.text().contains(&format!("damage: holds/{}", ids[0])), "{checked}");
    assert!(checked.text().contains("it holds its snapshot until it is lifted"), "{checked}");
    host.backstay(["forget", &ids[0], "--yes"]).run().expect_code(2).says(&["by a record that cannot be read"]);
    host.backstay(["hold", "--lift", &ids[0]]).run().expect_code(0);
    host.backstay(["check"]).run().expect_code(0);
    host.backstay(["forget", &ids[0], "--yes"]).run().expect_code(0);
    assert_eq!(left(&host), ids[1..]);
}
