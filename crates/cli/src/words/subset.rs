//! Which part of the data `check` reads: `2/5`, `10%`, `20G`.
//!
//! Invariant: a part is never empty by its words alone: `N` counts from 1, percent and size are above 0.
//! Never here: choosing packs.

use engine::{Shard, Subset};

use super::size;

/// Reads a part of the repository's data.
pub(crate) fn subset(text: &str) -> Result<Subset, String> {
    let text = text.trim();
    if let Some((n, of)) = text.split_once('/') {
        return part(n, of).ok_or_else(|| "a part is N/T with N from 1 to T, such as 2/5".to_owned());
    }
    if let Some(percent) = text.strip_suffix('%') {
        let percent = percent.trim().parse::<f64>().ok().filter(|percent| *percent > 0.0 && *percent <= 100.0);
        return percent.map(Subset::Percent).ok_or_else(|| "a percentage is above 0 and at most 100".to_owned());
    }
    match size(text) {
        Ok(0) => Err("nothing would be read; leave --read-data-subset out instead".to_owned()),
        Ok(len) => Ok(Subset::Len(len)),
        Err(_) => Err("a part is N/T, P% or a size, such as 2/5, 10% or 20G".to_owned()),
    }
}

/// Reads which part of the work is this machine's.
pub(crate) fn shard(text: &str) -> Result<Shard, String> {
    let numbers = text.split_once('/').and_then(|(k, n)| fraction(k, n));
    let wrong = || "a shard is K/N with K from 1 to N, such as 3/16".to_owned();
    numbers.map(|(k, n)| Shard { k, n }).ok_or_else(wrong)
}

fn part(n: &str, of: &str) -> Option<Subset> {
    fraction(n, of).map(|(n, of)| Subset::Part { n, of })
}

fn fraction(n: &str, of: &str) -> Option<(u32, u32)> {
    let (n, of) = (n.trim().parse::<u32>().ok()?, of.trim().parse::<u32>().ok()?);
    (1..=of).contains(&n).then_some((n, of))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn subset_is_a_fraction_a_percentage_or_a_size() {
        assert!(matches!(subset("2/5"), Ok(Subset::Part { n: 2, of: 5 })));
        assert!(matches!(subset("12.5%"), Ok(Subset::Percent(percent)) if percent == 12.5));
        assert!(matches!(subset("20G"), Ok(Subset::Len(len)) if len == 20 << 30));
    }

    #[test]
    fn shard_counts_from_one() {
        assert_eq!(shard("16/16"), Ok(Shard { k: 16, n: 16 }));
        for text in ["0/16", "17/16", "3", "3/", "50%"] {
            assert!(shard(text).is_err(), "{text}");
        }
    }

    #[test]
    fn subset_of_nothing_or_of_more_than_all_is_refused() {
        for text in ["0/5", "6/5", "1/0", "0%", "101%", "x%", "0", "half", "1/2/3", "NaN%"] {
            assert!(subset(text).is_err(), "{text}");
        }
    }
}
