//! The second mark (C4): what condemned packs hold that is still needed and lies nowhere else.
//!
//! ```text
//! snapshots/ ─► condemned/ ─► index/ ─► packs/        read in this order, from the store
//! trailer of each condemned pack ─► what of it is live ─► is there a copy that counts? ─► safe, or to be copied
//! ```
//!
//! A copy counts if its pack is listed, named by a segment that was read just now, in no condemned list of anybody, not known to be
//! damaged, and if this very prune wrote it, or read it just now: it is the same sealed bytes under the same table, or was opened and is
//! what its name says. (The protocol asks for less; a writer whose key was stolen may have lied in a segment, and disks rot.)
//!
//! Invariant: neither the index cache nor the first mark's figures say here that a pack may go.
//! Never here: deleting; which names of packs that are gone segments must keep (see `names_of_gone`).

use std::collections::{HashMap, HashSet};
use std::num::NonZeroU32;
use std::sync::Arc;

use futures::StreamExt;
use pack::{PackEntry, PackId, SegmentId, names};
use store::{ObjectInfo, StoreError};
use tokio_util::sync::CancellationToken;

use super::choice::BlobFate;
use super::live::LiveSet;
use super::moving::{Move, Own, PACKS_AT_ONCE, Read, inconsistent, is_of_the_pack};
use super::names_of_gone::Gone;
use super::needed::{Pass, READ_MAX};
use super::usage::Listed;
use crate::index::open_segment;
use crate::repository::{Repository, list};
use crate::{EngineError, Kind};

/// Live chunks of condemned packs that are looked at in one pass, at 88 bytes each, and some for copies that are to be opened.
pub(super) const NEEDED_MAX: usize = 1 << 20;
/// Trailers and segments read at once.
const READS_AT_ONCE: usize = 8;
/// How often the listing of segments is repeated when one vanishes.
const LISTINGS_MAX: usize = 10;
/// How often a segment that does not open is read.
const READS_MAX: usize = 2;

/// What a pass found out about some condemned packs.
#[derive(Default)]
pub(super) struct SecondMark {
    /// Listed packs of which everything live has a copy that counts.
    pub(super) free: Vec<Listed>,
    /// Those that hold something live which has none, and which blobs these are.
    pub(super) to_copy: Vec<Move>,
    /// Those that are not there any more.
    pub(super) gone: HashSet<PackId>,
    /// Packs that are gone, and of which nothing is needed that no other pack holds: segments need not name them.
    pub(super) nameless: HashSet<PackId>,
    /// Condemned packs that cannot be read, and why.
    pub(super) unreadable: Vec<(PackId, EngineError)>,
    /// Packs with copies that are not what the index says, and why.
    pub(super) unsound: Vec<(PackId, EngineError)>,
    /// Packs for which there was no room in this pass.
    pub(super) rest: Vec<PackId>,
    /// Segments that name one of the packs looked at, or are small.
    pub(super) segments: Vec<SegmentNote>,
}

/// A segment that was read whole.
#[derive(Debug, Clone)]
pub(super) struct SegmentNote {
    pub(super) info: ObjectInfo,
    pub(super) id: SegmentId,
    pub(super) chunk_count: usize,
    pub(super) domain: [u8; 16],
    /// Packs looked at that it names.
    pub(super) names: Vec<PackId>,
    /// Every pack that it names is looked at.
    pub(super) names_nothing_else: bool,
    /// Its signer had been removed before it was written: its word is not passed on.
    pub(super) is_late: bool,
}

impl Repository {
    /// Looks at `candidates`, packs of lists whose writers are settled, and which segments name them or `stale` packs. `live` must
    /// have been marked after that; `condemned` was read after the snapshots.
    pub(super) async fn second_mark(
        &self,
        (candidates, stale): (Vec<PackId>, &HashSet<PackId>),
        condemned: &HashSet<PackId>,
        live: &Arc<LiveSet>,
        own: &Own,
        cancel: &CancellationToken,
    ) -> Result<SecondMark, EngineError> {
        let mut found = SecondMark::default();
        let before = self.list_packs().await?;
        let mut pass = self.read_condemned_packs(candidates, &before, live, &mut found).await?;
        let (damaged, known_damaged) = (self.cache.damaged(), self.known_damaged().await?);
        let counts =
            |id: &PackId| !condemned.contains(id) && !damaged.contains(id) && !known_damaged.contains(&id.half());
        let counts: HashSet<PackId> = before.iter().map(|pack| pack.id).filter(counts).collect();
        let lens: HashMap<PackId, u64> = before.iter().map(|pack| (pack.id, pack.len)).collect();
        let mut gone = Gone::new(found.gone.union(stale).copied(), Arc::clone(live));
        let looked_at = pass.packs.iter().map(|pack| pack.id).chain(gone.packs()).collect();
        found.segments = self.look_for_copies((&mut pass, &mut gone), &looked_at, (&counts, &lens), own).await?;
        found.unsound = self.read_other_copies(&mut pass, &lens, cancel).await?;
        // Once more, now after the index: what vanished meanwhile does not count.
        let after: HashSet<PackId> = self.list_packs().await?.iter().map(|pack| pack.id).collect();
        found.nameless = gone.nameless(self, &counts, &after).await?;
        let mut to_copy = pass.without_copy(|pack| after.contains(pack));
        for (at, pack) in (0..).zip(&pass.packs) {
            match to_copy.remove(&at) {
                Some(rows) => {
                    let blobs = rows.into_iter().map(|row| (row, BlobFate::Carried)).collect();
                    found.to_copy.push(Move { pack: pack.id, len: pack.len, blobs });
                }
                None => found.free.push(*pack),
            }
        }
        Ok(found)
    }

