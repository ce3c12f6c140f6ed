//! Everything that can go wrong between us and a store, told apart by what one can do about it.
//!
//! ```text
//! settings   BadName Setting NotADirectory FolderGone Unsupported TooLong   -> Invalid
//! account    AccessDenied Credentials… BucketMissing Certificate ClockSkew -> Invalid
//! weather    Unreachable Busy Full Disk Unsynced                       -> Retry
//! content    NotFound Truncated                                        -> Damaged
//! unknown    Other                                                     -> Bug
//! ```
//!
//! Invariant: every variant names the store, and the object wherever there is one.
//! Never here: hints. What the user should type next is the command line's to say.

use std::fmt;

/// What lies beneath an error: the library's own error, for logs and `--verbose`.
pub type Cause = Box<dyn std::error::Error + Send + Sync + 'static>;

/// What a caller can do about an error. Exit codes follow it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Kind {
    /// The same call may succeed later.
    Retry,
    /// Somebody else holds what we need.
    Locked,
    /// Bytes are missing or different from what was written.
    Damaged,
    /// Settings, account or surroundings must change first.
    Invalid,
    /// Unexpected: a mistake of ours, or an answer nobody has classified yet.
    Bug,
}

/// Why a store could not be reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Obstacle {
    /// The host name has no address.
    Dns,
    /// Nothing listens there, or a firewall says no.
    Refused,
    /// No answer in time.
    Timeout,
    /// The connection broke on the way.
    Interrupted,
    /// Could not connect for another reason.
    Connect,
}

impl fmt::Display for Obstacle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Dns => "its host name does not resolve",
            Self::Refused => "the connection was refused",
            Self::Timeout => "no answer in time",
            Self::Interrupted => "the connection broke",
            Self::Connect => "no connection could be made",
        })
    }
}

/// Why a store did not do what it was asked.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
#[allow(missing_docs)] // the fields: `name` an object or prefix, `store` as described, `len` in bytes
pub enum StoreError {
    /// The object is absent.
    #[error("object {name} is not in {store}")]
    NotFound { name: String, store: String },

    /// The account, or the user on this host, may not do this.
    #[error("{store} denied access to {name}")]
    AccessDenied { name: String, store: String, source: Cause },

    /// No credentials were found anywhere.
    #[error("no credentials found for {store}")]
    CredentialsMissing { store: String, source: Cause },

    /// The store knows no such key, the secret does not fit it, or it has expired.
    #[error("{store} refused the credentials ({code})")]
    CredentialsWrong { store: String, code: String, source: Cause },

    /// The bucket or container does not exist.
    #[error("the bucket of {store} does not exist")]
    BucketMissing { store: String, source: Cause },

    /// No answer. After a timeout or a broken connection the request may have taken effect.
    #[error("{store} cannot be reached for {name}: {obstacle}")]
    Unreachable { name: String, store: String, obstacle: Obstacle, source: Cause },

    /// The server's TLS certificate is not trusted.
    #[error("the certificate of {store} is not trusted")]
    Certificate { store: String, source: Cause },

    /// The store's clock and ours are too far apart for signed requests.
    #[error("the clocks of {store} and of this host are too far apart")]
    ClockSkew { store: String, source: Cause },

    /// The store answered that it cannot do this now: overload, an internal error, a conflict.
    #[error("{store} is busy or failing for {name} ({answer})")]
    Busy { name: String, store: String, answer: String, source: Cause },

    /// No space or quota is left.
    #[error("no space is left in {store} for {name}")]
    Full { name: String, store: String, source: Cause },

    /// The disk, or the network share, beneath a folder did not do what it was asked (EIO). A write may have taken effect.
    #[error("the disk of {store} failed for {name}")]
    Disk { name: String, store: String, source: Cause },

    /// A folder could not be brought to the disk (EIO): what was put there may seem to be there, and be gone after a power cut. The
    /// system tells of it once, so whoever asks again is told that all is well.
    #[error("the disk of {store} failed to keep {name}, although it may seem to be there")]
    Unsynced { name: String, store: String, source: Cause },

    /// A local location is, or runs through, something that is not a folder.
    #[error("{path} is not a directory")]
    NotADirectory { path: String, source: Cause },

