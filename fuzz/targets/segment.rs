//! An index segment's table, as it is once it is opened and decompressed.
//!
//! Invariant: no input panics or takes more memory than a few times its own length.
//! Never here: frames.
#![no_main]

use libfuzzer_sys::fuzz_target;
use pack::Segment;

fuzz_target!(|bytes: &[u8]| {
    if let Ok(segment) = Segment::decode(bytes) {
        assert!(segment.packs.len() * 61 <= bytes.len());
    }
});
