//! `run`: back up every source of a job as one snapshot.
//!
//! ```text
//! before hook ─► all sources, some at once ─► one snapshot ─► its copies ─► after or on_failure hook ─► report
//!      └─ fails ───────────────────────────────────────────────► on_failure hook ─► error
//! ```
//!
//! Invariant: a source that failed is named with its reason, and the exit code says that something is missing.
//! Never here: reading anything.

use std::sync::Arc;

use clap::Args;
use engine::{BackupReport, BackupRequest, ComponentReport, Progress};
use pack::{ComponentState, SnapshotState};
use serde::Serialize;
use source::with_causes;
use tokio_util::sync::CancellationToken;

use crate::commands::component_table::{ComponentRow, component_table};
use crate::commands::copy::{JobCopy, JobCopyDocument, copies_of_job};
use crate::commands::snapshot_document::{component_word, state_word};
use crate::config::JobConfig;
use crate::context::Context;
use crate::error::{CommandError, Outcome};
use crate::hints;
use crate::human;
use crate::jobs;
use crate::problems::{ProblemDocument, documents, tell_problems};
use crate::report;
use crate::table::Table;
use crate::watch::Watch;

const EXAMPLES: &str = "\
Examples:
  backstay run nightly
  backstay run nightly --dry-run
  backstay run hourly nightly --config /etc/backstay/backstay.toml --json";

/// How many sources of a job are read at once, unless it says otherwise.
const AT_ONCE: usize = 2;

/// Back up every source of a job as one snapshot
///
/// A source that fails is named, the others are committed, and the exit code is 1; when all fail, nothing is committed
/// and the code is 2. Then what was not copied yet of the job's snapshots is copied to the repositories of its `copy_to`; a
/// copy that fails is named, and the exit code is 1.
#[derive(Debug, Args)]
#[command(after_long_help = EXAMPLES)]
pub(crate) struct RunArgs {
    /// The job, as the configuration names it; several run one after the other
    #[arg(value_name = "JOB", required = true)]
    jobs: Vec<String>,

    /// Read and count, but store nothing and run no hooks
    #[arg(short = 'n', long)]
    dry_run: bool,

    /// The host's name, if not its own
    #[arg(long, value_name = "HOST")]
    host: Option<String>,
}

impl RunArgs {
    /// For a job that something else than its name on the command line starts.
    pub(super) fn of_host(host: Option<String>) -> Self {
        Self { jobs: Vec::new(), dry_run: false, host }
    }
}

#[derive(Debug, Serialize)]
struct Document {
    job: String,
    snapshot_id: Option<String>,
    state: Option<&'static str>,
    is_dry_run: bool,
    content_len: u64,
    new_len: u64,
    /// Chunks that were lost and are there again.
    healed_chunk_count: u64,
    stored_len: u64,
    seconds: f64,
    components: Vec<ComponentDocument>,
    problem_count: u64,
    problems: Vec<ProblemDocument>,
    warnings: Vec<String>,
    /// Where its snapshots are copied to, and what came of that.
    copies: Vec<JobCopyDocument>,
}

#[derive(Debug, Serialize)]
struct ComponentDocument {
    name: String,
    kind: String,
    state: &'static str,
    failure: Option<String>,
    /// What to do about the failure.
    hint: Option<String>,
    entry_count: u64,
    content_len: u64,
    new_len: u64,
    stored_len: u64,
    seconds: f64,
    problem_count: u64,
    warnings: Vec<String>,
    facts: std::collections::BTreeMap<String, String>,
}

/// Runs the jobs, one after the other; one that fails does not keep the next from running.
pub(crate) async fn run(args: &RunArgs, ctx: &Context) -> Result<Outcome, CommandError> {
    // All of them are looked up before the first is run.
    let jobs = args.jobs.iter().map(|name| Ok((name, ctx.job(name)?))).collect::<Result<Vec<_>, CommandError>>()?;
    let (mut outcome, mut failure, mut done_count) = (Outcome::Done, None, 0);
    for (name, job) in jobs {
        match run_job(name, job, args, ctx).await {
            Ok(Outcome::Done) => done_count += 1,
            Ok(Outcome::Partly | Outcome::Unclear) => {
                done_count += 1;
                outcome = Outcome::Partly;
            }
            Err(error) if args.jobs.len() == 1 || ctx.interrupts.token.is_cancelled() => return Err(error),
            Err(error) => {
                report::tell_failures(&error, &ctx.ui);
                ctx.ui.problem(format_args!("job {name}: {}", with_causes(&error)));
                hints::hint(&error).into_iter().for_each(|hint| ctx.ui.hint(hint));
                failure = Some(error);
            }
        }
    }
    match failure {
        Some(error) if done_count == 0 => Err(error),
        Some(_) => Ok(Outcome::Partly),
        None => Ok(outcome),
    }
}

