//! What snapshots reach: every page is read once, and every chunk below is looked up.
//!
//! Costs in memory: the id of each page, at most 48 bytes, and of each chunk that cannot be had, about 40. A page names some
//! 500 chunks, or 250 entries: a million chunks take 0.1 to 0.2 MiB, whatever number of snapshots shares them.
//!
//! Invariant: pages are read from the store; what this host remembers of one that is lost there serves to look below it.
//! Never here: which paths are affected.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

use pack::manifest::{ChildKind, Structure};
use pack::names;
use seal::ChunkId;
use store::index_cache::PackSet;
use tokio_util::sync::CancellationToken;

use super::SnapshotRoots;
use super::packs::Packs;
use super::passes::Seen;
use super::report::{CheckReport, Wrong};
use super::segments::Named;
use crate::fetch::Fetcher;
use crate::{EngineError, Kind};

/// Chunks looked up at once.
const LOOKUP_BATCH: usize = 4096;

/// Chunks that cannot be had, each with which of the reasons.
#[derive(Default)]
pub(super) struct Missing {
    reasons: Vec<Wrong>,
    by_reason: BTreeMap<Wrong, u32>,
    chunks: BTreeMap<ChunkId, u32>,
    /// Not all was looked at, since what led there went away.
    pub(super) is_given_up: bool,
}

impl Missing {
    pub(super) fn is_empty(&self) -> bool {
        self.chunks.is_empty()
    }

    pub(super) fn get(&self, id: &ChunkId) -> Option<&Wrong> {
        self.reasons.get(*self.chunks.get(id)? as usize)
    }

    /// The chunks and pages.
    pub(super) fn ids(&self) -> impl Iterator<Item = ChunkId> + '_ {
        self.chunks.keys().copied()
    }

    pub(super) fn reasons(&self) -> &[Wrong] {
        &self.reasons
    }

    /// The first reason stays.
    fn insert(&mut self, id: ChunkId, wrong: Wrong) {
        if self.chunks.contains_key(&id) {
            return;
        }
        let next = self.reasons.len() as u32;
        let reason = *self.by_reason.entry(wrong.clone()).or_insert(next);
        if reason == next {
            self.reasons.push(wrong);
        }
        self.chunks.insert(id, reason);
    }
}

/// Walks the structure of every snapshot once; gives the chunks that cannot be had. Gives up at the first page that cannot be
/// had if something is gone that was there when it began.
pub(super) async fn check_trees(
    fetcher: &Fetcher,
    snapshots: &[SnapshotRoots],
    (named, began): (&Named, Option<&Seen>),
    packs: &mut Packs,
    cancel: &CancellationToken,
    report: &mut CheckReport,
) -> Result<Missing, EngineError> {
    let mut seen: HashSet<ChunkId> =
        snapshots.iter().flat_map(|info| info.roots.iter().map(|(root, _)| *root)).collect();
    // With each page the content that the page above says is below it.
    let mut todo: Vec<(ChunkId, Option<u64>)> = seen.iter().map(|root| (*root, None)).collect();
    let mut root_lens = HashMap::new();
    let (mut leaves, mut missing, mut unread) = (Vec::new(), Missing::default(), Vec::new());
    while let Some((id, promised)) = todo.pop() {
        if cancel.is_cancelled() {
            return Err(EngineError::Interrupted);
        }
        leaves.push(id);
        let page = match structure(fetcher, id).await {
            Ok(page) => {
                let len = page.content_len();
                match promised {
                    None => drop(root_lens.insert(id, len)),
                    Some(promised) if promised != len => unread.push((id, other_len(promised, len))),
                    Some(_) => {}
                }
                Some(page)
            }
            Err(error) if error.kind() == Kind::Damaged => {
                if let Some(began) = began.filter(|_| unread.is_empty())
                    && began.has_vanished(report).await
                {
                    return Ok(Missing { is_given_up: true, ..missing });
                }
                unread.push((id, error.to_string()));
                kept_structure(fetcher, id).await?
            }
            Err(error) => {
                report.unclear(error);
                None
            }
        };
        let children = page.iter().flat_map(|page| &page.children);
        for child in children.filter(|child| child.kind != ChildKind::Hole) {
            match child.kind {
                ChildKind::Page if seen.insert(child.id) => todo.push((child.id, Some(child.len))),
                ChildKind::Page => {}
                _ => leaves.push(child.id),
            }
        }
        if leaves.len() >= LOOKUP_BATCH {
            look_up(fetcher, std::mem::take(&mut leaves), named, packs, report, &mut missing).await?;
        }
    }
    look_up(fetcher, leaves, named, packs, report, &mut missing).await?;
    report.misses_pages |= !unread.is_empty();
    for (id, what) in unread {
        missing.insert(id, (format!("page {id}"), what));
    }
    check_sums(snapshots, &root_lens, report);
    Ok(missing)
}

