//! Postgres, read as its replicas read it: whole servers, over the replication protocol, versions 13 to 18.
//!
//! ```text
//! settings, service, passfile → Server ──connect──→ Connection ──base_backup──→ events
//!                                                       │
//!        messages ← tls ← tcp or unix socket ───────────┘
//! events: copy (the server's messages) → tar (members) → members (entries, blocks) ⇄ manifest (sizes, checksums)
//! a restored folder ──restore──→ what is missing in it, and how it is started
//! ```
//!
//! Invariant: the events end well only after the server said that the backup is whole, and every file had the length
//! and checksum that its manifest names.
//! Never here: SQL, dumps, and where the bytes go.

mod address;
mod base_backup;
mod connect;
mod connection;
mod copy;
mod emit;
mod failure;
#[cfg(fuzzing)]
pub mod fuzzing;
mod incremental;
mod login;
mod lsn;
pub mod manifest;
mod members;
mod message;
pub mod passfile;
mod patroni;
mod preflight;
pub mod restore;
mod server;
pub mod service;
mod tar;
mod tls;

pub use address::{Host, hosts};
pub use base_backup::{BaseBackup, Checkpoint, base_backup};
pub use lsn::Lsn;
pub use manifest::Checksums;
pub use patroni::Patroni;
pub use preflight::preflight;
pub use server::{Server, SessionWanted, Tls, TlsMode};
