//! `config`: which repository this is. Written once, signed by the owner, in two copies.
//!
//! One section: the record in clear (bincode).
//!
//! Invariant: nothing in it is secret, and nothing in it ever changes.
//! Never here: keys.

use seal::{Identity, IdentityKey, ObjectKind, RepositoryId};
use serde::{Deserialize, Serialize};

use crate::{Frame, PackError, Signer, codec};

/// The format that this version writes, and the newest that it reads.
pub const FORMAT_VERSION: u16 = 1;

/// The configuration of a repository.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Config {
    /// The random id of the repository.
    pub repository: RepositoryId,
    /// Who signs everything that grants rights.
    pub owner: Identity,
    /// When it was made: nanoseconds since 1970.
    pub created_at: i64,
    /// Aimed length of packs, in bytes.
    pub pack_len: u32,
    /// Aimed plaintext length of blobs, in bytes.
    pub blob_len: u32,
    /// The store refused to create an object that was there already, when the repository was made.
    pub conditional_create: bool,
    /// For later versions; skipped by this one.
    pub extension: Vec<u8>,
}

impl Config {
    /// The object.
    ///
    /// # Errors
    ///
    /// Only if the record is too long.
    pub fn encode(&self, owner: &IdentityKey) -> Result<Vec<u8>, PackError> {
        Frame::encode(ObjectKind::Config, &[&codec::encode(self)?], &Signer::bare(owner.clone()), self.repository)
    }

    /// Reads the object and checks that the owner whom it names signed it.
    ///
    /// Whether that is the right owner, the key slot tells: it holds the owner's key under the password.
    ///
    /// # Errors
    ///
    /// [`PackError::Version`] for a later format; else what is wrong with the bytes.
    pub fn decode(bytes: &[u8]) -> Result<Self, PackError> {
        let frame = Frame::parse(bytes, ObjectKind::Config)?;
        let config: Self = codec::decode(frame.section(0)?)?;
        frame.verify(config.repository)?;
        if frame.signer == config.owner {
            Ok(config)
        } else {
            Err(PackError::Inconsistent { what: "not signed by its owner" })
        }
    }
}
