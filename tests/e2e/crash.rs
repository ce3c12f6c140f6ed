//! The store stops at each call in turn, lies, or answers late: whatever was committed restores.
//!
//! ```text
//! init ─► backup 1 ─► change ─► backup 2         one phase runs; it dies before or after its n-th call took effect
//!                                  └─► reopen on what survived, with the old cache and with none
//! ```
//!
//! Invariant: a run that died is dropped where it stands, as a killed process is.
//! Never here: disks that fail; `index_cache` has its own suite for those.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use engine::{BackupReport, EngineError, Repository, SnapshotFilter};
use harness::{
    Dice, Forge, Site, SwappingStore, Tree, backup_request, check_all, copy_folder, fork, names_of, try_backup,
};
use pack::{PackId, SnapshotId, names};
use store::testing::{Fault, FaultyStore, MemoryStore, Trigger, Verb};
use store::{Env, Patience, Retrying, SharedStore, Store as _};

/// How often a dying run is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(1);
/// How long tasks of a dropped run may hold on to its cache.
const RELEASES_MAX: usize = 1_000;

/// A moment between two phases: what the store holds, the cache, and what must restore.
struct Moment {
    site: Site,
    cache: PathBuf,
    known: Vec<(SnapshotId, Tree)>,
}

impl Moment {
    /// After init.
    async fn initialised() -> Self {
        let site = Site::new(1);
        drop(site.init(site.store(), "cache").await.expect("makes"));
        write_first_tree(&site);
        let cache = site.path("cache");
        Self { site, cache, known: Vec::new() }
    }

    /// After the first backup and a change.
    async fn changed() -> Self {
        let mut moment = Self::initialised().await;
        let tree = Tree::read(&moment.site.tree());
        let repository = moment.site.open("cache").await;
        let report = moment.site.backup(&repository).await;
        drop(repository);
        moment.known.push((report.snapshot.expect("was committed"), tree));
        change_tree(&moment.site);
        moment
    }

    /// Everything that is in the store from here on restores, and the next backup works, with this cache.
    async fn assert_survives(&self, store: &MemoryStore, cache: &str, context: &str) -> BackupReport {
        let now = Tree::read(&self.site.tree());
        let repository = open_when_released(&self.site, store, cache).await;
        let listed = repository.snapshots(&SnapshotFilter::default()).await.expect("lists");
        for (id, _) in &self.known {
            assert!(listed.iter().any(|info| info.id == *id), "{context}: {id} was committed and is listed");
        }
        for info in &listed {
            let tree = self.known.iter().find(|(id, _)| *id == info.id).map_or(&now, |(_, tree)| tree);
            self.site.assert_restores(&repository, info, tree, context).await;
        }
        let report = self.site.backup(&repository).await;
        let snapshot = self.site.snapshot(&repository, &report).await;
        self.site.assert_restores(&repository, &snapshot, &now, context).await;
        let checked = check_all(&repository).await.expect("checks");
        assert_eq!((checked.damages, checked.unclear), (Vec::new(), Vec::new()), "{context}");
        report
    }
}

fn write_first_tree(site: &Site) {
    let dice = Dice::of_seed(7);
    let write = |name: &str, len| std::fs::write(site.tree().join(name), dice.bytes(len)).expect("writes");
    std::fs::create_dir(site.tree().join("folder")).expect("creates");
    write("folder/small", 2_000);
    write("kept", 20_000);
    write("large", 60_000);
}

fn change_tree(site: &Site) {
    let dice = Dice::of_seed(8);
    std::fs::write(site.tree().join("large"), dice.bytes(50_000)).expect("writes");
    std::fs::write(site.tree().join("new"), dice.bytes(3_000)).expect("writes");
    std::fs::remove_file(site.tree().join("folder/small")).expect("removes");
}

