//! Walking a component's manifest: pages in order, entries with the children that are their content.
//!
//! Invariant: what is below a page is only believed as far as it fits what the page says: keys, order, and lengths.
//! Invariant: memory holds the pages of one path from the root, whatever the size of the tree.
//! Never here: content.

use std::ops::Range;

use futures::stream::{self, BoxStream};
use futures::{StreamExt, TryStreamExt};
use pack::manifest::{Child, ChildKind, EntriesBody, Entry, EntryKind, KeysBody, PageKind, Structure, sort_key};
use pack::{PackError, codec};
use seal::ChunkId;

use crate::fetch::Fetcher;
use crate::repository::Repository;
use crate::{EngineError, Kind, SnapshotInfo};

/// Levels of pages that a tree may have; 512 children each are more entries than there are atoms.
const LEVELS_MAX: usize = 32;

/// An entry and the component it belongs to.
#[derive(Debug, Clone)]
pub struct ListedEntry {
    /// The component's name.
    pub component: String,
    /// The entry.
    pub entry: Entry,
}

/// Entries as they are read.
pub type EntryStream = BoxStream<'static, Result<ListedEntry, EngineError>>;

/// An entry with the children of its page that are its content.
#[derive(Debug, Clone)]
pub(crate) struct FullEntry {
    pub(crate) entry: Entry,
    pub(crate) children: Vec<Child>,
}

/// Which entries are wanted: all, or one path and what is below it, or a part of that.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Scope {
    path: Vec<u8>,
    reach: Reach,
    own_key: Vec<u8>,
    below: Vec<u8>,
}

/// How far a scope reaches.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
enum Reach {
    /// The path and everything below it.
    #[default]
    All,
    /// The path alone.
    Alone,
    /// What lies directly in the folder, without the folder.
    Children,
    /// Everything below the folder, without the folder.
    Below,
}

impl Scope {
    /// Everything for an empty path.
    pub(crate) fn new(path: &[u8]) -> Self {
        Self { path: path.to_vec(), reach: Reach::All, own_key: sort_key(path), below: key_below(path) }
    }

    /// The entry at the path alone.
    pub(crate) fn alone(path: &[u8]) -> Self {
        Self { reach: Reach::Alone, ..Self::new(path) }
    }

    /// What lies directly in the folder.
    pub(crate) fn children(path: &[u8]) -> Self {
        let whole = Self::new(path);
        let below = [whole.below.as_slice(), &[0]].concat();
        Self { reach: Reach::Children, below, ..whole }
    }

    /// Everything in the folder.
    pub(crate) fn below(path: &[u8]) -> Self {
        Self { reach: Reach::Below, ..Self::new(path) }
    }

    /// The path; empty for everything.
    pub(crate) fn path(&self) -> &[u8] {
        &self.path
    }

    pub(crate) fn holds(&self, path: &[u8]) -> bool {
        let is_own = path == self.path;
        let inside = match path.strip_prefix(self.path.as_slice()) {
            Some(rest) if self.path.is_empty() => Some(rest),
            Some(rest) => rest.strip_prefix(b"/"),
            None => None,
        };
        match self.reach {
            Reach::All => is_own || inside.is_some(),
            Reach::Alone => is_own,
            Reach::Children => inside.is_some_and(|rest| !rest.contains(&b'/')),
            Reach::Below => inside.is_some(),
        }
    }

    /// Whether a page with keys from `first` up to before `next` can hold a wanted entry.
    pub(crate) fn overlaps(&self, first: &[u8], next: Option<&[u8]>) -> bool {
        let before_next = |key: &[u8]| next.is_none_or(|next| key < next);
        let own = first <= self.own_key.as_slice() && before_next(&self.own_key);
        let below = before_next(&self.below) && (first <= self.below.as_slice() || first.starts_with(&self.below));
        match self.reach {
            Reach::All => self.path.is_empty() || own || below,
            Reach::Alone => own,
            Reach::Children | Reach::Below => below,
        }
    }

    /// Whether every key from `first` up to before `next` is wanted.
    pub(crate) fn covers(&self, first: &[u8], next: Option<&[u8]>) -> bool {
        let is_folder = matches!(self.reach, Reach::Below | Reach::All);
        // Keys with the same start follow each other, and the next key that lies outside comes after all of them.
        is_folder
            && (self.below.is_empty()
                || (first.starts_with(&self.below) && next.is_some_and(|next| next.starts_with(&self.below))))
    }

