//! A file's content, any range of it at any time.
//!
//! ```text
//! range ─► pieces of chunks and holes ─► places ─► blobs (kept, or read, several at once) ─► each chunk checked ─► bytes
//! ```
//!
//! Invariant: bytes are of chunks that were checked against their ids; of a blob that stays in memory each chunk is once.
//! Never here: how far ahead to read; whoever knows how the file is used reads it so.

use std::collections::{HashMap, HashSet};
use std::ops::Range;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use futures::{StreamExt, stream};
use pack::PackError;
use pack::manifest::{Child, ChildKind, EntryKind, PageKind};
use seal::ChunkId;
use store::StoreError;
use store::index_cache::{PackInfo, Place};
use tokio::time::Instant;

use super::View;
use super::tree::Found;
use crate::entries::load_structure;
use crate::fetch::{Fetcher, Opened};
use crate::last_resort::Table;
use crate::{EngineError, Kind};

/// Levels of pages that a content may have.
const LEVELS_MAX: usize = 32;
/// Blobs that one range asks for at once.
const BLOBS_AT_ONCE: usize = 8;

/// Children in order, and where each begins.
pub(super) struct Span {
    children: Vec<Child>,
    /// One more than children: the last is the length of all.
    starts: Vec<u64>,
}

impl Span {
    /// None if they are longer than any file.
    fn new(children: Vec<Child>) -> Option<Self> {
        let mut starts = Vec::with_capacity(children.len() + 1);
        let mut at = 0_u64;
        starts.push(at);
        for child in &children {
            at = at.checked_add(child.len)?;
            starts.push(at);
        }
        Some(Self { children, starts })
    }

    fn len(&self) -> u64 {
        self.starts.last().copied().unwrap_or_default()
    }

    /// The children that reach into `range`, with where they begin, from the last to the first.
    fn backwards(&self, range: &Range<u64>) -> impl Iterator<Item = (Child, u64)> {
        let from = self.starts.partition_point(|start| *start <= range.start).saturating_sub(1);
        let to = self.starts.partition_point(|start| *start < range.end).min(self.children.len());
        let both = self.children.iter().zip(&self.starts);
        let all: Vec<_> = both.take(to).skip(from).map(|(child, start)| (*child, *start)).collect();
        all.into_iter().rev()
    }
}

/// A file's content. Clones share what they keep.
#[derive(Clone)]
pub struct FileView {
    view: View,
    top: Arc<Span>,
}

/// A part of a chunk or hole.
#[derive(Debug, Clone)]
struct Piece {
    leaf: Child,
    /// Within the leaf.
    part: Range<usize>,
}

/// Where a chunk lies.
type At = (Table, Arc<PackInfo>, Place);

impl FileView {
    pub(super) fn open(view: View, found: &Found) -> Result<Self, EngineError> {
        let len = if let EntryKind::File { len } = found.entry().kind { len } else { 0 };
        let top = Span::new(found.children().to_vec()).filter(|top| top.len() == len);
        let wrong = || {
            let what = "its content does not add up to its length";
            EngineError::object(source::entry::escaped(&found.entry().path).to_string())(PackError::Inconsistent {
                what,
            })
        };
        Ok(Self { view, top: Arc::new(top.ok_or_else(wrong)?) })
    }

    /// What `children` say, one behind the other; none if that is longer than any file.
    pub(super) fn of(view: View, children: Vec<Child>) -> Option<Self> {
        Some(Self { view, top: Arc::new(Span::new(children)?) })
    }

    /// Bytes, holes included.
    #[must_use]
    pub fn len(&self) -> u64 {
        self.top.len()
    }

    /// Whether it has no bytes.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The bytes of `range`, as far as the file reaches, in order; holes are zeros. Memory holds all of them and the blobs that
    /// they lie in, so ask for a few MiB at most.
    ///
    /// # Errors
    ///
    /// Of kind [`Kind::Damaged`] if a chunk of the range is lost: other ranges may be there. Else those of the store.
    pub async fn read(&self, range: Range<u64>) -> Result<Vec<Bytes>, EngineError> {
        let read = |fetcher: Fetcher| {
            let range = range.clone();
            async move {
                let pieces = self.pieces(&fetcher, &range).await?;
                read_pieces(&fetcher, pieces).await
            }
        };
        self.view.attempt(read).await
    }

