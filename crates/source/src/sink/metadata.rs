//! Giving a restored object its metadata back.
//!
//! The order matters:
//!
//! ```text
//! owner           clears set-user-id and capabilities
//! inherited ACLs  come off before the permissions that they would widen
//! mode
//! attributes      capabilities, ACLs
//! times           last, as all else may touch them
//! ```
//!
//! Invariant: a file never is set-user-id (or set-group-id) for another owner than the one it had.
//! Never here: following links; the object is opened first and all is done to what is open.

use std::io;
use std::os::fd::{AsFd as _, BorrowedFd};
use std::path::Path;
use std::sync::PoisonError;

use rustix::fs::{
    AtFlags, CWD, FileType, Gid, Mode, OFlags, Timespec, Timestamps, UTIME_OMIT, Uid, chmod, chownat, fchmod, fchown,
    utimensat,
};

use crate::entry::{EntryPath, Metadata};
use crate::error::{ProblemKind, SourceError, SourceProblem};
use crate::observe::stat_of;
use crate::xattrs;

use super::beneath::open_beneath;
use super::{SinkFile, Target};

/// Whom restored objects belong to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum OwnerPolicy {
    /// To the owner of the same name here; by number where the name is not known.
    #[default]
    ByName,
    /// To the owner of the same number.
    ByNumber,
    /// To whoever restores.
    Keep,
}

/// What metadata is set on.
struct Object<'a> {
    fd: BorrowedFd<'a>,
    file_type: FileType,
    /// Opened for reading and writing, not only found.
    is_open: bool,
    shown: &'a Path,
}

impl Target {
    /// Sets owner, permissions, attributes and times of what has this name; a symbolic link's own.
    ///
    /// For a directory, call it after everything in it is written, as that changes its time. Returns what could
    /// not be set, in which case the rest was. Without root, owners mostly cannot; then set-user-id and
    /// set-group-id are not set either.
    ///
    /// # Errors
    ///
    /// [`SourceError::Write`] if nothing has this name; [`SourceError::BehindLink`].
    pub fn set_metadata(
        &self,
        path: &EntryPath,
        metadata: &Metadata,
        policy: &OwnerPolicy,
    ) -> Result<Vec<SourceProblem>, SourceError> {
        let failed = |error| self.failed(path.as_bytes(), "set metadata of", error);
        let parent = self.parent_of(path)?;
        let opened = open_beneath(parent.as_fd(), path.name(), OFlags::PATH | OFlags::NOFOLLOW, Mode::empty());
        let found = opened.map_err(|error| failed(error.into()))?;
        let file_type = stat_of(found.as_fd()).map_err(failed)?.file_type();
        let shown = self.shown(path.as_bytes());
        let object = Object { fd: found.as_fd(), file_type, is_open: false, shown: &shown };
        Ok(self.apply(&object, metadata, policy))
    }

    /// The same for the target itself.
    pub fn set_own_metadata(&self, metadata: &Metadata, policy: &OwnerPolicy) -> Vec<SourceProblem> {
        let fd = self.top.as_fd();
        self.apply(&Object { fd, file_type: FileType::Directory, is_open: false, shown: self.path() }, metadata, policy)
    }

