//! The repository: one store prefix, opened with one key.
//!
//! Opening reads the configuration, finds the slot that the password or key file opens, learns every epoch and which
//! keys were removed, and compares with what this host saw before. Certificates come with the objects that they vouch for.
//!
//! Invariant: nothing of the store is believed before its signature leads back to the owner whom the slot names.
//! Never here: what is done with the repository; each verb has a file of its own.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

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
/// Longer objects are read one at a time.
const SHORT_OBJECT_LEN_MAX: u64 = 1 << 20;
/// What a frame and its seal add to a record at most, in bytes.
const FRAME_LEN_MAX: u64 = 4 << 10;
/// The longest object of one record, in bytes.
const RECORD_OBJECT_LEN_MAX: u64 = pack::codec::RECORD_LEN_MAX as u64 + FRAME_LEN_MAX;
/// How often an object that does not open is read.
const READS_MAX: usize = 2;

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
    /// The last listing of snapshots passed over one that cannot be read.
    pub(crate) passed_over: Arc<AtomicBool>,
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
        let (config, keyring) = open_keyring(&store, &offload, credential).await?;
        let repository = config.repository;
        let cache = offload.start(move || HostCache::open(options.cache, repository)).await??;
        let (cache, passed_over) = (Arc::new(cache), Arc::default());
        let opened = Self { store, env, config, keyring, offload, cache, passed_over };
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

    /// Fails unless the store still shows this repository: what is written below the path of a folder that was removed, or of a disk that
    /// was unmounted, lies somewhere else. One GET.
    pub(crate) async fn assert_there(&self) -> Result<(), EngineError> {
        match read_config(&self.store).await {
            Ok(config) if config.repository == self.config.repository => Ok(()),
            Ok(_) | Err(EngineError::NoRepository { .. }) => {
                Err(EngineError::RepositoryGone { place: self.store.describe() })
            }
            Err(error) => Err(error),
        }
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
    Ok(read_either_config(store).await?.0)
}

