//! How much may stay that nothing needs.
//!
//! Never here: what it is a part of.

use crate::words::size;

/// A part, or an amount.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum RestLimit {
    /// Of what is used.
    Percent(f64),
    /// Bytes.
    Len(u64),
}

/// Reads `5%`, `0` or `2GiB`.
pub(crate) fn rest_limit(text: &str) -> Result<RestLimit, String> {
    if let Some(percent) = text.trim().strip_suffix('%') {
        let percent = percent.trim().parse::<f64>().ok().filter(|percent| percent.is_finite() && *percent >= 0.0);
        return percent.map(RestLimit::Percent).ok_or_else(|| "a percentage is 0 or more, such as 5%".to_owned());
    }
    size(text).map(RestLimit::Len).map_err(|_| "a limit is a percentage or a size, such as 5% or 2GiB".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limit_is_a_percentage_or_a_size() {
        assert_eq!(rest_limit("5%"), Ok(RestLimit::Percent(5.0)));
        assert_eq!(rest_limit("0"), Ok(RestLimit::Len(0)));
        assert_eq!(rest_limit("2GiB"), Ok(RestLimit::Len(2 << 30)));
        for wrong in ["-1%", "NaN%", "%", "much", ""] {
            assert!(rest_limit(wrong).is_err(), "{wrong}");
        }
    }
}
