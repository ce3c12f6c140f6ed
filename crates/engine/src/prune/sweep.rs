//! Sweep (C6): index segments first, then packs, then the lists that condemned them.
//!
//! ```text
//! merged segments without the packs ─► the segments that were read and merged ─► the packs ─► condemned/<id>
//! ```
//!
//! Stopped anywhere, the next prune goes on: what is deleted already is absent, which is fine.
//!
//! Invariant: a segment is deleted only after others that name all it named, less the packs that go, were acknowledged.
//! Invariant: a pack is deleted only after a second mark found everything live in it elsewhere.
//! Never here: deciding that.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

use futures::StreamExt;
use pack::{PackId, Segment, SegmentId, names};
use store::StoreError;

use super::merge::merge;
use super::report::PruneReport;
use super::second_mark::{SecondMark, SegmentNote};
use super::usage::Listed;
use crate::repository::{REQUESTS_MAX, Repository};
use crate::{EngineError, Progress};

/// A segment with fewer chunks is small.
const SMALL_CHUNKS: usize = 16 << 10;
/// So many small segments are put together, even if no pack of theirs goes.
pub(super) const SMALL_COUNT_MIN: usize = 16;
/// Chunks of the segments that are merged at once: what they take in memory.
const BATCH_CHUNKS_MAX: usize = 1 << 20;

impl Repository {
    /// Deletes the packs that are free, after the segments that name them, and segments that became too many. Packs that
    /// the store does not let go are reported; gives those that are gone now.
    pub(super) async fn sweep(
        &self,
        found: &SecondMark,
        progress: &Progress,
        report: &mut PruneReport,
    ) -> Result<HashSet<PackId>, EngineError> {
        let mut going: HashSet<PackId> = found.free.iter().map(|pack| pack.id).collect();
        going.extend(&found.nameless);
        self.rewrite_segments(&found.segments, &going, report).await?;
        let deleted = self.delete_packs(&found.free, progress, report).await?;
        Ok(deleted.into_iter().chain(found.gone.iter().copied()).collect())
    }

    async fn rewrite_segments(
        &self,
        notes: &[SegmentNote],
        going: &HashSet<PackId>,
        report: &mut PruneReport,
    ) -> Result<(), EngineError> {
        let names_going = |note: &&SegmentNote| note.names.iter().any(|pack| going.contains(pack));
        let is_empty =
            |note: &&SegmentNote| note.names_nothing_else && note.names.iter().all(|pack| going.contains(pack));
        let small = notes.iter().filter(|note| note.chunk_count < SMALL_CHUNKS && !note.is_late).count();
        let joins = |note: &&SegmentNote| small >= SMALL_COUNT_MIN && note.chunk_count < SMALL_CHUNKS;
        // What a removed key signed is not signed again by ours. It goes only if nothing of it is left.
        for note in notes.iter().filter(|note| note.is_late && !note.names.is_empty()).filter(is_empty) {
            self.store.delete(&note.info.name).await?;
        }
        let mut by_domain: BTreeMap<[u8; 16], Vec<&SegmentNote>> = BTreeMap::new();
        for note in notes.iter().filter(|note| !note.is_late).filter(|note| names_going(note) || joins(note)) {
            by_domain.entry(note.domain).or_default().push(note);
        }
        for notes in by_domain.into_values() {
            for batch in batches(notes).iter().filter(|batch| batch.len() > 1 || batch.iter().any(names_going)) {
                self.merge_batch(batch, going, report).await?;
            }
        }
        Ok(())
    }

    /// Publishes what is left of some segments, then deletes them.
    async fn merge_batch(
        &self,
        batch: &[&SegmentNote],
        going: &HashSet<PackId>,
        report: &mut PruneReport,
    ) -> Result<(), EngineError> {
        let mut inputs: Vec<(SegmentId, Segment)> = Vec::with_capacity(batch.len());
        for note in batch {
            match self.read_listed_segment(&note.info).await {
                Ok(Some((id, segment, _))) if id == note.id => inputs.push((id, segment)),
                // Another prune has merged it meanwhile, or it cannot be read any more: then it stays.
                Ok(_) | Err(EngineError::Store(StoreError::NotFound { .. })) => {}
                Err(error) => return Err(error),
            }
        }
        let (owned, going) = (inputs.iter().map(|(id, _)| *id).collect::<Vec<_>>(), going.clone());
        let merged = self.offload.start(move || merge(&inputs, &going)).await??;
        for segment in merged {
            report.written_len += self.publish(&Arc::new(segment), &self.cache.now()).await?;
            report.segments_written += 1;
        }
        for id in owned {
            self.store.delete(&names::segment(&id)).await?;
            report.segments_deleted += 1;
        }
        Ok(())
    }

    /// Deletes packs, several at a time.
    async fn delete_packs(
        &self,
        packs: &[Listed],
        progress: &Progress,
        report: &mut PruneReport,
    ) -> Result<Vec<PackId>, EngineError> {
        let mut gone = Vec::with_capacity(packs.len());
        let mut deletes = futures::stream::iter(packs)
            .map(|pack| async move { (pack, self.store.delete(&names::pack(&pack.id)).await) })
            .buffer_unordered(REQUESTS_MAX);
        while let Some((pack, deleted)) = deletes.next().await {
            match deleted {
                Ok(()) => {
                    gone.push(pack.id);
                    report.packs_deleted += 1;
                    report.deleted_len += pack.len;
                    progress.add_len(pack.len);
                }
                Err(error @ StoreError::AccessDenied { .. }) => report.note_locked(pack, &error),
                Err(error) => return Err(error.into()),
            }
        }
        Ok(gone)
    }
}

/// Segments in groups that fit into memory, in the order of the store's times.
fn batches(mut notes: Vec<&SegmentNote>) -> Vec<Vec<&SegmentNote>> {
    notes.sort_by_key(|note| (note.info.modified_at, note.id));
    let (mut batches, mut chunk_count): (Vec<Vec<&SegmentNote>>, usize) = (Vec::new(), 0);
    for note in notes {
        chunk_count += note.chunk_count;
        match batches.last_mut().filter(|_| chunk_count <= BATCH_CHUNKS_MAX) {
            Some(batch) => batch.push(note),
            None => {
                chunk_count = note.chunk_count;
                batches.push(vec![note]);
            }
        }
    }
    batches
}
