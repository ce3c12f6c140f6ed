//! A temporary folder with a store in memory, caches and trees, and repositories opened on it.
//!
//! The clock stands a day ahead of the files' times and moves with every backup, so that files count as old enough
//! for their times to prove something.
//!
//! Invariant: keys cost next to nothing to derive, and every random choice of the engine replays from the seed.
//! Never here: faults; a suite puts those between.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use engine::{
    BackupReport, BackupRequest, CheckReport, CheckRequest, ComponentRequest, Credential, EngineError, Forget, GroupBy,
    InitRequest, Input, OpenOptions, Overwrite, Progress, PruneLimits, PruneReport, PruneRequest, Repository,
    RestoreReport, RestoreRequest, Selector, SnapshotFilter, SnapshotInfo, Subset,
};
use futures::TryStreamExt as _;
use pack::SnapshotId;
use seal::KdfCost;
use source::files::FilesOptions;
use source::sink::OwnerPolicy;
use store::index_cache::CacheOptions;
use store::testing::MemoryStore;
use store::{Env, SharedStore, Store as _, Timestamp};
use tempfile::TempDir;
use tokio_util::sync::CancellationToken;
use zeroize::Zeroizing;

use crate::tree::Tree;

/// What deriving a key costs in tests: next to nothing.
pub const COST: KdfCost = KdfCost { memory_kib: 8, passes: 1, lanes: 1 };
/// How far the clock is ahead of the files.
const AHEAD_SECS: i64 = 43_200;
/// How far it moves between backups.
const STEP: Duration = Duration::from_secs(60);
/// Longer than a file system's clock stands still, so that a change after a backup always changes the times.
const TICK: Duration = Duration::from_millis(12);
const CACHE_MEMORY_LEN: usize = 4 << 20;

/// A temporary folder, a store, and a clock.
#[derive(Debug)]
pub struct Site {
    folder: TempDir,
    /// The store, which every repository of this site uses unless given another.
    pub memory: MemoryStore,
    /// Clock and randomness.
    pub env: Env,
}

impl Site {
    /// An empty site with an empty tree.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        let folder = tempfile::Builder::new().prefix("backstay-e2e-").tempdir().expect("a temporary folder");
        let now = Timestamp { secs: Env::system().now().secs + AHEAD_SECS, nanos: 0 };
        let site = Self { folder, memory: MemoryStore::new(), env: Env::fixed(now, seed) };
        std::fs::create_dir(site.path("")).expect("creates");
        std::fs::create_dir_all(site.tree()).expect("creates");
        site
    }

    /// A path in the temporary folder, for anything but what is backed up.
    #[must_use]
    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join("beside").join(name)
    }

    /// The folder that is backed up. Nothing is ever made in the folders that lead to it.
    #[must_use]
    pub fn tree(&self) -> PathBuf {
        self.folder.path().join("way").join("tree")
    }

    /// The tree's path within snapshots.
    #[must_use]
    pub fn tree_path(&self) -> Vec<u8> {
        stored_path(&self.tree())
    }

    /// The store.
    #[must_use]
    pub fn store(&self) -> SharedStore {
        Arc::new(self.memory.clone())
    }

    /// Where a cache lies and how much memory it takes.
    #[must_use]
    pub fn options(&self, cache: &str) -> OpenOptions {
        OpenOptions { cache: CacheOptions { memory_len: CACHE_MEMORY_LEN, ..CacheOptions::new(self.path(cache)) } }
    }

    /// Makes a repository whose owner's password is `owner`.
    pub async fn init(&self, store: SharedStore, cache: &str) -> Result<Repository, EngineError> {
        let request = InitRequest {
            credential: password("owner"),
            label: "first".into(),
            cost: COST,
            options: self.options(cache),
        };
        Repository::init(store, self.env.clone(), request).await
    }

    /// Opens the repository in `store` with the password `who`.
    pub async fn open_as(&self, who: &str, store: SharedStore, cache: &str) -> Result<Repository, EngineError> {
        Repository::open(store, self.env.clone(), password(who), self.options(cache)).await
    }

    /// Opens the site's store as the owner.
    pub async fn open(&self, cache: &str) -> Repository {
        self.open_as("owner", self.store(), cache).await.expect("opens")
    }

    /// Backs the tree up, and moves the clock.
    pub async fn backup(&self, repository: &Repository) -> BackupReport {
        self.backup_of(repository, backup_request(&self.tree())).await
    }

    /// Does this backup, and moves the clock.
    pub async fn backup_of(&self, repository: &Repository, request: BackupRequest) -> BackupReport {
        let report = try_backup(repository, request).await.expect("backs up");
        self.let_time_pass().await;
        report
    }

    /// Forgets a snapshot.
    pub async fn forget(&self, repository: &Repository, id: SnapshotId) {
        let now = jiff::Timestamp::new(self.env.now().secs, 0).expect("a moment").to_zoned(jiff::tz::TimeZone::UTC);
        let plan = repository.plan_forget(&Forget::Named(vec![id]), GroupBy::default(), &now).await.expect("plans");
        repository.forget(&plan).await.expect("forgets");
    }

    /// Moves the clock, and waits until the file system's has moved too.
    pub async fn let_time_pass(&self) {
        self.env.advance(STEP);
        tokio::time::sleep(TICK).await;
    }

    /// The snapshot that `report` committed.
    pub async fn snapshot(&self, repository: &Repository, report: &BackupReport) -> SnapshotInfo {
        let id = report.snapshot.expect("a snapshot was committed").to_string();
        repository.select(&Selector::Prefix(id), &SnapshotFilter::default()).await.expect("is listed")
    }

    /// Restores the tree of `snapshot` into a new folder and reads it back.
    pub async fn restored(&self, repository: &Repository, snapshot: &SnapshotInfo) -> (Tree, RestoreReport) {
        self.restored_part(repository, snapshot, &self.tree_path()).await
    }

    /// Restores what is at or below `path` into a new folder and reads it back.
    pub async fn restored_part(
        &self,
        repository: &Repository,
        snapshot: &SnapshotInfo,
        path: &[u8],
    ) -> (Tree, RestoreReport) {
        let target = self.new_folder();
        let report = try_restore(repository, snapshot, restore_request(path, target.path())).await.expect("restores");
        (Tree::read(target.path()), report)
    }

    /// A new folder, which vanishes when dropped.
    #[must_use]
    pub fn new_folder(&self) -> TempDir {
        tempfile::Builder::new().prefix("folder-").tempdir_in(self.path("")).expect("a folder")
    }

    /// Fails unless `snapshot` restores to `tree`, byte for byte and without problems.
    pub async fn assert_restores(&self, repository: &Repository, snapshot: &SnapshotInfo, tree: &Tree, context: &str) {
        let (found, report) = self.restored(repository, snapshot).await;
        assert_eq!(report.problem_count, 0, "{context}: {:?}", report.problems);
        tree.assert_same(&found, context);
    }
}

