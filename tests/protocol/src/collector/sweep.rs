//! What is deleted, and in which order: C6 and C7.
//!
//! Invariant: a pack goes after the segments that named it, and its list after it.
//! Never here: whether it may go.

use crate::model::{Model, Sent, Step, Who};
use crate::request::Request;
use crate::rule::Rule;
use crate::state::{CollectorAt, State, Verdict, WRITERS};

impl Model {
    /// C6: the segments without the packs that go; and, which a collector may do or not, without those that are gone.
    pub(super) fn put_merged(&self, state: &State, number: usize, steps: &mut Vec<Step>) {
        let collector = state.collectors[number];
        let merged = collector.named & !collector.condemned;
        self.put_segment(state, number, merged, steps);
        if collector.found != 0 {
            self.put_segment(state, number, merged & !collector.found, steps);
        }
    }

    fn put_segment(&self, state: &State, number: usize, merged: u8, steps: &mut Vec<Step>) {
        let (who, mut next) = (Who::Collector(number), *state);
        let collector = &mut next.collectors[number];
        let has_changed = collector.named != merged;
        (collector.named, collector.found) = (0, 0);
        if !has_changed {
            collector.segments = 0;
            collector.at = self.before_packs();
            self.collector(&next, number, steps); // nothing is sent: no step
            return;
        }
        collector.at = CollectorAt::DropSegments;
        if merged == 0 {
            self.drop_segments(&next, number, steps);
            return;
        }
        let Some(segment) = state.free_segment() else {
            next.collectors[number].at = CollectorAt::OutOfBounds;
            steps.push(Step::new(who, "has no slot left for a segment", next));
            return;
        };
        let sent = Sent { request: Request::Segment(segment, merged), answered: next, unanswered: *state };
        self.send(steps, who, "puts the merged segment", sent);
    }

    pub(super) fn drop_segments(&self, state: &State, number: usize, steps: &mut Vec<Step>) {
        let mut answered = *state;
        let collector = &mut answered.collectors[number];
        let segments = match self.keep(Rule::OnlyMergedSegmentsGo) {
            true => collector.segments,
            false => state.segments_here() & !1u16.checked_shl(15 - collector.segments.leading_zeros()).unwrap_or(0),
        };
        collector.segments = 0;
        collector.at = self.before_packs();
        let sent = Sent { request: Request::DropSegments(segments), answered, unanswered: *state };
        self.send(steps, Who::Collector(number), "deletes the segments that it merged", sent);
    }

    const fn before_packs(&self) -> CollectorAt {
        match self.rules.keep(Rule::ListGoesLast) {
            true => CollectorAt::DropPacks,
            false => CollectorAt::DropList,
        }
    }

    /// C6: one pack at a time.
    pub(super) fn drop_packs(&self, state: &State, number: usize, steps: &mut Vec<Step>) {
        let mut answered = *state;
        let collector = &mut answered.collectors[number];
        let after = match self.keep(Rule::ListGoesLast) {
            true => CollectorAt::DropList,
            false => CollectorAt::DropRecords,
        };
        if collector.going == 0 {
            collector.at = after;
            self.collector(&answered, number, steps); // nothing is sent: no step
            return;
        }
        let pack = collector.going.trailing_zeros() as u8;
        collector.going &= !(1 << pack);
        if collector.going == 0 {
            collector.at = after;
        }
        let sent = Sent { request: Request::DropPack(pack), answered, unanswered: *state };
        self.send(steps, Who::Collector(number), "deletes a pack", sent);
    }

    pub(super) fn drop_list(&self, state: &State, number: usize, steps: &mut Vec<Step>) {
        let mut answered = *state;
        let collector = &mut answered.collectors[number];
        let list = collector.list;
        collector.at = match self.keep(Rule::ListGoesLast) {
            true => CollectorAt::DropRecords,
            false => CollectorAt::DropPacks,
        };
        let sent = Sent { request: Request::DropList(list), answered, unanswered: *state };
        self.send(steps, Who::Collector(number), "removes the condemned list", sent);
    }

    /// C7: the record of one writer that has a tombstone, until there is none.
    pub(super) fn drop_records(&self, state: &State, number: usize, steps: &mut Vec<Step>) {
        let who = Who::Collector(number);
        let dead =
            (0..WRITERS).find(|&writer| state.snapshots[writer + 1] == Verdict::Dead && state.is_announced(writer));
        let mut next = *state;
        let Some(writer) = dead else {
            if !self.keep(Rule::TombstoneStays) {
                next.snapshots
                    .iter_mut()
                    .filter(|there| **there == Verdict::Dead)
                    .for_each(|there| *there = Verdict::Absent);
            }
            Self::rest(&mut next, number);
            steps.push(Step::new(who, "ends its pass", next));
            return;
        };
        let request = Request::DropRecord(writer as u8);
        self.send(
            steps,
            who,
            "removes the record of a dead writer",
            Sent { request, answered: next, unanswered: *state },
        );
    }
}
