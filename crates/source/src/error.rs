//! Why a source could not be read or a sink not be written.
//!
//! [`SourceError`] stops what was asked for; [`SourceProblem`] is one entry's trouble, met on the way, after
//! which the walk or the restore goes on.
//!
//! Invariant: every variant names its object, and [`SourceError::kind`] covers every variant.
//! Never here: hints what to type next; those are `cli`'s.

use std::ffi::OsString;
use std::fmt;
use std::io;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use rustix::io::Errno;

use crate::blocking::Panicked;
use crate::entry::{Escaped, escaped};

/// What a caller can do about an error.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ErrorKind {
    /// The machine was short of something; the same call may work later.
    Retry,
    /// What was asked for cannot be done; ask for something else.
    Invalid,
    /// The object exists but cannot be read (or, in a sink, written).
    Unreadable,
    /// The object changed under the reader; what was read is of no single moment.
    Changed,
    /// A mistake in this program.
    Bug,
}

/// Why a source could not be read or a sink not be written.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SourceError {
    /// Nothing to walk.
    #[error("no roots were given")]
    NoRoots,
    /// A root was mistyped or is not mounted: nothing was read.
    #[error("root {} does not exist", shown(.root))]
    RootMissing {
        /// As made absolute.
        root: PathBuf,
    },
    /// A root cannot even be looked at: nothing was read.
    #[error("root {} cannot be looked at", shown(.root))]
    RootUnreadable {
        /// As made absolute.
        root: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// `..` after a symbolic link: what the system means by it is not what the text says.
    #[error("root {} goes through a symbolic link before '..'", shown(.root))]
    RootAmbiguous {
        /// As given.
        root: PathBuf,
    },
    /// The repository would be backed up into itself.
    #[error("root {} is inside {}, which is never backed up", shown(.root), shown(.forbidden))]
    RootForbidden {
        /// As made absolute.
        root: PathBuf,
        /// The folder which is never entered.
        forbidden: PathBuf,
    },
    /// A line is not a gitignore pattern.
    #[error("pattern {pattern:?} is not valid")]
    Pattern {
        /// The line.
        pattern: String,
        /// What is wrong with it.
        source: ignore::Error,
    },
    /// A file of patterns cannot be read.
    #[error("file of patterns {} cannot be read", shown(.path))]
    PatternFile {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// `exclude_if_present` must be a plain file name, with an optional `:header`.
    #[error("marker file name {name:?} is not a plain file name")]
    MarkerName {
        /// As given.
        name: String,
    },
    /// A path which could leave its component, or which no file system takes.
    #[error("path {} is not valid: {fault}", escaped(.path))]
    PathInvalid {
        /// The raw bytes.
        path: Vec<u8>,
        /// What is wrong with it.
        fault: &'static str,
    },
    /// The kernel does not tell of changes there.
    #[error("changes below {} cannot be watched", shown(.path))]
    Unwatchable {
        /// The directory; or the first root, where the kernel ran out of watches.
        path: PathBuf,
        /// What the system said; [`io::ErrorKind::StorageFull`] where it has no more watches to give.
        source: io::Error,
    },
    /// A file's content cannot be read.
    #[error("{} cannot be read", shown(.path))]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// Another file now has the name which was walked.
    #[error("{} is no longer the file that was found", shown(.path))]
    Replaced {
        /// The file.
        path: PathBuf,
    },
    /// What was read is not the file at any one moment.
    #[error("{} changed while it was read", shown(.path))]
    ChangedWhileRead {
        /// The file.
        path: PathBuf,
    },
    /// Only regular files have content.
    #[error("{} is a {found}, not a file", shown(.path))]
    NotAFile {
        /// The entry.
        path: PathBuf,
        /// What it is.
        found: &'static str,
    },
    /// The command could not be started.
    #[error("command {} cannot be started", escaped(.program.as_bytes()))]
    Spawn {
        /// The program.
        program: OsString,
        /// What the system said.
        source: io::Error,
    },
    /// The pipe from a command failed, or it cannot be waited for.
    #[error("output of command {} cannot be read", escaped(.program.as_bytes()))]
    Pipe {
        /// The program.
        program: OsString,
        /// What the system said.
        source: io::Error,
    },
    /// A server, or the program that speaks to it, did not do what was asked.
    #[error("{place}: {what}")]
    Server {
        /// Which one: kind and address, such as `postgres at db.example:5432`; never a password.
        place: String,
        /// What went wrong, in the server's own words where it has some.
        what: String,
        /// What can be done about it.
        fault: Fault,
    },
    /// Standard input failed.
    #[error("standard input cannot be read")]
    Stdin {
        /// What the system said.
        source: io::Error,
    },
    /// Our own code panicked on a blocking thread.
    #[error(transparent)]
    Panicked(#[from] Panicked),
    /// The kernel cannot keep a restore beneath its target (Linux before 5.6, or a filter without openat2).
    #[error("this kernel does not offer openat2, without which nothing is written to {}", shown(.target))]
    NoOpenat2 {
        /// The target directory.
        target: PathBuf,
    },
    /// The directory to restore to cannot be created or opened.
    #[error("target {} cannot be opened", shown(.target))]
    Target {
        /// The target directory.
        target: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// What is to be restored to is no directory.
    #[error("target {} is a {found}, not a directory", shown(.target))]
    TargetKind {
        /// The target.
        target: PathBuf,
        /// What it is.
        found: &'static str,
    },
    /// A symbolic link stands where a directory of the target should be: what is behind it was not touched.
    #[error("{} is behind a symbolic link, which is never followed", shown(.path))]
    BehindLink {
        /// The path in the target.
        path: PathBuf,
    },
    /// Something of another kind has the name.
    #[error("{} is in the way: a {found}", shown(.path))]
    Occupied {
        /// The path in the target.
        path: PathBuf,
        /// What is there.
        found: &'static str,
    },
    /// Removing never crosses into another file system.
    #[error("{} is another file system, nothing in it was removed", shown(.path))]
    MountPoint {
        /// The path in the target.
        path: PathBuf,
    },
    /// The target refused an operation.
    #[error("cannot {action} {}", shown(.path))]
    Write {
        /// The path in the target.
        path: PathBuf,
        /// What was tried, as a verb.
        action: &'static str,
        /// What the system said.
        source: io::Error,
    },
    /// A caller asked to make a kind of entry which another call makes.
    #[error("{} is a {kind}, which is not made as a special file", shown(.path))]
    KindUnfit {
        /// The path in the target.
        path: PathBuf,
        /// The kind asked for.
        kind: &'static str,
    },
}

/// What is to be done about a server's refusal.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Fault {
    /// Nobody answers there, or the name does not resolve, or TLS fails.
    Unreachable,
    /// It went away in the middle.
    Interrupted,
    /// It is too busy, locked, or did not go on in time.
    Busy,
    /// No room is left where it, or what is read of it, is written.
    Full,
    /// It refuses who we say we are.
    Login,
    /// It knows us, and does not let us do this.
    Right,
    /// It is not set up for this.
    Setting,
    /// It, or a program that is needed here, is of a version that cannot do this.
    Version,
    /// What was asked for is not there: a database, a table, a program.
    Missing,
    /// It ended without saying that this was all.
    Incomplete,
    /// What it sent fails its own checksum.
    Damaged,
    /// It said something that we do not understand.
    Protocol,
}

impl SourceError {
    /// What a server, or the program that speaks to it, did not do. `place` never has a password in it.
    pub(crate) fn server(place: impl Into<String>, fault: Fault, what: impl Into<String>) -> Self {
        Self::Server { place: place.into(), what: what.into(), fault }
    }

    /// What a caller can do about it.
    #[must_use]
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::NoRoots
            | Self::RootMissing { .. }
            | Self::RootAmbiguous { .. }
            | Self::RootForbidden { .. }
            | Self::Pattern { .. }
            | Self::MarkerName { .. }
            | Self::PathInvalid { .. }
            | Self::NotAFile { .. }
            | Self::NoOpenat2 { .. }
            | Self::TargetKind { .. }
            | Self::BehindLink { .. }
            | Self::Occupied { .. }
            | Self::MountPoint { .. } => ErrorKind::Invalid,
            Self::Spawn { source, .. } => match kind_of_io(source) {
                ErrorKind::Retry => ErrorKind::Retry,
                _ => ErrorKind::Invalid,
            },
            Self::RootUnreadable { source, .. }
            | Self::Unwatchable { source, .. }
            | Self::PatternFile { source, .. }
            | Self::Unreadable { source, .. }
            | Self::Pipe { source, .. }
            | Self::Stdin { source }
            | Self::Target { source, .. }
            | Self::Write { source, .. } => kind_of_io(source),
            Self::Server { fault, .. } => match fault {
                Fault::Unreachable | Fault::Interrupted | Fault::Busy | Fault::Full => ErrorKind::Retry,
                Fault::Login | Fault::Right | Fault::Setting | Fault::Version | Fault::Missing => ErrorKind::Invalid,
                Fault::Incomplete | Fault::Damaged => ErrorKind::Unreadable,
                Fault::Protocol => ErrorKind::Bug,
            },
            Self::Replaced { .. } | Self::ChangedWhileRead { .. } => ErrorKind::Changed,
            Self::Panicked(_) | Self::KindUnfit { .. } => ErrorKind::Bug,
        }
    }
}

