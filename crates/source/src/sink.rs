//! The sink: a directory tree which a restore writes to, and never past.
//!
//! A manifest may be hostile, and the target may hold anything: a symbolic link planted where a directory should
//! be must not lead a restore elsewhere. So nothing is ever named by a path from the root of the file system:
//!
//! ```text
//! target ──openat2(beneath, no links)──→ parent directory ──(…at calls, one name)──→ the object itself
//! ```
//!
//! Directories are descended in runs short enough for the system, so paths may be of any length, and the last
//! few stay open.
//!
//! Files are written under their final names, so that a restore that was stopped can go on and a restore over
//! an earlier state writes only what differs. A file which has further names (hard links) is made anew instead:
//! writing to it would change the other names too.
//!
//! All calls block; they may come from several threads.
//!
//! Invariant: no call reads or changes anything that is not beneath the target.
//! Never here: what to restore, and in which order. The caller sets directories' metadata last.

mod beneath;
mod file;
mod look;
mod metadata;
mod remove;

use std::ffi::CStr;
use std::io;
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use rustix::fs::{
    Access, AtFlags, CWD, FileType, Mode, OFlags, accessat, linkat, makedev, mkdirat, mknodat, openat, readlinkat,
    symlinkat,
};
use rustix::io::Errno;

pub use file::SinkFile;
pub use look::{Existing, is_zero};
pub use metadata::OwnerPolicy;

use crate::entry::{EntryKind, EntryPath};
use crate::error::SourceError;
use crate::fds::Fds;
use crate::owners::Owners;
use beneath::{open_beneath, parts_from};

/// How many directories of the target are kept open, as a count.
const TARGET_FDS_MAX: usize = 64;

/// What a restore creates is private until its own permissions are set.
const MODE_PRIVATE_FILE: Mode = Mode::RUSR.union(Mode::WUSR);
const MODE_PRIVATE_DIR: Mode = Mode::RWXU;

/// The directory which a restore writes to.
#[derive(Debug)]
pub struct Target {
    path: PathBuf,
    top: Arc<OwnedFd>,
    open: Fds<Vec<u8>>,
    owners: Mutex<Owners>,
    replace_other_kinds: bool,
}

impl Target {
    /// Opens the directory at `dir`, created with its parents if it is missing: then for its owner only. `dir` itself may
    /// be reached through symbolic links: it is the operator's choice.
    ///
    /// # Errors
    ///
    /// [`SourceError::TargetKind`] if it is something else; [`SourceError::Target`] if it cannot be opened or may not be written to; [`SourceError::NoOpenat2`] if the kernel cannot keep
    /// writes beneath it, as before Linux 5.6.
    pub fn open(dir: &Path) -> Result<Self, SourceError> {
        let failed = |source| SourceError::Target { target: dir.to_owned(), source };
        create_private(dir).map_err(|error| match std::fs::metadata(dir) {
            Ok(there) if there.is_file() => SourceError::TargetKind { target: dir.to_owned(), found: "file" },
            Ok(there) if !there.is_dir() => SourceError::TargetKind { target: dir.to_owned(), found: "special file" },
            _ => failed(error),
        })?;
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let top = openat(CWD, dir, flags, Mode::empty()).map_err(|error| failed(error.into()))?;
        match open_beneath(top.as_fd(), b".", flags, Mode::empty()) {
            // A filter that does not know the call (older containers) refuses it with EPERM.
            Err(Errno::NOSYS | Errno::PERM) => return Err(SourceError::NoOpenat2 { target: dir.to_owned() }),
            probed => probed.map_err(|error| failed(error.into()))?,
        };
        match accessat(&top, ".", Access::WRITE_OK | Access::EXEC_OK, AtFlags::EACCESS) {
            Ok(()) | Err(Errno::NOSYS) => {}
            Err(error) => return Err(failed(error.into())),
        }
        Ok(Self {
            path: dir.to_owned(),
            top: Arc::new(top),
            open: Fds::new(TARGET_FDS_MAX),
            owners: Mutex::default(),
            replace_other_kinds: false,
        })
    }

    /// Whether something of another kind that has an entry's name is removed: never a directory with something in it.
    /// Where it is not, the call fails with [`SourceError::Occupied`].
    #[must_use]
    pub fn replace_other_kinds(mut self, replace: bool) -> Self {
        self.replace_other_kinds = replace;
        self
    }

    /// The target as it was opened.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Makes a directory, for its owner only until its metadata is set. Returns whether it is new.
    ///
    /// # Errors
    ///
    /// [`SourceError::Occupied`], [`SourceError::BehindLink`], [`SourceError::Write`] (also if the parent is
    /// missing).
    pub fn create_dir(&self, path: &EntryPath) -> Result<bool, SourceError> {
        let parent = self.parent_of(path)?;
        let create = || mkdirat(&parent, path.name(), MODE_PRIVATE_DIR);
        self.create_or_reuse(path, "create directory", create, |kind| *kind == EntryKind::Directory)
    }

