//! Thirty-two secret bytes which are wiped when dropped and never printed.
//!
//! Invariant: `Debug` shows nothing of the bytes.
//! Never here: derivation (see [`crate::derive`]).

use serde::{Deserialize, Serialize};
use zeroize::{Zeroize, ZeroizeOnDrop};

/// A 256-bit key or seed.
#[derive(Clone, PartialEq, Eq, Zeroize, ZeroizeOnDrop, Serialize, Deserialize)]
pub struct Secret([u8; 32]);

impl Secret {
    /// Takes over `bytes`, which must be uniformly random or derived.
    #[must_use]
    pub const fn new(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// A secret that `fill` writes in its place, so that no copy of it is left behind.
    #[must_use]
    pub fn filled(fill: impl FnOnce(&mut [u8; 32])) -> Self {
        let mut secret = Self([0; 32]);
        fill(&mut secret.0);
        secret
    }

    /// A copy of `bytes`.
    #[must_use]
    pub fn copied(bytes: &[u8; 32]) -> Self {
        Self::filled(|secret| secret.copy_from_slice(bytes))
    }

    pub(crate) const fn expose_mut(&mut self) -> &mut [u8; 32] {
        &mut self.0
    }

    /// The bytes themselves, for the ciphers.
    #[must_use]
    pub const fn expose(&self) -> &[u8; 32] {
        &self.0
    }
}

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Secret(..)")
    }
}
