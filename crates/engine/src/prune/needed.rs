//! Live chunks of condemned packs, and the copies of each that were seen.
//!
//! ```text
//! what this prune wrote ─► counts
//! the same sealed bytes under the same table, says a segment ─► twins ──┐
//! sealed apart, says a segment ───────────────────────────────► others ─┴─► read, and right ─► counts
//! ```
//!
//! Invariant: no segment's word makes a copy count, but what this prune says itself of packs that it wrote.
//! Never here: reading.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::num::NonZeroU32;

use pack::{BlobKind, PackEntry, PackId};
use seal::ChunkId;

use super::live::LiveSet;
use super::usage::Listed;

/// Copies of one chunk that count and are noted: if they all vanish meanwhile, the chunk is copied.
const COPIES_MAX: usize = 2;
/// Twins of one chunk that are read at most.
const TWINS_MAX: usize = 2;
/// Copies of one chunk, sealed apart, that are opened at most.
const OTHERS_MAX: usize = 4;
/// Copies of one chunk that are read at most.
pub(super) const READ_MAX: usize = TWINS_MAX + OTHERS_MAX;

/// A blob: the number of its pack, and its row.
type Blob = (NonZeroU32, u32);

/// A live chunk in a condemned pack.
struct Needed {
    id: ChunkId,
    kind: BlobKind,
    /// The pack, by its position, and the blob.
    pack: u32,
    blob: u32,
    /// Packs, by their numbers, with a copy that counts.
    copies: [Option<NonZeroU32>; COPIES_MAX],
    twins: [Option<Blob>; TWINS_MAX],
    others: Vec<Blob>,
}

/// What is looked at in one pass of the second mark.
pub(super) struct Pass {
    /// Copies that were sealed apart can be opened.
    can_open: bool,
    /// By id, once all packs are in.
    needed: Vec<Needed>,
    /// The condemned packs.
    pub(super) packs: Vec<Listed>,
    /// The form of each blob with live chunks, of each pack.
    forms: Vec<Vec<Option<[u8; 32]>>>,
    /// Packs with copies.
    copied: Numbers,
}

/// Packs by numbers, which take less room.
#[derive(Default)]
struct Numbers {
    packs: Vec<PackId>,
    numbers: HashMap<PackId, NonZeroU32>,
}

impl Pass {
    /// A pass that has seen nothing yet.
    pub(super) fn new(can_open: bool) -> Self {
        Self { can_open, needed: Vec::new(), packs: Vec::new(), forms: Vec::new(), copied: Numbers::default() }
    }

    /// Notes what is live in a pack; gives how many chunks.
    pub(super) fn add(&mut self, pack: Listed, entry: &PackEntry, live: &LiveSet) -> usize {
        let number = self.packs.len() as u32;
        let before = self.needed.len();
        let mut forms = Vec::with_capacity(entry.trailer.blobs.len());
        for (blob, row) in (0..).zip(&entry.trailer.blobs) {
            let live = entry.trailer.chunks_of(row).iter().filter(|(id, _)| live.contains(id));
            let needed = live.map(|(id, _)| Needed {
                id: *id,
                kind: row.kind,
                pack: number,
                blob,
                copies: [None; COPIES_MAX],
                twins: [None; TWINS_MAX],
                others: Vec::new(),
            });
            let others = self.needed.len();
            self.needed.extend(needed);
            forms.push(if self.needed.len() > others { entry.trailer.form_of(row).ok() } else { None });
        }
        self.packs.push(pack);
        self.forms.push(forms);
        self.needed.len() - before
    }

    /// All packs are in.
    pub(super) fn sort(&mut self) {
        self.needed.sort_unstable_by_key(|needed| (needed.id, needed.pack, needed.blob));
    }

    /// Where a chunk is needed.
    fn of(&mut self, id: &ChunkId) -> &mut [Needed] {
        let start = self.needed.partition_point(|needed| needed.id < *id);
        let rest = self.needed.get_mut(start..).unwrap_or_default();
        let len = rest.iter().take_while(|needed| needed.id == *id).count();
        rest.get_mut(..len).unwrap_or_default()
    }

    /// What was noted out of a listing that did not hold counts no more.
    pub(super) fn forget_copies(&mut self) {
        for needed in &mut self.needed {
            needed.copies = [None; COPIES_MAX];
            needed.twins = [None; TWINS_MAX];
            needed.others.clear();
        }
    }

