//! Entries as sources know them and as manifests keep them: two types on purpose, so that neither changes the other.
//!
//! Never here: content.

use pack::manifest::{Entry, EntryKind, Time};
use source::files::FileState;

/// A source's entry as a manifest keeps it. The device is kept only where hard links need it.
pub(crate) fn entry_of(found: &source::entry::Entry) -> Entry {
    let metadata = &found.metadata;
    let has_links = metadata.links > 1 && !matches!(found.kind, source::entry::EntryKind::Directory);
    Entry {
        path: found.path.as_bytes().to_vec(),
        kind: kind_of(&found.kind),
        mode: metadata.mode,
        uid: metadata.uid,
        gid: metadata.gid,
        user: metadata.user.clone(),
        group: metadata.group.clone(),
        modified_at: time_of(metadata.modified_at),
        changed_at: time_of(metadata.changed_at),
        inode: metadata.inode,
        device: if has_links { metadata.device } else { 0 },
        links: if has_links { metadata.links } else { 1 },
        xattrs: metadata.xattrs.clone(),
        is_whole: true,
        child_count: 0,
    }
}

/// The entry with length and times as they were when its content was opened.
pub(crate) fn with_state(mut entry: Entry, state: FileState) -> Entry {
    entry.kind = EntryKind::File { len: state.len };
    entry.modified_at = time_of(state.modified_at);
    entry.changed_at = time_of(state.changed_at);
    entry
}

/// An entry for a stream that was read at `now` (nanoseconds since 1970).
pub(crate) fn stream_entry(name: &str, now: i64) -> Entry {
    let time = time_at(now);
    Entry {
        path: name.as_bytes().to_vec(),
        kind: EntryKind::File { len: 0 },
        mode: 0o600,
        uid: 0,
        gid: 0,
        user: None,
        group: None,
        modified_at: time,
        changed_at: time,
        inode: 0,
        device: 0,
        links: 1,
        xattrs: Vec::new(),
        is_whole: true,
        child_count: 0,
    }
}

/// A moment as a manifest keeps it; `now` is in nanoseconds since 1970.
pub(crate) fn time_at(now: i64) -> Time {
    Time { secs: now.div_euclid(1_000_000_000), nanos: now.rem_euclid(1_000_000_000) as u32 }
}

fn time_of(time: source::entry::Time) -> Time {
    Time { secs: time.secs, nanos: time.nanos }
}

fn kind_of(kind: &source::entry::EntryKind) -> EntryKind {
    use source::entry::EntryKind as Found;
    match kind {
        Found::File { len } => EntryKind::File { len: *len },
        Found::Directory => EntryKind::Directory,
        Found::Symlink { target } => EntryKind::Symlink { target: target.clone() },
        Found::Fifo => EntryKind::Fifo,
        Found::Socket => EntryKind::Socket,
        Found::CharDevice { major, minor } => EntryKind::CharDevice { major: *major, minor: *minor },
        Found::BlockDevice { major, minor } => EntryKind::BlockDevice { major: *major, minor: *minor },
    }
}

/// A manifest's entry as a sink takes it.
pub(crate) fn metadata_of(entry: &Entry) -> source::entry::Metadata {
    source::entry::Metadata {
        mode: entry.mode,
        uid: entry.uid,
        gid: entry.gid,
        user: entry.user.clone(),
        group: entry.group.clone(),
        modified_at: source::entry::Time { secs: entry.modified_at.secs, nanos: entry.modified_at.nanos },
        changed_at: source::entry::Time { secs: entry.changed_at.secs, nanos: entry.changed_at.nanos },
        inode: entry.inode,
        device: entry.device,
        links: entry.links,
        xattrs: entry.xattrs.clone(),
    }
}
