//! `cat`: one entry's content as a stream, in order, with read-ahead.
//!
//! ```text
//! leaves ─► windows (8 MiB) ─► runs of blobs, one ranged get each ─► opened on the pool ─► slices, in order
//! ```
//!
//! Invariant: bytes come in order and each chunk is checked against its id; what is lost ends the stream with an error.
//! Never here: writing files.

use std::ops::Range;

use bytes::Bytes;
use futures::stream::{self, BoxStream};
use futures::{Stream, StreamExt, TryStreamExt};
use pack::Role;
use pack::manifest::{Child, ChildKind, EntryKind};
use tokio_util::task::AbortOnDropHandle;

use crate::entries::{FullEntry, Scope, content_len, content_of, entries_of, leaves_within, wrong_len};
use crate::fetch::Fetcher;
use crate::repository::Repository;
use crate::restore::reads::{Wanted, plan_reads, read_run};
use crate::{EngineError, SnapshotInfo};

/// Content of one window, in bytes, and in leaves; one is written out and the others are read meanwhile, so that a store that is
/// far away has some ten reads to answer at once.
const WINDOW_LEN: u64 = 8 << 20;
const WINDOW_LEAVES: usize = 8 << 10;
const WINDOWS_AHEAD: usize = 5;
/// Runs of blobs read at once within a window.
const RUNS_AT_ONCE: usize = 6;
const ZEROS_LEN: usize = 64 << 10;

/// An entry to print.
#[derive(Debug, Clone)]
pub struct CatRequest {
    /// Its path within the snapshot; empty for the only entry of a stream.
    pub path: Vec<u8>,
    /// Which bytes of it, as far as it has them; all for none.
    pub range: Option<Range<u64>>,
}

impl CatRequest {
    /// All of an entry.
    #[must_use]
    pub const fn whole(path: Vec<u8>) -> Self {
        Self { path, range: None }
    }
}

impl Repository {
    /// The content of one file, or a part of it: only the blobs that hold some of that are read.
    ///
    /// # Errors
    ///
    /// [`EngineError::NoEntry`], [`EngineError::NotAFile`]; the stream itself fails where content is lost.
    pub async fn cat(
        &self,
        snapshot: &SnapshotInfo,
        request: CatRequest,
    ) -> Result<BoxStream<'static, Result<Bytes, EngineError>>, EngineError> {
        self.keyring.require(&[Role::Owner, Role::Reader], "open content")?;
        let fetcher = self.fetcher().await?;
        let scope = Scope::new(&request.path);
        let mut found = None;
        for component in &snapshot.snapshot.structure.components {
            let mut entries = entries_of(fetcher.clone(), component.root, scope.clone());
            while let Some(full) = entries.try_next().await? {
                if request.path.is_empty() || full.entry.path == request.path {
                    found = Some(full);
                    break;
                }
            }
        }
        let shown = source::entry::escaped(&request.path).to_string();
        let id = snapshot.id.to_string();
        let full = found.ok_or_else(|| EngineError::NoEntry { path: shown.clone(), snapshot: id.clone() })?;
        if !matches!(full.entry.kind, EntryKind::File { .. }) {
            return Err(EngineError::NotAFile { path: shown, snapshot: id, noun: noun(&full.entry.kind) });
        }
        match request.range {
            None => Ok(bytes_in(content_windows(fetcher, full))),
            Some(range) => Ok(part_of(fetcher, full, range)),
        }
    }
}

/// The bytes of windows, in order.
fn bytes_in(
    windows: impl Stream<Item = Result<WindowRead, EngineError>> + Send + 'static,
) -> BoxStream<'static, Result<Bytes, EngineError>> {
    let pieces =
        windows.map_ok(|found| stream::iter(found.into_iter().flat_map(|(leaf, bytes)| bytes_of(leaf, bytes))));
    pieces.try_flatten().boxed()
}

/// A part of an entry's content.
fn part_of(fetcher: Fetcher, full: FullEntry, range: Range<u64>) -> BoxStream<'static, Result<Bytes, EngineError>> {
    stream::once(async move {
        let EntryKind::File { len } = full.entry.kind else { return Ok(stream::empty().boxed()) };
        if content_len(&full.children) != len {
            return Err(wrong_len(&full.entry.path));
        }
        let range = range.start..range.end.min(len);
        let wanted_len = range.end.saturating_sub(range.start);
        let leaves = leaves_within(fetcher.clone(), full.children, range.clone());
        let mut leaves = Box::pin(leaves.peekable());
        // Holes are trimmed; of the first chunk, what comes before the range is left out below.
        let first_start = leaves.as_mut().peek().await.and_then(|first| first.as_ref().ok()).map(|(start, _)| *start);
        let skipped_len = range.start.saturating_sub(first_start.unwrap_or(range.start));
        let windows = windows_of(leaves.map_ok(|(_, leaf)| leaf).boxed());
        let windows = windows.map_ok(move |window| read_window(fetcher.clone(), window)).try_buffered(WINDOWS_AHEAD);
        Ok(trimmed(bytes_in(windows), skipped_len, wanted_len))
    })
    .try_flatten()
    .boxed()
}

