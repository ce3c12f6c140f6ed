//! A place in the write-ahead log.

use std::fmt;

/// A place in the write-ahead log, in bytes from its beginning.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Lsn(pub u64);

impl Lsn {
    /// From two hexadecimal numbers with a slash, padded or not; `None` if it is something else.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let (high, low) = text.trim().split_once('/')?;
        let number = |text: &str| u32::from_str_radix(text, 16).ok();
        Some(Self((u64::from(number(high)?) << 32) | u64::from(number(low)?)))
    }
}

impl fmt::Display for Lsn {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{:X}/{:X}", self.0 >> 32, self.0 & 0xffff_ffff)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_read_padded_or_not_and_shown_as_postgres_does() {
        assert_eq!(Lsn::parse("16/B374D848"), Some(Lsn(0x16_B374_D848)));
        assert_eq!(Lsn::parse("00000016/0000D848").unwrap().to_string(), "16/D848");
        assert_eq!((Lsn::parse("16"), Lsn::parse("x/1"), Lsn::parse("1/123456789")), (None, None, None));
    }
}
