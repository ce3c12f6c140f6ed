//! A part of a snapshot in the order of an archive: each entry, followed by its content.
//!
//! A listing names all folders of a folder before it goes into the first of them; in an archive each stands right before what is in it,
//! so that whoever extracts it can set its times and permissions once nothing more goes into it.
//!
//! ```text
//! entries ─► each folder before its own ─► entry · leaves · end ─► windows (8 MiB, over the ends of files) ─► runs of blobs ─► the same, with bytes
//! ```
//!
//! A file whose content is lost is left out if that is known before its entry is handed out: as long as all of it lies in one
//! window. Of a longer one the bytes that are lost are told in their place, for its length has been said already.
//!
//! Invariant: what follows an entry adds up to its length, be it bytes, holes or what is lost.
//! Invariant: memory holds a few windows, and at most [`FOLDERS_MAX`] folders that wait for their turn, whatever the size of the
//! tree; folders beyond that come in the order of listings.
//! Never here: the form of any archive.

use std::collections::VecDeque;
use std::collections::btree_map::{BTreeMap, OccupiedEntry};
use std::ops::Range;

use bytes::Bytes;
use futures::stream::{self, BoxStream};
use futures::{StreamExt, TryStreamExt};
use pack::Role;
use pack::manifest::{Child, ChildKind, Entry, EntryKind};
use tokio_util::task::AbortOnDropHandle;

use crate::cat::{WindowRead, read_window};
use crate::entries::{FullEntry, Scope, content_of, entries_of, key_below, leaves_of};
use crate::fetch::Fetcher;
use crate::repository::Repository;
use crate::{EngineError, Kind, SnapshotInfo};

/// A window: content in bytes, and things in it. One is written out and the others are read meanwhile.
const WINDOW_LEN: u64 = 8 << 20;
const WINDOW_ITEMS: usize = 8 << 10;
const WINDOWS_AHEAD: usize = 3;
/// Stretches of data of a file with holes, as a count: above that it is handed out as if it had none.
const STRETCHES_MAX: usize = 16 << 10;

/// Folders that wait for their turn, as a count.
const FOLDERS_MAX: usize = 64 << 10;

/// What comes next in the archive.
#[derive(Debug)]
pub enum Archived {
    /// An entry. What belongs to its content follows.
    Entry {
        /// The component's name.
        component: String,
        /// It.
        entry: Box<Entry>,
        /// Of a file with holes, where its data is, in bytes. What lies between is [`Archived::Hole`].
        data: Option<Vec<Range<u64>>>,
    },
    /// Bytes of the entry.
    Bytes(Bytes),
    /// So many zeros of the entry.
    Hole(u64),
    /// So many bytes of the entry that are lost.
    LostBytes(u64, EngineError),
    /// The entry is at its end.
    End,
    /// A file that is left out, since its content is lost.
    LostFile(Box<Entry>, EngineError),
    /// A page of entries of this component that is lost.
    LostEntries(String, EngineError),
}

/// An archive as it is read.
pub type ArchiveStream = BoxStream<'static, Result<Archived, EngineError>>;

impl Repository {
    /// The entries at and below `path` with their content, component by component. With `maps`,
    /// files with holes come with a list of where their data is.
    ///
    /// # Errors
    ///
    /// [`EngineError::Role`] if this key opens no content; else those of reading but damage, which is told in its place.
    pub async fn archived(
        &self,
        snapshot: &SnapshotInfo,
        path: &[u8],
        maps: bool,
    ) -> Result<ArchiveStream, EngineError> {
        self.keyring.require(&[Role::Owner, Role::Reader], "open content")?;
        let fetcher = self.fetcher().await?;
        let scope = Scope::new(path);
        let components = snapshot.snapshot.structure.components.clone();
        let reader = fetcher.clone();
        let planned = stream::iter(components).flat_map(move |component| {
            let (reader, name) = (reader.clone(), component.name);
            let entries = entries_of(reader.clone(), component.root, scope.clone());
            by_folder(entries).flat_map(move |full| planned(reader.clone(), name.clone(), full, maps))
        });
        let windows = windows_of(planned.boxed());
        let windows = windows.map_ok(move |window| read(fetcher.clone(), window)).try_buffered(WINDOWS_AHEAD);
        Ok(windows.map_ok(|found| stream::iter(found.into_iter().map(Ok))).try_flatten().boxed())
    }
}

