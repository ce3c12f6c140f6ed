//! Building a component's tree of pages, entry by entry, in order.
//!
//! Invariant: memory holds one page of each level.
//! Invariant: an entries page ends after an entry whose name says so, so that a change elsewhere moves no cut.
//! Never here: storing pages; they are handed out.

use seal::{ChunkId, ChunkNamer};

use super::MetaChunk;
use super::entry::{EntriesBody, Entry, EntryKind, KeysBody, is_relative};
use super::structure::{Child, PageKind, Structure, content_len};
use crate::{BlobKind, PackError, codec};

/// An entries page ends after an entry whose hashed key has this many leading zero bits: about 256 entries.
const CUT_BITS: u32 = 8;
const PAGE_ENTRIES_MAX: usize = 2048;
const PAGE_CHILDREN_MAX: usize = 16 << 10;
const PAGE_NAMES_LEN_MAX: usize = 512 << 10;
/// So a page, which may exceed its own limit by one entry, stays below 2 MiB and shares a blob with others.
const ENTRY_NAMES_LEN_MAX: usize = 1 << 20;
/// What an attribute takes in the body besides its name and value.
const XATTR_OVERHEAD: usize = 16;
/// A directory page ends after a child whose first key has this many leading zero bits: about 64 children.
const KEYS_CUT_BITS: u32 = 6;
const KEYS_MAX: usize = 512;

/// Collects entries into pages.
#[derive(Debug)]
pub struct TreeBuilder {
    entries: Vec<Entry>,
    children: Vec<Child>,
    names_len: usize,
    last_key: Vec<u8>,
    levels: Vec<Vec<(Vec<u8>, Child)>>,
    pages: Vec<MetaChunk>,
    entry_count: u64,
    content_len: u64,
}

/// What a finished component is.
#[derive(Default, Debug, Clone, Copy, PartialEq, Eq)]
pub struct TreeRoot {
    /// The root page's structure; none if there were no entries.
    pub root: Option<ChunkId>,
    /// Entries.
    pub entry_count: u64,
    /// Bytes of content.
    pub content_len: u64,
}

impl Default for TreeBuilder {
    fn default() -> Self {
        Self::new()
    }
}