    /// What orders entries below the path, whatever the path is; empty for the path itself and all that comes before.
    pub(crate) fn relative<'k>(&self, key: &'k [u8]) -> &'k [u8] {
        if self.path.is_empty() { key } else { key.strip_prefix(self.below.as_slice()).unwrap_or_default() }
    }
}

impl Repository {
    /// The entries of a snapshot at and below `path` (all, if it is empty), component by component.
    ///
    /// # Errors
    ///
    /// [`EngineError::Role`] if this key does not open names; else those of reading.
    pub async fn entries(&self, snapshot: &SnapshotInfo, path: &[u8]) -> Result<EntryStream, EngineError> {
        self.keyring.require(&[pack::Role::Owner, pack::Role::Reader], "open names and metadata")?;
        Ok(listed(&self.fetcher().await?, snapshot, &Scope::new(path)))
    }
}

/// Entries of every component.
pub(crate) fn listed(fetcher: &Fetcher, snapshot: &SnapshotInfo, scope: &Scope) -> EntryStream {
    let (fetcher, scope) = (fetcher.clone(), scope.clone());
    let components = snapshot.snapshot.structure.components.clone();
    let listed = stream::iter(components).flat_map(move |component| {
        let name = component.name;
        let entries = entries_of(fetcher.clone(), component.root, scope.clone());
        entries.map_ok(move |full| ListedEntry { component: name.clone(), entry: full.entry })
    });
    listed.boxed()
}

/// The entries of one component, in order. A page that cannot be had is an error in their midst of kind
/// [`Kind::Damaged`], after which the entries of the next page follow; any other error is the last.
pub(crate) fn entries_of(
    fetcher: Fetcher,
    root: Option<ChunkId>,
    scope: Scope,
) -> BoxStream<'static, Result<FullEntry, EngineError>> {
    let todo = root.map(Pending::root).into_iter().collect();
    let walk = Walk { fetcher, scope, todo };
    let pages = stream::try_unfold(walk, |mut walk| async move {
        let Some(pending) = walk.todo.pop() else { return Ok(None) };
        let found = match walk.read(&pending).await {
            Ok(entries) => entries.into_iter().map(Ok).collect(),
            Err(error) if error.kind() == Kind::Damaged => vec![Err(pending.lost(error))],
            Err(error) => return Err(error),
        };
        Ok(Some((stream::iter(found), walk)))
    });
    pages.try_flatten().boxed()
}

/// A walk through a component's pages.
struct Walk {
    fetcher: Fetcher,
    scope: Scope,
    /// The next page is the last of these.
    todo: Vec<Pending>,
}

/// A page to be read, and what the one above says of it.
#[derive(Debug, Clone)]
pub(crate) struct Pending {
    pub(crate) id: ChunkId,
    pub(crate) level: usize,
    /// Bytes of content below it.
    pub(crate) len: Option<u64>,
    /// Its first key.
    pub(crate) first: Option<Vec<u8>>,
    /// The first key behind it.
    pub(crate) end: Option<Vec<u8>>,
}

impl Pending {
    /// A component's root.
    pub(crate) const fn root(id: ChunkId) -> Self {
        Self { id, level: 0, len: None, first: None, end: None }
    }

    /// Reads the page and compares it with what the one above says.
    pub(crate) async fn read(&self, fetcher: &Fetcher) -> Result<Page, EngineError> {
        let (page, len) = load(fetcher, self.id).await?;
        self.expects(&page, len).map_err(EngineError::object(format!("page {}", self.id)))?;
        Ok(page)
    }

    /// The pages below it that can hold something of a scope, in order.
    pub(crate) fn below(&self, children: Vec<(Vec<u8>, Child)>, scope: &Scope) -> Vec<Self> {
        let is_wanted =
            |page: &Self| page.first.as_deref().is_some_and(|first| scope.overlaps(first, page.end.as_deref()));
        self.all_below(&children).into_iter().filter(is_wanted).collect()
    }

    pub(crate) fn lost(&self, error: EngineError) -> EngineError {
        let Some(first) = &self.first else { return error };
        let from = source::entry::escaped(&path_of(first)).to_string();
        EngineError::EntriesLost { from, source: Box::new(error) }
    }

