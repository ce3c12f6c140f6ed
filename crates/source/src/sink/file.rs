//! One file being restored.
//!
//! Invariant: a file that was there is written to only if this is its only name; and from the first byte
//! written until its own permissions are set, nobody but its owner can open it.
//! Never here: comparing content; `read_at` lets the caller do it.

use std::io;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::path::PathBuf;

use rustix::fs::{AtFlags, FallocateFlags, FileType, OFlags, fallocate, fchmod, ftruncate, unlinkat};
use rustix::io::Errno;

use crate::entry::EntryPath;
use crate::error::SourceError;
use crate::observe::{Stat, stat_of};

use super::beneath::open_beneath;
use super::{MODE_PRIVATE_FILE, Target};

/// Zeros written at a time where holes cannot be made, in bytes.
const ZEROS_LEN: usize = 64 * 1024;
static ZEROS: [u8; ZEROS_LEN] = [0; ZEROS_LEN];

/// A file open for restoring. Closing it needs no call, but [`SinkFile::finish`] gives it its length.
#[derive(Debug)]
pub struct SinkFile {
    file: OwnedFd,
    path: PathBuf,
    len: u64,
    /// The file's length at this moment.
    len_now: u64,
    /// How much was there when it was opened; 0 if it is new.
    len_before: u64,
    is_private: bool,
}

impl Target {
    /// Opens a file to restore `len` bytes to: the one that is there, for comparing and for writing only what
    /// differs, or else a new one, private until its metadata is set.
    ///
    /// A file which has further names, cannot be written to or is being executed is removed and made anew; what
    /// is longer than `len` is cut.
    ///
    /// # Errors
    ///
    /// [`SourceError::Occupied`] if another kind of thing has the name and is not to be replaced;
    /// [`SourceError::BehindLink`], [`SourceError::Write`].
    pub fn create_file(&self, path: &EntryPath, len: u64) -> Result<SinkFile, SourceError> {
        let parent = self.parent_of(path)?;
        match create_new(parent.as_fd(), path.name()) {
            Ok(file) => return Ok(self.new_file(path, file, len)),
            Err(Errno::EXIST) => {}
            Err(error) => return Err(self.failed(path.as_bytes(), "create", error)),
        }
        match self.existing(path)? {
            Some(there) if there.kind.noun() == "file" => {
                if there.links == 1
                    && let Some(file) = self.open_existing(path, parent.as_fd(), len)?
                {
                    return Ok(file);
                }
                unlink(parent.as_fd(), path.name()).map_err(|error| self.failed(path.as_bytes(), "replace", error))?;
            }
            Some(there) => self.make_way(path, &there.kind)?,
            None => {}
        }
        let created = create_new(parent.as_fd(), path.name());
        created
            .map(|file| self.new_file(path, file, len))
            .map_err(|error| self.failed(path.as_bytes(), "create", error))
    }

    fn new_file(&self, path: &EntryPath, file: OwnedFd, len: u64) -> SinkFile {
        let path = self.shown(path.as_bytes());
        SinkFile { file, path, len, len_now: 0, len_before: 0, is_private: true }
    }

    /// Opens the file that is there, unless it must be made anew.
    fn open_existing(
        &self,
        path: &EntryPath,
        parent: BorrowedFd<'_>,
        len: u64,
    ) -> Result<Option<SinkFile>, SourceError> {
        let flags = OFlags::RDWR | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY;
        let file = match open_beneath(parent, path.name(), flags, rustix::fs::Mode::empty()) {
            Err(Errno::ACCESS | Errno::PERM | Errno::TXTBSY) => return Ok(None),
            opened => opened.map_err(|error| self.failed(path.as_bytes(), "open", error))?,
        };
        let stat = stat_of(file.as_fd()).map_err(|error| self.failed(path.as_bytes(), "look at", error))?;
        if !is_fit(&stat) {
            return Ok(None);
        }
        let path = self.shown(path.as_bytes());
        let mut file = SinkFile { file, path, len, len_now: stat.len(), len_before: stat.len(), is_private: false };
        if file.len_now > len {
            file.set_len(len)?;
        }
        Ok(Some(file))
    }
}

impl SinkFile {
    /// How much of the file was there when it was opened, in bytes: what [`SinkFile::read_at`] can compare.
    /// 0 if it is new.
    #[must_use]
    pub fn len_before(&self) -> u64 {
        self.len_before
    }

    /// Writes all of `data` at `offset`.
    ///
    /// # Errors
    ///
    /// [`SourceError::Write`]; part of it may have been written.
    pub fn write_at(&mut self, offset: u64, data: &[u8]) -> Result<(), SourceError> {
        self.make_private()?;
        let mut at = offset;
        let mut left = data;
        while !left.is_empty() {
            match rustix::io::pwrite(&self.file, left, at) {
                Ok(0) => return Err(self.failed("write", io::Error::from(io::ErrorKind::WriteZero))),
                Ok(len) => {
                    at += len as u64;
                    left = left.get(len..).unwrap_or_default();
                }
                Err(Errno::INTR) => {}
                Err(error) => return Err(self.failed("write", error)),
            }
        }
        self.len_now = self.len_now.max(at);
        Ok(())
    }

