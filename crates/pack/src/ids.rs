//! The names of objects: random ids and content hashes, in lower-case hex.
//!
//! Invariant: a name is never reused for other bytes.
//! Never here: paths (see [`crate::names`]).

use serde::{Deserialize, Serialize};

macro_rules! id {
    ($(#[$doc:meta])* $name:ident, $len:literal) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        pub struct $name(pub [u8; $len]);

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(&hex::encode(self.0))
            }
        }

        impl std::fmt::Debug for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                write!(f, concat!(stringify!($name), "({})"), self)
            }
        }

        impl $name {
            /// Reads the hex form that object names use; none if it is not exactly that.
            #[must_use]
            pub fn from_hex(text: &str) -> Option<Self> {
                let mut bytes = [0; $len];
                hex::decode_to_slice(text, &mut bytes).ok()?;
                (hex::encode(bytes) == text).then_some(Self(bytes))
            }
        }
    };
}

id!(
    /// BLAKE3 of a pack's bytes.
    PackId,
    32
);
id!(
    /// BLAKE3 of an index segment's bytes.
    SegmentId,
    32
);
id!(
    /// A snapshot, and the writer that made or is making it: random.
    SnapshotId,
    16
);
id!(
    /// A condemned list: random.
    CondemnedId,
    16
);
id!(
    /// A collector's claim: random.
    ClaimId,
    16
);
id!(
    /// What holds a snapshot: random, or, for the keep-until that a snapshot has itself, the snapshot's id.
    HoldId,
    16
);
id!(
    /// A record of what checks have verified: random.
    VerifiedId,
    16
);

impl PackId {
    /// The id of an object given in pieces.
    #[must_use]
    pub fn of<'a>(pieces: impl IntoIterator<Item = &'a [u8]>) -> Self {
        let mut hasher = blake3::Hasher::new();
        for piece in pieces {
            hasher.update(piece);
        }
        Self(*hasher.finalize().as_bytes())
    }

    /// The first half, as records of checks name packs: nobody finds two packs of the same half.
    #[must_use]
    pub fn half(&self) -> [u8; 16] {
        self.0.first_chunk().copied().unwrap_or_default()
    }
}

impl SegmentId {
    /// The id of an object.
    #[must_use]
    pub fn of(bytes: &[u8]) -> Self {
        Self(*blake3::hash(bytes).as_bytes())
    }
}
