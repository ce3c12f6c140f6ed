//! What a Redis server may send, for the targets in `fuzz/`.
//!
//! Never here: a server.

use std::io::Cursor;
use std::time::Duration;

use super::connection::Connection;
use super::read::transfer;
use super::{Checksum, Crc64, RdbEnd};
use crate::SourceError;
use crate::fuzzing::pieces;

/// All answers of a server that lets us in and replicates: `INFO`, `REPLCONF`, `PSYNC`, and the RDB in either framing.
///
/// # Errors
///
/// As a dump has them.
pub async fn replication(bytes: &[u8]) -> Result<(), SourceError> {
    let wire = tokio::io::join(Cursor::new(bytes.to_vec()), tokio::io::sink());
    let connection = Connection::over(Box::new(wire), "redis".to_owned(), Duration::from_secs(5));
    crate::fuzzing::drain(transfer(connection)).await
}

/// Watches an RDB pass by, whole and in pieces, as it is and with a checksum that is right.
///
/// # Panics
///
/// If it is believed in one way only.
pub fn rdb(bytes: &[u8]) {
    let finish = |bytes: &[u8]| {
        let mut cut = RdbEnd::default();
        pieces(bytes).for_each(|piece| cut.push(piece));
        let mut whole = RdbEnd::default();
        whole.push(bytes);
        let (cut, whole) = (cut.finish(), whole.finish());
        assert_eq!(cut, whole);
        whole
    };
    let _ = finish(bytes);
    let mut signed = [b"REDIS0011", bytes, b"\xff"].concat();
    let mut crc = Crc64::default();
    crc.push(&signed);
    let crc = crc.value();
    signed.extend(crc.to_le_bytes());
    assert_eq!(finish(&signed), Ok(if crc == 0 { Checksum::Off } else { Checksum::Right }));
}
