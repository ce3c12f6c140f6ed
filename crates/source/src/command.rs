//! A command as a source: what it prints is the content.
//!
//! ```text
//! CMD args…   stdin: /dev/null   stdout → stream of Bytes   stderr → callback by line, and its tail
//! ```
//!
//! The command runs in its own process group, so that stopping a backup stops all that the command started, and
//! Ctrl-C reaches us first.
//!
//! Invariant: a command that was not waited for is killed with its whole group when the producer is dropped.
//! Invariant: a command that has a [`Patience`] is never waited for longer than that.
//! Never here: judging whether the output is whole; that takes the format's own end mark too.

mod consumer;
mod preflight;
mod stderr;
mod typed;
mod watch;

use std::ffi::{OsStr, OsString};
use std::fmt;
use std::io;
use std::os::unix::process::ExitStatusExt as _;
use std::path::PathBuf;
use std::pin::Pin;
use std::process::Stdio;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use futures::Stream;
use rustix::process::{Pid, Signal, kill_process_group};
use tokio::process::{Child, ChildStdout};
use tokio_util::io::poll_read_buf;

use crate::error::SourceError;
use stderr::StderrTail;
use watch::Watch;

pub use consumer::Consumer;
pub use preflight::preflight;
pub use stderr::STDERR_TAIL_LEN_MAX;
pub use typed::shell_quoted;
pub use watch::Patience;

/// Bytes per item of the stream; only the last is shorter.
pub const ITEM_LEN: usize = 1024 * 1024;

/// The pipe's size that is asked for, in bytes: fewer switches between the command and us.
const PIPE_LEN: usize = 1024 * 1024;

/// How long stderr may stay open after the command itself ended, because something it started holds it.
const STDERR_AFTER_END_FOR: Duration = Duration::from_secs(2);

/// What to run. `Debug` shows the names of the variables alone: values may be passwords.
#[derive(Clone, Default)]
pub struct CommandLine {
    /// The program, looked up in `PATH` if it has no slash.
    pub program: OsString,
    /// Its arguments, as they are: no shell.
    pub args: Vec<OsString>,
    /// Environment variables in addition to our own.
    pub env: Vec<(OsString, OsString)>,
    /// Variables of our own environment that it does not get: secrets.
    pub env_hidden: Vec<OsString>,
    /// Where it runs; our own working directory if `None`.
    pub cwd: Option<PathBuf>,
    /// How long it may be silent and take.
    pub patience: Patience,
}

impl CommandLine {
    /// A program with its arguments, in our own environment and working directory.
    pub fn new(program: impl Into<OsString>, args: impl IntoIterator<Item = impl Into<OsString>>) -> Self {
        Self { program: program.into(), args: args.into_iter().map(Into::into).collect(), ..Self::default() }
    }
}

impl fmt::Debug for CommandLine {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<&OsString> = self.env.iter().map(|(name, _)| name).collect();
        let mut shown = out.debug_struct("CommandLine");
        shown.field("program", &self.program).field("args", &self.args).field("env", &names);
        shown.field("env_hidden", &self.env_hidden).field("cwd", &self.cwd).finish()
    }
}

/// How a command ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ProducerStatus {
    /// It returned this code.
    Exited(i32),
    /// This signal killed it.
    Signalled(i32),
}

/// What there is to say about a command that ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProducerEnd {
    /// How it ended.
    pub status: ProducerStatus,
    /// The last of what it wrote to stderr, at most [`STDERR_TAIL_LEN_MAX`] bytes.
    pub stderr_tail: Vec<u8>,
    /// Bytes it printed that were read.
    pub bytes: u64,
}

impl ProducerEnd {
    /// Whether it returned 0. Its output may still lack its end.
    #[must_use]
    pub fn is_success(&self) -> bool {
        self.status == ProducerStatus::Exited(0)
    }
}

/// A running command: a stream of what it prints.
///
/// Read the stream to its end, then [`Producer::finish`].
#[derive(Debug)]
pub struct Producer {
    program: OsString,
    group: Group,
    stdout: Option<ChildStdout>,
    stderr: StderrTail,
    buffer: BytesMut,
    bytes: u64,
    watch: Watch,
}

/// The child and its process group, killed on drop unless waited for.
#[derive(Debug)]
struct Group {
    child: Child,
}

