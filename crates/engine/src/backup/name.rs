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
    /// For each chunk, new or known to the parent, in order: its id, and whether the repository has it.
    pub(crate) ids: Vec<(ChunkId, bool)>,
}

/// Names and looks up every chunk of a batch. CPU-bound, plus one batched lookup in the index cache.
pub(crate) fn name(batch: Batch, namer: &ChunkNamer, index: &Index) -> Result<Named, EngineError> {
    let chunks = batch.items.iter().filter_map(|item| match item {
        Item::Chunk(bytes) => Some(namer.name(bytes)),
        Item::Known(child) => Some(child.id),
        _ => None,
    });
    let ids: Vec<ChunkId> = chunks.collect();
    let known = index.find(&ids)?;
    let ids = ids.into_iter().zip(known.iter().map(Option::is_some)).collect();
    Ok(Named { batch, ids })
}
