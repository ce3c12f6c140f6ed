//! `check`: prove that what is stored is whole.
//!
//! Invariant: every damage is told with what it breaks, and the exit code is then 1; what could not be told is never called whole, and the exit code is 2.
//! Never here: repairing.

use std::sync::Arc;

use clap::Args;
use engine::{CheckReport, CheckRequest, Progress, Subset};
use serde::Serialize;

use crate::context::Context;
use crate::error::{CommandError, Outcome};
use crate::hints;
use crate::human;
use crate::ui::Ui;
use crate::watch::Watch;
use crate::words::subset;

const EXAMPLES: &str = "\
Examples:
  backstay check
  backstay check --read-data
  backstay check --read-data-subset 3/7
  backstay check --read-data-subset 5% --json";

/// What `--read-data` cannot prove with a key that only writes or maintains.
const CONTENT_SEALED: &str = "this key opens no content: what was read was compared with its hashes, and not opened";

/// Prove that the repository is whole
///
/// Without options every snapshot is followed down to the packs which must exist. With --read-data every byte is read
/// and compared with its hash as well, and opened if the key may. The exit code is 1 if something is damaged, and 2 if
/// nothing is, but the store did not let everything be looked at.
#[derive(Debug, Args)]
#[command(after_long_help = EXAMPLES)]
pub(crate) struct CheckArgs {
    /// Read all data
    #[arg(long)]
    read_data: bool,

    /// Read a part of the data: the N-th of T parts, a random percentage, or a random amount
    #[arg(long, value_name = "N/T|P%|SIZE", value_parser = subset, conflicts_with = "read_data")]
    read_data_subset: Option<Subset>,
}

#[derive(Debug, Serialize)]
struct Document<'a> {
    is_whole: bool,
    pack_count: u64,
    snapshot_count: u64,
    chunk_count: u64,
    read_len: u64,
    is_content_sealed: bool,
    damages: Vec<DamageDocument<'a>>,
    warnings: Vec<String>,
    unclear: &'a [String],
    unclear_count: u64,
}

#[derive(Debug, Serialize)]
struct DamageDocument<'a> {
    object: &'a str,
    what: &'a str,
    /// The first hundred.
    affects: &'a [String],
    affects_count: u64,
    affected_snapshot_count: u64,
}

/// Checks, and tells what is damaged.
pub(crate) async fn run(args: &CheckArgs, ctx: &Context) -> Result<Outcome, CommandError> {
    let repository = ctx.open_repository().await?;
    let read_data = if args.read_data { Some(Subset::All) } else { args.read_data_subset };
    let progress = Arc::new(Progress::new());
    let watch = Watch::start(&ctx.ui, &progress, "packs");
    let report = repository.check(CheckRequest { read_data }, &progress, ctx.interrupts.token.clone()).await;
    drop(watch);
    let report = report.map_err(CommandError::of_reading)?;
    if ctx.ui.is_json {
        ctx.ui.json(&document(&report, &repository.warnings()))?;
    } else {
        tell(&report, &ctx.ui)?;
    }
    Ok(match (report.damages.is_empty(), report.unclear_count) {
        (true, 0) => Outcome::Done,
        (true, _) => Outcome::Unclear,
        (false, _) => Outcome::Partly,
    })
}

fn tell(report: &CheckReport, ui: &Ui) -> Result<(), CommandError> {
    report.warnings.iter().for_each(|warning| ui.warn(warning));
    report.unclear.iter().for_each(|unclear| ui.note(format_args!("unclear: {unclear}")));
    if report.is_content_sealed {
        ui.warn(CONTENT_SEALED);
    }
    for damage in &report.damages {
        ui.line(format_args!("{} {}: {}", ui.stdout.red("damage:"), damage.object, damage.what))?;
        for affected in &damage.affects {
            ui.line(format_args!("  affects {affected}"))?;
        }
        let untold = damage.affects_count.saturating_sub(damage.affects.len() as u64);
        if untold > 0 {
            let snapshots = human::counted(damage.snapshot_count, "snapshot", "snapshots");
            ui.line(format_args!("  and {} more, in {snapshots} in all", human::count(untold)))?;
        }
    }
    ui.note(summary(report));
    let (of_index, others): (Vec<_>, Vec<_>) = report.damages.iter().partition(|damage| is_of_index(&damage.object));
    let (healing, lost): (Vec<_>, Vec<_>) = others.into_iter().partition(|damage| is_made_again(&damage.object));
    if !of_index.is_empty() {
        ui.hint(hints::AFTER_DAMAGED_INDEX);
    }
    if !healing.is_empty() {
        ui.hint(hints::AFTER_DAMAGE);
    }
    if report.unneeded_count > 0 {
        ui.hint(hints::UNNEEDED);
    }
    if !lost.is_empty() {
        ui.hint(hints::AFTER_LOSS);
    } else if report.damages.is_empty() && report.unclear_count > 0 {
        ui.hint(hints::AFTER_UNCLEAR);
    }
    Ok(())
}

fn is_of_index(object: &str) -> bool {
    object.split('/').next() == Some(pack::names::INDEX)
}

/// Whether a backup makes an object again: those that hold content and the way to it, not keys, snapshots and settings.
fn is_made_again(object: &str) -> bool {
    use pack::names::{CONFIG, EPOCHS, KEYS, SNAPSHOTS};
    !object.starts_with(CONFIG) && ![KEYS, EPOCHS, SNAPSHOTS].contains(&object.split('/').next().unwrap_or_default())
}

fn summary(report: &CheckReport) -> String {
    let unclear = human::counted(report.unclear_count, "object", "objects");
    let result = match (report.damages.len() as u64, report.unclear_count) {
        (0, 0) => "the repository is whole".to_owned(),
        (0, _) => format!("no damage was found, but {unclear} could not be looked at"),
        (count, _) => human::counted(count, "object is damaged", "objects are damaged"),
    };
    let snapshots = human::counted(report.snapshots, "snapshot", "snapshots");
    let packs = human::counted(report.packs, "pack", "packs");
    let chunks = human::counted(report.chunks, "chunk", "chunks");
    let read = if report.read_len > 0 { format!(", {} read", human::size(report.read_len)) } else { String::new() };
    format!("{result}: {snapshots}, {packs}, {chunks}{read}")
}

fn document<'a>(report: &'a CheckReport, told: &[String]) -> Document<'a> {
    let damages = report.damages.iter().map(|damage| DamageDocument {
        object: &damage.object,
        what: &damage.what,
        affects: &damage.affects,
        affects_count: damage.affects_count,
        affected_snapshot_count: damage.snapshot_count,
    });
    Document {
        is_whole: report.is_whole(),
        pack_count: report.packs,
        snapshot_count: report.snapshots,
        chunk_count: report.chunks,
        read_len: report.read_len,
        is_content_sealed: report.is_content_sealed,
        damages: damages.collect(),
        warnings: [told, &report.warnings].concat(),
        unclear: &report.unclear,
        unclear_count: report.unclear_count,
    }
}
