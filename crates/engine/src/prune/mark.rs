//! Mark: every chunk and page that snapshots reach.
//!
//! ```text
//! snapshots/ ─► roots ─► pages, each once ─► the ids of what they name
//! ```
//!
//! What a snapshot reaches never changes. So a later mark adds what came since, and what was forgotten since stays marked
//! until the next prune: that can only keep too much.
//!
//! A key that can name pages checks each page against its id. One that cannot (maintenance) reads a page at every place where it
//! is said to lie and takes what any of them names: a lying writer can then keep too much alive, and let nothing go.
//!
//! Invariant: if anything that names chunks cannot be read, there is no mark and nothing is deleted.
//! Never here: content, bodies, and where chunks lie.

use std::collections::HashSet;
use std::sync::Arc;

use futures::StreamExt;
use pack::SnapshotId;
use pack::manifest::{ChildKind, Structure};
use seal::ChunkId;
use tokio_util::sync::CancellationToken;

use super::live::LiveSet;
use crate::EngineError;
use crate::fetch::Fetcher;
use crate::repository::Repository;
use crate::snapshots::Origin;

/// Pages read at once.
const PAGES_AT_ONCE: usize = 8;
/// How often marking begins.
const MARKS_MAX: u32 = 10;

/// What snapshots reach, as far as it was walked.
pub(super) struct Mark {
    pub(super) live: Arc<LiveSet>,
    /// At most 48 bytes each, and one for some hundred chunks.
    pages: HashSet<ChunkId>,
    snapshots: HashSet<SnapshotId>,
}

impl Mark {
    pub(super) fn new() -> Self {
        Self { live: Arc::new(LiveSet::new()), pages: HashSet::new(), snapshots: HashSet::new() }
    }

    /// Snapshots that were walked.
    pub(super) fn snapshot_count(&self) -> u64 {
        self.snapshots.len() as u64
    }
}

impl Repository {
    /// Adds every snapshot to `mark` that is there now and that it does not have yet. Begins anew if what cannot be read may be
    /// of a snapshot that was forgotten meanwhile: another prune takes its content.
    ///
    /// # Errors
    ///
    /// [`EngineError::CannotMark`] if a snapshot or page cannot be read; those of the store.
    pub(super) async fn mark(
        &self,
        mark: &mut Mark,
        fetcher: &Fetcher,
        cancel: &CancellationToken,
    ) -> Result<(), EngineError> {
        let mut attempts = 1;
        loop {
            match self.mark_once(mark, fetcher, cancel).await {
                Err(error @ EngineError::CannotMark { .. }) if attempts < MARKS_MAX => {
                    let forgotten = self.read_forgotten().await?;
                    if !mark.snapshots.iter().any(|id| forgotten.contains_key(&id.to_string())) {
                        return Err(error);
                    }
                    tracing::info!("{error}; a snapshot was forgotten meanwhile: marking begins anew");
                    *mark = Mark::new();
                    attempts += 1;
                }
                done => return done,
            }
        }
    }

    async fn mark_once(
        &self,
        mark: &mut Mark,
        fetcher: &Fetcher,
        cancel: &CancellationToken,
    ) -> Result<(), EngineError> {
        let roots = self.new_roots(mark).await?;
        let live = Arc::make_mut(&mut mark.live);
        let mut todo: Vec<ChunkId> = roots.into_iter().filter(|root| mark.pages.insert(*root)).collect();
        while !todo.is_empty() {
            if cancel.is_cancelled() {
                return Err(EngineError::Interrupted);
            }
            let next: Vec<_> = todo.drain(todo.len().saturating_sub(PAGES_AT_ONCE)..).collect();
            let mut reads = futures::stream::iter(next).map(|id| readings(fetcher, id)).buffer_unordered(PAGES_AT_ONCE);
            while let Some(read) = reads.next().await {
                let (id, pages) = read?;
                live.insert(&id);
                for child in pages.iter().flat_map(|page| &page.children) {
                    match child.kind {
                        ChildKind::Page if mark.pages.insert(child.id) => todo.push(child.id),
                        ChildKind::Page | ChildKind::Hole => {}
                        ChildKind::Chunk | ChildKind::Body => live.insert(&child.id),
                    }
                }
            }
        }
        live.settle();
        Ok(())
    }

    /// The roots of snapshots that were not walked yet, which count as walked from here on.
    async fn new_roots(&self, mark: &mut Mark) -> Result<Vec<ChunkId>, EngineError> {
        let (mut roots, mut unreadable) = (Vec::new(), None);
        let visit = |name: String, read: Result<crate::SnapshotInfo, pack::PackError>| match read {
            Ok(info) => {
                if mark.snapshots.insert(info.id) {
                    roots.extend(info.snapshot.structure.components.iter().filter_map(|component| component.root));
                }
            }
            Err(error) => unreadable = Some((name, error)),
        };
        self.visit_snapshots(Origin::Memory, visit).await?;
        match unreadable {
            Some((name, error)) => Err(cannot_mark(name.clone(), EngineError::object(name)(error))),
            None => Ok(roots),
        }
    }
}

/// What a page says, in every reading that counts.
async fn readings(fetcher: &Fetcher, id: ChunkId) -> Result<(ChunkId, Vec<Structure>), EngineError> {
    let name = || format!("page {id}");
    let read = fetcher.readings(id).await.map_err(|error| match error {
        error @ EngineError::Store(_) if error.kind() != crate::Kind::Damaged => error,
        error => cannot_mark(name(), error),
    })?;
    let pages = read.iter().map(|bytes| Structure::decode(bytes)).collect::<Result<Vec<_>, _>>();
    let pages = pages.map_err(|error| cannot_mark(name(), EngineError::object(name())(error)))?;
    Ok((id, pages))
}

fn cannot_mark(object: String, source: EngineError) -> EngineError {
    EngineError::CannotMark { object, source: Box::new(source) }
}
