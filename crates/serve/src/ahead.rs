//! How far ahead of its reader a file is read.
//!
//! ```text
//! reads one after the other ─► the window grows with what was read ─► steps of 4 MiB, at most so many at once
//! a read elsewhere ─► the window begins anew
//! ```
//!
//! Invariant: what is read ahead for all files together stays within its bound, so that it is still there when it is wanted.
//! Never here: what is kept of what was read; the view does that.

use std::collections::VecDeque;
use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use engine::{EngineError, FileView};
use tokio_util::task::AbortOnDropHandle;

/// Bytes that one task reads ahead.
const STEP_LEN: u64 = 4 << 20;
/// The shortest and the longest window, in bytes.
const WINDOW_LEN_MIN: u64 = 1 << 20;
const WINDOW_LEN_MAX: u64 = 16 << 20;
/// Reads within this distance of where the last one ended are taken as going on there: the kernel sends several at once.
const NEAR_LEN: u64 = 1 << 20;

/// What all readers share.
#[derive(Debug)]
pub(crate) struct Budget {
    len_max: u64,
    readers: AtomicU64,
}

/// Somebody who reads a file.
#[derive(Debug)]
pub(crate) struct Reader {
    file: FileView,
    budget: Arc<Budget>,
    ahead: Mutex<Ahead>,
}

/// How a file was read so far, and what is being read ahead.
#[derive(Debug, Default)]
struct Ahead {
    pace: Pace,
    tasks: VecDeque<AbortOnDropHandle<()>>,
}

/// Where a reader is. Pure.
#[derive(Debug, Default, PartialEq, Eq)]
struct Pace {
    /// Where the next read begins, if it goes on.
    next: u64,
    /// Bytes read one after the other.
    run_len: u64,
    /// Up to where it was read ahead.
    warm_to: u64,
}

impl Budget {
    /// At most so many bytes are read ahead, for all readers together.
    pub(crate) fn new(len_max: u64) -> Arc<Self> {
        Arc::new(Self { len_max, readers: AtomicU64::new(0) })
    }
}

impl Reader {
    pub(crate) fn new(file: FileView, budget: &Arc<Budget>) -> Self {
        budget.readers.fetch_add(1, Ordering::Relaxed);
        Self { file, budget: Arc::clone(budget), ahead: Mutex::default() }
    }

    pub(crate) const fn file(&self) -> &FileView {
        &self.file
    }

    /// The bytes of `range`, as far as the file reaches; what is likely wanted next begins to be read. Must be called within a runtime.
    ///
    /// # Errors
    ///
    /// Those of [`FileView::read`].
    pub(crate) async fn read(&self, range: Range<u64>) -> Result<Vec<Bytes>, EngineError> {
        self.note_read(range.clone());
        self.file.read(range).await
    }

    /// Takes note of a read, and begins to read what is likely wanted next.
    fn note_read(&self, range: Range<u64>) {
        let share = self.budget.len_max / self.budget.readers.load(Ordering::Relaxed).max(1);
        let mut ahead = self.ahead.lock().unwrap_or_else(PoisonError::into_inner);
        ahead.tasks.retain(|task| !task.is_finished());
        let window_len_max = share.min(WINDOW_LEN_MAX);
        ahead.pace.note(range);
        while (ahead.tasks.len() as u64) < window_len_max.div_ceil(STEP_LEN)
            && let Some(step) = ahead.pace.step(window_len_max, self.file.len())
        {
            let file = self.file.clone();
            let task = tokio::spawn(async move { file.warm(step).await });
            ahead.tasks.push_back(AbortOnDropHandle::new(task));
        }
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        self.budget.readers.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Pace {
    fn note(&mut self, range: Range<u64>) {
        let goes_on =
            range.start <= self.next.saturating_add(NEAR_LEN) && range.end.saturating_add(NEAR_LEN) >= self.next;
        if goes_on {
            self.run_len = self.run_len.saturating_add(range.end - range.start);
            self.next = self.next.max(range.end);
        } else {
            *self = Self { next: range.end, run_len: 0, warm_to: range.end };
        }
    }

    /// What is to be read ahead next, of a file of `len` bytes; none while enough is on its way.
    fn step(&mut self, window_len_max: u64, len: u64) -> Option<Range<u64>> {
        let window = (2 * self.run_len).min(window_len_max);
        let start = self.warm_to.max(self.next);
        let end = (start + STEP_LEN).min(self.next + window).min(len);
        // Small steps ask for the same blobs again.
        let is_worth_it = window >= WINDOW_LEN_MIN && start < end && (end == len || end - start >= WINDOW_LEN_MIN);
        is_worth_it.then(|| {
            self.warm_to = end;
            start..end
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const READ_LEN: u64 = 128 << 10;
    const FILE_LEN: u64 = 100 << 20;

    #[test]
    fn window_grows_while_a_file_is_read_on_and_never_beyond_its_bound() {
        let mut pace = Pace::default();
        let mut warm_to = 0;
        for at in 0..FILE_LEN / READ_LEN {
            pace.note(at * READ_LEN..(at + 1) * READ_LEN);
            while let Some(step) = pace.step(WINDOW_LEN_MAX, FILE_LEN) {
                assert!(step.start >= warm_to && step.end <= FILE_LEN, "{step:?}");
                assert!(step.end <= pace.next + WINDOW_LEN_MAX, "{step:?}");
                warm_to = step.end;
            }
        }
        assert_eq!(warm_to, FILE_LEN, "all was read ahead");
    }

    #[test]
    fn reads_here_and_there_read_nothing_ahead() {
        let mut pace = Pace::default();
        for at in [50_u64, 3, 90, 20, 70] {
            pace.note(at << 20..(at << 20) + 4096);
            assert_eq!(pace.step(WINDOW_LEN_MAX, FILE_LEN), None);
        }
    }

    #[test]
    fn reads_that_come_a_little_out_of_order_go_on() {
        let mut pace = Pace::default();
        for at in [1_u64, 0, 3, 2, 5, 4, 7, 6] {
            pace.note(at * READ_LEN..(at + 1) * READ_LEN);
        }
        assert_eq!((pace.next, pace.run_len), (8 * READ_LEN, 8 * READ_LEN));
        assert!(pace.step(WINDOW_LEN_MAX, FILE_LEN).is_some());
    }
}
