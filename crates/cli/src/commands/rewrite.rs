//! `rewrite`: remove a path or a component from snapshots that are there.
//!
//! Invariant: the plan is shown first, with how much goes of each snapshot, and carried out only with `--yes`.
//! Never here: how a snapshot is rewritten, and freeing space.

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt as _;
use std::sync::Arc;

use clap::{ArgGroup, Args};
use engine::{
    Affected, EngineError, Progress, Removal, Repository, RewritePlan, RewriteReport, Selector, SnapshotInfo,
};
use pack::SnapshotId;
use serde::Serialize;
use source::with_causes;

use crate::commands::selection::{FilterArgs, shown};
use crate::context::Context;
use crate::error::{CommandError, Outcome};
use crate::human;
use crate::table::{Align, Table};
use crate::watch::Watch;
use crate::words::{Reference, normal};

const EXAMPLES: &str = "\
Examples:
  backstay rewrite --exclude-path /srv/customers/4711                 # shows the plan
  backstay rewrite --exclude-path /srv/customers/4711 --host web1 --yes
  backstay rewrite --remove-component cache --source nightly --yes
  backstay prune --max-unused 0 --yes      # afterwards";

const COLUMNS: [(&str, Align); 7] = [
    ("ID", Align::Left),
    ("Time", Align::Left),
    ("Host", Align::Left),
    ("Source", Align::Left),
    ("Entries", Align::Right),
    ("Size", Align::Right),
    ("Then", Align::Left),
];

const USAGE: &str = "\
backstay rewrite [OPTIONS] --exclude-path PATH [SNAPSHOT]...
       backstay rewrite [OPTIONS] --remove-component NAME [SNAPSHOT]...";

/// Remove a path or a component from snapshots that are there
///
/// Each snapshot that has it is replaced by a new one of the same time, host, source and tags without it, and the old one is
/// forgotten; everything else is taken over as it is stored. `prune --max-unused 0` then takes what was removed out of the
/// store. Copies in other repositories, the caches of hosts, and further names of a file keep what they have. Needs the owner's key.
#[derive(Debug, Args)]
#[command(after_long_help = EXAMPLES, override_usage = USAGE)]
#[command(group = ArgGroup::new("what").required(true).args(["exclude_path", "remove_component"]))]
pub(crate) struct RewriteArgs {
    /// Snapshots to rewrite, by the start of their ids; instead of all that fit
    #[arg(value_name = "SNAPSHOT", value_parser = Reference::parser(), conflicts_with = "FilterArgs")]
    named: Vec<Reference>,

    /// Remove this path, from the root of the snapshot, and all below it; may be given several times
    #[arg(long, value_name = "PATH")]
    exclude_path: Vec<OsString>,

    /// Remove this component
    #[arg(long, value_name = "NAME")]
    remove_component: Option<String>,

    /// Show the plan and do nothing, with exit code 0
    #[arg(long, short = 'n', conflicts_with = "yes")]
    dry_run: bool,

    /// Carry the plan out
    #[arg(long)]
    yes: bool,

    #[command(flatten)]
    filter: FilterArgs,
}

#[derive(Debug, Serialize)]
struct Document {
    done: bool,
    looked_count: usize,
    snapshots: Vec<AffectedDocument>,
    /// What has it and stays, with the reasons.
    left: Vec<LeftDocument>,
}

#[derive(Debug, Serialize)]
struct AffectedDocument {
    id: String,
    time: String,
    host: String,
    source: String,
    entry_count: u64,
    content_len: u64,
    linked_count: u64,
    /// The snapshot that stands in for it.
    #[serde(skip_serializing_if = "Option::is_none")]
    replaced_by: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    stored_len: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    failure: Option<String>,
}

#[derive(Debug, Serialize)]
struct LeftDocument {
    id: String,
    reason: String,
}

/// What became of one snapshot.
type Done = Result<RewriteReport, EngineError>;