/// Runs one job, and tells what came of it.
async fn run_job(name: &str, job: &JobConfig, args: &RunArgs, ctx: &Context) -> Result<Outcome, CommandError> {
    let run = JobRun { name, job, args, ctx };
    let ended = match run.before().await {
        Ok(()) => run.back_up().await,
        Err(error) => Err(error),
    };
    run.after(&ended).await;
    run.tell(ended)
}

/// A run of a job, step by step, for whom it matters when each of them ends.
pub(super) struct JobRun<'a> {
    pub(super) name: &'a str,
    pub(super) job: &'a JobConfig,
    pub(super) args: &'a RunArgs,
    pub(super) ctx: &'a Context,
}

/// How the reading and storing ended.
pub(super) type Ended = Result<Stored, CommandError>;

/// What was stored.
pub(super) struct Stored {
    report: BackupReport,
    copies: Vec<JobCopy>,
    outcome: Outcome,
}

impl JobRun<'_> {
    /// What comes before anything is read.
    pub(super) async fn before(&self) -> Result<(), CommandError> {
        let Some(before) = self.job.hooks.before.as_ref().filter(|_| !self.args.dry_run) else { return Ok(()) };
        self.ctx.unless_interrupted(jobs::run_hook("before", before, self.name, None)).await
    }

    /// Reads and stores, then copies what was stored.
    pub(super) async fn back_up(&self) -> Ended {
        back_up(self.name, self.job, self.args, self.ctx).await
    }

    /// The hooks for how it ended. One that fails is told: what was committed stays committed.
    pub(super) async fn after(&self, ended: &Ended) {
        let word = match ended.as_ref().map(|stored| stored.outcome) {
            Ok(Outcome::Done) => "complete",
            Ok(Outcome::Partly | Outcome::Unclear) => "partial",
            Err(_) => "failed",
        };
        let is_whole = word == "complete";
        let hooks = &self.job.hooks;
        for (what, hook, is_due) in
            [("after", &hooks.after, ended.is_ok()), ("on_failure", &hooks.on_failure, !is_whole)]
        {
            if let Some(hook) = hook.as_ref().filter(|_| is_due && !self.args.dry_run)
                && let Err(error) = jobs::run_hook(what, hook, self.name, Some(word)).await
            {
                self.ctx.ui.warn(error);
            }
        }
    }

    /// Tells what came of it.
    pub(super) fn tell(&self, ended: Ended) -> Result<Outcome, CommandError> {
        let stored = ended?;
        tell(self.name, &stored, self.args.dry_run, self.ctx)?;
        Ok(stored.outcome)
    }
}

async fn back_up(name: &str, job: &JobConfig, args: &RunArgs, ctx: &Context) -> Ended {
    let found = ctx.config()?.ok_or(CommandError::ConfigMissing)?;
    let mut components = Vec::new();
    for source in &job.sources {
        let Some(config) = found.config.sources.get(source) else { continue };
        components.push(ctx.unless_interrupted(jobs::component(source, config, ctx)).await?);
    }
    let host = args.host.clone().unwrap_or_else(human::host_name);
    let request = BackupRequest {
        components,
        at_once: job.sources_at_once.unwrap_or(AT_ONCE),
        host: host.clone(),
        source: Some(name.to_owned()),
        tags: job.tags.clone(),
        description: String::new(),
        keep_until: job.hold.map(|hold| ctx.now().checked_add(hold.0).map_or(i64::MAX, nanos)),
        level: job.compression.unwrap_or(3),
        dry_run: args.dry_run,
    };
    let repository = ctx.open_repository_for(job).await?;
    let progress = Arc::new(Progress::new());
    let watch = Watch::start(&ctx.ui, &progress, "entries");
    let cancel = ctx.interrupts.token.child_token();
    let report = with_timeout(repository.backup(request, &progress, cancel.clone()), job, name, &cancel).await;
    drop(watch);
    let report = report?;
    let copies = match args.dry_run {
        true => Vec::new(),
        false => copies_of_job(name, job, &host, &repository, ctx).await,
    };
    let is_partial = report.components.iter().any(|component| component.state != ComponentState::Complete);
    let is_whole = !is_partial && copies.iter().all(JobCopy::is_whole);
    Ok(Stored { report, copies, outcome: if is_whole { Outcome::Done } else { Outcome::Partly } })
}

