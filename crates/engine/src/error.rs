//! What can go wrong in the engine, by what a caller can do about it.
//!
//! Invariant: every variant names the object; a source's failure is never a repository's failure (L2).
//! Never here: hints and exit codes; `cli` derives them from [`Kind`].

use std::sync::Arc;

use pack::PackError;
use source::SourceError;
use store::StoreError;
use store::index_cache::CacheError;

/// What to do about an error (STYLE 19). Exit codes follow it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// May pass by itself: try again.
    Retry,
    /// Somebody else holds what is needed.
    Locked,
    /// Stored bytes are missing or wrong.
    Damaged,
    /// The request cannot be done as asked; nothing was changed.
    Invalid,
    /// The user interrupted; nothing committed is lost.
    Interrupted,
    /// We broke our own rules.
    Bug,
}

/// Why an operation of the engine did not succeed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum EngineError {
    /// The store failed or refused.
    #[error(transparent)]
    Store(StoreError),
    /// The local index cache failed, even after it was made anew.
    #[error(transparent)]
    Cache(#[from] CacheError),
    /// What is to be backed up, or where it is to be restored.
    #[error(transparent)]
    Source(#[from] SourceError),
    /// A stored object is not what it should be.
    #[error("{object} {source}")]
    Object {
        /// The object's name.
        object: String,
        /// Why.
        source: PackError,
    },
    /// No repository there.
    #[error("there is no backstay repository at {place}")]
    NoRepository {
        /// The store.
        place: String,
    },
    /// Its keys are there, and its configuration is not.
    #[error("there are the keys of a repository at {place}, but neither config nor config-copy")]
    ConfigLost {
        /// The store.
        place: String,
    },
    /// It was there when this began.
    #[error("the repository at {place} vanished meanwhile; nothing was committed")]
    RepositoryGone {
        /// The store.
        place: String,
    },
    /// Snapshots are gone that nobody forgot: what they need must stay until it is known whether they come back.
    #[error("{what}; a prune would delete for good what they need")]
    SnapshotsGone {
        /// Which of them.
        what: String,
    },
    /// There is one already.
    #[error("there is a backstay repository at {place} already")]
    RepositoryExists {
        /// The store.
        place: String,
    },
    /// Something else lies where a repository should be made.
    #[error("{place} is not empty: it holds {object}")]
    NotEmpty {
        /// The store.
        place: String,
        /// One of the objects there.
        object: String,
    },
    /// No key slot opens with this password or key file.
    #[error("no key of the repository at {place} opens with this {what}")]
    WrongKey {
        /// The store.
        place: String,
        /// `password` or `key file`.
        what: &'static str,
    },
    /// A password or key file that is to open a new key opens one already.
    #[error("this {what} opens the {role} key {id} already; nothing was changed")]
    CredentialInUse {
        /// `password` or `key file`.
        what: &'static str,
        /// The role of the key that it opens.
        role: pack::Role,
        /// The start of that key's id.
        id: String,
    },
    /// The key's role does not allow this.
    #[error("{} {role} key cannot {what}", article(*.role))]
    Role {
        /// The role of the key in use.
        role: pack::Role,
        /// What was asked.
        what: &'static str,
        /// The roles that may do it.
        needs: &'static [pack::Role],
    },
    /// The key was granted no part of the newest epoch.
    #[error("this {role} key cannot use the newest epoch: the key was removed, or the epoch's object is damaged")]
    KeyRemoved {
        /// The role of the key in use.
        role: pack::Role,
    },
    /// The store shows older keys than this host has seen: it was rolled back, or is another repository.
    #[error("the repository shows key epoch {found}, but this host has seen epoch {seen}: it was rolled back")]
    RolledBack {
        /// Newest epoch in the store.
        found: u32,
        /// Newest epoch that this host has seen.
        seen: u32,
    },
    /// No snapshot fits.
    #[error("no snapshot {what}")]
    NoSnapshot {
        /// What was asked for.
        what: String,
    },
    /// Several fit.
    #[error("{what} fits {count} snapshots: {examples}")]
    Ambiguous {
        /// The prefix.
        what: String,
        /// How many.
        count: usize,
        /// The first of them.
        examples: String,
    },
    /// No such entry in the snapshot.
    #[error("there is no {path} in snapshot {snapshot}")]
    NoEntry {
        /// The path, escaped.
        path: String,
        /// The snapshot.
        snapshot: String,
    },
    /// A list of packs that are to be deleted cannot be read, so nothing may refer to any pack.
    #[error("{name} cannot be read, so it is not known which packs are about to be deleted: it {source}")]
    CondemnedUnreadable {
        /// The list.
        name: String,
        /// What is wrong with it.
        source: PackError,
    },
    /// What is still needed cannot be told, so nothing may be deleted.
    #[error("{object} cannot be read, so it is not known what is still needed, and nothing was deleted: {source}")]
    CannotMark {
        /// The snapshot or page.
        object: String,
        /// Why.
        source: Box<EngineError>,
    },
    /// No pattern of those that say what is wanted matches anything.
    #[error("nothing in snapshot {snapshot} matches {patterns}")]
    NothingMatches {
        /// The patterns.
        patterns: String,
        /// The snapshot.
        snapshot: String,
    },
    /// A component is suspiciously smaller than before.
    #[error(
        "{name} has {now} bytes, and had {before} in the last whole snapshot: it may shrink by {percent_max} percent at most"
    )]
    Shrunk {
        /// The component.
        name: String,
        /// Bytes then.
        before: u64,
        /// Bytes now.
        now: u64,
        /// What is allowed.
        percent_max: u8,
    },
    /// Every component failed.
    #[error("none of {} components could be backed up", .failures.len())]
    NothingWhole {
        /// The name of each, and what went wrong with it.
        failures: Vec<(String, Arc<EngineError>)>,
    },
    /// What an incremental backup rests on is gone; a full one does not need it.
    #[error("part of the snapshot before cannot be had: {what}")]
    BaseLost {
        /// What is missed.
        what: String,
    },
    /// Asked for the content of something that has none.
    #[error("{path} in snapshot {snapshot} is a {noun}, not a file")]
    NotAFile {
        /// The path, escaped.
        path: String,
        /// The snapshot.
        snapshot: String,
        /// What it is.
        noun: &'static str,
    },
    /// No space is left where a restore writes.
    #[error("no space is left in the target for {path}")]
    TargetFull {
        /// The entry that did not fit.
        path: String,
    },
    /// A chunk is in no pack that can be read.
    #[error("chunk {chunk} is lost: {reason}")]
    Lost {
        /// The chunk.
        chunk: String,
        /// What was tried.
        reason: String,
    },
    /// A forgotten snapshot cannot come back whole.
    #[error(
        "snapshot {snapshot} cannot be brought back: {gone_count} of the {count} chunks and pages it needs are gone, or about to be deleted"
    )]
    ContentGone {
        /// The snapshot.
        snapshot: String,
        /// What it needs, as far as that can be told.
        count: u64,
        /// What of it is in no pack that stays.
        gone_count: u64,
    },
    /// A page of a snapshot's entries cannot be had; the others can.
    #[error("{from} is lost with entries that follow it: {source}")]
    EntriesLost {
        /// The first path in the page, escaped.
        from: String,
        /// Why.
        source: Box<EngineError>,
    },
    /// Something of the snapshot that is to be copied cannot be had.
    #[error("{what} cannot be read in the repository that is copied from")]
    NotCopied {
        /// The entry or component, escaped.
        what: String,
        /// Why.
        source: Box<EngineError>,
    },
    /// Something that a rewritten snapshot keeps cannot be had.
    #[error("{what} cannot be taken over into a new snapshot")]
    NotRewritten {
        /// The entry or component, escaped.
        what: String,
        /// Why.
        source: Box<EngineError>,
    },
    /// The producer of a stream failed; nothing was committed.
    #[error("{command} {end}; nothing was committed")]
    Producer {
        /// The command line.
        command: String,
        /// How it ended.
        end: String,
    },
    /// The stream was empty; nothing was committed.
    #[error("{name} is empty; nothing was committed")]
    EmptyStream {
        /// The entry's name.
        name: String,
    },
    /// There is nothing in the directories that were to be backed up; nothing was committed.
    #[error("there is nothing in {}; nothing was committed", roots.join(", "))]
    EmptyTree {
        /// The directories, escaped.
        roots: Vec<String>,
    },
    /// A collector declared this writer dead.
    #[error("this backup was declared dead by a prune because its lease ran out; nothing was committed")]
    DeclaredDead,
    /// The store did not refuse to create an object twice.
    #[error("{place} lets an existing object be created again, so a prune cannot be made safe")]
    NoConditionalCreate {
        /// The store.
        place: String,
    },
    /// The request contradicts itself.
    #[error("{what}")]
    Request {
        /// Why.
        what: String,
    },
    /// SIGINT or SIGTERM.
    #[error("interrupted; nothing was committed, and what was uploaded is reused by the next run")]
    Interrupted,
    /// A job panicked: a bug.
    #[error("an internal job failed: {what}")]
    Panicked {
        /// The panic's message.
        what: String,
    },
}

