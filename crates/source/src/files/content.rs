//! A file's content, as pieces of data and holes.
//!
//! ```text
//! open → the walked inode? → next_piece … next_piece → None → finish → still the same length and times?
//! ```
//!
//! A small file costs five calls: open, fstat, read, fstat, close.
//!
//! Invariant: pieces add up to at most the length at opening, whatever happens to the file meanwhile; but for files of a
//! length of 0 which the system makes up as they are read, as in `/proc`.
//! Never here: memory mapping (a file that shrinks would kill the process), and following links.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;

use bytes::Bytes;
use rustix::fs::{Advice, FileType, Mode, OFlags, SeekFrom, fadvise, openat, seek};
use rustix::io::Errno;

use crate::entry::{Entry, EntryKind, Time};
use crate::error::SourceError;
use crate::observe::{FileId, Stat, stat_of};

use super::walk::absolute;

/// From this length on, the system is told that the file is read from start to end.
const READAHEAD_LEN_MIN: u64 = 1024 * 1024;

/// The most that is read of a file whose length is 0 though it has content, in bytes: some of them never end.
const MADE_UP_LEN_MAX: u64 = 16 * 1024 * 1024;
/// File systems that make up what is read: proc, sysfs, cgroup, cgroup2, debugfs, tracefs, securityfs, selinuxfs. (Linux,
/// include/uapi/linux/magic.h; statfs(2).)
const MAKES_UP: [u64; 8] =
    [0x9fa0, 0x6265_6572, 0x0027_e0eb, 0x6367_7270, 0x6462_6720, 0x7472_6163, 0x7363_6673, 0xf97c_ff8c];

/// A run of a file's content.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Piece {
    /// Bytes.
    Data(Bytes),
    /// So many zero bytes which are not stored: at most the rest of the file.
    Hole(u64),
}

impl Piece {
    /// Bytes of the file which this piece stands for.
    #[must_use]
    #[allow(clippy::len_without_is_empty)] // no piece is empty
    pub fn len(&self) -> u64 {
        match self {
            Self::Data(bytes) => bytes.len() as u64,
            Self::Hole(len) => *len,
        }
    }
}

/// A file's length and times at one moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FileState {
    /// Bytes, holes included.
    pub len: u64,
    /// When the content last changed.
    pub modified_at: Time,
    /// When content or metadata last changed.
    pub changed_at: Time,
}

/// Reads one file from start to end. Blocking.
#[derive(Debug)]
pub struct ContentReader {
    file: OwnedFd,
    path: Vec<u8>,
    state: FileState,
    /// Where reading ends at the latest: the length at opening, if that can be believed.
    end: u64,
    offset: u64,
    /// Where the data at `offset` ends; equal to `offset` when it is not known yet.
    data_end: u64,
    sparse: bool,
}

/// Opens the content of `entry`, found in the directory that `dir` opens.
pub(super) fn open(
    entry: &Entry,
    may_have_holes: bool,
    dir: impl FnOnce() -> io::Result<Arc<OwnedFd>>,
) -> Result<ContentReader, SourceError> {
    let path = || absolute(entry.path.as_bytes());
    let unreadable = |source| SourceError::Unreadable { path: path(), source };
    if !matches!(entry.kind, EntryKind::File { .. }) {
        return Err(SourceError::NotAFile { path: path(), found: entry.kind.noun() });
    }
    let dir = dir().map_err(unreadable)?;
    let file = match open_quietly(dir.as_fd(), entry.path.name()) {
        Err(Errno::LOOP) => return Err(SourceError::Replaced { path: path() }),
        opened => opened.map_err(|error| unreadable(error.into()))?,
    };
    let stat = stat_of(file.as_fd()).map_err(unreadable)?;
    let walked = FileId { device: entry.metadata.device, inode: entry.metadata.inode };
    if stat.id() != walked || stat.file_type() != FileType::RegularFile {
        return Err(SourceError::Replaced { path: path() });
    }
    let state = state_of(&stat);
    if state.len >= READAHEAD_LEN_MIN {
        // Only a hint: where it does not apply, reading works as well.
        let _ = fadvise(&file, 0, None, Advice::Sequential);
    }
    let is_made_up = may_be_made_up(state.len, walked.device, || Some(&file));
    let sparse = !is_made_up && (may_have_holes || stat.may_have_holes());
    let end = if is_made_up { MADE_UP_LEN_MAX } else { state.len };
    let data_end = if sparse { 0 } else { end };
    Ok(ContentReader { file, path: entry.path.as_bytes().to_vec(), state, end, offset: 0, data_end, sparse })
}

