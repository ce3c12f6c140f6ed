//! Comparing what lies in the target with what the snapshot says of it.
//!
//! Invariant: nothing is changed by looking.
//! Never here: what follows from a difference.

use std::fs::File;
use std::os::unix::fs::FileExt as _;

use pack::manifest::{Child, ChildKind, Entry, EntryKind};
use seal::ChunkNamer;
use source::entry::EntryPath;
use source::sink::is_zero;

use crate::restore::Restoring;

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
