//! Sealed blobs kept on this host, as they lie in their packs, bounded by their bytes.
//!
//! ```text
//! blobs      pack id ‖ offset in the pack (big endian u64) -> sealed bytes
//! ```
//!
//! RocksDB keeps them in the files in which they were first written, and drops the oldest file when all are too long
//! (its FIFO compaction): nothing is written twice. They pass by the log, so that a crash forgets those put last.
//!
//! Invariant: when nothing is being written, files of the family have at most the bytes that were allowed; while files are written, which
//! the oldest must make room for, a few files more.
//! Invariant: a blob that cannot be kept fails nothing, and no other write.
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
    /// One that the disk is too slow or too full for is not kept.
    pub fn put_blob(&self, pack: &PackId, offset: u64, sealed: &[u8]) {
        if !self.keeps_blobs() {
            return;
        }
        let mut batch = Batch::default();
        self.database.put(&mut batch, Family::Blobs, &key(pack, offset), sealed);
        self.database.write_if_easy(batch);
    }
}

fn key(pack: &PackId, offset: u64) -> Vec<u8> {
    [pack.0.as_slice(), &offset.to_be_bytes()].concat()
}
