//! `find`: in which snapshots a thing is.
//!
//! Invariant: lines come as entries are found; memory does not grow with the number of snapshots or of what they hold.
//! Never here: walking (see the engine); content.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;
use std::sync::Arc;

use clap::{Args, ValueEnum};
use engine::{FindRequest, FoundVersion, Repository, SnapshotInfo, Walked};
use futures::TryStreamExt as _;
use globset::{GlobBuilder, GlobMatcher};
use pack::manifest::{Entry, EntryKind};
use serde::Serialize;

use crate::commands::entry_shown::{self, EntryDocument, nanos};
use crate::commands::losses::Losses;
use crate::commands::selection::{FilterArgs, named};
use crate::context::Context;
use crate::error::{CommandError, Outcome};
use crate::human;
use crate::words::{Reference, moment, normal, size};

/// Lines gathered before they are written, in bytes.
const GATHERED_LEN: usize = 64 << 10;

const EXAMPLES: &str = "\
Examples:
  backstay find '*.conf'
  backstay find '/etc/**/ssl*' --host web1 -l
  backstay find --type file --larger-than 1G --newer-than '2 days ago' --in /srv
  backstay find shop.sql --snapshot 1a2b3c4d --snapshot latest --json | jq -r .content_id";

/// Look for entries by name, path, type, size or time, across snapshots
///
/// Shows every distinct version once, as `SNAPSHOT:PATH` with the newest snapshot that has it, which `cat`, `restore` and
/// `dump` take as it is; --long tells how many snapshots have it, and from which to which. What snapshots share is read
/// once, however many they are. With --json, one object a line.
///
/// The exit code is 0 whether or not anything is found, and 1 if some entries could not be looked at because of damage,
/// which is named.
#[derive(Debug, Args)]
#[command(after_long_help = EXAMPLES)]
pub(crate) struct FindArgs {
    /// A name with wildcards (* ? [] {}), or, with a slash in it, a whole path, in which ** stands for any folders
    ///
    /// Any of several. Without a pattern all names fit.
    #[arg(value_name = "PATTERN")]
    patterns: Vec<String>,

    /// Upper and lower case are the same
    #[arg(short, long)]
    ignore_case: bool,

    /// Only at and below this path
    #[arg(long = "in", value_name = "PATH")]
    below: Option<std::ffi::OsString>,

    /// Only entries of this type; may be given several times
    #[arg(short, long = "type", value_name = "TYPE", value_delimiter = ',', value_enum)]
    types: Vec<TypeWord>,

    /// Only files of more bytes than this, such as 100M
    #[arg(long, value_name = "SIZE", value_parser = size)]
    larger_than: Option<u64>,

    /// Only files of fewer bytes than this
    #[arg(long, value_name = "SIZE", value_parser = size)]
    smaller_than: Option<u64>,

    /// Only what was modified after this time: 2026-11-19, "2026-11-19 14:30", yesterday, "2 days ago"
    #[arg(long, value_name = "TIME")]
    newer_than: Option<String>,

    /// Only what was modified at or before this time
    #[arg(long, value_name = "TIME")]
    older_than: Option<String>,

    /// Show mode, owner, group, length and time, and which snapshots have it
    #[arg(short, long)]
    long: bool,

    /// Only in this snapshot, by `latest` or the start of its id; may be given several times
    #[arg(long, value_name = "SNAPSHOT", value_parser = Reference::parser(), help_heading = "Which snapshots")]
    snapshot: Vec<Reference>,

    #[command(flatten)]
    filter: FilterArgs,
}

/// What an entry is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum TypeWord {
    #[value(alias = "f")]
    File,
    #[value(alias = "d")]
    Directory,
    #[value(alias = "l")]
    Symlink,
    #[value(alias = "p")]
    Fifo,
    #[value(alias = "s")]
    Socket,
    #[value(name = "char_device", alias = "c")]
    CharDevice,
    #[value(name = "block_device", alias = "b")]
    BlockDevice,
}

#[derive(Debug, Serialize)]
struct Document<'a> {
    component: &'a str,
    #[serde(flatten)]
    entry: EntryDocument,
    /// The same for equal content.
    content_id: Option<String>,
    snapshots: Vec<String>,
}

