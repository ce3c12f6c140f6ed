//! Writing files: pieces at their offsets, in whatever order they come; the last one finishes the file.
//!
//! Invariant: a file's metadata is set after its last piece, and never on a file that failed.
//! Invariant: a full target ends the restore; any other trouble with one entry is a problem of that entry.
//! Never here: waiting; all of this runs on the pool or on blocking threads.

use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use pack::manifest::{ChildKind, Entry, EntryKind};
use seal::ChunkNamer;
use source::SourceError;
use source::entry::EntryPath;
use source::sink::SinkFile;

use crate::EngineError;
use crate::backup::entry::metadata_of;
use crate::restore::plan::has_bytes;
use crate::restore::reads::{Found, Wanted};
use crate::restore::{Overwrite, RestoreReport, Restoring};

/// Bytes of a hole compared at a time.
const COMPARED_LEN: usize = 256 << 10;

/// Counters of one restore.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    entries: AtomicU64,
    content: AtomicU64,
    written: AtomicU64,
    kept: AtomicU64,
    pub(crate) deleted: AtomicU64,
    skipped: AtomicU64,
}

impl Tally {
    pub(crate) fn report(&self) -> RestoreReport {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        RestoreReport {
            entry_count: read(&self.entries),
            content_len: read(&self.content),
            written_len: read(&self.written),
            kept_len: read(&self.kept),
            deleted_count: read(&self.deleted),
            skipped_count: read(&self.skipped),
            ..RestoreReport::default()
        }
    }
}

/// A file being restored.
pub(crate) struct FilePlan {
    path: EntryPath,
    entry: Entry,
    compare_only: bool,
    /// Pieces to come, and one more until all are planned.
    left: AtomicUsize,
    failed: AtomicBool,
    state: Mutex<State>,
}

#[derive(Default)]
enum State {
    #[default]
    Unopened,
    Open(SinkFile),
    /// Left alone, failed or finished.
    Closed,
}

/// A piece of a file.
pub(crate) struct Piece {
    pub(crate) file: Arc<FilePlan>,
    pub(crate) offset: u64,
}

impl FilePlan {
    pub(crate) fn new(path: EntryPath, entry: Entry, compare_only: bool) -> Self {
        let (left, failed) = (AtomicUsize::new(1), AtomicBool::new(false));
        Self { path, entry, compare_only, left, failed, state: Mutex::default() }
    }

    pub(crate) fn expect_piece(&self) {
        self.left.fetch_add(1, Ordering::AcqRel);
    }

    /// All pieces are planned. The guard goes with the next [`FilePlan::finish_if_done`] for an empty file.
    pub(crate) fn planned(&self, len: u64) {
        if len > 0 {
            self.left.fetch_sub(1, Ordering::AcqRel);
        }
    }

    /// Reports the file's first problem; nothing more is written to it.
    pub(crate) fn fail(&self, restoring: &Restoring, message: &str) {
        if !self.failed.swap(true, Ordering::AcqRel) {
            restoring.progress.add_problem();
            restoring.problems.add(self.path.to_string(), message.to_owned(), true);
        }
    }

    /// Runs `work` on the open file; opens it first. None if the file is left alone.
    fn with_file<T>(
        &self,
        restoring: &Restoring,
        work: impl FnOnce(&mut SinkFile) -> Result<T, SourceError>,
    ) -> Result<Option<T>, SourceError> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if matches!(*state, State::Unopened) {
            *state = match self.open(restoring)? {
                Some(file) => State::Open(file),
                None => State::Closed,
            };
        }
        match &mut *state {
            State::Open(file) => work(file).map(Some),
            _ => Ok(None),
        }
    }

    fn open(&self, restoring: &Restoring) -> Result<Option<SinkFile>, SourceError> {
        let EntryKind::File { len } = self.entry.kind else { return Ok(None) };
        if self.compare_only {
            return restoring.target.open_to_compare(&self.path, len).map(Some);
        }
        let overwrite = restoring.request.overwrite;
        if overwrite != Overwrite::Always
            && let Some(there) = restoring.target.existing(&self.path)?
        {
            let (time, modified_at) = (there.modified_at, self.entry.modified_at);
            let is_same = there.len == len && (time.secs, time.nanos) == (modified_at.secs, modified_at.nanos);
            if overwrite == Overwrite::Never || is_same {
                restoring.tally.skipped.fetch_add(1, Ordering::Relaxed);
                return Ok(None);
            }
        }
        if let Some(parent) = self.path.parent() {
            restoring.target.create_dir_all(&parent)?;
        }
        restoring.target.create_file(&self.path, len).map(Some)
    }

    /// One piece less; the last finishes the file.
    pub(crate) fn finish_if_done(&self, restoring: &Restoring) -> Result<(), EngineError> {
        if self.left.fetch_sub(1, Ordering::AcqRel) != 1 || self.compare_only {
            return Ok(());
        }
        let finished =
            if self.failed.load(Ordering::Acquire) { Ok(None) } else { self.with_file(restoring, |_| Ok(())) };
        let state = std::mem::replace(&mut *self.state.lock().unwrap_or_else(PoisonError::into_inner), State::Closed);
        if let Err(error) = finished {
            return restoring.entry_failed(self, &error);
        }
        let State::Open(mut file) = state else { return Ok(()) };
        if self.failed.load(Ordering::Acquire) {
            return Ok(());
        }
        let metadata = metadata_of(&self.entry);
        match restoring.target.set_file_metadata(&mut file, &metadata, &restoring.request.owners) {
            Ok(problems) => restoring.note_all(problems),
            Err(error) => return restoring.entry_failed(self, &error),
        }
        restoring.count(&self.entry);
        Ok(())
    }
}

