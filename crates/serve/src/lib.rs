//! What looks into a repository for as long as somebody asks: the mount.
//!
//! ```text
//! kernel ─► mount ─► engine::View ─► store
//! ```
//!
//! Invariant: nothing here writes to a repository.
//! Never here: how snapshots are read; that is the engine's. What is told to people; that is the command line's.

mod error;
pub mod mount;

pub use error::ServeError;
