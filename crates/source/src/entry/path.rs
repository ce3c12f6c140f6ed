//! Paths inside a component, and the order in which a manifest keeps them.
//!
//! Entries are ordered by their parent directory, component by component, then by name:
//!
//! ```text
//! a  b  z     entries of the root, by name
//! a/k  a/m    then the block of each subdirectory: first the entries of `a`,
//! a/k/1       then the blocks inside `a`
//! b/2
//! ```
//!
//! so a directory and a whole subtree are each one contiguous range.
//!
//! Invariant: a path never has an empty component, `.`, `..`, a NUL or a leading slash.
//! Never here: I/O, and any idea of where the component is rooted.

use std::cmp::Ordering;
use std::fmt::{self, Write as _};

use crate::error::SourceError;

/// The longest name of one component, in bytes: what Linux file systems take.
pub const COMPONENT_LEN_MAX: usize = 255;

/// Path relative to the component's root: raw bytes, components separated by `/`. Not UTF-8 in general.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct EntryPath(Vec<u8>);

impl EntryPath {
    /// The raw bytes, `/`-separated.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// Gives the raw bytes back.
    #[must_use]
    pub fn into_bytes(self) -> Vec<u8> {
        self.0
    }

    /// The directory this entry is in, or `None` for an entry of the component's root.
    #[must_use]
    pub fn parent(&self) -> Option<Self> {
        let parent = self.parent_bytes();
        (!parent.is_empty()).then(|| Self(parent.to_vec()))
    }

    /// The bytes of [`EntryPath::parent`] without a copy; empty for an entry of the component's root.
    #[must_use]
    pub fn parent_bytes(&self) -> &[u8] {
        split(&self.0).0
    }

    /// The last component.
    #[must_use]
    pub fn name(&self) -> &[u8] {
        split(&self.0).1
    }

    /// The components from the root down.
    pub fn components(&self) -> impl DoubleEndedIterator<Item = &[u8]> {
        self.0.split(|&byte| byte == b'/')
    }

    /// This path with one more component.
    ///
    /// # Errors
    ///
    /// [`SourceError::PathInvalid`] if `name` cannot be a component.
    pub fn join(&self, name: &[u8]) -> Result<Self, SourceError> {
        Self::of(&self.0, name)
    }

    /// The entry `name` of the directory `parent`, which is a valid path or empty for the root.
    pub(crate) fn of(parent: &[u8], name: &[u8]) -> Result<Self, SourceError> {
        let mut path = Vec::with_capacity(parent.len() + 1 + name.len());
        path.extend_from_slice(parent);
        if !parent.is_empty() {
            path.push(b'/');
        }
        path.extend_from_slice(name);
        match fault_of_component(name) {
            None => Ok(Self(path)),
            Some(fault) => Err(SourceError::PathInvalid { path, fault }),
        }
    }

    /// Bytes which compare like the paths themselves: each parent component and a zero, a zero, the name.
    #[must_use]
    pub fn sort_key(&self) -> Vec<u8> {
        let (parent, name) = split(&self.0);
        let mut key = Vec::with_capacity(self.0.len() + 2);
        key.extend(parent.iter().map(|&byte| separator_as_zero(byte)));
        if !parent.is_empty() {
            key.push(0);
        }
        key.push(0);
        key.extend_from_slice(name);
        key
    }
}

impl TryFrom<Vec<u8>> for EntryPath {
    type Error = SourceError;

    fn try_from(path: Vec<u8>) -> Result<Self, SourceError> {
        match path.split(|&byte| byte == b'/').find_map(fault_of_component) {
            None => Ok(Self(path)),
            Some(fault) => Err(SourceError::PathInvalid { path, fault }),
        }
    }
}

impl Ord for EntryPath {
    fn cmp(&self, other: &Self) -> Ordering {
        let (parent, name) = split(&self.0);
        let (other_parent, other_name) = split(&other.0);
        cmp_directories(parent, other_parent).then_with(|| name.cmp(other_name))
    }
}

impl PartialOrd for EntryPath {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl fmt::Display for EntryPath {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        escaped(&self.0).fmt(out)
    }
}

