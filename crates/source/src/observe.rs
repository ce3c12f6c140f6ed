//! Looks at one name in an open directory: everything an entry has but its content.
//!
//! One `statx` and one list of attributes per entry, a `readlink` for a symbolic link: at 60,000 files each
//! further call would be felt.
//!
//! Invariant: a symbolic link is looked at itself, unless the caller says that it stands for its directory.
//! Never here: opening what is looked at; a device or a pipe may act on being opened.

use std::ffi::CStr;
use std::io;
use std::os::fd::BorrowedFd;

use rustix::fs::{AtFlags, FileType, Statx, StatxFlags, StatxTimestamp, makedev, readlinkat, statx};

use crate::entry::{EntryKind, Metadata, Time};
use crate::owners::Owners;
use crate::xattrs::XattrReader;

/// Which inode of which file system.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct FileId {
    pub(crate) device: u64,
    pub(crate) inode: u64,
}

/// What `statx` says of one object.
#[derive(Debug)]
pub(crate) struct Stat(Statx);

/// Looks at `name` in `directory`.
pub(crate) fn stat_at(directory: BorrowedFd<'_>, name: &CStr, follow: bool) -> io::Result<Stat> {
    let link = if follow { AtFlags::empty() } else { AtFlags::SYMLINK_NOFOLLOW };
    Ok(Stat(statx(directory, name, link | AtFlags::NO_AUTOMOUNT, StatxFlags::BASIC_STATS)?))
}

/// Looks at what is open.
pub(crate) fn stat_of(object: BorrowedFd<'_>) -> io::Result<Stat> {
    Ok(Stat(statx(object, c"", AtFlags::EMPTY_PATH, StatxFlags::BASIC_STATS)?))
}

impl Stat {
    pub(crate) fn id(&self) -> FileId {
        FileId { device: makedev(self.0.stx_dev_major, self.0.stx_dev_minor), inode: self.0.stx_ino }
    }

    pub(crate) fn file_type(&self) -> FileType {
        FileType::from_raw_mode(u32::from(self.0.stx_mode))
    }

    pub(crate) fn len(&self) -> u64 {
        self.0.stx_size
    }

    /// Whether fewer bytes are stored than the length says, so that asking for holes pays.
    pub(crate) fn may_have_holes(&self) -> bool {
        self.0.stx_blocks.saturating_mul(512) < self.0.stx_size
    }

    pub(crate) fn modified_at(&self) -> Time {
        time(self.0.stx_mtime)
    }

    pub(crate) fn changed_at(&self) -> Time {
        time(self.0.stx_ctime)
    }

    pub(crate) fn links(&self) -> u64 {
        u64::from(self.0.stx_nlink)
    }

    pub(crate) fn mode(&self) -> u32 {
        u32::from(self.0.stx_mode) & 0o7777
    }

    pub(crate) fn owner(&self) -> (u32, u32) {
        (self.0.stx_uid, self.0.stx_gid)
    }

    /// The kind; asks where a symbolic link points to.
    pub(crate) fn kind(&self, directory: BorrowedFd<'_>, name: &CStr) -> io::Result<EntryKind> {
        let (major, minor) = (self.0.stx_rdev_major, self.0.stx_rdev_minor);
        Ok(match self.file_type() {
            FileType::RegularFile => EntryKind::File { len: self.0.stx_size },
            FileType::Directory => EntryKind::Directory,
            FileType::Symlink => EntryKind::Symlink { target: readlinkat(directory, name, Vec::new())?.into_bytes() },
            FileType::Fifo => EntryKind::Fifo,
            FileType::Socket => EntryKind::Socket,
            FileType::CharacterDevice => EntryKind::CharDevice { major, minor },
            FileType::BlockDevice => EntryKind::BlockDevice { major, minor },
            FileType::Unknown => return Err(io::Error::other("the file system tells no type")),
        })
    }

    fn metadata(&self, owners: &mut Owners) -> Metadata {
        let (uid, gid) = self.owner();
        Metadata {
            mode: self.mode(),
            uid,
            gid,
            user: owners.user(uid),
            group: owners.group(gid),
            modified_at: self.modified_at(),
            changed_at: self.changed_at(),
            inode: self.0.stx_ino,
            device: self.id().device,
            links: self.links(),
            xattrs: Vec::new(),
        }
    }
}

/// What was found under a name.
#[derive(Debug)]
pub(crate) struct Observed {
    pub(crate) kind: EntryKind,
    pub(crate) metadata: Metadata,
    /// The attributes in `metadata` are not all there are.
    pub(crate) xattrs_failed: Option<io::Error>,
}

/// Looks at names; keeps buffers and names of owners between them.
#[derive(Debug)]
pub(crate) struct Observer {
    owners: Owners,
    xattrs: XattrReader,
}

impl Observer {
    pub(crate) fn new() -> Self {
        Self { owners: Owners::default(), xattrs: XattrReader::new() }
    }

    /// From now on, names are names in this directory.
    pub(crate) fn enter(&mut self, directory: BorrowedFd<'_>) {
        self.xattrs.enter(directory);
    }

    /// All about `name` in the directory last entered, of which `stat` was just asked for.
    pub(crate) fn observe(
        &mut self,
        directory: BorrowedFd<'_>,
        name: &CStr,
        stat: &Stat,
        follow: bool,
    ) -> io::Result<Observed> {
        let kind = stat.kind(directory, name)?;
        let mut metadata = stat.metadata(&mut self.owners);
        let xattrs_failed = self.xattrs.read(name, follow, &mut metadata.xattrs).err();
        Ok(Observed { kind, metadata, xattrs_failed })
    }
}

fn time(at: StatxTimestamp) -> Time {
    Time { secs: at.tv_sec, nanos: at.tv_nsec }
}
