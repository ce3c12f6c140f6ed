//! The end of the process: at once, and without what C++ does at its end.
//!
//! ```text
//! main, second signal ─► end(code) ─► _exit
//! ```
//!
//! An operation that fails leaves behind what other threads do for it: lookups in the index cache, its closing, jobs of the pool.
//! `exit` would run the destructors of RocksDB's static objects beside them, and a lock that is gone aborts the process: 134 in
//! place of the exit code. Nothing needs them. What the cache has written is the system's; stdout is flushed by whoever
//! writes to it, and stderr has no buffer.
//!
//! Invariant: there is no other way out, but for signals.
//! Never here: waiting for anything; who must not be left behind is waited for by its command.

/// Ends the process with `code`.
pub(crate) fn end(code: u8) -> ! {
    signal_hook::low_level::exit(code.into())
}
