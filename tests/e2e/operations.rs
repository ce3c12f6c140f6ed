//! Every operation that changes a repository beside backups, stopped and frozen at each of its writes.
//!
//! ```text
//! one, two, three ─► operation ─┬─ dies after a write ───────────────────────────────► backup ─► the operation again
//!                               └─ is frozen before it ─ backup, prune: lease over ─► it goes on ─► the operation again
//! ```
//!
//! Between two writes nothing changes in the store, so these are all the moments that differ there. A run tries some of them, and all with
//! `BACKSTAY_EVERY_WRITE` in its environment. The backup wants what the operation
//! may have let go, on the host whose cache remembers it.
//!
//! Invariant: `one` and `three`, and what a backup then reports as committed, restore byte for byte after every stop.
//! Never here: backups themselves (see `crash`), and many operations at once (see `schedule`, `soak`).

use std::fs;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use crate::copy::copy_named;
use crate::crash::{open_when_released, until_stopped};
use crate::rewrite::{from, rewrite};
use engine::{
    BackupReport, CheckRequest, EngineError, Forget, GroupBy, PruneRequest, Removal, Repository, SnapshotFilter,
    SnapshotInfo, Subset,
};
use harness::{Dice, Site, Tree, check_all, copy_folder, fork, names_of, prune_request, try_prune};
use pack::{SnapshotId, names};
use store::testing::{Fault, FaultyStore, MemoryStore, Trigger, Verb};
use store::{SharedStore, Store as _};
use tokio_util::sync::CancellationToken;

/// How often something is looked at that is waited for.
const LOOK_EVERY: Duration = Duration::from_millis(1);
const LEN: usize = 30_000;
/// Writes of one operation at which it is stopped and frozen, unless `BACKSTAY_EVERY_WRITE` is set.
const WRITES_MAX: usize = 4;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Operation {
    Forget,
    Undelete,
    Hold,
    Prune,
    RepairIndex,
    RepairPacks,
    RepairSnapshots,
    Copy,
    Rewrite,
    Check,
}

/// Three snapshots: all have the file `both`, and the second one has `first` alone. What befell them suits the operation.
struct Scene {
    operation: Operation,
    site: Site,
    two: SnapshotId,
    /// What restores whatever happens.
    kept: Vec<(SnapshotId, Tree)>,
    /// Where it copies from.
    near: Option<Site>,
}

impl Scene {
    async fn new(operation: Operation) -> Self {
        let site = Site::new(1);
        let repository = site.init(site.store(), "cache").await.expect("makes");
        write(&site, "both");
        let one = back_up(&site, &repository).await;
        let before = names_of(&site.memory, "").await;
        write(&site, "first");
        let (two, _) = back_up(&site, &repository).await;
        let of_two: Vec<_> =
            names_of(&site.memory, "").await.into_iter().filter(|name| !before.contains(name)).collect();
        fs::remove_file(site.tree().join("first")).expect("removes");
        write(&site, "second");
        let three = back_up(&site, &repository).await;
        let mut scene = Self { operation, site, two, kept: vec![one, three], near: None };
        scene.prepare(&repository, &of_two).await;
        scene
    }

    /// Brings about what the operation is for.
    async fn prepare(&mut self, repository: &Repository, of_two: &[String]) {
        let memory = &self.site.memory;
        match self.operation {
            Operation::Undelete | Operation::Prune => self.site.forget(repository, self.two).await,
            Operation::RepairIndex => {
                let segments = of_two.iter().filter(|name| name.starts_with(names::INDEX));
                futures::future::join_all(segments.map(|name| memory.delete(name))).await;
            }
            Operation::RepairPacks | Operation::RepairSnapshots => {
                let (name, mut bytes) = largest(memory, of_two).await;
                match self.operation {
                    Operation::RepairPacks => {
                        bytes[LEN / 2] ^= 1;
                        memory.overwrite(&name, bytes.into()).await;
                    }
                    _ => memory.delete(&name).await.expect("deletes"),
                }
                // Which packs are damaged is known from a check.
                drop(check_all(repository).await.expect("checks"));
            }
            Operation::Copy => {
                let near = Site::new(1001);
                let from = near.init(near.store(), "cache").await.expect("makes");
                write(&near, "both");
                write(&near, "elsewhere");
                back_up(&near, &from).await;
                self.near = Some(near);
            }
            Operation::Forget | Operation::Hold | Operation::Rewrite | Operation::Check => {}
        }
    }

