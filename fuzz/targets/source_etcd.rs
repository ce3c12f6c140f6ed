//! Messages of an etcd member, and the end of its snapshot.
//!
//! Invariant: what is decoded is the same message once it is encoded; a hash is right however the snapshot is cut.
//! Never here: gRPC.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    source::fuzzing::etcd::messages(bytes);
    source::fuzzing::etcd::snapshot(bytes);
});
