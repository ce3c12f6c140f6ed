//! Telling what a stream is by its first bytes.
//!
//! Invariant: whatever is told has a name, and the name means the same.
//! Never here: cutting.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let kind = chunk::recognise(bytes);
    assert_eq!(kind.to_string().parse(), Ok(kind));
    let name = String::from_utf8_lossy(bytes);
    if let Ok(kind) = name.parse::<chunk::CutterKind>() {
        assert_eq!(kind.to_string().parse(), Ok(kind));
    }
});
