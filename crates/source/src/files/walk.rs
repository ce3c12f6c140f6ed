//! The walk: every entry beneath the roots, in the manifest's order.
//!
//! ```text
//! for each directory:  list and sort its names
//!                      yield an entry for each name
//!                      then, in the same order, walk each subdirectory
//! ```
//!
//! Memory is the names of the directory being listed, and for each level above it the subdirectories which are
//! still to come. Descriptors are bounded whatever the depth (`dir.rs`).
//!
//! Invariant: one entry's trouble is yielded as a problem and never ends the walk.
//! Never here: content; an entry is opened by whoever wants its content, maybe on another thread.

use std::collections::VecDeque;
use std::ffi::{CStr, OsString};
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::ffi::OsStringExt as _;
use std::path::PathBuf;
use std::sync::Arc;

use crate::entry::{Entry, EntryKind, EntryPath};
use crate::error::{ProblemKind, SourceError, SourceProblem};
use crate::observe::{FileId, Observer, Stat, stat_at};

use super::content::{self, ContentReader};
use super::dir::{Dir, DirFds, is_replaced};
use super::listing::{LISTING_READ_LEN, Listing};
use super::roots::{NodeId, Plan, TOP};
use super::rules::Rules;

/// What a walk yields.
#[derive(Debug)]
pub enum Walked {
    /// The next entry.
    Entry(WalkedEntry),
    /// Something about an entry went wrong; the walk goes on.
    Problem(SourceProblem),
}

/// An entry, and the way back to it.
#[derive(Debug)]
pub struct WalkedEntry {
    /// What was found.
    pub entry: Entry,
    dir: Arc<Dir>,
    may_have_holes: bool,
}

impl WalkedEntry {
    /// Whether it is a file that has content, or may have although its length is 0.
    #[must_use]
    pub fn may_have_content(&self) -> bool {
        match self.entry.kind {
            EntryKind::File { len } => {
                len > 0 || content::may_be_made_up(len, self.entry.metadata.device, || self.dir.fd().ok())
            }
            _ => false,
        }
    }

    /// Opens the entry's content. Blocking.
    ///
    /// Never follows a symbolic link, and leaves the access time alone where that is permitted.
    ///
    /// # Errors
    ///
    /// [`SourceError::NotAFile`] for other kinds, [`SourceError::Replaced`] if another file has the name by
    /// now, [`SourceError::Unreadable`] otherwise. The entry can be reported and passed over.
    pub fn open_content(&self) -> Result<ContentReader, SourceError> {
        content::open(&self.entry, self.may_have_holes, || self.dir.fd())
    }

    /// Looks at the entry again, for another try after it changed while it was read. Blocking.
    ///
    /// # Errors
    ///
    /// [`SourceError::Unreadable`] if it is gone or cannot be looked at; [`SourceError::Replaced`] if the name
    /// now stands for another kind of thing.
    pub fn refreshed(&self) -> Result<Self, SourceError> {
        let unreadable = |source| SourceError::Unreadable { path: absolute(self.entry.path.as_bytes()), source };
        let fd = self.dir.fd().map_err(unreadable)?;
        let name = std::ffi::CString::new(self.entry.path.name()).map_err(|error| unreadable(error.into()))?;
        let stat = stat_at(fd.as_fd(), &name, false).map_err(unreadable)?;
        let mut observer = Observer::new();
        observer.enter(fd.as_fd());
        let found = observer.observe(fd.as_fd(), &name, &stat, false).map_err(unreadable)?;
        if !found.kind.is_same_kind(&self.entry.kind) {
            return Err(SourceError::Replaced { path: absolute(self.entry.path.as_bytes()) });
        }
        let entry = Entry { path: self.entry.path.clone(), kind: found.kind, metadata: found.metadata };
        Ok(Self { entry, dir: Arc::clone(&self.dir), may_have_holes: stat.may_have_holes() })
    }
}

/// The walk over a source's roots. Yields entries in the manifest's order, and problems between them.
#[derive(Debug)]
pub struct Walk {
    plan: Arc<Plan>,
    rules: Arc<Rules>,
    observer: Observer,
    /// The directories from `/` down to the one being walked.
    levels: Vec<Level>,
    /// The path of the last level, without the leading slash.
    path: Vec<u8>,
    /// The names of the last level, and which comes next.
    listing: Listing,
    next_name: usize,
    /// The last level, open.
    fd: Option<Arc<OwnedFd>>,
    waiting: VecDeque<Walked>,
    list_buffer: Box<[MaybeUninit<u8>]>,
}

