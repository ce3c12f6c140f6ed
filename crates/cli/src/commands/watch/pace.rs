//! When a job runs that was told of changes: once they pause, and at last after a while of them.
//!
//! ```text
//! change ─► quiet_for without another ─► run        changes without a pause ─► within after the first ─► run
//! ```
//!
//! Invariant: a change that came before a run began is never due after it; one that came later always is.
//! Never here: clocks; times come as arguments.

use std::time::Duration;

use tokio::time::Instant;

/// Changes that wait for a run.
#[derive(Debug, Clone, Copy)]
pub(super) struct Pace {
    quiet_for: Duration,
    within: Duration,
    /// When the first and the last of them came.
    waiting: Option<(Instant, Instant)>,
}

impl Pace {
    /// Nothing waits. `within` is at least `quiet_for`.
    pub(super) fn new(quiet_for: Duration, within: Duration) -> Self {
        Self { quiet_for, within: within.max(quiet_for), waiting: None }
    }

    /// Something changed.
    pub(super) fn change(&mut self, now: Instant) {
        let first = self.waiting.map_or(now, |(first, _)| first);
        self.waiting = Some((first, now));
    }

    /// Something has to be done, but not before the longest wait is over: a run failed, or nobody knows what changed.
    pub(super) fn postpone(&mut self, now: Instant) {
        let first = self.waiting.map_or(now, |(first, _)| first);
        self.waiting = Some((first, now + (self.within - self.quiet_for)));
    }

    /// When to run.
    pub(super) fn due_at(&self) -> Option<Instant> {
        self.waiting.map(|(first, last)| (last + self.quiet_for).min(first + self.within))
    }

    /// A run begins: it sees all that changed until now.
    pub(super) fn begin(&mut self) {
        self.waiting = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const QUIET_FOR: Duration = Duration::from_secs(10);
    const WITHIN: Duration = Duration::from_secs(60);

    #[test]
    fn a_run_is_due_once_changes_pause_and_at_last_after_the_longest_wait() {
        let (start, secs) = (Instant::now(), Duration::from_secs);
        let mut pace = Pace::new(QUIET_FOR, WITHIN);
        assert_eq!(pace.due_at(), None);
        pace.change(start);
        assert_eq!(pace.due_at(), Some(start + QUIET_FOR));
        pace.change(start + secs(7));
        assert_eq!(pace.due_at(), Some(start + secs(17)));
        (8..300).for_each(|at| pace.change(start + secs(at)));
        assert_eq!(pace.due_at(), Some(start + WITHIN));
        pace.begin();
        assert_eq!(pace.due_at(), None);
    }

    #[test]
    fn what_is_postponed_waits_as_long_as_may_be_whatever_changes_meanwhile() {
        let start = Instant::now();
        let mut pace = Pace::new(QUIET_FOR, WITHIN);
        pace.postpone(start);
        assert_eq!(pace.due_at(), Some(start + WITHIN));
        let mut hasty = Pace::new(WITHIN, QUIET_FOR);
        hasty.postpone(start);
        assert_eq!(hasty.due_at(), Some(start + WITHIN), "a longest wait below the pause is the pause");
    }
}
