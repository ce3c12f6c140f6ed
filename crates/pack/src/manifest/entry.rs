//! Entries and the bodies that hold them.
//!
//! Entries are ordered by parent directory, then name: all entries of a directory, then each subdirectory's block. So a
//! directory and a subtree are each one contiguous range.
//!
//! Invariant: paths are relative, without empty, `.` or `..` parts; who decodes checks it, and restore checks again.
//! Invariant: entries strictly increase.
//! Never here: content; the body says only how many of its structure's children belong to each entry.

use serde::{Deserialize, Serialize};

use crate::{PackError, codec};

/// A moment: seconds since 1970 and nanoseconds within.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default, Serialize, Deserialize)]
pub struct Time {
    /// Seconds, negative before 1970.
    pub secs: i64,
    /// 0 to 999,999,999.
    pub nanos: u32,
}

/// What an entry is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum EntryKind {
    /// A regular file, or a stream.
    File {
        /// Bytes, holes included.
        len: u64,
    },
    /// A directory.
    Directory,
    /// A symbolic link.
    Symlink {
        /// Where it points, as it is.
        target: Vec<u8>,
    },
    /// A named pipe.
    Fifo,
    /// A socket.
    Socket,
    /// A character device.
    CharDevice {
        /// Major number.
        major: u32,
        /// Minor number.
        minor: u32,
    },
    /// A block device.
    BlockDevice {
        /// Major number.
        major: u32,
        /// Minor number.
        minor: u32,
    },
}

/// One named thing in a component.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Relative path, parts separated by `/`, raw bytes.
    pub path: Vec<u8>,
    /// What it is.
    pub kind: EntryKind,
    /// Permission bits (07777).
    pub mode: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// The owner's name, where it is known.
    pub user: Option<Vec<u8>>,
    /// The group's name, where it is known.
    pub group: Option<Vec<u8>>,
    /// Last modification of the content.
    pub modified_at: Time,
    /// Last change of the inode.
    pub changed_at: Time,
    /// Inode number, for change detection.
    pub inode: u64,
    /// Device, where there are several links to the inode; else 0.
    pub device: u64,
    /// Links to the inode.
    pub links: u64,
    /// Extended attributes, ACLs among them.
    pub xattrs: Vec<(Vec<u8>, Vec<u8>)>,
    /// The content was read whole and did not change meanwhile.
    pub is_whole: bool,
    /// How many children of the page's structure are its content.
    pub child_count: u32,
}

impl Entry {
    /// The key entries are ordered by.
    #[must_use]
    pub fn sort_key(&self) -> Vec<u8> {
        sort_key(&self.path)
    }
}

/// Whether no part of `path` is empty, `.` or `..`, or holds a zero byte.
pub(super) fn is_relative(path: &[u8]) -> bool {
    path.split(|byte| *byte == b'/').all(|part| !matches!(part, b"" | b"." | b"..") && !part.contains(&0))
}

/// The key that orders paths: each parent part and a zero, one more zero, the name.
#[must_use]
pub fn sort_key(path: &[u8]) -> Vec<u8> {
    let mut parts: Vec<&[u8]> = path.split(|byte| *byte == b'/').collect();
    let name = parts.pop().unwrap_or_default();
    let mut key = Vec::with_capacity(path.len() + 2);
    for part in parts {
        key.extend_from_slice(part);
        key.push(0);
    }
    key.push(0);
    key.extend_from_slice(name);
    key
}

#[derive(Serialize, Deserialize)]
struct EntryRecord {
    directory: u32,
    name: Vec<u8>,
    kind: EntryKind,
    mode: u32,
    uid: u32,
    gid: u32,
    user: u32,
    group: u32,
    modified_at: Time,
    changed_at: Time,
    inode: u64,
    device: u64,
    links: u64,
    xattrs: Vec<(Vec<u8>, Vec<u8>)>,
    is_whole: bool,
    child_count: u32,
}

/// The body of an entries page.
///
/// Directories and owners are listed once; entries name them by position (owners from 1, 0 is none).
#[derive(Serialize, Deserialize)]
struct EntriesRecord {
    directories: Vec<Vec<u8>>,
    owners: Vec<Vec<u8>>,
    entries: Vec<EntryRecord>,
    extension: Vec<u8>,
}

/// The body of an entries page, in memory.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct EntriesBody {
    /// The entries, in order.
    pub entries: Vec<Entry>,
}

impl EntriesBody {
    /// The bytes that are named and stored.
    ///
    /// # Errors
    ///
    /// [`PackError::Inconsistent`] if the page is too long, entries are out of order or a path is not relative.
    pub fn encode(&self) -> Result<Vec<u8>, PackError> {
        self.check()?;
        self.encode_unchecked()
    }

