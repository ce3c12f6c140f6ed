//! Random work against a model: every snapshot ever committed must restore to the tree as it was then.
//!
//! ```text
//! change the tree ─► back up through one of two hosts ─► lose, clone or roll back a cache ─► restore any snapshot
//!                                                     ─► forget one, prune
//! ```
//!
//! Set `BACKSTAY_SEED` to replay a failure.
//!
//! Invariant: the model is what plain system calls read before each backup.
//! Never here: faults of the store.

use engine::{Repository, SnapshotInfo};
use harness::{
    Dice, Site, Tree, backup_request, change_something, check_all, copy_folder, prune_request, restore_request,
    try_prune, try_restore,
};
use pack::SnapshotId;
use store::{Location, SharedStore, StoreOptions};

/// Two hosts work on one repository, each with a cache of its own.
const HOSTS: [&str; 2] = ["first", "second"];
const ROUNDS: usize = 40;
const CHANGES_MAX: usize = 8;

/// Everything that happened, and what must be true of it.
struct Model {
    site: Site,
    dice: Dice,
    store: SharedStore,
    hosts: Vec<Option<Repository>>,
    past: Vec<(SnapshotId, Tree)>,
    /// What was done, for who reads a failure.
    log: Vec<String>,
}

impl Model {
    async fn new(site: Site, dice: Dice, store: SharedStore) -> Self {
        drop(site.init(store.clone(), HOSTS[0]).await.expect("makes"));
        Self { site, dice, store, hosts: vec![None, None], past: Vec::new(), log: Vec::new() }
    }

    /// The repository as `host` has it open; opens it if need be.
    async fn host(&mut self, host: usize) -> &Repository {
        if self.hosts[host].is_none() {
            let opened = self.site.open_as("owner", self.store.clone(), HOSTS[host]).await.expect("opens");
            assert!(!opened.cache().is_private(), "nobody else has this cache");
            self.hosts[host] = Some(opened);
        }
        self.hosts[host].as_ref().expect("was opened")
    }

    fn change(&mut self) {
        for _ in 0..self.dice.below(CHANGES_MAX) {
            self.log.push(change_something(&self.site.tree(), &self.dice));
        }
    }

    async fn back_up(&mut self) {
        let host = self.dice.below(HOSTS.len());
        let mut request = backup_request(&self.site.tree());
        request.components[0].force = self.dice.once_in(6);
        request.host = HOSTS[self.dice.below(HOSTS.len())].into();
        let tree = Tree::read(&self.site.tree());
        self.host(host).await;
        let repository = self.hosts[host].as_ref().expect("was opened");
        let report = self.site.backup_of(repository, request).await;
        assert_eq!(report.problem_count, 0, "{:?}", report.problems);
        self.log.push(format!("backed up through {}: {:?}", HOSTS[host], report.snapshot));
        self.past.push((report.snapshot.expect("was committed"), tree));
    }

    /// Something happens to a host's cache while nobody has it open.
    fn treat_cache(&mut self) {
        let host = self.dice.below(HOSTS.len());
        self.hosts[host] = None;
        let (own, kept) = (self.site.path(HOSTS[host]), self.site.path("kept"));
        let what = self.dice.below(4);
        match what {
            0 => drop(std::fs::remove_dir_all(&own)),
            1 if own.is_dir() => {
                drop(std::fs::remove_dir_all(&kept));
                copy_folder(&own, &kept);
            }
            // The copy may be old, and the other host's: it is rolled back, or cloned.
            2 if kept.is_dir() => {
                drop(std::fs::remove_dir_all(&own));
                copy_folder(&kept, &own);
            }
            _ => {}
        }
        self.log.push(format!("treated the cache of {} in way {what}", HOSTS[host]));
    }

    /// Forgets a snapshot through one host, unless it is the only one.
    async fn forget_something(&mut self) {
        if self.past.len() < 2 {
            return;
        }
        let (host, at) = (self.dice.below(HOSTS.len()), self.dice.below(self.past.len()));
        let (id, _) = self.past.remove(at);
        self.host(host).await;
        let repository = self.hosts[host].as_ref().expect("is open");
        self.site.forget(repository, id).await;
        self.log.push(format!("forgot {id} through {}", HOSTS[host]));
    }

    async fn prune(&mut self) {
        let host = self.dice.below(HOSTS.len());
        let percent = *self.dice.pick(&[0.0, 0.0, 10.0, 50.0]).expect("some");
        self.host(host).await;
        let repository = self.hosts[host].as_ref().expect("is open");
        let report = try_prune(repository, prune_request(percent)).await.expect("prunes");
        assert!(report.is_complete(), "{report:?} after {}", self.context("nothing"));
        self.log.push(format!("pruned through {} to {percent} %: {report:?}", HOSTS[host]));
    }

