//! What each operation costs in requests to the store.
//!
//! Invariant: the figures are exact; a change of one is a decision, not an accident.
//! Never here: time and memory.

use std::sync::Arc;
use std::time::Duration;

use engine::{BackupReport, CatRequest, FindRequest, Forget, GroupBy, Repository, Side, SnapshotFilter};
use futures::TryStreamExt as _;
use harness::{Dice, Forge, Site, check_all, names_of, prune_request};
use pack::names;
use store::testing::{Call, Fault, FaultyStore, Trigger, Verb};
use store::{Counted, RequestCounts};
use tokio_util::sync::CancellationToken;

/// Requests of one operation: put, get, ranged get, head, list, delete.
type Spent = [u64; 6];

/// How often a backup of an unchanged tree is tried. The folders that lead to it belong to the machine: whenever
/// another process makes a file in the folder for temporary files, the page that names that one is new.
const TRIES_MAX: usize = 50;
/// How often something is looked at that is waited for.
const LOOK_EVERY: Duration = Duration::from_millis(2);
/// How often at most: what has not come by then is not on its way.
const LOOKS_MAX: usize = 15_000;

/// A store that counts, and what it had counted at the last look.
struct Meter {
    counted: Arc<Counted>,
    last: RequestCounts,
}

impl Meter {
    fn new(site: &Site) -> Self {
        Self { counted: Arc::new(Counted::new(site.store())), last: RequestCounts::default() }
    }

    /// What was spent since the last look.
    fn since(&mut self) -> RequestCounts {
        let now = self.counted.counts();
        let spent = now.since(&self.last);
        self.last = now;
        spent
    }

    #[track_caller]
    fn assert_spent(&mut self, expected: Spent, what: &str) {
        let spent = self.since();
        let requests = [
            spent.put_count,
            spent.get_count,
            spent.get_range_count,
            spent.head_count,
            spent.list_count,
            spent.delete_count,
        ];
        assert_eq!(requests, expected, "put, get, range, head, list, delete of {what}");
    }
}

/// A site, a meter and a repository with one file in its tree.
async fn one_file() -> (Site, Meter, Repository) {
    let site = Site::new(1);
    let mut meter = Meter::new(&site);
    let repository = site.init(meter.counted.clone(), "cache").await.expect("makes");
    std::fs::write(site.tree().join("one"), b"some bytes").expect("writes");
    meter.since();
    (site, meter, repository)
}

