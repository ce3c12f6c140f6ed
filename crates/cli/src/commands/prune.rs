//! `prune`: give back the space of what no snapshot needs.
//!
//! Invariant: the plan is shown first, and carried out only with `--yes`.
//! Never here: what is needed, and in which order things are deleted (see the engine).

use std::sync::Arc;
use std::time::Duration;

use clap::Args;
use engine::{Progress, PruneLimits, PrunePlan, PruneReport, PruneRequest, Repository, RunningBackup};
use serde::Serialize;

use crate::allocator;
use crate::context::Context;
use crate::error::{CommandError, Outcome};
use crate::human;
use crate::table::{Align, Table};
use crate::ui::Ui;
use crate::watch::Watch;
use crate::words::{RestLimit, duration, rest_limit, size};

const EXAMPLES: &str = "\
Examples:
  backstay prune                                # shows the plan
  backstay prune --yes
  backstay --key-file maintenance.key prune --yes
  backstay forget --job nightly --prune --yes";

/// What requests cost, in dollars for a thousand: Amazon's list prices for S3 Standard in 2026.
const WRITES_COST: f64 = 0.005;
const READS_COST: f64 = 0.0004;
/// What a gigabyte costs there for a month.
const STORED_COST: f64 = 0.023;

/// Give back the space of what no snapshot needs
///
/// Packs in which nothing is needed are deleted; of packs that are partly needed, the emptiest are repacked: what is needed
/// moves to new packs, byte for byte, which takes no key that opens data. Forgotten snapshots are then gone for good. Backups,
/// restores and other prunes may run meanwhile. What a running backup might still refer to waits for a later prune.
#[derive(Debug, Args)]
#[command(after_long_help = EXAMPLES)]
pub(crate) struct PruneArgs {
    #[command(flatten)]
    limits: LimitArgs,

    /// Show the plan and do nothing, with exit code 0
    #[arg(long, short = 'n', conflicts_with = "yes")]
    dry_run: bool,

    /// Carry the plan out
    #[arg(long)]
    yes: bool,
}

/// How far a prune goes.
#[derive(Debug, Args)]
pub(crate) struct LimitArgs {
    /// How much may stay unused: a percentage of what is used, or a size; 0 repacks whatever is not full, and leaves, with the
    /// owner's key, no byte that nothing needs
    #[arg(long, value_name = "P%|SIZE", value_parser = rest_limit, default_value = "5%")]
    max_unused: RestLimit,

    /// How much may be moved at most
    #[arg(long, value_name = "SIZE", value_parser = size)]
    max_repack: Option<u64>,

    /// Give up backups that have shown no sign of life for so long, such as those whose process was killed. Backups that run renew
    /// theirs every five minutes: with less than ten, one that is alive may be given up too, and then has to begin again
    #[arg(long, value_name = "DURATION", value_parser = duration, default_value = "1h", hide_short_help = true)]
    give_up_after: Duration,

    /// Nobody else uses the repository meanwhile: for stores without conditional writes. A backup that runs all the same
    /// may lose what it stored
    #[arg(long, hide_short_help = true)]
    exclusive: bool,
}

impl LimitArgs {
    /// The engine's request.
    pub(crate) fn request(&self) -> PruneRequest {
        let limits = match self.max_unused {
            RestLimit::Percent(percent) => PruneLimits { max_unused_percent: percent, ..PruneLimits::default() },
            RestLimit::Len(len) => {
                PruneLimits { max_unused_percent: f64::INFINITY, max_unused_len: Some(len), ..PruneLimits::default() }
            }
        };
        PruneRequest {
            host: human::host_name(),
            limits: PruneLimits { max_repack_len: self.max_repack, ..limits },
            lease_over_after: self.give_up_after,
            is_exclusive: self.exclusive,
        }
    }
}

#[derive(Debug, Serialize)]
pub(crate) struct PruneDocument {
    done: bool,
    plan: PlanDocument,
    report: Option<ReportDocument>,
    warnings: Vec<String>,
}

#[derive(Debug, Serialize)]
struct PlanDocument {
    removed_snapshots: Vec<String>,
    unended_snapshot_count: u64,
    pack_count: u64,
    packs_len: u64,
    used_len: u64,
    gone_pack_count: u64,
    gone_len: u64,
    repacked_pack_count: u64,
    repacked_len: u64,
    moved_len: u64,
    freed_len: u64,
    left_unused_len: u64,
    sealed_in_len: u64,
    double_len: u64,
    pending_list_count: u64,
    pending_pack_count: u64,
    young_pack_count: u64,
    running: Vec<String>,
    segment_count: u64,
    merges_segments: bool,
    stale_pack_count: u64,
    request_counts: RequestsDocument,
}

#[derive(Debug, Serialize)]
struct RequestsDocument {
    list: u64,
    get: u64,
    put: u64,
    delete: u64,
}

