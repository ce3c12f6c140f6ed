//! Which backups are running, and settling those that are not (C3, C7).
//!
//! ```text
//! writers/<id>  ─ has seen the list ──────────────────────────► it refers to nothing in it
//!               ─ snapshots/<id> is there, or the record is gone ► settled: the second mark knows what it refers to
//!               ─ it says that it has ended, by the same key ────► as if the record were gone, which it soon is
//!               ─ its lease is long over ─► create snapshots/<id> = dead ─► settled, whoever came first
//!               ─ none of these ─────────────────────────────────► the list waits
//! ```
//!
//! Ages are differences of the store's own times. A wrong guess about a lease costs a backup that must begin again, and never
//! a byte: the create of `snapshots/<id>` has one winner.
//!
//! Invariant: writers are listed only after the condemned list was published.
//! Never here: what writers do themselves (see `writer`).

use std::collections::{BTreeMap, HashSet};
use std::time::Duration;

use pack::{Announced, CondemnedId, Dead, Ended, Frame, Seen, SnapshotId, names};
use seal::ObjectKind;
use store::{StoreError, StoreTime};

use crate::EngineError;
use crate::keyring::Writes;
use crate::objects::create;
use crate::repository::{Repository, list};

/// How long a backup may have shown no sign of life before it is given up. It renews every five minutes.
pub const LEASE_OVER_AFTER: Duration = Duration::from_secs(60 * 60);

/// A backup that has not removed its record.
#[derive(Debug, Clone)]
pub struct RunningBackup {
    /// Its id.
    pub id: SnapshotId,
    /// The host's name, as far as the record opens.
    pub host: Option<String>,
    /// When it announced itself, by the store's clock.
    pub announced_at: StoreTime,
    /// Its last sign of life, by the store's clock.
    pub seen_at: StoreTime,
}

impl RunningBackup {
    /// Whether its last sign of life is longer ago than that.
    pub(super) fn is_over(&self, now: StoreTime, after: Duration) -> bool {
        now.since(self.seen_at) >= after
    }
}

/// What became of the writers that a list has to wait for.
#[derive(Debug, Default)]
pub(super) struct Settled {
    /// Lists that must wait.
    pub(super) waiting: HashSet<CondemnedId>,
    /// For these.
    pub(super) running: Vec<RunningBackup>,
    /// Writers that were declared dead now.
    pub(super) given_up_count: u64,
}

/// What a listing shows of a writer.
struct Record {
    announced_at: Option<StoreTime>,
    seen_at: StoreTime,
    /// Something says that it has ended; whether that can be believed is another question.
    says_ended: bool,
}

impl Repository {
    /// Every announced writer that has not ended.
    pub(super) async fn list_writers(&self) -> Result<Vec<RunningBackup>, EngineError> {
        let mut running = Vec::new();
        for (id, Record { announced_at, seen_at, says_ended }) in self.list_records().await? {
            // A record without its announcement is being removed: its writer has ended.
            let Some(announced_at) = announced_at else { continue };
            if !says_ended || !self.has_ended(&id).await? {
                running.push(RunningBackup { id, host: None, announced_at, seen_at });
            }
        }
        Ok(running)
    }

    async fn list_records(&self) -> Result<BTreeMap<SnapshotId, Record>, EngineError> {
        let mut records: BTreeMap<SnapshotId, Record> = BTreeMap::new();
        for info in list(&self.store, names::WRITERS).await? {
            let Some(id) = info.name.split('/').nth(1).and_then(SnapshotId::from_hex) else { continue };
            let new = Record { announced_at: None, seen_at: info.modified_at, says_ended: false };
            let record = records.entry(id).or_insert(new);
            record.seen_at = record.seen_at.max(info.modified_at);
            if info.name == names::announced(&id) {
                record.announced_at = Some(info.modified_at);
            }
            record.says_ended |= info.name == names::ended(&id);
        }
        Ok(records)
    }

    /// Whether a writer says that it has ended, in a way that can be believed: by the key that announced it. Then its record counts as
    /// removed.
    async fn has_ended(&self, id: &SnapshotId) -> Result<bool, EngineError> {
        let repository = self.config.repository;
        let announced = match self.store.get(&names::announced(id)).await {
            Ok(bytes) => bytes,
            Err(StoreError::NotFound { .. }) => return Ok(true),
            Err(error) => return Err(error.into()),
        };
        let ended = match self.store.get(&names::ended(id)).await {
            Ok(bytes) => bytes,
            Err(StoreError::NotFound { .. }) => return Ok(false),
            Err(error) => return Err(error.into()),
        };
        let ended = Frame::decode(&ended, ObjectKind::WriterEnded, repository);
        let announced = Frame::decode(&announced, ObjectKind::WriterAnnounced, repository);
        let (Ok(ended), Ok(announced)) = (ended, announced) else { return Ok(false) };
        let record = Ended::open(&ended, |epoch| self.keyring.index_key_of(epoch), repository);
        Ok(record.is_ok_and(|record| record.writer == *id)
            && ended.signer == announced.signer
            && self.keyring.certifies(&ended, Writes::Content))
    }

