//! Choosing the newest snapshot that holds a path: where several sources are backed up, the newest of all may be another's.
//!
//! Invariant: the newest is looked into first; an older one is taken only where nothing newer holds the path.
//! Invariant: of each source, at most [`MISSES_MAX`] snapshots in a row are looked into.
//! Never here: filters (see `snapshots`).

use std::collections::HashMap;

use futures::TryStreamExt;

use crate::repository::Repository;
use crate::{EngineError, Kind, Selector, SnapshotFilter, SnapshotInfo};

/// Snapshots of one source on one host that may lack the path before the source is passed over, as a count.
const MISSES_MAX: usize = 30;

/// A snapshot that was chosen.
#[derive(Debug)]
pub struct Chosen {
    /// It.
    pub snapshot: SnapshotInfo,
    /// The newest that was meant, where that has nothing at the path.
    pub passed_over: Option<SnapshotInfo>,
}

impl Repository {
    /// The snapshot that is meant. By [`Selector::Latest`] and [`Selector::At`], the newest that holds `path`, if one does.
    ///
    /// Costs the pages that lead to the path, of each snapshot that is looked into.
    ///
    /// # Errors
    ///
    /// As [`Repository::select`]; those of the store.
    pub async fn select_holding(
        &self,
        selector: &Selector,
        filter: &SnapshotFilter,
        path: &[u8],
    ) -> Result<Chosen, EngineError> {
        let newest = self.select(selector, filter).await?;
        if path.is_empty() || matches!(selector, Selector::Prefix(_)) || self.seems_to_hold(&newest, path).await? {
            return Ok(Chosen { snapshot: newest, passed_over: None });
        }
        let moment = |info: &SnapshotInfo| (info.snapshot.structure.started_at, info.id);
        let older = self.snapshots(filter).await?.into_iter().rev();
        let older = older.filter(|info| info.trusted && moment(info) < moment(&newest));
        let mut misses = HashMap::from([(place_of(&newest), 1)]);
        for snapshot in older {
            let missed = misses.entry(place_of(&snapshot)).or_default();
            if *missed >= MISSES_MAX {
                continue;
            }
            if self.seems_to_hold(&snapshot, path).await? {
                return Ok(Chosen { snapshot, passed_over: Some(newest) });
            }
            *missed += 1;
        }
        Ok(Chosen { snapshot: newest, passed_over: None })
    }

    /// Whether a snapshot has something at `path`. True also where damage or this key's role hides that: whatever is done
    /// with the snapshot then says so.
    async fn seems_to_hold(&self, snapshot: &SnapshotInfo, path: &[u8]) -> Result<bool, EngineError> {
        let looked = async { self.entries(snapshot, path).await?.try_next().await };
        match looked.await {
            Ok(first) => Ok(first.is_some()),
            Err(error) if error.kind() == Kind::Damaged || matches!(error, EngineError::Role { .. }) => Ok(true),
            Err(error) => Err(error),
        }
    }
}

fn place_of(info: &SnapshotInfo) -> (String, String) {
    let structure = &info.snapshot.structure;
    (structure.host.clone(), structure.source.clone())
}
