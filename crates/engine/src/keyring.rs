//! The keys that one password or key file gives: a role, an identity, and the secrets of every epoch.
//!
//! ```text
//! password ─Argon2id─► slot secrets ─► exchange key ─► grants ─► secrets of each epoch
//! ```
//!
//! Invariant: the owner's public key comes out of the slot's sealed secrets, so the store cannot plant another owner.
//! Invariant: an object is believed only if a certificate signed by that owner names its signer.
//! Never here: I/O.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use chunk::Gear;
use pack::{Certificate, Epoch, EpochSecrets, Frame, Role, Signer, SlotSecrets};
use seal::{ChunkNamer, ExchangeKey, ExchangePublic, Identity, IdentityKey, Purpose, RepositoryId, Secret};
use store::StoreTime;
use zeroize::Zeroizing;

use crate::EngineError;

/// What opens a key slot. Wiped when dropped.
#[derive(Clone)]
pub enum Credential {
    /// A password.
    Password(Zeroizing<Vec<u8>>),
    /// The content of a key file.
    KeyFile(Zeroizing<Vec<u8>>),
}

impl Credential {
    /// What it is, for messages.
    #[must_use]
    pub const fn noun(&self) -> &'static str {
        match self {
            Self::Password(_) => "password",
            Self::KeyFile(_) => "key file",
        }
    }
}

impl std::fmt::Debug for Credential {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Credential({})", self.noun())
    }
}

/// The opened keys.
#[derive(Debug, Clone)]
pub struct Keyring {
    pub(crate) repository: RepositoryId,
    pub(crate) certificate: Certificate,
    pub(crate) secrets: SlotSecrets,
    /// Name of the slot's object.
    pub(crate) slot: String,
    pub(crate) epochs: BTreeMap<u32, EpochSecrets>,
    pub(crate) publics: BTreeMap<u32, ExchangePublic>,
    /// Keys which the owner removed, and when by the store's clock: what they wrote later is not believed.
    pub(crate) revoked: HashMap<Identity, StoreTime>,
}

impl Keyring {
    /// What this key may do.
    #[must_use]
    pub const fn role(&self) -> Role {
        self.certificate.role
    }

    /// The newest epoch.
    #[must_use]
    pub fn epoch(&self) -> u32 {
        self.publics.keys().next_back().copied().unwrap_or(0)
    }

    /// The index key of `epoch`.
    pub(crate) fn index_key_of(&self, epoch: u32) -> Option<Secret> {
        self.epochs.get(&epoch).map(|secrets| secrets.index.clone())
    }

    /// The index key of the newest epoch.
    pub(crate) fn index_key(&self) -> Result<Secret, EngineError> {
        self.index_key_of(self.epoch()).ok_or_else(|| EngineError::KeyRemoved { role: self.role() })
    }

    /// The public key that new data is sealed to, with the number of its epoch.
    pub(crate) fn sealing(&self) -> Result<(u32, ExchangePublic), EngineError> {
        let newest = self.publics.iter().next_back().map(|(number, public)| (*number, *public));
        newest.ok_or_else(|| self.refuse("find an epoch", &[]))
    }

    /// The private key of `epoch`, if this role may have it.
    pub(crate) fn exchange_of(&self, epoch: u32) -> Option<&ExchangeKey> {
        self.epochs.get(&epoch).and_then(|secrets| secrets.exchange.as_ref())
    }

    /// Whether this key opens content and names.
    #[must_use]
    pub fn opens_content(&self) -> bool {
        matches!(self.role(), Role::Owner | Role::Reader)
    }

    /// Whether this key can seal a blob anew without some of its chunks.
    pub(crate) const fn can_recut(&self) -> bool {
        matches!(self.role(), Role::Owner)
    }

    /// Names chunks.
    pub(crate) fn namer(&self) -> Result<ChunkNamer, EngineError> {
        let secret = self.epochs.values().find_map(|secrets| secrets.chunk_id.clone());
        secret
            .map(ChunkNamer::new)
            .ok_or_else(|| self.refuse("name chunks", &[Role::Owner, Role::Writer, Role::Reader]))
    }

