//! `SNAPSHOT[:PATH]`: a snapshot, and a path within it.
//!
//! ```text
//! 1a2b3c4d   latest   latest:/etc/hosts   1a2b:srv/a:b   :/etc    db    (the last two beside --at)
//! ```
//!
//! Invariant: the first colon ends the snapshot's name; colons in the path are the path's own.
//! Never here: looking anything up.

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt as _;

use clap::builder::{OsStringValueParser, TypedValueParser};

/// How a snapshot is named.
pub(crate) const NAMES: &str = "a snapshot is named by `latest` or the start of its id (hexadecimal)";

/// A snapshot by name, and a path within it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Reference {
    /// As it was written: `latest`, the start of an id, or a component; empty if only a path was given.
    pub(crate) name: String,
    /// The path's bytes without slashes at its ends; empty for all of the snapshot.
    pub(crate) path: Vec<u8>,
    /// Whether a colon came before it.
    pub(crate) has_path: bool,
}

impl Reference {
    /// `latest` or the start of an id, in lower case; none if the name can be neither.
    pub(crate) fn snapshot(&self) -> Option<String> {
        let name = self.name.to_ascii_lowercase();
        (name == "latest" || name.bytes().all(|byte| byte.is_ascii_hexdigit())).then_some(name)
    }

    /// Reads one argument.
    pub(crate) fn parser() -> impl TypedValueParser<Value = Self> {
        OsStringValueParser::new().try_map(Self::parse)
    }

    fn parse(text: OsString) -> Result<Self, String> {
        let bytes = text.into_vec();
        let colon = bytes.iter().position(|byte| *byte == b':');
        let (name, path) = match colon {
            Some(colon) => (bytes.get(..colon).unwrap_or_default(), bytes.get(colon + 1..).unwrap_or_default()),
            None => (bytes.as_slice(), [].as_slice()),
        };
        let name = std::str::from_utf8(name).unwrap_or("/").to_owned();
        let reference = Self { name, path: normal(path), has_path: colon.is_some() };
        // Whether a component is meant depends on the other arguments; none is called like a path.
        if reference.snapshot().is_none() && (reference.has_path || reference.name.contains('/')) {
            return Err(NAMES.to_owned());
        }
        Ok(reference)
    }
}

/// The parts between slashes, without empty ones and `.`.
pub(crate) fn normal(path: &[u8]) -> Vec<u8> {
    let parts = path.split(|byte| *byte == b'/').filter(|part| !part.is_empty() && *part != b".");
    parts.collect::<Vec<_>>().join(&b'/')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &[u8]) -> Option<(String, Vec<u8>)> {
        let reference = Reference::parse(OsString::from_vec(text.to_vec())).ok()?;
        Some((reference.snapshot()?, reference.path))
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
    fn name_of_a_component_keeps_its_letters_and_is_no_snapshot() {
        let read = |text: &str| Reference::parse(text.into()).expect("reads");
        assert_eq!((read("Web").name.as_str(), read("Web").snapshot()), ("Web", None));
        assert_eq!((read("DB").name.as_str(), read("DB").snapshot()), ("DB", Some("db".to_owned())));
        assert!(Reference::parse("web:/etc".into()).is_err());
    }

    #[test]
    fn name_that_can_be_no_id_is_refused() {
        assert_eq!(read(b"newest"), None);
        assert_eq!(read(b"/etc/hosts"), None);
        assert_eq!(read(b"\xff:x"), None);
    }
}
