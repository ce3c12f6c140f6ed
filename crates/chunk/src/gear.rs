//! The gear table: 256 secret numbers that decide where content is cut.
//!
//! A secret table only obscures: chunk lengths leak it slowly (eprint 2025/532 and 2025/558). Claim no more.
//!
//! Invariant: one table for the life of a repository, or nothing deduplicates any more.
//! Never here: where the numbers come from (`seal` derives them from the chunker secret).

/// A gear table and the same shifted left by one, as `fastcdc::v2020::cut_gear` wants them.
pub struct Gear {
    table: Box<[u64; 256]>,
    shifted: Box<[u64; 256]>,
}

impl Gear {
    /// Takes over 256 uniformly random numbers.
    #[must_use]
    pub fn new(table: Box<[u64; 256]>) -> Self {
        let mut shifted = table.clone();
        shifted.iter_mut().for_each(|number| *number <<= 1);
        Self { table, shifted }
    }

    /// Finds the first cut in `window` for chunks of `avg_len` bytes on average, a quarter at least, four times at most.
    pub(crate) fn cut(&self, window: &[u8], avg_len: usize) -> usize {
        let (mask_s, mask_l) = fastcdc::v2020::select_masks(avg_len, fastcdc::v2020::Normalization::Level1);
        let (_, len) = fastcdc::v2020::cut_gear(
            window,
            avg_len / 4,
            avg_len,
            avg_len * 4,
            mask_s,
            mask_l,
            mask_s << 1,
            mask_l << 1,
            self.table.as_slice(),
            self.shifted.as_slice(),
        );
        len
    }
}

impl std::fmt::Debug for Gear {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Gear(..)")
    }
}
