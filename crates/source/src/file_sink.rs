//! A single file that a restore writes, and that gets its name only when it is whole.
//!
//! ```text
//! FOLDER/.backstay-XXXXXX/NAME ← pieces ─→ checked, on the disk ─→ FOLDER/NAME
//! ```
//!
//! Invariant: what has the name is whole, and nothing that had it before is lost unless that was asked for.
//! Never here: what the bytes mean.

use std::fs::{self, File, OpenOptions, Permissions};
use std::io::{self, Write as _};
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, RenameFlags, renameat_with};
use rustix::io::Errno;
use tempfile::TempDir;

use crate::error::SourceError;

/// Where the bytes of one file go. Blocking: async callers go through `blocking`.
pub trait FileSink: Send + 'static {
    /// Takes the next bytes.
    ///
    /// # Errors
    ///
    /// [`SourceError::Write`] as the system says.
    fn write(&mut self, data: &[u8]) -> Result<(), SourceError>;

    /// Says that these were all: checks them, and lets the file be seen.
    ///
    /// # Errors
    ///
    /// [`SourceError::Server`] with [`crate::Fault::Damaged`] if they are not what they should be; [`SourceError::Write`]
    /// as the system says. Nothing has the name then that did not have it before.
    fn finish(self) -> Result<(), SourceError>;
}

/// A file in the making. Dropped, it leaves nothing.
#[derive(Debug)]
pub struct WholeFile {
    place: PathBuf,
    scratch: TempDir,
    path: PathBuf,
    file: File,
    mode: u32,
    replaces: bool,
}

impl WholeFile {
    /// Begins a file that will be `place`, with these permissions, in a folder that is made if need be.
    ///
    /// # Errors
    ///
    /// [`SourceError::Occupied`] if something has the name and it `replaces` nothing, or if a folder has it;
    /// [`SourceError::Write`] as the system says.
    pub fn create(place: &Path, mode: u32, replaces: bool) -> Result<Self, SourceError> {
        refuse_if_there(place, replaces)?;
        let parent = place.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
        fs::create_dir_all(parent).map_err(failed("make", parent))?;
        let scratch = TempDir::with_prefix_in(".backstay-", parent).map_err(failed("write in", parent))?;
        let path = scratch.path().join(place.file_name().unwrap_or_default());
        let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path);
        let file = file.map_err(failed("create", place))?;
        Ok(Self { place: place.to_owned(), scratch, path, file, mode: mode & 0o7777, replaces })
    }

    /// Where its bytes are until it is finished.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// What it will be.
    #[must_use]
    pub fn place(&self) -> &Path {
        &self.place
    }

    /// Finishes it as [`FileSink::finish`] does, and removes these files beside it, which belong to what it replaces: they
    /// are gone before it has its name, and back if it does not get it.
    ///
    /// # Errors
    ///
    /// As there. [`SourceError::Write`] with a path in the scratch folder, which stays then, if one cannot be put back.
    pub fn finish_instead_of(mut self, companions: &[PathBuf]) -> Result<(), SourceError> {
        let place = &self.place;
        self.file.set_permissions(Permissions::from_mode(self.mode)).map_err(failed("set the mode of", place))?;
        self.file.sync_all().map_err(failed("sync", place))?;
        refuse_if_there(place, self.replaces)?;
        let mut moved = Vec::new();
        let named = self.set_aside(companions, &mut moved).and_then(|()| self.name());
        if named.is_err() {
            for (path, aside) in &moved {
                if let Err(error) = rename_to_nothing(aside, path) {
                    self.scratch.disable_cleanup(true);
                    return Err(failed("put back", aside)(error.into()));
                }
            }
        }
        named.and_then(|()| self.sync_parent())
    }

    /// Moves files into the scratch folder, and says which and where to.
    fn set_aside(&self, companions: &[PathBuf], moved: &mut Vec<(PathBuf, PathBuf)>) -> Result<(), SourceError> {
        for path in companions {
            let aside = self.scratch.path().join(path.file_name().unwrap_or_default());
            fs::rename(path, &aside).map_err(failed("set aside", path))?;
            moved.push((path.clone(), aside));
        }
        // On the disk before the new file is: after a power cut they must not be found beside it.
        if moved.is_empty() { Ok(()) } else { self.sync_parent() }
    }

    fn name(&self) -> Result<(), SourceError> {
        let place = &self.place;
        if self.replaces {
            return fs::rename(&self.path, place).map_err(failed("name", place));
        }
        match rename_to_nothing(&self.path, place) {
            Ok(()) => Ok(()),
            Err(Errno::EXIST) => Err(SourceError::Occupied { path: place.clone(), found: "file" }),
            Err(error) => Err(failed("name", place)(error.into())),
        }
    }

    fn sync_parent(&self) -> Result<(), SourceError> {
        let parent = self.scratch.path().parent().unwrap_or(Path::new("."));
        File::open(parent).and_then(|folder| folder.sync_all()).map_err(failed("sync", parent))
    }
}

