//! The objects through which writers, collectors and those who forget agree without locks, and the memory of checks. The
//! protocol is in `docs/FORMAT.md`.
//!
//! Each is a frame with one section: a sealed record under the index key (bincode).
//!
//! Invariant: none of them is ever changed; a new fact is a new object.
//! Never here: the protocol itself (see `engine`).

use seal::{ObjectKind, RepositoryId, SealId, Secret, open_record, seal_record};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::{ClaimId, CondemnedId, Frame, HoldId, PackError, PackId, Signer, SnapshotId, VerifiedId, codec};

macro_rules! record {
    ($name:ident, $kind:expr) => {
        impl $name {
            /// The object.
            ///
            /// # Errors
            ///
            /// Only if the record is too long.
            pub fn encode(
                &self,
                index_key: &Secret,
                epoch: u32,
                salt: SealId,
                signer: &Signer,
                repository: RepositoryId,
            ) -> Result<Vec<u8>, PackError> {
                encode(self, $kind, index_key, epoch, salt, signer, repository)
            }

            /// Opens what [`Frame::decode`] took apart. `index_key` gives the index key of an epoch, if it is known.
            ///
            /// # Errors
            ///
            /// [`PackError::Seal`] if it does not open, [`PackError::Inconsistent`] if it is no such record.
            pub fn open(
                frame: &Frame<'_>,
                index_key: impl Fn(u32) -> Option<Secret>,
                repository: RepositoryId,
            ) -> Result<Self, PackError> {
                open(frame, $kind, index_key, repository)
            }
        }
    };
}

/// `writers/<id>/announced`: a backup has begun (W1).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Announced {
    /// The writer, which is also the snapshot it wants to commit.
    pub writer: SnapshotId,
    /// The host's name, for people.
    pub host: String,
    /// When, by the host's clock, for people: nanoseconds since 1970.
    pub started_at: i64,
    /// For later versions.
    pub extension: Vec<u8>,
}
record!(Announced, ObjectKind::WriterAnnounced);

/// `writers/<id>/seen`: the condemned lists which the writer has read (W2), once and for good.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Seen {
    /// The writer.
    pub writer: SnapshotId,
    /// Every list that it read; never "the highest".
    pub lists: Vec<CondemnedId>,
    /// For later versions.
    pub extension: Vec<u8>,
}
record!(Seen, ObjectKind::WriterSeen);

/// `writers/<id>/lease-<k>`: the writer is still alive.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lease {
    /// The writer.
    pub writer: SnapshotId,
    /// Counts from 1.
    pub renewal: u32,
    /// For later versions.
    pub extension: Vec<u8>,
}
record!(Lease, ObjectKind::WriterLease);

/// `writers/<id>/ended`: the writer will ask for nothing more, and nothing of it is on its way. It stands for the removal of the
/// record by a writer that may not delete.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ended {
    /// The writer.
    pub writer: SnapshotId,
    /// For later versions.
    pub extension: Vec<u8>,
}
record!(Ended, ObjectKind::WriterEnded);

/// `condemned/<id>`: packs that are going away; never taken back.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Condemned {
    /// The list.
    pub list: CondemnedId,
    /// The packs.
    pub packs: Vec<PackId>,
    /// For later versions.
    pub extension: Vec<u8>,
}
record!(Condemned, ObjectKind::Condemned);

/// `snapshots/<id>` in place of a commit: a collector declared the writer dead.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Dead {
    /// The writer.
    pub writer: SnapshotId,
    /// For later versions.
    pub extension: Vec<u8>,
}
record!(Dead, ObjectKind::Dead);

/// `forgotten/<id>`: the snapshot is hidden, and wins over a late commit.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Forgotten {
    /// The snapshot.
    pub snapshot: SnapshotId,
    /// For later versions.
    pub extension: Vec<u8>,
}
record!(Forgotten, ObjectKind::Forgotten);

/// `gc/<id>`: a collector is at work. A hint against double work, and what it compares the ages of leases with.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Claim {
    /// The claim.
    pub claim: ClaimId,
    /// The host's name, for people.
    pub host: String,
    /// When, by the host's clock, for people: nanoseconds since 1970.
    pub started_at: i64,
    /// For later versions.
    pub extension: Vec<u8>,
}
record!(Claim, ObjectKind::Claim);

/// What a [`Hold`] does besides lifting others.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum HoldEffect {
    /// Nothing.
    None,
    /// The snapshot is not to be forgotten, until this is lifted.
    UntilLifted,
    /// The snapshot is not to be forgotten before: nanoseconds since 1970.
    Until(i64),
}

/// `holds/<snapshot>/<id>`: the snapshot is not to be forgotten, or what said so is lifted, or both.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hold {
    /// This record.
    pub hold: HoldId,
    /// The snapshot.
    pub snapshot: SnapshotId,
    /// What it does.
    pub effect: HoldEffect,
    /// Records that hold no more. The snapshot's own id stands for the keep-until that it was committed with.
    pub lifts: Vec<HoldId>,
    /// Why, for people.
    pub reason: String,
    /// For later versions.
    pub extension: Vec<u8>,
}
record!(Hold, ObjectKind::Hold);

/// `checks/<id>`: which packs checks have read whole and found right, and when. A hint: what it says spares a check that
/// asks for it some reading, and nothing else.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Verified {
    /// The record.
    pub record: VerifiedId,
    /// The packs, by when they were read.
    pub runs: Vec<VerifiedRun>,
    /// The first halves of the ids of packs that were found damaged and not found right since.
    pub damaged: Vec<[u8; 16]>,
    /// For later versions.
    pub extension: Vec<u8>,
}
record!(Verified, ObjectKind::Verified);

/// The packs that were verified at one time.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct VerifiedRun {
    /// When the check began, by its host's clock: nanoseconds since 1970.
    pub at: i64,
    /// Their blobs were opened and their chunks named again, too.
    pub is_opened: bool,
    /// The first halves of their ids ([`PackId::half`]).
    pub packs: Vec<[u8; 16]>,
}

fn encode<T: Serialize>(
    record: &T,
    kind: ObjectKind,
    index_key: &Secret,
    epoch: u32,
    salt: SealId,
    signer: &Signer,
    repository: RepositoryId,
) -> Result<Vec<u8>, PackError> {
    let sealed = seal_record(&codec::encode(record)?, index_key, epoch, salt, repository, kind)
        .map_err(PackError::seal("a record"))?;
    Frame::encode(kind, &[&sealed], signer, repository)
}

fn open<T: DeserializeOwned>(
    frame: &Frame<'_>,
    kind: ObjectKind,
    index_key: impl Fn(u32) -> Option<Secret>,
    repository: RepositoryId,
) -> Result<T, PackError> {
    let sealed = frame.section(0)?;
    let epoch = seal::record_epoch(sealed).map_err(PackError::seal("the record"))?;
    let key = index_key(epoch).ok_or(PackError::UnknownEpoch { epoch })?;
    codec::decode(&open_record(sealed, &key, repository, kind).map_err(PackError::seal("the record"))?)
}
