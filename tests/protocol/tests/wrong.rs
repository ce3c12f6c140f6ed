//! Each rule of the protocol, left out: the search must find what goes wrong without it.
//!
//! ```text
//! protocol minus one rule ──▶ search ──▶ a way to lost data, else the rule is not needed or the search is blind
//! ```
//!
//! Invariant: a test here fails when nothing is found, so that a search that finds nothing is not taken for a proof.
//! Never here: the whole protocol (see `whole.rs`).

#![expect(clippy::print_stdout, reason = "the way to what broke is shown to whoever asks for it")]

use backstay_protocol::catalogue::{COPIES, NEW, NEW_TWICE, PARENT, REUSE, REUSE_LONGER};
use backstay_protocol::{Broken, FirstMark, Found, Kind, Model, Outcome, Rule, Rules, Search, Setup, Want, explore};

/// No search here needs more.
const STATES_MAX: usize = 3_000_000;

/// Searches the protocol without `rule` for what is in `seeks`, prints the way there, and says what broke.
fn without(rule: Rule, setup: Setup, seeks: &'static [Broken]) -> Broken {
    let model = Model { rules: Rules::WRITTEN.without(rule), setup };
    let Found { outcome, states, .. } = explore(&model, Search { states_max: STATES_MAX, seeks });
    let Outcome::Fails(broken, way) = outcome else {
        panic!("without {rule:?} nothing broke in {states} states of \"{}\": {outcome:?}", setup.name)
    };
    println!("without {rule:?}: {broken:?} after {} steps, {states} states\n{}", way.len() - 1, way.join("\n"));
    broken
}

fn assert_loses(rule: Rule, setup: Setup) {
    let broken = without(rule, setup, Search::LOSS);
    assert!(matches!(broken, Broken::ChunkLost | Broken::SnapshotLost), "{broken:?}");
}

#[test]
fn writer_that_lists_condemned_packs_before_it_announces_itself_loses_chunks() {
    assert_loses(Rule::AnnounceFirst, REUSE);
}

#[test]
fn highest_number_in_place_of_the_set_of_lists_loses_chunks() {
    assert_loses(Rule::SetOfLists, REUSE);
}

#[test]
fn writer_that_looks_at_packs_before_condemned_lists_loses_chunks() {
    assert_loses(Rule::CondemnedBeforePacks, REUSE);
}

#[test]
fn index_that_vouches_for_packs_without_a_look_loses_chunks() {
    assert_loses(Rule::PacksExist, NEW_TWICE);
}

#[test]
fn parent_reused_without_a_look_while_a_list_was_seen_loses_chunks() {
    assert_loses(Rule::ParentLookedUp, PARENT);
}

#[test]
fn parent_listed_before_the_condemned_lists_loses_chunks() {
    assert_loses(Rule::ParentListedAfterSeen, PARENT);
}

#[test]
fn pack_that_is_put_again_under_its_name_loses_chunks() {
    assert_loses(Rule::OneRequestPerPack, NEW_TWICE.late(&[Kind::Pack]));
}

#[test]
fn writer_that_commits_without_a_race_loses_chunks() {
    assert_loses(Rule::WriterRacesToCommit, REUSE);
}

#[test]
fn collector_that_ignores_writers_whose_lease_is_over_loses_chunks() {
    assert_loses(Rule::CollectorDeclaresDead, REUSE);
}

#[test]
fn record_removed_while_a_commit_may_land_loses_chunks() {
    assert_loses(Rule::UnclearRecordStays, REUSE_LONGER.late(&[Kind::Commit]));
}

#[test]
fn tombstone_that_others_remove_loses_chunks() {
    assert_loses(Rule::TombstoneStays, REUSE_LONGER);
}

#[test]
fn condemned_packs_taken_back_lose_chunks() {
    assert_loses(Rule::CondemnedForEver, REUSE.marking(FirstMark::Any));
}

#[test]
fn writers_listed_before_the_list_is_created_lose_chunks() {
    assert_loses(Rule::WritersListedAfterList, REUSE);
}

#[test]
fn age_in_place_of_asking_writers_loses_chunks() {
    assert_loses(Rule::WritersAreAsked, REUSE);
}

#[test]
fn no_second_mark_loses_chunks() {
    assert_loses(Rule::SecondMark, REUSE);
}

#[test]
fn second_mark_begun_before_writers_are_settled_loses_chunks() {
    assert_loses(Rule::MarkAfterSettled, REUSE);
}

#[test]
fn copies_counted_in_condemned_packs_lose_chunks() {
    assert_loses(Rule::CondemnedCopiesDoNotCount, COPIES);
}

#[test]
fn condemned_lists_read_after_packs_lose_chunks() {
    assert_loses(Rule::CondemnedBeforeCopies, Setup { wants: [Want::of(0); 2], passes: [1, 1], ..COPIES });
}

#[test]
fn copies_counted_in_packs_that_were_not_listed_lose_chunks() {
    assert_loses(Rule::CopiesAreListed, NEW_TWICE.marking(FirstMark::Any));
}

#[test]
fn what_a_condemned_pack_holds_looked_up_in_the_index_loses_chunks() {
    assert_loses(Rule::TrailersSay, NEW.fine());
}

#[test]
fn segments_deleted_that_were_not_merged_leave_chunks_unnamed() {
    let broken = without(Rule::OnlyMergedSegmentsGo, NEW_TWICE, Search::ALL);
    assert_eq!(broken, Broken::ChunkUnnamed);
}

#[test]
fn list_removed_before_its_packs_loses_chunks() {
    assert_loses(Rule::ListGoesLast, NEW_TWICE);
}

#[test]
fn forgotten_snapshot_is_back_when_what_hid_it_goes_first() {
    let broken = without(Rule::HiddenUntilGone, REUSE_LONGER, Search::SEEN);
    assert!(matches!(broken, Broken::ChunkLost | Broken::SnapshotBack), "{broken:?}");
}

#[test]
fn forgotten_snapshot_deleted_while_its_commit_may_land_comes_back() {
    let broken = without(Rule::ForgottenWaitsForRecord, NEW.late(&[Kind::Commit]), Search::SEEN);
    assert!(matches!(broken, Broken::ChunkLost | Broken::SnapshotBack), "{broken:?}");
}

#[test]
fn parent_taken_for_visible_because_snapshots_were_read_first_loses_chunks() {
    assert_loses(Rule::ForgottenReadFirst, Setup { passes: [1, 0], ..PARENT });
}