/// Looks for them.
pub(crate) async fn run(args: &FindArgs, ctx: &Context) -> Result<Outcome, CommandError> {
    let wanted = args.conditions(ctx)?;
    let repository = ctx.open_repository().await?;
    let snapshots = args.snapshots(&repository).await?;
    let path = args.below.as_ref().map(|path| normal(path.as_encoded_bytes())).unwrap_or_default();
    let request = FindRequest {
        snapshots: snapshots.clone(),
        path,
        is_alone: false,
        wanted: Arc::new(move |entry| wanted.fit(entry)),
    };
    let mut told = repository.find(request).await?;
    let (mut losses, mut lines, mut count) = (Losses::default(), String::new(), 0_u64);
    while let Some(next) = told.try_next().await? {
        match next {
            Walked::Found(found) => {
                count += 1;
                lines.push_str(&if ctx.ui.is_json { json(&found, &snapshots) } else { args.line(&found, &snapshots) });
                lines.push('\n');
            }
            Walked::Lost(lost) => losses.name(&lost.error, &said(&lost.snapshots, &snapshots), ctx),
        }
        if lines.len() >= GATHERED_LEN {
            ctx.ui.text(std::mem::take(&mut lines)).await?;
        }
    }
    ctx.ui.text(lines).await?;
    if !ctx.ui.is_json {
        let of = human::counted(snapshots.len() as u64, "snapshot", "snapshots");
        ctx.ui.note(format_args!("{} in {of}", human::counted(count, "version", "versions")));
    }
    Ok(losses.outcome(&repository, &snapshots.iter().map(|info| info.id).collect::<Vec<_>>(), ctx).await)
}

impl FindArgs {
    /// Those that are named, or all that the filters leave and the owner vouches for, oldest first.
    async fn snapshots(&self, repository: &Repository) -> Result<Vec<SnapshotInfo>, CommandError> {
        if self.snapshot.is_empty() {
            let found = repository.snapshots(&self.filter.filter()).await?;
            return Ok(found.into_iter().filter(|info| info.trusted).collect());
        }
        let mut found: Vec<SnapshotInfo> = Vec::new();
        for reference in &self.snapshot {
            let info = named(reference, repository).await?;
            if found.iter().all(|other| other.id != info.id) {
                found.push(info);
            }
        }
        found.sort_by_key(|info| (info.snapshot.structure.started_at, info.id));
        Ok(found)
    }

    fn conditions(&self, ctx: &Context) -> Result<Conditions, CommandError> {
        let at = |text: &Option<String>| -> Result<Option<i128>, CommandError> {
            Ok(text.as_deref().map(|text| moment(text, &ctx.now())).transpose()?.map(|at| at.as_nanosecond()))
        };
        let patterns = self.patterns.iter().map(|text| Pattern::new(text, self.ignore_case));
        Ok(Conditions {
            patterns: patterns.collect::<Result<_, _>>()?,
            types: self.types.clone(),
            larger_than: self.larger_than,
            smaller_than: self.smaller_than,
            newer_than: at(&self.newer_than)?,
            older_than: at(&self.older_than)?,
        })
    }

    /// `1a2b3c4d:etc/hosts`, and what --long adds.
    fn line(&self, found: &FoundVersion, snapshots: &[SnapshotInfo]) -> String {
        let newest = found.snapshots.last().and_then(|at| snapshots.get(*at));
        let newest = newest.map(|info| human::short(&info.id)).unwrap_or_default();
        let reference = format!("{newest}:{}", human::escaped(&found.entry.path));
        if !self.long {
            return reference;
        }
        format!("{}  {}", entry_shown::long(&found.entry, &reference, None), said_short(&found.snapshots, snapshots))
    }
}

/// `snapshot 1a2b3c4d`, `snapshots 1a2b3c4d and 5e6f7a8b`, `12 snapshots from 1a2b3c4d to 5e6f7a8b`.
pub(crate) fn said(positions: &[usize], snapshots: &[SnapshotInfo]) -> String {
    let id = |at: Option<&usize>| {
        at.and_then(|at| snapshots.get(*at)).map(|info| human::short(&info.id)).unwrap_or_default()
    };
    let (first, last) = (id(positions.first()), id(positions.last()));
    match positions.len() {
        0 | 1 => format!("snapshot {first}"),
        2 => format!("snapshots {first} and {last}"),
        count => format!("{} from {first} to {last}", human::counted(count as u64, "snapshot", "snapshots")),
    }
}

