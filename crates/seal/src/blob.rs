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

use chacha20poly1305::aead::{AeadInOut, KeyInit};
use chacha20poly1305::{ChaCha20Poly1305, Tag};

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

/// Seals blobs; holds a compression context and a buffer, so keep one per thread.
pub struct BlobSealer {
    compressor: zstd::bulk::Compressor<'static>,
    /// What the last blob was compressed to, for the sake of its memory.
    packed: Vec<u8>,
}

impl BlobSealer {
    /// A sealer that compresses at zstd `level` (1 to 19; 3 is the default of the engine).
    ///
    /// # Errors
    ///
    /// [`SealError::BlobLen`] if zstd has no memory for its context.
    pub fn new(level: i32) -> Result<Self, SealError> {
        let compressor = zstd::bulk::Compressor::new(level).map_err(|_| SealError::BlobLen { len: 0 })?;
        Ok(Self { compressor, packed: Vec::new() })
    }

    /// Compresses and encrypts 1 to [`BLOB_PLAIN_LEN_MAX`] bytes into at most `plaintext.len() + BLOB_OVERHEAD`.
    ///
    /// `key` with `binding` must never have been used before. CPU-bound: async callers go through the pool.
    ///
    /// # Errors
    ///
    /// [`SealError::BlobLen`] if `plaintext` is empty or too long: a bug in the caller, nothing was written.
    pub fn seal(&mut self, plaintext: &[u8], key: &Secret, binding: Binding) -> Result<Vec<u8>, SealError> {
        let len = plaintext.len();
        if len == 0 || len > BLOB_PLAIN_LEN_MAX {
            return Err(SealError::BlobLen { len });
        }
        let (method, packed) = self.compress(plaintext);
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

    /// The compressed bytes, or the plaintext where compression does not pay.
    fn compress<'a>(&'a mut self, plaintext: &'a [u8]) -> (u8, &'a [u8]) {
        let worth = plaintext.len() - plaintext.len() / SAVING_MIN;
        self.packed.clear();
        self.packed.reserve_exact(zstd::zstd_safe::compress_bound(plaintext.len()));
        match self.compressor.compress_to_buffer(plaintext, &mut self.packed) {
            Ok(len) if len < worth => (METHOD_ZSTD, &self.packed),
            _ => (METHOD_RAW, plaintext),
        }
    }
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
        plain.clear();
        let packed = if *method == METHOD_RAW { &mut *plain } else { &mut self.packed };
        packed.clear();
        packed.extend_from_slice(body);
        ChaCha20Poly1305::new(key.expose().into())
            .decrypt_inout_detached(
                &binding.nonce().into(),
                &additional(binding, *method),
                packed.as_mut_slice().into(),
                &Tag::from(*tag),
            )
            .map_err(|_| SealError::Sealed)?;
        match *method {
            METHOD_RAW => {}
            METHOD_ZSTD => {
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
