//! The reading side of a copy: a component of a snapshot in another repository.
//!
//! ```text
//! entries ─► as before in the snapshot copied last? ─► its content here, looked up
//!     └────► small files, in groups ─► leaves ─► runs of blobs ─► bytes, checked ─► cut with this repository's table ─►
//!     └────► large files, window by window ───────────────────────────────────────► the same ─►
//! ```
//!
//! Cut points are not kept: each repository has a gear table of its own, and only what is cut by that is found again by
//! the backups that go there directly.
//!
//! Invariant: entries, their metadata and their holes are those of the snapshot that is copied.
//! Invariant: content is taken over unread only from an entry whose original has the same content in the same repository.
//! Invariant: what cannot be had of the other repository ends the copy of that snapshot with the entry's name.
//! Never here: the packing side, and which snapshots are copied (see `copy`).

use std::collections::VecDeque;
use std::fmt;
use std::pin::Pin;
use std::sync::Arc;

use bytes::BytesMut;
use chunk::{CutterKind, Gear, RECOGNISE_LEN, recognise};
use futures::stream::{BoxStream, Peekable};
use futures::{Stream, StreamExt, TryStreamExt, stream};
use pack::SnapshotStructure;
use pack::manifest::{Child, ChildKind, Entry, EntryKind};
use seal::ChunkId;
use source::entry::escaped;
use source::files::Piece;
use tokio_util::task::AbortOnDropHandle;

use crate::backup::batch::{Batch, Item};
use crate::backup::component::Run;
use crate::backup::cutting::Cutting;
use crate::backup::parent::Parent;
use crate::backup::produce::Produced;
use crate::backup::request::ComponentRequest;
use crate::backup::stream::Outlet;
use crate::budget::Held;
use crate::cat::{WindowRead, content_windows, read_window};
use crate::entries::{FullEntry, Scope, content_of, entries_of};
use crate::fetch::Fetcher;
use crate::repository::Repository;
use crate::{EngineError, Kind, Progress};

/// Files up to this length are read many at a time, in bytes.
const SMALL_LEN_MAX: u64 = 512 << 10;
/// A group of small files, in bytes and in entries. Blobs at its ends are read for both groups.
const GROUP_LEN: u64 = 4 << 20;
const GROUP_ENTRIES: usize = 512;
/// Groups being read at once: what they hold of the budget while the next one waits is less than what is always free.
const GROUPS_MAX: usize = 3;
const _: () = assert!(GROUP_LEN * GROUPS_MAX as u64 + SMALL_LEN_MAX <= 16 << 20);
/// Bytes that are cut at once.
const PIECE_LEN: usize = 1 << 20;

/// A component of a snapshot in another repository.
pub struct CopiedComponent {
    /// What it is, as that snapshot says.
    pub(crate) kind: String,
    /// Reads the other repository.
    pub(crate) fetcher: Fetcher,
    /// Its root page there.
    pub(crate) root: Option<ChunkId>,
    /// The same component of a snapshot there that is copied already.
    pub(crate) earlier: Option<EarlierCopy>,
}

impl fmt::Debug for CopiedComponent {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "CopiedComponent({})", self.kind)
    }
}

/// A component that was copied before.
pub(crate) struct EarlierCopy {
    /// Its root page in the other repository.
    pub(crate) root: ChunkId,
    /// The snapshot here.
    pub(crate) copy: SnapshotStructure,
}