    /// Cuts chunks.
    pub(crate) fn gear(&self) -> Result<Arc<Gear>, EngineError> {
        let secret = self.epochs.values().find_map(|secrets| secrets.chunker.clone());
        let secret = secret.ok_or_else(|| self.refuse("back up", &[Role::Owner, Role::Writer]))?;
        Ok(Arc::new(Gear::new(Purpose::Gear.numbers(&secret))))
    }

    pub(crate) const fn identity(&self) -> &IdentityKey {
        &self.secrets.identity
    }

    /// What this key signs objects with.
    pub(crate) fn signer(&self) -> Signer {
        match self.role() {
            Role::Owner => Signer::bare(self.secrets.identity.clone()),
            _ => Signer::certified(self.secrets.identity.clone(), self.certificate.clone()),
        }
    }

    /// Whether what was written as `what` at `written_at` is to be believed.
    pub(crate) fn believes(&self, frame: &Frame<'_>, what: Writes, written_at: StoreTime) -> bool {
        !self.is_late(frame.signer, written_at) && self.certifies(frame, what)
    }

    /// Whether the owner removed `signer` before `written_at`. That rests on the store's times, which a copy of the
    /// repository changes: what is late is not trusted, but it still serves to read.
    pub(crate) fn is_late(&self, signer: Identity, written_at: StoreTime) -> bool {
        self.revoked.get(&signer).is_some_and(|revoked_at| written_at > *revoked_at)
    }

    /// Whether the owner ever gave the signer a role that writes such objects.
    pub(crate) fn certifies(&self, frame: &Frame<'_>, what: Writes) -> bool {
        let role = frame.role(self.secrets.owner, self.repository);
        match what {
            Writes::Content => matches!(role, Some(Role::Owner | Role::Writer)),
            Writes::Index => matches!(role, Some(Role::Owner | Role::Writer | Role::Maintenance)),
            Writes::Collection => matches!(role, Some(Role::Owner | Role::Maintenance)),
        }
    }

    /// Whether the signer of an object of `domain` is of it.
    pub(crate) fn is_of(&self, frame: &Frame<'_>, domain: [u8; 16]) -> bool {
        frame.signer == self.secrets.owner || frame.domain() == Some(domain)
    }

    /// An error that this role may not do something.
    pub(crate) const fn refuse(&self, what: &'static str, needs: &'static [Role]) -> EngineError {
        EngineError::Role { role: self.role(), what, needs }
    }

    /// Checks that the role is one of `roles`.
    pub(crate) fn require(&self, roles: &'static [Role], what: &'static str) -> Result<(), EngineError> {
        if roles.contains(&self.role()) { Ok(()) } else { Err(self.refuse(what, roles)) }
    }

    /// Takes in an epoch that the store holds: its public key, who was removed, and what it grants us.
    pub(crate) fn learn(&mut self, epoch: &Epoch, written_at: StoreTime) -> Result<(), pack::PackError> {
        self.publics.insert(epoch.number, epoch.public);
        for certificate in &epoch.revoked {
            self.revoked.entry(certificate.identity).or_insert(written_at);
        }
        let own = epoch
            .grants
            .iter()
            .find(|grant| grant.to == self.certificate.identity && grant.exchange == self.certificate.exchange);
        if let Some(own) = own {
            let secrets = own.grant.open(&self.secrets.exchange, self.repository)?;
            if secrets.exchange.as_ref().is_some_and(|exchange| exchange.public() != epoch.public) {
                return Err(pack::PackError::Inconsistent { what: "an epoch grants another key than its own" });
            }
            self.epochs.insert(epoch.number, secrets);
        }
        Ok(())
    }
}

/// What a signature is needed for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Writes {
    /// Snapshots and writer records.
    Content,
    /// Index segments.
    Index,
    /// Condemned lists, tombstones, what hides snapshots.
    Collection,
}
