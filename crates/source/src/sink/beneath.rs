//! Opening things beneath a directory, and nothing else.
//!
//! Invariant: every open of the sink goes through [`open_beneath`].
//! Never here: a path from the root of the file system.

use std::os::fd::{BorrowedFd, OwnedFd};

use rustix::fs::{Mode, OFlags, ResolveFlags, openat2};
use rustix::io::Errno;

/// How often an open is tried again because something was renamed at the same time.
const RACES_MAX: usize = 16;

/// The longest run of components opened in one call, in bytes: well below the system's 4096.
const PART_LEN_MAX: usize = 2048;

/// Opens `path`, relative to `at`, without following any symbolic link or leaving `at`.
pub(super) fn open_beneath(at: BorrowedFd<'_>, path: &[u8], flags: OFlags, mode: Mode) -> rustix::io::Result<OwnedFd> {
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
    let mut races = 0;
    loop {
        match openat2(at, path, flags | OFlags::CLOEXEC, mode, resolve) {
            Err(Errno::AGAIN | Errno::INTR) if races < RACES_MAX => races += 1,
            opened => return opened,
        }
    }
}

/// Cuts `path` from `start` into runs of whole components, each short enough for the system. Yields each run
/// and where it ends in `path`.
pub(super) fn parts_from(path: &[u8], mut start: usize) -> impl Iterator<Item = (&[u8], usize)> {
    std::iter::from_fn(move || {
        let rest = path.get(start..).filter(|rest| !rest.is_empty())?;
        let len = match rest.get(..=PART_LEN_MAX) {
            None => rest.len(),
            Some(head) => head.iter().rposition(|&byte| byte == b'/').unwrap_or(rest.len()),
        };
        let end = start + len;
        start = end + 1;
        Some((rest.get(..len)?, end))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_are_whole_components_and_join_to_the_path() {
        let path = [b"name".as_slice(); 2000].join(&b'/');
        let parts: Vec<_> = parts_from(&path, 5).collect();
        assert!(parts.iter().all(|(part, end)| part.len() <= PART_LEN_MAX && path[..*end].ends_with(part)));
        let joined = parts.iter().map(|(part, _)| *part).collect::<Vec<_>>().join(&b'/');
        assert_eq!(joined, &path[5..]);
    }
}