    /// Whether `two` lacks something whatever is done.
    fn is_damaged(&self) -> bool {
        matches!(self.operation, Operation::RepairIndex | Operation::RepairPacks | Operation::RepairSnapshots)
    }

    /// Does the operation; what was done before is not asked for again.
    async fn run(&self, store: SharedStore, cache: &str) -> Result<(), EngineError> {
        let (site, cancel) = (&self.site, CancellationToken::new());
        let repository = site.open_as("owner", store, cache).await?;
        let now = jiff::Timestamp::new(site.env.now().secs, 0).expect("a moment").to_zoned(jiff::tz::TimeZone::UTC);
        match self.operation {
            Operation::Forget => {
                let listed = repository.snapshots(&SnapshotFilter::default()).await?;
                if listed.iter().any(|info| info.id == self.two) {
                    let what = Forget::Named(vec![self.two]);
                    let plan = repository.plan_forget(&what, GroupBy::default(), &now).await?;
                    repository.forget(&plan).await?;
                }
            }
            Operation::Undelete => {
                let forgotten = repository.forgotten_snapshots().await?;
                for one in forgotten.iter().filter(|one| one.back_as.is_none()) {
                    repository.undelete(one, cancel.clone()).await?;
                }
            }
            Operation::Hold => repository.hold(&[self.two], None, "why").await?,
            Operation::Prune => drop(try_prune(&repository, prune_request(0.0)).await?),
            Operation::RepairIndex => {
                let plan = repository.plan_repair_index(&cancel).await?;
                repository.repair_index(&plan, "host", &cancel).await?;
            }
            Operation::RepairPacks => {
                let plan = repository.plan_repair_packs(true, &Arc::default(), &cancel).await?;
                repository.repair_packs(&plan, "host", &Arc::default(), &cancel).await?;
            }
            Operation::RepairSnapshots => {
                let plan = repository.plan_repair_snapshots(&cancel).await?;
                repository.repair_snapshots(&plan, Some(&now), &Arc::default(), &cancel).await?;
            }
            Operation::Copy => {
                let near = self.near.as_ref().expect("it copies from there");
                let from = open_when_released(near, &near.memory, "copied from").await;
                copy_named(&from, &repository, &[]).await?;
            }
            Operation::Rewrite => {
                let removal = Removal::Paths(vec![[site.tree_path().as_slice(), b"/first"].concat()]);
                rewrite(&repository, &removal).await?;
            }
            Operation::Check => {
                let request = CheckRequest { read_data: Some(Subset::All), remember: true, ..CheckRequest::default() };
                let report = repository.check(request, &Arc::default(), cancel).await?;
                assert_eq!(report.damages, []);
            }
        }
        Ok(())
    }

    /// Every write of the operation, as how many of its verb are before it.
    async fn writes(&self) -> Vec<(Verb, u64)> {
        let faulty = Arc::new(FaultyStore::new(Arc::new(fork(&self.site.memory).await)));
        copy_folder(&self.site.path("cache"), &self.site.path("counting"));
        self.run(faulty.clone(), "counting").await.expect("is done without a fault");
        let of = |verb| (0..count(&faulty, verb)).map(move |at| (verb, at));
        of(Verb::Put).chain(of(Verb::Delete)).collect()
    }

