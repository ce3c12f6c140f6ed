//! The ends of an RDB that passes by.
//!
//! Invariant: it is believed or not however it is cut, and believed with a checksum that is right.
//! Never here: records.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| source::fuzzing::redis::rdb(bytes));
