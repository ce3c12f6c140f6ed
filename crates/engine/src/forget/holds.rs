//! Holds: snapshots that are not to be forgotten, because somebody said so after the backup.
//!
//! ```text
//! holds/<snapshot>/<id>   holds the snapshot, lifts other records of it, or both
//! in force                believed, lifted by no believed one, and its time not over
//! ```
//!
//! The keep-until that a snapshot was committed with counts as a record under the snapshot's own id, which the owner alone
//! lifts.
//!
//! Invariant: a record is lifted for ever by being named, so no clock and no order of listings decides.
//! Invariant: a record that cannot be read holds and lifts nothing.
//! Never here: forgetting. Who may forget could leave holds out of account: they stop policies and mistakes, not thieves.

use std::collections::{BTreeMap, HashSet};

use futures::{StreamExt, TryStreamExt, stream};
use jiff::Timestamp;
use pack::{Frame, Hold, HoldEffect, HoldId, PackError, Role, SnapshotId, names};
use seal::ObjectKind;
use store::ObjectInfo;

use super::AT_ONCE_MAX;
use crate::keyring::Writes;
use crate::objects::{create, random};
use crate::repository::{Repository, open_all};
use crate::{EngineError, SnapshotInfo};

/// How long a snapshot is held, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Held {
    /// Nanoseconds since 1970; none until it is lifted.
    pub until: Option<i64>,
    /// What was said about it; empty if nothing was.
    pub reason: String,
}

/// A record that holds a snapshot.
#[derive(Debug, Clone)]
struct Holder {
    id: HoldId,
    held: Held,
}

/// What holds the snapshots of a repository, as of one moment.
#[derive(Debug, Clone, Default)]
pub struct Holds {
    by_snapshot: BTreeMap<SnapshotId, Vec<Holder>>,
    /// The records in force that cannot be read, and why.
    unreadable: Vec<(String, String)>,
    /// Snapshots whose own keep-until was lifted.
    own_lifted: HashSet<SnapshotId>,
}

impl Holds {
    /// How long a snapshot is held from `now` on; none if it is not. The longest counts.
    #[must_use]
    pub fn of(&self, info: &SnapshotInfo, now: Timestamp) -> Option<Held> {
        let own = info.snapshot.structure.keep_until.filter(|_| !self.own_lifted.contains(&info.id));
        let own = own.map(|until| Held { until: Some(until), reason: String::new() });
        let set = self.by_snapshot.get(&info.id).into_iter().flatten().map(|holder| holder.held.clone());
        let all = set.chain(own).filter(|held| held.until.is_none_or(|until| i128::from(until) > now.as_nanosecond()));
        all.max_by_key(|held| held.until.unwrap_or(i64::MAX))
    }

    /// The snapshots that records hold, or held until a time that may have come.
    pub(crate) fn snapshots(&self) -> impl Iterator<Item = SnapshotId> {
        self.by_snapshot.keys().copied()
    }

    /// The names of records that hold their snapshots although they cannot be read, and what is wrong with them.
    pub(crate) fn unreadable(&self) -> &[(String, String)] {
        &self.unreadable
    }

    /// The records that hold a snapshot, to be lifted.
    fn records_of(&self, snapshot: SnapshotId) -> Vec<HoldId> {
        self.by_snapshot.get(&snapshot).into_iter().flatten().map(|holder| holder.id).collect()
    }

    /// What is left in force of all that was read.
    fn settled(found: Vec<Found>) -> Self {
        let mut lifted: HashSet<(SnapshotId, HoldId)> = HashSet::new();
        for record in &found {
            let own = HoldId(record.snapshot.0);
            let may_lift = record.lifts.iter().filter(|id| record.is_owners || **id != own);
            lifted.extend(may_lift.map(|id| (record.snapshot, *id)));
        }
        let own_lifted = lifted.iter().filter(|(snapshot, id)| snapshot.0 == id.0).map(|(snapshot, _)| *snapshot);
        let mut holds = Self { own_lifted: own_lifted.collect(), ..Self::default() };
        for record in found {
            if let Some(wrong) = record.wrong.filter(|_| !lifted.contains(&(record.snapshot, record.id))) {
                holds.unreadable.push((names::hold(&record.snapshot, &record.id), wrong));
            }
            if let Some(held) = record.held.filter(|_| !lifted.contains(&(record.snapshot, record.id))) {
                let holder = Holder { id: record.id, held };
                holds.by_snapshot.entry(record.snapshot).or_default().push(holder);
            }
        }
        holds
    }
}

