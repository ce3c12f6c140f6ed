//! Reading a tree: walk, compare with the parent, read what changed.
//!
//! ```text
//! walk (one blocking thread) ─► compare ─► groups of small files (several blocking threads, in order) ─► batches
//!                                   └────► large files, one at a time, piece by piece ──────────────────►
//! ```
//!
//! Invariant: batches come in the order of the walk.
//! Invariant: a file that cannot be read is reported and left out; the rest goes on. A failing store is not such a file.
//! Never here: ids, packs.

use std::collections::{HashSet, VecDeque};
use std::os::unix::ffi::OsStrExt;
use std::sync::{Arc, Mutex, PoisonError};

use chunk::{CutterKind, Gear};
use futures::StreamExt;
use pack::manifest::{Entry, EntryKind};
use source::files::{FilesSource, Piece, Walked, WalkedEntry};
use source::{ErrorKind, SourceError, blocking};
use tokio::task::JoinHandle;

use crate::backup::batch::{Batch, Item};
use crate::backup::cutting::Cutting;
use crate::backup::entry::{entry_of, with_state};
use crate::backup::parent::Parent;
use crate::backup::stream::Outlet;
use crate::budget::Held;
use crate::{EngineError, Problem};

/// Files up to this length are read whole, many at a time, in bytes.
const SMALL_LEN_MAX: u64 = 512 << 10;
/// A group of small files, in bytes and in entries.
const GROUP_LEN: u64 = 1 << 20;
const GROUP_ENTRIES: usize = 256;
/// Groups being read at once.
const GROUPS_MAX: usize = 4;
/// Entries that the walk may be ahead, in lists of [`WALK_LIST`].
const WALK_LISTS_MAX: usize = 16;
const WALK_LIST: usize = 64;
/// Pieces of a large file, in bytes, and how many may wait.
const PIECE_LEN: usize = 1 << 20;
const PIECES_MAX: usize = 2;
/// By how much the files of a group may grow between walk and read, all together, in bytes; of the one that grows beyond
/// that on, each is read like a large file. So little is held outside the budget.
const GROWTH_LEN_MAX: u64 = 1 << 20;
/// How often a file that changes while it is read is tried.
const TRIES_MAX: usize = 2;
/// Problems kept with their texts; more are only counted.
const PROBLEMS_MAX: usize = 1000;

/// Problems, collected from all threads.
#[derive(Clone, Default)]
pub(crate) struct Problems(Arc<Mutex<(Vec<Problem>, u64, u64)>>);

impl Problems {
    pub(crate) fn add(&self, path: String, message: String, loses: bool) {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        all.1 += 1;
        all.2 += u64::from(loses);
        if all.0.len() < PROBLEMS_MAX {
            all.0.push(Problem { path, message, loses });
        }
    }

