//! `forget`: hide snapshots, by a policy or by name.
//!
//! Invariant: the plan is shown first, with a reason for each snapshot, and carried out only with `--yes`.
//! Never here: freeing space, and what a policy means (see the engine).

use clap::Args;
use engine::{Class, Count, Forget, ForgetPlan, Group, GroupBy, Policy, Repository, Selector, SnapshotFilter};
use jiff::Span;
use pack::SnapshotId;
use serde::Serialize;

use crate::commands::prune::{LimitArgs, PruneDocument, prune};
use crate::commands::selection::FilterArgs;
use crate::context::Context;
use crate::error::{CommandError, Outcome};
use crate::human;
use crate::paint::Paint;
use crate::table::{Align, Table};
use crate::words::{Reference, periods, span};

const EXAMPLES: &str = "\
Examples:
  backstay forget --keep-daily 7 --keep-weekly 5 --keep-monthly 12           # shows the plan
  backstay forget --keep-within 14d --keep-tag release --host web1 --yes
  backstay forget --job nightly --yes
  backstay forget 1a2b3c4d --yes";

const COLUMNS: [(&str, Align); 4] =
    [("ID", Align::Left), ("Time", Align::Left), ("Plan", Align::Left), ("Why", Align::Left)];

/// Hide snapshots that a policy does not keep, or those that are named
///
/// Each snapshot is kept that any rule keeps; of each group of one key, host and source by itself. A rule that has periods
/// left keeps the oldest snapshot too. Without a rule nothing is forgotten. Snapshots that lack a component, are held, or
/// whose time cannot be true push no others out. Nothing is deleted from the store. The exit code is 1 if some of those named
/// are held and stay, and 2 if all are.
#[derive(Debug, Args)]
#[command(after_long_help = EXAMPLES)]
pub(crate) struct ForgetArgs {
    /// Snapshots to forget, by the start of their ids; instead of a policy
    #[arg(value_name = "SNAPSHOT", value_parser = Reference::parser(), conflicts_with_all = ["KeepArgs", "FilterArgs"])]
    named: Vec<Reference>,

    /// Carry out the retention of a job of the configuration, for its snapshots of this host
    #[arg(long, value_name = "JOB", conflicts_with_all = ["named", "KeepArgs", "FilterArgs", "group_by"])]
    job: Option<String>,

    #[command(flatten)]
    keep: KeepArgs,

    #[command(flatten)]
    filter: FilterArgs,

    /// What makes a group, besides the key: host, source, tags
    #[arg(long, value_name = "WHAT", value_delimiter = ',', value_parser = ["host", "source", "tags"])]
    #[arg(default_value = "host,source", help_heading = "Which snapshots")]
    group_by: Vec<String>,

    /// Then prune too, with its own plan
    #[arg(long)]
    prune: bool,

    #[command(flatten)]
    limits: LimitArgs,

    /// Let a group lose its last snapshot too
    #[arg(long)]
    allow_last: bool,

    /// Show the plan and do nothing, with exit code 0
    #[arg(long, short = 'n', conflicts_with = "yes")]
    dry_run: bool,

    /// Carry the plan out
    #[arg(long)]
    yes: bool,
}

/// A policy.
#[derive(Debug, Args)]
#[command(next_help_heading = "What is kept")]
pub(crate) struct KeepArgs {
    /// The newest N snapshots; `all` for no limit, here and below
    #[arg(long, value_name = "N", value_parser = periods)]
    keep_last: Option<Count>,

    /// The newest of each of the newest N hours that have one
    #[arg(long, value_name = "N", value_parser = periods)]
    keep_hourly: Option<Count>,

    /// … days
    #[arg(long, value_name = "N", value_parser = periods)]
    keep_daily: Option<Count>,

    /// … weeks, which begin on Monday
    #[arg(long, value_name = "N", value_parser = periods)]
    keep_weekly: Option<Count>,

    /// … months
    #[arg(long, value_name = "N", value_parser = periods)]
    keep_monthly: Option<Count>,

    /// … quarters of a year
    #[arg(long, value_name = "N", value_parser = periods)]
    keep_quarterly: Option<Count>,

    /// … years
    #[arg(long, value_name = "N", value_parser = periods)]
    keep_yearly: Option<Count>,

    /// All of so long before the newest: 14d, "2 weeks", 1y6mo
    #[arg(long, value_name = "SPAN", value_parser = span)]
    keep_within: Option<Span>,

    /// The newest of each hour of so long before the newest
    #[arg(long, value_name = "SPAN", value_parser = span)]
    keep_within_hourly: Option<Span>,

    /// … of each day
    #[arg(long, value_name = "SPAN", value_parser = span)]
    keep_within_daily: Option<Span>,

