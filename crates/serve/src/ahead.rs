//! What is read of a file before somebody asks for it.
//!
//! ```text
//! reads one after the other ─► the window grows with what was read ─► stretches of at most 4 MiB
//! a read within a stretch   ─► its bytes, if they are there; else it is read as if there were none
//! a read elsewhere          ─► the window begins anew
//! ```
//!
//! Each reader may have its share of what may be read ahead; readers that come later make later windows shorter.
//!
//! Invariant: what is read ahead for all files together stays within twice its bound, and a stretch until it was passed.
//! Invariant: no read waits for more than it asks for.
//! Never here: what is kept of what was read; the view does that.

use std::collections::VecDeque;
use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use bytes::Bytes;
use engine::{EngineError, FileView};
use tokio_util::task::AbortOnDropHandle;

/// The longest stretch, in bytes.
const STRETCH_LEN: u64 = 4 << 20;
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
    /// Bytes of all stretches.
    held_len: AtomicU64,
}

/// Somebody who reads a file.
#[derive(Debug)]
pub(crate) struct Reader {
    file: FileView,
    budget: Arc<Budget>,
    ahead: Mutex<Ahead>,
}

/// How a file was read so far, and what is read ahead.
#[derive(Debug, Default)]
struct Ahead {
    pace: Pace,
    stretches: VecDeque<Stretch>,
}

/// A part of the file that is being read ahead, or was.
#[derive(Debug, Clone)]
struct Stretch {
    range: Range<u64>,
    read: Arc<Read>,
}

/// What a stretch holds.
#[derive(Debug)]
struct Read {
    /// Nothing until it was read, and of a stretch that is only to be opened.
    bytes: Arc<OnceLock<Bytes>>,
    len: u64,
    budget: Arc<Budget>,
    _task: AbortOnDropHandle<()>,
}

/// Where a reader is. Pure.
#[derive(Debug, Default, PartialEq, Eq)]
struct Pace {
    /// Where the next read begins, if it goes on.
    next: u64,
    /// Bytes read one after the other.
    run_len: u64,
    /// Up to where it was read ahead.
    ahead_to: u64,
}

impl Budget {
    /// At most so many bytes are read ahead, for all readers together.
    pub(crate) fn new(len_max: u64) -> Arc<Self> {
        Arc::new(Self { len_max, readers: AtomicU64::new(0), held_len: AtomicU64::new(0) })
    }
}

impl Reader {
    /// A reader that goes on where another has read `run_len` bytes one after the other.
    pub(crate) fn new(file: FileView, budget: &Arc<Budget>, run_len: u64) -> Self {
        budget.readers.fetch_add(1, Ordering::Relaxed);
        let pace = Pace { run_len, ..Pace::default() };
        Self { file, budget: Arc::clone(budget), ahead: Mutex::new(Ahead { pace, ..Ahead::default() }) }
    }

    /// The bytes read one after the other, once they reach the end.
    pub(crate) fn run_len_at_end(&self) -> Option<u64> {
        let ahead = self.ahead.lock().unwrap_or_else(PoisonError::into_inner);
        (ahead.pace.next.saturating_add(NEAR_LEN) >= self.file.len()).then_some(ahead.pace.run_len)
    }

    /// Takes note that somebody reads `range` by another way, for whom it is enough that blobs are opened. Must be called within a
    /// runtime.
    pub(crate) fn note(&self, range: Range<u64>) {
        drop(self.note_read(&range, true));
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
        let range = range.start..range.end.min(self.file.len()).max(range.start);
        let (mut at, mut bytes) = (range.start, Vec::new());
        let (goes_on, stretches) = self.note_read(&range, false);
        for stretch in stretches {
            let Some(read) = stretch.read.bytes.get() else { continue };
            let wanted = at.max(stretch.range.start)..range.end.min(stretch.range.end);
            if at < wanted.start {
                bytes.extend(self.file.read(at..wanted.start).await?);
            }
            at = wanted.end;
            let start = stretch.range.start;
            bytes.push(read.slice((wanted.start - start) as usize..(wanted.end - start) as usize));
        }
        if at < range.end {
            let rest = at..range.end;
            bytes.extend(if goes_on { self.file.read(rest).await? } else { self.file.read_elsewhere(rest).await? });
        }
        Ok(bytes)
    }

