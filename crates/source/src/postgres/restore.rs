//! A restored data directory: in which order it is written, what it lacks, and how it is started.
//!
//! ```text
//! tablespaces linked → entries but pg_control → pg_control → checked → started by who owns it
//! ```
//!
//! Invariant: `global/pg_control` is written last: what lacks it cannot be started by mistake.
//! Never here: writing the entries, and what of the log is replayed.

mod tablespaces;

use std::ffi::OsString;
use std::fmt;
use std::fs;
use std::io;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use super::manifest::{Manifest, NAME};
use super::members::CONFIGURATION;
use crate::command::shell_quoted;
use crate::entry::EntryPath;
use crate::{SourceError, blocking};

pub use tablespaces::{link_tablespace, refuse_if_nested, refuse_if_tablespace_occupied, tablespaces_of};

const CONTROL: &[u8] = b"global/pg_control";
/// The folder whose entries stand for tablespaces.
const TABLESPACES: &str = "pg_tblspc";
/// Directories without which no server starts, though they may be empty.
const DIRECTORIES: [&str; 5] = ["base", "global", "pg_wal", TABLESPACES, "pg_xact"];
/// What a running server or a half-done restore leaves, and a backup never has.
const STRANGERS: [&str; 2] = ["postmaster.pid", "recovery.done"];
/// What keeps a server in recovery.
const SIGNALS: [&str; 2] = ["standby.signal", "recovery.signal"];
/// What may be changed or removed before a start, and `pg_verifybackup` leaves out of account too.
const CHANGEABLE: [&str; 3] = ["standby.signal", "recovery.signal", "postgresql.auto.conf"];
/// Lacks that are told one by one; the count says how many more there are.
const LACKS_MAX: usize = 100;

/// Whether this entry is to be written after all others.
#[must_use]
pub fn comes_last(path: &EntryPath) -> bool {
    path.as_bytes() == CONTROL
}

/// Something that a data directory lacks, or has too much.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Lack {
    /// A file or directory is not there.
    Missing(PathBuf),
    /// A file has another length than its manifest says.
    Length {
        /// Relative to the data directory.
        path: PathBuf,
        /// Bytes that it has.
        found: u64,
        /// Bytes that it should have.
        expected: u64,
    },
    /// A file is there that says that a server runs, or ran, on this directory.
    Stranger(PathBuf),
    /// A file is there that makes the server follow another one, or ask for log, before it runs by itself: the backup is of
    /// a standby.
    Follows(PathBuf),
    /// A tablespace is a directory still: Postgres wants a link.
    Unlinked(PathBuf),
    /// A link of a tablespace leads nowhere.
    Dangling(PathBuf),
    /// The manifest cannot be read.
    Manifest(String),
    /// Postgres starts on directories of mode 0700 or 0750 only.
    Mode(u32),
    /// The configuration is not there: some servers keep it elsewhere, and then it is not in their backups.
    Unconfigured(PathBuf),
}

impl Lack {
    /// Whether something of the backup is not there: the others are for who starts the server to look at.
    #[must_use]
    pub const fn loses(&self) -> bool {
        match self {
            Self::Missing(_) | Self::Length { .. } | Self::Unlinked(_) | Self::Dangling(_) | Self::Manifest(_) => true,
            Self::Stranger(_) | Self::Follows(_) | Self::Mode(_) | Self::Unconfigured(_) => false,
        }
    }
}

impl fmt::Display for Lack {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Missing(path) => write!(out, "{} is missing", path.display()),
            Self::Length { path, found, expected } => {
                write!(out, "{} has {found} bytes instead of {expected}", path.display())
            }
            Self::Stranger(path) => write!(out, "{} is there, as if a server ran on it", path.display()),
            Self::Follows(path) => write!(out, "{} is there: the server would not run by itself", path.display()),
            Self::Unlinked(path) => write!(out, "tablespace {} is a directory and not a link", path.display()),
            Self::Dangling(path) => write!(out, "tablespace {} leads nowhere", path.display()),
            Self::Manifest(what) => write!(out, "{what}"),
            Self::Unconfigured(path) => write!(out, "{} is missing: the server kept it elsewhere", path.display()),
            Self::Mode(mode) => write!(out, "the directory has mode {mode:04o} instead of 0700"),
        }
    }
}

/// What the data directory `data` lacks to be started, by its manifest: files, their lengths, the log that makes it
/// consistent, links of tablespaces. Empty if nothing; at most a hundred. Reads no content but the manifest's.
///
/// # Errors
///
/// [`SourceError::Unreadable`] if something is there and cannot be looked at.
pub async fn lacks(data: &Path) -> Result<Vec<Lack>, SourceError> {
    let data = data.to_owned();
    blocking::run(move || lacks_of(&data)).await?
}

