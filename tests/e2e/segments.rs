//! A backup of more packs than one index segment names, and what it leaves to the next run when it is killed.
//!
//! Invariant: packs are small because the configuration says so; the limits are the real ones.
//! Never here: a single segment (see `crash`).

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use engine::{BackupReport, BackupRequest, EngineError, Input};
use harness::{Dice, Forge, Site, SwappingStore, Tree, backup_request, check_all, names_of, try_backup};
use pack::{PackId, names};
use source::command::CommandLine;
use store::testing::{Fault, FaultyStore, Trigger, Verb};
use store::{SharedStore, Store as _};

/// Packs that a segment names.
const SEGMENT_PACKS: usize = 64;
/// Uploads that may be under way when the last segment is published.
const UPLOADS_MAX: usize = 4;
const PACK_LEN: u32 = 32 << 10;
/// About 200 packs: each takes in the blobs that were on the pool when it became full.
const TREE_LEN: usize = 16 << 20;
/// How often something is looked at that is waited for, and how often at most: some ten seconds.
const LOOK_EVERY: Duration = Duration::from_millis(2);
const LOOKS_MAX: usize = 5_000;

/// A repository of small packs, and one large file that is in it nowhere yet.
async fn site_of_small_packs() -> Site {
    let site = Site::new(1);
    drop(site.init(site.store(), "cache").await.expect("makes"));
    Forge::open(&site.memory, "owner").await.set_lens(&site.memory, PACK_LEN, PACK_LEN / 2).await;
    std::fs::write(site.tree().join("large"), Dice::of_seed(7).bytes(TREE_LEN)).expect("writes");
    site
}

/// Chunks from which on a segment is published, and those of one pack of [`CHUNKS_PACK_LEN`] with what was on the pool.
const SEGMENT_CHUNKS: usize = 64 << 10;
const PACK_CHUNKS_MAX: usize = 5 << 10;
const CHUNKS_PACK_LEN: u32 = 2 << 20;

/// Cuts small, so that packs get no longer than they should.
fn small_chunks(mut request: BackupRequest) -> BackupRequest {
    let cutter = Some("pages-4096".parse().expect("is a cutter"));
    request.components.iter_mut().for_each(|component| component.cutter = cutter);
    request
}

fn tree_request(site: &Site) -> BackupRequest {
    small_chunks(backup_request(&site.tree()))
}

async fn opened_and_backed_up(
    site: &Site,
    store: SharedStore,
    cache: &str,
    request: BackupRequest,
) -> Result<BackupReport, EngineError> {
    let repository = site.open_as("owner", store, cache).await?;
    try_backup(&repository, request).await
}

