//! What a walk leaves out.
//!
//! Invariant: a rule decides from names, kinds and lengths, never from content, except that a marker file's
//! first bytes are compared.
//! Never here: walking; and the roots, which are kept whatever the rules say.

use std::ffi::{CString, OsStr};
use std::os::fd::BorrowedFd;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use ignore::gitignore::{Gitignore, GitignoreBuilder};
use rustix::fs::{FileType, Mode, OFlags, openat};

use crate::entry::COMPONENT_LEN_MAX;
use crate::error::SourceError;
use crate::observe::{FileId, stat_of};
use crate::scratch::is_scratch;

use super::FilesOptions;
use super::roots::forbidden_ids;

/// How a `CACHEDIR.TAG` begins, by the Cache Directory Tagging Specification.
const CACHE_SIGNATURE: &[u8] = b"Signature: 8a477f597d28d172789f06886806bc55";

/// What a walk leaves out, ready to be asked.
#[derive(Debug)]
pub(super) struct Rules {
    exclude: Gitignore,
    include: Gitignore,
    markers: Vec<Marker>,
    forbidden: Vec<(PathBuf, FileId)>,
    options: FilesOptions,
}

/// A file whose presence says that its directory is not worth keeping.
#[derive(Debug)]
struct Marker {
    name: CString,
    header: Vec<u8>,
}

impl Rules {
    pub(super) fn new(options: FilesOptions) -> Result<Self, SourceError> {
        let mut exclude = GitignoreBuilder::new("/");
        add_lines(&mut exclude, &options.exclude)?;
        for file in &options.exclude_files {
            add_lines(&mut exclude, &lines_of(&options.cwd.join(file))?)?;
        }
        let mut include = GitignoreBuilder::new("/");
        add_lines(&mut include, &options.include)?;
        let mut markers =
            options.exclude_if_present.iter().map(|given| marker(given)).collect::<Result<Vec<_>, _>>()?;
        if options.exclude_caches {
            markers.push(Marker { name: c"CACHEDIR.TAG".to_owned(), header: CACHE_SIGNATURE.to_vec() });
        }
        Ok(Self {
            exclude: built(&exclude)?,
            include: built(&include)?,
            markers,
            forbidden: forbidden_ids(&options),
            options,
        })
    }

    /// Whether a pattern leaves out `path` (absolute, without the leading slash), or it is where a copy is made for a backup.
    pub(super) fn excludes(&self, path: &[u8], is_dir: bool) -> bool {
        let is_matched = !self.exclude.is_empty() && self.exclude.matched(path_of(path), is_dir).is_ignore();
        is_matched || (is_dir && path.rsplit(|byte| *byte == b'/').next().is_some_and(is_scratch))
    }

    /// Whether only matching files are kept at all.
    pub(super) fn has_includes(&self) -> bool {
        !self.include.is_empty()
    }

    /// Whether `path` is one of those that are kept, if only matching files are.
    pub(super) fn includes(&self, path: &[u8], is_dir: bool) -> bool {
        self.include.matched(path_of(path), is_dir).is_ignore()
    }

    pub(super) fn is_too_long(&self, len: u64) -> bool {
        self.options.exclude_larger_than.is_some_and(|len_max| len > len_max)
    }

    pub(super) fn one_file_system(&self) -> bool {
        self.options.one_file_system
    }

    pub(super) fn is_forbidden(&self, id: FileId) -> bool {
        self.forbidden.iter().any(|(_, forbidden)| *forbidden == id)
    }

    /// The markers found in `directory`: if there are any, nothing else in it is kept.
    pub(super) fn markers_in(&self, directory: BorrowedFd<'_>, has: impl Fn(&[u8]) -> bool) -> Vec<&[u8]> {
        let present = self.markers.iter().filter(|marker| has(marker.name.to_bytes()));
        present.filter(|marker| begins_with(directory, marker)).map(|marker| marker.name.to_bytes()).collect()
    }
}

fn path_of(path: &[u8]) -> &Path {
    Path::new(OsStr::from_bytes(path))
}

fn add_lines(patterns: &mut GitignoreBuilder, lines: &[String]) -> Result<(), SourceError> {
    for line in lines {
        let added = patterns.add_line(None, line);
        added.map_err(|source| SourceError::Pattern { pattern: line.clone(), source })?;
    }
    Ok(())
}

fn built(patterns: &GitignoreBuilder) -> Result<Gitignore, SourceError> {
    patterns.build().map_err(|source| SourceError::Pattern { pattern: "all patterns together".to_owned(), source })
}

fn lines_of(path: &Path) -> Result<Vec<String>, SourceError> {
    let text =
        std::fs::read_to_string(path).map_err(|source| SourceError::PatternFile { path: path.to_owned(), source })?;
    Ok(text.trim_start_matches('\u{feff}').lines().map(str::to_owned).collect())
}

fn marker(given: &str) -> Result<Marker, SourceError> {
    let (name, header) = given.split_once(':').unwrap_or((given, ""));
    let is_plain = !name.is_empty() && name.len() <= COMPONENT_LEN_MAX && !name.contains('/') && name != "..";
    match CString::new(name) {
        Ok(plain) if is_plain && name != "." => Ok(Marker { name: plain, header: header.as_bytes().to_vec() }),
        _ => Err(SourceError::MarkerName { name: given.to_owned() }),
    }
}

/// A marker that cannot be read marks nothing: keeping too much is the safe mistake.
fn begins_with(directory: BorrowedFd<'_>, marker: &Marker) -> bool {
    if marker.header.is_empty() {
        return true;
    }
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    let Ok(file) = openat(directory, &marker.name, flags, Mode::empty()) else { return false };
    let is_file = stat_of(std::os::fd::AsFd::as_fd(&file)).is_ok_and(|stat| stat.file_type() == FileType::RegularFile);
    let mut head = vec![0; marker.header.len()];
    is_file && matches!(rustix::io::pread(&file, &mut head, 0), Ok(len) if len == head.len()) && head == marker.header
}
