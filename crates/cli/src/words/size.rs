//! Sizes and rates as people write them: `100M`, `1.5 GiB`, `10MB`, `512K/s`.
//!
//! `K`, `M`, … and `KiB`, `MiB`, … are powers of 1024; `KB`, `MB`, … are powers of 1000; no unit means bytes.
//!
//! Invariant: no value is rounded up past what was written.
//! Never here: showing a size (see `human`).

use std::num::NonZeroU64;

/// Reads a number of bytes.
pub(crate) fn size(text: &str) -> Result<u64, String> {
    let text = text.trim();
    let unit_start = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, unit) = text.split_at(unit_start);
    let wrong = || "a size is a number and a unit, such as 500K, 1.5GiB or 10MB".to_owned();
    let unit = unit_len(unit.trim()).ok_or_else(wrong)?;
    let len = match number.parse::<u64>() {
        Ok(number) => number.checked_mul(unit),
        Err(_) => number.parse::<f64>().ok().map(|number| (number * unit as f64) as u64),
    };
    len.filter(|len| *len < u64::MAX).ok_or_else(wrong)
}

/// Reads a number of bytes per second; `/s` may follow.
pub(crate) fn rate(text: &str) -> Result<NonZeroU64, String> {
    let len = size(text.trim().trim_end_matches("/s"))?;
    NonZeroU64::new(len).ok_or_else(|| "a rate of 0 would never end; leave the limit out instead".to_owned())
}

/// Bytes in one unit.
fn unit_len(unit: &str) -> Option<u64> {
    let lower = unit.to_ascii_lowercase();
    let (prefix, base) = match lower.strip_suffix("ib") {
        Some(prefix) if !prefix.is_empty() => (prefix, 1024_u64),
        _ => match lower.strip_suffix('b') {
            Some(prefix) => (prefix, 1000),
            None => (lower.strip_suffix('i').unwrap_or(&lower), 1024),
        },
    };
    let power = ["", "k", "m", "g", "t", "p"].iter().position(|known| *known == prefix)?;
    base.checked_pow(u32::try_from(power).ok()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn units_are_binary_unless_they_end_in_a_plain_b() {
        assert_eq!(size("100"), Ok(100));
        assert_eq!(size("7b"), Ok(7));
        assert_eq!(size("64k"), Ok(64 << 10));
        assert_eq!(size("100M"), Ok(100 << 20));
        assert_eq!(size("1.5 GiB"), Ok(3 << 29));
        assert_eq!(size("2Gi"), Ok(2 << 30));
        assert_eq!(size("10MB"), Ok(10_000_000));
    }

    #[test]
    fn what_is_no_size_is_refused() {
        for text in ["", "M", "-1", "1X", "1.2.3", "1e3", "99999999P", "ib"] {
            assert!(size(text).is_err(), "{text}");
        }
    }

    #[test]
    fn rate_may_say_per_second_but_not_zero() {
        assert_eq!(rate("1M/s").map(NonZeroU64::get), Ok(1 << 20));
        assert!(rate("0").is_err());
    }
}
