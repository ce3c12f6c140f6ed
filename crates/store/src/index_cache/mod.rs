//! The index cache: which pack holds which chunk, as far as this host has read the index.
//!
//! ```text
//! about      binding, outgrown       format version, repository id; whether the index is to be made anew
//! segments   segment id           -> numbers of its packs applied, and listed when last looked
//! pack_ids   pack id              -> number, chunk count, length of the object
//! packs      number (big endian)  -> a trailer without its chunks
//! chunks     chunk id             -> places, 16 bytes each
//! pages      page id              -> plaintext           bounded, least recently used go first
//! page_ages  by id, by generation                        what `pages` drops next
//! notes      name                 -> bytes               what this host remembers of the repository
//! blobs      pack id, offset      -> sealed bytes        bounded, first in, first out
//! ```
//!
//! One folder per repository, one process at a time; any further one works on a private cache of its own. Calls
//! block on the local disk: they belong into CPU jobs and blocking threads, never onto the async runtime.
//!
//! Invariant: a pack, its number and all of its places are written at once, or not at all; a place also carries the
//! first four bytes of its pack's id, and one that does not fit its pack is never returned.
//! Invariant: losing, cloning or rolling back the folder changes speed only.
//! Never here: what may be deduplicated against. A caller fills a [`PackSet`] from what the store lists.

use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use pack::{PackId, SegmentId};
use seal::{ChunkId, RepositoryId};

use self::database::{Batch, Database, Family};
use self::home::Home;
use self::known::{Known, PackRow};
use self::pages::Pages;
use self::recent::Recent;
use self::tuning::Limits;

mod apply;
mod blobs;
mod database;
mod error;
mod home;
mod known;
mod pack_info;
mod pack_set;
mod pages;
mod place;
mod recent;
mod tuning;

#[cfg(test)]
mod tests;

pub use error::CacheError;
pub use pack_info::PackInfo;
pub use pack_set::PackSet;
pub use pages::PAGES_LEN_MAX;
pub use place::{PLACES_COUNT_MAX, PackNo, Place, Places};

/// Bytes of memory for blocks, filters and unwritten entries, unless said otherwise.
pub const MEMORY_LEN: usize = 48 << 20;

/// Known packs below which the index is never made anew for being outgrown: it is small whatever is in it.
pub const OUTGROWN_COUNT_MIN: usize = 1024;
/// In `about`: most known packs are gone.
const OUTGROWN: &[u8] = b"outgrown";

/// Where the cache lies and how much memory it takes.
#[derive(Debug, Clone)]
pub struct CacheOptions {
    /// Holds one folder per repository; made if it is missing.
    pub folder: PathBuf,
    /// Bytes of memory for blocks, filters and unwritten entries, whatever the repository's size.
    pub memory_len: usize,
    /// Bytes of sealed blobs kept on disk, unless another process has the cache; 0 for none.
    pub blobs_len_max: u64,
    /// Where a process may keep a cache for its own time when `folder` cannot be used, the best place first. Each is
    /// made if it is missing, but not the folders above it.
    pub temporary: Vec<PathBuf>,
}

impl CacheOptions {
    /// The usual memory, in `folder`, and nowhere else.
    pub fn new(folder: impl Into<PathBuf>) -> Self {
        Self { folder: folder.into(), memory_len: MEMORY_LEN, blobs_len_max: 0, temporary: Vec::new() }
    }

    /// The same, or for a process's own time in the first of `temporary` that can be used.
    #[must_use]
    pub fn with_temporary(self, temporary: Vec<PathBuf>) -> Self {
        Self { temporary, ..self }
    }

    const fn limits(&self) -> Limits {
        Limits { memory_len: self.memory_len, blobs_len_max: self.blobs_len_max }
    }
}

/// How much the cache holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct CacheStats {
    /// Packs known, still listed or not.
    pub packs: u64,
    /// Chunks in them; a chunk which lies in two packs counts twice.
    pub chunks: u64,
    /// Segments applied.
    pub segments: u64,
    /// Bytes in the folder.
    pub disk_len: u64,
}

/// One repository's index cache, open.
///
/// Every method blocks on the local disk and may be called from many threads at once.
pub struct IndexCache {
    /// Dropped before `home`, which may remove the folder beneath it.
    database: Database,
    known: RwLock<Known>,
    recent: Mutex<Recent>,
    pages: Pages,
    blobs_len_max: u64,
    applying: Mutex<()>,
    home: Home,
}

