//! Applying a stored segment: every pack in it that is new, then the record that it was applied.
//!
//! ```text
//! batch: pack row · its number · its places | next pack … | at the end: the segment's record
//! ```
//!
//! A segment of many chunks takes several batches, cut between packs, so that memory stays bounded. When it ends early,
//! the packs written so far are known and the segment is not applied: applying it again skips them.
//!
//! Invariant: a segment's record is written no earlier than the last of its packs.
//! Never here: fetching or opening segments.

use std::collections::HashSet;
use std::sync::PoisonError;

use pack::{PackEntry, PackId, Segment, SegmentId};
use seal::CHUNK_ID_LEN;

use super::database::{Batch, Family};
use super::known::{row_bytes, tag};
use super::pack_info::PackInfo;
use super::place::{PackNo, Place};
use super::{CacheError, IndexCache};
use crate::Reason;

/// Chunks in one batch, beyond which it is written: some 10 MiB while that lasts.
const BATCH_CHUNKS_MAX: usize = 64 << 10;

type Row = ([u8; CHUNK_ID_LEN], [u8; 16]);

impl IndexCache {
    /// Adds what `content` says. It must be the stored segment named `segment`, opened and its signature checked.
    ///
    /// Packs that are known are skipped, so a merged segment, or the same one twice, costs next to nothing; new ones cost
    /// about 1 s per million chunks. One call at a time works, others wait.
    ///
    /// # Errors
    ///
    /// [`CacheError::Full`] without space, [`CacheError`] if the disk fails; the segment is not applied, though some of
    /// its packs may be known.
    pub fn apply(&self, segment: SegmentId, content: &Segment) -> Result<(), CacheError> {
        let _one_at_a_time = self.applying.lock().unwrap_or_else(PoisonError::into_inner);
        let mut fresh = self.fresh_packs(content)?.into_iter().peekable();
        loop {
            let mut packs = Vec::new();
            let mut chunk_count = 0;
            while chunk_count < BATCH_CHUNKS_MAX
                && let Some(pack) = fresh.next()
            {
                chunk_count += pack.trailer.chunks.len();
                packs.push(pack);
            }
            let is_last = fresh.peek().is_none();
            self.add_packs(&packs, content.domain, is_last.then_some(segment))?;
            if is_last {
                return Ok(());
            }
        }
    }

    /// The packs which are not known yet, each once.
    fn fresh_packs<'a>(&self, content: &'a Segment) -> Result<Vec<&'a PackEntry>, CacheError> {
        let ids: Vec<PackId> = content.packs.iter().map(|pack| pack.id).collect();
        let numbers = self.pack_numbers(&ids)?;
        let mut seen = HashSet::new();
        let packs = content.packs.iter().zip(numbers);
        Ok(packs.filter(|(pack, number)| number.is_none() && seen.insert(pack.id)).map(|(pack, _)| pack).collect())
    }

    /// Writes packs, and the segment's record if it ends with them, in one batch.
    fn add_packs(&self, packs: &[&PackEntry], domain: [u8; 16], segment: Option<SegmentId>) -> Result<(), CacheError> {
        let next = self.known.read().unwrap_or_else(PoisonError::into_inner).next_number(packs.len());
        let next = next.ok_or_else(|| self.too_many("packs"))?;
        let mut batch = Batch::default();
        let mut rows = Vec::new();
        for (pack, number) in packs.iter().zip(next..) {
            let count = self.chunk_count(pack)?;
            self.database.put(&mut batch, Family::Packs, &number.to_be_bytes(), &PackInfo::of(pack, domain).encode());
            self.database.put(&mut batch, Family::PackIds, &pack.id.0, &row_bytes(number, count));
            collect_places(&mut rows, pack, number);
        }
        rows.sort_unstable();
        rows.iter().for_each(|(id, place)| self.database.merge(&mut batch, Family::Chunks, id, place));
        if let Some(segment) = segment {
            self.database.put(&mut batch, Family::Segments, &segment.0, b"");
        }
        self.database.write(batch)?;
        self.remember(packs)
    }

    fn remember(&self, packs: &[&PackEntry]) -> Result<(), CacheError> {
        let mut known = self.known.write().unwrap_or_else(PoisonError::into_inner);
        packs.iter().try_for_each(|pack| {
            known.push(&pack.id, self.chunk_count(pack)?);
            Ok(())
        })
    }

    fn chunk_count(&self, pack: &PackEntry) -> Result<u32, CacheError> {
        u32::try_from(pack.trailer.chunks.len()).map_err(|_| self.too_many("chunks in a pack"))
    }

    fn too_many(&self, what: &str) -> CacheError {
        let source = Reason::cause(format!("there are too many {what}"));
        CacheError::Database { path: self.home.folder().to_path_buf(), source }
    }
}

fn collect_places(rows: &mut Vec<Row>, pack: &PackEntry, number: PackNo) {
    let tag = tag(&pack.id);
    for (blob, row) in (0..).zip(&pack.trailer.blobs) {
        let mut offset = 0u32;
        for (id, len) in pack.trailer.chunks_of(row) {
            let place = Place { pack: number, blob, offset, len: *len };
            rows.extend(place.encode(tag).map(|place| (*id.as_bytes(), place)));
            offset = offset.saturating_add(*len);
        }
    }
}