impl Repository {
    /// Reads a component of another repository into batches.
    pub(crate) async fn read_copied(
        &self,
        run: &Run<'_>,
        component: &ComponentRequest,
        copied: &CopiedComponent,
        outlet: Outlet,
    ) -> Result<Produced, EngineError> {
        let twins = copied.earlier.as_ref().and_then(|earlier| {
            let name = component.component_name();
            let copy = Parent::open(&earlier.copy, &name, self.fetcher_of(run.index.clone()), run.is_careful)?;
            let then = entries_of(copied.fetcher.clone(), Some(earlier.root), Scope::new(b"")).peekable();
            Some(Twins { then, copy })
        });
        let parent = twins.as_ref().map(|twins| twins.copy.id);
        let mut reader = Reader {
            fetcher: copied.fetcher.clone(),
            twins,
            outlet,
            group: Group::default(),
            reading: VecDeque::new(),
            produced: Produced { parent, ..Produced::default() },
            progress: Arc::clone(run.progress),
        };
        let mut entries = entries_of(copied.fetcher.clone(), copied.root, Scope::new(b""));
        while let Some(full) = entries.next().await {
            reader.take(full.map_err(|error| unreadable(&component.component_name(), error))?).await?;
        }
        reader.start_group().await?;
        reader.drain(0).await?;
        Ok(reader.produced)
    }
}

/// Names what could not be read, where its repository is damaged there.
fn unreadable(what: &str, error: EngineError) -> EngineError {
    match error.kind() {
        Kind::Damaged => EngineError::NotCopied { what: what.to_owned(), source: Box::new(error) },
        _ => error,
    }
}

/// The entries of a snapshot that is copied already, there and here, in step.
struct Twins {
    then: Peekable<BoxStream<'static, Result<FullEntry, EngineError>>>,
    copy: Parent,
}

impl Twins {
    /// The content here of an entry whose content is as it was then. Entries must come in order.
    async fn unchanged(&mut self, now: &FullEntry) -> Result<Option<Vec<Child>>, EngineError> {
        let key = now.entry.sort_key();
        let is_before = |then: &Result<FullEntry, EngineError>| match then {
            Ok(then) => then.entry.sort_key() < key,
            Err(error) => error.kind() == Kind::Damaged, // what is lost of it is read anew
        };
        while Pin::new(&mut self.then).next_if(is_before).await.is_some() {}
        let has_come = |then: &Result<FullEntry, EngineError>| match then {
            Ok(then) => then.entry.sort_key() == key,
            Err(_) => true,
        };
        let Some(then) = Pin::new(&mut self.then).next_if(has_come).await.transpose()? else { return Ok(None) };
        if then.children != now.children {
            return Ok(None);
        }
        let is_its_copy = |copy: &Entry| Entry { child_count: then.entry.child_count, ..copy.clone() } == then.entry;
        self.copy.reusable(&now.entry.path, is_its_copy).await
    }
}

/// An entry on its way.
enum Planned {
    Ready(Item),
    /// A small file, with the leaves of its content.
    Read(Box<Entry>, Vec<Child>),
}

#[derive(Default)]
struct Group {
    planned: Vec<Planned>,
    len: u64,
}

struct Reader {
    fetcher: Fetcher,
    twins: Option<Twins>,
    outlet: Outlet,
    group: Group,
    /// Groups being read, the oldest first.
    reading: VecDeque<AbortOnDropHandle<Result<Batch, EngineError>>>,
    produced: Produced,
    progress: Arc<Progress>,
}

impl Reader {
    /// Takes the next entry.
    async fn take(&mut self, full: FullEntry) -> Result<(), EngineError> {
        let len = match full.entry.kind {
            EntryKind::File { len } if !full.children.is_empty() => len,
            _ => return self.plan(Planned::Ready(Item::Whole(Box::new(full.entry), Vec::new())), 0).await,
        };
        if let Some(twins) = &mut self.twins
            && let Some(children) = twins.unchanged(&full).await?
        {
            self.produced.unchanged_count += 1;
            self.progress.add_len(len);
            return self.plan(Planned::Ready(Item::Whole(Box::new(full.entry), children)), 0).await;
        }
        if len > SMALL_LEN_MAX {
            self.start_group().await?;
            self.drain(0).await?;
            return self.large(full).await;
        }
        let path = escaped(&full.entry.path).to_string();
        let entry = Box::new(full.entry.clone());
        let leaves: Result<Vec<Child>, _> = content_of(self.fetcher.clone(), full).try_collect().await;
        let leaves = leaves.map_err(|error| unreadable(&path, error))?;
        let data_len = leaves.iter().filter(|leaf| leaf.kind == ChildKind::Chunk).map(|leaf| leaf.len).sum();
        self.produced.read_len += data_len;
        self.plan(Planned::Read(entry, leaves), data_len).await
    }

