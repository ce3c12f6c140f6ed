//! Folders for copies that are read back and thrown away, beside what they are copies of.
//!
//! ```text
//! FOLDER/.backstay-scratch-XXXXXX   locked as long as its maker lives; whoever makes the next one removes what nobody locks
//! ```
//!
//! Invariant: what a killed process left is gone once the next one makes its own in the same folder.
//! Invariant: nothing is removed but a directory of such a name which nobody locks.
//! Never here: what a restore sets aside (see `file_sink`): that may be all that is left of something.

use std::fs::{self, File};
use std::io;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

use rustix::fs::{FlockOperation, flock};
use tempfile::TempDir;

/// How their names begin.
const PREFIX: &str = ".backstay-scratch-";
/// How often another process may take ours for left over between its making and its lock.
const ATTEMPTS_MAX: u32 = 8;

/// Whether a directory of this name is one of them, and worth nothing to anybody else.
pub(crate) fn is_scratch(name: &[u8]) -> bool {
    name.starts_with(PREFIX.as_bytes())
}

/// A folder of ours, which vanishes with all that is in it.
#[derive(Debug)]
pub(crate) struct Scratch {
    // Removed before the lock is let go.
    folder: TempDir,
    _lock: File,
}

impl Scratch {
    /// Makes one in `parent`, after what others left there is removed.
    pub(crate) fn make_in(parent: &Path) -> io::Result<Self> {
        remove_left_over(parent);
        for _ in 0..ATTEMPTS_MAX {
            let folder = TempDir::with_prefix_in(PREFIX, parent)?;
            let Ok(lock) = File::open(folder.path()) else { continue };
            let is_taken = flock(&lock, FlockOperation::NonBlockingLockExclusive) == Err(rustix::io::Errno::WOULDBLOCK);
            if !is_taken && folder.path().exists() {
                // On a file system that knows no locks nothing is removed either.
                return Ok(Self { folder, _lock: lock });
            }
        }
        Err(io::Error::other("others remove it again and again"))
    }

    pub(crate) fn path(&self) -> &Path {
        self.folder.path()
    }
}

/// Removes what processes left that were killed. What cannot be removed stays for the next one.
fn remove_left_over(parent: &Path) {
    let Ok(entries) = fs::read_dir(parent) else { return };
    for entry in entries.flatten() {
        let is_folder = entry.file_type().is_ok_and(|kind| kind.is_dir());
        if !is_folder || !is_scratch(entry.file_name().as_bytes()) {
            continue;
        }
        let Ok(held) = File::open(entry.path()) else { continue };
        if flock(&held, FlockOperation::NonBlockingLockExclusive).is_ok() {
            let _ = fs::remove_dir_all(entry.path());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_left_is_removed_and_what_is_in_use_or_only_alike_stays() {
        let parent = tempfile::tempdir().unwrap();
        let path = |name: &str| parent.path().join(name);
        let used = Scratch::make_in(parent.path()).unwrap();
        fs::write(used.path().join("copy"), "x").unwrap();
        for name in [".backstay-scratch-left", ".backstay-other", "mine"] {
            fs::create_dir(path(name)).unwrap();
            fs::write(path(name).join("copy"), "x").unwrap();
        }
        fs::write(path(".backstay-scratch-file"), "x").unwrap();
        std::os::unix::fs::symlink(path("mine"), path(".backstay-scratch-link")).unwrap();
        let other = Scratch::make_in(parent.path()).unwrap();
        assert!(!path(".backstay-scratch-left").exists());
        for kept in [".backstay-other/copy", "mine/copy", ".backstay-scratch-file", ".backstay-scratch-link/copy"] {
            assert!(path(kept).exists(), "{kept}");
        }
        assert!(used.path().join("copy").exists() && other.path().exists());
        let paths = [used.path().to_owned(), other.path().to_owned()];
        drop((used, other));
        assert!(paths.iter().all(|path| !path.exists()));
    }
}