/// Opens with a cache that a dropped run may hold for a moment still.
pub(crate) async fn open_when_released(site: &Site, store: &MemoryStore, cache: &str) -> Repository {
    for _ in 0..RELEASES_MAX {
        let repository = site.open_as("owner", Arc::new(store.clone()), cache).await.expect("opens");
        if !repository.cache().is_private() {
            return repository;
        }
        drop(repository);
        tokio::time::sleep(LOOK_EVERY).await;
    }
    panic!("a dropped run never let go of its cache");
}

/// Runs `work` until it ends, or drops it as soon as the store has stopped.
pub(crate) async fn until_stopped<T>(store: &FaultyStore, work: impl Future<Output = T>) -> Option<T> {
    let mut work = std::pin::pin!(work);
    loop {
        match tokio::time::timeout(LOOK_EVERY, &mut work).await {
            Ok(done) => return Some(done),
            Err(_) if store.is_stopped() => return None,
            Err(_) => {}
        }
    }
}

async fn opened_and_backed_up(site: &Site, store: SharedStore, cache: &str) -> Result<BackupReport, EngineError> {
    let repository = site.open_as("owner", store, cache).await?;
    try_backup(&repository, backup_request(&site.tree())).await
}

/// Stops a backup at every call, before and after it takes effect.
async fn stop_backup_everywhere(mut moment: Moment) {
    let calls = {
        let faulty = FaultyStore::new(Arc::new(fork(&moment.site.memory).await));
        let (faulty, cache) = (Arc::new(faulty), moment.site.path("counting"));
        copy_folder(&moment.cache, &cache);
        opened_and_backed_up(&moment.site, faulty.clone(), "counting").await.expect("backs up");
        faulty.calls()
    };
    assert!(calls.len() > 15, "{calls:?}");
    let base = moment.known.clone();
    for (at, call) in calls.iter().enumerate() {
        for fault in [Fault::StopBefore, Fault::StopAfter] {
            let context = format!("{fault:?} call {at}, {call:?}");
            let memory = fork(&moment.site.memory).await;
            let faulty = Arc::new(FaultyStore::new(Arc::new(memory.clone())));
            faulty.inject(Trigger::next().after(at as u64), fault);
            let cache = format!("cache-{at}-{fault:?}");
            copy_folder(&moment.cache, &moment.site.path(&cache));
            let work = opened_and_backed_up(&moment.site, faulty.clone(), &cache);
            let ended = until_stopped(&faulty, work).await;
            moment.known.clone_from(&base);
            if let Some(Ok(report)) = ended {
                moment.known.push((report.snapshot.expect("was reported"), Tree::read(&moment.site.tree())));
            }
            moment.site.let_time_pass().await;
            moment.assert_survives(&fork(&memory).await, &format!("{cache}-none"), &context).await;
            moment.assert_survives(&memory, &cache, &context).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn first_backup_that_dies_at_any_call_loses_nothing() {
    stop_backup_everywhere(Moment::initialised().await).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn later_backup_that_dies_at_any_call_loses_nothing() {
    stop_backup_everywhere(Moment::changed().await).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn init_that_dies_at_any_call_leaves_a_repository_or_none() {
    let site = Site::new(1);
    let faulty = Arc::new(FaultyStore::new(Arc::new(MemoryStore::new())));
    site.init(faulty.clone(), "counting").await.expect("makes");
    for (at, call) in faulty.calls().iter().enumerate() {
        for fault in [Fault::StopBefore, Fault::StopAfter] {
            let context = format!("{fault:?} call {at}, {call:?}");
            let memory = MemoryStore::new();
            let faulty = Arc::new(FaultyStore::new(Arc::new(memory.clone())));
            faulty.inject(Trigger::next().after(at as u64), fault);
            until_stopped(&faulty, site.init(faulty.clone(), &format!("cache-{at}-{fault:?}"))).await;
            let left = names_of(&memory, "").await;
            let store: SharedStore = Arc::new(memory.clone());
            let again = site.init(store.clone(), &format!("again-{at}-{fault:?}")).await;
            if left.iter().any(|name| name == names::CONFIG || name == names::CONFIG_COPY) {
                assert!(matches!(again, Err(EngineError::RepositoryExists { .. })), "{context}: {again:?}");
                let repository = site.open_as("owner", store, &format!("open-{at}-{fault:?}")).await.expect(&context);
                site.backup_of(&repository, backup_request(&site.path("."))).await;
                let damages = check_all(&repository).await.expect("checks").damages;
                assert!(damages.iter().all(|damage| damage.object == names::CONFIG), "{context}: {damages:?}");
            } else if left.is_empty() {
                again.expect(&context);
            } else {
                assert!(matches!(again, Err(EngineError::NotEmpty { .. })), "{context}: {again:?}");
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn packs_acknowledged_before_a_crash_are_not_uploaded_again() {
    let moment = Moment::initialised().await;
    for fault in [Fault::StopBefore, Fault::StopAfter] {
        let memory = fork(&moment.site.memory).await;
        let faulty = Arc::new(FaultyStore::new(Arc::new(memory.clone())));
        faulty.inject(Trigger::next().of(Verb::Put).naming("index/"), fault);
        let cache = format!("cache-{fault:?}");
        let ended = until_stopped(&faulty, opened_and_backed_up(&moment.site, faulty.clone(), &cache)).await;
        assert!(!matches!(ended, Some(Ok(_))));
        let packs = names_of(&memory, names::PACKS).await;
        assert_eq!(packs.len(), 2, "both packs were acknowledged");
        moment.site.let_time_pass().await;
        let report = moment.assert_survives(&memory, &cache, &format!("{fault:?}")).await;
        assert_eq!((report.new_len, report.read_len), (0, 0), "{fault:?}: all content is found again");
        assert!(report.stored_len < 20_000, "{fault:?}: {} bytes", report.stored_len);
        let now = names_of(&memory, names::PACKS).await;
        assert!(now.len() <= packs.len() + 1, "{fault:?}: at most a page about a folder that changed: {now:?}");
    }
}

/// A backup during which `fault` befalls the commit; gives what it said, with everything it ran on.
async fn commit_under(fault: Fault) -> (Moment, Arc<FaultyStore>, Result<BackupReport, EngineError>) {
    let moment = Moment::initialised().await;
    let faulty = Arc::new(FaultyStore::new(moment.site.store()));
    faulty.inject(Trigger::next().of(Verb::Put).naming("snapshots/"), fault);
    let done = opened_and_backed_up(&moment.site, faulty.clone(), "cache").await;
    moment.site.let_time_pass().await;
    (moment, faulty, done)
}

async fn snapshot_count(moment: &Moment) -> usize {
    names_of(&moment.site.memory, names::SNAPSHOTS).await.len()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn commit_whose_reply_is_lost_is_found_committed_and_its_record_stays() {
    let (moment, _, done) = commit_under(Fault::LoseReply).await;
    let id = done.expect("is committed").snapshot.expect("has a snapshot");
    assert_eq!(names_of(&moment.site.memory, names::SNAPSHOTS).await, [names::snapshot(&id)]);
    let record = names_of(&moment.site.memory, names::WRITERS).await;
    assert!(record.contains(&names::announced(&id)), "an unanswered attempt may yet land: {record:?}");
    moment.assert_survives(&moment.site.memory, "cache", "lost reply").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn commit_that_lands_late_is_made_again_once_and_refused_when_it_lands() {
    let (moment, faulty, done) = commit_under(Fault::LandLate).await;
    let id = done.expect("is committed").snapshot.expect("has a snapshot");
    let before = moment.site.memory.get(&names::snapshot(&id)).await.expect("is there");
    let landed = faulty.land_late().await;
    assert!(matches!(landed.as_slice(), [Ok(store::Put::AlreadyThere)]), "{landed:?}");
    assert_eq!(moment.site.memory.get(&names::snapshot(&id)).await.expect("is there"), before);
    assert_eq!(snapshot_count(&moment).await, 1);
    assert!(names_of(&moment.site.memory, names::WRITERS).await.contains(&names::announced(&id)));
    moment.assert_survives(&moment.site.memory, "cache", "landed late").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn commit_answered_with_a_false_conflict_is_made_again() {
    let (moment, _, done) = commit_under(Fault::FalseConflict).await;
    done.expect("is committed");
    assert_eq!(snapshot_count(&moment).await, 1);
    assert_eq!(names_of(&moment.site.memory, names::WRITERS).await, Vec::<String>::new());
    moment.assert_survives(&moment.site.memory, "cache", "false conflict").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn false_conflict_at_any_put_never_loses_a_byte() {
    let moment = Moment::initialised().await;
    let patience = Patience { pause_min: LOOK_EVERY, pause_max: LOOK_EVERY, ..Patience::default() };
    for (at, part) in ["announced", "seen", "packs/", "index/", "snapshots/"].into_iter().enumerate() {
        let memory = fork(&moment.site.memory).await;
        let faulty = Arc::new(FaultyStore::new(Arc::new(memory.clone())));
        faulty.inject(Trigger::next().of(Verb::Put).naming(part), Fault::FalseConflict);
        let retrying = Arc::new(Retrying::new(faulty.clone(), Env::system(), patience));
        let cache = format!("cache-{at}");
        let report = opened_and_backed_up(&moment.site, retrying, &cache).await.expect(part);
        assert!(report.snapshot.is_some());
        moment.site.let_time_pass().await;
        moment.assert_survives(&fork(&memory).await, &format!("{cache}-none"), part).await;
        moment.assert_survives(&memory, &cache, part).await;
    }
}

/// A backup whose commit hangs until a collector has declared its writer dead.
async fn declare_dead(fault: Fault) -> (Moment, Arc<FaultyStore>, Result<BackupReport, EngineError>, SnapshotId) {
    let moment = Moment::changed().await;
    let forge = Forge::open(&moment.site.memory, "owner").await;
    let faulty = Arc::new(FaultyStore::new(moment.site.store()));
    let commits = Trigger::next().of(Verb::Put).naming("snapshots/");
    if fault == Fault::LandLate {
        faulty.inject(commits.clone(), Fault::LandLate);
        faulty.inject(commits.after(1), Fault::Hang);
    } else {
        faulty.inject(commits, Fault::Hang);
    }
    let wanted = if fault == Fault::LandLate { 2 } else { 1 };
    let collect = async {
        loop {
            let calls = faulty.calls();
            let commits: Vec<_> =
                calls.iter().filter(|call| call.verb == Verb::Put && call.name.starts_with("snapshots/")).collect();
            if let (true, Some(commit)) = (commits.len() == wanted, commits.last()) {
                let writer = SnapshotId::from_hex(names::last(&commit.name)).expect("is an id");
                let (name, dead) = forge.dead(writer);
                moment.site.memory.put_new(&name, vec![dead]).await.expect("creates");
                faulty.release();
                return writer;
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
    };
    let work = opened_and_backed_up(&moment.site, faulty.clone(), "cache");
    let (done, writer) = futures::join!(work, collect);
    moment.site.let_time_pass().await;
    (moment, faulty, done, writer)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn writer_that_finds_its_tombstone_commits_nothing_and_cleans_up() {
    let (moment, _, done, writer) = declare_dead(Fault::Hang).await;
    assert!(matches!(done, Err(EngineError::DeclaredDead)), "{done:?}");
    let left = names_of(&moment.site.memory, "").await;
    assert!(left.iter().all(|name| !name.contains(&writer.to_string())), "{left:?}");
    assert_eq!(snapshot_count(&moment).await, 1, "the snapshot before it");
    let report = moment.assert_survives(&moment.site.memory, "cache", "declared dead").await;
    assert_eq!(report.new_len, 0, "what the dead writer uploaded is found again");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tombstone_of_a_writer_with_an_unanswered_commit_stays_against_its_late_landing() {
    let (moment, faulty, done, writer) = declare_dead(Fault::LandLate).await;
    assert!(matches!(done, Err(EngineError::DeclaredDead)), "{done:?}");
    let landed = faulty.land_late().await;
    assert!(matches!(landed.as_slice(), [Ok(store::Put::AlreadyThere)]), "{landed:?}");
    assert!(names_of(&moment.site.memory, names::WRITERS).await.contains(&names::announced(&writer)));
    let repository = moment.site.open("fresh").await;
    let listed = repository.snapshots(&SnapshotFilter::default()).await.expect("lists");
    assert_eq!(listed.len(), 1, "a tombstone is no snapshot");
    moment.assert_survives(&moment.site.memory, "cache", "declared dead").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn segment_that_a_prune_merges_between_list_and_get_is_read_under_its_new_name() {
    let moment = Moment::changed().await;
    let (memory, site) = (&moment.site.memory, &moment.site);
    let forge = Forge::open(memory, "owner").await;
    let old = names_of(memory, names::INDEX).await.pop().expect("has a segment");
    let mut merged = forge.open_segment(&memory.get(&old).await.expect("is there"));
    merged.replaces = vec![pack::SegmentId::from_hex(names::last(&old)).expect("is an id")];
    let store = Arc::new(SwappingStore::new(memory.clone(), &old, vec![forge.segment(&merged)]));
    let repository = site.open_as("owner", store.clone(), "fresh").await.expect("opens");
    let (id, tree) = &moment.known[0];
    let listed = repository.snapshots(&SnapshotFilter::default()).await.expect("lists");
    let info = listed.iter().find(|info| info.id == *id).expect("is listed");
    site.assert_restores(&repository, info, tree, "merged meanwhile").await;
    assert!(store.has_swapped() && !names_of(memory, names::INDEX).await.contains(&old));
}

/// Every pack there is, as its owner or `who` condemns it.
async fn condemn_all(site: &Site, who: &str) -> Vec<String> {
    let packs = names_of(&site.memory, names::PACKS).await;
    let ids = packs.iter().map(|name| PackId::from_hex(names::last(name)).expect("is an id")).collect();
    let (name, list) = Forge::open(&site.memory, who).await.condemned(ids);
    site.memory.put_new(&name, vec![list]).await.expect("creates");
    packs
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn condemned_packs_are_never_referred_to_again() {
    for (cache, force) in [("cache", false), ("cache", true), ("none", false)] {
        let mut moment = Moment::initialised().await;
        let site = &moment.site;
        let tree = Tree::read(&site.tree());
        let repository = site.open("cache").await;
        let first = site.backup(&repository).await;
        drop(repository);
        let condemned = condemn_all(site, "owner").await;
        let repository = site.open(cache).await;
        let mut request = backup_request(&site.tree());
        request.components[0].force = force;
        let second = site.backup_of(&repository, request).await;
        assert_eq!(second.new_len, first.new_len, "{cache}, force {force}: all content is stored again");
        drop(repository);
        // The collector is done: the snapshot that named them is forgotten, and the packs are gone.
        site.memory.delete(&names::snapshot(&first.snapshot.expect("committed"))).await.expect("deletes");
        for name in &condemned {
            site.memory.delete(name).await.expect("deletes");
        }
        moment.known.push((second.snapshot.expect("committed"), tree));
        moment.assert_survives(&moment.site.memory, "fresh", "condemned packs are gone").await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn condemned_list_of_a_key_that_may_not_collect_is_not_believed() {
    let moment = Moment::initialised().await;
    let site = &moment.site;
    let repository = site.open("cache").await;
    repository.add_key(pack::Role::Writer, harness::password("writer"), "w", harness::COST).await.expect("adds");
    let first = site.backup(&repository).await;
    drop(repository);
    condemn_all(site, "writer").await;
    let repository = site.open("cache").await;
    let mut request = backup_request(&site.tree());
    request.components[0].force = true;
    let second = site.backup_of(&repository, request).await;
    assert!(first.new_len > 0 && second.new_len == 0, "{second:?}");
}
