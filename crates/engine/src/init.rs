//! `init`: make a repository.
//!
//! Order: probe the store, write the first epoch and the owner's slot, and last the configuration, whose presence
//! makes it a repository. What an interrupted init leaves behind is not a repository; a further init refuses the place
//! until somebody has removed it, as nobody can tell it from an init that is still at work.
//!
//! Invariant: an existing repository is never touched.
//! Never here: opening (see `repository`).

use futures::StreamExt;
use pack::{Certificate, Config, Epoch, EpochGrant, EpochSecrets, Grant, Protector, Role, Slot, SlotSecrets, names};
use seal::{ExchangeKey, IdentityKey, KdfCost, ObjectKind, RepositoryId, seal_record};
use store::{Env, SharedStore};

use crate::EngineError;
use crate::keyring::Credential;
use crate::objects::{create, now, random, random_secret, random_seed};
use crate::repository::{OpenOptions, Repository, read_config, slot_key};

/// Aimed length of packs, in bytes.
const PACK_LEN: u32 = 16 << 20;
/// Aimed plaintext length of blobs, in bytes.
const BLOB_LEN: u32 = 1 << 20;

/// A repository to make.
#[derive(Debug)]
pub struct InitRequest {
    /// What opens the first key, which is the owner's.
    pub credential: Credential,
    /// What the key is called.
    pub label: String,
    /// What deriving the key from a password costs.
    pub cost: KdfCost,
    /// How to open it afterwards.
    pub options: OpenOptions,
}

/// A key slot to be made.
pub(crate) struct NewSlot<'a> {
    pub(crate) certificate: Certificate,
    pub(crate) secrets: SlotSecrets,
    pub(crate) epochs: Vec<(u32, &'a EpochSecrets)>,
    pub(crate) label: &'a str,
    pub(crate) cost: KdfCost,
}

impl Repository {
    /// Makes a repository in `store` and opens it.
    ///
    /// # Errors
    ///
    /// [`EngineError::RepositoryExists`] or [`EngineError::NotEmpty`] if something is there; those of the store.
    pub async fn init(store: SharedStore, env: Env, request: InitRequest) -> Result<Self, EngineError> {
        refuse_existing(&store).await?;
        let abilities = store::probe(&*store, &env).await?;
        let repository = RepositoryId(random(&env));
        let owner = IdentityKey::from_secret(random_secret(&env));
        let slot_exchange = ExchangeKey::from_secret(random_secret(&env));
        let epoch_exchange = ExchangeKey::from_secret(random_secret(&env));
        let secrets = EpochSecrets {
            index: random_secret(&env),
            chunk_id: Some(random_secret(&env)),
            chunker: Some(random_secret(&env)),
            exchange: Some(epoch_exchange.clone()),
        };
        let bad = |object: &'static str| EngineError::object(object);
        let certificate =
            Certificate::sign(Role::Owner, slot_exchange.public(), owner.identity(), 1, &owner, repository)
                .map_err(bad("keys"))?;
        let new = NewSlot {
            certificate,
            secrets: SlotSecrets { exchange: slot_exchange, identity: owner.clone(), owner: owner.identity() },
            epochs: vec![(1, &secrets)],
            label: &request.label,
            cost: request.cost,
        };
        let (name, slot) = encode_slot(&env, new, &request.credential, repository)?;
        let epoch = Epoch {
            number: 1,
            public: epoch_exchange.public(),
            created_at: now(&env),
            grants: Vec::<EpochGrant>::new(),
            revoked: Vec::new(),
            extension: Vec::new(),
        };
        let config = Config {
            repository,
            owner: owner.identity(),
            created_at: now(&env),
            pack_len: PACK_LEN,
            blob_len: BLOB_LEN,
            conditional_create: abilities.creates_conditionally,
            extension: Vec::new(),
        };
        let config = config.encode(&owner).map_err(bad(names::CONFIG))?;
        let epoch = epoch.encode(&owner, repository).map_err(bad("epochs"))?;
        for (name, bytes) in [(names::epoch(1), epoch), (name, slot)] {
            put(&store, &names::copy_of(&name), bytes.clone()).await?;
            put(&store, &name, bytes).await?;
        }
        put(&store, names::CONFIG_COPY, config.clone()).await?;
        put(&store, names::CONFIG, config).await?;
        Self::open(store, env, request.credential, request.options).await
    }
}

async fn put(store: &SharedStore, name: &str, bytes: Vec<u8>) -> Result<(), EngineError> {
    if create(&**store, name, bytes).await? {
        Ok(())
    } else {
        Err(EngineError::NotEmpty { place: store.describe(), object: name.to_owned() })
    }
}

async fn refuse_existing(store: &SharedStore) -> Result<(), EngineError> {
    match read_config(store).await {
        Err(EngineError::NoRepository { .. }) => {}
        Err(error @ EngineError::Store(_)) => return Err(error),
        Ok(_) | Err(_) => return Err(EngineError::RepositoryExists { place: store.describe() }),
    }
    match store.list("").next().await {
        None => Ok(()),
        Some(Ok(info)) => Err(EngineError::NotEmpty { place: store.describe(), object: info.name }),
        Some(Err(error)) => Err(error.into()),
    }
}

/// Lays out a key slot: its name and its bytes. Derives a key, so it takes some tenths of a second.
pub(crate) fn encode_slot(
    env: &Env,
    new: NewSlot<'_>,
    credential: &Credential,
    repository: RepositoryId,
) -> Result<(String, Vec<u8>), EngineError> {
    let salt = random(env);
    let protector = match credential {
        Credential::Password(_) => Protector::Password { cost: new.cost, salt },
        Credential::KeyFile(_) => Protector::KeyFile { salt },
    };
    let bad = || EngineError::object("the new key slot");
    let key = slot_key(credential, &protector).unwrap_or_else(|| Ok(random_secret(env)));
    let key = key.map_err(|source| pack::PackError::Seal { what: "the slot", source }).map_err(bad())?;
    let since = new.certificate.since_epoch;
    let grants = new
        .epochs
        .iter()
        .map(|(number, secrets)| Grant::seal(*number, secrets, &new.certificate, random_seed(env), repository));
    let grants = grants.collect::<Result<Vec<_>, _>>().map_err(bad())?;
    let index_key = new.epochs.iter().find(|(number, _)| *number == since).or(new.epochs.first());
    let label = index_key.map(|(number, secrets)| {
        seal_record(new.label.as_bytes(), &secrets.index, *number, random(env), repository, ObjectKind::KeySlot)
    });
    let label =
        label.transpose().map_err(|source| pack::PackError::Seal { what: "the label", source }).map_err(bad())?;
    let slot = Slot {
        protector,
        secrets: Slot::seal_secrets(&new.secrets, &key, random(env), repository).map_err(bad())?,
        grants,
        created_at: now(env),
        label: label.unwrap_or_default(),
        certificate: new.certificate,
        extension: Vec::new(),
    };
    let bytes = slot.encode(&new.secrets.identity, repository).map_err(bad())?;
    Ok((names::key_slot(&bytes), bytes))
}
