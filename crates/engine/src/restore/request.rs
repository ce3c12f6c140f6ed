//! What a restore is asked to do, and what it did.
//!
//! Never here: doing it.

use std::path::PathBuf;

use source::sink::OwnerPolicy;

use crate::Problem;

/// What happens to a file that is there already.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Overwrite {
    /// What is right already is kept, what differs is overwritten; the content is compared.
    #[default]
    Always,
    /// As `Always`, but a file with the right length and time is believed to be right.
    IfChanged,
    /// A file that is there is left alone.
    Never,
}

/// A restore to make.
#[derive(Debug)]
pub struct RestoreRequest {
    /// The part of the snapshot, as a path within it; empty for all.
    pub path: Vec<u8>,
    /// Where to.
    pub target: PathBuf,
    /// What happens to what is there already.
    pub overwrite: Overwrite,
    /// Remove what the snapshot does not have, within the directories that it has.
    pub delete: bool,
    /// gitignore lines: restore only what matches one of them (empty: all).
    pub include: Vec<String>,
    /// gitignore lines: leave these out.
    pub exclude: Vec<String>,
    /// Owners by name, by number, or not at all.
    pub owners: OwnerPolicy,
    /// Read everything back and compare.
    pub verify: bool,
    /// Say what would be done.
    pub dry_run: bool,
}

/// What would become of the entries of a target that is there.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Foreseen {
    /// Entries that would be made.
    pub new_count: u64,
    /// Entries that would be changed: content, permissions or time differ.
    pub changed_count: u64,
    /// Entries that are as the snapshot has them.
    pub same_count: u64,
}

/// What a restore did, or would do.
#[derive(Debug, Clone, Default)]
pub struct RestoreReport {
    /// Entries restored or found right.
    pub entry_count: u64,
    /// Bytes of content of these.
    pub content_len: u64,
    /// Bytes written.
    pub written_len: u64,
    /// Bytes found right already.
    pub kept_len: u64,
    /// Entries removed, a directory with all that was in it as one; of a plan, those which would be.
    pub deleted_count: u64,
    /// The first of these, as paths below the target.
    pub deleted: Vec<String>,
    /// Entries left alone.
    pub skipped_count: u64,
    /// Of a dry run: what there is now.
    pub foreseen: Foreseen,
    /// The first problems.
    pub problems: Vec<Problem>,
    /// All problems.
    pub problem_count: u64,
    /// Whether any of them is damage of the repository.
    pub met_damage: bool,
    /// Seconds it took.
    pub seconds: f64,
}
