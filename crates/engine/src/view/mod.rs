//! A view: snapshots as trees whose entries and bytes are read in any order, as a mount and a browser ask for them.
//!
//! ```text
//! View ─► TreeView ─► Folder ─► EntriesPage ─► Found (an entry) ─► FileView ─► bytes of a range
//!   │         └─► find(path) ─────────────────────┘
//!   └─ one Fetcher over the index as it was read last; opened blobs and pages that all share, within limits
//! ```
//!
//! What cannot be had is looked for once more in the repository as it is now, at most once in [`RENEWED_AFTER`], or at once if
//! the repository itself was not there.
//!
//! Invariant: what is handed out was checked against its id, as in a restore.
//! Invariant: memory is bounded by [`ViewLimits`], whatever is looked at, and by what the caller holds.
//! Never here: who looks, and how it is shown.

mod around;
mod content;
mod tree;

use std::collections::HashSet;
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::Duration;

use pack::{Role, names};
use seal::ChunkId;
use tokio::sync::Semaphore;
use tokio::time::Instant;

use crate::fetch::{Blobs, Fetcher};
use crate::kept::Kept;
use crate::repository::Repository;
use crate::snapshots::SnapshotsRead;
use crate::{EngineError, Kind, SnapshotInfo};

pub use content::FileView;
pub use tree::{EntriesPage, Folder, Found, TreeView};

/// How long it takes at least until something is looked for again that could not be had.
const RENEWED_AFTER: Duration = Duration::from_secs(60);
/// How long the listing that was made beside the first reading of the index is as good as a new one.
const FIRST_LISTED_FOR: Duration = Duration::from_secs(1);
/// Names of damaged snapshots that are remembered as told, as a count.
const TOLD_MAX: usize = 4096;

/// What a view may keep and do at once.
#[derive(Debug, Clone, Copy)]
pub struct ViewLimits {
    /// Opened blobs, in bytes.
    pub blobs_len_max: usize,
    /// Pages of entries and of content, in bytes as they are in memory.
    pub pages_len_max: usize,
    /// Blobs read at once, of about 1 MiB each.
    pub reads_max: usize,
}

impl Default for ViewLimits {
    fn default() -> Self {
        Self { blobs_len_max: 64 << 20, pages_len_max: 24 << 20, reads_max: 16 }
    }
}

/// A repository as one looks around in it. Clones share everything.
#[derive(Clone)]
pub struct View(Arc<Inner>);

struct Inner {
    repository: Repository,
    current: RwLock<Current>,
    /// Held while the index is read anew; when that was.
    renewed_at: tokio::sync::Mutex<Instant>,
    /// The snapshots as they were listed while the index was read for the first time, and when: until somebody asks.
    first: Mutex<Option<(Instant, SnapshotsRead)>>,
    pages: Kept<ChunkId, Arc<tree::Loaded>>,
    contents: Kept<ChunkId, Arc<content::Span>>,
    around: around::Around,
    told: Mutex<HashSet<String>>,
}

#[derive(Clone)]
struct Current {
    fetcher: Fetcher,
    /// How often the index was read anew.
    count: u64,
    /// Whether the repository was found missing since.
    was_gone: bool,
}

impl Repository {
    /// A view of this repository as it is now.
    ///
    /// # Errors
    ///
    /// [`EngineError::Role`] if this key does not open content; else those of reading the index.
    pub async fn view(&self, limits: ViewLimits) -> Result<View, EngineError> {
        self.keyring.require(&[Role::Owner, Role::Reader], "open content")?;
        let listed = async {
            let asked_at = Instant::now();
            self.read_snapshots().await.ok().map(|listed| (asked_at, listed))
        };
        let (fetcher, listed) = tokio::join!(self.fetcher(), listed);
        let mut fetcher = fetcher?;
        fetcher.blobs = Arc::new(Blobs::new(limits.blobs_len_max));
        fetcher.turns = Some(Arc::new(Semaphore::new(limits.reads_max)));
        Ok(View(Arc::new(Inner {
            repository: self.clone(),
            current: RwLock::new(Current { fetcher, count: 0, was_gone: false }),
            renewed_at: tokio::sync::Mutex::new(Instant::now()),
            first: Mutex::new(listed),
            pages: Kept::new(limits.pages_len_max),
            contents: Kept::new(limits.pages_len_max / 2),
            around: around::Around::default(),
            told: Mutex::default(),
        })))
    }
}

