//! A page's structure.
//!
//! Invariant: what decodes encodes to the same bytes, but for the extension.
//! Never here: bodies.
#![no_main]

use libfuzzer_sys::fuzz_target;
use pack::manifest::{PageKind, Structure};

fuzz_target!(|bytes: &[u8]| {
    let Ok(page) = Structure::decode(bytes) else { return };
    let again = page.encode().expect("what decodes encodes");
    assert!(bytes.starts_with(again.get(..again.len() - 4).expect("an extension")));
    assert_eq!(page.body().is_some(), page.kind != PageKind::Content);
    assert_eq!(page.content().len() + usize::from(page.body().is_some()), page.children.len());
});
