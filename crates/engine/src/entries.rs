//! Walking a component's manifest: pages in order, entries with the children that are their content.
//!
//! Invariant: what is below a page is only believed as far as it fits what the page says: keys, order, and lengths.
//! Invariant: memory holds the pages of one path from the root, whatever the size of the tree.
//! Never here: content.

use futures::stream::{self, BoxStream};
use futures::{StreamExt, TryStreamExt};
use pack::manifest::{Child, EntriesBody, Entry, EntryKind, KeysBody, PageKind, Structure, sort_key};
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

/// Which entries are wanted: all, or one path and what is below it.
#[derive(Debug, Clone, Default)]
pub(crate) struct Scope {
    path: Vec<u8>,
    own_key: Vec<u8>,
    below: Vec<u8>,
}

impl Scope {
    /// Everything for an empty path.
    pub(crate) fn new(path: &[u8]) -> Self {
        let mut below: Vec<u8> = path.iter().map(|byte| if *byte == b'/' { 0 } else { *byte }).collect();
        below.push(0);
        Self { path: path.to_vec(), own_key: sort_key(path), below }
    }

    /// The path; empty for everything.
    pub(crate) fn path(&self) -> &[u8] {
        &self.path
    }

    pub(crate) fn holds(&self, path: &[u8]) -> bool {
        let rest = path.strip_prefix(self.path.as_slice());
        self.path.is_empty() || rest.is_some_and(|rest| rest.is_empty() || rest.starts_with(b"/"))
    }

    /// Whether a page with keys from `first` up to before `next` can hold a wanted entry.
    fn overlaps(&self, first: &[u8], next: Option<&[u8]>) -> bool {
        let before_next = |key: &[u8]| next.is_none_or(|next| key < next);
        let own = first <= self.own_key.as_slice() && before_next(&self.own_key);
        let below = before_next(&self.below) && (first <= self.below.as_slice() || first.starts_with(&self.below));
        self.path.is_empty() || own || below
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
        let fetcher = self.fetcher().await?;
        let scope = Scope::new(path);
        let components = snapshot.snapshot.structure.components.clone();
        let listed = stream::iter(components).flat_map(move |component| {
            let name = component.name;
            let entries = entries_of(fetcher.clone(), component.root, scope.clone());
            entries.map_ok(move |full| ListedEntry { component: name.clone(), entry: full.entry })
        });
        Ok(listed.boxed())
    }
}

/// The entries of one component, in order. A page that cannot be had is an error in their midst of kind
/// [`Kind::Damaged`], after which the entries of the next page follow; any other error is the last.
pub(crate) fn entries_of(
    fetcher: Fetcher,
    root: Option<ChunkId>,
    scope: Scope,
) -> BoxStream<'static, Result<FullEntry, EngineError>> {
    let todo = root.map(|id| Pending { id, level: 0, len: None, first: None, end: None }).into_iter().collect();
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
struct Pending {
    id: ChunkId,
    level: usize,
    /// Bytes of content below it.
    len: Option<u64>,
    /// Its first key.
    first: Option<Vec<u8>>,
    /// The first key behind it.
    end: Option<Vec<u8>>,
}