    /// … of each week
    #[arg(long, value_name = "SPAN", value_parser = span)]
    keep_within_weekly: Option<Span>,

    /// … of each month
    #[arg(long, value_name = "SPAN", value_parser = span)]
    keep_within_monthly: Option<Span>,

    /// … of each quarter
    #[arg(long, value_name = "SPAN", value_parser = span)]
    keep_within_quarterly: Option<Span>,

    /// … of each year
    #[arg(long, value_name = "SPAN", value_parser = span)]
    keep_within_yearly: Option<Span>,

    /// All with these tags, which commas join; given several times, with any of these sets
    #[arg(long, value_name = "TAG[,TAG…]")]
    keep_tag: Vec<String>,
}

#[derive(Debug, Serialize)]
struct GroupDocument<'a> {
    host: Option<&'a str>,
    source: Option<&'a str>,
    tags: Option<&'a [String]>,
    /// The public signing key of whoever made them, as `key list` has it.
    identity: String,
    snapshots: Vec<DecisionDocument<'a>>,
}

#[derive(Debug, Serialize)]
struct DecisionDocument<'a> {
    id: String,
    time: String,
    kept: bool,
    reasons: &'a [String],
}

#[derive(Debug, Serialize)]
struct Document<'a> {
    done: bool,
    forgotten: usize,
    groups: Vec<GroupDocument<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    prune: Option<PruneDocument>,
}

impl KeepArgs {
    fn policy(&self) -> Policy {
        let counts = [
            self.keep_last,
            self.keep_hourly,
            self.keep_daily,
            self.keep_weekly,
            self.keep_monthly,
            self.keep_quarterly,
            self.keep_yearly,
        ];
        let within = [
            self.keep_within,
            self.keep_within_hourly,
            self.keep_within_daily,
            self.keep_within_weekly,
            self.keep_within_monthly,
            self.keep_within_quarterly,
            self.keep_within_yearly,
        ];
        let tags = self.keep_tag.iter().map(|tags| tags.split(',').map(str::to_owned).collect());
        Policy {
            counts: Class::ALL.into_iter().zip(counts).filter_map(|(class, count)| Some((class, count?))).collect(),
            within: Class::ALL.into_iter().zip(within).filter_map(|(class, span)| Some((class, span?))).collect(),
            tags: tags.collect(),
        }
    }
}

/// Plans, and forgets.
pub(crate) async fn run(args: &ForgetArgs, ctx: &Context) -> Result<Outcome, CommandError> {
    let (policy, filter, of_job) = match &args.job {
        Some(name) => of_job(name, ctx)?,
        None => (args.keep.policy(), args.filter.filter(), None),
    };
    if args.named.is_empty() && policy.is_empty() {
        return Err(CommandError::NothingToForget);
    }
    let repository = ctx.open_repository_of(of_job.as_deref()).await?;
    let what = if args.named.is_empty() {
        Forget::ByPolicy(policy, filter)
    } else {
        Forget::Named(named(&args.named, &repository).await?)
    };
    let is_by = |what: &str| args.group_by.iter().any(|word| word == what);
    let by = GroupBy { host: is_by("host"), source: is_by("source"), tags: is_by("tags") };
    if !args.dry_run {
        repository.may_forget()?;
    }
    let plan = repository.plan_forget(&what, by, &ctx.now()).await?;
    let count = plan.going().count();
    let held = held(&plan, &what);
    if !ctx.ui.is_json {
        show(&plan, ctx)?;
    }
    if let Some(group) = plan.emptied().next().filter(|_| !args.allow_last) {
        return Err(CommandError::LastOfGroup { group: title(group) });
    }
    if let Some((id, _)) = held.first().filter(|_| count == 0 && !args.dry_run) {
        let all: Vec<_> = held.iter().map(|(id, why)| format!("{id} is {why}")).collect();
        return Err(CommandError::Held { id: id.clone(), snapshots: all.join(", ") });
    }
    let is_done = args.yes && count > 0;
    if is_done {
        repository.forget(&plan).await?;
    }
    let pruned =
        if args.prune && args.yes { Some(prune(&repository, args.limits.request(), true, ctx).await?) } else { None };
    let outcome = pruned.as_ref().map_or(Outcome::Done, |pruned| pruned.outcome);
    let outcome = if is_done && !held.is_empty() { Outcome::Partly } else { outcome };
    if ctx.ui.is_json {
        ctx.ui.json(&document(&plan, is_done, pruned.map(|pruned| pruned.document)))?;
    }
    let snapshots = human::counted(count as u64, "snapshot", "snapshots");
    for (id, why) in &held {
        ctx.ui.warn(format_args!("{id} is {why}, and stays"));
    }
    match (is_done, count) {
        (_, 0) => ctx.ui.note("nothing to forget"),
        (true, _) if args.prune => ctx.ui.note(format_args!("{snapshots} forgotten")),
        (true, _) => {
            ctx.ui.note(format_args!("{snapshots} forgotten; until a prune, `backstay undelete` brings them back"))
        }
        (false, _) if args.dry_run => ctx.ui.note(format_args!("{snapshots} would be forgotten")),
        (false, _) => return Err(CommandError::NotForgotten { snapshots }),
    }
    Ok(outcome)
}

