//! Writers that may not delete: they say that they have ended, and a prune removes what they had to leave.
//!
//! ```text
//! backup ─► delete writers/<id>/…: denied ─► create writers/<id>/ended ─► prune removes all of it, and what was forgotten
//! ```
//!
//! Invariant: only what the very writer said is believed, and it says so only when nothing of it is on its way.
//! Never here: writers that may delete (see `lease`, `crash`).

use std::fs;
use std::sync::Arc;
use std::time::Duration;

use engine::{BackupReport, EngineError, Repository, SnapshotFilter};
use harness::{
    COST, Dice, Forge, Site, Tree, backup_request, check_all, fork, names_of, password, prune_request, try_backup,
    try_prune,
};
use pack::{Role, SnapshotId, names};
use store::Store as _;
use store::testing::{Fault, FaultyStore, Trigger, Verb};

/// How often something is looked at that is waited for.
const LOOK_EVERY: Duration = Duration::from_millis(2);

/// A repository with a writer's key, and a store that lets the writer delete nothing.
async fn append_only(seed: u64) -> (Site, Repository, Arc<FaultyStore>) {
    let site = Site::new(seed);
    let owner = site.init(site.store(), "owner").await.expect("makes");
    owner.add_key(Role::Writer, password("writer"), "writer", COST).await.expect("adds");
    owner.add_key(Role::Writer, password("other"), "other", COST).await.expect("adds");
    fs::write(site.tree().join("kept"), Dice::of_seed(seed).bytes(40_000)).expect("writes");
    let faulty = Arc::new(FaultyStore::new(site.store()));
    faulty.inject(Trigger::next().of(Verb::Delete).always(), Fault::Deny);
    (site, owner, faulty)
}

async fn records(site: &Site) -> Vec<String> {
    names_of(&site.memory, names::WRITERS).await
}

