//! Planning a prune: the first mark (C1), and what follows from it. Nothing is changed.
//!
//! Invariant: any result of this is safe; what is deleted is decided by the second mark.
//! Never here: carrying a plan out.

use std::collections::HashSet;
use std::sync::Arc;

use pack::{PackId, Role, names};
use store::index_cache::PackNo;
use store::{StoreTime, index_cache::IndexCache};
use tokio_util::sync::CancellationToken;

use super::choice::{Choice, Surroundings, choose};
use super::mark::Mark;
use super::moving::is_of_the_pack;
use super::report::{PrunePlan, PruneRequest, PruneRequests};
use super::sweep::SMALL_COUNT_MIN;
use super::usage::{Copies, Listed};
use crate::EngineError;
use crate::index::Index;
use crate::repository::{Repository, list};

/// A stored segment shorter than this is small.
const SMALL_SEGMENT_LEN: u64 = 256 << 10;
/// Packs that no segment names whose trailers are read.
const STRAYS_MAX: usize = 4096;
/// Packs that a warning names.
const NAMED_MAX: usize = 10;
/// Objects that one request lists.
const LISTED_AT_ONCE: u64 = 1000;

/// Packs that are listed and that the index does not vouch for.
#[derive(Default)]
struct Strays {
    /// No segment names them.
    unnamed: Vec<Listed>,
    /// Named with another length, or only by a removed key, or found damaged.
    odd_count: u64,
}

impl Repository {
    /// Looks what could go, and what that would take. Nothing is changed.
    ///
    /// # Errors
    ///
    /// [`EngineError::CannotMark`] if it cannot be told what is needed; [`EngineError::SnapshotsGone`] if snapshots are missed;
    /// [`EngineError::Role`] for keys that may not prune; those of the store.
    pub async fn plan_prune(&self, request: PruneRequest, cancel: CancellationToken) -> Result<PrunePlan, EngineError> {
        self.keyring.require(&[Role::Owner, Role::Maintenance], "prune")?;
        let lists = self.read_condemned_lists().await?;
        let condemned: HashSet<PackId> = lists.iter().flat_map(|list| list.packs.iter().copied()).collect();
        let forgotten = self.removable_snapshots().await?;
        let fetcher = self.fetcher().await?;
        let mut mark = Mark::new();
        self.mark(&mut mark, &fetcher, &cancel).await?;
        self.assert_none_vanished().await?;
        let listed = self.list_packs().await?;
        // No later than now: what takes a writer for alive that is not only leaves more for later.
        let newest = listed.iter().map(|pack| pack.modified_at).max().max(forgotten.newest_at);
        let now = newest.unwrap_or(StoreTime::from_nanos(i64::MIN));
        let running =
            if request.is_exclusive { Vec::new() } else { self.running_backups(now, request.lease_over_after).await? };
        let index = self.load_index_without(&condemned).await?;
        let usage = self.usage(index.clone(), Arc::clone(&mark.live), &listed, &condemned).await?;
        let around = Surroundings {
            oldest_writer_at: running.iter().map(|writer| writer.announced_at).min(),
            pack_len: u64::from(self.config.pack_len),
            can_recut: self.keyring.can_recut(),
        };
        let mut choice = choose(&usage.packs, &request.limits, around);
        let mut warnings = Vec::new();
        let strays = self.strays(&index, &listed, &condemned, around.oldest_writer_at).await?;
        self.judge_strays(strays, &index, &mark, &mut choice, &mut warnings).await?;
        let segments = list(&self.store, names::INDEX).await?;
        let small_count = segments.iter().filter(|info| info.len < SMALL_SEGMENT_LEN).count();
        let there: HashSet<PackId> = listed.iter().map(|pack| pack.id).collect();
        let mut plan = PrunePlan {
            snapshots: mark.snapshot_count(),
            removed_snapshots: forgotten.removable,
            unended_snapshots: forgotten.unended_count,
            packs: listed.len() as u64,
            packs_len: listed.iter().map(|pack| pack.len).sum(),
            used_len: choice.used_len,
            gone_packs: choice.gone.len() as u64,
            gone_len: choice.gone.iter().map(|(_, len)| len).sum(),
            repacked_packs: choice.repacked.len() as u64,
            repacked_len: choice.repacked.iter().map(|pack| pack.len).sum(),
            moved_len: choice.repacked.iter().map(|pack| pack.moved_len).sum(),
            left_unused_len: choice.left_unused_len,
            sealed_in_len: choice.sealed_in_len,
            can_recut: around.can_recut,
            double_len: usage.double_len,
            pending_packs: condemned.intersection(&there).count() as u64,
            pending_lists: lists.len() as u64,
            young_packs: choice.young_count,
            running,
            segments: segments.len() as u64,
            merges_segments: small_count >= SMALL_COUNT_MIN,
            stale_packs: usage.stale.len() as u64,
            requests: PruneRequests::default(),
            warnings,
            request,
            choice,
            copies: Copies::new(index),
            stale: usage.stale,
            mark,
        };
        plan.requests = requests(&plan, around.pack_len);
        Ok(plan)
    }

