//! A page's structure: what it refers to, in order.
//!
//! ```text
//! page kind u8 | child count u32 | columns: kind u8 · len u64 as eight planes · id (20 B; zeros for a hole)
//! extension len u32, extension
//! ```
//!
//! Invariant: the first child of an entries or directory page is its body, and no other child is.
//! Invariant: what a directory page lists is pages.
//! Never here: names.

use seal::{BLOB_PLAIN_LEN_MAX, CHUNK_ID_LEN, ChunkId};

use crate::PackError;
use crate::columns::{Cursor, count, put_planes};

/// What a page lists.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum PageKind {
    /// Entries, with the content of each.
    Entries = 1,
    /// Pages of entries or of pages, with the first key of each in the body.
    Directory = 2,
    /// Pieces of one entry's content.
    Content = 3,
}

/// What a child is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum ChildKind {
    /// A chunk of content.
    Chunk = 0,
    /// Zeros that are not stored.
    Hole = 1,
    /// The page's own body.
    Body = 2,
    /// A page.
    Page = 3,
}

/// One child.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Child {
    /// What it is.
    pub kind: ChildKind,
    /// Its chunk id; zeros for a hole.
    pub id: ChunkId,
    /// Bytes of content in or below it.
    pub len: u64,
}

impl Child {
    /// A hole of `len` bytes.
    #[must_use]
    pub const fn hole(len: u64) -> Self {
        Self { kind: ChildKind::Hole, id: ChunkId::from_bytes([0; CHUNK_ID_LEN]), len }
    }

    /// A chunk of content.
    #[must_use]
    pub const fn chunk(id: ChunkId, len: u64) -> Self {
        Self { kind: ChildKind::Chunk, id, len }
    }

    /// A page with `len` bytes of content below it.
    #[must_use]
    pub const fn page(id: ChunkId, len: u64) -> Self {
        Self { kind: ChildKind::Page, id, len }
    }

    /// A page's body.
    #[must_use]
    pub const fn body(id: ChunkId) -> Self {
        Self { kind: ChildKind::Body, id, len: 0 }
    }
}

/// Bytes of content in `children`: a sum that stops at 2^64 - 1, which sparse files can claim to exceed.
pub(super) fn content_len(children: &[Child]) -> u64 {
    children.iter().fold(0, |sum, child| sum.saturating_add(child.len))
}

/// A page's structure.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Structure {
    /// What the page lists.
    pub kind: PageKind,
    /// Its children.
    pub children: Vec<Child>,
}

impl Structure {
    /// The bytes that are named and stored.
    ///
    /// # Errors
    ///
    /// [`PackError::Inconsistent`] if there are more than 2^32 children.
    pub fn encode(&self) -> Result<Vec<u8>, PackError> {
        let mut out = vec![self.kind as u8];
        out.extend_from_slice(&count(self.children.len())?);
        out.extend(self.children.iter().map(|child| child.kind as u8));
        put_planes(&mut out, 8, self.children.iter().map(|child| child.len));
        out.extend(self.children.iter().flat_map(|child| *child.id.as_bytes()));
        out.extend_from_slice(&0u32.to_le_bytes());
        Ok(out)
    }

    /// Reads the bytes.
    ///
    /// # Errors
    ///
    /// [`PackError::Truncated`] or [`PackError::Inconsistent`].
    pub fn decode(bytes: &[u8]) -> Result<Self, PackError> {
        let mut cursor = Cursor::new(bytes, "a page");
        let kind = match cursor.array()? {
            [1] => PageKind::Entries,
            [2] => PageKind::Directory,
            [3] => PageKind::Content,
            _ => return Err(PackError::Inconsistent { what: "a page is of an unknown kind" }),
        };
        let child_count = cursor.u32()? as usize;
        let kinds = cursor.take(child_count)?;
        let lens = cursor.planes::<8>(child_count)?;
        let ids = cursor.items::<CHUNK_ID_LEN>(child_count)?;
        cursor.extension()?;
        cursor.end()?;
        let children = kinds.iter().zip(lens).zip(ids);
        let children = children
            .map(|((kind, len), id)| {
                let kind = match kind {
                    0 => ChildKind::Chunk,
                    1 => ChildKind::Hole,
                    2 => ChildKind::Body,
                    3 => ChildKind::Page,
                    _ => return Err(PackError::Inconsistent { what: "a child is of an unknown kind" }),
                };
                Ok(Child { kind, id: ChunkId::from_bytes(*id), len })
            })
            .collect::<Result<Vec<_>, _>>()?;
        let page = Self { kind, children };
        page.check()?;
        Ok(page)
    }

    fn check(&self) -> Result<(), PackError> {
        let wrong = |what| Err(PackError::Inconsistent { what });
        if (self.kind != PageKind::Content) != self.body().is_some() {
            return wrong("a page has no body, or a page of content has one");
        }
        if self.content().iter().any(|child| child.kind == ChildKind::Body) {
            return wrong("a page has a second body");
        }
        if self.kind == PageKind::Directory && self.content().iter().any(|child| child.kind != ChildKind::Page) {
            return wrong("a page of pages lists something else");
        }
        if self.children.iter().any(|child| child.kind == ChildKind::Chunk && child.len > BLOB_PLAIN_LEN_MAX as u64) {
            return wrong("a chunk is longer than any blob");
        }
        if self.children.iter().any(|child| child.kind == ChildKind::Body && child.len != 0) {
            return wrong("a page's body has a length");
        }
        if self.children.iter().any(|child| child.kind == ChildKind::Hole && *child != Child::hole(child.len)) {
            return wrong("a hole has an id");
        }
        Ok(())
    }

    /// The id of the page's body, where its kind has one.
    #[must_use]
    pub fn body(&self) -> Option<ChunkId> {
        self.children.first().filter(|child| child.kind == ChildKind::Body).map(|child| child.id)
    }

    /// Bytes of content below the page: at most 2^64 - 1, which sparse files can claim to exceed.
    #[must_use]
    pub fn content_len(&self) -> u64 {
        content_len(&self.children)
    }

    /// The children after the body.
    #[must_use]
    pub fn content(&self) -> &[Child] {
        match self.children.split_first() {
            Some((first, rest)) if first.kind == ChildKind::Body => rest,
            _ => &self.children,
        }
    }
}
