//! A command that is fed: what it reads on stdin comes from us.
//!
//! ```text
//! pieces → stdin: CMD args…   stdout → /dev/null   stderr → callback by line, and its tail
//! ```
//!
//! Invariant: a command that was not waited for is killed with its whole group when the consumer is dropped.
//! Never here: what is fed, and whether the command's own success is believed.

use std::ffi::OsString;
use std::io;
use std::process::Stdio;

use tokio::io::AsyncWriteExt as _;
use tokio::process::ChildStdin;

use super::{CommandLine, Group, ProducerEnd, STDERR_AFTER_END_FOR, StderrTail, tokio_command};
use crate::error::SourceError;

/// A running command that reads what it is given.
#[derive(Debug)]
pub struct Consumer {
    program: OsString,
    group: Group,
    stdin: Option<ChildStdin>,
    stderr: StderrTail,
    bytes: u64,
}

impl Consumer {
    /// Starts the command. Must be called within a tokio runtime. `on_stderr` is as for [`super::Producer::spawn`].
    ///
    /// # Errors
    ///
    /// [`SourceError::Spawn`] if there is no such program or it cannot be run.
    pub fn spawn(command: &CommandLine, on_stderr: impl FnMut(&[u8]) + Send + 'static) -> Result<Self, SourceError> {
        let failed = |source| SourceError::Spawn { program: command.program.clone(), source };
        let mut started = tokio_command(command);
        let mut child = started.stdin(Stdio::piped()).stdout(Stdio::null()).spawn().map_err(failed)?;
        let missing = || failed(io::Error::other("its input is not a pipe"));
        let stderr = child.stderr.take().ok_or_else(missing)?;
        Ok(Self {
            program: command.program.clone(),
            stdin: Some(child.stdin.take().ok_or_else(missing)?),
            group: Group { child },
            stderr: StderrTail::follow(stderr, on_stderr),
            bytes: 0,
        })
    }

    /// Feeds it. Returns false once it no longer reads: [`Consumer::finish`] then says why.
    ///
    /// # Errors
    ///
    /// [`SourceError::Pipe`] if the pipe fails otherwise.
    pub async fn write(&mut self, data: &[u8]) -> Result<bool, SourceError> {
        let Some(stdin) = &mut self.stdin else { return Ok(false) };
        match stdin.write_all(data).await {
            Ok(()) => {
                self.bytes += data.len() as u64;
                Ok(true)
            }
            Err(source) if source.kind() == io::ErrorKind::BrokenPipe => {
                self.stdin = None;
                Ok(false)
            }
            Err(source) => Err(SourceError::Pipe { program: self.program.clone(), source }),
        }
    }

    /// Says that this was all, and waits for the command to end. `bytes` of the result counts what it was fed.
    ///
    /// # Errors
    ///
    /// [`SourceError::Pipe`] if it cannot be waited for.
    pub async fn finish(mut self) -> Result<ProducerEnd, SourceError> {
        drop(self.stdin.take());
        let status = self.group.end(&self.program).await?;
        let stderr_tail = self.stderr.finish(STDERR_AFTER_END_FOR).await;
        Ok(ProducerEnd { status, stderr_tail, bytes: self.bytes })
    }
}
