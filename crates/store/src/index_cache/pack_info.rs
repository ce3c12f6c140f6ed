//! What a pack holds, without the list of its chunks.
//!
//! ```text
//! pack id (32 B) | len u64 | class u8 | domain (16 B)
//! seal count u32 | rows of: seal id (16 B), epoch u32, suite u8, wrapped seal key (80 B)
//! rows of: kind u8, seal u16, counter u64, offset u64, sealed len u32, plain len u32, first chunk u32,
//!          chunk count u32, BLAKE3 (32 B)
//! ```
//!
//! Invariant: reading gives back what was written, or nothing.
//! Never here: the durable format; this one lives and dies with the cache.

use pack::{BlobKind, BlobRow, PackClass, PackEntry, PackId, SealRow};
use seal::{Suite, WrappedKey};

/// A pack: its trailer without the list of chunks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PackInfo {
    /// The pack.
    pub id: PackId,
    /// Bytes of the object.
    pub len: u64,
    /// What it is for.
    pub class: PackClass,
    /// The domain of the segment that named it first.
    pub domain: [u8; 16],
    /// Its key table.
    pub seals: Vec<SealRow>,
    /// Its blobs, in order.
    pub blobs: Vec<BlobRow>,
}

impl PackInfo {
    pub(super) fn of(pack: &PackEntry, domain: [u8; 16]) -> Self {
        let (seals, blobs) = (pack.trailer.seals.clone(), pack.trailer.blobs.clone());
        Self { id: pack.id, len: pack.len, class: pack.trailer.class, domain, seals, blobs }
    }

    pub(super) fn encode(&self) -> Vec<u8> {
        let mut out = self.id.0.to_vec();
        out.extend(self.len.to_le_bytes());
        out.push(self.class as u8);
        out.extend(self.domain);
        out.extend((self.seals.len() as u32).to_le_bytes());
        for seal in &self.seals {
            out.extend(seal.seal_id);
            out.extend(seal.epoch.to_le_bytes());
            out.push(seal.suite.to_byte());
            out.extend(seal.wrapped.0);
        }
        self.blobs.iter().for_each(|blob| put_blob(&mut out, blob));
        out
    }

    pub(super) fn decode(bytes: &[u8]) -> Option<Self> {
        let mut rest = Rest(bytes);
        let (id, len) = (PackId(rest.array()?), u64::from_le_bytes(rest.array()?));
        let class = match rest.array()? {
            [1] => PackClass::Data,
            [2] => PackClass::Metadata,
            _ => return None,
        };
        let domain = rest.array()?;
        let seal_count = rest.u32()?;
        let seals = (0..seal_count).map(|_| seal_row(&mut rest)).collect::<Option<_>>()?;
        let mut blobs = Vec::new();
        while !rest.0.is_empty() {
            blobs.push(blob_row(&mut rest)?);
        }
        Some(Self { id, len, class, domain, seals, blobs })
    }
}

fn put_blob(out: &mut Vec<u8>, blob: &BlobRow) {
    out.push(blob.kind as u8);
    out.extend(blob.seal.to_le_bytes());
    out.extend(blob.counter.to_le_bytes());
    out.extend(blob.offset.to_le_bytes());
    out.extend(blob.sealed_len.to_le_bytes());
    out.extend(blob.plain_len.to_le_bytes());
    out.extend(blob.first_chunk.to_le_bytes());
    out.extend(blob.chunk_count.to_le_bytes());
    out.extend(blob.hash);
}

fn seal_row(rest: &mut Rest<'_>) -> Option<SealRow> {
    Some(SealRow {
        seal_id: rest.array()?,
        epoch: rest.u32()?,
        suite: rest.array().and_then(|[byte]| Suite::from_byte(byte).ok())?,
        wrapped: WrappedKey(rest.array()?),
    })
}

fn blob_row(rest: &mut Rest<'_>) -> Option<BlobRow> {
    let kind = match rest.array()? {
        [1] => BlobKind::Data,
        [2] => BlobKind::Body,
        [3] => BlobKind::Structure,
        _ => return None,
    };
    Some(BlobRow {
        kind,
        seal: u16::from_le_bytes(rest.array()?),
        counter: u64::from_le_bytes(rest.array()?),
        offset: u64::from_le_bytes(rest.array()?),
        sealed_len: rest.u32()?,
        plain_len: rest.u32()?,
        first_chunk: rest.u32()?,
        chunk_count: rest.u32()?,
        hash: rest.array()?,
    })
}

struct Rest<'a>(&'a [u8]);

impl Rest<'_> {
    fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (taken, rest) = self.0.split_first_chunk()?;
        self.0 = rest;
        Some(*taken)
    }

    fn u32(&mut self) -> Option<u32> {
        self.array().map(u32::from_le_bytes)
    }
}
