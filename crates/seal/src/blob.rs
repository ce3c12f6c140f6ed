//! The blob: neighbouring chunks compressed and encrypted as one.
//!
//! ```text
//! | method (1 B) | ciphertext (as long as what zstd left) | tag (16 B) |
//! ```
//!
//! Sources: RFC 8878 (zstd), RFC 8439 (ChaCha20-Poly1305). The method byte is part of the additional data.
//! Method 2 is kept free for blobs compressed against a base blob.
//!
//! Invariant: a blob that opens has exactly the promised plaintext length; nothing larger is ever allocated.
//! Never here: where a blob is stored, which chunks it holds.

use chacha20poly1305::aead::inout::InOutBuf;
use chacha20poly1305::aead::{AeadInOut, KeyInit};
use chacha20poly1305::{ChaCha20Poly1305, Tag};
use zstd::bulk::Compressor;
use zstd::zstd_safe::{CParameter, Strategy};

use crate::binding::BINDING_LEN;
use crate::{Binding, SealError, Secret};

/// Plaintext stored as it is.
pub const METHOD_RAW: u8 = 0;
/// Plaintext compressed with zstd.
pub const METHOD_ZSTD: u8 = 1;
/// The longest plaintext of a blob, in bytes: the 1 MiB aimed at and one longest chunk on top.
pub const BLOB_PLAIN_LEN_MAX: usize = 4 << 20;
/// What sealing adds at most: the method byte and the tag.
pub const BLOB_OVERHEAD: usize = 1 + TAG_LEN;

const TAG_LEN: usize = 16;
/// Compression must save at least one part in this many, or the blob is stored raw.
const SAVING_MIN: usize = 64;

/// The level at which there are other ways than the usual one.
const LEVEL_WITH_WAYS: i32 = 3;
/// What is tried lazily: blobs that the other ways compress to less than one part in the first number and more than one in
/// the second. Others gain too little for what it costs, or are small enough.
const LAZY_RATIOS: (usize, usize) = (5, 30);
/// Another way is better only if it saves at least one part in this many: what it is learned from is not what it is used for,
/// and where the others gain little, they lose much on the next blobs of another kind.
const NEAR_SAVING_MIN: usize = 100;
const LAZY_SAVING_MIN: usize = 10;

/// How zstd looks for what is there already. What it writes is the same format.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Matching {
    /// As the level says.
    #[default]
    Usual,
    /// Six bytes at least, and short ones only where they are near: among random ids and digits in hexadecimal, five equal
    /// bytes far away are chance and cost more than they replace.
    Near,
    /// Looks one byte further before it takes a match: slower, and worth it where each row is like the one before.
    Lazy,
}

/// Seals blobs; holds compression contexts and buffers, so keep one per thread.
pub struct BlobSealer {
    level: i32,
    usual: Compressor<'static>,
    near: Option<Compressor<'static>>,
    lazy: Option<Compressor<'static>>,
    /// What the last blob was compressed to, for the sake of its memory.
    packed: Vec<u8>,
    /// What another way would make of it.
    other: Vec<u8>,
}

impl BlobSealer {
    /// A sealer that compresses at zstd `level` (1 to 19; 3 is the default of the engine).
    ///
    /// # Errors
    ///
    /// [`SealError::BlobLen`] if zstd has no memory for its context.
    pub fn new(level: i32) -> Result<Self, SealError> {
        let usual = Compressor::new(level).map_err(|_| SealError::BlobLen { len: 0 })?;
        Ok(Self { level, usual, near: None, lazy: None, packed: Vec::new(), other: Vec::new() })
    }

    /// Compresses and encrypts 1 to [`BLOB_PLAIN_LEN_MAX`] bytes into at most `plaintext.len() + BLOB_OVERHEAD`.
    ///
    /// `key` with `binding` must never have been used before. CPU-bound: async callers go through the pool.
    ///
    /// # Errors
    ///
    /// [`SealError::BlobLen`] if `plaintext` is empty or too long: a bug in the caller, nothing was written.
    pub fn seal(&mut self, plaintext: &[u8], key: &Secret, binding: Binding) -> Result<Vec<u8>, SealError> {
        self.seal_as(Matching::Usual, plaintext, key, binding)
    }

