//! Listing and choosing snapshots.
//!
//! Invariant: a snapshot counts only if the owner vouches for its signer, its name is its id, and nothing forgot it.
//! Never here: pages; a snapshot names its roots and nothing below is read.

use std::collections::{HashMap, HashSet};
use std::sync::atomic::Ordering;

use pack::{
    Dead, Forgotten, Frame, PackError, Rewritten, Snapshot, SnapshotBody, SnapshotExtension, SnapshotId,
    SnapshotStructure, Undeleted, names,
};
use seal::{Identity, ObjectKind};
use store::{ObjectInfo, StoreError, StoreTime};

use crate::EngineError;
use crate::keyring::Writes;
use crate::objects::{random, random_seed};
use crate::repository::{Repository, list, open_record, visit_all};

/// How often an object that does not open is read: a bad read is not a bad object.
const READS_MAX: usize = 2;
/// The longest object that is read as a snapshot, in bytes: what a store takes, so that none of ours is left out.
const SNAPSHOT_LEN_MAX: u64 = store::OBJECT_LEN_MAX;

/// How far the time that a snapshot names and the store's time of it may be apart, in nanoseconds: a day.
pub(crate) const TIME_OFF_MAX: i64 = 24 * 60 * 60 * 1_000_000_000;

/// Snapshots, and the names of objects that do not open, with why.
pub(crate) type SnapshotsRead = (Vec<SnapshotInfo>, Vec<(String, PackError)>);

/// Where objects are read that this host has read before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Origin {
    /// Out of the cache.
    Memory,
    /// Again, as the store has them.
    Store,
    /// The same, and this host does not remember that it saw them: they may vanish.
    Passing,
}

/// A snapshot as listed.
#[derive(Debug, Clone)]
pub struct SnapshotInfo {
    /// Its id.
    pub id: SnapshotId,
    /// What it says.
    pub snapshot: Snapshot,
    /// Bytes of its object.
    pub len: u64,
    /// When the store took it: nanoseconds since 1970, by the store's clock.
    pub stored_at: i64,
    /// The owner vouches for who signed it.
    pub trusted: bool,
    /// Who signed it.
    pub signer: Identity,
    /// What it was before it was forgotten and brought back, if it was.
    pub undeleted: Option<Undeleted>,
    /// What it is a copy of, if its key says so.
    pub origin: Option<pack::Origin>,
    /// What it stands in for, if the owner says so.
    pub rewritten: Option<Rewritten>,
    /// The owner signed it.
    pub is_by_owner: bool,
}

/// The names of hidden snapshots, and when they were forgotten by the store's clock.
pub(crate) type Hidden = HashMap<String, StoreTime>;

impl SnapshotInfo {
    /// Whether it says that it began more than a day after the store took it. A stolen key must not have its snapshots taken
    /// for the newest for ever.
    #[must_use]
    pub fn is_of_the_future(&self) -> bool {
        self.snapshot.structure.started_at.saturating_sub(self.first().stored_at) > TIME_OFF_MAX
    }

    /// Who committed its content first, and when the store took that: of one that was brought back or rewritten, the snapshot
    /// that was forgotten.
    pub(crate) fn first(&self) -> Undeleted {
        let own = Undeleted { snapshot: self.id, signer: self.signer, stored_at: self.stored_at };
        let rewritten = self.rewritten.as_ref();
        let rewritten = rewritten.map(|old| Undeleted { signer: old.signer, stored_at: old.stored_at, ..own });
        self.undeleted.or(rewritten).unwrap_or(own)
    }

    /// Bytes that it added to the store when it was made: packs, index segments, and its own object.
    #[must_use]
    pub fn stored_len(&self) -> u64 {
        self.len + self.snapshot.structure.components.iter().map(|component| component.stored_len).sum::<u64>()
    }
}

/// Which snapshots are meant; empty lists mean all.
#[derive(Debug, Clone, Default)]
pub struct SnapshotFilter {
    /// Any of these hosts.
    pub hosts: Vec<String>,
    /// All of these tags.
    pub tags: Vec<String>,
    /// Any of these sources.
    pub sources: Vec<String>,
}

/// Which one of them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Selector {
    /// The newest.
    Latest,
    /// The newest that began at or before this moment: nanoseconds since 1970.
    At(i64),
    /// The one whose id begins so.
    Prefix(String),
}