    /// Notes copies in a pack that a segment names. Of a pack that this prune wrote, all counts that it sealed itself, as the rows of
    /// `sealed_here` tell, and what it carried out of a pack that is looked at.
    pub(super) fn note_copies(&mut self, entry: &PackEntry, is_own: bool, sealed_here: impl Fn(u16) -> bool) {
        let Some(number) = self.copied.number(entry.id) else { return };
        let (forms, can_open) = (std::mem::take(&mut self.forms), self.can_open);
        for (blob, row) in (0..).zip(&entry.trailer.blobs) {
            let mut form = None;
            for (id, _) in entry.trailer.chunks_of(row) {
                for needed in self.of(id) {
                    let form = form.get_or_insert_with(|| entry.trailer.form_of(row).ok());
                    let is_twin = form.is_some() && Some(&*form) == needed.form(&forms);
                    if is_own && (is_twin || sealed_here(row.seal) && row.kind == needed.kind) {
                        needed.note_copy(number);
                    } else if is_twin || can_open {
                        needed.note_unread((number, blob), is_twin);
                    }
                }
            }
        }
        self.forms = forms;
    }

    /// The blobs to be read in this turn: of each chunk without a copy that counts the next one.
    pub(super) fn to_read(&self, turn: usize) -> BTreeMap<NonZeroU32, BTreeSet<u32>> {
        let mut wanted: BTreeMap<_, BTreeSet<u32>> = BTreeMap::new();
        for needed in self.needed.iter().filter(|needed| needed.is_open()) {
            if let Some((number, blob)) = needed.twins.iter().flatten().chain(&needed.others).nth(turn) {
                wanted.entry(*number).or_default().insert(*blob);
            }
        }
        wanted
    }

    /// Notes that the sealed bytes of a blob are those that its pack's own trailer, `entry`, tells: twins count then. Whether it has
    /// chunks that still lack a copy.
    pub(super) fn note_read(&mut self, (number, row): Blob, entry: &PackEntry) -> bool {
        let Some(blob) = entry.trailer.blobs.get(row as usize) else { return false };
        let form = entry.trailer.form_of(blob).ok();
        let forms = std::mem::take(&mut self.forms);
        let mut is_open = false;
        for (id, _) in entry.trailer.chunks_of(blob) {
            for needed in self.of(id) {
                let is_twin = form.is_some() && Some(&form) == needed.form(&forms);
                if is_twin && needed.twins.contains(&Some((number, row))) {
                    needed.note_copy(number);
                }
                is_open |= needed.is_open();
            }
        }
        self.forms = forms;
        is_open
    }

    /// Notes that a pack holds a chunk that is what its name says, in a blob of this kind.
    pub(super) fn note_opened(&mut self, id: &ChunkId, kind: BlobKind, number: NonZeroU32) {
        for needed in self.of(id).iter_mut().filter(|needed| needed.kind == kind) {
            if needed.others.iter().chain(needed.twins.iter().flatten()).any(|(other, _)| *other == number) {
                needed.note_copy(number);
            }
        }
    }

    /// The pack of a number.
    pub(super) fn pack(&self, number: NonZeroU32) -> Option<PackId> {
        self.copied.pack(number)
    }

    /// Blobs with chunks of which no copy counts that lies in a pack that `is_there`, for each condemned pack by its position.
    pub(super) fn without_copy(&self, is_there: impl Fn(&PackId) -> bool) -> HashMap<u32, BTreeSet<u32>> {
        let mut rows: HashMap<u32, BTreeSet<u32>> = HashMap::new();
        for needed in &self.needed {
            let mut copies = needed.copies.iter().flatten().filter_map(|number| self.copied.pack(*number));
            if !copies.any(|copy| is_there(&copy)) {
                rows.entry(needed.pack).or_default().insert(needed.blob);
            }
        }
        rows
    }
}

impl Needed {
    fn is_open(&self) -> bool {
        self.copies == [None; COPIES_MAX]
    }