impl View {
    /// The repository.
    #[must_use]
    pub fn repository(&self) -> &Repository {
        &self.0.repository
    }

    /// Every snapshot, oldest first, as [`Repository::snapshots`] lists them. Of a damaged one it is told once.
    ///
    /// # Errors
    ///
    /// Those of the store, and [`EngineError::NoRepository`] if it is not there any more.
    pub async fn snapshots(&self) -> Result<Vec<SnapshotInfo>, EngineError> {
        let (found, damaged) = match self.first_listing() {
            Some(listed) => listed,
            None => self.0.repository.read_snapshots().await?,
        };
        if found.is_empty() {
            self.be_there().await?;
        }
        let mut told = self.0.told.lock().unwrap_or_else(PoisonError::into_inner);
        for (name, error) in damaged {
            if told.len() < TOLD_MAX && told.insert(name.clone()) {
                tracing::warn!("{name} {error}; it is passed over, and check tells more");
            }
        }
        Ok(found)
    }

    /// What was listed when this view was made, once, and if that was just now.
    fn first_listing(&self) -> Option<SnapshotsRead> {
        let (asked_at, listed) = self.0.first.lock().unwrap_or_else(PoisonError::into_inner).take()?;
        (asked_at.elapsed() < FIRST_LISTED_FOR).then_some(listed)
    }

    /// A component's entries; `root` is what the snapshot says of it.
    #[must_use]
    pub fn tree(&self, root: Option<ChunkId>) -> TreeView {
        TreeView::new(self.clone(), root)
    }

    /// Reads the index anew, for what was stored since.
    ///
    /// # Errors
    ///
    /// Those of the store; all goes on as before then.
    pub async fn renew(&self) -> Result<(), EngineError> {
        let mut renewed_at = self.0.renewed_at.lock().await;
        self.renew_at(&mut renewed_at).await
    }

    async fn renew_at(&self, renewed_at: &mut Instant) -> Result<(), EngineError> {
        let mut fetcher = self.0.repository.fetcher().await?;
        *renewed_at = Instant::now();
        let mut current = self.0.current.write().unwrap_or_else(PoisonError::into_inner);
        fetcher.share_with(&current.fetcher);
        *current = Current { fetcher, count: current.count + 1, was_gone: false };
        Ok(())
    }

    fn current(&self) -> Current {
        self.0.current.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Does `work`; once more, with the repository as it is now, if something cannot be had.
    async fn attempt<T, F>(&self, work: impl Fn(Fetcher) -> F) -> Result<T, EngineError>
    where
        F: Future<Output = Result<T, EngineError>>,
    {
        let Current { fetcher, count, .. } = self.current();
        match work(fetcher).await {
            Err(error) if error.kind() == Kind::Damaged => {
                if !self.is_worth_another_look(count).await? {
                    return Err(error);
                }
                work(self.current().fetcher).await
            }
            done => done,
        }
    }

    /// Whether what the index of `count` does not lead to may be found by now.
    async fn is_worth_another_look(&self, count: u64) -> Result<bool, EngineError> {
        let mut renewed_at = self.0.renewed_at.lock().await;
        let Current { count: newest, was_gone, .. } = self.current();
        if newest > count {
            return Ok(true);
        }
        self.be_there().await?;
        if !was_gone && renewed_at.elapsed() < RENEWED_AFTER {
            return Ok(false);
        }
        self.renew_at(&mut renewed_at).await?;
        Ok(true)
    }

    /// Tells a repository that is not there, as when its disk is not mounted, from one that lacks something.
    async fn be_there(&self) -> Result<(), EngineError> {
        let store = &self.0.repository.store;
        for name in [names::CONFIG, names::CONFIG_COPY] {
            if store.head(name).await?.is_some() {
                return Ok(());
            }
        }
        self.0.current.write().unwrap_or_else(PoisonError::into_inner).was_gone = true;
        Err(EngineError::NoRepository { place: store.describe() })
    }
}

impl std::fmt::Debug for View {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "View of {:?}", self.0.repository)
    }
}
