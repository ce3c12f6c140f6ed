//! The pack: blobs laid end to end, then one sealed trailer that lists them.
//!
//! ```text
//! | blob 0 | blob 1 | … | trailer (sealed record) | end mark |
//! end mark = trailer_len: u32 LE ‖ version: u16 LE ‖ magic "BKPK"
//! trailer, opened = packed_len: u32 LE ‖ zstd of the table (packed_len B) ‖ zeros
//! ```
//!
//! The zeros bring the pack to a rounded length, so that lengths say less (at most 1 % longer). A reader starts from
//! the end, so two ranged reads list any pack, and the index can be rebuilt from packs alone.
//!
//! Invariant: blob offsets strictly increase and leave no gap before the trailer.
//! Never here: I/O, clocks, randomness, async.

use seal::{
    Binding, ChunkId, ExchangeKey, ExchangePublic, ObjectKind, Purpose, RECORD_OVERHEAD, RepositoryId, SealId, Secret,
    Suite, open_record, seal_record, unwrap_key, wrap_key,
};
use zeroize::Zeroizing;

use crate::columns::{self, Cursor, count};
use crate::{BlobKind, BlobRow, FORMAT_VERSION, PackClass, PackError, PackId, SealRow, Trailer};

/// Bytes in the end mark, which follows the trailer.
pub const END_MARK_LEN: usize = 10;
const MAGIC: &[u8; 4] = b"BKPK";
/// Lengths are rounded up to one part in this many at most.
const PADDING_PARTS: u64 = 128;

/// The keys of one open pack: hands out what each blob is sealed with.
///
/// It cannot be cloned: two copies would give out the same nonce twice.
#[derive(Debug)]
pub struct PackSeal {
    row: SealRow,
    key: Secret,
    structure_key: Secret,
    repository: RepositoryId,
    counter: u64,
}

impl PackSeal {
    /// Fresh keys for a pack, wrapped to the public key of `epoch`. `seed` is 80 fresh random bytes, wiped after use.
    ///
    /// # Errors
    ///
    /// [`PackError::Seal`] if the epoch's key is not usable.
    pub fn new(
        epoch: u32,
        public: ExchangePublic,
        index_key: &Secret,
        seed: Zeroizing<[u8; 80]>,
        repository: RepositoryId,
    ) -> Result<Self, PackError> {
        let short = PackError::Truncated { len: seed.len(), what: "a seed" };
        let (key, rest) = seed.split_first_chunk().ok_or(short.clone())?;
        let (ephemeral, rest) = rest.split_first_chunk().ok_or(short.clone())?;
        let (key, ephemeral) = (Secret::copied(key), Secret::copied(ephemeral));
        let seal_id: SealId = *rest.first_chunk().ok_or(short)?;
        let suite = Suite::default();
        let binding = key_binding(suite, repository, seal_id, epoch);
        let wrapped = wrap_key(&key, public, ephemeral, binding).map_err(PackError::seal("the epoch's"))?;
        let structure_key = Purpose::Structure.key(index_key.expose(), &seal_id);
        Ok(Self { row: SealRow { seal_id, epoch, suite, wrapped }, key, structure_key, repository, counter: 0 })
    }

    /// The key and the binding of the next blob of `kind`; each is given out once.
    pub fn next(&mut self, kind: BlobKind) -> (Secret, Binding) {
        let binding = blob_binding(&self.row, kind, self.counter, self.repository);
        self.counter += 1;
        let key = if kind == BlobKind::Structure { &self.structure_key } else { &self.key };
        (key.clone(), binding)
    }
}

/// The key and binding of a blob of an existing pack.
///
/// `index_key` is that of the row's epoch; `exchange` opens data and bodies and is not needed for structure.
///
/// # Errors
///
/// [`PackError::Seal`] if the epoch's key does not open the row; [`PackError::Inconsistent`] if it would be needed.
pub fn open_blob_key(
    row: &SealRow,
    blob: &BlobRow,
    index_key: &Secret,
    exchange: Option<&ExchangeKey>,
    repository: RepositoryId,
) -> Result<(Secret, Binding), PackError> {
    let binding = blob_binding(row, blob.kind, blob.counter, repository);
    if blob.kind == BlobKind::Structure {
        return Ok((Purpose::Structure.key(index_key.expose(), &row.seal_id), binding));
    }
    let exchange = exchange.ok_or(PackError::Inconsistent { what: "this key may not open content" })?;
    let wrap = key_binding(row.suite, repository, row.seal_id, row.epoch);
    let key = unwrap_key(&row.wrapped, exchange, wrap).map_err(PackError::seal("its seal key"))?;
    Ok((key, binding))
}

