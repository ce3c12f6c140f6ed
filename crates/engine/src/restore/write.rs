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

use crate::backup::entry::metadata_of;
use crate::restore::compare::holds;
use crate::restore::plan::has_bytes;
use crate::restore::preview::Preview;
use crate::restore::reads::{Found, Wanted};
use crate::restore::{Overwrite, RestoreReport, Restoring};
use crate::{EngineError, Kind};

/// Counters of one restore.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    entries: AtomicU64,
    content: AtomicU64,
    written: AtomicU64,
    pub(crate) kept: AtomicU64,
    pub(crate) deleted: AtomicU64,
    pub(crate) skipped: AtomicU64,
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

/// A file's name, and what became of it, as its further names need it.
pub(crate) struct FirstName {
    pub(crate) path: EntryPath,
    failed: AtomicBool,
    /// Something unknown that nothing may overwrite came to lie there meanwhile.
    is_users: AtomicBool,
}

impl FirstName {
    pub(crate) const fn new(path: EntryPath) -> Self {
        Self { path, failed: AtomicBool::new(false), is_users: AtomicBool::new(false) }
    }

    /// Why nothing can be linked to it.
    fn obstacle(&self) -> Option<&'static str> {
        let is = |flag: &AtomicBool| flag.load(Ordering::Acquire);
        let is_users = is(&self.is_users).then_some("was left alone");
        is(&self.failed).then_some("could not be restored").or(is_users)
    }
}

/// A file being restored.
pub(crate) struct FilePlan {
    pub(crate) name: Arc<FirstName>,
    pub(crate) entry: Entry,
    compare_only: bool,
    /// Pieces to come, and one more until all are planned.
    left: AtomicUsize,
    /// Whether it was opened for writing before: what is there then is ours.
    begun: AtomicBool,
    state: Mutex<State>,
    /// In a dry run: what is there now, and whether any of its content differs.
    pub(crate) preview: Mutex<Option<Preview>>,
    pub(crate) differs: AtomicBool,
}

#[derive(Default)]
enum State {
    #[default]
    Unopened,
    Open(SinkFile),
    /// Left alone, failed or finished.
    Closed,
}

/// What is there of a file before a window is written.
enum There {
    Nothing,
    /// So many bytes, which may be right.
    Some(u64),
    /// The user's file, which stays as it is.
    LeftAlone,
    /// Opened for reading only, after the restore.
    ToCompare(std::fs::File),
}

enum Right {
    Yes,
    No,
    LeftAlone,
}

/// A piece of a file.
pub(crate) struct Piece {
    pub(crate) file: Arc<FilePlan>,
    pub(crate) offset: u64,
}

impl FilePlan {
    pub(crate) fn new(path: EntryPath, entry: Entry, compare_only: bool) -> Self {
        let name = Arc::new(FirstName::new(path));
        let (left, begun) = (AtomicUsize::new(1), AtomicBool::new(false));
        let (preview, differs) = (Mutex::default(), AtomicBool::new(false));
        Self { name, entry, compare_only, left, begun, state: Mutex::default(), preview, differs }
    }

    pub(crate) fn expect_piece(&self) {
        self.left.fetch_add(1, Ordering::AcqRel);
    }

    /// One piece less, or all pieces are planned; true if nothing is left, and the caller must finish the file.
    pub(crate) fn release(&self) -> bool {
        self.left.fetch_sub(1, Ordering::AcqRel) == 1
    }

    /// Reports the file's first problem; nothing more is written to it.
    pub(crate) fn fail(&self, restoring: &Restoring, message: &str) {
        if !self.name.failed.swap(true, Ordering::AcqRel) {
            // What could be had of it stays, and it was said that it is not all.
            restoring.unfinished.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.name.path);
            restoring.progress.add_problem();
            restoring.problems.add(self.name.path.to_string(), message.to_owned(), true);
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
        if !self.begun.load(Ordering::Acquire) && self.is_left_alone(restoring, len)? {
            restoring.skip_one();
            self.name.is_users.store(restoring.request.overwrite == Overwrite::Never, Ordering::Release);
            return Ok(None);
        }
        if let Some(parent) = self.name.path.parent() {
            restoring.target.create_dir_all(&parent)?;
        }
        let file = restoring.in_place_of_all(&self.name.path, || restoring.target.create_file(&self.name.path, len))?;
        self.begun.store(true, Ordering::Release);
        if restoring.request.overwrite == Overwrite::Never {
            restoring.unfinished.lock().unwrap_or_else(PoisonError::into_inner).insert(self.name.path.clone());
        }
        Ok(Some(file))
    }

