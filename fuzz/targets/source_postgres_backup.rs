//! All that a walsender says from the start of a base backup on, in both grammars, whole and incremental.
//!
//! Invariant: its events are of the promised form, and end well only within that form.
//! Never here: a server.
#![no_main]

use libfuzzer_sys::fuzz_target;
use tokio::runtime::{Builder, Runtime};

/// The backup before, of two files.
const PREVIOUS: &str = "{ \"PostgreSQL-Backup-Manifest-Version\": 2,\n\"Files\": [\n\
    { \"Path\": \"backup_label\", \"Size\": 3, \"Last-Modified\": \"x\" },\n\
    { \"Path\": \"base/5/12\", \"Size\": 8192, \"Last-Modified\": \"x\" }\n],\n\
    \"Manifest-Checksum\": \"@\"}\n";

thread_local! {
    static RUNTIME: Runtime = Builder::new_current_thread().enable_time().build().expect("a runtime");
}

fuzz_target!(|bytes: &[u8]| {
    let Some((&choice, bytes)) = bytes.split_first() else { return };
    let major = if choice & 1 == 0 { 14 } else { 17 };
    let previous = (choice & 2 != 0).then(|| source::fuzzing::postgres::sealed_manifest(PREVIOUS));
    let read = source::fuzzing::postgres::base_backup(bytes, major, previous);
    let _ = RUNTIME.with(|runtime| runtime.block_on(read));
});
