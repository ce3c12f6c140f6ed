//! Sources: databases, commands and files as entries, both ways.
//!
//! ```text
//! read     files::Walk → WalkedEntry → ContentReader → pieces       command, stdin → pieces       servers → events
//! restore  sink::Target ← SinkFile ← pieces
//! ```
//!
//! A source says what is there at one moment and hands over its bytes; a sink puts them back.
//! What the bytes mean, how they are cut and where they go is decided further down.
//!
//! Invariant: whatever could not be read is reported with its path and cause; nothing is skipped silently.
//! Never here: chunks, encryption, stores, and anything another crate of ours defines.

pub mod blocking;
pub mod command;
pub mod dump;
pub mod entry;
mod error;
pub mod etcd;
pub mod events;
mod fds;
pub mod file_sink;
pub mod files;
#[cfg(fuzzing)]
pub mod fuzzing;
pub mod kubernetes;
mod observe;
mod owners;
pub mod postgres;
mod preflight;
pub mod redis;
mod scratch;
mod secret;
pub mod sink;
pub mod sqlite;
pub mod stdin;
mod tls;
mod xattrs;

pub use error::{ErrorKind, Fault, ProblemKind, SourceError, SourceProblem, with_causes};
pub use preflight::{Finding, Preflight, Verdict, advice};
pub use secret::Secret;
pub use tls::Tls;