    /// Whether what is there already stays as it is, by the request's word.
    fn is_left_alone(&self, restoring: &Restoring, len: u64) -> Result<bool, SourceError> {
        let overwrite = restoring.request.overwrite;
        if overwrite == Overwrite::Always {
            return Ok(false);
        }
        let Some(there) = restoring.target.existing(&self.name.path)? else { return Ok(false) };
        let (time, modified_at) = (there.modified_at, self.entry.modified_at);
        let is_same = there.len == len && (time.secs, time.nanos) == (modified_at.secs, modified_at.nanos);
        Ok(overwrite == Overwrite::Never || is_same)
    }

    /// One piece less; the last finishes the file.
    fn finish_if_done(&self, restoring: &Restoring) -> Result<(), EngineError> {
        if self.release() { self.finish(restoring) } else { Ok(()) }
    }

    /// Sets metadata and length after the last piece; an empty file is only made now.
    pub(crate) fn finish(&self, restoring: &Restoring) -> Result<(), EngineError> {
        let has_failed = self.name.failed.load(Ordering::Acquire);
        if self.compare_only && !has_failed {
            restoring.verify(&self.name.path, &self.entry);
        }
        if self.compare_only || has_failed {
            *self.state.lock().unwrap_or_else(PoisonError::into_inner) = State::Closed;
            return Ok(());
        }
        if restoring.request.dry_run {
            return restoring.foresee_file(self);
        }
        let opened = self.with_file(restoring, |_| Ok(()));
        let state = std::mem::replace(&mut *self.state.lock().unwrap_or_else(PoisonError::into_inner), State::Closed);
        if let Err(error) = opened {
            return restoring.entry_failed(self, &error);
        }
        let State::Open(mut file) = state else { return Ok(()) };
        restoring.unfinished.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.name.path);
        let metadata = metadata_of(&self.entry);
        match restoring.target.set_file_metadata(&mut file, &metadata, &restoring.request.owners) {
            Ok(problems) => restoring.note_all(problems),
            Err(error) => return restoring.entry_failed(self, &error),
        }
        restoring.count(&self.entry);
        Ok(())
    }

    /// Closes the file until its next piece comes.
    fn close(&self) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if matches!(*state, State::Open(_)) {
            *state = State::Unopened;
        }
    }
}

impl Restoring {
    /// Leaves out pieces whose content the target has already, or all of a file that is left alone. Blocking and
    /// CPU-bound. Each file is closed again after its last piece here.
    pub(crate) fn drop_right_ones(
        &self,
        pieces: Vec<Wanted<Piece>>,
        namer: &ChunkNamer,
    ) -> Result<Vec<Wanted<Piece>>, EngineError> {
        let mut wanted = Vec::with_capacity(pieces.len());
        let mut current: Option<(Arc<FilePlan>, There)> = None;
        for piece in pieces {
            self.go_on()?;
            let file = Arc::clone(&piece.tag.file);
            if !current.as_ref().is_some_and(|(last, _)| Arc::ptr_eq(last, &file)) {
                if let Some((last, _)) = current.take() {
                    last.close();
                }
                match self.look(&file) {
                    Ok(there) => current = Some((Arc::clone(&file), there)),
                    Err(error) => {
                        self.entry_failed(&file, &error)?;
                        file.finish_if_done(self)?;
                        continue;
                    }
                }
            }
            let Some((_, there)) = &current else { continue };
            match self.is_right(&file, there, &piece, namer) {
                Right::No if file.compare_only => {
                    file.fail(self, "differs from the snapshot after the restore");
                    file.finish_if_done(self)?;
                }
                Right::No => wanted.push(piece),
                Right::Yes => {
                    if !file.compare_only {
                        self.tally.kept.fetch_add(piece.leaf.len, Ordering::Relaxed);
                        self.progress.add_len(piece.leaf.len);
                    }
                    file.finish_if_done(self)?;
                }
                Right::LeftAlone => file.finish_if_done(self)?,
            }
        }
        if let Some((last, _)) = current {
            last.close();
        }
        Ok(wanted)
    }

