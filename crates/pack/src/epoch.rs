//! `epochs/<n>`: one generation of keys, signed by the owner.
//!
//! One section: the record in clear (bincode). New data is sealed to the newest epoch; what was sealed before
//! stays readable for who holds the earlier ones.
//!
//! Invariant: epochs count from 1 without gaps, and an epoch is never changed.
//! Never here: which epoch a client has seen before.

use seal::{ExchangePublic, Identity, IdentityKey, ObjectKind, RepositoryId};
use serde::{Deserialize, Serialize};

use crate::{Certificate, Frame, Grant, PackError, Signer, codec};

/// The grant to one slot that existed when the epoch was made.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct EpochGrant {
    /// To whom.
    pub to: Identity,
    /// The exchange key it is wrapped to (owners share an identity, not this).
    pub exchange: ExchangePublic,
    /// The secrets.
    pub grant: Grant,
}

/// One generation of keys.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Epoch {
    /// Counts from 1.
    pub number: u32,
    /// What seal keys are wrapped to.
    pub public: ExchangePublic,
    /// When: nanoseconds since 1970.
    pub created_at: i64,
    /// The secrets, for each slot of that moment.
    pub grants: Vec<EpochGrant>,
    /// Keys removed so far. What they signed from this epoch on is not believed.
    pub revoked: Vec<Certificate>,
    /// For later versions; skipped by this one.
    pub extension: Vec<u8>,
}

impl Epoch {
    /// The object.
    ///
    /// # Errors
    ///
    /// Only if the record is too long.
    pub fn encode(&self, owner: &IdentityKey, repository: RepositoryId) -> Result<Vec<u8>, PackError> {
        Frame::encode(ObjectKind::Epoch, &[&codec::encode(self)?], &Signer::bare(owner.clone()), repository)
    }

    /// Reads the object, which `owner` must have signed.
    ///
    /// # Errors
    ///
    /// What is wrong with the bytes or the signature.
    pub fn decode(bytes: &[u8], owner: Identity, repository: RepositoryId) -> Result<Self, PackError> {
        let frame = Frame::decode(bytes, ObjectKind::Epoch, repository)?;
        if frame.signer != owner {
            return Err(PackError::Inconsistent { what: "an epoch is not signed by the owner" });
        }
        codec::decode(frame.section(0)?)
    }
}