    /// The same bytes apart from the blobs that they lie in, of which few are in memory at once.
    ///
    /// # Errors
    ///
    /// As [`FileView::read`].
    pub async fn read_apart(&self, range: Range<u64>) -> Result<Bytes, EngineError> {
        let read = |fetcher: Fetcher| {
            let range = range.clone();
            async move {
                let mut bytes = BytesMut::new();
                for group in self.groups(&fetcher, &range).await? {
                    for part in read_pieces(&fetcher, group).await? {
                        bytes.extend_from_slice(&part);
                    }
                }
                Ok(bytes.freeze())
            }
        };
        self.view.attempt(read).await
    }

    /// As [`FileView::read`], for somebody who did not go on where the last read ended: what lies around it is likely wanted soon,
    /// and begins to be read once this is done, if that is worth it. Must be called within a runtime.
    ///
    /// # Errors
    ///
    /// As [`FileView::read`].
    pub async fn read_elsewhere(&self, range: Range<u64>) -> Result<Vec<Bytes>, EngineError> {
        let (began, start) = (Instant::now(), range.start);
        let bytes = self.read(range).await?;
        if self.view.current().fetcher.index.keeps_blobs()
            && let Some(turn) = self.view.0.around.after(began.elapsed())
        {
            let file = self.clone();
            tokio::spawn(async move {
                let fetcher = file.view.current().fetcher;
                if let Ok(Some((_, info, place))) = file.place_at(&fetcher, start).await {
                    turn.keep(&fetcher, &info, place.blob).await;
                }
            });
        }
        Ok(bytes)
    }

    /// Where the chunk at `offset` lies, if there is one and that is known.
    async fn place_at(&self, fetcher: &Fetcher, offset: u64) -> Result<Option<At>, EngineError> {
        let pieces = self.pieces(fetcher, &(offset..offset + 1)).await?;
        Ok(places_of(fetcher, ids_of(&pieces)).await?.into_iter().next().flatten())
    }

    /// Opens the blobs of `range`, so that reading it soon finds them; whatever fails then fails again when it is read.
    pub async fn warm(&self, range: Range<u64>) {
        let fetcher = self.view.current().fetcher;
        for group in self.groups(&fetcher, &range).await.unwrap_or_default() {
            let Ok(places) = places_of(&fetcher, ids_of(&group)).await else { return };
            drop(open_blobs(&fetcher, places.iter().flatten()).await);
        }
    }

    /// The pieces of `range`, in groups of few blobs each.
    async fn groups(&self, fetcher: &Fetcher, range: &Range<u64>) -> Result<Vec<Vec<Piece>>, EngineError> {
        let pieces = self.pieces(fetcher, range).await?;
        let mut places = places_of(fetcher, ids_of(&pieces)).await?.into_iter();
        let (mut groups, mut group, mut blobs) = (Vec::new(), Vec::new(), HashSet::new());
        for piece in pieces {
            let at = if piece.leaf.kind == ChildKind::Chunk { places.next().flatten() } else { None };
            if let Some((table, _, place)) = at
                && blobs.insert((table, place.blob))
                && blobs.len() > BLOBS_AT_ONCE
            {
                groups.push(std::mem::take(&mut group));
                blobs = HashSet::from([(table, place.blob)]);
            }
            group.push(piece);
        }
        groups.push(group);
        Ok(groups)
    }

    /// The first offset from `offset` on that is no hole; none if only holes follow.
    ///
    /// # Errors
    ///
    /// Those of reading pages of content.
    pub async fn data_at(&self, offset: u64) -> Result<Option<u64>, EngineError> {
        self.first_of(offset, |kind| kind != ChildKind::Hole).await
    }

