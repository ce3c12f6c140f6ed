//! Wrapping a key to a public key, so that who wrote something need not be able to read it back.
//!
//! ```text
//! wrapped = ephemeral X25519 public key (32 B) ‖ ciphertext of the key (32 B) ‖ tag (16 B)
//! kek     = derive("key wrap", X25519(ephemeral, recipient), ephemeral public ‖ recipient public)
//! ```
//!
//! Source: RFC 7748 for X25519; the shape is that of an ECIES / HPKE base-mode wrap (RFC 9180, section 5.1.1) with
//! BLAKE3 as the KDF and the context bound through [`Binding`].
//!
//! Invariant: each wrap has a fresh ephemeral key, so no key-encryption key is used twice.
//! Never here: which epoch or slot the recipient is.

use chacha20poly1305::aead::{AeadInOut, KeyInit};
use chacha20poly1305::{ChaCha20Poly1305, Tag};
use serde::{Deserialize, Serialize};
use x25519_dalek::{PublicKey, StaticSecret};

use crate::{Binding, Purpose, SealError, Secret};

/// Bytes in a wrapped key.
pub const WRAPPED_LEN: usize = 80;

/// The public half of an exchange key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExchangePublic(pub [u8; 32]);

/// The private half of an X25519 key pair: of an epoch, or of a key slot.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct ExchangeKey(Secret);

impl ExchangeKey {
    /// A key from 32 random bytes.
    #[must_use]
    pub const fn from_secret(secret: Secret) -> Self {
        Self(secret)
    }

    /// The bytes, for storing under another key.
    #[must_use]
    pub const fn secret(&self) -> &Secret {
        &self.0
    }

    /// The public half.
    #[must_use]
    pub fn public(&self) -> ExchangePublic {
        ExchangePublic(PublicKey::from(&StaticSecret::from(*self.0.expose())).to_bytes())
    }

    pub(crate) fn exchange(&self, with: ExchangePublic) -> Result<Secret, SealError> {
        let shared = StaticSecret::from(*self.0.expose()).diffie_hellman(&PublicKey::from(with.0));
        if shared.was_contributory() { Ok(Secret::new(shared.to_bytes())) } else { Err(SealError::PublicKey) }
    }
}

/// A wrapped key, as stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WrappedKey(pub [u8; WRAPPED_LEN]);

/// Wraps `key` to `recipient`. `ephemeral` are 32 fresh random bytes.
///
/// # Errors
///
/// [`SealError::PublicKey`] if `recipient` is a point of small order.
pub fn wrap_key(
    key: &Secret,
    recipient: ExchangePublic,
    ephemeral: Secret,
    binding: Binding,
) -> Result<WrappedKey, SealError> {
    let ephemeral = ExchangeKey(ephemeral);
    let public = ephemeral.public();
    let kek = kek(&ephemeral.exchange(recipient)?, public, recipient);
    let mut sealed = *key.expose();
    let tag = ChaCha20Poly1305::new(kek.expose().into())
        .encrypt_inout_detached(&binding.nonce().into(), &binding.to_bytes(), sealed.as_mut_slice().into())
        .map_err(|_| SealError::Sealed)?;
    let mut out = [0; WRAPPED_LEN];
    let parts = public.0.iter().chain(sealed.iter()).chain(tag.iter());
    out.iter_mut().zip(parts).for_each(|(to, from)| *to = *from);
    Ok(WrappedKey(out))
}

/// Unwraps what [`wrap_key`] wrapped to `recipient`'s public half.
///
/// # Errors
///
/// [`SealError::Sealed`] when it was wrapped to another key, bound to another thing, or changed.
pub fn unwrap_key(wrapped: &WrappedKey, recipient: &ExchangeKey, binding: Binding) -> Result<Secret, SealError> {
    let truncated = SealError::Truncated { len: WRAPPED_LEN };
    let (public, rest) = wrapped.0.split_first_chunk::<32>().ok_or(truncated.clone())?;
    let (sealed, rest) = rest.split_first_chunk::<32>().ok_or(truncated.clone())?;
    let (tag, _) = rest.split_first_chunk::<16>().ok_or(truncated)?;
    let public = ExchangePublic(*public);
    let kek = kek(&recipient.exchange(public)?, public, recipient.public());
    let mut key = Secret::copied(sealed);
    ChaCha20Poly1305::new(kek.expose().into())
        .decrypt_inout_detached(
            &binding.nonce().into(),
            &binding.to_bytes(),
            key.expose_mut().as_mut_slice().into(),
            &Tag::from(*tag),
        )
        .map_err(|_| SealError::Sealed)?;
    Ok(key)
}

fn kek(shared: &Secret, ephemeral: ExchangePublic, recipient: ExchangePublic) -> Secret {
    let mut salt = [0; 64];
    salt.iter_mut().zip(ephemeral.0.iter().chain(recipient.0.iter())).for_each(|(to, from)| *to = *from);
    Purpose::Wrap.key(shared.expose(), &salt)
}
