//! The body of a directory page.
//!
//! Invariant: what decodes encodes to the same bytes.
//! Never here: structure.
#![no_main]

use libfuzzer_sys::fuzz_target;
use pack::codec;
use pack::manifest::KeysBody;

fuzz_target!(|bytes: &[u8]| {
    if let Ok(keys) = codec::decode::<KeysBody>(bytes) {
        assert_eq!(codec::encode(&keys).as_deref(), Ok(bytes));
    }
});
