//! The trailer: what decodes encodes again, and says the same; so does the end mark that stands behind it.
#![no_main]

use libfuzzer_sys::fuzz_target;
use pack::{Trailer, read_end_mark};

fuzz_target!(|bytes: &[u8]| {
    let _ = read_end_mark(bytes);
    if let Ok(trailer) = Trailer::decode(bytes) {
        for blob in &trailer.blobs {
            assert_eq!(trailer.chunks_of(blob).len(), blob.chunk_count as usize, "a blob's chunks are in the table");
        }
        let again = trailer.encode().expect("what was decoded is within every limit");
        assert_eq!(Trailer::decode(&again).as_ref().ok(), Some(&trailer));
    }
});
