//! Pruning: what is needed stays, what is not goes, and nothing is lost wherever it stops or whoever works beside it.
//!
//! Invariant: every snapshot that is not forgotten restores byte for byte after each prune.
//! Never here: every interleaving (see the model in `tests/protocol`), and random ones of real runs (see `model`).

use std::fs;
use std::path::Path;
use std::sync::Arc;

use crate::crash::until_stopped;
use engine::{EngineError, PrunePlan, PruneReport, PruneRequest, Repository, SnapshotFilter};
use harness::binary::{Host, Run as _, noise};
use harness::{COST, Dice, Site, Tree, check_all, copy_folder, fork, names_of, password, prune_request, try_prune};
use pack::{Role, SnapshotId, names};
use store::testing::{Fault, FaultyStore, MemoryStore, Trigger};
use store::{SharedStore, Store as _};
use tokio_util::sync::CancellationToken;

/// A file of the trees here: both of a snapshot share a blob.
const LEN: usize = 300_000;
/// A file of several blobs, in bytes.
const LONG: usize = 3_000_000;

fn request() -> PruneRequest {
    prune_request(0.0)
}

async fn plan(repository: &Repository, request: PruneRequest) -> PrunePlan {
    repository.plan_prune(request, CancellationToken::new()).await.expect("plans")
}

async fn prune(repository: &Repository) -> PruneReport {
    let report = try_prune(repository, request()).await.expect("prunes");
    assert_eq!(report.problems, Vec::<String>::new());
    report
}

/// A site with two snapshots: what is in `both` is in both of them, `first` and `second` in one each.
async fn two_snapshots(site: &Site, repository: &Repository, len: usize) -> Vec<(SnapshotId, Tree)> {
    let dice = Dice::of_seed(11);
    let write = |name: &str| fs::write(site.tree().join(name), dice.bytes(len)).expect("writes");
    write("both");
    write("first");
    let mut past = Vec::new();
    let first = site.backup(repository).await;
    past.push((first.snapshot.expect("was committed"), Tree::read(&site.tree())));
    fs::remove_file(site.tree().join("first")).expect("removes");
    write("second");
    let second = site.backup(repository).await;
    past.push((second.snapshot.expect("was committed"), Tree::read(&site.tree())));
    past
}

async fn assert_restores(site: &Site, repository: &Repository, kept: &[(SnapshotId, Tree)], context: &str) {
    let listed = repository.snapshots(&SnapshotFilter::default()).await.expect("lists");
    for (id, tree) in kept {
        let info = listed.iter().find(|info| info.id == *id);
        let info = info.unwrap_or_else(|| panic!("{context}: {id} is listed"));
        site.assert_restores(repository, info, tree, context).await;
    }
    let checked = check_all(repository).await.expect("checks");
    assert_eq!((checked.damages, checked.unclear, checked.warnings), (Vec::new(), Vec::new(), Vec::new()), "{context}");
}

async fn stored_len(store: &MemoryStore) -> u64 {
    let mut len = 0;
    for name in names_of(store, names::PACKS).await {
        len += store.get(&name).await.expect("reads").len() as u64;
    }
    len
}

