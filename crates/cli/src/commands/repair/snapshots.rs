//! `repair snapshots`: make snapshots of what is left.

use std::sync::Arc;

use clap::Args;
use engine::{Progress, SnapshotRepair, SnapshotsRepair, SnapshotsRepaired};
use serde::Serialize;

use super::{ConsentArgs, WrongDocument, documents, note, show};
use crate::context::Context;
use crate::error::{CommandError, Outcome};
use crate::hints;
use crate::human;

const EXAMPLES: &str = "\
Examples:
  backstay repair snapshots                  # shows what is lost
  backstay repair snapshots --yes            # and keeps the old ones
  backstay repair snapshots --forget --yes";

/// Paths that are shown of each component.
const SHOWN_MAX: usize = 20;

/// Make new snapshots of what is left of those that miss content
///
/// Of each snapshot that needs what is lost, a new one is committed without the files that cannot be restored whole: it is
/// partial and names them. The old one stays, and what is left of its files can still be restored from it; --forget hides
/// it, and snapshots of which nothing can be read. Only the owner's key may do it. The exit code is 1 if something is lost.
#[derive(Debug, Args)]
#[command(after_long_help = EXAMPLES)]
pub(crate) struct SnapshotsArgs {
    /// Hide the snapshots that lost something, once what is left of them was committed
    #[arg(long)]
    forget: bool,

    #[command(flatten)]
    consent: ConsentArgs,
}

#[derive(Debug, Serialize)]
struct Document<'a> {
    is_done: bool,
    snapshots: Vec<SnapshotDocument<'a>>,
    unreadable: Vec<WrongDocument<'a>>,
    unreadable_count: u64,
    unnamed_chunk_count: u64,
    unclear: &'a [String],
    hidden: Vec<String>,
    held: Vec<String>,
    warnings: Vec<String>,
}

#[derive(Debug, Serialize)]
struct SnapshotDocument<'a> {
    id: String,
    /// What is left of it.
    new_id: Option<String>,
    is_all_lost: bool,
    components: Vec<ComponentDocument<'a>>,
}

#[derive(Debug, Serialize)]
struct ComponentDocument<'a> {
    name: &'a str,
    /// The first thousand.
    lost: &'a [String],
    lost_count: u64,
    kept_count: u64,
}

/// Plans, and does it.
pub(super) async fn run(args: &SnapshotsArgs, ctx: &Context) -> Result<Outcome, CommandError> {
    let repository = ctx.open_repository().await?;
    let cancel = ctx.interrupts.token.clone();
    let plan = repository.plan_repair_snapshots(&cancel).await.map_err(CommandError::of_reading)?;
    if !ctx.ui.is_json {
        tell(&plan, args, ctx)?;
    }
    let is_empty = plan.is_empty(args.forget);
    let is_done = args.consent.yes && !is_empty;
    let done = if is_done {
        let now = args.forget.then(|| ctx.now());
        repository.repair_snapshots(&plan, now.as_ref(), &Arc::new(Progress::new()), &cancel).await
    } else {
        Ok(SnapshotsRepaired::default())
    };
    let done = done.map_err(CommandError::of_reading)?;
    if ctx.ui.is_json {
        ctx.ui.json(&document(&plan, is_done, &done, repository.warnings()))?;
    }
    if is_empty {
        let is_whole = plan.snapshots.is_empty() && plan.damaged.is_empty();
        let left = match args.forget {
            true => "nothing is left to be done: what remains of these snapshots lies nowhere else, so they stay",
            false => "nothing is left to be done; --forget hides the snapshots that lost something",
        };
        note(if is_whole { "no snapshot needs repair" } else { left }, &ctx.ui);
        return Ok(match (is_whole || args.consent.dry_run, plan.unclear.is_empty()) {
            (true, true) => Outcome::Done,
            (true, false) => Outcome::Unclear,
            (false, _) => Outcome::Partly,
        });
    }
    if !is_done {
        let damaged = plan.snapshots.len() as u64 + plan.damaged.count;
        return args.consent.refuse(human::counted(damaged, "snapshot misses content", "snapshots miss content"));
    }
    let lost = |snapshot: &SnapshotRepair| snapshot.components.iter().any(|component| component.lost_count > 0);
    let has_lost = !plan.damaged.is_empty() || plan.snapshots.iter().any(lost);
    let outcome = if has_lost { Outcome::Partly } else { Outcome::Done };
    if ctx.ui.is_json {
        return Ok(outcome);
    }
    for (old, new) in &done.committed {
        ctx.ui.line(format_args!("{} holds what is left of {}", human::short(new), human::short(old)))?;
    }
    let hidden = human::counted(done.hidden.len() as u64, "snapshot", "snapshots");
    let committed = human::counted(done.committed.len() as u64, "snapshot", "snapshots");
    ctx.ui.note(format_args!("{committed} committed, {hidden} hidden"));
    for id in &done.held {
        ctx.ui.warn(format_args!("{} is held and stays", human::short(id)));
    }
    if !args.forget {
        ctx.ui.hint(hints::OLD_ONES_STAY);
    }
    Ok(outcome)
}

