//! `watch`: run a job each time that something below its files changed.
//!
//! ```text
//! kernel ─► Changes: a flag for each source ─► Pace of its job ─► due? run it, one at a time ─┐
//!               ▲ watches anew what is there by now ─────────────────────────────────────────┘
//! ```
//!
//! ```text
//! before hook ─► reading: changes ask for another run ─► after and on_failure hooks: changes ask for one further run
//! ```
//!
//! What a `before` hook changes is read by its own run. What changes while a later hook runs is perhaps its own work, so
//! it asks for one further run, and that one's hooks for none: then it is read with the next change.
//!
//! Invariant: what changes while a job reads is followed by another run.
//! Invariant: a hook that writes below the watched files never keeps its job running for ever.
//! Invariant: however much changes, what waits is one flag for each source.
//! Never here: what a run does.

mod pace;

use std::sync::Arc;
use std::time::Duration;

use clap::Args;
use source::blocking;
use source::files::{Changes, Seeing};
use tokio::sync::Notify;
use tokio::time::{Instant, sleep, sleep_until};

use self::pace::Pace;
use crate::commands::run::{JobRun, RunArgs};
use crate::config::{JobConfig, SourceConfig, Span};
use crate::context::Context;
use crate::error::{CommandError, Outcome};
use crate::human;
use crate::jobs;
use crate::report::report;

const EXAMPLES: &str = "\
Examples:
  backstay watch
  backstay watch documents --quiet-for 30s --within 10m
  systemd-run --user --unit backstay-watch backstay watch documents";

/// How long we look away after a change, so that a storm of them costs nothing.
const LOOK_EVERY: Duration = Duration::from_millis(100);
/// How long after a hook we wait for what the kernel has to say of its changes.
const SETTLE_FOR: Duration = Duration::from_millis(500);

/// Run a job each time that something below its files changed
///
/// A job runs once at the start, since nobody knows what changed before, and then after each change, once there was no
/// other for a while. One job runs at a time; what changes meanwhile is followed by another run, though what its own
/// hooks write by one further run at most. A run that fails is told and tried again. Ctrl-C or SIGTERM ends it, with exit code 0 if nothing was running.
#[derive(Debug, Args)]
#[command(after_long_help = EXAMPLES)]
pub(crate) struct WatchArgs {
    /// The jobs, as the configuration names them; all that have a source of kind "files", if none is named
    #[arg(value_name = "JOB")]
    jobs: Vec<String>,

    /// Run once nothing has changed for this time
    #[arg(long, value_name = "TIME", default_value = "10s", value_parser = span)]
    quiet_for: Span,

    /// Run this long after the first change, though changes go on; and try again this long after a failure
    #[arg(long, value_name = "TIME", default_value = "5m", value_parser = span)]
    within: Span,

    /// The host's name, if not its own
    #[arg(long, value_name = "HOST")]
    host: Option<String>,
}

fn span(text: &str) -> Result<Span, String> {
    Span::try_from(text.to_owned())
}

/// A job that is watched.
struct Watched<'a> {
    name: &'a str,
    job: &'a JobConfig,
    sources: Vec<Changes>,
    pace: Pace,
    /// Nothing but what changed beside the last run's hooks asks for a run.
    is_further: bool,
}

/// Watches until an interrupt.
pub(crate) async fn run(args: &WatchArgs, ctx: &Context) -> Result<Outcome, CommandError> {
    let woken = Arc::new(Notify::new());
    let mut jobs = ctx.unless_interrupted(begin(args, ctx, &woken)).await?;
    let run_args = RunArgs::of_host(args.host.clone());
    loop {
        let now = Instant::now();
        for job in &mut jobs {
            job.look(now);
        }
        let Some(due_at) = jobs.iter().filter_map(|job| job.pace.due_at()).min() else {
            tokio::select! {
                () = woken.notified() => continue,
                () = ctx.interrupts.token.cancelled() => return Ok(Outcome::Done),
            }
        };
        if let Some(job) = jobs.iter_mut().find(|job| job.pace.due_at() == Some(due_at) && due_at <= now) {
            job.run(&run_args, ctx).await?;
            continue;
        }
        tokio::select! {
            () = sleep_until(due_at) => {}
            () = look_away(&woken) => {}
            () = ctx.interrupts.token.cancelled() => return Ok(Outcome::Done),
        }
    }
}

/// Waits for a change, and a little longer.
async fn look_away(woken: &Notify) {
    woken.notified().await;
    sleep(LOOK_EVERY).await;
}