/// The configuration, and whether the first one is damaged.
async fn read_either_config(store: &SharedStore) -> Result<(Config, bool), EngineError> {
    let mut damage = None;
    for name in [names::CONFIG, names::CONFIG_COPY] {
        match store.get(name).await {
            Ok(bytes) => match Config::decode(&bytes) {
                Ok(config) => return Ok((config, damage.is_some())),
                Err(error @ PackError::Version { .. }) => return Err(EngineError::object(name)(error)),
                Err(error) => damage = damage.or(Some(EngineError::object(name)(error))),
            },
            Err(StoreError::NotFound { .. }) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Err(damage.unwrap_or_else(|| EngineError::NoRepository { place: store.describe() }))
}

/// The objects below `prefix`, by name. What has no name of the format's is not ours.
pub(crate) async fn list(store: &SharedStore, prefix: &str) -> Result<Vec<ObjectInfo>, EngineError> {
    let known = store.list(prefix).try_filter(|info| std::future::ready(names::is_known(&info.name)));
    let mut listed: Vec<_> = known.try_collect().await?;
    listed.sort_by(|one, other| one.name.cmp(&other.name));
    Ok(listed)
}

/// Reads `listed` objects and shows each, short ones first and several at once, then long ones one by one: whoever may write
/// could fill the memory of all hosts with them. What vanishes meanwhile is left out.
pub(crate) async fn visit_all<T, F>(
    listed: Vec<ObjectInfo>,
    read: impl Fn(ObjectInfo) -> F,
    mut visit: impl FnMut(ObjectInfo, T) -> Result<(), EngineError>,
) -> Result<(), EngineError>
where
    F: Future<Output = Result<(ObjectInfo, Option<T>), EngineError>>,
{
    let (short, long): (Vec<_>, Vec<_>) = listed.into_iter().partition(|info| info.len <= SHORT_OBJECT_LEN_MAX);
    let short = futures::stream::iter(short).map(&read).buffered(REQUESTS_MAX);
    let mut objects = std::pin::pin!(short.chain(futures::stream::iter(long).then(&read)));
    while let Some((info, found)) = objects.try_next().await? {
        found.map_or(Ok(()), |found| visit(info, found))?;
    }
    Ok(())
}

/// Reads an object that is one record, unless it is too long for that; none if it is gone.
pub(crate) async fn read_record(
    store: &SharedStore,
    info: &ObjectInfo,
) -> Result<Option<Result<Bytes, PackError>>, EngineError> {
    if info.len > RECORD_OBJECT_LEN_MAX {
        return Ok(Some(Err(PackError::TooLong { len: info.len, len_max: RECORD_OBJECT_LEN_MAX })));
    }
    match store.get(&info.name).await {
        Ok(bytes) => Ok(Some(Ok(bytes))),
        Err(StoreError::NotFound { .. }) => Ok(None),
        Err(error) => Err(EngineError::from(error)),
    }
}

/// Reads an object that is one record, and opens it; one that does not open is read once more, since a bad read is no bad
/// object (L9). None if it is gone.
pub(crate) async fn open_record<T>(
    store: &SharedStore,
    info: &ObjectInfo,
    open: impl Fn(&ObjectInfo, &[u8]) -> Result<T, PackError>,
) -> Result<Option<Result<T, PackError>>, EngineError> {
    use PackError::{TooLong, UnknownEpoch, Version};
    let mut wrong = None;
    for _ in 0..READS_MAX {
        match read_record(store, info).await? {
            Some(read) => match read.and_then(|bytes| open(info, &bytes)) {
                Err(error) if !matches!(error, TooLong { .. } | Version { .. } | UnknownEpoch { .. }) => {
                    wrong = Some(error)
                }
                opened => return Ok(Some(opened)),
            },
            None => return Ok(None),
        }
    }
    Ok(wrong.map(Err))
}

/// Shows what `open` makes of every object below `prefix`, which holds objects of one record each.
pub(crate) async fn open_all<T>(
    store: &SharedStore,
    prefix: &str,
    open: impl Fn(&ObjectInfo, &[u8]) -> Result<T, PackError>,
) -> Result<Vec<(ObjectInfo, Result<T, PackError>)>, EngineError> {
    open_listed(store, list(store, prefix).await?, open).await
}

/// The same of objects that were listed.
async fn open_listed<T>(
    store: &SharedStore,
    listed: Vec<ObjectInfo>,
    open: impl Fn(&ObjectInfo, &[u8]) -> Result<T, PackError>,
) -> Result<Vec<(ObjectInfo, Result<T, PackError>)>, EngineError> {
    let mut opened = Vec::new();
    let visit = |info: ObjectInfo, found: Result<T, PackError>| {
        opened.push((info, found));
        Ok(())
    };
    let open = &open;
    let read = |info| async move { open_record(store, &info, open).await.map(|found| (info, found)) };
    visit_all(listed, read, visit).await?;
    opened.sort_by(|one, other| one.0.name.cmp(&other.0.name));
    Ok(opened)
}

/// The configuration, and the keys that the credential gives. What does not depend on each other is asked for at once, and the epochs
/// while the key is derived: three round trips.
async fn open_keyring(
    store: &SharedStore,
    offload: &Offload,
    credential: Credential,
) -> Result<(Config, Keyring), EngineError> {
    let (config, slots, copies) =
        tokio::join!(read_either_config(store), list(store, names::KEYS), list(store, names::EPOCHS_COPY));
    // In this order: whatever else failed, where no repository is that is to be said.
    let has_keys = slots.as_ref().is_ok_and(|slots| !slots.is_empty());
    if has_keys && matches!(config, Err(EngineError::NoRepository { .. })) {
        return Err(EngineError::ConfigLost { place: store.describe() });
    }
    let ((config, is_damaged), slots, copies) = (config?, slots?, copies?);
    if is_damaged {
        tracing::warn!("{} is damaged; its second copy is used", names::CONFIG);
    }
    // After their copies, which are stored last: one that was added meanwhile is none of which only the copy is left.
    let (opened, epochs) =
        tokio::join!(open_some_slot(store, offload, &config, credential, slots), open_epochs(store, &config));
    let (name, slot, secrets) = opened?;
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
    for (info, epoch) in epochs? {
        match epoch {
            Ok(epoch) => keyring.learn(&epoch, info.modified_at).map_err(EngineError::object(&info.name))?,
            Err(error @ PackError::Version { .. }) => return Err(EngineError::object(&info.name)(error)),
            Err(error) => tracing::warn!("{} {error} and is passed over", info.name),
        }
    }
    let is_known = |info: &ObjectInfo| {
        names::last(&info.name).parse().is_ok_and(|number: u32| keyring.publics.contains_key(&number))
    };
    if !copies.iter().all(is_known) {
        learn_lost_epochs(store, &config, &mut keyring).await?;
    }
    Ok((config, keyring))
}

/// The first of the `listed` slots that the credential opens; else one of which only the second copy is left.
async fn open_some_slot(
    store: &SharedStore,
    offload: &Offload,
    config: &Config,
    credential: Credential,
    listed: Vec<ObjectInfo>,
) -> Result<(String, Slot, SlotSecrets), EngineError> {
    let slots = read_listed_slots(store, config, listed).await?;
    match open_slot(store, offload, config, credential.clone(), &slots).await {
        Err(EngineError::WrongKey { .. }) => {
            let lost = lost_slots(store, config, &slots).await?;
            open_slot(store, offload, config, credential, &lost).await
        }
        opened => opened,
    }
}

/// Learns those epochs of which only the second copy is left.
async fn learn_lost_epochs(store: &SharedStore, config: &Config, keyring: &mut Keyring) -> Result<(), EngineError> {
    for (info, epoch) in
        open_all(store, names::EPOCHS_COPY, |info, bytes| open_epoch(config, &info.name, bytes)).await?
    {
        if let Some(epoch) = epoch.ok().filter(|epoch| !keyring.publics.contains_key(&epoch.number)) {
            tracing::warn!("{} is missing; its second copy is used", names::epoch(epoch.number));
            keyring.learn(&epoch, info.modified_at).map_err(EngineError::object(&info.name))?;
        }
    }
    Ok(())
}

/// Every epoch, in their order; of one that is damaged or missing, the second copy if that is right.
pub(crate) async fn open_epochs(
    store: &SharedStore,
    config: &Config,
) -> Result<Vec<(ObjectInfo, Result<Epoch, PackError>)>, EngineError> {
    let mut epochs = open_all(store, names::EPOCHS, |info, bytes| open_epoch(config, &info.name, bytes)).await?;
    for (info, epoch) in epochs.iter_mut().filter(|(_, epoch)| epoch.is_err()) {
        if let Some(copy) = read_copy(store, &info.name).await?
            && let Ok(right) = open_epoch(config, &info.name, &copy)
        {
            *epoch = Ok(right);
        }
    }
    Ok(epochs)
}

/// Reads an epoch, whose number its name must be.
pub(crate) fn open_epoch(config: &Config, name: &str, bytes: &[u8]) -> Result<Epoch, PackError> {
    let epoch = Epoch::decode(bytes, config.owner, config.repository)?;
    let is_named = name == names::epoch(epoch.number) || name == names::copy_of(&names::epoch(epoch.number));
    if is_named { Ok(epoch) } else { Err(PackError::Inconsistent { what: "an epoch lies under the name of another" }) }
}

/// Reads a key slot, which is named after its bytes.
pub(crate) fn open_slot_object(config: &Config, name: &str, bytes: &[u8]) -> Result<Slot, PackError> {
    let slot = Slot::decode(bytes, config.owner, config.repository)?;
    if names::last(name) == names::last(&names::key_slot(bytes)) { Ok(slot) } else { Err(PackError::Hash) }
}

/// The second copy of an object that is not right; none if there is none.
async fn read_copy(store: &SharedStore, name: &str) -> Result<Option<Bytes>, EngineError> {
    match store.get(&names::copy_of(name)).await {
        Ok(bytes) => {
            tracing::warn!("{name} is damaged; its second copy is used");
            Ok(Some(bytes))
        }
        Err(StoreError::NotFound { .. }) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// Every key slot that the owner signed. Others are passed over: anybody who may write could put them there.
pub(crate) async fn read_slots(store: &SharedStore, config: &Config) -> Result<Vec<(String, Slot)>, EngineError> {
    read_listed_slots(store, config, list(store, names::KEYS).await?).await
}

async fn read_listed_slots(
    store: &SharedStore,
    config: &Config,
    listed: Vec<ObjectInfo>,
) -> Result<Vec<(String, Slot)>, EngineError> {
    let mut slots = Vec::new();
    for (info, slot) in open_listed(store, listed, |info, bytes| open_slot_object(config, &info.name, bytes)).await? {
        let slot = match slot {
            Ok(slot) => Ok(slot),
            Err(error) => match read_copy(store, &info.name).await? {
                Some(copy) => open_slot_object(config, &info.name, &copy),
                None => Err(error),
            },
        };
        match slot {
            Ok(slot) => slots.push((info.name, slot)),
            Err(error) => tracing::warn!("{} {error} and is passed over", info.name),
        }
    }
    Ok(slots)
}

/// Slots of which only the second copy is left, under the names that they had.
pub(crate) async fn lost_slots(
    store: &SharedStore,
    config: &Config,
    known: &[(String, Slot)],
) -> Result<Vec<(String, Slot)>, EngineError> {
    let copies = open_all(store, names::KEYS_COPY, |info, bytes| open_slot_object(config, &info.name, bytes)).await?;
    let named = copies
        .into_iter()
        .filter_map(|(info, slot)| Some((format!("{}/{}", names::KEYS, names::last(&info.name)), slot.ok()?)));
    Ok(named.filter(|(name, _)| known.iter().all(|(other, _)| other != name)).collect())
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
        let Some(secrets) = try_slot(offload, config, &credential, name, slot).await? else { continue };
        if secrets.owner != config.owner {
            let what = "the configuration names another owner than this key knows";
            return Err(EngineError::object(names::CONFIG)(PackError::Inconsistent { what }));
        }
        return Ok((name.clone(), slot.clone(), secrets));
    }
    Err(EngineError::WrongKey { place: store.describe(), what })
}

/// What is in a slot, if the credential opens it. Costs a key derivation where both are of a password.
pub(crate) async fn try_slot(
    offload: &Offload,
    config: &Config,
    credential: &Credential,
    name: &str,
    slot: &Slot,
) -> Result<Option<SlotSecrets>, EngineError> {
    let (credential, protector) = (credential.clone(), slot.protector.clone());
    let Some(key) = offload.start(move || slot_key(&credential, &protector)).await? else { return Ok(None) };
    let key = key.map_err(|source| PackError::Seal { what: "the slot", source }).map_err(EngineError::object(name))?;
    Ok(slot.open_secrets(&key, config.repository).ok())
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
