//! Messages of a walsender: a letter, a length and fields.
//!
//! Invariant: what is taken is what lies there, and what is left is left.
//! Never here: what messages mean.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| source::fuzzing::postgres::messages(bytes));
