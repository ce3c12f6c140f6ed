//! Why a command was not carried out, and the exit code that follows.
//!
//! | code | meaning |
//! |---|---|
//! | 0 | done |
//! | 1 | partly done, or damage found by `check` ([`Outcome::Partly`], no error) |
//! | 2 | not done, or no damage found by `check` but not everything looked at ([`Outcome::Unclear`], no error) |
//! | 3 | unexpected |
//! | 130, 143 | interrupted |
//!
//! Invariant: the code follows the error's kind alone.
//! Never here: what to do next (see `hints`).

use std::io;
use std::path::PathBuf;

use engine::{EngineError, Kind};
use serve::ServeError;
use source::SourceError;
use store::StoreError;

use crate::config::Mistakes;
use crate::words::UnknownMoment;

/// The exit code for a bug or a failure that nobody has classified yet.
pub(crate) const EXIT_UNEXPECTED: u8 = 3;

/// The shortest key file, in bytes: what a random key takes.
pub(crate) const KEY_FILE_LEN_MIN: usize = 32;

/// How a command that was carried out ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// All of it.
    Done,
    /// Some files or components are missing, or `check` found damage.
    Partly,
    /// `check` found no damage, but could not look at everything.
    Unclear,
}

/// Why a command was not carried out.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CommandError {
    #[error(transparent)]
    Engine(#[from] EngineError),
    /// Of a job, for which the configuration has keys in place of options.
    #[error(transparent)]
    Job(EngineError),
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    Source(#[from] SourceError),
    #[error(transparent)]
    Serve(#[from] ServeError),
    /// The process that was to stay ended, and said why.
    #[error("nothing was mounted in the background")]
    Background { code: Option<u8> },
    #[error(transparent)]
    Moment(#[from] UnknownMoment),
    #[error("a snapshot is named both by --at and by its id")]
    SnapshotTwice,
    #[error("{name} names no snapshot")]
    NoSnapshotName { name: String },
    #[error("only whole snapshots are copied; nothing was done")]
    WholeSnapshots,
    #[error("no snapshot is named")]
    SnapshotUnnamed,
    #[error("{pattern} is no pattern: {what}")]
    Pattern { pattern: String, what: String },
    #[error("browsing needs a terminal on standard input and output")]
    NoTerminal,
    #[error("an archive is not written to a terminal")]
    ArchiveOnTerminal,
    #[error("no snapshot has {path}")]
    NoVersion { path: String },
    #[error("no file in the snapshot is named")]
    PathUnnamed,
    #[error("no repository is named")]
    RepositoryUnnamed,
    #[error("no password or key file is given, and there is no terminal to ask for a password")]
    CredentialMissing,
    #[error("{one} and {other} are both given; one must say it all")]
    CredentialTwice { one: String, other: String },
    #[error("{what} {} cannot be read", .path.display())]
    CredentialFile { what: &'static str, path: PathBuf, source: io::Error },
    #[error("{what} {} is open to others (mode {mode:04o})", .path.display())]
    CredentialExposed { what: &'static str, path: PathBuf, mode: u32 },
    #[error("{what} {} has more than {len_max} bytes", .path.display())]
    CredentialLen { what: &'static str, path: PathBuf, len_max: u64 },
    #[error("key file {} has {len} bytes, at least {KEY_FILE_LEN_MIN} are needed", .path.display())]
    KeyFileShort { path: PathBuf, len: usize },
    #[error("the password from {origin} is empty")]
    PasswordEmpty { origin: String },
    #[error("the password command {end}")]
    PasswordCommand { end: String },
    #[error("the two passwords differ")]
    PasswordsDiffer,
    #[error("the password cannot be asked for")]
    Terminal { source: io::Error },
    #[error("the terminal cannot be used")]
    Screen { source: io::Error },
    #[error("the system refuses what every command needs")]
    Runtime { source: io::Error },
    #[error("there is no job {name}")]
    JobUnknown { name: String, known: String },
    #[error("there is nothing to watch: {what}")]
    NothingToWatch { what: String },
    #[error("job {name} took longer than {limit:?} and was stopped; nothing was committed")]
    JobTimeout { name: String, limit: std::time::Duration },
    #[error("{what} {why}")]
    SourceSetting { what: String, why: String },
    #[error("the {what} hook {program} {end}")]
    Hook { what: &'static str, program: String, end: String },
    #[error("the snapshot has no component {name}")]
    ComponentUnknown { name: String, known: String },
    #[error("{name} failed in snapshot {snapshot}: {reason}")]
    ComponentFailed { name: String, snapshot: String, reason: String, newest: Option<String> },
    #[error("a component of kind {kind} cannot be restored to {place}")]
    PlaceUnfit { kind: String, place: String },
    #[error("the component holds {count} dumps, and only one goes into one database")]
    SeveralDumps { count: usize, known: String },
    #[error("there are {count} files, and only one can go there")]
    SeveralFiles { count: usize },
    #[error("the snapshot has several components, and none is named")]
    ComponentUnnamed { known: String },
    #[error("{option} does not go with this restore of a component of kind {kind}")]
    OptionUnfit { option: &'static str, kind: String },
    #[error("the component has no dump of database {name}")]
    DatabaseUnknown { name: String, known: String },
    #[error("{path} is no dump that pg_restore reads")]
    NotADump { path: String },
    #[error("a dump in the directory format is read by pg_restore from a folder only")]
    DumpFolders,
    #[error(transparent)]
    NoChoice(#[from] source::dump::NoChoice),
    #[error("{place} has no database {name}")]
    DatabaseMissing { name: String, place: String },
    #[error("database {database} of {place} is not empty; tables, views and sequences in the way: {count} ({found})")]
    DatabaseOccupied { database: String, place: String, count: usize, found: String },
    #[error("no tablespace of the backup was at {}", .path.display())]
    TablespaceUnknown { path: PathBuf, known: String },
    #[error("data directory {} is not whole and lacks global/pg_control, so that no server starts on it", .path.display())]
    DataDirectoryPartly { path: PathBuf },
    #[error(
        "{source}; what was restored until then stays in database {databases} of {place}, where tables may be without rows"
    )]
    DumpPartly { databases: String, place: String, source: Box<CommandError> },
    /// Something lies where a server's own data goes.
    #[error(transparent)]
    NeverReplaced { source: SourceError },
    #[error("{place} lacks {what}; nothing was restored")]
    TargetLacks { place: String, what: String },
    #[error("there is no configuration")]
    ConfigMissing,
    #[error("configuration {} belongs to somebody else, or others may write it", .path.display())]
    ConfigOfOthers { path: PathBuf },
    #[error("configuration {} is there already", .path.display())]
    ConfigExists { path: PathBuf },
    #[error("configuration {} cannot be read", .path.display())]
    ConfigFile { path: PathBuf, source: io::Error },
    #[error("configuration {} has mistakes:\n{mistakes}", .path.display())]
    Config { path: PathBuf, mistakes: Mistakes },
    #[error("the current directory cannot be found")]
    CurrentDirectory { source: io::Error },
    #[error("no place for the cache is known: neither XDG_CACHE_HOME nor HOME is set")]
    CachePlace,
    #[error("{prefix} is not the start of exactly one cached repository's id")]
    CacheUnknown { prefix: String },
    #[error("{} cannot be {action}", .path.display())]
    Folder { path: PathBuf, action: &'static str, source: io::Error },
    #[error("this restore removes from {} what the snapshot does not have; nothing was done", .target.display())]
    Unconfirmed { target: PathBuf },
    #[error("neither a policy nor snapshots are given; nothing was done")]
    NothingToForget,
    #[error("job {job} says nothing of retention; nothing was done")]
    NoRetention { job: String },
    #[error("{option}: {what}")]
    UntilWhen { option: &'static str, what: String },
    #[error("snapshot {snapshot} was forgotten, and a prune has given back its space while it was read")]
    ForgottenMeanwhile { snapshot: String, source: Box<CommandError> },
    #[error("no forgotten snapshot that is still there has an id beginning with {name}")]
    NotThereToUndelete { name: String },
    #[error("{snapshots}; nothing was forgotten")]
    Held { id: String, snapshots: String },
    #[error("what is forgotten by name is named by its id")]
    ForgetById,
    #[error("nothing would be left of {group}; nothing was done")]
    LastOfGroup { group: String },
    #[error("{snapshots} would be forgotten; nothing was done")]
    NotForgotten { snapshots: String },
    #[error("this is what prune would do; nothing was done")]
    NotPruned,
    #[error("{what}; nothing was done")]
    NotRepaired { what: String },
    #[error("{snapshots} would be rewritten; nothing was done")]
    NotRewritten { snapshots: String },
    #[error("--exclude-path names all of a snapshot")]
    PathOfAll,
    #[error("--name is for a stream, and without --command what follows -- are files")]
    NotACommand,
    #[error("standard output cannot be written")]
    Stdout { source: io::Error },
    /// Whoever read our output has seen enough.
    #[error("nobody reads standard output any more")]
    StdoutClosed,
    #[error("interrupted")]
    Interrupted,
    #[error("interrupted; what was restored until now stays")]
    RestoreInterrupted,
}

impl CommandError {
    /// Tells a reader that went away from an output that fails.
    pub(crate) fn from_stdout(source: io::Error) -> Self {
        match source.kind() {
            io::ErrorKind::BrokenPipe => Self::StdoutClosed,
            _ => Self::Stdout { source },
        }
    }

    /// For what changes nothing that would have to be told about when it is interrupted.
    pub(crate) fn of_reading(error: EngineError) -> Self {
        match error {
            EngineError::Interrupted => Self::Interrupted,
            error => Self::Engine(error),
        }
    }

    /// How to take this error (STYLE 19).
    pub(crate) fn kind(&self) -> Kind {
        match self {
            Self::Engine(error) | Self::Job(error) => error.kind(),
            Self::Store(error) => match error.kind() {
                store::Kind::Retry => Kind::Retry,
                store::Kind::Locked => Kind::Locked,
                store::Kind::Damaged => Kind::Damaged,
                store::Kind::Invalid => Kind::Invalid,
                store::Kind::Bug => Kind::Bug,
            },
            Self::Source(error) => match error.kind() {
                source::ErrorKind::Retry => Kind::Retry,
                source::ErrorKind::Bug => Kind::Bug,
                _ => Kind::Invalid,
            },
            Self::DumpPartly { source, .. } => source.kind(),
            Self::Serve(ServeError::Panicked(_)) => Kind::Bug,
            Self::Interrupted | Self::RestoreInterrupted => Kind::Interrupted,
            _ => Kind::Invalid,
        }
    }

    /// The kind as a word of the JSON output.
    pub(crate) fn kind_word(&self) -> &'static str {
        match self.kind() {
            Kind::Retry => "retry",
            Kind::Locked => "locked",
            Kind::Damaged => "damaged",
            Kind::Invalid => "invalid",
            Kind::Interrupted => "interrupted",
            Kind::Bug => "bug",
        }
    }

    /// The exit code; `interrupted` is the one for an interrupt.
    pub(crate) fn exit_code(&self, interrupted: u8) -> u8 {
        match (self, self.kind()) {
            (Self::StdoutClosed, _) => 0,
            (Self::Background { code: Some(code) }, _) => *code,
            (_, Kind::Interrupted) => interrupted,
            (_, Kind::Bug) => EXIT_UNEXPECTED,
            _ => 2,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exit_code_follows_the_kind() {
        let bug = CommandError::from(EngineError::Panicked { what: "x".into() });
        assert_eq!((bug.exit_code(130), bug.kind_word()), (3, "bug"));
        assert_eq!(CommandError::from(EngineError::Interrupted).exit_code(143), 143);
        assert_eq!(CommandError::RepositoryUnnamed.exit_code(130), 2);
    }

    #[test]
    fn closed_pipe_is_a_quiet_end_and_other_failures_of_stdout_are_not() {
        let closed = CommandError::from_stdout(io::ErrorKind::BrokenPipe.into());
        assert_eq!(closed.exit_code(130), 0);
        assert_eq!(CommandError::from_stdout(io::ErrorKind::StorageFull.into()).exit_code(130), 2);
    }
}