const fn key_binding(suite: Suite, repository: RepositoryId, seal_id: SealId, epoch: u32) -> Binding {
    Binding { suite, repository, kind: ObjectKind::SealKey, seal_id, counter: epoch as u64 }
}

/// What a blob is bound to. With the key of another blob of the same seal and of the same side of structure and content,
/// it opens without unwrapping the seal key again.
#[must_use]
pub const fn blob_binding(row: &SealRow, kind: BlobKind, counter: u64, repository: RepositoryId) -> Binding {
    Binding { suite: row.suite, repository, kind: kind.object_kind(), seal_id: row.seal_id, counter }
}

/// A pack being filled.
#[derive(Debug)]
pub struct PackBuilder<B> {
    /// Whose index key seals the trailer.
    epoch: u32,
    trailer: Trailer,
    blobs: Vec<B>,
    len: u64,
}

/// A pack ready for upload.
#[derive(Debug)]
pub struct FinishedPack<B> {
    /// BLAKE3 of the object.
    pub id: PackId,
    /// The blobs, in order.
    pub blobs: Vec<B>,
    /// What follows them: sealed trailer and end mark.
    pub tail: Vec<u8>,
    /// What is in the pack.
    pub trailer: Trailer,
    /// Bytes of the object.
    pub len: u64,
    /// Whose index key sealed the trailer.
    epoch: u32,
}

impl<B> FinishedPack<B> {
    /// The same blobs in a pack that is not finished. Finished with another salt it has another name.
    #[must_use]
    pub fn reopen(self) -> PackBuilder<B> {
        let len = self.trailer.blobs_len();
        PackBuilder { epoch: self.epoch, trailer: self.trailer, blobs: self.blobs, len }
    }
}

impl<B: AsRef<[u8]>> PackBuilder<B> {
    /// An empty pack with the keys of `seal`.
    #[must_use]
    pub fn new(class: PackClass, seal: &PackSeal) -> Self {
        let trailer = Trailer { class, seals: vec![seal.row.clone()], blobs: Vec::new(), chunks: Vec::new() };
        Self { epoch: seal.row.epoch, trailer, blobs: Vec::new(), len: 0 }
    }

    /// An empty pack for blobs that other packs hold already; `epoch` is the newest.
    #[must_use]
    pub const fn carrying(class: PackClass, epoch: u32) -> Self {
        let trailer = Trailer { class, seals: Vec::new(), blobs: Vec::new(), chunks: Vec::new() };
        Self { epoch, trailer, blobs: Vec::new(), len: 0 }
    }

    /// Appends a blob as it lies in another pack, with its row of that pack's key table. What it is bound to names neither
    /// pack, so it opens here as it did there.
    ///
    /// # Errors
    ///
    /// [`PackError::Hash`] if `blob` is not what `row` says; [`PackError::Inconsistent`] if the key table is full.
    pub fn carry(
        &mut self,
        blob: B,
        row: &BlobRow,
        seal: &SealRow,
        chunks: &[(ChunkId, u32)],
    ) -> Result<(), PackError> {
        if *blake3::hash(blob.as_ref()).as_bytes() != row.hash || blob.as_ref().len() != row.sealed_len as usize {
            return Err(PackError::Hash);
        }
        let at = self.trailer.seals.iter().rposition(|own| own == seal);
        let at = at.unwrap_or_else(|| {
            self.trailer.seals.push(seal.clone());
            self.trailer.seals.len() - 1
        });
        let seal = u16::try_from(at).map_err(|_| PackError::Inconsistent { what: "a key table is too long" })?;
        self.trailer.blobs.push(BlobRow {
            seal,
            offset: self.len,
            first_chunk: self.trailer.chunks.len() as u32,
            ..row.clone()
        });
        self.trailer.chunks.extend_from_slice(chunks);
        self.len += u64::from(row.sealed_len);
        self.blobs.push(blob);
        Ok(())
    }

