//! How an error is told: message, causes, hint; or one JSON object.
//!
//! ```text
//! error: s3://bucket cannot be reached for config: its host name does not resolve
//!   cause: dns error
//! hint: check the endpoint and the network; --s3-endpoint names another one
//! ```
//!
//! Invariant: no text of a cause is told twice.
//! Never here: which hint fits (see `hints`).

use std::error::Error;
use std::sync::Arc;

use engine::EngineError;
use serde::Serialize;
use source::with_causes;

use crate::error::CommandError;
use crate::hints::{hint, of_component};
use crate::ui::Ui;

/// A component that failed, with the reason.
#[derive(Debug, Serialize)]
struct FailedComponent {
    name: String,
    reason: String,
    hint: Option<String>,
}

/// What `--json` prints on stderr in place of the lines above.
#[derive(Debug, Serialize)]
struct ErrorReport<'a> {
    error: &'a str,
    causes: &'a [String],
    /// Of a job of which nothing could be backed up.
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    components: &'a [FailedComponent],
    hint: Option<&'a str>,
    kind: &'a str,
    exit_code: u8,
}

/// Tells `error` on stderr and returns the exit code.
pub(crate) fn report(error: &CommandError, interrupted: u8, ui: &Ui) -> u8 {
    let exit_code = error.exit_code(interrupted);
    if matches!(error, CommandError::StdoutClosed) {
        return exit_code;
    }
    let kind = error.kind_word();
    let components = if ui.is_json { failed_components(error) } else { Vec::new() };
    tell_failures(error, ui);
    let (error, causes, hint) = (&error.to_string(), &causes(error), &hint(error));
    tell(ui, &ErrorReport { error, causes, components: &components, hint: hint.as_deref(), kind, exit_code });
    exit_code
}

/// Tells people of each component of a job of which nothing could be backed up.
pub(crate) fn tell_failures(error: &CommandError, ui: &Ui) {
    if !ui.is_json {
        failures(error).iter().for_each(|(name, failure)| tell_failure(name, failure, ui));
    }
}

/// Tells people why a component failed, and what to do about it.
pub(crate) fn tell_failure(name: &str, failure: &EngineError, ui: &Ui) {
    ui.problem(format_args!("{name}: {}", with_causes(failure)));
    if let Some(hint) = of_component(failure) {
        ui.note(format_args!("  next: {hint}"));
    }
}

fn failures(error: &CommandError) -> &[(String, Arc<EngineError>)] {
    match error {
        CommandError::Job(EngineError::NothingWhole { failures }) => failures,
        _ => &[],
    }
}

fn failed_components(error: &CommandError) -> Vec<FailedComponent> {
    let failed = |(name, failure): &(String, Arc<EngineError>)| FailedComponent {
        name: name.clone(),
        reason: with_causes(failure.as_ref()),
        hint: of_component(failure),
    };
    failures(error).iter().map(failed).collect()
}

/// Tells a mistake in the command line, which clap has put into words.
pub(crate) fn report_usage(message: &str, ui: &Ui) -> u8 {
    let first = message.split("\n\n").next().unwrap_or(message);
    let hint = Some("see the same command with --help");
    let error = first.trim().trim_start_matches("error: ");
    tell(ui, &ErrorReport { error, causes: &[], components: &[], hint, kind: "invalid", exit_code: 2 });
    2
}

fn tell(ui: &Ui, report: &ErrorReport<'_>) {
    if ui.is_json {
        return ui.to_stderr(serde_json::to_string(report).unwrap_or_else(|_| report.error.to_owned()));
    }
    ui.to_stderr(format_args!("{} {}", ui.stderr.red("error:"), report.error));
    for cause in report.causes {
        ui.to_stderr(format_args!("  cause: {cause}"));
    }
    if let Some(hint) = report.hint {
        ui.to_stderr(format_args!("{} {hint}", ui.stderr.green("hint:")));
    }
}

/// The chain below `error`, without those that only repeat what was said above them.
fn causes(error: &dyn Error) -> Vec<String> {
    let mut said = error.to_string();
    let mut causes = Vec::new();
    let mut below = error.source();
    while let Some(cause) = below {
        let text = cause.to_string();
        if !said.contains(&text) {
            said.push_str(&text);
            causes.push(text);
        }
        below = cause.source();
    }
    causes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn causes_are_told_once_each() {
        let io = std::io::Error::other("disk on fire");
        let error = CommandError::from(source::SourceError::Stdin { source: io });
        assert_eq!(error.to_string(), "standard input cannot be read");
        assert_eq!(causes(&error), ["disk on fire"]);
    }
}
