//! The whole protocol, in the setups that are searched to their end within seconds. `make model` searches the others.
//!
//! Invariant: a search that meets its bound fails the test: within a setup all states are visited, or nothing is claimed.
//! Never here: the protocol with a rule left out (see `wrong.rs`).

#![expect(clippy::print_stdout, reason = "how much was searched is shown to whoever asks for it")]

use backstay_protocol::catalogue::{COPIES_FORGOTTEN, EVERY_KIND, JOURNAL, NEW, PARENT, REUSE, SPARSE};
use backstay_protocol::{FirstMark, Kind, Model, Outcome, Rules, Search, Setup, explore};

const STATES_MAX: usize = 4_000_000;

fn assert_holds(setup: Setup) {
    let model = Model { rules: Rules::WRITTEN, setup };
    let found = explore(&model, Search { states_max: STATES_MAX, seeks: Search::ALL });
    println!("{}: {} states, {} steps, depth {}", setup.name, found.states, found.steps, found.depth);
    if let Outcome::Fails(broken, way) = &found.outcome {
        panic!("{broken:?} in \"{}\":\n{}", setup.name, way.join("\n"));
    }
    assert_eq!(found.outcome, Outcome::Holds, "{} states were not enough", found.states);
    assert_eq!(found.out_of_bounds, 0, "a collector stood still because no slot was left");
    assert!(found.states > 10_000, "{} states are no search", found.states);
}

#[test]
fn two_collectors_beside_a_writer_that_reuses_what_is_forgotten_lose_nothing() {
    assert_holds(REUSE);
}

#[test]
fn two_collectors_and_listings_of_two_pages_lose_nothing() {
    assert_holds(REUSE.fine());
    assert_holds(Setup { is_odd_first: true, ..REUSE.fine() });
}

#[test]
fn two_collectors_that_condemn_anything_lose_nothing() {
    assert_holds(REUSE.marking(FirstMark::Any));
}

#[test]
fn any_one_request_that_lands_late_or_never_loses_nothing() {
    assert_holds(REUSE.late(EVERY_KIND));
}

#[test]
fn two_collectors_that_condemn_both_copies_lose_nothing() {
    assert_holds(COPIES_FORGOTTEN);
}

#[test]
fn repack_beside_a_writer_that_wants_what_goes_loses_nothing() {
    assert_holds(SPARSE);
}

#[test]
fn collector_beside_a_writer_that_reuses_its_parent_unread_loses_nothing() {
    assert_holds(Setup { passes: [1, 0], ..PARENT });
}

#[test]
fn collector_beside_a_journal_and_a_pack_that_lands_late_loses_nothing() {
    assert_holds(Setup { passes: [1, 0], ..JOURNAL }.late(&[Kind::Pack]));
}

#[test]
fn what_is_forgotten_stays_so_and_is_freed() {
    assert_holds(Setup { passes: [1, 1], ..NEW });
}