impl IndexCache {
    /// Opens the cache of `repository`, or makes it.
    ///
    /// What is there but is damaged, of another format version, or of another repository is removed and made anew. While
    /// another process holds the cache, an empty private one is opened beside it, which is removed when dropped.
    ///
    /// Reads a row per known pack: about 1 ms per thousand. After a crash up to 32 MiB of log are read besides.
    ///
    /// # Errors
    ///
    /// [`CacheError::Full`] without space, [`CacheError::Folder`] if the folder cannot be used. Go on with a
    /// [temporary](Self::open_temporary) one.
    pub fn open(options: &CacheOptions, repository: RepositoryId) -> Result<Self, CacheError> {
        // What is found damaged is marked, so that the second try makes it anew.
        Self::open_once(options, repository).or_else(|error| match error {
            CacheError::Damaged { .. } => Self::open_once(options, repository),
            _ => Err(error),
        })
    }

    fn open_once(options: &CacheOptions, repository: RepositoryId) -> Result<Self, CacheError> {
        let (home, database) = home::open(options, repository)?;
        clear_outgrown(&database)?;
        Self::over(home, database, options.blobs_len_max)
    }

    /// Opens an empty private cache in `folder`, one of the temporary ones. It is removed when dropped.
    ///
    /// The folder may lie where others can write, such as in `/tmp`; it must be this user's alone.
    ///
    /// # Errors
    ///
    /// [`CacheError::Full`] without space, [`CacheError::Folder`] if the folder cannot be used or is open to others.
    pub fn open_temporary(folder: &Path, memory_len: usize, repository: RepositoryId) -> Result<Self, CacheError> {
        let limits = Limits { memory_len, blobs_len_max: 0 };
        let (home, database) = home::open_temporary(folder, limits, repository)?;
        Self::over(home, database, limits.blobs_len_max)
    }

    fn over(home: Home, database: Database, blobs_len_max: u64) -> Result<Self, CacheError> {
        let blobs_len_max = if home.is_private() { 0 } else { blobs_len_max };
        let known = RwLock::new(Known::read(&database)?);
        let pages = Pages::open(&database, PAGES_LEN_MAX)?;
        Ok(Self { database, known, recent: Mutex::default(), pages, blobs_len_max, applying: Mutex::default(), home })
    }

    /// Whether another process held the cache, so that this one started empty and will be removed.
    #[must_use]
    pub fn is_private(&self) -> bool {
        self.home.is_private()
    }

    /// Where it lies.
    #[must_use]
    pub fn folder(&self) -> &Path {
        self.home.folder()
    }

    /// The segments applied so far.
    ///
    /// # Errors
    ///
    /// [`CacheError`] if the disk fails.
    pub fn applied_segments(&self) -> Result<HashSet<SegmentId>, CacheError> {
        let rows = self.database.scan(Family::Segments, b"");
        rows.map(|row| Ok(SegmentId(self.database.exact(&row?.0)?))).collect()
    }

    /// Forgets that segments were applied which are no longer `listed`. Their packs stay known, and are in
    /// [`named_packs`](Self::named_packs) only if another segment names them.
    ///
    /// When most known packs are named by none, the index is made anew at the next opening, so that the cache does not
    /// grow for ever; pages and notes stay.
    ///
    /// # Errors
    ///
    /// [`CacheError`] if the disk fails; the records stay.
    pub fn retain_segments(&self, listed: &HashSet<SegmentId>) -> Result<(), CacheError> {
        let mut batch = Batch::default();
        for gone in self.applied_segments()?.difference(listed) {
            self.database.delete(&mut batch, Family::Segments, &gone.0);
        }
        if batch.is_empty() {
            return Ok(());
        }
        self.database.write(batch)?;
        let known_count = self.known.read().unwrap_or_else(PoisonError::into_inner).pack_count();
        let named_count = self.named_packs(listed)?.len();
        if known_count >= OUTGROWN_COUNT_MIN && named_count < known_count / 2 {
            // Not now: numbers that somebody holds must keep their meaning.
            self.make_anew()?;
        }
        Ok(())
    }

    /// Has the index read anew at the next opening, as it says false things of some pack. Pages and notes stay.
    ///
    /// # Errors
    ///
    /// [`CacheError`] if the disk fails.
    pub fn make_anew(&self) -> Result<(), CacheError> {
        let mut batch = Batch::default();
        self.database.put(&mut batch, Family::About, OUTGROWN, b"");
        self.database.write(batch)
    }

