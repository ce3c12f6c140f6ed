//! Whether a SQLite file could be copied now.
//!
//! Invariant: the file is opened for reading only, and nothing but an empty scratch folder is made, and removed.
//! Never here: the integrity check, which reads everything.

use std::path::Path;
use std::time::Duration;

use rusqlite::{Connection, OpenFlags};

use super::{SqliteBackup, fault_of, folder, look, scratch_folder};
use crate::blocking;
use crate::entry::escaped;
use crate::error::{Fault, SourceError};
use crate::preflight::{Preflight, free_len, size};

/// How long a lock is waited for here, whatever a backup would wait.
const BUSY_FOR_MAX: Duration = Duration::from_secs(2);

/// Opens the file, and looks for room where the copy is made. Blocks, on a thread of its own, for at most some seconds.
pub async fn preflight(request: &SqliteBackup) -> Preflight {
    let owned = request.clone();
    let told = blocking::run(move || {
        let mut told = Preflight::default();
        if let Err(error) = ask(&owned, &mut told) {
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

fn ask(request: &SqliteBackup, told: &mut Preflight) -> Result<(), SourceError> {
    let place = format!("sqlite at {}", escaped(request.path.as_os_str().as_encoded_bytes()));
    look(&place, &request.path)?;
    let len = std::fs::metadata(&request.path).map_or(0, |metadata| metadata.len());
    let (journal_mode, table_count) = opened(&place, request)?;
    told.fine(format!("{place}: {} in {table_count} tables, journal mode {journal_mode}", size(len)));
    if journal_mode != "wal" {
        let advice = "run once: pragma journal_mode = wal; then writers go on meanwhile";
        told.warn(format!("{place}: not in WAL mode, so that writers wait while it is copied"), advice);
    }
    let scratch = scratch_folder(&place, request)?;
    room(&place, scratch.path(), len, told);
    Ok(())
}

fn opened(place: &str, request: &SqliteBackup) -> Result<(String, i64), SourceError> {
    let said = |error: rusqlite::Error| fault_of(place, folder(request), &error);
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let file = Connection::open_with_flags(&request.path, flags).map_err(said)?;
    file.busy_timeout(request.busy_for.min(BUSY_FOR_MAX)).map_err(said)?;
    let count = "select count(*) from sqlite_schema where type = 'table'";
    let table_count = file.query_row(count, [], |row| row.get(0)).map_err(said)?;
    let mode = file.pragma_query_value(None, "journal_mode", |row| row.get(0)).map_err(said)?;
    Ok((mode, table_count))
}

fn room(place: &str, scratch: &Path, len: u64, told: &mut Preflight) {
    let Some(free) = free_len(scratch) else { return };
    let folder = scratch.parent().unwrap_or(scratch).display();
    if free < len {
        let what = format!("{place}: the copy takes {}, and {folder} has {} free", size(len), size(free));
        told.problem(what, "make room there");
    } else {
        told.fine(format!("{place}: {folder} has {} free for the copy", size(free)));
    }
}

fn advice(fault: Fault, _what: &str) -> Option<String> {
    let advice = match fault {
        Fault::Busy => "see who keeps it locked, or raise lock_timeout",
        Fault::Full => "make room in that folder, in which the file lies: the copy is made beside it",
        Fault::Missing => "correct path",
        Fault::Right => "let the user that backs up read the file and its folder",
        Fault::Damaged => "see that it is a SQLite file, and repair it or restore an earlier one",
        _ => return None,
    };
    Some(advice.to_owned())
}