impl From<StoreError> for EngineError {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::FolderGone { path } => Self::RepositoryGone { place: path },
            error => Self::Store(error),
        }
    }
}

impl EngineError {
    /// How to take this error.
    #[must_use]
    pub fn kind(&self) -> Kind {
        match self {
            Self::Store(error) => store_kind(error),
            Self::Cache(_) => Kind::Retry,
            Self::Source(error) => source_kind(error),
            Self::Object { source, .. } | Self::CondemnedUnreadable { source, .. } => match source.kind() {
                seal::ErrorKind::Damaged => Kind::Damaged,
                seal::ErrorKind::Invalid => Kind::Invalid,
                seal::ErrorKind::Bug => Kind::Bug,
            },
            Self::EntriesLost { source, .. }
            | Self::CannotMark { source, .. }
            | Self::NotCopied { source, .. }
            | Self::NotRewritten { source, .. } => source.kind(),
            Self::Lost { .. } | Self::RolledBack { .. } | Self::ConfigLost { .. } => Kind::Damaged,
            Self::NothingWhole { failures } => failures.first().map_or(Kind::Bug, |(_, failure)| failure.kind()),
            Self::BaseLost { .. } | Self::DeclaredDead => Kind::Retry,
            Self::Interrupted => Kind::Interrupted,
            Self::Panicked { .. } => Kind::Bug,
            _ => Kind::Invalid,
        }
    }

    /// Whether only the component that was being read is concerned.
    pub(crate) const fn is_of_source(&self) -> bool {
        matches!(
            self,
            Self::Source(_)
                | Self::Producer { .. }
                | Self::EmptyStream { .. }
                | Self::EmptyTree { .. }
                | Self::Shrunk { .. }
                | Self::Request { .. }
        )
    }

    /// Adds the object's name to what is wrong with its bytes.
    pub(crate) fn object(object: impl Into<String>) -> impl FnOnce(PackError) -> Self {
        let object = object.into();
        move |source| Self::Object { object, source }
    }
}

fn article(role: pack::Role) -> &'static str {
    if role == pack::Role::Owner { "an" } else { "a" }
}

fn store_kind(error: &StoreError) -> Kind {
    match error.kind() {
        store::Kind::Retry => Kind::Retry,
        store::Kind::Locked => Kind::Locked,
        store::Kind::Damaged => Kind::Damaged,
        store::Kind::Bug => Kind::Bug,
        _ => Kind::Invalid,
    }
}

fn source_kind(error: &SourceError) -> Kind {
    match error.kind() {
        source::ErrorKind::Retry => Kind::Retry,
        source::ErrorKind::Bug => Kind::Bug,
        _ => Kind::Invalid,
    }
}