    /// The packs that one of these segments names, as far as it is applied. Only these may be deduplicated against, if
    /// they also exist.
    ///
    /// Reads four bytes per pack.
    ///
    /// # Errors
    ///
    /// [`CacheError`] if the disk fails.
    pub fn named_packs(&self, listed: &HashSet<SegmentId>) -> Result<PackSet, CacheError> {
        let known_count = self.known.read().unwrap_or_else(PoisonError::into_inner).pack_count();
        let mut named = PackSet::new();
        for row in self.database.scan(Family::Segments, b"") {
            let (key, value) = row?;
            if !listed.contains(&SegmentId(self.database.exact(&key)?)) {
                continue;
            }
            let (numbers, rest) = value.as_chunks::<4>();
            let numbers = numbers.iter().map(|bytes| PackNo::from_le_bytes(*bytes));
            if !rest.is_empty() || numbers.clone().any(|number| number as usize >= known_count) {
                return Err(self.database.damaged("the packs of a segment"));
            }
            named.extend(numbers);
        }
        Ok(named)
    }

    /// The number of each pack, if it is known. Numbers are this cache's own and are dense from 0.
    ///
    /// # Errors
    ///
    /// [`CacheError`] if the disk fails.
    pub fn pack_numbers(&self, ids: &[PackId]) -> Result<Vec<Option<PackNo>>, CacheError> {
        let rows = self.database.get_many(Family::PackIds, ids.iter().map(|id| id.0.as_slice()))?;
        let number = |row: &[u8]| Ok(PackRow::decode(&self.database, row)?.number);
        rows.iter().map(|row| row.as_deref().map(number).transpose()).collect()
    }

    /// The number of each pack which is known to have this length, in bytes. About 1 µs each.
    ///
    /// # Errors
    ///
    /// [`CacheError`] if the disk fails.
    pub fn numbers_of_length(&self, packs: &[(PackId, u64)]) -> Result<Vec<Option<PackNo>>, CacheError> {
        let rows = self.database.get_many(Family::PackIds, packs.iter().map(|(id, _)| id.0.as_slice()))?;
        let row = |row: &[u8]| PackRow::decode(&self.database, row);
        let fits = rows.iter().zip(packs).map(|(found, (_, len))| {
            let found = found.as_deref().map(row).transpose()?;
            Ok(found.filter(|row| row.len == *len).map(|row| row.number))
        });
        fits.collect()
    }

    /// What a pack holds, chunks aside. The 1024 or so used last are kept in memory.
    ///
    /// # Errors
    ///
    /// [`CacheError`] if the disk fails.
    pub fn pack(&self, number: PackNo) -> Result<Option<Arc<PackInfo>>, CacheError> {
        let recent = || self.recent.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(info) = recent().get(number) {
            return Ok(Some(info));
        }
        let Some(row) = self.database.get(Family::Packs, &number.to_be_bytes())? else { return Ok(None) };
        let info = Arc::new(PackInfo::decode(&row).ok_or_else(|| self.database.damaged("a pack's row"))?);
        recent().put(number, Arc::clone(&info));
        Ok(Some(info))
    }

