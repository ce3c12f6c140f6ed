//! What is asked of the store, and what becomes of it there.
//!
//! Invariant: a create never replaces anything, and a request that is repeated changes nothing more.
//! Never here: who sends it, and when.

use crate::state::{State, Verdict, each};

/// The kinds of `Request` that can be told to land late.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs)] // they are those of the requests
pub enum Kind {
    Announce,
    Seen,
    Pack,
    Segment,
    Commit,
    Dead,
    List,
    Forget,
    DropSegments,
    DropPack,
    DropList,
    DropSnapshot,
    DropForgotten,
    DropRecord,
}

/// A request that changes the store.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Request {
    #[default]
    None,
    Announce(u8),
    Seen(u8, u8),
    Pack(u8, u8),
    Segment(u8, u8),
    Commit(u8),
    Dead(u8),
    List(u8, u8),
    Forget(u8),
    DropSegments(u16),
    DropPack(u8),
    DropList(u8),
    DropSnapshot(u8),
    DropForgotten(u8),
    DropRecord(u8),
}

impl Request {
    pub(crate) const fn kind(self) -> Option<Kind> {
        Some(match self {
            Self::None => return None,
            Self::Announce(_) => Kind::Announce,
            Self::Seen(..) => Kind::Seen,
            Self::Pack(..) => Kind::Pack,
            Self::Segment(..) => Kind::Segment,
            Self::Commit(_) => Kind::Commit,
            Self::Dead(_) => Kind::Dead,
            Self::List(..) => Kind::List,
            Self::Forget(_) => Kind::Forget,
            Self::DropSegments(_) => Kind::DropSegments,
            Self::DropPack(_) => Kind::DropPack,
            Self::DropList(_) => Kind::DropList,
            Self::DropSnapshot(_) => Kind::DropSnapshot,
            Self::DropForgotten(_) => Kind::DropForgotten,
            Self::DropRecord(_) => Kind::DropRecord,
        })
    }

    /// What is shown when it lands long after it was sent.
    pub(crate) const fn landing(self) -> &'static str {
        match self {
            Self::None => "",
            Self::Announce(_) => "an old announcement lands",
            Self::Seen(..) => "an old set of lists lands",
            Self::Pack(..) => "an old pack lands",
            Self::Segment(..) => "an old segment lands",
            Self::Commit(_) => "an old commit lands",
            Self::Dead(_) => "an old tombstone lands",
            Self::List(..) => "an old condemned list lands",
            Self::Forget(_) => "an old request to forget lands",
            Self::DropSegments(_) => "an old deletion of segments lands",
            Self::DropPack(_) => "an old deletion of a pack lands",
            Self::DropList(_) => "an old deletion of a condemned list lands",
            Self::DropSnapshot(_) => "an old deletion of a snapshot lands",
            Self::DropForgotten(_) => "an old deletion of what hides a snapshot lands",
            Self::DropRecord(_) => "an old deletion of a record lands",
        }
    }
}

impl State {
    /// What the store does when it is asked.
    pub(crate) fn apply(&mut self, request: Request) {
        match request {
            Request::None => {}
            Request::Announce(writer) => self.announced |= 1 << writer,
            Request::Seen(writer, lists) => self.seen[usize::from(writer)] |= lists,
            Request::Pack(pack, chunks) => {
                self.packs |= 1 << pack;
                self.content = self.content & !(3 << (2 * pack)) | u16::from(chunks) << (2 * pack);
            }
            Request::Segment(segment, packs) => self.segments[usize::from(segment)] = packs,
            Request::Commit(writer) => self.create_snapshot(writer + 1, Verdict::Commit),
            Request::Dead(writer) => self.create_snapshot(writer + 1, Verdict::Dead),
            Request::List(list, packs) => {
                self.listed |= 1 << list;
                self.lists[usize::from(list)] = packs;
            }
            Request::Forget(snapshot) => {
                self.hidden |= 1 << snapshot;
                self.history.hidden |= 1 << snapshot;
            }
            Request::DropSegments(segments) => each(segments).for_each(|segment| self.segments[segment] = 0),
            Request::DropPack(pack) => self.packs &= !(1 << pack),
            Request::DropList(list) => {
                self.listed &= !(1 << list);
                self.lists[usize::from(list)] = 0;
            }
            Request::DropSnapshot(snapshot) => self.snapshots[usize::from(snapshot)] = Verdict::Absent,
            Request::DropForgotten(snapshot) => self.hidden &= !(1 << snapshot),
            Request::DropRecord(writer) => {
                self.announced &= !(1 << writer);
                self.seen[usize::from(writer)] = 0;
            }
        }
    }

    fn create_snapshot(&mut self, snapshot: u8, verdict: Verdict) {
        let there = &mut self.snapshots[usize::from(snapshot)];
        if *there == Verdict::Absent {
            *there = verdict;
        }
    }
}
