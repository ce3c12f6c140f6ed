//! What a retention rule keeps: so many periods, `7` or `all`, or those of a span, `14d`; and lengths of time, `2h`.
//!
//! Never here: what a period is (see the engine's policy).

use std::time::Duration;

use engine::Count;
use jiff::{SignedDuration, Span};

/// Reads a count.
pub(crate) fn periods(text: &str) -> Result<Count, String> {
    match text.trim() {
        "all" => Ok(Count::All),
        number => number.parse().map(Count::Newest).map_err(|_| "write a whole number, or `all`".to_owned()),
    }
}

/// Reads a span of the calendar that goes forward.
pub(crate) fn span(text: &str) -> Result<Span, String> {
    let span = text.parse::<Span>().ok().filter(|span| span.is_positive());
    span.ok_or_else(|| format!("\"{text}\" is no span such as \"14d\", \"6mo\" or \"7y\""))
}

/// Reads a length of time in units that do not depend on the calendar.
pub(crate) fn duration(text: &str) -> Result<Duration, String> {
    let read = text.parse::<SignedDuration>().ok().and_then(|length| Duration::try_from(length).ok());
    read.ok_or_else(|| format!("\"{text}\" is no length of time such as \"90m\" or \"2h\""))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_go_forward() {
        assert_eq!(span("2 weeks").map(|span| span.get_weeks()), Ok(2));
        for wrong in ["14d ago", "-3d", "0d", "soon"] {
            assert!(span(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn durations_are_of_hours_minutes_and_seconds() {
        assert_eq!(duration("1h 30m"), Ok(Duration::from_secs(5400)));
        for wrong in ["-1h", "1mo", "long", ""] {
            assert!(duration(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn numbers_and_all_are_counts() {
        assert_eq!(periods("7"), Ok(Count::Newest(7)));
        assert_eq!(periods("all"), Ok(Count::All));
        for wrong in ["-1", "seven", "", "1.5"] {
            assert!(periods(wrong).is_err(), "{wrong}");
        }
    }
}
