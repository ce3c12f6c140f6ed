//! Files and directories as a source: which roots, what is left out, and the walk over the rest.
//!
//! ```text
//! roots ──→ plan (which directories lead to a root) ──→ Walk ──→ WalkedEntry ──→ ContentReader
//! options ─→ rules (what is left out) ────────────────────┘
//! ```
//!
//! An entry's path is its absolute path without the leading slash. The directories that lead to a root are
//! entries too, with their metadata but without what else is in them, so a restore makes them as they were.
//!
//! Symbolic links are stored, never followed, with one exception: on the way to a root. `backup /var/run/app`
//! with `/var/run → /run` stores `var/run` as the directory it leads to; `backup /var/run` stores the link.
//!
//! Invariant: entries come in the manifest's order, each path once.
//! Never here: whether a file changed since the last snapshot; that is the engine's to decide.

mod changes;
mod content;
mod dir;
mod listing;
mod preflight;
mod roots;
mod rules;
mod walk;

use std::path::{Path, PathBuf};
use std::sync::Arc;

pub use changes::{Changes, Seeing};
pub use content::{ContentReader, FileState, Piece};
pub(crate) use listing::{LISTING_READ_LEN, Listing};
pub use preflight::preflight;
pub use walk::{Walk, Walked, WalkedEntry};

use crate::error::SourceError;
use roots::Plan;
use rules::Rules;

/// What to leave out of a walk. The default leaves nothing out.
#[derive(Debug, Clone)]
pub struct FilesOptions {
    /// What relative roots, relative pattern files and relative forbidden folders are relative to. Absolute.
    pub cwd: PathBuf,
    /// gitignore lines, matched against the absolute path: `*.tmp`, `/home/*/.cache/`, `!keep.tmp`.
    pub exclude: Vec<String>,
    /// Files of such lines; their lines come after those of `exclude`, so they win.
    pub exclude_files: Vec<PathBuf>,
    /// gitignore lines too: if any are given, only what matches them is kept, or is beneath a directory that
    /// matches. Directories themselves are always kept.
    pub include: Vec<String>,
    /// Keep nothing but the tag of a directory marked by a `CACHEDIR.TAG` with the standard signature.
    pub exclude_caches: bool,
    /// `name` or `name:header`: keep nothing but that file of a directory which has a file of this name,
    /// beginning with these bytes.
    pub exclude_if_present: Vec<String>,
    /// Do not enter a directory on another file system than its root; the directory itself is kept.
    pub one_file_system: bool,
    /// Leave out files longer than this, in bytes.
    pub exclude_larger_than: Option<u64>,
    /// Folders which are never entered, by identity, whatever way leads there: the repository and its cache.
    /// The folder itself is kept, empty, and reported once. What does not exist is ignored.
    pub forbidden: Vec<PathBuf>,
    /// Refuse to begin if any root is not there, in place of reporting it and going on with the others.
    pub needs_all_roots: bool,
}

impl Default for FilesOptions {
    fn default() -> Self {
        Self {
            cwd: PathBuf::from("/"),
            exclude: Vec::new(),
            exclude_files: Vec::new(),
            include: Vec::new(),
            exclude_caches: false,
            exclude_if_present: Vec::new(),
            one_file_system: false,
            exclude_larger_than: None,
            forbidden: Vec::new(),
            needs_all_roots: false,
        }
    }
}

/// Directory trees and single files as a source.
#[derive(Debug, Clone)]
pub struct FilesSource {
    plan: Arc<Plan>,
    rules: Arc<Rules>,
}

impl FilesSource {
    /// Checks the roots and the options; nothing is walked yet.
    ///
    /// A root is a directory, a file or anything else with a name. Relative roots are relative to
    /// [`FilesOptions::cwd`]. A root that is a symbolic link (also with a slash after it) is stored as a link.
    /// Roots inside each other are merged. One that is not there is a problem that the walk tells, unless none is there. What a root names is kept whatever the options say; they apply to
    /// what is beneath it.
    ///
    /// Blocks on a few system calls per root.
    ///
    /// # Errors
    ///
    /// [`SourceError::NoRoots`]; [`SourceError::RootMissing`] or [`SourceError::RootUnreadable`] if no root can be had;
    /// [`SourceError::RootAmbiguous`] and [`SourceError::RootForbidden`] for roots; [`SourceError::Pattern`],
    /// [`SourceError::PatternFile`] and [`SourceError::MarkerName`] for options.
    pub fn new(roots: Vec<PathBuf>, options: FilesOptions) -> Result<Self, SourceError> {
        let plan = Plan::new(&roots, &options)?;
        let rules = Rules::new(options)?;
        Ok(Self { plan: Arc::new(plan), rules: Arc::new(rules) })
    }

    /// The roots as made absolute and merged, in the order of the walk, with those that are not there.
    #[must_use]
    pub fn roots(&self) -> &[PathBuf] {
        self.plan.roots()
    }

    /// `root` as a walk names it: absolute, by its text alone. Nothing is looked at.
    #[must_use]
    pub fn root_by_text(cwd: &Path, root: &Path) -> PathBuf {
        roots::absolute_by_text(cwd, root).0
    }

    /// Starts a walk from the first root. Blocking: iterate on a blocking thread, see [`crate::blocking`].
    #[must_use]
    pub fn walk(&self) -> Walk {
        Walk::new(Arc::clone(&self.plan), Arc::clone(&self.rules))
    }
}

#[cfg(test)]
mod tests;