fn lacks_of(data: &Path) -> Result<Vec<Lack>, SourceError> {
    let mut lacks = Vec::new();
    let mode = look(data)?.map_or(0, |metadata| metadata.mode() & 0o7777);
    if !matches!(mode, 0o700 | 0o750) {
        lacks.push(Lack::Mode(mode));
    }
    for name in DIRECTORIES.map(Path::new) {
        if !look(&data.join(name))?.is_some_and(|metadata| metadata.is_dir()) {
            lacks.push(Lack::Missing(name.to_owned()));
        }
    }
    for name in CONFIGURATION.map(Path::new) {
        if look(&data.join(name))?.is_none() {
            lacks.push(Lack::Unconfigured(name.to_owned()));
        }
    }
    for name in STRANGERS.map(Path::new) {
        if look(&data.join(name))?.is_some() {
            lacks.push(Lack::Stranger(name.to_owned()));
        }
    }
    for name in SIGNALS.map(Path::new) {
        if look(&data.join(name))?.is_some() {
            lacks.push(Lack::Follows(name.to_owned()));
        }
    }
    unlinked(data, &mut lacks)?;
    let manifest = match fs::read(data.join(NAME)).map(|bytes| Manifest::parse(&bytes)) {
        Ok(Ok(manifest)) => manifest,
        Ok(Err(error)) => {
            lacks.push(Lack::Manifest(error.to_string()));
            return Ok(lacks);
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            lacks.push(Lack::Missing(NAME.into()));
            return Ok(lacks);
        }
        Err(source) => return Err(SourceError::Unreadable { path: data.join(NAME), source }),
    };
    let log = log_files(data, &manifest)?;
    let files = manifest.files.iter().filter_map(|file| Some((path_of(&file.path()?), Some(file.len))));
    let files = files.filter(|(path, _)| !CHANGEABLE.iter().any(|name| path == Path::new(name)));
    for (path, len) in files.chain(log.into_iter().map(|path| (path, None))) {
        let found = look(&data.join(&path))?.map(|metadata| metadata.len());
        match (found, len) {
            (None, _) => lacks.push(Lack::Missing(path)),
            (Some(found), Some(expected)) if found != expected => lacks.push(Lack::Length { path, found, expected }),
            _ => {}
        }
        if lacks.len() >= LACKS_MAX {
            break;
        }
    }
    Ok(lacks)
}

/// The files of the log that the manifest needs. Their length is that of any one that is there.
fn log_files(data: &Path, manifest: &Manifest) -> Result<Vec<PathBuf>, SourceError> {
    let unreadable = |source| SourceError::Unreadable { path: data.join("pg_wal"), source };
    let mut segment_len = 16 * 1024 * 1024;
    match fs::read_dir(data.join("pg_wal")) {
        Ok(entries) => {
            for entry in entries {
                let entry = entry.map_err(unreadable)?;
                let name = entry.file_name();
                if name.len() == 24 && name.as_bytes().iter().all(u8::is_ascii_hexdigit) {
                    segment_len = entry.metadata().map_err(unreadable)?.len();
                }
            }
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(unreadable(error)),
    }
    if !(1 << 20..=1 << 30).contains(&segment_len) {
        return Ok(Vec::new());
    }
    let per_id = (1_u64 << 32) / segment_len;
    let mut found = Vec::new();
    for range in &manifest.wal_ranges {
        let last = range.end.0.saturating_sub(1) / segment_len;
        // Whoever wrote the manifest may not make us list the whole log.
        for number in (range.start.0 / segment_len..=last).take(1 << 20) {
            let name = format!("{:08X}{:08X}{:08X}", range.timeline, number / per_id, number % per_id);
            found.push(Path::new("pg_wal").join(name));
        }
    }
    Ok(found)
}

fn unlinked(data: &Path, lacks: &mut Vec<Lack>) -> Result<(), SourceError> {
    for (oid, path) in tablespaces(data)? {
        let name = Path::new(TABLESPACES).join(oid);
        let metadata = look_at(&path, fs::symlink_metadata(&path))?;
        match metadata {
            Some(metadata) if metadata.is_dir() => lacks.push(Lack::Unlinked(name)),
            Some(_) if look(&path)?.is_none() => lacks.push(Lack::Dangling(name)),
            _ => {}
        }
    }
    Ok(())
}

/// The tablespaces of a data directory: their numbers and what stands for them.
fn tablespaces(data: &Path) -> Result<Vec<(String, PathBuf)>, SourceError> {
    let folder = data.join(TABLESPACES);
    let unreadable = |source| SourceError::Unreadable { path: folder.clone(), source };
    let entries = match fs::read_dir(&folder) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries.map_err(unreadable)?,
    };
    let mut found = Vec::new();
    for entry in entries {
        let entry = entry.map_err(unreadable)?;
        let name = entry.file_name().into_string().unwrap_or_default();
        if !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_digit()) {
            found.push((name, entry.path()));
        }
    }
    found.sort();
    Ok(found)
}

