//! Creates a file that must not exist yet, where the file system has no hard links (exFAT, many network shares).
//!
//! ```text
//! name#<random> ─ write ─ sync ─ rename to name, replacing nothing ─ sync the folder
//! ```
//!
//! Listings leave out names that end in `#` and digits, as the library's own unfinished files do.
//!
//! Invariant: `name` holds the whole body or does not exist, whatever happens in between.
//! Never here: the usual way, through a hard link. The library does that.

use std::error::Error as StdError;
use std::io;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use rustix::fs::{CWD, RenameFlags, renameat_with};
use rustix::io::Errno;
use tokio::fs::{self, File};
use tokio::io::AsyncWriteExt;

use crate::StoreError;
use crate::store::Put;

/// Whether this error is what a file system without hard links answers to a hard link.
pub(crate) fn means_no_hard_links(error: &StoreError) -> bool {
    let source = error.source();
    std::iter::successors(source, |&error| error.source())
        .filter_map(|error| error.downcast_ref::<io::Error>())
        .filter_map(Errno::from_io_error)
        .any(|errno| [Errno::PERM, Errno::OPNOTSUPP, Errno::NOSYS].contains(&errno))
}

/// Creates `path` with this body, unless it is there. `nonce` tells apart writers of one name.
///
/// # Errors
///
/// The file system's. [`io::ErrorKind::InvalidInput`] where it cannot rename without replacing.
pub(crate) async fn create(path: &Path, body: &[Bytes], nonce: u64) -> io::Result<Put> {
    let aside = aside(path, nonce);
    let created = publish(&aside, path, body).await;
    if !matches!(created, Ok(Put::Created)) {
        // What failed matters; that its remains stay as well does not.
        drop(fs::remove_file(&aside).await);
    }
    if let Some(folder) = path.parent() {
        File::open(folder).await?.sync_all().await?;
    }
    created
}

async fn publish(aside: &Path, path: &Path, body: &[Bytes]) -> io::Result<Put> {
    let mut file = File::options().write(true).create_new(true).open(aside).await?;
    for part in body {
        file.write_all(part).await?;
    }
    file.flush().await?;
    file.sync_all().await?;
    drop(file);
    // One short call without bytes to move: not worth a thread.
    match renameat_with(CWD, aside, CWD, path, RenameFlags::NOREPLACE) {
        Ok(()) => Ok(Put::Created),
        Err(Errno::EXIST) => Ok(Put::AlreadyThere),
        Err(errno) => Err(errno.into()),
    }
}

fn aside(path: &Path, nonce: u64) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(format!("#{nonce}"));
    name.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn second_create_changes_nothing_and_leaves_nothing() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("object");
        let (first, second) = ([Bytes::from("fir"), Bytes::from("st")], [Bytes::from("second")]);
        assert_eq!(create(&path, &first, 1).await.expect("creates"), Put::Created);
        assert_eq!(create(&path, &second, 2).await.expect("answers"), Put::AlreadyThere);
        assert_eq!(std::fs::read(&path).expect("reads"), b"first");
        assert_eq!(std::fs::read_dir(folder.path()).expect("reads").count(), 1);
    }

    #[test]
    fn only_what_a_missing_hard_link_gives_counts_as_one() {
        let error = |errno: Errno| StoreError::Other {
            name: "o".into(),
            store: "/d".into(),
            source: Box::new(io::Error::from(errno)),
        };
        assert!(means_no_hard_links(&error(Errno::PERM)));
        assert!(!means_no_hard_links(&error(Errno::NOSPC)));
        assert!(!means_no_hard_links(&error(Errno::ACCESS)));
    }
}