    /// Every known pack, by number.
    pub fn packs(&self) -> impl Iterator<Item = Result<(PackNo, PackInfo), CacheError>> + '_ {
        self.database.scan(Family::Packs, b"").map(|row| {
            let (key, value) = row?;
            let info = PackInfo::decode(&value).ok_or_else(|| self.database.damaged("a pack's row"))?;
            Ok((PackNo::from_be_bytes(self.database.exact(&key)?), info))
        })
    }

    /// Where each chunk lies, as far as is known: mostly nowhere or in one place.
    ///
    /// Give hundreds of ids at a time: one costs 1 to 2 µs if it is unknown, 4 µs if it is known and 8 µs among ten million.
    ///
    /// # Errors
    ///
    /// [`CacheError`] if the disk fails.
    pub fn lookup(&self, ids: &[ChunkId]) -> Result<Vec<Places>, CacheError> {
        if self.known.read().unwrap_or_else(PoisonError::into_inner).is_empty() {
            return Ok(vec![Places::default(); ids.len()]);
        }
        let rows = self.database.get_many(Family::Chunks, ids.iter().map(|id| id.as_bytes().as_slice()))?;
        let known = self.known.read().unwrap_or_else(PoisonError::into_inner);
        let damaged = || self.database.damaged("a chunk's places");
        rows.iter()
            .map(|row| row.as_deref().map_or(Ok(Places::default()), |row| known.places(row).ok_or_else(damaged)))
            .collect()
    }

    /// Every known chunk and its places, by id. Some microseconds each.
    pub fn chunks(&self) -> impl Iterator<Item = Result<(ChunkId, Places), CacheError>> + '_ {
        self.database.scan(Family::Chunks, b"").map(|row| {
            let (key, value) = row?;
            let known = self.known.read().unwrap_or_else(PoisonError::into_inner);
            let places = known.places(&value).ok_or_else(|| self.database.damaged("a chunk's places"))?;
            Ok((ChunkId::from_bytes(self.database.exact(&key)?), places))
        })
    }

    /// The plaintext of a page that was kept, if it still is. Being read keeps it longer.
    ///
    /// # Errors
    ///
    /// [`CacheError`] if the disk fails.
    pub fn page(&self, id: &ChunkId) -> Result<Option<Vec<u8>>, CacheError> {
        self.pages.get(&self.database, id)
    }

    /// Keeps pages. Beyond [`PAGES_LEN_MAX`] bytes, those are dropped that no run has used for longest.
    ///
    /// # Errors
    ///
    /// [`CacheError::Full`] without space, [`CacheError`] if the disk fails; some pages may have been kept.
    pub fn put_pages(&self, pages: &[(ChunkId, Vec<u8>)]) -> Result<(), CacheError> {
        self.pages.put(&self.database, pages)
    }

    /// A value that this host remembers.
    ///
    /// # Errors
    ///
    /// [`CacheError`] if the disk fails.
    pub fn get_note(&self, name: &str) -> Result<Option<Vec<u8>>, CacheError> {
        self.database.get(Family::Notes, name.as_bytes())
    }

    /// Remembers a value; it survives a power cut once this returns, and a private cache forgets it.
    ///
    /// # Errors
    ///
    /// [`CacheError::Full`] without space, [`CacheError`] if the disk fails; the old value stays.
    pub fn put_note(&self, name: &str, value: &[u8]) -> Result<(), CacheError> {
        let mut batch = Batch::default();
        self.database.put(&mut batch, Family::Notes, name.as_bytes(), value);
        self.database.write_synced(batch)
    }

    /// The names of the values that this host remembers, as far as they begin with `prefix`.
    ///
    /// # Errors
    ///
    /// [`CacheError`] if the disk fails.
    pub fn note_names(&self, prefix: &str) -> Result<Vec<String>, CacheError> {
        let rows = self.database.scan(Family::Notes, prefix.as_bytes());
        let name = |key: &[u8]| String::from_utf8(key.to_vec()).map_err(|_| self.database.damaged("a note's name"));
        rows.map(|row| name(&row?.0)).collect()
    }

    /// Forgets a value.
    ///
    /// # Errors
    ///
    /// [`CacheError::Full`] without space, [`CacheError`] if the disk fails; the value stays.
    pub fn drop_note(&self, name: &str) -> Result<(), CacheError> {
        let mut batch = Batch::default();
        self.database.delete(&mut batch, Family::Notes, name.as_bytes());
        self.database.write(batch)
    }

    /// How much the cache holds. Reads a row per segment.
    ///
    /// # Errors
    ///
    /// [`CacheError`] if the disk fails.
    pub fn stats(&self) -> Result<CacheStats, CacheError> {
        let (packs, chunks) = self.known.read().unwrap_or_else(PoisonError::into_inner).counts();
        let segments = self.applied_segments()?.len() as u64;
        Ok(CacheStats { packs, chunks, segments, disk_len: self.home.disk_len()? })
    }
}

impl Drop for IndexCache {
    fn drop(&mut self) {
        // Best effort: a page whose reading is not recorded is dropped sooner, nothing else.
        if !self.home.is_private() {
            let _unrecorded = self.pages.record_reads(&self.database);
        }
    }
}

/// Empties the index, if most of its packs were gone when it was last used. Pages and notes stay.
fn clear_outgrown(database: &Database) -> Result<(), CacheError> {
    const INDEX: [Family; 4] = [Family::Segments, Family::PackIds, Family::Packs, Family::Chunks];
    if database.get(Family::About, OUTGROWN)?.is_none() {
        return Ok(());
    }
    let mut batch = Batch::default();
    INDEX.iter().for_each(|family| database.delete_all(&mut batch, *family));
    database.delete(&mut batch, Family::About, OUTGROWN);
    database.write_synced(batch)?;
    INDEX.iter().for_each(|family| database.drop_files(*family));
    Ok(())
}

/// Removes the cache of `repository` and what crashed processes left of private ones.
///
/// # Errors
///
/// [`CacheError::InUse`] while a process has it open, [`CacheError::Folder`] if it cannot be removed.
pub fn clear(options: &CacheOptions, repository: RepositoryId) -> Result<(), CacheError> {
    home::clear(options, repository)
}
