//! Classes of snapshots by date: yearly, monthly, weekly, daily.
//!
//! ```text
//! of each host and source, the first whole snapshot of a year is yearly, else of a month monthly, of a week weekly,
//! of a day daily; what comes later on the same day has no class
//! ```
//!
//! Invariant: a snapshot's class does not change when later ones come.
//! Never here: what retention keeps.

use std::collections::{HashMap, HashSet};

use engine::SnapshotInfo;
use jiff::Timestamp;
use jiff::tz::TimeZone;
use pack::{SnapshotId, SnapshotState};

/// A snapshot's class, the highest first.
const CLASSES: [&str; 4] = ["yearly", "monthly", "weekly", "daily"];

/// The classes of `snapshots`, which are all of their hosts and sources, in the days and weeks of `zone`.
pub(crate) fn classes(snapshots: &[SnapshotInfo], zone: &TimeZone) -> HashMap<SnapshotId, &'static str> {
    let mut whole: Vec<&SnapshotInfo> = snapshots
        .iter()
        .filter(|info| info.trusted && info.snapshot.structure.state == SnapshotState::Complete)
        .collect();
    whole.sort_by_key(|info| (info.snapshot.structure.started_at, info.id));
    let mut seen = HashSet::new();
    let mut found = HashMap::new();
    for info in whole {
        let structure = &info.snapshot.structure;
        let spans = spans(structure.started_at, zone);
        // All are noted, not the first alone: the first of a year is also the first of its day.
        let is_first = spans.map(|span| seen.insert((&structure.host, &structure.source, span)));
        if let Some((_, class)) = is_first.iter().zip(CLASSES).find(|(is_first, _)| **is_first) {
            found.insert(info.id, class);
        }
    }
    found
}

/// The year, month, week and day of a moment, so that no two are equal by chance.
fn spans(at: i64, zone: &TimeZone) -> [(&'static str, i16, i8, i8); 4] {
    let date = Timestamp::from_nanosecond(i128::from(at)).unwrap_or_default().to_zoned(zone.clone()).date();
    let week = date.iso_week_date();
    [
        ("year", date.year(), 0, 0),
        ("month", date.year(), date.month(), 0),
        ("week", week.year(), week.week(), 0),
        ("day", date.year(), date.month(), date.day()),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn first_of(dates: &[&str]) -> Vec<String> {
        let mut seen = HashSet::new();
        let mut shown = Vec::new();
        for date in dates {
            let at: Timestamp = format!("{date}:00Z").parse().unwrap();
            let at = i64::try_from(at.as_nanosecond()).unwrap();
            let is_first = spans(at, &TimeZone::fixed(jiff::tz::offset(2))).map(|span| seen.insert(span));
            let class = is_first.iter().zip(CLASSES).find(|(is_first, _)| **is_first).map(|(_, class)| class);
            shown.push(class.unwrap_or("").to_owned());
        }
        shown
    }

    #[test]
    fn the_first_of_each_span_has_the_class_of_the_longest() {
        let dates = [
            "2026-11-19T03:00",
            "2026-11-19T20:00",
            "2026-11-19T23:00", // the 20th, two hours further east
            "2026-11-23T03:00",
            "2026-12-01T03:00",
            "2026-12-07T03:00",
            "2027-01-01T03:00",
            "2027-01-02T03:00",
        ];
        let expected = ["yearly", "", "daily", "weekly", "monthly", "weekly", "yearly", "daily"];
        assert_eq!(first_of(&dates), expected);
    }
}
