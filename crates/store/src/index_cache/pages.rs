//! Pages of manifests kept on this host, bounded by their bytes.
//!
//! ```text
//! pages      page id              -> plaintext
//! page_ages  'i' ‖ page id        -> generation u64, len u64
//!            'g' ‖ generation (big endian) ‖ page id -> len u64
//!            'n'                  -> the present generation, u64
//!            't'                  -> bytes of all pages, u64
//! ```
//!
//! A generation is one opening of the cache. A page that is put or read moves to the present one; reads are noted in
//! memory and recorded with the next put, or when the cache is closed.
//!
//! Invariant: `pages` and `page_ages` change in one batch and name the same pages.
//! Never here: what a page says.

use std::collections::{HashMap, HashSet};
use std::sync::{Mutex, MutexGuard, PoisonError};

use seal::{CHUNK_ID_LEN, ChunkId};

use super::CacheError;
use super::database::{Batch, Database, Family};

/// Bytes of plaintext kept. Compressed, some third of that lies on disk.
pub const PAGES_LEN_MAX: u64 = 1 << 30;
/// Pages whose reading is remembered before it is recorded.
const READS_COUNT_MAX: usize = 16 << 10;
/// Bytes in one batch, beyond which it is written.
const BATCH_LEN_MAX: usize = 4 << 20;
const BY_ID: &[u8] = b"i";
const BY_GENERATION: &[u8] = b"g";
const GENERATION: &[u8] = b"n";
const TOTAL: &[u8] = b"t";

/// The books about the pages.
#[derive(Debug)]
pub(super) struct Pages {
    generation: u64,
    len_max: u64,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    len: u64,
    read: HashSet<ChunkId>,
}

impl Pages {
    /// Begins a generation.
    pub(super) fn open(database: &Database, len_max: u64) -> Result<Self, CacheError> {
        let number = |key| database.get(Family::PageAges, key)?.map_or(Ok(0), |bytes| read_u64(database, &bytes));
        let (generation, len) = (number(GENERATION)? + 1, number(TOTAL)?);
        let mut batch = Batch::default();
        database.put(&mut batch, Family::PageAges, GENERATION, &generation.to_le_bytes());
        match database.write(batch) {
            // What is known stays readable; that nothing more can be kept shows when something is to be.
            Ok(()) | Err(CacheError::Full { .. }) => {}
            Err(error) => return Err(error),
        }
        Ok(Self { generation, len_max, state: Mutex::new(State { len, read: HashSet::new() }) })
    }

    pub(super) fn get(&self, database: &Database, id: &ChunkId) -> Result<Option<Vec<u8>>, CacheError> {
        let page = database.get(Family::Pages, id.as_bytes())?;
        if page.is_some() {
            let mut state = self.state();
            if state.read.len() < READS_COUNT_MAX {
                state.read.insert(*id);
            }
        }
        Ok(page)
    }

    pub(super) fn put(&self, database: &Database, pages: &[(ChunkId, Vec<u8>)]) -> Result<(), CacheError> {
        let mut state = self.state();
        self.move_up(database, &mut state)?;
        let mut rest = pages;
        while !rest.is_empty() {
            let mut len = 0;
            let fits = |page: &&(ChunkId, Vec<u8>)| {
                let is_first = len == 0;
                len += page.1.len().max(1);
                is_first || len <= BATCH_LEN_MAX
            };
            let (now, later) = rest.split_at(rest.iter().take_while(fits).count());
            self.put_batch(database, &mut state, now)?;
            rest = later;
        }
        self.drop_oldest(database, &mut state)
    }

    /// Moves the pages that were read to the present generation.
    pub(super) fn record_reads(&self, database: &Database) -> Result<(), CacheError> {
        self.move_up(database, &mut self.state())
    }

