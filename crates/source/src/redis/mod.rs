//! A Redis or Valkey server, read as a replica reads it, and back.
//!
//! ```text
//! each host: AUTH, INFO → the best: a replica that is in step, else a primary
//! REPLCONF capa eof, PSYNC ? -1 → FULLRESYNC → \n … → $len or $EOF:mark → RDB → dump.rdb, and we leave
//! append-only file: its folder, read as it lies there
//! restore: RDB → dump.rdb, and the same bytes as the base of an append-only file
//! ```
//!
//! Nothing is written on the server's host by us; the server forks to write the RDB, as for any replica.
//!
//! Invariant: an RDB is whole only if it ends in its end mark and its CRC-64 is right. Where the server writes no
//! checksum, that is said.
//! Never here: what the keys hold.

mod aof;
mod connection;
mod crc;
#[cfg(fuzzing)]
pub mod fuzzing;
mod preflight;
mod rdb;
mod read;
mod restore;

pub use aof::{append_only, append_only_preflight};
pub use crc::Crc64;
pub use preflight::preflight;
pub use rdb::{Checksum, RdbEnd};
pub use read::{RedisDump, dump};
pub use restore::RdbRestore;

use std::path::PathBuf;

/// Where a server listens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Address {
    /// TCP: host name or address, and port.
    Tcp(String, u16),
    /// A Unix socket.
    Socket(PathBuf),
}

impl Address {
    /// The server for messages: `redis at HOST:PORT`.
    #[must_use]
    pub fn place(&self) -> String {
        match self {
            Self::Tcp(host, port) if host.contains(':') => format!("redis at [{host}]:{port}"),
            Self::Tcp(host, port) => format!("redis at {host}:{port}"),
            Self::Socket(path) => format!("redis at {}", path.display()),
        }
    }
}
