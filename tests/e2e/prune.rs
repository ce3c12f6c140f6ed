//! Pruning: what is needed stays, what is not goes, and nothing is lost wherever it stops or whoever works beside it.
//!
//! Invariant: every snapshot that is not forgotten restores byte for byte after each prune.
//! Never here: every interleaving (see the model in `tests/protocol`), and random ones of real runs (see `model`).

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use crate::crash::until_stopped;
use engine::{
    BackupReport, CheckRequest, EngineError, PrunePlan, PruneReport, PruneRequest, Repository, SnapshotFilter, Subset,
};
use harness::binary::{Host, Run as _, noise};
use harness::{
    COST, Dice, Forge, Site, Tree, backup_request, check_all, copy_folder, fork, names_of, password, prune_request,
    try_backup, try_prune,
};
use pack::manifest::{PageKind, Structure};
use pack::{BlobKind, PackClass, Role, SnapshotId, names};
use seal::ChunkId;
use store::testing::{Fault, FaultyStore, MemoryStore, Trigger, Verb};
use store::{SharedStore, Store as _};
use tokio_util::sync::CancellationToken;

/// How often something is looked at that is waited for.
const LOOK_EVERY: Duration = Duration::from_millis(2);
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
async fn index_forgets_packs_that_are_gone_and_keeps_naming_those_that_are_missed() {
    let site = Site::new(27);
    let repository = site.init(site.store(), "cache").await.expect("makes");
    let past = two_snapshots(&site, &repository, LEN).await;
    let mut segments = Vec::new();
    for name in names_of(&site.memory, names::INDEX).await {
        segments.push((name.clone(), site.memory.get(&name).await.expect("reads")));
    }
    site.forget(&repository, past[0].0).await;
    prune(&repository).await;
    assert_restores(&site, &repository, &past[1..], "after the prune").await;
    // As after two prunes beside each other: one has put into a new segment what the other was about to delete.
    for (name, bytes) in segments {
        site.memory.put_new(&name, vec![bytes]).await.expect("puts");
    }
    let checked = check_all(&repository).await.expect("checks");
    let told = "is missing, and no snapshot needs it; the next prune forgets it";
    assert!(checked.damages.is_empty() && checked.warnings.iter().any(|line| line.ends_with(told)), "{checked:?}");
    let planned = plan(&repository, request()).await;
    assert!(planned.stale_packs > 0 && planned.gone_packs == 0 && !planned.is_empty(), "{planned:?}");
    prune(&repository).await;
    assert_restores(&site, &repository, &past[1..], "after the second prune").await;
    assert!(plan(&repository, request()).await.is_empty(), "a third prune has nothing to do");
    // A pack that is missed is another matter: where it was is what tells what is lost.
    let mut longest = (0, String::new());
    for name in names_of(&site.memory, names::PACKS).await {
        longest = longest.max((site.memory.get(&name).await.expect("reads").len(), name));
    }
    site.memory.delete(&longest.1).await.expect("deletes");
    let planned = plan(&repository, request()).await;
    assert_eq!((planned.stale_packs, planned.is_empty()), (0, true), "{planned:?}");
    let checked = check_all(&repository).await.expect("checks");
    assert_eq!(checked.damages.iter().map(|damage| &damage.object).collect::<Vec<_>>(), [&longest.1]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn index_goes_on_naming_a_pack_that_is_gone_once_its_other_copy_is_gone_too() {
    let site = Site::new(28);
    let owner = site.init(site.store(), "cache").await.expect("makes");
    fs::write(site.tree().join("both"), Dice::of_seed(4).bytes(LEN)).expect("writes");
    both_at_once(&site, &owner, [site.tree(), site.tree()]).await;
    let mut content = Vec::new();
    for name in names_of(&site.memory, names::PACKS).await {
        if site.memory.get(&name).await.expect("reads").len() > LEN / 2 {
            content.push(name);
        }
    }
    let [one, other] = content.as_slice() else { panic!("two packs with the same content: {content:?}") };
    site.memory.delete(one).await.expect("deletes");
    let planned = plan(&owner, request()).await;
    assert_eq!(planned.stale_packs, 1, "nothing is needed that the other one lacks: {planned:?}");
    // From here on, where it was is what tells what is lost.
    site.memory.delete(other).await.expect("deletes");
    owner.prune(planned, &Arc::default(), CancellationToken::new()).await.expect("prunes");
    let forge = Forge::open(&site.memory, "owner").await;
    let mut named = Vec::new();
    for name in names_of(&site.memory, names::INDEX).await {
        let segment = forge.open_segment(&site.memory.get(&name).await.expect("reads"));
        named.extend(segment.packs.iter().map(|pack| names::pack(&pack.id)));
    }
    assert!(named.contains(one) && named.contains(other), "{one} and {other} among {named:?}");
    let planned = plan(&owner, request()).await;
    assert_eq!(planned.stale_packs, 0, "{planned:?}");
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

/// Two snapshots of which the first is forgotten, on a store that fails on order.
async fn one_forgotten(seed: u64) -> (Site, Arc<FaultyStore>, Vec<(SnapshotId, Tree)>) {
    let site = Site::new(seed);
    let faulty = Arc::new(FaultyStore::new(site.store()));
    let repository = site.init(site.store(), "cache").await.expect("makes");
    let past = two_snapshots(&site, &repository, LEN).await;
    site.forget(&repository, past[0].0).await;
    (site, faulty, past)
}

/// A backup by another host that waits just before its commit, and what is done meanwhile.
async fn beside_a_backup<T>(
    site: &Site,
    faulty: &Arc<FaultyStore>,
    meanwhile: impl Future<Output = T>,
) -> (Result<BackupReport, EngineError>, T) {
    let other = site.open_as("owner", faulty.clone(), "other").await.expect("opens");
    faulty.inject(Trigger::next().of(Verb::Put).naming("snapshots/"), Fault::Hang);
    let waits = async {
        while !faulty.calls().iter().any(|call| call.verb == Verb::Put && call.name.starts_with("snapshots/")) {
            tokio::time::sleep(LOOK_EVERY).await;
        }
        let done = meanwhile.await;
        faulty.release();
        done
    };
    futures::join!(try_backup(&other, backup_request(&site.tree())), waits)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_running_backup_refers_to_waits_and_is_kept_once_it_has_committed() {
    let (site, faulty, past) = one_forgotten(5).await;
    // What only the forgotten snapshot had is backed up again: it is found, and not stored anew.
    fs::write(site.tree().join("first"), past[0].1.files().find(|(name, _)| *name == b"first").expect("was there").1)
        .expect("writes");
    let tree = Tree::read(&site.tree());
    let collector = site.open("collector").await;
    let (backup, meanwhile) = beside_a_backup(&site, &faulty, prune(&collector)).await;
    let backup = backup.expect("backs up");
    assert!(backup.stored_len < LEN as u64 / 2, "{backup:?}");
    assert_eq!((meanwhile.packs_deleted, meanwhile.running.len()), (0, 1), "{meanwhile:?}");
    assert!(meanwhile.waiting_packs > 0 && !meanwhile.is_complete());
    let kept = [past[1].clone(), (backup.snapshot.expect("was committed"), tree)];
    let after = prune(&collector).await;
    assert!(after.is_complete() && after.copied_packs > 0, "it was condemned, and is needed again: {after:?}");
    assert_restores(&site, &collector, &kept, "after both").await;
    assert_tidy(&site.memory).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn backup_without_a_sign_of_life_is_given_up_and_commits_nothing() {
    let (site, faulty, past) = one_forgotten(6).await;
    fs::write(site.tree().join("more"), Dice::of_seed(3).bytes(LEN)).expect("writes");
    let collector = site.open("collector").await;
    let silent = PruneRequest { lease_over_after: Duration::ZERO, ..request() };
    let (backup, pruned) = beside_a_backup(&site, &faulty, try_prune(&collector, silent)).await;
    assert!(matches!(backup, Err(EngineError::DeclaredDead)), "{backup:?}");
    let pruned = pruned.expect("prunes");
    assert!(pruned.given_up == 1 && pruned.is_complete(), "{pruned:?}");
    let again = site.backup(&site.open("other").await).await;
    let kept = [past[1].clone(), (again.snapshot.expect("was committed"), Tree::read(&site.tree()))];
    assert_restores(&site, &collector, &kept, "after it began again").await;
    assert_tidy(&site.memory).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn packs_that_the_store_does_not_let_go_are_told_and_go_later() {
    let (site, faulty, past) = one_forgotten(7).await;
    let collector = site.open_as("owner", faulty.clone(), "collector").await.expect("opens");
    faulty.inject(Trigger::next().of(Verb::Delete).naming("packs/").always(), Fault::Deny);
    let locked = prune(&collector).await;
    assert!(locked.locked_count > 0 && locked.locked_len > 0 && locked.packs_deleted == 0, "{locked:?}");
    assert!(!locked.is_complete() && locked.locked[0].1.contains("denied access"), "{locked:?}");
    let listed = collector.snapshots(&SnapshotFilter::default()).await.expect("lists");
    site.assert_restores(&collector, &listed[0], &past[1].1, "while they are locked").await;
    let later = site.open("later").await;
    assert!(prune(&later).await.packs_deleted >= locked.locked_count);
    assert_restores(&site, &later, &past[1..], "after they went").await;
    assert_tidy(&site.memory).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn store_that_creates_twice_is_refused_unless_nobody_else_is_there() {
    let (site, faulty, past) = one_forgotten(8).await;
    let collector = site.open_as("owner", faulty.clone(), "collector").await.expect("opens");
    faulty.inject(Trigger::next().of(Verb::Put).always(), Fault::IgnoreCondition);
    let before = names_of(&site.memory, names::PACKS).await;
    let refused = try_prune(&collector, request()).await;
    assert!(matches!(refused, Err(EngineError::NoConditionalCreate { .. })), "{refused:?}");
    assert_eq!(names_of(&site.memory, names::PACKS).await, before);
    let alone = PruneRequest { is_exclusive: true, ..request() };
    assert!(try_prune(&collector, alone).await.expect("prunes").is_complete());
    assert_restores(&site, &collector, &past[1..], "after the prune").await;
    assert_tidy(&site.memory).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn page_that_cannot_be_read_stops_a_prune_before_anything_is_changed() {
    let (site, faulty, _) = one_forgotten(9).await;
    let collector = site.open_as("owner", faulty.clone(), "collector").await.expect("opens");
    faulty.inject(Trigger::next().of(Verb::GetRange).naming("packs/").always(), Fault::ReadWrong);
    let before = names_of(&site.memory, "").await;
    let stopped = try_prune(&collector, request()).await;
    assert!(
        matches!(&stopped, Err(EngineError::CannotMark { object, .. }) if object.starts_with("page ")),
        "{stopped:?}"
    );
    assert_eq!(names_of(&site.memory, "").await, before);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn blob_that_is_damaged_is_never_moved_and_its_pack_stays() {
    let (site, faulty, _) = one_forgotten(10).await;
    let collector = site.open_as("owner", faulty.clone(), "collector").await.expect("opens");
    let plan = plan(&collector, request()).await;
    assert!(plan.repacked_packs > 0, "{plan:?}");
    faulty.inject(Trigger::next().of(Verb::GetRange).naming("packs/").always(), Fault::ReadWrong);
    let report = collector.prune(plan, &Arc::default(), CancellationToken::new()).await.expect("goes on");
    assert!(report.problems.iter().any(|problem| problem.contains("it stays")), "{report:?}");
    assert_eq!((report.packs_deleted, report.written_len), (0, 0), "{report:?}");
}

/// Backs two folders up at once, so that neither backup sees what the other one stores.
async fn both_at_once(site: &Site, owner: &Repository, folders: [PathBuf; 2]) -> [SnapshotId; 2] {
    // The first host's packs are not named yet when the other one looks.
    let faulty = Arc::new(FaultyStore::new(site.store()));
    let other = site.open_as("owner", faulty.clone(), "other").await.expect("opens");
    faulty.inject(Trigger::next().of(Verb::Put).naming("index/"), Fault::Hang);
    let waits = async {
        while !faulty.calls().iter().any(|call| call.verb == Verb::Put && call.name.starts_with("index/")) {
            tokio::time::sleep(LOOK_EVERY).await;
        }
        let done = try_backup(owner, backup_request(&folders[1])).await;
        faulty.release();
        done.expect("backs up")
    };
    let (first, second) = futures::join!(try_backup(&other, backup_request(&folders[0])), waits);
    [first.expect("backs up").snapshot, second.snapshot].map(|id| id.expect("was committed"))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn prune_of_blobs_that_share_a_part_of_their_content_ends() {
    let site = Site::new(13);
    let owner = site.init(site.store(), "cache").await.expect("makes");
    let folders = ["a", "b"].map(|name| site.tree().join(name));
    for (folder, seed) in folders.iter().zip(5..) {
        fs::create_dir(folder).expect("creates");
        fs::write(folder.join("both"), Dice::of_seed(4).bytes(LEN)).expect("writes");
        fs::write(folder.join("own"), Dice::of_seed(seed).bytes(LEN)).expect("writes");
    }
    let [first, second] = both_at_once(&site, &owner, folders).await;
    let whole = Tree::read(&site.tree());
    let kept = [(first, whole.without(b"b")), (second, whole.without(b"a"))];
    let report = prune(&owner).await;
    assert!(report.packs_deleted > 0, "{report:?}");
    let stored = stored_len(&site.memory).await;
    assert!((LEN as u64 * 3..LEN as u64 * 33 / 10).contains(&stored), "each part once: {stored}");
    for request in [request(), prune_request(5.0)] {
        let planned = plan(&owner, request).await;
        assert!(planned.is_empty(), "a second prune has nothing to do: {planned:?}");
    }
    assert_restores(&site, &owner, &kept, "after the prune").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn content_that_two_hosts_stored_at_once_stays_twice_until_a_key_that_can_tell_prunes() {
    let site = Site::new(12);
    let owner = site.init(site.store(), "cache").await.expect("makes");
    owner.add_key(Role::Maintenance, password("keeper"), "keeper", COST).await.expect("adds");
    fs::write(site.tree().join("both"), Dice::of_seed(4).bytes(LEN)).expect("writes");
    let tree = Tree::read(&site.tree());
    let kept = both_at_once(&site, &owner, [site.tree(), site.tree()]).await.map(|id| (id, tree.clone()));
    let twice = stored_len(&site.memory).await;
    assert!(twice > 2 * LEN as u64);
    let keeper = site.open_as("keeper", site.store(), "keeper's cache").await.expect("opens");
    assert!(plan(&keeper, request()).await.double_len >= LEN as u64);
    prune(&keeper).await;
    assert_eq!(stored_len(&site.memory).await, twice);
    prune(&owner).await;
    assert!(stored_len(&site.memory).await < LEN as u64 * 11 / 10);
    assert_restores(&site, &owner, &kept, "after the owner's prune").await;
}

/// How a writer whose key was stolen lies.
#[derive(Debug, Clone, Copy)]
enum Lie {
    /// Each false chunk in a pack of its own.
    Apart,
    /// All of them in one pack, of the lowest id, that is worth being repacked.
    WithBallast,
    /// Segments say of packs of noise, of lower ids, that they hold the very blobs that others do.
    OfSameBlobs,
}

impl Lie {
    async fn tell(self, liar: &Forge, store: &MemoryStore) {
        let false_bytes = |kind, len| match kind {
            // Pages that the maintenance key could take for true ones: empty ones, which name nothing.
            BlobKind::Structure => {
                Structure { kind: PageKind::Content, children: Vec::new() }.encode().expect("encodes")
            }
            _ => vec![0; len as usize],
        };
        let packs = liar.packs(store).await;
        let lowest = packs.iter().map(|pack| pack.id).min().expect("there are packs");
        match self {
            Self::Apart => {
                for (kind, id, len) in liar.chunks(store).await {
                    liar.lie(store, kind, id, &false_bytes(kind, len)).await;
                }
            }
            Self::WithBallast => {
                let chunks = liar.chunks(store).await.into_iter().filter(|(kind, ..)| *kind == BlobKind::Data);
                let mut lies: Vec<_> = chunks.map(|(kind, id, len)| (kind, id, false_bytes(kind, len))).collect();
                lies.push((BlobKind::Data, ChunkId::from_bytes([7; 20]), noise("ballast", LEN)));
                liar.lie_before(store, lowest, &lies).await;
            }
            Self::OfSameBlobs => {
                for pack in packs.iter().filter(|pack| pack.trailer.class == PackClass::Data) {
                    liar.claim(store, pack).await;
                }
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn lying_writer_makes_no_prune_let_the_truth_go() {
    for (who, lie) in ["owner", "keeper"]
        .into_iter()
        .flat_map(|who| [Lie::Apart, Lie::WithBallast, Lie::OfSameBlobs].map(|lie| (who, lie)))
    {
        let (site, _, past) = one_forgotten(11).await;
        let owner = site.open("cache").await;
        owner.add_key(Role::Maintenance, password("keeper"), "keeper", COST).await.expect("adds");
        owner.add_key(Role::Writer, password("liar"), "liar", COST).await.expect("adds");
        let liar = Forge::open(&site.memory, "liar").await;
        lie.tell(&liar, &site.memory).await;
        let collector = site.open_as(who, site.store(), "collector").await.expect("opens");
        let mut problems = Vec::new();
        for _ in 0..3 {
            problems.push(try_prune(&collector, request()).await.expect("prunes").problems);
        }
        assert_eq!(problems.last(), Some(&Vec::new()), "{who}, {lie:?}: once it was told, prunes end: {problems:?}");
        let is_told = problems.iter().any(|problems| !problems.is_empty());
        assert!(is_told || who == "keeper", "{lie:?} was met by nobody");
        let fresh = site.open("fresh").await;
        let listed = fresh.snapshots(&SnapshotFilter::default()).await.expect("lists");
        site.assert_restores(&fresh, &listed[0], &past[1].1, &format!("{who}, {lie:?}")).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn copy_that_a_check_found_damaged_lets_no_other_go() {
    let (site, faulty, past) = one_forgotten(11).await;
    // The first prune moves what is left, and waits with what it condemned for a backup that runs.
    let (backup, ()) = beside_a_backup(&site, &faulty, async {
        let collector = site.open("collector").await;
        let before = names_of(&site.memory, names::PACKS).await;
        let report = try_prune(&collector, request()).await.expect("prunes");
        assert!(report.waiting_packs > 0, "{report:?}");
        for name in names_of(&site.memory, names::PACKS).await.into_iter().filter(|name| !before.contains(name)) {
            let mut bytes = site.memory.get(&name).await.expect("is there").to_vec();
            bytes[100] ^= 1;
            site.memory.overwrite(&name, bytes.into()).await;
        }
        let request = CheckRequest { read_data: Some(Subset::All), remember: true, ..CheckRequest::default() };
        let checker = site.open("checker").await;
        let checked = checker.check(request, &Arc::default(), CancellationToken::new()).await.expect("checks");
        assert!(checked.unneeded_count > 0, "the condemned pack has it, too: {checked:?}");
    })
    .await;
    backup.expect("commits");
    let other = site.open("other collector").await;
    for _ in 0..2 {
        let report = try_prune(&other, request()).await.expect("prunes");
        assert_eq!(report.problems, Vec::<String>::new(), "the check's word is enough, and nothing is read");
    }
    let fresh = site.open("fresh").await;
    let listed = fresh.snapshots(&SnapshotFilter::default()).await.expect("lists");
    let kept = listed.iter().find(|info| info.id == past[1].0).expect("is listed");
    site.assert_restores(&fresh, kept, &past[1].1, "after the copy rotted").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn plan_goes_on_without_a_snapshot_that_is_forgotten_and_swept_while_it_marks() {
    let site = Site::new(12);
    let repository = site.init(site.store(), "cache").await.expect("makes");
    let past = two_snapshots(&site, &repository, LEN).await;
    let first = past[0].0;
    let faulty = Arc::new(FaultyStore::new(site.store()));
    let slow = site.open_as("owner", faulty.clone(), "slow").await.expect("opens");
    // The second listing of snapshots is that of the mark, after it has read which are forgotten.
    faulty.inject(Trigger::next().of(Verb::List).naming(names::SNAPSHOTS).after(1), Fault::Hang);
    let sweep = async {
        while faulty.calls().iter().filter(|call| call.verb == Verb::List && call.name == names::SNAPSHOTS).count() < 2
        {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        let object = site.memory.get(&names::snapshot(&first)).await.expect("is there");
        site.forget(&repository, first).await;
        prune(&repository).await;
        // A prune that planned before the snapshot was forgotten leaves the object for another.
        site.memory.put_new(&names::snapshot(&first), vec![object]).await.expect("puts it back");
        faulty.release();
    };
    let (planned, ()) = tokio::join!(slow.plan_prune(request(), CancellationToken::new()), sweep);
    assert_eq!(planned.expect("plans").snapshots, 1, "only the other is left");
    prune(&slow).await;
    assert_restores(&site, &repository, &past[1..], "after both").await;
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
