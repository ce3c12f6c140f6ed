//! `key`: list, add, remove, renew and rotate keys.
//!
//! Adding wraps every epoch's secrets to the new key. Removing rotates, so that nothing new opens with the removed key;
//! what it could read before, it may have read. A key is its identity, whatever slots hold it: a changed password, or
//! who took the key, may have made several. Owners share one identity, and are told apart by their exchange keys.
//!
//! Invariant: a password or key file opens one key: else removing that key would leave another that it opens.
//! Invariant: the last owner's key cannot be removed.
//! Invariant: no epoch is granted to a key that was removed, whatever slot of it lies in the store.
//! Invariant: a new slot is stored before an old one is deleted.
//! Never here: re-sealing old packs under a new epoch.

use pack::{Certificate, Epoch, EpochGrant, EpochSecrets, Grant, Role, Slot, SlotSecrets, names};
use seal::{ExchangeKey, IdentityKey, KdfCost, ObjectKind, open_record, record_epoch};

use crate::EngineError;
use crate::init::{NewSlot, encode_slot};
use crate::keyring::Credential;
use crate::objects::{create, now, random_secret, random_seed};
use crate::repository::{Repository, lost_slots, open_epochs, read_slots, try_slot};

/// Digits of a key's id in a message.
const ID_SHOWN_COUNT: usize = 8;

/// One key of the repository.
#[derive(Debug, Clone)]
pub struct KeyInfo {
    /// The slot's id, in hex.
    pub id: String,
    /// What it may do.
    pub role: Role,
    /// What it is called, if this key may see it.
    pub label: Option<String>,
    /// When the slot was made: nanoseconds since 1970.
    pub created_at: i64,
    /// `password` or `key file`.
    pub kind: &'static str,
    /// The key in use.
    pub is_current: bool,
    /// Removed by the owner, though the store still shows it.
    pub revoked: bool,
    /// The public signing key, in hex.
    pub identity: String,
}

/// How the repository stands with its epochs.
#[derive(Debug, Clone)]
pub struct KeyStatus {
    /// The newest epoch.
    pub epoch: u32,
    /// When it began: nanoseconds since 1970.
    pub since: i64,
    /// For each epoch: packs sealed to it, and their bytes.
    pub packs: Vec<(u32, u64, u64)>,
}

impl Repository {
    /// Every key, oldest first.
    ///
    /// # Errors
    ///
    /// Those of the store.
    pub async fn keys(&self) -> Result<Vec<KeyInfo>, EngineError> {
        let slots = read_slots(&self.store, &self.config).await?;
        let mut keys: Vec<_> = slots.iter().map(|(name, slot)| self.key_info(name, slot)).collect();
        keys.sort_by_key(|key| key.created_at);
        Ok(keys)
    }

    fn key_info(&self, name: &str, slot: &Slot) -> KeyInfo {
        let epoch = record_epoch(&slot.label).unwrap_or(0);
        let label = self.keyring.index_key_of(epoch);
        let label =
            label.and_then(|key| open_record(&slot.label, &key, self.config.repository, ObjectKind::KeySlot).ok());
        KeyInfo {
            id: names::last(name).to_owned(),
            role: slot.certificate.role,
            label: label.and_then(|bytes| String::from_utf8(bytes).ok()),
            created_at: slot.created_at,
            kind: match slot.protector {
                pack::Protector::Password { .. } => "password",
                pack::Protector::KeyFile { .. } => "key file",
            },
            is_current: name == self.keyring.slot,
            revoked: self.keyring.revoked.contains_key(&slot.certificate.identity),
            identity: slot.certificate.identity.to_string(),
        }
    }

    /// Adds a key of `role`; returns its id. Costs a key derivation for each password that there is.
    ///
    /// # Errors
    ///
    /// [`EngineError::Role`] unless this is an owner's key; [`EngineError::CredentialInUse`] if the credential opens a key
    /// already; those of the store.
    pub async fn add_key(
        &self,
        role: Role,
        credential: Credential,
        label: &str,
        cost: KdfCost,
    ) -> Result<String, EngineError> {
        self.keyring.require(&[Role::Owner], "add keys")?;
        self.refuse_used(&credential, None).await?;
        let exchange = ExchangeKey::from_secret(random_secret(&self.env));
        let identity = match role {
            Role::Owner => self.keyring.identity().clone(),
            _ => IdentityKey::from_secret(random_secret(&self.env)),
        };
        let certificate = Certificate::sign(
            role,
            exchange.public(),
            identity.identity(),
            self.keyring.epoch(),
            self.keyring.identity(),
            self.config.repository,
        );
        let new = NewSlot {
            certificate: certificate.map_err(EngineError::object("the new key slot"))?,
            secrets: SlotSecrets { exchange, identity, owner: self.config.owner },
            epochs: self.keyring.epochs.iter().map(|(number, secrets)| (*number, secrets)).collect(),
            label,
            cost,
        };
        let (name, bytes) = encode_slot(&self.env, new, &credential, self.config.repository)?;
        self.create_twice(&name, bytes).await?;
        Ok(names::last(&name).to_owned())
    }

