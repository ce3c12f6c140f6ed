//! Everything there is at one moment: the store, what every process knows, and what was promised.
//!
//! Packs, segments and lists have slots. A slot is taken again only when nothing anywhere refers to what was in it, so a
//! new name is one that nobody ever saw, as random names are.
//!
//! Invariant: a state is a value; what is equal is the same moment, however it was reached.
//! Never here: steps.

use crate::request::Request;
use crate::setup::Setup;

pub(crate) const WRITERS: usize = 2;
pub(crate) const COLLECTORS: usize = 2;
pub(crate) const CLEANERS: usize = 2;
/// The first snapshot, then one for each writer.
pub(crate) const SNAPSHOTS: usize = 3;
/// Two at the start, one for each writer, and copies.
pub(crate) const PACKS: usize = 8;
/// One at the start, one for each writer, and those of collectors.
pub(crate) const SEGMENTS: usize = 10;
pub(crate) const LISTS: usize = 4;
/// Requests without an answer at one time.
pub(crate) const LATE: usize = 2;
/// The first slots of packs and segments that collectors make.
const COLLECTED_PACK: usize = 2 + WRITERS;
const COLLECTED_SEGMENT: usize = 1 + WRITERS;

/// What is under `snapshots/<id>`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub(crate) enum Verdict {
    #[default]
    Absent,
    Commit,
    Dead,
}

/// Where a writer is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub(crate) enum WriterAt {
    #[default]
    Announce,
    ListCondemned,
    ReadCondemned,
    WriteSeen,
    LookAtJournal,
    PutJournalSegment,
    ListParent,
    ListParentAgain,
    ListSegments,
    ReadSegments,
    ListPacks,
    PutPack,
    PutSegment,
    Commit,
    ReadBack,
    Withdraw,
    WithdrawDead,
    RemoveTombstone,
    Done,
}

/// A backup.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub(crate) struct Writer {
    pub(crate) at: WriterAt,
    /// The page of the listing that is read next.
    pub(crate) page: u8,
    /// Condemned lists found, then those read.
    pub(crate) lists: u8,
    /// Packs that these name.
    pub(crate) condemned: u8,
    /// Segments found.
    pub(crate) segments: u16,
    /// Packs that these name, then those of them that are there.
    pub(crate) offered: u8,
    /// Chunks to upload, and the slot of their pack.
    pub(crate) missing: u8,
    pub(crate) pack: u8,
    /// The parent was listed and not hidden, as far as was looked.
    pub(crate) sees_parent: bool,
    /// An attempt to commit was never answered.
    pub(crate) is_unclear: bool,
}

/// Where a collector is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum CollectorAt {
    #[default]
    Idle,
    FirstMark,
    PutCopy,
    PutCopySegment,
    ListWritersEarly,
    PutList,
    ListWriters,
    Settle,
    ReadForgotten,
    ReadSnapshots,
    ReadCondemned,
    ListSegments,
    ReadSegments,
    ListPacks,
    PutMerged,
    DropSegments,
    DropPacks,
    DropList,
    DropRecords,
    /// No slot was left: it stands still, as if it had crashed.
    OutOfBounds,
}

/// A prune.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Collector {
    pub(crate) at: CollectorAt,
    pub(crate) passes: u8,
    /// The page of the listing that is read next.
    pub(crate) page: u8,
    /// The list in hand.
    pub(crate) list: u8,
    /// Its packs.
    pub(crate) condemned: u8,
    /// Writers that are not settled yet.
    pub(crate) unsettled: u8,
    /// Snapshots that are hidden.
    pub(crate) hidden: u8,
    /// Chunks that snapshots reach.
    pub(crate) live: u8,
    /// Packs in any condemned list.
    pub(crate) all_condemned: u8,
    /// Segments found.
    pub(crate) segments: u16,
    /// Packs that these name.
    pub(crate) named: u8,
    /// Packs that were listed; once it is decided what goes, named packs that were not.
    pub(crate) found: u8,
    /// Packs still to delete.
    pub(crate) going: u8,
    /// Chunks to copy, and out of which packs.
    pub(crate) copied: u8,
    pub(crate) sources: u8,
    /// The slot of the new copy.
    pub(crate) copy: u8,
    /// The copy is made by a repack, before the list is created.
    pub(crate) is_repack: bool,
}

/// Where a deletion of forgotten snapshots is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum CleanerAt {
    #[default]
    Idle,
    ReadSnapshot,
    DropSnapshot,
    DropForgotten,
}

/// That part of prune that deletes forgotten snapshots.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Cleaner {
    pub(crate) at: CleanerAt,
    pub(crate) snapshot: u8,
}

/// What really happened, whatever the store shows of it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub(crate) struct History {
    /// Snapshots that were reported as committed.
    pub(crate) reported: u8,
    /// Snapshots that somebody asked to be forgotten.
    pub(crate) forgotten: u8,
    /// Snapshots that were hidden in the store.
    pub(crate) hidden: u8,
}

/// One moment.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub(crate) struct State {
    /// Which packs there are.
    pub(crate) packs: u8,
    /// Two bits for each pack: its chunks.
    pub(crate) content: u16,
    /// The packs that each segment names; none: there is no such segment.
    pub(crate) segments: [u8; SEGMENTS],
    pub(crate) snapshots: [Verdict; SNAPSHOTS],
    /// Snapshots that `forgotten/<id>` hides.
    pub(crate) hidden: u8,
    /// Writers whose record is there.
    pub(crate) announced: u8,
    /// Lists that each writer's record says it has seen.
    pub(crate) seen: [u8; WRITERS],
    /// Which condemned lists there are, and their packs.
    pub(crate) listed: u8,
    pub(crate) lists: [u8; LISTS],
    /// Requests that were never answered.
    pub(crate) late: [Request; LATE],
    pub(crate) late_left: u8,
    pub(crate) history: History,
    pub(crate) writers: [Writer; WRITERS],
    pub(crate) collectors: [Collector; COLLECTORS],
    pub(crate) cleaners: [Cleaner; CLEANERS],
}