    async fn restore_something(&mut self) {
        let Some((id, tree)) = self.dice.pick(&self.past).cloned() else { return };
        let host = self.dice.below(HOSTS.len());
        let found = self.host(host).await.snapshots(&engine::SnapshotFilter::default()).await.expect("lists");
        assert_eq!(found.len(), self.past.len(), "every snapshot is listed");
        let snapshot = found.into_iter().find(|info| info.id == id).expect("is listed");
        match self.dice.below(3) {
            0 => self.restore_part(host, &snapshot, &tree).await,
            1 => self.restore_over_another(host, &snapshot, &tree).await,
            _ => {
                let repository = self.hosts[host].as_ref().expect("is open");
                self.site.assert_restores(repository, &snapshot, &tree, &self.context("all")).await;
            }
        }
    }

    async fn restore_part(&self, host: usize, snapshot: &SnapshotInfo, tree: &Tree) {
        let names: Vec<&[u8]> = tree.names().collect();
        let Some(name) = self.dice.pick(&names) else { return };
        let path = [self.site.tree_path().as_slice(), name].join(&b'/');
        let repository = self.hosts[host].as_ref().expect("is open");
        let (found, report) = self.site.restored_part(repository, snapshot, &path).await;
        let context = self.context(&String::from_utf8_lossy(name));
        assert_eq!(report.problem_count, 0, "{context}: {:?}", report.problems);
        tree.part(name).assert_same(&found, &context);
    }

    /// Into the folder that the last such restore left behind, removing what does not belong there.
    async fn restore_over_another(&self, host: usize, snapshot: &SnapshotInfo, tree: &Tree) {
        let target = self.site.path("target");
        std::fs::create_dir_all(&target).expect("creates");
        let mut request = restore_request(&self.site.tree_path(), &target);
        (request.delete, request.verify) = (true, true);
        let repository = self.hosts[host].as_ref().expect("is open");
        let report = try_restore(repository, snapshot, request).await.expect("restores");
        let context = self.context("over another");
        assert_eq!(report.problem_count, 0, "{context}: {:?}", report.problems);
        tree.assert_same(&Tree::read(&target), &context);
    }

    fn context(&self, what: &str) -> String {
        format!("seed {}, restoring {what} after\n  {}", self.dice.seed(), self.log.join("\n  "))
    }

    /// Many rounds, then everything once more without any cache.
    async fn run(mut self) {
        for _ in 0..ROUNDS {
            match self.dice.below(11) {
                8 => self.forget_something().await,
                9 | 10 => self.prune().await,
                0..=3 => {
                    self.change();
                    self.back_up().await;
                }
                4 => self.treat_cache(),
                _ => self.restore_something().await,
            }
        }
        self.back_up().await;
        let fresh = self.site.open_as("owner", self.store.clone(), "fresh").await.expect("opens");
        for info in fresh.snapshots(&engine::SnapshotFilter::default()).await.expect("lists") {
            let (_, tree) = self.past.iter().find(|(id, _)| *id == info.id).expect("nobody else commits");
            self.site.assert_restores(&fresh, &info, tree, &self.context("without a cache")).await;
        }
        let report = check_all(&fresh).await.expect("checks");
        assert_eq!((report.damages, report.unclear), (Vec::new(), Vec::new()), "{}", self.context("nothing"));
        assert_eq!(report.snapshots as usize, self.past.len());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_snapshot_restores_whatever_happens_to_tree_and_caches() {
    let dice = Dice::new();
    let site = Site::new(dice.seed());
    let store = site.store();
    Model::new(site, dice, store).await.run().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_snapshot_restores_from_a_folder_on_disk() {
    let dice = Dice::new();
    let site = Site::new(dice.seed());
    let location = Location::Directory(site.path("repository"));
    let store = store::open_store(&location, &StoreOptions::default(), &site.env).await.expect("opens");
    Model::new(site, dice, store).await.run().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn verifying_a_restore_changes_nothing_and_takes_holes_for_zeros() {
    let site = Site::new(1);
    let repository = site.init(site.store(), "cache").await.expect("makes");
    std::fs::write(site.tree().join("one"), b"two names").expect("writes");
    std::fs::hard_link(site.tree().join("one"), site.tree().join("other")).expect("links");
    let sparse = std::fs::File::create(site.tree().join("sparse")).expect("creates");
    sparse.set_len(3 << 20).expect("grows");
    std::os::unix::fs::FileExt::write_all_at(&sparse, b"an island", 1 << 20).expect("writes");
    let tree = Tree::read(&site.tree());
    let report = site.backup(&repository).await;
    let snapshot = site.snapshot(&repository, &report).await;
    let target = site.new_folder();
    for _ in 0..2 {
        let mut request = restore_request(&site.tree_path(), target.path());
        request.verify = true;
        let report = try_restore(&repository, &snapshot, request).await.expect("restores");
        assert_eq!(report.problem_count, 0, "{:?}", report.problems);
        tree.assert_same(&Tree::read(target.path()), "verified");
    }
}
