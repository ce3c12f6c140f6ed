//! `check`: prove that what is stored is whole.
//!
//! ```text
//! small   both configurations, every key slot, epoch, index segment and snapshot, as the store has them
//! packs   every pack that a segment names is listed with its length, and read again if it was found damaged before; with
//!         --read-data every byte is hashed, and every
//!         blob opened and its chunks named again, where the key can
//! trees   every snapshot's pages are walked once; every chunk below is named by a segment and lies in a listed pack
//! ```
//!
//! A bad read is not a bad object: what fails is read once more before it is called damage.
//!
//! Invariant: a good local cache never hides damage; what it knows counts only where the store says so too.
//! Invariant: nothing is changed; at most a record is written of what was read and verified, for later checks.
//! Invariant: memory does not grow with the content: see `packs` and `tree` for what it costs.
//! Never here: repair.

mod affected;
mod choose;
mod damaged;
mod objects;
mod packs;
mod passes;
mod read;
mod report;
mod request;
mod segments;
mod tree;
mod verified;

use std::collections::{BTreeSet, HashSet};
use std::sync::Arc;
use std::time::Duration;

use pack::{PackId, SnapshotId};
use seal::ChunkId;
use store::Timestamp;
use store::index_cache::PackSet;
use tokio_util::sync::CancellationToken;

pub(crate) use damaged::{DamagedPacks, Harm, Losses, Suspects, elsewhere};
pub use report::{Ages, CheckReport, Damage};
pub use request::{CheckRequest, Shard, Subset};

use self::choose::{NEVER, Sound, Wanted, choose};
use self::packs::Packs;
use self::passes::{Before, PASSES_MAX, Seen};
use self::read::Plan;
use self::report::Wrong;
use self::segments::Named;
use self::tree::check_trees;
use crate::fetch::Fetcher;
use crate::repository::Repository;
use crate::snapshots::Origin;
use crate::{EngineError, Progress};

/// How often an object that is not right is read.
const READS_MAX: usize = 2;
/// Packs found damaged before that a check reads again though it was not told to read data: 1 GiB, if they are usual ones.
const SUSPECTS_MAX: usize = 64;

/// What is said of a snapshot that is held and gone.
pub const HELD_AND_GONE: &str =
    "is held and is not there, and nothing says that it was forgotten: what it needs may be there still";
/// What is said of the index where something that snapshots need is named nowhere.
pub const LACKING_INDEX: &str = "lacks a segment that names what snapshots need";

/// A snapshot, as far as what it reaches is concerned: some 60 bytes.
struct SnapshotRoots {
    id: SnapshotId,
    /// The root page of each component, and the bytes of content that the snapshot says are below it.
    roots: Vec<(ChunkId, u64)>,
}

/// A pass of a check, and what those before it have read.
struct Pass {
    /// From 1.
    number: u32,
    request: CheckRequest,
    /// When the first pass began.
    started_at: Timestamp,
    before: Before,
}

impl Repository {
    /// Checks the repository.
    ///
    /// # Errors
    ///
    /// Those of the store when nothing can be listed. Damage is no error but part of the report.
    pub async fn check(
        &self,
        request: CheckRequest,
        progress: &Arc<Progress>,
        cancel: CancellationToken,
    ) -> Result<CheckReport, EngineError> {
        let mut pass = Pass { number: 0, request, started_at: self.env.now(), before: Before::default() };
        loop {
            pass.number += 1;
            if let Some(report) = self.check_once(&mut pass, progress, &cancel).await? {
                return Ok(report);
            }
            tracing::info!("a prune took away what was being checked: it is looked at again");
        }
    }

    /// One pass; none if what seemed damaged may be what somebody took away meanwhile.
    async fn check_once(
        &self,
        pass: &mut Pass,
        progress: &Progress,
        cancel: &CancellationToken,
    ) -> Result<Option<CheckReport>, EngineError> {
        let mut report = CheckReport { read_len: pass.before.read_len, ..CheckReport::default() };
        self.check_config(&mut report).await;
        self.check_keys(&mut report).await?;
        // Snapshots first: one that is committed from here on may need segments and packs that are not read any more.
        let snapshots = self.check_snapshots(&mut report).await?;
        let seen = Seen::new(self.clone(), &snapshots, self.segment_names().await?);
        let seen = (pass.number < PASSES_MAX).then_some(&seen);
        let fetcher = self.fetcher().await?;
        let mut named = self.check_segments(&fetcher.index.cache, &mut report).await?;
        let mut packs = self.compare_packs(&fetcher.index.cache, &named, &mut report).await?;
        packs.reads_data = pass.request.read_data.is_some();
        if let Some(plan) = self.plan_reads(pass, (&fetcher, &snapshots), &mut packs, cancel, &mut report).await? {
            report.is_content_sealed = !self.keyring.opens_content();
            let read = self.read_packs(&fetcher, &plan, &mut packs, progress, cancel, &mut report).await;
            if pass.request.remember && report.read_len > pass.before.read_len {
                self.remember_verified(&mut packs, &mut report).await;
            }
            read?;
            match pass.request.read_data {
                Some(_) => self.tell_ages(&pass.request, pass.started_at, &packs, &mut report),
                None => report.ages = None,
            }
            self.find_liars(&fetcher, &mut named, &mut packs, &mut report).await?;
        }
        self.remember_damaged(&fetcher, &named, &packs).await?;
        let missing = check_trees(&fetcher, &snapshots, (&named, seen), &mut packs, cancel, &mut report).await?;
        let seems_damaged = !missing.is_empty() || !report.damages.is_empty() || packs.has_flaws();
        if let Some(seen) = seen
            && (missing.is_given_up || seems_damaged && seen.has_vanished(&mut report).await)
        {
            pass.before.learn(&packs, &report);
            return Ok(None);
        }
        if !missing.is_empty() {
            self.name_what_breaks(&fetcher, &snapshots, &missing, &mut report).await;
        }
        packs.note_unneeded(&named, &fetcher, &mut report)?;
        Ok(Some(report))
    }

