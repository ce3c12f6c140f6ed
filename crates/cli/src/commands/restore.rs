//! `restore`: write a snapshot, or a part of it, back to a directory.
//!
//! Invariant: with `--delete`, what would be removed is shown first, and removed only with `--yes`.
//! Never here: writing files.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use clap::{Args, ValueEnum};
use engine::{EngineError, Overwrite, Progress, Repository, RestoreReport, RestoreRequest, SnapshotInfo};
use rustix::process::geteuid;
use serde::Serialize;
use source::sink::OwnerPolicy;
use tokio::time::sleep;

use crate::commands::losses::{next_step, or_forgotten};
use crate::commands::restore_to::{self, ComponentArgs};
use crate::commands::selection::SelectionArgs;
use crate::commands::snapshot_document::{Lacking, UNREADABLE, lacking};
use crate::context::Context;
use crate::error::{CommandError, Outcome};
use crate::hints;
use crate::human;
use crate::problems::{ProblemDocument, documents, tell_problems};
use crate::watch::Watch;

/// Written out: clap would show options that come from the environment as if they were required.
const USAGE: &str = "\
backstay restore [OPTIONS] --target <DIR> SNAPSHOT[:PATH] [COMPONENT]
       backstay restore [OPTIONS] --target <DIR> --at TIME [:PATH] [COMPONENT]
       backstay restore [OPTIONS] --to <PLACE> SNAPSHOT [COMPONENT]
       backstay restore [OPTIONS] --to <PLACE> --at TIME [COMPONENT]
       backstay restore --list SNAPSHOT [COMPONENT]";

const EXAMPLES: &str = "\
Examples:
  backstay restore latest --target /tmp/restored
  backstay restore latest:/etc/nginx --target /tmp/nginx --verify
  backstay restore --at '2026-11-19 14:30' --host web1 --target /srv/web1
  backstay restore latest db --to postgres://postgres@db2.example/shop --table public.orders";

/// How long an interrupted restore may go on to end in good order. Dropping it loses nothing that the next one would
/// not find out: what is in the target is compared.
const ENDING_FOR: Duration = Duration::from_secs(2);

/// What an ordinary user is told who did not name an owner.
const OWNED: &str =
    "all that was restored belongs to you: only root can give files to their owners (--owner name tries)";

/// Restore a snapshot, or one path of it, to a directory
///
/// A whole snapshot is restored below the target with the paths that it has. Of a path, a directory becomes the target
/// itself, with its owner and permissions; anything else goes into the target under its own name. What is there already
/// is compared, and only what differs is written.
#[derive(Debug, Args)]
#[command(after_long_help = EXAMPLES, override_usage = USAGE)]
pub(crate) struct RestoreArgs {
    #[command(flatten)]
    selection: SelectionArgs,

    /// Only this component of a snapshot of several
    #[arg(value_name = "COMPONENT")]
    named: Option<String>,

    /// Where to: a directory, made if it is missing, then for its owner only
    #[arg(short, long, value_name = "DIR", required_unless_present_any = ["to", "list"])]
    target: Option<PathBuf>,

    /// Restore only what matches, as in .gitignore, against paths in the snapshot
    #[arg(long, value_name = "PATTERN", help_heading = "What is restored")]
    include: Vec<String>,

    /// Leave out what matches
    #[arg(long, value_name = "PATTERN", help_heading = "What is restored")]
    exclude: Vec<String>,

    /// What happens to a file that is there already
    #[arg(long, value_enum, default_value = "always", help_heading = "What is restored")]
    overwrite: OverwriteArg,

    /// Whom restored files belong to [default: name for root, none for others]
    #[arg(long, value_enum, help_heading = "What is restored")]
    owner: Option<OwnerArg>,

    /// Also remove what the snapshot does not have, within the directories that it has; needs --target and --yes
    #[arg(long, conflicts_with_all = ["to", "list"], help_heading = "What is restored")]
    delete: bool,

    /// Carry out a plan that removes something
    #[arg(long, requires = "delete", help_heading = "What is restored")]
    yes: bool,

