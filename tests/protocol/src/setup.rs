//! What a search begins with, who runs, and its bounds.
//!
//! Invariant: everything that bounds a search stands in one [`Setup`], or in the numbers of slots in `state`.
//! Never here: what anybody does.

use crate::request::Kind;
use crate::state::{COLLECTORS, WRITERS};

/// What a writer backs up, and how.
#[derive(Debug, Clone, Copy, Default)]
pub struct Want {
    /// The chunks of its snapshot; none: this writer does not run.
    pub chunks: u8,
    /// It has the first snapshot as its parent, reuses what that names unread, and looks only [`Want::PAGE`] up where
    /// decision 0004 says that this is enough.
    pub has_parent: bool,
    /// It also offers the pack of the other writer, out of a journal and without a segment that names it.
    pub has_journal: bool,
}

impl Want {
    /// The chunk that stands for a page of content; other chunks of a parent are below it.
    pub const PAGE: u8 = 1;

    /// A backup of `chunks` that is read whole.
    pub const fn of(chunks: u8) -> Self {
        Self { chunks, has_parent: false, has_journal: false }
    }
}

/// What is stored at the start: the chunks of two packs that one segment names, and those of a first snapshot.
#[derive(Debug, Clone, Copy, Default)]
pub struct Initial {
    /// The chunks of two packs; none: there is no such pack.
    pub packs: [u8; 2],
    /// The chunks of the first snapshot; none: there is no such.
    pub snapshot: u8,
}

/// Which packs a first mark condemns. Any result is safe, so this only chooses what is searched.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FirstMark {
    /// All but the first copy of each live chunk.
    KeepsFirst,
    /// All but the first or all but the last copy of each live chunk.
    KeepsEither,
    /// Any packs, live ones too.
    Any,
}

/// One search.
#[derive(Debug, Clone, Copy)]
pub struct Setup {
    /// What is shown of it.
    pub name: &'static str,
    /// What is stored at the start.
    pub initial: Initial,
    /// The writers.
    pub wants: [Want; WRITERS],
    /// How many passes each collector makes.
    pub passes: [u8; COLLECTORS],
    /// How many further processes delete what was forgotten, as often as there is something.
    pub cleaners: u8,
    /// Which snapshots may be forgotten, at any time: bit 0 the first one, then those of the writers.
    pub forgets: u8,
    /// What is condemned by the first mark.
    pub first_mark: FirstMark,
    /// Whether live chunks are also copied out of packs that hold others, which are then condemned.
    pub repacks: bool,
    /// Whether LIST and GET are requests of their own, and each LIST has two pages.
    pub is_fine: bool,
    /// Whether the page of odd numbers is read first.
    pub is_odd_first: bool,
    /// How many requests may stay without an answer, and then land at any later time or never.
    pub late_max: u8,
    /// Which.
    pub late: &'static [Kind],
}

impl Setup {
    /// One writer and no collector: what others are made of.
    pub const NONE: Self = Self {
        name: "",
        initial: Initial { packs: [0, 0], snapshot: 0 },
        wants: [Want::of(0), Want::of(0)],
        passes: [0, 0],
        cleaners: 0,
        forgets: 0,
        first_mark: FirstMark::KeepsFirst,
        repacks: false,
        is_fine: false,
        is_odd_first: false,
        late_max: 0,
        late: &[],
    };

    /// The same with LIST and GET as requests of their own, and LISTs of two pages.
    #[must_use]
    pub const fn fine(self) -> Self {
        Self { is_fine: true, ..self }
    }

    /// The same with one request of these kinds that lands late.
    #[must_use]
    pub const fn late(self, late: &'static [Kind]) -> Self {
        Self { late, late_max: 1, ..self }
    }

    /// The same with two of them.
    #[must_use]
    pub const fn late_twice(self, late: &'static [Kind]) -> Self {
        Self { late, late_max: 2, ..self }
    }

    /// The same under another first mark.
    #[must_use]
    pub const fn marking(self, first_mark: FirstMark) -> Self {
        Self { first_mark, ..self }
    }
}
