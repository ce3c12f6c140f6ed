//! Which snapshots have what is to be removed, and how much of it.
//!
//! Invariant: nothing is done; what could not be looked into is told, and never counts as free of it.
//! Never here: rewriting.

use std::collections::HashMap;

use futures::TryStreamExt;
use pack::manifest::EntryKind;
use pack::{Component, ComponentState, SnapshotId};

use crate::entries::{Scope, entries_of};
use crate::fetch::Fetcher;
use crate::repository::Repository;
use crate::rewrite::Removal;
use crate::{EngineError, Kind, SnapshotFilter, SnapshotInfo};

/// A snapshot that has what is to be removed, or is to be hidden because another one stands in for it.
#[derive(Debug, Clone)]
pub struct Affected {
    /// The snapshot.
    pub info: SnapshotInfo,
    /// Entries that are removed from it.
    pub entry_count: u64,
    /// Bytes of their content.
    pub content_len: u64,
    /// Removed files that have further names: their content stays under those which are not removed.
    pub linked_count: u64,
    /// Nothing of it would be left: it is hidden, and nothing stands in for it.
    pub is_emptied: bool,
    /// It was rewritten already and only has to be hidden.
    pub superseded_by: Option<SnapshotId>,
}

/// What a rewrite will do.
#[derive(Debug)]
pub struct RewritePlan {
    /// What will be rewritten, the oldest first.
    pub affected: Vec<Affected>,
    /// What was looked into, all in all.
    pub looked_count: usize,
    /// What has it and is not rewritten, because its key was removed.
    pub untrusted: Vec<SnapshotInfo>,
    /// What could not be looked into, and why.
    pub unclear: Vec<(SnapshotInfo, EngineError)>,
}

impl Repository {
    /// Looks which snapshots have what is to be removed: of `named`, or of those that fit the filter. Reads their pages.
    ///
    /// # Errors
    ///
    /// [`EngineError::Role`] for other keys than the owner's; those of the store.
    pub async fn plan_rewrite(
        &self,
        removal: &Removal,
        filter: &SnapshotFilter,
        named: &[SnapshotId],
    ) -> Result<RewritePlan, EngineError> {
        self.may_rewrite()?;
        let all = self.snapshots(&SnapshotFilter::default()).await?;
        let superseded = superseded(&all);
        let is_meant = |info: &SnapshotInfo| match named.is_empty() {
            true => filter.fits(&info.snapshot),
            false => named.contains(&info.id),
        };
        let fetcher = self.fetcher().await?;
        let (affected, untrusted, unclear) = (Vec::new(), Vec::new(), Vec::new());
        let mut plan = RewritePlan { affected, looked_count: 0, untrusted, unclear };
        for info in all.iter().filter(|info| is_meant(info)) {
            plan.looked_count += 1;
            let found = match look(&fetcher, info, removal).await {
                Ok(found) => found,
                Err(error) if error.kind() == Kind::Damaged => {
                    plan.unclear.push((info.clone(), error));
                    continue;
                }
                Err(error) => return Err(error),
            };
            let superseded_by = superseded.get(&info.id).copied();
            match found {
                Some(_) if !info.trusted => plan.untrusted.push(info.clone()),
                Some(found) => plan.affected.push(Affected { superseded_by, ..found }),
                None => {}
            }
        }
        Ok(plan)
    }
}

/// The snapshots for which another one stands in that the owner wrote.
fn superseded(all: &[SnapshotInfo]) -> HashMap<SnapshotId, SnapshotId> {
    let pairs = all.iter().filter(|info| info.trusted).flat_map(|info| {
        let from = info.rewritten.iter().flat_map(|rewritten| &rewritten.from);
        from.map(|from| (*from, info.id))
    });
    pairs.collect()
}

/// What of a snapshot would be removed; none if it has nothing of it.
async fn look(fetcher: &Fetcher, info: &SnapshotInfo, removal: &Removal) -> Result<Option<Affected>, EngineError> {
    let components = &info.snapshot.structure.components;
    let mut found = Affected {
        info: info.clone(),
        entry_count: 0,
        content_len: 0,
        linked_count: 0,
        is_emptied: components.iter().all(|component| removal.takes(component)),
        superseded_by: None,
    };
    let mut is_affected = false;
    for component in components {
        is_affected |= removal.takes(component);
        if removal.takes(component) {
            found.entry_count += component.entry_count;
            found.content_len = found.content_len.saturating_add(component.content_len);
        }
        for scope in removal.scopes() {
            is_affected |= count(fetcher, component, scope, &mut found).await?;
        }
    }
    Ok(is_affected.then_some(found))
}

/// Adds what a component has in a scope; whether it has anything.
async fn count(
    fetcher: &Fetcher,
    component: &Component,
    scope: Scope,
    found: &mut Affected,
) -> Result<bool, EngineError> {
    let root = component.root.filter(|_| component.state != ComponentState::Failed);
    let mut entries = entries_of(fetcher.clone(), root, scope);
    let before = found.entry_count;
    while let Some(full) = entries.try_next().await? {
        found.entry_count += 1;
        if let EntryKind::File { len } = full.entry.kind {
            found.content_len = found.content_len.saturating_add(len);
        }
        found.linked_count += u64::from(full.entry.links > 1);
    }
    Ok(found.entry_count > before)
}
