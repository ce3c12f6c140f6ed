//! The head of a file of which only some blocks come (Postgres 17 and later).
//!
//! ```text
//! | magic 0xd3ae1f0d | block count | blocks that the old file keeps | their numbers … | zeros up to a page | blocks …
//!   u32 LE             u32           u32                              u32 each         only if there are any
//! ```
//!
//! The whole file is: a block that comes, as it comes; of the others those before "blocks that the old file keeps" as
//! in the earlier backup, and zero where that has none; nothing after that and after the last block that comes.
//!
//! Invariant: numbers rise, and the length of what follows is known from the head alone.

use crate::events::Base;

/// How the name of such a file begins.
pub(super) const PREFIX: &[u8] = b"INCREMENTAL.";
const MAGIC: u32 = 0xd3ae_1f0d;
/// Magic, count and blocks kept, in bytes.
const FIXED_LEN: usize = 12;
/// The most blocks that one file may have: 32 GiB of pages of 8 KiB; Postgres cuts its files at 1 GiB.
const BLOCKS_MAX: u32 = 4 * 1024 * 1024;

/// What the head of a file says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Head {
    /// Which blocks come, in this order.
    pub(super) numbers: Vec<u32>,
    /// Blocks that the old file keeps.
    pub(super) kept: u32,
}

/// Why bytes are no such head.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum HeadError {
    #[error("a magic number that is not known")]
    Magic,
    #[error("a number of blocks that no file has")]
    Count,
    #[error("blocks out of order")]
    Order,
}

impl Head {
    /// Reads a head from `bytes`, the beginning of a file; `None` if not all of it is there. With it comes its length
    /// in bytes.
    pub(super) fn read(bytes: &[u8], page_len: u32) -> Result<Option<(Self, usize)>, HeadError> {
        let mut words = bytes.chunks_exact(4).map(|word| word.iter().rev().fold(0, |sum, &b| sum << 8 | u32::from(b)));
        let mut word = || words.next();
        let (Some(magic), Some(count), Some(kept)) = (word(), word(), word()) else { return Ok(None) };
        if magic != MAGIC {
            return Err(HeadError::Magic);
        }
        if count > BLOCKS_MAX || kept > BLOCKS_MAX {
            return Err(HeadError::Count);
        }
        let len = Self::len(count, page_len);
        if bytes.len() < len {
            return Ok(None);
        }
        let numbers: Vec<u32> = words.take(count as usize).collect();
        let rises = numbers.iter().zip(numbers.iter().skip(1)).all(|(one, next)| one < next);
        let is_low = numbers.last().is_none_or(|&last| last < BLOCKS_MAX);
        match (rises, is_low) {
            (true, true) => Ok(Some((Self { numbers, kept }, len))),
            (false, _) => Err(HeadError::Order),
            (_, false) => Err(HeadError::Count),
        }
    }

    fn len(count: u32, page_len: u32) -> usize {
        let len = FIXED_LEN + 4 * count as usize;
        if count == 0 { len } else { len.next_multiple_of(page_len as usize) }
    }

    /// The whole file, as far as it is known without its blocks.
    pub(super) fn base(&self, page_len: u32) -> Base {
        let last = self.numbers.last().map_or(0, |&number| u64::from(number) + 1);
        let block_count = u64::from(self.kept);
        Base { block_count, len: block_count.max(last) * u64::from(page_len) }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn bytes(words: &[u32]) -> Vec<u8> {
        words.iter().flat_map(|word| word.to_le_bytes()).collect()
    }

    #[test]
    fn a_file_that_is_unchanged_has_a_head_of_twelve_bytes() {
        let (head, len) = Head::read(&bytes(&[MAGIC, 0, 9]), 8192).unwrap().unwrap();
        assert_eq!((head.base(8192), len), (Base { block_count: 9, len: 9 * 8192 }, 12));
    }

    #[test]
    fn blocks_make_a_file_longer_and_a_head_a_page() {
        let mut words = bytes(&[MAGIC, 2, 3, 1, 7]);
        assert_eq!(Head::read(&words, 8192), Ok(None));
        words.resize(8192, 0);
        let (head, len) = Head::read(&words, 8192).unwrap().unwrap();
        assert_eq!((head.numbers.clone(), len), (vec![1, 7], 8192));
        assert_eq!(head.base(8192), Base { block_count: 3, len: 8 * 8192 });
    }

    #[test]
    fn heads_that_lie_are_refused() {
        let read = |words: &[u32]| {
            let mut bytes = bytes(words);
            bytes.resize(8192, 0);
            Head::read(&bytes, 8192)
        };
        assert_eq!(read(&[1, 0, 0]), Err(HeadError::Magic));
        assert_eq!(read(&[MAGIC, u32::MAX, 0]), Err(HeadError::Count));
        assert_eq!(read(&[MAGIC, 2, 0, 5, 5]), Err(HeadError::Order));
        assert_eq!(read(&[MAGIC, 1, 0, u32::MAX]), Err(HeadError::Count));
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(words in proptest::collection::vec(any::<u32>(), 0..40), cut in 0_usize..4) {
            let bytes = bytes(&words);
            let _ = Head::read(&bytes[..bytes.len().saturating_sub(cut)], 16);
        }
    }
}