    /// The same in a certain way. At any level but 3 the level alone says how to compress.
    ///
    /// # Errors
    ///
    /// As of [`BlobSealer::seal`].
    pub fn seal_as(
        &mut self,
        matching: Matching,
        plaintext: &[u8],
        key: &Secret,
        binding: Binding,
    ) -> Result<Vec<u8>, SealError> {
        refuse_len(plaintext)?;
        let matching = if self.level == LEVEL_WITH_WAYS { matching } else { Matching::Usual };
        let mut packed = std::mem::take(&mut self.packed);
        let is_packed = self.compress(matching, plaintext, &mut packed);
        self.packed = packed;
        self.encrypt(is_packed, plaintext, key, binding)
    }

    /// The same in the way that makes it shortest, which is given too. Costs about two compressions, and more where the
    /// slow way may pay.
    ///
    /// # Errors
    ///
    /// As of [`BlobSealer::seal`].
    pub fn seal_best(
        &mut self,
        plaintext: &[u8],
        key: &Secret,
        binding: Binding,
    ) -> Result<(Vec<u8>, Matching), SealError> {
        refuse_len(plaintext)?;
        let (mut packed, mut other) = (std::mem::take(&mut self.packed), std::mem::take(&mut self.other));
        let mut is_packed = self.compress(Matching::Usual, plaintext, &mut packed);
        let mut best = Matching::Usual;
        for way in [Matching::Near, Matching::Lazy] {
            let is_slow = way == Matching::Lazy;
            if self.level != LEVEL_WITH_WAYS || is_slow && !(is_packed && is_for_lazy(packed.len(), plaintext.len())) {
                continue;
            }
            let saving_min = packed.len() / if is_slow { LAZY_SAVING_MIN } else { NEAR_SAVING_MIN };
            if self.compress(way, plaintext, &mut other) && (!is_packed || other.len() + saving_min < packed.len()) {
                std::mem::swap(&mut packed, &mut other);
                (best, is_packed) = (way, true);
            }
        }
        (self.packed, self.other) = (packed, other);
        Ok((self.encrypt(is_packed, plaintext, key, binding)?, best))
    }

    /// Fills `packed`; false if compression does not pay.
    fn compress(&mut self, matching: Matching, plaintext: &[u8], packed: &mut Vec<u8>) -> bool {
        packed.clear();
        packed.reserve_exact(zstd::zstd_safe::compress_bound(plaintext.len()));
        let worth = plaintext.len() - plaintext.len() / SAVING_MIN;
        let compressor = match matching {
            Matching::Usual => Some(&mut self.usual),
            Matching::Near => made(&mut self.near, self.level, &[CParameter::MinMatch(6), CParameter::ChainLog(14)]),
            Matching::Lazy => {
                let ways = [
                    CParameter::Strategy(Strategy::ZSTD_lazy),
                    CParameter::MinMatch(6),
                    CParameter::SearchLog(1),
                    CParameter::HashLog(15),
                    CParameter::ChainLog(15),
                ];
                made(&mut self.lazy, self.level, &ways)
            }
        };
        compressor
            .is_some_and(|compressor| compressor.compress_to_buffer(plaintext, packed).is_ok_and(|len| len < worth))
    }

    /// Encrypts what was compressed last, or the plaintext where that does not pay.
    fn encrypt(&self, is_packed: bool, plaintext: &[u8], key: &Secret, binding: Binding) -> Result<Vec<u8>, SealError> {
        let len = plaintext.len();
        let (method, packed) = if is_packed { (METHOD_ZSTD, self.packed.as_slice()) } else { (METHOD_RAW, plaintext) };
        let mut blob = Vec::with_capacity(packed.len() + BLOB_OVERHEAD);
        blob.push(method);
        blob.extend_from_slice(packed);
        let (_, body) = blob.split_first_mut().ok_or(SealError::BlobLen { len })?;
        let cipher = ChaCha20Poly1305::new(key.expose().into());
        let tag = cipher
            .encrypt_inout_detached(&binding.nonce().into(), &additional(binding, method), body.into())
            .map_err(|_| SealError::BlobLen { len })?;
        blob.extend_from_slice(&tag);
        Ok(blob)
    }
}

const fn refuse_len(plaintext: &[u8]) -> Result<(), SealError> {
    let len = plaintext.len();
    if len == 0 || len > BLOB_PLAIN_LEN_MAX { Err(SealError::BlobLen { len }) } else { Ok(()) }
}