/// An error and what is behind it, for whom one line is all there is: `what: cause: cause of that`.
#[must_use]
pub fn with_causes(error: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(error.source(), |cause| cause.source());
    causes.map(ToString::to_string).fold(error.to_string(), |text, cause| {
        // Many say their cause themselves, at the end.
        if text.ends_with(&cause) { text } else { format!("{text}: {cause}") }
    })
}

/// Tells what passes (the machine is short of something) from what stays.
fn kind_of_io(error: &io::Error) -> ErrorKind {
    match Errno::from_io_error(error) {
        Some(Errno::INTR | Errno::AGAIN | Errno::MFILE | Errno::NFILE | Errno::NOMEM | Errno::STALE) => {
            ErrorKind::Retry
        }
        _ => ErrorKind::Unreadable,
    }
}

/// One entry's trouble, met on the way.
#[derive(Debug)]
pub struct SourceProblem {
    /// Absolute path of the entry.
    pub path: PathBuf,
    /// What went wrong with it.
    pub kind: ProblemKind,
    /// Why.
    pub cause: io::Error,
}

/// What went wrong with one entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ProblemKind {
    /// A directory could not be listed, or not to its end: what is in it is missing.
    Directory,
    /// It was asked for by name, and is not there.
    Missing,
    /// It was listed, and gone a moment later.
    Vanished,
    /// It cannot be looked at: it is missing.
    Stat,
    /// Another thing took its place between two looks: it is missing.
    Replaced,
    /// The file system gave a name which cannot be stored: it is missing.
    Name,
    /// Extended attributes or ACLs are missing or incomplete.
    Xattrs,
    /// The folder is never entered: the repository or cache themselves. Nothing went wrong.
    Forbidden,
    /// The owner or group could not be set.
    Owner,
    /// The permissions could not be set.
    Mode,
    /// The modification time could not be set.
    Times,
}