impl Pending {
    fn lost(&self, error: EngineError) -> EngineError {
        let Some(first) = &self.first else { return error };
        let from = source::entry::escaped(&path_of(first)).to_string();
        EngineError::EntriesLost { from, source: Box::new(error) }
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
        let id = pending.id;
        let wrong = EngineError::object(format!("page {id}"));
        let (page, len) = load(&self.fetcher, id).await?;
        match page {
            Page::Entries(entries) => {
                let key = |full: Option<&FullEntry>| full.map(|full| full.entry.sort_key());
                let (first, last) = (key(entries.first()), key(entries.last()));
                pending.fits(first.as_deref(), last.as_deref(), len).map_err(wrong)?;
                Ok(entries.into_iter().filter(|full| self.scope.holds(&full.entry.path)).collect())
            }
            Page::Directory(children) => {
                if pending.level >= LEVELS_MAX {
                    return Err(damaged(id, "the tree of pages is too deep"));
                }
                let key = |child: Option<&(Vec<u8>, Child)>| child.map(|(first, _)| first.clone());
                let (first, last) = (key(children.first()), key(children.last()));
                pending.fits(first.as_deref(), last.as_deref(), len).map_err(wrong)?;
                let ends: Vec<_> = children.iter().skip(1).map(|(first, _)| Some(first.clone())).collect();
                let ends = ends.into_iter().chain([pending.end.clone()]);
                let below = children.into_iter().zip(ends).map(|((first, child), end)| Pending {
                    id: child.id,
                    level: pending.level + 1,
                    len: Some(child.len),
                    first: Some(first),
                    end,
                });
                let wanted = |page: &Pending| {
                    page.first.as_deref().is_some_and(|first| self.scope.overlaps(first, page.end.as_deref()))
                };
                let wanted: Vec<_> = below.filter(wanted).collect();
                self.todo.extend(wanted.into_iter().rev());
                Ok(Vec::new())
            }
        }
    }
}

/// The path that a sort key stands for.
fn path_of(key: &[u8]) -> Vec<u8> {
    let name_at = key.iter().rposition(|byte| *byte == 0).unwrap_or_default();
    let (parents, name) = key.split_at_checked(name_at).unwrap_or_default();
    let parents = parents.iter().map(|byte| if *byte == 0 { b'/' } else { *byte });
    parents.chain(name.iter().skip(1).copied()).collect()
}

enum Page {
    Entries(Vec<FullEntry>),
    Directory(Vec<(Vec<u8>, Child)>),
}

/// A page, and the bytes of content below it.
async fn load(fetcher: &Fetcher, id: ChunkId) -> Result<(Page, u64), EngineError> {
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

fn wrong_len(path: &[u8]) -> EngineError {
    let what = "its content does not add up to its length";
    EngineError::object(source::entry::escaped(path).to_string())(PackError::Inconsistent { what })
}

/// The leaves below `children`, in order: chunks and holes.
pub(crate) fn leaves_of(fetcher: Fetcher, children: Vec<Child>) -> BoxStream<'static, Result<Child, EngineError>> {
    let todo: Vec<(Child, usize)> = children.into_iter().rev().map(|child| (child, 0)).collect();
    let runs = stream::try_unfold((fetcher, todo), |(fetcher, mut todo)| async move {
        let mut run = Vec::new();
        while let Some((child, level)) = todo.pop() {
            if child.kind != pack::manifest::ChildKind::Page {
                run.push(child);
                continue;
            }
            if level >= LEVELS_MAX {
                return Err(damaged(child.id, "the tree of content is too deep"));
            }
            let page = load_structure(&fetcher, child.id).await?;
            if page.kind != PageKind::Content || page.content_len() != child.len {
                return Err(damaged(child.id, "it is no page of as much content as the page above says"));
            }
            todo.extend(page.content().iter().rev().map(|child| (*child, level + 1)));
            if !run.is_empty() {
                break;
            }
        }
        if run.is_empty() && todo.is_empty() {
            return Ok(None);
        }
        Ok(Some((stream::iter(run.into_iter().map(Ok)), (fetcher, todo))))
    });
    runs.try_flatten().boxed()
}

/// As [`leaves_of`], with the pages of content among them, each before what is below it.
pub(crate) fn pages_and_leaves(
    fetcher: Fetcher,
    children: Vec<Child>,
) -> BoxStream<'static, Result<Child, EngineError>> {
    let todo: Vec<(Child, usize)> = children.into_iter().rev().map(|child| (child, 0)).collect();
    let parts = stream::try_unfold((fetcher, todo), |(fetcher, mut todo)| async move {
        let Some((child, level)) = todo.pop() else { return Ok(None) };
        if child.kind == pack::manifest::ChildKind::Page {
            if level >= LEVELS_MAX {
                return Err(damaged(child.id, "the tree of content is too deep"));
            }
            let page = load_structure(&fetcher, child.id).await?;
            if page.kind != PageKind::Content || page.content_len() != child.len {
                return Err(damaged(child.id, "it is no page of as much content as the page above says"));
            }
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
