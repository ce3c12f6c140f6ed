//! Whether an append-only file could be read now.
//!
//! Invariant: the files of the manifest are opened as a backup opens them, and their content is not read.
//! Never here: whether they hold what they should.

use std::path::{Path, PathBuf};

use super::{Set, open, place_of};
use crate::blocking;
use crate::error::{Fault, SourceError};
use crate::preflight::{Preflight, size};

/// Opens the manifest in `folder` and all files that it names. Blocks, on a thread of its own.
pub async fn append_only_preflight(folder: PathBuf) -> Preflight {
    let told = blocking::run(move || {
        let mut told = Preflight::default();
        if let Err(error) = look(&folder, &mut told) {
            told.refused(&error, advice);
        }
        told
    });
    told.await.unwrap_or_else(|panicked| {
        let mut told = Preflight::default();
        told.refused(&panicked.into(), |_, _| None);
        told
    })
}

fn look(folder: &Path, told: &mut Preflight) -> Result<(), SourceError> {
    let (place, _) = place_of(folder)?;
    let Set { files, .. } = open(&place, folder)?;
    let len = files.iter().map(|(_, len)| len).sum();
    told.fine(format!("{place}: {} in {} files, all of which open", size(len), files.len()));
    Ok(())
}

fn advice(fault: Fault, what: &str) -> Option<String> {
    let advice = match fault {
        Fault::Right => "let the user that backs up read the folder and the files in it",
        Fault::Missing if what.contains("no manifest") => {
            "turn appendonly on, and name the folder that appenddirname says, below the server's dir"
        }
        Fault::Missing => "correct the path, or see that it is mounted; or repair the set: redis-check-aof",
        Fault::Setting if what.contains("more than one") => "name the folder of one server",
        Fault::Protocol => "see that the folder is that of an append-only file of Redis or Valkey",
        _ => return None,
    };
    Some(advice.to_owned())
}