    /// Reads into `data` from `offset` until it is full or the file ends. Returns how many bytes were read.
    ///
    /// # Errors
    ///
    /// [`SourceError::Write`], as of everything in a sink.
    pub fn read_at(&self, offset: u64, data: &mut [u8]) -> Result<usize, SourceError> {
        let mut done = 0;
        while let Some(rest) = data.get_mut(done..).filter(|rest| !rest.is_empty()) {
            match rustix::io::pread(&self.file, rest, offset + done as u64) {
                Ok(0) => break,
                Ok(len) => done += len,
                Err(Errno::INTR) => {}
                Err(error) => return Err(self.failed("read", error)),
            }
        }
        Ok(done)
    }

    /// Makes `len` bytes at `offset` zero, without storing them where that can be done.
    ///
    /// Past the present end nothing is done: [`SinkFile::finish`] makes the rest zero by setting the length.
    ///
    /// # Errors
    ///
    /// [`SourceError::Write`].
    pub fn punch_or_skip_hole(&mut self, offset: u64, len: u64) -> Result<(), SourceError> {
        let len = len.min(self.len_now.saturating_sub(offset));
        if len == 0 {
            return Ok(());
        }
        self.make_private()?;
        let punch = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
        match fallocate(&self.file, punch, offset, len) {
            Ok(()) => Ok(()),
            Err(Errno::OPNOTSUPP | Errno::NOSYS) => self.write_zeros(offset, len),
            Err(error) => Err(self.failed("make a hole in", error)),
        }
    }

    /// Cuts the file to `len` bytes, or makes it that long with zeros.
    ///
    /// # Errors
    ///
    /// [`SourceError::Write`].
    pub fn set_len(&mut self, len: u64) -> Result<(), SourceError> {
        ftruncate(&self.file, len).map_err(|error| self.failed("set the length of", error))?;
        self.len_now = len;
        Ok(())
    }

    /// Gives the file the length it was opened for, which makes a hole at its end. With `sync`, its content
    /// survives a crash afterwards.
    ///
    /// # Errors
    ///
    /// [`SourceError::Write`].
    pub fn finish(mut self, sync: bool) -> Result<(), SourceError> {
        self.settle_len()?;
        if sync { self.sync_all() } else { Ok(()) }
    }

    /// Makes content and length survive a crash from here on.
    ///
    /// # Errors
    ///
    /// [`SourceError::Write`].
    pub fn sync_all(&self) -> Result<(), SourceError> {
        rustix::fs::fsync(&self.file).map_err(|error| self.failed("sync", error))
    }

    /// Sets the length if it is not yet what it should be. Must come before the metadata, as it sets times.
    pub(super) fn settle_len(&mut self) -> Result<(), SourceError> {
        if self.len_now == self.len { Ok(()) } else { self.set_len(self.len) }
    }

    pub(super) fn fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }

    pub(super) fn path(&self) -> &PathBuf {
        &self.path
    }

    /// Before the first byte is written to a file that was there: it may be open to everybody.
    fn make_private(&mut self) -> Result<(), SourceError> {
        if !self.is_private {
            fchmod(&self.file, MODE_PRIVATE_FILE).map_err(|error| self.failed("set permissions of", error))?;
            self.is_private = true;
        }
        Ok(())
    }

    fn write_zeros(&mut self, offset: u64, len: u64) -> Result<(), SourceError> {
        let end = offset + len;
        let mut at = offset;
        while at < end {
            let len = usize::try_from(end - at).unwrap_or(ZEROS_LEN).min(ZEROS_LEN);
            self.write_at(at, ZEROS.get(..len).unwrap_or(&ZEROS))?;
            at += len as u64;
        }
        Ok(())
    }

    fn failed(&self, action: &'static str, error: impl Into<io::Error>) -> SourceError {
        SourceError::Write { path: self.path.clone(), action, source: error.into() }
    }
}

fn create_new(parent: BorrowedFd<'_>, name: &[u8]) -> rustix::io::Result<OwnedFd> {
    let flags = OFlags::RDWR | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW;
    open_beneath(parent, name, flags, MODE_PRIVATE_FILE)
}

fn unlink(parent: BorrowedFd<'_>, name: &[u8]) -> rustix::io::Result<()> {
    match unlinkat(parent, name, AtFlags::empty()) {
        Err(Errno::NOENT) => Ok(()),
        unlinked => unlinked,
    }
}

/// Looked at again after opening: it may have been replaced or linked in between.
fn is_fit(stat: &Stat) -> bool {
    stat.file_type() == FileType::RegularFile && stat.links() <= 1
}
