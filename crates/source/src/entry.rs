//! The entry: one named thing in a component at one moment.
//!
//! Invariant: an [`EntryPath`] can be joined to any directory without leaving it.
//! Never here: I/O, and what a file's content is.

mod path;

pub use path::{COMPONENT_LEN_MAX, EntryPath, Escaped, escaped, unescaped};

/// One named thing in a component at one moment: metadata and what kind of content it has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Where it is, relative to the component's root.
    pub path: EntryPath,
    /// What it is.
    pub kind: EntryKind,
    /// What the file system says about it.
    pub metadata: Metadata,
}

/// What an entry is, with what only this kind has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum EntryKind {
    /// A regular file.
    File {
        /// Bytes, holes included.
        len: u64,
    },
    /// A directory.
    Directory,
    /// A symbolic link.
    Symlink {
        /// Where it points, as stored: any bytes without NUL.
        target: Vec<u8>,
    },
    /// A named pipe.
    Fifo,
    /// A Unix socket.
    Socket,
    /// A character device.
    CharDevice {
        /// The driver.
        major: u32,
        /// The device of that driver.
        minor: u32,
    },
    /// A block device.
    BlockDevice {
        /// The driver.
        major: u32,
        /// The device of that driver.
        minor: u32,
    },
}

impl EntryKind {
    /// The kind as a noun for messages.
    #[must_use]
    pub fn noun(&self) -> &'static str {
        match self {
            Self::File { .. } => "file",
            Self::Directory => "directory",
            Self::Symlink { .. } => "symbolic link",
            Self::Fifo => "named pipe",
            Self::Socket => "socket",
            Self::CharDevice { .. } => "character device",
            Self::BlockDevice { .. } => "block device",
        }
    }

    /// Whether both are of one kind, whatever their lengths, targets and device numbers.
    #[must_use]
    pub fn is_same_kind(&self, other: &Self) -> bool {
        std::mem::discriminant(self) == std::mem::discriminant(other)
    }
}

/// What the file system says about an entry besides its kind.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Metadata {
    /// Permission bits, set-user-id, set-group-id and sticky: `07777`.
    pub mode: u32,
    /// Owner by number.
    pub uid: u32,
    /// Group by number.
    pub gid: u32,
    /// Owner by name, where this host knows one.
    pub user: Option<Vec<u8>>,
    /// Group by name, where this host knows one.
    pub group: Option<Vec<u8>>,
    /// When the content last changed (mtime).
    pub modified_at: Time,
    /// When content or metadata last changed (ctime); cannot be restored.
    pub changed_at: Time,
    /// The inode number: with `device` it tells hard links and replaced files.
    pub inode: u64,
    /// The file system's device number, major and minor packed as in `st_dev`.
    pub device: u64,
    /// How many names the inode has.
    pub links: u64,
    /// Extended attributes by name: `user.*`, `security.*`, `trusted.*` and the POSIX ACLs.
    pub xattrs: Vec<(Vec<u8>, Vec<u8>)>,
}

/// A file system's time: seconds since 1970 (negative before) and nanoseconds after that second.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Time {
    /// Whole seconds since 1970-01-01 00:00:00 UTC, rounded down.
    pub secs: i64,
    /// 0 to 999,999,999.
    pub nanos: u32,
}
