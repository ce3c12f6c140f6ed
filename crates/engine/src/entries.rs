//! Walking a component's manifest: pages in order, entries with the children that are their content.
//!
//! Invariant: memory holds the pages of one path from the root, whatever the size of the tree.
//! Never here: content.

use futures::stream::{self, BoxStream};
use futures::{StreamExt, TryStreamExt};
use pack::manifest::{Child, EntriesBody, Entry, KeysBody, PageKind, Structure, sort_key};
use pack::{PackError, codec};
use seal::ChunkId;

use crate::fetch::Fetcher;
use crate::repository::Repository;
use crate::{EngineError, SnapshotInfo};

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

/// The entries of one component, in order.
pub(crate) fn entries_of(
    fetcher: Fetcher,
    root: Option<ChunkId>,
    scope: Scope,
) -> BoxStream<'static, Result<FullEntry, EngineError>> {
    let start: Vec<(ChunkId, usize)> = root.into_iter().map(|id| (id, 0)).collect();
    let pages = stream::try_unfold((fetcher, start, scope), |(fetcher, mut todo, scope)| async move {
        let Some((id, level)) = todo.pop() else { return Ok(None) };
        let entries = match load(&fetcher, id).await? {
            Page::Entries(entries) => entries.into_iter().filter(|full| scope.holds(&full.entry.path)).collect(),
            Page::Directory(children) => {
                if level >= LEVELS_MAX {
                    return Err(damaged(id, "the tree of pages is too deep"));
                }
                let firsts: Vec<_> = children.iter().map(|(first, _)| first.clone()).collect();
                let nexts = firsts.iter().skip(1).map(|next| Some(next.as_slice())).chain([None]);
                let wanted = children.iter().zip(nexts).filter(|((first, _), next)| scope.overlaps(first, *next));
                let wanted: Vec<_> = wanted.map(|((_, child), _)| (child.id, level + 1)).collect();
                todo.extend(wanted.into_iter().rev());
                Vec::new()
            }
        };
        Ok(Some((stream::iter(entries.into_iter().map(Ok)), (fetcher, todo, scope))))
    });
    pages.try_flatten().boxed()
}

enum Page {
    Entries(Vec<FullEntry>),
    Directory(Vec<(Vec<u8>, Child)>),
}

async fn load(fetcher: &Fetcher, id: ChunkId) -> Result<Page, EngineError> {
    let structure = load_structure(fetcher, id).await?;
    let body_id = structure.body().ok_or_else(|| damaged(id, "a page of entries has no body"))?;
    let body = fetcher.page(body_id).await?;
    fetcher.offload.start(move || decode(&structure, &body).map_err(EngineError::object(format!("page {id}")))).await?
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

/// The leaves of an entry's content, in order: chunks and holes.
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