fn said_short(positions: &[usize], snapshots: &[SnapshotInfo]) -> String {
    format!("[{}]", said(positions, snapshots))
}

fn json(found: &FoundVersion, snapshots: &[SnapshotInfo]) -> String {
    let ids = found.snapshots.iter().filter_map(|at| snapshots.get(*at)).map(|info| info.id.to_string());
    let document = Document {
        component: &found.component,
        entry: EntryDocument::new(&found.entry),
        content_id: found.content.map(|id| id.to_string()),
        snapshots: ids.collect(),
    };
    serde_json::to_string(&document).unwrap_or_default()
}

/// What an entry must be.
struct Conditions {
    patterns: Vec<Pattern>,
    types: Vec<TypeWord>,
    larger_than: Option<u64>,
    smaller_than: Option<u64>,
    newer_than: Option<i128>,
    older_than: Option<i128>,
}

impl Conditions {
    fn fit(&self, entry: &Entry) -> bool {
        let len = if let EntryKind::File { len } = entry.kind { Some(len) } else { None };
        let modified_at = i128::from(nanos(entry.modified_at));
        (self.types.is_empty() || self.types.contains(&type_of(&entry.kind)))
            && self.larger_than.is_none_or(|than| len.is_some_and(|len| len > than))
            && self.smaller_than.is_none_or(|than| len.is_some_and(|len| len < than))
            && self.newer_than.is_none_or(|than| modified_at > than)
            && self.older_than.is_none_or(|than| modified_at <= than)
            && (self.patterns.is_empty() || self.patterns.iter().any(|pattern| pattern.fits(&entry.path)))
    }
}

const fn type_of(kind: &EntryKind) -> TypeWord {
    match kind {
        EntryKind::File { .. } => TypeWord::File,
        EntryKind::Directory => TypeWord::Directory,
        EntryKind::Symlink { .. } => TypeWord::Symlink,
        EntryKind::Fifo => TypeWord::Fifo,
        EntryKind::Socket => TypeWord::Socket,
        EntryKind::CharDevice { .. } => TypeWord::CharDevice,
        EntryKind::BlockDevice { .. } => TypeWord::BlockDevice,
    }
}

/// A pattern for names, or for whole paths.
struct Pattern {
    glob: GlobMatcher,
    is_of_path: bool,
}

impl Pattern {
    fn new(text: &str, ignore_case: bool) -> Result<Self, CommandError> {
        let is_of_path = text.contains('/');
        let glob = GlobBuilder::new(text.strip_prefix('/').unwrap_or(text))
            .literal_separator(true)
            .case_insensitive(ignore_case)
            .build()
            .map_err(|error| CommandError::Pattern { pattern: text.to_owned(), what: error.kind().to_string() })?;
        Ok(Self { glob: glob.compile_matcher(), is_of_path })
    }

    fn fits(&self, path: &[u8]) -> bool {
        let name = path.rsplit(|byte| *byte == b'/').next().unwrap_or_default();
        self.glob.is_match(Path::new(OsStr::from_bytes(if self.is_of_path { path } else { name })))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pattern_without_a_slash_is_for_names_and_one_with_a_slash_for_whole_paths() {
        let fits = |pattern: &str, path: &[u8]| Pattern::new(pattern, false).expect("a pattern").fits(path);
        assert!(fits("*.conf", b"etc/ssl/a.conf") && !fits("*.conf", b"etc/a.conf.d/x"));
        assert!(fits("/etc/*.conf", b"etc/a.conf") && !fits("/etc/*.conf", b"etc/ssl/a.conf"));
        assert!(fits("etc/**/*.conf", b"etc/ssl/b/a.conf") && !fits("ssl/*", b"etc/ssl/a"));
        assert!(fits("a?c", b"x/a\xffc"), "names are bytes");
        assert!(Pattern::new("[", false).is_err());
        assert!(Pattern::new("*.CONF", true).expect("a pattern").fits(b"a.conf"));
    }
}
