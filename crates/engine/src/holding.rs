//! Choosing the newest snapshot that holds a path or a component: where several sources are backed up, the newest of all may
//! be another's, or one of them failed in it.
//!
//! Invariant: the newest is looked into first; an older one is taken only where nothing newer holds what is wanted.
//! Invariant: for a component that failed, only another snapshot of the same host and source stands in.
//! Invariant: of each source, at most [`MISSES_MAX`] snapshots in a row are looked into.
//! Never here: filters (see `snapshots`).

use std::collections::HashMap;

use futures::TryStreamExt;

use pack::ComponentState;

use crate::repository::Repository;
use crate::{EngineError, Kind, Selector, SnapshotFilter, SnapshotInfo};

/// Snapshots of one source on one host that may lack the path before the source is passed over, as a count.
const MISSES_MAX: usize = 30;

/// What a snapshot has to hold.
#[derive(Debug, Clone, Copy, Default)]
pub struct Part<'p> {
    /// The path within it; empty for all of it.
    pub path: &'p [u8],
    /// A component that must not have failed; none for all that there are.
    pub component: Option<&'p str>,
}

/// A snapshot that was chosen.
#[derive(Debug)]
pub struct Chosen {
    /// It.
    pub snapshot: SnapshotInfo,
    /// The newest that was meant, where that does not hold what is wanted.
    pub passed_over: Option<SnapshotInfo>,
}

impl Repository {
    /// The snapshot that is meant. By [`Selector::Latest`] and [`Selector::At`], the newest that holds `part`, if one does.
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
        part: Part<'_>,
    ) -> Result<Chosen, EngineError> {
        let newest = self.select(selector, filter).await?;
        if matches!(selector, Selector::Prefix(_)) || self.seems_to_hold(&newest, part).await? {
            return Ok(Chosen { snapshot: newest, passed_over: None });
        }
        let moment = |info: &SnapshotInfo| (info.snapshot.structure.started_at, info.id);
        let older = self.snapshots(filter).await?.into_iter().rev();
        let older = older.filter(|info| info.trusted && moment(info) < moment(&newest));
        let has_failed = |info: &SnapshotInfo| part.component.is_some_and(|name| info.has_failed(name));
        let mut only_of = has_failed(&newest).then(|| place_of(&newest));
        let mut misses = HashMap::from([(place_of(&newest), 1)]);
        for snapshot in older {
            if only_of.as_ref().is_some_and(|place| *place != place_of(&snapshot)) {
                continue;
            }
            if has_failed(&snapshot) {
                only_of = Some(place_of(&snapshot));
                continue;
            }
            let missed = misses.entry(place_of(&snapshot)).or_default();
            if *missed >= MISSES_MAX {
                continue;
            }
            if self.seems_to_hold(&snapshot, part).await? {
                return Ok(Chosen { snapshot, passed_over: Some(newest) });
            }
            *missed += 1;
        }
        Ok(Chosen { snapshot: newest, passed_over: None })
    }

    /// The newest snapshot of the same host and source in which this component did not fail; none if there is none.
    ///
    /// # Errors
    ///
    /// As [`Repository::snapshots`].
    pub async fn newest_with(&self, of: &SnapshotInfo, component: &str) -> Result<Option<SnapshotInfo>, EngineError> {
        let structure = &of.snapshot.structure;
        let (hosts, sources) = (vec![structure.host.clone()], vec![structure.source.clone()]);
        let found = self.snapshots(&SnapshotFilter { hosts, sources, tags: Vec::new() }).await?;
        let has = |info: &SnapshotInfo| info.trusted && !info.is_of_the_future() && info.has_component(component);
        Ok(found.into_iter().rev().find(has))
    }

    /// Whether a snapshot has the component, and something at the path. True also where damage or this key's role hides that: whatever is done
    /// with the snapshot then says so.
    ///
    /// # Errors
    ///
    /// Those of the store.
    pub async fn seems_to_hold(&self, snapshot: &SnapshotInfo, part: Part<'_>) -> Result<bool, EngineError> {
        if part.component.is_some_and(|name| !snapshot.has_component(name)) {
            return Ok(false);
        }
        if part.path.is_empty() {
            return Ok(true);
        }
        let looked = async { self.entries(snapshot, part.path).await?.try_next().await };
        match looked.await {
            Ok(first) => Ok(first.is_some()),
            Err(error) if error.kind() == Kind::Damaged || matches!(error, EngineError::Role { .. }) => Ok(true),
            Err(error) => Err(error),
        }
    }
}

impl SnapshotInfo {
    fn state_of(&self, component: &str) -> Option<ComponentState> {
        let components = &self.snapshot.structure.components;
        components.iter().find(|other| other.name == component).map(|found| found.state)
    }

    /// Whether the component is in the snapshot, but nothing of it.
    #[must_use]
    pub fn has_failed(&self, component: &str) -> bool {
        self.state_of(component) == Some(ComponentState::Failed)
    }

    /// Whether the component is in the snapshot and did not fail.
    fn has_component(&self, component: &str) -> bool {
        self.state_of(component).is_some_and(|state| state != ComponentState::Failed)
    }
}

fn place_of(info: &SnapshotInfo) -> (String, String) {
    let structure = &info.snapshot.structure;
    (structure.host.clone(), structure.source.clone())
}
