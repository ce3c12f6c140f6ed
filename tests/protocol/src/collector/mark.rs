//! Both marks, and the copies that each may ask for.
//!
//! Invariant: the second mark reads, in this order: what is forgotten, snapshots, condemned lists, segments, packs.
//! Never here: deleting.

use crate::model::{Model, Sent, Step, Who};
use crate::request::Request;
use crate::rule::Rule;
use crate::setup::FirstMark;
use crate::state::{Collector, CollectorAt, PACKS, SNAPSHOTS, State, each};

impl Model {
    /// C1: a guess. It is one step, since any result is safe.
    pub(super) fn first_mark(&self, state: &State, number: usize, steps: &mut Vec<Step>) {
        let (who, collector) = (Who::Collector(number), state.collectors[number]);
        let at = match self.keep(Rule::WritersListedAfterList) {
            true => CollectorAt::PutList,
            false => CollectorAt::ListWritersEarly,
        };
        let offered = state.packs & !state.condemned_by(u8::MAX);
        for condemned in self.guesses(state, offered) {
            let mut next = *state;
            match condemned {
                0 => Self::rest(&mut next, number),
                _ => next.collectors[number] = Collector { at, condemned, ..collector },
            }
            let what = if condemned == 0 { "marks, and finds nothing to condemn" } else { "marks for the first time" };
            steps.push(Step::new(who, what, next));
        }
        if self.setup.repacks {
            self.repack(state, number, offered, steps);
        }
    }

    /// Which packs are condemned.
    fn guesses(&self, state: &State, offered: u8) -> Vec<u8> {
        if self.marks(FirstMark::Any) {
            return (1..=offered).filter(|packs| packs & !offered == 0).chain((offered == 0).then_some(0)).collect();
        }
        let mut guesses = vec![offered & !self.kept(state, offered, 0..PACKS)];
        if self.marks(FirstMark::KeepsEither) {
            let other = offered & !self.kept(state, offered, (0..PACKS).rev());
            guesses.extend((other != guesses[0]).then_some(other));
        }
        guesses
    }

    /// The packs that hold the first copy of each live chunk, in the order given.
    fn kept(&self, state: &State, offered: u8, order: impl Iterator<Item = usize>) -> u8 {
        let visible = (0..SNAPSHOTS).filter(|&snapshot| state.is_commit(snapshot) && !state.is_hidden(snapshot));
        let mut missing = visible.fold(0, |live, snapshot| live | self.chunks_of(snapshot));
        let named = offered & state.named_by(state.segments_here());
        let mut kept = 0;
        for pack in order.filter(|pack| named >> pack & 1 == 1) {
            if state.chunks(1 << pack) & missing != 0 {
                kept |= 1 << pack;
                missing &= !state.chunks(1 << pack);
            }
        }
        kept
    }

    /// C1: copies the live chunks out of a pack that holds others too.
    fn repack(&self, state: &State, number: usize, offered: u8, steps: &mut Vec<Step>) {
        let visible = (0..SNAPSHOTS).filter(|&snapshot| state.is_commit(snapshot) && !state.is_hidden(snapshot));
        let live = visible.fold(0, |live, snapshot| live | self.chunks_of(snapshot));
        let kept = self.kept(state, offered, 0..PACKS);
        for pack in each(kept) {
            let (mut next, held) = (*state, state.chunks(1 << pack));
            if held & !live == 0 {
                continue;
            }
            let collector = &mut next.collectors[number];
            collector.at = CollectorAt::PutCopy;
            collector.is_repack = true;
            collector.condemned = offered & !kept | 1 << pack;
            collector.sources = 1 << pack;
            collector.copied = held & live;
            steps.push(Step::new(Who::Collector(number), "marks for the first time, and repacks", next));
        }
    }

