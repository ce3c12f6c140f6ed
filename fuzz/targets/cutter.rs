//! Every cutter over any stream, tars among them; the first bytes say which cutter and how the stream is read.
//!
//! Invariant: the cuts cover the stream and do not depend on how it was read.
//! Never here: what the cuts are good for.
#![no_main]

use std::sync::{Arc, LazyLock};

use chunk::{CHUNK_LEN_MAX, Cutter, CutterKind, Gear};
use libfuzzer_sys::fuzz_target;
use seal::{Purpose, Secret};

static GEAR: LazyLock<Arc<Gear>> = LazyLock::new(|| Arc::new(Gear::new(Purpose::Gear.numbers(&Secret::new([1; 32])))));

fn cuts(kind: CutterKind, data: &[u8], step: usize) -> Vec<usize> {
    let mut cutter = Cutter::new(kind, Arc::clone(&GEAR));
    let (mut start, mut read, mut cuts) = (0, 0, Vec::new());
    while start < data.len() {
        match cutter.next(data.get(start..read).expect("within"), read == data.len()) {
            Some(len) => {
                assert!((1..=CHUNK_LEN_MAX).contains(&len) && start + len <= read);
                cuts.push(len);
                start += len;
            }
            None => {
                assert!(read < data.len(), "asks for bytes past the end");
                read = (read + step).min(data.len());
            }
        }
    }
    cuts
}

fuzz_target!(|bytes: &[u8]| {
    let [which, step, data @ ..] = bytes else { return };
    let kind = match which % 6 {
        0 => CutterKind::Cdc(1 << 10),
        1 => CutterKind::Cdc(4 << 10),
        2 => CutterKind::DEFAULT,
        3 => CutterKind::Pages(512),
        _ => CutterKind::Tar,
    };
    let whole = cuts(kind, data, data.len().max(1));
    assert_eq!(whole.iter().sum::<usize>(), data.len());
    assert_eq!(whole, cuts(kind, data, usize::from(*step) * 16 + 1));
});
