//! Both halves of a snapshot, once they are opened.
//!
//! Invariant: what decodes encodes to the same bytes.
//! Never here: frames.
#![no_main]

use libfuzzer_sys::fuzz_target;
use pack::{SnapshotBody, SnapshotStructure, codec};

fuzz_target!(|bytes: &[u8]| {
    if let Ok(structure) = codec::decode::<SnapshotStructure>(bytes) {
        assert_eq!(codec::encode(&structure).as_deref(), Ok(bytes));
    }
    if let Ok(body) = codec::decode::<SnapshotBody>(bytes) {
        assert_eq!(codec::encode(&body).as_deref(), Ok(bytes));
    }
});