    /// C5, and the copies of a repack.
    pub(super) fn put_copy(&self, state: &State, number: usize, steps: &mut Vec<Step>) {
        let (who, collector) = (Who::Collector(number), state.collectors[number]);
        let chunks = state.chunks(collector.sources) & collector.copied;
        let mut next = *state;
        if chunks != collector.copied {
            if collector.is_repack {
                Self::rest(&mut next, number);
            } else {
                next.collectors[number] = again(collector);
            }
            steps.push(Step::new(who, "cannot read what it copies, and begins again", next));
            return;
        }
        let Some(copy) = state.free_pack() else {
            next.collectors[number].at = CollectorAt::OutOfBounds;
            steps.push(Step::new(who, "has no slot left for a pack", next));
            return;
        };
        next.collectors[number].copy = copy;
        next.collectors[number].at = CollectorAt::PutCopySegment;
        let sent = Sent { request: Request::Pack(copy, chunks), answered: next, unanswered: *state };
        self.send(steps, who, "puts a copy of live chunks", sent);
    }

    pub(super) fn put_copy_segment(&self, state: &State, number: usize, steps: &mut Vec<Step>) {
        let (who, collector) = (Who::Collector(number), state.collectors[number]);
        let mut next = *state;
        let Some(segment) = state.free_segment() else {
            next.collectors[number].at = CollectorAt::OutOfBounds;
            steps.push(Step::new(who, "has no slot left for a segment", next));
            return;
        };
        next.collectors[number] = match (collector.is_repack, self.keep(Rule::WritersListedAfterList)) {
            (false, _) => again(collector),
            (true, true) => Collector { at: CollectorAt::PutList, ..after_repack(collector) },
            (true, false) => Collector { at: CollectorAt::ListWritersEarly, ..after_repack(collector) },
        };
        let sent = Sent { request: Request::Segment(segment, 1 << collector.copy), answered: next, unanswered: *state };
        self.send(steps, who, "puts the segment of its copy", sent);
    }

    /// C4, in its order.
    pub(super) fn second_mark(&self, state: &State, number: usize, steps: &mut Vec<Step>) {
        let mut next = *state;
        let collector = &mut next.collectors[number];
        let what = match collector.at {
            CollectorAt::ReadForgotten => self.read_forgotten(state, collector),
            CollectorAt::ReadSnapshots => self.read_snapshots(state, collector),
            CollectorAt::ReadCondemned => {
                collector.all_condemned = state.condemned_by(u8::MAX);
                collector.at = CollectorAt::ListSegments;
                if !self.keep(Rule::CondemnedBeforeCopies) {
                    self.decide(state, collector); // too late: a list may have done its work meanwhile
                }
                "second mark: reads condemned/"
            }
            CollectorAt::ListSegments => self.list_segments(state, collector),
            CollectorAt::ReadSegments if collector.segments & !state.segments_here() != 0 => {
                collector.segments = 0;
                collector.at = CollectorAt::ListSegments;
                "second mark: a segment is gone, lists index/ again"
            }
            CollectorAt::ReadSegments => {
                collector.named = state.named_by(collector.segments);
                collector.at = CollectorAt::ListPacks;
                "second mark: reads the segments"
            }
            _ => return self.list_packs(state, number, steps),
        };
        steps.push(Step::new(Who::Collector(number), what, next));
    }

