//! What a retention rule keeps: so many periods, `7` or `all`, or those of a span, `14d`; and lengths of time, `2h`.
//!
//! Never here: what a period is (see the engine's policy).

use std::time::Duration;

use engine::Count;
use jiff::{SignedDuration, Span, SpanRelativeTo};

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

/// Reads how long something may last or how old it may be: a span of which a day has 24 hours.
pub(crate) fn lasting(text: &str) -> Result<Duration, String> {
    let wrong = || format!("\"{text}\" is no length of time such as \"30d\", \"1h\" or \"90m\"");
    let span = span(text).map_err(|_| wrong())?;
    let exact = span.to_duration(SpanRelativeTo::days_are_24_hours()).map_err(|_| wrong())?;
    Duration::try_from(exact).map_err(|_| wrong())
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
    fn lengths_of_time_are_exact() {
        let hours = |text| lasting(text).map(|len| len.as_secs() / 3600);
        assert_eq!((hours("30d"), hours("1h"), hours("2 weeks")), (Ok(720), Ok(1), Ok(336)));
        assert_eq!(lasting("500ms"), Ok(Duration::from_millis(500)));
        for wrong in ["1y", "6mo", "0h", "-1h", "30", "soon"] {
            assert!(lasting(wrong).is_err_and(|error| error.contains(wrong)), "{wrong}");
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