impl SnapshotFilter {
    /// Whether a snapshot is meant.
    #[must_use]
    pub fn fits(&self, snapshot: &Snapshot) -> bool {
        let structure = &snapshot.structure;
        (self.hosts.is_empty() || self.hosts.contains(&structure.host))
            && (self.sources.is_empty() || self.sources.contains(&structure.source))
            && self.tags.iter().all(|tag| structure.tags.contains(tag))
    }
}

impl Repository {
    /// The snapshots that fit, oldest first. Tombstones and forgotten ones are left out.
    ///
    /// One LIST each of snapshots and of what hides them; snapshots that this host saw come out of the cache.
    ///
    /// A damaged snapshot is warned of and passed over: it must not hide the others. One that this host saw and that is
    /// gone, though nobody forgot it, is warned of too.
    ///
    /// # Errors
    ///
    /// Those of the store.
    pub async fn snapshots(&self, filter: &SnapshotFilter) -> Result<Vec<SnapshotInfo>, EngineError> {
        let (mut found, damaged) = self.read_snapshots().await?;
        let is_newer = |error: &PackError| matches!(error, PackError::Version { .. } | PackError::UnknownEpoch { .. });
        let is_damaged = damaged.iter().any(|(_, error)| !is_newer(error));
        self.passed_over.store(is_damaged, Ordering::Relaxed);
        for (name, error) in damaged {
            tracing::warn!("{name} {error}; it is passed over, and check tells more");
        }
        found.retain(|info| filter.fits(&info.snapshot));
        Ok(found)
    }

    /// Whether the last listing passed over a snapshot that is damaged.
    #[must_use]
    pub fn has_passed_over(&self) -> bool {
        self.passed_over.load(Ordering::Relaxed)
    }

    /// The names of snapshots that somebody whom the owner vouches for has forgotten. Anything else that lies there hides
    /// nothing.
    pub(crate) async fn read_forgotten(&self) -> Result<Hidden, EngineError> {
        let mut hidden = Hidden::new();
        let repository = self.config.repository;
        // Forgotten is for ever, whatever became of the key that did it: as for condemned lists, no time decides.
        let open = |info: &ObjectInfo, bytes: &[u8]| {
            let frame = Frame::decode(bytes, ObjectKind::Forgotten, repository)?;
            let record = Forgotten::open(&frame, |epoch| self.keyring.index_key_of(epoch), repository)?;
            let may_forget = self.keyring.certifies(&frame, Writes::Collection);
            Ok((may_forget && info.name == names::forgotten(&record.snapshot)).then_some(record.snapshot))
        };
        let listed = list(&self.store, names::FORGOTTEN).await?;
        self.drop_notes_but(names::FORGOTTEN, &listed).await?;
        let mut unknown = Vec::new();
        for info in listed {
            let kept = self.cache.note(&info.name).filter(|bytes| bytes.len() as u64 == info.len);
            match kept.and_then(|bytes| open(&info, &bytes).ok().flatten()) {
                Some(snapshot) => drop(hidden.insert(snapshot.to_string(), info.modified_at)),
                None => unknown.push(info),
            }
        }
        let visit = |info: ObjectInfo, read: Result<(Option<SnapshotId>, Vec<u8>), PackError>| {
            match read {
                Ok((Some(snapshot), bytes)) => {
                    self.cache.remember(&info.name, &bytes);
                    hidden.insert(snapshot.to_string(), info.modified_at);
                }
                Ok((None, _)) => tracing::warn!("{} hides nothing: it is not by a key that may forget", info.name),
                Err(error) => tracing::warn!("{} {error}; it hides nothing", info.name),
            }
            Ok(())
        };
        let open = &|info: &ObjectInfo, bytes: &[u8]| Ok((open(info, bytes)?, bytes.to_vec()));
        let read = |info| async move { open_record(&self.store, &info, open).await.map(|found| (info, found)) };
        visit_all(unknown, read, visit).await?;
        Ok(hidden)
    }

    /// Those of `ids` that are forgotten and that a prune has removed by now: who reads one of them finds less and less of it, and
    /// that is no damage. One LIST of snapshots, and what hides them, as a listing of snapshots takes.
    ///
    /// # Errors
    ///
    /// Those of the store.
    pub async fn removed_of(&self, ids: &[SnapshotId]) -> Result<Vec<SnapshotId>, EngineError> {
        let hidden = self.read_forgotten().await?;
        let listed = list(&self.store, names::SNAPSHOTS).await?;
        let there: HashSet<&str> = listed.iter().map(|info| names::last(&info.name)).collect();
        let is_gone = |id: &String| hidden.contains_key(id) && !there.contains(id.as_str());
        Ok(ids.iter().filter(|id| is_gone(&id.to_string())).copied().collect())
    }

