//! A base backup's manifest, line by line.
//!
//! Invariant: its lines are the same however it is cut, and what is written again says the same.
//! Never here: the files that it names.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| source::fuzzing::postgres::manifest(bytes));
