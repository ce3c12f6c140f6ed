//! Planning a restore: what is made at once, and which pieces of which files are wanted, a window at a time.
//!
//! Invariant: memory holds a window being planned, one that waits and one being written, and of each file with several names
//! its first, until all have come.
//! Never here: fetching.

use std::collections::HashMap;
use std::fs::File;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use futures::{Stream, StreamExt, TryStreamExt};
use pack::manifest::{ChildKind, Entry, EntryKind};
use source::blocking;
use source::entry::EntryPath;

use crate::entries::{FullEntry, content_of};
use crate::fetch::Fetcher;
use crate::restore::compare::{UsersOwn, holds_all};
use crate::restore::finish::verify_top;
use crate::restore::reads::{Wanted, plan_reads};
use crate::restore::windows::{Window, Windows};
use crate::restore::write::{FilePlan, FirstName, Piece};
use crate::restore::{Overwrite, Restoring, panicked};
use crate::{EngineError, Kind};

/// Pieces of one window.
const WINDOW_PIECES: usize = 16 << 10;
/// Files of one window, and among them such with several pieces, which may all be open at once.
const WINDOW_FILES: usize = 4 << 10;
const WINDOW_OPEN_FILES: usize = 192;
/// Further names of files that wait for a window to be linked.
const WINDOW_LINKS: usize = 4 << 10;
/// Entries made in one blocking job.
const SIMPLE_BATCH: usize = 256;
/// Pieces compared in one job.
const COMPARE_BATCH: usize = 1024;

/// What tells that two names are one file: an inode alone may have been used again during the walk.
type Inode = (u64, u64, i64, u32, i64, u32);

/// Plans one component.
pub(crate) struct Planner {
    restoring: Arc<Restoring>,
    fetcher: Fetcher,
    prefix: Vec<u8>,
    compare_only: bool,
    windows: Windows,
    simple: Vec<(EntryPath, Entry)>,
    pieces: Vec<Wanted<Piece>>,
    file_count: usize,
    open_file_count: usize,
    /// The first name of each inode with several, and how many may still come: more do only if all of them were backed up.
    first_names: HashMap<Inode, (Arc<FirstName>, u64)>,
    links: Vec<(Arc<FirstName>, EntryPath)>,
}

impl Planner {
    pub(crate) fn new(restoring: Arc<Restoring>, fetcher: Fetcher, prefix: &[u8], compare_only: bool) -> Self {
        let windows = Windows::start(Arc::clone(&restoring), fetcher.clone(), compare_only);
        Self {
            restoring,
            fetcher,
            windows,
            prefix: prefix.to_vec(),
            compare_only,
            simple: Vec::new(),
            pieces: Vec::new(),
            file_count: 0,
            open_file_count: 0,
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
            None if self.compare_only && self.prefix.is_empty() => {
                return verify_top(&self.restoring, full.entry).await;
            }
            None => return Ok(()),
            Some(Ok(path)) => path,
            Some(Err(error)) => {
                self.restoring.problem(&source::entry::escaped(&full.entry.path).to_string(), &error);
                return Ok(());
            }
        };
        let is_simple = !matches!(full.entry.kind, EntryKind::File { .. });
        if self.is_further_name(&full.entry, &path) {
            return if self.links.len() >= WINDOW_LINKS { self.window().await } else { Ok(()) };
        }
        if is_simple {
            self.expect_further_names(&full.entry, &path).await?;
            self.simple.push((path, full.entry));
            return if self.simple.len() >= SIMPLE_BATCH { self.make_simple().await } else { Ok(()) };
        }
        self.file(path, full).await
    }

    /// Whether the entry is another name of a file that is restored already; it is linked after the next window.
    fn is_further_name(&mut self, entry: &Entry, path: &EntryPath) -> bool {
        if entry.links < 2 {
            return false;
        }
        let inode = inode_of(entry);
        let Some((first, left)) = self.first_names.get_mut(&inode) else { return false };
        self.links.push((Arc::clone(first), path.clone()));
        *left = left.saturating_sub(1);
        if *left == 0 {
            self.first_names.remove(&inode);
        }
        true
    }

    /// A link, pipe or device may have further names as a file may; but none is linked to what is the user's own.
    async fn expect_further_names(&mut self, entry: &Entry, path: &EntryPath) -> Result<(), EngineError> {
        if entry.links < 2 || matches!(entry.kind, EntryKind::Directory) {
            return Ok(());
        }
        if self.restoring.request.overwrite == Overwrite::Never && !self.compare_only {
            let (restoring, place) = (Arc::clone(&self.restoring), path.clone());
            let there = blocking::run(move || restoring.target.existing(&place)).await.map_err(panicked)?;
            if !matches!(there, Ok(None)) {
                return Ok(());
            }
        }
        self.first_names.insert(inode_of(entry), (Arc::new(FirstName::new(path.clone())), entry.links - 1));
        Ok(())
    }