    /// Paths are relative and entries strictly increase: checked before writing and after reading.
    fn check(&self) -> Result<(), PackError> {
        if !self.entries.iter().all(|entry| is_relative(&entry.path)) {
            return Err(PackError::Inconsistent { what: "an entry's path is not a relative path" });
        }
        let keys: Vec<_> = self.entries.iter().map(Entry::sort_key).collect();
        if !keys.is_sorted_by(|left, right| left < right) {
            return Err(PackError::Inconsistent { what: "entries are out of order" });
        }
        Ok(())
    }

    pub(crate) fn encode_unchecked(&self) -> Result<Vec<u8>, PackError> {
        let (mut directories, mut owners) = (Vec::new(), Vec::new());
        let mut entries = Vec::with_capacity(self.entries.len());
        for entry in &self.entries {
            let (directory, name) = split(&entry.path);
            entries.push(EntryRecord {
                directory: position(&mut directories, directory),
                name: name.to_vec(),
                kind: entry.kind.clone(),
                mode: entry.mode,
                uid: entry.uid,
                gid: entry.gid,
                user: entry.user.as_ref().map_or(0, |user| position(&mut owners, user) + 1),
                group: entry.group.as_ref().map_or(0, |group| position(&mut owners, group) + 1),
                modified_at: entry.modified_at,
                changed_at: entry.changed_at,
                inode: entry.inode,
                device: entry.device,
                links: entry.links,
                xattrs: entry.xattrs.clone(),
                is_whole: entry.is_whole,
                child_count: entry.child_count,
            });
        }
        codec::encode(&EntriesRecord { directories, owners, entries, extension: Vec::new() })
    }

    /// Reads the bytes and checks every path.
    ///
    /// # Errors
    ///
    /// [`PackError::Inconsistent`] if they are no page body, or a path could lead out of the target.
    pub fn decode(bytes: &[u8]) -> Result<Self, PackError> {
        let record: EntriesRecord = codec::decode(bytes)?;
        let mut names_len = 0;
        let entries = record.entries.into_iter();
        let entries = entries.map(|entry| unpack(entry, &record.directories, &record.owners, &mut names_len));
        let body = Self { entries: entries.collect::<Result<_, _>>()? };
        body.check()?;
        Ok(body)
    }
}

/// `names_len` counts what entries share, because a few bytes can refer to a long name a million times.
fn unpack(
    record: EntryRecord,
    directories: &[Vec<u8>],
    owners: &[Vec<u8>],
    names_len: &mut usize,
) -> Result<Entry, PackError> {
    let missing = PackError::Inconsistent { what: "an entry names a directory that is not listed" };
    let directory = directories.get(record.directory as usize).ok_or(missing)?;
    let user = owner(record.user, owners)?;
    let group = owner(record.group, owners)?;
    *names_len += [Some(directory), user, group].into_iter().flatten().map(Vec::len).sum::<usize>();
    if *names_len > codec::RECORD_LEN_MAX {
        return Err(PackError::Inconsistent { what: "the names of a page are too long" });
    }
    let mut path = directory.clone();
    if !path.is_empty() {
        path.push(b'/');
    }
    path.extend_from_slice(&record.name);
    if record.name.contains(&b'/') {
        return Err(PackError::Inconsistent { what: "an entry's name is a path" });
    }
    Ok(Entry {
        path,
        kind: record.kind,
        mode: record.mode,
        uid: record.uid,
        gid: record.gid,
        user: user.cloned(),
        group: group.cloned(),
        modified_at: record.modified_at,
        changed_at: record.changed_at,
        inode: record.inode,
        device: record.device,
        links: record.links,
        xattrs: record.xattrs,
        is_whole: record.is_whole,
        child_count: record.child_count,
    })
}

/// Owners count from 1; 0 is none.
fn owner(at: u32, owners: &[Vec<u8>]) -> Result<Option<&Vec<u8>>, PackError> {
    let missing = PackError::Inconsistent { what: "an entry names an owner that is not listed" };
    match (at as usize).checked_sub(1) {
        Some(at) => owners.get(at).ok_or(missing).map(Some),
        None => Ok(None),
    }
}

fn split(path: &[u8]) -> (&[u8], &[u8]) {
    match path.iter().rposition(|byte| *byte == b'/') {
        Some(at) => (path.get(..at).unwrap_or_default(), path.get(at + 1..).unwrap_or_default()),
        None => (&[], path),
    }
}

/// Neighbours share directories and owners, so the last one is looked at first.
fn position(list: &mut Vec<Vec<u8>>, item: &[u8]) -> u32 {
    if let Some(at) = list.iter().rposition(|known| known == item) {
        return at as u32;
    }
    list.push(item.to_vec());
    (list.len() - 1) as u32
}

/// The body of a directory page: the first key below each child, in order.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeysBody {
    /// Sort keys.
    pub first_keys: Vec<Vec<u8>>,
    /// For later versions.
    pub extension: Vec<u8>,
}
