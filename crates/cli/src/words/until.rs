//! How long something is held: until `2033-11-19`, or for `7y`.
//!
//! Invariant: a moment that has passed holds nothing and is refused.
//! Never here: the clock.

use jiff::{Span, Timestamp, Zoned};

use super::moment;

/// Reads `text`, said at `now`.
pub(crate) fn until(text: &str, now: &Zoned) -> Result<Timestamp, String> {
    let span = text.parse::<Span>().ok().and_then(|span| now.checked_add(span).ok());
    let at = match span {
        Some(at) => at.timestamp(),
        None => moment(text, now)
            .map_err(|_| format!("{text:?} is neither a date such as 2033-11-19 nor a span such as 7y"))?,
    };
    if at > now.timestamp() { Ok(at) } else { Err(format!("{text:?} has passed")) }
}

#[cfg(test)]
mod tests {
    use jiff::tz::TimeZone;

    use super::*;

    fn read(text: &str) -> Result<String, String> {
        let now = "2026-11-21T10:00:00Z".parse::<Timestamp>().expect("a time").to_zoned(TimeZone::UTC);
        until(text, &now).map(|at| at.to_string())
    }

    #[test]
    fn dates_and_spans_are_read() {
        assert_eq!(read("7y").as_deref(), Ok("2033-11-21T10:00:00Z"));
        assert_eq!(read("2 weeks").as_deref(), Ok("2026-12-05T10:00:00Z"));
        assert_eq!(read("2033-11-19").as_deref(), Ok("2033-11-19T23:59:59.999999999Z"));
    }

    #[test]
    fn what_has_passed_holds_nothing() {
        for wrong in ["2025-01-01", "yesterday", "-3d", "3d ago", "soon", ""] {
            assert!(read(wrong).is_err(), "{wrong}");
        }
    }
}
