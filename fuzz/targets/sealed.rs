//! What is sealed, opened with a key that did not seal it: always an error, never a panic.
#![no_main]

use libfuzzer_sys::fuzz_target;
use seal::{Binding, BlobOpener, ExchangeKey, ObjectKind, RepositoryId, Secret, Suite};

fuzz_target!(|bytes: &[u8]| {
    let (key, repository) = (Secret::new([3; 32]), RepositoryId([7; 16]));
    let binding = Binding { suite: Suite::default(), repository, kind: ObjectKind::Data, seal_id: [0; 16], counter: 0 };
    let mut opener = BlobOpener::new().expect("there is memory for a decompressor");
    assert!(opener.open(bytes, bytes.len(), &key, binding).is_err());
    assert!(seal::open_record(bytes, &key, repository, ObjectKind::Segment).is_err());
    assert!(seal::open_letter(bytes, &ExchangeKey::from_secret(key), repository, ObjectKind::Grant).is_err());
    let _ = (seal::record_epoch(bytes), seal::letter_epoch(bytes));
});
