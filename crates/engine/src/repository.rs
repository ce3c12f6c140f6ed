//! The repository: one store prefix, opened with one key.
//!
//! Opening reads the configuration, finds the slot that the password or key file opens, learns every epoch and every
//! certificate, and compares with what this host saw before.
//!
//! Invariant: nothing of the store is believed before its signature leads back to the owner whom the slot names.
//! Never here: what is done with the repository; each verb has a file of its own.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use bytes::Bytes;
use futures::{StreamExt, TryStreamExt};
use pack::{Config, Epoch, PackError, Protector, Role, Slot, SlotSecrets, names};
use seal::{Secret, key_from_file, key_from_password};
use store::index_cache::{CacheOptions, IndexCache};
use store::{Env, ObjectInfo, SharedStore, StoreError};

use crate::EngineError;
use crate::host_cache::HostCache;
use crate::keyring::{Credential, Keyring};
use crate::offload::Offload;

/// Requests at once where many small objects are read.
pub(crate) const REQUESTS_MAX: usize = 16;

/// How a repository is opened.
#[derive(Debug, Clone)]
pub struct OpenOptions {
    /// Where the index cache lies and how much memory it may use.
    pub cache: CacheOptions,
}

/// A repository, opened with one key. Cheap to share; all operations take `&self`.
#[derive(Clone)]
pub struct Repository {
    pub(crate) store: SharedStore,
    pub(crate) env: Env,
    pub(crate) config: Config,
    pub(crate) keyring: Keyring,
    pub(crate) offload: Offload,
    pub(crate) cache: Arc<HostCache>,
}

impl Repository {
    /// Opens the repository in `store`.
    ///
    /// # Errors
    ///
    /// [`EngineError::NoRepository`] if there is none, [`EngineError::WrongKey`] if no slot opens,
    /// [`EngineError::RolledBack`] if this host has seen newer keys, or what is wrong with an object.
    pub async fn open(
        store: SharedStore,
        env: Env,
        credential: Credential,
        options: OpenOptions,
    ) -> Result<Self, EngineError> {
        let offload = Offload::new()?;
        let config = read_config(&store).await?;
        let keyring = open_keyring(&store, &offload, &config, credential).await?;
        let repository = config.repository;
        let cache = offload.start(move || HostCache::open(options.cache, repository)).await??;
        let opened = Self { store, env, config, keyring, offload, cache: Arc::new(cache) };
        opened.compare_with_memory()?;
        Ok(opened)
    }

    /// The configuration.
    #[must_use]
    pub const fn config(&self) -> &Config {
        &self.config
    }

    /// What the key in use may do.
    #[must_use]
    pub const fn role(&self) -> Role {
        self.keyring.role()
    }

    /// The local index cache in use.
    #[must_use]
    pub fn cache(&self) -> Arc<IndexCache> {
        self.cache.now()
    }

    /// What was warned of so far, in the order in which it was told through `tracing`: for documents that list it.
    #[must_use]
    pub fn warnings(&self) -> Vec<String> {
        self.cache.warnings()
    }

    /// Refuses an epoch older than one that this host saw, and remembers the newest.
    fn compare_with_memory(&self) -> Result<(), EngineError> {
        const NOTE: &str = "newest-epoch";
        let found = self.keyring.epoch();
        let seen = self.cache.note(NOTE).and_then(|bytes| bytes.as_slice().try_into().ok());
        let seen = seen.map_or(0, u32::from_le_bytes);
        if found < seen {
            return Err(EngineError::RolledBack { found, seen });
        }
        if found > seen && !self.cache.remember(NOTE, &found.to_le_bytes()) {
            self.cache.warn(format!(
                "key epoch {found} could not be remembered: this host will not notice if the repository is rolled back \
                 to an older one"
            ));
        }
        Ok(())
    }
}

impl std::fmt::Debug for Repository {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Repository({} at {})", self.config.repository, self.store.describe())
    }
}

