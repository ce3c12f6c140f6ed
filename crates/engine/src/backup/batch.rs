//! What travels from the readers to the packer: entries and their content, in order, about a mebibyte at a time.
//!
//! Invariant: between a `Begin` and its `End` there is content only, of that one entry.
//! Never here: ids; the namer adds them.

use bytes::Bytes;
use chunk::CutterKind;
use pack::manifest::{Child, Entry};

use crate::budget::Held;

/// One step of a component, in order.
pub(crate) enum Item {
    /// An entry whose content follows, cut by this cutter.
    Begin(Box<Entry>, CutterKind),
    /// A chunk of it.
    Chunk(Bytes),
    /// Content that the parent snapshot has; looked up like a new chunk, and an error if it is gone.
    Known(Child),
    /// Zeros that are not stored.
    Hole(u64),
    /// The content is over; whether it was read whole and unchanged.
    End {
        /// Whether it was read whole and did not change meanwhile.
        is_whole: bool,
    },
    /// An entry without content, or whose content the parent snapshot has.
    Whole(Box<Entry>, Vec<Child>),
}

/// A run of items.
pub(crate) struct Batch {
    pub(crate) items: Vec<Item>,
    /// The budget for the content in it.
    pub(crate) held: Held,
}

impl Batch {
    pub(crate) const fn new(held: Held) -> Self {
        Self { items: Vec::new(), held }
    }
}
