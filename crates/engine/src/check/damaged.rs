//! What is damaged and what is lost, for who repairs it: the same looks as a check takes, and nothing is told.
//!
//! Invariant: whatever is called damaged or lost here was read twice.
//! Never here: doing anything about it.

use std::collections::HashSet;
use std::sync::Arc;

use pack::{PackId, SnapshotId, names};
use seal::ChunkId;
use store::index_cache::Places;
use tokio_util::sync::CancellationToken;

use super::packs::{Flaw, Packs};
use super::read::Plan;
use super::report::{CheckReport, Damage};
use super::{SnapshotRoots, nanos, tree};
use crate::fetch::Fetcher;
use crate::repository::Repository;
use crate::{EngineError, Progress};

/// Which packs are read whole.
pub(crate) enum Suspects<'a> {
    /// Those that a check found damaged and wrote down.
    Known,
    /// All of them.
    All,
    /// These, and nothing else is called damaged.
    These(&'a HashSet<PackId>),
}

/// What is wrong with a pack.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Harm {
    /// It is not there.
    Missing,
    /// Its bytes are not what they were.
    Content,
    /// It is right, and the index says something else of it.
    Described,
}

/// A pack that is named and cannot be used as the index says.
pub(crate) struct DamagedPack {
    pub(crate) id: PackId,
    pub(crate) harm: Harm,
    /// What is wrong, for people.
    pub(crate) what: String,
}

/// The damaged packs, and what tells which of their chunks lie elsewhere.
pub(crate) struct DamagedPacks {
    pub(crate) fetcher: Fetcher,
    pub(crate) damaged: Vec<DamagedPack>,
    /// What the store did not let be looked at.
    pub(crate) unclear: Vec<String>,
    /// Index segments that are not right.
    pub(crate) wrong_segments: Vec<Damage>,
    packs: Packs,
}

impl DamagedPacks {
    /// Whether a chunk with these places lies in a pack that is right, as far as was looked.
    pub(crate) fn is_elsewhere(&self, places: &Places) -> bool {
        places.iter().any(|place| !self.packs.flaws.contains_key(&place.pack))
    }
}

/// What snapshots miss.
pub(crate) struct Losses {
    pub(crate) fetcher: Fetcher,
    /// The snapshots that can be read.
    pub(crate) snapshots: Vec<SnapshotId>,
    /// Chunks and pages that are in no pack which can be read.
    pub(crate) lost: HashSet<ChunkId>,
    /// Chunks that no segment names and that can be had nevertheless.
    pub(crate) unnamed_count: u64,
    /// Snapshots that cannot be read, and why.
    pub(crate) damaged: Vec<Damage>,
    pub(crate) unclear: Vec<String>,
}

impl Repository {
    /// Finds packs that are named and damaged.
    pub(crate) async fn find_damaged_packs(
        &self,
        suspects: Suspects<'_>,
        progress: &Progress,
        cancel: &CancellationToken,
    ) -> Result<DamagedPacks, EngineError> {
        let mut report = CheckReport::default();
        let started_at = nanos(self.env.now());
        let fetcher = self.fetcher().await?;
        let named = self.check_segments(&fetcher.index.cache, &mut report).await?;
        let wrong_segments = std::mem::take(&mut report.damages);
        let mut packs = self.compare_packs(&fetcher.index.cache, &named, &mut report).await?;
        self.recall(&mut packs, &mut report).await?;
        let these: Option<HashSet<[u8; 16]>> = match suspects {
            Suspects::These(ids) => Some(ids.iter().map(PackId::half).collect()),
            _ => None,
        };
        let is_suspect = |half: &[u8; 16]| match (&suspects, &these) {
            (Suspects::All, _) => true,
            (_, Some(these)) => these.contains(half),
            _ => packs.known_damaged.contains(half),
        };
        let chosen = packs.sound.iter().enumerate().filter(|(_, pack)| is_suspect(&pack.half)).map(|(at, _)| at);
        let plan = Plan { chosen: chosen.collect(), until: None, started_at };
        self.read_packs(&fetcher, &plan, &mut packs, progress, cancel, &mut report).await?;
        let mut damaged = Vec::new();
        for (number, flaw) in &packs.flaws {
            let (harm, what) = match flaw {
                Flaw::Unnamed => continue,
                Flaw::Missing => (Harm::Missing, "is missing".to_owned()),
                Flaw::Len(len) => (Harm::Content, format!("is {len} bytes long instead of its own length")),
                Flaw::Content(what) => (Harm::Content, what.clone()),
                Flaw::Table => (Harm::Described, "is described falsely by the index".to_owned()),
            };
            let id = fetcher.index.pack(*number)?.id;
            if these.as_ref().is_none_or(|these| these.contains(&id.half())) {
                damaged.push(DamagedPack { id, harm, what });
            }
        }
        damaged.sort_unstable_by_key(|pack| pack.id);
        Ok(DamagedPacks { fetcher, damaged, unclear: report.unclear, wrong_segments, packs })
    }

