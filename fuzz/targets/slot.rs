//! A key slot's record: read before any key is had, from an object that anybody may have written.
//!
//! Invariant: what decodes encodes to the same bytes.
//! Never here: Argon2id, whose costs are capped elsewhere.
#![no_main]

use libfuzzer_sys::fuzz_target;
use pack::{Slot, codec};
use seal::{ExchangeKey, Identity, RepositoryId, Secret};

fuzz_target!(|bytes: &[u8]| {
    let repository = RepositoryId([7; 16]);
    let _ = Slot::decode(bytes, Identity([1; 32]), repository);
    if let Ok(slot) = codec::decode::<Slot>(bytes) {
        assert_eq!(codec::encode(&slot).as_deref(), Ok(bytes));
        let _ = slot.certificate.verify(Identity([1; 32]), repository);
        let _ = slot.open_secrets(&Secret::new([1; 32]), repository);
        let key = ExchangeKey::from_secret(Secret::new([2; 32]));
        slot.grants.iter().for_each(|grant| drop(grant.open(&key, repository)));
    }
});
