//! The shape of every small object, and the config, which is read before anything is known.
//!
//! Invariant: a frame that is taken apart is put together from its parts alone.
//! Never here: signatures that verify; no input has one.
#![no_main]

use libfuzzer_sys::fuzz_target;
use pack::{Config, Frame, codec};
use seal::ObjectKind;

fuzz_target!(|bytes: &[u8]| {
    let _ = Config::decode(bytes);
    let _ = codec::decode::<Config>(bytes);
    for kind in [ObjectKind::Config, ObjectKind::KeySlot, ObjectKind::SnapshotStructure, ObjectKind::Dead] {
        if let Ok(frame) = Frame::parse(bytes, kind) {
            let sections: usize = frame.sections.iter().map(|section| section.len() + 4).sum();
            let certificate = frame.certificate().map_or(0, |it| codec::encode(it).expect("it was decoded").len());
            assert_eq!(8 + sections + 4 + certificate + 32 + 64, bytes.len());
        }
    }
});
