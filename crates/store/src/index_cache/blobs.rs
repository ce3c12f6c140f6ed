//! Sealed blobs kept on this host, as they lie in their packs, bounded by their bytes.
//!
//! ```text
//! blobs      pack id ‖ offset in the pack (big endian u64) -> sealed bytes
//! ```
//!
//! RocksDB keeps them in the files in which they were first written, and drops the oldest file when all are too long
//! (its FIFO compaction): nothing is written twice. They pass by the log, so that a crash forgets those put last.
//!
//! Invariant: files of the family never have more bytes than were allowed.
//! Never here: whether a blob is right. Whoever opens it checks its hash, as for one that was just read.

use pack::PackId;

use super::database::{Batch, Family};
use super::{CacheError, IndexCache};

impl IndexCache {
    /// Whether blobs are kept here at all.
    #[must_use]
    pub const fn keeps_blobs(&self) -> bool {
        self.blobs_len_max > 0
    }

    /// A sealed blob that was kept, if it still is.
    ///
    /// # Errors
    ///
    /// [`CacheError`] if the disk fails.
    pub fn blob(&self, pack: &PackId, offset: u64) -> Result<Option<Vec<u8>>, CacheError> {
        if !self.keeps_blobs() {
            return Ok(None);
        }
        self.database.get(Family::Blobs, &key(pack, offset))
    }

    /// Keeps a sealed blob, unless none are kept here. Those put first go when there is no more room.
    ///
    /// # Errors
    ///
    /// [`CacheError::Full`] without space, [`CacheError`] if the disk fails.
    pub fn put_blob(&self, pack: &PackId, offset: u64, sealed: &[u8]) -> Result<(), CacheError> {
        if !self.keeps_blobs() {
            return Ok(());
        }
        let mut batch = Batch::default();
        self.database.put(&mut batch, Family::Blobs, &key(pack, offset), sealed);
        self.database.write_unlogged(batch)
    }
}

fn key(pack: &PackId, offset: u64) -> Vec<u8> {
    [pack.0.as_slice(), &offset.to_be_bytes()].concat()
}
