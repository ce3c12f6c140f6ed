//! `cat`: one entry's content as a stream, in order, with read-ahead.
//!
//! ```text
//! leaves ─► places ─► runs of blobs, one ranged get each ─► opened on the pool ─► slices, in order
//! ```
//!
//! Invariant: bytes come in order and each chunk is checked against its id; what is lost ends the stream with an error.
//! Never here: writing files.

use bytes::Bytes;
use futures::stream::{self, BoxStream};
use futures::{StreamExt, TryStreamExt};
use pack::Role;
use pack::manifest::{Child, ChildKind, EntryKind};

use crate::entries::{Scope, entries_of, leaves_of};
use crate::repository::Repository;
use crate::restore::reads::{Wanted, plan_reads, read_run};
use crate::{EngineError, SnapshotInfo};

/// Leaves whose places are looked up at once.
const LEAVES_AT_ONCE: usize = 256;
/// Runs of blobs read ahead, at up to 4 MiB of plaintext each or so.
const RUNS_AHEAD: usize = 6;
const ZEROS_LEN: usize = 64 << 10;

/// An entry to print.
#[derive(Debug, Clone)]
pub struct CatRequest {
    /// Its path within the snapshot; empty for the only entry of a stream.
    pub path: Vec<u8>,
}

impl Repository {
    /// The content of one file.
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
        let leaves = leaves_of(fetcher.clone(), full.children);
        let batches = leaves.try_chunks(LEAVES_AT_ONCE).map_err(|error| error.1);
        let lookup = fetcher.clone();
        let runs = batches.and_then(move |leaves| {
            let fetcher = lookup.clone();
            async move {
                let wanted = leaves.into_iter().map(|leaf| Wanted { leaf, tag: () }).collect();
                Ok(stream::iter(plan_reads(&fetcher, wanted, true).await?.into_iter().map(Ok)))
            }
        });
        let read = runs.try_flatten().map_ok(move |run| {
            let fetcher = fetcher.clone();
            async move { read_run(&fetcher, run).await }
        });
        let content = read
            .try_buffered(RUNS_AHEAD)
            .map_ok(|chunks| stream::iter(chunks.into_iter().flat_map(|(wanted, bytes)| bytes_of(wanted.leaf, bytes))));
        Ok(content.try_flatten().boxed())
    }
}

/// A leaf's bytes; a hole's are zeros, a little at a time.
fn bytes_of(leaf: Child, bytes: Result<Bytes, EngineError>) -> impl Iterator<Item = Result<Bytes, EngineError>> {
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
