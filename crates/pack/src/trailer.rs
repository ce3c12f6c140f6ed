//! The trailer: the table at a pack's end that lists its seals, blobs and chunks.
//!
//! ```text
//! class u8
//! seal count u32  | rows of: seal id (16 B), epoch u32, suite u8, wrapped seal key (80 B)
//! blob count u32  | columns: kind u8 · seal u16 · counter u64 · sealed len u32 · chunk count u32 · BLAKE3 (32 B)
//! chunk count u32 | columns: len u32 as four planes · chunk id (20 B)
//! extension len u32, extension
//! ```
//!
//! Chunks are listed blob after blob, in the order in which they lie in the blob's plaintext.
//!
//! Invariant: blob offsets are the running sum of sealed lengths; every chunk belongs to exactly one blob.
//! Invariant: no chunk is empty, and no blob is shorter than its overhead.
//! Never here: sealing (see `object`).

use seal::{
    BLOB_OVERHEAD, BLOB_PLAIN_LEN_MAX, CHUNK_ID_LEN, ChunkId, ChunkNamer, ObjectKind, SealId, Suite, WRAPPED_LEN,
    WrappedKey,
};

use crate::PackError;
use crate::columns::{Cursor, count, put_planes};

/// What a pack is for; the two live in packs of their own, so that data may go to a colder class.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum PackClass {
    /// Content.
    Data = 1,
    /// Pages: structure and body.
    Metadata = 2,
}

/// What a blob holds, and thereby under which key it lies.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum BlobKind {
    /// Content, under the seal key.
    Data = 1,
    /// Page bodies, under the seal key.
    Body = 2,
    /// Page structure, under a key derived from the index key.
    Structure = 3,
}

impl BlobKind {
    /// What sealed bytes of this kind are bound to.
    #[must_use]
    pub const fn object_kind(self) -> ObjectKind {
        match self {
            Self::Data => ObjectKind::Data,
            Self::Body => ObjectKind::Body,
            Self::Structure => ObjectKind::Structure,
        }
    }

    /// The id that a chunk in such a blob has: content and pages are named with keys of their own.
    #[must_use]
    pub fn name(self, namer: &ChunkNamer, plaintext: &[u8]) -> ChunkId {
        match self {
            Self::Data => namer.name(plaintext),
            Self::Body | Self::Structure => namer.name_page(plaintext),
        }
    }

    fn from_byte(byte: u8) -> Result<Self, PackError> {
        match byte {
            1 => Ok(Self::Data),
            2 => Ok(Self::Body),
            3 => Ok(Self::Structure),
            _ => Err(PackError::Inconsistent { what: "a blob is of an unknown kind" }),
        }
    }
}

/// One use of a seal key: a row of the key table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SealRow {
    /// Random; what the blobs are bound to.
    pub seal_id: SealId,
    /// The epoch whose keys open it.
    pub epoch: u32,
    /// Key exchange and cipher.
    pub suite: Suite,
    /// The seal key, wrapped to the epoch.
    pub wrapped: WrappedKey,
}

/// One blob of a pack.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BlobRow {
    /// What it holds.
    pub kind: BlobKind,
    /// Which row of the key table.
    pub seal: u16,
    /// Its counter under that seal.
    pub counter: u64,
    /// Where it starts in the pack, in bytes.
    pub offset: u64,
    /// Bytes in the pack.
    pub sealed_len: u32,
    /// Bytes once opened: the sum of its chunks.
    pub plain_len: u32,
    /// The first of its chunks in the trailer's list.
    pub first_chunk: u32,
    /// How many chunks it holds.
    pub chunk_count: u32,
    /// BLAKE3 of the sealed bytes.
    pub hash: [u8; 32],
}

/// What a pack holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Trailer {
    /// What the pack is for.
    pub class: PackClass,
    /// The key table.
    pub seals: Vec<SealRow>,
    /// The blobs, in order.
    pub blobs: Vec<BlobRow>,
    /// The chunks, blob after blob: id and length in bytes.
    pub chunks: Vec<(ChunkId, u32)>,
}

impl Trailer {
    /// The table, before compression.
    ///
    /// # Errors
    ///
    /// [`PackError::Inconsistent`] if a list has more items than its count can say.
    pub fn encode(&self) -> Result<Vec<u8>, PackError> {
        if self.seals.len() > usize::from(u16::MAX) + 1 {
            return Err(PackError::Inconsistent { what: "a key table is too long" });
        }
        let mut out = vec![self.class as u8];
        out.extend_from_slice(&count(self.seals.len())?);
        for seal in &self.seals {
            out.extend_from_slice(&seal.seal_id);
            out.extend_from_slice(&seal.epoch.to_le_bytes());
            out.push(seal.suite.to_byte());
            out.extend_from_slice(&seal.wrapped.0);
        }
        out.extend_from_slice(&count(self.blobs.len())?);
        out.extend(self.blobs.iter().map(|blob| blob.kind as u8));
        out.extend(self.blobs.iter().flat_map(|blob| blob.seal.to_le_bytes()));
        out.extend(self.blobs.iter().flat_map(|blob| blob.counter.to_le_bytes()));
        out.extend(self.blobs.iter().flat_map(|blob| blob.sealed_len.to_le_bytes()));
        out.extend(self.blobs.iter().flat_map(|blob| blob.chunk_count.to_le_bytes()));
        out.extend(self.blobs.iter().flat_map(|blob| blob.hash));
        out.extend_from_slice(&count(self.chunks.len())?);
        put_planes(&mut out, 4, self.chunks.iter().map(|(_, len)| u64::from(*len)));
        out.extend(self.chunks.iter().flat_map(|(id, _)| *id.as_bytes()));
        out.extend_from_slice(&0u32.to_le_bytes());
        Ok(out)
    }

