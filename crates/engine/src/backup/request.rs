//! What a backup is asked to do, and what it did.
//!
//! Never here: doing it.

use std::path::PathBuf;

use pack::{SnapshotId, SnapshotState};
use source::command::CommandLine;
use source::files::FilesOptions;

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
}

/// A backup to make.
#[derive(Debug)]
pub struct BackupRequest {
    /// What to back up.
    pub input: Input,
    /// The component's name; `files`, or the entry's name by default.
    pub component: Option<String>,
    /// The host's name.
    pub host: String,
    /// What retention groups by; the component's name by default.
    pub source: Option<String>,
    /// Tags.
    pub tags: Vec<String>,
    /// For people.
    pub description: String,
    /// A cutter by name, instead of the one that the content suggests.
    pub cutter: Option<chunk::CutterKind>,
    /// zstd level, 1 to 19.
    pub level: i32,
    /// Read every file, whatever the parent snapshot says.
    pub force: bool,
    /// Read and count, but store nothing.
    pub dry_run: bool,
    /// Accept a stream of no bytes, or a tree of no entries.
    pub allow_empty: bool,
}

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

/// What a backup did.
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
    /// The end of what the producer wrote to stderr.
    pub stderr: Vec<u8>,
    /// Things that everybody should know, such as a store that cannot protect writers.
    pub warnings: Vec<String>,
}