    /// Removes the records of writers that have ended and may not delete them.
    pub(super) async fn remove_ended_records(&self) -> Result<(), EngineError> {
        for (id, record) in self.list_records().await? {
            match record.announced_at {
                _ if !record.says_ended => {}
                // What is left of a removal that was stopped.
                None => self.store.delete(&names::ended(&id)).await?,
                Some(_) if self.has_ended(&id).await? => self.remove_record(&id).await?,
                Some(_) => {}
            }
        }
        Ok(())
    }

    /// The announced writers that may yet commit, and whose lease is not over at `now`.
    pub(super) async fn running_backups(
        &self,
        now: StoreTime,
        lease_over_after: Duration,
    ) -> Result<Vec<RunningBackup>, EngineError> {
        let mut running = Vec::new();
        for mut writer in self.list_writers().await? {
            if !writer.is_over(now, lease_over_after) && self.store.head(&names::snapshot(&writer.id)).await?.is_none()
            {
                writer.host = self.host_of(&writer.id).await?;
                running.push(writer);
            }
        }
        Ok(running)
    }

    async fn host_of(&self, id: &SnapshotId) -> Result<Option<String>, EngineError> {
        let repository = self.config.repository;
        let bytes = match self.store.get(&names::announced(id)).await {
            Ok(bytes) => bytes,
            Err(StoreError::NotFound { .. }) => return Ok(None),
            Err(error) => return Err(error.into()),
        };
        let record = Frame::decode(&bytes, ObjectKind::WriterAnnounced, repository)
            .and_then(|frame| Announced::open(&frame, |epoch| self.keyring.index_key_of(epoch), repository));
        Ok(record.ok().map(|record| record.host))
    }

    /// C3 for all of `lists`: settles every writer that has not seen one of them, or says which lists wait for whom.
    pub(super) async fn settle_writers(
        &self,
        lists: &HashSet<CondemnedId>,
        now: StoreTime,
        lease_over_after: Duration,
    ) -> Result<Settled, EngineError> {
        let mut settled = Settled::default();
        for mut writer in self.list_writers().await? {
            let seen = self.lists_seen_by(&writer.id).await?;
            let unseen: Vec<_> = lists.iter().filter(|list| !seen.contains(*list)).copied().collect();
            if unseen.is_empty() || self.store.head(&names::snapshot(&writer.id)).await?.is_some() {
                continue;
            }
            if writer.is_over(now, lease_over_after) {
                settled.given_up_count += u64::from(self.give_up(&writer.id).await?);
                continue;
            }
            // It may have ended between the listing and the look at its snapshot.
            if self.store.head(&names::announced(&writer.id)).await?.is_some() {
                writer.host = self.host_of(&writer.id).await?;
                settled.waiting.extend(unseen);
                settled.running.push(writer);
            }
        }
        Ok(settled)
    }

    /// The condemned lists that a writer has read; none where its record does not say so in a way that can be believed.
    async fn lists_seen_by(&self, id: &SnapshotId) -> Result<HashSet<CondemnedId>, EngineError> {
        let repository = self.config.repository;
        let bytes = match self.store.get(&names::seen(id)).await {
            Ok(bytes) => bytes,
            Err(StoreError::NotFound { .. }) => return Ok(HashSet::new()),
            Err(error) => return Err(error.into()),
        };
        let Ok(frame) = Frame::decode(&bytes, ObjectKind::WriterSeen, repository) else { return Ok(HashSet::new()) };
        let record = Seen::open(&frame, |epoch| self.keyring.index_key_of(epoch), repository);
        let believed = record.ok().filter(|seen| seen.writer == *id && self.keyring.certifies(&frame, Writes::Content));
        Ok(believed.map(|seen| seen.lists.into_iter().collect()).unwrap_or_default())
    }

    /// Creates the tombstone of a writer, unless it commits first; true if the tombstone is there.
    async fn give_up(&self, id: &SnapshotId) -> Result<bool, EngineError> {
        let name = names::snapshot(id);
        let dead = Dead { writer: *id, extension: Vec::new() };
        let bytes =
            self.seal(&name, |key, epoch, salt, signer, repository| dead.encode(key, epoch, salt, signer, repository))?;
        create(&*self.store, &name, bytes).await?;
        // Whatever is there now settles the writer; if nothing is, an error says so and the list is taken up again later.
        let found = self.store.get(&name).await?;
        Ok(self.is_tombstone(*id, &found))
    }

    /// C7: removes the records of writers whose tombstone is there. The tombstone stays: only its own writer removes it.
    pub(super) async fn remove_dead_records(&self) -> Result<u64, EngineError> {
        let mut removed_count = 0;
        for writer in self.list_writers().await? {
            let found = match self.store.get(&names::snapshot(&writer.id)).await {
                Ok(found) => found,
                Err(StoreError::NotFound { .. }) => continue,
                Err(error) => return Err(error.into()),
            };
            if self.is_tombstone(writer.id, &found) {
                self.remove_record(&writer.id).await?;
                removed_count += 1;
            }
        }
        Ok(removed_count)
    }
}
