//! `check`: prove that what is stored is whole.
//!
//! Invariant: every damage is told with what it breaks, and the exit code is then 1; what could not be told is never called whole, and the exit code is 2.
//! Never here: repairing.

use std::sync::Arc;
use std::time::Duration;

use clap::Args;
use engine::{Ages, CheckReport, CheckRequest, Progress, Shard, Subset};
use serde::Serialize;

use crate::commands::selection::named;
use crate::context::Context;
use crate::error::{CommandError, Outcome};
use crate::hints;
use crate::human;
use crate::ui::Ui;
use crate::watch::Watch;
use crate::words::{Reference, lasting, shard, subset};

const EXAMPLES: &str = "\
Examples:
  backstay check
  backstay check --read-data-subset 5% --json
  backstay check --max-age 30d --max-duration 1h       # each night; all within 30 days
  backstay check --read-data --shard 3/16              # one of sixteen machines";

/// What `--read-data` cannot prove with a key that only writes or maintains.
const CONTENT_SEALED: &str = "this key opens no content: what was read was compared with its hashes, and not opened; the \
     owner's key or one of role reader opens it";

/// So much of what one damage breaks is told to people; a document has a hundred.
const AFFECTED_TOLD_MAX: usize = 20;

/// Prove that the repository is whole
///
/// Without options every snapshot is followed down to the packs which must exist, and packs that were found damaged before
/// are read again. With --read-data every byte is read and compared with its hash as well, and opened if the key may. The
/// other options choose what is read; each of them reads data by itself, and together they narrow it further. What was
/// verified is written down in the repository for later checks. The exit code is 1 if something is damaged, and 2 if nothing
/// is, but the store did not let everything be looked at.
#[derive(Debug, Args)]
#[command(after_long_help = EXAMPLES)]
pub(crate) struct CheckArgs {
    /// Read all data
    #[arg(long)]
    read_data: bool,

    /// Read a part of the data: the N-th of T parts, a random percentage, or a random amount
    #[arg(long, value_name = "N/T|P%|SIZE", value_parser = subset, conflicts_with = "read_data")]
    read_data_subset: Option<Subset>,

    /// Read only the packs that this snapshot needs: `latest` or the start of its id
    #[arg(long, value_name = "SNAPSHOT", value_parser = Reference::parser())]
    snapshot: Option<Reference>,

    /// Read only what was not verified for so long, the oldest first: 30d, 12h
    #[arg(long, value_name = "TIME", value_parser = lasting)]
    max_age: Option<Duration>,

    /// Begin to read nothing more after so long: 1h, 90m. What was verified longest ago is read first, so that the same
    /// command goes on from there the next time
    #[arg(long, value_name = "TIME", value_parser = lasting)]
    max_duration: Option<Duration>,

    /// Read only this machine's part of the packs, where N machines check at once, each with its own K from 1 to N
    #[arg(long, value_name = "K/N", value_parser = shard)]
    shard: Option<Shard>,
}

#[derive(Debug, Serialize)]
struct Document<'a> {
    is_whole: bool,
    pack_count: u64,
    snapshot_count: u64,
    chunk_count: u64,
    read_len: u64,
    is_content_sealed: bool,
    /// When the data was verified; none if no data was to be read.
    verified: Option<VerifiedDocument>,
    damages: Vec<DamageDocument<'a>>,
    warnings: Vec<String>,
    unclear: &'a [String],
    unclear_count: u64,
}