    async fn file(&mut self, path: EntryPath, full: FullEntry) -> Result<(), EngineError> {
        let (links, inode) = (full.entry.links, inode_of(&full.entry));
        if links > 1 && self.restoring.request.overwrite == Overwrite::Never {
            let stays = self.users_own(&path, &full).await?;
            if let Some(is_equal) = stays {
                self.restoring.skip_one();
                if is_equal {
                    self.first_names.insert(inode, (Arc::new(FirstName::new(path)), links - 1));
                }
                return Ok(());
            }
        }
        let may_be_there = links > 1 && !self.compare_only && self.restoring.request.overwrite == Overwrite::Always;
        if may_be_there && self.is_there(&path, &full).await? {
            self.first_names.insert(inode, (Arc::new(FirstName::new(path)), links - 1));
            return Ok(());
        }
        let file = Arc::new(FilePlan::new(path, full.entry.clone(), self.compare_only));
        if links > 1 {
            self.first_names.insert(inode, (Arc::clone(&file.name), links - 1));
        }
        let mut leaves = content_of(self.fetcher.clone(), full);
        let (mut offset, mut piece_count) = (0, 0);
        loop {
            let leaf = match self.restoring.unless_stopped(leaves.try_next()).await {
                Ok(Some(leaf)) => leaf,
                Ok(None) => break,
                Err(error) if error.kind() == Kind::Damaged => {
                    self.restoring.met_damage.store(true, Ordering::Relaxed);
                    file.fail(&self.restoring, &error.to_string());
                    break;
                }
                Err(error) => return Err(error),
            };
            file.expect_piece();
            self.pieces.push(Wanted { leaf, tag: Piece { file: Arc::clone(&file), offset } });
            offset += leaf.len;
            piece_count += 1;
            if self.pieces.len() >= WINDOW_PIECES {
                self.window().await?;
            }
        }
        self.file_count += 1;
        self.open_file_count += usize::from(piece_count > 1);
        if file.release() {
            self.make_simple().await?;
            let restoring = Arc::clone(&self.restoring);
            blocking::run(move || file.finish(&restoring)).await.map_err(panicked)??;
        }
        let is_full = self.file_count >= WINDOW_FILES || self.open_file_count >= WINDOW_OPEN_FILES;
        if is_full { self.window().await } else { Ok(()) }
    }

    /// Whether something of the user's stays where a file with several names should be, and then, whether it is equal:
    /// further names are linked to nothing else. None if nothing is there.
    async fn users_own(&self, path: &EntryPath, full: &FullEntry) -> Result<Option<bool>, EngineError> {
        let (restoring, place, entry) = (Arc::clone(&self.restoring), path.clone(), full.entry.clone());
        let looked = blocking::run(move || restoring.users_own(&place, &entry)).await.map_err(panicked)?;
        match looked {
            UsersOwn::Nothing => Ok(None),
            UsersOwn::Other => Ok(Some(false)),
            UsersOwn::Alike(open) => self.holds_content(open, full).await.map(Some),
        }
    }

    /// Whether a file of several names is there just as it should be, which is counted. It is not written to, as others
    /// are: whoever has changed it under one of its names has it made anew.
    async fn is_there(&self, path: &EntryPath, full: &FullEntry) -> Result<bool, EngineError> {
        let (restoring, place, entry) = (Arc::clone(&self.restoring), path.clone(), full.entry.clone());
        let open = blocking::run(move || restoring.linked_alike(&place, &entry)).await.map_err(panicked)?;
        let Some(open) = open else { return Ok(false) };
        if !self.holds_content(open, full).await? {
            return Ok(false);
        }
        let (restoring, len) = (&self.restoring, full.children.iter().map(|child| child.len).sum());
        restoring.tally.kept.fetch_add(len, Ordering::Relaxed);
        restoring.progress.add_len(len);
        restoring.count(&full.entry);
        if restoring.request.dry_run {
            restoring.foresee_same();
        }
        Ok(true)
    }