    /// The folder was there when it was opened, and is not any more.
    #[error("the folder {path} is gone")]
    FolderGone { path: String },

    /// The object ends before the bytes that were asked for do.
    #[error("{name} in {store} is too short: it has {len} of the {expected_len} bytes asked for")]
    Truncated { name: String, store: String, len: u64, expected_len: u64 },

    /// The object is longer than [`OBJECT_LEN_MAX`](crate::OBJECT_LEN_MAX).
    #[error("{name} is too long for {store}: {len} bytes")]
    TooLong { name: String, store: String, len: u64 },

    /// Not a name of an object or folder: empty, or with an empty, `.` or `..` segment.
    #[error("{name:?} is not an object name")]
    BadName { name: String },

    /// The store, or this program, cannot do something that is needed.
    #[error("{store} does not support {feature}")]
    Unsupported { store: String, feature: String, source: Cause },

    /// A setting, location or configuration file is wrong.
    #[error("bad {setting}: {problem}")]
    Setting { setting: String, problem: String },

    /// An answer that nobody has classified yet.
    #[error("{store} failed for {name} in an unexpected way")]
    Other { name: String, store: String, source: Cause },
}

impl StoreError {
    /// What a caller can do about it.
    pub fn kind(&self) -> Kind {
        match self {
            Self::Unreachable { .. }
            | Self::Busy { .. }
            | Self::Full { .. }
            | Self::Disk { .. }
            | Self::Unsynced { .. } => Kind::Retry,
            Self::NotFound { .. } | Self::Truncated { .. } => Kind::Damaged,
            Self::AccessDenied { .. }
            | Self::CredentialsMissing { .. }
            | Self::CredentialsWrong { .. }
            | Self::BucketMissing { .. }
            | Self::Certificate { .. }
            | Self::ClockSkew { .. }
            | Self::NotADirectory { .. }
            | Self::FolderGone { .. }
            | Self::TooLong { .. }
            | Self::BadName { .. }
            | Self::Unsupported { .. }
            | Self::Setting { .. } => Kind::Invalid,
            Self::Other { .. } => Kind::Bug,
        }
    }

    /// Whether the same request, sent again at once, may succeed.
    pub fn is_transient(&self) -> bool {
        matches!(self, Self::Unreachable { .. } | Self::Busy { .. } | Self::Disk { .. })
    }

    /// Whether the request may have taken effect, or yet take effect, although it failed.
    ///
    /// An answered `Busy` counts too: a gateway may give up on a server that is still at work.
    pub fn is_outcome_unknown(&self) -> bool {
        match self {
            Self::Unreachable { obstacle, .. } => {
                matches!(obstacle, Obstacle::Timeout | Obstacle::Interrupted)
            }
            Self::Busy { .. } | Self::Disk { .. } | Self::Unsynced { .. } | Self::Other { .. } => true,
            _ => false,
        }
    }

    /// Whether this says that one object is absent.
    pub fn is_not_found(&self) -> bool {
        matches!(self, Self::NotFound { .. })
    }
}

/// A cause that is only a sentence: for errors that we find ourselves.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct Reason(pub String);

impl Reason {
    /// Boxes a sentence as the cause of a [`StoreError`].
    pub fn cause(sentence: impl Into<String>) -> Cause {
        Box::new(Self(sentence.into()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn unreachable(obstacle: Obstacle) -> StoreError {
        StoreError::Unreachable { name: "config".into(), store: "s3://b".into(), obstacle, source: Reason::cause("x") }
    }

    #[test]
    fn refused_connection_is_transient_but_surely_did_nothing() {
        let error = unreachable(Obstacle::Refused);
        assert!(error.is_transient() && !error.is_outcome_unknown());
    }

    #[test]
    fn timeout_leaves_the_outcome_unknown() {
        assert!(unreachable(Obstacle::Timeout).is_outcome_unknown());
    }

    #[test]
    fn message_names_the_object_and_the_store_and_not_the_source() {
        let error = unreachable(Obstacle::Dns);
        assert_eq!(error.to_string(), "s3://b cannot be reached for config: its host name does not resolve");
    }
}
