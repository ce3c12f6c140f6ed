//! States and steps as text, for whoever reads how something broke.
//!
//! Invariant: it only tells.
//! Never here: anything that decides.

use std::fmt::Write;

use crate::model::Step;
use crate::request::Request;
use crate::state::{LISTS, PACKS, SEGMENTS, SNAPSHOTS, State, Verdict, WRITERS, each};

/// A step, and the store after it if it changed.
pub(crate) fn step(before: &State, step: &Step) -> String {
    let after = store(&step.next);
    let mut told = format!("{:<12} {}", step.who.to_string(), step.what);
    if !step.is_answered {
        told += ", and gets no answer";
    }
    if after != store(before) {
        let _ = write!(told, "\n             ⇒ {after}");
    }
    told
}

/// What the store holds.
pub(crate) fn store(state: &State) -> String {
    let mut parts = Vec::new();
    for pack in each(state.packs) {
        parts.push(format!("{}({})", pack_name(pack), chunks(state.chunks(1 << pack))));
    }
    for segment in (0..SEGMENTS).filter(|&segment| state.segments[segment] != 0) {
        parts.push(format!("index/{segment}→{}", packs(state.segments[segment])));
    }
    for snapshot in (0..SNAPSHOTS).filter(|&snapshot| state.snapshots[snapshot] != Verdict::Absent) {
        let hidden = if state.is_hidden(snapshot) { " forgotten" } else { "" };
        let name = ["first", "w0", "w1"][snapshot];
        parts.push(format!("snapshots/{name}={:?}{hidden}", state.snapshots[snapshot]));
    }
    for writer in (0..WRITERS).filter(|&writer| state.is_announced(writer)) {
        let seen: Vec<_> = each(state.seen[writer]).map(|list| list.to_string()).collect();
        parts.push(format!("writers/w{writer}(seen {})", seen.join("+")));
    }
    for list in (0..LISTS).filter(|list| state.listed >> list & 1 == 1) {
        parts.push(format!("condemned/{list}={}", packs(state.lists[list])));
    }
    for late in state.late.iter().filter(|late| **late != Request::None) {
        parts.push(format!("[on its way: {late:?}]"));
    }
    parts.join(" ")
}

fn pack_name(pack: usize) -> &'static str {
    const NAMES: [&str; PACKS] = ["P0", "P1", "W0", "W1", "R0", "R1", "R2", "R3"];
    NAMES[pack]
}

fn packs(packs: u8) -> String {
    each(packs).map(pack_name).collect::<Vec<_>>().join("+")
}

fn chunks(chunks: u8) -> &'static str {
    ["", "c1", "c2", "c1 c2"][usize::from(chunks & 3)]
}
