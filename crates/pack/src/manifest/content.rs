//! An entry's content: its chunks, inline while they are few, in pages of their own when they are many.
//!
//! Invariant: the leaves, in order, are the content; holes count with their length.
//! Never here: entries.

use seal::{ChunkId, ChunkNamer};

use super::MetaChunk;
use super::structure::{Child, ChildKind, PageKind, Structure, content_len};
use crate::{BlobKind, PackError};

/// Up to this many children stand in the entries page itself.
pub const CONTENT_INLINE_MAX: usize = 32;

/// A content-defined page ends after a child whose id has this many leading zero bits; about 512 children.
const CUT_BITS: u32 = 9;
const PAGE_CHILDREN_MAX: usize = 2048;
/// Children of a page over an in-place page-structured file: 8 MiB at pages of 8 KiB.
const SPAN_CHILDREN: usize = 1024;

/// Where content pages end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Spans {
    /// After certain ids: what is inserted moves no other cut.
    Content,
    /// After a fixed number of chunks: what is overwritten in place changes one page.
    Fixed,
}

/// A finished content.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Content {
    /// What goes into the entries page.
    pub children: Vec<Child>,
    /// Pages to store.
    pub pages: Vec<MetaChunk>,
}

/// Collects one entry's children.
#[derive(Debug)]
pub struct ContentBuilder {
    spans: Spans,
    levels: Vec<Vec<Child>>,
    pages: Vec<MetaChunk>,
}

impl ContentBuilder {
    /// An empty content.
    #[must_use]
    pub const fn new(spans: Spans) -> Self {
        Self { spans, levels: Vec::new(), pages: Vec::new() }
    }

    /// Appends a chunk or a hole.
    ///
    /// # Errors
    ///
    /// Only if a page is too long, which its bounds exclude.
    pub fn push(&mut self, child: Child, namer: &ChunkNamer) -> Result<(), PackError> {
        self.push_at(0, child, namer)
    }

    /// Pages that are complete already; take them now and then, so that memory stays bounded.
    pub fn take_pages(&mut self) -> Vec<MetaChunk> {
        std::mem::take(&mut self.pages)
    }

    fn push_at(&mut self, level: usize, child: Child, namer: &ChunkNamer) -> Result<(), PackError> {
        if self.levels.len() <= level {
            self.levels.push(Vec::new());
        }
        let spans = if level == 0 { self.spans } else { Spans::Content };
        let Some(children) = self.levels.get_mut(level) else { return Ok(()) };
        children.push(child);
        if !is_full(children.len(), child, spans) {
            return Ok(());
        }
        let children = std::mem::take(children);
        let page = self.page(children, namer)?;
        self.push_at(level + 1, page, namer)
    }

    fn page(&mut self, children: Vec<Child>, namer: &ChunkNamer) -> Result<Child, PackError> {
        let len = content_len(&children);
        let bytes = Structure { kind: PageKind::Content, children }.encode()?;
        let id = namer.name_page(&bytes);
        self.pages.push(MetaChunk { id, kind: BlobKind::Structure, bytes });
        Ok(Child::page(id, len))
    }

    /// Ends the content. Fold levels upward until few enough children are left to stand inline.
    ///
    /// # Errors
    ///
    /// Only if a page is too long, which its bounds exclude.
    pub fn finish(mut self, namer: &ChunkNamer) -> Result<Content, PackError> {
        let mut level = 0;
        loop {
            let is_top = level + 1 >= self.levels.len();
            let children = self.levels.get_mut(level).map(std::mem::take).unwrap_or_default();
            if is_top && children.len() <= CONTENT_INLINE_MAX {
                return Ok(Content { children, pages: self.pages });
            }
            if !children.is_empty() {
                let page = self.page(children, namer)?;
                self.push_at(level + 1, page, namer)?;
            }
            level += 1;
        }
    }
}

fn is_full(count: usize, last: Child, spans: Spans) -> bool {
    match spans {
        Spans::Fixed => count >= SPAN_CHILDREN,
        Spans::Content => count >= PAGE_CHILDREN_MAX || (count > CONTENT_INLINE_MAX && ends_page(last.id, last.kind)),
    }
}

fn ends_page(id: ChunkId, kind: ChildKind) -> bool {
    let first = id.as_bytes().first_chunk::<4>().map_or(0, |bytes| u32::from_be_bytes(*bytes));
    kind != ChildKind::Hole && first.leading_zeros() >= CUT_BITS
}
