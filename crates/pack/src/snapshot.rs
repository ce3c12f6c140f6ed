//! `snapshots/<id>`: the commit.
//!
//! ```text
//! frame, two sections:
//!   structure   sealed record under the index key: what retention and mark need
//!   body        letter to the epoch: names, command lines, messages
//! ```
//!
//! Invariant: written last, by create-if-absent, after everything it names is durable.
//! Never here: pages (see [`crate::manifest`]).

use seal::{
    ChunkId, ExchangeKey, ExchangePublic, Identity, LetterSeed, ObjectKind, RepositoryId, SealId, Secret, open_letter,
    open_record, seal_letter, seal_record,
};
use serde::{Deserialize, Serialize};

use crate::{Frame, PackError, Signer, SnapshotId, codec};

/// Whether everything that was asked for is in the snapshot.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum SnapshotState {
    /// Everything.
    Complete,
    /// Some entries or components are missing; the body says which.
    Partial,
}

/// Whether everything of a component is in the snapshot.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum ComponentState {
    /// Everything.
    Complete,
    /// Some entries are missing; the body says which.
    Partial,
    /// Nothing of it; the body says why.
    Failed,
}

/// One component, as far as the index key shows it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Component {
    /// `files`, or the name that the user gave.
    pub name: String,
    /// `files`, `stdin`, `command`, …
    pub kind: String,
    /// Whether everything is in it.
    pub state: ComponentState,
    /// When reading it began: nanoseconds since 1970.
    pub started_at: i64,
    /// When reading it ended.
    pub ended_at: i64,
    /// The root page's structure; none for an empty component, and for one that failed.
    pub root: Option<ChunkId>,
    /// Entries in it.
    pub entry_count: u64,
    /// Bytes of content in it.
    pub content_len: u64,
    /// Bytes of content that were new to the repository.
    pub new_len: u64,
    /// Bytes which the component added to the store: packs, and the index segments that name them.
    pub stored_len: u64,
    /// For later versions; skipped by this one.
    pub extension: Vec<u8>,
}

/// The half under the index key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SnapshotStructure {
    /// The snapshot's own id, which its name must repeat.
    pub id: SnapshotId,
    /// The snapshot it was compared with.
    pub parent: Option<SnapshotId>,
    /// When reading began: nanoseconds since 1970.
    pub started_at: i64,
    /// When reading ended.
    pub ended_at: i64,
    /// The host's name.
    pub host: String,
    /// What retention groups by.
    pub source: String,
    /// Tags.
    pub tags: Vec<String>,
    /// Whether everything is in it.
    pub state: SnapshotState,
    /// Not to be forgotten before: nanoseconds since 1970.
    pub keep_until: Option<i64>,
    /// The components.
    pub components: Vec<Component>,
    /// The domain of the writer.
    pub domain: [u8; 16],
    /// A [`SnapshotExtension`], or nothing.
    pub extension: Vec<u8>,
}

/// What a snapshot's structure says that few of them have to.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct SnapshotExtension {
    /// It was forgotten and brought back. Believed of the owner alone.
    pub undeleted: Option<Undeleted>,
    /// It is a copy.
    pub origin: Option<Origin>,
    /// It stands in for others. Believed of the owner alone.
    pub rewritten: Option<Rewritten>,
    /// For later versions; skipped by this one.
    pub extension: Vec<u8>,
}

/// What an undeleted snapshot was before.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Undeleted {
    /// The forgotten snapshot whose content it has.
    pub snapshot: SnapshotId,
    /// Who committed it first.
    pub signer: Identity,
    /// When the store took it first: nanoseconds since 1970, by the store's clock.
    pub stored_at: i64,
}

/// The snapshot of another repository that a copy is of.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Origin {
    /// That repository's id.
    pub repository: [u8; 16],
    /// The snapshot there.
    pub snapshot: SnapshotId,
    /// Snapshots there, of the same host and source, that had been copied before: so that what was forgotten here is not
    /// copied again.
    pub copied: Vec<SnapshotId>,
}

/// What a rewritten snapshot stands in for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rewritten {
    /// Snapshots that had something more in them, the newest first.
    pub from: Vec<SnapshotId>,
    /// Who committed the first of them.
    pub signer: Identity,
    /// When the store took that: nanoseconds since 1970, by the store's clock.
    pub stored_at: i64,
}

impl SnapshotExtension {
    /// The bytes for [`SnapshotStructure::extension`].
    ///
    /// # Errors
    ///
    /// Only if it is too long.
    pub fn encode(&self) -> Result<Vec<u8>, PackError> {
        codec::encode(self)
    }
}

