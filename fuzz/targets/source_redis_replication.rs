//! All that a Redis server says from INFO on, to the end of its RDB in either framing.
//!
//! Invariant: its events are of the promised form, and end well only within that form.
//! Never here: a server.
#![no_main]

use libfuzzer_sys::fuzz_target;
use tokio::runtime::{Builder, Runtime};

thread_local! {
    static RUNTIME: Runtime = Builder::new_current_thread().enable_time().build().expect("a runtime");
}

fuzz_target!(|bytes: &[u8]| {
    let _ = RUNTIME.with(|runtime| runtime.block_on(source::fuzzing::redis::replication(bytes)));
});
