//! `index/<id>`: an index segment, the trailers of many packs again.
//!
//! ```text
//! frame, one section = sealed record under the index key of zstd of:
//!   pack count u32     | per pack: pack id (32 B), pack len u64, trailer len u32, trailer (uncompressed table)
//!   replaced count u32 | segment ids (32 B each) which this one stands in for
//!   domain (16 B)
//!   extension len u32, extension
//! ```
//!
//! Named by the BLAKE3 of its bytes. With the segments alone, any chunk is found in one ranged read.
//!
//! Invariant: a segment is published after all of its packs are stored.
//! Never here: looking up (see `store`'s index cache).

use seal::{ObjectKind, RepositoryId, SealId, Secret, open_record, seal_record};

use crate::columns::{self, Cursor, count};
use crate::{Frame, PackError, PackId, SegmentId, Signer, Trailer};

/// One pack in a segment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PackEntry {
    /// The pack.
    pub id: PackId,
    /// Bytes of the object.
    pub len: u64,
    /// What it holds.
    pub trailer: Trailer,
}

impl PackEntry {
    /// A hash of all that is said of the pack.
    ///
    /// # Errors
    ///
    /// [`PackError::Inconsistent`] if a list has more items than its count can say.
    pub fn said(&self) -> Result<[u8; 32], PackError> {
        let mut hasher = blake3::Hasher::new();
        hasher.update(&self.len.to_le_bytes()).update(&self.trailer.encode()?);
        Ok(*hasher.finalize().as_bytes())
    }
}

/// An index segment.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Segment {
    /// The packs.
    pub packs: Vec<PackEntry>,
    /// Segments which this one stands in for.
    pub replaces: Vec<SegmentId>,
    /// The domain of the writers whose packs these are.
    pub domain: [u8; 16],
}

impl Segment {
    /// The object, signed by the writer.
    ///
    /// # Errors
    ///
    /// [`PackError::Inconsistent`] if a list is too long.
    pub fn encode(
        &self,
        index_key: &Secret,
        epoch: u32,
        salt: SealId,
        signer: &Signer,
        repository: RepositoryId,
    ) -> Result<Vec<u8>, PackError> {
        let mut table = count(self.packs.len())?.to_vec();
        for pack in &self.packs {
            let trailer = pack.trailer.encode()?;
            table.extend_from_slice(&pack.id.0);
            table.extend_from_slice(&pack.len.to_le_bytes());
            table.extend_from_slice(&count(trailer.len())?);
            table.extend_from_slice(&trailer);
        }
        table.extend_from_slice(&count(self.replaces.len())?);
        table.extend(self.replaces.iter().flat_map(|id| id.0));
        table.extend_from_slice(&self.domain);
        table.extend_from_slice(&0u32.to_le_bytes());
        let packed = columns::compress(&table)?;
        let sealed = seal_record(&packed, index_key, epoch, salt, repository, ObjectKind::Segment)
            .map_err(PackError::seal("a segment"))?;
        Frame::encode(ObjectKind::Segment, &[&sealed], signer, repository)
    }

    /// Opens what [`Frame::decode`] took apart. `index_key` gives the index key of an epoch, if it is known.
    ///
    /// # Errors
    ///
    /// [`PackError::Seal`] if it does not open; [`PackError::Inconsistent`] if it opens but contradicts itself.
    pub fn open(
        frame: &Frame<'_>,
        index_key: impl Fn(u32) -> Option<Secret>,
        repository: RepositoryId,
    ) -> Result<Self, PackError> {
        let sealed = frame.section(0)?;
        let epoch = seal::record_epoch(sealed).map_err(PackError::seal("the segment"))?;
        let key = index_key(epoch).ok_or(PackError::UnknownEpoch { epoch })?;
        let packed =
            open_record(sealed, &key, repository, ObjectKind::Segment).map_err(PackError::seal("the segment"))?;
        Self::decode(&columns::decompress(&packed, columns::SEGMENT_LEN_MAX)?)
    }

    /// Reads the opened table.
    ///
    /// # Errors
    ///
    /// [`PackError::Truncated`] or [`PackError::Inconsistent`].
    pub fn decode(table: &[u8]) -> Result<Self, PackError> {
        let mut cursor = Cursor::new(table, "a segment");
        let mut packs = Vec::new();
        for _ in 0..cursor.u32()? {
            let (id, len) = (PackId(cursor.array()?), cursor.u64()?);
            let trailer_len = cursor.u32()? as usize;
            packs.push(PackEntry { id, len, trailer: Trailer::decode(cursor.take(trailer_len)?)? });
        }
        let replaced_count = cursor.u32()? as usize;
        let replaces = cursor.items::<32>(replaced_count)?.iter().map(|id| SegmentId(*id)).collect();
        let domain = cursor.array()?;
        cursor.extension()?;
        cursor.end()?;
        Ok(Self { packs, replaces, domain })
    }
}