    /// Replaces the password or key file of the key in use; returns the new id.
    ///
    /// # Errors
    ///
    /// [`EngineError::CredentialInUse`] if the credential opens another key; those of the store. If only deleting the old
    /// slot fails, both passwords open the repository.
    pub async fn change_password(&self, credential: Credential, cost: KdfCost) -> Result<String, EngineError> {
        self.refuse_used(&credential, Some(&self.keyring.certificate)).await?;
        let slots = read_slots(&self.store, &self.config).await?;
        let own =
            slots.iter().find(|(name, _)| *name == self.keyring.slot).map(|(name, slot)| self.key_info(name, slot));
        let new = NewSlot {
            certificate: self.keyring.certificate.clone(),
            secrets: self.keyring.secrets.clone(),
            epochs: self.keyring.epochs.iter().map(|(number, secrets)| (*number, secrets)).collect(),
            label: &own.and_then(|key| key.label).unwrap_or_default(),
            cost,
        };
        let (name, bytes) = encode_slot(&self.env, new, &credential, self.config.repository)?;
        self.create_twice(&name, bytes).await?;
        self.delete_twice(&self.keyring.slot).await?;
        Ok(names::last(&name).to_owned())
    }

    /// Fails if the credential opens a slot, of which the second copy alone counts too, unless that slot is of the key `own`.
    async fn refuse_used(&self, credential: &Credential, own: Option<&Certificate>) -> Result<(), EngineError> {
        let mut slots = read_slots(&self.store, &self.config).await?;
        slots.extend(lost_slots(&self.store, &self.config, &slots).await?);
        for (name, slot) in &slots {
            if own.is_some_and(|own| is_same_key(own, &slot.certificate)) {
                continue;
            }
            if try_slot(&self.offload, &self.config, credential, name, slot).await?.is_some() {
                return Err(EngineError::CredentialInUse {
                    what: credential.noun(),
                    role: slot.certificate.role,
                    id: names::last(name).chars().take(ID_SHOWN_COUNT).collect(),
                });
            }
        }
        Ok(())
    }

    /// Removes a key by the start of its id, with every slot that holds it, and begins a new epoch without it; returns
    /// the id. Another slot of the very key in use is only deleted.
    ///
    /// # Errors
    ///
    /// [`EngineError::Request`] if the prefix fits none or several keys, or the key in use, or the last owner's.
    pub async fn remove_key(&self, id_prefix: &str) -> Result<String, EngineError> {
        self.keyring.require(&[Role::Owner], "remove keys")?;
        let slots = read_slots(&self.store, &self.config).await?;
        let mut fits = slots.iter().filter(|(name, _)| names::last(name).starts_with(id_prefix));
        let (Some((name, slot)), None) = (fits.next(), fits.next()) else {
            return Err(EngineError::Request { what: format!("{id_prefix} is not the start of exactly one key's id") });
        };
        if *name == self.keyring.slot {
            return Err(EngineError::Request {
                what: "the key in use cannot remove itself; use another owner's key".into(),
            });
        }
        let is_own = slot.certificate.exchange == self.keyring.certificate.exchange;
        let removed = if is_own { None } else { Some(&slot.certificate) };
        let is_removed = |(other, slot): &&(String, Slot)| {
            other == name || removed.is_some_and(|removed| is_same_key(&slot.certificate, removed))
        };
        let gone: Vec<&String> = slots.iter().filter(is_removed).map(|(name, _)| name).collect();
        let kept: Vec<_> = slots.iter().filter(|slot| !is_removed(slot)).map(|(_, slot)| slot.clone()).collect();
        self.new_epoch(&kept, removed).await?;
        for name in gone {
            self.delete_twice(name).await?;
        }
        Ok(names::last(name).to_owned())
    }

    /// Begins a new epoch for the keys that there are; returns its number.
    ///
    /// # Errors
    ///
    /// [`EngineError::Role`] unless this is an owner's key; those of the store.
    pub async fn rotate(&self) -> Result<u32, EngineError> {
        self.keyring.require(&[Role::Owner], "rotate keys")?;
        let slots: Vec<_> = read_slots(&self.store, &self.config).await?.into_iter().map(|(_, slot)| slot).collect();
        self.new_epoch(&slots, None).await
    }