    /// Appends a blob sealed with this pack's keys under `counter`, holding `chunks` in this order.
    pub fn push(&mut self, blob: B, kind: BlobKind, counter: u64, chunks: &[(ChunkId, u32)]) {
        let sealed_len = blob.as_ref().len() as u32;
        self.trailer.blobs.push(BlobRow {
            kind,
            seal: 0,
            counter,
            offset: self.len,
            sealed_len,
            plain_len: chunks.iter().map(|(_, len)| *len).sum(),
            first_chunk: self.trailer.chunks.len() as u32,
            chunk_count: chunks.len() as u32,
            hash: *blake3::hash(blob.as_ref()).as_bytes(),
        });
        self.trailer.chunks.extend_from_slice(chunks);
        self.blobs.push(blob);
        self.len += u64::from(sealed_len);
    }

    /// Bytes of blobs so far.
    #[must_use]
    pub const fn len(&self) -> u64 {
        self.len
    }

    /// Whether no blob was pushed.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Chunks so far.
    #[must_use]
    pub const fn chunk_count(&self) -> usize {
        self.trailer.chunks.len()
    }

    /// Seals the trailer and names the pack. `salt` is fresh and random. CPU-bound: hashes the whole pack.
    ///
    /// # Errors
    ///
    /// [`PackError::Inconsistent`] if the trailer is too long: a bug in the caller.
    pub fn finish(
        self,
        index_key: &Secret,
        salt: SealId,
        repository: RepositoryId,
    ) -> Result<FinishedPack<B>, PackError> {
        let epoch = self.epoch;
        let packed = columns::compress(&self.trailer.encode()?)?;
        let mut plain = count(packed.len())?.to_vec();
        plain.extend_from_slice(&packed);
        let bare_len = self.len + (plain.len() + RECORD_OVERHEAD + END_MARK_LEN) as u64;
        let len = padded_len(bare_len);
        plain.resize(plain.len() + (len - bare_len) as usize, 0);
        let mut tail = seal_record(&plain, index_key, epoch, salt, repository, ObjectKind::Trailer)
            .map_err(PackError::seal("a trailer"))?;
        let trailer_len = count(tail.len())?;
        tail.extend_from_slice(&trailer_len);
        tail.extend_from_slice(&FORMAT_VERSION.to_le_bytes());
        tail.extend_from_slice(MAGIC);
        let id = PackId::of(self.blobs.iter().map(AsRef::as_ref).chain([tail.as_slice()]));
        Ok(FinishedPack { id, blobs: self.blobs, tail, trailer: self.trailer, len, epoch })
    }
}

/// The length that a pack of `len` bytes is padded to: at most one part in 128 more.
#[must_use]
pub const fn padded_len(len: u64) -> u64 {
    let step = (len / PADDING_PARTS).checked_ilog2();
    match step {
        Some(bits) => len.next_multiple_of(1 << bits),
        None => len,
    }
}

/// The length of the sealed trailer, out of a pack's last [`END_MARK_LEN`] bytes.
///
/// # Errors
///
/// [`PackError::Magic`], [`PackError::Version`] or [`PackError::Truncated`].
pub fn read_end_mark(end_mark: &[u8]) -> Result<u32, PackError> {
    let mut cursor = Cursor::new(end_mark, "a pack's end mark");
    let trailer_len = cursor.u32()?;
    let version = u16::from_le_bytes(cursor.array()?);
    if &cursor.array::<4>()? != MAGIC {
        return Err(PackError::Magic { what: "a pack" });
    }
    if version != FORMAT_VERSION {
        return Err(PackError::Version { version });
    }
    cursor.end()?;
    Ok(trailer_len)
}

/// Opens a sealed trailer (without the end mark). `index_key` gives the index key of an epoch, if it is known.
///
/// # Errors
///
/// [`PackError::Seal`] if it does not open; [`PackError::Inconsistent`] if it opens but contradicts itself.
pub fn read_trailer(
    sealed: &[u8],
    index_key: impl Fn(u32) -> Option<Secret>,
    repository: RepositoryId,
) -> Result<Trailer, PackError> {
    let epoch = seal::record_epoch(sealed).map_err(PackError::seal("the trailer"))?;
    let key = index_key(epoch).ok_or(PackError::UnknownEpoch { epoch })?;
    let plain = open_record(sealed, &key, repository, ObjectKind::Trailer).map_err(PackError::seal("the trailer"))?;
    let mut cursor = Cursor::new(&plain, "a trailer");
    let packed_len = cursor.u32()? as usize;
    Trailer::decode(&columns::decompress(cursor.take(packed_len)?, columns::TRAILER_LEN_MAX)?)
}
