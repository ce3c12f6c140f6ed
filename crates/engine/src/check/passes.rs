//! What changes beneath a check: a prune deletes segments and packs that it has seen, and forgotten snapshots go.
//!
//! ```text
//! what is there ─► a pass ─► whole? done. Damaged, and all of that is still there? Damaged. Else ─► the next pass
//! ```
//!
//! Invariant: what a prune took away is never called damage, unless prunes come as fast as [`PASSES_MAX`] passes.
//! Invariant: no pass reads data again that another found right.
//! Never here: what a pass looks at.

use std::collections::{BTreeSet, HashSet};

use pack::names;

use super::packs::Packs;
use super::{CheckReport, SnapshotRoots};
use crate::EngineError;
use crate::repository::{Repository, list};

/// Passes of one check. Each after the first follows a prune that took something away in the middle of the one before.
pub(super) const PASSES_MAX: u32 = 3;

/// The names of what was there when a pass began, and would take what it leads to with it.
pub(super) struct Seen {
    repository: Repository,
    names: BTreeSet<String>,
}

/// What the passes before have read: nothing of it need be read again, but what was not right.
#[derive(Default)]
pub(super) struct Before {
    /// The first halves of the ids of packs that were read and right, or were not to be read, 16 bytes each.
    settled: HashSet<[u8; 16]>,
    /// Those of them that were read.
    read: HashSet<[u8; 16]>,
    /// How much that was.
    pub(super) read_len: u64,
}

impl Repository {
    /// The segments that are there now.
    pub(super) async fn segment_names(&self) -> Result<Vec<String>, EngineError> {
        Ok(list(&self.store, names::INDEX).await?.into_iter().map(|info| info.name).collect())
    }
}

impl Seen {
    pub(super) fn new(repository: Repository, snapshots: &[SnapshotRoots], segments: Vec<String>) -> Self {
        let snapshots = snapshots.iter().map(|info| names::snapshot(&info.id));
        Self { repository, names: snapshots.chain(segments).collect() }
    }

    /// Whether something of it is gone or hidden meanwhile. If that cannot be told, it counts as there, and as unclear.
    pub(super) async fn has_vanished(&self, report: &mut CheckReport) -> bool {
        self.try_has_vanished().await.unwrap_or_else(|error| {
            report.unclear(error);
            false
        })
    }

    async fn try_has_vanished(&self) -> Result<bool, EngineError> {
        let hidden = self.repository.read_forgotten().await?;
        let snapshots = list(&self.repository.store, names::SNAPSHOTS).await?;
        let shown = snapshots.into_iter().map(|info| info.name).filter(|name| !hidden.contains_key(names::last(name)));
        let now: HashSet<String> = shown.chain(self.repository.segment_names().await?).collect();
        Ok(!self.names.iter().all(|name| now.contains(name)))
    }
}

impl Before {
    /// Takes in what a pass read.
    pub(super) fn learn(&mut self, packs: &Packs, report: &CheckReport) {
        for pack in packs.sound.iter().filter(|pack| !packs.flaws.contains_key(&pack.number)) {
            if packs.read.contains(pack.number) {
                self.read.insert(pack.half);
            } else if packs.chosen.contains(pack.number) {
                // The store failed, or there was no time.
                continue;
            }
            self.settled.insert(pack.half);
        }
        self.read_len = report.read_len;
    }

    /// Whether another pass has decided about a pack.
    pub(super) fn settles(&self, half: &[u8; 16]) -> bool {
        self.settled.contains(half)
    }

    /// Counts what was read before as read by this pass.
    pub(super) fn apply(&self, packs: &mut Packs, read_at: i64, is_opened: bool) {
        for pack in packs.sound.iter_mut().filter(|pack| self.read.contains(&pack.half)) {
            pack.verify(read_at, is_opened);
            packs.read.insert(pack.number);
            packs.found_right.insert(pack.half);
        }
    }
}