    /// A backup of a tree that has all that there ever was, which must restore on a host that knows nothing.
    async fn back_up_all(&self, memory: &MemoryStore, cache: &str, context: &str) -> (SnapshotId, Tree) {
        // What lies in a damaged pack is found there as long as nobody on this host knows of the damage.
        if self.operation != Operation::RepairPacks {
            write(&self.site, "first");
        }
        let repository = open_when_released(&self.site, memory, cache).await;
        let (id, tree) = back_up(&self.site, &repository).await;
        drop(fs::remove_file(self.site.tree().join("first")));
        self.assert_restore(memory, &[(id, tree.clone())], &format!("{cache} knows nothing"), context).await;
        (id, tree)
    }

    async fn assert_restore(&self, memory: &MemoryStore, known: &[(SnapshotId, Tree)], cache: &str, context: &str) {
        let repository = open_when_released(&self.site, memory, cache).await;
        let listed = repository.snapshots(&SnapshotFilter::default()).await.expect("lists");
        for (id, tree) in known {
            let stands = |info: &&SnapshotInfo| info.id == *id || from(info).contains(id);
            let info = listed.iter().find(stands);
            let info = info.unwrap_or_else(|| panic!("{context}: {id} was committed and is gone"));
            let tree = if info.id == *id { tree.clone() } else { tree.without(b"first") };
            self.site.assert_restores(&repository, info, &tree, context).await;
        }
        if !self.is_damaged() {
            let checked = check_all(&repository).await.expect("checks");
            assert_eq!((checked.damages, checked.unclear), (Vec::new(), Vec::new()), "{context}");
        }
    }

    /// Another host and the same cache see a whole repository, and the operation is completed.
    async fn assert_goes_on(
        &self,
        memory: &MemoryStore,
        cache: &str,
        mut known: Vec<(SnapshotId, Tree)>,
        context: &str,
    ) {
        self.assert_restore(memory, &known, &format!("{cache} after"), context).await;
        known.push(self.back_up_all(memory, cache, context).await);
        let again = self.run(Arc::new(memory.clone()), &format!("{cache} again")).await;
        // What a prune has let go meanwhile does not come back.
        let is_gone = matches!(again, Err(EngineError::ContentGone { .. }));
        assert!(again.is_ok() || is_gone, "{context}, and again: {again:?}");
        let repository = open_when_released(&self.site, memory, &format!("{cache} prune")).await;
        let pruned = try_prune(&repository, prune_request(0.0)).await;
        assert!(pruned.is_ok() || self.is_damaged(), "{context}: {pruned:?}");
        drop(repository);
        self.assert_restore(memory, &known, &format!("{cache} last"), &format!("{context}, and pruned")).await;
    }
}

fn write(site: &Site, name: &str) {
    let seed = name.bytes().map(u64::from).sum();
    fs::write(site.tree().join(name), Dice::of_seed(seed).bytes(LEN)).expect("writes");
}

async fn back_up(site: &Site, repository: &Repository) -> (SnapshotId, Tree) {
    let report: BackupReport = site.backup(repository).await;
    (report.snapshot.expect("was committed"), Tree::read(&site.tree()))
}

/// The pack of content among these objects.
async fn largest(memory: &MemoryStore, of: &[String]) -> (String, Vec<u8>) {
    let mut found = (String::new(), Vec::new());
    for name in of.iter().filter(|name| name.starts_with(names::PACKS)) {
        let bytes = memory.get(name).await.expect("is there");
        if bytes.len() > found.1.len() {
            found = (name.clone(), bytes.to_vec());
        }
    }
    found
}

fn count(faulty: &FaultyStore, verb: Verb) -> u64 {
    faulty.calls().iter().filter(|call| call.verb == verb).count() as u64
}

/// As many of these as are tried: all of them where the environment says so, else some, evenly spread and with both ends.
fn chosen(writes: &[(Verb, u64)]) -> Vec<(Verb, u64)> {
    let all = std::env::var_os("BACKSTAY_EVERY_WRITE").is_some();
    let count = if all { writes.len() } else { writes.len().min(WRITES_MAX) };
    let place = |at: usize| if count == 1 { 0 } else { at * (writes.len() - 1) / (count - 1) };
    (0..count).map(|at| writes[place(at)]).collect()
}

