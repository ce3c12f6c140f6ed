//! Naming and looking up: one job for a batch, on the pool.
//!
//! Invariant: "known" means that a listed, not condemned pack holds the chunk (W3).
//! Never here: chunks that are new twice in the same run; the packer settles those.

use seal::{ChunkId, ChunkNamer};

use crate::EngineError;
use crate::backup::batch::{Batch, Item};
use crate::index::Index;

/// A batch whose chunks have names.
pub(crate) struct Named {
    pub(crate) batch: Batch,
    /// For each chunk, new or known to the parent, in order.
    pub(crate) ids: Vec<(ChunkId, Standing)>,
}

/// What the repository knows of a chunk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Standing {
    /// It has it.
    Known,
    /// It does not.
    New,
    /// It does not any more, and a snapshot needs it.
    Lost,
}

/// Names and looks up every chunk of a batch. CPU-bound, plus one batched lookup in the index cache.
pub(crate) fn name(batch: Batch, namer: &ChunkNamer, index: &Index) -> Result<Named, EngineError> {
    let chunks = batch.items.iter().filter_map(|item| match item {
        Item::Chunk(bytes) => Some(namer.name(bytes)),
        Item::Known(child) => Some(child.id),
        _ => None,
    });
    let ids: Vec<ChunkId> = chunks.collect();
    let known = index.find_or_miss(&ids)?;
    let standing = known.into_iter().map(|found| match found {
        (Some(_), _) => Standing::Known,
        (None, false) => Standing::New,
        (None, true) => Standing::Lost,
    });
    let ids = ids.into_iter().zip(standing).collect();
    Ok(Named { batch, ids })
}