    /// Reads the table and checks that it agrees with itself.
    ///
    /// # Errors
    ///
    /// [`PackError::Truncated`] or [`PackError::Inconsistent`].
    pub fn decode(bytes: &[u8]) -> Result<Self, PackError> {
        let mut cursor = Cursor::new(bytes, "a trailer");
        let class = match cursor.array()? {
            [1] => PackClass::Data,
            [2] => PackClass::Metadata,
            _ => return Err(PackError::Inconsistent { what: "a pack is of an unknown class" }),
        };
        let seals = seals(&mut cursor)?;
        let mut blobs = blobs(&mut cursor, seals.len())?;
        let chunk_count = cursor.u32()? as usize;
        let lens = cursor.planes::<4>(chunk_count)?;
        let ids = cursor.items::<CHUNK_ID_LEN>(chunk_count)?;
        cursor.extension()?;
        cursor.end()?;
        let chunks: Vec<_> = ids.iter().zip(lens).map(|(id, len)| (ChunkId::from_bytes(*id), len as u32)).collect();
        place(&mut blobs, &chunks)?;
        Ok(Self { class, seals, blobs, chunks })
    }

    /// The chunks of one blob.
    #[must_use]
    pub fn chunks_of(&self, blob: &BlobRow) -> &[(ChunkId, u32)] {
        let first = blob.first_chunk as usize;
        self.chunks.get(first..first + blob.chunk_count as usize).unwrap_or_default()
    }

    /// A hash of a blob and of what is said of it, wherever in a pack it lies: of two blobs of one form, either opens to the same chunks.
    ///
    /// # Errors
    ///
    /// [`PackError::Inconsistent`] if its seal is not in the table.
    pub fn form_of(&self, blob: &BlobRow) -> Result<[u8; 32], PackError> {
        let seal = self.seals.get(usize::from(blob.seal));
        let seal = seal.ok_or(PackError::Inconsistent { what: "a blob without a seal" })?;
        let alone = Self {
            class: self.class,
            seals: vec![seal.clone()],
            blobs: vec![BlobRow { seal: 0, ..blob.clone() }],
            chunks: self.chunks_of(blob).to_vec(),
        };
        Ok(*blake3::hash(&alone.encode()?).as_bytes())
    }

    /// Bytes of blobs in the pack.
    #[must_use]
    pub fn blobs_len(&self) -> u64 {
        self.blobs.iter().map(|blob| u64::from(blob.sealed_len)).sum()
    }
}

fn seals(cursor: &mut Cursor<'_>) -> Result<Vec<SealRow>, PackError> {
    let count = cursor.u32()? as usize;
    let rows = cursor.items::<{ 16 + 4 + 1 + WRAPPED_LEN }>(count)?;
    rows.iter()
        .map(|row| {
            let mut row = Cursor::new(row, "a seal row");
            Ok(SealRow {
                seal_id: row.array()?,
                epoch: row.u32()?,
                suite: row.array().and_then(|[byte]| Suite::from_byte(byte).map_err(PackError::seal("a seal row")))?,
                wrapped: WrappedKey(row.array()?),
            })
        })
        .collect()
}

fn blobs(cursor: &mut Cursor<'_>, seal_count: usize) -> Result<Vec<BlobRow>, PackError> {
    let count = cursor.u32()? as usize;
    let kinds = cursor.take(count)?;
    let seals = cursor.items::<2>(count)?;
    let counters = cursor.items::<8>(count)?;
    let lens = cursor.items::<4>(count)?;
    let chunk_counts = cursor.items::<4>(count)?;
    let hashes = cursor.items::<32>(count)?;
    let columns = kinds.iter().zip(seals).zip(counters).zip(lens).zip(chunk_counts).zip(hashes);
    columns
        .map(|(((((kind, seal), counter), len), chunk_count), hash)| {
            let seal = u16::from_le_bytes(*seal);
            if usize::from(seal) >= seal_count {
                return Err(PackError::Inconsistent { what: "a blob names a seal that is not in the key table" });
            }
            Ok(BlobRow {
                kind: BlobKind::from_byte(*kind)?,
                seal,
                counter: u64::from_le_bytes(*counter),
                offset: 0,
                sealed_len: u32::from_le_bytes(*len),
                plain_len: 0,
                first_chunk: 0,
                chunk_count: u32::from_le_bytes(*chunk_count),
                hash: *hash,
            })
        })
        .collect()
}

/// Gives each blob its offset and chunks.
fn place(blobs: &mut [BlobRow], chunks: &[(ChunkId, u32)]) -> Result<(), PackError> {
    let (mut offset, mut rest, mut first_chunk) = (0, chunks, 0);
    for blob in blobs {
        let missing = PackError::Inconsistent { what: "a blob names more chunks than there are" };
        let (own, others) = rest.split_at_checked(blob.chunk_count as usize).ok_or(missing)?;
        let plain_len: u64 = own.iter().map(|(_, len)| u64::from(*len)).sum();
        let sealed_len = u64::from(blob.sealed_len);
        if own.is_empty()
            || own.iter().any(|(_, len)| *len == 0)
            || plain_len > BLOB_PLAIN_LEN_MAX as u64
            || sealed_len <= BLOB_OVERHEAD as u64
            || sealed_len > plain_len + BLOB_OVERHEAD as u64
        {
            return Err(PackError::Inconsistent { what: "a blob's length is out of range" });
        }
        blob.offset = offset;
        blob.plain_len = plain_len as u32;
        blob.first_chunk = first_chunk;
        offset += sealed_len;
        first_chunk += blob.chunk_count;
        rest = others;
    }
    if rest.is_empty() { Ok(()) } else { Err(PackError::Inconsistent { what: "chunks belong to no blob" }) }
}
