//! An RDB laid out so that a server loads it, whichever way it is set up.
//!
//! ```text
//! FOLDER/dump.rdb                                    for appendonly no
//! FOLDER/appendonlydir/appendonly.aof.1.base.rdb     for appendonly yes: the same bytes
//! FOLDER/appendonlydir/appendonly.aof.manifest
//! ```
//!
//! A server with `appendonly yes` that finds `dump.rdb` alone starts empty, and says nothing.
//!
//! Invariant: nothing is overwritten, and the manifest comes last, when all of the RDB is on the disk and verified.
//! Never here: stopping and starting the server.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use super::rdb::RdbEnd;
use crate::error::{Fault, SourceError};
use crate::file_sink::{FileSink, WholeFile};

/// The folder's name as servers have it by default (`appenddirname`).
const APPEND_FOLDER: &str = "appendonlydir";
/// The files' name as servers have it by default (`appendfilename`).
const APPEND_FILE: &str = "appendonly.aof";
const DUMP: &str = "dump.rdb";

/// An RDB on its way into a server's folder. Blocking: async callers go through `blocking`.
#[derive(Debug)]
pub struct RdbRestore {
    folder: PathBuf,
    file: WholeFile,
    end: RdbEnd,
}

impl RdbRestore {
    /// Makes sure that the folder holds no data of a server.
    ///
    /// # Errors
    ///
    /// [`SourceError::Occupied`] otherwise.
    pub fn refuse_if_occupied(folder: &Path) -> Result<(), SourceError> {
        let append_folder = folder.join(APPEND_FOLDER);
        for path in [folder.join(DUMP), append_folder, folder.join(APPEND_FILE)] {
            if path.symlink_metadata().is_ok() {
                return Err(SourceError::Occupied { path, found: "file of a server" });
            }
        }
        Ok(())
    }

    /// Begins to restore into the folder of a server that does not run. The folder is made if it is missing; what is made
    /// is for its owner only.
    ///
    /// # Errors
    ///
    /// [`SourceError::Occupied`] if the folder holds data of a server already; [`SourceError::Write`] or
    /// [`SourceError::Target`] as the system says.
    pub fn create(folder: &Path) -> Result<Self, SourceError> {
        Self::refuse_if_occupied(folder)?;
        DirBuilder::new().recursive(true).mode(0o700).create(folder).map_err(failed("make", folder))?;
        let file = WholeFile::create(&folder.join(DUMP), 0o600, false)?;
        Ok(Self { folder: folder.to_owned(), file, end: RdbEnd::default() })
    }
}

impl FileSink for RdbRestore {
    fn write(&mut self, data: &[u8]) -> Result<(), SourceError> {
        self.end.push(data);
        self.file.write(data)
    }

    /// Verifies the RDB, and lays it out for both settings. If that fails, `dump.rdb` is removed.
    fn finish(self) -> Result<(), SourceError> {
        let dump = self.folder.join(DUMP);
        let damaged = |why| SourceError::server(format!("restored file {}", dump.display()), Fault::Damaged, why);
        self.end.finish().map_err(damaged)?;
        self.file.finish()?;
        let laid_out = lay_out(&self.folder, &dump);
        if laid_out.is_err() {
            // The first error matters more.
            let _ = fs::remove_file(&dump);
        }
        laid_out
    }
}

fn lay_out(folder: &Path, dump: &Path) -> Result<(), SourceError> {
    let append_folder = folder.join(APPEND_FOLDER);
    DirBuilder::new().mode(0o700).create(&append_folder).map_err(failed("create", &append_folder))?;
    let base_name = format!("{APPEND_FILE}.1.base.rdb");
    let base = append_folder.join(&base_name);
    // A server replaces either file, never writes into it: they can share their bytes.
    if fs::hard_link(dump, &base).is_err() {
        fs::copy(dump, &base).and_then(|_| File::open(&base)?.sync_all()).map_err(failed("write", &base))?;
    }
    let manifest = append_folder.join(format!("{APPEND_FILE}.manifest"));
    let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&manifest);
    let mut file = file.map_err(failed("create", &manifest))?;
    let written = file.write_all(format!("file {base_name} seq 1 type b\n").as_bytes());
    written.and_then(|()| file.sync_all()).map_err(failed("write", &manifest))?;
    for folder in [append_folder.as_path(), folder] {
        File::open(folder).and_then(|folder| folder.sync_all()).map_err(failed("sync", folder))?;
    }
    Ok(())
}

fn failed(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> SourceError + use<> {
    let path = path.to_owned();
    move |source| SourceError::Write { path, action, source }
}
