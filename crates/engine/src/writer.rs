//! The writer's half of the protocol: announce, read condemned lists, renew the lease, commit.
//!
//! ```text
//! W1 create writers/<id>/announced        twice: the second create must be refused
//! W2 read condemned/, write the set read once as writers/<id>/seen
//! W3 list index/ and packs/               (see `index`)
//! W4 upload packs, then segments          (see `backup`)
//! W5 create snapshots/<id> = the commit; unclear: read it
//! W6 remove writers/<id>, unless an attempt of W5 was never answered
//! ```
//!
//! The protocol was searched exhaustively; change it only with a model. See `docs/FORMAT.md`.
//!
//! Invariant: the set in `seen` is written once, after the announcement, and never extended.
//! Never here: clocks that decide anything; leases tell others only that somebody may still be there.

use std::collections::HashSet;
use std::time::Duration;

use bytes::Bytes;
use futures::TryStreamExt;
use pack::{Announced, Dead, Frame, Lease, PackId, Seen, SnapshotId, names};
use seal::ObjectKind;
use store::{Put, StoreError};

use crate::EngineError;
use crate::objects::{create, now, random};
use crate::repository::Repository;

/// How long between lease renewals.
pub(crate) const LEASE_RENEWED_EVERY: Duration = Duration::from_secs(300);
/// How often an unclear commit is tried and read again before it is reported as failed.
const COMMITS_MAX: usize = 8;
const COMMIT_AGAIN_AFTER: Duration = Duration::from_millis(500);

/// A backup in progress which has announced itself.
pub(crate) struct Writer<'a> {
    repository: &'a Repository,
    pub(crate) id: SnapshotId,
    /// Packs in the condemned lists that this writer has read: never to be referred to.
    pub(crate) condemned: HashSet<PackId>,
    /// What everybody should know.
    pub(crate) warnings: Vec<String>,
    renewals: u32,
}

impl Repository {
    /// W1 and W2.
    pub(crate) async fn announce(&self, host: &str) -> Result<Writer<'_>, EngineError> {
        let id = SnapshotId(random(&self.env));
        let name = names::announced(&id);
        let record = Announced { writer: id, host: host.to_owned(), started_at: now(&self.env), extension: Vec::new() };
        let bytes = self
            .seal(&name, |key, epoch, salt, signer, repository| record.encode(key, epoch, salt, signer, repository))?;
        let mut warnings = Vec::new();
        if !create(&*self.store, &name, bytes.clone()).await? {
            return Err(EngineError::Request { what: format!("{name} is there already; random ids repeat") });
        }
        let mut other = bytes;
        other.push(0); // another object of the same name: a store that takes it does not protect writers
        if self.store.put_new(&name, vec![Bytes::from(other)]).await? == Put::Created {
            let place = self.store.describe();
            warnings.push(EngineError::NoConditionalCreate { place }.to_string());
        }
        let (lists, condemned) = self.read_condemned().await?;
        let writer = Writer { repository: self, id, condemned, warnings, renewals: 0 };
        let seen = Seen { writer: id, lists, extension: Vec::new() };
        let name = names::seen(&id);
        let bytes =
            self.seal(&name, |key, epoch, salt, signer, repository| seen.encode(key, epoch, salt, signer, repository))?;
        create(&*self.store, &name, bytes).await?;
        Ok(writer)
    }

    /// Seals a record with the newest index key and a fresh salt.
    pub(crate) fn seal(
        &self,
        name: &str,
        encode: impl FnOnce(
            &seal::Secret,
            u32,
            seal::SealId,
            &pack::Signer,
            seal::RepositoryId,
        ) -> Result<Vec<u8>, pack::PackError>,
    ) -> Result<Vec<u8>, EngineError> {
        let key = self.keyring.index_key()?;
        encode(&key, self.keyring.epoch(), random(&self.env), &self.keyring.signer(), self.config.repository)
            .map_err(EngineError::object(name))
    }
}

impl Writer<'_> {
    /// Renews the lease and looks whether a collector has given this writer up.
    pub(crate) async fn renew(&mut self) -> Result<(), EngineError> {
        self.refuse_dead().await?;
        self.renewals += 1;
        let name = names::lease(&self.id, self.renewals);
        let lease = Lease { writer: self.id, renewal: self.renewals, extension: Vec::new() };
        let bytes = self
            .repository
            .seal(&name, |key, epoch, salt, signer, repository| lease.encode(key, epoch, salt, signer, repository))?;
        create(&*self.repository.store, &name, bytes).await?;
        Ok(())
    }

    async fn refuse_dead(&self) -> Result<(), EngineError> {
        match self.repository.store.get(&names::snapshot(&self.id)).await {
            Err(StoreError::NotFound { .. }) => Ok(()),
            Err(error) => Err(error.into()),
            Ok(_) => Err(EngineError::DeclaredDead),
        }
    }

    /// W5: creates the snapshot; true if every attempt was answered.
    pub(crate) async fn commit(&self, snapshot: Vec<u8>) -> Result<bool, EngineError> {
        let (store, name) = (&self.repository.store, names::snapshot(&self.id));
        let snapshot = Bytes::from(snapshot);
        let mut answered = true;
        let mut failure = None;
        for attempt in 0..COMMITS_MAX {
            if attempt > 0 {
                tokio::time::sleep(COMMIT_AGAIN_AFTER * 2u32.saturating_pow(attempt as u32 - 1)).await;
            }
            match store.put_new_reported(&name, vec![snapshot.clone()]).await {
                Ok(report) => answered &= report.unanswered_count == 0,
                Err(error) if error.is_outcome_unknown() => {
                    answered = false;
                    failure = Some(error);
                }
                Err(error) => return Err(error.into()),
            }
            match store.get(&name).await {
                Ok(found) if found == snapshot => return Ok(answered),
                Ok(found) if self.is_tombstone(&found) => return self.withdraw(answered).await,
                Ok(_) => return Err(EngineError::Request { what: format!("{name} holds something else") }),
                Err(StoreError::NotFound { .. }) => {}
                Err(error) => failure = Some(error),
            }
        }
        Err(failure
            .map_or(EngineError::Request { what: format!("{name} vanishes as it is created") }, EngineError::from))
    }

    fn is_tombstone(&self, bytes: &[u8]) -> bool {
        let (keyring, repository) = (&self.repository.keyring, self.repository.config.repository);
        let frame = Frame::decode(bytes, ObjectKind::Dead, repository);
        let dead = frame.and_then(|frame| Dead::open(&frame, |epoch| keyring.index_key_of(epoch), repository));
        dead.is_ok_and(|dead| dead.writer == self.id)
    }

    /// W7: obeys the tombstone, then removes the own record and it.
    async fn withdraw(&self, answered: bool) -> Result<bool, EngineError> {
        if answered {
            self.remove_record().await?;
            self.repository.store.delete(&names::snapshot(&self.id)).await?;
        }
        Err(EngineError::DeclaredDead)
    }

    /// W6: removes the writer's record after an answered commit, or when nothing will be committed.
    pub(crate) async fn remove_record(&self) -> Result<(), EngineError> {
        let prefix = format!("{}/{}", names::WRITERS, self.id);
        let listed: Vec<_> = self.repository.store.list(&prefix).try_collect().await?;
        // The announcement goes last: while it is there, collectors count this writer.
        let announced = names::announced(&self.id);
        for info in listed.iter().filter(|info| info.name != announced) {
            self.repository.store.delete(&info.name).await?;
        }
        self.repository.store.delete(&announced).await?;
        Ok(())
    }
}
