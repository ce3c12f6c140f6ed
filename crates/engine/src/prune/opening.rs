//! Opening blobs of packs that go, on the pool.
//!
//! Invariant: a chunk is given only if it was named again.
//! Never here: what is done with it.

use std::collections::HashSet;
use std::sync::Arc;

use bytes::Bytes;
use pack::{BlobKind, PackEntry, PackId};
use seal::ChunkId;
use store::index_cache::PackInfo;

use super::choice::BlobFate;
use super::live::LiveSet;
use super::moving::inconsistent;
use super::usage::Copies;
use crate::EngineError;
use crate::buffers::Buffers;
use crate::fetch::open_blob_into;
use crate::keyring::Keyring;
use crate::offload::Offload;
use crate::repository::Repository;

/// A blob's kind and chunks.
type Listed<'a> = (BlobKind, &'a [(ChunkId, u32)]);

/// A blob that was read, as it is moved.
pub(super) enum Taken {
    AsIs(Bytes),
    /// What is wanted of it.
    Opened(Vec<(ChunkId, Bytes)>),
}

/// What it takes to open blobs of a pack, on the pool.
pub(super) struct Opener {
    offload: Offload,
    keyring: Arc<Keyring>,
    wanted: Arc<Chunks>,
    buffers: Buffers,
    entry: Arc<PackEntry>,
}

/// Which chunks of a blob that is sealed anew are wanted: those that are live, and that stay in it.
pub(super) struct Chunks {
    live: Arc<LiveSet>,
    copies: Option<Copies>,
}

impl Chunks {
    /// Those that are live, wherever else they lie, or, of several copies in `copies`, in one place.
    pub(super) const fn new(live: Arc<LiveSet>, copies: Option<Copies>) -> Self {
        Self { live, copies }
    }

    /// Those of a blob. Blocks on the local disk.
    fn of(&self, chunks: &[(ChunkId, u32)], pack: &PackId, row: u32) -> Result<HashSet<ChunkId>, EngineError> {
        let live: Vec<ChunkId> = chunks.iter().map(|(id, _)| *id).filter(|id| self.live.contains(id)).collect();
        let Some(copies) = &self.copies else { return Ok(live.into_iter().collect()) };
        let stay = copies.stay(&live, pack, row)?;
        Ok(live.into_iter().zip(stay).filter_map(|(id, stays)| stays.then_some(id)).collect())
    }
}

impl Opener {
    pub(super) fn new(
        repository: &Repository,
        wanted: &Arc<Chunks>,
        buffers: &Buffers,
        entry: &Arc<PackEntry>,
    ) -> Self {
        Self {
            offload: repository.offload.clone(),
            keyring: Arc::new(repository.keyring.clone()),
            wanted: Arc::clone(wanted),
            buffers: buffers.clone(),
            entry: Arc::clone(entry),
        }
    }

    /// Begins to open a blob that is to be sealed anew. Gives its row, its bytes as stored, and what is moved of it.
    pub(super) fn open(
        &self,
        (row, fate, bytes): (u32, BlobFate, Bytes),
    ) -> impl Future<Output = (u32, u64, Result<Taken, EngineError>)> + use<> {
        let len = bytes.len() as u64;
        let begun = if fate == BlobFate::Recut {
            let (keyring, wanted) = (Arc::clone(&self.keyring), Arc::clone(&self.wanted));
            let (buffers, entry) = (self.buffers.clone(), Arc::clone(&self.entry));
            Ok(self.offload.start(move || wanted_chunks(&keyring, &entry, row, &bytes, &wanted, &buffers)))
        } else {
            Err(bytes)
        };
        async move {
            let taken = match begun {
                Ok(opened) => opened.await.flatten().map(Taken::Opened),
                Err(bytes) => Ok(Taken::AsIs(bytes)),
            };
            (row, len, taken)
        }
    }
}

/// Opens a blob and gives what is wanted of it, each chunk named again. CPU-bound, but for a lookup.
fn wanted_chunks(
    keyring: &Keyring,
    entry: &PackEntry,
    row: u32,
    sealed: &[u8],
    wanted: &Chunks,
    buffers: &Buffers,
) -> Result<Vec<(ChunkId, Bytes)>, EngineError> {
    let namer = keyring.namer()?;
    let plain = buffers.filled(|plain| open(keyring, entry, row, sealed, plain))?;
    let (kind, chunks) = blob_of(entry, row)?;
    let mut wanted = wanted.of(chunks, &entry.id, row)?;
    let (mut at, mut found) = (0, Vec::new());
    for (id, len) in chunks {
        let end = (at + *len as usize).min(plain.len());
        let chunk = plain.slice(at..end);
        at = end;
        if !wanted.remove(id) {
            continue;
        }
        if kind.name(&namer, &chunk) != *id {
            return Err(inconsistent(&entry.id, "a chunk does not hash to its id"));
        }
        found.push((*id, chunk));
    }
    Ok(found)
}

/// What a trailer says of a blob.
fn blob_of(entry: &PackEntry, row: u32) -> Result<Listed<'_>, EngineError> {
    let blob = entry.trailer.blobs.get(row as usize);
    let blob = blob.ok_or_else(|| inconsistent(&entry.id, "the index names a blob it does not have"))?;
    Ok((blob.kind, entry.trailer.chunks_of(blob)))
}

/// Opens a blob. CPU-bound.
fn open(keyring: &Keyring, entry: &PackEntry, row: u32, sealed: &[u8], plain: &mut Vec<u8>) -> Result<(), EngineError> {
    let info = PackInfo {
        id: entry.id,
        len: entry.len,
        class: entry.trailer.class,
        domain: Default::default(),
        seals: entry.trailer.seals.clone(),
        blobs: entry.trailer.blobs.clone(),
    };
    open_blob_into(keyring, &info, row, sealed, plain)
}

impl Repository {
    /// The chunks of a blob that are what their names say; none of one that does not open.
    pub(super) async fn true_chunks(
        &self,
        entry: &Arc<PackEntry>,
        row: u32,
        bytes: Bytes,
    ) -> Result<Vec<ChunkId>, EngineError> {
        let (keyring, namer, entry) = (self.keyring.clone(), self.keyring.namer()?, Arc::clone(entry));
        let open = move || {
            let mut plain = Vec::new();
            let opened = open(&keyring, &entry, row, &bytes, &mut plain).and_then(|()| blob_of(&entry, row));
            let Ok((kind, chunks)) = opened else { return Vec::new() };
            let chunks = chunks.iter().scan(plain.as_slice(), |rest, (id, len)| {
                let (chunk, others) = rest.split_at_checked(*len as usize)?;
                *rest = others;
                Some((kind.name(&namer, chunk) == *id).then_some(*id))
            });
            chunks.flatten().collect()
        };
        self.offload.start(open).await
    }
}
