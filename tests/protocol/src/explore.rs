//! Visits every state that can be reached, nearest first.
//!
//! Of a state that was visited 64 bits are kept, and those of the state before it, so that the shortest way to what is
//! broken can be told. Two states with equal bits would be taken for one: among 10^8 states that happens with a probability of
//! about one in four thousand, and then hides one state.
//!
//! Invariant: [`Outcome::Holds`] means that no state was left unvisited within the bounds of the setup.
//! Never here: what a state is.

use std::collections::hash_map::{Entry, HashMap};
use std::hash::{BuildHasherDefault, Hash, Hasher};

use crate::invariant::Broken;
use crate::model::{Model, Step};
use crate::state::{CollectorAt, State};
use crate::trace;

/// Where the ends of single processes are looked at: one state in so many.
const ENDINGS_ONE_IN: u64 = 64;

/// How far a search goes.
#[derive(Debug, Clone, Copy)]
pub struct Search {
    /// It ends when it has seen so many states.
    pub states_max: usize,
    /// Which findings end it.
    pub seeks: &'static [Broken],
}

impl Search {
    /// Everything that must hold.
    pub const ALL: &'static [Broken] = &[
        Broken::ChunkLost,
        Broken::SnapshotLost,
        Broken::SnapshotBack,
        Broken::ChunkUnnamed,
        Broken::Stuck,
        Broken::SpaceKept,
    ];
    /// What a user sees that should not be there, or does not see that should.
    pub const SEEN: &'static [Broken] = &[Broken::ChunkLost, Broken::SnapshotLost, Broken::SnapshotBack];
    /// Damage that a user notices.
    pub const LOSS: &'static [Broken] = &[Broken::ChunkLost, Broken::SnapshotLost];
}

/// How a search ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// Every state was visited, and all of it holds.
    Holds,
    /// It holds in as many states as were allowed.
    Bounded,
    /// It does not hold; the shortest way there, a line for each step.
    Fails(Broken, Vec<String>),
}

/// What a search found.
#[derive(Debug, Clone)]
pub struct Found {
    /// How it ended.
    pub outcome: Outcome,
    /// Different states.
    pub states: usize,
    /// Steps between them.
    pub steps: u64,
    /// The longest of the shortest ways.
    pub depth: usize,
    /// States in which a collector found no slot left and stood still.
    pub out_of_bounds: u64,
}

/// Searches `model`.
#[must_use]
pub fn explore(model: &Model, search: Search) -> Found {
    let first = model.first();
    let mut before: Before = HashMap::default();
    before.insert(mark_of(&first), 0);
    let (mut level, mut next_level) = (vec![first], Vec::new());
    let mut found = Found { outcome: Outcome::Holds, states: 1, steps: 0, depth: 0, out_of_bounds: 0 };
    let mut steps = Vec::new();
    while !level.is_empty() {
        for state in level.drain(..) {
            let mark = mark_of(&state);
            model.steps(&state, &mut steps);
            found.steps += steps.len() as u64;
            for Step { next, .. } in &steps {
                let next_mark = mark_of(next);
                let Entry::Vacant(entry) = before.entry(next_mark) else { continue };
                entry.insert(mark);
                found.states += 1;
                found.out_of_bounds += u64::from(next.collectors.iter().any(|c| c.at == CollectorAt::OutOfBounds));
                let ending = || if next_mark.is_multiple_of(ENDINGS_ONE_IN) { model.unending(next) } else { None };
                if let Some(broken) = model.broken(next).or_else(ending).filter(|broken| search.seeks.contains(broken))
                {
                    found.outcome = Outcome::Fails(broken, way_to(model, &before, next_mark));
                    return found;
                }
                next_level.push(*next);
            }
        }
        if found.states > search.states_max && !next_level.is_empty() {
            found.outcome = Outcome::Bounded;
            return found;
        }
        std::mem::swap(&mut level, &mut next_level);
        found.depth += usize::from(!level.is_empty());
    }
    found
}

/// The way from the first state to the one of `mark`, told step by step.
fn way_to(model: &Model, before: &Before, mark: u64) -> Vec<String> {
    let mut marks = vec![mark];
    while let Some(earlier) = marks.last().and_then(|mark| before.get(mark)).filter(|earlier| **earlier != 0) {
        marks.push(*earlier);
    }
    let (mut state, mut steps) = (model.first(), Vec::new());
    let mut told = vec![format!("at first: {}", trace::store(&state))];
    for mark in marks.iter().rev().skip(1) {
        model.steps(&state, &mut steps);
        let step = steps.iter().find(|step| mark_of(&step.next) == *mark);
        let Some(step) = step else { break };
        told.push(trace::step(&state, step));
        state = step.next;
    }
    told
}

type Before = HashMap<u64, u64, BuildHasherDefault<Marked>>;

/// The 64 bits that stand for a state; never 0, which stands for none.
fn mark_of(state: &State) -> u64 {
    let mut hasher = Folding::default();
    state.hash(&mut hasher);
    hasher.finish().max(1)
}

/// Multiplies 64 by 64 bits and folds the 128 to 64, for each word.
#[derive(Default)]
struct Folding(u64);

impl Folding {
    const FACTOR: u64 = 0x5851_f42d_4c95_7f2d;

    fn fold(&mut self, word: u64) {
        let product = u128::from(self.0 ^ word ^ 0x9e37_79b9_7f4a_7c15) * u128::from(Self::FACTOR);
        self.0 = (product as u64 ^ (product >> 64) as u64).rotate_left(23);
    }
}

impl Hasher for Folding {
    fn finish(&self) -> u64 {
        let mut last = Self(self.0);
        last.fold(self.0.rotate_left(32));
        last.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for part in bytes.chunks(8) {
            let mut word = [0; 8];
            word[..part.len()].copy_from_slice(part);
            self.fold(u64::from_le_bytes(word));
        }
    }

    fn write_u8(&mut self, byte: u8) {
        self.fold(u64::from(byte));
    }

    fn write_u16(&mut self, word: u16) {
        self.fold(u64::from(word));
    }

    fn write_isize(&mut self, word: isize) {
        self.fold(word as u64);
    }
}

/// Marks are spread already.
#[derive(Default)]
struct Marked(u64);

impl Hasher for Marked {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, _: &[u8]) {}

    fn write_u64(&mut self, mark: u64) {
        self.0 = mark;
    }
}
