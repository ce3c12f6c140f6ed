//! What an etcd member may send, for the targets in `fuzz/`.
//!
//! Never here: a member.

use prost::Message;
use sha2::{Digest as _, Sha256};

use super::SnapshotEnd;
use super::messages::{AuthenticateResponse, ResponseHeader, SnapshotResponse, StatusResponse};
use crate::fuzzing::pieces;

/// Decodes each message that we take from `bytes`.
///
/// # Panics
///
/// If what was decoded is another message once it is encoded.
pub fn messages(bytes: &[u8]) {
    again::<ResponseHeader>(bytes);
    again::<SnapshotResponse>(bytes);
    again::<StatusResponse>(bytes);
    again::<AuthenticateResponse>(bytes);
}

fn again<M: Message + Default + PartialEq + std::fmt::Debug>(bytes: &[u8]) {
    let Ok(message) = M::decode(bytes) else { return };
    assert_eq!(M::decode(&*message.encode_to_vec()).as_ref(), Ok(&message));
}

/// Watches a snapshot pass by, whole and in pieces, as it is and with a hash that is right.
///
/// # Panics
///
/// If it is believed in one way only.
pub fn snapshot(bytes: &[u8]) {
    let finish = |bytes: &[u8]| {
        let mut cut = SnapshotEnd::default();
        pieces(bytes).for_each(|piece| cut.push(piece));
        let mut whole = SnapshotEnd::default();
        whole.push(bytes);
        let (cut, whole) = (cut.finish(), whole.finish());
        assert_eq!(cut, whole);
        whole
    };
    let _ = finish(bytes);
    let mut sealed = bytes.to_vec();
    sealed.resize((bytes.len().max(1)).next_multiple_of(512), 0);
    sealed.extend(Sha256::new_with_prefix(&sealed).finalize());
    assert_eq!(finish(&sealed), Ok(()));
}