async fn back_up(site: &Site, faulty: &Arc<FaultyStore>) -> BackupReport {
    let writer = site.open_as("writer", faulty.clone(), "writer").await.expect("opens");
    site.backup(&writer).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn writer_without_the_right_to_delete_says_that_it_has_ended_and_a_prune_removes_its_record() {
    let (site, owner, faulty) = append_only(1).await;
    let first = back_up(&site, &faulty).await;
    assert_eq!(first.warnings, Vec::<String>::new());
    let id = first.snapshot.expect("is committed");
    assert!(records(&site).await.contains(&names::announced(&id)));
    assert!(records(&site).await.contains(&names::ended(&id)));
    let tree = Tree::read(&site.tree());
    fs::remove_file(site.tree().join("kept")).expect("removes");
    fs::write(site.tree().join("new"), "new").expect("writes");
    let second = back_up(&site, &faulty).await;
    let snapshot = site.snapshot(&owner, &first).await;
    site.assert_restores(&owner, &snapshot, &tree, "the first").await;
    site.forget(&owner, id).await;
    let plan = owner.plan_prune(prune_request(0.0), tokio_util::sync::CancellationToken::new()).await.expect("plans");
    assert_eq!((plan.removed_snapshots.as_slice(), plan.running.len()), (&[id][..], 0));
    let pruned = try_prune(&owner, prune_request(0.0)).await.expect("prunes");
    assert!(pruned.is_complete() && pruned.given_up == 0 && pruned.snapshots_removed == 1, "{pruned:?}");
    assert_eq!(records(&site).await, Vec::<String>::new());
    let left = [names::snapshot(&second.snapshot.expect("is committed"))];
    assert_eq!(names_of(&site.memory, names::SNAPSHOTS).await, left);
    let snapshot = site.snapshot(&owner, &second).await;
    site.assert_restores(&owner, &snapshot, &Tree::read(&site.tree()), "the second").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn backup_that_failed_and_may_not_delete_is_not_waited_for_and_leaves_no_tombstone() {
    let (site, owner, faulty) = append_only(2).await;
    faulty.inject(Trigger::next().of(Verb::Put).naming("packs/").always(), Fault::Full);
    let writer = site.open_as("writer", faulty.clone(), "writer").await.expect("opens");
    try_backup(&writer, backup_request(&site.tree())).await.expect_err("no pack can be put");
    assert_eq!(records(&site).await.iter().filter(|name| name.ends_with("/ended")).count(), 1);
    let pruned = try_prune(&owner, prune_request(0.0)).await.expect("prunes");
    assert!(pruned.is_complete() && pruned.given_up == 0, "{pruned:?}");
    assert_eq!((records(&site).await, names_of(&site.memory, names::SNAPSHOTS).await), Default::default());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn writer_whose_commit_may_yet_land_says_nothing_and_its_record_stays() {
    let (site, owner, faulty) = append_only(3).await;
    faulty.inject(Trigger::next().of(Verb::Put).naming("snapshots/"), Fault::LandLate);
    let id = back_up(&site, &faulty).await.snapshot.expect("is committed");
    assert!(records(&site).await.contains(&names::announced(&id)));
    assert!(!records(&site).await.contains(&names::ended(&id)));
    site.forget(&owner, id).await;
    try_prune(&owner, prune_request(0.0)).await.expect("prunes");
    assert!(records(&site).await.contains(&names::announced(&id)));
    faulty.land_late().await;
    assert!(owner.snapshots(&SnapshotFilter::default()).await.expect("lists").is_empty(), "it stays forgotten");
}

/// A backup by `writer` that waits just before its commit, and what is done meanwhile.
async fn beside_a_backup<T>(
    site: &Site,
    meanwhile: impl AsyncFnOnce(SnapshotId) -> T,
) -> (Result<BackupReport, EngineError>, T) {
    let faulty = Arc::new(FaultyStore::new(site.store()));
    let writer = site.open_as("writer", faulty.clone(), "running").await.expect("opens");
    faulty.inject(Trigger::next().of(Verb::Put).naming("snapshots/"), Fault::Hang);
    let waits = async {
        let id = loop {
            let commits = |call: &&store::testing::Call| call.verb == Verb::Put && call.name.starts_with("snapshots/");
            if let Some(commit) = faulty.calls().iter().find(commits) {
                break SnapshotId::from_hex(names::last(&commit.name)).expect("an id");
            }
            tokio::time::sleep(LOOK_EVERY).await;
        };
        let done = meanwhile(id).await;
        faulty.release();
        done
    };
    futures::join!(try_backup(&writer, backup_request(&site.tree())), waits)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_another_key_says_of_a_running_writer_is_not_believed() {
    for who in ["other", "owner"] {
        let (site, owner, _) = append_only(4).await;
        let forgotten = site.backup(&owner).await.snapshot.expect("is committed");
        site.forget(&owner, forgotten).await;
        let tree = Tree::read(&site.tree());
        let forge = Forge::open(&site.memory, who).await;
        let (backup, pruned) = beside_a_backup(&site, async |id| {
            let (name, ended) = forge.ended(id);
            site.memory.put_new(&name, vec![ended]).await.expect("creates");
            try_prune(&owner, prune_request(0.0)).await.expect("prunes")
        })
        .await;
        assert_eq!((pruned.running.len(), pruned.packs_deleted), (1, 0), "{who}: {pruned:?}");
        let report = backup.expect("backs up");
        assert!(try_prune(&owner, prune_request(0.0)).await.expect("prunes").is_complete(), "{who}");
        let snapshot = site.snapshot(&owner, &report).await;
        site.assert_restores(&owner, &snapshot, &tree, who).await;
        assert_eq!(check_all(&owner).await.expect("checks").damages, [], "{who}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn end_of_one_writer_under_the_name_of_another_is_not_believed() {
    let (site, owner, faulty) = append_only(5).await;
    let ended = back_up(&site, &faulty).await.snapshot.expect("is committed");
    let said = site.memory.get(&names::ended(&ended)).await.expect("is there");
    let (backup, pruned) = beside_a_backup(&site, async |id| {
        site.memory.put_new(&names::ended(&id), vec![said]).await.expect("creates");
        site.forget(&owner, ended).await;
        try_prune(&owner, prune_request(0.0)).await.expect("prunes")
    })
    .await;
    assert_eq!((pruned.running.len(), pruned.packs_deleted), (1, 0), "{pruned:?}");
    let snapshot = site.snapshot(&owner, &backup.expect("backs up")).await;
    assert!(try_prune(&owner, prune_request(0.0)).await.expect("prunes").is_complete());
    site.assert_restores(&owner, &snapshot, &Tree::read(&site.tree()), "after both").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn removal_of_an_ended_writer_that_stops_anywhere_is_completed_by_the_next_prune() {
    let (site, owner, faulty) = append_only(6).await;
    let id = back_up(&site, &faulty).await.snapshot.expect("is committed");
    site.forget(&owner, id).await;
    drop(owner);
    for stopped_at in 0.. {
        let memory = fork(&site.memory).await;
        let stopping = Arc::new(FaultyStore::new(Arc::new(memory.clone())));
        stopping.inject(Trigger::next().of(Verb::Delete).after(stopped_at), Fault::StopBefore);
        let dying = site.open_as("owner", stopping.clone(), &format!("dying {stopped_at}")).await.expect("opens");
        let first = try_prune(&dying, prune_request(0.0)).await;
        let next = site.open_as("owner", Arc::new(memory.clone()), &format!("next {stopped_at}")).await.expect("opens");
        try_prune(&next, prune_request(0.0)).await.expect("prunes");
        for prefix in [names::WRITERS, names::SNAPSHOTS, names::PACKS, names::CONDEMNED] {
            assert_eq!(names_of(&memory, prefix).await, Vec::<String>::new(), "stopped at delete {stopped_at}");
        }
        if first.is_ok() && !stopping.is_stopped() {
            assert!(stopped_at > 4, "the record has three objects");
            break;
        }
    }
}
