//! Puts of packs whose reply is lost: the name is burnt, and nothing ever refers to it.
//!
//! Invariant: whatever lies under a burnt name can be deleted at any time, and every snapshot restores.
//! Never here: replies to commits and leases (see `crash` and `lease`).

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use crate::crash::until_stopped;
use engine::{EngineError, Repository};
use harness::{Dice, Site, Tree, backup_request, check_all, names_of, prune_request, try_backup, try_prune};
use pack::names;
use store::testing::{Fault, FaultyStore, MemoryStore, Trigger, Verb};
use store::{Env, Patience, Retrying, Store as _, StoreError};

const PAUSE: Duration = Duration::from_millis(2);
/// How long tasks of a dropped run may hold on to its cache.
const RELEASES_MAX: usize = 1_000;
/// Either happens to a put that seems to get no answer.
const UNANSWERED: [Fault; 2] = [Fault::LoseReply, Fault::LandLate];
/// Names that one pack is put under at most, as the engine has it.
const NAMES_MAX: usize = 16;

/// A repository on a store that fails on order, behind one that sends again.
struct Scene {
    site: Site,
    faulty: Arc<FaultyStore>,
}

impl Scene {
    async fn new() -> Self {
        let site = Site::new(1);
        drop(site.init(site.store(), "cache").await.expect("makes"));
        let dice = Dice::of_seed(3);
        for name in ["one", "other", "third"] {
            std::fs::write(site.tree().join(name), dice.bytes(30_000)).expect("writes");
        }
        let faulty = Arc::new(FaultyStore::new(site.store()));
        Self { site, faulty }
    }

    /// Opens with the cache, which a run that was dropped may hold for a moment still.
    async fn open(&self) -> Repository {
        for _ in 0..RELEASES_MAX {
            let patience = Patience { pause_min: PAUSE, pause_max: PAUSE, ..Patience::default() };
            let retrying = Arc::new(Retrying::new(self.faulty.clone(), Env::system(), patience));
            let repository = self.site.open_as("owner", retrying, "cache").await.expect("opens");
            if !repository.cache().is_private() {
                return repository;
            }
            drop(repository);
            tokio::time::sleep(PAUSE).await;
        }
        panic!("a dropped run never let go of its cache");
    }

    fn memory(&self) -> &MemoryStore {
        &self.site.memory
    }

    /// The names of packs that were put, in order, each as often as it was sent.
    fn sent(&self) -> Vec<String> {
        let calls = self.faulty.calls().into_iter();
        calls.filter(|call| call.verb == Verb::Put && call.name.starts_with("packs/")).map(|call| call.name).collect()
    }

    async fn packs(&self) -> BTreeSet<String> {
        names_of(self.memory(), names::PACKS).await.into_iter().collect()
    }

    /// Restores the last snapshot and checks everything, on a host without a cache.
    async fn assert_whole(&self, cache: &str, context: &str) {
        let repository = self.site.open(cache).await;
        let snapshot = repository.snapshots(&Default::default()).await.expect("lists").pop().expect("has one");
        self.site.assert_restores(&repository, &snapshot, &Tree::read(&self.site.tree()), context).await;
        let checked = check_all(&repository).await.expect("checks");
        assert_eq!((checked.damages, checked.unclear, checked.warnings), (vec![], vec![], vec![]), "{context}");
    }
}

