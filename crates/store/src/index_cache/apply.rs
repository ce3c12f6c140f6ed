//! Applying a stored segment: every pack in it that is new, then the record that it was applied.
//!
//! ```text
//! batch: pack row · its number · its places | next pack … | at the end: the segment's record, which names its packs
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
use super::known::{PackRow, tag};
use super::pack_info::PackInfo;
use super::place::{PackNo, Place};
use super::{CacheError, IndexCache};
use crate::Reason;

/// Chunks in one batch, beyond which it is written: some 10 MiB while that lasts.
const BATCH_CHUNKS_MAX: usize = 64 << 10;

type Row = ([u8; CHUNK_ID_LEN], [u8; 16]);

/// A segment that is being applied.
struct Applying {
    id: SegmentId,
    domain: [u8; 16],
    /// The numbers of its packs so far.
    packs: Vec<PackNo>,
}

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
        let (known, fresh) = self.known_and_fresh(content)?;
        let mut applying = Applying { id: segment, domain: content.domain, packs: known };
        let mut fresh = fresh.into_iter().peekable();
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
            self.add_packs(&packs, &mut applying, is_last)?;
            if is_last {
                return Ok(());
            }
        }
    }

    /// The numbers of the packs that are known, and those packs which are not known yet, each once.
    fn known_and_fresh<'a>(&self, content: &'a Segment) -> Result<(Vec<PackNo>, Vec<&'a PackEntry>), CacheError> {
        let ids: Vec<PackId> = content.packs.iter().map(|pack| pack.id).collect();
        let numbers = self.pack_numbers(&ids)?;
        let mut seen = HashSet::new();
        let (mut known, mut fresh) = (Vec::new(), Vec::new());
        for (pack, number) in content.packs.iter().zip(numbers).filter(|(pack, _)| seen.insert(pack.id)) {
            match number {
                Some(number) => known.push(number),
                None => fresh.push(pack),
            }
        }
        Ok((known, fresh))
    }

    /// Writes packs, and the segment's record if it ends with them, in one batch.
    fn add_packs(&self, packs: &[&PackEntry], applying: &mut Applying, is_last: bool) -> Result<(), CacheError> {
        let next = self.known.read().unwrap_or_else(PoisonError::into_inner).next_number(packs.len());
        let next = next.ok_or_else(|| self.too_many("packs"))?;
        let mut batch = Batch::default();
        let mut rows = Vec::new();
        for (pack, number) in packs.iter().zip(next..) {
            let row = PackRow { number, chunk_count: self.chunk_count(pack)?, len: pack.len };
            let info = PackInfo::of(pack, applying.domain).encode();
            self.database.put(&mut batch, Family::Packs, &number.to_be_bytes(), &info);
            self.database.put(&mut batch, Family::PackIds, &pack.id.0, &row.encode());
            collect_places(&mut rows, pack, number);
            applying.packs.push(number);
        }
        rows.sort_unstable();
        rows.iter().for_each(|(id, place)| self.database.merge(&mut batch, Family::Chunks, id, place));
        if is_last {
            let packs: Vec<u8> = applying.packs.iter().flat_map(|number| number.to_le_bytes()).collect();
            self.database.put(&mut batch, Family::Segments, &applying.id.0, &packs);
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
