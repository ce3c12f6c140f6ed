//! Members of the archives that a base backup is made of.
//!
//! Invariant: they are the same however the archive is cut, and each has the length of its header.
//! Never here: entries.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| source::fuzzing::postgres::tar(bytes));
