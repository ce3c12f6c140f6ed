//! `config check`: find every mistake, then open each repository and ask each source whether it could be backed up.
//!
//! Invariant: nothing is changed, and all that is wrong is told, not only the first.
//! Never here: what a mistake is (see `config`), what is looked at (see `preflight`).

use std::time::Duration;

use clap::Args;
use serde::Serialize;
use source::Verdict;

use super::preflight::{Looked, LookedDocument, look, table};
use crate::config::Span;
use crate::context::Context;
use crate::error::{CommandError, Outcome};
use crate::human;

/// How long a repository or source may take, unless told otherwise.
const LIMIT: Duration = Duration::from_secs(30);

const EXAMPLES: &str = "\
Examples:
  backstay config check
  backstay config check --config /etc/backstay/backstay.toml --offline
  backstay config check --json | jq '.checks[] | select(.state != \"ok\")'";

/// Find every mistake in the configuration, open each repository, and ask each source whether it could be backed up
///
/// Servers are asked for what a backup needs: that they answer and let us in, versions, rights, settings, room. Nothing
/// is changed, and no backup is begun.
///
/// Exit code 0: all is well, warnings aside; 1: a repository cannot be opened, or a source could not be backed up; 2: the
/// file has mistakes.
#[derive(Debug, Args)]
#[command(after_long_help = EXAMPLES)]
pub(crate) struct CheckArgs {
    /// Talk to no server and no repository; look at the file and at what is on this machine
    #[arg(long)]
    offline: bool,

    /// Give up on a repository or source after this time; 30s unless given
    #[arg(long, value_name = "TIME", value_parser = span)]
    timeout: Option<Span>,
}

fn span(text: &str) -> Result<Span, String> {
    Span::try_from(text.to_owned())
}

#[derive(Debug, Serialize)]
struct Document {
    path: String,
    repositories: Vec<String>,
    sources: Vec<String>,
    jobs: Vec<String>,
    checks: Vec<LookedDocument>,
    problems: Vec<String>,
}

/// Checks, and says what there is.
pub(super) async fn run(args: &CheckArgs, ctx: &Context) -> Result<Outcome, CommandError> {
    let found = ctx.config()?.ok_or(CommandError::ConfigMissing)?;
    let config = &found.config;
    let looked = look(config, args.offline, args.timeout.map_or(LIMIT, |span| span.0), ctx).await;
    let problems: Vec<String> = looked.iter().flat_map(problems_of).collect();
    if ctx.ui.is_json {
        ctx.ui.json(&Document {
            path: found.path.display().to_string(),
            repositories: config.repositories.keys().cloned().collect(),
            sources: config.sources.keys().cloned().collect(),
            jobs: config.jobs.keys().cloned().collect(),
            checks: looked.iter().map(Looked::document).collect(),
            problems: problems.clone(),
        })?;
        return Ok(outcome(&problems));
    }
    if !looked.is_empty() {
        ctx.ui.line(table(&looked, ctx.ui.stdout))?;
    }
    let counted = |count: usize, one, many| human::counted(count as u64, one, many);
    ctx.ui.note(format_args!(
        "{}: {}, {}, {}, no mistake in it, {}",
        found.path.display(),
        counted(config.repositories.len(), "repository", "repositories"),
        counted(config.sources.len(), "source", "sources"),
        counted(config.jobs.len(), "job", "jobs"),
        counted(problems.len(), "problem", "problems"),
    ));
    Ok(outcome(&problems))
}

fn problems_of(looked: &Looked) -> impl Iterator<Item = String> + '_ {
    let grave = looked.told.findings.iter().filter(|finding| finding.verdict == Verdict::Problem);
    grave.map(|finding| format!("{}: {}", looked.title(), finding.what))
}

const fn outcome(problems: &[String]) -> Outcome {
    if problems.is_empty() { Outcome::Done } else { Outcome::Partly }
}
