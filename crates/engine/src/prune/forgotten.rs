//! Removing forgotten snapshots for good.
//!
//! ```text
//! is the writer's record gone? ─► read snapshots/<id> ─► a snapshot: delete it ─► forgotten/<id>, a month later
//!                   │                      └ a tombstone: it stays, and only forgotten/<id> goes
//!                   └ no: it may commit, or commit again: both stay
//! ```
//!
//! What hides a snapshot stays for a month, so that hosts which saw the snapshot learn that it was let go. Before that goes, so does what
//! held the snapshot.
//!
//! Invariant: what hides a snapshot is removed only when neither the snapshot nor its writer's record is there.
//! Invariant: no tombstone is removed here.
//! Never here: deciding what is forgotten.

use std::collections::HashSet;
use std::time::Duration;

use pack::{Frame, SnapshotId, names};
use seal::ObjectKind;
use store::{StoreError, StoreTime};

use super::report::PruneReport;
use crate::EngineError;
use crate::repository::{Repository, list};

/// How long what hides a snapshot stays after that.
const KEPT_FOR: Duration = Duration::from_secs(30 * 24 * 60 * 60);

/// Forgotten snapshots that are there.
#[derive(Default)]
pub(super) struct ForgottenSnapshots {
    pub(super) removable: Vec<SnapshotId>,
    pub(super) unended_count: u64,
    /// The newest of the store's times that was seen.
    pub(super) newest_at: Option<StoreTime>,
}

impl Repository {
    /// Which forgotten snapshots may be removed.
    pub(super) async fn removable_snapshots(&self) -> Result<ForgottenSnapshots, EngineError> {
        let forgotten = self.read_forgotten().await?;
        // First the records, then the snapshots: a writer that ends in between has committed before.
        let writers = self.list_writers().await?;
        let times = forgotten.values().copied().chain(writers.iter().map(|writer| writer.seen_at));
        let mut found = ForgottenSnapshots { newest_at: times.max(), ..ForgottenSnapshots::default() };
        let writers: HashSet<SnapshotId> = writers.iter().map(|writer| writer.id).collect();
        for info in list(&self.store, names::SNAPSHOTS).await? {
            found.newest_at = found.newest_at.max(Some(info.modified_at));
            let Some(id) = SnapshotId::from_hex(names::last(&info.name)) else { continue };
            if !forgotten.contains_key(&id.to_string()) {
                continue;
            }
            if writers.contains(&id) {
                found.unended_count += 1;
            } else {
                found.removable.push(id);
            }
        }
        Ok(found)
    }

    /// Removes snapshots that a plan named, and what hid others for long enough; `at` is the store's time.
    pub(super) async fn remove_forgotten(
        &self,
        planned: &[SnapshotId],
        at: StoreTime,
        report: &mut PruneReport,
    ) -> Result<(), EngineError> {
        let forgotten = self.read_forgotten().await?;
        let writers: HashSet<SnapshotId> = self.list_writers().await?.iter().map(|writer| writer.id).collect();
        let there: HashSet<String> =
            list(&self.store, names::SNAPSHOTS).await?.into_iter().map(|info| info.name).collect();
        for id in planned.iter().filter(|id| forgotten.contains_key(&id.to_string()) && !writers.contains(id)) {
            let name = names::snapshot(id);
            if !there.contains(&name) {
                continue;
            }
            match self.store.get(&name).await {
                // It keeps its writer from committing, and hides nothing. One bad read does not make a snapshot of it.
                Ok(bytes) if self.is_tombstone(*id, &bytes) => {
                    self.store.delete(&names::forgotten(id)).await?;
                }
                Ok(bytes) if !self.is_commit(&bytes) && self.is_tombstone_after_all(*id, &name).await => {}
                Ok(_) => {
                    self.store.delete(&name).await?;
                    report.snapshots_removed += 1;
                }
                Err(StoreError::NotFound { .. }) => {}
                Err(error) => return Err(error.into()),
            }
        }
        let old = forgotten.iter().filter(|(_, since)| at.since(**since) >= KEPT_FOR);
        let old: Vec<SnapshotId> = old.filter_map(|(id, _)| SnapshotId::from_hex(id)).collect();
        for id in old.iter().filter(|id| !writers.contains(id)) {
            if self.store.head(&names::snapshot(id)).await?.is_none() {
                self.remove_holds(id).await?;
                self.store.delete(&names::forgotten(id)).await?;
            }
        }
        Ok(())
    }

    fn is_commit(&self, bytes: &[u8]) -> bool {
        Frame::decode(bytes, ObjectKind::SnapshotStructure, self.config.repository).is_ok()
    }

    async fn is_tombstone_after_all(&self, id: SnapshotId, name: &str) -> bool {
        self.store.get(name).await.is_ok_and(|bytes| self.is_tombstone(id, &bytes))
    }

    /// Removes what held a snapshot, which is gone for good.
    async fn remove_holds(&self, id: &SnapshotId) -> Result<(), EngineError> {
        for info in list(&self.store, &format!("{}/{id}", names::HOLDS)).await? {
            self.store.delete(&info.name).await?;
        }
        Ok(())
    }
}