    async fn plan(&mut self, planned: Planned, len: u64) -> Result<(), EngineError> {
        self.group.planned.push(planned);
        self.group.len += len;
        let is_full = self.group.len >= GROUP_LEN || self.group.planned.len() >= GROUP_ENTRIES;
        if is_full { self.start_group().await } else { Ok(()) }
    }

    /// Starts reading what has come together; waits while enough groups are under way.
    async fn start_group(&mut self) -> Result<(), EngineError> {
        let Group { planned, len } = std::mem::take(&mut self.group);
        if planned.is_empty() {
            return Ok(());
        }
        self.drain(GROUPS_MAX - 1).await?;
        let held = self.outlet.budget.take(len as usize).await;
        let (fetcher, gear, cutter) = (self.fetcher.clone(), Arc::clone(&self.outlet.gear), self.outlet.cutter);
        self.reading.push_back(AbortOnDropHandle::new(tokio::spawn(read_group(fetcher, planned, held, gear, cutter))));
        Ok(())
    }

    /// Hands on the oldest groups until at most `left` are being read.
    async fn drain(&mut self, left: usize) -> Result<(), EngineError> {
        while self.reading.len() > left {
            let Some(oldest) = self.reading.pop_front() else { break };
            let batch = oldest.await.map_err(|error| EngineError::Panicked { what: error.to_string() })??;
            self.outlet.send(batch).await?;
        }
        Ok(())
    }

    /// Copies a large file, window by window.
    async fn large(&mut self, full: FullEntry) -> Result<(), EngineError> {
        let (entry, path) = (full.entry.clone(), escaped(&full.entry.path).to_string());
        let is_whole = entry.is_whole;
        let mut windows = std::pin::pin!(content_windows(self.fetcher.clone(), full).peekable());
        let first = windows.as_mut().peek().await;
        let cutter = match first {
            Some(Ok(window)) => self.outlet.cutter.or_else(|| cutter_of(window)),
            _ => self.outlet.cutter,
        };
        let outlet = Outlet { cutter, ..self.outlet.clone() };
        let read = outlet.stream_content(entry, std::pin::pin!(pieces_of(windows))).await?;
        self.produced.read_len += read.map_err(|error| unreadable(&path, error))?;
        self.outlet.end(is_whole).await
    }
}

/// Windows as pieces of about a mebibyte.
fn pieces_of(
    windows: impl Stream<Item = Result<WindowRead, EngineError>> + Unpin,
) -> impl Stream<Item = Result<Piece, EngineError>> {
    windows.map_ok(|window| stream::iter(joined(window))).try_flatten()
}

/// Neighbouring leaves joined to pieces. A leaf that could not be had ends them.
fn joined(window: WindowRead) -> Vec<Result<Piece, EngineError>> {
    let (mut pieces, mut data) = (Vec::new(), BytesMut::new());
    for (leaf, bytes) in window {
        let is_hole = leaf.kind == ChildKind::Hole;
        let bytes = match bytes {
            Ok(bytes) => bytes,
            Err(error) => {
                pieces.push(Err(error));
                return pieces;
            }
        };
        if !data.is_empty() && (is_hole || data.len() + bytes.len() > PIECE_LEN) {
            pieces.push(Ok(Piece::Data(data.split().freeze())));
        }
        if is_hole {
            pieces.push(Ok(Piece::Hole(leaf.len)));
        } else {
            data.extend_from_slice(&bytes);
        }
    }
    pieces.extend((!data.is_empty()).then(|| Ok(Piece::Data(data.freeze()))));
    pieces
}