#[derive(Debug, Serialize)]
struct ReportDocument {
    snapshot_count: u64,
    deleted_pack_count: u64,
    deleted_len: u64,
    written_len: u64,
    copied_pack_count: u64,
    waiting_pack_count: u64,
    waits_for: Vec<String>,
    given_up_backup_count: u64,
    locked_pack_count: u64,
    locked_len: u64,
    locked: Vec<String>,
    problems: Vec<String>,
}

/// Plans, and prunes.
pub(crate) async fn run(args: &PruneArgs, ctx: &Context) -> Result<Outcome, CommandError> {
    let repository = ctx.open_repository().await?;
    let pruned = prune(&repository, args.limits.request(), args.yes, ctx).await?;
    let is_empty = pruned.is_empty;
    if ctx.ui.is_json {
        ctx.ui.json(&pruned.document)?;
    }
    match (args.yes || is_empty || args.dry_run, pruned.outcome) {
        (true, outcome) => Ok(outcome),
        (false, _) => Err(CommandError::NotPruned),
    }
}

/// What became of a prune.
pub(crate) struct Pruned {
    pub(crate) document: PruneDocument,
    pub(crate) outcome: Outcome,
    pub(crate) is_empty: bool,
}

/// Plans, tells, and if `is_agreed` carries it out.
pub(crate) async fn prune(
    repository: &Repository,
    request: PruneRequest,
    is_agreed: bool,
    ctx: &Context,
) -> Result<Pruned, CommandError> {
    allocator::give_back();
    let token = ctx.interrupts.token.clone();
    let patience = request.lease_over_after;
    let plan = repository.plan_prune(request, token.clone()).await?;
    if !ctx.ui.is_json {
        show(&plan, patience, &ctx.ui)?;
    }
    let planned = plan_document(&plan);
    let warnings = [repository.warnings(), plan.warnings.clone()].concat();
    let is_empty = plan.is_empty();
    if is_empty {
        ctx.ui.note("nothing to prune");
    }
    if is_empty || !is_agreed {
        let document = PruneDocument { done: false, plan: planned, report: None, warnings };
        return Ok(Pruned { document, outcome: Outcome::Done, is_empty });
    }
    let progress = Arc::new(Progress::new());
    let watch = Watch::start(&ctx.ui, &progress, "packs");
    let report = repository.prune(plan, &progress, token).await;
    drop(watch);
    let report = report?;
    tell(&report, patience, &ctx.ui);
    let outcome = if report.problems.is_empty() && report.locked_count == 0 { Outcome::Done } else { Outcome::Partly };
    let document = PruneDocument { done: true, plan: planned, report: Some(report_document(&report)), warnings };
    Ok(Pruned { document, outcome, is_empty })
}

fn show(plan: &PrunePlan, patience: Duration, ui: &Ui) -> Result<(), CommandError> {
    plan.warnings.iter().for_each(|warning| ui.warn(warning));
    let mut table = Table::new(&[("", Align::Left), ("Count", Align::Right), ("Size", Align::Right)]);
    let mut row =
        |what: &str, count: u64, len: u64| table.row([what.to_owned(), human::count(count), human::size(len)]);
    row("packs", plan.packs, plan.packs_len);
    row("  deleted, since nothing in them is needed", plan.gone_packs, plan.gone_len);
    row("  repacked", plan.repacked_packs, plan.repacked_len);
    row("    of which is moved", plan.repacked_packs, plan.moved_len);
    if plan.pending_packs > 0 {
        row("  condemned by an earlier prune", plan.pending_packs, 0);
    }
    row("freed", plan.gone_packs + plan.repacked_packs, plan.freed_len());
    row("unused that stays", 0, plan.left_unused_len);
    ui.line(table.show(ui.stdout))?;
    let removed = plan.removed_snapshots.len() as u64;
    if removed > 0 {
        ui.line(format_args!(
            "{} for good",
            human::counted(removed, "forgotten snapshot goes", "forgotten snapshots go")
        ))?;
    }
    if plan.stale_packs > 0 {
        let packs = human::counted(plan.stale_packs, "pack that is gone is", "packs that are gone are");
        ui.line(format_args!("{packs} forgotten by the index: nothing in them is needed"))?;
    }
    for backup in &plan.running {
        ui.line(format_args!("not ended: {}; what is younger than it stays", named(backup)))?;
        ui.line(format_args!("  {}", signs_of(backup, patience)))?;
    }
    if !plan.can_recut && plan.sealed_in_len > 0 {
        let len = human::size(plan.sealed_in_len);
        ui.line(format_args!(
            "about {len} of this cannot be freed by this key: it lies in blobs of which a part is needed"
        ))?;
    }
    if plan.double_len > 0 {
        ui.line(format_args!("{} of content are stored more than once, and stay", human::size(plan.double_len)))?;
    }
    let requests = &plan.requests;
    let cost =
        (requests.puts + requests.lists) as f64 * WRITES_COST / 1000.0 + requests.gets as f64 * READS_COST / 1000.0;
    let saved = plan.freed_len() as f64 / 1e9 * STORED_COST;
    ui.line(format_args!(
        "about {} reads, {} writes, {} deletions, {} listings: at S3's list prices ${cost:.2}, and ${saved:.2} a month saved",
        human::count(requests.gets),
        human::count(requests.puts),
        human::count(requests.deletes),
        human::count(requests.lists),
    ))
}