/// Entries, with each folder right before what is in it.
fn by_folder(
    entries: BoxStream<'static, Result<FullEntry, EngineError>>,
) -> BoxStream<'static, Result<FullEntry, EngineError>> {
    let state = (entries, BTreeMap::new(), VecDeque::new());
    let ordered = stream::unfold(state, |(mut entries, mut folders, mut ready)| async move {
        loop {
            if let Some(next) = ready.pop_front() {
                return Some((next, (entries, folders, ready)));
            }
            match entries.next().await {
                None if folders.is_empty() => return None,
                None => ready.extend(std::mem::take(&mut folders).into_values().map(Ok)),
                Some(Err(error)) => ready.push_back(Err(error)),
                Some(Ok(full)) => {
                    let key = full.entry.sort_key();
                    while let Some(first) = folders.first_entry().filter(|first: &Waiting<'_>| *first.key() <= key) {
                        ready.push_back(Ok(first.remove()));
                    }
                    match full.entry.kind {
                        EntryKind::Directory if folders.len() < FOLDERS_MAX => {
                            folders.insert(key_below(&full.entry.path), full);
                        }
                        _ => ready.push_back(Ok(full)),
                    }
                }
            }
        }
    });
    ordered.boxed()
}

/// The folder whose turn is next.
type Waiting<'a> = OccupiedEntry<'a, Vec<u8>, FullEntry>;

/// Something to be handed out, once its bytes are there.
enum Planned {
    Ready(Archived),
    Leaf(Child),
    /// The leaves that follow cannot be told; so many bytes are left of the entry.
    Lost(u64, EngineError),
}

type PlanStream = BoxStream<'static, Result<Planned, EngineError>>;

/// An entry and its leaves.
fn planned(fetcher: Fetcher, component: String, full: Result<FullEntry, EngineError>, maps: bool) -> PlanStream {
    let full = match full {
        Ok(full) => full,
        Err(error) if error.kind() == Kind::Damaged => {
            return one(Planned::Ready(Archived::LostEntries(component, error)));
        }
        Err(error) => return stream::once(async { Err(error) }).boxed(),
    };
    let leaves = leaves(content_of(fetcher.clone(), full.clone()), &full.entry);
    let begun = stream::once(async move {
        let data = if maps { stretches(fetcher, &full).await? } else { None };
        Ok(Planned::Ready(Archived::Entry { component, entry: Box::new(full.entry), data }))
    });
    begun.chain(leaves).chain(one(Planned::Ready(Archived::End))).boxed()
}

fn one(planned: Planned) -> PlanStream {
    stream::once(async { Ok(planned) }).boxed()
}

/// Leaves as they come; where a page of them is lost, so is the rest.
fn leaves(leaves: BoxStream<'static, Result<Child, EngineError>>, entry: &Entry) -> PlanStream {
    let left = if let EntryKind::File { len } = entry.kind { len } else { 0 };
    let planned = stream::try_unfold((Some(leaves), left), |(leaves, left)| async move {
        let Some(mut leaves) = leaves else { return Ok(None) };
        match leaves.try_next().await {
            Ok(Some(leaf)) => Ok(Some((Planned::Leaf(leaf), (Some(leaves), left.saturating_sub(leaf.len))))),
            Ok(None) => Ok(None),
            Err(error) if error.kind() == Kind::Damaged => Ok(Some((Planned::Lost(left, error), (None, 0)))),
            Err(error) => Err(error),
        }
    });
    planned.boxed()
}

