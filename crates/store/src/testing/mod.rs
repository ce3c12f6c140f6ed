//! Stores for tests: one in memory, one that fails on order, a real S3 server, and the suite for all.
//!
//! | file | holds |
//! |---|---|
//! | `memory` | [`MemoryStore`] |
//! | `faulty` | [`FaultyStore`]: crashes, lost and late replies, lies, wrong bytes |
//! | `s3_server` | [`S3Server`]: s3s-fs on a free port |
//! | [`conformance`] | what every store must do |
//!
//! Invariant: nothing here is compiled into the program; the feature `testing` brings it in.
//! Never here: what the engine means by an object.

#![allow(clippy::missing_panics_doc)] // a test helper's way of failing

pub mod conformance;
mod faulty;
mod memory;
mod s3_server;

pub use faulty::{Call, Fault, FaultyStore, Trigger, Verb};
pub use memory::MemoryStore;
pub use s3_server::S3Server;
