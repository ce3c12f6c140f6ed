//! The cutters, the tar walk above all: chunks cover the stream, whatever it is and however it is handed over.
#![no_main]

use std::sync::Arc;

use chunk::{CHUNK_LEN_MAX, Cutter, CutterKind, Gear, recognise};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let mut table = Box::new([0u64; 256]);
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    for row in table.iter_mut() {
        state = state.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(1);
        *row = state;
    }
    let gear = Arc::new(Gear::new(table));
    for kind in [recognise(bytes), CutterKind::Tar, CutterKind::Cdc(1 << 10), CutterKind::Pages(512)] {
        let mut cutter = Cutter::new(kind, Arc::clone(&gear));
        let mut rest = bytes;
        while !rest.is_empty() {
            let cut = cutter.next(rest, true).expect("at the end of a stream there is always a cut");
            assert!(cut > 0 && cut <= rest.len() && cut <= CHUNK_LEN_MAX, "{kind}: a cut of {cut}");
            rest = &rest[cut..];
        }
    }
});
