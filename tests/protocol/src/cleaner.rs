//! That part of prune that deletes forgotten snapshots.
//!
//! ```text
//! forgotten/<id>, and no record ─► read snapshots/<id> ─► delete it ─► delete forgotten/<id>
//! ```
//!
//! It runs beside both collectors and whenever it likes, so that no order between it and their steps is relied on.
//!
//! Invariant: the record was looked for before the snapshot was read.
//! Never here: which chunks become free by it.

use crate::model::{Model, Sent, Step, Who};
use crate::request::Request;
use crate::rule::Rule;
use crate::state::{Cleaner, CleanerAt, State, each};

impl Model {
    /// The steps of cleaner `number`.
    pub(crate) fn cleaner(&self, state: &State, number: usize, steps: &mut Vec<Step>) {
        let (who, cleaner) = (Who::Cleaner(number), state.cleaners[number]);
        let mut next = *state;
        match cleaner.at {
            CleanerAt::Idle => {
                for snapshot in each(state.hidden) {
                    let has_record = snapshot > 0 && state.is_announced(snapshot - 1);
                    if has_record && self.keep(Rule::ForgottenWaitsForRecord) {
                        continue;
                    }
                    next.cleaners[number] = Cleaner { at: CleanerAt::ReadSnapshot, snapshot: snapshot as u8 };
                    steps.push(Step::new(who, "finds no record of a forgotten snapshot's writer", next));
                }
            }
            CleanerAt::ReadSnapshot => {
                next.cleaners[number].at = match state.is_commit(usize::from(cleaner.snapshot)) {
                    true if self.keep(Rule::HiddenUntilGone) => CleanerAt::DropSnapshot,
                    _ => CleanerAt::DropForgotten,
                };
                steps.push(Step::new(who, "reads the forgotten snapshot", next));
            }
            CleanerAt::DropSnapshot => {
                next.cleaners[number] = match self.keep(Rule::HiddenUntilGone) {
                    true => Cleaner { at: CleanerAt::DropForgotten, ..cleaner },
                    false => Cleaner::default(),
                };
                let request = Request::DropSnapshot(cleaner.snapshot);
                self.send(steps, who, "deletes the snapshot", Sent { request, answered: next, unanswered: *state });
            }
            CleanerAt::DropForgotten => {
                next.cleaners[number] = match self.keep(Rule::HiddenUntilGone) {
                    true => Cleaner::default(),
                    false => Cleaner { at: CleanerAt::DropSnapshot, ..cleaner },
                };
                let request = Request::DropForgotten(cleaner.snapshot);
                self.send(steps, who, "deletes what hid it", Sent { request, answered: next, unanswered: *state });
            }
        }
    }
}
