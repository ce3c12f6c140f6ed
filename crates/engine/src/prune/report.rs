//! What a prune is about to do, and what it did.
//!
//! Never here: doing it.

use std::collections::HashSet;

use pack::{PackId, SnapshotId};
use store::StoreError;

use super::choice::{Choice, PruneLimits};
use super::mark::Mark;
use super::usage::{Copies, Listed};
use super::writers::RunningBackup;

/// Objects that a report names; more are counted.
const NAMED_MAX: usize = 100;

/// How a prune is planned and carried out.
#[derive(Debug, Clone)]
pub struct PruneRequest {
    /// The host's name, for people who look at what is going on.
    pub host: String,
    /// What may stay unused and what may be moved.
    pub limits: PruneLimits,
    /// How long a backup may have shown no sign of life before it is given up.
    pub lease_over_after: std::time::Duration,
    /// Nobody else uses the repository meanwhile: then a store without conditional create will do, and every backup that
    /// has not ended is given up.
    pub is_exclusive: bool,
}

/// Requests to the store that a plan takes, about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct PruneRequests {
    /// Listings, a request for a thousand objects.
    pub lists: u64,
    /// Reads.
    pub gets: u64,
    /// Writes.
    pub puts: u64,
    /// Deletions.
    pub deletes: u64,
}

/// What a prune will do. Lengths in bytes.
pub struct PrunePlan {
    /// Snapshots that are kept.
    pub snapshots: u64,
    /// Forgotten snapshots that are removed for good.
    pub removed_snapshots: Vec<SnapshotId>,
    /// Forgotten ones that stay, since the backup that made each never said that it had ended.
    pub unended_snapshots: u64,
    /// Packs, and their bytes.
    pub packs: u64,
    /// See `packs`.
    pub packs_len: u64,
    /// Bytes that snapshots need.
    pub used_len: u64,
    /// Packs which nothing needs.
    pub gone_packs: u64,
    /// Their bytes.
    pub gone_len: u64,
    /// Packs that are repacked.
    pub repacked_packs: u64,
    /// Their bytes.
    pub repacked_len: u64,
    /// Bytes written anew for them, about.
    pub moved_len: u64,
    /// Bytes in packs that stay, which nothing needs.
    pub left_unused_len: u64,
    /// Of all packs, bytes of dead chunks in living blobs. Only a key that opens content frees them.
    pub sealed_in_len: u64,
    /// Whether this key does.
    pub can_recut: bool,
    /// Bytes of content that are stored more than once, sealed apart.
    pub double_len: u64,
    /// Packs of lists that earlier prunes published and did not finish.
    pub pending_packs: u64,
    /// These lists.
    pub pending_lists: u64,
    /// Packs younger than the oldest backup that is running.
    pub young_packs: u64,
    /// Backups that are running.
    pub running: Vec<RunningBackup>,
    /// Index segments.
    pub segments: u64,
    /// Whether small ones are put together.
    pub merges_segments: bool,
    /// Packs that are gone, that segments name nevertheless, and of which nothing is needed: the index forgets them.
    pub stale_packs: u64,
    /// What it takes.
    pub requests: PruneRequests,
    /// What is odd.
    pub warnings: Vec<String>,
    pub(super) request: PruneRequest,
    pub(super) choice: Choice,
    pub(super) copies: Copies,
    pub(super) stale: HashSet<PackId>,
    pub(super) mark: Mark,
}

impl PrunePlan {
    /// Whether there is nothing to do.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        let counts = [self.gone_packs, self.repacked_packs, self.pending_lists, self.stale_packs];
        self.removed_snapshots.is_empty() && counts == [0; 4] && !self.merges_segments
    }

    /// Bytes that are free afterwards, about.
    #[must_use]
    pub const fn freed_len(&self) -> u64 {
        (self.gone_len + self.repacked_len).saturating_sub(self.moved_len)
    }
}

impl std::fmt::Debug for PrunePlan {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "PrunePlan({} packs go, {} are repacked)", self.gone_packs, self.repacked_packs)
    }
}

/// What a prune did. Lengths in bytes.
#[derive(Debug, Clone, Default)]
pub struct PruneReport {
    /// Forgotten snapshots removed for good.
    pub snapshots_removed: u64,
    /// Packs deleted.
    pub packs_deleted: u64,
    /// Their bytes.
    pub deleted_len: u64,
    /// Bytes of packs and segments written.
    pub written_len: u64,
    /// Index segments written.
    pub segments_written: u64,
    /// Index segments deleted.
    pub segments_deleted: u64,
    /// Packs that were needed again after they were condemned, of which that was copied.
    pub copied_packs: u64,
    /// Condemned packs that wait for backups which are running.
    pub waiting_packs: u64,
    /// These backups.
    pub running: Vec<RunningBackup>,
    /// Backups that were given up, since they showed no sign of life.
    pub given_up: u64,
    /// Packs that the store does not let go: the first hundred, each with why.
    pub locked: Vec<(PackId, String)>,
    /// All of these, and their bytes.
    pub locked_count: u64,
    /// See `locked_count`.
    pub locked_len: u64,
    /// What could not be done, and why.
    pub problems: Vec<String>,
}

impl PruneReport {
    pub(super) fn note_locked(&mut self, pack: &Listed, error: &StoreError) {
        self.locked_count += 1;
        self.locked_len += pack.len;
        if self.locked.len() < NAMED_MAX {
            self.locked.push((pack.id, error.to_string()));
        }
    }

    pub(super) fn problem(&mut self, what: impl ToString) {
        if self.problems.len() < NAMED_MAX {
            self.problems.push(what.to_string());
        }
    }

    /// Whether all that was planned was done.
    #[must_use]
    pub fn is_complete(&self) -> bool {
        self.problems.is_empty() && self.locked_count == 0 && self.waiting_packs == 0
    }
}