/// A directory being walked.
#[derive(Debug)]
struct Level {
    dir: Arc<Dir>,
    scope: Scope,
    path_len: usize,
    subdirs: VecDeque<Subdir>,
}

/// A subdirectory that comes later.
#[derive(Debug)]
struct Subdir {
    name: Box<CStr>,
    id: FileId,
    follow: bool,
    scope: Scope,
}

/// How much of a directory is walked.
#[derive(Debug, Clone, Copy)]
struct Scope {
    /// Everything in it that the rules keep; else only what leads to a root.
    full: bool,
    /// Where the plan goes on from here, if it does.
    node: Option<NodeId>,
    /// The file system of the root this is beneath.
    device: u64,
    /// The directory matched an include pattern, so everything in it does.
    included: bool,
}

impl Walk {
    pub(super) fn new(plan: Arc<Plan>, rules: Arc<Rules>) -> Self {
        let mut walk = Self {
            plan,
            rules,
            observer: Observer::new(),
            levels: Vec::new(),
            path: Vec::new(),
            listing: Listing::default(),
            next_name: 0,
            fd: None,
            waiting: VecDeque::new(),
            list_buffer: Box::new_uninit_slice(LISTING_READ_LEN),
        };
        for missing in walk.plan.missing() {
            let (path, kind, cause) = (missing.root.clone(), missing.kind, missing.cause());
            walk.waiting.push_back(Walked::Problem(SourceProblem { path, kind, cause }));
        }
        match Dir::top(DirFds::new()) {
            Ok((dir, fd)) => {
                let full = walk.plan.is_root(TOP);
                let scope = Scope { full, node: Some(TOP), device: dir.id().device, included: false };
                walk.begin(dir, fd, scope);
            }
            Err(error) => walk.problem(ProblemKind::Directory, error),
        }
        walk
    }

    /// Looks at one name of the directory being walked. Returns its entry unless it is left out.
    fn visit(&mut self, index: usize) -> Option<WalkedEntry> {
        let scope = self.levels.last()?.scope;
        let fd = Arc::clone(self.fd.as_ref()?);
        let name = self.listing.get(index)?;
        let node = scope.node.and_then(|node| self.plan.child(node, name.to_bytes()));
        let follow = node.is_some_and(|node| !self.plan.is_root(node));
        let path_len = self.path.len();
        push_name(&mut self.path, name);
        let looked = stat_at(fd.as_fd(), name, follow);
        let entry = match looked {
            Ok(stat) => self.judge(index, &fd, stat, Scope { node, ..scope }, follow),
            Err(error) => {
                if node.is_some() || !self.rules.excludes(&self.path, false) {
                    self.problem(missing(&error), error);
                }
                None
            }
        };
        self.path.truncate(path_len);
        entry
    }

    /// Decides about a name that exists; `scope` is its directory's, with the name's own place in the plan.
    fn judge(
        &mut self,
        index: usize,
        fd: &Arc<OwnedFd>,
        stat: Stat,
        mut scope: Scope,
        follow: bool,
    ) -> Option<WalkedEntry> {
        let is_dir = stat.file_type() == rustix::fs::FileType::Directory;
        scope.included = scope.included || (self.rules.has_includes() && self.rules.includes(&self.path, is_dir));
        if scope.full {
            scope.full = self.keeps(&stat, is_dir, scope.included);
        }
        let is_root = scope.node.is_some_and(|node| self.plan.is_root(node));
        if is_root {
            scope = Scope { full: true, device: stat.id().device, ..scope };
        }
        if !scope.full && scope.node.is_none() {
            return None;
        }
        let name = self.listing.get(index)?;
        let found = match self.observer.observe(fd.as_fd(), name, &stat, follow) {
            Ok(found) => found,
            Err(error) => {
                self.problem(missing(&error), error);
                return None;
            }
        };
        let level = self.levels.last_mut()?;
        let path = EntryPath::of(self.path.get(..level.path_len)?, name.to_bytes());
        let dir = Arc::clone(&level.dir);
        if found.kind == EntryKind::Directory {
            let leaves = self.rules.one_file_system() && stat.id().device != scope.device;
            let scope = Scope { full: scope.full && !leaves, ..scope };
            if self.rules.is_forbidden(stat.id()) {
                self.problem(ProblemKind::Forbidden, io::Error::other("it is where backups themselves are kept"));
            } else if scope.full || scope.node.is_some() {
                level.subdirs.push_back(Subdir { name: name.into(), id: stat.id(), follow, scope });
            }
        }
        if let Some(error) = found.xattrs_failed {
            self.problem(ProblemKind::Xattrs, error);
        }
        match path {
            Ok(path) => {
                let entry = Entry { path, kind: found.kind, metadata: found.metadata };
                Some(WalkedEntry { entry, dir, may_have_holes: stat.may_have_holes() })
            }
            Err(error) => {
                self.problem(ProblemKind::Name, io::Error::other(error));
                None
            }
        }
    }

