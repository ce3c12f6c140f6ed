//! What is already in the target: one name, or a whole directory.
//!
//! Invariant: a symbolic link is reported as one, and what is behind it is not looked at.
//! Never here: changes.

use std::os::fd::AsFd as _;
use std::os::unix::fs::FileExt as _;

use rustix::fs::{Mode, OFlags};

use crate::entry::{EntryKind, EntryPath, Time};
use crate::error::SourceError;
use crate::files::{LISTING_READ_LEN, Listing};
use crate::observe::stat_at;

use super::beneath::open_beneath;
use super::{Target, with_name};

/// What has a name in the target.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Existing {
    /// What it is.
    pub kind: EntryKind,
    /// Bytes, of a file; else whatever the file system says.
    pub len: u64,
    /// Permission bits: `07777`.
    pub mode: u32,
    /// When the content last changed.
    pub modified_at: Time,
    /// When content or metadata last changed.
    pub changed_at: Time,
    /// The inode number.
    pub inode: u64,
    /// The file system.
    pub device: u64,
    /// How many names it has.
    pub links: u64,
}

impl Target {
    /// Opens a regular file that is there, for comparing only: nothing is made, cut or removed. None if there is no
    /// regular file of this name.
    ///
    /// # Errors
    ///
    /// As [`Target::existing`].
    pub fn open_for_comparing(&self, path: &EntryPath) -> Result<Option<std::fs::File>, SourceError> {
        match self.existing(path)? {
            Some(there) if matches!(there.kind, EntryKind::File { .. }) => {}
            _ => return Ok(None),
        }
        let parent = self.parent_of(path)?;
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
        match open_beneath(parent.as_fd(), path.name(), flags, rustix::fs::Mode::empty()) {
            Ok(file) => Ok(Some(file.into())),
            Err(error) => Err(self.failed(path.as_bytes(), "read", error)),
        }
    }

    /// Looks what has this name, if anything.
    ///
    /// # Errors
    ///
    /// [`SourceError::BehindLink`] if a link stands where a directory above should be; [`SourceError::Write`] if
    /// it cannot be looked at.
    pub fn existing(&self, path: &EntryPath) -> Result<Option<Existing>, SourceError> {
        let parent = match self.parent_of(path) {
            Err(SourceError::Write { source, .. }) if is_missing(&source) => return Ok(None),
            parent => parent?,
        };
        let looked = with_name(path.name(), |name| {
            let stat = stat_at(parent.as_fd(), name, false)?;
            Ok((stat.kind(parent.as_fd(), name)?, stat))
        });
        let (kind, stat) = match looked {
            Err(error) if is_missing(&error) => return Ok(None),
            looked => looked.map_err(|error| self.failed(path.as_bytes(), "look at", error))?,
        };
        Ok(Some(Existing {
            kind,
            len: stat.len(),
            mode: stat.mode(),
            modified_at: stat.modified_at(),
            changed_at: stat.changed_at(),
            inode: stat.id().inode,
            device: stat.id().device,
            links: stat.links(),
        }))
    }

    /// The names in a directory (the target itself if `None`), sorted.
    ///
    /// # Errors
    ///
    /// [`SourceError::BehindLink`], [`SourceError::Write`].
    pub fn list_dir(&self, path: Option<&EntryPath>) -> Result<Vec<Vec<u8>>, SourceError> {
        let path = path.map_or(b"".as_slice(), EntryPath::as_bytes);
        let listing = self.listing_of(path)?;
        Ok((0..listing.count()).filter_map(|index| Some(listing.get(index)?.to_bytes().to_vec())).collect())
    }

    pub(super) fn listing_of(&self, path: &[u8]) -> Result<Listing, SourceError> {
        let failed = |error| self.failed(path, "list directory", error);
        let dir = self.dir_fd(path)?;
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let dir = open_beneath(dir.as_fd(), b".", flags, Mode::empty()).map_err(|error| failed(error.into()))?;
        let mut listing = Listing::default();
        listing.read(dir.as_fd(), &mut Box::new_uninit_slice(LISTING_READ_LEN)).map_err(failed)?;
        listing.sort();
        Ok(listing)
    }
}

fn is_missing(error: &std::io::Error) -> bool {
    matches!(error.kind(), std::io::ErrorKind::NotFound | std::io::ErrorKind::NotADirectory)
}

/// Bytes read at once where zeros are looked for.
const ZEROS_READ_LEN: usize = 64 << 10;

/// Whether `file` reads as zeros in `len` bytes from `offset` on. Holes cost nothing to look at; the file's own position
/// moves.
///
/// # Errors
///
/// Those of reading; the file's end within the range is one.
pub fn is_zero(file: &std::fs::File, offset: u64, len: u64) -> std::io::Result<bool> {
    let end = offset.saturating_add(len);
    if file.metadata()?.len() < end {
        return Err(std::io::ErrorKind::UnexpectedEof.into());
    }
    let mut buffer = vec![0; ZEROS_READ_LEN];
    let mut at = offset;
    while at < end {
        at = match rustix::fs::seek(file, rustix::fs::SeekFrom::Data(at)) {
            Ok(data) => data.max(at),
            Err(rustix::io::Errno::NXIO) => return Ok(true),
            Err(_) => at,
        };
        let part = (end.saturating_sub(at)).min(ZEROS_READ_LEN as u64) as usize;
        let part = buffer.get_mut(..part).unwrap_or_default();
        file.read_exact_at(part, at)?;
        if part.iter().any(|byte| *byte != 0) {
            return Ok(false);
        }
        at = at.saturating_add(part.len() as u64);
    }
    Ok(true)
}