impl fmt::Debug for EntryPath {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "\"{}\"", escaped(&self.0))
    }
}

/// Shows bytes on one line without loss: `\n`, `\t`, `\r`, `\\`, and `\xNN` for each byte which is not UTF-8
/// or belongs to a character that would control the terminal.
#[must_use]
pub fn escaped(bytes: &[u8]) -> Escaped<'_> {
    Escaped(bytes)
}

/// What [`escaped`] shows.
#[derive(Debug, Clone, Copy)]
pub struct Escaped<'a>(&'a [u8]);

impl fmt::Display for Escaped<'_> {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        for chunk in self.0.utf8_chunks() {
            chunk.valid().chars().try_for_each(|char| write_char(out, char))?;
            write_hex(out, chunk.invalid())?;
        }
        Ok(())
    }
}

/// The bytes of which [`escaped`] shows this; none if it shows nothing so.
#[must_use]
pub fn unescaped(shown: &[u8]) -> Option<Vec<u8>> {
    let (mut bytes, mut rest) = (Vec::with_capacity(shown.len()), shown);
    while let [first, after @ ..] = rest {
        rest = after;
        if *first != b'\\' {
            bytes.push(*first);
            continue;
        }
        let (byte, after) = match rest {
            [b'\\', after @ ..] => (b'\\', after),
            [b'n', after @ ..] => (b'\n', after),
            [b't', after @ ..] => (b'\t', after),
            [b'r', after @ ..] => (b'\r', after),
            [b'x', high, low, after @ ..] => (hex_digit(*high)? << 4 | hex_digit(*low)?, after),
            _ => return None,
        };
        bytes.push(byte);
        rest = after;
    }
    // One way to write each path: else a path that was typed as it is might be taken for a shown one.
    (escaped(&bytes).to_string().as_bytes() == shown).then_some(bytes)
}

fn hex_digit(digit: u8) -> Option<u8> {
    char::from(digit).to_digit(16).and_then(|digit| u8::try_from(digit).ok())
}

fn write_char(out: &mut fmt::Formatter<'_>, char: char) -> fmt::Result {
    match char {
        '\\' => out.write_str("\\\\"),
        '\n' => out.write_str("\\n"),
        '\t' => out.write_str("\\t"),
        '\r' => out.write_str("\\r"),
        char if turns_text(char) => write_hex(out, char.encode_utf8(&mut [0; 4]).as_bytes()),
        char => out.write_char(char),
    }
}

fn write_hex(out: &mut fmt::Formatter<'_>, bytes: &[u8]) -> fmt::Result {
    bytes.iter().try_for_each(|byte| write!(out, "\\x{byte:02x}"))
}

/// Characters which a terminal obeys instead of showing: controls, line separators, direction marks.
fn turns_text(char: char) -> bool {
    char.is_control()
        || matches!(char, '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{feff}')
}

fn split(path: &[u8]) -> (&[u8], &[u8]) {
    match path.iter().rposition(|&byte| byte == b'/') {
        Some(slash) => (path.get(..slash).unwrap_or_default(), path.get(slash + 1..).unwrap_or_default()),
        None => (&[], path),
    }
}

/// Orders two directories by their components: the separator is less than any byte of a name.
fn cmp_directories(one: &[u8], other: &[u8]) -> Ordering {
    match one.iter().zip(other).find(|(a, b)| a != b) {
        Some((&a, &b)) => separator_as_zero(a).cmp(&separator_as_zero(b)),
        None => one.len().cmp(&other.len()),
    }
}

fn separator_as_zero(byte: u8) -> u8 {
    if byte == b'/' { 0 } else { byte }
}

fn fault_of_component(name: &[u8]) -> Option<&'static str> {
    match name {
        [] => Some("it is empty or has an empty component"),
        b"." | b".." => Some("a component is . or .."),
        name if name.len() > COMPONENT_LEN_MAX => Some("a component is longer than 255 bytes"),
        name if name.contains(&0) => Some("it has a NUL byte"),
        name if name.contains(&b'/') => Some("a component has a slash"),
        _ => None,
    }
}

#[cfg(test)]
mod tests;
