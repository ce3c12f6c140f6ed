//! The second mark (C4): what condemned packs hold that is still needed and lies nowhere else.
//!
//! ```text
//! snapshots/ ─► condemned/ ─► index/ ─► packs/        read in this order, from the store
//! trailer of each condemned pack ─► what of it is live ─► is there a copy that counts? ─► safe, or to be copied
//! ```
//!
//! A copy counts if its pack is listed, named by a segment that was read just now, in no condemned list of anybody, and if it
//! is the same sealed bytes, was written by this very prune, or was opened by it and is what its name says. (The protocol asks for
//! less; two copies that were sealed apart may differ, if one of their writers lied.)
//!
//! Invariant: neither the index cache nor the first mark's figures say here that a pack may go.
//! Never here: deleting; which names of packs that are gone segments must keep (see `names_of_gone`).

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::num::NonZeroU32;
use std::sync::Arc;

use futures::StreamExt;
use pack::{PackEntry, PackId, SegmentId, names};
use seal::ChunkId;
use store::{ObjectInfo, StoreError};

use super::choice::BlobFate;
use super::live::LiveSet;
use super::moving::{Move, is_of_the_pack};
use super::names_of_gone::Gone;
use super::usage::Listed;
use crate::EngineError;
use crate::index::open_segment;
use crate::repository::{Repository, list};

/// Live chunks of condemned packs that are looked at in one pass, at 64 bytes each.
pub(super) const NEEDED_MAX: usize = 1 << 20;
/// Copies of one chunk that count and are noted: if they all vanish meanwhile, the chunk is copied.
const COPIES_MAX: usize = 2;
/// Trailers and segments read at once.
const READS_AT_ONCE: usize = 8;
/// How often the listing of segments is repeated when one vanishes.
const LISTINGS_MAX: usize = 10;
/// Copies of one chunk, sealed apart, that are opened at most.
const OTHERS_MAX: usize = 4;
/// How often a segment that does not open is read.
const READS_MAX: usize = 2;

/// A live chunk in a condemned pack.
struct Needed {
    id: ChunkId,
    /// The pack, by its position, and the blob.
    pack: u32,
    blob: u32,
    /// Packs, by their numbers, in which a copy was seen that would count.
    copies: [Option<NonZeroU32>; COPIES_MAX],
    /// Packs and blobs with a copy that was sealed apart: it counts once it was opened.
    others: Vec<(NonZeroU32, u32)>,
}

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
    /// Packs that cannot be read, and why.
    pub(super) unreadable: Vec<(PackId, EngineError)>,
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

/// What is looked at in one pass.
#[derive(Default)]
struct Pass {
    /// By id, once all packs are in.
    needed: Vec<Needed>,
    packs: Vec<Listed>,
    /// The hashes of each pack's blobs.
    hashes: Vec<Vec<[u8; 32]>>,
    /// Packs with copies.
    copied: Numbers,
}

/// Packs by numbers, which take less room.
#[derive(Default)]
struct Numbers {
    packs: Vec<PackId>,
    numbers: HashMap<PackId, NonZeroU32>,
}