/// Nothing of the coordination is left.
async fn assert_tidy(store: &MemoryStore) {
    for prefix in [names::CONDEMNED, names::WRITERS, names::CLAIMS] {
        assert_eq!(names_of(store, prefix).await, Vec::<String>::new());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn space_of_a_forgotten_snapshot_comes_back_and_the_other_restores() {
    let site = Site::new(1);
    let repository = site.init(site.store(), "cache").await.expect("makes");
    let past = two_snapshots(&site, &repository, LEN).await;
    let before = stored_len(&site.memory).await;
    assert!(plan(&repository, request()).await.is_empty());
    site.forget(&repository, past[0].0).await;
    assert_eq!(stored_len(&site.memory).await, before, "forgetting frees nothing");
    let planned = plan(&repository, request()).await;
    assert_eq!((planned.removed_snapshots.as_slice(), planned.snapshots), (&[past[0].0][..], 1));
    let report = prune(&repository).await;
    assert_eq!(report.snapshots_removed, 1);
    let after = stored_len(&site.memory).await;
    assert!(after < before - LEN as u64 * 9 / 10, "{before} -> {after}");
    assert_tidy(&site.memory).await;
    assert_restores(&site, &repository, &past[1..], "after the prune").await;
    assert!(plan(&repository, request()).await.is_empty(), "a second prune has nothing to do");
    let other = site.open("another cache").await;
    assert_restores(&site, &other, &past[1..], "on a host without a cache").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn maintenance_key_prunes_byte_for_byte_and_opens_nothing() {
    let site = Site::new(2);
    let owner = site.init(site.store(), "cache").await.expect("makes");
    let past = two_snapshots(&site, &owner, LONG).await;
    owner.add_key(Role::Maintenance, password("keeper"), "keeper", COST).await.expect("adds");
    let keeper = site.open_as("keeper", site.store(), "keeper's cache").await.expect("opens");
    site.forget(&keeper, past[0].0).await;
    let before = stored_len(&site.memory).await;
    prune(&keeper).await;
    let after = stored_len(&site.memory).await;
    assert!(after < before - LONG as u64 / 2, "{before} -> {after}");
    assert_restores(&site, &owner, &past[1..], "after the prune").await;
    let refused = keeper.entries(&owner.snapshots(&SnapshotFilter::default()).await.expect("lists")[0], b"").await;
    assert!(matches!(refused, Err(EngineError::Role { .. })));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn keys_that_do_not_collect_are_refused() {
    let site = Site::new(3);
    let owner = site.init(site.store(), "cache").await.expect("makes");
    for role in [Role::Writer, Role::Reader] {
        owner.add_key(role, password(&role.to_string()), &role.to_string(), COST).await.expect("adds");
        let other = site.open_as(&role.to_string(), site.store(), "other").await.expect("opens");
        let refused = other.plan_prune(request(), CancellationToken::new()).await;
        assert!(matches!(refused, Err(EngineError::Role { .. })), "{role}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn prune_that_stops_at_any_call_loses_nothing_and_the_next_one_completes_it() {
    let site = Site::new(4);
    let repository = site.init(site.store(), "cache").await.expect("makes");
    let past = two_snapshots(&site, &repository, LEN).await;
    site.forget(&repository, past[0].0).await;
    drop(repository);
    let run = |store: SharedStore, cache: String| {
        let site = &site;
        async move {
            let repository = site.open_as("owner", store, &cache).await?;
            try_prune(&repository, request()).await
        }
    };
    let calls = {
        let faulty = Arc::new(FaultyStore::new(Arc::new(fork(&site.memory).await)));
        copy_folder(&site.path("cache"), &site.path("counting"));
        run(faulty.clone(), "counting".into()).await.expect("prunes");
        faulty.calls()
    };
    assert!(calls.len() > 30, "{calls:?}");
    for (at, call) in calls.iter().enumerate() {
        // Before a call is after the one before it.
        let context = format!("stopped after call {at}, {call:?}");
        let memory = fork(&site.memory).await;
        let faulty = Arc::new(FaultyStore::new(Arc::new(memory.clone())));
        faulty.inject(Trigger::next().after(at as u64), Fault::StopAfter);
        let cache = format!("cache-{at}");
        copy_folder(&site.path("cache"), &site.path(&cache));
        until_stopped(&faulty, run(faulty.clone(), cache.clone())).await;
        let other = site.open_as("owner", Arc::new(memory.clone()), &format!("{cache}-none")).await.expect("opens");
        let listed = other.snapshots(&SnapshotFilter::default()).await.expect("lists");
        let kept = listed.iter().find(|info| info.id == past[1].0).expect("is listed");
        site.assert_restores(&other, kept, &past[1].1, &context).await;
        prune(&other).await;
        assert_restores(&site, &other, &past[1..], &format!("{context}, and pruned again")).await;
        assert!(names_of(&memory, names::CONDEMNED).await.is_empty(), "{context}");
    }
}

#[test]
fn prune_shows_a_plan_and_acts_on_yes() {
    let host = Host::with_repository();
    let tree = host.write("tree/a", noise("a", 200_000));
    host.back_up(&[tree.parent().expect("the tree")]);
    fs::remove_file(&tree).expect("removes");
    host.write("tree/b", noise("b", 200_000));
    host.back_up(&[&host.path("tree")]);
    host.backstay(["prune"]).run().expect_code(0).says(&["nothing to prune"]);
    host.backstay(["forget", "--keep-last", "1", "--yes"]).run().expect_code(0);
    let before = len_below(&host.repository());
    host.backstay(["prune"]).run().expect_code(2).says(&["nothing was done", "--yes"]);
    host.backstay(["prune", "--dry-run"]).run().expect_code(0);
    assert_eq!(len_below(&host.repository()), before);
    let done = host.backstay(["--json", "prune", "--yes"]).run().expect_code(0).json();
    assert_eq!(done["done"], true, "{done}");
    assert!(done["report"]["deleted_len"].as_u64().expect("a length") > 200_000, "{done}");
    assert!(len_below(&host.repository()) < before - 190_000);
    host.check();
    host.backstay(["restore", "latest", "--target"]).arg(host.path("out")).run().expect_code(0);
}

#[test]
fn forget_prunes_too_when_asked() {
    let host = Host::with_repository();
    for at in 0..3 {
        let file = host.write("tree/file", noise(&format!("{at}"), 100_000));
        host.back_up(&[file.parent().expect("the tree")]);
    }
    let before = len_below(&host.repository());
    let done = host.backstay(["--json", "forget", "--keep-last", "1", "--prune", "--yes"]).run().expect_code(0).json();
    assert_eq!((&done["forgotten"], &done["prune"]["report"]["snapshot_count"]), (&2.into(), &2.into()), "{done}");
    assert!(len_below(&host.repository()) < before - 190_000);
    host.check();
}

/// Bytes of files below a folder.
fn len_below(folder: &Path) -> u64 {
    let entries = fs::read_dir(folder).expect("a folder").map(|entry| entry.expect("an entry"));
    entries
        .map(|entry| {
            let meta = entry.metadata().expect("is there");
            if meta.is_dir() { len_below(&entry.path()) } else { meta.len() }
        })
        .sum()
}