    /// Writes down that packs are damaged, so that nobody names them again unread, and what else was read.
    pub(crate) async fn remember_damaged_packs(&self, found: &mut DamagedPacks) -> Vec<String> {
        let present = found.damaged.iter().filter(|pack| pack.harm == Harm::Content);
        found.packs.known_damaged.extend(present.map(|pack| pack.id.half()));
        let mut report = CheckReport::default();
        self.remember_verified(&mut found.packs, &mut report).await;
        report.warnings
    }

    /// Finds what snapshots need and nobody has: every place and every way is tried.
    pub(crate) async fn find_losses(&self, cancel: &CancellationToken) -> Result<Losses, EngineError> {
        let mut report = CheckReport::default();
        let snapshots: Vec<SnapshotRoots> = self.check_snapshots(&mut report).await?;
        let damaged = std::mem::take(&mut report.damages);
        let fetcher = self.fetcher().await?;
        let named = self.check_segments(&fetcher.index.cache, &mut report).await?;
        let mut packs = self.compare_packs(&fetcher.index.cache, &named, &mut report).await?;
        let missing = tree::check_trees(&fetcher, &snapshots, (&named, None), &mut packs, cancel, &mut report).await?;
        let (mut lost, mut unnamed_count) = (HashSet::new(), 0);
        for id in missing.ids() {
            if cancel.is_cancelled() {
                return Err(EngineError::Interrupted);
            }
            match fetcher.chunk(id).await {
                Ok(_) => unnamed_count += 1,
                Err(error) if error.kind() == crate::Kind::Damaged => drop(lost.insert(id)),
                // A key that opens no content knows no better than the index.
                Err(EngineError::Role { .. }) => drop(lost.insert(id)),
                Err(error) => return Err(error),
            }
        }
        let is_snapshot = |damage: &Damage| damage.object.split('/').next() == Some(names::SNAPSHOTS);
        let damaged = damaged.into_iter().filter(is_snapshot).collect();
        let snapshots = snapshots.iter().map(|info| info.id).collect();
        Ok(Losses { fetcher, snapshots, lost, unnamed_count, damaged, unclear: report.unclear })
    }
}

/// Which chunks of `ids` lie in a pack that is right, as far as was looked. Blocks on the local disk.
pub(crate) async fn elsewhere(found: &DamagedPacks, ids: Vec<ChunkId>) -> Result<HashSet<ChunkId>, EngineError> {
    let (cache, own) = (Arc::clone(&found.fetcher.index.cache), ids.clone());
    let places = found.fetcher.offload.start(move || cache.lookup(&own)).await??;
    let there = ids.into_iter().zip(&places).filter(|(_, places)| found.is_elsewhere(places));
    Ok(there.map(|(id, _)| id).collect())
}
