//! An entry as a line for people and as a JSON document.
//!
//! Invariant: names which are not UTF-8, and control characters in those shown to people, are escaped; in JSON the bytes
//! stand beside them.
//! Never here: which entries are shown.

use pack::manifest::{Entry, EntryKind, Time};
use serde::Serialize;

use crate::human::{self, escaped};

const NANOS_PER_SEC: i64 = 1_000_000_000;

/// An entry for programs.
#[derive(Debug, Serialize)]
pub(crate) struct EntryDocument {
    path: String,
    /// The path's bytes, where they are not UTF-8.
    #[serde(skip_serializing_if = "Option::is_none")]
    path_hex: Option<String>,
    kind: &'static str,
    content_len: Option<u64>,
    link_target: Option<String>,
    /// The target's bytes, where they are not UTF-8.
    #[serde(skip_serializing_if = "Option::is_none")]
    link_target_hex: Option<String>,
    mode: u32,
    uid: u32,
    gid: u32,
    user: Option<String>,
    group: Option<String>,
    modified_at: String,
    inode: u64,
    link_count: u64,
    is_whole: bool,
}

impl EntryDocument {
    pub(crate) fn new(entry: &Entry) -> Self {
        let link_target = if let EntryKind::Symlink { target } = &entry.kind { Some(target.as_slice()) } else { None };
        let bytes_of = |bytes: &[u8]| std::str::from_utf8(bytes).is_err().then(|| hex::encode(bytes));
        let name = |bytes: &[u8]| std::str::from_utf8(bytes).map_or_else(|_| escaped(bytes).to_string(), str::to_owned);
        Self {
            path: name(&entry.path),
            path_hex: bytes_of(&entry.path),
            kind: human::kind_word(&entry.kind),
            content_len: if let EntryKind::File { len } = entry.kind { Some(len) } else { None },
            link_target: link_target.map(name),
            link_target_hex: link_target.and_then(bytes_of),
            mode: entry.mode,
            uid: entry.uid,
            gid: entry.gid,
            user: entry.user.as_deref().map(name),
            group: entry.group.as_deref().map(name),
            modified_at: human::rfc3339(nanos(entry.modified_at)),
            inode: entry.inode,
            link_count: entry.links,
            is_whole: entry.is_whole,
        }
    }
}

/// The path, below its component where there are several.
pub(crate) fn path(component: &str, path: &[u8], has_several: bool) -> String {
    let path = escaped(path);
    if has_several { format!("{}: {path}", escaped(component.as_bytes())) } else { path.to_string() }
}

/// `-rw-r--r-- root     root        1.2 KiB 2026-11-19 14:30:05 etc/hosts`; `below_len` is what lies below a folder.
pub(crate) fn long(entry: &Entry, path: &str, below_len: Option<u64>) -> String {
    let mode = human::mode(&entry.kind, entry.mode);
    let user = owner(entry.user.as_deref(), entry.uid);
    let group = owner(entry.group.as_deref(), entry.gid);
    let len = match &entry.kind {
        EntryKind::File { len } => human::size(*len),
        EntryKind::CharDevice { major, minor } | EntryKind::BlockDevice { major, minor } => format!("{major}, {minor}"),
        _ => below_len.map_or_else(|| "-".to_owned(), human::size),
    };
    let time = human::local_time(nanos(entry.modified_at));
    let target = match &entry.kind {
        EntryKind::Symlink { target } => format!(" -> {}", escaped(target)),
        _ => String::new(),
    };
    format!("{mode} {user:<8} {group:<8} {len:>10} {time} {path}{target}")
}

fn owner(name: Option<&[u8]>, number: u32) -> String {
    name.map_or_else(|| number.to_string(), |name| escaped(name).to_string())
}

/// Bytes of content as the entry says; 0 for what is no file.
pub(crate) const fn len_of(entry: &Entry) -> u64 {
    if let EntryKind::File { len } = entry.kind { len } else { 0 }
}

/// Nanoseconds since 1970.
pub(crate) fn nanos(time: Time) -> i64 {
    time.secs.saturating_mul(NANOS_PER_SEC).saturating_add(i64::from(time.nanos))
}