impl SourceProblem {
    /// Whether something that should be in the snapshot (or the restored tree) is not: false for
    /// [`ProblemKind::Forbidden`] only.
    #[must_use]
    pub fn loses_something(&self) -> bool {
        self.kind != ProblemKind::Forbidden
    }
}

impl fmt::Display for SourceProblem {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let path = shown(&self.path);
        match self.kind {
            ProblemKind::Directory => write!(out, "directory {path} cannot be listed"),
            ProblemKind::Missing => write!(out, "{path} is not there"),
            ProblemKind::Vanished => write!(out, "{path} vanished"),
            ProblemKind::Stat => write!(out, "{path} cannot be looked at"),
            ProblemKind::Replaced => write!(out, "{path} was replaced by something else"),
            ProblemKind::Name => write!(out, "{path} has a name that cannot be stored"),
            ProblemKind::Xattrs => write!(out, "extended attributes of {path} are incomplete"),
            ProblemKind::Forbidden => write!(out, "{path} is never entered"),
            ProblemKind::Owner => write!(out, "owner of {path} cannot be set"),
            ProblemKind::Mode => write!(out, "permissions of {path} cannot be set"),
            ProblemKind::Times => write!(out, "modification time of {path} cannot be set"),
        }
    }
}

impl std::error::Error for SourceProblem {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        Some(&self.cause)
    }
}

fn shown(path: &Path) -> Escaped<'_> {
    escaped(path.as_os_str().as_bytes())
}