/// Reads the configuration; the copy stands in for a damaged first one.
pub(crate) async fn read_config(store: &SharedStore) -> Result<Config, EngineError> {
    let mut damage = None;
    for name in [names::CONFIG, names::CONFIG_COPY] {
        match store.get(name).await {
            Ok(bytes) => match Config::decode(&bytes) {
                Ok(config) => return Ok(config),
                Err(error @ PackError::Version { .. }) => return Err(EngineError::object(name)(error)),
                Err(error) => damage = damage.or(Some(EngineError::object(name)(error))),
            },
            Err(StoreError::NotFound { .. }) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Err(damage.unwrap_or_else(|| EngineError::NoRepository { place: store.describe() }))
}

/// Reads every object below `prefix`, a few at a time. What vanishes meanwhile is left out.
pub(crate) async fn read_all(store: &SharedStore, prefix: &str) -> Result<Vec<(ObjectInfo, Bytes)>, EngineError> {
    let listed: Vec<_> = store.list(prefix).try_collect().await?;
    let read = futures::stream::iter(listed)
        .map(|info| async move {
            match store.get(&info.name).await {
                Ok(bytes) => Ok(Some((info, bytes))),
                Err(StoreError::NotFound { .. }) => Ok(None),
                Err(error) => Err(EngineError::from(error)),
            }
        })
        .buffered(REQUESTS_MAX);
    let mut objects: Vec<_> = read.try_filter_map(|object| async { Ok(object) }).try_collect().await?;
    objects.sort_by(|one, other| one.0.name.cmp(&other.0.name));
    Ok(objects)
}

async fn open_keyring(
    store: &SharedStore,
    offload: &Offload,
    config: &Config,
    credential: Credential,
) -> Result<Keyring, EngineError> {
    let slots = read_slots(store, config).await?;
    let (name, slot, secrets) = open_slot(store, offload, config, credential, &slots).await?;
    let mut keyring = Keyring {
        repository: config.repository,
        certificate: slot.certificate.clone(),
        secrets,
        slot: name.clone(),
        epochs: BTreeMap::new(),
        publics: BTreeMap::new(),
        revoked: HashMap::new(),
    };
    for grant in &slot.grants {
        let secrets = grant.open(&keyring.secrets.exchange, config.repository).map_err(EngineError::object(&name))?;
        keyring.epochs.insert(grant.epoch, secrets);
    }
    for (info, bytes) in read_all(store, names::EPOCHS).await? {
        let name = info.name;
        let epoch = Epoch::decode(&bytes, config.owner, config.repository).map_err(EngineError::object(&name))?;
        if name != names::epoch(epoch.number) {
            let what = "an epoch lies under the name of another";
            return Err(EngineError::object(name)(PackError::Inconsistent { what }));
        }
        keyring.learn(&epoch, info.modified_at).map_err(EngineError::object(&name))?;
    }
    Ok(keyring)
}

/// Every key slot that the owner signed. Others are passed over: anybody who may write could put them there.
pub(crate) async fn read_slots(store: &SharedStore, config: &Config) -> Result<Vec<(String, Slot)>, EngineError> {
    let mut slots = Vec::new();
    for (info, bytes) in read_all(store, names::KEYS).await? {
        let name = info.name;
        match Slot::decode(&bytes, config.owner, config.repository) {
            Ok(slot) if name == names::key_slot(&bytes) => slots.push((name, slot)),
            Ok(_) => tracing::warn!("{name} is not named after its content and is passed over"),
            Err(error) => tracing::warn!("{name} {error} and is passed over"),
        }
    }
    Ok(slots)
}

/// Tries the credential on each slot of its kind.
async fn open_slot(
    store: &SharedStore,
    offload: &Offload,
    config: &Config,
    credential: Credential,
    slots: &[(String, Slot)],
) -> Result<(String, Slot, SlotSecrets), EngineError> {
    let what = credential.noun();
    for (name, slot) in slots {
        let (credential, protector) = (credential.clone(), slot.protector.clone());
        let Some(key) = offload.start(move || slot_key(&credential, &protector)).await? else { continue };
        let key =
            key.map_err(|source| PackError::Seal { what: "the slot", source }).map_err(EngineError::object(name))?;
        let Ok(secrets) = slot.open_secrets(&key, config.repository) else { continue };
        if secrets.owner != config.owner {
            let what = "the configuration names another owner than this key knows";
            return Err(EngineError::object(names::CONFIG)(PackError::Inconsistent { what }));
        }
        return Ok((name.clone(), slot.clone(), secrets));
    }
    Err(EngineError::WrongKey { place: store.describe(), what })
}

/// The slot's key out of the credential; none if the slot is of the other kind.
pub(crate) fn slot_key(credential: &Credential, protector: &Protector) -> Option<Result<Secret, seal::SealError>> {
    match (credential, protector) {
        (Credential::Password(password), Protector::Password { cost, salt }) => {
            Some(key_from_password(password, salt, *cost))
        }
        (Credential::KeyFile(content), Protector::KeyFile { salt }) => Some(key_from_file(content, salt)),
        _ => None,
    }
}