/// A password.
#[must_use]
pub fn password(text: &str) -> Credential {
    Credential::Password(Zeroizing::new(text.as_bytes().to_vec()))
}

/// An absolute path as snapshots have it.
fn stored_path(path: &Path) -> Vec<u8> {
    path.to_str().expect("temporary folders have plain names").trim_start_matches('/').as_bytes().to_vec()
}

/// A backup of one folder, of which random changes may have left nothing.
#[must_use]
pub fn backup_request(folder: &Path) -> BackupRequest {
    BackupRequest {
        components: vec![ComponentRequest {
            input: Input::Files { roots: vec![folder.to_owned()], options: FilesOptions::default() },
            name: None,
            cutter: None,
            force: false,
            allow_empty: true,
            shrink: None,
        }],
        at_once: 1,
        host: "host".into(),
        source: None,
        tags: Vec::new(),
        keep_until: None,
        description: String::new(),
        level: 1,
        dry_run: false,
    }
}

/// Does a backup.
pub async fn try_backup(repository: &Repository, request: BackupRequest) -> Result<BackupReport, EngineError> {
    repository.backup(request, &progress(), CancellationToken::new()).await
}

/// Does a restore.
pub async fn try_restore(
    repository: &Repository,
    snapshot: &SnapshotInfo,
    request: RestoreRequest,
) -> Result<RestoreReport, EngineError> {
    repository.restore(snapshot, request, &progress(), CancellationToken::new()).await
}

/// A prune that leaves so much unused.
#[must_use]
pub fn prune_request(max_unused_percent: f64) -> PruneRequest {
    PruneRequest {
        host: "host".into(),
        limits: PruneLimits { max_unused_percent, ..PruneLimits::default() },
        lease_over_after: engine::LEASE_OVER_AFTER,
        is_exclusive: false,
    }
}

/// Plans a prune and carries it out.
pub async fn try_prune(repository: &Repository, request: PruneRequest) -> Result<PruneReport, EngineError> {
    let plan = repository.plan_prune(request, CancellationToken::new()).await?;
    repository.prune(plan, &progress(), CancellationToken::new()).await
}

/// A restore of what is at and below `path` into `target`.
#[must_use]
pub fn restore_request(path: &[u8], target: &Path) -> RestoreRequest {
    RestoreRequest {
        path: path.to_vec(),
        target: target.to_owned(),
        overwrite: Overwrite::Always,
        delete: false,
        include: Vec::new(),
        exclude: Vec::new(),
        owners: OwnerPolicy::ByNumber,
        verify: false,
        dry_run: false,
    }
}

/// Checks everything, by reading every byte.
pub async fn check_all(repository: &Repository) -> Result<CheckReport, EngineError> {
    let request = CheckRequest { read_data: Some(Subset::All), ..CheckRequest::default() };
    repository.check(request, &progress(), CancellationToken::new()).await
}

fn progress() -> Arc<Progress> {
    Arc::new(Progress::new())
}

/// The names of all objects below `prefix`, sorted.
pub async fn names_of(store: &MemoryStore, prefix: &str) -> Vec<String> {
    let listed: Vec<_> = store.list(prefix).try_collect().await.expect("memory lists");
    let mut names: Vec<String> = listed.into_iter().map(|info| info.name).collect();
    names.sort();
    names
}

/// Another store with the same objects.
pub async fn fork(store: &MemoryStore) -> MemoryStore {
    let copy = MemoryStore::new();
    for name in names_of(store, "").await {
        let bytes: Bytes = store.get(&name).await.expect("memory reads");
        copy.overwrite(&name, bytes).await;
    }
    copy
}

/// Copies a folder of plain files and folders.
pub fn copy_folder(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).expect("creates");
    for entry in std::fs::read_dir(from).expect("lists") {
        let entry = entry.expect("lists");
        let target = to.join(entry.file_name());
        if entry.file_type().expect("is there").is_dir() {
            copy_folder(&entry.path(), &target);
        } else {
            std::fs::copy(entry.path(), target).expect("copies");
        }
    }
}