impl SnapshotStructure {
    /// What its extension says; nothing if that is of a later version.
    #[must_use]
    pub fn extended(&self) -> SnapshotExtension {
        codec::decode(&self.extension).unwrap_or_default()
    }
}

/// One component's body.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct ComponentBody {
    /// The folders or files asked for.
    pub roots: Vec<Vec<u8>>,
    /// The command line of a producer.
    pub command: Vec<Vec<u8>>,
    /// The end of what the producer wrote to stderr.
    pub stderr: Vec<u8>,
    /// The cutter's name, where there is one for the whole component.
    pub cutter: String,
    /// What was left out, and why.
    pub problems: Vec<String>,
    /// What the source says of the moment it was read at, as name and value: positions, revisions, versions.
    pub facts: Vec<(String, String)>,
    /// For later versions; skipped by this one.
    pub extension: Vec<u8>,
}

/// The half to the epoch.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct SnapshotBody {
    /// One for each component, in the same order.
    pub components: Vec<ComponentBody>,
    /// What the user wrote about it.
    pub description: String,
    /// The program that wrote it.
    pub program: String,
    /// For later versions; skipped by this one.
    pub extension: Vec<u8>,
}

/// A snapshot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Snapshot {
    /// The half under the index key.
    pub structure: SnapshotStructure,
    /// The half to the epoch; none if this key may not open it.
    pub body: Option<SnapshotBody>,
}

impl Snapshot {
    /// The object, signed by the writer.
    ///
    /// # Errors
    ///
    /// [`PackError::Seal`] if the epoch's key is not usable.
    #[allow(clippy::too_many_arguments)]
    pub fn encode(
        structure: &SnapshotStructure,
        body: &SnapshotBody,
        epoch: (u32, ExchangePublic),
        index_key: &Secret,
        salt: SealId,
        seed: LetterSeed,
        signer: &Signer,
        repository: RepositoryId,
    ) -> Result<Vec<u8>, PackError> {
        let (number, public) = epoch;
        let structure =
            seal_record(&codec::encode(structure)?, index_key, number, salt, repository, ObjectKind::SnapshotStructure)
                .map_err(PackError::seal("a snapshot"))?;
        let body = seal_letter(&codec::encode(body)?, public, number, seed, repository, ObjectKind::SnapshotBody)
            .map_err(PackError::seal("a snapshot"))?;
        Frame::encode(ObjectKind::SnapshotStructure, &[&structure, &body], signer, repository)
    }

    /// Opens what [`Frame::decode`] took apart; `keys` gives an epoch's index key and, if it may, its exchange key.
    ///
    /// # Errors
    ///
    /// [`PackError::Seal`] if it does not open; [`PackError::Inconsistent`] if it is not the snapshot `id`.
    pub fn open(
        frame: &Frame<'_>,
        id: SnapshotId,
        keys: impl Fn(u32) -> Option<(Secret, Option<ExchangeKey>)>,
        repository: RepositoryId,
    ) -> Result<Self, PackError> {
        let sealed = frame.section(0)?;
        let epoch = seal::record_epoch(sealed).map_err(PackError::seal("the snapshot"))?;
        let (index_key, exchange) = keys(epoch).ok_or(PackError::UnknownEpoch { epoch })?;
        let plain = open_record(sealed, &index_key, repository, ObjectKind::SnapshotStructure)
            .map_err(PackError::seal("the snapshot"))?;
        let structure: SnapshotStructure = codec::decode(&plain)?;
        if structure.id != id {
            return Err(PackError::Inconsistent { what: "a snapshot lies under the name of another" });
        }
        let letter_epoch = seal::letter_epoch(frame.section(1)?).map_err(PackError::seal("the snapshot's body"))?;
        if letter_epoch != epoch {
            return Err(PackError::Inconsistent { what: "a snapshot's halves are of different epochs" });
        }
        let body = exchange.map(|exchange| Self::open_body(frame, &exchange, repository)).transpose()?;
        if body.as_ref().is_some_and(|body| body.components.len() != structure.components.len()) {
            return Err(PackError::Inconsistent { what: "a snapshot's halves list different components" });
        }
        Ok(Self { structure, body })
    }

    fn open_body(
        frame: &Frame<'_>,
        exchange: &ExchangeKey,
        repository: RepositoryId,
    ) -> Result<SnapshotBody, PackError> {
        let plain = open_letter(frame.section(1)?, exchange, repository, ObjectKind::SnapshotBody)
            .map_err(PackError::seal("the snapshot's body"))?;
        codec::decode(&plain)
    }
}
