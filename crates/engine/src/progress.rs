//! What an operation has done so far, for whoever wants to show it.
//!
//! Invariant: counters only grow within one operation, except totals, which are guesses until known.
//! Never here: drawing.

use std::sync::atomic::{AtomicU64, Ordering};

/// Counters that an operation raises and a display reads, without locks.
#[derive(Debug, Default)]
pub struct Progress {
    entries: AtomicU64,
    entries_total: AtomicU64,
    len: AtomicU64,
    len_total: AtomicU64,
    stored_len: AtomicU64,
    problems: AtomicU64,
}

/// One look at a [`Progress`]. Totals are 0 while unknown.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ProgressView {
    /// Entries (backup, restore) or packs (check) done.
    pub entries: u64,
    /// How many there will be.
    pub entries_total: u64,
    /// Bytes of content done.
    pub len: u64,
    /// How many there will be.
    pub len_total: u64,
    /// Bytes uploaded.
    pub stored_len: u64,
    /// Problems so far.
    pub problems: u64,
}

impl Progress {
    /// All zeros.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// The counters now.
    #[must_use]
    pub fn view(&self) -> ProgressView {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        ProgressView {
            entries: read(&self.entries),
            entries_total: read(&self.entries_total),
            len: read(&self.len),
            len_total: read(&self.len_total),
            stored_len: read(&self.stored_len),
            problems: read(&self.problems),
        }
    }

    pub(crate) fn add_entries(&self, count: u64) {
        self.entries.fetch_add(count, Ordering::Relaxed);
    }

    /// Counts bytes of content.
    pub fn add_len(&self, len: u64) {
        self.len.fetch_add(len, Ordering::Relaxed);
    }

    pub(crate) fn add_stored(&self, len: u64) {
        self.stored_len.fetch_add(len, Ordering::Relaxed);
    }

    pub(crate) fn add_problem(&self) {
        self.problems.fetch_add(1, Ordering::Relaxed);
    }

    /// Says how many entries and bytes of content there will be.
    pub fn set_totals(&self, entries: u64, len: u64) {
        self.entries_total.store(entries, Ordering::Relaxed);
        self.len_total.store(len, Ordering::Relaxed);
    }
}
