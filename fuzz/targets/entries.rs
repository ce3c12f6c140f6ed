//! The body of an entries page: names and metadata, which restore acts on.
//!
//! Invariant: no path that decodes leads out of the target.
//! Never here: restoring.
#![no_main]

use libfuzzer_sys::fuzz_target;
use pack::manifest::{EntriesBody, Entry};

fuzz_target!(|bytes: &[u8]| {
    let Ok(body) = EntriesBody::decode(bytes) else { return };
    for entry in &body.entries {
        let mut parts = entry.path.split(|byte| *byte == b'/');
        assert!(parts.all(|part| !matches!(part, b"" | b"." | b"..") && !part.contains(&0)));
    }
    assert!(body.entries.is_sorted_by_key(Entry::sort_key));
    let again = body.encode().expect("what decodes encodes");
    assert_eq!(EntriesBody::decode(&again), Ok(body));
});
