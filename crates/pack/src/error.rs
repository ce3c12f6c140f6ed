//! Why an object could not be read.
//!
//! Invariant: nothing here is transient; retrying is `store`'s work.
//! Never here: the object's name, which the caller knows and adds.

use seal::{ErrorKind, SealError};

/// Why bytes are not the object they should be.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PackError {
    /// Cut short, or never an object of this kind.
    #[error("is cut short: {len} bytes do not hold {what}")]
    Truncated {
        /// Bytes found.
        len: usize,
        /// What was looked for.
        what: &'static str,
    },
    /// The first or last bytes are not ours.
    #[error("is not {what} of a backstay repository")]
    Magic {
        /// What was looked for.
        what: &'static str,
    },
    /// Written by a later version.
    #[error("has format version {version}; this program reads up to {}", crate::FORMAT_VERSION)]
    Version {
        /// The version found.
        version: u16,
    },
    /// Another kind of object under this name.
    #[error("is an object of kind {found}, not of kind {expected}")]
    Kind {
        /// Kind byte found.
        found: u8,
        /// Kind byte expected.
        expected: u8,
    },
    /// Does not open, or the signature is wrong.
    #[error("{what} {source}")]
    Seal {
        /// Which part.
        what: &'static str,
        /// Why.
        source: SealError,
    },
    /// Opens but contradicts itself.
    #[error("contradicts itself: {what}")]
    Inconsistent {
        /// Which rule is broken.
        what: &'static str,
    },
    /// Sealed when this key was not, or no longer, among those that the epoch was granted to.
    #[error("is sealed in epoch {epoch}, which this key does not know")]
    UnknownEpoch {
        /// The epoch.
        epoch: u32,
    },
    /// Longer than any object of its kind can be.
    #[error("is {len} bytes, and no object of its kind is longer than {len_max}")]
    TooLong {
        /// Bytes found.
        len: u64,
        /// Bytes allowed.
        len_max: u64,
    },
    /// The name is the hash of other bytes.
    #[error("does not hash to its name")]
    Hash,
}

impl PackError {
    /// How to take this error (STYLE 19).
    #[must_use]
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Version { .. } | Self::UnknownEpoch { .. } => ErrorKind::Invalid,
            Self::Seal { source, .. } => source.kind(),
            _ => ErrorKind::Damaged,
        }
    }

    pub(crate) fn seal(what: &'static str) -> impl FnOnce(SealError) -> Self {
        move |source| Self::Seal { what, source }
    }
}
