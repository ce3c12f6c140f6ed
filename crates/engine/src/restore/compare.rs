//! Comparing what lies in the target with what the snapshot says of it.
//!
//! Invariant: nothing is changed by looking.
//! Never here: what follows from a difference.

use std::fs::File;
use std::os::unix::fs::FileExt as _;
use std::sync::Arc;

use pack::manifest::{Child, ChildKind, Entry, EntryKind};
use seal::ChunkNamer;
use source::SourceError;
use source::entry::{EntryKind as There, EntryPath};
use source::sink::is_zero;

use crate::EngineError;
use crate::backup::entry::metadata_of;
use crate::restore::Restoring;
use crate::restore::preview::is_alike;
use crate::restore::write::FirstName;

/// What lies where a file should be that nothing may overwrite.
pub(crate) enum UsersOwn {
    Nothing,
    /// Something else, or what cannot be looked at.
    Other,
    /// A file of the same length and time, open for reading.
    Alike(File),
}

impl Restoring {
    /// Looks what lies at `path`. Blocking.
    pub(crate) fn users_own(&self, path: &EntryPath, entry: &Entry) -> UsersOwn {
        let there = match self.target.existing(path) {
            Ok(Some(there)) => there,
            // What cannot be looked at is found again, and named, where the file is opened.
            Ok(None) | Err(_) => return UsersOwn::Nothing,
        };
        let (time, modified_at) = (there.modified_at, entry.modified_at);
        let is_alike = entry.kind == EntryKind::File { len: there.len }
            && (time.secs, time.nanos) == (modified_at.secs, modified_at.nanos);
        let open = if is_alike { self.target.open_for_comparing(path).ok().flatten() } else { None };
        open.map_or(UsersOwn::Other, UsersOwn::Alike)
    }
}

impl Restoring {
    /// A file of several names that is there with all that it should have but its content, open for reading. Blocking.
    ///
    /// A file that has more names than the snapshot knows of is none: one of them is the user's.
    pub(crate) fn linked_alike(&self, path: &EntryPath, entry: &Entry) -> Option<File> {
        if self.is_linked_alike(path, entry) { self.target.open_for_comparing(path).ok().flatten() } else { None }
    }

    /// The same for anything. What cannot be looked at is found again, and named, where it is made. Blocking.
    pub(crate) fn is_linked_alike(&self, path: &EntryPath, entry: &Entry) -> bool {
        let there = self.target.existing(path).ok().flatten();
        there.is_some_and(|there| (2..=entry.links).contains(&there.links))
            && self.differences(path, entry).is_ok_and(|differing| differing.is_empty())
    }

    /// Compares what is there with entries whose content is right, or which have none. Blocking.
    pub(crate) fn verify_all(&self, entries: &[(EntryPath, Entry)]) -> Result<(), EngineError> {
        for (path, entry) in entries {
            self.go_on()?;
            self.verify(path, entry);
        }
        Ok(())
    }

    pub(crate) fn verify(&self, path: &EntryPath, entry: &Entry) {
        match self.differences(path, entry) {
            Ok(differing) if differing.is_empty() => {}
            Ok(differing) => self.differs(path, &differing.join(", ")),
            Err(error) => self.problem(&path.to_string(), &error),
        }
    }

    /// Looks whether further names are names of the first. Blocking.
    pub(crate) fn verify_links(&self, links: &[(Arc<FirstName>, EntryPath)]) -> Result<(), EngineError> {
        for (first, path) in links {
            self.go_on()?;
            let inode = |path| Ok(self.target.existing(path)?.map(|there| (there.device, there.inode)));
            match (inode(&first.path), inode(path)) {
                (Ok(one), Ok(other)) if one == other && one.is_some() => {}
                (Err(error), _) | (_, Err(error)) => self.problem(&path.to_string(), &error),
                _ => self.differs(path, &format!("it is no further name of {}", first.path)),
            }
        }
        Ok(())
    }

    fn differs(&self, path: &EntryPath, how: &str) {
        self.progress.add_problem();
        self.problems.add(path.to_string(), format!("differs from the snapshot after the restore: {how}"), true);
    }

    /// What of an entry is not as the snapshot has it, content aside.
    fn differences(&self, path: &EntryPath, entry: &Entry) -> Result<Vec<&'static str>, SourceError> {
        let is_right_kind = |there: &There| match (&entry.kind, there) {
            (EntryKind::Symlink { target }, There::Symlink { target: other }) => target == other,
            (EntryKind::File { len }, There::File { len: other }) => len == other,
            (wanted, there) => is_alike(wanted, there),
        };
        match self.target.existing(path)? {
            None => Ok(vec!["it is missing"]),
            Some(there) if !is_right_kind(&there.kind) => Ok(vec!["what it is"]),
            Some(_) => self.target.differences(path, &metadata_of(entry), &self.request.owners),
        }
    }
}

/// Whether `file` holds these leaves from `offset` on. Blocking and CPU-bound.
pub(crate) fn holds_all(file: &File, offset: u64, leaves: &[Child], namer: &ChunkNamer) -> bool {
    let mut offset = offset;
    leaves.iter().all(|leaf| {
        let is_there = holds(file, offset, leaf, namer);
        offset = offset.saturating_add(leaf.len);
        is_there
    })
}

/// Whether `file` holds this leaf at `offset`: the bytes of a chunk, or the zeros of a hole. Blocking and CPU-bound.
pub(crate) fn holds(file: &File, offset: u64, leaf: &Child, namer: &ChunkNamer) -> bool {
    if leaf.kind == ChildKind::Hole {
        return is_zero(file, offset, leaf.len).unwrap_or(false);
    }
    let mut bytes = vec![0; leaf.len as usize];
    file.read_exact_at(&mut bytes, offset).is_ok() && namer.name(&bytes) == leaf.id
}
