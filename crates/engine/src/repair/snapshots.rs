//! `repair snapshots`: what is left of a snapshot that misses content, as a snapshot of its own.
//!
//! ```text
//! snapshot ─► entries ─ everything below can be had ─► stays     ─► new pages ─► new snapshot, partial, (W1 to W6)
//!                     └ something is lost           ─► is named                 the old one stays, or is hidden
//! pages that only this host remembers, and what a prune is moving ─► stored again
//! ```
//!
//! The new one says of each component what it lacks, and in a fact of which snapshot it is what is left. So a repair finds
//! what it did before and does it once.
//!
//! Invariant: the old snapshot is hidden only on request, and only after the new one was committed.
//! Invariant: only what no place, no segment and no trailer gives counts as lost.
//! Invariant: a new snapshot holds as many entries as the plan says, or is not committed.
//! Invariant: the owner signs nothing that only a removed key vouches for.
//! Never here: damaged packs and segments, which are repaired first.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use futures::{StreamExt, TryStreamExt};
use jiff::Zoned;
use pack::manifest::ChildKind;
use pack::{Component, ComponentState, Role, Snapshot, SnapshotBody, SnapshotId, SnapshotState, names};
use seal::ChunkId;
use tokio_util::sync::CancellationToken;

use super::Told;
use crate::backup::Remaking;
use crate::check::Losses;
use crate::entries::{FullEntry, Scope, entries_of, entry_pages, pages_and_leaves};
use crate::fetch::Fetcher;
use crate::objects::{random, random_seed};
use crate::repository::Repository;
use crate::snapshots::Origin;
use crate::{EngineError, Forget, GroupBy, Kind, Progress, SnapshotInfo};

/// The fact of a component that names the snapshot of which it is what is left.
const REPAIRED_FROM: &str = "repaired from";
/// Paths that a snapshot names as lost, for each component; all are counted.
const LOST_MAX: usize = 1000;

/// What one component lost.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ComponentLoss {
    /// Its name.
    pub name: String,
    /// Paths of entries that are lost, escaped; the first thousand.
    pub lost: Vec<String>,
    /// All of them, as far as they can be counted: a lost page of names counts as one.
    pub lost_count: u64,
    /// Entries that stay.
    pub kept_count: u64,
}

/// What a repair would do about one snapshot.
#[derive(Debug, Clone)]
pub struct SnapshotRepair {
    /// The snapshot.
    pub info: SnapshotInfo,
    /// The components that lost something; in a snapshot whose pages alone are to be stored again, nothing is lost.
    pub components: Vec<ComponentLoss>,
    /// An earlier repair made this of it.
    pub done_as: Option<SnapshotId>,
}

/// What a repair of snapshots would do.
#[derive(Debug, Clone, Default)]
pub struct SnapshotsRepair {
    /// The snapshots that miss something, oldest first.
    pub snapshots: Vec<SnapshotRepair>,
    /// Snapshots of which nothing can be read, and what is wrong.
    pub damaged: Told,
    /// Chunks that are there and that no segment names.
    pub unnamed_count: u64,
    /// What the store did not let be looked at.
    pub unclear: Vec<String>,
    lost: HashSet<ChunkId>,
    damaged_ids: Vec<SnapshotId>,
}

/// What a repair of snapshots did.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SnapshotsRepaired {
    /// The old snapshots, and those that hold what is left of them.
    pub committed: Vec<(SnapshotId, SnapshotId)>,
    /// The old snapshots that were hidden.
    pub hidden: Vec<SnapshotId>,
    /// Those that were not, as something holds them.
    pub held: Vec<SnapshotId>,
}

impl SnapshotRepair {
    /// Whether nothing is left of it.
    #[must_use]
    pub fn is_all_lost(&self) -> bool {
        let components = &self.info.snapshot.structure.components;
        let is_gone = |component: &Component| {
            let loss = self.components.iter().find(|loss| loss.name == component.name);
            component.root.is_none() || loss.is_some_and(|loss| loss.kept_count == 0)
        };
        components.iter().all(is_gone)
    }

