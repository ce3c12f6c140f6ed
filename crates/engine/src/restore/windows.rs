//! Writing windows while the next one is planned: reads under way, bounded by count and bytes.
//!
//! ```text
//! planner ─[ one window ]─► runs in order ─► up to 24 reads at once ─► 6 opened and written ─► further names, window by window
//! ```
//!
//! Reads wait for the store and cost memory alone; opening and writing cost the machine's cores. So there are many of those
//! and few of these: on a store that answers at once the few are the bound, on one that is far away the many.
//!
//! Invariant: a window's further names are linked after it and all before it are written.
//! Invariant: the writer ends only when nothing of it reads or writes any more, also after a failure.
//! Never here: which pieces are wanted.

use std::collections::VecDeque;
use std::sync::Arc;

use futures::StreamExt;
use futures::future::BoxFuture;
use futures::stream::FuturesUnordered;
use source::blocking;
use source::entry::EntryPath;
use tokio::sync::{Semaphore, mpsc};
use tokio_util::task::AbortOnDropHandle;

use crate::EngineError;
use crate::fetch::Fetcher;
use crate::restore::reads::{Run, read_run};
use crate::restore::write::{FirstName, Piece};
use crate::restore::{Restoring, panicked};

/// Runs under way, from their read to their last write.
const RUNS_AT_ONCE: usize = 24;
/// Sealed bytes of those. One run is always under way, however long it is.
const RUNS_SEALED_LEN_MAX: u64 = 48 << 20;
/// Runs of those that are opened or written, at about 4 MiB of opened bytes each.
const RUNS_OPENED_AT_ONCE: usize = 6;

/// A planned window.
pub(crate) struct Window {
    pub(crate) runs: Vec<Run<Piece>>,
    /// Further names of what is whole then.
    pub(crate) links: Vec<(Arc<FirstName>, EntryPath)>,
}

/// Where windows go.
pub(crate) struct Windows {
    sender: mpsc::Sender<Window>,
    writer: AbortOnDropHandle<Result<(), EngineError>>,
}

impl Windows {
    /// Starts the writer. Dropped, it ends soon, but may still write for a moment.
    pub(crate) fn start(restoring: Arc<Restoring>, fetcher: Fetcher, compare_only: bool) -> Self {
        let (sender, windows) = mpsc::channel(1);
        let gate = Arc::new(Semaphore::new(RUNS_OPENED_AT_ONCE));
        let writer = Writer { restoring, fetcher, compare_only, gate, open: VecDeque::new(), first: 0, sealed_len: 0 };
        Self { sender, writer: AbortOnDropHandle::new(tokio::spawn(writer.run(windows))) }
    }

    /// Hands in the next window; waits while the one before it waits.
    ///
    /// # Errors
    ///
    /// [`EngineError::Interrupted`] if the writer has failed: [`Windows::finish`] tells how.
    pub(crate) async fn send(&self, window: Window) -> Result<(), EngineError> {
        self.sender.send(window).await.map_err(|_| EngineError::Interrupted)
    }

    /// Waits until nothing is read or written any more.
    ///
    /// # Errors
    ///
    /// What failed first.
    pub(crate) async fn finish(self) -> Result<(), EngineError> {
        drop(self.sender);
        self.writer.await.map_err(|error| EngineError::Panicked { what: error.to_string() })?
    }
}

/// Writes windows.
struct Writer {
    restoring: Arc<Restoring>,
    fetcher: Fetcher,
    compare_only: bool,
    gate: Arc<Semaphore>,
    /// Windows that are not written yet, the oldest first, and its number.
    open: VecDeque<Unwritten>,
    first: u64,
    /// Sealed bytes of the runs under way.
    sealed_len: u64,
}

/// What is left of a window.
struct Unwritten {
    run_count: usize,
    links: Vec<(Arc<FirstName>, EntryPath)>,
}

