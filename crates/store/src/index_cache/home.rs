//! The folder of a cache, and who may use it.
//!
//! ```text
//! <folder>/<repository id>/              the cache
//! <folder>/<repository id>.lock          held by the process that has it open
//! <folder>/<repository id>.private-0/    of a process that found it held; gone with that process
//! <folder>/<repository id>.private-0.lock
//! <temporary>/<repository id>.private-0/ of a process that could not use <folder>
//! ```
//!
//! Locks are `flock`s, so they end with their process however it ends; a private folder whose lock nobody holds is
//! removed at the next open. Folders are 0700.
//!
//! Invariant: a folder is made, opened or removed only while its lock is held.
//! Never here: what is in the database, apart from whose it is.

use std::fs::{self, DirBuilder, File, OpenOptions, Permissions, TryLockError};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use seal::RepositoryId;

use super::CacheOptions;
use super::database::{Batch, DAMAGE_MARK, Database, Family};
use super::error::{CacheError, is_locked, is_worth_remaking};
use super::tuning::Limits;

/// Which layout of the families this program reads.
const VERSION: u32 = 2;
const BINDING: &[u8] = b"binding";
/// Caches of one repository that can be open beside the first, on one host.
const PRIVATE_COUNT_MAX: usize = 256;
/// How often a lock file may vanish between being opened and being locked.
const LOCK_TRIES_MAX: usize = 16;

/// A folder that is ours until dropped.
#[derive(Debug)]
pub(super) struct Home {
    folder: PathBuf,
    is_private: bool,
    lock: Lock,
}

impl Home {
    /// The folder `folder`, unless its lock is held.
    fn take(folder: PathBuf, is_private: bool) -> Result<Option<Self>, CacheError> {
        let lock = Lock::take(with_suffix(&folder, ".lock")).map_err(|error| CacheError::of_io(&folder, error))?;
        Ok(lock.map(|lock| Self { folder, is_private, lock }))
    }

    pub(super) fn folder(&self) -> &Path {
        &self.folder
    }

    pub(super) fn is_private(&self) -> bool {
        self.is_private
    }

    /// Bytes of the files in the folder.
    pub(super) fn disk_len(&self) -> Result<u64, CacheError> {
        let entries = fs::read_dir(&self.folder).map_err(|error| CacheError::of_io(&self.folder, error))?;
        // A file which was merged away meanwhile counts nothing.
        Ok(entries.flatten().filter_map(|entry| entry.metadata().ok()).map(|metadata| metadata.len()).sum())
    }

    fn make(&self) -> Result<(), CacheError> {
        make_folder(&self.folder).map_err(|error| CacheError::of_io(&self.folder, error))
    }

    fn empty(&self) -> Result<(), CacheError> {
        remove(&self.folder).map_err(|error| CacheError::of_io(&self.folder, error))?;
        self.make()
    }

    fn remove(&self) -> io::Result<()> {
        remove(&self.folder)?;
        fs::remove_file(&self.lock.path)
    }
}

impl Drop for Home {
    fn drop(&mut self) {
        if self.is_private
            && let Err(error) = self.remove()
        {
            tracing::warn!(folder = %self.folder.display(), %error, "a private index cache was left behind");
        }
    }
}

/// Finds a folder for this process and opens the database in it.
pub(super) fn open(options: &CacheOptions, repository: RepositoryId) -> Result<(Home, Database), CacheError> {
    let base = base(options, repository);
    make_parents(&options.folder).map_err(|error| CacheError::of_io(&options.folder, error))?;
    remove_stale(&options.folder, repository);
    if let Some(home) = Home::take(base.clone(), false)?
        && let Some(database) = open_shared(&home, options.limits(), repository)?
    {
        return Ok((home, database));
    }
    open_private(base, options.limits(), repository)
}

/// Makes a private database in `folder`, which may lie where others write too, but must be this user's alone.
pub(super) fn open_temporary(
    folder: &Path,
    limits: Limits,
    repository: RepositoryId,
) -> Result<(Home, Database), CacheError> {
    make_own(folder).map_err(|error| CacheError::of_io(folder, error))?;
    remove_stale(folder, repository);
    open_private(folder.join(repository.to_string()), limits, repository)
}

fn open_private(base: PathBuf, limits: Limits, repository: RepositoryId) -> Result<(Home, Database), CacheError> {
    for index in 0..PRIVATE_COUNT_MAX {
        if let Some(home) = Home::take(with_suffix(&base, &format!(".private-{index}")), true)? {
            let database = create(&home, limits, repository)?;
            return Ok((home, database));
        }
    }
    Err(CacheError::InUse { path: base })
}

/// Removes the repository's folders, all but the private ones in use.
pub(super) fn clear(options: &CacheOptions, repository: RepositoryId) -> Result<(), CacheError> {
    let base = base(options, repository);
    if !options.folder.exists() {
        return Ok(());
    }
    remove_stale(&options.folder, repository);
    let home = Home::take(base.clone(), false)?.ok_or_else(|| CacheError::InUse { path: base.clone() })?;
    home.remove().map_err(|error| CacheError::of_io(&base, error))
}

