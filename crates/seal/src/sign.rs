//! Signing identities: who wrote an object.
//!
//! The message that is signed is
//! `"backstay v1 object" ‖ repository id (16 B) ‖ object kind (1 B) ‖ BLAKE3 of the object's bytes (32 B)`.
//! Source: RFC 8032 (Ed25519), verified strictly (no small-order keys, canonical encodings only).
//!
//! Invariant: a signature over one kind of object never verifies as another kind, nor in another repository.
//! Never here: who is trusted; that is the engine's question.

use ed25519_dalek::{Signature, Signer, SigningKey, VerifyingKey};
use serde::{Deserialize, Serialize};

use crate::{ObjectKind, RepositoryId, SealError, Secret};

/// Bytes in a signature.
pub const SIGNATURE_LEN: usize = 64;

/// The public half of a signing identity.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Identity(pub [u8; 32]);

impl std::fmt::Display for Identity {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&hex::encode(self.0))
    }
}

impl std::fmt::Debug for Identity {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Identity({self})")
    }
}

/// The private half.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct IdentityKey(Secret);

impl IdentityKey {
    /// A key from 32 random bytes.
    #[must_use]
    pub const fn from_secret(secret: Secret) -> Self {
        Self(secret)
    }

    /// The public half.
    #[must_use]
    pub fn identity(&self) -> Identity {
        Identity(SigningKey::from_bytes(self.0.expose()).verifying_key().to_bytes())
    }

    /// Signs `bytes` as an object of `kind` in `repository`.
    #[must_use]
    pub fn sign(&self, bytes: &[u8], repository: RepositoryId, kind: ObjectKind) -> [u8; SIGNATURE_LEN] {
        SigningKey::from_bytes(self.0.expose()).sign(&message(bytes, repository, kind)).to_bytes()
    }
}

/// Checks that `signature` over `bytes` is by `identity`.
///
/// # Errors
///
/// [`SealError::PublicKey`] if the identity is no key, [`SealError::Signature`] if the signature does not verify.
pub fn verify(
    bytes: &[u8],
    repository: RepositoryId,
    kind: ObjectKind,
    identity: Identity,
    signature: &[u8; SIGNATURE_LEN],
) -> Result<(), SealError> {
    let key = VerifyingKey::from_bytes(&identity.0).map_err(|_| SealError::PublicKey)?;
    key.verify_strict(&message(bytes, repository, kind), &Signature::from_bytes(signature))
        .map_err(|_| SealError::Signature)
}

fn message(bytes: &[u8], repository: RepositoryId, kind: ObjectKind) -> Vec<u8> {
    let mut message = b"backstay v1 object".to_vec();
    message.extend_from_slice(&repository.0);
    message.push(kind as u8);
    message.extend_from_slice(blake3::hash(bytes).as_bytes());
    message
}
