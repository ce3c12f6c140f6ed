//! `keys/<hash>`: a key slot, which turns a password or a key file into a role.
//!
//! One section, the [`Slot`] in clear (bincode); within it the secrets are a sealed record under the slot's key and
//! each grant is a letter to the slot's exchange key. The frame is signed by the slot's own identity; the
//! certificate within by the owner. Renewing a password writes a new slot around the same certificate.
//!
//! Invariant: the sealed secrets hold the owner's public key, so who knows the password knows whom to believe.
//! Never here: asking for passwords.

use seal::{
    ExchangeKey, ExchangePublic, Identity, IdentityKey, KdfCost, LetterSeed, ObjectKind, RepositoryId, SealId, Secret,
    letter_epoch, open_letter, open_record, seal_letter, seal_record,
};
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use crate::{Frame, PackError, Signer, codec};

/// What a key may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Role {
    /// Everything.
    Owner,
    /// Back up; opens no content, its own included.
    Writer,
    /// Restore; changes nothing.
    Reader,
    /// Forget, prune and check structure; opens no content.
    Maintenance,
}

impl std::fmt::Display for Role {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Owner => "owner",
            Self::Writer => "writer",
            Self::Reader => "reader",
            Self::Maintenance => "maintenance",
        })
    }
}

/// Who a key is, as the owner certifies it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Certificate {
    /// What it may do.
    pub role: Role,
    /// Writers of one domain trust each other's chunks; one domain of zeros by default.
    pub domain: [u8; 16],
    /// Whom grants are wrapped to.
    pub exchange: ExchangePublic,
    /// Who signs.
    pub identity: Identity,
    /// The first epoch it knows.
    pub since_epoch: u32,
    /// The owner's signature over the fields above.
    pub signature: Vec<u8>,
}

impl Certificate {
    /// Certifies a key.
    ///
    /// # Errors
    ///
    /// Only if the record is too long.
    pub fn sign(
        role: Role,
        exchange: ExchangePublic,
        identity: Identity,
        since_epoch: u32,
        owner: &IdentityKey,
        repository: RepositoryId,
    ) -> Result<Self, PackError> {
        let mut certificate = Self { role, domain: [0; 16], exchange, identity, since_epoch, signature: Vec::new() };
        certificate.signature = owner.sign(&codec::encode(&certificate)?, repository, ObjectKind::Certificate).to_vec();
        Ok(certificate)
    }

    /// Checks the owner's signature.
    ///
    /// # Errors
    ///
    /// [`PackError::Seal`] if the owner did not sign this.
    pub fn verify(&self, owner: Identity, repository: RepositoryId) -> Result<(), PackError> {
        let unsigned = Self { signature: Vec::new(), ..self.clone() };
        let bad = PackError::Inconsistent { what: "a certificate's signature has the wrong length" };
        let signature = self.signature.as_slice().try_into().map_err(|_| bad)?;
        seal::verify(&codec::encode(&unsigned)?, repository, ObjectKind::Certificate, owner, signature)
            .map_err(PackError::seal("the certificate's"))
    }
}

/// How a slot's key is had.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Protector {
    /// Argon2id of a password.
    Password {
        /// What deriving costs.
        cost: KdfCost,
        /// Random salt.
        salt: [u8; 16],
    },
    /// A key file.
    KeyFile {
        /// Random salt.
        salt: [u8; 16],
    },
}

/// What a slot keeps secret: its own keys, and whom to believe.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct SlotSecrets {
    /// Opens grants.
    pub exchange: ExchangeKey,
    /// Signs. Owners share one.
    pub identity: IdentityKey,
    /// The owner's public key.
    pub owner: Identity,
}

/// An epoch's secrets, as far as a role is entitled to them.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct EpochSecrets {
    /// Opens structure: trailers, segments, pages' structure, snapshots' structure.
    pub index: Secret,
    /// Names chunks (all but maintenance).
    pub chunk_id: Option<Secret>,
    /// Cuts chunks (owner and writer).
    pub chunker: Option<Secret>,
    /// Opens data and bodies (owner and reader).
    pub exchange: Option<ExchangeKey>,
}

impl EpochSecrets {
    /// What `role` may have of these.
    #[must_use]
    pub fn for_role(&self, role: Role) -> Self {
        let mut granted = self.clone();
        if role == Role::Maintenance {
            granted.chunk_id = None;
        }
        if matches!(role, Role::Maintenance | Role::Reader) {
            granted.chunker = None;
        }
        if matches!(role, Role::Maintenance | Role::Writer) {
            granted.exchange = None;
        }
        granted
    }
}

/// An epoch's secrets, wrapped to one slot.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Grant {
    /// Which epoch.
    pub epoch: u32,
    /// A letter holding [`EpochSecrets`].
    pub letter: Vec<u8>,
}

