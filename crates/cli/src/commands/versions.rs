//! `versions`: every distinct version of one path, and which snapshots have it.
//!
//! Never here: content; a version's content is named by an id and read by `cat`.

use std::sync::Arc;

use clap::Args;
use engine::{FindRequest, FoundVersion, Repository, SnapshotInfo, Walked};
use futures::TryStreamExt as _;
use pack::manifest::{Entry, EntryKind};
use serde::Serialize;

use crate::commands::entry_shown::{EntryDocument, nanos};
use crate::commands::find::said;
use crate::commands::losses::Losses;
use crate::commands::selection::{FilterArgs, as_shown};
use crate::context::Context;
use crate::error::{CommandError, Outcome};
use crate::human::{self, escaped};
use crate::table::{Align, Table};
use crate::words::normal;

const EXAMPLES: &str = "\
Examples:
  backstay versions /etc/hosts
  backstay versions /srv/www/index.html --host web1
  backstay versions /etc/hosts --json | jq -r '.[] | [.modified_at, .content_id, .snapshots[-1].id] | @tsv'";

const COLUMNS: [(&str, Align); 6] = [
    ("Modified", Align::Left),
    ("Size", Align::Right),
    ("Mode", Align::Left),
    ("Content", Align::Left),
    ("Newest", Align::Left),
    ("In", Align::Left),
];

/// Show every distinct version of one path, the oldest first
///
/// Versions differ in type, content, mode, owner, time or attributes. Content is the start of an id that is the same for
/// equal content; Newest is the newest snapshot that has the version, for `cat` and `restore`. Costs the pages that lead to the path, each
/// once, however many snapshots share it.
///
/// The exit code is 1 if damage hides the path in some snapshots, which are named, and 2 if no snapshot has it.
#[derive(Debug, Args)]
#[command(after_long_help = EXAMPLES)]
pub(crate) struct VersionsArgs {
    /// The path within snapshots, as it is or as `ls` shows it
    #[arg(value_name = "PATH")]
    path: std::ffi::OsString,

    #[command(flatten)]
    filter: FilterArgs,
}

#[derive(Debug, Serialize)]
struct Document<'a> {
    component: &'a str,
    #[serde(flatten)]
    entry: EntryDocument,
    /// The same for equal content.
    content_id: Option<String>,
    snapshots: Vec<SnapshotOf>,
}

/// A snapshot that has a version.
#[derive(Debug, Serialize)]
struct SnapshotOf {
    id: String,
    started_at: String,
    host: String,
    source: String,
}

/// Lists them.
pub(crate) async fn run(args: &VersionsArgs, ctx: &Context) -> Result<Outcome, CommandError> {
    let typed = normal(args.path.as_encoded_bytes());
    let repository = ctx.open_repository().await?;
    let snapshots = repository.snapshots(&args.filter.filter()).await?;
    let snapshots: Vec<SnapshotInfo> = snapshots.into_iter().filter(|info| info.trusted).collect();
    let (mut found, mut losses) = (Vec::new(), Losses::default());
    for path in std::iter::once(typed.clone()).chain(as_shown(&typed)) {
        if found.is_empty() {
            find(path, &snapshots, &repository, (&mut found, &mut losses), ctx).await?;
        }
    }
    if found.is_empty() && losses.is_empty() {
        return Err(CommandError::NoVersion { path: escaped(&typed).to_string() });
    }
    if ctx.ui.is_json {
        ctx.ui.json(&found.iter().map(|version| document(version, &snapshots)).collect::<Vec<_>>())?;
    } else if !found.is_empty() {
        let has_several = found.windows(2).any(|pair| matches!(pair, [a, b] if a.component != b.component));
        let mut table = Table::new(&COLUMNS);
        found.iter().for_each(|version| table.row(row(version, &snapshots, has_several)));
        ctx.ui.line(table.show(ctx.ui.stdout))?;
    }
    Ok(losses.outcome(&repository, &snapshots.iter().map(|info| info.id).collect::<Vec<_>>(), ctx).await)
}

/// Looks for every version of one path.
async fn find(
    path: Vec<u8>,
    snapshots: &[SnapshotInfo],
    repository: &Repository,
    (found, losses): (&mut Vec<FoundVersion>, &mut Losses),
    ctx: &Context,
) -> Result<(), CommandError> {
    let request = FindRequest { snapshots: snapshots.to_vec(), path, is_alone: true, wanted: Arc::new(|_| true) };
    let mut told = repository.find(request).await?;
    while let Some(next) = told.try_next().await? {
        match next {
            Walked::Found(version) => found.push(version),
            Walked::Lost(lost) => losses.name(&lost.error, &said(&lost.snapshots, snapshots), ctx),
        }
    }
    Ok(())
}

fn document<'a>(version: &'a FoundVersion, snapshots: &[SnapshotInfo]) -> Document<'a> {
    let of = version.snapshots.iter().filter_map(|at| snapshots.get(*at)).map(|info| SnapshotOf {
        id: info.id.to_string(),
        started_at: human::rfc3339(info.snapshot.structure.started_at),
        host: info.snapshot.structure.host.clone(),
        source: info.snapshot.structure.source.clone(),
    });
    Document {
        component: &version.component,
        entry: EntryDocument::new(&version.entry),
        content_id: version.content.map(|id| id.to_string()),
        snapshots: of.collect(),
    }
}

fn row(version: &FoundVersion, snapshots: &[SnapshotInfo], has_several: bool) -> Vec<String> {
    let entry = &version.entry;
    let newest = version.snapshots.last().and_then(|at| snapshots.get(*at));
    let component = if has_several { format!("{}: ", version.component) } else { String::new() };
    vec![
        human::local_time(nanos(entry.modified_at)),
        what(entry),
        human::mode(&entry.kind, entry.mode),
        version.content.map(|id| human::short(&id)).unwrap_or_default(),
        newest.map(|info| human::short(&info.id)).unwrap_or_default(),
        format!("{component}{}", said(&version.snapshots, snapshots)),
    ]
}

fn what(entry: &Entry) -> String {
    match &entry.kind {
        EntryKind::File { len } => human::size(*len),
        // The table escapes what it shows.
        EntryKind::Symlink { target } => format!("-> {}", String::from_utf8_lossy(target)),
        kind => human::kind_word(kind).to_owned(),
    }
}