/// The packs of each segment, in the order in which they were published.
async fn segments(site: &Site, faulty: &FaultyStore) -> Vec<BTreeSet<PackId>> {
    let forge = Forge::open(&site.memory, "owner").await;
    let mut all = Vec::new();
    for call in faulty.calls().iter().filter(|call| call.verb == Verb::Put && call.name.starts_with("index/")) {
        let segment = forge.open_segment(&site.memory.get(&call.name).await.expect("is there"));
        all.push(segment.packs.iter().map(|pack| pack.id).collect());
    }
    all
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn backup_of_many_packs_publishes_a_segment_for_every_64_of_them() {
    let site = site_of_small_packs().await;
    let faulty = Arc::new(FaultyStore::new(site.store()));
    let request = tree_request(&site);
    let report = opened_and_backed_up(&site, faulty.clone(), "cache", request).await.expect("backs up");
    site.let_time_pass().await;
    let segments = segments(&site, &faulty).await;
    let (last, others) = segments.split_last().expect("has some");
    assert!(
        others.len() >= 2 && others.iter().all(|packs| packs.len() == SEGMENT_PACKS),
        "{:?}",
        segments.iter().map(BTreeSet::len).collect::<Vec<_>>()
    );
    assert!(last.len() <= SEGMENT_PACKS + UPLOADS_MAX, "{} packs", last.len());
    let stored = names_of(&site.memory, names::PACKS).await;
    let named: BTreeSet<PackId> = segments.iter().flatten().copied().collect();
    let count = segments.iter().map(BTreeSet::len).sum::<usize>();
    assert_eq!((named.len(), count, report.pack_count), (stored.len(), stored.len(), stored.len() as u64));

    let repository = site.open("fresh").await;
    let snapshot = site.snapshot(&repository, &report).await;
    site.assert_restores(&repository, &snapshot, &Tree::read(&site.tree()), "several segments").await;
    let checked = check_all(&repository).await.expect("checks");
    assert_eq!((checked.damages, checked.unclear), (Vec::new(), Vec::new()));
    let mut again = tree_request(&site);
    again.components[0].force = true;
    assert_eq!(site.backup_of(&repository, again).await.new_len, 0, "all of it is found again");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn segment_is_published_for_every_64_ki_chunks_however_few_packs_they_fill() {
    let site = Site::new(1);
    drop(site.init(site.store(), "cache").await.expect("makes"));
    Forge::open(&site.memory, "owner").await.set_lens(&site.memory, CHUNKS_PACK_LEN, CHUNKS_PACK_LEN / 8).await;
    std::fs::write(site.tree().join("large"), Dice::of_seed(8).bytes(100 << 20)).expect("writes");
    let faulty = Arc::new(FaultyStore::new(site.store()));
    let mut request = backup_request(&site.tree());
    request.components[0].cutter = Some("cdc-1k".parse().expect("is a cutter"));
    opened_and_backed_up(&site, faulty.clone(), "cache", request).await.expect("backs up");
    let forge = Forge::open(&site.memory, "owner").await;
    let mut counts = Vec::new();
    for name in names_of(&site.memory, names::INDEX).await {
        let segment = forge.open_segment(&site.memory.get(&name).await.expect("is there"));
        counts.push(segment.packs.iter().map(|pack| pack.trailer.chunks.len()).sum::<usize>());
    }
    assert!(counts.iter().sum::<usize>() > SEGMENT_CHUNKS + SEGMENT_CHUNKS / 4, "{counts:?}");
    let most = SEGMENT_CHUNKS + (UPLOADS_MAX + 1) * PACK_CHUNKS_MAX;
    assert!(counts.len() >= 2 && counts.iter().all(|count| *count <= most), "{counts:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_killed_run_named_in_its_first_segment_is_not_uploaded_again() {
    for cache in ["cache", "fresh"] {
        let site = site_of_small_packs().await;
        let faulty = Arc::new(FaultyStore::new(site.store()));
        faulty.inject(Trigger::next().of(Verb::Put).naming("index/").after(1), Fault::StopBefore);
        let work = opened_and_backed_up(&site, faulty.clone(), "cache", tree_request(&site));
        let killed = run_until_stopped(&faulty, work).await;
        assert!(!matches!(killed, Some(Ok(_))));
        assert_eq!(names_of(&site.memory, names::INDEX).await.len(), 1);
        let left = names_of(&site.memory, names::PACKS).await.len();
        assert!(left >= 2 * SEGMENT_PACKS - UPLOADS_MAX, "{left} packs");
        site.let_time_pass().await;
        let repository = open_when_released(&site, cache).await;
        let report = site.backup_of(&repository, tree_request(&site)).await;
        // With its cache the host knows its journal, without it only the segment.
        let kept = if cache == "cache" { 2 * SEGMENT_PACKS } else { SEGMENT_PACKS };
        let kept_len = ((kept - UPLOADS_MAX) * PACK_LEN as usize) as u64;
        let total = TREE_LEN as u64;
        assert!(report.new_len <= total - kept_len, "{cache}: {} of {total} bytes are new", report.new_len);
        assert!(report.stored_len <= total - kept_len + (1 << 20), "{cache}: {} bytes", report.stored_len);
        let snapshot = site.snapshot(&repository, &report).await;
        site.assert_restores(&repository, &snapshot, &Tree::read(&site.tree()), cache).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn segment_that_vanishes_after_a_bad_read_is_looked_for_in_a_new_listing() {
    let site = site_of_small_packs().await;
    let repository = site.open("cache").await;
    site.backup_of(&repository, tree_request(&site)).await;
    let segment = names_of(&site.memory, names::INDEX).await.pop().expect("has segments");
    let swapping = SwappingStore::new(site.memory.clone(), &segment, Vec::new()).after(1);
    let swapping = Arc::new(swapping);
    let faulty = Arc::new(FaultyStore::new(swapping.clone()));
    let repository = site.open_as("owner", faulty.clone(), "fresh").await.expect("opens");
    faulty.inject(Trigger::next().of(Verb::Get).naming(&segment), Fault::ReadWrong);
    let checked = check_all(&repository).await;
    assert!(swapping.has_swapped());
    let damages = checked.expect("goes on with the other segments").damages;
    assert!(damages.iter().all(|damage| damage.object == names::INDEX), "{damages:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn packs_acknowledged_before_a_kill_are_used_by_the_next_run_though_no_segment_names_them() {
    const KILLED_AT: u64 = 3;
    let site = site_of_small_packs().await;
    let faulty = Arc::new(FaultyStore::new(site.store()));
    faulty.inject(Trigger::next().of(Verb::Put).naming("packs/").after(KILLED_AT), Fault::StopAfter);
    let killed = run_until_stopped(&faulty, opened_and_backed_up(&site, faulty.clone(), "cache", tree_request(&site)));
    assert!(killed.await.is_none_or(|done| done.is_err()));
    assert!(names_of(&site.memory, names::INDEX).await.is_empty(), "no segment names them");
    let landed = names_of(&site.memory, names::PACKS).await;
    assert!(landed.len() > KILLED_AT as usize, "{landed:?}");
    // The put that nobody answered may land once more, so what came of it is not used.
    let puts = faulty.calls().into_iter().filter(|call| call.verb == Verb::Put && call.name.starts_with("packs/"));
    let unanswered = puts.map(|call| call.name).nth(KILLED_AT as usize).expect("was put");
    site.memory.delete(&unanswered).await.expect("deletes");
    site.let_time_pass().await;
    let repository = open_when_released(&site, "cache").await;
    let report = site.backup_of(&repository, tree_request(&site)).await;
    let kept_len = (landed.len() - 1) as u64 * u64::from(PACK_LEN);
    let left = TREE_LEN as u64 - kept_len;
    assert!(report.new_len <= left && report.new_len > left / 2, "{} of {left} bytes are new", report.new_len);
    let snapshot = site.snapshot(&repository, &report).await;
    site.assert_restores(&repository, &snapshot, &Tree::read(&site.tree()), "after a kill").await;
    let checked = check_all(&repository).await.expect("checks");
    assert_eq!((checked.damages, checked.warnings), (Vec::new(), Vec::new()), "no pack is stray");
}

/// Lets a backup run until it ends or the store has stopped; gives how it ended, if it did.
async fn run_until_stopped<T>(faulty: &FaultyStore, work: impl Future<Output = T>) -> Option<T> {
    let mut work = std::pin::pin!(work);
    loop {
        match tokio::time::timeout(LOOK_EVERY, &mut work).await {
            Ok(done) => return Some(done),
            Err(_) if faulty.is_stopped() => return None,
            Err(_) => {}
        }
    }
}

/// Opens with a cache that a dropped run may hold for a moment still.
async fn open_when_released(site: &Site, cache: &str) -> engine::Repository {
    for _ in 0..LOOKS_MAX {
        let repository = site.open(cache).await;
        if !repository.cache().is_private() {
            return repository;
        }
        drop(repository);
        tokio::time::sleep(LOOK_EVERY).await;
    }
    panic!("a dropped run never let go of its cache");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn packs_wait_for_their_segment_no_longer_than_five_minutes() {
    let site = site_of_small_packs().await;
    let faulty = Arc::new(FaultyStore::new(site.store()));
    let (large, go) = (site.tree().join("large"), site.path("go"));
    let half = TREE_LEN / 16;
    let (shown, go_shown) = (large.display(), go.display());
    let script =
        format!("head -c {half} {shown}; until [ -e {go_shown} ]; do sleep 0.01; done; tail -c {half} {shown}");
    let command = CommandLine::new("sh", ["-c", &script]);
    let mut request = tree_request(&site);
    request.components[0].input = Input::Command { name: "output".into(), command };
    let puts = || {
        let calls = faulty.calls();
        let of = |part: &str| calls.iter().filter(|call| call.verb == Verb::Put && call.name.contains(part)).count();
        (of("packs/"), of("index/"))
    };
    let watch = async {
        for _ in 0..LOOKS_MAX {
            if puts().0 > UPLOADS_MAX {
                assert_eq!(puts().1, 0, "no segment is due yet");
                site.env.advance(Duration::from_secs(300));
                std::fs::write(&go, "").expect("writes");
                return;
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
        panic!("no packs came");
    };
    let work = opened_and_backed_up(&site, faulty.clone(), "cache", request);
    let (done, ()) = futures::join!(work, watch);
    let pack_count = done.expect("backs up").pack_count;
    assert!(pack_count < SEGMENT_PACKS as u64, "{pack_count} packs are few enough for one segment");
    let segments = segments(&site, &faulty).await;
    assert_eq!(segments.len(), 2, "{segments:?}");
}
