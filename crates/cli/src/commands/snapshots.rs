//! `snapshots`: list what was committed.
//!
//! Never here: what is in a snapshot (see `ls`).

use clap::Args;
use engine::SnapshotInfo;
use pack::SnapshotState;

use crate::commands::selection::FilterArgs;
use crate::commands::snapshot_document::SnapshotDocument;
use crate::context::Context;
use crate::error::{CommandError, Outcome};
use crate::human;
use crate::paint::Paint;
use crate::table::{Align, Table};
use crate::words::moment;

const EXAMPLES: &str = "\
Examples:
  backstay snapshots
  backstay snapshots --host web1 --tag nightly
  backstay snapshots --json | jq '.[-1].id'";

const COLUMNS: [(&str, Align); 8] = [
    ("ID", Align::Left),
    ("Time", Align::Left),
    ("Host", Align::Left),
    ("Source", Align::Left),
    ("Entries", Align::Right),
    ("Size", Align::Right),
    ("Stored", Align::Right),
    ("Tags and state", Align::Left),
];

/// List snapshots, oldest first
///
/// Size is what the snapshot protects; Stored is what it added to the repository, index and snapshot included.
#[derive(Debug, Args)]
#[command(after_long_help = EXAMPLES)]
pub(crate) struct SnapshotsArgs {
    /// Only those that began at or before this time: 2026-11-19, "2026-11-19 14:30", yesterday, "2 days ago"
    #[arg(long, value_name = "TIME", help_heading = "Which snapshots")]
    at: Option<String>,

    #[command(flatten)]
    filter: FilterArgs,
}

/// Lists them.
pub(crate) async fn run(args: &SnapshotsArgs, ctx: &Context) -> Result<Outcome, CommandError> {
    let at = args.at.as_deref().map(|at| moment(at, &ctx.now())).transpose()?;
    let repository = ctx.open_repository().await?;
    let mut snapshots = repository.snapshots(&args.filter.filter()).await?;
    if let Some(at) = at {
        snapshots.retain(|info| i128::from(info.snapshot.structure.started_at) <= at.as_nanosecond());
    }
    if ctx.ui.is_json {
        ctx.ui.json(&snapshots.iter().map(SnapshotDocument::new).collect::<Vec<_>>())?;
    } else if snapshots.is_empty() {
        ctx.ui.note("no snapshots");
    } else {
        ctx.ui.line(table(&snapshots, ctx.ui.stdout))?;
    }
    Ok(Outcome::Done)
}

fn table(snapshots: &[SnapshotInfo], paint: Paint) -> String {
    let mut table = Table::new(&COLUMNS);
    for info in snapshots {
        let structure = &info.snapshot.structure;
        let components = &structure.components;
        table.row([
            human::short(&info.id),
            human::local_time(structure.started_at),
            structure.host.clone(),
            structure.source.clone(),
            human::count(components.iter().map(|component| component.entry_count).sum()),
            human::size(components.iter().map(|component| component.content_len).sum()),
            human::size(info.stored_len()),
            remarks(info),
        ]);
    }
    table.show(paint)
}

/// Tags, and whatever is unusual.
fn remarks(info: &SnapshotInfo) -> String {
    let structure = &info.snapshot.structure;
    let mut words = structure.tags.clone();
    if structure.state == SnapshotState::Partial {
        words.push("(partial)".to_owned());
    }
    if !info.trusted {
        words.push("(not trusted: its key was removed)".to_owned());
    }
    words.join(" ")
}