    /// Whether the old one may be hidden: what is left of it is in another then, or nothing is.
    #[must_use]
    pub fn may_go(&self) -> bool {
        self.is_due() || self.done_as.is_some() || self.is_all_lost()
    }

    /// Whether a new snapshot is to be made: not of one that only a removed key vouches for, which the owner would vouch for then.
    #[must_use]
    pub fn is_due(&self) -> bool {
        self.done_as.is_none() && self.info.trusted && !self.is_all_lost()
    }
}

impl SnapshotsRepair {
    /// Whether there is nothing to do, where the old ones are to be hidden or not.
    #[must_use]
    pub fn is_empty(&self, forget: bool) -> bool {
        !self.snapshots.iter().any(|snapshot| (forget && snapshot.may_go()) || snapshot.is_due())
            && (!forget || self.damaged.is_empty())
    }
}

impl Repository {
    /// Finds what snapshots lost and what is left of them; nothing is changed.
    ///
    /// # Errors
    ///
    /// [`EngineError::Role`] if this key opens no names; those of the store.
    pub async fn plan_repair_snapshots(&self, cancel: &CancellationToken) -> Result<SnapshotsRepair, EngineError> {
        if !self.keyring.opens_content() {
            return Err(self.keyring.refuse("open the names of what snapshots lost", &[Role::Owner, Role::Reader]));
        }
        let losses = self.find_losses(cancel).await?;
        let mut plan = SnapshotsRepair {
            unnamed_count: losses.unnamed_count,
            unclear: losses.unclear.clone(),
            ..SnapshotsRepair::default()
        };
        for damage in &losses.damaged {
            plan.damaged.add(&damage.object, &damage.what);
            plan.damaged_ids.extend(SnapshotId::from_hex(names::last(&damage.object)));
        }
        if !losses.lost.is_empty() {
            let (infos, _) = self.read_snapshots_from(Origin::Store).await?;
            let there: HashSet<SnapshotId> = losses.snapshots.iter().copied().collect();
            let mut done = HashMap::new();
            for info in infos.into_iter().filter(|info| there.contains(&info.id)) {
                if cancel.is_cancelled() {
                    return Err(EngineError::Interrupted);
                }
                let components = losses_of(&losses, &info).await?;
                if !components.is_empty() {
                    plan.snapshots.push(SnapshotRepair { info, components, done_as: None });
                } else if let Some(from) = repaired_from(&info) {
                    done.insert(from, info.id);
                }
            }
            for snapshot in &mut plan.snapshots {
                snapshot.done_as = done.get(&snapshot.info.id).copied();
            }
        }
        plan.lost = losses.lost;
        Ok(plan)
    }

    /// Does what was planned: commits what is left of each snapshot, and hides the old ones if `forget` says so.
    ///
    /// # Errors
    ///
    /// [`EngineError::Role`] if this key is not the owner's; [`EngineError::Request`] while something that is needed is only
    /// not named; those of the store. What was done before an error stays done, and doing it again goes on from there.
    pub async fn repair_snapshots(
        &self,
        plan: &SnapshotsRepair,
        forget: Option<&Zoned>,
        progress: &Arc<Progress>,
        cancel: &CancellationToken,
    ) -> Result<SnapshotsRepaired, EngineError> {
        self.require_owner("repair snapshots")?;
        if plan.unnamed_count > 0 {
            let what = format!(
                "no index segment names what snapshots need and what is there, {} in number: repair the index first, and then the packs",
                plan.unnamed_count
            );
            return Err(EngineError::Request { what });
        }
        let mut done = SnapshotsRepaired::default();
        for snapshot in plan.snapshots.iter().filter(|snapshot| snapshot.is_due()) {
            let new = self.commit_what_is_left(snapshot, &plan.lost, progress, cancel).await?;
            done.committed.push((snapshot.info.id, new));
        }
        if let Some(now) = forget {
            let going = plan.snapshots.iter().filter(|snapshot| snapshot.may_go());
            let named: Vec<SnapshotId> = going.map(|snapshot| snapshot.info.id).collect();
            if !named.is_empty() {
                let going = self.plan_forget(&Forget::Named(named.clone()), GroupBy::default(), now).await?;
                done.hidden = going.going().map(|info| info.id).collect();
                self.forget(&going).await?;
                done.held = named.into_iter().filter(|id| !done.hidden.contains(id)).collect();
            }
            let held: HashSet<SnapshotId> = self.read_holds().await?.snapshots().collect();
            for id in &plan.damaged_ids {
                if held.contains(id) {
                    done.held.push(*id);
                } else {
                    self.hide(*id).await?;
                    done.hidden.push(*id);
                }
            }
        }
        Ok(done)
    }

