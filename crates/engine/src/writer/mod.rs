//! The writer's half of the protocol: announce, read condemned lists, commit, withdraw.
//!
//! ```text
//! W1 create writers/<id>/announced        twice: the second create must be refused
//! W2 read condemned/, write the set read once as writers/<id>/seen
//! W3 list index/ and packs/               (see `index`)
//! W4 upload packs, then segments          (see `backup`)
//! W5 create snapshots/<id> = the commit; unclear: read it
//! W6 remove writers/<id>, unless an attempt of W5 or the last renewal was never answered; where that is denied,
//!    create writers/<id>/ended, and a prune removes it
//! W7 found dead: remove writers/<id>, then the own tombstone, under the same proviso
//! ```
//!
//! The protocol was searched exhaustively; change it only with a model. See `docs/FORMAT.md`.
//!
//! Invariant: the set in `seen` is written once, after the announcement, and never extended.
//! Never here: renewing (see `lease`), and clocks that decide anything.

mod lease;

use std::collections::HashSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::Bytes;
use futures::TryStreamExt;
use pack::{Announced, Dead, Ended, Frame, PackId, Seen, SnapshotId, names};
use seal::ObjectKind;
use store::{Put, StoreError};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use crate::EngineError;
use crate::keyring::Writes;
use crate::objects::{create, now, random};
use crate::repository::Repository;
use crate::writer::lease::LeaseState;

/// How often an unclear commit is tried and read again before it is reported as failed.
const COMMITS_MAX: usize = 8;
const COMMIT_AGAIN_AFTER: Duration = Duration::from_millis(500);
/// How long the removal of a record is tried that nobody needs any more. A store that is down should not hold up the
/// message that says so.
const REMOVAL_LASTS_FOR: Duration = Duration::from_secs(30);

/// A backup in progress which has announced itself.
pub(crate) struct Writer<'a> {
    repository: &'a Repository,
    pub(crate) id: SnapshotId,
    /// The store let an existing object be created again.
    warning: Option<String>,
    lease: LeaseState,
    /// W5 was begun.
    has_begun_commit: AtomicBool,
    /// An attempt of W5 was never answered.
    may_land_late: AtomicBool,
}