/// Gives a file another name, which nothing has.
fn rename_to_nothing(from: &Path, to: &Path) -> Result<(), Errno> {
    match renameat_with(CWD, from, CWD, to, RenameFlags::NOREPLACE) {
        // File systems that cannot promise it: we look.
        Err(Errno::INVAL) if to.symlink_metadata().is_ok() => Err(Errno::EXIST),
        Err(Errno::INVAL) => rustix::fs::rename(from, to),
        renamed => renamed,
    }
}

impl FileSink for WholeFile {
    fn write(&mut self, data: &[u8]) -> Result<(), SourceError> {
        self.file.write_all(data).map_err(failed("write", &self.place))
    }

    fn finish(self) -> Result<(), SourceError> {
        self.finish_instead_of(&[])
    }
}

/// Makes sure that a file may get this name: nothing has it, or it `replaces` what has it.
///
/// # Errors
///
/// [`SourceError::Occupied`] otherwise.
pub fn refuse_if_there(place: &Path, replaces: bool) -> Result<(), SourceError> {
    match place.symlink_metadata() {
        Ok(found) if found.is_dir() => Err(SourceError::Occupied { path: place.to_owned(), found: "folder" }),
        Ok(_) if !replaces => Err(SourceError::Occupied { path: place.to_owned(), found: "file" }),
        _ => Ok(()),
    }
}

fn failed(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> SourceError + use<> {
    let path = path.to_owned();
    move |source| SourceError::Write { path, action, source }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_has_its_name_only_when_it_is_whole_and_takes_nobody_elses() {
        let folder = tempfile::tempdir().unwrap();
        let place = folder.path().join("new/app.db");
        let names = || fs::read_dir(place.parent().unwrap()).unwrap().count();
        let mut file = WholeFile::create(&place, 0o640, false).unwrap();
        file.write(b"half").unwrap();
        assert!(!place.exists() && names() == 1);
        drop(file);
        assert_eq!(names(), 0);
        let mut file = WholeFile::create(&place, 0o640, false).unwrap();
        let late = WholeFile::create(&place, 0o600, false).unwrap();
        file.write(b"whole").unwrap();
        file.finish().unwrap();
        assert_eq!((fs::read(&place).unwrap(), names()), (b"whole".to_vec(), 2));
        assert_eq!(fs::metadata(&place).unwrap().permissions().mode() & 0o7777, 0o640);
        assert!(matches!(late.finish().unwrap_err(), SourceError::Occupied { .. }));
        assert!(matches!(WholeFile::create(&place, 0o600, false).unwrap_err(), SourceError::Occupied { .. }));
        WholeFile::create(&place, 0o600, true).unwrap().finish().unwrap();
        assert_eq!((fs::read(&place).unwrap(), names()), (Vec::new(), 1));
        let over = WholeFile::create(place.parent().unwrap(), 0o600, true).unwrap_err();
        assert!(matches!(over, SourceError::Occupied { found: "folder", .. }), "{over}");
    }
}
