//! `SNAPSHOT[:PATH]`: a snapshot, and a path within it.
//!
//! ```text
//! 1a2b3c4d   latest   latest:/etc/hosts   1a2b:srv/a:b   :/etc    (the last one beside --at)
//! ```
//!
//! Invariant: the first colon ends the snapshot's name; colons in the path are the path's own.
//! Never here: looking anything up.

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt as _;

use clap::builder::{OsStringValueParser, TypedValueParser};

/// A snapshot by name, and a path within it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Reference {
    /// `latest` or the start of an id, in lower case; empty if only a path was given.
    pub(crate) snapshot: String,
    /// The path's bytes without slashes at its ends; empty for all of the snapshot.
    pub(crate) path: Vec<u8>,
}

impl Reference {
    /// Reads one argument.
    pub(crate) fn parser() -> impl TypedValueParser<Value = Self> {
        OsStringValueParser::new().try_map(Self::parse)
    }

    fn parse(text: OsString) -> Result<Self, String> {
        let bytes = text.into_vec();
        let (name, path) = match bytes.iter().position(|byte| *byte == b':') {
            Some(colon) => (bytes.get(..colon).unwrap_or_default(), bytes.get(colon + 1..).unwrap_or_default()),
            None => (bytes.as_slice(), [].as_slice()),
        };
        let name = std::str::from_utf8(name).unwrap_or("?").to_ascii_lowercase();
        if name != "latest" && !name.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return Err("a snapshot is named by `latest` or the start of its id (hexadecimal)".to_owned());
        }
        Ok(Self { snapshot: name, path: normal(path) })
    }
}

/// The parts between slashes, without empty ones and `.`.
fn normal(path: &[u8]) -> Vec<u8> {
    let parts = path.split(|byte| *byte == b'/').filter(|part| !part.is_empty() && *part != b".");
    parts.collect::<Vec<_>>().join(&b'/')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &[u8]) -> Option<(String, Vec<u8>)> {
        let reference = Reference::parse(OsString::from_vec(text.to_vec())).ok()?;
        Some((reference.snapshot, reference.path))
    }

    fn of(snapshot: &str, path: &[u8]) -> Option<(String, Vec<u8>)> {
        Some((snapshot.to_owned(), path.to_vec()))
    }

    #[test]
    fn only_the_first_colon_divides() {
        assert_eq!(read(b"latest"), of("latest", b""));
        assert_eq!(read(b"1A2b:srv/a:b:c"), of("1a2b", b"srv/a:b:c"));
        assert_eq!(read(b":/etc"), of("", b"etc"));
    }

    #[test]
    fn path_loses_slashes_and_dots_that_mean_nothing_but_keeps_its_bytes() {
        assert_eq!(read(b"latest://srv/./x//y/"), of("latest", b"srv/x/y"));
        assert_eq!(read(b"latest:/"), of("latest", b""));
        assert_eq!(read(b"latest:a\xff/..b"), of("latest", b"a\xff/..b"));
    }

    #[test]
    fn name_that_can_be_no_id_is_refused() {
        assert_eq!(read(b"newest"), None);
        assert_eq!(read(b"/etc/hosts"), None);
        assert_eq!(read(b"\xff:x"), None);
    }
}
