//! Retention beside restic's: thousands of decisions that were recorded from it, see `tests/golden/retention/README.md`.
//!
//! One difference is wanted. A month or a year before a day that the month there lacks is that month's last day here, and
//! for restic a day of the month after it: a month before the 31st of March is the 28th of February, and not the 3rd of March.
//! So a span never keeps less than what it says.
//!
//! Invariant: every other difference fails, and so does a recording in which the wanted one never comes up.
//! Never here: snapshots that lack a component and those whose time is not believed, which restic does not tell apart.

use jiff::tz::TimeZone;
use jiff::{Span, Timestamp};

use super::policy::{Class, Count, Member, Policy};

const RECORDED: &str = include_str!("../../../../tests/golden/retention/kept.txt");
/// When the recording counts as having been made: what began later is of the future.
const NOW: i64 = 1_796_000_000;

/// When a snapshot began, and its tags; a timeline has them newest first.
type Moment = (Timestamp, Vec<String>);

fn number<T: std::str::FromStr>(text: &str) -> T {
    text.parse().unwrap_or_else(|_| panic!("{text:?} is no number"))
}

fn timeline(words: &[&str]) -> Vec<Moment> {
    let mut at: i64 = number(words[0]);
    let mut found = vec![(at, Vec::new())];
    for word in &words[1..] {
        match word.split_once(':') {
            Some((place, tags)) => found[number::<usize>(place)].1 = tags.split(',').map(str::to_owned).collect(),
            None => {
                at -= number::<i64>(word);
                found.push((at, Vec::new()));
            }
        }
    }
    found.into_iter().map(|(at, tags)| (Timestamp::from_second(at).expect("a time"), tags)).collect()
}

fn policy(rules: &[&str]) -> Policy {
    let mut policy = Policy::default();
    for rule in rules {
        let (name, value) = rule.split_once('=').expect("a rule");
        let class = |name: &str| Class::ALL.into_iter().find(|class| class.name() == name).expect(name);
        match (name, name.strip_prefix("within-")) {
            ("tag", _) => policy.tags.push(value.split(',').map(str::to_owned).collect()),
            ("within", _) => policy.within.push((Class::Last, value.parse().expect(value))),
            (_, Some(name)) => policy.within.push((class(name), value.parse().expect(value))),
            _ if value == "all" => policy.counts.push((class(name), Count::All)),
            _ => policy.counts.push((class(name), Count::Newest(number(value)))),
        }
    }
    policy
}

/// What is kept, as a mask in which the newest is bit 0.
fn kept(policy: &Policy, timeline: &[Moment], zone: &TimeZone) -> u64 {
    let members = timeline.iter();
    let members = members.map(|(at, tags)| Member { at: at.to_zoned(zone.clone()), tags, is_whole: true });
    let members: Vec<Member<'_>> = members.collect();
    let now = Timestamp::from_second(NOW).expect("a time").to_zoned(zone.clone());
    let reasons = policy.reasons(&members, &now);
    reasons.iter().enumerate().filter(|(_, reasons)| !reasons.is_empty()).map(|(at, _)| 1_u64 << at).sum()
}

/// Whether the difference is the wanted one.
fn is_wanted(policy: &Policy, timeline: &[Moment], zone: &TimeZone, (ours, theirs): (u64, u64)) -> bool {
    let is_long = |span: &Span| span.get_months() != 0 || span.get_years() != 0;
    let newest = timeline.iter().map(|(at, _)| at).find(|at| at.as_second() <= NOW);
    let is_late = newest.is_some_and(|at| at.to_zoned(zone.clone()).day() > 28);
    ours & theirs == theirs && is_late && policy.within.iter().any(|(_, span)| is_long(span))
}

#[test]
fn policies_keep_what_restic_keeps_on_thousands_of_timelines() {
    let (mut decided, mut wanted) = (0, 0);
    let (mut zone, mut timelines, mut rules) = (TimeZone::UTC, Vec::new(), Vec::new());
    for line in RECORDED.lines() {
        let (what, rest) = line.split_once(' ').expect("words");
        let words: Vec<&str> = rest.split(' ').collect();
        match what {
            "zone" => (zone, timelines) = (TimeZone::get(words[0]).expect("a zone"), Vec::new()),
            "timeline" => timelines.push(timeline(&words)),
            "policy" => rules = words,
            "kept" => {
                let policy = policy(&rules);
                assert_eq!(words.len(), timelines.len());
                for (timeline, theirs) in timelines.iter().zip(words) {
                    let theirs = u64::from_str_radix(theirs, 16).expect("a mask");
                    let ours = kept(&policy, timeline, &zone);
                    decided += 1;
                    if ours != theirs {
                        let is_wanted = is_wanted(&policy, timeline, &zone, (ours, theirs));
                        let context =
                            || format!("{rules:?} on {timeline:?} in {zone:?}: {ours:b}, and restic {theirs:b}");
                        assert!(is_wanted, "{}", context());
                        wanted += 1;
                    }
                }
            }
            other => panic!("{other:?} begins no line of a recording"),
        }
    }
    assert!(decided >= 5000 && (1..decided / 50).contains(&wanted), "{wanted} of {decided} differ");
}
