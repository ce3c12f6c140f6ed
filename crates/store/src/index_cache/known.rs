//! The packs that are known, as far as every lookup needs them: the tag of each, by number.
//!
//! Invariant: numbers are dense from 0 and a number, once given, stays with its pack.
//! Never here: what a pack holds (see `pack_info`).

use pack::PackId;

use super::CacheError;
use super::database::{Database, Family};
use super::place::{self, PackNo, Places};

const ROW_LEN: usize = 16;

/// Four bytes of memory per known pack.
#[derive(Debug, Default)]
pub(super) struct Known {
    tags: Vec<u32>,
    chunk_count: u64,
}

impl Known {
    /// Reads every pack's row and checks that they agree with each other.
    pub(super) fn read(database: &Database) -> Result<Self, CacheError> {
        let mut packs = Vec::new();
        let mut chunk_count = 0;
        for stored in database.scan(Family::PackIds, b"") {
            let (key, value) = stored?;
            let row = PackRow::decode(database, &value)?;
            packs.push((row.number, tag(&PackId(database.exact(&key)?))));
            chunk_count += u64::from(row.chunk_count);
        }
        packs.sort_unstable();
        let is_dense = packs.iter().zip(0..).all(|((number, _), expected)| *number == expected);
        let last = database.last_key(Family::Packs)?.map(|key| database.exact(&key)).transpose()?;
        if !is_dense || last.map(PackNo::from_be_bytes) != packs.last().map(|(number, _)| *number) {
            return Err(database.damaged("the numbers of packs"));
        }
        Ok(Self { tags: packs.into_iter().map(|(_, tag)| tag).collect(), chunk_count })
    }

    pub(super) fn is_empty(&self) -> bool {
        self.tags.is_empty()
    }

    /// How many packs are known.
    pub(super) fn pack_count(&self) -> usize {
        self.tags.len()
    }

    /// Packs, and chunks in them.
    pub(super) fn counts(&self) -> (u64, u64) {
        (self.tags.len() as u64, self.chunk_count)
    }

    /// The number that the next pack gets, if `count` more can get one.
    pub(super) fn next_number(&self, count: usize) -> Option<PackNo> {
        let next = self.tags.len();
        PackNo::try_from(next + count).ok().and(PackNo::try_from(next).ok())
    }

    /// Adds the pack that was written under [`next_number`](Self::next_number).
    pub(super) fn push(&mut self, id: &PackId, chunk_count: u32) {
        self.tags.push(tag(id));
        self.chunk_count += u64::from(chunk_count);
    }

    /// The places in a chunk's value which lie in known packs; none if it cannot be read.
    pub(super) fn places(&self, value: &[u8]) -> Option<Places> {
        place::read(value, |number| self.tags.get(number as usize).copied())
    }
}

/// What marks a pack's places as its own.
pub(super) fn tag(id: &PackId) -> u32 {
    id.0.first_chunk().map_or(0, |start| u32::from_le_bytes(*start))
}

/// A row of `pack_ids`: what a listing is compared with, without decoding what the pack holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct PackRow {
    pub(super) number: PackNo,
    pub(super) chunk_count: u32,
    /// Bytes of the object.
    pub(super) len: u64,
}

impl PackRow {
    pub(super) fn encode(self) -> [u8; ROW_LEN] {
        let bits = u128::from(self.number) | u128::from(self.chunk_count) << 32 | u128::from(self.len) << 64;
        bits.to_le_bytes()
    }

    pub(super) fn decode(database: &Database, value: &[u8]) -> Result<Self, CacheError> {
        let bits = u128::from_le_bytes(database.exact(value)?);
        Ok(Self { number: bits as u32, chunk_count: (bits >> 32) as u32, len: (bits >> 64) as u64 })
    }
}