impl Repository {
    /// W1. After an error nothing is left of it, as far as the store lets itself be cleaned up.
    pub(crate) async fn announce(&self, host: &str) -> Result<Writer<'_>, EngineError> {
        let id = SnapshotId(random(&self.env));
        let name = names::announced(&id);
        let record = Announced { writer: id, host: host.to_owned(), started_at: now(&self.env), extension: Vec::new() };
        let bytes = self
            .seal(&name, |key, epoch, salt, signer, repository| record.encode(key, epoch, salt, signer, repository))?;
        let mut writer = Writer {
            repository: self,
            id,
            warning: None,
            lease: LeaseState::default(),
            has_begun_commit: AtomicBool::new(false),
            may_land_late: AtomicBool::new(false),
        };
        match writer.announce_twice(&name, bytes).await {
            Ok(true) => Ok(writer),
            Ok(false) => Err(EngineError::Request { what: format!("{name} is there already; random ids repeat") }),
            Err(error) => {
                writer.give_up().await;
                Err(error)
            }
        }
    }

    /// W1 and W6 around `work`, which does W2 to W5 and heeds the token that it is given. Gives what everybody should know,
    /// too.
    pub(crate) async fn with_writer<T>(
        &self,
        host: &str,
        cancel: &CancellationToken,
        work: impl AsyncFnOnce(&Writer<'_>, CancellationToken) -> Result<T, EngineError>,
    ) -> Result<(T, Vec<String>), EngineError> {
        let writer = self.announce(host).await?;
        let stop = cancel.child_token();
        let done = match writer.keep_alive(&stop, work(&writer, stop.clone())).await {
            Ok(done) => done,
            Err(error) => return Err(writer.fail(error).await),
        };
        let mut warnings = writer.warnings();
        // The snapshot is committed, whatever happens now; and a writer may have no right to delete.
        if let Err(error) = writer.withdraw().await {
            warnings.push(format!("the record of this writer stays in the repository: {error}"));
        }
        Ok((done, warnings))
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

impl Repository {
    /// Removes a writer's record. The announcement goes last: while it is there, collectors count this writer. Only what says that it
    /// has ended goes after that, or what is left of a removal that is stopped would count again.
    pub(crate) async fn remove_record(&self, id: &SnapshotId) -> Result<(), EngineError> {
        let prefix = format!("{}/{id}", names::WRITERS);
        let listed: Vec<_> = self.store.list(&prefix).try_collect().await?;
        let (announced, ended) = (names::announced(id), names::ended(id));
        for info in listed.iter().filter(|info| info.name != announced && info.name != ended) {
            self.store.delete(&info.name).await?;
        }
        self.store.delete(&announced).await?;
        if listed.iter().any(|info| info.name == ended) {
            self.store.delete(&ended).await?;
        }
        Ok(())
    }
}

impl Writer<'_> {
    /// Creates the announcement, then another object of the same name, which the store must refuse. False if somebody
    /// else's announcement is there.
    async fn announce_twice(&mut self, name: &str, bytes: Vec<u8>) -> Result<bool, EngineError> {
        let store = &self.repository.store;
        if !create(&**store, name, bytes.clone()).await? {
            return Ok(false);
        }
        let mut other = bytes;
        other.push(0);
        if store.put_new(name, vec![Bytes::from(other)]).await? == Put::Created {
            let place = store.describe();
            self.warning = Some(EngineError::NoConditionalCreate { place }.to_string());
        }
        Ok(true)
    }

    /// W2. Gives the packs that this writer must never refer to.
    pub(crate) async fn see_condemned(&self) -> Result<HashSet<PackId>, EngineError> {
        let (lists, condemned) = self.repository.read_condemned().await?;
        let seen = Seen { writer: self.id, lists, extension: Vec::new() };
        let name = names::seen(&self.id);
        let bytes = self
            .repository
            .seal(&name, |key, epoch, salt, signer, repository| seen.encode(key, epoch, salt, signer, repository))?;
        create(&*self.repository.store, &name, bytes).await?;
        Ok(condemned)
    }

    /// What everybody should know.
    pub(crate) fn warnings(&self) -> Vec<String> {
        self.warning.iter().cloned().chain(self.lease.warning()).collect()
    }

    fn has_begun_commit(&self) -> bool {
        self.has_begun_commit.load(Ordering::Relaxed)
    }

    /// Whether something may yet land that belongs to this writer's record.
    fn may_land_late(&self) -> bool {
        self.may_land_late.load(Ordering::Relaxed) || self.lease.may_land_late()
    }

    /// W5: creates the snapshot.
    pub(crate) async fn commit(&self, snapshot: Vec<u8>) -> Result<(), EngineError> {
        let (store, name) = (&self.repository.store, names::snapshot(&self.id));
        let snapshot = Bytes::from(snapshot);
        let mut failure = None;
        self.repository.assert_there().await?;
        self.has_begun_commit.store(true, Ordering::Relaxed);
        for attempt in 0..COMMITS_MAX {
            if attempt > 0 {
                tokio::time::sleep(COMMIT_AGAIN_AFTER * 2u32.saturating_pow(attempt as u32 - 1)).await;
            }
            match store.put_new_reported(&name, vec![snapshot.clone()]).await {
                Ok(report) if report.unanswered_count == 0 => {}
                Ok(_) => self.may_land_late.store(true, Ordering::Relaxed),
                Err(error @ StoreError::Unsynced { .. }) => {
                    // It may be read now, and is not sure to stay.
                    self.may_land_late.store(true, Ordering::Relaxed);
                    return Err(error.into());
                }
                Err(error) if error.is_outcome_unknown() => {
                    self.may_land_late.store(true, Ordering::Relaxed);
                    failure = Some(error);
                }
                Err(error) => return Err(error.into()),
            }
            match store.get(&name).await {
                Ok(found) if found == snapshot => return Ok(()),
                Ok(found) if self.is_tombstone(&found) => return Err(EngineError::DeclaredDead),
                // A bad read is no other object.
                Ok(_) if attempt == 0 => {}
                Ok(_) => return Err(EngineError::Request { what: format!("{name} holds something else") }),
                Err(StoreError::NotFound { .. }) => {}
                Err(error) => failure = Some(error),
            }
        }
        Err(failure
            .map_or(EngineError::Request { what: format!("{name} vanishes as it is created") }, EngineError::from))
    }

    /// Whether a collector that the owner vouches for declared this very writer dead.
    fn is_tombstone(&self, bytes: &[u8]) -> bool {
        let (keyring, repository) = (&self.repository.keyring, self.repository.config.repository);
        let Ok(frame) = Frame::decode(bytes, ObjectKind::Dead, repository) else { return false };
        let dead = Dead::open(&frame, |epoch| keyring.index_key_of(epoch), repository);
        dead.is_ok_and(|dead| dead.writer == self.id) && keyring.certifies(&frame, Writes::Collection)
    }

    /// W6 after a commit: removes the record, unless an attempt of W5 or a renewal may yet land.
    ///
    /// # Errors
    ///
    /// Those of the store. The snapshot is committed all the same.
    pub(crate) async fn withdraw(&self) -> Result<(), EngineError> {
        if self.may_land_late() { Ok(()) } else { self.remove_record().await }
    }

    /// Ends a writer that failed with `error`, and gives what to say: removes what nobody needs to wait for, by W6 when
    /// nothing was or will be committed, by W7 when it was declared dead.
    pub(crate) async fn fail(&self, error: EngineError) -> EngineError {
        let is_dead = self.lease.is_dead() || matches!(error, EngineError::DeclaredDead);
        // A commit that was begun and did not end with a tombstone may be there, or yet land.
        if !self.may_land_late() && (is_dead || !self.has_begun_commit()) {
            self.give_up().await;
        }
        // The reader that was stopped because of the tombstone only knows that it was stopped.
        match error {
            EngineError::Interrupted if is_dead => EngineError::DeclaredDead,
            error => error,
        }
    }

    /// Removes the record, then the own tombstone if there is one, as far as the store answers in time.
    async fn give_up(&self) {
        let removal = async {
            self.remove_record().await?;
            let name = names::snapshot(&self.id);
            match self.repository.store.get(&name).await {
                Ok(bytes) if self.is_tombstone(&bytes) => Ok(self.repository.store.delete(&name).await?),
                Ok(_) | Err(StoreError::NotFound { .. }) => Ok(()),
                Err(error) => Err(EngineError::from(error)),
            }
        };
        match timeout(REMOVAL_LASTS_FOR, removal).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::info!("the record of writer {} stays: {error}", self.id),
            Err(_) => tracing::info!("the record of writer {} stays: the store does not answer", self.id),
        }
    }

    /// Removes the record; a writer that may not delete says instead that it has ended, which others take for the same.
    async fn remove_record(&self) -> Result<(), EngineError> {
        match self.repository.remove_record(&self.id).await {
            Err(EngineError::Store(StoreError::AccessDenied { .. })) => self.say_ended().await,
            done => done,
        }
    }

    async fn say_ended(&self) -> Result<(), EngineError> {
        let (name, ended) = (names::ended(&self.id), Ended { writer: self.id, extension: Vec::new() });
        let bytes = self
            .repository
            .seal(&name, |key, epoch, salt, signer, repository| ended.encode(key, epoch, salt, signer, repository))?;
        create(&*self.repository.store, &name, bytes).await?;
        Ok(())
    }
}
