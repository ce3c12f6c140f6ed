//! Every durable format: what lies in the store, byte for byte. `docs/FORMAT.md` is the authority.
//!
//! ```text
//! names      where each object lies
//! frame      the shape of every small object: sections and a signature
//! config, keys, epoch, snapshot, coordination      small objects
//! pack       blobs and a trailer; the unit of upload
//! segment    the trailers of many packs again; the truth about where chunks are
//! manifest   pages of entries and of chunk ids which rebuild a component
//! codec      bincode with everything pinned, for the small structures; columns, for the hot tables
//! ```
//!
//! Invariant: decoders never panic, never index, and never allocate what a length field merely claims.
//! Invariant: encoding what was decoded gives the same bytes.
//!
//! Never here: I/O, clocks, randomness, async. `store` moves bytes; we shape them.

pub mod codec;
mod columns;
mod config;
mod coordination;
mod epoch;
mod error;
mod frame;
mod ids;
mod keys;
pub mod manifest;
pub mod names;
mod object;
mod segment;
mod snapshot;
#[cfg(test)]
mod tests;
mod trailer;

pub use config::{Config, FORMAT_VERSION};
pub use coordination::{
    Announced, Claim, Condemned, Dead, Ended, Forgotten, Hold, HoldEffect, Lease, Seen, Verified, VerifiedRun,
};
pub use epoch::{Epoch, EpochGrant};
pub use error::PackError;
pub use frame::{Frame, Signer};
pub use ids::{ClaimId, CondemnedId, HoldId, PackId, SegmentId, SnapshotId, VerifiedId};
pub use keys::{Certificate, EpochSecrets, Grant, Protector, Role, Slot, SlotSecrets};
pub use object::{
    END_MARK_LEN, FinishedPack, PackBuilder, PackSeal, blob_binding, open_blob_key, padded_len, read_end_mark,
    read_trailer,
};
pub use segment::{PackEntry, Segment};
pub use snapshot::{
    Component, ComponentBody, ComponentState, Origin, Rewritten, Snapshot, SnapshotBody, SnapshotExtension,
    SnapshotState, SnapshotStructure, Undeleted,
};
pub use trailer::{BlobKind, BlobRow, PackClass, SealRow, Trailer};
