//! The model: rules and a setup, and all steps that are possible in a state.
//!
//! Invariant: a step changes what one process knows and sends at most one request that changes the store.
//! Never here: what must hold (see `invariant`), and the order in which states are visited (see `explore`).

use std::fmt;

use crate::request::Request;
use crate::rule::{Rule, Rules};
use crate::setup::{FirstMark, Setup};
use crate::state::{CLEANERS, COLLECTORS, PACKS, State, WRITERS, each};

/// What is searched.
#[derive(Debug, Clone, Copy)]
pub struct Model {
    /// What everybody follows.
    pub rules: Rules,
    /// What there is and who runs.
    pub setup: Setup,
}

/// Who takes a step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Who {
    Writer(usize),
    Collector(usize),
    Cleaner(usize),
    User,
    Store,
}

impl fmt::Display for Who {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Writer(number) => write!(out, "writer {number}"),
            Self::Collector(number) => write!(out, "collector {number}"),
            Self::Cleaner(number) => write!(out, "cleaner {number}"),
            Self::User => write!(out, "user"),
            Self::Store => write!(out, "store"),
        }
    }
}

/// One step, and the state after it.
#[derive(Clone, Copy)]
pub(crate) struct Step {
    pub(crate) who: Who,
    pub(crate) what: &'static str,
    pub(crate) is_answered: bool,
    pub(crate) next: State,
}

impl Step {
    pub(crate) const fn new(who: Who, what: &'static str, next: State) -> Self {
        Self { who, what, is_answered: true, next }
    }
}

/// What a page of a listing shows, and whether it is the last one.
pub(crate) struct Page {
    pub(crate) mask: u16,
    pub(crate) is_last: bool,
}

/// A request, and the two ways in which its sender can go on.
pub(crate) struct Sent {
    pub(crate) request: Request,
    /// The sender, told that it was done. The request is applied to it.
    pub(crate) answered: State,
    /// The sender, told nothing.
    pub(crate) unanswered: State,
}

impl Model {
    pub(crate) fn keep(&self, rule: Rule) -> bool {
        self.rules.keep(rule)
    }

    pub(crate) fn first(&self) -> State {
        State::of(&self.setup)
    }

    /// Every step that is possible in `state`.
    pub(crate) fn steps(&self, state: &State, steps: &mut Vec<Step>) {
        steps.clear();
        (0..WRITERS).for_each(|writer| self.writer(state, writer, steps));
        (0..COLLECTORS).for_each(|collector| self.collector(state, collector, steps));
        (0..CLEANERS.min(usize::from(self.setup.cleaners))).for_each(|cleaner| self.cleaner(state, cleaner, steps));
        self.forget(state, steps);
        self.land(state, steps);
        for step in steps {
            self.normalize(&mut step.next);
        }
    }

    /// What page number `page` of a listing shows.
    pub(crate) fn page(&self, page: u8) -> Page {
        const EVEN: u16 = 0x5555;
        match self.setup.is_fine {
            false => Page { mask: u16::MAX, is_last: true },
            true => Page { mask: if (page == 0) == self.setup.is_odd_first { !EVEN } else { EVEN }, is_last: page > 0 },
        }
    }

    /// Sends a request: it is done and answered, or it stays without an answer.
    pub(crate) fn send(&self, steps: &mut Vec<Step>, who: Who, what: &'static str, sent: Sent) {
        let Sent { request, mut answered, mut unanswered } = sent;
        let may_stay = request.kind().is_some_and(|kind| self.setup.late.contains(&kind));
        if may_stay && unanswered.late_left > 0 && !unanswered.late.contains(&request) {
            let free = unanswered.late.iter_mut().find(|slot| **slot == Request::None);
            if let Some(slot) = free {
                *slot = request;
                unanswered.late_left -= 1;
                steps.push(Step { who, what, is_answered: false, next: unanswered });
            }
        }
        answered.apply(request);
        steps.push(Step { who, what, is_answered: true, next: answered });
    }

    /// What was never answered takes effect.
    fn land(&self, state: &State, steps: &mut Vec<Step>) {
        for (slot, request) in state.late.iter().enumerate().filter(|(_, request)| **request != Request::None) {
            let mut next = *state;
            next.late[slot] = Request::None;
            next.apply(*request);
            steps.push(Step { who: Who::Store, what: request.landing(), is_answered: true, next });
        }
    }

    /// Anybody hides a snapshot that is to be seen.
    fn forget(&self, state: &State, steps: &mut Vec<Step>) {
        for snapshot in each(self.setup.forgets) {
            if state.is_commit(snapshot) && !state.is_hidden(snapshot) {
                let mut next = *state;
                next.history.forgotten |= 1 << snapshot;
                let request = Request::Forget(u8::try_from(snapshot).expect("there are three"));
                let what = ["forgets the first snapshot", "forgets writer 0's snapshot", "forgets writer 1's snapshot"];
                let sent = Sent { request, answered: next, unanswered: next };
                self.send(steps, Who::User, what[snapshot], sent);
            }
        }
    }

    /// The chunks of a snapshot.
    pub(crate) fn chunks_of(&self, snapshot: usize) -> u8 {
        match snapshot {
            0 => self.setup.initial.snapshot,
            own => self.setup.wants[own - 1].chunks,
        }
    }

    /// Makes states equal that differ in nothing that matters. Collectors run one program, as do cleaners, and requests on
    /// their way have no order, so who is who makes no difference. What was in a pack that is gone is kept only as long as
    /// somebody takes it for one that is there.
    fn normalize(&self, state: &mut State) {
        if state.collectors[0] > state.collectors[1] {
            state.collectors.swap(0, 1);
        }
        if state.cleaners[0] > state.cleaners[1] {
            state.cleaners.swap(0, 1);
        }
        if state.late[0] > state.late[1] {
            state.late.swap(0, 1);
        }
        let mut told = state.packs | state.writers.iter().fold(0, |told, writer| told | writer.offered);
        for collector in &state.collectors {
            told |= collector.found | collector.condemned | collector.sources;
            told |= if self.keep(Rule::CopiesAreListed) { 0 } else { collector.named };
        }
        if !self.keep(Rule::PacksExist) || !self.keep(Rule::CopiesAreListed) {
            told |= state.named_by(u16::MAX);
        }
        each(!told).filter(|pack| *pack < PACKS).for_each(|pack| state.content &= !(3 << (2 * pack)));
    }

    /// Whether the first mark is one of those that are given.
    pub(crate) fn marks(&self, first_mark: FirstMark) -> bool {
        self.setup.first_mark == first_mark
    }
}
