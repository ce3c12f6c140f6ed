//! The setups that are searched.
//!
//! Two chunks, c1 and c2, are enough for what one pack may hold of several chunks, for a page and what is below it, and for
//! one that is live beside one that is not.
//!
//! Invariant: each has both collectors, unless its name says otherwise.
//! Never here: which of them a test or `make model` runs.

use crate::request::Kind;
use crate::setup::{FirstMark, Initial, Setup, Want};

const C1: u8 = 1;
const C2: u8 = 2;
const BOTH: u8 = 3;

const FIRST: u8 = 1;
const OF_WRITER_0: u8 = 2;
const ANY: u8 = 7;

const ONE: [Want; 2] = [Want::of(C1), Want::of(0)];
const TWO: [Want; 2] = [Want::of(C1), Want::of(C1)];

/// One writer finds c1 stored, and the only snapshot that has it may be forgotten.
pub const REUSE: Setup = Setup {
    name: "one writer reuses a chunk of a snapshot that is forgotten",
    initial: Initial { packs: [C1, 0], snapshot: C1 },
    wants: ONE,
    passes: [1, 1],
    forgets: FIRST,
    ..Setup::NONE
};

/// The same with three passes, and with whatever may be forgotten.
pub const REUSE_LONGER: Setup = Setup {
    name: "the same, with three passes, and all may be forgotten",
    passes: [2, 1],
    forgets: ANY,
    cleaners: 1,
    ..REUSE
};

/// Two writers find c1 stored.
pub const REUSE_TWICE: Setup =
    Setup { name: "two writers reuse a chunk of a snapshot that is forgotten", wants: TWO, ..REUSE };

/// One writer stores what is new, and is forgotten.
pub const NEW: Setup = Setup {
    name: "one writer stores a new chunk and is forgotten; four passes",
    wants: [Want::of(C2), Want::of(0)],
    passes: [2, 2],
    forgets: OF_WRITER_0,
    cleaners: 1,
    ..Setup::NONE
};

/// Two writers store the same new chunk.
pub const NEW_TWICE: Setup = Setup {
    name: "two writers store the same new chunk",
    wants: [Want::of(C2), Want::of(C2)],
    passes: [1, 1],
    ..Setup::NONE
};

/// The same, and the first is forgotten.
pub const NEW_TWICE_FORGOTTEN: Setup = Setup {
    name: "two writers store the same new chunk, and one is forgotten",
    forgets: OF_WRITER_0,
    cleaners: 1,
    ..NEW_TWICE
};

/// Two copies of c1, of which the collectors may condemn either.
pub const COPIES: Setup = Setup {
    name: "two copies of a live chunk, a writer that reuses it, three passes",
    initial: Initial { packs: [C1, C1], snapshot: C1 },
    wants: ONE,
    passes: [2, 1],
    first_mark: FirstMark::KeepsEither,
    ..Setup::NONE
};

/// The same, and the snapshot may be forgotten.
pub const COPIES_FORGOTTEN: Setup = Setup { name: "the same, forgotten", passes: [1, 1], forgets: FIRST, ..COPIES };

/// The same with two writers.
pub const COPIES_TWICE: Setup = Setup { name: "the same, with two writers", wants: TWO, ..COPIES_FORGOTTEN };

/// A pack with a live chunk and another, which is repacked while a writer wants the other.
pub const SPARSE: Setup = Setup {
    name: "a pack with a live chunk is repacked, and a writer wants the other",
    initial: Initial { packs: [BOTH, 0], snapshot: C1 },
    wants: [Want::of(C2), Want::of(0)],
    passes: [1, 1],
    forgets: FIRST,
    repacks: true,
    ..Setup::NONE
};

/// The same with two writers.
pub const SPARSE_TWICE: Setup = Setup {
    name: "the same, with a second writer that wants the live one",
    wants: [Want::of(C2), Want::of(C1)],
    ..SPARSE
};

/// One writer wants more than the other.
pub const MIXED: Setup = Setup {
    name: "one writer wants a stored and a new chunk, the other the stored one",
    wants: [Want::of(BOTH), Want::of(C1)],
    ..REUSE
};

/// A parent whose page and content are in different packs, of which any may be condemned.
pub const PARENT: Setup = Setup {
    name: "a writer reuses its parent, which is forgotten; any pack may be condemned",
    initial: Initial { packs: [C1, C2], snapshot: BOTH },
    wants: [Want { chunks: BOTH, has_parent: true, has_journal: false }, Want::of(0)],
    passes: [1, 1],
    forgets: FIRST,
    cleaners: 1,
    first_mark: FirstMark::Any,
    ..Setup::NONE
};

/// The same beside a writer that keeps the page alive.
pub const PARENT_TWICE: Setup = Setup {
    name: "the same, beside a writer that wants the page alone",
    wants: [Want { chunks: BOTH, has_parent: true, has_journal: false }, Want::of(C1)],
    ..PARENT
};

/// A writer that goes on with what another one uploaded.
pub const JOURNAL: Setup = Setup {
    name: "a writer offers the pack that another one journalled",
    wants: [Want::of(C2), Want { chunks: C2, has_parent: false, has_journal: true }],
    passes: [1, 1],
    forgets: OF_WRITER_0,
    ..Setup::NONE
};

/// Every kind of request that changes the store.
pub const EVERY_KIND: &[Kind] = &[
    Kind::Announce,
    Kind::Seen,
    Kind::Pack,
    Kind::Segment,
    Kind::Commit,
    Kind::Dead,
    Kind::List,
    Kind::Forget,
    Kind::DropSegments,
    Kind::DropPack,
    Kind::DropList,
    Kind::DropSnapshot,
    Kind::DropForgotten,
    Kind::DropRecord,
];

/// What `make model` searches, the small ones first.
pub const SEARCHES: &[(&str, Setup)] = &[
    ("reuse", REUSE),
    ("reuse, fine", REUSE.fine()),
    ("reuse, any", REUSE.marking(FirstMark::Any)),
    ("reuse, late", REUSE.late(EVERY_KIND)),
    ("copies, forgotten", COPIES_FORGOTTEN),
    ("sparse", SPARSE),
    ("reuse, two late", REUSE.late_twice(EVERY_KIND)),
    ("new twice", NEW_TWICE),
    ("parent", PARENT),
    ("new", NEW),
    ("journal", JOURNAL),
    ("copies", COPIES),
    ("reuse, longer", REUSE_LONGER),
    ("new twice, forgotten", NEW_TWICE_FORGOTTEN),
    ("reuse, longer, late", REUSE_LONGER.late(EVERY_KIND)),
    ("reuse twice", REUSE_TWICE),
    ("new twice, late", NEW_TWICE.late(EVERY_KIND)),
    ("mixed", MIXED),
    ("parent, twice", PARENT_TWICE),
    ("copies, twice", COPIES_TWICE),
    ("sparse, twice", SPARSE_TWICE),
];
