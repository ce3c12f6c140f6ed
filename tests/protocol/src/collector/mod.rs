//! A prune, C1 to C7.
//!
//! ```text
//! idle ─► first mark ─► (repack) ─► put list ─► list writers ─► settle each ─┐
//!  └────────────── takes over a list that is there ───────────────▲          │
//!   ┌─────────────────────────────────────────────────────────────────────── ┘
//!   └► second mark ─► copies ─► second mark … ─► merged segments ─► packs ─► list ─► records of the dead ─► idle
//! ```
//!
//! Invariant: whatever a collector knows of the store it has read in its own steps, and may be out of date.
//! Never here: the marks (see `mark`), what follows from the second one (see `sweep`).

mod mark;
mod sweep;

use crate::model::{Model, Sent, Step, Who};
use crate::request::Request;
use crate::rule::Rule;
use crate::state::{Collector, CollectorAt, LISTS, State, Verdict, WRITERS, each};

impl Model {
    /// The steps of collector `number`.
    pub(crate) fn collector(&self, state: &State, number: usize, steps: &mut Vec<Step>) {
        match state.collectors[number].at {
            CollectorAt::Idle => self.begin(state, number, steps),
            CollectorAt::FirstMark => self.first_mark(state, number, steps),
            CollectorAt::PutCopy => self.put_copy(state, number, steps),
            CollectorAt::PutCopySegment => self.put_copy_segment(state, number, steps),
            CollectorAt::PutList => self.put_list(state, number, steps),
            CollectorAt::ListWritersEarly | CollectorAt::ListWriters => self.list_writers(state, number, steps),
            CollectorAt::Settle => self.settle(state, number, steps),
            CollectorAt::ReadForgotten
            | CollectorAt::ReadSnapshots
            | CollectorAt::ReadCondemned
            | CollectorAt::ListSegments
            | CollectorAt::ReadSegments
            | CollectorAt::ListPacks => self.second_mark(state, number, steps),
            CollectorAt::PutMerged => self.put_merged(state, number, steps),
            CollectorAt::DropSegments => self.drop_segments(state, number, steps),
            CollectorAt::DropPacks => self.drop_packs(state, number, steps),
            CollectorAt::DropList => self.drop_list(state, number, steps),
            CollectorAt::DropRecords => self.drop_records(state, number, steps),
            CollectorAt::OutOfBounds => {}
        }
    }

    /// Takes over any list that is there, or begins one of its own.
    fn begin(&self, state: &State, number: usize, steps: &mut Vec<Step>) {
        let (collector, who) = (state.collectors[number], Who::Collector(number));
        if collector.passes == 0 {
            return;
        }
        for list in each(state.listed) {
            let mut next = *state;
            let condemned = state.lists[list];
            let at = CollectorAt::ListWriters;
            next.collectors[number] = Collector { at, list: list as u8, condemned, ..collector };
            steps.push(Step::new(who, "takes over a condemned list", next));
        }
        let mut next = *state;
        next.collectors[number] = match self.free_list(state) {
            Some(list) => Collector { at: CollectorAt::FirstMark, list, ..collector },
            None => Collector { at: CollectorAt::OutOfBounds, ..collector },
        };
        steps.push(Step::new(who, "begins a list of its own", next));
    }

    /// A list's slot that nothing refers to; where numbers are compared, one above all others.
    fn free_list(&self, state: &State) -> Option<u8> {
        let known = state.known_lists();
        let free = match self.keep(Rule::SetOfLists) {
            true => known.trailing_ones(),
            false => u8::BITS - known.leading_zeros(),
        };
        u8::try_from(free).ok().filter(|slot| usize::from(*slot) < LISTS)
    }

    /// C2.
    fn put_list(&self, state: &State, number: usize, steps: &mut Vec<Step>) {
        let mut answered = *state;
        let collector = &mut answered.collectors[number];
        collector.at = match () {
            () if !self.keep(Rule::WritersAreAsked) => self.marks_next(),
            () if !self.keep(Rule::WritersListedAfterList) => CollectorAt::Settle,
            () => CollectorAt::ListWriters,
        };
        if collector.at == CollectorAt::Settle && collector.unsettled == 0 {
            collector.at = self.marks_next();
        }
        let request = Request::List(collector.list, collector.condemned);
        self.send(
            steps,
            Who::Collector(number),
            "puts its condemned list",
            Sent { request, answered, unanswered: *state },
        );
    }

    /// C3: LIST `writers/`, and what each has seen.
    fn list_writers(&self, state: &State, number: usize, steps: &mut Vec<Step>) {
        let mut next = *state;
        let collector = &mut next.collectors[number];
        let page = self.page(collector.page);
        let is_early = collector.at == CollectorAt::ListWritersEarly;
        for writer in (0..WRITERS).filter(|writer| page.mask >> writer & 1 == 1) {
            let has_seen = state.seen[writer] >> collector.list & 1 == 1;
            if state.is_announced(writer) && !has_seen && self.keep(Rule::WritersAreAsked) {
                collector.unsettled |= 1 << writer;
            }
        }
        collector.page = u8::from(!page.is_last);
        if page.is_last {
            collector.at = match collector.unsettled {
                _ if is_early => CollectorAt::PutList,
                0 => self.marks_next(),
                _ if !self.keep(Rule::MarkAfterSettled) => CollectorAt::ReadForgotten,
                _ => CollectorAt::Settle,
            };
        }
        let what = if is_early { "lists writers, too early" } else { "lists writers" };
        steps.push(Step::new(Who::Collector(number), what, next));
    }

    /// What follows when every writer is settled.
    const fn marks_next(&self) -> CollectorAt {
        match self.rules.keep(Rule::SecondMark) {
            true => CollectorAt::ReadForgotten,
            false => CollectorAt::ListSegments,
        }
    }

    /// C3: one writer is found settled, or declared dead. Until then the collector waits, which is no step.
    fn settle(&self, state: &State, number: usize, steps: &mut Vec<Step>) {
        let who = Who::Collector(number);
        let Some(writer) = each(state.collectors[number].unsettled).next() else { return };
        let mut settled = *state;
        let collector = &mut settled.collectors[number];
        collector.unsettled &= !(1 << writer);
        if collector.unsettled == 0 {
            collector.at = match self.keep(Rule::MarkAfterSettled) {
                true => self.marks_next(),
                false => CollectorAt::PutMerged,
            };
        }
        let verdict = state.snapshots[writer + 1];
        if verdict != Verdict::Absent || !state.is_announced(writer) {
            steps.push(Step::new(who, ["finds writer 0 settled", "finds writer 1 settled"][writer], settled));
            return;
        }
        let what = ["declares writer 0 dead", "declares writer 1 dead"][writer];
        if !self.keep(Rule::CollectorDeclaresDead) {
            steps.push(Step::new(who, "passes over a writer whose lease is over", settled));
            return;
        }
        let request = Request::Dead(writer as u8);
        self.send(steps, who, what, Sent { request, answered: settled, unanswered: *state });
    }

    /// The end of a pass.
    fn rest(state: &mut State, number: usize) {
        let passes = state.collectors[number].passes.saturating_sub(1);
        state.collectors[number] = Collector { passes, ..Collector::default() };
    }
}
