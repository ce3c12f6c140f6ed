//! The named cutters.
//!
//! Invariant: a name means the same cuts for ever; it stands in every manifest.
//! Never here: which content gets which cutter (see [`crate::recognise`]).

/// How a stream is cut.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum CutterKind {
    /// Content-defined, with this average length in bytes: a power of two from 1 KiB to 256 KiB.
    Cdc(u32),
    /// Fixed pages of this length in bytes: a power of two from 512 B to 64 KiB.
    Pages(u32),
    /// A tar archive, member by member: database files on pages of 8 KiB, others content-defined.
    Tar,
}

/// A cutter name that this version does not know.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("no cutter is called {name:?}; there are cdc-1k to cdc-256k, pages-512 to pages-65536, and tar")]
pub struct UnknownCutter {
    /// What was asked for.
    pub name: String,
}

impl CutterKind {
    /// For content of unknown kind: ordinary files, text of no known program.
    pub const DEFAULT: Self = Self::Cdc(64 << 10);
}

impl std::fmt::Display for CutterKind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Cdc(avg_len) => write!(f, "cdc-{}k", avg_len >> 10),
            Self::Pages(len) => write!(f, "pages-{len}"),
            Self::Tar => f.write_str("tar"),
        }
    }
}

impl std::str::FromStr for CutterKind {
    type Err = UnknownCutter;

    fn from_str(name: &str) -> Result<Self, UnknownCutter> {
        // A name has one spelling: `cdc-064k` and `cdc-+64k` are no names, though they are numbers.
        let kind = Self::parse(name).filter(|kind| kind.to_string() == name);
        kind.ok_or_else(|| UnknownCutter { name: name.to_owned() })
    }
}

impl CutterKind {
    fn parse(name: &str) -> Option<Self> {
        if name == "tar" {
            return Some(Self::Tar);
        }
        let power = |text: &str, low: u32, high: u32| {
            text.parse::<u32>().ok().filter(|number| number.is_power_of_two() && (low..=high).contains(number))
        };
        if let Some(kib) = name.strip_prefix("cdc-").and_then(|rest| rest.strip_suffix('k')) {
            return power(kib, 1, 256).map(|kib| Self::Cdc(kib << 10));
        }
        let len = name.strip_prefix("pages-").and_then(|rest| power(rest, 512, 64 << 10));
        len.map(Self::Pages)
    }
}
