//! What can go wrong with sealed bytes.
//!
//! Invariant: no message carries plaintext or key material.
//! Never here: names of objects; callers add which object it was.

/// How a caller should take an error (STYLE 19).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ErrorKind {
    /// Bytes are not what was written, or the key is not the right one.
    Damaged,
    /// The input cannot be used; nothing was done.
    Invalid,
    /// We broke our own rules.
    Bug,
}

/// Why something could not be sealed, opened or verified. Nothing here is transient.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SealError {
    /// The AEAD tag does not match: another key, another place, or changed bytes.
    #[error("does not open with this key")]
    Sealed,
    /// Shorter than the smallest sealed thing of its kind.
    #[error("is {len} bytes, too short to be sealed data")]
    Truncated {
        /// Bytes found.
        len: usize,
    },
    /// Opened, but does not decompress to the length that was promised.
    #[error("does not decompress to {expected} bytes")]
    Decompress {
        /// Bytes promised by the trailer.
        expected: usize,
    },
    /// A blob's method byte that this version does not know.
    #[error("uses compression method {method}, which this version does not know")]
    Method {
        /// The byte found.
        method: u8,
    },
    /// A suite byte that this version does not know.
    #[error("uses cipher suite {suite}, which this version does not know")]
    Suite {
        /// The byte found.
        suite: u8,
    },
    /// Empty, or longer than [`crate::BLOB_PLAIN_LEN_MAX`].
    #[error("blob of {len} bytes of plaintext is outside the allowed range")]
    BlobLen {
        /// Bytes of plaintext.
        len: usize,
    },
    /// The signature is not by the key it names, or the bytes changed.
    #[error("signature does not verify")]
    Signature,
    /// A public key which is no point of the curve, or of small order.
    #[error("public key is not usable")]
    PublicKey,
    /// Costs outside what we accept, so that a hostile slot cannot exhaust memory.
    #[error("key derivation asks for {memory_kib} KiB, {passes} passes, {lanes} lanes, outside the accepted range")]
    KdfCost {
        /// Argon2 memory in KiB.
        memory_kib: u32,
        /// Argon2 passes.
        passes: u32,
        /// Argon2 lanes.
        lanes: u32,
    },
    /// A key file with fewer than 32 bytes.
    #[error("key file has {len} bytes, at least 32 are needed")]
    KeyFile {
        /// Bytes found.
        len: usize,
    },
}

impl SealError {
    /// How to take this error.
    #[must_use]
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::BlobLen { .. } => ErrorKind::Bug,
            Self::KdfCost { .. } | Self::KeyFile { .. } | Self::Suite { .. } | Self::Method { .. } => {
                ErrorKind::Invalid
            }
            _ => ErrorKind::Damaged,
        }
    }
}
