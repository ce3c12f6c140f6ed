//! What a repair of snapshots takes over of an old snapshot, while a prune takes its packs away.
//!
//! ```text
//! kept, in packs of the first backup   ─ condemned ─► stored again
//!                                      └ gone since the plan ─► nothing is committed
//! lost, in packs of the second backup  ─ gone before the plan
//! ```
//!
//! Invariant: what a repair commits restores, whatever becomes of the packs that were condemned before.
//! Never here: each kind of damage (see `repair`).

use std::collections::BTreeSet;
use std::fs;
use std::sync::Arc;

use engine::{EngineError, Repository, Selector, SnapshotFilter, SnapshotsRepair};
use harness::{Dice, Forge, Site, Tree, backup_request, names_of};
use pack::{PackId, SnapshotId, names};
use store::Store as _;
use tokio_util::sync::CancellationToken;

/// More than 32 chunks, so that the file's entry names pages and not the chunks themselves.
const FILE_LEN: usize = 1 << 20;

/// Two snapshots: the first one's packs have what is kept, and of the second one's own packs those with content are gone.
struct Scene {
    site: Site,
    repository: Repository,
    /// What the first backup stored.
    packs: BTreeSet<String>,
    second: SnapshotId,
    plan: SnapshotsRepair,
}

impl Scene {
    async fn new() -> Self {
        let site = Site::new(1);
        let repository = site.init(site.store(), "cache").await.expect("makes");
        let (packs, _) = back_up(&site, &repository, "kept", 3).await;
        let (all, second) = back_up(&site, &repository, "lost", 4).await;
        for name in all.difference(&packs) {
            if site.memory.get(name).await.expect("is there").len() > FILE_LEN / 2 {
                site.memory.delete(name).await.expect("deletes");
            }
        }
        let plan = repository.plan_repair_snapshots(&CancellationToken::new()).await.expect("plans");
        let [repair] = plan.snapshots.as_slice() else { panic!("one snapshot is to be repaired: {plan:?}") };
        let [loss] = repair.components.as_slice() else { panic!("of one component: {plan:?}") };
        assert_eq!((repair.info.id, loss.lost_count, repair.is_due()), (second, 1, true), "{loss:?}");
        assert!(loss.kept_count > 0 && loss.lost[0].ends_with("/lost"), "{loss:?}");
        Self { site, repository, packs, second, plan }
    }

    /// Takes away what the first backup stored.
    async fn delete_packs(&self) {
        for name in &self.packs {
            self.site.memory.delete(name).await.expect("deletes");
        }
    }

    /// Carries the plan out, on the host of this cache.
    async fn repair(&self, cache: &str) -> Result<Vec<(SnapshotId, SnapshotId)>, EngineError> {
        let repository = self.site.open(cache).await;
        let done = repository.repair_snapshots(&self.plan, None, &Arc::default(), &CancellationToken::new()).await;
        done.map(|done| done.committed)
    }

    async fn listed(&self) -> Vec<SnapshotId> {
        let listed = self.repository.snapshots(&SnapshotFilter::default()).await.expect("lists");
        listed.into_iter().map(|info| info.id).collect()
    }
}

/// Adds a file and backs up: all packs there are then, and the snapshot.
async fn back_up(site: &Site, repository: &Repository, file: &str, seed: u64) -> (BTreeSet<String>, SnapshotId) {
    fs::write(site.tree().join(file), Dice::of_seed(seed).bytes(FILE_LEN)).expect("writes");
    let mut request = backup_request(&site.tree());
    request.components[0].cutter = Some("pages-4096".parse().expect("is a cutter"));
    let report = site.backup_of(repository, request).await;
    (names_of(&site.memory, names::PACKS).await.into_iter().collect(), report.snapshot.expect("was committed"))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_prune_is_about_to_take_is_stored_again_with_its_pages() {
    let scene = Scene::new().await;
    let ids = scene.packs.iter().filter_map(|name| PackId::from_hex(names::last(name))).collect();
    let (name, list) = Forge::open(&scene.site.memory, "owner").await.condemned(ids);
    scene.site.memory.put_new(&name, vec![list]).await.expect("creates");
    let committed = scene.repair("another cache").await.expect("repairs");
    let [(old, new)] = committed.as_slice() else { panic!("one is committed: {committed:?}") };
    assert_eq!(*old, scene.second);
    // As the prune ends.
    scene.delete_packs().await;
    let fresh = scene.site.open("a host that knows nothing").await;
    let info = fresh.select(&Selector::Prefix(new.to_string()), &SnapshotFilter::default()).await.expect("is listed");
    let tree = Tree::read(&scene.site.tree()).without(b"lost");
    assert!(tree.node(b"kept").is_some(), "there is something to be seen");
    scene.site.assert_restores(&fresh, &info, &tree, "after the packs went").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn snapshot_of_which_less_is_found_than_was_planned_is_not_committed() {
    let scene = Scene::new().await;
    let before = scene.listed().await;
    scene.delete_packs().await;
    // Not by the host that planned, which remembers the pages.
    let error = scene.repair("another cache").await.expect_err("less is there than was planned");
    assert!(matches!(error, EngineError::Request { .. }), "{error}");
    assert!(error.to_string().contains("cannot be read as it was planned"), "{error}");
    assert_eq!(scene.listed().await, before);
    assert_eq!(names_of(&scene.site.memory, names::WRITERS).await, Vec::<String>::new());
}