fn tell(report: &PruneReport, patience: Duration, ui: &Ui) {
    let packs = human::counted(report.packs_deleted, "pack", "packs");
    let (deleted, written) = (human::size(report.deleted_len), human::size(report.written_len));
    ui.note(format_args!("{packs} of {deleted} deleted, {written} written"));
    if report.copied_packs > 0 {
        let packs = human::counted(report.copied_packs, "pack was", "packs were");
        ui.note(format_args!("{packs} needed again meanwhile, and copied"));
    }
    if report.given_up > 0 {
        let backups = human::counted(report.given_up, "backup", "backups");
        ui.note(format_args!("{backups} without a sign of life given up: if one is alive, it has to begin again"));
    }
    if report.waiting_packs > 0 {
        let packs = human::counted(report.waiting_packs, "pack waits", "packs wait");
        let names: Vec<_> = report.running.iter().map(named).collect();
        ui.note(format_args!("{packs} for {}: prune again when that has ended", names.join(", ")));
        report.running.iter().for_each(|backup| ui.note(signs_of(backup, patience)));
    }
    if report.locked_count > 0 {
        let packs = human::counted(report.locked_count, "pack", "packs");
        ui.warn(format_args!(
            "{packs} of {} are not needed, but the store does not let this account delete them: an object lock, or its rights",
            human::size(report.locked_len)
        ));
        report.locked.iter().for_each(|(_, why)| ui.detail(why));
    }
    report.problems.iter().for_each(|problem| ui.problem(problem));
}

/// `the backup of web1 that began at …`.
fn named(backup: &RunningBackup) -> String {
    let host = backup
        .host
        .as_ref()
        .map_or_else(|| "an unknown host".to_owned(), |host| human::escaped(host.as_bytes()).to_string());
    format!("the backup of {host} that began at {}", human::local_time(backup.announced_at.as_nanos()))
}

/// Since when a backup has shown no sign of life, and until when it is waited for.
fn signs_of(backup: &RunningBackup, patience: Duration) -> String {
    let seen_at = backup.seen_at.as_nanos();
    let given_up_at = seen_at.saturating_add(i64::try_from(patience.as_nanos()).unwrap_or(i64::MAX));
    format!(
        "its last sign of life was at {}; without another, a prune gives it up from {} on (sooner with --give-up-after, if its process is surely gone)",
        human::local_time(seen_at),
        human::local_time(given_up_at)
    )
}

fn plan_document(plan: &PrunePlan) -> PlanDocument {
    PlanDocument {
        removed_snapshots: plan.removed_snapshots.iter().map(ToString::to_string).collect(),
        unended_snapshot_count: plan.unended_snapshots,
        pack_count: plan.packs,
        packs_len: plan.packs_len,
        used_len: plan.used_len,
        gone_pack_count: plan.gone_packs,
        gone_len: plan.gone_len,
        repacked_pack_count: plan.repacked_packs,
        repacked_len: plan.repacked_len,
        moved_len: plan.moved_len,
        freed_len: plan.freed_len(),
        left_unused_len: plan.left_unused_len,
        sealed_in_len: plan.sealed_in_len,
        double_len: plan.double_len,
        pending_list_count: plan.pending_lists,
        pending_pack_count: plan.pending_packs,
        young_pack_count: plan.young_packs,
        running: plan.running.iter().map(|backup| backup.id.to_string()).collect(),
        segment_count: plan.segments,
        merges_segments: plan.merges_segments,
        stale_pack_count: plan.stale_packs,
        request_counts: RequestsDocument {
            list: plan.requests.lists,
            get: plan.requests.gets,
            put: plan.requests.puts,
            delete: plan.requests.deletes,
        },
    }
}

fn report_document(report: &PruneReport) -> ReportDocument {
    ReportDocument {
        snapshot_count: report.snapshots_removed,
        deleted_pack_count: report.packs_deleted,
        deleted_len: report.deleted_len,
        written_len: report.written_len,
        copied_pack_count: report.copied_packs,
        waiting_pack_count: report.waiting_packs,
        waits_for: report.running.iter().map(|backup| backup.id.to_string()).collect(),
        given_up_backup_count: report.given_up,
        locked_pack_count: report.locked_count,
        locked_len: report.locked_len,
        locked: report.locked.iter().map(|(pack, _)| pack.to_string()).collect(),
        problems: report.problems.clone(),
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;
    use engine::LEASE_OVER_AFTER;

    use super::*;

    #[derive(Debug, Parser)]
    struct Line {
        #[command(flatten)]
        limits: LimitArgs,
    }

    #[test]
    fn backup_is_given_up_after_what_help_says_unless_told_otherwise() {
        let line = Line::try_parse_from(["prune"]).expect("parses");
        assert_eq!(line.limits.request().lease_over_after, LEASE_OVER_AFTER);
    }
}
