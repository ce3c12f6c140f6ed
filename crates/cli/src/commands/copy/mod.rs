//! `copy`: bring snapshots of one repository into another.
//!
//! ```text
//! -r / the configuration's only one ─► from ┐
//! --to, with credentials of its own ─► into ┴─► plan ─► snapshot by snapshot ─► what was copied, and what was not
//! ```
//!
//! Invariant: a snapshot that cannot be copied is named with its reason, the others are copied, and the exit code is 1.
//! Never here: how a snapshot is copied.

mod destination;
mod of_job;
mod outcome;
mod steps;

use clap::Args;
use engine::{Repository, Selector};
use pack::SnapshotId;

use crate::commands::selection::FilterArgs;
use crate::context::Context;
use crate::error::{CommandError, Outcome};
use crate::words::{Reference, moment};

use destination::DestinationArgs;
pub(crate) use of_job::{JobCopy, JobCopyDocument, copies_of_job};
use steps::{Wanted, copy_all};

const EXAMPLES: &str = "\
Examples:
  backstay copy --to s3://other-bucket/backstay --to-password-file /etc/backstay/offsite
  backstay copy latest --to /mnt/disk/backstay --host web1 --source files
  backstay copy --to offsite --tag release --dry-run      # offsite is in the configuration";

/// Copy snapshots into another repository, whatever its keys
///
/// Each snapshot is read, checked, and stored there as a backup would store it; what is there already is neither read twice
/// nor stored again. Without a snapshot, all that fit are copied, the oldest first, but for those that were copied before:
/// what is forgotten there stays forgotten unless it is named. The key of this repository must open content, that of the other
/// must be able to back up.
#[derive(Debug, Args)]
#[command(after_long_help = EXAMPLES)]
pub(crate) struct CopyArgs {
    /// Snapshots to copy, by `latest` or the start of their ids; instead of all
    #[arg(value_name = "SNAPSHOT", value_parser = Reference::parser())]
    named: Vec<Reference>,

    /// How hard to compress, from 1 (fast) to 19
    #[arg(long, value_name = "LEVEL", default_value_t = 3, value_parser = clap::value_parser!(i32).range(1..=19))]
    compression: i32,

    /// Show what would be copied, and copy nothing
    #[arg(short = 'n', long)]
    dry_run: bool,

    #[command(flatten)]
    destination: DestinationArgs,

    /// The newest snapshot at or before this time: 2026-11-19, "2026-11-19 14:30", yesterday, "2 days ago"
    #[arg(long, value_name = "TIME", help_heading = "Which snapshots", conflicts_with = "named")]
    at: Option<String>,

    #[command(flatten)]
    filter: FilterArgs,
}

/// Copies.
pub(crate) async fn run(args: &CopyArgs, ctx: &Context) -> Result<Outcome, CommandError> {
    let from = ctx.open_repository().await?;
    let into = args.destination.open(ctx).await?;
    let named = ctx.unless_interrupted(named(args, &from, ctx)).await?;
    let wanted = Wanted { filter: args.filter.filter(), named, level: args.compression, is_dry_run: args.dry_run };
    let copies = copy_all(&from, &into, &wanted, ctx).await?;
    outcome::tell(&copies, ctx)?;
    Ok(if copies.failed.is_empty() { Outcome::Done } else { Outcome::Partly })
}

/// The snapshots that are named; none for all that fit.
async fn named(args: &CopyArgs, from: &Repository, ctx: &Context) -> Result<Vec<SnapshotId>, CommandError> {
    let filter = args.filter.filter();
    if let Some(at) = &args.at {
        let at = moment(at, &ctx.now())?;
        let at = Selector::At(i64::try_from(at.as_nanosecond()).unwrap_or(i64::MAX));
        return Ok(vec![from.select(&at, &filter).await?.id]);
    }
    let mut ids = Vec::with_capacity(args.named.len());
    for reference in &args.named {
        let wrong = || CommandError::NoSnapshotName { name: reference.name.clone() };
        let name = reference.snapshot().filter(|name| !name.is_empty()).ok_or_else(wrong)?;
        if reference.has_path {
            return Err(CommandError::WholeSnapshots);
        }
        let selector = if name == "latest" { Selector::Latest } else { Selector::Prefix(name) };
        ids.push(from.select(&selector, &filter).await?.id);
    }
    Ok(ids)
}