/// Makes sure that a base backup may be restored into `data`: it is not there, empty, or a restore of the same that was
/// stopped, which lacks `global/pg_control` and has nothing at its top but what is in `names`.
///
/// # Errors
///
/// [`SourceError::Occupied`] otherwise.
pub async fn refuse_if_occupied(data: &Path, names: Vec<OsString>) -> Result<(), SourceError> {
    let data = data.to_owned();
    blocking::run(move || vacant(&data, &names)).await?
}

fn vacant(data: &Path, names: &[OsString]) -> Result<(), SourceError> {
    let occupied = |path: PathBuf, found| Err(SourceError::Occupied { path, found });
    if look(data)?.is_none() {
        return Ok(());
    }
    let control = data.join("global/pg_control");
    if look(&control)?.is_some() {
        return occupied(data.to_owned(), "data directory of Postgres");
    }
    let unreadable = |source| SourceError::Unreadable { path: data.to_owned(), source };
    for entry in fs::read_dir(data).map_err(unreadable)? {
        let entry = entry.map_err(unreadable)?;
        if !names.contains(&entry.file_name()) {
            return occupied(entry.path(), "file that is no part of the backup");
        }
    }
    Ok(())
}

/// Gives a data directory the mode without which Postgres does not start.
///
/// # Errors
///
/// [`SourceError::Write`] if it is not ours.
pub async fn close(data: &Path) -> Result<(), SourceError> {
    let path = data.to_owned();
    let closed = blocking::run(move || {
        let closed = fs::set_permissions(&path, fs::Permissions::from_mode(0o700));
        closed.map_err(|source| SourceError::Write { path, action: "close", source })
    });
    closed.await?
}

/// The programs and calls that start a restored server, for people.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Starting {
    /// Commands in order, each to be typed as the user that owns the directory, but for the first, by root.
    pub commands: Vec<String>,
    /// What the version of the programs has to be, such as 15.
    pub major: u32,
}

/// How a restored data directory is started, `version` being the fact `server_version_num`, with its tablespaces in
/// these folders.
#[must_use]
pub fn starting(data: &Path, tablespaces: &[PathBuf], version: u32) -> Starting {
    let major = version / 10_000;
    let owned: String = tablespaces.iter().map(|place| format!(" {}", shell_quoted(place))).collect();
    let data = shell_quoted(data);
    let commands = vec![
        format!("chown -R postgres: {data}{owned}"),
        format!("/usr/lib/postgresql/{major}/bin/pg_verifybackup -n {data}"),
        format!("/usr/lib/postgresql/{major}/bin/pg_ctl -D {data} -w start"),
    ];
    Starting { commands, major }
}

fn path_of(bytes: &[u8]) -> PathBuf {
    PathBuf::from(std::ffi::OsStr::from_bytes(bytes))
}

fn look(path: &Path) -> Result<Option<fs::Metadata>, SourceError> {
    look_at(path, fs::metadata(path))
}

fn look_at(path: &Path, looked: io::Result<fs::Metadata>) -> Result<Option<fs::Metadata>, SourceError> {
    match looked {
        Ok(metadata) => Ok(Some(metadata)),
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => Ok(None),
        Err(source) => Err(SourceError::Unreadable { path: path.to_owned(), source }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_pg_control_comes_last() {
        let last = |path: &str| comes_last(&EntryPath::try_from(path.as_bytes().to_vec()).unwrap());
        assert!(last("global/pg_control"));
        assert!(!last("pg_control") && !last("global/1262"));
    }

    #[test]
    fn a_path_is_typed_so_that_a_shell_takes_it() {
        let first = |path: &str| starting(Path::new(path), &[], 150_018).commands[2].clone();
        assert_eq!(first("/srv/pg"), "/usr/lib/postgresql/15/bin/pg_ctl -D /srv/pg -w start");
        assert_eq!(first("/a b/it's"), "/usr/lib/postgresql/15/bin/pg_ctl -D '/a b/it'\\''s' -w start");
    }

    #[tokio::test]
    async fn a_data_directory_is_restored_into_nothing_or_into_its_own_beginning() {
        let folder = tempfile::tempdir().unwrap();
        let data = folder.path().join("data");
        let allowed =
            |data: PathBuf| async move { refuse_if_occupied(&data, vec!["base".into(), "global".into()]).await };
        allowed(data.clone()).await.unwrap();
        fs::create_dir_all(data.join("global")).unwrap();
        allowed(data.clone()).await.unwrap();
        fs::write(data.join("notes"), "mine").unwrap();
        assert!(allowed(data.clone()).await.unwrap_err().to_string().contains("notes"));
        fs::remove_file(data.join("notes")).unwrap();
        fs::write(data.join("global/pg_control"), "").unwrap();
        assert!(allowed(data).await.unwrap_err().to_string().contains("data directory of Postgres"));
    }
}
