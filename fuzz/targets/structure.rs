//! The structure half of a page: what decodes encodes again, and says the same.
#![no_main]

use libfuzzer_sys::fuzz_target;
use pack::manifest::Structure;

fuzz_target!(|bytes: &[u8]| {
    if let Ok(structure) = Structure::decode(bytes) {
        let _ = (structure.body(), structure.content());
        let again = structure.encode().expect("what was decoded is within every limit");
        assert_eq!(Structure::decode(&again).as_ref().ok(), Some(&structure));
    }
});
