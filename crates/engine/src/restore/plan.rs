//! Planning a restore: what is made at once, and which pieces of which files are wanted, a window at a time.
//!
//! Invariant: memory holds one window of pieces, and a list of hard links.
//! Never here: fetching.

use std::collections::HashMap;
use std::sync::Arc;

use futures::{StreamExt, TryStreamExt};
use pack::manifest::{ChildKind, Entry, EntryKind};
use source::blocking;
use source::entry::EntryPath;

use crate::EngineError;
use crate::entries::{FullEntry, leaves_of};
use crate::fetch::Fetcher;
use crate::restore::reads::{Wanted, plan_reads, read_run};
use crate::restore::write::{FilePlan, Piece};
use crate::restore::{Overwrite, Restoring, panicked};

/// Pieces of one window.
const WINDOW_PIECES: usize = 64 << 10;
/// Files of one window.
const WINDOW_FILES: usize = 16 << 10;
/// Entries made in one blocking job.
const SIMPLE_BATCH: usize = 256;
/// Runs being read at once, at up to 8 MiB of sealed and 4 MiB of opened bytes each.
const RUNS_AT_ONCE: usize = 6;

/// Plans one component.
pub(crate) struct Planner {
    restoring: Arc<Restoring>,
    fetcher: Fetcher,
    prefix: Vec<u8>,
    compare_only: bool,
    simple: Vec<(EntryPath, Entry)>,
    pieces: Vec<Wanted<Piece>>,
    file_count: usize,
    /// The first name of each inode with several.
    first_names: HashMap<(u64, u64), EntryPath>,
    links: Vec<(EntryPath, EntryPath)>,
}

impl Planner {
    pub(crate) fn new(restoring: Arc<Restoring>, fetcher: Fetcher, prefix: &[u8], compare_only: bool) -> Self {
        Self {
            restoring,
            fetcher,
            prefix: prefix.to_vec(),
            compare_only,
            simple: Vec::new(),
            pieces: Vec::new(),
            file_count: 0,
            first_names: HashMap::new(),
            links: Vec::new(),
        }
    }

    /// Takes the next entry.
    pub(crate) async fn take(&mut self, full: FullEntry) -> Result<(), EngineError> {
        if !self.restoring.filter.wants(&full.entry) {
            return Ok(());
        }
        let path = match self.restoring.filter.place(&self.prefix, &full.entry) {
            None => return Ok(()),
            Some(Ok(path)) => path,
            Some(Err(error)) => {
                self.restoring.problem(&source::entry::escaped(&full.entry.path).to_string(), &error);
                return Ok(());
            }
        };
        if !matches!(full.entry.kind, EntryKind::File { .. }) {
            if !self.compare_only {
                self.simple.push((path, full.entry));
            }
            return if self.simple.len() >= SIMPLE_BATCH { self.make_simple().await } else { Ok(()) };
        }
        if self.is_further_name(&full.entry, &path) {
            return Ok(());
        }
        self.file(path, full).await
    }

    /// Whether the entry is another name of a file that is restored already; it is linked in the end.
    fn is_further_name(&mut self, entry: &Entry, path: &EntryPath) -> bool {
        if entry.links < 2 {
            return false;
        }
        match self.first_names.entry((entry.device, entry.inode)) {
            std::collections::hash_map::Entry::Occupied(first) => {
                self.links.push((first.get().clone(), path.clone()));
                true
            }
            std::collections::hash_map::Entry::Vacant(vacant) => {
                vacant.insert(path.clone());
                false
            }
        }
    }

    async fn file(&mut self, path: EntryPath, full: FullEntry) -> Result<(), EngineError> {
        let file = Arc::new(FilePlan::new(path, full.entry, self.compare_only));
        let mut leaves = leaves_of(self.fetcher.clone(), full.children);
        let mut offset = 0;
        while let Some(leaf) = leaves.next().await {
            let leaf = match leaf {
                Ok(leaf) => leaf,
                Err(error @ EngineError::Lost { .. }) => {
                    file.fail(&self.restoring, &error.to_string());
                    break;
                }
                Err(error) => return Err(error),
            };
            file.expect_piece();
            self.pieces.push(Wanted { leaf, tag: Piece { file: Arc::clone(&file), offset } });
            offset += leaf.len;
            if self.pieces.len() >= WINDOW_PIECES {
                self.window().await?;
            }
        }
        self.file_count += 1;
        file.planned(offset);
        if offset == 0 {
            self.finish_empty(file).await?;
        }
        if self.file_count >= WINDOW_FILES { self.window().await } else { Ok(()) }
    }

    /// A file without content has no piece that would finish it.
    async fn finish_empty(&mut self, file: Arc<FilePlan>) -> Result<(), EngineError> {
        self.make_simple().await?;
        let restoring = Arc::clone(&self.restoring);
        blocking::run(move || file.finish_if_done(&restoring)).await.map_err(panicked)?
    }

    /// Directories, links, devices: made at once, in order.
    async fn make_simple(&mut self) -> Result<(), EngineError> {
        if self.simple.is_empty() {
            return Ok(());
        }
        let (simple, restoring) = (std::mem::take(&mut self.simple), Arc::clone(&self.restoring));
        blocking::run(move || restoring.make_all(&simple)).await.map_err(panicked)?
    }

    /// Fetches and writes every piece that is wanted so far.
    async fn window(&mut self) -> Result<(), EngineError> {
        self.make_simple().await?;
        self.file_count = 0;
        let pieces = std::mem::take(&mut self.pieces);
        let pieces = self.without_right_ones(pieces).await?;
        let runs = plan_reads(&self.fetcher, pieces).await?;
        let (fetcher, restoring) = (self.fetcher.clone(), Arc::clone(&self.restoring));
        let written = futures::stream::iter(runs)
            .map(|run| {
                let (fetcher, restoring) = (fetcher.clone(), Arc::clone(&restoring));
                async move {
                    let found = read_run(&fetcher, run).await?;
                    fetcher.offload.start(move || restoring.write_all(found)).await?
                }
            })
            .buffer_unordered(RUNS_AT_ONCE);
        written.try_collect::<()>().await
    }

    /// Leaves out what the target has already, by comparing its content with the chunk's id.
    async fn without_right_ones(&self, pieces: Vec<Wanted<Piece>>) -> Result<Vec<Wanted<Piece>>, EngineError> {
        let may_be_right = self.compare_only || self.restoring.request.overwrite != Overwrite::Never;
        let Some(namer) = self.fetcher.namer.clone().filter(|_| may_be_right) else { return Ok(pieces) };
        let mut jobs = Vec::new();
        let mut pieces = pieces.into_iter().peekable();
        while pieces.peek().is_some() {
            let part: Vec<_> = pieces.by_ref().take(1024).collect();
            let (restoring, namer) = (Arc::clone(&self.restoring), namer.clone());
            jobs.push(self.fetcher.offload.start(move || restoring.drop_right_ones(part, &namer)));
        }
        let mut wanted = Vec::new();
        for job in jobs {
            wanted.extend(job.await??);
        }
        Ok(wanted)
    }

    /// Finishes the last window, then makes the hard links.
    pub(crate) async fn finish(mut self) -> Result<(), EngineError> {
        self.window().await?;
        if self.compare_only {
            return Ok(());
        }
        let (links, restoring) = (std::mem::take(&mut self.links), Arc::clone(&self.restoring));
        blocking::run(move || restoring.link_all(&links)).await.map_err(panicked)?
    }
}

/// Whether a leaf has bytes to fetch.
pub(crate) const fn has_bytes(kind: ChildKind) -> bool {
    matches!(kind, ChildKind::Chunk)
}
