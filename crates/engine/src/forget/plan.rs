//! Which snapshots a policy, or a name, lets go.
//!
//! Invariant: snapshots of different keys are in different groups, so that a stolen key pushes none of another out.
//! Invariant: a snapshot whose time is not believed neither goes by a policy nor makes another one go.
//! Never here: the store.

use std::collections::BTreeMap;

use jiff::tz::TimeZone;
use jiff::{Timestamp, Zoned};
use pack::{ComponentState, SnapshotId};
use seal::Identity;

use crate::forget::holds::Holds;
use crate::forget::policy::{Member, Policy};
use crate::snapshots::{SnapshotInfo, TIME_OFF_MAX};

/// How long a backup may have taken whose time is believed, in nanoseconds: four weeks.
const TAKES_MAX: i64 = 28 * TIME_OFF_MAX;

/// What makes snapshots one group, besides the key that signed them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct GroupBy {
    /// The host.
    pub host: bool,
    /// The source.
    pub source: bool,
    /// The tags, all of them.
    pub tags: bool,
}

impl Default for GroupBy {
    fn default() -> Self {
        Self { host: true, source: true, tags: false }
    }
}

/// What becomes of a snapshot, and why.
#[derive(Debug, Clone)]
pub struct Decision {
    /// The snapshot.
    pub info: SnapshotInfo,
    /// Whether it stays.
    pub is_kept: bool,
    /// Whether its signer and its times are believed.
    pub is_believed: bool,
    /// Why it stays, or, if it was named, why it goes. None if no rule of the policy keeps it.
    pub reasons: Vec<String>,
}

/// Snapshots that are thinned out together.
#[derive(Debug, Clone)]
pub struct Group {
    /// The host, if it counts.
    pub host: Option<String>,
    /// The source, if it counts.
    pub source: Option<String>,
    /// The tags, if they count.
    pub tags: Option<Vec<String>>,
    /// Who committed them first.
    pub signer: Identity,
    /// Newest first.
    pub decisions: Vec<Decision>,
}

impl Group {
    /// Whether nothing of it would be left that is believed, or nothing at all.
    #[must_use]
    pub fn would_be_empty(&self) -> bool {
        let is_left = |decision: &&Decision| decision.is_kept;
        let loses_believed = self.decisions.iter().any(|decision| decision.is_believed && !decision.is_kept);
        let mut left = self.decisions.iter().filter(is_left).peekable();
        left.peek().is_none() || loses_believed && !left.any(|decision| decision.is_believed)
    }
}

/// Groups `snapshots`, newest first in each, and decides by `decide` what becomes of each group.
pub(super) fn grouped(
    snapshots: Vec<SnapshotInfo>,
    by: GroupBy,
    decide: impl Fn(Vec<SnapshotInfo>) -> Vec<Decision>,
) -> Vec<Group> {
    let mut groups: BTreeMap<_, Vec<SnapshotInfo>> = BTreeMap::new();
    for info in snapshots {
        let structure = &info.snapshot.structure;
        let mut tags = structure.tags.clone();
        tags.sort();
        let host = by.host.then(|| structure.host.clone());
        let source = by.source.then(|| structure.source.clone());
        groups.entry((host, source, by.tags.then_some(tags), info.first().signer)).or_default().push(info);
    }
    let groups = groups.into_iter().map(|((host, source, tags, signer), mut members)| {
        members.sort_by_key(|info| std::cmp::Reverse((info.snapshot.structure.started_at, info.id)));
        Group { host, source, tags, signer, decisions: decide(members) }
    });
    groups.collect()
}

/// What `policy` keeps of a group, which is sorted newest first.
pub(super) fn by_policy(members: Vec<SnapshotInfo>, policy: &Policy, holds: &Holds, now: &Zoned) -> Vec<Decision> {
    let shielded: Vec<Option<String>> = members.iter().map(|info| shield(info, holds, now)).collect();
    let counted = members.iter().zip(&shielded).filter(|(info, _)| is_believed(info));
    let seen: Vec<Member<'_>> = counted.map(|(info, _)| member(info, now.time_zone())).collect();
    let mut reasons = policy.reasons(&seen, now).into_iter();
    let mut of_policy: Vec<Vec<String>> = Vec::with_capacity(members.len());
    for info in &members {
        of_policy.push(if is_believed(info) { reasons.next().unwrap_or_default() } else { Vec::new() });
    }
    let decided = members.into_iter().zip(of_policy).zip(shielded).map(|((info, reasons), shield)| {
        let reasons: Vec<String> = reasons.into_iter().chain(shield).collect();
        Decision { is_believed: is_believed(&info), is_kept: !reasons.is_empty(), info, reasons }
    });
    decided.collect()
}

/// What becomes of a group of which `named` shall go. What is held stays all the same.
pub(super) fn by_name(members: Vec<SnapshotInfo>, named: &[SnapshotId], holds: &Holds, now: &Zoned) -> Vec<Decision> {
    let decided = members.into_iter().map(|info| {
        let held = held(&info, holds, now);
        let (is_kept, reason) = match (named.contains(&info.id), held) {
            (true, None) => (false, "named".to_owned()),
            (true, Some(held)) => (true, held),
            (false, _) => (true, "not named".to_owned()),
        };
        Decision { is_believed: is_believed(&info), is_kept, info, reasons: vec![reason] }
    });
    decided.collect()
}

fn member<'a>(info: &'a SnapshotInfo, zone: &TimeZone) -> Member<'a> {
    let structure = &info.snapshot.structure;
    let is_whole = structure.components.iter().all(|component| component.state != ComponentState::Failed);
    Member { at: moment(structure.started_at).to_zoned(zone.clone()), tags: &structure.tags, is_whole }
}

/// Why a snapshot stays whatever the policy says.
fn shield(info: &SnapshotInfo, holds: &Holds, now: &Zoned) -> Option<String> {
    held(info, holds, now).or_else(|| {
        let why = if info.trusted { "its times cannot be true" } else { "its key was removed" };
        (!is_believed(info)).then(|| format!("{why}: it goes only by name"))
    })
}

/// `held until 2033-11-19: audit`.
fn held(info: &SnapshotInfo, holds: &Holds, now: &Zoned) -> Option<String> {
    let held = holds.of(info, now.timestamp())?;
    let until = held.until.map(|until| moment(until).to_zoned(now.time_zone().clone()).date());
    let until = until.map_or_else(|| "held".to_owned(), |until| format!("held until {until}"));
    Some(if held.reason.is_empty() { until } else { format!("{until}: {}", held.reason) })
}

fn is_believed(info: &SnapshotInfo) -> bool {
    let structure = &info.snapshot.structure;
    let took = structure.ended_at.saturating_sub(structure.started_at);
    // A copy is as old as what it is a copy of. Of a key that may be stolen, it has to be made within the day all the same.
    let is_of_another_time = info.is_by_owner && info.origin.is_some();
    let is_plausible =
        is_of_another_time || structure.ended_at.abs_diff(info.first().stored_at) <= TIME_OFF_MAX.unsigned_abs();
    info.trusted && is_plausible && (0..=TAKES_MAX).contains(&took)
}

fn moment(nanos: i64) -> Timestamp {
    Timestamp::from_nanosecond(i128::from(nanos)).unwrap_or(Timestamp::UNIX_EPOCH)
}
