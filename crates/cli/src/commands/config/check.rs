//! `config check`: find every mistake, then open each repository.
//!
//! Invariant: nothing is changed, and all that is wrong is told, not only the first.
//! Never here: what a mistake is (see `config`).

use clap::Args;
use serde::Serialize;

use crate::config::{Config, SourceConfig};
use crate::context::Context;
use crate::error::{CommandError, Outcome};
use crate::human;

const EXAMPLES: &str = "\
Examples:
  backstay config check
  backstay config check --config /etc/backstay/backstay.toml --offline
  backstay config check --json | jq .mistakes";

/// Find every mistake in the configuration, and open each repository
///
/// Exit code 0: all is well; 1: a repository cannot be opened, or a file or folder to back up is not there; 2: the file
/// has mistakes.
#[derive(Debug, Args)]
#[command(after_long_help = EXAMPLES)]
pub(crate) struct CheckArgs {
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
    problems: Vec<String>,
}

/// Checks, and says what there is.
pub(super) async fn run(args: &CheckArgs, ctx: &Context) -> Result<Outcome, CommandError> {
    let found = ctx.config()?.ok_or(CommandError::ConfigMissing)?;
    let config = &found.config;
    let mut problems = missing_files(config);
    if !args.offline {
        for name in config.repositories.keys() {
            if let Err(error) = ctx.open_repository_of(Some(name)).await {
                problems.push(format!("repository \"{name}\": {error}"));
            }
        }
    }
    if ctx.ui.is_json {
        ctx.ui.json(&Document {
            path: found.path.display().to_string(),
            repositories: config.repositories.keys().cloned().collect(),
            sources: config.sources.keys().cloned().collect(),
            jobs: config.jobs.keys().cloned().collect(),
            problems: problems.clone(),
        })?;
        return Ok(outcome(&problems));
    }
    problems.iter().for_each(|problem| ctx.ui.problem(problem));
    let (repositories, sources, jobs) =
        (config.repositories.len() as u64, config.sources.len() as u64, config.jobs.len() as u64);
    ctx.ui.note(format_args!(
        "{}: {}, {}, {}, no mistake in it",
        found.path.display(),
        human::counted(repositories, "repository", "repositories"),
        human::counted(sources, "source", "sources"),
        human::counted(jobs, "job", "jobs"),
    ));
    Ok(outcome(&problems))
}

const fn outcome(problems: &[String]) -> Outcome {
    if problems.is_empty() { Outcome::Done } else { Outcome::Partly }
}

/// What is to be backed up and is not there.
fn missing_files(config: &Config) -> Vec<String> {
    let mut missing = Vec::new();
    for (name, source) in &config.sources {
        let paths = match source {
            SourceConfig::Files(files) => files.paths.as_slice(),
            SourceConfig::RedisAof(redis) => std::slice::from_ref(&redis.path),
            SourceConfig::Sqlite(sqlite) => std::slice::from_ref(&sqlite.path),
            _ => &[],
        };
        let absent = paths.iter().filter(|path| std::fs::symlink_metadata(path).is_err());
        missing.extend(absent.map(|path| format!("source \"{name}\": there is no {}", path.display())));
    }
    missing
}