impl Grant {
    /// Grants `secrets` of `epoch` to the holder of `to`, as far as its role allows.
    ///
    /// # Errors
    ///
    /// [`PackError::Seal`] if the certificate holds no usable key.
    pub fn seal(
        epoch: u32,
        secrets: &EpochSecrets,
        to: &Certificate,
        seed: LetterSeed,
        repository: RepositoryId,
    ) -> Result<Self, PackError> {
        let plain = codec::encode_secret(&secrets.for_role(to.role))?;
        let letter = seal_letter(&plain, to.exchange, epoch, seed, repository, ObjectKind::Grant)
            .map_err(PackError::seal("a grant's"))?;
        Ok(Self { epoch, letter })
    }

    /// Opens a grant with the slot's exchange key.
    ///
    /// # Errors
    ///
    /// [`PackError::Seal`] if it was granted to another slot, or changed; [`PackError::Inconsistent`] if the letter
    /// is of another epoch.
    pub fn open(&self, with: &ExchangeKey, repository: RepositoryId) -> Result<EpochSecrets, PackError> {
        if letter_epoch(&self.letter).map_err(PackError::seal("the grant"))? != self.epoch {
            return Err(PackError::Inconsistent { what: "a grant names another epoch than its letter" });
        }
        let plain =
            open_letter(&self.letter, with, repository, ObjectKind::Grant).map_err(PackError::seal("the grant"))?;
        codec::decode(&Zeroizing::new(plain))
    }
}

/// A key slot.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Slot {
    /// Who it is.
    pub certificate: Certificate,
    /// How its key is had.
    pub protector: Protector,
    /// [`SlotSecrets`], sealed under that key.
    pub secrets: Vec<u8>,
    /// The epochs that there were when the slot was made.
    pub grants: Vec<Grant>,
    /// When: nanoseconds since 1970.
    pub created_at: i64,
    /// What its owner calls it, as a record under the index key of `since_epoch`.
    pub label: Vec<u8>,
    /// For later versions; skipped by this one.
    pub extension: Vec<u8>,
}

impl Slot {
    /// Seals a slot's secrets under its key.
    ///
    /// # Errors
    ///
    /// Only if the record is too long.
    pub fn seal_secrets(
        secrets: &SlotSecrets,
        key: &Secret,
        salt: SealId,
        repository: RepositoryId,
    ) -> Result<Vec<u8>, PackError> {
        let plain = codec::encode_secret(secrets)?;
        seal_record(&plain, key, 0, salt, repository, ObjectKind::KeySlot).map_err(PackError::seal("a slot's secrets"))
    }

    /// Opens the slot with its key, and checks that the rest of the slot belongs to these secrets.
    ///
    /// Without that check, the holder of another key could put these sealed secrets into a slot of his own and hand
    /// their owner grants of his choice.
    ///
    /// # Errors
    ///
    /// [`PackError::Seal`] when this is not the slot's key: a wrong password, or a password for another slot.
    /// [`PackError::Inconsistent`] when the secrets are not those of the certificate.
    pub fn open_secrets(&self, key: &Secret, repository: RepositoryId) -> Result<SlotSecrets, PackError> {
        let plain =
            open_record(&self.secrets, key, repository, ObjectKind::KeySlot).map_err(PackError::seal("the slot"))?;
        let secrets: SlotSecrets = codec::decode(&Zeroizing::new(plain))?;
        let certificate = &self.certificate;
        certificate.verify(secrets.owner, repository)?;
        if secrets.identity.identity() != certificate.identity || secrets.exchange.public() != certificate.exchange {
            return Err(PackError::Inconsistent { what: "a key slot holds the secrets of another" });
        }
        Ok(secrets)
    }

    /// The object, signed by the slot's own identity.
    ///
    /// # Errors
    ///
    /// Only if the record is too long.
    pub fn encode(&self, identity: &IdentityKey, repository: RepositoryId) -> Result<Vec<u8>, PackError> {
        Frame::encode(ObjectKind::KeySlot, &[&codec::encode(self)?], &Signer::bare(identity.clone()), repository)
    }

    /// Reads the object; the certificate must have been signed by `owner`.
    ///
    /// # Errors
    ///
    /// What is wrong with the bytes or the signatures.
    pub fn decode(bytes: &[u8], owner: Identity, repository: RepositoryId) -> Result<Self, PackError> {
        let frame = Frame::decode(bytes, ObjectKind::KeySlot, repository)?;
        let slot: Self = codec::decode(frame.section(0)?)?;
        slot.certificate.verify(owner, repository)?;
        if frame.signer == slot.certificate.identity {
            Ok(slot)
        } else {
            Err(PackError::Inconsistent { what: "a key slot is not signed by its own identity" })
        }
    }
}