impl TreeBuilder {
    /// An empty tree.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            entries: Vec::new(),
            children: Vec::new(),
            names_len: 0,
            last_key: Vec::new(),
            levels: Vec::new(),
            pages: Vec::new(),
            entry_count: 0,
            content_len: 0,
        }
    }

    /// Appends an entry, which must sort after the one before, with its content's children.
    ///
    /// # Errors
    ///
    /// [`PackError::Inconsistent`] if entries come out of order or a path is not relative, which is a bug in the
    /// caller, or if the entry's names and attributes are longer than 1 MiB. The tree is as before, and goes on.
    pub fn push(&mut self, mut entry: Entry, children: &[Child], namer: &ChunkNamer) -> Result<(), PackError> {
        let key = entry.sort_key();
        if self.last_key >= key || !is_relative(&entry.path) {
            return Err(PackError::Inconsistent { what: "entries are out of order, or a path is not relative" });
        }
        let names_len = names_len(&entry);
        if names_len > ENTRY_NAMES_LEN_MAX {
            return Err(PackError::Inconsistent { what: "an entry's names and attributes are too long to store" });
        }
        entry.child_count = children.len() as u32;
        self.entry_count += 1;
        self.content_len = self.content_len.saturating_add(content_len(children));
        self.names_len += names_len;
        self.children.extend_from_slice(children);
        self.entries.push(entry);
        let is_full = self.entries.len() >= PAGE_ENTRIES_MAX
            || self.children.len() >= PAGE_CHILDREN_MAX
            || self.names_len >= PAGE_NAMES_LEN_MAX
            || ends_page(namer, &key, CUT_BITS);
        self.last_key = key;
        if is_full { self.end_entries(namer) } else { Ok(()) }
    }

    /// Pages that are complete already; take them now and then, so that memory stays bounded.
    pub fn take_pages(&mut self) -> Vec<MetaChunk> {
        std::mem::take(&mut self.pages)
    }

    fn end_entries(&mut self, namer: &ChunkNamer) -> Result<(), PackError> {
        let body = EntriesBody { entries: std::mem::take(&mut self.entries) };
        let Some(first) = body.entries.first().map(Entry::sort_key) else { return Ok(()) };
        let content = std::mem::take(&mut self.children);
        self.names_len = 0;
        let page = self.page(PageKind::Entries, body.encode()?, content, namer)?;
        self.push_at(0, first, page, namer)
    }

    fn push_at(&mut self, level: usize, first: Vec<u8>, page: Child, namer: &ChunkNamer) -> Result<(), PackError> {
        if self.levels.len() <= level {
            self.levels.push(Vec::new());
        }
        let Some(children) = self.levels.get_mut(level) else { return Ok(()) };
        let keys_len = first.len() + children.iter().map(|(key, _)| key.len()).sum::<usize>();
        let is_full = children.len() + 1 >= KEYS_MAX
            || (!children.is_empty() && (keys_len >= PAGE_NAMES_LEN_MAX || ends_page(namer, &first, KEYS_CUT_BITS)));
        children.push((first, page));
        if !is_full {
            return Ok(());
        }
        let children = std::mem::take(children);
        self.fold(level, children, namer)
    }

    /// Makes a directory page of `children` and hands it to the level above.
    fn fold(&mut self, level: usize, children: Vec<(Vec<u8>, Child)>, namer: &ChunkNamer) -> Result<(), PackError> {
        let (first_keys, pages): (Vec<_>, Vec<_>) = children.into_iter().unzip();
        let Some(first) = first_keys.first().cloned() else { return Ok(()) };
        let body = codec::encode(&KeysBody { first_keys, extension: Vec::new() })?;
        let page = self.page(PageKind::Directory, body, pages, namer)?;
        self.push_at(level + 1, first, page, namer)
    }

    fn page(
        &mut self,
        kind: PageKind,
        body: Vec<u8>,
        content: Vec<Child>,
        namer: &ChunkNamer,
    ) -> Result<Child, PackError> {
        let len = content_len(&content);
        let body_id = namer.name_page(&body);
        let children = [Child::body(body_id)].into_iter().chain(content).collect();
        let bytes = Structure { kind, children }.encode()?;
        let id = namer.name_page(&bytes);
        self.pages.push(MetaChunk { id: body_id, kind: BlobKind::Body, bytes: body });
        self.pages.push(MetaChunk { id, kind: BlobKind::Structure, bytes });
        Ok(Child::page(id, len))
    }

    /// Ends the tree; the last pages come with it.
    ///
    /// # Errors
    ///
    /// Only if a page is too long, which its bounds exclude.
    pub fn finish(mut self, namer: &ChunkNamer) -> Result<(TreeRoot, Vec<MetaChunk>), PackError> {
        self.end_entries(namer)?;
        let mut level = 0;
        while level < self.levels.len() {
            let is_top = level + 1 == self.levels.len();
            let children = self.levels.get_mut(level).map(std::mem::take).unwrap_or_default();
            if is_top && children.len() == 1 {
                let root = children.first().map(|(_, page)| page.id);
                return Ok((self.root(root), self.pages));
            }
            self.fold(level, children, namer)?;
            level += 1;
        }
        Ok((self.root(None), self.pages))
    }

    const fn root(&self, root: Option<ChunkId>) -> TreeRoot {
        TreeRoot { root, entry_count: self.entry_count, content_len: self.content_len }
    }
}

/// What counts towards the length of a page's body.
fn names_len(entry: &Entry) -> usize {
    let target = if let EntryKind::Symlink { target } = &entry.kind { target.len() } else { 0 };
    let xattrs = entry.xattrs.iter().map(|(name, value)| name.len() + value.len() + XATTR_OVERHEAD);
    entry.path.len() + target + xattrs.sum::<usize>()
}

fn ends_page(namer: &ChunkNamer, key: &[u8], bits: u32) -> bool {
    namer.cut_number(key).leading_zeros() >= bits
}