/// A record as read.
struct Found {
    id: HoldId,
    snapshot: SnapshotId,
    held: Option<Held>,
    lifts: Vec<HoldId>,
    is_owners: bool,
    /// Why it cannot be read.
    wrong: Option<String>,
}

impl Found {
    fn new(record: Hold, is_owners: bool) -> Self {
        let held = match record.effect {
            HoldEffect::None => None,
            HoldEffect::UntilLifted => Some(Held { until: None, reason: record.reason }),
            HoldEffect::Until(until) => Some(Held { until: Some(until), reason: record.reason }),
        };
        Self { id: record.hold, snapshot: record.snapshot, held, lifts: record.lifts, is_owners, wrong: None }
    }

    /// What lies under the name of a record and cannot be read; none if the name is no record's.
    fn unreadable(name: &str, wrong: String) -> Option<Self> {
        let (folder, id) = name.rsplit_once('/')?;
        let (id, snapshot) = (HoldId::from_hex(id)?, SnapshotId::from_hex(names::last(folder))?);
        let held = Some(Held { until: None, reason: "by a record that cannot be read".to_owned() });
        Some(Self { id, snapshot, held, lifts: Vec::new(), is_owners: false, wrong: Some(wrong) })
    }
}

impl Repository {
    /// What holds snapshots. One LIST, and the records that there are.
    ///
    /// # Errors
    ///
    /// Those of the store.
    pub async fn holds(&self) -> Result<Holds, EngineError> {
        let holds = self.read_holds().await?;
        for (name, error) in holds.unreadable() {
            tracing::warn!("{name} {error}; it holds its snapshot until it is lifted");
        }
        Ok(holds)
    }

    /// The same, for who tells of records that cannot be read.
    pub(crate) async fn read_holds(&self) -> Result<Holds, EngineError> {
        let open = |info: &ObjectInfo, bytes: &[u8]| self.open_hold(&info.name, bytes);
        let mut found = Vec::new();
        for (info, opened) in open_all(&self.store, names::HOLDS, open).await? {
            match opened {
                Ok(record) => found.extend(record),
                Err(error) => found.extend(Found::unreadable(&info.name, error.to_string())),
            }
        }
        Ok(Holds::settled(found))
    }

    /// None if its signer may hold nothing, or if it lies under another name than its own.
    fn open_hold(&self, name: &str, bytes: &[u8]) -> Result<Option<Found>, PackError> {
        let repository = self.config.repository;
        let frame = Frame::decode(bytes, ObjectKind::Hold, repository)?;
        let record = Hold::open(&frame, |epoch| self.keyring.index_key_of(epoch), repository)?;
        let is_believed = self.keyring.certifies(&frame, Writes::Collection);
        let is_named = name == names::hold(&record.snapshot, &record.hold);
        if !is_believed || !is_named {
            tracing::warn!("{name} holds nothing: it is not by a key that may hold, or is another's");
            return Ok(None);
        }
        Ok(Some(Found::new(record, frame.signer == self.keyring.secrets.owner)))
    }

    /// Holds snapshots until `until`, or until that is lifted. What held them before goes on holding them.
    ///
    /// # Errors
    ///
    /// [`EngineError::Role`] if this key may not hold; [`EngineError::NoSnapshot`] if one was forgotten meanwhile; those of
    /// the store.
    pub async fn hold(&self, snapshots: &[SnapshotId], until: Option<i64>, reason: &str) -> Result<(), EngineError> {
        self.keyring.require(&[Role::Owner, Role::Maintenance], "hold snapshots")?;
        let effect = until.map_or(HoldEffect::UntilLifted, HoldEffect::Until);
        self.put_holds(snapshots.iter().map(|id| (*id, effect, Vec::new())), reason).await?;
        // A forget that was planned before this may have come first.
        let hidden = self.read_forgotten().await?;
        match snapshots.iter().find(|id| hidden.contains_key(&id.to_string())) {
            Some(id) => Err(EngineError::NoSnapshot { what: format!("{id} is left to hold: it was just forgotten") }),
            None => Ok(()),
        }
    }

    /// Lifts all that holds these snapshots; of the keep-until that they were committed with, only if `also_own`.
    ///
    /// # Errors
    ///
    /// [`EngineError::Role`] if this key may not lift that; those of the store.
    pub async fn lift_holds(&self, snapshots: &[SnapshotId], also_own: bool) -> Result<(), EngineError> {
        let may: &'static [Role] = if also_own { &[Role::Owner] } else { &[Role::Owner, Role::Maintenance] };
        let what = if also_own { "lift the keep-until of a backup" } else { "lift holds" };
        self.keyring.require(may, what)?;
        let holds = self.holds().await?;
        let lifts = snapshots.iter().map(|id| {
            let own = also_own.then_some(HoldId(id.0)).filter(|_| !holds.own_lifted.contains(id));
            (*id, holds.records_of(*id).into_iter().chain(own).collect::<Vec<_>>())
        });
        let lifts = lifts.filter(|(_, lifts)| !lifts.is_empty());
        self.put_holds(lifts.map(|(id, lifts)| (id, HoldEffect::None, lifts)), "").await
    }

