//! How many periods a retention rule keeps: `7`, or `all`.
//!
//! Never here: what a period is (see the engine's policy).

use engine::Count;

/// Reads a count.
pub(crate) fn periods(text: &str) -> Result<Count, String> {
    match text.trim() {
        "all" => Ok(Count::All),
        number => number.parse().map(Count::Newest).map_err(|_| "write a whole number, or `all`".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_and_all_are_counts() {
        assert_eq!(periods("7"), Ok(Count::Newest(7)));
        assert_eq!(periods("all"), Ok(Count::All));
        for wrong in ["-1", "seven", "", "1.5"] {
            assert!(periods(wrong).is_err(), "{wrong}");
        }
    }
}
