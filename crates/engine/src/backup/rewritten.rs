//! The reading side of a rewrite: a component as it is, without some of its entries.
//!
//! ```text
//! entries ─► left out? ─► all that the entry names may be referred to? ─► the entry with its content, by id
//!                                     └─ no ─► its content is read and stored anew, with the same ids
//! ```
//!
//! Pages are cut by names alone, so those without an entry that is left out come out as they were.
//!
//! Invariant: what is kept is looked up as a parent's content is; nothing is referred to that may be about to go.
//! Never here: what is left out of a snapshot's own words (see `rewrite`).

use std::fmt;

use chunk::CutterKind;
use futures::{StreamExt, TryStreamExt};
use pack::SnapshotStructure;
use pack::manifest::{ChildKind, EntryKind};
use seal::ChunkId;
use source::entry::escaped;

use crate::backup::batch::{Batch, Item};
use crate::backup::component::Run;
use crate::backup::copied::pages_of;
use crate::backup::parent::Parent;
use crate::backup::produce::Produced;
use crate::backup::request::ComponentRequest;
use crate::backup::stream::Outlet;
use crate::budget::Held;
use crate::cat::{WindowRead, content_windows};
use crate::entries::{FullEntry, Scope, entries_of};
use crate::fetch::Fetcher;
use crate::repository::Repository;
use crate::{EngineError, Kind};

/// Entries and bytes handed on at once.
const BATCH_ENTRIES: usize = 256;
const BATCH_LEN: usize = 1 << 20;

/// A component of a snapshot in this repository.
pub struct RewrittenComponent {
    /// What it is, as that snapshot says.
    pub(crate) kind: String,
    /// Reads what may not be referred to any more.
    pub(crate) fetcher: Fetcher,
    /// The snapshot.
    pub(crate) snapshot: SnapshotStructure,
    /// The component's root page.
    pub(crate) root: ChunkId,
    /// What is left out of it, with everything below.
    pub(crate) without: Vec<Scope>,
}

impl fmt::Debug for RewrittenComponent {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "RewrittenComponent({})", self.kind)
    }
}

impl Repository {
    /// Hands on the entries that are kept.
    pub(crate) async fn read_rewritten(
        &self,
        run: &Run<'_>,
        component: &ComponentRequest,
        rewritten: &RewrittenComponent,
        outlet: Outlet,
    ) -> Result<Produced, EngineError> {
        let (name, fetcher) = (component.component_name(), self.fetcher_of(run.index.clone()));
        let known = Parent::open(&rewritten.snapshot, &name, fetcher, run.is_careful);
        let mut known = known.ok_or_else(|| EngineError::Request { what: format!("no component {name}") })?;
        let mut entries = entries_of(rewritten.fetcher.clone(), Some(rewritten.root), Scope::new(b""));
        let mut produced = Produced::default();
        let mut batch = Batch::new(Held::none());
        while let Some(full) = entries.next().await {
            let full = full.map_err(|error| untaken(&name, error))?;
            if rewritten.without.iter().any(|scope| scope.holds(&full.entry.path)) {
                continue;
            }
            let is_content = matches!(full.entry.kind, EntryKind::File { .. }) && !full.children.is_empty();
            let children = match is_content {
                true => known.reusable(&full.entry.path, |_| true).await?,
                false => Some(Vec::new()),
            };
            let Some(children) = children else {
                outlet.send(std::mem::replace(&mut batch, Batch::new(Held::none()))).await?;
                produced.read_len += store_anew(rewritten.fetcher.clone(), full, &outlet).await?;
                continue;
            };
            produced.unchanged_count += u64::from(is_content);
            batch.items.push(Item::Whole(Box::new(full.entry), children));
            if batch.items.len() >= BATCH_ENTRIES {
                outlet.send(std::mem::replace(&mut batch, Batch::new(Held::none()))).await?;
            }
        }
        outlet.send(batch).await?;
        Ok(produced)
    }
}

/// Reads an entry's content and sends it, cut as it was; gives its bytes.
async fn store_anew(fetcher: Fetcher, full: FullEntry, outlet: &Outlet) -> Result<u64, EngineError> {
    let (entry, path) = (full.entry.clone(), escaped(&full.entry.path).to_string());
    let (is_whole, mut read_len, mut entry) = (entry.is_whole, 0, Some(Box::new(entry)));
    let mut windows = std::pin::pin!(content_windows(fetcher, full));
    while let Some(window) = windows.try_next().await.map_err(|error| untaken(&path, error))? {
        if let Some(entry) = entry.take() {
            let mut begun = Batch::new(Held::none());
            begun.items.push(Item::Begin(entry, cutter_of(&window)));
            outlet.send(begun).await?;
        }
        let (mut batch, mut batch_len) = (Batch::new(Held::none()), 0);
        for (leaf, bytes) in window {
            let bytes = bytes.map_err(|error| untaken(&path, error))?;
            batch_len += bytes.len();
            read_len += bytes.len() as u64;
            let is_hole = leaf.kind == ChildKind::Hole;
            batch.held.join(outlet.budget.take(bytes.len()).await);
            batch.items.push(if is_hole { Item::Hole(leaf.len) } else { Item::Chunk(bytes) });
            if batch_len >= BATCH_LEN {
                outlet.send(std::mem::replace(&mut batch, Batch::new(Held::none()))).await?;
                batch_len = 0;
            }
        }
        outlet.send(batch).await?;
    }
    outlet.end(is_whole).await?;
    Ok(read_len)
}

/// Only whether it is one of pages matters: pages of content are cut by it.
fn cutter_of(window: &WindowRead) -> CutterKind {
    let lens = window.iter().filter(|(leaf, _)| leaf.kind == ChildKind::Chunk).map(|(leaf, _)| leaf.len);
    pages_of(&lens.collect::<Vec<_>>()).unwrap_or(CutterKind::DEFAULT)
}

/// Names what could not be taken over, where it is damaged.
fn untaken(what: &str, error: EngineError) -> EngineError {
    match error.kind() {
        Kind::Damaged => EngineError::NotRewritten { what: what.to_owned(), source: Box::new(error) },
        _ => error,
    }
}