/// Shows the plan, or carries it out.
pub(crate) async fn run(args: &RewriteArgs, ctx: &Context) -> Result<Outcome, CommandError> {
    let removal = args.removal()?;
    let repository = ctx.open_repository().await?;
    let planned = async {
        let named = named(&args.named, &repository).await?;
        Ok(repository.plan_rewrite(&removal, &args.filter.filter(), &named).await?)
    };
    let plan = ctx.unless_interrupted(planned).await?;
    if !ctx.ui.is_json {
        show(&plan, ctx)?;
    }
    let snapshots = human::counted(plan.affected.len() as u64, "snapshot", "snapshots");
    let is_due = args.yes && !plan.affected.is_empty();
    let done = if is_due { rewrite_all(&plan, &removal, &repository, ctx).await? } else { Vec::new() };
    if ctx.ui.is_json {
        ctx.ui.json(&document(&plan, &done))?;
    }
    let failed_count = done.iter().filter(|done| done.is_err()).count();
    match is_due {
        _ if plan.affected.is_empty() => ctx.ui.note(format_args!(
            "nothing to rewrite: none of {} has it",
            human::counted(plan.looked_count as u64, "snapshot", "snapshots")
        )),
        true => ctx.ui.note(format_args!("{} of {snapshots} rewritten", done.len() - failed_count)),
        false if args.dry_run => ctx.ui.note(format_args!("{snapshots} would be rewritten")),
        false => return Err(CommandError::NotRewritten { snapshots }),
    }
    let is_left = failed_count > 0 || !plan.untrusted.is_empty() || !plan.unclear.is_empty();
    Ok(if is_left { Outcome::Partly } else { Outcome::Done })
}

impl RewriteArgs {
    fn removal(&self) -> Result<Removal, CommandError> {
        if let Some(name) = &self.remove_component {
            return Ok(Removal::Component(name.clone()));
        }
        let paths: Vec<Vec<u8>> = self.exclude_path.iter().map(|path| normal(&path.clone().into_vec())).collect();
        if paths.iter().any(Vec::is_empty) {
            return Err(CommandError::PathOfAll);
        }
        // What is below another one goes with it, and is counted once.
        let is_below = |path: &[u8], other: &[u8]| path.strip_prefix(other).is_some_and(|rest| rest.starts_with(b"/"));
        let mut outer: Vec<Vec<u8>> =
            paths.iter().filter(|path| !paths.iter().any(|other| is_below(path, other))).cloned().collect();
        outer.sort();
        outer.dedup();
        Ok(Removal::Paths(outer))
    }
}

async fn named(references: &[Reference], repository: &Repository) -> Result<Vec<SnapshotId>, CommandError> {
    let mut ids = Vec::with_capacity(references.len());
    for reference in references {
        let wrong = || CommandError::NoSnapshotName { name: reference.name.clone() };
        let name = reference.snapshot().filter(|name| !name.is_empty() && !reference.has_path).ok_or_else(wrong)?;
        let selector = if name == "latest" { Selector::Latest } else { Selector::Prefix(name) };
        ids.push(repository.select(&selector, &engine::SnapshotFilter::default()).await?.id);
    }
    Ok(ids)
}

/// Rewrites one snapshot after the other; one that cannot be is told, and the others go on.
async fn rewrite_all(
    plan: &RewritePlan,
    removal: &Removal,
    repository: &Repository,
    ctx: &Context,
) -> Result<Vec<Done>, CommandError> {
    let mut all = Vec::with_capacity(plan.affected.len());
    for affected in &plan.affected {
        let progress = Arc::new(Progress::new());
        let watch = Watch::start(&ctx.ui, &progress, "entries");
        let done = repository.rewrite(affected, removal, 3, &progress, &ctx.interrupts.token).await;
        drop(watch);
        if let Err(error) = done {
            if !matches!(error, EngineError::NotRewritten { .. }) {
                return Err(error.into());
            }
            if !ctx.ui.is_json {
                ctx.ui.problem(format_args!("{} stays: {}", shown(&affected.info), with_causes(&error)));
            }
            all.push(Err(error));
            continue;
        }
        all.push(done.inspect(|report| tell(affected, report, ctx)));
    }
    Ok(all)
}

