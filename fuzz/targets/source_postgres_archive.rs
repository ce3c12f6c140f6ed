//! pg_dump's archive and the end of its plain dumps, while they pass by.
//!
//! Invariant: what an archive says of itself is the same however it is cut.
//! Never here: pg_dump.
#![no_main]

use libfuzzer_sys::fuzz_target;
use source::dump::{Archive, Contents, NotWhole, PLAIN_END_MARK, PlainEnd};

fuzz_target!(|bytes: &[u8]| {
    let whole = follow([bytes].into_iter());
    assert_eq!(whole, follow(source::fuzzing::pieces(bytes)));
    let mut end = PlainEnd::default();
    source::fuzzing::pieces(bytes).for_each(|piece| end.push(piece));
    let mut at_once = PlainEnd::default();
    at_once.push(bytes);
    assert_eq!(end.is_complete(PLAIN_END_MARK), at_once.is_complete(PLAIN_END_MARK));
});

fn follow<'a>(pieces: impl Iterator<Item = &'a [u8]>) -> Result<Contents, NotWhole> {
    let mut archive = Archive::default();
    for piece in pieces {
        archive.push(piece)?;
    }
    archive.finish()
}
