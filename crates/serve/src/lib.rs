//! What looks into a repository for as long as somebody asks: the mount, and a server for WebDAV.
//!
//! ```text
//! kernel ──► mount ──┬─► layout, component, neighbours, ahead ─► engine::View ─► store
//! clients ─► webdav ─┘
//! ```
//!
//! Invariant: nothing here writes to a repository.
//! Never here: how snapshots are read; that is the engine's. What is told to people; that is the command line's.

mod ahead;
mod component;
mod error;
mod layout;
pub mod mount;
mod neighbours;
mod trouble;
pub mod webdav;

pub use error::ServeError;
pub use trouble::Trouble;