    /// The first problems, how many there are, and how many of them lose something.
    pub(crate) fn take(&self) -> (Vec<Problem>, u64, u64) {
        std::mem::take(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// Reads one tree into batches.
pub(crate) struct TreeReader {
    pub(crate) source: FilesSource,
    pub(crate) parent: Option<Parent>,
    pub(crate) outlet: Outlet,
    pub(crate) problems: Problems,
    pub(crate) unchanged_count: u64,
    /// Entries besides the directories which are roots or above them.
    pub(crate) below_count: u64,
    /// Device and inode of folders that are never entered.
    pub(crate) never_entered: HashSet<(u64, u64)>,
    pub(crate) one_file_system: bool,
    /// The device of the root being walked.
    pub(crate) device: u64,
}

/// How an entry lies to the roots.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    Above,
    Root,
    Below,
}

/// An entry that is on its way into a group.
enum Planned {
    Ready(Item),
    Read(Box<WalkedEntry>),
}

#[derive(Default)]
struct Group {
    planned: Vec<Planned>,
    len: u64,
}

/// What came of a group.
struct GroupRead {
    batch: Batch,
    /// Those for which there was no room, because files have grown.
    left: Vec<Planned>,
}

impl TreeReader {
    /// Reads everything; ends when the walk ends. Returns how many entries were unchanged, and how many there are besides
    /// the directories which are roots or above them.
    pub(crate) async fn run(mut self) -> Result<(u64, u64), EngineError> {
        let mut walked = walk(self.source.clone());
        let mut group = Group::default();
        let mut reading = VecDeque::new();
        while let Some(list) = walked.next().await {
            for found in list.map_err(|error| EngineError::Panicked { what: error.to_string() })? {
                let Some(found) = self.entry(found) else { continue };
                match self.plan(found).await? {
                    Planned::Read(found) if len_of(&found) > SMALL_LEN_MAX => {
                        self.start(&mut reading, std::mem::take(&mut group)).await?;
                        self.drain(&mut reading, 0).await?;
                        self.large(*found).await?;
                    }
                    planned => {
                        group.len += if let Planned::Read(found) = &planned { len_of(found) } else { 0 };
                        group.planned.push(planned);
                    }
                }
                if group.len >= GROUP_LEN || group.planned.len() >= GROUP_ENTRIES {
                    self.start(&mut reading, std::mem::take(&mut group)).await?;
                }
            }
        }
        self.start(&mut reading, group).await?;
        self.drain(&mut reading, 0).await?;
        Ok((self.unchanged_count, self.below_count))
    }

    fn entry(&self, found: Walked) -> Option<WalkedEntry> {
        match found {
            Walked::Entry(found) => Some(found),
            Walked::Problem(problem) => {
                let path = source::entry::escaped(problem.path.as_os_str().as_encoded_bytes()).to_string();
                self.problems.add(path, format!("{problem}: {}", problem.cause), problem.loses_something());
                None
            }
        }
    }

    /// Where a directory is. Remembers the device of a root.
    fn place_of(&mut self, found: &WalkedEntry) -> Place {
        let (path, metadata) = (found.entry.path.as_bytes(), &found.entry.metadata);
        let mut place = Place::Below;
        for root in self.source.roots() {
            let root = root.as_os_str().as_bytes();
            match root.strip_prefix(b"/").unwrap_or(root).strip_prefix(path) {
                Some(b"") => {
                    self.device = metadata.device;
                    return Place::Root;
                }
                Some(below) if below.starts_with(b"/") => place = Place::Above,
                _ => {}
            }
        }
        place
    }

    /// Whether everything in a directory is looked at. Not so above what is backed up, in folders never entered, and at
    /// the border of a file system that is not crossed: there, a restore must not delete what the snapshot lacks.
    fn is_listed_whole(&self, found: &WalkedEntry, place: Place) -> bool {
        let metadata = &found.entry.metadata;
        let is_border = self.one_file_system && metadata.device != self.device;
        place != Place::Above && !is_border && !self.never_entered.contains(&(metadata.device, metadata.inode))
    }

    /// Decides whether an entry must be read.
    async fn plan(&mut self, found: WalkedEntry) -> Result<Planned, EngineError> {
        let mut entry = entry_of(&found.entry);
        let mut place = Place::Below;
        if matches!(entry.kind, EntryKind::Directory) {
            place = self.place_of(&found);
            entry.is_whole = self.is_listed_whole(&found, place);
        }
        self.below_count += u64::from(place == Place::Below);
        if !found.may_have_content() {
            return Ok(Planned::Ready(Item::Whole(Box::new(entry), Vec::new())));
        }
        if len_of(&found) > 0
            && let Some(parent) = self.parent.as_mut()
            && let Some(children) = parent.unchanged(&entry).await?
        {
            self.unchanged_count += 1;
            return Ok(Planned::Ready(Item::Whole(Box::new(entry), children)));
        }
        Ok(Planned::Read(Box::new(found)))
    }

    /// Starts reading a group; waits while enough groups are under way.
    async fn start(
        &self,
        reading: &mut VecDeque<JoinHandle<Result<GroupRead, EngineError>>>,
        group: Group,
    ) -> Result<(), EngineError> {
        if group.planned.is_empty() {
            return Ok(());
        }
        self.drain(reading, GROUPS_MAX - 1).await?;
        let held = self.outlet.budget.take(group.len as usize).await;
        let (gear, cutter, problems) = (Arc::clone(&self.outlet.gear), self.outlet.cutter, self.problems.clone());
        reading.push_back(tokio::spawn(async move {
            let read = blocking::run(move || read_group(group, held, &gear, cutter, &problems)).await;
            read.map_err(|error| EngineError::Panicked { what: error.to_string() })
        }));
        Ok(())
    }

    /// Hands on the oldest groups until at most `left` are being read.
    async fn drain(
        &self,
        reading: &mut VecDeque<JoinHandle<Result<GroupRead, EngineError>>>,
        left: usize,
    ) -> Result<(), EngineError> {
        while reading.len() > left {
            let Some(oldest) = reading.pop_front() else { break };
            let read = oldest.await.map_err(|error| EngineError::Panicked { what: error.to_string() })??;
            self.outlet.send(read.batch).await?;
            self.one_by_one(read.left).await?;
        }
        Ok(())
    }

    /// Hands on what had no room in its group: files are read like large ones.
    async fn one_by_one(&self, planned: Vec<Planned>) -> Result<(), EngineError> {
        for planned in planned {
            match planned {
                Planned::Read(found) => self.large(*found).await?,
                Planned::Ready(item) => {
                    let mut batch = Batch::new(Held::none());
                    batch.items.push(item);
                    self.outlet.send(batch).await?;
                }
            }
        }
        Ok(())
    }

    /// Streams a large file. If it changes meanwhile, what was read stays, marked as not whole.
    async fn large(&self, found: WalkedEntry) -> Result<(), EngineError> {
        let path = found.entry.path.to_string();
        let opened = blocking::run(move || match found.open_content() {
            Ok(reader) => Ok((found, reader)),
            // Something was renamed into place since the walk: that is the file now.
            Err(SourceError::Replaced { .. }) => {
                let again = found.refreshed()?;
                let reader = again.open_content()?;
                Ok((again, reader))
            }
            Err(error) => Err(error),
        })
        .await;
        let (found, mut reader) = match opened.map_err(|error| EngineError::Panicked { what: error.to_string() })? {
            Ok(opened) => opened,
            Err(error) => {
                self.problems.add(path, message(&error), true);
                return Ok(());
            }
        };
        let entry = with_state(entry_of(&found.entry), reader.state());
        let pieces = blocking::stream_of("reading a file", PIECES_MAX, move |emitter| {
            loop {
                let item = match reader.next_piece(PIECE_LEN) {
                    Ok(Some(piece)) => Ok(piece),
                    Ok(None) => break,
                    Err(error) => Err(error),
                };
                let failed = item.is_err();
                if emitter.emit(item).is_err() || failed {
                    return;
                }
            }
            if let Err(error) = reader.finish() {
                let _ = emitter.emit(Err(error)); // nobody listens any more
            }
        });
        let pieces = pieces.map(|item| item.unwrap_or_else(|panic| Err(SourceError::from(panic))));
        let read = self.outlet.stream_content(entry, Box::pin(pieces)).await?;
        if let Err(error) = &read {
            self.problems.add(path, message(error), true);
        }
        self.outlet.end(read.is_ok()).await
    }
}

fn walk(source: FilesSource) -> impl futures::Stream<Item = Result<Vec<Walked>, blocking::Panicked>> + Unpin {
    blocking::stream_of("walking", WALK_LISTS_MAX, move |emitter| {
        let mut list = Vec::with_capacity(WALK_LIST);
        for found in source.walk() {
            list.push(found);
            if list.len() >= WALK_LIST
                && emitter.emit(std::mem::replace(&mut list, Vec::with_capacity(WALK_LIST))).is_err()
            {
                return;
            }
        }
        let _ = emitter.emit(list); // nobody listens any more
    })
}

fn len_of(found: &WalkedEntry) -> u64 {
    match found.entry.kind {
        source::entry::EntryKind::File { len } => len,
        _ => 0,
    }
}

/// Reads and cuts a group of small files, as far as they have not grown too much. Blocking.
fn read_group(
    group: Group,
    held: Held,
    gear: &Arc<Gear>,
    cutter: Option<CutterKind>,
    problems: &Problems,
) -> GroupRead {
    let mut batch = Batch::new(held);
    let mut room = group.len + GROWTH_LEN_MAX;
    let mut planned = group.planned.into_iter();
    while let Some(next) = planned.next() {
        let grown = match next {
            Planned::Ready(item) => {
                batch.items.push(item);
                None
            }
            Planned::Read(found) => read_small(*found, gear, cutter, problems, &mut room, &mut batch),
        };
        if let Some(found) = grown {
            let left = std::iter::once(Planned::Read(found)).chain(planned).collect();
            return GroupRead { batch, left };
        }
    }
    GroupRead { batch, left: Vec::new() }
}

/// Reads one small file, once more if it changed meanwhile, and takes its bytes off `room`; gives it back if it does not
/// fit in there any more.
fn read_small(
    mut found: WalkedEntry,
    gear: &Arc<Gear>,
    cutter: Option<CutterKind>,
    problems: &Problems,
    room: &mut u64,
    batch: &mut Batch,
) -> Option<Box<WalkedEntry>> {
    for attempt in 1.. {
        match read_once(&found, gear, cutter, *room) {
            Ok(None) => return Some(Box::new(found)),
            Ok(Some(Read { entry, content, len, changed })) => {
                if let Some(error) = changed {
                    if attempt < TRIES_MAX
                        && let Ok(again) = found.refreshed()
                    {
                        found = again;
                        continue;
                    }
                    problems.add(found.entry.path.to_string(), message(&error), true);
                    batch.push_entry(entry, content, false);
                } else {
                    batch.push_entry(entry, content, true);
                }
                *room -= len;
                return None;
            }
            Err(error) => {
                let is_worth_it = matches!(error.kind(), ErrorKind::Changed | ErrorKind::Retry);
                match found.refreshed() {
                    Ok(again) if attempt < TRIES_MAX && is_worth_it => found = again,
                    _ => {
                        problems.add(found.entry.path.to_string(), message(&error), true);
                        return None;
                    }
                }
            }
        }
    }
    None
}

/// A small file.
struct Read {
    entry: Entry,
    content: (CutterKind, Vec<Item>),
    /// Bytes of data, holes aside.
    len: u64,
    /// What says that it changed meanwhile.
    changed: Option<SourceError>,
}

/// Reads a file; none if it has more than `room` bytes of data.
fn read_once(
    found: &WalkedEntry,
    gear: &Arc<Gear>,
    cutter: Option<CutterKind>,
    room: u64,
) -> Result<Option<Read>, SourceError> {
    let mut reader = found.open_content()?;
    let entry = with_state(entry_of(&found.entry), reader.state());
    let mut cutting = Cutting::new(Arc::clone(gear), cutter);
    let mut items = Vec::new();
    let mut len = 0;
    while let Some(piece) = reader.next_piece(PIECE_LEN)? {
        match piece {
            Piece::Data(bytes) => {
                len += bytes.len() as u64;
                if len > room {
                    return Ok(None);
                }
                items.extend(cutting.push(&bytes).into_iter().map(Item::Chunk));
            }
            Piece::Hole(len) => {
                items.extend(cutting.flush().into_iter().map(Item::Chunk));
                items.push(Item::Hole(len));
            }
        }
    }
    items.extend(cutting.flush().into_iter().map(Item::Chunk));
    let kind = cutting.kind().unwrap_or(CutterKind::DEFAULT);
    Ok(Some(Read { entry, content: (kind, items), len, changed: reader.finish().err() }))
}

impl Batch {
    fn push_entry(&mut self, entry: Entry, content: (CutterKind, Vec<Item>), is_whole: bool) {
        let (kind, items) = content;
        self.items.push(Item::Begin(Box::new(entry), kind));
        self.items.extend(items);
        self.items.push(Item::End { is_whole });
    }
}

/// An error with its causes on one line.
pub(crate) fn message(error: &SourceError) -> String {
    let mut text = error.to_string();
    let mut cause = std::error::Error::source(error);
    while let Some(inner) = cause {
        text = format!("{text}: {inner}");
        cause = inner.source();
    }
    text
}

#[cfg(test)]
mod tests;