    /// Decides which packs are read, and until when; none if no data is to be read.
    async fn plan_reads(
        &self,
        pass: &Pass,
        (fetcher, snapshots): (&Fetcher, &[SnapshotRoots]),
        packs: &mut Packs,
        cancel: &CancellationToken,
        report: &mut CheckReport,
    ) -> Result<Option<Plan>, EngineError> {
        let opens_content = self.keyring.opens_content();
        pass.before.apply(packs, nanos(pass.started_at), opens_content);
        report.is_content_sealed = pass.before.read_len > 0 && !opens_content;
        if !packs.reads_data {
            return self.plan_suspects(pass, packs, report).await;
        }
        let of_snapshot = match pass.request.of_snapshot {
            Some(id) => Some(packs_of(fetcher, id, snapshots, cancel).await?),
            None => None,
        };
        let mut plan = self.plan_data(&pass.request, of_snapshot, pass.started_at, packs, report).await?;
        if pass.number > 1 {
            // What came since, and what was to be read before and was not, or was not right.
            let open = packs.sound.iter().enumerate().filter(|(_, pack)| !pass.before.settles(&pack.half));
            plan.chosen = open.map(|(position, _)| position).collect();
        }
        Ok(Some(plan))
    }

    /// Which packs the request means, and until when.
    async fn plan_data(
        &self,
        request: &CheckRequest,
        of_snapshot: Option<PackSet>,
        started_at: Timestamp,
        packs: &mut Packs,
        report: &mut CheckReport,
    ) -> Result<Plan, EngineError> {
        let by_age = request.max_age.is_some() || request.max_duration.is_some();
        if by_age {
            self.recall(packs, report).await?;
        }
        let wanted = Wanted {
            subset: request.read_data.unwrap_or(Subset::All),
            shard: request.shard,
            of_snapshot,
            unless_since: request.max_age.map(|age| before(started_at, age)),
            oldest_first: by_age,
            opens_content: self.keyring.opens_content(),
            now: nanos(started_at),
        };
        let chosen = choose(&packs.sound, &wanted, || self.env.random_u64());
        let until = request.max_duration.map(|len| started_at.plus(len));
        Ok(Plan { chosen, until, started_at: nanos(started_at) })
    }

    /// Of a check that reads no data: the packs that were found damaged before, by this host or by checks that wrote it down.
    /// None if there are none.
    async fn plan_suspects(
        &self,
        pass: &Pass,
        packs: &Packs,
        report: &mut CheckReport,
    ) -> Result<Option<Plan>, EngineError> {
        let mut suspected = self.known_damaged().await.unwrap_or_else(|error| {
            report.warn(format!("what earlier checks found damaged could not be read, and is not read again: {error}"));
            HashSet::new()
        });
        suspected.extend(self.cache.damaged().iter().map(PackId::half));
        let is_suspect =
            |(_, pack): &(usize, &Sound)| suspected.contains(&pack.half) && !packs.read.contains(pack.number);
        let suspects = packs.sound.iter().enumerate().filter(is_suspect);
        let mut chosen: Vec<usize> = suspects.map(|(position, _)| position).collect();
        let unread_count = chosen.len().saturating_sub(SUSPECTS_MAX);
        if unread_count > 0 {
            report.warn(format!(
                "{unread_count} more packs were found damaged before and not read again: --read-data reads them"
            ));
        }
        chosen.truncate(SUSPECTS_MAX);
        Ok((!chosen.is_empty()).then(|| Plan { chosen, until: None, started_at: nanos(pass.started_at) }))
    }

