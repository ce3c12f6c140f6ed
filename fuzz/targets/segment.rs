//! The table of an index segment: every trailer in it encodes again.
#![no_main]

use libfuzzer_sys::fuzz_target;
use pack::Segment;

fuzz_target!(|bytes: &[u8]| {
    if let Ok(segment) = Segment::decode(bytes) {
        for pack in &segment.packs {
            pack.trailer.encode().expect("what was decoded is within every limit");
        }
    }
});