impl Restoring {
    /// Leaves out pieces whose content the target has already. Blocking and CPU-bound.
    pub(crate) fn drop_right_ones(
        &self,
        pieces: Vec<Wanted<Piece>>,
        namer: &ChunkNamer,
    ) -> Result<Vec<Wanted<Piece>>, EngineError> {
        let mut wanted = Vec::with_capacity(pieces.len());
        for piece in pieces {
            let Piece { file, offset } = &piece.tag;
            let is_right = file.with_file(self, |open| is_right(open, *offset, &piece, namer));
            match is_right {
                Ok(Some(false)) if file.compare_only => file.fail(self, "differs from the snapshot after the restore"),
                Ok(Some(false)) => wanted.push(piece),
                Ok(Some(true)) => {
                    self.tally.kept.fetch_add(piece.leaf.len, Ordering::Relaxed);
                    self.progress.add_len(piece.leaf.len);
                    file.finish_if_done(self)?;
                }
                Ok(None) => file.finish_if_done(self)?,
                Err(error) => {
                    self.entry_failed(file, &error)?;
                    file.finish_if_done(self)?;
                }
            }
        }
        Ok(wanted)
    }

    /// Writes what was read. Blocking.
    pub(crate) fn write_all(&self, found: Vec<Found<Piece>>) -> Result<(), EngineError> {
        for (Wanted { leaf, tag: Piece { file, offset } }, bytes) in found {
            match bytes {
                Err(error) => file.fail(self, &error.to_string()),
                Ok(bytes) if !file.failed.load(Ordering::Acquire) => {
                    let written = file.with_file(self, |open| {
                        if has_bytes(leaf.kind) {
                            open.write_at(offset, &bytes)
                        } else {
                            open.punch_or_skip_hole(offset, leaf.len)
                        }
                    });
                    match written {
                        Ok(Some(())) => {
                            self.tally.written.fetch_add(bytes.len() as u64, Ordering::Relaxed);
                        }
                        Ok(None) => {}
                        Err(error) => self.entry_failed(&file, &error)?,
                    }
                    self.progress.add_len(leaf.len);
                }
                Ok(_) => {}
            }
            file.finish_if_done(self)?;
        }
        Ok(())
    }

    /// Makes directories, symbolic links, pipes and devices. Blocking.
    pub(crate) fn make_all(&self, entries: &[(EntryPath, Entry)]) -> Result<(), EngineError> {
        for (path, entry) in entries {
            let made = self.make(path, entry).and_then(|()| match entry.kind {
                EntryKind::Directory => Ok(Vec::new()),
                _ => self.target.set_metadata(path, &metadata_of(entry), &self.request.owners),
            });
            match made {
                Ok(problems) => {
                    self.note_all(problems);
                    self.count(entry);
                }
                Err(error) => self.failed(&path.to_string(), &error)?,
            }
        }
        Ok(())
    }