    /// Begins a new epoch for those of `slots` that are entitled to it. `removed` is removed from now on.
    async fn new_epoch(&self, slots: &[Slot], removed: Option<&Certificate>) -> Result<u32, EngineError> {
        let exchange = ExchangeKey::from_secret(random_secret(&self.env));
        let number = self.keyring.epoch() + 1;
        let last = self
            .keyring
            .epochs
            .values()
            .next_back()
            .ok_or_else(|| self.keyring.refuse("rotate keys", &[Role::Owner]))?;
        let secrets =
            EpochSecrets { index: random_secret(&self.env), exchange: Some(exchange.clone()), ..last.clone() };
        let object = names::epoch(number);
        let newest = self.read_epochs().await?.pop();
        let entitled = self.entitled(slots, newest.as_ref());
        let grants = entitled.into_iter().map(|to| {
            let grant = Grant::seal(number, &secrets, to, random_seed(&self.env), self.config.repository)?;
            Ok(EpochGrant { to: to.identity, exchange: to.exchange, grant })
        });
        let grants = grants.collect::<Result<Vec<_>, _>>().map_err(EngineError::object(&object))?;
        let mut all_revoked = newest.map(|epoch| epoch.revoked).unwrap_or_default();
        // All owners sign with one key: it cannot be revoked.
        all_revoked.extend(removed.filter(|removed| removed.identity != self.config.owner).cloned());
        let epoch = Epoch {
            number,
            public: exchange.public(),
            created_at: now(&self.env),
            grants,
            revoked: all_revoked,
            extension: Vec::new(),
        };
        let bytes =
            epoch.encode(self.keyring.identity(), self.config.repository).map_err(EngineError::object(&object))?;
        if self.create_twice(&object, bytes).await? {
            Ok(number)
        } else {
            Err(EngineError::Request {
                what: format!("somebody else began epoch {number} at the same time; try again"),
            })
        }
    }

    /// Creates an object and then its second copy; true if the object is ours.
    async fn create_twice(&self, name: &str, bytes: Vec<u8>) -> Result<bool, EngineError> {
        let is_ours = create(&*self.store, name, bytes.clone()).await?;
        if is_ours {
            create(&*self.store, &names::copy_of(name), bytes).await?;
        }
        Ok(is_ours)
    }

    /// Deletes an object after its second copy, which must not stand in for it.
    async fn delete_twice(&self, name: &str) -> Result<(), EngineError> {
        self.store.delete(&names::copy_of(name)).await?;
        Ok(self.store.delete(name).await?)
    }

    /// The keys among `slots` that go on into a new epoch, each once: none that was removed, though a slot of it may
    /// lie there again, and no owner's that has been left out of the `newest`.
    fn entitled<'a>(&self, slots: &'a [Slot], newest: Option<&Epoch>) -> Vec<&'a Certificate> {
        let mut keys: Vec<&Certificate> = Vec::new();
        for slot in slots {
            let key = &slot.certificate;
            let was_left_out = key.identity == self.config.owner
                && newest.is_some_and(|newest| {
                    newest.grants.iter().all(|grant| grant.exchange != key.exchange)
                        && slot.grants.iter().all(|grant| grant.epoch != newest.number)
                });
            let was_removed = self.keyring.revoked.contains_key(&key.identity) || was_left_out;
            if !was_removed && keys.iter().all(|other| !is_same_key(other, key)) {
                keys.push(key);
            }
        }
        keys
    }

    async fn read_epochs(&self) -> Result<Vec<Epoch>, EngineError> {
        let epochs = open_epochs(&self.store, &self.config).await?.into_iter();
        epochs.map(|(info, epoch)| epoch.map_err(EngineError::object(info.name))).collect()
    }

    /// What each epoch still seals.
    ///
    /// # Errors
    ///
    /// Those of the store and the index.
    pub async fn key_status(&self) -> Result<KeyStatus, EngineError> {
        let epochs = self.read_epochs().await?;
        let index = self.load_index().await?;
        let mut packs: std::collections::BTreeMap<u32, (u64, u64)> =
            epochs.iter().map(|epoch| (epoch.number, (0, 0))).collect();
        for found in index.packs()? {
            for seal in &found.seals {
                let row = packs.entry(seal.epoch).or_default();
                row.0 += 1;
                row.1 += found.len;
            }
        }
        let newest = epochs.last();
        Ok(KeyStatus {
            epoch: newest.map_or(0, |epoch| epoch.number),
            since: newest.map_or(0, |epoch| epoch.created_at),
            packs: packs.into_iter().map(|(epoch, (count, len))| (epoch, count, len)).collect(),
        })
    }
}

/// Whether both are of one key. Only owners share an identity.
fn is_same_key(one: &Certificate, other: &Certificate) -> bool {
    let is_owner = one.role == Role::Owner || other.role == Role::Owner;
    one.exchange == other.exchange || (!is_owner && one.identity == other.identity)
}
