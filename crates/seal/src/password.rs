//! Keys out of passwords and key files.
//!
//! Source: RFC 9106 (Argon2id). The default cost is that document's second recommended option.
//!
//! Invariant: costs read from an object are capped before any memory is taken.
//! Never here: asking for a password, reading a file.

use argon2::{Algorithm, Argon2, Params, Version};
use serde::{Deserialize, Serialize};
use zeroize::Zeroize;

use crate::{Purpose, SealError, Secret};

/// The most memory that a key slot may ask for, in KiB.
pub const MEMORY_KIB_MAX: u32 = 1 << 20;
const PASSES_MAX: u32 = 64;
const LANES_MAX: u32 = 16;
const KEY_FILE_LEN_MIN: usize = 32;

/// What deriving a key from a password costs. Stored with each key slot.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct KdfCost {
    /// Memory in KiB.
    pub memory_kib: u32,
    /// Passes over it.
    pub passes: u32,
    /// Lanes.
    pub lanes: u32,
}

impl Default for KdfCost {
    fn default() -> Self {
        Self { memory_kib: 64 << 10, passes: 3, lanes: 4 }
    }
}

/// Derives a slot's key from `password`. Takes `cost.memory_kib` of memory and some tenths of a second.
///
/// # Errors
///
/// [`SealError::KdfCost`] if the costs are outside what we accept, or the memory cannot be had.
pub fn key_from_password(password: &[u8], salt: &[u8; 16], cost: KdfCost) -> Result<Secret, SealError> {
    let refused = SealError::KdfCost { memory_kib: cost.memory_kib, passes: cost.passes, lanes: cost.lanes };
    if cost.memory_kib > MEMORY_KIB_MAX || cost.passes > PASSES_MAX || cost.lanes > LANES_MAX {
        return Err(refused);
    }
    let params = Params::new(cost.memory_kib, cost.passes, cost.lanes, Some(32)).map_err(|_| refused.clone())?;
    let mut out = [0; 32];
    Argon2::new(Algorithm::Argon2id, Version::V0x13, params)
        .hash_password_into(password, salt, &mut out)
        .map_err(|_| refused)?;
    let key = Purpose::Password.key(&out, salt);
    out.zeroize();
    Ok(key)
}

/// Derives a slot's key from the content of a key file (at least 32 bytes, all of them count).
///
/// # Errors
///
/// [`SealError::KeyFile`] if the file is too short to hold a key.
pub fn key_from_file(content: &[u8], salt: &[u8; 16]) -> Result<Secret, SealError> {
    if content.len() < KEY_FILE_LEN_MIN {
        return Err(SealError::KeyFile { len: content.len() });
    }
    Ok(Purpose::KeyFile.key(blake3::hash(content).as_bytes(), salt))
}