    /// What of the target itself is not as it should be; owners as the policy gives them, if they can be given at all.
    ///
    /// # Errors
    ///
    /// [`SourceError::Write`] if it cannot be looked at.
    pub fn own_differences(&self, metadata: &Metadata, policy: &OwnerPolicy) -> Result<Vec<&'static str>, SourceError> {
        let fd = self.top.as_fd();
        let object = Object { fd, file_type: FileType::Directory, is_open: false, shown: self.path() };
        self.compare(&object, metadata, policy).map_err(|error| self.failed(b"", "look at", error))
    }

    /// The same for what has this name; a symbolic link's own. Nothing is changed.
    ///
    /// # Errors
    ///
    /// [`SourceError::Write`] if nothing has this name, or it cannot be looked at; [`SourceError::BehindLink`].
    pub fn differences(
        &self,
        path: &EntryPath,
        metadata: &Metadata,
        policy: &OwnerPolicy,
    ) -> Result<Vec<&'static str>, SourceError> {
        let failed = |error| self.failed(path.as_bytes(), "look at", error);
        let parent = self.parent_of(path)?;
        let opened = open_beneath(parent.as_fd(), path.name(), OFlags::PATH | OFlags::NOFOLLOW, Mode::empty());
        let found = opened.map_err(|error| failed(error.into()))?;
        let file_type = stat_of(found.as_fd()).map_err(failed)?.file_type();
        let shown = self.shown(path.as_bytes());
        let object = Object { fd: found.as_fd(), file_type, is_open: false, shown: &shown };
        self.compare(&object, metadata, policy).map_err(failed)
    }

    fn compare(&self, object: &Object<'_>, metadata: &Metadata, policy: &OwnerPolicy) -> io::Result<Vec<&'static str>> {
        let stat = stat_of(object.fd)?;
        let owner = self.owner_for(metadata, policy);
        let mode = object.mode_for(metadata.mode, owner.unwrap_or((metadata.uid, metadata.gid)))?;
        let is_link = object.file_type == FileType::Symlink;
        let (time, wanted) = (stat.modified_at(), metadata.modified_at);
        let differs = [
            ("owner", owner.is_some_and(|owner| owner != stat.owner())),
            ("permissions", !is_link && stat.mode() & 0o7777 != mode.as_raw_mode()),
            ("attributes", xattrs::differ(&xattrs::proc_path(object.fd), &metadata.xattrs)?),
            ("modification time", (time.secs, time.nanos) != (wanted.secs, wanted.nanos)),
        ];
        Ok(differs.into_iter().filter(|(_, differs)| *differs).map(|(what, _)| what).collect())
    }

    /// The same for a file that is still open, with fewer calls; also gives it its length. Content that is
    /// written afterwards would change the times again.
    ///
    /// # Errors
    ///
    /// [`SourceError::Write`] if the length cannot be set.
    pub fn set_file_metadata(
        &self,
        file: &mut SinkFile,
        metadata: &Metadata,
        policy: &OwnerPolicy,
    ) -> Result<Vec<SourceProblem>, SourceError> {
        file.settle_len()?;
        let object = Object { fd: file.fd(), file_type: FileType::RegularFile, is_open: true, shown: file.path() };
        Ok(self.apply(&object, metadata, policy))
    }

    fn apply(&self, object: &Object<'_>, metadata: &Metadata, policy: &OwnerPolicy) -> Vec<SourceProblem> {
        let mut problems = Vec::new();
        let mut note = |kind, done: io::Result<()>| {
            if let Err(cause) = done {
                problems.push(SourceProblem { path: object.shown.to_owned(), kind, cause });
            }
        };
        let owner = self.owner_for(metadata, policy);
        if let Some((uid, gid)) = owner {
            note(ProblemKind::Owner, object.set_owner(uid, gid));
        }
        let by_path = xattrs::proc_path(object.fd);
        note(ProblemKind::Xattrs, xattrs::remove_others(&by_path, &metadata.xattrs));
        if object.file_type != FileType::Symlink {
            let wanted = owner.unwrap_or((metadata.uid, metadata.gid));
            note(ProblemKind::Mode, object.set_mode(metadata.mode, wanted, &by_path));
        }
        note(ProblemKind::Xattrs, xattrs::set(&by_path, &metadata.xattrs));
        note(ProblemKind::Times, object.set_times(metadata, &by_path));
        problems
    }

    /// Whom the object should belong to; `None` to leave it.
    fn owner_for(&self, metadata: &Metadata, policy: &OwnerPolicy) -> Option<(u32, u32)> {
        match policy {
            OwnerPolicy::Keep => None,
            OwnerPolicy::ByNumber => Some((metadata.uid, metadata.gid)),
            OwnerPolicy::ByName => {
                let mut owners = self.owners.lock().unwrap_or_else(PoisonError::into_inner);
                let uid = metadata.user.as_deref().and_then(|user| owners.uid(user));
                let gid = metadata.group.as_deref().and_then(|group| owners.gid(group));
                Some((uid.unwrap_or(metadata.uid), gid.unwrap_or(metadata.gid)))
            }
        }
    }
}

impl Object<'_> {
    fn set_owner(&self, uid: u32, gid: u32) -> io::Result<()> {
        let set = |uid: Option<u32>| {
            let (uid, gid) = (uid.map(Uid::from_raw), Some(Gid::from_raw(gid)));
            if self.is_open { fchown(self.fd, uid, gid) } else { chownat(self.fd, c"", uid, gid, AtFlags::EMPTY_PATH) }
        };
        // Who may not give a file away may still give it to another group of their own.
        Ok(set(Some(uid)).inspect_err(|_| _ = set(None))?)
    }

    fn set_mode(&self, mode: u32, wanted: (u32, u32), by_path: &str) -> io::Result<()> {
        let mode = self.mode_for(mode, wanted)?;
        if self.is_open {
            fchmod(self.fd, mode)?
        } else {
            chmod(by_path, mode)?
        }
        Ok(())
    }

    /// The mode without set-user-id and set-group-id where the owner is not the one for whom they were meant.
    fn mode_for(&self, mode: u32, wanted: (u32, u32)) -> io::Result<Mode> {
        let mut mode = Mode::from_raw_mode(mode & 0o7777);
        if self.file_type != FileType::Directory && mode.intersects(Mode::SUID | Mode::SGID) {
            let (uid, gid) = stat_of(self.fd)?.owner();
            mode.set(Mode::SUID, mode.contains(Mode::SUID) && uid == wanted.0);
            mode.set(Mode::SGID, mode.contains(Mode::SGID) && gid == wanted.1);
        }
        Ok(mode)
    }

    fn set_times(&self, metadata: &Metadata, by_path: &str) -> io::Result<()> {
        let modified_at = metadata.modified_at;
        let times = Timestamps {
            last_access: Timespec { tv_sec: 0, tv_nsec: UTIME_OMIT },
            last_modification: Timespec { tv_sec: modified_at.secs, tv_nsec: i64::from(modified_at.nanos) },
        };
        if self.is_open {
            rustix::fs::futimens(self.fd, &times)?;
        } else {
            utimensat(CWD, by_path, &times, AtFlags::empty())?;
        }
        Ok(())
    }
}
