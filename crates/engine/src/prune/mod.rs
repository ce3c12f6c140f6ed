//! `prune`: give back the space of what no snapshot needs, beside whatever else is going on.
//!
//! ```text
//! plan    mark ─► how much of each pack is in use ─► what goes, what is repacked           nothing is changed
//! prune   repack ─► condemned/<id> (C2) ─► settle writers (C3) ─► second mark (C4) ─► copy what is needed again (C5)
//!                                                                  └──────── again, whole ◄──────────────┘
//!                                                                  └► segments ─► packs ─► condemned/<id> (C6) ─► C7
//! ```
//!
//! | stopped after | what is left | what goes on |
//! |---|---|---|
//! | repack | the new packs, named | nothing is lost; copies that are not needed go by the next prune |
//! | C2, C3, C4, C5 | a condemned list | any prune finishes it |
//! | C6 | segments or packs less | any prune finishes it |
//!
//! The protocol is in `docs/FORMAT.md` and `docs/decisions/0007-the-collector.md`; change it only with the model.
//!
//! Invariant: a plan changes nothing, and what is done is what was planned, plus lists that earlier prunes left.
//! Invariant: no pack is deleted that was in no condemned list while every running backup could see it.
//! Never here: which snapshots to keep (see `forget`).

mod choice;
mod claim;
mod forgotten;
mod live;
mod mark;
mod merge;
mod moving;
mod names_of_gone;
mod needed;
mod opening;
mod planning;
mod report;
mod second_mark;
mod sweep;
mod usage;
mod writers;

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use pack::{Condemned, CondemnedId, PackId, Role, names};
use store::StoreError;
use tokio_util::sync::CancellationToken;

pub use self::choice::PruneLimits;
use self::choice::{BlobFate, Choice, Repacked};
use self::claim::Claimed;
use self::mark::Mark;
use self::moving::{Move, Mover, Own};
use self::opening::Chunks;
pub use self::report::{PrunePlan, PruneReport, PruneRequest, PruneRequests};
use self::usage::Copies;
pub use self::writers::{LEASE_OVER_AFTER, RunningBackup};
use crate::fetch::Fetcher;
use crate::objects::{create, random};
use crate::repository::Repository;
use crate::{EngineError, Progress};

/// Packs in one condemned list.
const LIST_PACKS_MAX: usize = 4096;
/// Bytes that are moved before what was moved is condemned: so much of the work is lost at most when a prune is killed.
const MOVED_AT_ONCE_LEN: u64 = 1 << 30;
/// Passes of the second mark. More are needed only if somebody condemns what this prune copies, again and again.
const PASSES_MAX: usize = 64;

/// The lists that are worked on, with the packs of each.
type Lists = BTreeMap<CondemnedId, HashSet<PackId>>;

/// Packs that a second mark looks at.
#[derive(Clone, Copy)]
struct LookedAt<'a> {
    /// Condemned ones that are still to go.
    left: &'a HashSet<PackId>,
    /// All that this prune works on: they count as condemned, also when another one has finished its lists meanwhile.
    all: &'a HashSet<PackId>,
    /// Those that are gone already, as the plan found.
    stale: &'a HashSet<PackId>,
}

impl Repository {
    /// Carries a plan out, and finishes what earlier prunes have left. What was done before an error stays done, and
    /// running it again goes on.
    ///
    /// # Errors
    ///
    /// [`EngineError::NoConditionalCreate`] if the store does not refuse to create an object twice, unless the request says that
    /// nobody else is there; [`EngineError::CannotMark`] if it cannot be told what is needed; those of the store.
    pub async fn prune(
        &self,
        plan: PrunePlan,
        progress: &Arc<Progress>,
        cancel: CancellationToken,
    ) -> Result<PruneReport, EngineError> {
        self.keyring.require(&[Role::Owner, Role::Maintenance], "prune")?;
        let claimed = self.claim(&plan.request.host).await?;
        let done = self.prune_claimed(plan, &claimed, progress, &cancel).await;
        self.drop_claim(&claimed).await;
        done
    }