async fn at_every_write(operation: Operation) {
    let scene = Scene::new(operation).await;
    let writes = scene.writes().await;
    assert!(!writes.is_empty(), "{operation:?} writes something");
    for (verb, at) in chosen(&writes) {
        let context = format!("{operation:?} stopped after {verb:?} {at}");
        let memory = fork(&scene.site.memory).await;
        let faulty = Arc::new(FaultyStore::new(Arc::new(memory.clone())));
        faulty.inject(Trigger::next().of(verb).after(at), Fault::StopAfter);
        let cache = format!("stopped {verb:?} {at}");
        copy_folder(&scene.site.path("cache"), &scene.site.path(&cache));
        drop(until_stopped(&faulty, scene.run(faulty.clone(), &cache)).await);
        scene.assert_goes_on(&memory, &cache, scene.kept.clone(), &context).await;
        freeze(&scene, verb, at).await;
    }
}

/// The operation stands still before a write until a backup has come and a prune has given up whoever is silent; then it goes on.
async fn freeze(scene: &Scene, verb: Verb, at: u64) {
    let context = format!("{:?} frozen before {verb:?} {at}", scene.operation);
    let memory = fork(&scene.site.memory).await;
    let faulty = Arc::new(FaultyStore::new(Arc::new(memory.clone())));
    faulty.inject(Trigger::next().of(verb).after(at), Fault::Hang);
    let cache = format!("frozen {verb:?} {at}");
    copy_folder(&scene.site.path("cache"), &scene.site.path(&cache));
    let has_ended = AtomicBool::new(false);
    let work = async {
        let done = scene.run(faulty.clone(), &cache).await;
        has_ended.store(true, Ordering::Relaxed);
        done
    };
    let meanwhile = async {
        while count(&faulty, verb) <= at && !has_ended.load(Ordering::Relaxed) {
            tokio::time::sleep(LOOK_EVERY).await;
        }
        let committed = scene.back_up_all(&memory, &format!("{cache} other"), &context).await;
        let other = open_when_released(&scene.site, &memory, &format!("{cache} prune meanwhile")).await;
        let silent = PruneRequest { lease_over_after: Duration::ZERO, ..prune_request(0.0) };
        let pruned = try_prune(&other, silent).await;
        assert!(pruned.is_ok() || scene.is_damaged(), "{context}: {pruned:?}");
        faulty.release();
        committed
    };
    let (done, committed) = futures::join!(work, meanwhile);
    if let Err(error) = done {
        // It was given up, or what it was about is gone.
        let is_foreseen = matches!(error, EngineError::DeclaredDead | EngineError::ContentGone { .. });
        assert!(is_foreseen || matches!(error, EngineError::Store(_)), "{context}: {error}");
    }
    let known = scene.kept.iter().cloned().chain([committed]).collect();
    scene.assert_goes_on(&memory, &cache, known, &context).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn forget_that_dies_or_freezes_at_any_write_loses_nothing() {
    at_every_write(Operation::Forget).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn undelete_that_dies_or_freezes_at_any_write_loses_nothing() {
    at_every_write(Operation::Undelete).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn hold_that_dies_or_freezes_at_any_write_loses_nothing() {
    at_every_write(Operation::Hold).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn prune_that_dies_or_freezes_at_any_write_loses_nothing() {
    at_every_write(Operation::Prune).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn repair_of_the_index_that_dies_or_freezes_at_any_write_loses_nothing() {
    at_every_write(Operation::RepairIndex).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn repair_of_packs_that_dies_or_freezes_at_any_write_loses_nothing() {
    at_every_write(Operation::RepairPacks).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn repair_of_snapshots_that_dies_or_freezes_at_any_write_loses_nothing() {
    at_every_write(Operation::RepairSnapshots).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn copy_that_dies_or_freezes_at_any_write_loses_nothing() {
    at_every_write(Operation::Copy).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rewrite_that_dies_or_freezes_at_any_write_loses_nothing() {
    at_every_write(Operation::Rewrite).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn check_that_remembers_and_dies_or_freezes_at_any_write_loses_nothing() {
    at_every_write(Operation::Check).await;
}
