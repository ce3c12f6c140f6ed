//! What would pile up in a folder: files of interrupted puts, and folders whose objects are gone.
//!
//! ```text
//! name#<digits>   a put that was killed before it published   hidden from listings; removed when a day old
//! writers/<id>/   the objects of one run                      removed with the last of them
//! probe/<id>/
//! ```
//!
//! Old is what was written a day before an object that was put just now, by the file system's clock. A put takes
//! minutes at most; one whose file is taken away all the same fails, and publishes nothing.
//!
//! Invariant: nothing here is an object, and no failure of it fails anything.
//! Never here: which objects are needed.

use std::path::Path;
use std::time::{Duration, SystemTime};

use tokio::fs;
use tracing::debug;

/// How much older than an object put just now a leftover is when it is removed.
const LEFTOVER_FOR: Duration = Duration::from_secs(24 * 60 * 60);
/// Below these, each folder holds the objects of one run, and goes with them.
const OF_ONE_RUN: [&str; 2] = ["probe", "writers"];

/// Whether the object `name` lies in a folder that goes with its objects.
pub(super) fn is_of_one_run(name: &str) -> bool {
    let mut segments = name.split('/');
    let top = segments.next().unwrap_or_default();
    OF_ONE_RUN.contains(&top) && segments.count() == 2
}

/// Removes a folder, unless something is in it.
pub(super) async fn remove_if_empty(folder: &Path) {
    if let Err(error) = fs::remove_dir(folder).await {
        debug!(folder = %folder.display(), %error, "the folder stays");
    }
}

/// Removes what interrupted puts left in `folder` long before the object at `fresh` was put there.
pub(super) async fn sweep(folder: &Path, fresh: &Path) {
    if let Err(error) = try_sweep(folder, fresh).await {
        debug!(folder = %folder.display(), %error, "what interrupted puts left stays");
    }
}

async fn try_sweep(folder: &Path, fresh: &Path) -> std::io::Result<()> {
    let now = fs::metadata(fresh).await?.modified()?;
    let mut entries = fs::read_dir(folder).await?;
    while let Some(entry) = entries.next_entry().await? {
        if is_leftover(entry.file_name().as_encoded_bytes()) {
            let metadata = entry.metadata().await?;
            if metadata.is_file() && is_old(metadata.modified()?, now) {
                fs::remove_file(entry.path()).await?;
            }
        }
    }
    Ok(())
}

fn is_old(written_at: SystemTime, now: SystemTime) -> bool {
    now.duration_since(written_at).is_ok_and(|age| age >= LEFTOVER_FOR)
}

/// Whether a put gives such a name to a file that it has not published yet. No object has one.
fn is_leftover(name: &[u8]) -> bool {
    let digits = name.iter().rev().take_while(|byte| byte.is_ascii_digit()).count();
    digits > 0 && name.len().checked_sub(digits + 1).and_then(|at| name.get(at)) == Some(&b'#')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn leftovers_are_told_from_objects_by_their_names() {
        for name in ["a#1", "config#18446744073709551615", "#7", "x#1#2"] {
            assert!(is_leftover(name.as_bytes()), "{name}");
        }
        for name in ["a", "a1", "12", "a#", "a#1b", ""] {
            assert!(!is_leftover(name.as_bytes()), "{name}");
        }
    }

    #[test]
    fn folders_of_one_run_are_told_from_those_that_many_share() {
        assert!(is_of_one_run("writers/0a/announced") && is_of_one_run("probe/0a/object"));
        for name in ["config", "writers/0a", "packs/ab/cd", "writers/0a/b/c", "index/writers/x"] {
            assert!(!is_of_one_run(name), "{name}");
        }
    }
}