    /// Reads the trailers of condemned packs that are there, and notes what is live in them.
    async fn read_condemned_packs(
        &self,
        candidates: Vec<PackId>,
        listed: &[Listed],
        live: &Arc<LiveSet>,
        found: &mut SecondMark,
    ) -> Result<Pass, EngineError> {
        let mut pass = Pass::new(self.keyring.can_recut());
        let mut there = Vec::new();
        for id in candidates {
            match listed.binary_search_by_key(&id, |pack| pack.id).ok().and_then(|at| listed.get(at)) {
                Some(pack) => there.push(*pack),
                None => drop(found.gone.insert(id)),
            }
        }
        let mut reads = futures::stream::iter(there)
            .map(|pack| async move { (pack, self.read_entry_twice(pack.id, pack.len).await) })
            .buffered(READS_AT_ONCE);
        let mut needed_count = 0;
        while let Some((pack, read)) = reads.next().await {
            if needed_count >= NEEDED_MAX {
                found.rest.push(pack.id);
                continue;
            }
            match read {
                Ok(entry) => needed_count += pass.add(pack, &entry, live),
                Err(EngineError::Store(StoreError::NotFound { .. })) => drop(found.gone.insert(pack.id)),
                Err(error) if is_of_the_pack(&error) => found.unreadable.push((pack.id, error)),
                Err(error) => return Err(error),
            }
        }
        pass.sort();
        Ok(pass)
    }

    /// A pack's trailer, read once more if it does not open.
    pub(super) async fn read_entry_twice(&self, id: PackId, len: u64) -> Result<PackEntry, EngineError> {
        match self.read_pack_entry(id, len).await {
            Err(EngineError::Object { .. }) => self.read_pack_entry(id, len).await,
            read => read,
        }
    }

    /// Reads copies where no other counts, of each chunk one after the other until one is right. Gives packs that are not what is said of
    /// them; of those that are damaged this host takes note.
    async fn read_other_copies(
        &self,
        pass: &mut Pass,
        lens: &HashMap<PackId, u64>,
        cancel: &CancellationToken,
    ) -> Result<Vec<(PackId, EngineError)>, EngineError> {
        let mut unsound = Vec::new();
        for turn in 0..READ_MAX {
            let wanted = pass.to_read(turn).into_iter();
            let wanted: Vec<_> = wanted.filter_map(|(number, rows)| Some((number, pass.pack(number)?, rows))).collect();
            let mut reads = futures::stream::iter(wanted)
                .map(|(number, pack, rows)| async move {
                    let rows = rows.into_iter().map(|row| (row, BlobFate::Carried)).collect();
                    let entry = self.read_entry_twice(pack, lens.get(&pack).copied().unwrap_or_default()).await;
                    let read = async { self.read_rows(Arc::new(entry?), rows).await };
                    (number, pack, read.await)
                })
                .buffered(PACKS_AT_ONCE);
            while let Some((number, pack, read)) = reads.next().await {
                if cancel.is_cancelled() {
                    return Err(EngineError::Interrupted);
                }
                let read = match read {
                    Ok(read) => self.note_right_ones(pass, number, read).await?,
                    Err(error) => Err(error),
                };
                match read {
                    Ok(()) | Err(EngineError::Store(StoreError::NotFound { .. })) => {}
                    Err(error) if is_of_the_pack(&error) => unsound.push((pack, error)),
                    Err(error) => return Err(error),
                }
            }
        }
        let is_damage =
            |error: &EngineError| matches!(error, EngineError::Object { .. }) && error.kind() == Kind::Damaged;
        let damaged = unsound.iter().filter(|(_, error)| is_damage(error)).map(|(pack, _)| *pack);
        let (cache, damaged) = (Arc::clone(&self.cache), damaged.collect::<Vec<_>>());
        self.offload.start(move || damaged.into_iter().for_each(|pack| cache.note_damaged(pack))).await?;
        Ok(unsound)
    }