/// The positions of the bits that are set.
pub(crate) fn each(mask: impl Into<u16>) -> impl Iterator<Item = usize> {
    let mask = mask.into();
    (0..16).filter(move |bit| mask >> bit & 1 == 1)
}

impl State {
    pub(crate) fn of(setup: &Setup) -> Self {
        let mut state = Self { late_left: setup.late_max, ..Self::default() };
        for (pack, &chunks) in (0u8..).zip(&setup.initial.packs).filter(|(_, chunks)| **chunks != 0) {
            state.apply(Request::Pack(pack, chunks));
        }
        state.segments[0] = state.packs;
        if setup.initial.snapshot != 0 {
            state.snapshots[0] = Verdict::Commit;
        }
        for (writer, want) in state.writers.iter_mut().zip(&setup.wants).filter(|(_, want)| want.chunks == 0) {
            writer.at = if want.chunks == 0 { WriterAt::Done } else { writer.at };
        }
        for (collector, &passes) in state.collectors.iter_mut().zip(&setup.passes) {
            collector.passes = passes;
        }
        state
    }

    /// The chunks in `packs`, as far as these are there.
    pub(crate) fn chunks(&self, packs: u8) -> u8 {
        each(packs & self.packs).fold(0, |chunks, pack| chunks | (self.content >> (2 * pack) & 3) as u8)
    }

    /// The chunks that `packs` hold or held: what an index says of them.
    pub(crate) fn told_chunks(&self, packs: u8) -> u8 {
        Self { packs: u8::MAX, ..*self }.chunks(packs)
    }

    pub(crate) fn segments_here(&self) -> u16 {
        (0..SEGMENTS).filter(|&segment| self.segments[segment] != 0).fold(0, |found, segment| found | 1 << segment)
    }

    /// The packs that those of `segments` name which are there.
    pub(crate) fn named_by(&self, segments: u16) -> u8 {
        each(segments).filter(|slot| *slot < SEGMENTS).fold(0, |named, segment| named | self.segments[segment])
    }

    /// The packs that those of `lists` name which are there.
    pub(crate) fn condemned_by(&self, lists: u8) -> u8 {
        each(lists & self.listed).fold(0, |packs, list| packs | self.lists[list])
    }

    pub(crate) fn is_commit(&self, snapshot: usize) -> bool {
        self.snapshots[snapshot] == Verdict::Commit
    }

    pub(crate) fn is_hidden(&self, snapshot: usize) -> bool {
        self.hidden >> snapshot & 1 == 1
    }

    pub(crate) fn is_announced(&self, writer: usize) -> bool {
        self.announced >> writer & 1 == 1
    }

    /// A slot for a copy, to which nothing refers.
    pub(crate) fn free_pack(&self) -> Option<u8> {
        let stored = self.packs | self.named_by(self.segments_here()) | self.condemned_by(self.listed);
        let late = self.late.iter().fold(0, |used, request| match *request {
            Request::Pack(pack, _) | Request::DropPack(pack) => used | 1 << pack,
            Request::Segment(_, packs) | Request::List(_, packs) => used | packs,
            _ => used,
        });
        let writers =
            self.writers.iter().fold(0, |used, writer| used | writer.condemned | writer.offered | 1 << writer.pack);
        let collectors = self.collectors.iter().fold(0, |used, c| {
            let copy = if c.at == CollectorAt::PutCopySegment { 1 << c.copy } else { 0 };
            used | c.condemned | c.all_condemned | c.named | c.found | c.going | c.sources | copy
        });
        let used = stored | late | writers | collectors;
        (COLLECTED_PACK..PACKS).find(|pack| used >> pack & 1 == 0).and_then(|pack| u8::try_from(pack).ok())
    }

    /// A slot for a segment, to which nothing refers.
    pub(crate) fn free_segment(&self) -> Option<u8> {
        let late = self.late.iter().fold(0, |used, request| match *request {
            Request::Segment(segment, _) => used | 1 << segment,
            Request::DropSegments(segments) => used | segments,
            _ => used,
        });
        let known = self.writers.iter().map(|writer| writer.segments);
        let known = known.chain(self.collectors.iter().map(|collector| collector.segments));
        let used = known.fold(late | self.segments_here(), |used, segments| used | segments);
        (COLLECTED_SEGMENT..SEGMENTS).find(|slot| used >> slot & 1 == 0).and_then(|slot| u8::try_from(slot).ok())
    }

    /// Lists that something refers to.
    pub(crate) fn known_lists(&self) -> u8 {
        let late = self.late.iter().fold(0, |used, request| match *request {
            Request::Seen(_, lists) => used | lists,
            Request::List(list, _) | Request::DropList(list) => used | 1 << list,
            _ => used,
        });
        let records = self.seen.iter().chain(self.writers.iter().map(|writer| &writer.lists));
        let used = records.fold(late | self.listed, |used, lists| used | lists);
        let busy = self.collectors.iter().filter(|c| c.at != CollectorAt::Idle);
        busy.fold(used, |used, collector| used | 1 << collector.list)
    }
}
