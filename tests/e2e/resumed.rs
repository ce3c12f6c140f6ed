//! Restores that are stopped: at once, with nothing that writes any more, and the next one ends what was begun. And such as
//! take long: files of many pieces and names, directories to be cleaned.
//!
//! Never here: backups that are stopped (see `streams` and `crash`).

use std::collections::BTreeSet;
use std::os::unix::fs::{FileExt as _, MetadataExt as _};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use engine::{EngineError, Overwrite, Progress, Repository, RestoreReport, RestoreRequest, SnapshotInfo};
use harness::binary::{Host, Run as _, need_root, noise, set_mode};
use harness::running::{Running, file_count};
use harness::{Dice, Site, Tree, restore_request, try_restore};
use rustix::process::Signal;
use store::testing::{Fault, FaultyStore, MemoryStore, Trigger, Verb};
use tokio_util::sync::CancellationToken;

const MIB: usize = 1 << 20;
/// Longer than any step that is not waiting for the store, and shorter than the program's own patience.
const SOON: Duration = Duration::from_millis(1_500);
/// How often a stopped restore is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(2);

/// A tree of files of half a mebibyte to three, and its snapshot on a store that can be made to hang.
async fn backed_up() -> (Site, Tree, Repository, SnapshotInfo, Arc<FaultyStore>) {
    let site = Site::new(1);
    let store = Arc::new(FaultyStore::new(site.store()));
    let repository = site.init(store.clone(), "cache").await.expect("makes");
    let dice = Dice::of_seed(9);
    for at in 0..12 {
        std::fs::write(site.tree().join(format!("file {at:02}")), dice.bytes((1 + at % 6) * MIB / 2)).expect("writes");
    }
    let report = site.backup(&repository).await;
    let snapshot = site.snapshot(&repository, &report).await;
    let tree = Tree::read(&site.tree());
    (site, tree, repository, snapshot, store)
}

/// Restores until the store hangs at `trigger`, and stops it then.
async fn stop_at(
    trigger: Trigger,
    (repository, snapshot, store): (&Repository, &SnapshotInfo, &FaultyStore),
    request: RestoreRequest,
) -> Result<RestoreReport, EngineError> {
    let (progress, cancel) = (Arc::new(Progress::new()), CancellationToken::new());
    store.inject(trigger, Fault::Hang);
    let restore = repository.restore(snapshot, request, &progress, cancel.clone());
    let mut restore = std::pin::pin!(restore);
    // What does not hang goes on meanwhile.
    let early = tokio::time::timeout(Duration::from_millis(300), &mut restore).await;
    assert!(early.is_err(), "it hangs: {early:?}");
    cancel.cancel();
    let stopped = tokio::time::timeout(SOON, restore).await.expect("stops although the store does not answer");
    store.restart();
    stopped
}

