//! A component's entries in any order: by path, folder by folder, or by the page that they are in.
//!
//! ```text
//! pages in order of their keys; a folder's entries are one run of them:
//!   … | page | page | page | …          folder: ───┤ from its prefix to behind it ├───
//! ```
//!
//! Invariant: a page is believed only as far as it fits what the page above says, as in a walk.
//! Never here: content.

use std::mem::size_of;
use std::slice::SliceIndex;
use std::sync::Arc;

use futures::future::join_all;
use pack::manifest::{Child, ChildKind, Entry, sort_key};
use seal::ChunkId;

use super::View;
use super::content::FileView;
use crate::entries::{FullEntry, Page, Pending, load};
use crate::{EngineError, Kind};

/// Pages of a folder that are read while one of them is looked at.
const PAGES_AHEAD: usize = 4;

/// A page as it is kept.
pub(super) struct Loaded {
    page: Page,
    /// Bytes of content below it.
    content_len: u64,
}

/// The entries of one component.
#[derive(Debug, Clone)]
pub struct TreeView {
    view: View,
    root: Option<ChunkId>,
}

/// A folder being listed, page by page.
#[derive(Debug, Clone)]
pub struct Folder {
    tree: TreeView,
    /// What the keys of its entries begin with.
    prefix: Vec<u8>,
    /// Its pages in order; those that list pages are replaced by them once they are reached.
    pages: Vec<Pending>,
    /// How many of the first of them are known to list entries, or to be lost: positions count these alone.
    known: usize,
}

/// A page of entries, all or some of which are of a folder.
#[derive(Clone)]
pub struct EntriesPage {
    view: View,
    id: ChunkId,
    loaded: Arc<Loaded>,
}

/// An entry, in its page.
#[derive(Clone)]
pub struct Found {
    page: EntriesPage,
    index: usize,
}

impl View {
    async fn page(&self, id: ChunkId) -> Result<Arc<Loaded>, EngineError> {
        let read = || async {
            let (page, content_len) = self.attempt(|fetcher| async move { load(&fetcher, id).await }).await?;
            let len = len_of(&page);
            Ok::<_, EngineError>((Arc::new(Loaded { page, content_len }), len))
        };
        self.0.pages.get_or(&id, read()).await
    }

    /// The page that is wanted, if it fits.
    async fn page_of(&self, wanted: &Pending) -> Result<Arc<Loaded>, EngineError> {
        let loaded = self.page(wanted.id).await?;
        let object = EngineError::object(format!("page {}", wanted.id));
        wanted.expects(&loaded.page, loaded.content_len).map_err(object)?;
        Ok(loaded)
    }

    /// The entry at a place that [`Found::place`] gave; none if nothing is there.
    ///
    /// # Errors
    ///
    /// Those of reading.
    pub async fn entry_at(&self, place: (ChunkId, usize)) -> Result<Option<Found>, EngineError> {
        let (id, index) = place;
        let page = EntriesPage { view: self.clone(), id, loaded: self.page(id).await? };
        Ok(page.entry(index))
    }
}

impl TreeView {
    pub(super) const fn new(view: View, root: Option<ChunkId>) -> Self {
        Self { view, root }
    }

    /// The entry at a path; none if there is none.
    ///
    /// # Errors
    ///
    /// Those of reading: of kind [`Kind::Damaged`] if the page that it would be in is lost.
    pub async fn find(&self, path: &[u8]) -> Result<Option<Found>, EngineError> {
        let key = sort_key(path);
        let mut wanted = self.root.map(Pending::root);
        while let Some(pending) = wanted.take() {
            let loaded = self.view.page_of(&pending).await?;
            match &loaded.page {
                Page::Directory(children) => {
                    let behind = children.partition_point(|(first, _)| *first <= key);
                    wanted = behind.checked_sub(1).and_then(|at| pending.all_below(children).into_iter().nth(at));
                }
                Page::Entries(entries) => {
                    let at = entries.partition_point(|full| full.entry.sort_key() < key);
                    let page = EntriesPage { view: self.view.clone(), id: pending.id, loaded };
                    return Ok(page.entry(at).filter(|found| found.entry().path == path));
                }
            }
        }
        Ok(None)
    }

    /// The folder at a path, to be listed; empty for the first level. Reads nothing, so it may not be there.
    #[must_use]
    pub fn folder(&self, path: &[u8]) -> Folder {
        let pages = self.root.map(Pending::root).into_iter().collect();
        Folder { tree: self.clone(), prefix: folder_prefix(path), pages, known: 0 }
    }
}