/// Watches the files of every job that is meant.
async fn begin<'a>(args: &WatchArgs, ctx: &'a Context, woken: &Arc<Notify>) -> Result<Vec<Watched<'a>>, CommandError> {
    let config = &ctx.config()?.ok_or(CommandError::ConfigMissing)?.config;
    let files_of = |job: &JobConfig| -> Vec<_> {
        let sources = job.sources.iter().filter_map(|name| config.sources.get(name));
        let files =
            sources.filter_map(|source| if let SourceConfig::Files(files) = source { Some(files) } else { None });
        files.collect()
    };
    let mut names = args.jobs.clone();
    if names.is_empty() {
        names = config.jobs.iter().filter(|(_, job)| !files_of(job).is_empty()).map(|(name, _)| name.clone()).collect();
    }
    let mut watched = Vec::new();
    for name in &names {
        let Some((name, job)) = config.jobs.get_key_value(name) else {
            let known = config.jobs.keys().cloned().collect::<Vec<_>>().join(", ");
            return Err(CommandError::JobUnknown { name: name.clone(), known });
        };
        let mut sources = Vec::new();
        for files in files_of(job) {
            let (roots, options) = (files.paths.clone(), jobs::files_options(files, ctx)?);
            let woken = Arc::clone(woken);
            let watch = move || Changes::watch(&roots, options, move || woken.notify_one());
            sources.push(blocking::run(watch).await.map_err(source::SourceError::from)??);
        }
        if sources.is_empty() {
            let what = format!("job {name} has no source of kind \"files\"");
            return Err(CommandError::NothingToWatch { what });
        }
        let mut pace = Pace::new(args.quiet_for.0, args.within.0);
        // Nobody knows what changed before.
        pace.change(Instant::now().checked_sub(args.quiet_for.0).unwrap_or_else(Instant::now));
        watched.push(Watched { name, job, sources, pace, is_further: false });
    }
    if watched.is_empty() {
        let what = "no job has a source of kind \"files\"".to_owned();
        return Err(CommandError::NothingToWatch { what });
    }
    ctx.ui.note(format_args!("watching the files of {}", human::counted(watched.len() as u64, "job", "jobs")));
    Ok(watched)
}

impl Watched<'_> {
    /// Notes what changed until now.
    fn look(&mut self, now: Instant) {
        for source in &self.sources {
            match source.take() {
                Seeing::Nothing => continue,
                Seeing::Change => self.pace.change(now),
                // Our own reading may have done it: never at once.
                Seeing::Lost => self.pace.postpone(now),
            }
            self.is_further = false;
        }
    }

    /// Takes what changed beside a hook. Whether something did.
    async fn settle(&self) -> bool {
        sleep(SETTLE_FOR).await;
        self.sources.iter().filter(|source| source.take() != Seeing::Nothing).count() > 0
    }

    /// Runs the job. A failure is told, and the job is due again later.
    async fn run(&mut self, args: &RunArgs, ctx: &Context) -> Result<(), CommandError> {
        match self.steps(&JobRun { name: self.name, job: self.job, args, ctx }).await {
            // Also in part: what could not be read is named, and is read again when something changes.
            Ok(()) => {}
            Err(error) if ctx.interrupts.token.is_cancelled() => return Err(error),
            Err(error) => {
                report(&error, ctx.interrupts.exit_code(), &ctx.ui);
                if self.pace.due_at().is_none() {
                    self.pace.postpone(Instant::now());
                }
                ctx.ui.note(format_args!("job {} runs again after the next change, or by itself later", self.name));
            }
        }
        Ok(())
    }

    /// Watches what is there once the `before` hook has ended, reads, and looks what changed meanwhile.
    async fn steps(&mut self, run: &JobRun<'_>) -> Result<(), CommandError> {
        let was_further = std::mem::take(&mut self.is_further);
        self.pace.begin();
        let hooks = &run.job.hooks;
        let begun = run.before().await;
        if hooks.before.is_some() {
            self.settle().await;
        }
        if let Err(error) = begun {
            let ended = Err(error);
            run.after(&ended).await;
            if hooks.on_failure.is_some() {
                self.settle().await;
            }
            return run.tell(ended).map(drop);
        }
        let renewed = self.renew().await;
        let ended = run.back_up().await;
        self.look(Instant::now());
        run.after(&ended).await;
        // After a failure the job runs again anyway.
        if (hooks.after.is_some() || hooks.on_failure.is_some()) && self.settle().await && !was_further && ended.is_ok()
        {
            self.is_further = self.pace.due_at().is_none();
            self.pace.change(Instant::now());
        }
        run.tell(ended)?;
        renewed
    }

    async fn renew(&mut self) -> Result<(), CommandError> {
        let mut sources = std::mem::take(&mut self.sources);
        let renew = move || {
            let renewed: Vec<_> = sources.iter_mut().map(Changes::renew).collect();
            (sources, renewed.into_iter().collect::<Result<Vec<()>, _>>())
        };
        let (sources, renewed) = blocking::run(renew).await.map_err(source::SourceError::from)?;
        self.sources = sources;
        renewed?;
        Ok(())
    }
}