    /// Takes note of a read, and begins to read what is likely wanted next; whether it goes on where the last one
    /// was, and the stretches that reach into `range`, in order.
    fn note_read(&self, range: &Range<u64>, only_opens: bool) -> (bool, Vec<Stretch>) {
        let share = self.budget.len_max / self.budget.readers.load(Ordering::Relaxed).max(1);
        let window_len_max = share.min(WINDOW_LEN_MAX);
        let mut ahead = self.ahead.lock().unwrap_or_else(PoisonError::into_inner);
        let goes_on = ahead.pace.note(range);
        let next = ahead.pace.next;
        ahead.stretches.retain(|stretch| goes_on && stretch.range.end.saturating_add(NEAR_LEN) > next);
        while self.budget.held_len.load(Ordering::Relaxed) < 2 * self.budget.len_max
            && let Some(stretch) = ahead.pace.stretch(window_len_max, self.file.len())
        {
            ahead.stretches.push_back(Stretch::begin(self.file.clone(), stretch, &self.budget, only_opens));
        }
        let reach = |stretch: &&Stretch| stretch.range.start < range.end && range.start < stretch.range.end;
        (goes_on, ahead.stretches.iter().filter(reach).cloned().collect())
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        self.budget.readers.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Drop for Read {
    fn drop(&mut self) {
        self.budget.held_len.fetch_sub(self.len, Ordering::Relaxed);
    }
}

impl Stretch {
    /// Begins to read; ends when nobody has it any more.
    fn begin(file: FileView, range: Range<u64>, budget: &Arc<Budget>, only_opens: bool) -> Self {
        let len = range.end - range.start;
        budget.held_len.fetch_add(len, Ordering::Relaxed);
        let bytes = Arc::new(OnceLock::new());
        let (wanted, place) = (range.clone(), Arc::clone(&bytes));
        let task = tokio::spawn(async move {
            if only_opens {
                file.warm(wanted).await;
            } else if let Ok(read) = file.read_apart(wanted).await {
                // Nobody else sets it.
                drop(place.set(read));
            }
        });
        let read = Read { bytes, len, budget: Arc::clone(budget), _task: AbortOnDropHandle::new(task) };
        Self { range, read: Arc::new(read) }
    }
}

impl Pace {
    /// Takes note of a read; whether it goes on where the last one was.
    fn note(&mut self, range: &Range<u64>) -> bool {
        let goes_on =
            range.start <= self.next.saturating_add(NEAR_LEN) && range.end.saturating_add(NEAR_LEN) >= self.next;
        if goes_on {
            self.run_len = self.run_len.saturating_add(range.end - range.start);
            self.next = self.next.max(range.end);
        } else {
            *self = Self { next: range.end, run_len: 0, ahead_to: range.end };
        }
        goes_on
    }

    /// What is to be read ahead next, of a file of `len` bytes; none while enough is on its way.
    fn stretch(&mut self, window_len_max: u64, len: u64) -> Option<Range<u64>> {
        let window = (2 * self.run_len).min(window_len_max);
        let start = self.ahead_to.max(self.next);
        let end = (start + STRETCH_LEN).min(self.next + window).min(len);
        // Short stretches ask for the same blobs again.
        let is_worth_it = window >= WINDOW_LEN_MIN && start < end && (end == len || end - start >= WINDOW_LEN_MIN);
        is_worth_it.then(|| {
            self.ahead_to = end;
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
        let mut ahead_to = 0;
        for at in 0..FILE_LEN / READ_LEN {
            pace.note(&(at * READ_LEN..(at + 1) * READ_LEN));
            while let Some(step) = pace.stretch(WINDOW_LEN_MAX, FILE_LEN) {
                assert!(step.start >= ahead_to && step.end <= FILE_LEN, "{step:?}");
                assert!(step.end <= pace.next + WINDOW_LEN_MAX, "{step:?}");
                ahead_to = step.end;
            }
        }
        assert_eq!(ahead_to, FILE_LEN, "all was read ahead");
    }

    #[test]
    fn reads_here_and_there_read_nothing_ahead() {
        let mut pace = Pace::default();
        for at in [50_u64, 3, 90, 20, 70] {
            pace.note(&(at << 20..(at << 20) + 4096));
            assert_eq!(pace.stretch(WINDOW_LEN_MAX, FILE_LEN), None);
        }
    }

    #[test]
    fn reads_that_come_a_little_out_of_order_go_on() {
        let mut pace = Pace::default();
        for at in [1_u64, 0, 3, 2, 5, 4, 7, 6] {
            pace.note(&(at * READ_LEN..(at + 1) * READ_LEN));
        }
        assert_eq!((pace.next, pace.run_len), (8 * READ_LEN, 8 * READ_LEN));
        assert!(pace.stretch(WINDOW_LEN_MAX, FILE_LEN).is_some());
    }
}