#[derive(Debug, Serialize)]
struct VerifiedDocument {
    packs_len: u64,
    /// Within `max_age_seconds`, or ever.
    within_len: u64,
    max_age_seconds: Option<u64>,
    never_len: u64,
    oldest_at: Option<String>,
    /// For which there was no time.
    left_pack_count: u64,
    left_len: u64,
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

impl CheckArgs {
    /// What is read; none if nothing asks for it.
    fn read_data(&self) -> Option<Subset> {
        let is_narrowed = self.snapshot.is_some() || self.shard.is_some();
        let is_timed = self.max_age.is_some() || self.max_duration.is_some();
        self.read_data_subset.or((self.read_data || is_narrowed || is_timed).then_some(Subset::All))
    }
}

/// Checks, and tells what is damaged.
pub(crate) async fn run(args: &CheckArgs, ctx: &Context) -> Result<Outcome, CommandError> {
    let repository = ctx.open_repository().await?;
    let of_snapshot = match &args.snapshot {
        Some(reference) => Some(named(reference, &repository).await?.id),
        None => None,
    };
    let (max_age, max_duration) = (args.max_age, args.max_duration);
    let read_data = args.read_data();
    let request = CheckRequest { read_data, of_snapshot, shard: args.shard, max_age, max_duration, remember: true };
    let progress = Arc::new(Progress::new());
    let watch = Watch::start(&ctx.ui, &progress, "packs");
    let report = repository.check(request, &progress, ctx.interrupts.token.clone()).await;
    drop(watch);
    let report = report.map_err(CommandError::of_reading)?;
    if ctx.ui.is_json {
        ctx.ui.json(&document(&report, args, &repository.warnings()))?;
    } else {
        tell(&report, args, &ctx.ui)?;
    }
    Ok(match (report.damages.is_empty(), report.unclear_count) {
        (true, 0) => Outcome::Done,
        (true, _) => Outcome::Unclear,
        (false, _) => Outcome::Partly,
    })
}

fn tell(report: &CheckReport, args: &CheckArgs, ui: &Ui) -> Result<(), CommandError> {
    report.warnings.iter().for_each(|warning| ui.warn(warning));
    report.unclear.iter().for_each(|unclear| ui.note(format_args!("unclear: {unclear}")));
    if report.is_content_sealed {
        ui.warn(CONTENT_SEALED);
    }
    for damage in &report.damages {
        ui.line(format_args!("{} {}: {}", ui.stdout.red("damage:"), damage.object, damage.what))?;
        let told = damage.affects.iter().take(AFFECTED_TOLD_MAX);
        let untold = damage.affects_count.saturating_sub(told.len() as u64);
        for affected in told {
            ui.line(format_args!("  affects {affected}"))?;
        }
        if untold > 0 {
            let snapshots = human::counted(damage.snapshot_count, "snapshot", "snapshots");
            ui.line(format_args!("  and {} more, in {snapshots} in all", human::count(untold)))?;
        }
    }
    ui.note(summary(report));
    if let Some(ages) = &report.ages {
        tell_ages(ages, args, ui);
    }
    hints::after_check(report).into_iter().for_each(|hint| ui.hint(hint));
    Ok(())
}

/// How much of the repository was verified within which age, unless all of it was right now.
fn tell_ages(ages: &Ages, args: &CheckArgs, ui: &Ui) {
    if args.max_age.is_none() && args.max_duration.is_none() && args.read_data {
        return;
    }
    let percent = (ages.within_len * 100).checked_div(ages.packs_len).unwrap_or(100);
    let age = args.max_age.map_or_else(String::new, |age| format!(" within {}", human::age(age)));
    let part = format!("{} of {}", human::size(ages.within_len), human::size(ages.packs_len));
    let oldest = ages.oldest_at.map(|at| format!("the oldest part at {}", human::local_time(at)));
    let never = (ages.never_len > 0).then(|| format!("{} was never verified", human::size(ages.never_len)));
    let more: Vec<_> = oldest.into_iter().chain(never).collect();
    let more = if more.is_empty() { String::new() } else { format!("; {}", more.join(", ")) };
    ui.note(format_args!("verified{age}: {percent} % of the repository ({part}){more}"));
    if ages.left_count > 0 {
        let packs = human::counted(ages.left_count, "pack was", "packs were");
        let len = human::size(ages.left_len);
        ui.note(format_args!("time is over: {packs} not read ({len}); the same command goes on from there"));
    }
}

fn summary(report: &CheckReport) -> String {
    let unclear = human::counted(report.unclear_count, "object", "objects");
    let result = match (report.damages.len() as u64, report.unclear_count) {
        (0, 0) if report.ages.is_none() && report.packs > 0 => {
            "nothing is missing; contents were not read, as --read-data does".to_owned()
        }
        (0, 0) => "the repository is whole".to_owned(),
        (0, _) => format!("no damage was found, but {unclear} could not be looked at"),
        (count, 0) => human::counted(count, "object is damaged", "objects are damaged"),
        (count, _) => {
            let damaged = human::counted(count, "object is damaged", "objects are damaged");
            format!("{damaged}, and {unclear} could not be judged")
        }
    };
    let snapshots = human::counted(report.snapshots, "snapshot", "snapshots");
    let packs = human::counted(report.packs, "pack", "packs");
    let chunks = human::counted(report.chunks, "chunk", "chunks");
    let read = if report.read_len > 0 { format!(", {} read", human::size(report.read_len)) } else { String::new() };
    format!("{result}: {snapshots}, {packs}, {chunks}{read}")
}

fn document<'a>(report: &'a CheckReport, args: &CheckArgs, told: &[String]) -> Document<'a> {
    let damages = report.damages.iter().map(|damage| DamageDocument {
        object: &damage.object,
        what: &damage.what,
        affects: &damage.affects,
        affects_count: damage.affects_count,
        affected_snapshot_count: damage.snapshot_count,
    });
    let verified = report.ages.as_ref().map(|ages| VerifiedDocument {
        packs_len: ages.packs_len,
        within_len: ages.within_len,
        max_age_seconds: args.max_age.map(|age| age.as_secs()),
        never_len: ages.never_len,
        oldest_at: ages.oldest_at.map(human::rfc3339),
        left_pack_count: ages.left_count,
        left_len: ages.left_len,
    });
    Document {
        is_whole: report.is_whole(),
        pack_count: report.packs,
        snapshot_count: report.snapshots,
        chunk_count: report.chunks,
        read_len: report.read_len,
        is_content_sealed: report.is_content_sealed,
        verified,
        damages: damages.collect(),
        warnings: [told, &report.warnings].concat(),
        unclear: &report.unclear,
        unclear_count: report.unclear_count,
    }
}