impl Repository {
    /// Looks at `candidates`, packs of lists whose writers are settled, and which segments name them or `stale` packs. `live` must
    /// have been marked after that; `condemned` was read after the snapshots.
    pub(super) async fn second_mark(
        &self,
        (candidates, stale): (Vec<PackId>, &HashSet<PackId>),
        condemned: &HashSet<PackId>,
        live: &Arc<LiveSet>,
        own: &HashSet<PackId>,
    ) -> Result<SecondMark, EngineError> {
        let mut found = SecondMark::default();
        let before = self.list_packs().await?;
        let mut pass = self.read_condemned_packs(candidates, &before, live, &mut found).await?;
        let counts: HashSet<PackId> = before.iter().map(|pack| pack.id).filter(|id| !condemned.contains(id)).collect();
        let lens: HashMap<PackId, u64> = before.iter().map(|pack| (pack.id, pack.len)).collect();
        let mut gone = Gone::new(found.gone.union(stale).copied(), Arc::clone(live));
        let looked_at = pass.packs.iter().map(|pack| pack.id).chain(gone.packs()).collect();
        found.segments = self.look_for_copies((&mut pass, &mut gone), &looked_at, (&counts, &lens), own).await?;
        if self.keyring.can_recut() {
            self.open_others(&mut pass, &lens).await?;
        }
        // Once more, now after the index: what vanished meanwhile does not count.
        let after: HashSet<PackId> = self.list_packs().await?.iter().map(|pack| pack.id).collect();
        found.nameless = gone.nameless(self, &counts, &after).await?;
        let mut to_copy: HashMap<u32, HashSet<u32>> = HashMap::new();
        for needed in &pass.needed {
            let copies = needed.copies.iter().flatten().filter_map(|number| pass.copied.pack(*number));
            if !copies.into_iter().any(|copy| after.contains(&copy)) {
                to_copy.entry(needed.pack).or_default().insert(needed.blob);
            }
        }
        for (at, pack) in (0..).zip(&pass.packs) {
            match to_copy.remove(&at) {
                Some(rows) => {
                    let mut blobs: Vec<_> = rows.into_iter().map(|row| (row, BlobFate::Carried)).collect();
                    blobs.sort_unstable_by_key(|(row, _)| *row);
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
        let mut pass = Pass::default();
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
        pass.needed.sort_unstable_by_key(|needed| (needed.id, needed.pack, needed.blob));
        Ok(pass)
    }

    /// A pack's trailer, read once more if it does not open.
    pub(super) async fn read_entry_twice(&self, id: PackId, len: u64) -> Result<PackEntry, EngineError> {
        match self.read_pack_entry(id, len).await {
            Err(EngineError::Object { .. }) => self.read_pack_entry(id, len).await,
            read => read,
        }
    }

    /// Opens copies that were sealed apart, where no other would count, and notes those that are what their names say.
    async fn open_others(&self, pass: &mut Pass, lens: &HashMap<PackId, u64>) -> Result<(), EngineError> {
        let mut wanted: BTreeMap<NonZeroU32, BTreeSet<u32>> = BTreeMap::new();
        for needed in pass.needed.iter().filter(|needed| needed.copies == [None; COPIES_MAX]) {
            for (number, blob) in &needed.others {
                wanted.entry(*number).or_default().insert(*blob);
            }
        }
        for (number, rows) in wanted {
            let Some(pack) = pass.copied.pack(number) else { continue };
            let blobs = rows.into_iter().map(|row| (row, BlobFate::Carried)).collect();
            let read = self.read_blobs(Move { pack, len: lens.get(&pack).copied().unwrap_or_default(), blobs }).await;
            let (entry, blobs) = match read {
                Ok(read) => read,
                Err(EngineError::Store(StoreError::NotFound { .. })) => continue,
                Err(error) if is_of_the_pack(&error) => continue,
                Err(error) => return Err(error),
            };
            for (row, _, bytes) in blobs {
                for id in self.true_chunks(&entry, row, bytes).await? {
                    pass.note_opened(&id, number);
                }
            }
        }
        Ok(())
    }

    /// Reads every segment and notes copies that would count. Segments that do not open name nothing.
    async fn look_for_copies(
        &self,
        (pass, gone): (&mut Pass, &mut Gone),
        looked_at: &HashSet<PackId>,
        (counts, lens): (&HashSet<PackId>, &HashMap<PackId, u64>),
        own: &HashSet<PackId>,
    ) -> Result<Vec<SegmentNote>, EngineError> {
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
                            named.for_each(|entry| pass.note_copies(entry, own.contains(&entry.id)));
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

impl Pass {
    /// Notes what is live in a pack; gives how many chunks.
    fn add(&mut self, pack: Listed, entry: &PackEntry, live: &LiveSet) -> usize {
        let number = self.packs.len() as u32;
        self.packs.push(pack);
        self.hashes.push(entry.trailer.blobs.iter().map(|row| row.hash).collect());
        let before = self.needed.len();
        for (blob, row) in (0..).zip(&entry.trailer.blobs) {
            let live = entry.trailer.chunks_of(row).iter().filter(|(id, _)| live.contains(id));
            self.needed.extend(live.map(|(id, _)| Needed {
                id: *id,
                pack: number,
                blob,
                copies: [None; COPIES_MAX],
                others: Vec::new(),
            }));
        }
        self.needed.len() - before
    }

    /// Where a chunk is needed.
    fn of(&mut self, id: &ChunkId) -> &mut [Needed] {
        let start = self.needed.partition_point(|needed| needed.id < *id);
        let rest = self.needed.get_mut(start..).unwrap_or_default();
        let len = rest.iter().take_while(|needed| needed.id == *id).count();
        rest.get_mut(..len).unwrap_or_default()
    }

    /// What was noted out of a listing that did not hold counts no more.
    fn forget_copies(&mut self) {
        for needed in &mut self.needed {
            needed.copies = [None; COPIES_MAX];
            needed.others.clear();
        }
    }

    /// Notes copies in a pack that would count.
    fn note_copies(&mut self, entry: &PackEntry, is_own: bool) {
        let Some(number) = self.copied.number(entry.id) else { return };
        let hashes = std::mem::take(&mut self.hashes);
        for (blob, row) in (0..).zip(&entry.trailer.blobs) {
            for (id, _) in entry.trailer.chunks_of(row) {
                for needed in self.of(id) {
                    let hash = hashes.get(needed.pack as usize).and_then(|of_pack| of_pack.get(needed.blob as usize));
                    needed.note(number, blob, is_own || hash == Some(&row.hash));
                }
            }
        }
        self.hashes = hashes;
    }

    /// Notes that a pack holds a chunk that is what its name says.
    fn note_opened(&mut self, id: &ChunkId, number: NonZeroU32) {
        for needed in self.of(id) {
            if needed.others.iter().any(|(other, _)| *other == number) {
                needed.note_copy(number);
            }
        }
    }
}

impl Needed {
    fn note(&mut self, number: NonZeroU32, blob: u32, counts: bool) {
        if counts {
            self.note_copy(number);
        } else if self.others.len() < OTHERS_MAX && !self.others.contains(&(number, blob)) {
            self.others.push((number, blob));
        }
    }

    fn note_copy(&mut self, number: NonZeroU32) {
        if self.copies.contains(&Some(number)) {
            return;
        }
        if let Some(free) = self.copies.iter_mut().find(|copy| copy.is_none()) {
            *free = Some(number);
        }
    }
}

impl Numbers {
    /// The number of a pack; none if there are more than 32 bits can count.
    fn number(&mut self, pack: PackId) -> Option<NonZeroU32> {
        if let Some(number) = self.numbers.get(&pack) {
            return Some(*number);
        }
        let number = u32::try_from(self.packs.len()).ok().and_then(|count| NonZeroU32::MIN.checked_add(count))?;
        self.packs.push(pack);
        self.numbers.insert(pack, number);
        Some(number)
    }

    fn pack(&self, number: NonZeroU32) -> Option<PackId> {
        self.packs.get(number.get() as usize - 1).copied()
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