    /// Notes which copies in blobs that were read count; the inner error is of their pack.
    async fn note_right_ones(
        &self,
        pass: &mut Pass,
        number: NonZeroU32,
        (entry, blobs): Read,
    ) -> Result<Result<(), EngineError>, EngineError> {
        let mut is_true = true;
        for (row, _, bytes) in blobs {
            let Some(blob) = entry.trailer.blobs.get(row as usize) else { continue };
            if !pass.note_read((number, row), &entry) || !self.keyring.can_recut() {
                continue;
            }
            let ids = self.true_chunks(&entry, row, bytes).await?;
            ids.iter().for_each(|id| pass.note_opened(id, blob.kind, number));
            is_true &= ids.len() == blob.chunk_count as usize;
        }
        Ok(if is_true { Ok(()) } else { Err(inconsistent(&entry.id, "a chunk does not hash to its id")) })
    }

    /// Reads every segment and notes copies that would count. Segments that do not open name nothing.
    async fn look_for_copies(
        &self,
        (pass, gone): (&mut Pass, &mut Gone),
        looked_at: &HashSet<PackId>,
        (counts, lens): (&HashSet<PackId>, &HashMap<PackId, u64>),
        own: &Own,
    ) -> Result<Vec<SegmentNote>, EngineError> {
        // What a prune seals it seals under the first row of its packs; without a key for that, it only carries.
        let sealed_here = |seal: u16| self.keyring.can_recut() && seal == 0;
        let is_own = |entry: &PackEntry| own.get(&entry.id).is_some_and(|said| entry.said().as_ref() == Ok(said));
        for _ in 0..LISTINGS_MAX {
            pass.forget_copies();
            gone.forget();
            let listed = list(&self.store, names::INDEX).await?;
            let mut reads = futures::stream::iter(listed)
                .map(|info| async move { (self.read_listed_segment(&info).await, info) })
                .buffered(READS_AT_ONCE / 2);
            let (mut notes, mut has_vanished) = (Vec::new(), false);
            while let Some((read, info)) = reads.next().await {
                match read {
                    Ok(Some((id, segment, is_late))) => {
                        if !is_late {
                            let named = segment
                                .packs
                                .iter()
                                .filter(|entry| counts.contains(&entry.id) && lens.get(&entry.id) == Some(&entry.len));
                            named.for_each(|entry| pass.note_copies(entry, is_own(entry), sealed_here));
                        }
                        segment.packs.iter().for_each(|entry| gone.note(entry));
                        notes.push(SegmentNote::new(info, id, &segment, is_late, looked_at));
                    }
                    Ok(None) => {}
                    Err(EngineError::Store(StoreError::NotFound { .. })) => has_vanished = true,
                    Err(error) => return Err(error),
                }
            }
            if !has_vanished {
                return Ok(notes);
            }
        }
        Err(EngineError::Request {
            what: "index segments vanish as fast as they are read; is another prune running in a loop?".into(),
        })
    }

    /// A segment as the store has it, and whether its signer was removed before; none if it does not open.
    pub(super) async fn read_listed_segment(
        &self,
        info: &ObjectInfo,
    ) -> Result<Option<(SegmentId, pack::Segment, bool)>, EngineError> {
        let Some(id) = SegmentId::from_hex(names::last(&info.name)) else { return Ok(None) };
        for _ in 0..READS_MAX {
            let bytes = self.store.get(&info.name).await?;
            let (keyring, listed) = (self.keyring.clone(), info.clone());
            let open = move || {
                let opened = open_segment(&keyring, id, &listed, &bytes);
                opened.map(|(segment, signer)| (segment, keyring.is_late(signer, listed.modified_at)))
            };
            match self.offload.start(open).await? {
                Ok((segment, is_late)) => return Ok(Some((id, segment, is_late))),
                Err(error) => tracing::info!("{error}; the segment is passed over"),
            }
        }
        Ok(None)
    }
}

impl SegmentNote {
    fn new(
        info: ObjectInfo,
        id: SegmentId,
        segment: &pack::Segment,
        is_late: bool,
        looked_at: &HashSet<PackId>,
    ) -> Self {
        let names: Vec<PackId> =
            segment.packs.iter().map(|entry| entry.id).filter(|id| looked_at.contains(id)).collect();
        Self {
            info,
            id,
            chunk_count: segment.packs.iter().map(|entry| entry.trailer.chunks.len()).sum(),
            domain: segment.domain,
            names_nothing_else: names.len() == segment.packs.len(),
            names,
            is_late,
        }
    }
}