impl Folder {
    /// The page at a position from 0, with the range of its entries that are of this folder; none behind the last. The pages
    /// that follow are read meanwhile. A page may have no entry of the folder. A position means the same in every listing of the
    /// folder, so pages before it that were not reached are read first.
    ///
    /// # Errors
    ///
    /// Those of reading: of kind [`Kind::Damaged`] if this page is lost; the next one can be asked for.
    pub async fn page(
        &mut self,
        position: usize,
    ) -> Result<Option<(EntriesPage, std::ops::Range<usize>)>, EngineError> {
        while self.known < position && self.known < self.pages.len() {
            match self.reach(self.known).await {
                Err(error) if error.kind() != Kind::Damaged => return Err(error),
                _ => {}
            }
        }
        self.reach(position).await
    }

    async fn reach(&mut self, position: usize) -> Result<Option<(EntriesPage, std::ops::Range<usize>)>, EngineError> {
        let view = self.tree.view.clone();
        while let Some(pending) = self.pages.get(position).cloned() {
            let ahead = self.pages.iter().skip(position + 1).take(PAGES_AHEAD).map(|next| view.page(next.id));
            let (loaded, _) = futures::future::join(view.page_of(&pending), join_all(ahead)).await;
            let loaded = match loaded {
                Ok(loaded) => loaded,
                Err(error) => {
                    if error.kind() == Kind::Damaged {
                        self.known = self.known.max(position + 1);
                    }
                    return Err(error);
                }
            };
            match &loaded.page {
                Page::Directory(children) => {
                    let below = pending.all_below(children).into_iter().filter(|page| overlaps(page, &self.prefix));
                    drop(self.pages.splice(position..=position, below));
                }
                Page::Entries(entries) => {
                    let start = entries.partition_point(|full| full.entry.sort_key() < self.prefix);
                    let own = entries.get(start..).unwrap_or_default();
                    let count = own.partition_point(|full| full.entry.sort_key().starts_with(&self.prefix));
                    let page = EntriesPage { view, id: pending.id, loaded };
                    self.known = self.known.max(position + 1);
                    return Ok(Some((page, start..start + count)));
                }
            }
        }
        Ok(None)
    }

    /// Every entry of the folder, in order; of pages that are lost only the error.
    ///
    /// # Errors
    ///
    /// Those of reading that say nothing of the pages.
    pub async fn entries(&mut self) -> Result<Vec<Result<Found, EngineError>>, EngineError> {
        let mut all = Vec::new();
        for position in 0.. {
            match self.page(position).await {
                Ok(Some((page, own))) => all.extend(own.filter_map(|index| page.entry(index)).map(Ok)),
                Ok(None) => break,
                Err(error) if error.kind() == Kind::Damaged => all.push(Err(error)),
                Err(error) => return Err(error),
            }
        }
        Ok(all)
    }
}

impl EntriesPage {
    /// The entry at an index from 0.
    #[must_use]
    pub fn entry(&self, index: usize) -> Option<Found> {
        let is_there = matches!(&self.loaded.page, Page::Entries(entries) if index < entries.len());
        is_there.then(|| Found { page: self.clone(), index })
    }

    /// What stands in the page of the contents of some of its entries, in order.
    fn children(&self, some: impl SliceIndex<[FullEntry], Output = [FullEntry]>) -> impl Iterator<Item = &Child> {
        let entries = match &self.loaded.page {
            Page::Entries(entries) => entries.as_slice(),
            Page::Directory(_) => &[],
        };
        entries.get(some).unwrap_or_default().iter().flat_map(|full| &full.children)
    }
}

impl Found {
    fn full(&self) -> &FullEntry {
        let Page::Entries(entries) = &self.page.loaded.page else {
            unreachable!("`Found` is made of such pages alone")
        };
        entries.get(self.index).expect("an index is checked before `Found` is made")
    }

    /// Its names and metadata.
    #[must_use]
    pub fn entry(&self) -> &Entry {
        &self.full().entry
    }

    /// Its last name.
    #[must_use]
    pub fn name(&self) -> &[u8] {
        self.entry().path.rsplit(|byte| *byte == b'/').next().unwrap_or_default()
    }

    /// Bytes that are known to be in holes, without reading anything.
    #[must_use]
    pub fn holes_len(&self) -> u64 {
        let holes = self.children().iter().filter(|child| child.kind == ChildKind::Hole);
        holes.fold(0, |sum, hole| sum.saturating_add(hole.len))
    }

    /// Where it is: for [`View::entry_at`].
    #[must_use]
    pub const fn place(&self) -> (ChunkId, usize) {
        (self.page.id, self.index)
    }

