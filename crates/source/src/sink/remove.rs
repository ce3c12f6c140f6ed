//! Removing what is in the target: one name, or a directory with all that is in it.
//!
//! Invariant: nothing on another file system than the target's own directory above it is removed, and no link
//! is followed.
//! Never here: deciding what to remove.

use std::collections::VecDeque;
use std::io;
use std::os::fd::AsFd as _;

use rustix::fs::{AtFlags, FileType, unlinkat};
use rustix::io::Errno;

use crate::entry::EntryPath;
use crate::error::SourceError;
use crate::observe::stat_at;

use super::{Target, with_name};

/// A directory being emptied: where its path ends, and the directories in it that are left.
struct Level {
    path_len: usize,
    subdirs: VecDeque<Vec<u8>>,
}

impl Target {
    /// Removes what has this name, with all that is in it. What is not there needs no removing.
    ///
    /// # Errors
    ///
    /// [`SourceError::MountPoint`] if another file system is mounted inside, [`SourceError::BehindLink`],
    /// [`SourceError::Write`]. What was removed before stays removed.
    pub fn remove(&self, path: &EntryPath) -> Result<(), SourceError> {
        let parent = match self.parent_of(path) {
            Err(SourceError::Write { source, .. }) if source.kind() == io::ErrorKind::NotFound => return Ok(()),
            parent => parent?,
        };
        let flags = match self.type_of(path.parent_bytes(), path.name(), path.as_bytes())? {
            None => return Ok(()),
            Some(FileType::Directory) => {
                let empty = self.empty(path.as_bytes());
                self.forget(path.as_bytes());
                empty?;
                AtFlags::REMOVEDIR
            }
            Some(_) => AtFlags::empty(),
        };
        let removed = unlinkat(&parent, path.name(), flags);
        removed.map_err(|error| self.failed(path.as_bytes(), "remove", error))
    }

    /// Removes one name, which is not a directory's. What is not there needs no removing.
    pub(super) fn unlink(&self, path: &EntryPath) -> Result<(), SourceError> {
        match unlinkat(self.parent_of(path)?, path.name(), AtFlags::empty()) {
            Ok(()) | Err(Errno::NOENT) => Ok(()),
            Err(error) => Err(self.failed(path.as_bytes(), "replace", error)),
        }
    }

    /// Removes a directory unless something is in it, and returns whether it is gone.
    pub(super) fn remove_if_empty(&self, path: &EntryPath) -> Result<bool, SourceError> {
        let parent = self.parent_of(path)?;
        self.forget(path.as_bytes());
        match unlinkat(&parent, path.name(), AtFlags::REMOVEDIR) {
            Ok(()) | Err(Errno::NOENT) => Ok(true),
            Err(Errno::NOTEMPTY | Errno::EXIST) => Ok(false),
            Err(error) => Err(self.failed(path.as_bytes(), "remove", error)),
        }
    }

    /// Removes all that is in a directory, deepest first, in a loop: the tree may be deeper than a stack.
    fn empty(&self, path: &[u8]) -> Result<(), SourceError> {
        let mut path = path.to_vec();
        let mut levels = vec![self.remove_files_in(&path)?];
        while let Some(level) = levels.last_mut() {
            path.truncate(level.path_len);
            if let Some(name) = level.subdirs.pop_front() {
                path.push(b'/');
                path.extend_from_slice(&name);
                levels.push(self.remove_files_in(&path)?);
                continue;
            }
            levels.pop();
            if let Some(above) = levels.last() {
                self.remove_empty(&path, above.path_len)?;
            }
        }
        Ok(())
    }

    fn remove_empty(&self, path: &[u8], parent_len: usize) -> Result<(), SourceError> {
        let parent = self.dir_fd(path.get(..parent_len).unwrap_or_default())?;
        self.open.forget(|open| open == path);
        let name = path.get(parent_len + 1..).unwrap_or_default();
        let removed = unlinkat(&parent, name, AtFlags::REMOVEDIR);
        removed.map_err(|error| self.failed(path, "remove", error))
    }

    /// Removes what is not a directory; the directories are left for later.
    fn remove_files_in(&self, path: &[u8]) -> Result<Level, SourceError> {
        let listing = self.listing_of(path)?;
        let dir = self.dir_fd(path)?;
        let mut subdirs = VecDeque::new();
        for name in (0..listing.count()).filter_map(|index| listing.get(index)).map(std::ffi::CStr::to_bytes) {
            if self.type_of(path, name, path)? == Some(FileType::Directory) {
                subdirs.push_back(name.to_vec());
            } else {
                unlinkat(&dir, name, AtFlags::empty()).map_err(|error| {
                    let path = EntryPath::of(path, name).map_or_else(|_| path.to_vec(), EntryPath::into_bytes);
                    self.failed(&path, "remove", error)
                })?;
            }
        }
        Ok(Level { path_len: path.len(), subdirs })
    }

    /// What has this name in the directory at `dir`, if anything. Refuses another file system's top directory.
    fn type_of(&self, dir: &[u8], name: &[u8], path: &[u8]) -> Result<Option<FileType>, SourceError> {
        let fd = self.dir_fd(dir)?;
        let looked = with_name(name, |name| {
            let stat = stat_at(fd.as_fd(), name, false)?;
            let above = crate::observe::stat_of(fd.as_fd())?;
            Ok((stat.file_type(), stat.file_type() == FileType::Directory && stat.id().device != above.id().device))
        });
        match looked {
            Ok((_, true)) => Err(SourceError::MountPoint { path: self.shown(path) }),
            Ok((file_type, false)) => Ok(Some(file_type)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(self.failed(path, "look at", error)),
        }
    }

    /// Closes the directory at `path` and those in it, which are being removed.
    fn forget(&self, path: &[u8]) {
        self.open.forget(|open| open.strip_prefix(path).is_some_and(|rest| rest.is_empty() || rest.starts_with(b"/")));
    }
}
