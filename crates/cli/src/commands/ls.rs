//! `ls`: list what is in a snapshot.
//!
//! Invariant: lines come as entries are read, so a tree of any size lists in bounded memory.
//! Never here: content (see `cat`).

use clap::Args;
use engine::ListedEntry;
use futures::TryStreamExt as _;
use pack::manifest::{Entry, EntryKind, Time};
use serde::Serialize;

use crate::commands::selection::SelectionArgs;
use crate::context::Context;
use crate::error::{CommandError, Outcome};
use crate::human::{self, escaped};

/// Written out: clap would show options that come from the environment as if they were required.
const USAGE: &str = "\
backstay ls [OPTIONS] SNAPSHOT[:PATH]
       backstay ls [OPTIONS] --at TIME [:PATH]";

const EXAMPLES: &str = "\
Examples:
  backstay ls latest
  backstay ls -l latest:/etc
  backstay ls --at '2 days ago' :/srv/www
  backstay ls 1a2b3c4d --json | jq -r 'select(.content_len > 1e9).path'";

/// Lines gathered before they are written, in bytes.
const GATHERED_LEN: usize = 64 << 10;
const NANOS_PER_SEC: i64 = 1_000_000_000;

/// List the entries of a snapshot, or of one path in it and below
///
/// With --json, one object a line.
#[derive(Debug, Args)]
#[command(after_long_help = EXAMPLES, override_usage = USAGE)]
pub(crate) struct LsArgs {
    /// Show mode, owner, group, length and time as well
    #[arg(short, long)]
    long: bool,

    #[command(flatten)]
    selection: SelectionArgs,
}

#[derive(Debug, Serialize)]
struct Document<'a> {
    component: &'a str,
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

/// Lists them.
pub(crate) async fn run(args: &LsArgs, ctx: &Context) -> Result<Outcome, CommandError> {
    let repository = ctx.open_repository().await?;
    let snapshot = args.selection.select(&repository, ctx).await?;
    let has_several = snapshot.snapshot.structure.components.len() > 1;
    let mut entries = repository.entries(&snapshot, args.selection.path()).await?;
    let (mut lines, mut count) = (String::new(), 0_u64);
    while let Some(listed) = entries.try_next().await? {
        let line = match (ctx.ui.is_json, args.long) {
            (true, _) => json(&listed),
            (false, true) => long(&listed.entry, &shown(&listed, has_several)),
            (false, false) => shown(&listed, has_several),
        };
        lines.push_str(&line);
        lines.push('\n');
        count += 1;
        if lines.len() >= GATHERED_LEN {
            ctx.ui.text(std::mem::take(&mut lines)).await?;
        }
    }
    ctx.ui.text(lines).await?;
    if count == 0 && !args.selection.path().is_empty() {
        return Err(no_entry(args, &snapshot.id.to_string()));
    }
    Ok(Outcome::Done)
}

fn no_entry(args: &LsArgs, snapshot: &str) -> CommandError {
    let path = escaped(args.selection.path()).to_string();
    engine::EngineError::NoEntry { path, snapshot: human::short(&snapshot) }.into()
}

/// The path, below its component where there are several.
fn shown(listed: &ListedEntry, has_several: bool) -> String {
    let path = escaped(&listed.entry.path);
    if has_several { format!("{}: {path}", escaped(listed.component.as_bytes())) } else { path.to_string() }
}

/// `-rw-r--r-- root     root        1.2 KiB 2026-11-19 14:30:05 etc/hosts`.
fn long(entry: &Entry, path: &str) -> String {
    let mode = human::mode(&entry.kind, entry.mode);
    let owner = owner(entry.user.as_deref(), entry.uid);
    let group = owner_name(entry);
    let len = match &entry.kind {
        EntryKind::File { len } => human::size(*len),
        EntryKind::CharDevice { major, minor } | EntryKind::BlockDevice { major, minor } => format!("{major}, {minor}"),
        _ => "-".to_owned(),
    };
    let time = human::local_time(nanos(entry.modified_at));
    let target = match &entry.kind {
        EntryKind::Symlink { target } => format!(" -> {}", escaped(target)),
        _ => String::new(),
    };
    format!("{mode} {owner:<8} {group:<8} {len:>10} {time} {path}{target}")
}

fn owner_name(entry: &Entry) -> String {
    owner(entry.group.as_deref(), entry.gid)
}

fn owner(name: Option<&[u8]>, number: u32) -> String {
    name.map_or_else(|| number.to_string(), |name| escaped(name).to_string())
}

fn nanos(time: Time) -> i64 {
    time.secs.saturating_mul(NANOS_PER_SEC).saturating_add(i64::from(time.nanos))
}

/// Names which are not UTF-8 have their bytes escaped, as in the plain listing.
fn json(listed: &ListedEntry) -> String {
    let entry = &listed.entry;
    let link_target = if let EntryKind::Symlink { target } = &entry.kind { Some(target.as_slice()) } else { None };
    let bytes_of = |bytes: &[u8]| std::str::from_utf8(bytes).is_err().then(|| hex::encode(bytes));
    let name = |bytes: &[u8]| std::str::from_utf8(bytes).map_or_else(|_| escaped(bytes).to_string(), str::to_owned);
    let document = Document {
        component: &listed.component,
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
    };
    serde_json::to_string(&document).unwrap_or_default()
}