    /// Forgets what this host remembers of objects below `prefix` that are not `listed` any more.
    async fn drop_notes_but(&self, prefix: &str, listed: &[ObjectInfo]) -> Result<(), EngineError> {
        let (cache, start) = (self.cache.now(), format!("{prefix}/"));
        let noted = self.offload.start(move || cache.note_names(&start)).await?;
        let there: HashSet<&str> = listed.iter().map(|info| info.name.as_str()).collect();
        let gone =
            self.cache.allow(noted).unwrap_or_default().into_iter().filter(|name| !there.contains(name.as_str()));
        gone.for_each(|name| {
            self.cache.allow(self.cache.now().drop_note(&name));
        });
        Ok(())
    }

    /// Every snapshot, oldest first, and those whose objects are damaged. What this host read before, it remembers.
    pub(crate) async fn read_snapshots(&self) -> Result<SnapshotsRead, EngineError> {
        self.read_snapshots_from(Origin::Memory).await
    }

    /// Every snapshot, oldest first, and those whose objects are damaged.
    pub(crate) async fn read_snapshots_from(&self, origin: Origin) -> Result<SnapshotsRead, EngineError> {
        let (mut found, mut damaged) = (Vec::new(), Vec::new());
        let visit = |name, read| match read {
            Ok(snapshot) => found.push(snapshot),
            Err(error) => damaged.push((name, error)),
        };
        self.visit_snapshots(origin, visit).await?;
        found.sort_by_key(|info| (info.snapshot.structure.started_at, info.id));
        Ok((found, damaged))
    }

    /// Shows every snapshot, or the name of an object that is damaged and why, in no order. Only a few are in memory.
    pub(crate) async fn visit_snapshots(
        &self,
        origin: Origin,
        mut visit: impl FnMut(String, Result<SnapshotInfo, PackError>),
    ) -> Result<(), EngineError> {
        // In this order: prune deletes a snapshot first and what hides it last.
        let hidden = self.read_forgotten().await?;
        let mut listed = list(&self.store, names::SNAPSHOTS).await?;
        self.warn_of_vanished(&listed.iter().map(|info| info.name.as_str()).collect(), &hidden).await?;
        listed.retain(|info| !hidden.contains_key(names::last(&info.name)));
        let show = |info: ObjectInfo, read| {
            visit(info.name, read);
            Ok(())
        };
        let read = |info| async move { self.read_snapshot(&info, origin).await.map(|found| (info, found.transpose())) };
        visit_all(listed, read, show).await
    }

    /// Reads and opens one object; none for a tombstone, and if it is gone. Only what opened is remembered, and what
    /// does not open is read once more.
    pub(crate) async fn read_snapshot(
        &self,
        info: &ObjectInfo,
        origin: Origin,
    ) -> Result<Result<Option<SnapshotInfo>, PackError>, EngineError> {
        if origin == Origin::Memory
            && let Some(bytes) = self.cache.note(&info.name)
            && bytes.len() as u64 == info.len
            && let Ok(found) = self.open_snapshot(info, &bytes)
        {
            return Ok(Ok(found));
        }
        if info.len > SNAPSHOT_LEN_MAX {
            return Ok(Err(PackError::TooLong { len: info.len, len_max: SNAPSHOT_LEN_MAX }));
        }
        let mut wrong = None;
        for _ in 0..READS_MAX {
            let bytes = match self.store.get(&info.name).await {
                Ok(bytes) => bytes,
                Err(StoreError::NotFound { .. }) => return Ok(Ok(None)),
                Err(error) => return Err(error.into()),
            };
            match self.open_snapshot(info, &bytes) {
                Ok(found) => {
                    if origin != Origin::Passing {
                        self.cache.remember(&info.name, &bytes);
                    }
                    return Ok(Ok(found));
                }
                Err(error) => wrong = Some(error),
            }
        }
        Ok(wrong.map_or(Ok(None), Err))
    }