/// Every pack that holds something which a snapshot reaches, as far as its pages can be read; what cannot is told by the
/// walk through all of them.
pub(super) async fn packs_of(
    fetcher: &Fetcher,
    info: &SnapshotRoots,
    cancel: &CancellationToken,
) -> Result<PackSet, EngineError> {
    let mut seen: HashSet<ChunkId> = info.roots.iter().map(|(root, _)| *root).collect();
    let mut todo: Vec<ChunkId> = seen.iter().copied().collect();
    let (mut leaves, mut found) = (Vec::new(), PackSet::new());
    while let Some(id) = todo.pop() {
        if cancel.is_cancelled() {
            return Err(EngineError::Interrupted);
        }
        leaves.push(id);
        if let Ok(page) = structure(fetcher, id).await {
            for child in page.children.iter().filter(|child| child.kind != ChildKind::Hole) {
                match child.kind {
                    ChildKind::Page if seen.insert(child.id) => todo.push(child.id),
                    ChildKind::Page => {}
                    _ => leaves.push(child.id),
                }
            }
        }
        if leaves.len() >= LOOKUP_BATCH || todo.is_empty() {
            let (cache, ids) = (Arc::clone(&fetcher.index.cache), std::mem::take(&mut leaves));
            let places = fetcher.offload.start(move || cache.lookup(&ids)).await??;
            found.extend(places.iter().flat_map(|places| places.iter().map(|place| place.pack)));
        }
    }
    Ok(found)
}

/// Compares what snapshots say of their content with what their pages do.
fn check_sums(snapshots: &[SnapshotRoots], root_lens: &HashMap<ChunkId, u64>, report: &mut CheckReport) {
    for info in snapshots {
        for (root, promised) in &info.roots {
            if let Some(len) = root_lens.get(root).filter(|len| *len != promised) {
                report.damage(&names::snapshot(&info.id), &other_len(*promised, *len));
            }
        }
    }
}

fn other_len(promised: u64, len: u64) -> String {
    format!("should hold {promised} bytes of content, and its pages hold {len}")
}

/// A page's structure as the store has it, not as this host remembers it.
async fn structure(fetcher: &Fetcher, id: ChunkId) -> Result<Structure, EngineError> {
    let bytes = fetcher.chunk(id).await?;
    Structure::decode(&bytes).map_err(EngineError::object(format!("page {id}")))
}

/// What this host remembers of a page that the store does not have any more, so that what is lost below it is found as well.
async fn kept_structure(fetcher: &Fetcher, id: ChunkId) -> Result<Option<Structure>, EngineError> {
    let index = fetcher.index.clone();
    let kept = fetcher.offload.start(move || index.kept_page(&id)).await?;
    let is_right = |bytes: &Vec<u8>| fetcher.namer.as_ref().is_none_or(|namer| namer.name_page(bytes) == id);
    Ok(kept.filter(is_right).and_then(|bytes| Structure::decode(&bytes).ok()))
}

/// Looks chunks up and adds those that cannot be had to `missing`.
async fn look_up(
    fetcher: &Fetcher,
    ids: Vec<ChunkId>,
    named: &Named,
    packs: &mut Packs,
    report: &mut CheckReport,
    missing: &mut Missing,
) -> Result<(), EngineError> {
    report.chunks += ids.len() as u64;
    let index = fetcher.index.clone();
    let looked_up = fetcher.offload.start(move || {
        let places = index.cache.lookup(&ids);
        (ids, places)
    });
    let (ids, places) = looked_up.await?;
    for (id, places) in ids.iter().zip(places?) {
        if packs.can_be_had(&places) {
            continue;
        }
        let why = places.last().map(|place| packs.why_not(place.pack, named, fetcher));
        missing.insert(*id, why.transpose()?.flatten().unwrap_or_else(|| named.why_not()));
    }
    Ok(())
}