/// Nanoseconds since 1970.
fn nanos(at: jiff::Zoned) -> i64 {
    i64::try_from(at.timestamp().as_nanosecond()).unwrap_or(i64::MAX)
}

/// Stops a job that takes longer than it may, in good order.
async fn with_timeout(
    work: impl Future<Output = Result<BackupReport, engine::EngineError>>,
    job: &JobConfig,
    name: &str,
    cancel: &CancellationToken,
) -> Result<BackupReport, CommandError> {
    let Some(limit) = job.timeout else { return work.await.map_err(CommandError::Job) };
    let mut work = std::pin::pin!(work);
    match tokio::time::timeout(limit.0, &mut work).await {
        Ok(done) => done.map_err(CommandError::Job),
        Err(_) => {
            cancel.cancel();
            match work.await {
                Ok(report) => Ok(report), // it was about to end
                Err(_) => Err(CommandError::JobTimeout { name: name.to_owned(), limit: limit.0 }),
            }
        }
    }
}

fn tell(job: &str, stored: &Stored, is_dry_run: bool, ctx: &Context) -> Result<(), CommandError> {
    let (ui, report) = (&ctx.ui, &stored.report);
    if ui.is_json {
        return ui.json(&document(job, stored, is_dry_run));
    }
    report.warnings.iter().for_each(|warning| ui.warn(warning));
    tell_problems(&report.problems, report.problem_count, ui);
    for component in &report.components {
        component.warnings.iter().for_each(|warning| ui.warn(format_args!("{}: {warning}", component.name)));
        if let Some(failure) = &component.failure {
            report::tell_failure(&component.name, failure, ui);
        }
    }
    if !ui.is_quiet {
        ui.to_stderr(table(report).show(ui.stderr));
    }
    ui.note(summary(job, report, is_dry_run));
    human::healed(report.healed_count).into_iter().for_each(|healed| ui.note(healed));
    stored.copies.iter().for_each(|copy| copy.tell(ui));
    Ok(())
}

fn table(report: &BackupReport) -> Table {
    component_table(report.components.iter().map(|component| ComponentRow {
        name: &component.name,
        kind: &component.kind,
        state: component.state,
        content_len: component.content_len,
        new_len: component.new_len,
        stored_len: component.stored_len,
        seconds: component.seconds,
    }))
}

/// `job nightly: snapshot 1a2b3c4d committed, 687 MiB protected, 3.1 MiB stored in 4.2 s`.
fn summary(job: &str, report: &BackupReport, is_dry_run: bool) -> String {
    let (protected, stored) = (human::size(report.content_len), human::size(report.stored_len));
    let time = human::duration(report.seconds);
    match &report.snapshot {
        Some(id) => {
            let part = if report.state == Some(SnapshotState::Partial) { " in part" } else { "" };
            format!(
                "job {job}: snapshot {} committed{part}, {protected} protected, {stored} stored in {time}",
                human::short(id)
            )
        }
        None if is_dry_run => format!("job {job}: dry run, {protected} would be protected, nothing was stored"),
        None => format!("job {job}: nothing was committed"),
    }
}

fn document(job: &str, stored: &Stored, is_dry_run: bool) -> Document {
    let report = &stored.report;
    let component = |component: &ComponentReport| ComponentDocument {
        name: component.name.clone(),
        kind: component.kind.clone(),
        state: component_word(component.state),
        failure: component.failure.as_deref().map(|failure| with_causes(failure)),
        hint: component.failure.as_deref().and_then(hints::of_component),
        entry_count: component.entry_count,
        content_len: component.content_len,
        new_len: component.new_len,
        stored_len: component.stored_len,
        seconds: component.seconds,
        problem_count: component.problem_count,
        warnings: component.warnings.clone(),
        facts: component.facts.iter().cloned().collect(),
    };
    Document {
        job: job.to_owned(),
        snapshot_id: report.snapshot.map(|id| id.to_string()),
        state: report.state.map(state_word),
        is_dry_run,
        content_len: report.content_len,
        new_len: report.new_len,
        healed_chunk_count: report.healed_count,
        stored_len: report.stored_len,
        seconds: report.seconds,
        components: report.components.iter().map(component).collect(),
        problem_count: report.problem_count,
        problems: documents(&report.problems),
        warnings: report.warnings.clone(),
        copies: stored.copies.iter().map(JobCopy::document).collect(),
    }
}