    /// Opens a snapshot's object; none for a tombstone.
    fn open_snapshot(&self, info: &ObjectInfo, bytes: &[u8]) -> Result<Option<SnapshotInfo>, PackError> {
        let repository = self.config.repository;
        let wrong_name = PackError::Inconsistent { what: "its name is not an id" };
        let id = SnapshotId::from_hex(names::last(&info.name)).ok_or(wrong_name)?;
        if self.is_tombstone(id, bytes) {
            return Ok(None);
        }
        let frame = Frame::decode(bytes, ObjectKind::SnapshotStructure, repository)?;
        let keys = |epoch| {
            let index = self.keyring.index_key_of(epoch)?;
            Some((index, self.keyring.exchange_of(epoch).cloned()))
        };
        let snapshot = Snapshot::open(&frame, id, keys, repository)?;
        if !self.keyring.is_of(&frame, snapshot.structure.domain) {
            return Err(PackError::Inconsistent { what: "of another domain than its signer" });
        }
        let trusted = self.keyring.believes(&frame, Writes::Content, info.modified_at);
        let (len, stored_at) = (info.len, info.modified_at.as_nanos());
        let (signer, is_by_owner) = (frame.signer, frame.signer == self.keyring.secrets.owner);
        let SnapshotExtension { undeleted, origin, rewritten, .. } = snapshot.structure.extended();
        let (undeleted, rewritten) = if is_by_owner { (undeleted, rewritten) } else { (None, None) };
        Ok(Some(SnapshotInfo {
            id,
            snapshot,
            len,
            stored_at,
            trusted,
            signer,
            is_by_owner,
            undeleted,
            origin,
            rewritten,
        }))
    }

    /// The object of a snapshot, sealed to the newest epoch.
    pub(crate) fn encode_snapshot(
        &self,
        structure: &SnapshotStructure,
        body: &SnapshotBody,
    ) -> Result<Vec<u8>, EngineError> {
        let (epoch, key) = (self.keyring.sealing()?, self.keyring.index_key()?);
        let (salt, seed) = (random(&self.env), random_seed(&self.env));
        let repository = self.config.repository;
        Snapshot::encode(structure, body, epoch, &key, salt, seed, &self.keyring.signer(), repository)
            .map_err(EngineError::object(names::snapshot(&structure.id)))
    }

    /// Whether a collector that the owner ever vouched for declared this very writer dead. Anything else is no tombstone:
    /// a damaged or forged one must not hide a snapshot.
    pub(crate) fn is_tombstone(&self, id: SnapshotId, bytes: &[u8]) -> bool {
        let repository = self.config.repository;
        let Ok(frame) = Frame::decode(bytes, ObjectKind::Dead, repository) else { return false };
        let dead = Dead::open(&frame, |epoch| self.keyring.index_key_of(epoch), repository);
        dead.is_ok_and(|dead| dead.writer == id) && self.keyring.certifies(&frame, Writes::Collection)
    }

    /// The one snapshot that is meant.
    ///
    /// # Errors
    ///
    /// [`EngineError::NoSnapshot`] or [`EngineError::Ambiguous`]; else as [`Repository::snapshots`].
    pub async fn select(&self, selector: &Selector, filter: &SnapshotFilter) -> Result<SnapshotInfo, EngineError> {
        let found = self.snapshots(filter).await?;
        let mut trusted = found.iter().rev().filter(|info| info.trusted);
        let none = |what: String| EngineError::NoSnapshot { what };
        match selector {
            Selector::Latest => {
                trusted.find(|info| !info.is_of_the_future()).cloned().ok_or_else(|| none("fits".into()))
            }
            Selector::At(at) => {
                let mut before = trusted.filter(|info| info.snapshot.structure.started_at <= *at);
                before.next().cloned().ok_or_else(|| none("is that old".into()))
            }
            Selector::Prefix(prefix) => {
                let fits: Vec<_> = found.iter().filter(|info| info.id.to_string().starts_with(prefix)).collect();
                match fits.as_slice() {
                    [one] => Ok((*one).clone()),
                    [] => Err(none(format!("has an id beginning with {prefix}"))),
                    several => {
                        let examples = several.iter().take(4).map(|info| info.id.to_string()).collect::<Vec<_>>();
                        Err(EngineError::Ambiguous {
                            what: prefix.clone(),
                            count: several.len(),
                            examples: examples.join(", "),
                        })
                    }
                }
            }
        }
    }
}