    /// Read everything back afterwards and compare
    #[arg(long)]
    verify: bool,

    /// Compare with what is there and say what would be done, with -v entry by entry; do nothing
    #[arg(short = 'n', long)]
    dry_run: bool,

    #[command(flatten)]
    pub(super) of_component: ComponentArgs,
}

impl RestoreArgs {
    /// The path within the snapshot; empty for all of it.
    pub(super) fn path(&self) -> &[u8] {
        self.selection.path()
    }

    /// The component that is wanted. It comes after the snapshot; beside --at it comes alone, or after a path.
    fn component(&self) -> Option<&str> {
        self.named.as_deref().or_else(|| self.selection.component())
    }

    pub(super) const fn is_dry_run(&self) -> bool {
        self.dry_run
    }

    /// Whether only some of the files are wanted.
    pub(super) fn selects(&self) -> bool {
        !self.include.is_empty() || !self.exclude.is_empty()
    }

    pub(super) const fn verifies(&self) -> bool {
        self.verify
    }

    /// Whether everything in a database shall belong to who restores.
    pub(super) fn drops_owners(&self) -> bool {
        self.owner == Some(OwnerArg::None)
    }

    /// Where to; clap asks for it unless there is a `--to`.
    fn target(&self) -> &Path {
        self.target.as_deref().unwrap_or(Path::new(""))
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum OverwriteArg {
    /// Overwrite what differs; contents are compared
    Always,
    /// The same, but believe that a file with the right length and time is right
    IfChanged,
    /// Leave every file that is there alone
    Never,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum OwnerArg {
    /// To the owner of the same name, or number where the name is not known
    Name,
    /// To the owner of the same number
    Number,
    /// To whoever restores
    None,
}

#[derive(Debug, Serialize)]
struct Document {
    snapshot_id: String,
    target: String,
    is_dry_run: bool,
    entry_count: u64,
    content_len: u64,
    written_len: u64,
    kept_len: u64,
    /// Of a dry run: entries that would be made, changed, or are right already.
    #[serde(skip_serializing_if = "Option::is_none")]
    new_count: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    changed_count: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    same_count: Option<u64>,
    deleted_count: u64,
    deleted: Vec<String>,
    skipped_count: u64,
    seconds: f64,
    problem_count: u64,
    problems: Vec<ProblemDocument>,
    /// Components of which the snapshot itself has nothing, or not everything.
    lacking: Vec<Lacking>,
}

/// Restores, and tells what came of it.
pub(crate) async fn run(args: &RestoreArgs, ctx: &Context) -> Result<Outcome, CommandError> {
    let repository = ctx.open_repository().await?;
    let snapshot = ctx.unless_interrupted(args.selection.select_with(&repository, ctx, args.component())).await?;
    let is_of_component = args.of_component.to.is_some() || args.of_component.list;
    let snapshot = match args.component() {
        None if !is_of_component => snapshot,
        component => restore_to::only(&snapshot, component)?,
    };
    tell_lacking(&snapshot, args, ctx);
    if is_of_component {
        return restore_to::run(&repository, &snapshot, args, ctx).await;
    }
    if args.delete && !args.yes && !args.dry_run {
        let plan = carry_out(args.request(true), ctx, &repository, &snapshot).await?;
        tell(args, ctx, &snapshot, (&plan, None), true)?;
        return Err(CommandError::Unconfirmed { target: args.target().to_owned() });
    }
    let report = carry_out(args.request(args.dry_run), ctx, &repository, &snapshot).await?;
    let after_loss = match report.met_damage {
        true => Some(next_step(&repository, &[snapshot.id], hints::AFTER_LOST_CONTENT).await),
        false => None,
    };
    tell(args, ctx, &snapshot, (&report, after_loss), args.dry_run)
}

/// Warns of what a snapshot itself lacks. A path is there, or it is not: nothing is said with one.
fn tell_lacking(snapshot: &SnapshotInfo, args: &RestoreArgs, ctx: &Context) {
    let lacking = if args.path().is_empty() { lacking(snapshot) } else { Vec::new() };
    let id = human::short(&snapshot.id);
    for Lacking { component, state, reason } in &lacking {
        let reason = reason.as_deref().unwrap_or(UNREADABLE);
        let component = human::escaped(component.as_bytes());
        ctx.ui.warn(format_args!("snapshot {id} is partial: {component} is {state}: {reason}"));
    }
}

/// Restores files, until some time after an interrupt.
pub(super) async fn carry_out(
    request: RestoreRequest,
    ctx: &Context,
    repository: &Repository,
    snapshot: &SnapshotInfo,
) -> Result<RestoreReport, CommandError> {
    let progress = Arc::new(Progress::new());
    let _watch = Watch::start(&ctx.ui, &progress, "entries");
    let token = &ctx.interrupts.token;
    let restoring = repository.restore(snapshot, request, &progress, token.clone());
    let restored = tokio::select! {
        restored = restoring => restored,
        () = async { token.cancelled().await; sleep(ENDING_FOR).await } => Err(EngineError::Interrupted),
    };
    match restored {
        Ok(report) => Ok(report),
        Err(EngineError::Interrupted) => Err(CommandError::RestoreInterrupted),
        Err(error) => Err(or_forgotten(error.into(), repository, snapshot.id).await),
    }
}

impl RestoreArgs {
    /// Only root can give files away, so others are taken to want none of that unless they say so.
    fn owner(&self) -> OwnerArg {
        let default = if geteuid().is_root() { OwnerArg::Name } else { OwnerArg::None };
        self.owner.unwrap_or(default)
    }

    pub(super) fn request(&self, dry_run: bool) -> RestoreRequest {
        RestoreRequest {
            path: self.selection.path().to_vec(),
            target: self.target().to_owned(),
            overwrite: match self.overwrite {
                OverwriteArg::Always => Overwrite::Always,
                OverwriteArg::IfChanged => Overwrite::IfChanged,
                OverwriteArg::Never => Overwrite::Never,
            },
            delete: self.delete,
            include: self.include.clone(),
            exclude: self.exclude.clone(),
            owners: match self.owner() {
                OwnerArg::Name => OwnerPolicy::ByName,
                OwnerArg::Number => OwnerPolicy::ByNumber,
                OwnerArg::None => OwnerPolicy::Keep,
            },
            verify: self.verify,
            dry_run,
        }
    }
}

fn tell(
    args: &RestoreArgs,
    ctx: &Context,
    snapshot: &SnapshotInfo,
    (report, after_loss): (&RestoreReport, Option<String>),
    is_dry_run: bool,
) -> Result<Outcome, CommandError> {
    if ctx.ui.is_json {
        ctx.ui.json(&document(args, snapshot, report, is_dry_run))?;
    } else {
        tell_problems(&report.problems, report.problem_count, &ctx.ui);
        if report.problems.iter().any(|problem| problem.message.starts_with("owner of ")) && !geteuid().is_root() {
            ctx.ui.hint(hints::OWNERS);
        }
        if !args.delete && report.problems.iter().any(|problem| problem.message.contains("that is not empty")) {
            ctx.ui.hint(hints::IN_THE_WAY);
        }
        if let Some(hint) = after_loss {
            ctx.ui.hint(hint);
        }
        if args.owner.is_none() && args.owner() == OwnerArg::None && !is_dry_run {
            ctx.ui.note(OWNED);
        }
        if is_dry_run {
            tell_deletions(report, ctx);
        }
        let kinds = &snapshot.snapshot.structure.components;
        if !is_dry_run && kinds.iter().any(|component| component.kind == "postgres-physical") {
            ctx.ui.hint(hints::BARE_DIRECTORY);
        }
        ctx.ui.note(if is_dry_run { plan(snapshot, report) } else { summary(snapshot, report) });
        if args.verify && !is_dry_run {
            ctx.ui.note(verified(report));
        }
    }
    let is_partial = report.problems.iter().any(|problem| problem.loses);
    Ok(if is_partial { Outcome::Partly } else { Outcome::Done })
}

/// Names what would be deleted: the plan that `--yes` agrees to.
fn tell_deletions(report: &RestoreReport, ctx: &Context) {
    for path in &report.deleted {
        ctx.ui.note(format_args!("would delete {path}"));
    }
    let untold = report.deleted_count.saturating_sub(report.deleted.len() as u64);
    if untold > 0 {
        ctx.ui.note(format_args!("would delete {} more", human::count(untold)));
    }
}

/// `dry run of snapshot 1a2b3c4d: 41 entries, 190.7 MiB; 3 would be new, 2 changed; 1.2 MiB would be written, …`.
fn plan(snapshot: &SnapshotInfo, report: &RestoreReport) -> String {
    let entries = human::counted(report.entry_count, "entry", "entries");
    let foreseen = &report.foreseen;
    let mut text = format!("dry run of snapshot {}: {entries}", human::short(&snapshot.id));
    text.push_str(&format!(", {}", human::size(report.content_len)));
    text.push_str(&format!("; {} would be new", human::count(foreseen.new_count)));
    text.push_str(&format!(", {} changed", human::count(foreseen.changed_count)));
    text.push_str(&format!(", {} are right already", human::count(foreseen.same_count)));
    if report.skipped_count > 0 {
        text.push_str(&format!(", {} left alone", human::count(report.skipped_count)));
    }
    text.push_str(&format!("; {} would be written", human::size(report.written_len)));
    if report.deleted_count > 0 {
        text.push_str(&format!(", {} would be deleted", human::counted(report.deleted_count, "entry", "entries")));
    }
    text
}

/// `restored snapshot 1a2b3c4d: 41 entries, 190.7 MiB, 12.0 MiB written, … in 4.2 s`.
fn summary(snapshot: &SnapshotInfo, report: &RestoreReport) -> String {
    let mut parts = vec![
        human::counted(report.entry_count, "entry", "entries"),
        human::size(report.content_len),
        format!("{} written", human::size(report.written_len)),
    ];
    if report.kept_len > 0 {
        parts.push(format!("{} right already", human::size(report.kept_len)));
    }
    if report.deleted_count > 0 {
        parts.push(format!("{} deleted", human::counted(report.deleted_count, "entry", "entries")));
    }
    if report.skipped_count > 0 {
        parts.push(format!("{} left alone", human::count(report.skipped_count)));
    }
    let (id, seconds) = (human::short(&snapshot.id), human::duration(report.seconds));
    format!("restored snapshot {id}: {} in {seconds}", parts.join(", "))
}

/// What `--verify` found.
fn verified(report: &RestoreReport) -> String {
    let entries = human::counted(report.entry_count, "entry", "entries");
    let what = format!("content and metadata of {entries}, {}", human::size(report.content_len));
    match report.problem_count {
        0 => format!("verified: {what}, read back from the target, are as in the snapshot"),
        _ => format!("verified: {what}, read back from the target; what is not as in the snapshot is named above"),
    }
}

fn document(args: &RestoreArgs, snapshot: &SnapshotInfo, report: &RestoreReport, is_dry_run: bool) -> Document {
    Document {
        snapshot_id: snapshot.id.to_string(),
        target: args.target().display().to_string(),
        is_dry_run,
        entry_count: report.entry_count,
        content_len: report.content_len,
        written_len: report.written_len,
        kept_len: report.kept_len,
        new_count: is_dry_run.then_some(report.foreseen.new_count),
        changed_count: is_dry_run.then_some(report.foreseen.changed_count),
        same_count: is_dry_run.then_some(report.foreseen.same_count),
        deleted_count: report.deleted_count,
        deleted: report.deleted.clone(),
        skipped_count: report.skipped_count,
        seconds: report.seconds,
        problem_count: report.problem_count,
        problems: documents(&report.problems),
        lacking: lacking(snapshot),
    }
}