    /// Packs that are listed, in no condemned list, and that may not be used.
    async fn strays(
        &self,
        index: &Index,
        listed: &[Listed],
        condemned: &HashSet<PackId>,
        oldest_writer_at: Option<StoreTime>,
    ) -> Result<Strays, EngineError> {
        let ids: Vec<PackId> = listed.iter().map(|pack| pack.id).collect();
        let cache: Arc<IndexCache> = Arc::clone(&index.cache);
        let numbers: Vec<Option<PackNo>> = self.offload.start(move || cache.pack_numbers(&ids)).await??;
        let mut strays = Strays::default();
        for (pack, number) in listed.iter().zip(numbers).filter(|(pack, _)| !condemned.contains(&pack.id)) {
            let is_young = oldest_writer_at.is_some_and(|at| pack.modified_at >= at);
            match number.filter(|number| index.is_named(*number)) {
                Some(number) if index.is_listed(number) => {}
                Some(_) => strays.odd_count += 1,
                None if is_young => {}
                None => strays.unnamed.push(*pack),
            }
        }
        Ok(strays)
    }

    /// Packs that no segment names go if nothing in them is needed, or if the index knows another place of all that is.
    async fn judge_strays(
        &self,
        strays: Strays,
        index: &Index,
        mark: &Mark,
        choice: &mut Choice,
        warnings: &mut Vec<String>,
    ) -> Result<(), EngineError> {
        let (mut needed_count, mut unreadable) = (0, Vec::new());
        for pack in strays.unnamed.iter().take(STRAYS_MAX) {
            let entry = match self.read_entry_twice(pack.id, pack.len).await {
                Ok(entry) => entry,
                Err(EngineError::Store(store::StoreError::NotFound { .. })) => continue,
                Err(error) if is_of_the_pack(&error) => {
                    unreadable.push(pack.id);
                    continue;
                }
                Err(error) => return Err(error),
            };
            let live: Vec<_> =
                entry.trailer.chunks.iter().map(|(id, _)| *id).filter(|id| mark.live.contains(id)).collect();
            let index = index.clone();
            let known = self.offload.start(move || index.find(&live)).await??;
            if known.iter().all(Option::is_some) {
                choice.gone.push((pack.id, pack.len));
            } else {
                needed_count += 1;
            }
        }
        let mut warn = |count: u64, what: &str| {
            if count > 0 {
                warnings.push(format!("packs that {what}, and so stay: {count}"));
            }
        };
        warn(needed_count, "hold what snapshots need though no index segment names them (run check)");
        warn(
            strays.odd_count,
            "are not as the index describes them, or only a removed key vouches for them (run check)",
        );
        let known_damaged = if unreadable.is_empty() { HashSet::default() } else { self.known_damaged().await? };
        let (damaged, others): (Vec<PackId>, Vec<PackId>) =
            unreadable.into_iter().partition(|pack| known_damaged.contains(&pack.half()));
        warn_of(
            warnings,
            &damaged,
            "; one that backstay repair packs took out of use may be deleted from the store by hand",
        );
        warn_of(warnings, &others, " (run check)");
        Ok(())
    }
}

/// Names packs that cannot be read.
fn warn_of(warnings: &mut Vec<String>, packs: &[PackId], advice: &str) {
    let count = packs.len();
    if count == 0 {
        return;
    }
    let named: Vec<String> = packs.iter().take(NAMED_MAX).map(names::pack).collect();
    let more = if count > NAMED_MAX { format!(" and {} more", count - NAMED_MAX) } else { String::new() };
    warnings.push(format!(
        "packs that no index segment names and cannot be read, and so stay: {count}: {}{more}{advice}",
        named.join(", ")
    ));
}

/// Requests that carrying out a plan takes, about.
fn requests(plan: &PrunePlan, pack_len: u64) -> PruneRequests {
    let pages = |count: u64| count / LISTED_AT_ONCE + 1;
    let going = plan.gone_packs + plan.repacked_packs + plan.pending_packs;
    if plan.is_empty() {
        return PruneRequests::default();
    }
    let new_packs = plan.moved_len / pack_len.max(1) + u64::from(plan.moved_len > 0) * 2;
    PruneRequests {
        lists: 2 * pages(plan.packs) + 12,
        gets: going + 3 * plan.repacked_packs + plan.segments + 4,
        puts: new_packs + plan.segments / 4 + 6,
        deletes: going + plan.removed_snapshots.len() as u64 + plan.segments / 4 + 4,
    }
}