/// Leaves out `skipped_len` bytes and then gives `wanted_len`.
fn trimmed(
    bytes: BoxStream<'static, Result<Bytes, EngineError>>,
    skipped_len: u64,
    wanted_len: u64,
) -> BoxStream<'static, Result<Bytes, EngineError>> {
    let start = (bytes, skipped_len, wanted_len);
    let parts = stream::try_unfold(start, |(mut bytes, mut skipped_len, wanted_len)| async move {
        if wanted_len == 0 {
            return Ok(None);
        }
        while let Some(mut piece) = bytes.try_next().await? {
            let skipped = skipped_len.min(piece.len() as u64);
            skipped_len -= skipped;
            drop(piece.split_to(skipped as usize));
            piece.truncate(wanted_len.min(piece.len() as u64) as usize);
            if !piece.is_empty() {
                let left = wanted_len - piece.len() as u64;
                return Ok(Some((piece, (bytes, skipped_len, left))));
            }
        }
        Ok(None)
    });
    parts.boxed()
}

/// A run of leaves, each with its bytes or why they cannot be had; a hole has none.
pub(crate) type WindowRead = Vec<(Child, Result<Bytes, EngineError>)>;

/// The content of an entry, window by window, in order.
pub(crate) fn content_windows(
    fetcher: Fetcher,
    full: FullEntry,
) -> impl Stream<Item = Result<WindowRead, EngineError>> + Send {
    let windows = windows_of(content_of(fetcher.clone(), full));
    windows.map_ok(move |window| read_window(fetcher.clone(), window)).try_buffered(WINDOWS_AHEAD)
}

/// Leaves in windows of bounded content.
fn windows_of(
    leaves: BoxStream<'static, Result<Child, EngineError>>,
) -> impl Stream<Item = Result<Vec<Child>, EngineError>> + Send {
    stream::try_unfold(leaves, |mut leaves| async move {
        let (mut window, mut len) = (Vec::new(), 0);
        while len < WINDOW_LEN && window.len() < WINDOW_LEAVES {
            let Some(leaf) = leaves.try_next().await? else { break };
            len += if leaf.kind == ChildKind::Hole { 0 } else { leaf.len };
            window.push(leaf);
        }
        Ok((!window.is_empty()).then_some((window, leaves)))
    })
}

/// Reads a window by pack and blob, each blob once, and gives its leaves back in order.
///
/// Runs as a task of its own, so that it goes on while the window before is being written out; dropped, it ends.
pub(crate) async fn read_window(fetcher: Fetcher, window: Vec<Child>) -> Result<WindowRead, EngineError> {
    let task = tokio::spawn(async move {
        let wanted = window.into_iter().enumerate().map(|(tag, leaf)| Wanted { leaf, tag }).collect();
        let runs = plan_reads(&fetcher, wanted).await?;
        let mut reads = stream::iter(runs).map(|run| read_run(&fetcher, run, None)).buffer_unordered(RUNS_AT_ONCE);
        let mut found = Vec::new();
        while let Some((part, _)) = reads.try_next().await? {
            found.extend(part);
        }
        found.sort_by_key(|(wanted, _)| wanted.tag);
        Ok(found.into_iter().map(|(wanted, bytes)| (wanted.leaf, bytes)).collect())
    });
    AbortOnDropHandle::new(task).await.map_err(|error| EngineError::Panicked { what: error.to_string() })?
}

/// A leaf's bytes; a hole's are zeros, a little at a time.
pub(crate) fn bytes_of(
    leaf: Child,
    bytes: Result<Bytes, EngineError>,
) -> impl Iterator<Item = Result<Bytes, EngineError>> {
    static ZEROS: [u8; ZEROS_LEN] = [0; ZEROS_LEN];
    let zeros = if leaf.kind == ChildKind::Hole { leaf.len } else { 0 };
    let zeros = (0..zeros.div_ceil(ZEROS_LEN as u64)).map(move |at| {
        let left = (zeros - at * ZEROS_LEN as u64).min(ZEROS_LEN as u64) as usize;
        Ok(Bytes::from_static(ZEROS.get(..left).unwrap_or_default()))
    });
    let data = (leaf.kind != ChildKind::Hole).then_some(bytes);
    zeros.chain(data)
}

/// An entry's kind as a noun.
pub(crate) const fn noun(kind: &EntryKind) -> &'static str {
    match kind {
        EntryKind::File { .. } => "file",
        EntryKind::Directory => "directory",
        EntryKind::Symlink { .. } => "symbolic link",
        EntryKind::Fifo => "named pipe",
        EntryKind::Socket => "socket",
        EntryKind::CharDevice { .. } => "character device",
        EntryKind::BlockDevice { .. } => "block device",
    }
}
