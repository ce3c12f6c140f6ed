//! How long a command may be silent, and how long it may take.
//!
//! The clock of silence runs only while we wait for output, so a slow reader is never taken for a silent command.
//!
//! Invariant: without a [`Patience`] nothing is ever given up.
//! Never here: killing; whoever gets the error drops the producer.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt as _;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::time::{Instant, Sleep, sleep, sleep_until};

use crate::entry::escaped;
use crate::error::{Fault, SourceError};

/// How long to wait for a command before it is given up; for ever where it says `None`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Patience {
    /// Without a byte of output while somebody wants one.
    pub idle_for: Option<Duration>,
    /// From its start to its end.
    pub total_for: Option<Duration>,
}

/// Which limit was passed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Expired {
    Idle(Duration),
    Total(Duration),
}

impl Expired {
    pub(super) fn error(self, program: &OsStr) -> SourceError {
        let what = match self {
            Self::Idle(limit) => format!("it printed nothing for {limit:?} and was stopped"),
            Self::Total(limit) => format!("it did not end within {limit:?} and was stopped"),
        };
        SourceError::server(format!("command {}", escaped(program.as_bytes())), Fault::Busy, what)
    }
}

/// The clocks of one command.
#[derive(Debug, Default)]
pub(super) struct Watch {
    patience: Patience,
    ends: Option<(Instant, Pin<Box<Sleep>>)>,
    silence: Option<Pin<Box<Sleep>>>,
}

impl Watch {
    pub(super) fn new(patience: Patience) -> Self {
        let end = patience.total_for.and_then(|limit| Instant::now().checked_add(limit));
        Self { patience, ends: end.map(|end| (end, Box::pin(sleep_until(end)))), silence: None }
    }

    /// A byte came.
    pub(super) fn progress(&mut self) {
        self.silence = None;
    }

    /// Ready once a limit is passed; to be asked only when there is nothing to read.
    pub(super) fn poll_expired(&mut self, context: &mut Context<'_>) -> Poll<Expired> {
        if let (Some((_, end)), Some(limit)) = (&mut self.ends, self.patience.total_for)
            && end.as_mut().poll(context).is_ready()
        {
            return Poll::Ready(Expired::Total(limit));
        }
        let Some(limit) = self.patience.idle_for else { return Poll::Pending };
        let silence = self.silence.get_or_insert_with(|| Box::pin(sleep(limit)));
        silence.as_mut().poll(context).map(|()| Expired::Idle(limit))
    }

    /// Waits for `done`, at most as long as either limit has left.
    pub(super) async fn limit<T>(&self, program: &OsStr, done: impl Future<Output = T>) -> Result<T, SourceError> {
        let idle = self.patience.idle_for.map(|limit| (Instant::now() + limit, Expired::Idle(limit)));
        let total = self.ends.as_ref().map(|(end, _)| *end).zip(self.patience.total_for.map(Expired::Total));
        match idle.into_iter().chain(total).min_by_key(|(end, _)| *end) {
            None => Ok(done.await),
            Some((end, expired)) => tokio::time::timeout_at(end, done).await.map_err(|_| expired.error(program)),
        }
    }
}
