//! The parent snapshot: what need not be read again.
//!
//! Walk and parent come in the same order, so they are merged like two sorted lists; memory holds one page of each.
//! A key that cannot open bodies reads those that this host keeps in its cache; where one is missing, the rest is read
//! as if there were no parent, and still deduplicates.
//!
//! Invariant: a file is unchanged only if length, mtime, ctime and inode agree, both times are older than the parent's
//! start by more than the clock's grain, and it was read whole then.
//! Invariant: content is reused unread only if no condemned list was in sight; else every chunk is looked up.
//! Never here: deciding which snapshot is the parent's parent.

use futures::StreamExt;
use futures::stream::BoxStream;
use pack::SnapshotId;
use pack::manifest::{Child, ChildKind, Entry, EntryKind, Time, sort_key};

use crate::entries::{FullEntry, Scope, entries_of, leaves_of};
use crate::fetch::Fetcher;
use crate::repository::Repository;
use crate::{EngineError, SnapshotFilter, SnapshotInfo};

/// Times within this many nanoseconds of the parent's start prove nothing: the file may have changed once more
/// within the same tick of its file system's clock.
const CLOCK_GRAIN_NANOS: i64 = 2_000_000_000;
/// Chunks looked up at once.
const LOOKUP_BATCH: usize = 4096;

/// The parent's entries, in step with the walk.
pub(crate) struct Parent {
    pub(crate) id: SnapshotId,
    started_at: i64,
    entries: BoxStream<'static, Result<FullEntry, EngineError>>,
    next: Option<(Vec<u8>, FullEntry)>,
    fetcher: Fetcher,
    /// A condemned list was in sight: look every chunk up before it is reused.
    is_careful: bool,
}

impl Repository {
    /// The newest snapshot of the same host, source and component.
    pub(crate) async fn find_parent(
        &self,
        host: &str,
        source: &str,
        component: &str,
    ) -> Result<Option<SnapshotInfo>, EngineError> {
        let filter =
            SnapshotFilter { hosts: vec![host.to_owned()], sources: vec![source.to_owned()], tags: Vec::new() };
        let (found, _) = self.read_snapshots().await?;
        let mut fits = found.into_iter().rev().filter(|info| info.trusted && filter.fits(&info.snapshot));
        Ok(fits.find(|info| {
            info.snapshot.structure.components.iter().any(|own| own.name == component && own.root.is_some())
        }))
    }
}

impl Parent {
    /// The parent's `component`; none if it has no such.
    pub(crate) fn open(info: &SnapshotInfo, component: &str, fetcher: Fetcher, is_careful: bool) -> Option<Self> {
        let structure = &info.snapshot.structure;
        let root = structure.components.iter().find(|own| own.name == component)?.root?;
        let entries = entries_of(fetcher.clone(), Some(root), Scope::new(b""));
        Some(Self { id: info.id, started_at: structure.started_at, entries, next: None, fetcher, is_careful })
    }

    /// The content of `entry` in the parent, if it is unchanged. Entries must come in order.
    pub(crate) async fn unchanged(&mut self, entry: &Entry) -> Result<Option<Vec<Child>>, EngineError> {
        let key = sort_key(&entry.path);
        while self.next.as_ref().is_none_or(|(next, _)| *next < key) {
            self.next = match self.entries.next().await {
                Some(Ok(full)) => Some((full.entry.sort_key(), full)),
                Some(Err(error)) => {
                    tracing::info!("the parent snapshot is of no more help: {error}");
                    self.entries = futures::stream::empty().boxed();
                    return Ok(None);
                }
                None => return Ok(None),
            };
        }
        let Some((next, full)) = self.next.as_ref() else { return Ok(None) };
        if *next != key || !is_unchanged(&full.entry, entry, self.started_at) {
            return Ok(None);
        }
        let children = full.children.clone();
        let may_reuse = !self.is_careful || self.all_found(&children).await?;
        Ok(may_reuse.then_some(children))
    }

    /// Looks up every chunk and page below `children`.
    async fn all_found(&self, children: &[Child]) -> Result<bool, EngineError> {
        let pages: Vec<_> =
            children.iter().filter(|child| child.kind == ChildKind::Page).map(|child| child.id).collect();
        let mut ids = pages;
        let mut leaves = leaves_of(self.fetcher.clone(), children.to_vec());
        loop {
            let leaf = leaves.next().await.transpose()?;
            let is_last = leaf.is_none();
            ids.extend(leaf.filter(|leaf| leaf.kind == ChildKind::Chunk).map(|leaf| leaf.id));
            if is_last || ids.len() >= LOOKUP_BATCH {
                let (index, batch) = (self.fetcher.index.clone(), std::mem::take(&mut ids));
                let found = self.fetcher.offload.start(move || index.find(&batch)).await??;
                if found.iter().any(Option::is_none) {
                    return Ok(false);
                }
            }
            if is_last {
                return Ok(true);
            }
        }
    }
}

fn is_unchanged(then: &Entry, now: &Entry, parent_started_at: i64) -> bool {
    let is_old = |time: Time| {
        let nanos = i128::from(time.secs) * 1_000_000_000 + i128::from(time.nanos);
        nanos < i128::from(parent_started_at) - i128::from(CLOCK_GRAIN_NANOS)
    };
    matches!((&then.kind, &now.kind), (EntryKind::File { len: one }, EntryKind::File { len: other }) if one == other)
        && then.is_whole
        && then.modified_at == now.modified_at
        && then.changed_at == now.changed_at
        && then.inode == now.inode
        && is_old(now.modified_at)
        && is_old(now.changed_at)
}