    /// What hides snapshots is read apart from snapshots only where LIST and GET are.
    fn read_forgotten(&self, state: &State, collector: &mut Collector) -> &'static str {
        collector.hidden = state.hidden;
        collector.at = CollectorAt::ReadSnapshots;
        if self.setup.is_fine {
            return "second mark: reads forgotten/";
        }
        self.read_snapshots(state, collector);
        "second mark: reads forgotten/ and snapshots/"
    }

    fn read_snapshots(&self, state: &State, collector: &mut Collector) -> &'static str {
        let commits = bits_of((0..SNAPSHOTS).filter(|&snapshot| state.is_commit(snapshot)));
        collector.live = each(commits & !collector.hidden).fold(0, |live, snapshot| live | self.chunks_of(snapshot));
        collector.hidden = 0;
        collector.at = self.after_snapshots();
        "second mark: reads snapshots/"
    }

    fn after_snapshots(&self) -> CollectorAt {
        match self.keep(Rule::CondemnedBeforeCopies) {
            true => CollectorAt::ReadCondemned,
            false => CollectorAt::ListSegments,
        }
    }

    fn list_segments(&self, state: &State, collector: &mut Collector) -> &'static str {
        let page = self.page(collector.page);
        collector.segments |= state.segments_here() & page.mask;
        collector.page = u8::from(!page.is_last);
        if !page.is_last {
            return "second mark: lists index/, one page";
        }
        if self.setup.is_fine {
            collector.at = CollectorAt::ReadSegments;
            return "second mark: lists index/, the last page";
        }
        collector.named = state.named_by(collector.segments);
        collector.at = CollectorAt::ListPacks;
        "second mark: lists and reads index/"
    }

    /// The last reading, and what follows from all of them.
    fn list_packs(&self, state: &State, number: usize, steps: &mut Vec<Step>) {
        let mut next = *state;
        let collector = &mut next.collectors[number];
        let page = self.page(collector.page);
        collector.found |= state.packs & page.mask as u8;
        collector.page = u8::from(!page.is_last);
        let what = if page.is_last && !self.keep(Rule::CondemnedBeforeCopies) {
            collector.at = CollectorAt::ReadCondemned;
            "second mark: lists packs/"
        } else if page.is_last {
            self.decide(state, collector);
            match collector.at {
                CollectorAt::PutCopy => "second mark: lists packs/, has to copy",
                _ => "second mark: lists packs/, may delete",
            }
        } else {
            "second mark: lists packs/, one page"
        };
        steps.push(Step::new(Who::Collector(number), what, next));
    }

    /// Whether the packs of the list can go, or which chunks are to be copied first.
    fn decide(&self, state: &State, collector: &mut Collector) {
        let mut counting = collector.named & !collector.condemned;
        if self.keep(Rule::CopiesAreListed) {
            counting &= collector.found;
        }
        if self.keep(Rule::CondemnedCopiesDoNotCount) {
            counting &= !collector.all_condemned;
        }
        let missing = if self.keep(Rule::SecondMark) { collector.live & !state.told_chunks(counting) } else { 0 };
        let known = if self.keep(Rule::TrailersSay) { u8::MAX } else { collector.named };
        let sources = bits_of(
            each(collector.condemned & collector.found & known)
                .filter(|pack| state.told_chunks(1 << pack) & missing != 0),
        );
        (collector.live, collector.all_condemned) = (0, 0);
        if sources != 0 && self.keep(Rule::CondemnedForEver) {
            *collector = Collector {
                at: CollectorAt::PutCopy,
                copied: missing & state.told_chunks(sources),
                sources,
                ..again(*collector)
            };
            return;
        }
        collector.going = collector.condemned & collector.found & !sources;
        if !self.keep(Rule::CondemnedForEver) {
            collector.condemned = collector.going;
        }
        collector.found = collector.named & !collector.found & !collector.condemned;
        collector.at = match self.keep(Rule::MarkAfterSettled) || collector.unsettled == 0 {
            true => CollectorAt::PutMerged,
            false => CollectorAt::Settle,
        };
    }
}

/// Before the second mark, with nothing known of an earlier one.
fn again(collector: Collector) -> Collector {
    let Collector { passes, list, condemned, unsettled, .. } = collector;
    Collector { at: CollectorAt::ReadForgotten, passes, list, condemned, unsettled, ..Collector::default() }
}

/// Before the list is put.
fn after_repack(collector: Collector) -> Collector {
    let Collector { passes, list, condemned, .. } = collector;
    Collector { passes, list, condemned, ..Collector::default() }
}

fn bits_of(positions: impl Iterator<Item = usize>) -> u8 {
    positions.fold(0, |bits, position| bits | 1 << position)
}
