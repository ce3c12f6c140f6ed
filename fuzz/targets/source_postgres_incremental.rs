//! The head of a file of which only some blocks come.
//!
//! Invariant: its length follows from itself alone, and its numbers rise.
//! Never here: blocks.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| source::fuzzing::postgres::incremental(bytes));