    /// What is there of a file before anything is written.
    fn look(&self, file: &FilePlan) -> Result<There, SourceError> {
        let EntryKind::File { len } = file.entry.kind else { return Ok(There::Nothing) };
        if file.compare_only {
            let opened = self.target.open_for_comparing(&file.name.path)?;
            let fits = opened.filter(|open| open.metadata().is_ok_and(|metadata| metadata.len() == len));
            return Ok(fits.map_or(There::Nothing, There::ToCompare));
        }
        if self.request.dry_run {
            return self.look_only(file);
        }
        if self.target.existing(&file.name.path)?.is_none() {
            return Ok(There::Nothing);
        }
        Ok(match file.with_file(self, |open| Ok(open.len_before()))? {
            None => There::LeftAlone,
            Some(0) => There::Nothing,
            Some(len_before) => There::Some(len_before),
        })
    }

    /// The same in a dry run. A file with further names would be made anew.
    fn look_only(&self, file: &FilePlan) -> Result<There, SourceError> {
        Ok(match self.preview_of(file)? {
            Preview::New => There::Nothing,
            Preview::Stays => There::LeftAlone,
            Preview::Alike(there) if there.links > 1 => There::Nothing,
            Preview::Alike(_) => {
                self.target.open_for_comparing(&file.name.path)?.map_or(There::Nothing, There::ToCompare)
            }
        })
    }

    /// In a dry run: counts what would be written, which leaves nothing to do.
    pub(crate) fn foresee_pieces(&self, pieces: Vec<Wanted<Piece>>) -> Result<(), EngineError> {
        for Wanted { leaf, tag: Piece { file, .. } } in pieces {
            file.differs.store(true, Ordering::Release);
            if has_bytes(leaf.kind) {
                self.tally.written.fetch_add(leaf.len, Ordering::Relaxed);
            }
            self.progress.add_len(leaf.len);
            file.finish_if_done(self)?;
        }
        Ok(())
    }

    fn is_right(&self, file: &FilePlan, there: &There, piece: &Wanted<Piece>, namer: &ChunkNamer) -> Right {
        let end = piece.tag.offset + piece.leaf.len;
        let mut bytes = Vec::new();
        let read = match there {
            There::LeftAlone => return Right::LeftAlone,
            There::ToCompare(open) => {
                return if holds(open, piece.tag.offset, &piece.leaf, namer) { Right::Yes } else { Right::No };
            }
            There::Some(len) if end <= *len && piece.leaf.kind == ChildKind::Chunk => {
                bytes.resize(piece.leaf.len as usize, 0);
                file.with_file(self, |open| open.read_at(piece.tag.offset, &mut bytes)).ok().flatten()
                    == Some(bytes.len())
            }
            _ => false,
        };
        if read && namer.name(&bytes) == piece.leaf.id { Right::Yes } else { Right::No }
    }

