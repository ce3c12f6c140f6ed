//! The repository: everything backstay does, above stores and below the command line.
//!
//! ```text
//! backup    read → cut → name → look up → seal → pack → put → commit
//! restore   snapshot → pages → places → get → open → write
//! ```
//!
//! | | beside backup | beside restore | beside prune |
//! |---|---|---|---|
//! | backup | safe, no lock | safe | safe: the writer announces itself, commits by create-if-absent |
//! | restore, cat, ls, check | safe | safe | safe: reads the index again and tries every copy |
//!
//! Invariant: a snapshot is written last, after everything it names is durable, and is the only commit.
//! Invariant: CPU never runs on the async runtime; it crosses over in `offload` alone.
//! Never here: flags, colours, exit codes, environment variables.

mod across;
mod archived;
mod backup;
mod budget;
mod buffers;
mod cat;
mod check;
mod copy;
mod entries;
mod error;
mod fetch;
mod forget;
mod holding;
mod host_cache;
mod index;
mod init;
mod inspect;
mod kept;
mod keyring;
mod keys;
mod last_resort;
mod look;
mod objects;
mod offload;
mod progress;
mod prune;
mod repair;
mod repository;
mod restore;
mod rewrite;
mod snapshots;
mod stats;
mod trailers;
mod vanished;
mod view;
mod writer;

pub use across::diff::{Change, DiffStream, Difference, Field, Side};
pub use across::find::{ContentId, FindRequest, FindStream, FoundVersion, Wanted};
pub use across::{LostPage, Walked};
pub use archived::{ArchiveStream, Archived};
pub use backup::{
    BackupReport, BackupRequest, COMPONENTS_AT_ONCE_MAX, ComponentReport, ComponentRequest, CopiedComponent,
    EventSource, Input, Problem, RewrittenComponent, ShrinkLimit,
};
pub use cat::CatRequest;
pub use check::{Ages, CheckReport, CheckRequest, Damage, HELD_AND_GONE, LACKING_INDEX, Shard, Subset};
pub use copy::{CopyPlan, CopyReport, CopyRequest, Copying, Passed};
pub use entries::{EntryStream, ListedEntry};
pub use error::{EngineError, Kind};
pub use forget::{Class, Count, Decision, Forget, ForgetPlan, ForgottenSnapshot, Group, GroupBy, Held, Holds, Policy};
pub use holding::{Chosen, Part};
pub use init::InitRequest;
pub use keyring::{Credential, Keyring};
pub use keys::{KeyInfo, KeyStatus};
pub use look::Look;
pub use progress::{Progress, ProgressView};
pub use prune::{LEASE_OVER_AFTER, PruneLimits, PrunePlan, PruneReport, PruneRequest, PruneRequests, RunningBackup};
pub use repair::{
    ComponentLoss, IndexRepair, IndexRepaired, PackRepair, PacksRepair, PacksRepaired, SnapshotRepair, SnapshotsRepair,
    SnapshotsRepaired, Told,
};
pub use repository::{OpenOptions, Repository};
pub use restore::{Foreseen, Overwrite, RestoreReport, RestoreRequest};
pub use rewrite::{Affected, Removal, RewritePlan, RewriteReport};
pub use snapshots::{Selector, SnapshotFilter, SnapshotInfo};
pub use stats::RepositoryStats;
pub use view::{EntriesPage, FileView, Folder, Found, TreeView, View, ViewLimits};