    fn move_up(&self, database: &Database, state: &mut State) -> Result<(), CacheError> {
        let ids: Vec<_> = state.read.drain().collect();
        let mut batch = Batch::default();
        for (id, age) in ids.iter().zip(ages(database, ids.iter())?) {
            if let Some((generation, len)) = age.filter(|(generation, _)| *generation != self.generation) {
                database.delete(&mut batch, Family::PageAges, &by_generation(generation, id));
                self.put_age(database, &mut batch, id, len);
            }
        }
        database.write(batch)
    }

    fn put_batch(
        &self,
        database: &Database,
        state: &mut State,
        pages: &[(ChunkId, Vec<u8>)],
    ) -> Result<(), CacheError> {
        let unique: HashMap<&ChunkId, &[u8]> = pages.iter().map(|(id, page)| (id, page.as_slice())).collect();
        let mut batch = Batch::default();
        let mut total = state.len;
        for ((id, page), age) in unique.iter().zip(ages(database, unique.keys().copied())?) {
            if let Some((generation, len)) = age {
                database.delete(&mut batch, Family::PageAges, &by_generation(generation, id));
                total = total.saturating_sub(len);
            }
            total += page.len() as u64;
            database.put(&mut batch, Family::Pages, id.as_bytes(), page);
            self.put_age(database, &mut batch, id, page.len() as u64);
        }
        write_with_total(database, state, batch, total)
    }

    fn put_age(&self, database: &Database, batch: &mut Batch, id: &ChunkId, len: u64) {
        let age = [self.generation.to_le_bytes(), len.to_le_bytes()].concat();
        database.put(batch, Family::PageAges, &by_id(id), &age);
        database.put(batch, Family::PageAges, &by_generation(self.generation, id), &len.to_le_bytes());
    }

    fn drop_oldest(&self, database: &Database, state: &mut State) -> Result<(), CacheError> {
        let mut batch = Batch::default();
        let mut total = state.len;
        let mut oldest = database.scan(Family::PageAges, BY_GENERATION);
        while total > self.len_max
            && let Some(row) = oldest.next()
        {
            let (key, len) = row?;
            let id = key.last_chunk::<CHUNK_ID_LEN>().ok_or_else(|| database.damaged("the age of a page"))?;
            total = total.saturating_sub(read_u64(database, &len)?);
            database.delete(&mut batch, Family::PageAges, &key);
            database.delete(&mut batch, Family::PageAges, &by_id(&ChunkId::from_bytes(*id)));
            database.delete(&mut batch, Family::Pages, id);
        }
        write_with_total(database, state, batch, total)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn write_with_total(database: &Database, state: &mut State, mut batch: Batch, total: u64) -> Result<(), CacheError> {
    if batch.is_empty() {
        return Ok(());
    }
    database.put(&mut batch, Family::PageAges, TOTAL, &total.to_le_bytes());
    database.write(batch)?;
    state.len = total;
    Ok(())
}

/// Generation and length of each page that is kept.
fn ages<'a>(
    database: &Database,
    ids: impl Iterator<Item = &'a ChunkId>,
) -> Result<Vec<Option<(u64, u64)>>, CacheError> {
    let keys: Vec<_> = ids.map(by_id).collect();
    let rows = database.get_many(Family::PageAges, keys.iter().map(Vec::as_slice))?;
    let age = |row: &[u8]| {
        let (generation, len) = row.split_at_checked(8).ok_or_else(|| database.damaged("the age of a page"))?;
        Ok((read_u64(database, generation)?, read_u64(database, len)?))
    };
    rows.iter().map(|row| row.as_deref().map(age).transpose()).collect()
}

fn by_id(id: &ChunkId) -> Vec<u8> {
    [BY_ID, id.as_bytes()].concat()
}

fn by_generation(generation: u64, id: &ChunkId) -> Vec<u8> {
    [BY_GENERATION, &generation.to_be_bytes(), id.as_bytes()].concat()
}

fn read_u64(database: &Database, bytes: &[u8]) -> Result<u64, CacheError> {
    database.exact(bytes).map(u64::from_le_bytes)
}