    /// W1 to W6 for one snapshot.
    async fn commit_what_is_left(
        &self,
        repair: &SnapshotRepair,
        lost: &HashSet<ChunkId>,
        progress: &Arc<Progress>,
        cancel: &CancellationToken,
    ) -> Result<SnapshotId, EngineError> {
        let writer = self.announce(&repair.info.snapshot.structure.host).await?;
        let stop = cancel.child_token();
        let work = async {
            let condemned = writer.see_condemned().await?;
            let index = self.load_index_without(&condemned).await?;
            let snapshot = self.remake(repair, writer.id, lost, index, progress, &stop).await?;
            if stop.is_cancelled() {
                return Err(EngineError::Interrupted);
            }
            writer.commit(snapshot.clone()).await?;
            self.cache.remember(&names::snapshot(&writer.id), &snapshot);
            Ok(writer.id)
        };
        match writer.keep_alive(&stop, work).await {
            Ok(id) => {
                if let Err(error) = writer.withdraw().await {
                    self.cache.warn(format!("the record of this repair stays in the repository: {error}"));
                }
                Ok(id)
            }
            Err(error) => Err(writer.fail(error).await),
        }
    }

    /// Stores the pages of what is left; gives the object of the new snapshot.
    async fn remake(
        &self,
        repair: &SnapshotRepair,
        id: SnapshotId,
        lost: &HashSet<ChunkId>,
        index: crate::index::Index,
        progress: &Arc<Progress>,
        cancel: &CancellationToken,
    ) -> Result<Vec<u8>, EngineError> {
        let info = &repair.info;
        let fetcher = self.fetcher_of(index.clone());
        let mut remaking = Remaking::new(self, index, progress, cancel)?;
        let (mut structure, mut body) =
            (info.snapshot.structure.clone(), info.snapshot.body.clone().unwrap_or_default());
        body.components.resize_with(structure.components.len(), Default::default);
        for (component, said) in structure.components.iter_mut().zip(&mut body.components) {
            let Some(loss) = repair.components.iter().find(|loss| loss.name == component.name) else { continue };
            let entries = entries_of(fetcher.clone(), component.root, Scope::new(b""));
            let (fetcher, cancel) = (&fetcher, cancel);
            let left = entries.filter_map(async |entry| match entry {
                _ if cancel.is_cancelled() => Some(Err(EngineError::Interrupted)),
                Ok(full) => match loss_of(fetcher, &full, lost).await {
                    Ok(loss) => (loss != Loss::Content).then_some(Ok(full)),
                    Err(error) => Some(Err(error)),
                },
                Err(error) if error.kind() == Kind::Damaged => None,
                Err(error) => Some(Err(error)),
            });
            let root = remaking.component(fetcher, Box::pin(left)).await?;
            if root.entry_count != loss.kept_count {
                let (name, id) = (source::entry::escaped(component.name.as_bytes()), info.id);
                let what = format!(
                    "{name} of snapshot {id} cannot be read as it was planned; repair again when no prune runs"
                );
                return Err(EngineError::Request { what });
            }
            (component.root, component.entry_count, component.content_len) =
                (root.root, root.entry_count, root.content_len);
            (component.new_len, component.stored_len) = (0, 0);
            if loss.lost_count > 0 {
                component.state = if root.root.is_some() { ComponentState::Partial } else { ComponentState::Failed };
                let more = loss.lost_count.saturating_sub(loss.lost.len() as u64);
                let more = (more > 0).then(|| format!("and {more} more that are lost"));
                said.problems
                    .extend(loss.lost.iter().map(|path| format!("{path}: lost in the repository")).chain(more));
            }
            said.facts.push((REPAIRED_FROM.to_owned(), info.id.to_string()));
        }
        let stored_len = remaking.finish().await?;
        if let Some(component) = structure.components.first_mut() {
            component.stored_len += stored_len;
        }
        let is_whole = structure.components.iter().all(|component| component.state == ComponentState::Complete);
        structure.state = if is_whole { SnapshotState::Complete } else { SnapshotState::Partial };
        (structure.id, structure.parent) = (id, Some(info.id));
        // Just behind the old one, so that it is the newer of both.
        structure.started_at = structure.started_at.saturating_add(1);
        structure.ended_at = structure.ended_at.max(structure.started_at);
        let (epoch, key) = (self.keyring.sealing()?, self.keyring.index_key()?);
        let (salt, seed) = (random(&self.env), random_seed(&self.env));
        let (signer, repository) = (self.keyring.signer(), self.config.repository);
        Snapshot::encode(&structure, &body, epoch, &key, salt, seed, &signer, repository)
            .map_err(EngineError::object(names::snapshot(&id)))
    }
}

