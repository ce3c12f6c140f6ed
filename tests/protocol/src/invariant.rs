//! What must hold in every state.
//!
//! Invariant: it looks at the store and at what was promised, never at what a process believes.
//! Never here: steps.

use crate::model::{Model, Step};
use crate::setup::{FirstMark, Setup};
use crate::state::{COLLECTORS, Cleaner, Collector, CollectorAt, SNAPSHOTS, State, WRITERS, WriterAt, each};

/// How many steps one process may need alone from any state to its end.
const STEPS_ALONE_MAX: usize = 400;
/// Passes that one collector makes alone until nothing is left that it could delete.
const PASSES_ALONE: u8 = 8;

/// What did not hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Broken {
    /// A snapshot that is to be seen needs a chunk that no pack holds.
    ChunkLost,
    /// A snapshot was reported as committed, nobody forgot it, and it is not there.
    SnapshotLost,
    /// A snapshot is to be seen again that was hidden.
    SnapshotBack,
    /// A snapshot that is to be seen needs a chunk that is in packs which no segment names.
    ChunkUnnamed,
    /// A process that runs alone from here does not come to its end.
    Stuck,
    /// A collector that runs alone from here leaves packs that nobody needs, or a condemned list.
    SpaceKept,
}

impl Model {
    /// What does not hold in `state`, the worst first.
    pub(crate) fn broken(&self, state: &State) -> Option<Broken> {
        let named = state.named_by(state.segments_here());
        let mut found = None;
        for snapshot in (0..SNAPSHOTS).filter(|&snapshot| state.is_commit(snapshot)) {
            let was_forgotten = state.history.forgotten >> snapshot & 1 == 1;
            let was_hidden = state.history.hidden >> snapshot & 1 == 1;
            if state.is_hidden(snapshot) || was_forgotten && !was_hidden {
                continue;
            }
            let chunks = self.chunks_of(snapshot);
            let worst = match () {
                () if chunks & !state.chunks(u8::MAX) != 0 => return Some(Broken::ChunkLost),
                () if was_hidden => Broken::SnapshotBack,
                () if chunks & !state.chunks(named) != 0 => Broken::ChunkUnnamed,
                () => continue,
            };
            found = found.or(Some(worst));
        }
        let promised = state.history.reported & !state.history.forgotten;
        let lost = each(promised).any(|snapshot| !state.is_commit(snapshot));
        if lost { Some(Broken::SnapshotLost) } else { found }
    }

    /// What does not come to an end from `state` on.
    pub(crate) fn unending(&self, state: &State) -> Option<Broken> {
        let writers = (0..WRITERS).all(|writer| {
            self.alone(
                state,
                |model, state, steps| model.writer(state, writer, steps),
                |state| state.writers[writer].at == WriterAt::Done,
            )
        });
        let collectors = (0..COLLECTORS).all(|collector| {
            self.alone(
                state,
                |model, state, steps| model.collector(state, collector, steps),
                |state| {
                    let collector = state.collectors[collector];
                    collector.at == CollectorAt::OutOfBounds
                        || collector.at == CollectorAt::Idle && collector.passes == 0
                },
            )
        });
        if !writers || !collectors {
            return Some(Broken::Stuck);
        }
        (!self.is_freed(state)).then_some(Broken::SpaceKept)
    }

    /// Whether a process that runs alone ends. Where it has a choice it takes the last: the one that is answered.
    fn alone(
        &self,
        state: &State,
        step: impl Fn(&Self, &State, &mut Vec<Step>),
        is_over: impl Fn(&State) -> bool,
    ) -> bool {
        let (mut state, mut steps) = (*state, Vec::new());
        for _ in 0..STEPS_ALONE_MAX {
            if is_over(&state) {
                return true;
            }
            steps.clear();
            step(self, &state, &mut steps);
            let Some(last) = steps.last() else { return false };
            state = last.next;
        }
        false
    }

    /// Whether one new collector, while everybody else stands still for ever, frees all that can be freed.
    fn is_freed(&self, state: &State) -> bool {
        let setup = Setup { first_mark: FirstMark::KeepsFirst, repacks: false, ..self.setup };
        let sensible = Self { setup, ..*self };
        let (mut state, mut steps) = (*state, Vec::new());
        state.collectors = [Collector { passes: PASSES_ALONE, ..Collector::default() }, Collector::default()];
        state.cleaners = [Cleaner::default(); 2];
        for _ in 0..STEPS_ALONE_MAX {
            let collector = state.collectors[0];
            if self.is_tidy(&state) || collector.at == CollectorAt::OutOfBounds {
                return true;
            }
            if collector.at == CollectorAt::Idle && collector.passes == 0 {
                return false;
            }
            steps.clear();
            sensible.collector(&state, 0, &mut steps);
            let is_choosing = collector.at == CollectorAt::Idle || collector.at == CollectorAt::FirstMark;
            let step = if is_choosing { steps.first() } else { steps.last() };
            let Some(step) = step else { return false };
            state = step.next;
        }
        false
    }

    /// No list is left, and no more packs than chunks that somebody needs.
    fn is_tidy(&self, state: &State) -> bool {
        let visible = (0..SNAPSHOTS).filter(|&snapshot| state.is_commit(snapshot) && !state.is_hidden(snapshot));
        let live = visible.fold(0, |live, snapshot| live | self.chunks_of(snapshot));
        state.listed == 0 && state.packs.count_ones() <= live.count_ones()
    }
}
