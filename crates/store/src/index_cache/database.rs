//! RocksDB behind the few calls that we need, with errors that say what they mean.
//!
//! ```text
//! open ─> get, get_many, scan ─> damage found: leaves a mark, so that the next open makes the folder anew
//!      └> Batch ─> write        a write fails: refuses every later one, so that no number is given twice
//! ```
//!
//! A write goes to the log first, so the families stay of one moment whenever the process dies; before RocksDB writes
//! a table out it syncs the log of all that went before, so they also do after a power cut.
//!
//! Invariant: a batch is in the database wholly or not at all.
//! Never here: what keys and values mean.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};

use rocksdb::{
    ColumnFamily, ColumnFamilyDescriptor, DB, DBPinnableSlice, Direction, IteratorMode, ReadOptions, WriteBatch,
    WriteOptions,
};

use super::CacheError;
use super::tuning::{Limits, Tuning};
use crate::Reason;

/// A file with this name says that the folder is to be made anew.
pub(super) const DAMAGE_MARK: &str = "DAMAGED";

/// Comes after every key that does not begin with it.
const KEYS_END: &[u8] = &[u8::MAX; 64];

/// A key and its value.
type Row = (Box<[u8]>, Box<[u8]>);

/// A table of its own within the database.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Family {
    About,
    Segments,
    PackIds,
    Packs,
    Chunks,
    Pages,
    PageAges,
    Notes,
    Blobs,
}

impl Family {
    const ALL: [Self; 9] = [
        Self::About,
        Self::Segments,
        Self::PackIds,
        Self::Packs,
        Self::Chunks,
        Self::Pages,
        Self::PageAges,
        Self::Notes,
        Self::Blobs,
    ];

    const fn name(self) -> &'static str {
        match self {
            Self::About => "default",
            Self::Segments => "segments",
            Self::PackIds => "pack_ids",
            Self::Packs => "packs",
            Self::Chunks => "chunks",
            Self::Pages => "pages",
            Self::PageAges => "page_ages",
            Self::Notes => "notes",
            Self::Blobs => "blobs",
        }
    }
}

/// Changes that are written together.
#[derive(Default)]
pub(super) struct Batch(WriteBatch);

impl Batch {
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// One open database.
pub(super) struct Database {
    rocks: DB,
    folder: PathBuf,
    is_stopped: AtomicBool,
    /// What was said when there was no space, if that is why.
    full: OnceLock<String>,
}

impl Database {
    /// Opens what is in `folder`, or makes it there.
    pub(super) fn open(folder: &Path, limits: Limits) -> Result<Self, rocksdb::Error> {
        let tuning = Tuning::new(limits);
        let families = Family::ALL.map(|family| ColumnFamilyDescriptor::new(family.name(), tuning.family(family)));
        let mut rocks = DB::open_cf_descriptors(&tuning.database(), folder, families)?;
        if limits.blobs_len_max == 0 {
            drop_rows(&mut rocks, Family::Blobs, &tuning)?;
        }
        Ok(Self { rocks, folder: folder.to_path_buf(), is_stopped: AtomicBool::new(false), full: OnceLock::new() })
    }

    pub(super) fn get(&self, family: Family, key: &[u8]) -> Result<Option<Vec<u8>>, CacheError> {
        self.rocks.get_cf_opt(self.family(family), key, &passing_by(family)).map_err(|error| self.failed(error))
    }

