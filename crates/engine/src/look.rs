//! Looking around in a snapshot, one folder at a time, without beginning anew each time.
//!
//! Cost: a folder costs the pages that hold what lies directly in it, and those that lead to them; how much lies below it
//! costs the pages at both ends of its range, since each page says how much is below.
//!
//! Invariant: memory holds nothing of the snapshot between two calls but opened blobs, of which there are few.
//! Never here: content (see `cat`).

use pack::Role;
use seal::ChunkId;

use crate::entries::{EntryStream, Page, Pending, Scope, content_len, listed};
use crate::fetch::Fetcher;
use crate::repository::Repository;
use crate::{EngineError, SnapshotInfo};

/// A snapshot that is being looked at. Cheap to clone.
#[derive(Clone)]
pub struct Look {
    fetcher: Fetcher,
    snapshot: SnapshotInfo,
}

impl std::fmt::Debug for Look {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Look({})", self.snapshot.id)
    }
}

impl Repository {
    /// Begins to look around in a snapshot, over the index as it is now. What it misses it looks for anew.
    ///
    /// # Errors
    ///
    /// [`EngineError::Role`] if this key does not open names; else those of the store.
    pub async fn look_around(&self, snapshot: &SnapshotInfo) -> Result<Look, EngineError> {
        self.keyring.require(&[Role::Owner, Role::Reader], "open names and metadata")?;
        Ok(Look { fetcher: self.fetcher().await?, snapshot: snapshot.clone() })
    }
}

impl Look {
    /// What lies directly in the folder at `path`, or at the root if it is empty, component by component.
    #[must_use]
    pub fn children(&self, path: &[u8]) -> EntryStream {
        listed(&self.fetcher, &self.snapshot, &Scope::children(path))
    }

    /// The entry at `path` alone, of each component that has it.
    #[must_use]
    pub fn entry(&self, path: &[u8]) -> EntryStream {
        listed(&self.fetcher, &self.snapshot, &Scope::alone(path))
    }

    /// The same look at one component alone.
    #[must_use]
    pub fn of_component(&self, name: &str) -> Self {
        let mut look = self.clone();
        look.snapshot.snapshot.structure.components.retain(|component| component.name == name);
        look
    }

    /// Bytes of content of all files below the folder at `path` of a component, each name of a file counted.
    ///
    /// # Errors
    ///
    /// Those of reading.
    pub async fn len_below(&self, component: &str, path: &[u8]) -> Result<u64, EngineError> {
        let components = &self.snapshot.snapshot.structure.components;
        let root = components.iter().find(|other| other.name == component).and_then(|found| found.root);
        let Some(root) = root else { return Ok(0) };
        len_within(&self.fetcher, root, &Scope::below(path)).await
    }
}

/// Bytes of content of what a scope holds. Pages that lie wholly in it are not read.
async fn len_within(fetcher: &Fetcher, root: ChunkId, scope: &Scope) -> Result<u64, EngineError> {
    let (mut todo, mut sum) = (vec![Pending::root(root)], 0_u64);
    while let Some(pending) = todo.pop() {
        match pending.read(fetcher).await? {
            Page::Entries(entries) => {
                let wanted = entries.iter().filter(|full| scope.holds(&full.entry.path));
                sum = wanted.fold(sum, |sum, full| sum.saturating_add(content_len(&full.children)));
            }
            Page::Directory(children) => {
                for below in pending.below(children, scope) {
                    match (&below.first, below.len) {
                        (Some(first), Some(len)) if scope.covers(first, below.end.as_deref()) => {
                            sum = sum.saturating_add(len);
                        }
                        _ => todo.push(below),
                    }
                }
            }
        }
    }
    Ok(sum)
}