    /// Writes what was read. Blocking.
    pub(crate) fn write_all(&self, found: Vec<Found<Piece>>) -> Result<(), EngineError> {
        for (Wanted { leaf, tag: Piece { file, offset } }, bytes) in found {
            self.go_on()?;
            match bytes {
                Err(error) => {
                    self.met_damage.fetch_or(error.kind() == Kind::Damaged, Ordering::Relaxed);
                    file.fail(self, &error.to_string());
                }
                Ok(bytes) if !file.name.failed.load(Ordering::Acquire) => {
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
            self.go_on()?;
            if self.request.dry_run {
                self.foresee_simple(path, entry)?;
                continue;
            }
            if entry.links > 1 && !matches!(entry.kind, EntryKind::Directory) && self.is_linked_alike(path, entry) {
                self.count(entry);
                continue;
            }
            let made = self.make(path, entry).and_then(|made| match entry.kind {
                _ if !made => Ok(None),
                EntryKind::Directory => Ok(Some(Vec::new())),
                _ => self.target.set_metadata(path, &metadata_of(entry), &self.request.owners).map(Some),
            });
            match made {
                Ok(Some(problems)) => {
                    self.note_all(problems);
                    self.count(entry);
                }
                Ok(None) => self.skip_one(),
                Err(error) => self.failed(&path.to_string(), &error)?,
            }
        }
        Ok(())
    }

    /// Makes one entry; false if what is there already is left alone.
    fn make(&self, path: &EntryPath, entry: &Entry) -> Result<bool, SourceError> {
        use source::entry::EntryKind as Wanted;
        if self.request.overwrite == Overwrite::Never && self.target.existing(path)?.is_some() {
            self.leave_alone(path);
            return Ok(false);
        }
        if let Some(parent) = path.parent() {
            self.target.create_dir_all(&parent)?;
        }
        let kind = match &entry.kind {
            EntryKind::Directory => return self.target.create_dir(path).map(|_| true),
            EntryKind::Symlink { target } => {
                return self.in_place_of_all(path, || self.target.create_symlink(path, target)).map(|()| true);
            }
            EntryKind::Fifo => Wanted::Fifo,
            EntryKind::Socket => Wanted::Socket,
            EntryKind::CharDevice { major, minor } => Wanted::CharDevice { major: *major, minor: *minor },
            EntryKind::BlockDevice { major, minor } => Wanted::BlockDevice { major: *major, minor: *minor },
            EntryKind::File { .. } => return Ok(false),
        };
        self.in_place_of_all(path, || self.target.mknod(path, &kind)).map(|()| true)
    }

    /// Makes an entry; a directory with something in it, which the sink leaves in the way, is removed first where the
    /// restore deletes.
    fn in_place_of_all<T>(
        &self,
        path: &EntryPath,
        make: impl Fn() -> Result<T, SourceError>,
    ) -> Result<T, SourceError> {
        match make() {
            Err(SourceError::Occupied { .. }) if self.may_remove_trees() => {}
            made => return made,
        }
        self.target.remove(path)?;
        self.note_deleted(path);
        make()
    }

    /// Whether a directory may go with all that is in it because something else has its name.
    pub(crate) fn may_remove_trees(&self) -> bool {
        self.request.delete && self.request.overwrite != Overwrite::Never
    }

    /// Remembers a path of the user's that must not be touched again.
    fn leave_alone(&self, path: &EntryPath) {
        self.left_alone.lock().unwrap_or_else(PoisonError::into_inner).insert(path.clone());
    }

    /// Whether `path` is the user's and stays as it is.
    pub(crate) fn is_left_alone(&self, path: &EntryPath) -> bool {
        self.left_alone.lock().unwrap_or_else(PoisonError::into_inner).contains(path)
    }

    /// Makes hard links. Blocking.
    pub(crate) fn link_all(&self, links: &[(Arc<FirstName>, EntryPath)]) -> Result<(), EngineError> {
        for (first, path) in links {
            self.go_on()?;
            if let Some(obstacle) = first.obstacle() {
                let broken = format!("is a further name of {}, which {obstacle}", first.path);
                self.progress.add_problem();
                self.problems.add(path.to_string(), broken, true);
                continue;
            }
            match self.link(&first.path, path) {
                Ok(true) => {
                    self.tally.entries.fetch_add(1, Ordering::Relaxed);
                    self.progress.add_entries(1);
                }
                Ok(false) => self.skip_one(),
                Err(error) => self.failed(&path.to_string(), &error)?,
            }
        }
        Ok(())
    }

    fn link(&self, first: &EntryPath, path: &EntryPath) -> Result<bool, SourceError> {
        if self.request.overwrite == Overwrite::Never && self.target.existing(path)?.is_some() {
            return Ok(false);
        }
        if self.request.dry_run {
            return self.foresee_link(first, path).map(|()| true);
        }
        if let Some(parent) = path.parent() {
            self.target.create_dir_all(&parent)?;
        }
        self.in_place_of_all(path, || self.target.hard_link(first, path)).map(|()| true)
    }

    /// Counts one entry whose place stays as it is.
    pub(crate) fn skip_one(&self) {
        self.tally.skipped.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn count(&self, entry: &Entry) {
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

    pub(crate) fn entry_failed(&self, file: &FilePlan, error: &SourceError) -> Result<(), EngineError> {
        if is_full(error) {
            return Err(EngineError::TargetFull { path: file.name.path.to_string() });
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