    /// What tells its content from any other, without reading it: the same wherever a snapshot has this content.
    #[must_use]
    pub fn content_tag(&self) -> [u8; 16] {
        let mut hasher = blake3::Hasher::new();
        for child in self.children() {
            hasher.update(&[child.kind as u8]).update(child.id.as_bytes()).update(&child.len.to_le_bytes());
        }
        hasher.finalize().as_bytes().first_chunk().copied().unwrap_or_default()
    }

    /// What stands in its page of its content.
    pub(super) fn children(&self) -> &[Child] {
        &self.full().children
    }

    /// The contents of all that its page lists, one behind the other, as if they were one file; none if they are too long.
    #[must_use]
    pub fn page_content(&self) -> Option<FileView> {
        FileView::of(self.page.view.clone(), self.page.children(..).copied().collect())
    }

    /// Where its content begins in that of its page, in bytes.
    #[must_use]
    pub fn start_in_page(&self) -> u64 {
        self.page.children(..self.index).fold(0, |sum, child| sum.saturating_add(child.len))
    }

    /// Its content, to be read. Anything but a file has none.
    ///
    /// # Errors
    ///
    /// Of kind [`Kind::Damaged`] if what the page says of it contradicts itself.
    pub fn file(&self) -> Result<FileView, EngineError> {
        FileView::open(self.page.view.clone(), self)
    }
}

impl std::fmt::Debug for EntriesPage {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "EntriesPage({})", self.id)
    }
}

impl std::fmt::Debug for Found {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Found({})", source::entry::escaped(&self.entry().path))
    }
}

/// What the keys of a folder's entries begin with: each part of its path and a zero, and one more zero.
fn folder_prefix(path: &[u8]) -> Vec<u8> {
    let mut prefix: Vec<u8> = path.iter().map(|byte| if *byte == b'/' { 0 } else { *byte }).collect();
    if !path.is_empty() {
        prefix.push(0);
    }
    prefix.push(0);
    prefix
}

/// Whether a page can hold a key that begins with `prefix`.
fn overlaps(page: &Pending, prefix: &[u8]) -> bool {
    let begins = page.first.as_deref().is_none_or(|first| first <= prefix || first.starts_with(prefix));
    begins && page.end.as_deref().is_none_or(|end| prefix < end)
}

/// About what a page takes in memory, in bytes.
fn len_of(page: &Page) -> usize {
    let of_entry = |full: &FullEntry| {
        let xattrs = full.entry.xattrs.iter().map(|(name, value)| name.len() + value.len() + 2 * size_of::<Vec<u8>>());
        size_of::<FullEntry>()
            + full.entry.path.len()
            + xattrs.sum::<usize>()
            + full.children.len() * size_of::<Child>()
    };
    match page {
        Page::Entries(entries) => entries.iter().map(of_entry).sum(),
        Page::Directory(children) => {
            children.iter().map(|(first, _)| first.len() + size_of::<(Vec<u8>, Child)>()).sum()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_of_a_folders_entries_begin_with_its_prefix_and_no_others_do() {
        for (folder, inside, outside) in [
            (&b""[..], &[&b"a"[..], b"zz"][..], &[&b"a/b"[..]][..]),
            (b"a", &[b"a/b", b"a/zz"], &[b"a", b"ab", b"a/b/c", b"b/a"]),
            (b"a/b", &[b"a/b/c"], &[b"a/b", b"a/bc", b"a/b/c/d", b"b/a/b"]),
        ] {
            let prefix = folder_prefix(folder);
            assert!(inside.iter().all(|path| sort_key(path).starts_with(&prefix)), "{folder:?}");
            assert!(!outside.iter().any(|path| sort_key(path).starts_with(&prefix)), "{folder:?}");
        }
    }

    #[test]
    fn page_overlaps_a_folder_if_its_keys_can_lie_in_it() {
        let page = |first: &[u8], end: Option<&[u8]>| {
            let mut page = Pending::root(ChunkId::from_bytes([0; 20]));
            page.first = Some(sort_key(first));
            page.end = end.map(sort_key);
            page
        };
        let prefix = folder_prefix(b"a/b");
        assert!(overlaps(&page(b"a/a", None), &prefix));
        assert!(overlaps(&page(b"a/b/c", Some(b"a/b/d")), &prefix));
        assert!(overlaps(&page(b"a", Some(b"a/b/d")), &prefix));
        assert!(!overlaps(&page(b"a", Some(b"a/b")), &prefix), "it ends before");
        assert!(!overlaps(&page(b"b/a", None), &prefix), "it begins behind");
    }
}
