//! The decoders of what servers send, within reach of the targets in `fuzz/`; built only with the `fuzzing` cfg.
//!
//! ```text
//! bytes → as if a server had sent them → the decoder → laws which hold whatever the bytes
//! ```
//!
//! Invariant: what breaks a law panics here, and nothing else does.
//! Never here: sockets, clocks, and decoders that are public anyway.

use futures::StreamExt as _;

use crate::SourceError;
use crate::entry::{EntryKind, EntryPath};
use crate::events::{Event, Events};

pub use crate::etcd::fuzzing as etcd;
pub use crate::kubernetes::fuzzing as kubernetes;
pub use crate::postgres::fuzzing as postgres;
pub use crate::redis::fuzzing as redis;

/// The pieces that `bytes` come in, of lengths that its first byte chooses.
pub fn pieces(bytes: &[u8]) -> impl Iterator<Item = &[u8]> {
    let len = bytes.first().map_or(1, |&byte| usize::from(byte) + 1);
    bytes.chunks(len)
}

/// Reads to the end, and sees that the stream is of the form that `events` promises.
///
/// # Errors
///
/// The stream's own.
///
/// # Panics
///
/// If it is not of that form.
pub async fn drain(mut events: Events) -> Result<(), SourceError> {
    let mut open: Option<(EntryKind, Option<u64>)> = None;
    let mut last_block = None;
    while let Some(event) = events.next().await {
        match event? {
            Event::Begin(begun) => {
                assert!(open.is_none(), "an entry begins within another one");
                let path = begun.entry.path.clone().into_bytes();
                assert!(EntryPath::try_from(path).is_ok(), "a path that leads out of the target");
                open = Some((begun.entry.kind, begun.base.map(|base| base.len)));
                last_block = None;
            }
            Event::Data(data) => {
                assert!(matches!(open, Some((EntryKind::File { .. }, None))), "data of no file");
                assert!(!data.is_empty());
            }
            Event::Block { number, data } => {
                assert!(matches!(open, Some((EntryKind::File { .. }, Some(_)))), "a block of no file");
                assert!(last_block.is_none_or(|last| last < number) && !data.is_empty());
                last_block = Some(number);
            }
            Event::End => assert!(open.take().is_some(), "an end without a beginning"),
            Event::Fact { .. } | Event::Warning(_) => {}
        }
    }
    assert!(open.is_none(), "a stream that ends well within an entry");
    Ok(())
}