    /// Whether the rules keep the name at `self.path`.
    fn keeps(&self, stat: &Stat, is_dir: bool, included: bool) -> bool {
        let is_file = stat.file_type() == rustix::fs::FileType::RegularFile;
        let is_asked_for = is_dir || included || !self.rules.has_includes();
        is_asked_for && !(is_file && self.rules.is_too_long(stat.len())) && !self.rules.excludes(&self.path, is_dir)
    }

    /// Goes into a subdirectory of the last level.
    fn descend(&mut self, subdir: Subdir) {
        let Some(parent) = self.levels.last() else { return };
        push_name(&mut self.path, &subdir.name);
        match Dir::enter(&parent.dir, subdir.name, subdir.id, subdir.follow, subdir.scope.full) {
            Ok((dir, fd)) => self.begin(dir, fd, subdir.scope),
            Err(error) => {
                let kind = if is_replaced(&error) { ProblemKind::Replaced } else { ProblemKind::Directory };
                self.problem(kind, error);
                self.leave_path();
            }
        }
    }

    /// Lists a directory that was just opened, and makes it the last level.
    fn begin(&mut self, dir: Arc<Dir>, fd: Arc<OwnedFd>, scope: Scope) {
        self.listing.clear();
        self.next_name = 0;
        let listed = self.list(&fd, scope);
        if let Err(error) = listed {
            self.problem(ProblemKind::Directory, error);
        }
        self.observer.enter(fd.as_fd());
        self.fd = Some(fd);
        self.levels.push(Level { dir, scope, path_len: self.path.len(), subdirs: VecDeque::new() });
    }

    fn list(&mut self, fd: &Arc<OwnedFd>, scope: Scope) -> io::Result<()> {
        let mut read = Ok(());
        if scope.full {
            read = self.listing.read(fd.as_fd(), &mut self.list_buffer);
            self.listing.sort();
            let listing = &self.listing;
            let markers = self.rules.markers_in(fd.as_fd(), |name| listing.has(name));
            if !markers.is_empty() {
                self.listing.retain(|name| markers.contains(&name));
            }
        }
        let planned = scope.node.into_iter().flat_map(|node| self.plan.names(node));
        let added = planned.map(|name| self.listing.add(name)).fold(Ok(()), Result::and);
        self.listing.sort();
        read.and(added)
    }

    /// Leaves the last level, which has nothing more.
    fn ascend(&mut self) {
        self.levels.pop();
        self.fd = None;
        self.leave_path();
    }

    /// Makes the path the last level's again.
    fn leave_path(&mut self) {
        self.path.truncate(self.levels.last().map_or(0, |level| level.path_len));
    }

    /// Reports trouble with what `self.path` names.
    fn problem(&mut self, kind: ProblemKind, cause: io::Error) {
        let path = absolute(&self.path);
        self.waiting.push_back(Walked::Problem(SourceProblem { path, kind, cause }));
    }
}

impl Iterator for Walk {
    type Item = Walked;

    fn next(&mut self) -> Option<Walked> {
        loop {
            if let Some(waiting) = self.waiting.pop_front() {
                return Some(waiting);
            }
            if self.next_name < self.listing.count() {
                self.next_name += 1;
                if let Some(entry) = self.visit(self.next_name - 1) {
                    return Some(Walked::Entry(entry));
                }
            } else if let Some(subdir) = self.levels.last_mut()?.subdirs.pop_front() {
                self.descend(subdir);
            } else {
                self.ascend();
            }
        }
    }
}

fn push_name(path: &mut Vec<u8>, name: &CStr) {
    if !path.is_empty() {
        path.push(b'/');
    }
    path.extend_from_slice(name.to_bytes());
}

pub(super) fn absolute(path: &[u8]) -> PathBuf {
    let mut bytes = Vec::with_capacity(path.len() + 1);
    bytes.push(b'/');
    bytes.extend_from_slice(path);
    PathBuf::from(OsString::from_vec(bytes))
}

fn missing(error: &io::Error) -> ProblemKind {
    if error.kind() == io::ErrorKind::NotFound { ProblemKind::Vanished } else { ProblemKind::Stat }
}
