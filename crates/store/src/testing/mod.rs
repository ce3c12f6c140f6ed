//! Stores for tests: one in memory, one that fails on order, and the suite every store must pass.
//!
//! Invariant: nothing here is compiled into the program; the feature `testing` brings it in.
//! Never here: network or disk.

mod memory;

pub use memory::MemoryStore;