    /// Whether a page, of this much content, is what the one above says.
    pub(crate) fn expects(&self, page: &Page, len: u64) -> Result<(), PackError> {
        match page {
            Page::Entries(entries) => {
                let key = |full: Option<&FullEntry>| full.map(|full| full.entry.sort_key());
                self.fits(key(entries.first()).as_deref(), key(entries.last()).as_deref(), len)
            }
            Page::Directory(_) if self.level >= LEVELS_MAX => {
                Err(PackError::Inconsistent { what: "the tree of pages is too deep" })
            }
            Page::Directory(children) => {
                let key = |child: Option<&(Vec<u8>, Child)>| child.map(|(first, _)| first.clone());
                self.fits(key(children.first()).as_deref(), key(children.last()).as_deref(), len)
            }
        }
    }

    /// The pages that a page lists, in order.
    pub(crate) fn all_below(&self, children: &[(Vec<u8>, Child)]) -> Vec<Self> {
        let ends = children.iter().skip(1).map(|(first, _)| Some(first.clone())).chain([self.end.clone()]);
        let below = children.iter().zip(ends).map(|((first, child), end)| Self {
            id: child.id,
            level: self.level + 1,
            len: Some(child.len),
            first: Some(first.clone()),
            end,
        });
        below.collect()
    }

    /// Whether a page of these keys and this length is what the one above says.
    fn fits(&self, first: Option<&[u8]>, last: Option<&[u8]>, len: u64) -> Result<(), PackError> {
        let wrong = |what| Err(PackError::Inconsistent { what });
        if self.len.is_some_and(|own| own != len) {
            return wrong("a page's content does not add up to what the page above says");
        }
        if self.first.as_deref().is_some_and(|own| first != Some(own)) {
            return wrong("a page begins with another key than the page above says");
        }
        if self.end.as_deref().zip(last).is_some_and(|(end, last)| last >= end) {
            return wrong("entries are out of order from page to page");
        }
        Ok(())
    }
}

impl Walk {
    /// The wanted entries of a page; the pages below are put on the list.
    async fn read(&mut self, pending: &Pending) -> Result<Vec<FullEntry>, EngineError> {
        match pending.read(&self.fetcher).await? {
            Page::Entries(entries) => {
                Ok(entries.into_iter().filter(|full| self.scope.holds(&full.entry.path)).collect())
            }
            Page::Directory(children) => {
                let wanted = pending.below(children, &self.scope);
                self.todo.extend(wanted.into_iter().rev());
                Ok(Vec::new())
            }
        }
    }
}

/// What the keys of everything in a folder begin with.
pub(crate) fn key_below(folder: &[u8]) -> Vec<u8> {
    let parts = folder.iter().map(|byte| if *byte == b'/' { 0 } else { *byte });
    if folder.is_empty() { Vec::new() } else { parts.chain([0]).collect() }
}

/// The path that a sort key stands for.
fn path_of(key: &[u8]) -> Vec<u8> {
    let name_at = key.iter().rposition(|byte| *byte == 0).unwrap_or_default();
    let (parents, name) = key.split_at_checked(name_at).unwrap_or_default();
    let parents = parents.iter().map(|byte| if *byte == 0 { b'/' } else { *byte });
    parents.chain(name.iter().skip(1).copied()).collect()
}

/// A page that was read.
pub(crate) enum Page {
    Entries(Vec<FullEntry>),
    Directory(Vec<(Vec<u8>, Child)>),
}

/// A page, and the bytes of content below it.
pub(crate) async fn load(fetcher: &Fetcher, id: ChunkId) -> Result<(Page, u64), EngineError> {
    let structure = load_structure(fetcher, id).await?;
    let body_id = structure.body().ok_or_else(|| damaged(id, "a page of entries has no body"))?;
    let body = fetcher.page(body_id).await?;
    let decode = move || Ok((decode(&structure, &body)?, structure.content_len()));
    fetcher.offload.start(move || decode().map_err(EngineError::object(format!("page {id}")))).await?
}

/// A page's structure.
pub(crate) async fn load_structure(fetcher: &Fetcher, id: ChunkId) -> Result<Structure, EngineError> {
    let bytes = fetcher.page(id).await?;
    Structure::decode(&bytes).map_err(EngineError::object(format!("page {id}")))
}

