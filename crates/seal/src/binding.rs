//! What sealed bytes are bound to: the additional data of every AEAD call.
//!
//! ```text
//! suite (1 B) ‖ repository id (16 B) ‖ object kind (1 B) ‖ seal id (16 B) ‖ counter (8 B LE)
//! ```
//!
//! A blob that is swapped with another, replayed as another kind of thing, or carried into another repository
//! does not open. The name and the place of the carrier are left out on purpose: repack moves blobs unchanged.
//!
//! Invariant: (seal id, counter) is used once under one key.
//! Never here: keys.

use serde::{Deserialize, Serialize};

use crate::SealError;

/// Which key exchange and which cipher.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub enum Suite {
    /// X25519 and ChaCha20-Poly1305 (RFC 7748, RFC 8439).
    #[default]
    X25519ChaCha20Poly1305,
}

impl Suite {
    /// The byte in objects.
    #[must_use]
    pub const fn to_byte(self) -> u8 {
        1
    }

    /// Reads the byte.
    ///
    /// # Errors
    ///
    /// [`SealError::Suite`] for a suite of a later version.
    pub const fn from_byte(byte: u8) -> Result<Self, SealError> {
        match byte {
            1 => Ok(Self::X25519ChaCha20Poly1305),
            suite => Err(SealError::Suite { suite }),
        }
    }
}

/// The random id of a repository.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct RepositoryId(pub [u8; 16]);

impl std::fmt::Display for RepositoryId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&hex::encode(self.0))
    }
}

impl std::fmt::Debug for RepositoryId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "RepositoryId({self})")
    }
}

/// The random id of one use of a key: of a pack as first written, or of a record.
pub type SealId = [u8; 16];

/// What kind of thing is sealed. The numbers are part of the format.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum ObjectKind {
    /// A blob of a component's content.
    Data = 1,
    /// A blob of page bodies: names and metadata.
    Body = 2,
    /// A blob of page structures: child ids and lengths.
    Structure = 3,
    /// A pack's trailer.
    Trailer = 4,
    /// An index segment.
    Segment = 5,
    /// The structure half of a snapshot.
    SnapshotStructure = 6,
    /// The body half of a snapshot.
    SnapshotBody = 7,
    /// A writer's announcement.
    WriterAnnounced = 8,
    /// The condemned lists that a writer has read.
    WriterSeen = 9,
    /// A writer's lease renewal.
    WriterLease = 10,
    /// A list of condemned packs.
    Condemned = 11,
    /// The tombstone of a writer declared dead.
    Dead = 12,
    /// What hides a snapshot.
    Forgotten = 13,
    /// An epoch's secrets, granted to a key slot.
    Grant = 14,
    /// A key slot's secrets.
    KeySlot = 15,
    /// A pack's seal key, wrapped to an epoch.
    SealKey = 16,
    /// The configuration of a repository (signed, in clear).
    Config = 17,
    /// An epoch (signed, in clear).
    Epoch = 18,
    /// A key slot's certificate (signed, in clear).
    Certificate = 19,
    /// A collector's claim.
    Claim = 20,
    /// What holds a snapshot, or lifts that.
    Hold = 21,
    /// What checks have verified, and when.
    Verified = 22,
    /// What says that a writer has ended.
    WriterEnded = 23,
}

/// What one AEAD call is bound to.
#[derive(Debug, Clone, Copy)]
pub struct Binding {
    /// Key exchange and cipher.
    pub suite: Suite,
    /// The repository the bytes belong to.
    pub repository: RepositoryId,
    /// What they are.
    pub kind: ObjectKind,
    /// Which use of the key.
    pub seal_id: SealId,
    /// Which message under it.
    pub counter: u64,
}

/// Bytes in a binding.
pub(crate) const BINDING_LEN: usize = 42;

impl Binding {
    /// The additional data, laid out as in the module header.
    pub(crate) fn to_bytes(self) -> [u8; BINDING_LEN] {
        let mut out = [0; BINDING_LEN];
        let parts = [self.suite.to_byte()]
            .into_iter()
            .chain(self.repository.0)
            .chain([self.kind as u8])
            .chain(self.seal_id)
            .chain(self.counter.to_le_bytes());
        out.iter_mut().zip(parts).for_each(|(to, from)| *to = from);
        out
    }

    /// The 96-bit nonce: four zero bytes, then the counter (keys are used for one seal id only).
    pub(crate) fn nonce(self) -> [u8; 12] {
        let mut nonce = [0; 12];
        nonce.iter_mut().skip(4).zip(self.counter.to_le_bytes()).for_each(|(to, from)| *to = from);
        nonce
    }
}
