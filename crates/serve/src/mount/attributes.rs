//! An entry's metadata as the kernel takes it.
//!
//! Invariant: what the snapshot has is shown as it is; nothing depends on who asks or when.
//! Never here: inode numbers are made in `nodes`.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use engine::Found;
use fuser::{FileAttr, FileType, INodeNo};
use pack::manifest::{EntryKind, Time};

/// What every file system says of a folder's length.
const FOLDER_LEN: u64 = 4096;
/// Bytes that are best read at once.
const READ_LEN: u32 = 128 << 10;
/// Bytes of the blocks that lengths on disk are told in.
const BLOCK_LEN: u64 = 512;

/// What an entry is to the kernel.
pub(super) fn of_entry(number: u64, found: &Found) -> FileAttr {
    let entry = found.entry();
    let (size, device) = match &entry.kind {
        EntryKind::File { len } => (*len, 0),
        EntryKind::Symlink { target } => (target.len() as u64, 0),
        EntryKind::Directory => (FOLDER_LEN, 0),
        EntryKind::CharDevice { major, minor } | EntryKind::BlockDevice { major, minor } => (0, device(*major, *minor)),
        EntryKind::Fifo | EntryKind::Socket => (0, 0),
    };
    let on_disk = size.saturating_sub(found.holes_len());
    FileAttr {
        ino: INodeNo(number),
        size,
        blocks: on_disk.div_ceil(BLOCK_LEN),
        atime: time(entry.modified_at),
        mtime: time(entry.modified_at),
        ctime: time(entry.changed_at),
        crtime: UNIX_EPOCH,
        kind: kind(&entry.kind),
        perm: (entry.mode & 0o7777) as u16,
        nlink: u32::try_from(entry.links.max(1)).unwrap_or(u32::MAX),
        uid: entry.uid,
        gid: entry.gid,
        rdev: device,
        blksize: READ_LEN,
        flags: 0,
    }
}

/// A folder or a link of ours, of this moment in nanoseconds since 1970; it belongs to whoever mounted.
pub(super) fn of_ours(number: u64, target: Option<&str>, at: i64) -> FileAttr {
    let at = time(Time { secs: at.div_euclid(1_000_000_000), nanos: at.rem_euclid(1_000_000_000) as u32 });
    let is_link = target.is_some();
    FileAttr {
        ino: INodeNo(number),
        size: target.map_or(FOLDER_LEN, |target| target.len() as u64),
        blocks: 0,
        atime: at,
        mtime: at,
        ctime: at,
        crtime: UNIX_EPOCH,
        kind: if is_link { FileType::Symlink } else { FileType::Directory },
        perm: if is_link { 0o777 } else { 0o755 },
        nlink: if is_link { 1 } else { 2 },
        uid: rustix::process::geteuid().as_raw(),
        gid: rustix::process::getegid().as_raw(),
        rdev: 0,
        blksize: READ_LEN,
        flags: 0,
    }
}

pub(super) const fn kind(kind: &EntryKind) -> FileType {
    match kind {
        EntryKind::File { .. } => FileType::RegularFile,
        EntryKind::Directory => FileType::Directory,
        EntryKind::Symlink { .. } => FileType::Symlink,
        EntryKind::Fifo => FileType::NamedPipe,
        EntryKind::Socket => FileType::Socket,
        EntryKind::CharDevice { .. } => FileType::CharDevice,
        EntryKind::BlockDevice { .. } => FileType::BlockDevice,
    }
}

/// The number of a device as the kernel packs it: 12 bits of major around 20 of minor.
const fn device(major: u32, minor: u32) -> u32 {
    (minor & 0xff) | ((major & 0xfff) << 8) | ((minor & 0xfff00) << 12)
}

/// A moment; 1970 if the system cannot count so far.
fn time(time: Time) -> SystemTime {
    let secs = Duration::from_secs(time.secs.unsigned_abs());
    let whole = if time.secs < 0 { UNIX_EPOCH.checked_sub(secs) } else { UNIX_EPOCH.checked_add(secs) };
    let nanos = Duration::from_nanos(u64::from(time.nanos));
    whole.and_then(|whole| whole.checked_add(nanos)).unwrap_or(UNIX_EPOCH)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_before_1970_and_devices_with_large_numbers_are_shown_as_they_are() {
        let before = time(Time { secs: -2, nanos: 123_456_789 });
        assert_eq!(UNIX_EPOCH.duration_since(before).ok(), Some(Duration::from_nanos(1_876_543_211)));
        assert_eq!(time(Time { secs: i64::MAX, nanos: u32::MAX }), UNIX_EPOCH);
        assert_eq!(device(1, 3), 0x103);
        assert_eq!(u64::from(device(250, 70_000)), rustix::fs::makedev(250, 70_000));
    }
}
