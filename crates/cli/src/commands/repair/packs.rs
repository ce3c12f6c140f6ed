//! `repair packs`: copy what is left of damaged packs.

use std::sync::Arc;

use clap::Args;
use engine::{PackRepair, PacksRepaired, Progress};
use pack::names;
use serde::Serialize;

use super::{ConsentArgs, note};
use crate::context::Context;
use crate::error::{CommandError, Outcome};
use crate::hints;
use crate::human;
use crate::watch::Watch;

const EXAMPLES: &str = "\
Examples:
  backstay repair packs                      # shows the plan for what check found
  backstay repair packs --read-data --yes";

/// Copy what is left of damaged packs into new ones
///
/// Blobs that verify are copied as they are; then no index segment names the damaged pack any more. It stays in the store
/// and nobody uses it. Packs are looked at that are missing, have another length, or were found damaged by a check;
/// --read-data looks at all. Only the owner's key may do it. The exit code is 1 if something is lost.
#[derive(Debug, Args)]
#[command(after_long_help = EXAMPLES)]
pub(crate) struct PacksArgs {
    /// Read all packs, not only those that a check found damaged
    #[arg(long)]
    read_data: bool,

    #[command(flatten)]
    consent: ConsentArgs,
}

#[derive(Debug, Serialize)]
struct Document<'a> {
    is_done: bool,
    packs: Vec<PackDocument<'a>>,
    saved_chunk_count: u64,
    lost_chunk_count: u64,
    written_pack_count: u64,
    rewritten_segment_count: u64,
    unclear: &'a [String],
    warnings: Vec<String>,
}

#[derive(Debug, Serialize)]
struct PackDocument<'a> {
    object: String,
    what: &'a str,
    saved_chunk_count: u64,
    saved_len: u64,
    lost_chunk_count: u64,
}

/// Plans, and does it.
pub(super) async fn run(args: &PacksArgs, ctx: &Context) -> Result<Outcome, CommandError> {
    let repository = ctx.open_repository().await?;
    let cancel = ctx.interrupts.token.clone();
    let progress = Arc::new(Progress::new());
    let watch = Watch::start(&ctx.ui, &progress, "packs");
    let plan = repository.plan_repair_packs(args.read_data, &progress, &cancel).await;
    drop(watch);
    let plan = plan.map_err(CommandError::of_reading)?;
    if !ctx.ui.is_json {
        plan.packs.iter().try_for_each(|pack| ctx.ui.line(line(pack)))?;
        plan.unclear.iter().for_each(|unclear| ctx.ui.note(format_args!("unclear: {unclear}")));
    }
    let is_done = args.consent.yes && !plan.is_empty();
    let done = match is_done {
        true => repository.repair_packs(&plan, &human::host_name(), &progress, &cancel).await,
        false => Ok(PacksRepaired::default()),
    };
    let done = done.map_err(CommandError::of_reading)?;
    let packs = if is_done { &done.packs } else { &plan.packs };
    let sum = |of: fn(&PackRepair) -> u64| packs.iter().map(of).sum::<u64>();
    let (saved, lost) = (sum(|pack| pack.saved_count), sum(|pack| pack.lost_count));
    if ctx.ui.is_json {
        let warnings = [repository.warnings(), done.warnings.clone()].concat();
        ctx.ui.json(&Document {
            is_done,
            packs: packs.iter().map(pack_document).collect(),
            saved_chunk_count: saved,
            lost_chunk_count: lost,
            written_pack_count: done.pack_count,
            rewritten_segment_count: done.rewritten_count,
            unclear: &plan.unclear,
            warnings,
        })?;
    }
    if !ctx.ui.is_json {
        done.warnings.iter().for_each(|warning| ctx.ui.warn(warning));
    }
    let damaged = human::counted(plan.packs.len() as u64, "pack is damaged", "packs are damaged");
    if plan.is_empty() {
        let known = "no pack that is known to be damaged needs repair";
        note(if args.read_data { "no pack needs repair" } else { known }, &ctx.ui);
        return Ok(if plan.unclear.is_empty() { Outcome::Done } else { Outcome::Unclear });
    }
    if !is_done {
        return args.consent.refuse(damaged);
    }
    let saved = human::counted(saved, "chunk", "chunks");
    let written = human::counted(done.pack_count, "new pack", "new packs");
    let chunks = human::counted(lost, "chunk is lost", "chunks are lost");
    note(format_args!("{saved} saved in {written}, {chunks}; the damaged packs are used no more"), &ctx.ui);
    if lost > 0 && !ctx.ui.is_json {
        ctx.ui.hint(hints::AFTER_LOST_CHUNKS);
    }
    Ok(if lost > 0 { Outcome::Partly } else { Outcome::Done })
}

fn line(pack: &PackRepair) -> String {
    let saved = human::counted(pack.saved_count, "chunk is", "chunks are");
    let lost = human::counted(pack.lost_count, "is lost", "are lost");
    format!("{} {}: {saved} saved, {lost}", names::pack(&pack.id), pack.what)
}

fn pack_document(pack: &PackRepair) -> PackDocument<'_> {
    PackDocument {
        object: names::pack(&pack.id),
        what: &pack.what,
        saved_chunk_count: pack.saved_count,
        saved_len: pack.saved_len,
        lost_chunk_count: pack.lost_count,
    }
}