/// Reads and cuts a group of small files.
async fn read_group(
    fetcher: Fetcher,
    planned: Vec<Planned>,
    held: Held,
    gear: Arc<Gear>,
    cutter: Option<CutterKind>,
) -> Result<Batch, EngineError> {
    let leaves = |planned: &Planned| match planned {
        Planned::Ready(_) => Vec::new(),
        Planned::Read(_, leaves) => leaves.clone(),
    };
    let found = read_window(fetcher.clone(), planned.iter().flat_map(leaves).collect()).await?;
    fetcher.offload.start(move || cut_group(planned, found, held, &gear, cutter)).await?
}

/// Cuts what was read of a group. CPU-bound.
fn cut_group(
    planned: Vec<Planned>,
    found: WindowRead,
    held: Held,
    gear: &Arc<Gear>,
    cutter: Option<CutterKind>,
) -> Result<Batch, EngineError> {
    let (mut batch, mut found) = (Batch::new(held), found.into_iter());
    for planned in planned {
        let (entry, leaves) = match planned {
            Planned::Ready(item) => {
                batch.items.push(item);
                continue;
            }
            Planned::Read(entry, leaves) => (entry, leaves),
        };
        let own: WindowRead = found.by_ref().take(leaves.len()).collect();
        let mut cutting = Cutting::new(Arc::clone(gear), cutter.or_else(|| cutter_of(&own)));
        let (is_whole, mut items) = (entry.is_whole, Vec::new());
        for (leaf, bytes) in own {
            if leaf.kind == ChildKind::Hole {
                items.extend(cutting.flush().into_iter().map(Item::Chunk));
                items.push(Item::Hole(leaf.len));
            } else {
                let bytes = bytes.map_err(|error| unreadable(&escaped(&entry.path).to_string(), error))?;
                items.extend(cutting.push(&bytes).into_iter().map(Item::Chunk));
            }
        }
        items.extend(cutting.flush().into_iter().map(Item::Chunk));
        batch.items.push(Item::Begin(entry, cutting.kind().unwrap_or(CutterKind::DEFAULT)));
        batch.items.append(&mut items);
        batch.items.push(Item::End { is_whole });
    }
    Ok(batch)
}

/// The cutter of content whose first bytes do not tell it: pages, where it was cut in such.
fn cutter_of(window: &WindowRead) -> Option<CutterKind> {
    let mut head = BytesMut::new();
    for (_, bytes) in window.iter().take_while(|(leaf, _)| leaf.kind == ChildKind::Chunk) {
        head.extend_from_slice(bytes.as_deref().unwrap_or_default());
        if head.len() >= RECOGNISE_LEN {
            break;
        }
    }
    let is_recognised = recognise(&head) != CutterKind::DEFAULT;
    let lens = window.iter().filter(|(leaf, _)| leaf.kind == ChildKind::Chunk).map(|(leaf, _)| leaf.len);
    if is_recognised { None } else { pages_of(&lens.collect::<Vec<_>>()) }
}

/// Pages of one length, of which only the last may be shorter.
pub(crate) fn pages_of(lens: &[u64]) -> Option<CutterKind> {
    let (last, others) = lens.split_last()?;
    let len = *others.first()?;
    let is_paged = others.iter().all(|other| *other == len) && *last <= len;
    let named = format!("pages-{len}").parse().ok();
    named.filter(|_| is_paged)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_are_known_by_their_equal_lengths() {
        assert_eq!(pages_of(&[8192, 8192, 8192]), Some(CutterKind::Pages(8192)));
        assert_eq!(pages_of(&[4096, 17]), Some(CutterKind::Pages(4096)));
        assert_eq!(pages_of(&[8192]), None);
        assert_eq!(pages_of(&[8192, 4096, 8192]), None);
        assert_eq!(pages_of(&[4096, 8192]), None);
        assert_eq!(pages_of(&[5000, 5000, 10]), None);
        assert_eq!(pages_of(&[256 << 10, 256 << 10]), None);
    }
}
