//! The end of a snapshot: 32 bytes of SHA-256 over all before.
//!
//! Never here: pages.

use sha2::{Digest as _, Sha256};

const HASH_LEN: usize = 32;
/// The database is a multiple of this; with its hash, 32 bytes more.
const SECTOR_LEN: u64 = 512;

/// A snapshot passing by.
#[derive(Debug, Default)]
pub struct SnapshotEnd {
    hash: Sha256,
    last: Vec<u8>,
    len: u64,
}

impl SnapshotEnd {
    /// The next bytes.
    pub fn push(&mut self, data: &[u8]) {
        self.len += data.len() as u64;
        let surplus = (self.last.len() + data.len()).saturating_sub(HASH_LEN);
        let from_last = surplus.min(self.last.len());
        let (passed, kept) = data.split_at(surplus - from_last);
        self.hash.update(self.last.get(..from_last).unwrap_or_default());
        self.last.drain(..from_last);
        self.hash.update(passed);
        self.last.extend_from_slice(kept);
    }

    /// Says that this was all.
    ///
    /// # Errors
    ///
    /// Why it is not a whole snapshot.
    pub fn finish(self) -> Result<(), &'static str> {
        if self.len % SECTOR_LEN != HASH_LEN as u64 || self.len < SECTOR_LEN {
            return Err("the snapshot does not end in its hash");
        }
        if self.hash.finalize().as_slice() != self.last {
            return Err("the snapshot fails its hash");
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn finish(bytes: &[u8], piece_len: usize) -> Result<(), &'static str> {
        let mut end = SnapshotEnd::default();
        bytes.chunks(piece_len).for_each(|piece| end.push(piece));
        end.finish()
    }

    #[test]
    fn a_snapshot_is_believed_only_with_its_own_hash_at_its_end() {
        let pages = vec![7; 8192];
        let whole = [pages.as_slice(), Sha256::new_with_prefix(&pages).finalize().as_slice()].concat();
        for piece_len in [1, 31, 32, 33, 4096, 10_000] {
            assert_eq!(finish(&whole, piece_len), Ok(()));
        }
        assert_eq!(finish(&pages, 100), Err("the snapshot does not end in its hash"));
        assert_eq!(finish(&whole[..8000], 100), Err("the snapshot does not end in its hash"));
        assert_eq!(finish(&[], 100), Err("the snapshot does not end in its hash"));
        for index in [0, 4000, 8191, 8192, 8223] {
            let mut changed = whole.clone();
            changed[index] ^= 1;
            assert_eq!(finish(&changed, 1000), Err("the snapshot fails its hash"), "{index}");
        }
    }
}
