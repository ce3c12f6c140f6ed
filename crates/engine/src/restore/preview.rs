//! A dry run over a target that is there: what would become of each entry.
//!
//! ```text
//! nothing there, or something of another kind ─► new
//! there, but content, kind's own data, mode or time differ ─► changed
//! else ─► same
//! ```
//!
//! Invariant: nothing is changed, and what a restore would refuse or remove is refused or named just so.
//! Never here: content (compared as ever, but only compared).

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt as _;
use std::sync::PoisonError;
use std::sync::atomic::{AtomicU64, Ordering};

use pack::manifest::{Entry, EntryKind};
use source::SourceError;
use source::entry::{EntryKind as There, EntryPath};
use source::sink::Existing;

use crate::EngineError;
use crate::restore::request::Foreseen;
use crate::restore::write::FilePlan;
use crate::restore::{Overwrite, Restoring};

/// What is there now where an entry belongs.
#[derive(Debug, Clone)]
pub(crate) enum Preview {
    /// Nothing, or what would make way.
    New,
    /// Something of the same kind, which would be compared.
    Alike(Existing),
    /// Something that stays as it is.
    Stays,
}

/// Counters of a dry run.
#[derive(Debug, Default)]
pub(crate) struct Counts {
    new: AtomicU64,
    changed: AtomicU64,
    same: AtomicU64,
}

impl Counts {
    pub(crate) fn foreseen(&self) -> Foreseen {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        Foreseen { new_count: read(&self.new), changed_count: read(&self.changed), same_count: read(&self.same) }
    }
}

impl Restoring {
    /// Looks at an entry's place. A directory that is in the way is named: as what would be removed, or as a problem.
    pub(crate) fn preview(&self, path: &EntryPath, entry: &Entry) -> Result<Preview, SourceError> {
        let overwrite = self.request.overwrite;
        let there = match self.target.existing(path) {
            // By then the link would have made way for a directory.
            Err(SourceError::BehindLink { .. }) if overwrite != Overwrite::Never => None,
            there => there?,
        };
        let Some(there) = there else { return Ok(Preview::New) };
        if overwrite == Overwrite::Never {
            return Ok(Preview::Stays);
        }
        if is_alike(&entry.kind, &there.kind) {
            let is_believed = overwrite == Overwrite::IfChanged && has_length_and_time(entry, &there);
            return Ok(if is_believed { Preview::Stays } else { Preview::Alike(there) });
        }
        self.foresee_way(path, &there)?;
        Ok(Preview::New)
    }

    /// What would become of something that is in an entry's way.
    fn foresee_way(&self, path: &EntryPath, there: &Existing) -> Result<(), SourceError> {
        if there.kind != There::Directory || self.target.list_dir(Some(path))?.is_empty() {
            return Ok(());
        }
        if !self.may_remove_trees() {
            let path = self.target.path().join(OsStr::from_bytes(path.as_bytes()));
            return Err(SourceError::Occupied { path, found: "directory that is not empty" });
        }
        self.note_deleted(path);
        Ok(())
    }

    /// Counts a directory, link, pipe or device.
    pub(crate) fn foresee_simple(&self, path: &EntryPath, entry: &Entry) -> Result<(), EngineError> {
        match self.preview(path, entry) {
            Ok(preview) => self.foresee(path, entry, &preview, false),
            Err(error) => self.failed(&path.to_string(), &error)?,
        }
        Ok(())
    }

    /// Counts a further name of a file; nothing of the user's stays there.
    pub(crate) fn foresee_link(&self, first: &EntryPath, path: &EntryPath) -> Result<(), SourceError> {
        let looked = |path| match self.target.existing(path) {
            Err(SourceError::BehindLink { .. }) => Ok(None),
            there => there,
        };
        let (one, other) = (looked(first)?, looked(path)?);
        let is_linked = matches!((&one, &other), (Some(one), Some(other))
            if (one.device, one.inode) == (other.device, other.inode));
        let counter = if is_linked { &self.counts.same } else { &self.counts.new };
        counter.fetch_add(1, Ordering::Relaxed);
        if !is_linked {
            tracing::info!("would link {path}");
        }
        other.map_or(Ok(()), |there| self.foresee_way(path, &there))
    }

    /// What is there of a file, looked at once.
    pub(crate) fn preview_of(&self, file: &FilePlan) -> Result<Preview, SourceError> {
        let mut seen = file.preview.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(preview) = seen.as_ref() {
            return Ok(preview.clone());
        }
        let preview = self.preview(&file.name.path, &file.entry)?;
        *seen = Some(preview.clone());
        Ok(preview)
    }

    /// Counts a file whose content was compared.
    pub(crate) fn foresee_file(&self, file: &FilePlan) -> Result<(), EngineError> {
        match self.preview_of(file) {
            Ok(preview) => {
                let differs = file.differs.load(Ordering::Acquire);
                self.foresee(&file.name.path, &file.entry, &preview, differs);
                Ok(())
            }
            Err(error) => self.entry_failed(file, &error),
        }
    }

    /// Counts a file that is there as it should be.
    pub(crate) fn foresee_same(&self) {
        self.counts.same.fetch_add(1, Ordering::Relaxed);
    }

    fn foresee(&self, path: &EntryPath, entry: &Entry, preview: &Preview, content_differs: bool) {
        let there = match preview {
            Preview::Stays => {
                self.tally.skipped.fetch_add(1, Ordering::Relaxed);
                return;
            }
            Preview::New => None,
            Preview::Alike(there) => Some(there),
        };
        let (counter, word) = match there {
            None => (&self.counts.new, Some("write")),
            Some(there) if content_differs || !has_same_metadata(entry, there) => {
                (&self.counts.changed, Some("change"))
            }
            Some(_) => (&self.counts.same, None),
        };
        counter.fetch_add(1, Ordering::Relaxed);
        if let Some(word) = word {
            tracing::info!("would {word} {path}");
        }
        self.count(entry);
    }
}

pub(crate) fn is_alike(wanted: &EntryKind, there: &There) -> bool {
    match (wanted, there) {
        (EntryKind::File { .. }, There::File { .. })
        | (EntryKind::Directory, There::Directory)
        | (EntryKind::Symlink { .. }, There::Symlink { .. })
        | (EntryKind::Fifo, There::Fifo)
        | (EntryKind::Socket, There::Socket) => true,
        (EntryKind::CharDevice { major, minor }, There::CharDevice { major: a, minor: b })
        | (EntryKind::BlockDevice { major, minor }, There::BlockDevice { major: a, minor: b }) => {
            (major, minor) == (a, b)
        }
        _ => false,
    }
}

fn has_length_and_time(entry: &Entry, there: &Existing) -> bool {
    matches!(entry.kind, EntryKind::File { len } if len == there.len) && has_time(entry, there)
}

fn has_time(entry: &Entry, there: &Existing) -> bool {
    let time = there.modified_at;
    (time.secs, time.nanos) == (entry.modified_at.secs, entry.modified_at.nanos)
}

/// Whether kind's own data, mode and time are those of the snapshot. Owners and attributes are not compared.
fn has_same_metadata(entry: &Entry, there: &Existing) -> bool {
    let is_same = match (&entry.kind, &there.kind) {
        (EntryKind::Symlink { target }, There::Symlink { target: other }) => return target == other,
        (EntryKind::File { len }, _) => *len == there.len,
        _ => true,
    };
    is_same && has_time(entry, there) && entry.mode & 0o7777 == there.mode & 0o7777
}
