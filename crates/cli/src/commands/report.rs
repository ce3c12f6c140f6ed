//! `report`: what a backup protected and stored, component by component, as the snapshot itself has it.
//!
//! Invariant: a component that failed is shown with the reason, however long ago it was.
//! Never here: anything that the repository does not hold.

use clap::Args;
use engine::SnapshotInfo;
use pack::{Component, ComponentState, SnapshotState};

use crate::classes::classes;
use crate::commands::component_table::{ComponentRow, component_table};
use crate::commands::selection::SelectionArgs;
use crate::commands::snapshot_document::{SnapshotDocument, seconds_between};
use crate::context::Context;
use crate::error::{CommandError, Outcome};
use crate::human::{self, escaped};
use crate::table::Table;

const EXAMPLES: &str = "\
Examples:
  backstay report latest --source nightly
  backstay report 1a2b3c4d --json | jq '.components[] | {name, state, stored_len}'";

/// Show what a backup protected and stored, component by component, and what went wrong
///
/// It is kept in the snapshot, sealed with its names: a key that only writes shows the figures alone.
#[derive(Debug, Args)]
#[command(after_long_help = EXAMPLES)]
pub(crate) struct ReportArgs {
    #[command(flatten)]
    selection: SelectionArgs,
}

/// Shows it.
pub(crate) async fn run(args: &ReportArgs, ctx: &Context) -> Result<Outcome, CommandError> {
    let repository = ctx.open_repository().await?;
    let info = args.selection.select(&repository, ctx).await?;
    if ctx.ui.is_json {
        let all = repository.snapshots(&engine::SnapshotFilter::default()).await?;
        let class = classes(&all, ctx.now().time_zone()).get(&info.id).copied();
        ctx.ui.json(&SnapshotDocument::new(&info, class))?;
        return Ok(Outcome::Done);
    }
    ctx.ui.line(headline(&info))?;
    ctx.ui.line(table(&info.snapshot.structure.components).show(ctx.ui.stdout))?;
    for line in problems(&info) {
        ctx.ui.line(line)?;
    }
    Ok(Outcome::Done)
}

/// `nightly of web1, 2026-11-19 03:00:00: snapshot 1a2b3c4d, complete, 687.0 MiB protected, 3.1 MiB stored in 4.2 s`.
fn headline(info: &SnapshotInfo) -> String {
    let structure = &info.snapshot.structure;
    let content_len = structure.components.iter().map(|component| component.content_len).sum();
    format!(
        "{} of {}, {}: snapshot {}, {}, {} protected, {} stored in {}",
        escaped(structure.source.as_bytes()),
        escaped(structure.host.as_bytes()),
        human::local_time(structure.started_at),
        human::short(&info.id),
        if structure.state == SnapshotState::Complete { "complete" } else { "partial" },
        human::size(content_len),
        human::size(info.stored_len()),
        human::duration(seconds_between(structure.started_at, structure.ended_at)),
    )
}

fn table(components: &[Component]) -> Table {
    component_table(components.iter().map(|component| ComponentRow {
        name: &component.name,
        kind: &component.kind,
        state: component.state,
        content_len: component.content_len,
        new_len: component.new_len,
        stored_len: component.stored_len,
        seconds: seconds_between(component.started_at, component.ended_at),
    }))
}

/// `cache failed: redis at …`, and of the others what was told.
fn problems(info: &SnapshotInfo) -> Vec<String> {
    let bodies = info.snapshot.body.iter().flat_map(|body| &body.components);
    let mut lines = Vec::new();
    for (component, body) in info.snapshot.structure.components.iter().zip(bodies) {
        for (at, problem) in body.problems.iter().enumerate() {
            let has_failed = at == 0 && component.state == ComponentState::Failed;
            let verb = if has_failed { " failed" } else { "" };
            lines.push(escaped(format!("{}{verb}: {problem}", component.name).as_bytes()).to_string());
        }
    }
    lines
}
