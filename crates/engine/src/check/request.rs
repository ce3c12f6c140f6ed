//! What a check is asked to do.
//!
//! Never here: doing it.

/// How much of the data to read.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Subset {
    /// All of it.
    All,
    /// The packs whose id falls into part `n` (from 1) of `of`.
    Part {
        /// Which part, from 1.
        n: u32,
        /// Of how many.
        of: u32,
    },
    /// About this share of the bytes, drawn by lot.
    Percent(f64),
    /// About this many bytes, drawn by lot.
    Len(u64),
}

/// A check to make.
#[derive(Debug, Clone, Copy, Default)]
pub struct CheckRequest {
    /// Read data, and how much.
    pub read_data: Option<Subset>,
}