/// Fails unless the folder stays as it is for a while.
fn assert_at_rest(folder: &Path) {
    let before = Tree::read(folder);
    std::thread::sleep(50 * LOOK_EVERY);
    before.assert_same(&Tree::read(folder), "something still writes");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn restore_that_waits_for_the_store_stops_at_once_and_the_next_one_completes_it() {
    let (site, tree, repository, snapshot, store) = backed_up().await;
    let triggers = [
        Trigger::next().of(Verb::List).naming("index"),
        Trigger::next().of(Verb::List).naming("packs"),
        Trigger::next().of(Verb::GetRange),
        Trigger::next().of(Verb::GetRange).after(2).always(),
    ];
    for trigger in triggers {
        let target = site.new_folder();
        let context = format!("{trigger:?}");
        let request = || restore_request(&site.tree_path(), target.path());
        let stopped = stop_at(trigger, (&repository, &snapshot, &store), request()).await;
        assert!(matches!(stopped, Err(EngineError::Interrupted)), "{context}: {stopped:?}");
        assert_at_rest(target.path());
        let report = try_restore(&repository, &snapshot, request()).await.expect("restores");
        assert_eq!(report.problem_count, 0, "{context}: {:?}", report.problems);
        tree.assert_same(&Tree::read(target.path()), &context);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn stopped_restore_that_overwrites_nothing_leaves_no_half_file_that_the_next_would_spare() {
    let (site, tree, repository, snapshot, store) = backed_up().await;
    let target = site.new_folder();
    std::fs::write(target.path().join("file 03"), "the user's own").expect("writes");
    let request =
        || RestoreRequest { overwrite: Overwrite::Never, ..restore_request(&site.tree_path(), target.path()) };
    let trigger = Trigger::next().of(Verb::GetRange).after(2).always();
    let stopped = stop_at(trigger, (&repository, &snapshot, &store), request()).await;
    assert!(matches!(stopped, Err(EngineError::Interrupted)), "{stopped:?}");
    let found = Tree::read(target.path());
    let whole: BTreeSet<_> = tree.files().collect();
    for file in found.files().filter(|(name, _)| *name != b"file 03") {
        assert!(whole.contains(&file), "{} is incomplete", String::from_utf8_lossy(file.0));
    }
    let report = try_restore(&repository, &snapshot, request()).await.expect("restores");
    assert_eq!(report.problem_count, 0, "{:?}", report.problems);
    let found = Tree::read(target.path());
    assert_eq!(found.files().filter(|file| !whole.contains(file)).count(), 1, "only the user's own differs");
    assert_eq!(found.files().count(), tree.files().count());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn further_names_of_a_file_that_was_left_alone_get_their_own_content() {
    let site = Site::new(1);
    let repository = site.init(site.store(), "cache").await.expect("makes");
    let content = Dice::of_seed(6).bytes(MIB);
    std::fs::write(site.tree().join("a"), &content).expect("writes");
    for name in ["b", "c", "d"] {
        std::fs::hard_link(site.tree().join("a"), site.tree().join(name)).expect("links");
    }
    let report = site.backup(&repository).await;
    let snapshot = site.snapshot(&repository, &report).await;
    let target = site.new_folder();
    let place = |name: &str| target.path().join(name);
    let restore = || {
        let request =
            RestoreRequest { overwrite: Overwrite::Never, ..restore_request(&site.tree_path(), target.path()) };
        try_restore(&repository, &snapshot, request)
    };
    std::fs::write(place("a"), "the user's own").expect("writes");
    std::fs::write(place("c"), "this too").expect("writes");
    let report = restore().await.expect("restores");
    assert_eq!((report.problem_count, report.skipped_count), (0, 2), "{:?}", report.problems);
    assert_eq!(std::fs::read(place("a")).expect("reads"), b"the user's own");
    assert_eq!(std::fs::read(place("c")).expect("reads"), b"this too");
    assert!(std::fs::read(place("b")).expect("reads") == content, "b has its own content");
    let inode = |name| std::fs::metadata(place(name)).expect("is there").ino();
    assert_eq!(inode("b"), inode("d"), "and its further names are linked to it");
    // What an earlier restore made is equal, and is linked to.
    for name in ["a", "d"] {
        std::fs::remove_file(place(name)).expect("removes");
    }
    std::fs::hard_link(place("b"), place("a")).expect("links");
    let report = restore().await.expect("restores");
    assert_eq!((report.problem_count, report.skipped_count), (0, 3), "{:?}", report.problems);
    assert_eq!(inode("a"), inode("d"));
    // The same length and time prove nothing.
    for name in ["b", "c", "d"] {
        std::fs::remove_file(place(name)).expect("removes");
    }
    let mut other = content.clone();
    other[MIB - 1] ^= 1;
    let modified = std::fs::metadata(place("a")).expect("is there").modified().expect("has a time");
    std::fs::write(place("a"), &other).expect("writes");
    std::fs::File::options().write(true).open(place("a")).expect("opens").set_modified(modified).expect("sets");
    let report = restore().await.expect("restores");
    assert_eq!((report.problem_count, report.skipped_count), (0, 1), "{:?}", report.problems);
    assert!(std::fs::read(place("a")).expect("reads") == other, "a stays");
    assert!(std::fs::read(place("b")).expect("reads") == content, "b is right");
    assert_eq!(inode("b"), inode("d"));
}

/// A file of so many pieces that a restore takes several windows for it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn file_of_several_windows_is_restored_whole_when_nothing_is_overwritten() {
    const DATA: usize = 40_000;
    const STEP: u64 = 8 << 10;
    let site = Site::new(1);
    let repository = site.init(site.store(), "cache").await.expect("makes");
    let file = std::fs::File::create(site.tree().join("sparse")).expect("creates");
    let data = Dice::of_seed(4).bytes(4 << 10);
    for at in 0..DATA as u64 {
        file.write_all_at(&data, at * STEP).expect("writes");
    }
    file.set_len(DATA as u64 * STEP).expect("sets the length");
    let report = site.backup(&repository).await;
    let snapshot = site.snapshot(&repository, &report).await;
    for overwrite in [Overwrite::Never, Overwrite::IfChanged] {
        let target = site.new_folder();
        let request = RestoreRequest { overwrite, ..restore_request(&site.tree_path(), target.path()) };
        let report = try_restore(&repository, &snapshot, request).await.expect("restores");
        assert_eq!((report.problem_count, report.skipped_count), (0, 0), "{overwrite:?}");
        assert_eq!(report.written_len, (DATA * data.len()) as u64, "{overwrite:?}: holes are not written");
        let is_same = std::fs::read(target.path().join("sparse")).expect("reads")
            == std::fs::read(site.tree().join("sparse")).expect("reads");
        assert!(is_same, "{overwrite:?}");
    }
}

/// Adds something that the snapshot does not have to every directory below `folder`, itself included.
fn litter(folder: &Path) -> usize {
    let mut count = 1;
    for entry in std::fs::read_dir(folder).expect("lists") {
        let path = entry.expect("lists").path();
        if path.is_dir() {
            count += litter(&path);
        }
    }
    std::fs::write(folder.join("~stray"), "stray").expect("writes");
    count
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn restore_that_deletes_cleans_every_directory_and_leaves_its_times_and_mode_right() {
    let site = Site::new(1);
    let repository = site.init(site.store(), "cache").await.expect("makes");
    // Names around the separator, empty directories between full ones, and such as nobody may write to, in each other.
    for name in ["a/x/deep", "a/x-y", "a-b/empty", "a.b", "a/x/deep/er", "b/shut/in/all", "b/shut.in", "c"] {
        std::fs::create_dir_all(site.tree().join(name)).expect("creates");
    }
    for name in ["a/one", "a/x/deep/two", "b/shut/in/three", "c/four"] {
        std::fs::write(site.tree().join(name), name).expect("writes");
    }
    for name in ["b/shut/in/all", "b/shut/in", "b/shut", "a/x"] {
        set_mode(&site.tree().join(name), 0o555);
    }
    let report = site.backup(&repository).await;
    let snapshot = site.snapshot(&repository, &report).await;
    let tree = Tree::read(&site.tree());
    let target = site.new_folder();
    let request = || restore_request(&site.tree_path(), target.path());
    try_restore(&repository, &snapshot, request()).await.expect("restores");
    tree.assert_same(&Tree::read(target.path()), "restored");
    need_root();
    let count = litter(target.path());
    let request = RestoreRequest { delete: true, ..request() };
    let report = try_restore(&repository, &snapshot, request).await.expect("restores");
    assert_eq!((report.deleted_count, report.problem_count), (count as u64, 0), "{:?}", report.problems);
    tree.assert_same(&Tree::read(target.path()), "cleaned");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn files_of_very_many_names_are_read_once_and_linked() {
    const NAMES: u64 = 9_000;
    let (site, store) = (Site::new(1), Arc::new(FaultyStore::new(Arc::new(MemoryStore::new()))));
    let repository = site.init(store.clone(), "cache").await.expect("makes");
    let dice = Dice::of_seed(3);
    for file in ["one", "other"] {
        std::fs::write(site.tree().join(file), dice.bytes(5_000)).expect("writes");
    }
    for at in 0..NAMES - 1 {
        std::fs::hard_link(site.tree().join("one"), site.tree().join(format!("one {at}"))).expect("links");
    }
    std::fs::hard_link(site.tree().join("other"), site.tree().join("zz")).expect("links");
    let report = site.backup(&repository).await;
    let snapshot = site.snapshot(&repository, &report).await;
    let target = site.new_folder();
    let before = store.calls().len();
    let request = RestoreRequest { verify: true, ..restore_request(&site.tree_path(), target.path()) };
    let report = try_restore(&repository, &snapshot, request).await.expect("restores");
    assert_eq!((report.problem_count, report.entry_count), (0, NAMES + 2), "{:?}", report.problems);
    assert_eq!(report.written_len, 10_000, "each content once");
    let reads = store.calls().split_off(before).iter().filter(|call| call.verb == Verb::GetRange).count();
    assert!(reads <= 2, "{reads} reads");
    for (name, links) in [("one", NAMES), ("one 0", NAMES), ("one 8998", NAMES), ("other", 2), ("zz", 2)] {
        assert_eq!(std::fs::metadata(target.path().join(name)).expect("is there").nlink(), links, "{name}");
    }
}

#[test]
fn interrupted_restore_ends_soon_with_130_and_the_same_command_completes_it() {
    for (signal, code) in [(Signal::INT, 130), (Signal::TERM, 143)] {
        let host = Host::with_repository();
        for at in 0..24 {
            host.write(&format!("tree/{at:02}"), noise(&at.to_string(), 2 * MIB));
        }
        let (tree, target) = (host.path("tree"), host.path("target"));
        host.back_up(&[&tree]);
        let path = format!("latest:{}", tree.display());
        let restore = || {
            let mut command = host.backstay(["restore", &path, "--target"]);
            command.arg(&target);
            command
        };
        let mut slow = restore();
        slow.args(["--limit-download", "8M"]);
        let mut running = Running::start(slow, false);
        running.wait_until("a file", || file_count(&target) > 4);
        running.signal(signal);
        let signalled = Instant::now();
        let (ran, _) = running.finish();
        ran.expect_code(code).says(&["stopping", "interrupted", "hint: run the same command again"]);
        assert!(signalled.elapsed() < SOON, "took {:?} to stop", signalled.elapsed());
        let is_same = |found: &Tree| Tree::read(&tree).differences(found).is_empty();
        assert!(!is_same(&Tree::read(&target)), "it was interrupted in the middle");
        restore().run().expect_code(0).says(&["right already"]);
        Tree::read(&tree).assert_same(&Tree::read(&target), "the second run");
    }
}

#[test]
fn interrupted_cat_ends_soon_with_130_and_a_prefix_of_the_file() {
    let host = Host::with_repository();
    let content = noise("content", 64 * MIB);
    let file = host.write("file", &content);
    host.back_up(&[&file]);
    let path = format!("latest:{}", file.display());
    let output = host.path("output");
    let mut command = std::process::Command::new("bash");
    let cat = host.backstay(["cat", &path, "--limit-download", "16M"]);
    command.args(["-c", "exec \"$@\" >\"$0\""]).arg(&output).arg(cat.get_program()).args(cat.get_args());
    command.env_clear().envs(cat.get_envs().filter_map(|(name, value)| Some((name, value?))));
    let mut running = Running::start(command, false);
    running.wait_until("output", || std::fs::metadata(&output).is_ok_and(|found| found.len() > 0));
    running.signal(Signal::INT);
    let signalled = Instant::now();
    running.finish().0.expect_code(130);
    assert!(signalled.elapsed() < SOON, "took {:?} to stop", signalled.elapsed());
    let found = std::fs::read(&output).expect("reads");
    assert!(found.len() < content.len() && content.starts_with(&found), "{} bytes", found.len());
}
