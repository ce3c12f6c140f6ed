//! The frame and what lies signed in clear: the first byte picks the kind, the rest is the object.
#![no_main]

use libfuzzer_sys::fuzz_target;
use pack::{Config, Epoch, Frame, Slot};
use seal::{Identity, ObjectKind, RepositoryId};

const KINDS: [ObjectKind; 6] = [
    ObjectKind::Segment,
    ObjectKind::Condemned,
    ObjectKind::WriterAnnounced,
    ObjectKind::Dead,
    ObjectKind::Config,
    ObjectKind::Epoch,
];

fuzz_target!(|bytes: &[u8]| {
    let Some((kind, object)) = bytes.split_first() else { return };
    let (repository, owner) = (RepositoryId([7; 16]), Identity([7; 32]));
    if let Ok(frame) = Frame::parse(object, KINDS[usize::from(*kind) % KINDS.len()]) {
        let sections: usize = frame.sections.iter().map(|section| section.len()).sum();
        assert!(sections < object.len(), "sections are parts of the object");
        assert!(frame.verify(repository).is_err(), "nobody can sign as someone by chance");
    }
    let _ = (Config::decode(object), Epoch::decode(object, owner, repository), Slot::decode(object, owner, repository));
});
