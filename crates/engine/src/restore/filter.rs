//! Which entries a restore wants, and where they go.
//!
//! Invariant: a directory is wanted whenever something below it may be.
//! Never here: the target's file system.

use ignore::gitignore::{Gitignore, GitignoreBuilder};
use pack::manifest::{Entry, EntryKind};
use source::SourceError;
use source::entry::EntryPath;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use crate::{EngineError, RestoreRequest};

/// The request's path, includes and excludes.
pub(crate) struct Filter {
    path: Vec<u8>,
    include: Option<Gitignore>,
    exclude: Gitignore,
}

impl Filter {
    pub(crate) fn new(request: &RestoreRequest) -> Result<Self, EngineError> {
        let include = (!request.include.is_empty()).then(|| patterns(&request.include)).transpose()?;
        Ok(Self { path: request.path.clone(), include, exclude: patterns(&request.exclude)? })
    }

    /// Whether the entry is to be restored.
    pub(crate) fn wants(&self, entry: &Entry) -> bool {
        let is_dir = matches!(entry.kind, EntryKind::Directory);
        let path = Path::new(std::ffi::OsStr::from_bytes(&entry.path));
        let included = |include: &Gitignore| include.matched_path_or_any_parents(path, is_dir).is_ignore();
        !self.exclude.matched_path_or_any_parents(path, is_dir).is_ignore()
            && (is_dir || self.include.as_ref().is_none_or(included))
    }

    /// Where an entry goes: relative to the path that was asked for. None for that path itself, if it is a directory.
    pub(crate) fn place(&self, prefix: &[u8], entry: &Entry) -> Option<Result<EntryPath, SourceError>> {
        let below = if self.path.is_empty() {
            entry.path.as_slice()
        } else if entry.path == self.path {
            if matches!(entry.kind, EntryKind::Directory) {
                return None;
            }
            self.path.rsplit(|byte| *byte == b'/').next().unwrap_or_default()
        } else {
            entry.path.get(self.path.len() + 1..).unwrap_or_default()
        };
        let mut place = prefix.to_vec();
        if !place.is_empty() {
            place.push(b'/');
        }
        place.extend_from_slice(below);
        Some(EntryPath::try_from(place))
    }
}

/// The includes of a request, one by one, as far as nothing was seen that matches them.
pub(crate) struct Unmatched(Vec<(String, Gitignore)>);

impl Unmatched {
    pub(crate) fn new(request: &RestoreRequest) -> Result<Self, EngineError> {
        let positive = request.include.iter().filter(|line| !line.starts_with(['!', '#']) && !line.trim().is_empty());
        let each = positive.map(|line| Ok((line.clone(), patterns(std::slice::from_ref(line))?)));
        Ok(Self(each.collect::<Result<_, EngineError>>()?))
    }

    pub(crate) fn see(&mut self, entry: &Entry) {
        let is_dir = matches!(entry.kind, EntryKind::Directory);
        let path = Path::new(std::ffi::OsStr::from_bytes(&entry.path));
        self.0.retain(|(_, pattern)| !pattern.matched_path_or_any_parents(path, is_dir).is_ignore());
    }

    /// The patterns that are left.
    pub(crate) fn lines(&self) -> impl Iterator<Item = &str> {
        self.0.iter().map(|(line, _)| line.as_str())
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }
}

fn patterns(lines: &[String]) -> Result<Gitignore, EngineError> {
    let mut builder = GitignoreBuilder::new("");
    let bad = |error: ignore::Error| EngineError::Request { what: format!("a pattern cannot be used: {error}") };
    for line in lines {
        builder.add_line(None, line).map_err(bad)?;
    }
    builder.build().map_err(bad)
}