    /// Says when what there is was verified.
    fn tell_ages(&self, request: &CheckRequest, started_at: Timestamp, packs: &Packs, report: &mut CheckReport) {
        let since = request.max_age.map_or(NEVER + 1, |age| before(started_at, age));
        let mut ages = report.ages.unwrap_or_default();
        for pack in &packs.sound {
            let at = pack.verified_at(self.keyring.opens_content(), nanos(started_at));
            ages.packs_len += pack.len;
            if at >= since {
                ages.within_len += pack.len;
            }
            if at == NEVER {
                ages.never_len += pack.len;
            } else {
                ages.oldest_at = Some(ages.oldest_at.map_or(at, |oldest| oldest.min(at)));
            }
        }
        report.ages = Some(ages);
    }

    /// Notes the segments that describe packs otherwise than these do themselves.
    async fn find_liars(
        &self,
        fetcher: &Fetcher,
        named: &mut Named,
        packs: &mut Packs,
        report: &mut CheckReport,
    ) -> Result<(), EngineError> {
        let described = packs.described_falsely(fetcher)?;
        packs.liars = self.segments_that_say(&fetcher.index.cache, &described).await?;
        let wrongs: BTreeSet<Wrong> = described.iter().map(|pack| packs.false_table(pack)).collect();
        for wrong in wrongs {
            report.damage(&wrong.0, &wrong.1);
            named.blame(wrong);
        }
        Ok(())
    }

    /// Remembers which packs must not be offered for deduplication, and forgets those that were read whole meanwhile or
    /// that nothing names any more.
    async fn remember_damaged(&self, fetcher: &Fetcher, named: &Named, packs: &Packs) -> Result<(), EngineError> {
        let before: Vec<PackId> = self.cache.distrusted().into_iter().collect();
        let (cache, ids) = (Arc::clone(&fetcher.index.cache), before.clone());
        let numbers = self.offload.start(move || cache.pack_numbers(&ids)).await??;
        let (mut whole, mut unnamed) = (HashSet::new(), HashSet::new());
        for (id, number) in before.into_iter().zip(numbers) {
            if !named.may_name(&id, number) {
                unnamed.insert(id);
            } else if number.is_some_and(|number| packs.read.contains(number)) {
                whole.insert(id);
            }
        }
        self.cache.settle_distrust(&packs.damaged(fetcher)?, &whole, &unnamed);
        Ok(())
    }

    /// Reads every snapshot as the store has it, and keeps what it names.
    async fn check_snapshots(&self, report: &mut CheckReport) -> Result<Vec<SnapshotRoots>, EngineError> {
        let mut found = Vec::new();
        let visit = |name: String, read: Result<crate::SnapshotInfo, pack::PackError>| match read {
            Ok(info) => found.push(SnapshotRoots::of(info)),
            Err(error) if error.kind() == seal::ErrorKind::Invalid => report.unclear(format!("{name} {error}")),
            Err(error) => report.damage(&name, &format!("{error}")),
        };
        self.visit_snapshots(Origin::Store, visit).await?;
        for id in self.held_and_gone().await? {
            report.damage(&pack::names::snapshot(&id), HELD_AND_GONE);
        }
        for (name, wrong) in self.read_holds().await?.unreadable() {
            report.damage(name, &format!("{wrong}; it holds its snapshot until it is lifted"));
        }
        found.sort_by_key(|(started_at, info)| (*started_at, info.id));
        report.snapshots = found.len() as u64;
        Ok(found.into_iter().map(|(_, info)| info).collect())
    }
}

impl SnapshotRoots {
    /// What `info` names, and when it began.
    fn of(info: crate::SnapshotInfo) -> (i64, Self) {
        let structure = info.snapshot.structure;
        let roots = structure.components.iter().filter_map(|component| Some((component.root?, component.content_len)));
        let roots = roots.collect();
        (structure.started_at, Self { id: info.id, roots })
    }
}

/// The packs that the snapshot `id` needs.
async fn packs_of(
    fetcher: &Fetcher,
    id: SnapshotId,
    snapshots: &[SnapshotRoots],
    cancel: &CancellationToken,
) -> Result<PackSet, EngineError> {
    let missing = || EngineError::NoSnapshot { what: format!("{id}") };
    let info = snapshots.iter().find(|info| info.id == id).ok_or_else(missing)?;
    tree::packs_of(fetcher, info, cancel).await
}

/// Nanoseconds since 1970.
fn nanos(at: Timestamp) -> i64 {
    i64::try_from(at.as_nanos()).unwrap_or(i64::MAX)
}

/// So long before `at`, in nanoseconds since 1970.
fn before(at: Timestamp, age: Duration) -> i64 {
    nanos(at).saturating_sub(i64::try_from(age.as_nanos()).unwrap_or(i64::MAX)).max(NEVER + 1)
}

/// What is wrong, without the object's name in front.
fn detail(error: &EngineError) -> String {
    match error {
        EngineError::Object { source, .. } => source.to_string(),
        other => other.to_string(),
    }
}
