//! Programs that run around a job.
//!
//! Invariant: a hook gets no secret of ours in its environment.
//! Never here: when they run.

use std::process::Stdio;

use crate::error::CommandError;

/// Runs a hook and waits for it. It learns in its environment which job it belongs to and, after the job, how that ended.
pub(crate) async fn run_hook(
    what: &'static str,
    words: &[String],
    job: &str,
    outcome: Option<&str>,
) -> Result<(), CommandError> {
    let Some((program, args)) = words.split_first() else { return Ok(()) };
    let failed = |end: String| CommandError::Hook { what, program: program.clone(), end };
    let mut command = tokio::process::Command::new(program);
    command.args(args).stdin(Stdio::null()).kill_on_drop(true);
    command.env_remove(super::HIDDEN).env("BACKSTAY_JOB", job);
    // What it prints is for people: stdout is ours, for data.
    command.stdout(std::io::stderr());
    if let Some(outcome) = outcome {
        command.env("BACKSTAY_OUTCOME", outcome);
    }
    let status = command.status().await.map_err(|error| failed(format!("cannot be run: {error}")))?;
    if status.success() { Ok(()) } else { Err(failed(format!("ended with {status}"))) }
}
