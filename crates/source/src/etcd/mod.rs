//! An etcd cluster: a snapshot of one member, and the command that restores it.
//!
//! ```text
//! each endpoint: Status → the best: a follower that keeps up, else the leader
//! Maintenance.Snapshot → pages of the member's database, then SHA-256 of them all → snapshot.db
//! restore: etcdutl (or etcdctl) snapshot restore
//! ```
//!
//! Invariant: a snapshot is whole only if its last 32 bytes are the SHA-256 of all before. They stay in the file:
//! etcd's own programs want them.
//! Never here: the keys.

#[cfg(fuzzing)]
pub mod fuzzing;
mod messages;
mod preflight;
mod read;
mod restore;
mod trailer;

pub use preflight::preflight;
pub use read::{EtcdSnapshot, snapshot};
pub use restore::{RestorePlan, RestoreTool, SnapshotRestore};
pub use trailer::SnapshotEnd;
