//! One key, one purpose: every key that touches data is derived with BLAKE3's `derive_key`.
//!
//! Source: BLAKE3 paper, section 2.2 (key derivation mode). The context strings are constants of the format.
//!
//! Invariant: two purposes never share a context string, and the variable part has a fixed length per purpose.
//! Never here: randomness; salts come in as arguments.

use crate::Secret;

/// What a derived key is for. The strings are part of the format and never change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    /// Key-encryption key out of an X25519 exchange.
    Wrap,
    /// A small record or an object's section under the index key.
    Record,
    /// The structure blobs of one seal, under the index key.
    Structure,
    /// The 256 gear values of the chunker, out of the chunker secret.
    Gear,
    /// Page ids, out of the chunk-id secret.
    PageIds,
    /// Where directory and entries pages end, out of the chunk-id secret.
    PageCuts,
    /// A key slot's secrets, out of a key file.
    KeyFile,
    /// A key slot's secrets, out of the Argon2id output.
    Password,
}

impl Purpose {
    fn context(self) -> &'static str {
        match self {
            Self::Wrap => "backstay 2026-11 v1 key wrap",
            Self::Record => "backstay 2026-11 v1 record",
            Self::Structure => "backstay 2026-11 v1 structure blobs",
            Self::Gear => "backstay 2026-11 v1 gear table",
            Self::PageIds => "backstay 2026-11 v1 page ids",
            Self::PageCuts => "backstay 2026-11 v1 page cuts",
            Self::KeyFile => "backstay 2026-11 v1 key file",
            Self::Password => "backstay 2026-11 v1 password",
        }
    }

    /// Derives a key from `secret` and the public `salt`.
    #[must_use]
    pub fn key(self, secret: &[u8], salt: &[u8]) -> Secret {
        let mut hasher = blake3::Hasher::new_derive_key(self.context());
        hasher.update(secret).update(salt);
        let key = Secret::new(*hasher.finalize().as_bytes());
        zeroize::Zeroize::zeroize(&mut hasher);
        key
    }

    /// Derives `N` 64-bit little-endian numbers from `secret` (the gear table).
    #[must_use]
    pub fn numbers<const N: usize>(self, secret: &Secret) -> Box<[u64; N]> {
        let mut reader = blake3::Hasher::new_derive_key(self.context()).update(secret.expose()).finalize_xof();
        let mut numbers = Box::new([0; N]);
        for number in numbers.iter_mut() {
            let mut bytes = [0; 8];
            reader.fill(&mut bytes);
            *number = u64::from_le_bytes(bytes);
        }
        numbers
    }
}
