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

use serde::Serialize;

use crate::error::CommandError;
use crate::hints::hint;
use crate::ui::Ui;

/// What `--json` prints on stderr in place of the lines above.
#[derive(Debug, Serialize)]
struct ErrorReport<'a> {
    error: &'a str,
    causes: &'a [String],
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
    tell(ui, &error.to_string(), &causes(error), hint(error).as_deref(), kind, exit_code);
    exit_code
}

/// Tells a mistake in the command line, which clap has put into words.
pub(crate) fn report_usage(message: &str, ui: &Ui) -> u8 {
    let first = message.split("\n\n").next().unwrap_or(message);
    let hint = Some("see the same command with --help");
    tell(ui, first.trim().trim_start_matches("error: "), &[], hint, "invalid", 2);
    2
}

fn tell(ui: &Ui, error: &str, causes: &[String], hint: Option<&str>, kind: &str, exit_code: u8) {
    if ui.is_json {
        let report = ErrorReport { error, causes, hint, kind, exit_code };
        return ui.to_stderr(serde_json::to_string(&report).unwrap_or_else(|_| error.to_owned()));
    }
    ui.to_stderr(format_args!("{} {error}", ui.stderr.red("error:")));
    for cause in causes {
        ui.to_stderr(format_args!("  cause: {cause}"));
    }
    if let Some(hint) = hint {
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
