//! A trailer's table, as it is once it is opened and decompressed.
//!
//! Invariant: what decodes encodes to the same bytes, but for the extension.
//! Never here: compression (see `pack_tail`).
#![no_main]

use libfuzzer_sys::fuzz_target;
use pack::Trailer;

fuzz_target!(|bytes: &[u8]| {
    let Ok(trailer) = Trailer::decode(bytes) else { return };
    let again = trailer.encode().expect("what decodes encodes");
    assert!(bytes.starts_with(again.get(..again.len() - 4).expect("an extension")));
    let chunks: usize = trailer.blobs.iter().map(|blob| trailer.chunks_of(blob).len()).sum();
    assert_eq!(chunks, trailer.chunks.len());
    let end = trailer.blobs.last().map_or(0, |blob| blob.offset + u64::from(blob.sealed_len));
    assert_eq!(trailer.blobs_len(), end);
});
