//! An epoch's record.
//!
//! Invariant: what decodes encodes to the same bytes.
//! Never here: grants that open.
#![no_main]

use libfuzzer_sys::fuzz_target;
use pack::{Epoch, codec};
use seal::{Identity, RepositoryId};

fuzz_target!(|bytes: &[u8]| {
    let _ = Epoch::decode(bytes, Identity([1; 32]), RepositoryId([7; 16]));
    if let Ok(epoch) = codec::decode::<Epoch>(bytes) {
        assert_eq!(codec::encode(&epoch).as_deref(), Ok(bytes));
    }
});