fn tell(affected: &Affected, report: &RewriteReport, ctx: &Context) {
    if ctx.ui.is_json {
        return;
    }
    report.warnings.iter().for_each(|warning| ctx.ui.warn(warning));
    let (old, time) = (shown(&affected.info), human::duration(report.seconds));
    let replaced = report.snapshot.or(affected.superseded_by).map(|id| human::short(&id));
    match replaced {
        Some(new) => ctx.ui.note(format_args!(
            "{old} replaced by {new}: {} left, {} stored in {time}",
            human::counted(report.entry_count, "entry", "entries"),
            human::size(report.stored_len)
        )),
        None => ctx.ui.note(format_args!("{old} forgotten: nothing else was in it")),
    }
}

fn show(plan: &RewritePlan, ctx: &Context) -> Result<(), CommandError> {
    if !plan.affected.is_empty() {
        let mut table = Table::new(&COLUMNS);
        for affected in &plan.affected {
            let structure = &affected.info.snapshot.structure;
            let then = match (&affected.superseded_by, affected.is_emptied) {
                (Some(new), _) => format!("forget, {} stands in", human::short(new)),
                (None, true) => "forget, nothing else is in it".to_owned(),
                (None, false) => "rewrite".to_owned(),
            };
            table.row([
                human::short(&affected.info.id),
                human::local_time(structure.started_at),
                structure.host.clone(),
                structure.source.clone(),
                human::count(affected.entry_count),
                human::size(affected.content_len),
                then,
            ]);
        }
        ctx.ui.line(table.show(ctx.ui.stdout))?;
    }
    let linked: u64 = plan.affected.iter().map(|affected| affected.linked_count).max().unwrap_or_default();
    if linked > 0 {
        let files = human::counted(linked, "file", "files");
        ctx.ui.warn(format_args!("{files} of it may have further names elsewhere, under which the content stays"));
    }
    for left in left(plan) {
        ctx.ui.problem(format_args!("{}: {}", left.0, left.1));
    }
    Ok(())
}

/// What stays as it is although it has it, or may have it.
fn left(plan: &RewritePlan) -> Vec<(String, String)> {
    let untrusted = plan.untrusted.iter().map(|info| (info, "its key was removed: forget it by its id".to_owned()));
    let unclear = plan.unclear.iter().map(|(info, error)| {
        (info, format!("it could not be looked into, forget it by its id or repair it: {}", with_causes(error)))
    });
    untrusted.chain(unclear).map(|(info, reason)| (shown(info), reason)).collect()
}

fn document(plan: &RewritePlan, done: &[Done]) -> Document {
    let affected = plan.affected.iter().enumerate().map(|(at, affected)| {
        let structure = &affected.info.snapshot.structure;
        let done = done.get(at);
        let report = done.and_then(|done| done.as_ref().ok());
        let replaced_by = report.and_then(|report| report.snapshot).or(affected.superseded_by);
        AffectedDocument {
            id: affected.info.id.to_string(),
            time: human::rfc3339(structure.started_at),
            host: structure.host.clone(),
            source: structure.source.clone(),
            entry_count: affected.entry_count,
            content_len: affected.content_len,
            linked_count: affected.linked_count,
            replaced_by: replaced_by.map(|id| id.to_string()),
            stored_len: report.map(|report| report.stored_len),
            failure: done.and_then(|done| done.as_ref().err()).map(|error| with_causes(error)),
        }
    });
    let reasons = left(plan).into_iter().map(|(_, reason)| reason);
    let ids = plan.untrusted.iter().chain(plan.unclear.iter().map(|(info, _): &(SnapshotInfo, _)| info));
    let left = ids.zip(reasons).map(|(info, reason)| LeftDocument { id: info.id.to_string(), reason });
    Document {
        done: !done.is_empty(),
        looked_count: plan.looked_count,
        snapshots: affected.collect(),
        left: left.collect(),
    }
}