/// Opens what is there, if it is whole and ours, or makes it anew. None if somebody holds RocksDB's own lock.
fn open_shared(home: &Home, limits: Limits, repository: RepositoryId) -> Result<Option<Database>, CacheError> {
    let folder = home.folder();
    home.make().or_else(|_| home.empty())?;
    let is_whole = folder.join("CURRENT").exists() && !folder.join(DAMAGE_MARK).exists();
    if is_whole {
        match Database::open(folder, limits) {
            Ok(database) if is_ours(&database, repository) => return Ok(Some(database)),
            Ok(_) => {}
            Err(error) if is_locked(&error) => return Ok(None),
            Err(error) if !is_worth_remaking(&error) => return Err(CacheError::of_database(folder, error)),
            Err(error) => tracing::debug!(folder = %folder.display(), %error, "the index cache does not open"),
        }
        tracing::info!(folder = %folder.display(), "making the index cache anew");
    }
    create(home, limits, repository).map(Some)
}

/// Makes an empty database, whatever was in the folder.
fn create(home: &Home, limits: Limits, repository: RepositoryId) -> Result<Database, CacheError> {
    home.empty()?;
    let database =
        Database::open(home.folder(), limits).map_err(|error| CacheError::of_database(home.folder(), error))?;
    let mut batch = Batch::default();
    database.put(&mut batch, Family::About, BINDING, &binding(repository));
    database.write_synced(batch)?;
    Ok(database)
}

fn is_ours(database: &Database, repository: RepositoryId) -> bool {
    let stored = database.get(Family::About, BINDING);
    stored.is_ok_and(|stored| stored.is_some_and(|stored| stored == binding(repository)))
}

fn binding(repository: RepositoryId) -> Vec<u8> {
    [VERSION.to_le_bytes().as_slice(), &repository.0].concat()
}

/// Removes private folders whose process is gone. What cannot be removed is tried again at the next open.
fn remove_stale(folder: &Path, repository: RepositoryId) {
    let prefix = format!("{repository}.private-");
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let name = entry.file_name();
        let Some(name) = name.to_str().filter(|name| name.starts_with(&prefix)) else { continue };
        let private = folder.join(name.strip_suffix(".lock").unwrap_or(name));
        // Dropping a private home removes its folder.
        let _unlocked = Home::take(private, true);
    }
}

fn base(options: &CacheOptions, repository: RepositoryId) -> PathBuf {
    options.folder.join(repository.to_string())
}

fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}

fn make_parents(folder: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(folder)
}

/// Makes a folder, or takes the one that is there if nobody else can have put anything into it.
fn make_own(folder: &Path) -> io::Result<()> {
    match DirBuilder::new().mode(0o700).create(folder) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
        _ => {}
    }
    let found = fs::symlink_metadata(folder)?;
    let is_ours = found.is_dir() && found.uid() == rustix::process::geteuid().as_raw() && found.mode() & 0o077 == 0;
    if is_ours { Ok(()) } else { Err(io::Error::other("it is not a folder of this user alone")) }
}

fn make_folder(folder: &Path) -> io::Result<()> {
    match DirBuilder::new().mode(0o700).create(folder) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists || !folder.is_dir() => Err(error),
        _ => fs::set_permissions(folder, Permissions::from_mode(0o700)),
    }
}

/// Removes a folder with all that is in it, or the file or link in its stead; nothing there is fine.
fn remove(path: &Path) -> io::Result<()> {
    let removed = match fs::symlink_metadata(path) {
        Ok(metadata) if metadata.is_dir() => fs::remove_dir_all(path),
        Ok(_) => fs::remove_file(path),
        Err(error) => Err(error),
    };
    removed.or_else(|error| if error.kind() == io::ErrorKind::NotFound { Ok(()) } else { Err(error) })
}

/// A lock file, locked until dropped.
#[derive(Debug)]
struct Lock {
    path: PathBuf,
    /// Holds the lock; never read.
    _file: File,
}

impl Lock {
    /// Locks the file at `path`; none if it is held. A file which was removed meanwhile is made again.
    fn take(path: PathBuf) -> io::Result<Option<Self>> {
        for _ in 0..LOCK_TRIES_MAX {
            let file = OpenOptions::new().create(true).truncate(false).write(true).mode(0o600).open(&path)?;
            match file.try_lock() {
                Ok(()) if file.metadata()?.nlink() > 0 => return Ok(Some(Self { path, _file: file })),
                Ok(()) => {}
                Err(TryLockError::WouldBlock) => return Ok(None),
                Err(TryLockError::Error(error)) => return Err(error),
            }
        }
        Err(io::Error::other("its lock file keeps vanishing"))
    }
}