const fn is_for_lazy(packed_len: usize, plain_len: usize) -> bool {
    packed_len * LAZY_RATIOS.0 < plain_len && packed_len * LAZY_RATIOS.1 > plain_len
}

/// A compressor with parameters of its own, made at its first use; none if zstd refuses, which costs a few bytes alone.
fn made<'a>(
    place: &'a mut Option<Compressor<'static>>,
    level: i32,
    parameters: &[CParameter],
) -> Option<&'a mut Compressor<'static>> {
    if place.is_none() {
        let mut compressor = Compressor::new(level).ok()?;
        for parameter in parameters {
            compressor.set_parameter(*parameter).ok()?;
        }
        *place = Some(compressor);
    }
    place.as_mut()
}

impl std::fmt::Debug for BlobSealer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("BlobSealer")
    }
}

/// Opens blobs; holds a decompression context and a buffer, so keep one per thread.
pub struct BlobOpener {
    decompressor: zstd::bulk::Decompressor<'static>,
    /// What the blob opened last was compressed to: taking fresh pages for each costs more than decrypting.
    packed: Vec<u8>,
}

impl BlobOpener {
    /// An opener for any blob of this format version.
    ///
    /// # Errors
    ///
    /// [`SealError::Decompress`] if zstd has no memory for its context.
    pub fn new() -> Result<Self, SealError> {
        let decompressor = zstd::bulk::Decompressor::new().map_err(|_| SealError::Decompress { expected: 0 })?;
        Ok(Self { decompressor, packed: Vec::new() })
    }

    /// Decrypts and decompresses `sealed` to exactly `plain_len` bytes.
    ///
    /// # Errors
    ///
    /// [`SealError::Sealed`] when key, place or bytes are not those of sealing; [`SealError::Truncated`],
    /// [`SealError::Method`], [`SealError::Decompress`] say what else is wrong. Retrying the same bytes is useless.
    pub fn open(
        &mut self,
        sealed: &[u8],
        plain_len: usize,
        key: &Secret,
        binding: Binding,
    ) -> Result<Vec<u8>, SealError> {
        let mut plain = Vec::new();
        self.open_into(sealed, plain_len, key, binding, &mut plain)?;
        Ok(plain)
    }

    /// As [`BlobOpener::open`], into `plain`, whatever it held before. It grows to `plain_len` or `sealed.len()` at most.
    ///
    /// # Errors
    ///
    /// As of [`BlobOpener::open`]; what `plain` then holds means nothing.
    pub fn open_into(
        &mut self,
        sealed: &[u8],
        plain_len: usize,
        key: &Secret,
        binding: Binding,
        plain: &mut Vec<u8>,
    ) -> Result<(), SealError> {
        if plain_len == 0 || plain_len > BLOB_PLAIN_LEN_MAX {
            return Err(SealError::Decompress { expected: plain_len });
        }
        let truncated = SealError::Truncated { len: sealed.len() };
        let (method, rest) = sealed.split_first().ok_or(truncated.clone())?;
        let (body, tag) = rest.split_last_chunk::<TAG_LEN>().ok_or(truncated)?;
        let packed = if *method == METHOD_RAW { &mut *plain } else { &mut self.packed };
        // What it held is written over, so that only what it grows by is cleared first.
        packed.resize(body.len(), 0);
        let buffer = InOutBuf::new(body, packed).map_err(|_| SealError::Sealed)?;
        ChaCha20Poly1305::new(key.expose().into())
            .decrypt_inout_detached(&binding.nonce().into(), &additional(binding, *method), buffer, &Tag::from(*tag))
            .map_err(|_| SealError::Sealed)?;
        match *method {
            METHOD_RAW => {}
            METHOD_ZSTD => {
                plain.clear();
                plain.reserve_exact(plain_len);
                let unpacked = self.decompressor.decompress_to_buffer(&self.packed, plain);
                unpacked.map_err(|_| SealError::Decompress { expected: plain_len })?;
            }
            method => return Err(SealError::Method { method }),
        }
        if plain.len() == plain_len { Ok(()) } else { Err(SealError::Decompress { expected: plain_len }) }
    }
}

impl std::fmt::Debug for BlobOpener {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("BlobOpener")
    }
}

fn additional(binding: Binding, method: u8) -> [u8; BINDING_LEN + 1] {
    let mut out = [method; BINDING_LEN + 1];
    out.iter_mut().zip(binding.to_bytes()).for_each(|(to, from)| *to = from);
    out
}
