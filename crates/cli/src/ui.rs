//! What is written where: stdout is data, stderr is for people.
//!
//! ```text
//! line, json, bytes   ─► stdout     data; a closed pipe is a quiet end
//! note, warn          ─► stderr     unless -q
//! problem, report     ─► stderr     always
//! ```
//!
//! Invariant: what goes to stderr passes through here, so that no line is written into a progress bar.
//! Never here: what to say.

use std::fmt::Display;
use std::io::{self, IoSlice, IsTerminal as _, Write as _};

use bytes::Bytes;
use indicatif::MultiProgress;
use serde::Serialize;

use crate::error::CommandError;
use crate::globals::OutputArgs;
use crate::paint::Paint;

/// Pieces in one system call: what every system takes.
const PIECES_MAX: usize = 1024;

/// How loud, for whom, and in which colours.
#[derive(Debug, Clone)]
pub(crate) struct Ui {
    pub(crate) is_quiet: bool,
    pub(crate) is_json: bool,
    /// Whether details are told.
    pub(crate) is_verbose: bool,
    /// Whether progress is drawn.
    pub(crate) draws: bool,
    pub(crate) stdout: Paint,
    pub(crate) stderr: Paint,
    pub(crate) bars: MultiProgress,
}

impl Ui {
    /// Looks at the terminals and the environment.
    pub(crate) fn new(output: &OutputArgs) -> Self {
        Self {
            is_quiet: output.quiet,
            is_json: output.json,
            is_verbose: output.verbose > 0,
            draws: !output.quiet && !output.no_progress && io::stderr().is_terminal(),
            stdout: Paint::on(&io::stdout()),
            stderr: Paint::on(&io::stderr()),
            bars: MultiProgress::new(),
        }
    }

    /// Writes one line of data.
    pub(crate) fn line(&self, text: impl Display) -> Result<(), CommandError> {
        let mut stdout = io::stdout().lock();
        writeln!(stdout, "{text}").and_then(|()| stdout.flush()).map_err(CommandError::from_stdout)
    }

    /// Writes one JSON document on one line.
    pub(crate) fn json(&self, document: &impl Serialize) -> Result<(), CommandError> {
        self.line(serde_json::to_string(document).map_err(|error| CommandError::from_stdout(error.into()))?)
    }

    /// Writes data as it is, off the runtime: a reader may be slow, and an interrupt must still be heard.
    pub(crate) async fn bytes(&self, pieces: Vec<Bytes>) -> Result<(), CommandError> {
        if pieces.is_empty() {
            return Ok(());
        }
        source::blocking::run(move || write_stdout(&pieces)).await.map_err(source::SourceError::from)?
    }

    /// Writes lines as they are, as [`Ui::bytes`] does.
    pub(crate) async fn text(&self, lines: String) -> Result<(), CommandError> {
        if lines.is_empty() { Ok(()) } else { self.bytes(vec![lines.into()]).await }
    }

    /// Says something to people, unless they asked for quiet.
    pub(crate) fn note(&self, text: impl Display) {
        if !self.is_quiet {
            self.to_stderr(text);
        }
    }

    /// Says a detail to people who asked for more.
    pub(crate) fn detail(&self, text: impl Display) {
        if self.is_verbose {
            self.note(text);
        }
    }

    /// Says what to do next, unless they asked for quiet.
    pub(crate) fn hint(&self, text: impl Display) {
        self.note(format_args!("{} {text}", self.stderr.green("hint:")));
    }

    /// Says what everybody should know but nobody has to act on now.
    pub(crate) fn warn(&self, text: impl Display) {
        if !self.is_quiet {
            self.to_stderr(format_args!("{} {text}", self.stderr.yellow("warning:")));
        }
    }

    /// Says what is missing because of what.
    pub(crate) fn problem(&self, text: impl Display) {
        self.to_stderr(format_args!("{} {text}", self.stderr.red("problem:")));
    }

    /// Writes a line to stderr, above any progress bar. Nothing can be done if stderr is gone.
    pub(crate) fn to_stderr(&self, text: impl Display) {
        self.bars.suspend(|| drop(writeln!(io::stderr().lock(), "{text}")));
    }
}

/// Writes pieces as they are, end to end, without putting them together first. Blocks while the reader is slow.
fn write_stdout(pieces: &[Bytes]) -> Result<(), CommandError> {
    let mut stdout = io::stdout().lock();
    stdout.flush().map_err(CommandError::from_stdout)?;
    let mut slices: Vec<IoSlice<'_>> = pieces.iter().map(|piece| IoSlice::new(piece)).collect();
    let mut left = slices.as_mut_slice();
    IoSlice::advance_slices(&mut left, 0); // passes over empty ones
    while !left.is_empty() {
        let some = left.get(..left.len().min(PIECES_MAX)).unwrap_or_default();
        match rustix::io::writev(rustix::stdio::stdout(), some) {
            Ok(0) => return Err(CommandError::from_stdout(io::ErrorKind::WriteZero.into())),
            Ok(len) => IoSlice::advance_slices(&mut left, len),
            Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(CommandError::from_stdout(error.into())),
        }
    }
    Ok(())
}
