//! What policies keep, on timelines that fit on a line.

use jiff::civil::{DateTime, date};
use jiff::tz::TimeZone;
use jiff::{Span, ToSpan as _, Zoned};

use super::policy::{Class, Count, Member, Policy};

/// Noon of the second of January 2026, a Friday, and whole hours before it.
fn hours_ago(hours: i64) -> Zoned {
    zoned(date(2026, 1, 2).at(12, 0, 0, 0)) - hours.hours()
}

fn zoned(at: DateTime) -> Zoned {
    at.to_zoned(TimeZone::UTC).expect("a moment")
}

fn whole(at: Zoned) -> Member<'static> {
    Member { at, tags: &[], is_whole: true }
}

fn counting(counts: &[(Class, u32)]) -> Policy {
    let counts = counts.iter().map(|(class, count)| (*class, Count::Newest(*count))).collect();
    Policy { counts, ..Policy::default() }
}

/// The places in `group` of what `policy` keeps.
fn kept(policy: &Policy, group: &[Member<'_>]) -> Vec<usize> {
    let reasons = policy.reasons(group, &hours_ago(0));
    reasons.iter().enumerate().filter(|(_, reasons)| !reasons.is_empty()).map(|(at, _)| at).collect()
}

#[test]
fn policy_that_says_nothing_keeps_everything() {
    let group: Vec<_> = (0..5).map(|hours| whole(hours_ago(hours))).collect();
    assert_eq!(kept(&Policy::default(), &group), [0, 1, 2, 3, 4]);
    assert_eq!(kept(&counting(&[(Class::Daily, 0)]), &group), [0, 1, 2, 3, 4]);
}

#[test]
fn newest_of_each_day_stands_for_it() {
    // 12:00, 06:00, 00:00 of today, then 18:00, 12:00, … of the days before.
    let group: Vec<_> = (0..20).map(|at| whole(hours_ago(6 * at))).collect();
    assert_eq!(kept(&counting(&[(Class::Daily, 3)]), &group), [0, 3, 7]);
    assert_eq!(kept(&counting(&[(Class::Last, 2), (Class::Daily, 2)]), &group), [0, 1, 3]);
}

#[test]
fn oldest_is_kept_while_a_rule_has_any_left() {
    let group: Vec<_> = (0..6).map(|at| whole(hours_ago(6 * at))).collect();
    // Days: 0, 3 are the newest of theirs; 5 is the oldest, and one yearly is left for it.
    assert_eq!(kept(&counting(&[(Class::Daily, 2)]), &group), [0, 3]);
    assert_eq!(kept(&counting(&[(Class::Daily, 3)]), &group), [0, 3, 5]);
}

#[test]
fn weeks_begin_on_monday_and_quarters_in_january() {
    let days = [date(2026, 1, 2), date(2025, 12, 29), date(2025, 12, 28), date(2025, 10, 1), date(2025, 9, 30)];
    let group: Vec<_> = days.into_iter().map(|day| whole(zoned(day.at(1, 0, 0, 0)))).collect();
    assert_eq!(kept(&counting(&[(Class::Weekly, 2)]), &group), [0, 2]);
    assert_eq!(kept(&counting(&[(Class::Quarterly, 2)]), &group), [0, 1]);
    assert_eq!(kept(&counting(&[(Class::Quarterly, 3)]), &group), [0, 1, 4]);
    assert_eq!(kept(&counting(&[(Class::Yearly, 1), (Class::Monthly, 2)]), &group), [0, 1]);
}

#[test]
fn span_counts_from_the_newest_that_is_not_of_the_future() {
    let within = |class, span: Span| Policy { within: vec![(class, span)], ..Policy::default() };
    let group = [whole(hours_ago(-48)), whole(hours_ago(0)), whole(hours_ago(23)), whole(hours_ago(24))];
    assert_eq!(kept(&within(Class::Last, 1.day()), &group), [0, 1, 2]);
    // 13:00 of yesterday stands for that day, and 12:00 is a day ago, not within it.
    assert_eq!(kept(&within(Class::Daily, 1.day()), &group), [0, 1, 2]);
}

#[test]
fn span_that_has_no_beginning_keeps_all_and_a_clock_that_is_behind_keeps_what_is_newer() {
    let within = |span: Span| Policy { within: vec![(Class::Last, span)], ..Policy::default() };
    let group = [whole(hours_ago(-3)), whole(hours_ago(-2)), whole(hours_ago(-1))];
    assert_eq!(kept(&within(1.day()), &group), [0, 1, 2]);
    assert_eq!(kept(&within(19_000.years()), &group), [0, 1, 2]);
}

#[test]
fn all_tags_of_a_list_are_needed() {
    let (both, one) = (["a".to_owned(), "b".to_owned()], ["a".to_owned()]);
    let group = [Member { tags: &one, ..whole(hours_ago(0)) }, Member { tags: &both, ..whole(hours_ago(1)) }];
    let policy = Policy { tags: vec![both.to_vec()], ..Policy::default() };
    assert_eq!(kept(&policy, &group), [1]);
    assert_eq!(policy.reasons(&group, &hours_ago(0))[1], ["tagged a and b"]);
}

#[test]
fn snapshot_that_lacks_a_component_evicts_none() {
    let lacking = |hours| Member { is_whole: false, ..whole(hours_ago(hours)) };
    let group = [lacking(0), lacking(1), whole(hours_ago(2)), whole(hours_ago(3)), lacking(4), whole(hours_ago(40))];
    assert_eq!(kept(&counting(&[(Class::Last, 1)]), &group), [0, 1, 2]);
    assert_eq!(kept(&counting(&[(Class::Daily, 1)]), &group), [0, 1, 2]);
}

#[test]
fn unlimited_class_keeps_one_of_each_period() {
    let group: Vec<_> = (0..8).map(|at| whole(hours_ago(12 * at))).collect();
    let policy = Policy { counts: vec![(Class::Daily, Count::All)], ..Policy::default() };
    // 12:00 and 00:00 of each day; the oldest is kept besides.
    assert_eq!(kept(&policy, &group), [0, 2, 4, 6, 7]);
}
