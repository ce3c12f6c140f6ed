//! `repair index`: name packs that no index segment names.

use clap::Args;
use engine::{IndexRepair, IndexRepaired};
use pack::names;
use serde::Serialize;

use super::{ConsentArgs, SHOWN_MAX, WrongDocument, documents, note, show};
use crate::context::Context;
use crate::error::{CommandError, Outcome};
use crate::human;

const EXAMPLES: &str = "\
Examples:
  backstay repair index              # shows the plan
  backstay repair index --yes";

/// Name packs that no index segment names, and take damaged segments away
///
/// What is in a pack stands in the pack too, so nothing of a lost or damaged index is lost while the packs are there.
/// Damaged segments are moved below quarantine/ in the repository. A writer's key may name packs; only the owner's takes
/// segments away.
#[derive(Debug, Args)]
#[command(after_long_help = EXAMPLES)]
pub(crate) struct IndexArgs {
    #[command(flatten)]
    consent: ConsentArgs,
}

#[derive(Debug, Serialize)]
struct Document<'a> {
    is_done: bool,
    unnamed_pack_count: u64,
    unnamed_chunk_count: u64,
    /// The first hundred.
    unnamed_packs: Vec<String>,
    damaged_segments: Vec<WrongDocument<'a>>,
    damaged_segment_count: u64,
    falsely_described_packs: Vec<String>,
    unreadable_packs: Vec<WrongDocument<'a>>,
    unreadable_pack_count: u64,
    condemned_pack_count: u64,
    named_pack_count: u64,
    quarantined_segment_count: u64,
    rewritten_segment_count: u64,
    warnings: Vec<String>,
}

/// Plans, and does it.
pub(super) async fn run(args: &IndexArgs, ctx: &Context) -> Result<Outcome, CommandError> {
    let repository = ctx.open_repository().await?;
    let cancel = ctx.interrupts.token.clone();
    let plan = repository.plan_repair_index(&cancel).await.map_err(CommandError::of_reading)?;
    if !ctx.ui.is_json {
        tell(&plan, ctx)?;
    }
    let is_done = args.consent.yes && !plan.is_empty();
    let done = match is_done {
        true => repository.repair_index(&plan, &human::host_name(), &cancel).await.map_err(CommandError::of_reading)?,
        false => IndexRepaired::default(),
    };
    if ctx.ui.is_json {
        ctx.ui.json(&document(&plan, is_done, &done, repository.warnings()))?;
    }
    if plan.is_empty() {
        note("the index needs no repair: every pack that can be named is", &ctx.ui);
        return Ok(Outcome::Done);
    }
    if !is_done {
        return args.consent.refuse(summary(&plan));
    }
    let named = human::counted(done.pack_count, "pack", "packs");
    let moved = human::counted(done.quarantined_count, "damaged segment", "damaged segments");
    let rewritten = human::counted(done.rewritten_count, "segment", "segments");
    note(format_args!("{named} named, {moved} moved to quarantine/, {rewritten} corrected"), &ctx.ui);
    Ok(Outcome::Done)
}

fn summary(plan: &IndexRepair) -> String {
    let packs = human::counted(plan.packs.len() as u64, "pack is named by no segment", "packs are named by no segment");
    let damaged = human::counted(plan.damaged.count, "segment is damaged", "segments are damaged");
    let lied = human::counted(plan.lied_about.len() as u64, "pack is described falsely", "packs are described falsely");
    let parts =
        [(plan.packs.is_empty(), packs), (plan.damaged.is_empty(), damaged), (plan.lied_about.is_empty(), lied)];
    let parts: Vec<_> = parts.into_iter().filter(|(is_empty, _)| !is_empty).map(|(_, part)| part).collect();
    parts.join(", ")
}

fn tell(plan: &IndexRepair, ctx: &Context) -> Result<(), CommandError> {
    for (id, len) in plan.packs.iter().take(SHOWN_MAX) {
        ctx.ui.line(format_args!("name {} ({})", names::pack(id), human::size(*len)))?;
    }
    if plan.packs.len() > SHOWN_MAX {
        let more = plan.packs.len() - SHOWN_MAX;
        ctx.ui.line(format_args!("  and {} more", human::count(more as u64)))?;
    }
    for id in &plan.lied_about {
        ctx.ui.line(format_args!("correct what segments say of {}", names::pack(id)))?;
    }
    show(&plan.damaged, "move away", &ctx.ui)?;
    show(&plan.unreadable, "leave", &ctx.ui)?;
    if plan.condemned_count > 0 {
        let packs = human::counted(plan.condemned_count, "pack that prune is", "packs that prune is");
        ctx.ui.note(format_args!("{packs} about to delete stay unnamed"));
    }
    Ok(())
}

fn document<'a>(plan: &'a IndexRepair, is_done: bool, done: &IndexRepaired, warnings: Vec<String>) -> Document<'a> {
    Document {
        is_done,
        unnamed_pack_count: plan.packs.len() as u64,
        unnamed_chunk_count: plan.chunk_count,
        unnamed_packs: plan.packs.iter().take(SHOWN_MAX).map(|(id, _)| names::pack(id)).collect(),
        damaged_segments: documents(&plan.damaged),
        damaged_segment_count: plan.damaged.count,
        falsely_described_packs: plan.lied_about.iter().map(names::pack).collect(),
        unreadable_packs: documents(&plan.unreadable),
        unreadable_pack_count: plan.unreadable.count,
        condemned_pack_count: plan.condemned_count,
        named_pack_count: done.pack_count,
        quarantined_segment_count: done.quarantined_count,
        rewritten_segment_count: done.rewritten_count,
        warnings,
    }
}
