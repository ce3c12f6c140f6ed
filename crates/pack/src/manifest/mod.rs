//! The manifest: ordered entries and chunk ids which rebuild one component, in content-addressed pages.
//!
//! ```text
//! snapshot ─► directory page ─► entries page ─► chunks of small files
//!                                   │  └──────► content page ─► chunks of a large one
//!                                   └─► body: names, metadata
//! ```
//!
//! Every page is a chunk of structure (child ids and lengths, under the index key), and pages with names have a second
//! chunk, the body (to the epoch), which is the structure's first child. Mark follows structure alone.
//!
//! Invariant: where pages are cut depends on names (entries) or on ids and positions (content), never on what came
//! before, so an unchanged part of a tree gives the same pages.
//! Never here: whether a page is stored already.

mod content;
mod entry;
mod structure;
mod tree;

pub use content::{CONTENT_INLINE_MAX, Content, ContentBuilder, Spans};
pub use entry::{EntriesBody, Entry, EntryKind, KeysBody, Time, sort_key};
pub use structure::{Child, ChildKind, PageKind, Structure};
pub use tree::{TreeBuilder, TreeRoot};

use seal::ChunkId;

use crate::BlobKind;

/// A chunk of metadata that must be stored, if it is not there already.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MetaChunk {
    /// Its id.
    pub id: ChunkId,
    /// [`BlobKind::Body`] or [`BlobKind::Structure`].
    pub kind: BlobKind,
    /// Its plaintext.
    pub bytes: Vec<u8>,
}
