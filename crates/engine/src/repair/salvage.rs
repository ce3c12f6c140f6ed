//! What is left of a damaged pack: the blobs whose stored hash is right, opened and named again where the key can.
//!
//! ```text
//! bytes ─ the pack's own table if it opens, and what a segment says ─► blob by blob: hash, open, name ─► saved
//! ```
//!
//! A chunk is saved under the name that its bytes have, whatever the table called it.
//!
//! Invariant: a blob is saved byte for byte, with the row of its seal; nothing is sealed anew.
//! Never here: I/O.

use std::collections::HashSet;

use bytes::Bytes;
use pack::{BlobRow, END_MARK_LEN, PackEntry, PackId, SealRow, Trailer, read_end_mark, read_trailer};
use seal::{ChunkId, ChunkNamer};
use store::index_cache::PackInfo;

use crate::Keyring;
use crate::fetch::open_blob;

/// A blob that is right.
pub(super) struct SavedBlob {
    pub(super) bytes: Bytes,
    pub(super) row: BlobRow,
    pub(super) seal: SealRow,
    /// Its chunks by their true names.
    pub(super) chunks: Vec<(ChunkId, u32)>,
}

/// What is left of a pack, and what was in it.
#[derive(Default)]
pub(super) struct Salvage {
    pub(super) blobs: Vec<SavedBlob>,
    /// All that was said to be in it.
    pub(super) named: Vec<ChunkId>,
}

/// Takes what verifies out of the bytes that lie under a pack's name. CPU-bound.
pub(super) fn salvage(keyring: &Keyring, namer: Option<&ChunkNamer>, entry: &PackEntry, bytes: &Bytes) -> Salvage {
    let mut salvage = Salvage::default();
    let mut seen: HashSet<[u8; 32]> = HashSet::new();
    salvage.named.extend(entry.trailer.chunks.iter().map(|(id, _)| *id));
    let own = own_table(keyring, bytes);
    for table in own.iter().chain([&entry.trailer]) {
        let info = info_of(entry.id, table);
        for (row, blob) in (0..).zip(&table.blobs) {
            let range = blob.offset as usize..(blob.offset as usize).saturating_add(blob.sealed_len as usize);
            let Some(sealed) = bytes.get(range.clone()) else { continue };
            if seen.contains(&blob.hash) || *blake3::hash(sealed).as_bytes() != blob.hash {
                continue;
            }
            let seal = table.seals.get(usize::from(blob.seal));
            let chunks = true_chunks(keyring, namer, (&info, row), table.chunks_of(blob), sealed);
            if let (Some(seal), Some(chunks)) = (seal, chunks) {
                seen.insert(blob.hash);
                let (row, seal) = (blob.clone(), seal.clone());
                salvage.blobs.push(SavedBlob { bytes: bytes.slice(range), row, seal, chunks });
            }
        }
    }
    salvage
}

/// The table at the end of the pack, if it opens and fits.
pub(super) fn own_table(keyring: &Keyring, bytes: &[u8]) -> Option<Trailer> {
    let (rest, mark) = bytes.split_last_chunk::<END_MARK_LEN>()?;
    let start = rest.len().checked_sub(read_end_mark(mark).ok()? as usize)?;
    let trailer = read_trailer(rest.get(start..)?, |epoch| keyring.index_key_of(epoch), keyring.repository).ok()?;
    (trailer.blobs_len() == start as u64).then_some(trailer)
}

/// The chunks of a blob by the names that their bytes have; none if the blob does not open. A key that opens no content
/// takes the table's word.
fn true_chunks(
    keyring: &Keyring,
    namer: Option<&ChunkNamer>,
    (info, row): (&PackInfo, u32),
    said: &[(ChunkId, u32)],
    sealed: &[u8],
) -> Option<Vec<(ChunkId, u32)>> {
    let Some(namer) = namer.filter(|_| keyring.opens_content()) else { return Some(said.to_vec()) };
    let kind = info.blobs.get(row as usize)?.kind;
    let opened = open_blob(keyring, info, row, sealed).ok()?;
    let (mut rest, mut chunks) = (opened.as_slice(), Vec::with_capacity(said.len()));
    for (_, len) in said {
        let (chunk, others) = rest.split_at_checked(*len as usize)?;
        chunks.push((kind.name(namer, chunk), *len));
        rest = others;
    }
    rest.is_empty().then_some(chunks)
}

fn info_of(id: PackId, table: &Trailer) -> PackInfo {
    PackInfo {
        id,
        len: table.blobs_len(),
        class: table.class,
        domain: Default::default(),
        seals: table.seals.clone(),
        blobs: table.blobs.clone(),
    }
}