    async fn prune_claimed(
        &self,
        plan: PrunePlan,
        claimed: &Claimed,
        progress: &Progress,
        cancel: &CancellationToken,
    ) -> Result<PruneReport, EngineError> {
        if claimed.other_count > 0 {
            tracing::info!("{} other prunes are at work, or were killed within a day", claimed.other_count);
        }
        if claimed.is_unsafe && !plan.request.is_exclusive {
            return Err(EngineError::NoConditionalCreate { place: self.store.describe() });
        }
        let mut report = PruneReport::default();
        let PrunePlan { removed_snapshots, choice, copies, stale, mut mark, request, merges_segments, .. } = plan;
        let (moved_len, gone_len) = (plan.moved_len, plan.gone_len);
        progress.set_totals(choice.repacked.len() as u64, moved_len + gone_len);
        self.remove_ended_records().await?;
        self.remove_forgotten(&removed_snapshots, claimed.at, &mut report).await?;
        let mut own = self.repack((&choice, &copies), &mark, progress, cancel, &mut report).await?;
        self.condemn(choice.gone.iter().map(|(id, _)| *id).collect()).await?;
        let lists = self.read_lists().await?;
        let lease = if request.is_exclusive { Duration::ZERO } else { request.lease_over_after };
        let settled = self.settle_writers(&lists.keys().copied().collect(), claimed.at, lease).await?;
        report.given_up = settled.given_up_count;
        let (waiting, ready): (Lists, Lists) = lists.into_iter().partition(|(id, _)| settled.waiting.contains(id));
        report.waiting_packs = waiting.values().map(|packs| packs.len() as u64).sum();
        report.running = settled.running;
        if !ready.is_empty() || !stale.is_empty() || merges_segments {
            let gone = self.collect((&ready, &stale), &mut mark, &mut own, progress, cancel, &mut report).await?;
            for list in ready.iter().filter(|(_, packs)| packs.is_subset(&gone)).map(|(id, _)| id) {
                self.store.delete(&names::condemned(list)).await?;
            }
        }
        self.remove_dead_records().await?;
        Ok(report)
    }

    /// Moves what is live out of packs that go, and condemns them, some at a time; gives the packs written.
    async fn repack(
        &self,
        (choice, copies): (&Choice, &Copies),
        mark: &Mark,
        progress: &Progress,
        cancel: &CancellationToken,
        report: &mut PruneReport,
    ) -> Result<Own, EngineError> {
        let mut own = Own::new();
        for batch in batches(&choice.repacked) {
            let wanted = Chunks::new(Arc::clone(&mark.live), self.keyring.can_recut().then(|| copies.clone()));
            let mut mover = Mover::new(self, wanted, progress);
            let (moved, failed) = mover.run(batch.iter().map(Repacked::to_move).collect(), cancel).await?;
            for (_, error) in failed.iter().filter(|(pack, error)| !has_vanished(pack, error)) {
                report.problem(format!("{error}; it stays, and check tells more"));
            }
            report.written_len += mover.written_len;
            own.extend(mover.own);
            self.condemn(moved).await?;
        }
        Ok(own)
    }

    /// C2. What is published here is never taken back.
    async fn condemn(&self, packs: Vec<PackId>) -> Result<(), EngineError> {
        for packs in packs.chunks(LIST_PACKS_MAX) {
            let list = CondemnedId(random(&self.env));
            let name = names::condemned(&list);
            let record = Condemned { list, packs: packs.to_vec(), extension: Vec::new() };
            let bytes = self.seal(&name, |key, epoch, salt, signer, repository| {
                record.encode(key, epoch, salt, signer, repository)
            })?;
            create(&*self.store, &name, bytes).await?;
        }
        Ok(())
    }

