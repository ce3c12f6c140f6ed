//! What the end-to-end tests stand on: repositories on temporary folders, trees to back up, and forged objects.
//!
//! ```text
//! site    a temporary folder with a store in memory, caches and trees; opens repositories on it
//! tree    a folder's content and metadata as read by plain system calls, and what differs between two
//! chaos   random changes to a folder
//! dice    choices that replay from a printed seed
//! forge   objects that only a collector or an attacker would write
//! scheduled a store whose every call waits until a test lets it pass
//! swap    a store in which objects change between a listing and a read
//! binary  the real binary on a host of its own
//! listing a tree down to nanoseconds and access lists, as lines
//! running the real binary while it runs: fed, watched and interrupted
//! shapes  what docs/JSON.md says of each document that the binary prints
//! terminal the real binary on a pseudo-terminal: keys in, screen out
//! servers real servers, private to one test
//! mount   a small file system of its own: for disks that are full
//! fuse    a repository mounted by the real binary
//! dav     a repository served over WebDAV by the real binary, and curl to ask it
//! worn    a file system that fails, or lets one wait, where it is told to
//! ```
//!
//! Invariant: the truth about a tree never comes through the code under test.
//! Never here: what must hold; each suite says that itself.

#![allow(clippy::missing_panics_doc)] // a test helper's way of failing

pub mod binary;
mod chaos;
pub mod dav;
mod dice;
mod forge;
pub mod fuse;
pub mod listing;
pub mod mount;
pub mod running;
mod scheduled;
pub mod servers;
pub mod shapes;
mod site;
mod swap;
pub mod terminal;
mod tree;
pub mod worn;

pub use chaos::change_something;
pub use dice::Dice;
pub use forge::Forge;
pub use scheduled::{Fate, Flaw, Gate, WaitingCall};
pub use site::{
    COST, Site, backup_request, check_all, copy_folder, fork, names_of, password, prune_request, restore_request,
    try_backup, try_prune, try_restore,
};
pub use swap::SwappingStore;
pub use tree::{Node, Tree};
