//! What a pack ends in: the end mark, and a sealed trailer that opens to the input.
//!
//! Invariant: nothing that a table expands to is taken into memory past its limit.
//! Never here: AEAD; the target seals the input itself, to get behind it.
#![no_main]

use libfuzzer_sys::fuzz_target;
use pack::{read_end_mark, read_trailer};
use seal::{ObjectKind, RepositoryId, Secret, seal_record};

fuzz_target!(|bytes: &[u8]| {
    let repository = RepositoryId([7; 16]);
    let _ = read_end_mark(bytes);
    let _ = read_trailer(bytes, |_| Some(Secret::new([1; 32])), repository);
    let key = Secret::new([1; 32]);
    let sealed = seal_record(bytes, &key, 3, [9; 16], repository, ObjectKind::Trailer).expect("seals");
    let _ = read_trailer(&sealed, |epoch| (epoch == 3).then(|| key.clone()), repository);
});
