//! Copying by a plan, snapshot by snapshot.
//!
//! Invariant: only what cannot be had of a snapshot lets the next one follow; whatever else fails ends all.
//! Never here: where the two repositories come from.

use std::sync::Arc;

use engine::{CopyPlan, CopyReport, CopyRequest, EngineError, Progress, Repository, SnapshotFilter, SnapshotInfo};
use pack::SnapshotId;

use crate::commands::copy::outcome::{tell_copied, tell_failed};
use crate::context::Context;
use crate::error::CommandError;
use crate::watch::Watch;

/// What is to be copied.
#[derive(Debug)]
pub(super) struct Wanted {
    pub(super) filter: SnapshotFilter,
    /// These, instead of what fits.
    pub(super) named: Vec<SnapshotId>,
    pub(super) level: i32,
    pub(super) is_dry_run: bool,
}

/// What came of it.
#[derive(Debug)]
pub(super) struct Copies {
    pub(super) is_dry_run: bool,
    pub(super) plan: CopyPlan,
    pub(super) done: Vec<(SnapshotInfo, CopyReport)>,
    pub(super) failed: Vec<(SnapshotInfo, EngineError)>,
}

/// Copies what is wanted and not there yet; each is told as it is done.
pub(super) async fn copy_all(
    from: &Repository,
    into: &Repository,
    wanted: &Wanted,
    ctx: &Context,
) -> Result<Copies, CommandError> {
    let planned = async { Ok(into.plan_copy(from, &wanted.filter, &wanted.named).await?) };
    let plan = ctx.unless_interrupted(planned).await?;
    let mut copies = Copies { is_dry_run: wanted.is_dry_run, plan, done: Vec::new(), failed: Vec::new() };
    if wanted.is_dry_run || copies.plan.wanted.is_empty() {
        return Ok(copies);
    }
    let begun = async { Ok(into.begin_copy(from, &copies.plan, CopyRequest { level: wanted.level }).await?) };
    let mut copying = ctx.unless_interrupted(begun).await?;
    for info in &copies.plan.wanted {
        let progress = Arc::new(Progress::new());
        let watch = Watch::start(&ctx.ui, &progress, "entries");
        let copied = copying.copy(info, &progress, &ctx.interrupts.token).await;
        drop(watch);
        match copied {
            Ok(report) => {
                tell_copied(info, &report, &ctx.ui);
                copies.done.push((info.clone(), report));
            }
            Err(error @ EngineError::NotCopied { .. }) => {
                tell_failed(info, &error, &ctx.ui);
                copies.failed.push((info.clone(), error));
            }
            Err(error) => return Err(error.into()),
        }
    }
    Ok(copies)
}
