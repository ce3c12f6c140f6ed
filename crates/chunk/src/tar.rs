//! Tar headers, as far as cutting needs them.
//!
//! Source: POSIX.1-1988 ustar and the GNU and pax extensions (base-256 sizes, types L, K, x, g).
//!
//! Invariant: a block is taken for a header only when its checksum is right.
//! Never here: names as text, permissions, links.

/// Bytes in a tar block.
pub(crate) const BLOCK_LEN: usize = 512;

/// What a header says about the bytes that follow it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Header {
    /// Bytes of the member's content (before padding to a block).
    pub(crate) len: u64,
    /// The content is a long name or attributes of the next member, not a file.
    pub(crate) is_extension: bool,
    /// The member looks like a Postgres relation: worth cutting on its pages.
    pub(crate) is_relation: bool,
}

/// Reads a header block; none if it is not one.
pub(crate) fn header(block: &[u8; BLOCK_LEN]) -> Option<Header> {
    let (name, rest) = block.split_first_chunk::<100>()?;
    let len = number(rest.get(24..36)?)?;
    let stored = number(rest.get(48..56)?)?;
    let sum: u64 =
        block.iter().enumerate().map(|(at, byte)| if (148..156).contains(&at) { 32 } else { u64::from(*byte) }).sum();
    if stored != sum || sum == 8 * 32 {
        return None;
    }
    let kind = *rest.get(56)?;
    let has_content = !matches!(kind, b'1'..=b'6');
    let len = if has_content { len } else { 0 };
    Some(Header { len, is_extension: matches!(kind, b'L' | b'K' | b'x' | b'g'), is_relation: is_relation(name, len) })
}

/// Octal digits, or big-endian base 256 where the first bit is set.
fn number(field: &[u8]) -> Option<u64> {
    let (first, rest) = field.split_first()?;
    if first & 0x80 != 0 {
        let start = u64::from(first & 0x7f);
        return rest.iter().try_fold(start, |sum, byte| sum.checked_mul(256)?.checked_add(u64::from(*byte)));
    }
    let digits = field.iter().skip_while(|byte| **byte == b' ').take_while(|byte| !matches!(**byte, 0 | b' '));
    digits.copied().try_fold(0u64, |sum, byte| {
        let digit = byte.checked_sub(b'0').filter(|digit| *digit < 8)?;
        sum.checked_mul(8)?.checked_add(u64::from(digit))
    })
}

/// `base/16384/2619`, `global/1262.1`, `base/5/1247_fsm`: whole pages of 8 KiB.
fn is_relation(name: &[u8; 100], len: u64) -> bool {
    let name = name.split(|byte| *byte == 0).next().unwrap_or_default();
    let file = name.rsplit(|byte| *byte == b'/').next().unwrap_or_default();
    let in_cluster = [b"base/".as_slice(), b"global/", b"./base/", b"./global/", b"pg_tblspc/"];
    len > 0
        && len.is_multiple_of(8192)
        && file.first().is_some_and(u8::is_ascii_digit)
        && (in_cluster.iter().any(|prefix| name.starts_with(prefix)) || name.starts_with(b"PG_"))
}
