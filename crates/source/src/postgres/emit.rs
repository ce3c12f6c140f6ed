//! Events out of straight code: a future that hands them over, as a stream.
//!
//! ```text
//! future: produce(Out) ──(bounded channel)──→ Events       the future is a task of its own from the first poll on
//! ```
//!
//! So that a server's next bytes are received and summed up while what came before is cut and named.
//!
//! Invariant: an error of the future is the stream's last item; dropping the stream drops the future where it stands.

use std::future::Future;
use std::pin::Pin;

use futures::{StreamExt as _, stream};
use tokio::sync::mpsc;
use tokio_util::task::AbortOnDropHandle;

use crate::SourceError;
use crate::blocking::Panicked;
use crate::entry::Entry;
use crate::events::{Base, Event, Events, Layout, SourceEntry};

/// Events that wait unread, as a count; each has 128 KiB at most.
const WAITING_MAX: usize = 8;

/// Where the future hands its events over.
#[derive(Debug)]
pub(super) struct Out(mpsc::Sender<Event>);

impl Out {
    /// Hands one event over, once there is room.
    pub(super) async fn event(&self, event: Event) {
        // The receiver lives as long as the future that we are called from.
        let _ = self.0.send(event).await;
    }

    pub(super) async fn begin(&self, entry: Entry, layout: Layout, base: Option<Base>) {
        self.event(Event::Begin(SourceEntry { entry, layout, base })).await;
    }

    pub(super) async fn fact(&self, name: &str, value: impl ToString) {
        self.event(Event::Fact { name: name.to_owned(), value: value.to_string() }).await;
    }
}

/// The events of `produce`, which ends well only if its future does.
pub(super) fn events<F>(produce: impl FnOnce(Out) -> F) -> Events
where
    F: Future<Output = Result<(), SourceError>> + Send + 'static,
{
    let (out, waiting) = mpsc::channel(WAITING_MAX);
    let state = State::Begun(Box::pin(produce(Out(out))), waiting);
    stream::unfold(state, |mut state| async move {
        loop {
            state = match state {
                State::Begun(future, waiting) => State::Running(AbortOnDropHandle::new(tokio::spawn(future)), waiting),
                State::Running(task, mut waiting) => {
                    if let Some(event) = waiting.recv().await {
                        return Some((Ok(event), State::Running(task, waiting)));
                    }
                    let outcome = task.await.unwrap_or_else(|error| Err(Panicked::of("a source", error).into()));
                    return outcome.err().map(|error| (Err(error), State::Ended));
                }
                State::Ended => return None,
            }
        }
    })
    .boxed()
}

/// How far the future is.
enum State<F> {
    /// Nobody has asked for an event.
    Begun(Pin<Box<F>>, mpsc::Receiver<Event>),
    Running(AbortOnDropHandle<Result<(), SourceError>>, mpsc::Receiver<Event>),
    Ended,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Fault;
    use crate::postgres::failure::failed;

    #[tokio::test]
    async fn more_events_than_may_wait_come_in_order_and_an_error_comes_last() {
        let count = 5 * WAITING_MAX;
        let mut found = events(move |out| async move {
            for number in 0..count {
                out.fact("n", number).await;
            }
            Err(failed("x", "over", Fault::Busy))
        });
        let mut expected = 0;
        while let Some(Ok(Event::Fact { value, .. })) = found.next().await {
            assert_eq!(value, expected.to_string());
            expected += 1;
        }
        assert!(expected + WAITING_MAX >= count, "{expected}");
        assert!(found.next().await.is_none());
    }

    #[tokio::test]
    async fn a_future_that_ends_well_loses_no_event() {
        let found = events(|out| async move {
            for number in 0..3 {
                out.fact("n", number).await;
            }
            Ok(())
        });
        assert_eq!(found.filter(|event| futures::future::ready(event.is_ok())).count().await, 3);
    }
}
