//! The bridge from the async spine to CPU work: a rayon pool, one oneshot per job.
//!
//! ```text
//! async task ─[start]► pool thread: job ─► oneshot ─► Pending (a future, in whatever order the caller awaits)
//! ```
//!
//! Invariant: a panicking job becomes an error of the operation; a panic in a bare `rayon::spawn` would abort.
//! Never here: I/O that can take long; that goes through `source::blocking` or the store.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use tokio::sync::oneshot;

use crate::EngineError;

/// The pool. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Offload {
    pool: Arc<rayon::ThreadPool>,
}

/// A job under way; it runs whether or not it is awaited.
pub(crate) struct Pending<T>(oneshot::Receiver<Result<T, String>>);

impl Offload {
    /// A pool with one thread per core.
    pub(crate) fn new() -> Result<Self, EngineError> {
        let pool = rayon::ThreadPoolBuilder::new()
            .thread_name(|at| format!("backstay-cpu-{at}"))
            .build()
            .map_err(|error| EngineError::Panicked { what: error.to_string() })?;
        Ok(Self { pool: Arc::new(pool) })
    }

    /// How many jobs run at once.
    pub(crate) fn threads(&self) -> usize {
        self.pool.current_num_threads()
    }

    /// Starts `job` now; the result comes through the returned future.
    pub(crate) fn start<T: Send + 'static>(&self, job: impl FnOnce() -> T + Send + 'static) -> Pending<T> {
        let (sender, receiver) = oneshot::channel();
        self.pool.spawn_fifo(move || {
            let result = catch_unwind(AssertUnwindSafe(job)).map_err(|panic| message(&*panic));
            drop(sender.send(result)); // nobody waits any more when the operation was given up
        });
        Pending(receiver)
    }
}

impl<T> Future for Pending<T> {
    type Output = Result<T, EngineError>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        Pin::new(&mut self.0).poll(context).map(|received| match received {
            Ok(Ok(value)) => Ok(value),
            Ok(Err(what)) => Err(EngineError::Panicked { what }),
            Err(_) => Err(EngineError::Panicked { what: "a job was dropped".to_owned() }),
        })
    }
}

fn message(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
    text.or_else(|| panic.downcast_ref::<String>().cloned()).unwrap_or_else(|| "no message".to_owned())
}
