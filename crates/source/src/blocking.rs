//! The bridge from blocking readers to async streams: the only place here that takes a blocking thread.
//!
//! ```text
//! blocking thread: producer → Emitter ──(bounded channel)──→ Stream: async consumer
//! ```
//!
//! Invariant: a producer that panics ends its stream with an error, never with an early end that looks whole.
//! Never here: what is read. CPU work goes to the engine's pool, not here.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};

use futures::Stream;
use tokio::sync::mpsc;

/// A producer or job on a blocking thread panicked, or the runtime shut down under it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{what} panicked: {message}")]
pub struct Panicked {
    /// Which work it was.
    pub what: &'static str,
    /// The panic's message.
    pub message: String,
}

/// The receiver is gone: the producer should return.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("nobody reads this stream any more")]
pub struct Stopped;

/// A producer's end of the channel made by [`stream_of`].
#[derive(Debug)]
pub struct Emitter<T> {
    items: mpsc::Sender<Result<T, Panicked>>,
}

impl<T> Emitter<T> {
    /// Hands one item over; blocks while the channel is full.
    ///
    /// # Errors
    ///
    /// [`Stopped`] if the stream was dropped. The producer should return.
    pub fn emit(&self, item: T) -> Result<(), Stopped> {
        self.items.blocking_send(Ok(item)).map_err(|_| Stopped)
    }

    /// Whether the stream was dropped, for producers which wait for something else.
    #[must_use]
    pub fn is_stopped(&self) -> bool {
        self.items.is_closed()
    }
}

/// Runs a synchronous producer on a blocking thread; at most `cap` items (at least one) wait unread.
///
/// `name` names the work in the error. The stream ends when `f` returns. Dropping the stream makes the next
/// [`Emitter::emit`] fail. If `f` panics, the last item is `Err`.
///
/// Must be called within a tokio runtime.
pub fn stream_of<T: Send + 'static>(
    name: &'static str,
    cap: usize,
    f: impl FnOnce(Emitter<T>) + Send + 'static,
) -> impl Stream<Item = Result<T, Panicked>> + Send + Unpin + 'static {
    let (items, received) = mpsc::channel(cap.max(1));
    let last = items.clone();
    spawn(move || {
        if let Err(panic) = catch_unwind(AssertUnwindSafe(|| f(Emitter { items }))) {
            // A receiver that is gone has no use for the error.
            let _ = last.blocking_send(Err(Panicked { what: name, message: message_of(&*panic) }));
        }
    });
    Received(received)
}

/// Runs one short blocking job on a blocking thread.
///
/// Dropping the future does not stop the job.
///
/// # Errors
///
/// [`Panicked`] if `f` panicked, or the runtime shut down before it ran.
pub async fn run<T: Send + 'static>(f: impl FnOnce() -> T + Send + 'static) -> Result<T, Panicked> {
    spawn(f).await.map_err(|error| Panicked::of("blocking job", error))
}

impl Panicked {
    /// How a task ended that gave nothing.
    pub(crate) fn of(what: &'static str, error: tokio::task::JoinError) -> Self {
        let message = match error.try_into_panic() {
            Ok(panic) => message_of(&*panic),
            Err(_) => "the runtime is shutting down".to_owned(),
        };
        Self { what, message }
    }
}

#[allow(clippy::disallowed_methods)] // this file is the bridge (STYLE 4)
fn spawn<T: Send + 'static>(f: impl FnOnce() -> T + Send + 'static) -> tokio::task::JoinHandle<T> {
    tokio::task::spawn_blocking(f)
}

struct Received<T>(mpsc::Receiver<T>);

impl<T> Stream for Received<T> {
    type Item = T;

    fn poll_next(
        mut self: std::pin::Pin<&mut Self>,
        context: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Option<T>> {
        self.0.poll_recv(context)
    }
}

fn message_of(panic: &(dyn Any + Send)) -> String {
    match (panic.downcast_ref::<&str>(), panic.downcast_ref::<String>()) {
        (Some(message), _) => (*message).to_owned(),
        (_, Some(message)) => message.clone(),
        _ => "no message".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use futures::StreamExt as _;

    use super::*;

    #[tokio::test]
    async fn a_stream_yields_all_items_in_order_and_then_ends() {
        let items: Vec<_> = stream_of("count", 2, |emitter| {
            for item in 0..100 {
                emitter.emit(item).unwrap();
            }
        })
        .collect()
        .await;
        assert_eq!(items, (0..100).map(Ok).collect::<Vec<_>>());
    }

    #[tokio::test]
    async fn a_producer_that_panics_ends_its_stream_with_an_error_that_names_it() {
        let items: Vec<_> = stream_of("walk", 2, |emitter| {
            emitter.emit(1).unwrap();
            panic!("lost {}", "count");
        })
        .collect()
        .await;
        assert_eq!(items, [Ok(1), Err(Panicked { what: "walk", message: "lost count".into() })]);
    }

    #[tokio::test]
    async fn dropping_the_stream_stops_the_producer() {
        let (told, stopped) = tokio::sync::oneshot::channel();
        let mut stream = stream_of("endless", 1, move |emitter| {
            while emitter.emit(()).is_ok() {}
            told.send(emitter.is_stopped()).unwrap();
        });
        stream.next().await.unwrap().unwrap();
        drop(stream);
        assert!(tokio::time::timeout(Duration::from_secs(10), stopped).await.unwrap().unwrap());
    }

    #[tokio::test]
    async fn a_job_that_panics_is_an_error() {
        assert_eq!(run(|| 7).await, Ok(7));
        let failed: Result<(), _> = run(|| panic!("no")).await;
        assert_eq!(failed.unwrap_err().message, "no");
    }
}