impl Producer {
    /// Starts the command. Must be called within a tokio runtime.
    ///
    /// `on_stderr` gets each line the command writes to stderr, without the newline; lines longer than 8 KiB in
    /// parts. It is called on the async runtime and must not block.
    ///
    /// # Errors
    ///
    /// [`SourceError::Spawn`] if there is no such program or it cannot be run.
    pub fn spawn(command: &CommandLine, on_stderr: impl FnMut(&[u8]) + Send + 'static) -> Result<Self, SourceError> {
        let failed = |source| SourceError::Spawn { program: command.program.clone(), source };
        let mut child = tokio_command(command).stdin(Stdio::null()).spawn().map_err(failed)?;
        let missing = || io::Error::other("its output is not a pipe");
        let stdout = child.stdout.take().ok_or_else(|| failed(missing()))?;
        let stderr = child.stderr.take().ok_or_else(|| failed(missing()))?;
        // Pipes of this size may not be permitted; the default works as well.
        let _ = rustix::pipe::fcntl_setpipe_size(&stdout, PIPE_LEN);
        Ok(Self {
            program: command.program.clone(),
            group: Group { child },
            stdout: Some(stdout),
            stderr: StderrTail::follow(stderr, on_stderr),
            buffer: BytesMut::new(),
            bytes: 0,
            watch: Watch::new(command.patience),
        })
    }

    /// Limits how long the command may take, counted from now. What it was given stays until it is given another.
    #[must_use]
    pub fn with_patience(mut self, patience: Patience) -> Self {
        self.watch = Watch::new(patience);
        self
    }

    /// Bytes of output read so far.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Waits for the command to end, which may be long after its output did.
    ///
    /// If the output was not read to its end, the command finds its pipe closed. Dropping this future kills the
    /// command's group.
    ///
    /// # Errors
    ///
    /// [`SourceError::Pipe`] if it cannot be waited for, [`SourceError::Server`] with [`Fault::Busy`] if it does not
    /// end within its patience; then it was killed.
    ///
    /// [`Fault::Busy`]: crate::Fault::Busy
    pub async fn finish(mut self) -> Result<ProducerEnd, SourceError> {
        drop(self.stdout.take());
        let program = self.program.clone();
        let status = self.watch.limit(&program, self.group.end(&program)).await??;
        let stderr_tail = self.stderr.finish(STDERR_AFTER_END_FOR).await;
        Ok(ProducerEnd { status, stderr_tail, bytes: self.bytes })
    }

    /// Reads until an item is full or the output ends.
    fn poll_item(&mut self, context: &mut Context<'_>) -> Poll<Result<Bytes, SourceError>> {
        let Some(stdout) = &mut self.stdout else { return Poll::Ready(Ok(Bytes::new())) };
        if self.buffer.capacity() == 0 {
            self.buffer.reserve(ITEM_LEN);
        }
        while self.buffer.len() < ITEM_LEN {
            match poll_read_buf(Pin::new(&mut *stdout), context, &mut self.buffer) {
                Poll::Ready(Ok(0)) => {
                    self.stdout = None;
                    break;
                }
                Poll::Ready(Ok(_)) => self.watch.progress(),
                Poll::Ready(Err(source)) => {
                    return Poll::Ready(Err(SourceError::Pipe { program: self.program.clone(), source }));
                }
                Poll::Pending => {
                    let expired = ready!(self.watch.poll_expired(context));
                    return Poll::Ready(Err(expired.error(&self.program)));
                }
            }
        }
        Poll::Ready(Ok(std::mem::take(&mut self.buffer).freeze()))
    }
}

impl Stream for Producer {
    type Item = Result<Bytes, SourceError>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        match ready!(self.poll_item(context)) {
            Ok(data) if data.is_empty() => Poll::Ready(None),
            Ok(data) => {
                self.bytes += data.len() as u64;
                Poll::Ready(Some(Ok(data)))
            }
            Err(error) => {
                self.stdout = None;
                Poll::Ready(Some(Err(error)))
            }
        }
    }
}

impl Group {
    async fn end(&mut self, program: &OsStr) -> Result<ProducerStatus, SourceError> {
        let waited = self.child.wait().await;
        let ended = waited.map_err(|source| SourceError::Pipe { program: program.to_owned(), source })?;
        Ok(match ended.code() {
            Some(code) => ProducerStatus::Exited(code),
            None => ProducerStatus::Signalled(ended.signal().unwrap_or_default()),
        })
    }
}

impl Drop for Group {
    /// Kills the group unless the child was waited for: from then on its number may be somebody else's.
    fn drop(&mut self) {
        let leader = self.child.id().and_then(|id| i32::try_from(id).ok()).and_then(Pid::from_raw);
        if let Some(leader) = leader {
            // It may have ended this moment; then there is nothing to kill.
            let _ = kill_process_group(leader, Signal::KILL);
        }
    }
}

fn tokio_command(command: &CommandLine) -> tokio::process::Command {
    let mut started = tokio::process::Command::new(&command.program);
    for name in &command.env_hidden {
        started.env_remove(name);
    }
    started.args(&command.args).envs(command.env.iter().map(|(name, value)| (name, value)));
    started.stdout(Stdio::piped()).stderr(Stdio::piped());
    started.process_group(0).kill_on_drop(true);
    if let Some(cwd) = &command.cwd {
        started.current_dir(cwd);
    }
    started
}

#[cfg(test)]
mod tests;