/// Where the data of a file is, if it has holes.
async fn stretches(fetcher: Fetcher, full: &FullEntry) -> Result<Option<Vec<Range<u64>>>, EngineError> {
    let has_pages = full.children.iter().any(|child| child.kind == ChildKind::Page);
    if !has_pages && full.children.iter().all(|child| child.kind != ChildKind::Hole) {
        return Ok(None);
    }
    let (mut found, mut at, mut has_holes) = (Vec::<Range<u64>>::new(), 0_u64, false);
    let mut leaves = leaves_of(fetcher, full.children.clone());
    loop {
        let leaf = match leaves.try_next().await {
            Ok(Some(leaf)) => leaf,
            Ok(None) => break,
            // What is lost is told where its bytes should be.
            Err(error) if error.kind() == Kind::Damaged => return Ok(None),
            Err(error) => return Err(error),
        };
        let end = at.saturating_add(leaf.len);
        let count = found.len();
        match found.last_mut() {
            _ if leaf.kind == ChildKind::Hole => has_holes = true,
            Some(last) if last.end == at => last.end = end,
            _ if count >= STRETCHES_MAX => return Ok(None),
            _ => found.push(at..end),
        }
        at = end;
    }
    Ok(has_holes.then_some(found))
}

/// Windows of what is planned.
fn windows_of(planned: PlanStream) -> BoxStream<'static, Result<Vec<Planned>, EngineError>> {
    let windows = stream::try_unfold(planned, |mut planned| async move {
        let (mut window, mut len) = (Vec::new(), 0_u64);
        while len < WINDOW_LEN && window.len() < WINDOW_ITEMS {
            let Some(next) = planned.try_next().await? else { break };
            if let Planned::Leaf(Child { kind: ChildKind::Chunk, len: leaf_len, .. }) = &next {
                len += leaf_len;
            }
            window.push(next);
        }
        Ok((!window.is_empty()).then_some((window, planned)))
    });
    windows.boxed()
}

/// Reads the leaves of a window, and puts their bytes where they belong. Goes on while the window before is written out.
async fn read(fetcher: Fetcher, window: Vec<Planned>) -> Result<Vec<Archived>, EngineError> {
    let task = tokio::spawn(async move {
        let leaves =
            window.iter().filter_map(|planned| if let Planned::Leaf(leaf) = planned { Some(*leaf) } else { None });
        let found = read_window(fetcher, leaves.collect()).await?;
        Ok(without_lost_files(assembled(window, found)))
    });
    AbortOnDropHandle::new(task).await.map_err(|error| EngineError::Panicked { what: error.to_string() })?
}

fn assembled(window: Vec<Planned>, found: WindowRead) -> Vec<Archived> {
    let mut found = found.into_iter();
    let filled = window.into_iter().filter_map(|planned| match planned {
        Planned::Ready(archived) => Some(archived),
        Planned::Lost(len, error) => Some(Archived::LostBytes(len, error)),
        Planned::Leaf(_) => found.next().map(|(leaf, bytes)| match bytes {
            _ if leaf.kind == ChildKind::Hole => Archived::Hole(leaf.len),
            Ok(bytes) => Archived::Bytes(bytes),
            Err(error) => Archived::LostBytes(leaf.len, error),
        }),
    });
    filled.collect()
}

/// Takes files out of a window of which something is lost, as far as all of them lies in it.
fn without_lost_files(window: Vec<Archived>) -> Vec<Archived> {
    let mut kept: Vec<Archived> = Vec::with_capacity(window.len());
    let mut begun: Option<usize> = None;
    for next in window {
        let is_end = matches!(next, Archived::End);
        if matches!(next, Archived::Entry { .. }) {
            begun = Some(kept.len());
        }
        kept.push(next);
        let Some(at) = begun.filter(|_| is_end) else { continue };
        begun = None;
        let is_lost = |archived: &Archived| matches!(archived, Archived::LostBytes(..));
        if kept.get(at..).is_some_and(|own| own.iter().any(is_lost)) {
            let mut own = kept.drain(at..);
            let entry = own.next();
            let error =
                own.find_map(|archived| if let Archived::LostBytes(_, error) = archived { Some(error) } else { None });
            drop(own);
            if let (Some(Archived::Entry { entry, .. }), Some(error)) = (entry, error) {
                kept.push(Archived::LostFile(entry, error));
            }
        }
    }
    kept
}
