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

use crate::PackError;

/// The most bytes that one record may take in memory while it is decoded.
pub const RECORD_LEN_MAX: usize = 64 << 20;

const CONFIG: Configuration<LittleEndian, Fixint, Limit<RECORD_LEN_MAX>> =
    bincode::config::standard().with_little_endian().with_fixed_int_encoding().with_limit::<RECORD_LEN_MAX>();

/// Encodes `record`.
///
/// # Errors
///
/// [`PackError::Inconsistent`] if it is longer than [`RECORD_LEN_MAX`].
pub fn encode<T: Serialize>(record: &T) -> Result<Vec<u8>, PackError> {
    bincode::serde::encode_to_vec(record, CONFIG).map_err(|_| PackError::Inconsistent { what: "a record is too long" })
}

/// Decodes all of `bytes`.
///
/// # Errors
///
/// [`PackError::Inconsistent`] if they are no such record, or something follows it.
pub fn decode<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, PackError> {
    match bincode::serde::decode_from_slice(bytes, CONFIG) {
        Ok((record, used)) if used == bytes.len() => Ok(record),
        _ => Err(PackError::Inconsistent { what: "a record does not decode" }),
    }
}
