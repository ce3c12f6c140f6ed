//! What a backup is asked to do, and what it did.
//!
//! Never here: doing it.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

use bytes::Bytes;
use pack::{ComponentState, SnapshotId, SnapshotState};
use source::command::CommandLine;
use source::events::Events;
use source::files::FilesOptions;

use crate::EngineError;
use crate::backup::copied::CopiedComponent;
use crate::backup::rewritten::RewrittenComponent;

/// Where a component's bytes come from.
#[derive(Debug)]
pub enum Input {
    /// Folders and files.
    Files {
        /// Absolute paths.
        roots: Vec<PathBuf>,
        /// What to leave out.
        options: FilesOptions,
    },
    /// Standard input, as one entry.
    Stdin {
        /// The entry's name.
        name: String,
    },
    /// The output of a command, as one entry; committed only if it ends with 0.
    Command {
        /// The entry's name.
        name: String,
        /// What to run.
        command: CommandLine,
    },
    /// A database or the like, as a stream of events.
    Events(EventSource),
    /// A component of a snapshot in another repository.
    Copied(CopiedComponent),
    /// A component of a snapshot in this repository, without some of its entries.
    Rewritten(RewrittenComponent),
}

/// Something that speaks in events.
pub struct EventSource {
    /// What it is, as the snapshot says: `postgres`, `redis`, …
    pub kind: &'static str,
    /// An entry whose content this host keeps for the next run, such as a manifest that an incremental backup begins with.
    pub keeps: Option<&'static str>,
    /// Begins to read, from what was kept if there is something and nothing has been lost; without it, everything.
    pub open: Box<dyn Fn(Option<Bytes>) -> Events + Send + Sync>,
}

impl fmt::Debug for EventSource {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "EventSource({})", self.kind)
    }
}

/// One component to back up.
#[derive(Debug)]
pub struct ComponentRequest {
    /// What to back up.
    pub input: Input,
    /// Its name; `files`, or the entry's name by default.
    pub name: Option<String>,
    /// A cutter by name, instead of the one that the content suggests.
    pub cutter: Option<chunk::CutterKind>,
    /// Read every file, whatever the parent snapshot says.
    pub force: bool,
    /// Accept a stream of no bytes, or a tree of no entries.
    pub allow_empty: bool,
    /// How much smaller than in the snapshot before it may be.
    pub shrink: Option<ShrinkLimit>,
}

/// What is done with a component that is suspiciously smaller than before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ShrinkLimit {
    /// By how many percent of its bytes it may shrink.
    pub percent_max: u8,
    /// Whether it fails when it shrank more; else there is a warning.
    pub refuses: bool,
}

/// A backup to make: one snapshot of one or several components.
#[derive(Debug)]
pub struct BackupRequest {
    /// What to back up; names must differ. A single one that fails is the backup's failure; one of several makes the
    /// snapshot partial.
    pub components: Vec<ComponentRequest>,
    /// How many of them are read at once; at least 1, at most [`COMPONENTS_AT_ONCE_MAX`].
    pub at_once: usize,
    /// The host's name.
    pub host: String,
    /// What retention groups by; the first component's name by default.
    pub source: Option<String>,
    /// Tags.
    pub tags: Vec<String>,
    /// Nothing forgets the snapshot before: nanoseconds since 1970.
    pub keep_until: Option<i64>,
    /// For people.
    pub description: String,
    /// zstd level, 1 to 19.
    pub level: i32,
    /// Read and count, but store nothing.
    pub dry_run: bool,
}

/// Components that may be read at once.
pub const COMPONENTS_AT_ONCE_MAX: usize = 4;

/// What was left out or went wrong with one entry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// The entry, escaped for people.
    pub path: String,
    /// Why.
    pub message: String,
    /// Whether something is missing from the snapshot because of it.
    pub loses: bool,
}

/// What became of one component.
#[derive(Debug, Clone)]
pub struct ComponentReport {
    /// Its name.
    pub name: String,
    /// `files`, `postgres`, …
    pub kind: String,
    /// Whether all, some or nothing of it is in the snapshot.
    pub state: ComponentState,
    /// Why nothing of it is.
    pub failure: Option<Arc<EngineError>>,
    /// Entries in it.
    pub entry_count: u64,
    /// Bytes of content in it.
    pub content_len: u64,
    /// Bytes of content that were new to the repository.
    pub new_len: u64,
    /// Bytes that it added to the store.
    pub stored_len: u64,
    /// Seconds that it took.
    pub seconds: f64,
    /// What the source said of the moment.
    pub facts: Vec<(String, String)>,
    /// What people should know of it.
    pub warnings: Vec<String>,
    /// Problems with single entries.
    pub problem_count: u64,
}

/// What a backup did, all components together.
#[derive(Debug, Clone, Default)]
pub struct BackupReport {
    /// The snapshot; none after a dry run.
    pub snapshot: Option<SnapshotId>,
    /// The snapshot it was compared with.
    pub parent: Option<SnapshotId>,
    /// Complete, or partial.
    pub state: Option<SnapshotState>,
    /// Entries in the snapshot.
    pub entry_count: u64,
    /// Files that were not read because the parent has them.
    pub unchanged_count: u64,
    /// Bytes of content in the snapshot.
    pub content_len: u64,
    /// Bytes of content that were read.
    pub read_len: u64,
    /// Bytes of content that were new to the repository.
    pub new_len: u64,
    /// Chunks and pages that snapshots need, that were lost, and that are there again.
    pub healed_count: u64,
    /// Bytes added to the store: packs, index segments, and the snapshot's object. What [`crate::SnapshotInfo::stored_len`]
    /// gives for the snapshot.
    pub stored_len: u64,
    /// Packs added to the store.
    pub pack_count: u64,
    /// Seconds from start to commit.
    pub seconds: f64,
    /// The first problems.
    pub problems: Vec<Problem>,
    /// All problems.
    pub problem_count: u64,
    /// Each component.
    pub components: Vec<ComponentReport>,
    /// The end of what the producer wrote to stderr.
    pub stderr: Vec<u8>,
    /// Things that everybody should know, such as a store that cannot protect writers.
    pub warnings: Vec<String>,
}