/// The named snapshots that stay, each with what holds it.
fn held(plan: &ForgetPlan, what: &Forget) -> Vec<(String, String)> {
    let Forget::Named(named) = what else { return Vec::new() };
    let decisions = plan.groups.iter().flat_map(|group| &group.decisions);
    let held = decisions.filter(|decision| decision.is_kept && named.contains(&decision.info.id));
    held.map(|decision| (human::short(&decision.info.id), decision.reasons.join(", "))).collect()
}

/// What a job says: its policy, its snapshots, and its repository.
fn of_job(name: &str, ctx: &Context) -> Result<(Policy, SnapshotFilter, Option<String>), CommandError> {
    let job = ctx.job(name)?;
    let Some(retention) = &job.retention else { return Err(CommandError::NoRetention { job: name.to_owned() }) };
    let filter =
        SnapshotFilter { hosts: vec![human::host_name()], sources: vec![name.to_owned()], ..SnapshotFilter::default() };
    Ok((retention.policy(), filter, job.repository.clone()))
}

async fn named(references: &[Reference], repository: &Repository) -> Result<Vec<SnapshotId>, CommandError> {
    let mut ids = Vec::with_capacity(references.len());
    for reference in references {
        let name = reference.snapshot().ok_or_else(|| CommandError::NoSnapshotName { name: reference.name.clone() })?;
        if name == "latest" || name.is_empty() || !reference.path.is_empty() {
            return Err(CommandError::ForgetById);
        }
        let selector = Selector::Prefix(name);
        ids.push(repository.select(&selector, &SnapshotFilter::default()).await?.id);
    }
    Ok(ids)
}

fn show(plan: &ForgetPlan, ctx: &Context) -> Result<(), CommandError> {
    for (at, group) in plan.groups.iter().enumerate() {
        if at > 0 {
            ctx.ui.line("")?;
        }
        let is_alone = plan.groups.iter().filter(|other| title(other) == title(group)).count() == 1;
        let key = if is_alone { String::new() } else { format!(", by key {}", human::short(&group.signer)) };
        ctx.ui.line(ctx.ui.stdout.bold(format!("{}{key}", title(group))))?;
        ctx.ui.line(table(group, ctx.ui.stdout))?;
    }
    Ok(())
}

/// `files of web1`, as far as it counts.
fn title(group: &Group) -> String {
    let host = group.host.as_ref().map(|host| format!("of {host}"));
    let tags = group.tags.as_ref().map(|tags| format!("tagged {}", tags.join(", ")));
    let words: Vec<_> = group.source.iter().cloned().chain(host).chain(tags).collect();
    let title = if words.is_empty() { "all of one key".to_owned() } else { words.join(" ") };
    human::escaped(title.as_bytes()).to_string()
}

fn table(group: &Group, paint: Paint) -> String {
    let mut table = Table::new(&COLUMNS);
    for decision in &group.decisions {
        table.row([
            human::short(&decision.info.id),
            human::local_time(decision.info.snapshot.structure.started_at),
            if decision.is_kept { "keep".to_owned() } else { "forget".to_owned() },
            if decision.reasons.is_empty() { "no rule keeps it".to_owned() } else { decision.reasons.join(", ") },
        ]);
    }
    table.show(paint)
}

fn document(plan: &ForgetPlan, done: bool, prune: Option<PruneDocument>) -> Document<'_> {
    let groups = plan.groups.iter().map(|group| GroupDocument {
        host: group.host.as_deref(),
        source: group.source.as_deref(),
        tags: group.tags.as_deref(),
        identity: group.signer.to_string(),
        snapshots: group.decisions.iter().map(decision_document).collect(),
    });
    Document { done, forgotten: if done { plan.going().count() } else { 0 }, groups: groups.collect(), prune }
}

fn decision_document(decision: &engine::Decision) -> DecisionDocument<'_> {
    DecisionDocument {
        id: decision.info.id.to_string(),
        time: human::rfc3339(decision.info.snapshot.structure.started_at),
        kept: decision.is_kept,
        reasons: &decision.reasons,
    }
}
