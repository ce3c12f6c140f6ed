//! Where each object lies, relative to the repository's root.
//!
//! ```text
//! config  config-copy  keys/<hash>  keys-copy/<hash>  epochs/<n>  epochs-copy/<n>  packs/<2 hex>/<pack id>  index/<segment id>
//! snapshots/<id>  forgotten/<id>  holds/<snapshot>/<id>  writers/<id>/{announced,seen,lease-<k>,ended}  condemned/<id>  gc/<id>  checks/<id>
//! ```
//!
//! Invariant: names are ASCII, show no content, and are never reused.
//! Invariant: whatever lists objects leaves out names of other forms ([`is_known`]).
//! Never here: reading a listing.

use crate::{ClaimId, CondemnedId, HoldId, PackId, SegmentId, SnapshotId, VerifiedId};

/// The configuration.
pub const CONFIG: &str = "config";
/// Its second copy.
pub const CONFIG_COPY: &str = "config-copy";
/// Prefix of key slots.
pub const KEYS: &str = "keys";
/// Prefix of their second copies.
pub const KEYS_COPY: &str = "keys-copy";
/// Prefix of epochs.
pub const EPOCHS: &str = "epochs";
/// Prefix of their second copies.
pub const EPOCHS_COPY: &str = "epochs-copy";
/// Prefix of packs.
pub const PACKS: &str = "packs";
/// Prefix of index segments.
pub const INDEX: &str = "index";
/// Prefix of snapshots.
pub const SNAPSHOTS: &str = "snapshots";
/// Prefix of what hides snapshots.
pub const FORGOTTEN: &str = "forgotten";
/// Prefix of what holds snapshots.
pub const HOLDS: &str = "holds";
/// Prefix of writer records.
pub const WRITERS: &str = "writers";
/// Prefix of condemned lists.
pub const CONDEMNED: &str = "condemned";
/// Prefix of collectors' claims.
pub const CLAIMS: &str = "gc";
/// Prefix of what checks have verified.
pub const CHECKS: &str = "checks";

/// A key slot, named by BLAKE3 of its bytes.
#[must_use]
pub fn key_slot(bytes: &[u8]) -> String {
    format!("{KEYS}/{}", blake3::hash(bytes).to_hex())
}

/// An epoch; ten digits, so that listings sort.
#[must_use]
pub fn epoch(number: u32) -> String {
    format!("{EPOCHS}/{number:010}")
}

/// The second copy of a key slot or an epoch, byte for byte the same.
#[must_use]
pub fn copy_of(name: &str) -> String {
    name.split_once('/').map_or_else(|| name.to_owned(), |(prefix, rest)| format!("{prefix}-copy/{rest}"))
}

/// A pack.
#[must_use]
pub fn pack(id: &PackId) -> String {
    let hex = id.to_string();
    format!("{PACKS}/{}/{hex}", hex.get(..2).unwrap_or_default())
}

/// An index segment.
#[must_use]
pub fn segment(id: &SegmentId) -> String {
    format!("{INDEX}/{id}")
}

/// A snapshot, or the tombstone of its writer.
#[must_use]
pub fn snapshot(id: &SnapshotId) -> String {
    format!("{SNAPSHOTS}/{id}")
}

/// What hides a snapshot.
#[must_use]
pub fn forgotten(id: &SnapshotId) -> String {
    format!("{FORGOTTEN}/{id}")
}

/// What holds a snapshot.
#[must_use]
pub fn hold(snapshot: &SnapshotId, id: &HoldId) -> String {
    format!("{HOLDS}/{snapshot}/{id}")
}

/// A writer's announcement.
#[must_use]
pub fn announced(id: &SnapshotId) -> String {
    format!("{WRITERS}/{id}/announced")
}

/// The condemned lists that a writer has read.
#[must_use]
pub fn seen(id: &SnapshotId) -> String {
    format!("{WRITERS}/{id}/seen")
}

/// A writer's `k`-th lease renewal.
#[must_use]
pub fn lease(id: &SnapshotId, k: u32) -> String {
    format!("{WRITERS}/{id}/lease-{k:06}")
}

/// What says that a writer has ended which may not delete its record.
#[must_use]
pub fn ended(id: &SnapshotId) -> String {
    format!("{WRITERS}/{id}/ended")
}

/// A condemned list.
#[must_use]
pub fn condemned(id: &CondemnedId) -> String {
    format!("{CONDEMNED}/{id}")
}

/// A collector's claim.
#[must_use]
pub fn claim(id: &ClaimId) -> String {
    format!("{CLAIMS}/{id}")
}

/// What checks have verified.
#[must_use]
pub fn verified(id: &VerifiedId) -> String {
    format!("{CHECKS}/{id}")
}

/// Whether an object of this name is one of the format's. Others may lie beside: they are nobody's business.
#[must_use]
pub fn is_known(name: &str) -> bool {
    let parts: Vec<&str> = name.split('/').collect();
    match parts.as_slice() {
        [CONFIG | CONFIG_COPY] => true,
        [KEYS | KEYS_COPY | INDEX, id] => is_hex(id, 64),
        [EPOCHS | EPOCHS_COPY, number] => is_number(number, 10),
        [PACKS, folder, id] => is_hex(id, 64) && id.get(..2) == Some(folder),
        [SNAPSHOTS | FORGOTTEN | CONDEMNED | CLAIMS | CHECKS, id] => is_hex(id, 32),
        [HOLDS, snapshot, id] => is_hex(snapshot, 32) && is_hex(id, 32),
        [WRITERS, id, "announced" | "seen" | "ended"] => is_hex(id, 32),
        [WRITERS, id, lease] => {
            is_hex(id, 32) && lease.strip_prefix("lease-").is_some_and(|renewal| is_number(renewal, 6))
        }
        _ => false,
    }
}

fn is_hex(text: &str, len: usize) -> bool {
    text.len() == len && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}

fn is_number(text: &str, len: usize) -> bool {
    text.len() == len && text.bytes().all(|byte| byte.is_ascii_digit())
}

/// The last part of a name.
#[must_use]
pub fn last(name: &str) -> &str {
    name.rsplit('/').next().unwrap_or(name)
}