    /// Whether an open file has an entry's content; what is lost, no file has.
    async fn holds_content(&self, open: File, full: &FullEntry) -> Result<bool, EngineError> {
        let Some(namer) = self.fetcher.namer.clone() else { return Ok(false) };
        let open = Arc::new((open, namer));
        let (mut offset, mut leaves) = (0, content_of(self.fetcher.clone(), full.clone()));
        loop {
            let batch = self.restoring.unless_stopped(leaves.by_ref().take(COMPARE_BATCH).try_collect::<Vec<_>>());
            let batch = match batch.await {
                Ok(batch) if batch.is_empty() => return Ok(true),
                Ok(batch) => batch,
                Err(error) if error.kind() == Kind::Damaged => return Ok(false),
                Err(error) => return Err(error),
            };
            let (open, start) = (Arc::clone(&open), offset);
            offset += batch.iter().map(|leaf| leaf.len).sum::<u64>();
            if !self.fetcher.offload.start(move || holds_all(&open.0, start, &batch, &open.1)).await? {
                return Ok(false);
            }
        }
    }

    /// Directories, links, devices: made at once, in order.
    async fn make_simple(&mut self) -> Result<(), EngineError> {
        if self.simple.is_empty() {
            return Ok(());
        }
        let (simple, restoring) = (std::mem::take(&mut self.simple), Arc::clone(&self.restoring));
        let compare_only = self.compare_only;
        let work = move || if compare_only { restoring.verify_all(&simple) } else { restoring.make_all(&simple) };
        blocking::run(work).await.map_err(panicked)?
    }

    /// Hands in every piece that is wanted so far, to be fetched and written, and further names of what is whole then.
    async fn window(&mut self) -> Result<(), EngineError> {
        self.make_simple().await?;
        self.file_count = 0;
        self.open_file_count = 0;
        let pieces = std::mem::take(&mut self.pieces);
        let mut pieces = self.without_right_ones(pieces).await?;
        if self.restoring.request.dry_run {
            let (wanted, restoring) = (std::mem::take(&mut pieces), Arc::clone(&self.restoring));
            blocking::run(move || restoring.foresee_pieces(wanted)).await.map_err(panicked)??;
        }
        let runs = plan_reads(&self.fetcher, pieces).await?;
        self.windows.send(Window { runs, links: std::mem::take(&mut self.links) }).await
    }

    /// Waits for all jobs, also when one has failed: none may write when the restore has returned. After the first
    /// failure the others end soon.
    async fn all<T>(&self, jobs: impl Stream<Item = Result<T, EngineError>>) -> Result<Vec<T>, EngineError> {
        let mut jobs = std::pin::pin!(jobs);
        let mut done = Ok(Vec::new());
        while let Some(ended) = jobs.next().await {
            match (&mut done, ended) {
                (Ok(done), Ok(one)) => done.push(one),
                (Ok(_), Err(error)) => {
                    self.restoring.stop.cancel();
                    done = Err(error);
                }
                (Err(_), _) => {}
            }
        }
        done
    }

    /// Leaves out what the target has already, by comparing its content with the chunk's id.
    async fn without_right_ones(&self, pieces: Vec<Wanted<Piece>>) -> Result<Vec<Wanted<Piece>>, EngineError> {
        let Some(namer) = self.fetcher.namer.clone() else { return Ok(pieces) };
        let mut jobs = Vec::new();
        let mut pieces = pieces.into_iter().peekable();
        while pieces.peek().is_some() {
            let part: Vec<_> = pieces.by_ref().take(COMPARE_BATCH).collect();
            let (restoring, namer) = (Arc::clone(&self.restoring), namer.clone());
            jobs.push(self.fetcher.offload.start(move || restoring.drop_right_ones(part, &namer)));
        }
        let jobs = futures::stream::iter(jobs).then(|job| async { job.await? });
        Ok(self.all(jobs).await?.into_iter().flatten().collect())
    }

    /// Finishes the last window, unless planning failed, and waits until nothing writes any more.
    pub(crate) async fn finish(mut self, planned: Result<(), EngineError>) -> Result<(), EngineError> {
        let planned = match planned {
            Ok(()) => self.window().await,
            failed => failed,
        };
        if planned.is_err() {
            self.restoring.stop.cancel();
        }
        match (planned, self.windows.finish().await) {
            // The writer's failure is what interrupted the planner, or the planner's the writer.
            (Err(EngineError::Interrupted), Err(error)) | (Err(error), _) => Err(error),
            (Ok(()), written) => written,
        }
    }
}

fn inode_of(entry: &Entry) -> Inode {
    let (modified_at, changed_at) = (entry.modified_at, entry.changed_at);
    (entry.device, entry.inode, modified_at.secs, modified_at.nanos, changed_at.secs, changed_at.nanos)
}

/// Whether a leaf has bytes to fetch.
pub(crate) const fn has_bytes(kind: ChildKind) -> bool {
    matches!(kind, ChildKind::Chunk)
}
