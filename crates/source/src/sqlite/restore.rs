//! A SQLite file back at its place.
//!
//! Invariant: what fails SQLite's own check never gets the name, and no write-ahead log of another file stays beside it.
//! Invariant: what the restore does not replace keeps its log.
//! Never here: files that somebody has open.

use std::path::Path;

use percent_encoding::{AsciiSet, CONTROLS, percent_encode};
use rusqlite::{Connection, OpenFlags};

use super::{check, fault_of, stale_companions};
use crate::entry::escaped;
use crate::error::SourceError;
use crate::file_sink::{FileSink, WholeFile, refuse_if_there};

/// What means something else in a URI of SQLite.
const ENCODED: &AsciiSet = &CONTROLS.add(b'?').add(b'#').add(b'%').add(b' ');

/// A SQLite file on its way.
#[derive(Debug)]
pub struct SqliteRestore {
    file: WholeFile,
    len: u64,
    replaces: bool,
}

impl SqliteRestore {
    /// Makes sure that neither a file nor the log of one is at `place`, or that it `replaces` them.
    ///
    /// # Errors
    ///
    /// [`SourceError::Occupied`] otherwise.
    pub fn refuse_if_occupied(place: &Path, replaces: bool) -> Result<(), SourceError> {
        if let Some(path) = stale_companions(place).into_iter().next().filter(|_| !replaces) {
            return Err(SourceError::Occupied { path, found: "log of a SQLite file" });
        }
        refuse_if_there(place, replaces)
    }

    /// Begins the file `place`. With `replaces`, what is there is replaced in the end, with the log beside it: nobody may
    /// have it open then.
    ///
    /// # Errors
    ///
    /// [`SourceError::Occupied`] if a database is there already, or the log of one; else as [`WholeFile::create`].
    pub fn create(place: &Path, mode: u32, replaces: bool) -> Result<Self, SourceError> {
        Self::refuse_if_occupied(place, replaces)?;
        Ok(Self { file: WholeFile::create(place, mode, replaces)?, len: 0, replaces })
    }
}

impl FileSink for SqliteRestore {
    fn write(&mut self, data: &[u8]) -> Result<(), SourceError> {
        self.len += data.len() as u64;
        self.file.write(data)
    }

    fn finish(self) -> Result<(), SourceError> {
        let place = format!("sqlite at {}", escaped(self.file.place().as_os_str().as_encoded_bytes()));
        if self.len > 0 {
            let folder = self.file.path().parent().unwrap_or(Path::new("."));
            let said = |error: rusqlite::Error| fault_of(&place, folder, &error);
            // Nobody else has it: no lock, no log.
            let path = self.file.path().as_os_str().as_encoded_bytes();
            let uri = format!("file:{}?immutable=1", percent_encode(path, ENCODED));
            let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_URI;
            check(&place, folder, &Connection::open_with_flags(uri, flags).map_err(said)?)?;
        }
        // Whoever came meanwhile keeps what is theirs.
        Self::refuse_if_occupied(self.file.place(), self.replaces)?;
        let companions = stale_companions(self.file.place());
        self.file.finish_instead_of(&companions)
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::PathBuf;

    use super::*;

    fn names_in(folder: &Path) -> usize {
        fs::read_dir(folder).unwrap().count()
    }

    /// A database and the log beside it.
    fn old(folder: &Path) -> [PathBuf; 2] {
        let paths = ["app.db", "app.db-wal"].map(|name| folder.join(name));
        paths.iter().for_each(|path| fs::write(path, path.as_os_str().as_encoded_bytes()).unwrap());
        paths
    }

    fn are_as_they_were(paths: &[PathBuf]) -> bool {
        paths.iter().all(|path| fs::read(path).is_ok_and(|bytes| bytes == path.as_os_str().as_encoded_bytes()))
    }

    #[test]
    fn log_of_a_database_that_came_meanwhile_stays() {
        let folder = tempfile::tempdir().unwrap();
        let late = SqliteRestore::create(&folder.path().join("app.db"), 0o600, false).unwrap();
        let paths = old(folder.path());
        assert!(matches!(late.finish().unwrap_err(), SourceError::Occupied { .. }));
        assert!(are_as_they_were(&paths) && names_in(folder.path()) == 2);
    }

    #[test]
    fn log_of_what_is_replaced_goes_with_it_and_comes_back_if_it_stays() {
        let folder = tempfile::tempdir().unwrap();
        let paths = old(folder.path());
        let fails = SqliteRestore::create(&paths[0], 0o600, true).unwrap();
        fs::remove_file(fails.file.path()).unwrap();
        assert!(matches!(fails.finish().unwrap_err(), SourceError::Write { action: "name", .. }));
        assert!(are_as_they_were(&paths) && names_in(folder.path()) == 2);
        SqliteRestore::create(&paths[0], 0o600, true).unwrap().finish().unwrap();
        assert!(fs::read(&paths[0]).unwrap().is_empty() && names_in(folder.path()) == 1);
    }
}