    fn form<'a>(&self, forms: &'a [Vec<Option<[u8; 32]>>]) -> Option<&'a Option<[u8; 32]>> {
        forms.get(self.pack as usize)?.get(self.blob as usize)
    }

    fn note_unread(&mut self, blob: Blob, is_twin: bool) {
        if self.twins.contains(&Some(blob)) || self.others.contains(&blob) {
            return;
        }
        if is_twin && let Some(free) = self.twins.iter_mut().find(|twin| twin.is_none()) {
            *free = Some(blob);
        } else if self.others.len() < OTHERS_MAX {
            self.others.push(blob);
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

#[cfg(test)]
mod tests {
    use super::*;
    use pack::{BlobRow, PackClass, SealRow, Trailer};
    use seal::{Suite, WRAPPED_LEN, WrappedKey};
    use store::StoreTime;

    /// A pack with one chunk in one blob, sealed in the form `form`.
    fn entry(pack: u8, chunk: u8, form: u8) -> PackEntry {
        let seal = SealRow {
            seal_id: [form; 16],
            epoch: 1,
            suite: Suite::default(),
            wrapped: WrappedKey([form; WRAPPED_LEN]),
        };
        let blob = BlobRow {
            kind: BlobKind::Data,
            seal: 0,
            counter: 0,
            offset: 0,
            sealed_len: 100,
            plain_len: 50,
            first_chunk: 0,
            chunk_count: 1,
            hash: [form; 32],
        };
        let chunks = vec![(ChunkId::from_bytes([chunk; 20]), 50)];
        let trailer = Trailer { class: PackClass::Data, seals: vec![seal], blobs: vec![blob], chunks };
        PackEntry { id: PackId([pack; 32]), len: 1000, trailer }
    }

    /// A pass in which the chunk 7, in the form 1, is needed out of the pack 1.
    fn pass(can_open: bool) -> Pass {
        let (mut pass, mut live) = (Pass::new(can_open), LiveSet::new());
        live.insert(&ChunkId::from_bytes([7; 20]));
        live.settle();
        let listed = Listed { id: PackId([1; 32]), len: 1000, modified_at: StoreTime::from_nanos(0) };
        assert_eq!(pass.add(listed, &entry(1, 7, 1), &live), 1);
        pass.sort();
        pass
    }

    fn lacks_a_copy(pass: &Pass) -> bool {
        !pass.without_copy(|_| true).is_empty()
    }

    fn asked_for(pass: &Pass, turn: usize) -> Vec<PackId> {
        pass.to_read(turn).into_keys().filter_map(|number| pass.pack(number)).collect()
    }

    #[test]
    fn what_this_prune_wrote_counts_and_what_it_carried_only_as_the_same_blob() {
        for (copy, seals_anew, counts) in [
            (entry(2, 7, 1), false, true),
            (entry(2, 7, 2), true, true),
            (entry(2, 7, 2), false, false),
            (entry(2, 8, 1), true, false),
        ] {
            let mut pass = pass(true);
            pass.note_copies(&copy, true, |seal| seals_anew && seal == 0);
            assert_eq!(lacks_a_copy(&pass), !counts, "{copy:?}");
        }
    }

    #[test]
    fn claimed_copies_count_once_they_were_read_twins_first() {
        let mut pass = pass(true);
        pass.note_copies(&entry(3, 7, 2), false, |_| true);
        pass.note_copies(&entry(2, 7, 1), false, |_| true);
        assert!(lacks_a_copy(&pass), "a segment's word is not enough");
        assert_eq!(asked_for(&pass, 0), [PackId([2; 32])]);
        assert_eq!(asked_for(&pass, 1), [PackId([3; 32])]);
        let number = *pass.to_read(0).first_key_value().expect("one is asked for").0;
        assert!(pass.note_read((number, 0), &entry(2, 7, 3)), "its own trailer tells another form");
        assert!(lacks_a_copy(&pass));
        assert!(!pass.note_read((number, 0), &entry(2, 7, 1)));
        assert!(!lacks_a_copy(&pass) && asked_for(&pass, 1).is_empty());
    }

    #[test]
    fn copies_that_were_sealed_apart_are_asked_for_only_where_they_can_be_opened_and_count_as_their_kind() {
        let mut blind = pass(false);
        blind.note_copies(&entry(3, 7, 2), false, |_| true);
        assert!((0..READ_MAX).all(|turn| blind.to_read(turn).is_empty()));
        let mut pass = pass(true);
        pass.note_copies(&entry(3, 7, 2), false, |_| true);
        let number = *pass.to_read(0).first_key_value().expect("one is asked for").0;
        pass.note_opened(&ChunkId::from_bytes([7; 20]), BlobKind::Body, number);
        assert!(lacks_a_copy(&pass), "another kind is found under another key");
        pass.note_opened(&ChunkId::from_bytes([7; 20]), BlobKind::Data, number);
        assert!(!lacks_a_copy(&pass));
    }

    #[test]
    fn copy_counts_only_while_its_pack_is_there_and_nothing_after_a_listing_that_did_not_hold() {
        let mut pass = pass(true);
        pass.note_copies(&entry(2, 7, 1), true, |_| false);
        assert!(!lacks_a_copy(&pass));
        assert!(!pass.without_copy(|pack| *pack != PackId([2; 32])).is_empty());
        pass.forget_copies();
        assert!(lacks_a_copy(&pass));
    }
}
