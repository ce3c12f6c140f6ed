//! How the blobs of a component are compressed: learned from the blobs themselves.
//!
//! ```text
//! blob ─► every way is tried, until the first result is back, and then with each 16th ─► the others take the best of it
//! ```
//!
//! Only content that is cut finely takes part: rows and pages are alike for long, and files are not.
//!
//! Invariant: what is learned changes bytes on their way to the store, never what they open to.
//! Never here: compressing.

use seal::Matching;

/// Blobs from one that is tried in every way to the next.
const BLOBS_PER_TRIAL: u32 = 16;

/// How one blob is to be compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Wanted {
    /// In every way, of which the best is kept.
    Best,
    /// In this one.
    As(Matching),
}

/// What one component has learned.
#[derive(Debug, Default)]
pub(crate) struct Learned {
    best: Option<Matching>,
    count: u32,
}

impl Learned {
    /// The way of the next blob.
    pub(crate) fn next(&mut self) -> Wanted {
        let is_trial = self.count.is_multiple_of(BLOBS_PER_TRIAL);
        self.count = self.count.wrapping_add(1);
        self.best.filter(|_| !is_trial).map_or(Wanted::Best, Wanted::As)
    }

    /// Takes what a trial found.
    pub(crate) const fn learn(&mut self, best: Matching) {
        self.best = Some(best);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_blob_is_tried_until_something_is_known_and_then_each_sixteenth() {
        let mut learned = Learned::default();
        assert_eq!([learned.next(), learned.next()], [Wanted::Best; 2]);
        learned.learn(Matching::Near);
        let wanted: Vec<_> = (2..34).map(|_| learned.next()).collect();
        let trials: Vec<_> =
            (2..34).zip(&wanted).filter(|(_, wanted)| **wanted == Wanted::Best).map(|(at, _)| at).collect();
        assert_eq!(trials, [16, 32]);
        assert!(wanted.iter().all(|wanted| matches!(wanted, Wanted::Best | Wanted::As(Matching::Near))));
    }
}
