//! Small structures: serde and bincode 2, with everything pinned.
//!
//! Little endian; every integer at its own width (`usize` lengths and enum variants as `u64` and `u32`); options as
//! one byte; strings and lists as a `u64` count and the items. The limit bounds what a decoder may claim.
//!
//! Invariant: golden tests pin these bytes; changing the configuration breaks every repository.
//! Never here: hot tables (see `columns`).

use bincode::config::{Configuration, Fixint, Limit, LittleEndian};
use serde::Serialize;
use serde::de::DeserializeOwned;
use zeroize::Zeroizing;

use crate::PackError;

/// The most bytes that one record may take in memory while it is decoded.
pub const RECORD_LEN_MAX: usize = 64 << 20;

/// The longest record of keys, in bytes.
pub const SECRET_RECORD_LEN_MAX: usize = 1 << 10;

/// Limits for shorter records. The library takes the memory that a string's count claims before it looks for the
/// bytes, so a record may not claim much more than it is long.
const SHORT_LEN_MAX: usize = 16 << 10;
const MIDDLE_LEN_MAX: usize = 1 << 20;

const fn config<const LEN_MAX: usize>() -> Configuration<LittleEndian, Fixint, Limit<LEN_MAX>> {
    bincode::config::standard().with_little_endian().with_fixed_int_encoding().with_limit::<LEN_MAX>()
}

/// Encodes `record`.
///
/// # Errors
///
/// [`PackError::Inconsistent`] if it is longer than [`RECORD_LEN_MAX`].
pub fn encode<T: Serialize>(record: &T) -> Result<Vec<u8>, PackError> {
    let too_long = PackError::Inconsistent { what: "a record is too long" };
    match bincode::serde::encode_to_vec(record, config::<RECORD_LEN_MAX>()) {
        Ok(bytes) if bytes.len() <= RECORD_LEN_MAX => Ok(bytes),
        _ => Err(too_long),
    }
}

/// Encodes a record that holds keys: at most [`SECRET_RECORD_LEN_MAX`] bytes, in one place that is wiped when dropped. (A
/// buffer that grows leaves copies behind.)
///
/// # Errors
///
/// [`PackError::Inconsistent`] if it is longer.
pub fn encode_secret<T: Serialize>(record: &T) -> Result<Zeroizing<Vec<u8>>, PackError> {
    let mut bytes = Zeroizing::new(vec![0; SECRET_RECORD_LEN_MAX]);
    let len = bincode::serde::encode_into_slice(record, &mut bytes, config::<RECORD_LEN_MAX>())
        .map_err(|_| PackError::Inconsistent { what: "a record of keys is too long" })?;
    bytes.truncate(len);
    Ok(bytes)
}

/// Decodes all of `bytes`.
///
/// # Errors
///
/// [`PackError::Inconsistent`] if they are no such record, or something follows it.
pub fn decode<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, PackError> {
    let decoded = match bytes.len() {
        len if len <= SHORT_LEN_MAX => bincode::serde::decode_from_slice(bytes, config::<SHORT_LEN_MAX>()),
        len if len <= MIDDLE_LEN_MAX => bincode::serde::decode_from_slice(bytes, config::<MIDDLE_LEN_MAX>()),
        _ => bincode::serde::decode_from_slice(bytes, config::<RECORD_LEN_MAX>()),
    };
    match decoded {
        Ok((record, used)) if used == bytes.len() => Ok(record),
        _ => Err(PackError::Inconsistent { what: "a record does not decode" }),
    }
}
