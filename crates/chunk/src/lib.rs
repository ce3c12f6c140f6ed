//! Cutting a byte stream into chunks.
//!
//! ```text
//! first bytes ─[recognise]► CutterKind ─► Cutter ─[next]► lengths of chunks
//! ```
//!
//! The cutter decides what deduplicates: content-defined cuts (FastCDC) survive insertions, pages survive random
//! writes in place, and a tar is cut member by member, so that each file keeps its cuts wherever it moves.
//! Sizes are settled by measurement, see `docs/decisions/0003`.
//!
//! Invariant: the chunks of a stream, laid end to end, are the stream. Cuts depend on the content, the gear table
//! and the cutter's name only, never on how the stream was read.
//! Invariant: a released cutter never changes; a better one gets a new name.
//!
//! Never here: I/O, hashing, knowledge of what is stored.

mod cutter;
mod gear;
mod kind;
mod recognise;
mod tar;
#[cfg(test)]
mod tests;

pub use cutter::Cutter;
pub use gear::Gear;
pub use kind::{CutterKind, UnknownCutter};
pub use recognise::{RECOGNISE_LEN, recognise};

/// The longest chunk, in bytes.
pub const CHUNK_LEN_MAX: usize = 1 << 20;
/// With this many bytes at hand (or the rest of the stream), [`Cutter::next`] always finds a cut.
pub const WINDOW_LEN_MIN: usize = CHUNK_LEN_MAX;
