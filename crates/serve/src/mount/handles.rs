//! Open files and folders, and how far ahead of a reader a file is read.
//!
//! ```text
//! reads one after the other ─► the window grows with what was read ─► steps of 4 MiB, at most so many at once
//! a read elsewhere ─► the window begins anew
//! ```
//!
//! Invariant: what is read ahead for all files together stays within its bound, so that it is still there when it is wanted.
//! Never here: reading.

use std::collections::{HashMap, VecDeque};
use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use engine::{FileView, Folder};
use tokio_util::task::AbortOnDropHandle;

use super::nodes::{Node, Tree};

/// Bytes that one task reads ahead.
const STEP_LEN: u64 = 4 << 20;
/// The shortest and the longest window, in bytes.
const WINDOW_LEN_MIN: u64 = 1 << 20;
const WINDOW_LEN_MAX: u64 = 16 << 20;
/// Reads within this distance of where the last one ended are taken as going on there: the kernel sends several at once.
const NEAR_LEN: u64 = 1 << 20;

/// An open file.
pub(super) struct OpenFile {
    pub(super) tree: Arc<Tree>,
    pub(super) path: Vec<u8>,
    pub(super) file: FileView,
    ahead: Mutex<Ahead>,
}

/// How a file was read so far, and what is being read ahead.
#[derive(Default)]
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

/// An open folder.
pub(super) enum OpenFolder {
    /// One of ours, as it was when it was opened: name, number and node of each.
    Ours(Vec<(String, u64, Node)>),
    /// One of a snapshot.
    Entries {
        tree: Arc<Tree>,
        path: Vec<u8>,
        /// Its own number, and that of the folder above.
        numbers: (u64, u64),
        folder: tokio::sync::Mutex<Listed>,
    },
}

/// A folder of a snapshot being listed.
pub(super) struct Listed {
    pub(super) folder: Folder,
    /// A page of it could not be had.
    pub(super) has_gaps: bool,
}

/// All that is open.
pub(super) struct Handles {
    next: AtomicU64,
    files: Mutex<HashMap<u64, Arc<OpenFile>>>,
    folders: Mutex<HashMap<u64, Arc<OpenFolder>>>,
    ahead_len_max: u64,
}

impl Handles {
    pub(super) fn new(ahead_len_max: u64) -> Self {
        Self { next: AtomicU64::new(1), files: Mutex::default(), folders: Mutex::default(), ahead_len_max }
    }

    pub(super) fn open_file(&self, tree: Arc<Tree>, path: Vec<u8>, file: FileView) -> u64 {
        let handle = self.next.fetch_add(1, Ordering::Relaxed);
        let opened = OpenFile { tree, path, file, ahead: Mutex::default() };
        lock(&self.files).insert(handle, Arc::new(opened));
        handle
    }

    pub(super) fn open_folder(&self, folder: OpenFolder) -> u64 {
        let handle = self.next.fetch_add(1, Ordering::Relaxed);
        lock(&self.folders).insert(handle, Arc::new(folder));
        handle
    }

    pub(super) fn file(&self, handle: u64) -> Option<Arc<OpenFile>> {
        lock(&self.files).get(&handle).cloned()
    }

    pub(super) fn folder(&self, handle: u64) -> Option<Arc<OpenFolder>> {
        lock(&self.folders).get(&handle).cloned()
    }

    pub(super) fn close_file(&self, handle: u64) {
        let closed = lock(&self.files).remove(&handle);
        drop(closed);
    }

    pub(super) fn close_folder(&self, handle: u64) {
        let closed = lock(&self.folders).remove(&handle);
        drop(closed);
    }

    /// Takes note of a read, and begins to read what is likely wanted next. Must be called within a runtime.
    pub(super) fn note_read(&self, opened: &OpenFile, range: Range<u64>) {
        let share = self.ahead_len_max / (lock(&self.files).len().max(1) as u64);
        let mut ahead = lock(&opened.ahead);
        ahead.tasks.retain(|task| !task.is_finished());
        let window_len_max = share.min(WINDOW_LEN_MAX);
        ahead.pace.note(range);
        while (ahead.tasks.len() as u64) < window_len_max.div_ceil(STEP_LEN)
            && let Some(step) = ahead.pace.step(window_len_max, opened.file.len())
        {
            let file = opened.file.clone();
            let task = tokio::spawn(async move { file.warm(step).await });
            ahead.tasks.push_back(AbortOnDropHandle::new(task));
        }
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

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
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