    /// C4 to C6 for lists whose writers are settled, until nothing of them is left or nothing more can be done; gives the
    /// packs that are gone. Segments do not name them afterwards, nor the `stale` packs, which are gone already.
    async fn collect(
        &self,
        (ready, stale): (&Lists, &HashSet<PackId>),
        mark: &mut Mark,
        own: &mut Own,
        progress: &Progress,
        cancel: &CancellationToken,
        report: &mut PruneReport,
    ) -> Result<HashSet<PackId>, EngineError> {
        let fetcher = self.fetcher().await?;
        let mut gone = HashSet::new();
        let all: HashSet<PackId> = ready.values().flatten().copied().collect();
        let (mut left, mut told) = (all.clone(), HashSet::new());
        for _ in 0..PASSES_MAX {
            if cancel.is_cancelled() {
                return Err(EngineError::Interrupted);
            }
            let looked_at = LookedAt { left: &left, all: &all, stale };
            let (condemned, found) = self.look(looked_at, mark, &fetcher, own, cancel).await?;
            for (pack, error) in found.unreadable.iter().filter(|(pack, _)| left.contains(pack)) {
                tracing::info!("condemned pack {pack}: {error}");
                report.problem(format!("{error}; it is condemned, and stays because it cannot be told what is in it"));
            }
            for (pack, error) in found.unsound.iter().filter(|(pack, _)| told.insert(*pack)) {
                tracing::info!("pack {pack} with copies: {error}");
                report.problem(format!("{error}; no copy in it counts, and check --read-data tells more"));
            }
            left.retain(|pack| !found.unreadable.iter().any(|(other, _)| other == pack));
            if !found.to_copy.is_empty() {
                debug_assert!(found.to_copy.iter().all(|copy| condemned.contains(&copy.pack)));
                self.copy(&found.to_copy, mark, own, &mut left, progress, cancel, report).await?;
                continue;
            }
            let deleted = self.sweep(&found, progress, report).await?;
            left.retain(|pack| !deleted.contains(pack) && !found.free.iter().any(|free| free.id == *pack));
            gone.extend(deleted);
            if left.is_empty() {
                break;
            }
        }
        if !left.is_empty() {
            report.problem(format!("{} condemned packs changed whenever they were looked at; they wait", left.len()));
        }
        Ok(gone)
    }

    /// C4: snapshots, then condemned lists, then index and packs.
    async fn look(
        &self,
        looked_at: LookedAt<'_>,
        mark: &mut Mark,
        fetcher: &Fetcher,
        own: &Own,
        cancel: &CancellationToken,
    ) -> Result<(HashSet<PackId>, second_mark::SecondMark), EngineError> {
        self.mark(mark, fetcher, cancel).await?;
        let (_, mut condemned) = self.read_condemned().await?;
        condemned.extend(looked_at.all);
        let mut candidates: Vec<PackId> = looked_at.left.iter().copied().collect();
        candidates.sort_unstable();
        let found = self.second_mark((candidates, looked_at.stale), &condemned, &mark.live, own, cancel).await?;
        Ok((condemned, found))
    }

    /// C5: copies what is needed and lies nowhere else. A pack from which it cannot be copied is left alone, unless another
    /// prune has deleted it meanwhile.
    #[allow(clippy::too_many_arguments)]
    async fn copy(
        &self,
        to_copy: &[Move],
        mark: &Mark,
        own: &mut Own,
        left: &mut HashSet<PackId>,
        progress: &Progress,
        cancel: &CancellationToken,
        report: &mut PruneReport,
    ) -> Result<(), EngineError> {
        let mut mover = Mover::new(self, Chunks::new(Arc::clone(&mark.live), None), progress);
        let (moved, failed) = mover.run(to_copy.to_vec(), cancel).await?;
        report.written_len += mover.written_len;
        report.copied_packs += moved.len() as u64;
        own.extend(mover.own);
        // What has vanished is looked at again, and is gone then.
        for (pack, error) in failed.iter().filter(|(pack, error)| !has_vanished(pack, error)) {
            left.remove(pack);
            report.problem(format!("{error}; it is condemned, and stays: it is needed"));
        }
        Ok(())
    }

    /// Every believed condemned list.
    async fn read_lists(&self) -> Result<Lists, EngineError> {
        let lists = self.read_condemned_lists().await?;
        Ok(lists.into_iter().map(|list| (list.list, list.packs.into_iter().collect())).collect())
    }
}

impl Repacked {
    fn to_move(&self) -> Move {
        let blobs = (0..).zip(&self.fates).map(|(row, fate)| (row, *fate));
        Move { pack: self.id, len: self.len, blobs: blobs.filter(|(_, fate)| *fate != BlobFate::Dropped).collect() }
    }
}

/// Whether a pack could not be moved because another prune deleted it after this one had listed it.
fn has_vanished(pack: &PackId, error: &EngineError) -> bool {
    let has = matches!(error, EngineError::Store(StoreError::NotFound { .. }));
    if has {
        tracing::info!("pack {pack} is gone: another prune was faster");
    }
    has
}

/// Packs that are repacked, in groups after each of which what was moved is condemned.
fn batches(packs: &[Repacked]) -> Vec<&[Repacked]> {
    let (mut batches, mut start, mut len) = (Vec::new(), 0, 0);
    for (at, pack) in packs.iter().enumerate() {
        len += pack.moved_len;
        if len >= MOVED_AT_ONCE_LEN || at + 1 == packs.len() {
            batches.extend(packs.get(start..=at));
            (start, len) = (at + 1, 0);
        }
    }
    batches
}