/// A backup of the unchanged tree; its requests are not looked at yet.
async fn undisturbed(site: &Site, meter: &mut Meter, repository: &Repository) -> BackupReport {
    for _ in 0..TRIES_MAX {
        meter.since();
        let report = site.backup(repository).await;
        if report.pack_count == 0 {
            return report;
        }
    }
    panic!("every one of {TRIES_MAX} backups of an unchanged tree stored a pack");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn init_tries_the_store_out_and_writes_each_of_three_objects_twice() {
    let site = Site::new(1);
    let mut meter = Meter::new(&site);
    site.init(meter.counted.clone(), "cache").await.expect("makes");
    // Two absent configurations; the probe: 2 puts, 1 get, 2 ranges, 1 head, 2 lists, 1 delete; then it is opened.
    meter.assert_spent([8, 6, 2, 1, 6, 1], "init");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn open_reads_the_configuration_every_slot_and_every_epoch() {
    let (site, mut meter, repository) = one_file().await;
    drop(repository);
    site.open_as("owner", meter.counted.clone(), "cache").await.expect("opens");
    meter.assert_spent([0, 3, 0, 0, 3, 0], "an open");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn open_asks_in_three_rounds() {
    let (site, _, repository) = one_file().await;
    drop(repository);
    let mut rounds = [
        vec![(Verb::Get, names::CONFIG), (Verb::List, names::EPOCHS_COPY), (Verb::List, names::KEYS)],
        vec![(Verb::Get, "keys/"), (Verb::List, names::EPOCHS)],
        vec![(Verb::Get, "epochs/")],
    ];
    let held = Arc::new(FaultyStore::new(site.store()));
    held.inject(Trigger::next().always(), Fault::Hang);
    let lets_go = async {
        let mut before = 0;
        for round in &mut rounds {
            // None is answered before all of them have come.
            let asked = calls_beyond(&held, before, round.len()).await;
            before += asked.len();
            for call in asked {
                let is_it = |(verb, name): &(Verb, &str)| {
                    call.verb == *verb && (call.name == *name || (name.ends_with('/') && call.name.starts_with(name)))
                };
                let at = round.iter().position(is_it).unwrap_or_else(|| panic!("{call:?}, not one of {round:?}"));
                round.remove(at);
            }
            held.release();
        }
        // Whatever is asked beyond that is counted.
        held.restart();
    };
    let (opened, ()) = futures::join!(site.open_as("owner", held.clone(), "cache"), lets_go);
    opened.expect("opens");
    assert_eq!(held.calls().len(), 6, "{:?}", held.calls());
}

/// The calls after the first `before`, once there are so many of them.
async fn calls_beyond(store: &FaultyStore, before: usize, count: usize) -> Vec<Call> {
    for _ in 0..LOOKS_MAX {
        let calls = store.calls().split_off(before);
        if calls.len() >= count {
            return calls;
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
    panic!("{count} more calls do not come while none is answered: {:?}", store.calls());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn first_backup_of_a_small_file_costs_seven_puts() {
    let (site, mut meter, repository) = one_file().await;
    let report = site.backup(&repository).await;
    // Announced (and once more, which must be refused), seen, two packs, a segment, the snapshot, which is read back; before it the configuration.
    meter.assert_spent([7, 2, 0, 0, 6, 2], "a first backup");
    assert_eq!(report.pack_count, 2, "one of data and one of metadata");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn backup_of_an_unchanged_tree_stores_a_snapshot_and_no_pack() {
    let (site, mut meter, repository) = one_file().await;
    for _ in 0..2 {
        site.backup(&repository).await;
    }
    let report = undisturbed(&site, &mut meter, &repository).await;
    // The configuration is looked at, the snapshot read back; those before it are in the cache.
    meter.assert_spent([4, 2, 0, 0, 6, 2], "a backup that finds nothing new");
    assert_eq!((report.pack_count, report.new_len, report.read_len, report.unchanged_count), (0, 0, 0, 1));
    assert!(report.stored_len < 1_000, "a snapshot of {} bytes", report.stored_len);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn backup_of_an_unchanged_tree_of_many_files_costs_no_more_than_of_one() {
    let (site, mut meter, repository) = one_file().await;
    let dice = Dice::of_seed(1);
    for at in 0..1_000 {
        let folder = site.tree().join(format!("folder {}", at % 10));
        std::fs::create_dir_all(&folder).expect("creates");
        std::fs::write(folder.join(format!("file {at}")), dice.bytes(100)).expect("writes");
    }
    site.let_time_pass().await;
    let first = site.backup(&repository).await;
    assert_eq!(first.pack_count, 2);
    let report = undisturbed(&site, &mut meter, &repository).await;
    meter.assert_spent([4, 2, 0, 0, 6, 2], "a backup that finds nothing new");
    assert_eq!((report.unchanged_count, report.read_len, report.pack_count), (1_001, 0, 0));
    assert!(report.stored_len < 1_000, "a snapshot of {} bytes", report.stored_len);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_changed_file_among_many_uploads_its_content_and_few_pages() {
    let (site, mut meter, repository) = one_file().await;
    let dice = Dice::of_seed(2);
    for at in 0..1_000 {
        std::fs::write(site.tree().join(format!("file {at:04}")), dice.bytes(1_000)).expect("writes");
    }
    let first = site.backup(&repository).await;
    std::fs::write(site.tree().join("file 0500"), dice.bytes(1_000)).expect("writes");
    meter.since();
    let second = site.backup(&repository).await;
    meter.assert_spent([7, 2, 0, 0, 6, 2], "a backup with one change");
    assert_eq!((second.new_len, second.unchanged_count), (1_000, 1_000));
    assert!(second.stored_len * 10 < first.stored_len, "{} after {}", second.stored_len, first.stored_len);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn backup_without_a_cache_reads_segments_and_stores_no_pack() {
    let (site, mut meter, repository) = one_file().await;
    for attempt in 0..TRIES_MAX {
        site.backup(&repository).await;
        let fresh = site.open_as("owner", meter.counted.clone(), &format!("fresh {attempt}")).await.expect("opens");
        let listed = names_of(&site.memory, "").await;
        let count = |folder: &str| listed.iter().filter(|name| name.starts_with(folder)).count() as u64;
        meter.since();
        let report = site.backup(&fresh).await;
        if report.pack_count == 0 {
            // Every segment and snapshot, the configuration, and its own read back; the page's structure and its body.
            let gets = count("index/") + count("snapshots/") + 2;
            meter.assert_spent([4, gets, 2, 0, 6, 2], "a backup without a cache");
            assert_eq!((report.new_len, report.unchanged_count), (0, 1));
            return;
        }
    }
    panic!("every one of {TRIES_MAX} backups of an unchanged tree stored a pack");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn listing_snapshots_again_reads_none_of_them() {
    let (site, mut meter, repository) = one_file().await;
    for _ in 0..3 {
        site.backup(&repository).await;
    }
    repository.snapshots(&SnapshotFilter::default()).await.expect("lists");
    meter.since();
    assert_eq!(repository.snapshots(&SnapshotFilter::default()).await.expect("lists").len(), 3);
    meter.assert_spent([0, 0, 0, 0, 2, 0], "a second listing");
    drop(repository);
    let fresh = site.open_as("owner", meter.counted.clone(), "fresh").await.expect("opens");
    meter.since();
    fresh.snapshots(&SnapshotFilter::default()).await.expect("lists");
    meter.assert_spent([0, 3, 0, 0, 2, 0], "a first listing on another host");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn forget_costs_a_put_and_undelete_what_a_backup_of_nothing_new_does() {
    let (site, mut meter, repository) = one_file().await;
    let first = site.backup(&repository).await.snapshot.expect("was committed");
    site.backup(&repository).await;
    meter.since();
    let what = Forget::Named(vec![first]);
    let plan = repository.plan_forget(&what, GroupBy::default(), &jiff::Zoned::now()).await.expect("plans");
    meter.assert_spent([0, 0, 0, 0, 3, 0], "a plan: holds, what is hidden, snapshots");
    repository.forget(&plan).await.expect("forgets");
    meter.assert_spent([1, 0, 0, 0, 1, 0], "a forget, which looks at holds once more");
    let found = repository.forgotten_snapshots().await.expect("lists");
    meter.assert_spent([0, 2, 0, 0, 4, 0], "a list of what was forgotten: the record, and the snapshot");
    repository.undelete(&found[0], CancellationToken::new()).await.expect("comes back");
    // Announced twice, seen, the snapshot, which is read back; pages are in the cache.
    meter.assert_spent([4, 2, 0, 0, 4, 2], "an undelete");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn restore_and_cat_of_a_small_file_cost_one_read_of_data() {
    let (site, mut meter, repository) = one_file().await;
    let report = site.backup(&repository).await;
    let snapshot = site.snapshot(&repository, &report).await;
    meter.since();
    site.restored(&repository, &snapshot).await;
    meter.assert_spent([0, 0, 1, 0, 2, 0], "a restore with a cache");
    let path = [site.tree_path().as_slice(), b"/one"].concat();
    let content = repository.cat(&snapshot, CatRequest::whole(path)).await.expect("opens");
    assert_eq!(content.try_collect::<Vec<_>>().await.expect("reads").concat(), b"some bytes");
    meter.assert_spent([0, 0, 1, 0, 2, 0], "cat with a cache");
    drop(repository);
    let fresh = site.open_as("owner", meter.counted.clone(), "fresh").await.expect("opens");
    let snapshot = site.snapshot(&fresh, &report).await;
    meter.since();
    site.restored(&fresh, &snapshot).await;
    // One segment; a page's structure and body, and the data.
    meter.assert_spent([0, 1, 3, 0, 2, 0], "a restore without a cache");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_few_bytes_of_a_large_file_cost_one_read_of_data() {
    let (site, mut meter, repository) = one_file().await;
    let bytes = Dice::of_seed(5).bytes(32 << 20);
    std::fs::write(site.tree().join("large"), &bytes).expect("writes");
    let report = site.backup(&repository).await;
    let snapshot = site.snapshot(&repository, &report).await;
    let path = [site.tree_path().as_slice(), b"/large"].concat();
    for start in [0, 7_654_321, 20 << 20, (32 << 20) - 100] {
        meter.since();
        let request = CatRequest { path: path.clone(), range: Some(start as u64..start as u64 + 4096) };
        let content = repository.cat(&snapshot, request).await.expect("opens");
        let found = content.try_collect::<Vec<_>>().await.expect("reads").concat();
        assert_eq!(found, bytes[start..bytes.len().min(start + 4096)]);
        let spent = meter.since();
        assert!(spent.get_range_count <= 2, "the blob, or two where chunks part: {spent:?}");
        assert!(spent.download_len < 5 << 20, "{spent:?}");
    }
}

/// Everything that a walk gives.
async fn walked<T>(stream: impl futures::Stream<Item = Result<T, engine::EngineError>>) -> Vec<T> {
    stream.try_collect().await.expect("walks")
}

/// Files enough for several pages, each of which fills a blob of its own, and a snapshot of them.
async fn many_pages(count: usize) -> (Site, Meter, Repository) {
    let site = Site::new(1);
    let meter = Meter::new(&site);
    drop(site.init(site.store(), "cache").await.expect("makes"));
    Forge::open(&site.memory, "owner").await.set_lens(&site.memory, 1 << 20, 4 << 10).await;
    for at in 0..count {
        std::fs::write(site.tree().join(format!("file {at:05}")), "").expect("writes");
    }
    std::fs::write(site.tree().join("one"), "first").expect("writes");
    site.let_time_pass().await;
    let repository = site.open_as("owner", meter.counted.clone(), "cache").await.expect("opens");
    site.backup(&repository).await;
    (site, meter, repository)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn diff_reads_only_the_pages_that_differ() {
    let (site, mut meter, repository) = many_pages(20_000).await;
    let first = site.backup(&repository).await;
    std::fs::write(site.tree().join("one"), "a change").expect("writes");
    let second = site.backup(&repository).await;
    let reader = site.open_as("owner", meter.counted.clone(), "reader").await.expect("opens");
    let [before, after] = [site.snapshot(&reader, &first).await, site.snapshot(&reader, &second).await];
    let side = |snapshot: &engine::SnapshotInfo| Side { snapshot: snapshot.clone(), path: site.tree_path() };
    meter.since();
    let found = walked(reader.diff(&side(&before), &side(&before)).await.expect("compares")).await;
    assert!(found.is_empty(), "{found:?}");
    let of_none = meter.since();
    assert_eq!(of_none.get_range_count, 0, "a page is not compared with itself: {of_none:?}");
    let found = walked(reader.diff(&side(&before), &side(&after)).await.expect("compares")).await;
    assert_eq!(found.len(), 1, "{found:?}");
    let of_diff = meter.since();
    // Of each snapshot at most two blobs each for the root, the page with the change, the one with the folders that lead to
    // the tree, whose times change whenever others use the folder for temporary files, and for the pages above these two.
    assert!(of_diff.get_range_count <= 20, "{of_diff:?}");
    drop(reader);
    let reader = site.open_as("owner", meter.counted.clone(), "another").await.expect("opens");
    meter.since();
    assert!(walked(reader.entries(&after, b"").await.expect("lists")).await.len() > 20_000);
    let of_walk = meter.since();
    assert!(of_walk.get_range_count > 25, "all pages: {of_walk:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn find_reads_what_snapshots_share_once() {
    let (site, mut meter, repository) = many_pages(8_000).await;
    for at in 0..4 {
        std::fs::write(site.tree().join("one"), format!("change {at}")).expect("writes");
        site.backup(&repository).await;
    }
    drop(repository);
    let mut spent = Vec::new();
    for (cache, count) in [("of one", 1), ("of all", 5)] {
        let reader = site.open_as("owner", meter.counted.clone(), cache).await.expect("opens");
        let mut snapshots = reader.snapshots(&SnapshotFilter::default()).await.expect("lists");
        snapshots.truncate(count);
        meter.since();
        let wanted: engine::Wanted = Arc::new(|entry| entry.path.ends_with(b"/one"));
        let request = FindRequest { snapshots, path: site.tree_path(), is_alone: false, wanted };
        let found = walked(reader.find(request).await.expect("looks")).await;
        assert_eq!(found.len(), count, "{found:?}");
        spent.push(meter.since().get_range_count);
    }
    assert!(spent[1] <= spent[0] + 4 * 10, "what differs is a few pages of each snapshot: {spent:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn restore_of_many_neighbouring_files_joins_their_reads() {
    let (site, mut meter, repository) = one_file().await;
    let dice = Dice::of_seed(3);
    for at in 0..500 {
        std::fs::write(site.tree().join(format!("file {at:04}")), dice.bytes(10_000)).expect("writes");
    }
    let report = site.backup(&repository).await;
    let snapshot = site.snapshot(&repository, &report).await;
    meter.since();
    site.restored(&repository, &snapshot).await;
    let spent = meter.since();
    assert!(spent.get_range_count <= 4, "5 MB in runs of up to 4 MiB took {spent:?}");
    assert!(spent.download_len < 6_000_000, "nothing is read twice: {spent:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn check_reads_every_pack_once() {
    let (site, mut meter, repository) = one_file().await;
    let report = site.backup(&repository).await;
    site.snapshot(&repository, &report).await;
    meter.since();
    let checked = check_all(&repository).await.expect("checks");
    assert_eq!((checked.packs, checked.snapshots, checked.damages.len()), (2, 1, 0));
    let spent = meter.since();
    assert_eq!((spent.put_count, spent.delete_count), (0, 0), "a check changes nothing");
    assert_eq!(
        spent.get_count, 10,
        "both copies of the configuration, a slot and an epoch, the segment, two packs, the snapshot: {spent:?}"
    );
}

#[tokio::test]
async fn prune_costs_a_few_requests_for_each_pack_that_goes() {
    let (site, mut meter, repository) = one_file().await;
    let first = site.backup(&repository).await;
    std::fs::write(site.tree().join("one"), b"other bytes").expect("writes");
    site.backup(&repository).await;
    site.forget(&repository, first.snapshot.expect("was committed")).await;
    meter.since();
    let plan = repository.plan_prune(prune_request(0.0), CancellationToken::new()).await.expect("plans");
    assert_eq!((plan.gone_packs, plan.repacked_packs), (2, 0), "data and names");
    meter.assert_spent([0, 1, 1, 0, 14, 0], "a plan");
    repository.prune(plan, &Arc::default(), CancellationToken::new()).await.expect("prunes");
    meter.assert_spent([3, 6, 4, 0, 17, 6], "a prune of two packs");
    let plan = repository.plan_prune(prune_request(0.0), CancellationToken::new()).await.expect("plans");
    assert!(plan.is_empty());
    meter.assert_spent([0, 0, 1, 0, 14, 0], "a plan to do nothing");
}