fn decode(structure: &Structure, body: &[u8]) -> Result<Page, PackError> {
    let mut children = structure.content();
    match structure.kind {
        PageKind::Directory => {
            let keys: KeysBody = codec::decode(body)?;
            if keys.first_keys.len() != children.len() {
                return Err(PackError::Inconsistent { what: "a directory page's keys do not match its children" });
            }
            if !keys.first_keys.is_sorted_by(|left, right| left < right) {
                return Err(PackError::Inconsistent { what: "a directory page's keys are out of order" });
            }
            Ok(Page::Directory(keys.first_keys.into_iter().zip(children.iter().copied()).collect()))
        }
        PageKind::Entries => {
            let mut entries = Vec::new();
            for entry in EntriesBody::decode(body)?.entries {
                let short = PackError::Inconsistent { what: "an entry has more children than its page" };
                let (own, rest) = children.split_at_checked(entry.child_count as usize).ok_or(short)?;
                entries.push(FullEntry { children: own.to_vec(), entry });
                children = rest;
            }
            Ok(Page::Entries(entries))
        }
        PageKind::Content => Err(PackError::Inconsistent { what: "content stands where entries should" }),
    }
}

fn damaged(id: ChunkId, what: &'static str) -> EngineError {
    EngineError::object(format!("page {id}"))(PackError::Inconsistent { what })
}

/// The leaves of an entry's content, in order: chunks and holes. They add up to the file's length, or the last is an error.
pub(crate) fn content_of(fetcher: Fetcher, full: FullEntry) -> BoxStream<'static, Result<Child, EngineError>> {
    let EntryKind::File { len } = full.entry.kind else { return stream::empty().boxed() };
    let start = (leaves_of(fetcher, full.children), 0_u64, full.entry.path);
    let counted = stream::try_unfold(start, move |(mut leaves, sum, path)| async move {
        let Some(leaf) = leaves.try_next().await? else {
            return if sum == len { Ok(None) } else { Err(wrong_len(&path)) };
        };
        match sum.checked_add(leaf.len) {
            Some(sum) if sum <= len => Ok(Some((leaf, (leaves, sum, path)))),
            _ => Err(wrong_len(&path)),
        }
    });
    counted.boxed()
}

/// Bytes of content in `children`.
pub(crate) fn content_len(children: &[Child]) -> u64 {
    children.iter().fold(0, |sum: u64, child| sum.saturating_add(child.len))
}

pub(crate) fn wrong_len(path: &[u8]) -> EngineError {
    let what = "its content does not add up to its length";
    EngineError::object(source::entry::escaped(path).to_string())(PackError::Inconsistent { what })
}

/// The leaves below `children`, in order: chunks and holes.
pub(crate) fn leaves_of(fetcher: Fetcher, children: Vec<Child>) -> BoxStream<'static, Result<Child, EngineError>> {
    let todo: Vec<(Child, usize)> = children.into_iter().rev().map(|child| (child, 0)).collect();
    let runs = stream::try_unfold((fetcher, todo), |(fetcher, mut todo)| async move {
        let mut run = Vec::new();
        while let Some((child, level)) = todo.pop() {
            if child.kind != ChildKind::Page {
                run.push(child);
                continue;
            }
            let page = content_page(&fetcher, child, level).await?;
            todo.extend(page.content().iter().rev().map(|child| (*child, level + 1)));
            if !run.is_empty() {
                break;
            }
        }
        if run.is_empty() && todo.is_empty() {
            return Ok::<_, EngineError>(None);
        }
        Ok(Some((stream::iter(run.into_iter().map(Ok)), (fetcher, todo))))
    });
    runs.try_flatten().boxed()
}

