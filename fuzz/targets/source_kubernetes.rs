//! Lists of objects as kubectl prints them.
//!
//! Invariant: objects are the same however the list is cut, and what is kept of one does not change again.
//! Never here: kubectl.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| source::fuzzing::kubernetes::list(bytes));
