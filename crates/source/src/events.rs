//! What a database hands over: entries and their bytes, one after the other.
//!
//! ```text
//! Begin(entry) Data* End   Begin(entry) Data* End   …   Fact*   end of the stream
//!              └ a directory or a link has no Data
//! Begin(entry with a base) Block* End      only what changed since the snapshot that the base names
//! ```
//!
//! Sources that are not folders (database servers, Kubernetes) are a stream of these events, so that whoever stores
//! them needs to know nothing about any of them.
//!
//! Invariant: the stream ends without an error only if the producer said that it was done and every end mark that the
//! format has (exit status, checksum, trailer, manifest) was there and right. Whoever sees an error stores nothing.
//! Invariant: memory held by a source does not grow with the bytes that it hands over.
//! Never here: how content is cut and where it goes.

use bytes::Bytes;
use futures::stream::BoxStream;

use crate::SourceError;
use crate::entry::Entry;

/// A source being read. Dropping it stops the producer.
pub type Events = BoxStream<'static, Result<Event, SourceError>>;

/// The next thing that a source has to say.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// An entry begins. In no order; no path comes twice.
    Begin(SourceEntry),
    /// The next bytes of the file that began last; never empty.
    Data(Bytes),
    /// A block of the file that began last, which has a [`Base`]. Blocks come in rising order, each at most once.
    Block {
        /// Counted from 0 in units of the layout's page length.
        number: u64,
        /// One page; the file's last may be shorter.
        data: Bytes,
    },
    /// The entry that began last is whole.
    End,
    /// What the source says of the moment that it was read at: a position, a revision, a version.
    Fact {
        /// In snake case, such as `stop_lsn`.
        name: String,
        /// For people and programs.
        value: String,
    },
    /// Something that people should know, though the backup is whole.
    Warning(String),
}

/// An entry, and how its bytes come.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SourceEntry {
    /// Where it is and what it is. A file whose length is not known yet says 0.
    pub entry: Entry,
    /// How its content is laid out.
    pub layout: Layout,
    /// Where the blocks that do not come are to be taken from.
    pub base: Option<Base>,
}

/// How content is laid out, as far as the source knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Layout {
    /// Told by the first bytes.
    #[default]
    Unknown,
    /// Pages of this many bytes, overwritten in place: cut on them.
    Pages(u32),
    /// Records that move: cut by content, finely.
    Records,
}

/// The same entry in an earlier snapshot, of which this one differs by the blocks that come.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Base {
    /// Blocks of the earlier file that are still there; those from here on, and those that it never had, are zero
    /// unless they come.
    pub block_count: u64,
    /// Length of the whole file now, in bytes.
    pub len: u64,
}