    /// The value of each key, in the order of `keys`.
    pub(super) fn get_many<'a>(
        &'a self,
        family: Family,
        keys: impl Iterator<Item = &'a [u8]>,
    ) -> Result<Vec<Option<DBPinnableSlice<'a>>>, CacheError> {
        let rows = self.rocks.batched_multi_get_cf(self.family(family), keys, false);
        rows.into_iter().map(|row| row.map_err(|error| self.failed(error))).collect()
    }

    /// Every row whose key starts with `prefix`, in the order of keys.
    pub(super) fn scan(&self, family: Family, prefix: &[u8]) -> impl Iterator<Item = Result<Row, CacheError>> + '_ {
        let mut options = ReadOptions::default();
        options.fill_cache(false);
        let start = IteratorMode::From(prefix, Direction::Forward);
        let prefix = prefix.to_vec();
        let rows = self.rocks.iterator_cf_opt(self.family(family), options, start);
        rows.map(|row| row.map_err(|error| self.failed(error)))
            .take_while(move |row| row.as_ref().map_or(true, |(key, _)| key.starts_with(&prefix)))
    }

    pub(super) fn last_key(&self, family: Family) -> Result<Option<Box<[u8]>>, CacheError> {
        let last = self.rocks.iterator_cf(self.family(family), IteratorMode::End).next().transpose();
        last.map(|row| row.map(|(key, _)| key)).map_err(|error| self.failed(error))
    }

    pub(super) fn put(&self, batch: &mut Batch, family: Family, key: &[u8], value: &[u8]) {
        batch.0.put_cf(self.family(family), key, value);
    }

    pub(super) fn merge(&self, batch: &mut Batch, family: Family, key: &[u8], value: &[u8]) {
        batch.0.merge_cf(self.family(family), key, value);
    }

    pub(super) fn delete(&self, batch: &mut Batch, family: Family, key: &[u8]) {
        batch.0.delete_cf(self.family(family), key);
    }

    /// Deletes every row of a family; keys of 64 bytes of ones there are none.
    pub(super) fn delete_all(&self, batch: &mut Batch, family: Family) {
        batch.0.delete_range_cf(self.family(family), &[] as &[u8], KEYS_END);
    }

    /// Gives the space of a family's rows back without reading them. They must have been deleted.
    pub(super) fn drop_files(&self, family: Family) {
        // Best effort: what stays is merged away in time.
        if let Err(error) = self.rocks.delete_file_in_range_cf(self.family(family), &[] as &[u8], KEYS_END) {
            tracing::debug!(folder = %self.folder.display(), %error, "files of deleted rows stay for now");
        }
    }

    /// Writes a batch. It survives the death of this process, and a power cut as of a few seconds later.
    pub(super) fn write(&self, batch: Batch) -> Result<(), CacheError> {
        self.write_with(batch, &WriteOptions::default())
    }

    /// Writes a batch that survives a power cut at once.
    pub(super) fn write_synced(&self, batch: Batch) -> Result<(), CacheError> {
        let mut options = WriteOptions::default();
        options.set_sync(true);
        self.write_with(batch, &options)
    }

    /// Writes a batch that this process's death may undo, or does not if it would have to wait, or cannot.
    pub(super) fn write_if_easy(&self, batch: Batch) {
        let mut options = WriteOptions::default();
        options.disable_wal(true);
        options.set_no_slowdown(true);
        if let Err(error) = self.rocks.write_opt(batch.0, &options) {
            tracing::debug!(folder = %self.folder.display(), %error, "not kept");
        }
    }

    fn write_with(&self, batch: Batch, options: &WriteOptions) -> Result<(), CacheError> {
        if batch.is_empty() {
            return Ok(());
        }
        if self.is_stopped.load(Ordering::Acquire) {
            return Err(self.stopped());
        }
        self.rocks.write_opt(batch.0, options).map_err(|error| {
            // The batch may come back from the log: whatever it numbered must not be numbered again.
            self.is_stopped.store(true, Ordering::Release);
            let error = self.failed(error);
            if let CacheError::Full { source, .. } = &error {
                self.full.get_or_init(|| source.to_string());
            }
            error
        })
    }

    /// The error for every write after one that failed.
    fn stopped(&self) -> CacheError {
        let path = self.folder.clone();
        match self.full.get() {
            Some(said) => CacheError::Full { path, source: Reason::cause(said.clone()) },
            None => CacheError::Stopped { path },
        }
    }

    /// Bytes as an array of just that length.
    pub(super) fn exact<const N: usize>(&self, bytes: &[u8]) -> Result<[u8; N], CacheError> {
        bytes.try_into().map_err(|_| self.damaged("a row's length"))
    }

    /// The error for rows that contradict each other; leaves the mark.
    pub(super) fn damaged(&self, what: &str) -> CacheError {
        self.leave_mark();
        CacheError::Damaged { path: self.folder.clone(), source: Reason::cause(format!("{what} cannot be right")) }
    }

    fn failed(&self, error: rocksdb::Error) -> CacheError {
        let error = CacheError::of_database(&self.folder, error);
        if matches!(error, CacheError::Damaged { .. }) {
            self.leave_mark();
        }
        error
    }

    fn leave_mark(&self) {
        if let Err(error) = File::create(self.folder.join(DAMAGE_MARK)) {
            tracing::warn!(folder = %self.folder.display(), %error, "the index cache is damaged and cannot be marked");
        }
    }

    fn family(&self, family: Family) -> &ColumnFamily {
        self.rocks.cf_handle(family.name()).expect("every family is opened with the database")
    }
}

/// Drops every row of a family, and its files, if it has any.
fn drop_rows(rocks: &mut DB, family: Family, tuning: &Tuning) -> Result<(), rocksdb::Error> {
    let handle = rocks.cf_handle(family.name()).expect("every family is opened with the database");
    if rocks.iterator_cf(handle, IteratorMode::Start).next().transpose()?.is_none() {
        return Ok(());
    }
    rocks.drop_cf(family.name())?;
    rocks.create_cf(family.name(), &tuning.family(family))
}

/// Pages and blobs are long and read once a run: they must not push the filters out of memory.
fn passing_by(family: Family) -> ReadOptions {
    let mut options = ReadOptions::default();
    options.fill_cache(!matches!(family, Family::Pages | Family::Blobs));
    options
}