/// A job that has ended: a run of a window with its sealed bytes, or links.
type Ended = (Option<(u64, u64)>, Result<(), EngineError>);

impl Writer {
    async fn run(mut self, mut windows: mpsc::Receiver<Window>) -> Result<(), EngineError> {
        let mut jobs = FuturesUnordered::new();
        let (mut runs, mut is_over, mut done) = (VecDeque::new(), false, Ok(()));
        loop {
            while self.has_room(jobs.len(), runs.front())
                && let Some((window, run)) = runs.pop_front()
            {
                jobs.push(self.write(window, run));
            }
            tokio::select! {
                Some((run, ended)) = jobs.next(), if !jobs.is_empty() => {
                    self.note(run);
                    if let (Ok(()), Err(error)) = (&done, ended) {
                        // The others end soon; what is planned is not begun.
                        self.restoring.stop.cancel();
                        windows.close();
                        runs.clear();
                        done = Err(error);
                    }
                }
                window = windows.recv(), if runs.is_empty() && !is_over => match window {
                    Some(window) if done.is_ok() => runs.extend(self.take(window)),
                    Some(_) => {}
                    None => is_over = true,
                },
                else => return done,
            }
            if done.is_ok() {
                self.written().into_iter().for_each(|links| jobs.push(self.link(links)));
            }
        }
    }

    /// Whether one more run may be under way.
    fn has_room(&self, under_way: usize, next: Option<&(u64, Run<Piece>)>) -> bool {
        let fits = |run: &Run<Piece>| self.sealed_len + run.sealed_len() <= RUNS_SEALED_LEN_MAX;
        under_way == 0 || (under_way < RUNS_AT_ONCE && next.is_some_and(|(_, run)| fits(run)))
    }

    /// Takes a window; gives its runs with its number.
    fn take(&mut self, window: Window) -> impl Iterator<Item = (u64, Run<Piece>)> + use<> {
        let number = self.first + self.open.len() as u64;
        self.open.push_back(Unwritten { run_count: window.runs.len(), links: window.links });
        window.runs.into_iter().map(move |run| (number, run))
    }

    /// Notes that a run has ended.
    fn note(&mut self, run: Option<(u64, u64)>) {
        let Some((window, sealed_len)) = run else { return };
        self.sealed_len -= sealed_len;
        if let Some(window) = window.checked_sub(self.first).and_then(|at| self.open.get_mut(at as usize)) {
            window.run_count -= 1;
        }
    }

    /// The links of windows that are written, and all before them.
    fn written(&mut self) -> Vec<Vec<(Arc<FirstName>, EntryPath)>> {
        let mut all = Vec::new();
        while self.open.front().is_some_and(|window| window.run_count == 0) {
            self.first += 1;
            all.extend(self.open.pop_front().map(|window| window.links).filter(|links| !links.is_empty()));
        }
        all
    }

    fn write(&mut self, window: u64, run: Run<Piece>) -> BoxFuture<'static, Ended> {
        let (fetcher, restoring, gate) = (self.fetcher.clone(), Arc::clone(&self.restoring), Arc::clone(&self.gate));
        let sealed_len = run.sealed_len();
        self.sealed_len += sealed_len;
        let write = async move {
            let (found, turn) = restoring.unless_stopped(read_run(&fetcher, run, Some(gate))).await?;
            let written = fetcher.offload.start(move || restoring.write_all(found)).await?;
            drop(turn);
            written
        };
        Box::pin(async move { (Some((window, sealed_len)), write.await) })
    }

    fn link(&self, links: Vec<(Arc<FirstName>, EntryPath)>) -> BoxFuture<'static, Ended> {
        let (restoring, compare_only) = (Arc::clone(&self.restoring), self.compare_only);
        let work = move || if compare_only { restoring.verify_links(&links) } else { restoring.link_all(&links) };
        Box::pin(async move { (None, blocking::run(work).await.map_err(panicked).flatten()) })
    }
}