/// The leaves that hold bytes of `range`, each with where it begins; holes are cut to what is wanted of them. Pages beside
/// the range are not read.
pub(crate) fn leaves_within(
    fetcher: Fetcher,
    children: Vec<Child>,
    range: Range<u64>,
) -> BoxStream<'static, Result<(u64, Child), EngineError>> {
    let todo = placed(&children, 0, 0, &range);
    let leaves = stream::try_unfold((fetcher, todo), move |(fetcher, mut todo)| {
        let range = range.clone();
        async move {
            while let Some((start, child, level)) = todo.pop() {
                match child.kind {
                    ChildKind::Page => {
                        let page = content_page(&fetcher, child, level).await?;
                        todo.extend(placed(page.content(), start, level + 1, &range));
                    }
                    ChildKind::Hole => {
                        let (from, to) = (start.max(range.start), start.saturating_add(child.len).min(range.end));
                        return Ok(Some(((from, Child::hole(to - from)), (fetcher, todo))));
                    }
                    _ => return Ok(Some(((start, child), (fetcher, todo)))),
                }
            }
            Ok(None)
        }
    });
    leaves.boxed()
}

/// Those of `children`, the first of which begins at `start`, that hold bytes of `range`; the first at the end.
fn placed(children: &[Child], start: u64, level: usize, range: &Range<u64>) -> Vec<(u64, Child, usize)> {
    let mut at = start;
    let placed = children.iter().map(|child| {
        let start = at;
        at = at.saturating_add(child.len);
        (start, *child, level)
    });
    let is_wanted =
        |(start, child, _): &(u64, Child, usize)| *start < range.end && start.saturating_add(child.len) > range.start;
    let mut wanted: Vec<_> = placed.filter(is_wanted).collect();
    wanted.reverse();
    wanted
}

/// A page of content, which must hold what the page above says.
async fn content_page(fetcher: &Fetcher, child: Child, level: usize) -> Result<Structure, EngineError> {
    if level >= LEVELS_MAX {
        return Err(damaged(child.id, "the tree of content is too deep"));
    }
    let page = load_structure(fetcher, child.id).await?;
    if page.kind != PageKind::Content || page.content_len() != child.len {
        return Err(damaged(child.id, "it is no page of as much content as the page above says"));
    }
    Ok(page)
}

/// As [`leaves_of`], with the pages of content among them, each before what is below it.
pub(crate) fn pages_and_leaves(
    fetcher: Fetcher,
    children: Vec<Child>,
) -> BoxStream<'static, Result<Child, EngineError>> {
    let todo: Vec<(Child, usize)> = children.into_iter().rev().map(|child| (child, 0)).collect();
    let parts = stream::try_unfold((fetcher, todo), |(fetcher, mut todo)| async move {
        let Some((child, level)) = todo.pop() else { return Ok(None) };
        if child.kind == ChildKind::Page {
            let page = content_page(&fetcher, child, level).await?;
            todo.extend(page.content().iter().rev().map(|child| (*child, level + 1)));
        }
        Ok(Some((child, (fetcher, todo))))
    });
    parts.boxed()
}

/// The pages of entries below `root` and their bodies, as far as they can be read.
pub(crate) async fn entry_pages(fetcher: &Fetcher, root: ChunkId) -> Vec<ChunkId> {
    let (mut todo, mut found) = (vec![root], Vec::new());
    while let Some(id) = todo.pop() {
        found.push(id);
        let Ok(page) = load_structure(fetcher, id).await else { continue };
        found.extend(page.body());
        if page.kind == PageKind::Directory {
            todo.extend(page.content().iter().map(|child| child.id));
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn path_is_what_its_sort_key_was_made_of() {
        for path in [b"a".as_slice(), b"a/b", b"a b/c/d.e"] {
            assert_eq!(path_of(&sort_key(path)), path);
        }
    }

    #[test]
    fn page_that_differs_from_what_the_page_above_says_does_not_fit() {
        let key = |path: &[u8]| sort_key(path);
        let id = ChunkId::from_bytes([1; 20]);
        let pending = Pending { id, level: 1, len: Some(10), first: Some(key(b"b")), end: Some(key(b"f")) };
        let fits = |first: &[u8], last: &[u8], len| pending.fits(Some(&key(first)), Some(&key(last)), len).is_ok();
        assert!(fits(b"b", b"e", 10));
        assert!(fits(b"b", b"b", 10));
        assert!(!fits(b"b", b"e", 11), "another length");
        assert!(!fits(b"a", b"e", 10) && !fits(b"c", b"e", 10), "another first key");
        assert!(!fits(b"b", b"f", 10) && !fits(b"b", b"g", 10), "entries of the next page");
        assert!(pending.fits(None, None, 10).is_err(), "nothing in it");
    }
}
