//! What somebody removed beneath us: the whole repository while a backup runs, or its snapshots before a prune.
//!
//! Invariant: nothing is reported as committed that cannot be opened, and no prune makes a loss final.
//! Never here: older states of a store (see `replayed`), damage (see `damage`).

use std::fs;

use harness::binary::{Host, Run as _, noise};
use harness::running::{Running, file_count};

fn pack_count(host: &Host) -> usize {
    file_count(&host.repository().join("packs"))
}

#[test]
fn repository_that_is_removed_or_moved_away_during_a_backup_gets_no_commit() {
    for is_moved in [false, true] {
        let host = Host::with_repository();
        host.write("tree/file", noise("before", 100_000));
        host.back_up(&[&host.path("tree")]);
        let (place, away) = (host.repository(), host.path("away"));
        let mut running = Running::start(host.backstay(["backup", "--stdin", "--name", "late"]), true);
        running.feed(&noise("late", 3 << 20));
        running
            .wait_until("a writer", || place.join("writers").read_dir().is_ok_and(|mut found| found.next().is_some()));
        if is_moved {
            fs::rename(&place, &away).expect("moves");
        } else {
            fs::remove_dir_all(&place).expect("removes");
        }
        running.end_input();
        let (ran, _) = running.finish();
        ran.expect_code(2).says(&["error:", "vanished meanwhile", "nothing was committed", "hint:", "unmounted"]);
        assert!(!place.join("snapshots").read_dir().is_ok_and(|mut found| found.next().is_some()));
        if is_moved {
            drop(fs::remove_dir_all(&place));
            fs::rename(&away, &place).expect("moves back");
            assert_eq!(host.snapshots().len(), 1);
            host.check();
            host.back_up(&[&host.path("tree")]);
        }
    }
}

#[test]
fn held_snapshot_that_is_gone_is_named_and_no_prune_removes_what_it_needs() {
    let host = Host::with_repository();
    let file = host.write("tree/file", "precious");
    host.back_up(&[&host.path("tree")]);
    let id = host.snapshots()[0]["id"].as_str().expect("an id").to_owned();
    host.backstay(["hold", &id, "--until", "7y"]).run().expect_code(0);
    let (object, kept) = (host.repository().join("snapshots").join(&id), host.path("kept"));
    fs::rename(&object, &kept).expect("moves");
    // A host that never saw it knows by what holds it.
    let other_cache = host.path("other cache");
    let host = host.with("BACKSTAY_CACHE_DIR", other_cache);
    let ran = host.backstay(["check"]).run().expect_code(1);
    assert!(
        ran.text().contains(&format!("snapshots/{id}")) && ran.text().contains("is held and is not there"),
        "{ran}"
    );
    let packs = pack_count(&host);
    for command in [vec!["prune", "--yes"], vec!["prune", "-n"]] {
        host.backstay(command).run().expect_code(2).says(&[
            "error:",
            "1 snapshot is held and gone",
            &id,
            "hint:",
            "--lift",
        ]);
    }
    assert_eq!(pack_count(&host), packs);
    fs::rename(&kept, &object).expect("moves back");
    let path = format!("{id}:{}", file.display());
    assert_eq!(host.backstay(["cat", &path]).run().expect_code(0).text(), "precious");
    host.check();
    // Who knows that it is gone for good says so.
    fs::remove_file(&object).expect("removes");
    host.backstay(["hold", "--lift", &id]).run().expect_code(0).says(&["which is gone"]);
    host.backstay(["cache", "clear"]).run().expect_code(0);
    host.backstay(["prune", "--yes"]).run().expect_code(0);
    assert_eq!(pack_count(&host), 0);
}

#[test]
fn snapshot_that_this_host_saw_and_that_vanished_stops_its_prune_until_the_cache_is_cleared() {
    let host = Host::with_repository();
    host.write("tree/file", noise("file", 100_000));
    host.back_up(&[&host.path("tree")]);
    let id = host.snapshots()[0]["id"].as_str().expect("an id").to_owned();
    fs::remove_file(host.repository().join("snapshots").join(&id)).expect("removes");
    let packs = pack_count(&host);
    let ran = host.backstay(["prune", "--yes"]).run().expect_code(2);
    ran.says(&["warning:", &id, "error:", "vanished", "hint:", "backstay cache clear"]);
    assert_eq!(pack_count(&host), packs);
    host.backstay(["cache", "clear"]).run().expect_code(0);
    host.backstay(["prune", "--yes"]).run().expect_code(0);
    assert_eq!(pack_count(&host), 0);
}
