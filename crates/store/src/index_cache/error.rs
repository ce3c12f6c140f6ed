//! What can go wrong with the index cache. None of it is a reason to stop: the cache is a hint.
//!
//! ```text
//! Full Stopped   -> Retry      free some space, open again
//! InUse          -> Locked
//! Damaged        -> Damaged    made anew when next opened
//! Folder         -> Invalid
//! Database       -> Bug
//! ```
//!
//! Invariant: every variant names the folder.
//! Never here: deciding to go on without a cache; that is the engine's.

use std::io;
use std::path::{Path, PathBuf};

use crate::{Cause, Kind};

/// What the operating system says when there is no space, in the words that RocksDB repeats.
const FULL: [&str; 3] = ["No space left on device", "Disk quota exceeded", "Space limit reached"];
/// What says nothing about the files themselves.
const PASSING: [&str; 6] = [
    "Too many open files",
    "Cannot allocate memory",
    "Permission denied",
    "Operation not permitted",
    "Read-only file system",
    "Shutdown in progress",
];

/// Why the index cache did not do what it was asked.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
#[allow(missing_docs)] // the fields: `path` the repository's folder in the cache
pub enum CacheError {
    /// No space or quota is left for it. What was known stays readable.
    #[error("no space is left for the index cache at {path}")]
    Full { path: PathBuf, source: Cause },

    /// An earlier write failed; until it is opened again it can only be read.
    #[error("the index cache at {path} takes no more since a write to it failed")]
    Stopped { path: PathBuf },

    /// A process has it open.
    #[error("the index cache at {path} is in use")]
    InUse { path: PathBuf },

    /// Its files are not what was written. It is made anew when next opened.
    #[error("the index cache at {path} is damaged")]
    Damaged { path: PathBuf, source: Cause },

    /// The folder cannot be made, read or written.
    #[error("the index cache cannot use {path}")]
    Folder { path: PathBuf, source: Cause },

    /// The library failed in a way that nobody has classified yet.
    #[error("the index cache at {path} failed in an unexpected way")]
    Database { path: PathBuf, source: Cause },
}

impl CacheError {
    /// What a caller can do about it.
    pub fn kind(&self) -> Kind {
        match self {
            Self::Full { .. } | Self::Stopped { .. } => Kind::Retry,
            Self::InUse { .. } => Kind::Locked,
            Self::Damaged { .. } => Kind::Damaged,
            Self::Folder { .. } => Kind::Invalid,
            Self::Database { .. } => Kind::Bug,
        }
    }

    pub(super) fn of_io(path: &Path, error: io::Error) -> Self {
        let (path, kind) = (path.to_path_buf(), error.kind());
        match kind {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => Self::Full { path, source: error.into() },
            _ => Self::Folder { path, source: error.into() },
        }
    }

    pub(super) fn of_database(path: &Path, error: rocksdb::Error) -> Self {
        let path = path.to_path_buf();
        let says = |words: &[&str]| words.iter().any(|word| error.as_ref().contains(word));
        if says(&FULL) {
            tracing::debug!("the index cache's library says: {error}");
            return Self::Full { path, source: io::Error::from(io::ErrorKind::StorageFull).into() };
        }
        if says(&["Permission denied", "Operation not permitted", "Read-only file system"]) {
            return Self::Folder { path, source: error.into() };
        }
        match error.kind() {
            rocksdb::ErrorKind::Corruption => Self::Damaged { path, source: error.into() },
            rocksdb::ErrorKind::IOError if says(&["No such file or directory", "Input/output error"]) => {
                Self::Damaged { path, source: error.into() }
            }
            _ => Self::Database { path, source: error.into() },
        }
    }
}

/// Whether RocksDB's own lock is held: by a process that our lock does not reach, or by a handle of this one.
pub(super) fn is_locked(error: &rocksdb::Error) -> bool {
    let text = error.as_ref();
    text.contains("While lock file") || text.contains("lock hold by current process")
}

/// Whether a cache that does not open with this error would open when made anew.
pub(super) fn is_worth_remaking(error: &rocksdb::Error) -> bool {
    let text = error.as_ref();
    !is_locked(error) && !FULL.iter().chain(&PASSING).any(|words| text.contains(words))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn storage_full_is_full_and_any_other_folder_trouble_is_not() {
        let full = CacheError::of_io(Path::new("c"), io::ErrorKind::StorageFull.into());
        let other = CacheError::of_io(Path::new("c"), io::ErrorKind::PermissionDenied.into());
        assert_eq!((full.kind(), other.kind()), (Kind::Retry, Kind::Invalid));
        assert_eq!(full.to_string(), "no space is left for the index cache at c");
    }
}