    /// Makes a directory and those above it that are missing.
    ///
    /// # Errors
    ///
    /// As [`Target::create_dir`].
    pub fn create_dir_all(&self, path: &EntryPath) -> Result<(), SourceError> {
        let mut missing = vec![path.clone()];
        while let Some(last) = missing.last() {
            match self.create_dir(last) {
                Ok(_) => drop(missing.pop()),
                Err(SourceError::Write { source, path, action }) => match last.parent() {
                    Some(parent) if source.kind() == io::ErrorKind::NotFound => missing.push(parent),
                    _ => return Err(SourceError::Write { path, action, source }),
                },
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Makes a symbolic link; one that is there is replaced unless it points to the same.
    ///
    /// # Errors
    ///
    /// As [`Target::create_dir`].
    pub fn create_symlink(&self, path: &EntryPath, target: &[u8]) -> Result<(), SourceError> {
        let parent = self.parent_of(path)?;
        if readlinkat(&parent, path.name(), Vec::new()).is_ok_and(|there| there.to_bytes() == target) {
            return Ok(());
        }
        let create = || symlinkat(target, &parent, path.name());
        self.create_or_replace(path, "create symbolic link", create, |kind| matches!(kind, EntryKind::Symlink { .. }))
    }

    /// Makes `path` a further name of what `existing` names in this target.
    ///
    /// Anything but a directory that has the name is replaced; an empty directory too if other kinds are.
    ///
    /// # Errors
    ///
    /// As [`Target::create_dir`].
    pub fn hard_link(&self, existing: &EntryPath, path: &EntryPath) -> Result<(), SourceError> {
        let (from, to) = (self.parent_of(existing)?, self.parent_of(path)?);
        if let (Some(one), Some(other)) = (self.existing(existing)?, self.existing(path)?)
            && (one.device, one.inode) == (other.device, other.inode)
        {
            return Ok(());
        }
        let create = || linkat(&from, existing.name(), &to, path.name(), AtFlags::empty());
        self.create_or_replace(path, "create hard link", create, |kind| *kind != EntryKind::Directory)
    }

    /// Makes a named pipe, socket or device. One that is there and equal is kept if this is its only name; else what is of
    /// the same kind is replaced.
    ///
    /// # Errors
    ///
    /// [`SourceError::KindUnfit`] for files, directories and links; else as [`Target::create_dir`]. Devices take
    /// root.
    pub fn mknod(&self, path: &EntryPath, kind: &EntryKind) -> Result<(), SourceError> {
        let (file_type, device) = match *kind {
            EntryKind::Fifo => (FileType::Fifo, 0),
            EntryKind::Socket => (FileType::Socket, 0),
            EntryKind::CharDevice { major, minor } => (FileType::CharacterDevice, makedev(major, minor)),
            EntryKind::BlockDevice { major, minor } => (FileType::BlockDevice, makedev(major, minor)),
            EntryKind::File { .. } | EntryKind::Directory | EntryKind::Symlink { .. } => {
                return Err(SourceError::KindUnfit { path: self.shown(path.as_bytes()), kind: kind.noun() });
            }
        };
        let parent = self.parent_of(path)?;
        if self.existing(path)?.is_some_and(|there| there.kind == *kind && there.links == 1) {
            return Ok(());
        }
        let create = || mknodat(&parent, path.name(), file_type, MODE_PRIVATE_FILE, device);
        self.create_or_replace(path, "create special file", create, |there| there.is_same_kind(kind))
    }

    /// Makes the names in a directory (the target itself if `None`) last: they survive a crash afterwards.
    ///
    /// # Errors
    ///
    /// [`SourceError::Write`].
    pub fn sync_dir(&self, path: Option<&EntryPath>) -> Result<(), SourceError> {
        let path = path.map_or(b"".as_slice(), EntryPath::as_bytes);
        let dir = self.dir_fd(path)?;
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let synced = open_beneath(dir.as_fd(), b".", flags, Mode::empty()).and_then(rustix::fs::fsync);
        synced.map_err(|error| self.failed(path, "sync directory", error))
    }

    /// Makes all that was written to the target's file system last, in one call.
    ///
    /// # Errors
    ///
    /// [`SourceError::Write`].
    pub fn sync_all(&self) -> Result<(), SourceError> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let synced = open_beneath(self.top.as_fd(), b".", flags, Mode::empty()).and_then(rustix::fs::syncfs);
        synced.map_err(|error| self.failed(b"", "sync", error))
    }

    /// Creates, or reuses what is there if it `fits`. Returns whether it is new.
    fn create_or_reuse(
        &self,
        path: &EntryPath,
        action: &'static str,
        create: impl Fn() -> rustix::io::Result<()>,
        fits: impl Fn(&EntryKind) -> bool,
    ) -> Result<bool, SourceError> {
        match create() {
            Ok(()) => return Ok(true),
            Err(Errno::EXIST) => {}
            Err(error) => return Err(self.failed(path.as_bytes(), action, error)),
        }
        match self.existing(path)? {
            Some(there) if fits(&there.kind) => return Ok(false),
            Some(there) => self.make_way(path, &there.kind)?,
            None => {}
        }
        create().map_err(|error| self.failed(path.as_bytes(), action, error))?;
        Ok(true)
    }

    /// Creates; what is there is removed if it is `alike`, or if other kinds are replaced.
    fn create_or_replace(
        &self,
        path: &EntryPath,
        action: &'static str,
        create: impl Fn() -> rustix::io::Result<()>,
        alike: impl Fn(&EntryKind) -> bool,
    ) -> Result<(), SourceError> {
        match create() {
            Err(Errno::EXIST) => {}
            created => return created.map_err(|error| self.failed(path.as_bytes(), action, error)),
        }
        match self.existing(path)? {
            Some(there) if alike(&there.kind) => self.unlink(path)?,
            Some(there) => self.make_way(path, &there.kind)?,
            None => {}
        }
        create().map_err(|error| self.failed(path.as_bytes(), action, error))
    }

    /// Removes what has an entry's name and is of another kind, if that is wanted and nothing is in it.
    fn make_way(&self, path: &EntryPath, found: &EntryKind) -> Result<(), SourceError> {
        let occupied = |found| Err(SourceError::Occupied { path: self.shown(path.as_bytes()), found });
        match (self.replace_other_kinds, found) {
            (false, found) => occupied(found.noun()),
            (true, EntryKind::Directory) if !self.remove_if_empty(path)? => occupied("directory that is not empty"),
            (true, EntryKind::Directory) => Ok(()),
            (true, _) => self.unlink(path),
        }
    }

    fn parent_of(&self, path: &EntryPath) -> Result<Arc<OwnedFd>, SourceError> {
        self.dir_fd(path.parent_bytes())
    }

    /// The open directory at `path`, empty for the target itself. It can be passed through, not listed.
    fn dir_fd(&self, path: &[u8]) -> Result<Arc<OwnedFd>, SourceError> {
        if path.is_empty() {
            return Ok(Arc::clone(&self.top));
        }
        if let Some(fd) = self.open.get(path) {
            return Ok(fd);
        }
        let (mut fd, mut start) = self.nearest_open(path);
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        for (part, end) in parts_from(path, start) {
            let opened = open_beneath(fd.as_fd(), part, flags, Mode::empty());
            fd = Arc::new(opened.map_err(|error| self.unreachable(path, &fd, part, error))?);
            start = end;
            self.open.put(path.get(..start).unwrap_or(path).to_vec(), Arc::clone(&fd));
        }
        Ok(fd)
    }

    /// The deepest directory above `path` which is open, and where in `path` its own entries begin.
    fn nearest_open(&self, path: &[u8]) -> (Arc<OwnedFd>, usize) {
        let mut above = path;
        while let Some(slash) = above.iter().rposition(|&byte| byte == b'/') {
            above = above.get(..slash).unwrap_or_default();
            if let Some(fd) = self.open.get(above) {
                return (fd, slash + 1);
            }
        }
        (Arc::clone(&self.top), 0)
    }

    /// Why the directory at `path` cannot be reached. The system says ENOTDIR for a link in the last place.
    fn unreachable(&self, path: &[u8], at: &OwnedFd, part: &[u8], error: Errno) -> SourceError {
        let is_link = |name: &[u8]| readlinkat(at, name, Vec::new()).is_ok();
        match error {
            Errno::LOOP | Errno::XDEV => SourceError::BehindLink { path: self.shown(path) },
            Errno::NOTDIR if is_link(part) => SourceError::BehindLink { path: self.shown(path) },
            error => self.failed(path, "open directory", error),
        }
    }

    fn failed(&self, path: &[u8], action: &'static str, error: impl Into<io::Error>) -> SourceError {
        SourceError::Write { path: self.shown(path), action, source: error.into() }
    }

    fn shown(&self, path: &[u8]) -> PathBuf {
        use std::os::unix::ffi::OsStrExt as _;
        self.path.join(std::ffi::OsStr::from_bytes(path))
    }
}

/// Makes a directory that only its owner enters, and those above it as anybody would make them.
fn create_private(dir: &Path) -> io::Result<()> {
    if let Some(parent) = dir.parent().filter(|parent| !parent.as_os_str().is_empty()) {
        std::fs::create_dir_all(parent)?;
    }
    match std::fs::DirBuilder::new().mode(MODE_PRIVATE_DIR.as_raw_mode()).create(dir) {
        Err(_) if dir.is_dir() => Ok(()),
        made => made,
    }
}

/// A name as the system takes it. Names come from an [`EntryPath`] or the system, so they have no zero.
fn with_name<T>(name: &[u8], call: impl FnOnce(&CStr) -> io::Result<T>) -> io::Result<T> {
    call(&std::ffi::CString::new(name)?)
}

#[cfg(test)]
pub(crate) mod tests;