/// Whether a file of this length may have more: the system gives a length of 0 to what it makes up as it is read. `near` opens
/// something on the same file system, which is asked only where no disk is below.
pub(super) fn may_be_made_up<F: AsFd>(len: u64, device: u64, near: impl FnOnce() -> Option<F>) -> bool {
    if len > 0 || rustix::fs::major(device) != 0 {
        return false;
    }
    let found = near().and_then(|near| rustix::fs::fstatfs(near).ok());
    found.is_some_and(|found| MAKES_UP.contains(&(found.f_type as u64 & 0xffff_ffff)))
}

impl ContentReader {
    /// The file's length and times when it was opened: they belong to the content, and may be newer than those
    /// in the walked entry.
    #[must_use]
    pub fn state(&self) -> FileState {
        self.state
    }

    /// The next piece, or `None` at the end. `len_max` is the most bytes of data in one piece (at least 1); a
    /// hole may be longer.
    ///
    /// A piece of data is shorter than `len_max` only before a hole or the end. A file that shrank ends early
    /// and one that grew ends where it ended: [`ContentReader::finish`] tells.
    ///
    /// # Errors
    ///
    /// [`SourceError::Unreadable`]; the reader is of no more use.
    pub fn next_piece(&mut self, len_max: usize) -> Result<Option<Piece>, SourceError> {
        if self.offset >= self.end {
            return if self.end == self.state.len { Ok(None) } else { Err(self.endless()) };
        }
        if self.offset >= self.data_end
            && let Some(hole) = self.find_data().map_err(|error| self.unreadable(error))?
        {
            self.offset += hole;
            return Ok(Some(Piece::Hole(hole)));
        }
        let left = usize::try_from(self.data_end - self.offset).unwrap_or(usize::MAX);
        let data = self.read(left.min(len_max.max(1))).map_err(|error| self.unreadable(error))?;
        if data.is_empty() {
            self.end = self.state.len; // it shrank, or what was made up is at its end
            self.offset = self.offset.max(self.end);
            return Ok(None);
        }
        self.offset += data.len() as u64;
        Ok(Some(Piece::Data(data.into())))
    }

    /// Makes sure that what was read is the file at one moment.
    ///
    /// # Errors
    ///
    /// [`SourceError::ChangedWhileRead`] if length, mtime or ctime differ from those at opening. Read it again,
    /// or keep it and say so.
    pub fn finish(self) -> Result<(), SourceError> {
        let stat = stat_of(self.file.as_fd()).map_err(|error| self.unreadable(error))?;
        if state_of(&stat) == self.state {
            return Ok(());
        }
        Err(SourceError::ChangedWhileRead { path: absolute(&self.path) })
    }

    /// Finds where data begins at or after the offset, and where that run ends. Returns the hole before it.
    fn find_data(&mut self) -> io::Result<Option<u64>> {
        debug_assert!(self.sparse);
        let len = self.state.len;
        let start = match seek(&self.file, SeekFrom::Data(self.offset)) {
            Ok(start) => start.clamp(self.offset, len),
            Err(Errno::NXIO) => len,
            // This file system cannot tell: all is data.
            Err(Errno::INVAL | Errno::OPNOTSUPP) => self.offset,
            Err(error) => return Err(error.into()),
        };
        if start > self.offset {
            return Ok(Some(start - self.offset));
        }
        let end = seek(&self.file, SeekFrom::Hole(self.offset)).unwrap_or(len);
        self.data_end = if end > self.offset { end.min(len) } else { len };
        Ok(None)
    }

    /// Reads at the offset until `len` bytes are there or the file ends.
    fn read(&self, len: usize) -> rustix::io::Result<Vec<u8>> {
        let mut data = Vec::with_capacity(len);
        while data.len() < len {
            let at = self.offset + data.len() as u64;
            match rustix::io::pread(&self.file, rustix::buffer::spare_capacity(&mut data), at) {
                Ok(0) => break,
                Ok(_) | Err(Errno::INTR) => {}
                Err(error) => return Err(error),
            }
        }
        data.truncate(len); // the allocator may have given more room than asked for
        Ok(data)
    }

    fn endless(&self) -> SourceError {
        self.unreadable(io::Error::other("it is made up as it is read, and has not ended after 16 MiB"))
    }

    fn unreadable(&self, error: impl Into<io::Error>) -> SourceError {
        SourceError::Unreadable { path: absolute(&self.path), source: error.into() }
    }
}

/// Opens for reading, without touching the access time where that is permitted: for the owner and for root.
fn open_quietly(dir: BorrowedFd<'_>, name: &[u8]) -> rustix::io::Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    match openat(dir, name, flags | OFlags::NOATIME, Mode::empty()) {
        Err(Errno::PERM) => openat(dir, name, flags, Mode::empty()),
        opened => opened,
    }
}

fn state_of(stat: &Stat) -> FileState {
    FileState { len: stat.len(), modified_at: stat.modified_at(), changed_at: stat.changed_at() }
}