/// The snapshot of which this one is what is left: only the owner repairs, and of anybody else it is not believed.
fn repaired_from(info: &SnapshotInfo) -> Option<SnapshotId> {
    let body: &SnapshotBody = info.snapshot.body.as_ref().filter(|_| info.is_by_owner)?;
    let mut facts = body.components.iter().flat_map(|component| &component.facts);
    facts.find(|(name, _)| name == REPAIRED_FROM).and_then(|(_, id)| SnapshotId::from_hex(id))
}

/// The components of a snapshot that lost something, or pages.
async fn losses_of(losses: &Losses, info: &SnapshotInfo) -> Result<Vec<ComponentLoss>, EngineError> {
    let (fetcher, lost) = (&losses.fetcher, &losses.lost);
    let mut found = Vec::new();
    for component in &info.snapshot.structure.components {
        let Some(root) = component.root else { continue };
        let mut loss = ComponentLoss { name: component.name.clone(), ..ComponentLoss::default() };
        let mut misses_pages = entry_pages(fetcher, root).await.iter().any(|page| lost.contains(page));
        let mut entries = entries_of(fetcher.clone(), Some(root), Scope::new(b""));
        loop {
            let path = match entries.try_next().await {
                Ok(None) => break,
                Ok(Some(full)) => match loss_of(fetcher, &full, lost).await? {
                    Loss::Content => source::entry::escaped(&full.entry.path).to_string(),
                    part => {
                        misses_pages |= part == Loss::Pages;
                        loss.kept_count += 1;
                        continue;
                    }
                },
                Err(EngineError::EntriesLost { from, .. }) => format!("{from} and what follows it on its page"),
                Err(error) if error.kind() == Kind::Damaged => "all names".to_owned(),
                Err(error) => return Err(error),
            };
            loss.lost_count += 1;
            if loss.lost.len() < LOST_MAX {
                loss.lost.push(path);
            }
        }
        if loss.lost_count > 0 || misses_pages {
            found.push(loss);
        }
    }
    Ok(found)
}

/// How much of what an entry's content needs is lost.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Loss {
    Nothing,
    /// Pages of it, which this host remembers: they are stored again.
    Pages,
    Content,
}

async fn loss_of(fetcher: &Fetcher, full: &FullEntry, lost: &HashSet<ChunkId>) -> Result<Loss, EngineError> {
    let mut loss = Loss::Nothing;
    let mut parts = pages_and_leaves(fetcher.clone(), full.children.clone());
    loop {
        match parts.try_next().await {
            Ok(None) => return Ok(loss),
            // It was read to get here.
            Ok(Some(part)) if part.kind == ChildKind::Page && lost.contains(&part.id) => loss = Loss::Pages,
            Ok(Some(part)) if lost.contains(&part.id) => return Ok(Loss::Content),
            Ok(Some(_)) => {}
            Err(error) if error.kind() == Kind::Damaged => return Ok(Loss::Content),
            Err(error) => return Err(error),
        }
    }
}