    /// The first offset from `offset` on that is in a hole; the file's end counts as one.
    ///
    /// # Errors
    ///
    /// Those of reading pages of content.
    pub async fn hole_at(&self, offset: u64) -> Result<u64, EngineError> {
        Ok(self.first_of(offset, |kind| kind == ChildKind::Hole).await?.unwrap_or_else(|| self.len()))
    }

    async fn first_of(&self, offset: u64, is_wanted: impl Fn(ChildKind) -> bool) -> Result<Option<u64>, EngineError> {
        let rest = offset..u64::MAX;
        let mut todo: Vec<_> = self.top.backwards(&rest).map(|(child, start)| (child, start, 0)).collect();
        while let Some((child, start, level)) = todo.pop() {
            if start.saturating_add(child.len) <= offset {
                continue;
            }
            if child.kind != ChildKind::Page {
                if is_wanted(child.kind) {
                    return Ok(Some(start.max(offset)));
                }
                continue;
            }
            let span = self.view.attempt(|fetcher| async move { self.span(&fetcher, child, level).await }).await?;
            let from = offset.saturating_sub(start)..u64::MAX;
            todo.extend(span.backwards(&from).map(|(child, at)| (child, start + at, level + 1)));
        }
        Ok(None)
    }

    /// The chunks and holes of `range`.
    async fn pieces(&self, fetcher: &Fetcher, range: &Range<u64>) -> Result<Vec<Piece>, EngineError> {
        let range = range.start..range.end.min(self.len());
        if range.is_empty() {
            return Ok(Vec::new());
        }
        let mut pieces = Vec::new();
        let mut todo: Vec<_> = self.top.backwards(&range).map(|(child, start)| (child, start, 0)).collect();
        while let Some((child, start, level)) = todo.pop() {
            let from = range.start.saturating_sub(start);
            let to = range.end.saturating_sub(start).min(child.len);
            if from >= to {
                continue;
            }
            if child.kind != ChildKind::Page {
                pieces.push(Piece { leaf: child, part: from as usize..to as usize });
                continue;
            }
            let span = self.span(fetcher, child, level).await?;
            todo.extend(span.backwards(&(from..to)).map(|(child, at)| (child, start + at, level + 1)));
        }
        Ok(pieces)
    }

    /// A page of content.
    async fn span(&self, fetcher: &Fetcher, page: Child, level: usize) -> Result<Arc<Span>, EngineError> {
        let damaged = |what| EngineError::object(format!("page {}", page.id))(PackError::Inconsistent { what });
        if level >= LEVELS_MAX {
            return Err(damaged("the tree of content is too deep"));
        }
        let read = async {
            let structure = load_structure(fetcher, page.id).await?;
            let is_content = structure.kind == PageKind::Content;
            let span = Span::new(structure.children).filter(|_| is_content);
            let span = span.ok_or_else(|| damaged("it is no page of content"))?;
            let len = span.children.len() * (size_of::<Child>() + size_of::<u64>());
            Ok::<_, EngineError>((Arc::new(span), len))
        };
        let span = self.view.0.contents.get_or(&page.id, read).await?;
        let is_right = span.len() == page.len;
        is_right.then_some(span).ok_or_else(|| damaged("it is no page of as much content as the page above says"))
    }
}

impl std::fmt::Debug for FileView {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "FileView of {} bytes", self.len())
    }
}

/// Where chunks lie, as far as that is known.
async fn places_of(fetcher: &Fetcher, ids: Vec<ChunkId>) -> Result<Vec<Option<At>>, EngineError> {
    let finder = fetcher.clone();
    let found = fetcher.offload.start(move || {
        let index = finder.newest();
        let places = finder.find(&index, &ids)?;
        let at = |place: Place| {
            let info = finder.pack(&index, place)?;
            Ok((Table::of(place, &info), info, place))
        };
        places.into_iter().map(|place| place.map(at).transpose()).collect()
    });
    found.await?
}

