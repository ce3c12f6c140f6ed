//! The body half of a page of entries: what decodes encodes again, says the same, and is in order.
#![no_main]

use libfuzzer_sys::fuzz_target;
use pack::manifest::EntriesBody;

fuzz_target!(|bytes: &[u8]| {
    if let Ok(body) = EntriesBody::decode(bytes) {
        assert!(
            body.entries.iter().is_sorted_by_key(|entry| entry.sort_key()),
            "entries are in the order of their keys"
        );
        let again = body.encode().expect("what was decoded is within every limit");
        assert_eq!(EntriesBody::decode(&again).as_ref().ok(), Some(&body));
    }
});
