//! The coordination records, the memory of checks and the secrets; the first byte says which.
//!
//! Invariant: what decodes encodes to the same bytes.
//! Never here: slots, epochs, snapshots, which have targets of their own.
#![no_main]

use libfuzzer_sys::fuzz_target;
use pack::{
    Announced, Certificate, Claim, Condemned, Dead, Ended, EpochSecrets, Forgotten, Grant, Hold, Lease, Seen, SlotSecrets,
    SnapshotExtension, Verified, codec,
};

macro_rules! returns {
    ($record:ty, $bytes:expr) => {
        if let Ok(record) = codec::decode::<$record>($bytes) {
            assert_eq!(codec::encode(&record).as_deref(), Ok($bytes));
        }
    };
}

fuzz_target!(|bytes: &[u8]| {
    let Some((which, bytes)) = bytes.split_first() else { return };
    match which {
        0 => returns!(Announced, bytes),
        1 => returns!(Seen, bytes),
        2 => returns!(Lease, bytes),
        3 => returns!(Condemned, bytes),
        4 => returns!(Dead, bytes),
        5 => returns!(Forgotten, bytes),
        6 => returns!(Certificate, bytes),
        7 => returns!(Grant, bytes),
        8 => returns!(SlotSecrets, bytes),
        9 => returns!(EpochSecrets, bytes),
        10 => returns!(Claim, bytes),
        11 => returns!(Hold, bytes),
        12 => returns!(SnapshotExtension, bytes),
        13 => returns!(Verified, bytes),
        _ => returns!(Ended, bytes),
    }
});
