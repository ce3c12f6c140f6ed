//! The small structures behind the codec: what decodes encodes to the very same bytes.
#![no_main]

use libfuzzer_sys::fuzz_target;
use pack::codec;
use pack::manifest::KeysBody;
use pack::{Condemned, Config, SnapshotBody, SnapshotStructure};

macro_rules! same_bytes {
    ($bytes:expr, $($record:ty),+) => {$(
        if let Ok(record) = codec::decode::<$record>($bytes) {
            let again = codec::encode(&record).expect("what was decoded is within every limit");
            assert_eq!(again, $bytes, "one record has one encoding");
        }
    )+};
}

fuzz_target!(|bytes: &[u8]| {
    same_bytes!(bytes, Condemned, Config, KeysBody, SnapshotBody, SnapshotStructure);
});
