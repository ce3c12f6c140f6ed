//! What a check is asked to do.
//!
//! Never here: doing it.

use std::time::Duration;

use pack::SnapshotId;

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

/// The part of one machine among several that check at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Shard {
    /// Which part, from 1.
    pub k: u32,
    /// Of how many.
    pub n: u32,
}

/// A check to make. All that narrows what is read holds at once.
#[derive(Debug, Clone, Copy, Default)]
pub struct CheckRequest {
    /// Read data, and how much.
    pub read_data: Option<Subset>,
    /// Read only packs that this snapshot needs.
    pub of_snapshot: Option<SnapshotId>,
    /// Read only packs of this part.
    pub shard: Option<Shard>,
    /// Read only packs that were not verified for so long, and those first that were verified longest ago.
    pub max_age: Option<Duration>,
    /// Begin to read no further pack once the check has lasted so long, but read at least one; those first that were
    /// verified longest ago.
    pub max_duration: Option<Duration>,
    /// Write down in the repository which packs were verified.
    pub remember: bool,
}
