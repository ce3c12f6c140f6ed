//! A sealed record: something small under a long-lived key, through a key derived with a random salt.
//!
//! ```text
//! | suite (1 B) | epoch (4 B LE) | salt (16 B) | ciphertext | tag (16 B) |
//! ```
//!
//! The salt is also the seal id of the binding. `epoch` says under which index key; records under other keys
//! (a slot's password, a grant) write 0 there.
//!
//! Invariant: the salt is fresh for every record, so the derived key seals one message.
//! Never here: compression; whoever needs it compresses before.

use chacha20poly1305::ChaCha20Poly1305;
use chacha20poly1305::aead::{Aead, KeyInit, Payload};
use zeroize::Zeroizing;

use crate::wrap::{ExchangeKey, ExchangePublic, WRAPPED_LEN, WrappedKey, unwrap_key, wrap_key};
use crate::{Binding, ObjectKind, Purpose, RepositoryId, SealError, SealId, Secret, Suite};

/// What sealing a record adds, in bytes.
pub const RECORD_OVERHEAD: usize = HEADER_LEN + 16;

const HEADER_LEN: usize = 21;

/// Seals `plaintext` under a key derived from `key` and the fresh random `salt`.
///
/// # Errors
///
/// [`SealError::BlobLen`] if `plaintext` is longer than the cipher can take (256 GiB).
pub fn seal_record(
    plaintext: &[u8],
    key: &Secret,
    epoch: u32,
    salt: SealId,
    repository: RepositoryId,
    kind: ObjectKind,
) -> Result<Vec<u8>, SealError> {
    let binding = binding(repository, kind, salt, epoch);
    let cipher = ChaCha20Poly1305::new(Purpose::Record.key(key.expose(), &salt).expose().into());
    let payload = Payload { msg: plaintext, aad: &binding.to_bytes() };
    let sealed = cipher.encrypt(&[0; 12].into(), payload).map_err(|_| SealError::BlobLen { len: plaintext.len() })?;
    let mut out = Vec::with_capacity(HEADER_LEN + sealed.len());
    out.push(binding.suite.to_byte());
    out.extend_from_slice(&epoch.to_le_bytes());
    out.extend_from_slice(&salt);
    out.extend_from_slice(&sealed);
    Ok(out)
}

/// The epoch whose index key opens `sealed`.
///
/// # Errors
///
/// [`SealError::Truncated`] or [`SealError::Suite`] if this is no record of ours.
pub fn record_epoch(sealed: &[u8]) -> Result<u32, SealError> {
    parse(sealed).map(|(epoch, _, _)| epoch)
}

/// Opens what [`seal_record`] sealed.
///
/// # Errors
///
/// [`SealError::Sealed`] when key, repository or kind differ or bytes changed; [`SealError::Truncated`] when cut.
pub fn open_record(
    sealed: &[u8],
    key: &Secret,
    repository: RepositoryId,
    kind: ObjectKind,
) -> Result<Vec<u8>, SealError> {
    let (epoch, salt, body) = parse(sealed)?;
    let binding = binding(repository, kind, salt, epoch);
    let cipher = ChaCha20Poly1305::new(Purpose::Record.key(key.expose(), &salt).expose().into());
    let payload = Payload { msg: body, aad: &binding.to_bytes() };
    cipher.decrypt(&[0; 12].into(), payload).map_err(|_| SealError::Sealed)
}

/// The epoch takes the counter's place in the binding, so that it cannot be changed either.
fn binding(repository: RepositoryId, kind: ObjectKind, seal_id: SealId, epoch: u32) -> Binding {
    Binding { suite: Suite::default(), repository, kind, seal_id, counter: u64::from(epoch) }
}

fn parse(sealed: &[u8]) -> Result<(u32, SealId, &[u8]), SealError> {
    let truncated = SealError::Truncated { len: sealed.len() };
    let (suite, rest) = sealed.split_first().ok_or(truncated.clone())?;
    Suite::from_byte(*suite)?;
    let (epoch, rest) = rest.split_first_chunk::<4>().ok_or(truncated.clone())?;
    let (salt, body) = rest.split_first_chunk::<16>().ok_or(truncated)?;
    Ok((u32::from_le_bytes(*epoch), *salt, body))
}

/// Fresh random bytes for one letter: its key, the ephemeral exchange key and the salt. Wiped after use.
pub type LetterSeed = Zeroizing<[u8; 80]>;

/// Seals `plaintext` as a letter: a record under a one-time key, which is wrapped to `recipient`.
///
/// ```text
/// | wrapped key (80 B) | record |
/// ```
///
/// # Errors
///
/// [`SealError::PublicKey`] if `recipient` is no usable key.
pub fn seal_letter(
    plaintext: &[u8],
    recipient: ExchangePublic,
    epoch: u32,
    seed: LetterSeed,
    repository: RepositoryId,
    kind: ObjectKind,
) -> Result<Vec<u8>, SealError> {
    let (key, rest) = seed.split_first_chunk::<32>().ok_or(SealError::Sealed)?;
    let (ephemeral, rest) = rest.split_first_chunk::<32>().ok_or(SealError::Sealed)?;
    let salt = *rest.first_chunk::<16>().ok_or(SealError::Sealed)?;
    let key = Secret::copied(key);
    let wrapped = wrap_key(&key, recipient, Secret::copied(ephemeral), binding(repository, kind, salt, epoch))?;
    let mut out = wrapped.0.to_vec();
    out.extend_from_slice(&seal_record(plaintext, &key, epoch, salt, repository, kind)?);
    Ok(out)
}

/// The epoch a letter was sealed to.
///
/// # Errors
///
/// [`SealError::Truncated`] or [`SealError::Suite`] if this is no letter of ours.
pub fn letter_epoch(letter: &[u8]) -> Result<u32, SealError> {
    record_epoch(letter.get(WRAPPED_LEN..).unwrap_or_default())
}

/// Opens what [`seal_letter`] sealed to `recipient`'s public half.
///
/// # Errors
///
/// As [`open_record`].
pub fn open_letter(
    letter: &[u8],
    recipient: &ExchangeKey,
    repository: RepositoryId,
    kind: ObjectKind,
) -> Result<Vec<u8>, SealError> {
    let truncated = SealError::Truncated { len: letter.len() };
    let (wrapped, record) = letter.split_first_chunk::<WRAPPED_LEN>().ok_or(truncated)?;
    let (epoch, salt, _) = parse(record)?;
    let key = unwrap_key(&WrappedKey(*wrapped), recipient, binding(repository, kind, salt, epoch))?;
    open_record(record, &key, repository, kind)
}