    /// Holds `new` as `old` is held, and lifts its keep-until if that of `old` was lifted. Doing it again changes nothing.
    pub(crate) async fn carry_holds(&self, old: SnapshotId, new: SnapshotId) -> Result<(), EngineError> {
        let holds = self.holds().await?;
        let of = |id| holds.by_snapshot.get(&id).map_or(&[][..], Vec::as_slice);
        let missing = of(old).iter().filter(|holder| of(new).iter().all(|other| other.held != holder.held));
        for Holder { held, .. } in missing {
            let effect = held.until.map_or(HoldEffect::UntilLifted, HoldEffect::Until);
            self.put_holds(std::iter::once((new, effect, Vec::new())), &held.reason).await?;
        }
        if holds.own_lifted.contains(&old) && !holds.own_lifted.contains(&new) {
            self.put_holds(std::iter::once((new, HoldEffect::None, vec![HoldId(new.0)])), "").await?;
        }
        Ok(())
    }

    async fn put_holds(
        &self,
        records: impl Iterator<Item = (SnapshotId, HoldEffect, Vec<HoldId>)>,
        reason: &str,
    ) -> Result<(), EngineError> {
        let records = records.map(|(snapshot, effect, lifts)| {
            let hold = HoldId(random(&self.env));
            Hold { hold, snapshot, effect, lifts, reason: reason.to_owned(), extension: Vec::new() }
        });
        let put = |record: Hold| async move {
            let name = names::hold(&record.snapshot, &record.hold);
            let bytes = self.seal(&name, |key, epoch, salt, signer, repository| {
                record.encode(key, epoch, salt, signer, repository)
            })?;
            match create(&*self.store, &name, bytes).await? {
                true => Ok(()),
                false => Err(EngineError::Request { what: format!("{name} is there already; random ids repeat") }),
            }
        };
        stream::iter(records.map(put)).buffer_unordered(AT_ONCE_MAX).try_collect().await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SNAPSHOT: SnapshotId = SnapshotId([5; 16]);

    fn found(id: u8, until: Option<i64>, lifts: &[u8], is_owners: bool) -> Found {
        let held = (id < 100).then(|| Held { until, reason: format!("hold {id}") });
        let lifts = lifts.iter().map(|id| HoldId([*id; 16])).collect();
        Found { id: HoldId([id; 16]), snapshot: SNAPSHOT, held, lifts, is_owners, wrong: None }
    }

    fn in_force(records: Vec<Found>) -> Vec<String> {
        let holds = Holds::settled(records);
        holds.by_snapshot.values().flatten().map(|holder| holder.held.reason.clone()).collect()
    }

    #[test]
    fn record_is_lifted_by_being_named_in_whatever_order_they_are_listed() {
        let records =
            || vec![found(1, None, &[], false), found(2, Some(9), &[1], false), found(100, None, &[2], false)];
        assert_eq!(in_force(records()), Vec::<String>::new());
        assert_eq!(in_force(records().into_iter().rev().collect()), Vec::<String>::new());
        assert_eq!(in_force(records().into_iter().take(2).collect()), ["hold 2"]);
    }

    #[test]
    fn keep_until_of_the_snapshot_itself_is_lifted_by_the_owner_alone() {
        let lifted = |is_owners| Holds::settled(vec![found(100, None, &[5], is_owners)]).own_lifted.len();
        assert_eq!((lifted(true), lifted(false)), (1, 0));
    }

    #[test]
    fn record_that_cannot_be_read_holds_until_it_is_lifted() {
        let name = names::hold(&SNAPSHOT, &HoldId([7; 16]));
        let unreadable = || Found::unreadable(&name, "is cut".to_owned()).expect("a record's name");
        assert_eq!(in_force(vec![unreadable()]), ["by a record that cannot be read"]);
        assert_eq!(in_force(vec![unreadable(), found(100, None, &[7], false)]), Vec::<String>::new());
        assert_eq!(Holds::settled(vec![unreadable()]).unreadable(), [(name.clone(), "is cut".to_owned())]);
        assert!(Holds::settled(vec![unreadable(), found(100, None, &[7], false)]).unreadable().is_empty());
        assert!(Found::unreadable("holds/README", String::new()).is_none());
    }
}