fn put_of_a_pack() -> Trigger {
    Trigger::next().of(Verb::Put).naming("packs/")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pack_whose_put_got_no_answer_is_put_under_another_name_and_nothing_needs_the_first() {
    for fault in UNANSWERED {
        let (scene, context) = (Scene::new().await, format!("{fault:?}"));
        let repository = scene.open().await;
        scene.faulty.inject(put_of_a_pack(), fault);
        let report = try_backup(&repository, backup_request(&scene.site.tree())).await.expect("backs up");
        drop(repository);
        scene.faulty.land_late().await;
        let sent = scene.sent();
        let burnt = sent.first().expect("one was put");
        assert_eq!(sent.iter().filter(|name| *name == burnt).count(), 2, "{context}: sent again once: {sent:?}");
        assert!(scene.packs().await.contains(burnt), "{context}: what was sent arrived");
        assert_eq!(sent.len(), scene.packs().await.len() + 1, "{context}: one pack more, no other twice");
        assert!(report.stored_len < 130_000, "{context}: what is burnt does not count: {}", report.stored_len);
        scene.memory().delete(burnt).await.expect("deletes");
        scene.assert_whole("none", &context).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pack_that_prune_copied_and_whose_put_got_no_answer_is_put_under_another_name() {
    for fault in UNANSWERED {
        let (scene, context) = (Scene::new().await, format!("{fault:?}"));
        let repository = scene.open().await;
        let first = scene.site.backup(&repository).await.snapshot.expect("was committed");
        std::fs::remove_file(scene.site.tree().join("one")).expect("removes");
        scene.site.backup(&repository).await;
        scene.site.forget(&repository, first).await;
        let before = scene.sent().len();
        scene.faulty.inject(put_of_a_pack(), fault);
        let report = try_prune(&repository, prune_request(0.0)).await.expect("prunes");
        assert_eq!(report.problems, Vec::<String>::new(), "{context}");
        scene.faulty.land_late().await;
        let sent = scene.sent().split_off(before);
        let burnt = sent.first().expect("something was moved").clone();
        assert!(sent.iter().any(|name| *name != burnt), "{context}: {sent:?}");
        assert!(scene.packs().await.contains(&burnt), "{context}");
        scene.site.let_time_pass().await;
        try_prune(&repository, prune_request(0.0)).await.expect("prunes");
        drop(repository);
        assert!(!scene.packs().await.contains(&burnt), "{context}: it is condemned as what nobody refers to");
        scene.assert_whole("none", &context).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pack_whose_put_was_sent_twice_when_the_run_died_is_not_taken_over_by_the_next() {
    for stop in [Fault::StopBefore, Fault::StopAfter] {
        let (scene, context) = (Scene::new().await, format!("{stop:?}"));
        scene.faulty.inject(put_of_a_pack(), Fault::LoseReply);
        scene.faulty.inject(put_of_a_pack().after(1), stop);
        let run = async { try_backup(&scene.open().await, backup_request(&scene.site.tree())).await };
        let ended = until_stopped(&scene.faulty, run).await;
        assert!(!matches!(ended, Some(Ok(_))), "{context}");
        tokio::time::sleep(20 * PAUSE).await; // what ran beside it finds the store stopped, and ends
        let left = scene.packs().await;
        assert!(!left.is_empty(), "{context}: the first put arrived");
        scene.faulty.restart();
        scene.site.let_time_pass().await;
        let repository = scene.open().await;
        scene.site.backup(&repository).await;
        drop(repository);
        for name in &left {
            scene.memory().delete(name).await.expect("deletes");
        }
        scene.assert_whole("none", &context).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pack_under_its_second_name_is_found_again_when_the_run_died_before_its_segment() {
    let scene = Scene::new().await;
    scene.faulty.inject(put_of_a_pack(), Fault::LoseReply);
    scene.faulty.inject(Trigger::next().of(Verb::Put).naming("index/"), Fault::StopBefore);
    let run = async { try_backup(&scene.open().await, backup_request(&scene.site.tree())).await };
    until_stopped(&scene.faulty, run).await;
    scene.faulty.restart();
    scene.site.let_time_pass().await;
    let report = scene.site.backup(&scene.open().await).await;
    assert_eq!((report.new_len, report.read_len), (0, 0), "all content is found again");
    let burnt = scene.sent().first().expect("one was put").clone();
    scene.memory().delete(&burnt).await.expect("deletes");
    scene.assert_whole("none", "taken over").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn store_that_takes_no_pack_at_the_first_attempt_ends_the_backup_after_a_bounded_number_of_names() {
    let scene = Scene::new().await;
    let repository = scene.site.open_as("owner", scene.faulty.clone(), "cache").await.expect("opens");
    scene.faulty.inject(put_of_a_pack().always(), Fault::FalseConflict);
    let done = try_backup(&repository, backup_request(&scene.site.tree())).await;
    assert!(matches!(done, Err(EngineError::Store(StoreError::Busy { .. }))), "{done:?}");
    let sent = scene.sent();
    assert!((NAMES_MAX..=2 * NAMES_MAX).contains(&sent.len()), "{} puts", sent.len());
    assert_eq!(sent.iter().collect::<BTreeSet<_>>().len(), sent.len(), "no name twice");
}
