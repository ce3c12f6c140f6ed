//! What a listing has shown, so that one which starts again shows nothing twice.
//!
//! ```text
//! the first SHOWN_MAX names   kept: whatever their order, each is known
//! later ones                  the last one stands for all before it, if every attempt so far came in order
//! ```
//!
//! Invariant: bounded, however long the listing; and a name is called shown only if it was.
//! Never here: asking anybody.

use std::collections::HashSet;

use crate::error::Reason;

/// Names that are kept, of some 100 bytes each.
const SHOWN_MAX: usize = 64 << 10;

/// The names shown so far.
#[derive(Debug)]
pub(super) struct Shown {
    max: usize,
    names: HashSet<Box<str>>,
    /// How many were shown.
    count: usize,
    /// The name that came last in this attempt, shown or not.
    previous: String,
    is_ordered: bool,
    /// Everything up to this name was shown by earlier attempts.
    resumed_after: Option<String>,
}

impl Default for Shown {
    fn default() -> Self {
        Self::of(SHOWN_MAX)
    }
}

impl Shown {
    fn of(max: usize) -> Self {
        let (names, previous) = (HashSet::new(), String::new());
        Self { max, names, count: 0, previous, is_ordered: true, resumed_after: None }
    }

    /// Notes a name that the present attempt gave; says whether it is to be shown.
    ///
    /// # Errors
    ///
    /// Nobody can tell any more: what came in order before does not now.
    pub(super) fn is_new(&mut self, name: &str) -> Result<bool, Reason> {
        self.is_ordered &= self.previous.as_str() < name;
        name.clone_into(&mut self.previous);
        if self.names.contains(name) {
            return Ok(false);
        }
        if let Some(last) = &self.resumed_after {
            if !self.is_ordered {
                return Err(Reason("its second attempt came in another order".into()));
            }
            if name <= last.as_str() {
                return Ok(false);
            }
        }
        if self.names.len() < self.max {
            self.names.insert(name.into());
        }
        self.count += 1;
        Ok(true)
    }

    /// Whether another attempt could be told from what was shown.
    pub(super) fn can_resume(&self) -> bool {
        self.count <= self.max || self.is_ordered
    }

    /// Begins another attempt.
    pub(super) fn resume(&mut self) {
        let previous = std::mem::take(&mut self.previous);
        if self.count > self.max {
            // An attempt may break before it has reached what the one before it showed.
            self.resumed_after = self.resumed_after.take().max(Some(previous));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is shown of attempts, each of which but the last breaks off.
    fn shown(max: usize, attempts: &[&[u32]]) -> Result<Vec<u32>, Reason> {
        let (mut shown, mut given) = (Shown::of(max), Vec::new());
        for (at, attempt) in attempts.iter().enumerate() {
            if at > 0 {
                assert!(shown.can_resume(), "attempt {at}");
                shown.resume();
            }
            for number in *attempt {
                if shown.is_new(&format!("{number:03}"))? {
                    given.push(*number);
                }
            }
        }
        Ok(given)
    }

    #[test]
    fn listing_in_order_is_resumed_however_long_it_is_and_keeps_few_names() {
        let attempts: [&[u32]; 4] = [&[1, 2, 3, 5, 7], &[1, 2], &[1, 2, 3, 4, 5, 7, 8], &[1, 2, 3, 5, 6, 7, 8, 9]];
        assert_eq!(shown(2, &attempts).unwrap(), [1, 2, 3, 5, 7, 8, 9]);
        let mut long = Shown::of(2);
        assert!((0..1000).all(|number| long.is_new(&format!("{number:03}")).unwrap()));
        assert_eq!(long.names.len(), 2);
    }

    #[test]
    fn short_listing_is_resumed_in_any_order_and_may_grow_long() {
        let attempts: [&[u32]; 3] = [&[9, 1], &[5, 9, 3], &[3, 1, 7, 5, 9, 2, 8, 4]];
        assert_eq!(shown(4, &attempts).unwrap(), [9, 1, 5, 3, 7, 2, 8, 4]);
    }

    #[test]
    fn long_listing_out_of_order_is_not_resumed() {
        let mut out_of_order = Shown::of(2);
        ["b", "a", "c"].iter().for_each(|name| assert!(out_of_order.is_new(name).unwrap()));
        assert!(!out_of_order.can_resume());
    }

    #[test]
    fn long_listing_whose_order_changes_is_an_error_and_loses_nothing_silently() {
        shown(2, &[&[1, 2, 3, 4], &[1, 2, 4, 3]]).unwrap_err();
    }
}