    fn make(&self, path: &EntryPath, entry: &Entry) -> Result<(), SourceError> {
        if self.request.overwrite == Overwrite::Never && self.target.existing(path)?.is_some() {
            return Ok(());
        }
        if let Some(parent) = path.parent() {
            self.target.create_dir_all(&parent)?;
        }
        use source::entry::EntryKind as Wanted;
        let kind = match &entry.kind {
            EntryKind::Directory => return self.target.create_dir(path).map(drop),
            EntryKind::Symlink { target } => return self.target.create_symlink(path, target),
            EntryKind::Fifo => Wanted::Fifo,
            EntryKind::Socket => Wanted::Socket,
            EntryKind::CharDevice { major, minor } => Wanted::CharDevice { major: *major, minor: *minor },
            EntryKind::BlockDevice { major, minor } => Wanted::BlockDevice { major: *major, minor: *minor },
            EntryKind::File { .. } => return Ok(()),
        };
        self.target.mknod(path, &kind)
    }

    /// Makes hard links. Blocking.
    pub(crate) fn link_all(&self, links: &[(EntryPath, EntryPath)]) -> Result<(), EngineError> {
        for (first, path) in links {
            let parent = path.parent().map_or(Ok(()), |parent| self.target.create_dir_all(&parent));
            match parent.and_then(|()| self.target.hard_link(first, path)) {
                Ok(()) => {
                    self.tally.entries.fetch_add(1, Ordering::Relaxed);
                }
                Err(error) => self.failed(&path.to_string(), &error)?,
            }
        }
        Ok(())
    }

    fn count(&self, entry: &Entry) {
        self.tally.entries.fetch_add(1, Ordering::Relaxed);
        self.progress.add_entries(1);
        if let EntryKind::File { len } = entry.kind {
            self.tally.content.fetch_add(len, Ordering::Relaxed);
        }
    }

    /// Notes what could not be set.
    pub(crate) fn note_all(&self, problems: Vec<source::SourceProblem>) {
        for problem in problems {
            self.progress.add_problem();
            let path = source::entry::escaped(problem.path.as_os_str().as_encoded_bytes()).to_string();
            self.problems.add(path, format!("{problem}: {}", problem.cause), problem.loses_something());
        }
    }

    /// Notes one entry's trouble.
    pub(crate) fn problem(&self, path: &str, error: &SourceError) {
        self.progress.add_problem();
        self.problems.add(path.to_owned(), crate::backup::message(error), true);
    }

    fn entry_failed(&self, file: &FilePlan, error: &SourceError) -> Result<(), EngineError> {
        if is_full(error) {
            return Err(EngineError::TargetFull { path: file.path.to_string() });
        }
        file.fail(self, &crate::backup::message(error));
        Ok(())
    }

    /// A full target ends the restore; anything else is noted.
    pub(crate) fn failed(&self, path: &str, error: &SourceError) -> Result<(), EngineError> {
        if is_full(error) {
            return Err(EngineError::TargetFull { path: path.to_owned() });
        }
        self.problem(path, error);
        Ok(())
    }
}

fn is_right(open: &SinkFile, offset: u64, piece: &Wanted<Piece>, namer: &ChunkNamer) -> Result<bool, SourceError> {
    if offset + piece.leaf.len > open.len_before() {
        return Ok(false);
    }
    if piece.leaf.kind == ChildKind::Hole {
        // Writing a hole costs nothing and makes it one.
        return if piece.tag.file.compare_only { is_zero(open, offset, piece.leaf.len) } else { Ok(false) };
    }
    let mut there = vec![0; piece.leaf.len as usize];
    let len = open.read_at(offset, &mut there)?;
    Ok(len == there.len() && namer.name(&there) == piece.leaf.id)
}

/// Whether `len` bytes at `offset` are zeros.
fn is_zero(open: &SinkFile, offset: u64, len: u64) -> Result<bool, SourceError> {
    let (mut at, end) = (offset, offset + len);
    let mut there = vec![0; COMPARED_LEN];
    while at < end {
        let wanted = usize::try_from(end - at).unwrap_or(COMPARED_LEN).min(COMPARED_LEN);
        let found = open.read_at(at, there.get_mut(..wanted).unwrap_or_default())?;
        if found != wanted || there.iter().take(wanted).any(|byte| *byte != 0) {
            return Ok(false);
        }
        at += wanted as u64;
    }
    Ok(true)
}

fn is_full(error: &SourceError) -> bool {
    let mut cause = std::error::Error::source(error);
    while let Some(inner) = cause {
        if let Some(io) = inner.downcast_ref::<std::io::Error>() {
            return matches!(io.kind(), std::io::ErrorKind::StorageFull | std::io::ErrorKind::QuotaExceeded);
        }
        cause = inner.source();
    }
    false
}
