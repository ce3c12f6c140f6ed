//! Hot tables: hand-laid little-endian columns, and the cursor that reads them.
//!
//! A column of `u32` is stored as four planes of bytes, the lowest first, so that the mostly empty high planes
//! compress to nothing.
//!
//! Invariant: a count is believed only as far as bytes for it are there.
//! Never here: what the columns mean.

use std::io::Read;

use crate::PackError;

/// The longest trailer, in bytes, before compression.
pub(crate) const TRAILER_LEN_MAX: u64 = 128 << 20;
/// The longest segment, in bytes, before compression.
pub(crate) const SEGMENT_LEN_MAX: u64 = 512 << 20;
const ZSTD_LEVEL: i32 = 1;

/// Reads a table from its start.
pub(crate) struct Cursor<'a> {
    rest: &'a [u8],
    what: &'static str,
}

impl<'a> Cursor<'a> {
    pub(crate) const fn new(bytes: &'a [u8], what: &'static str) -> Self {
        Self { rest: bytes, what }
    }

    pub(crate) fn take(&mut self, len: usize) -> Result<&'a [u8], PackError> {
        let truncated = PackError::Truncated { len: self.rest.len(), what: self.what };
        let (taken, rest) = self.rest.split_at_checked(len).ok_or(truncated)?;
        self.rest = rest;
        Ok(taken)
    }

    pub(crate) fn array<const N: usize>(&mut self) -> Result<[u8; N], PackError> {
        let bytes = self.take(N)?;
        bytes.try_into().map_err(|_| PackError::Truncated { len: bytes.len(), what: self.what })
    }

    pub(crate) fn u32(&mut self) -> Result<u32, PackError> {
        self.array().map(u32::from_le_bytes)
    }

    pub(crate) fn u64(&mut self) -> Result<u64, PackError> {
        self.array().map(u64::from_le_bytes)
    }

    /// `count` items of `N` bytes.
    pub(crate) fn items<const N: usize>(&mut self, count: usize) -> Result<&'a [[u8; N]], PackError> {
        let overflow = PackError::Inconsistent { what: "a count overflows" };
        let bytes = self.take(count.checked_mul(N).ok_or(overflow)?)?;
        Ok(bytes.as_chunks::<N>().0)
    }

    /// `count` numbers stored as `PLANES` planes of bytes.
    pub(crate) fn planes<const PLANES: usize>(&mut self, count: usize) -> Result<Vec<u64>, PackError> {
        let overflow = PackError::Inconsistent { what: "a count overflows" };
        let bytes = self.take(count.checked_mul(PLANES).ok_or(overflow)?)?;
        let mut numbers = vec![0u64; count];
        for (plane, values) in bytes.chunks_exact(count.max(1)).enumerate() {
            numbers.iter_mut().zip(values).for_each(|(number, byte)| *number |= u64::from(*byte) << (8 * plane));
        }
        Ok(numbers)
    }

    /// Skips what later versions may have put at the end.
    pub(crate) fn extension(&mut self) -> Result<(), PackError> {
        let len = self.u32()? as usize;
        self.take(len).map(drop)
    }

    /// Checks that nothing is left over.
    pub(crate) fn end(self) -> Result<(), PackError> {
        if self.rest.is_empty() { Ok(()) } else { Err(PackError::Inconsistent { what: "bytes are left over" }) }
    }
}

/// Appends `numbers` as `planes` planes of bytes.
pub(crate) fn put_planes(out: &mut Vec<u8>, planes: u32, numbers: impl Iterator<Item = u64> + Clone) {
    for plane in 0..planes {
        out.extend(numbers.clone().map(|number| (number >> (8 * plane)) as u8));
    }
}

/// A count as stored.
pub(crate) fn count(len: usize) -> Result<[u8; 4], PackError> {
    u32::try_from(len).map(u32::to_le_bytes).map_err(|_| PackError::Inconsistent { what: "a table is too long" })
}

/// Compresses a table.
pub(crate) fn compress(table: &[u8]) -> Result<Vec<u8>, PackError> {
    zstd::bulk::compress(table, ZSTD_LEVEL).map_err(|_| PackError::Inconsistent { what: "a table does not compress" })
}

/// Decompresses a table, growing as bytes come and never past `len_max`.
pub(crate) fn decompress(bytes: &[u8], len_max: u64) -> Result<Vec<u8>, PackError> {
    let bad = |_| PackError::Inconsistent { what: "a table does not decompress" };
    let mut table = Vec::new();
    let mut decoder = zstd::stream::read::Decoder::new(bytes).map_err(bad)?;
    decoder.by_ref().take(len_max + 1).read_to_end(&mut table).map_err(bad)?;
    if table.len() as u64 > len_max {
        return Err(PackError::Inconsistent { what: "a table is too long" });
    }
    Ok(table)
}