fn tell(plan: &SnapshotsRepair, args: &SnapshotsArgs, ctx: &Context) -> Result<(), CommandError> {
    plan.unclear.iter().for_each(|unclear| ctx.ui.note(format_args!("unclear: {unclear}")));
    for snapshot in &plan.snapshots {
        let structure = &snapshot.info.snapshot.structure;
        let (source, host) = (human::escaped(structure.source.as_bytes()), human::escaped(structure.host.as_bytes()));
        let at = human::local_time(structure.started_at);
        ctx.ui.line(format_args!(
            "{} ({source} of {host}, {at}): {}",
            human::short(&snapshot.info.id),
            fate(snapshot)
        ))?;
        for component in &snapshot.components {
            for path in component.lost.iter().take(SHOWN_MAX) {
                ctx.ui.line(format_args!("  lost {path}"))?;
            }
            let untold = component.lost_count.saturating_sub(component.lost.len().min(SHOWN_MAX) as u64);
            if untold > 0 {
                ctx.ui.line(format_args!("  and {} more", human::count(untold)))?;
            }
        }
    }
    show(&plan.damaged, if args.forget { "hide" } else { "leave" }, &ctx.ui)
}

fn fate(snapshot: &SnapshotRepair) -> String {
    if let Some(done) = snapshot.done_as {
        return format!("{} holds what is left", human::short(&done));
    }
    if snapshot.is_all_lost() {
        return "nothing is left".to_owned();
    }
    if !snapshot.info.trusted {
        return "it stays as it is, since its writer's key was removed before it was written".to_owned();
    }
    let sum = |of: fn(&engine::ComponentLoss) -> u64| snapshot.components.iter().map(of).sum::<u64>();
    let (lost, kept) = (sum(|component| component.lost_count), sum(|component| component.kept_count));
    format!("{} and {kept} stay", human::counted(lost, "entry is lost", "entries are lost"))
}

fn document<'a>(
    plan: &'a SnapshotsRepair,
    is_done: bool,
    done: &SnapshotsRepaired,
    warnings: Vec<String>,
) -> Document<'a> {
    let snapshots = plan.snapshots.iter().map(|snapshot| {
        let new = done.committed.iter().find(|(old, _)| *old == snapshot.info.id).map(|(_, new)| *new);
        SnapshotDocument {
            id: snapshot.info.id.to_string(),
            new_id: new.or(snapshot.done_as).map(|id| id.to_string()),
            is_all_lost: snapshot.is_all_lost(),
            components: snapshot.components.iter().map(component_document).collect(),
        }
    });
    Document {
        is_done,
        snapshots: snapshots.collect(),
        unreadable: documents(&plan.damaged),
        unreadable_count: plan.damaged.count,
        unnamed_chunk_count: plan.unnamed_count,
        unclear: &plan.unclear,
        hidden: done.hidden.iter().map(ToString::to_string).collect(),
        held: done.held.iter().map(ToString::to_string).collect(),
        warnings,
    }
}

fn component_document(component: &engine::ComponentLoss) -> ComponentDocument<'_> {
    ComponentDocument {
        name: &component.name,
        lost: &component.lost,
        lost_count: component.lost_count,
        kept_count: component.kept_count,
    }
}