/// Opened blobs by where they lie. Those that do not open are left out; a store that fails is an error.
async fn open_blobs(
    fetcher: &Fetcher,
    places: impl Iterator<Item = &At>,
) -> Result<HashMap<(Table, u32), Opened>, EngineError> {
    let mut seen = HashSet::new();
    let wanted: Vec<_> = places
        .filter(|(table, _, place)| seen.insert((*table, place.blob)))
        .map(|(table, info, place)| (*table, Arc::clone(info), place.blob))
        .collect();
    let mut opened = HashMap::new();
    let read = |(table, info, row)| async move { ((table, row), fetcher.opened(table, &info, row).await) };
    let mut reads = stream::iter(wanted).map(read).buffer_unordered(BLOBS_AT_ONCE);
    while let Some((key, read)) = reads.next().await {
        match read {
            Ok(blob) => drop(opened.insert(key, blob)),
            Err(EngineError::Store(StoreError::NotFound { .. })) => {}
            Err(error) if error.kind() == Kind::Damaged => {}
            Err(error) => return Err(error),
        }
    }
    Ok(opened)
}

/// The ids of the chunks among pieces.
fn ids_of(pieces: &[Piece]) -> Vec<ChunkId> {
    pieces.iter().filter(|piece| piece.leaf.kind == ChildKind::Chunk).map(|piece| piece.leaf.id).collect()
}

/// The bytes of pieces, in order.
async fn read_pieces(fetcher: &Fetcher, pieces: Vec<Piece>) -> Result<Vec<Bytes>, EngineError> {
    let is_chunk = |piece: &&Piece| piece.leaf.kind == ChildKind::Chunk;
    let places = places_of(fetcher, ids_of(&pieces)).await?;
    let opened = open_blobs(fetcher, places.iter().flatten()).await?;
    let (namer, chunks) = (fetcher.namer.clone(), pieces.iter().filter(is_chunk).cloned().collect::<Vec<_>>());
    let checked = fetcher.offload.start(move || {
        let of = |(piece, at): (Piece, Option<At>)| {
            let (table, _, place) = at?;
            let chunk = opened.get(&(table, place.blob))?.chunk(place, piece.leaf.id, namer.as_ref())?;
            (chunk.len() as u64 == piece.leaf.len).then(|| chunk.slice(piece.part))
        };
        chunks.into_iter().zip(places).map(of).collect::<Vec<_>>()
    });
    let mut checked = checked.await?.into_iter();
    let mut bytes = Vec::with_capacity(pieces.len());
    for piece in pieces {
        bytes.push(match piece.leaf.kind {
            ChildKind::Chunk => match checked.next().flatten() {
                Some(part) => part,
                None => read_alone(fetcher, &piece).await?,
            },
            _ => Bytes::from(vec![0; piece.part.len()]),
        });
    }
    Ok(bytes)
}

/// The slow way: every copy, wherever it may be.
async fn read_alone(fetcher: &Fetcher, piece: &Piece) -> Result<Bytes, EngineError> {
    let chunk = fetcher.chunk(piece.leaf.id).await?;
    if chunk.len() as u64 != piece.leaf.len {
        let what = "it is not as long as the page says that names it";
        return Err(EngineError::object(format!("chunk {}", piece.leaf.id))(PackError::Inconsistent { what }));
    }
    Ok(chunk.slice(piece.part.clone()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn span_gives_the_children_that_reach_into_a_range() {
        let span = Span::new([3, 5, 0, 2].map(Child::hole).to_vec()).expect("it is short");
        let starts = |range| span.backwards(&range).map(|(_, start)| start).collect::<Vec<_>>();
        assert_eq!(span.len(), 10);
        assert_eq!(starts(0..1), [0]);
        assert_eq!(starts(2..4), [3, 0]);
        assert_eq!(starts(3..8), [3]);
        assert_eq!(starts(9..u64::MAX), [8]);
        assert!(Span::new(vec![Child::hole(u64::MAX), Child::hole(1)]).is_none());
    }
}
