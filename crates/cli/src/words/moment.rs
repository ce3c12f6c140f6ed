//! A moment as people name it: `2026-11-19 14:30`, `yesterday`, `2 days ago`, RFC 3339.
//!
//! A moment is asked for to find what was there *at* it, so a coarse one means the last instant that it covers: a day
//! its end, `14:30` the end of that minute. What a listing shows to the second is so found by that second.
//!
//! Invariant: without a zone the words mean the zone of `now`.
//! Never here: the clock.

use jiff::civil::{Date, Time};
use jiff::{Span, Timestamp, ToSpan as _, Zoned};

/// Words that name no moment.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} names no moment")]
pub(crate) struct UnknownMoment {
    text: String,
}

/// Nanoseconds of a second that is given without a fraction: all of it.
const LAST_NANO: i32 = 999_999_999;

/// Reads `text`, said at `now`, as the last instant which it covers.
pub(crate) fn moment(text: &str, now: &Zoned) -> Result<Timestamp, UnknownMoment> {
    let words = text.trim().to_ascii_lowercase();
    let found = with_zone(text.trim()).or_else(|| relative(&words, now)).or_else(|| local(&words, now));
    found.ok_or_else(|| UnknownMoment { text: text.to_owned() })
}

/// RFC 3339, also with a zone's name in brackets.
fn with_zone(text: &str) -> Option<Timestamp> {
    let zoned = text.parse::<Zoned>().map(|zoned| zoned.timestamp());
    let at = zoned.or_else(|_| text.parse::<Timestamp>()).ok()?;
    if text.contains(['.', ',']) { Some(at) } else { at.checked_add(LAST_NANO.nanoseconds()).ok() }
}

/// `now` and whatever ends in `ago`.
fn relative(words: &str, now: &Zoned) -> Option<Timestamp> {
    if words == "now" {
        return Some(now.timestamp());
    }
    let one = words.strip_prefix("an ").or_else(|| words.strip_prefix("a "));
    let words = one.map_or_else(|| words.to_owned(), |unit| format!("1 {unit}"));
    let back: Span = words.ends_with(" ago").then(|| words.parse().ok())??;
    now.checked_add(back).ok().map(|then| then.timestamp())
}

/// A day, a time of day, or both, by the clock on the wall.
fn local(words: &str, now: &Zoned) -> Option<Timestamp> {
    let (day, time) =
        match words.split_once([' ', 't']).filter(|(day, _)| day.starts_with(|c: char| c.is_ascii_digit())) {
            Some((day, time)) => (day, time.trim_start()),
            None if words.contains(':') && !words.contains(' ') => ("today", words),
            None => words.split_once(' ').unwrap_or((words, "")),
        };
    let local = date(day, now)?.to_datetime(time_of_day(time)?);
    local.to_zoned(now.time_zone().clone()).ok().map(|zoned| zoned.timestamp())
}

fn date(day: &str, now: &Zoned) -> Option<Date> {
    match day {
        "today" => Some(now.date()),
        "yesterday" => now.date().yesterday().ok(),
        day if day.len() == "2026-11-19".len() => day.parse().ok(),
        _ => None,
    }
}

/// The last instant of `14:30` or `14:30:05`, or the very one of `14:30:05.25`; the day's last for no words.
fn time_of_day(words: &str) -> Option<Time> {
    if words.is_empty() {
        return Some(Time::MAX);
    }
    let padded = if words.find(':') == Some(1) { format!("0{words}") } else { words.to_owned() };
    let time: Time = padded.parse().ok()?;
    match (padded.matches(':').count(), padded.contains('.')) {
        (1, false) => Time::new(time.hour(), time.minute(), 59, LAST_NANO).ok(),
        (2, false) => Time::new(time.hour(), time.minute(), time.second(), LAST_NANO).ok(),
        (2, true) => Some(time),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn now() -> Zoned {
        "2026-11-21T09:15:30.5+01:00[Europe/Berlin]".parse().expect("a moment")
    }

    fn read(text: &str) -> String {
        moment(text, &now()).expect(text).to_string()
    }

    #[test]
    fn moments_with_a_zone_are_read_to_the_precision_they_are_given_in() {
        assert_eq!(read("2026-11-19T14:30:00.25Z"), "2026-11-19T14:30:00.25Z");
        assert_eq!(read("2026-11-19T14:30:00+01:00"), "2026-11-19T13:30:00.999999999Z");
        assert_eq!(read("2026-11-19T14:30:00-05:00[America/New_York]"), "2026-11-19T19:30:00.999999999Z");
    }

    #[test]
    fn moments_without_a_zone_are_local_and_mean_their_last_instant() {
        assert_eq!(read("2026-11-19 14:30"), "2026-11-19T13:30:59.999999999Z");
        assert_eq!(read("2026-11-19T14:30:05"), "2026-11-19T13:30:05.999999999Z");
        assert_eq!(read("2026-11-19 9:05"), "2026-11-19T08:05:59.999999999Z");
        assert_eq!(read("2026-11-19 14:30:05.125"), "2026-11-19T13:30:05.125Z");
        assert_eq!(read("2026-11-19"), "2026-11-19T22:59:59.999999999Z");
        assert_eq!(read("2026-07-01"), "2026-07-01T21:59:59.999999999Z");
    }

    #[test]
    fn days_have_names() {
        assert_eq!(read("now"), "2026-11-21T08:15:30.5Z");
        assert_eq!(read("today"), "2026-11-21T22:59:59.999999999Z");
        assert_eq!(read("Yesterday"), "2026-11-20T22:59:59.999999999Z");
        assert_eq!(read("yesterday 14:30"), "2026-11-20T13:30:59.999999999Z");
        assert_eq!(read("08:00"), "2026-11-21T07:00:59.999999999Z");
    }

    #[test]
    fn ago_counts_back_from_now_by_the_calendar() {
        assert_eq!(read("2 days ago"), "2026-11-19T08:15:30.5Z");
        assert_eq!(read("an hour ago"), "2026-11-21T07:15:30.5Z");
        assert_eq!(read("1 month ago"), "2026-10-21T07:15:30.5Z");
        assert_eq!(read("1w 2d ago"), "2026-11-12T08:15:30.5Z");
    }

    #[test]
    fn words_that_name_no_moment_are_refused() {
        for text in ["", "soon", "2 days", "2026-13-01", "2026-11-19 25:00", "14", "2026-11-19 14", "ago", "tomorrow"] {
            assert!(moment(text, &now()).is_err(), "{text}");
        }
    }
}
