//! What a walsender may send, for the targets in `fuzz/`.
//!
//! Never here: a server.

use std::io::Cursor;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use sha2::{Digest as _, Sha256};

use super::base_backup::of_connection;
use super::connection::Connection;
use super::incremental::Head;
use super::manifest::{Lines, Manifest, Writer};
use super::message::{Message, Notice, row};
use super::tar::{Member, Part, Tar, TarError};
use crate::SourceError;
use crate::fuzzing::pieces;

/// Takes messages out of `bytes` while they are whole, and reads each as everything that has fields.
///
/// # Panics
///
/// If a message is not what lies there.
pub fn messages(bytes: &[u8]) {
    let mut buffer = BytesMut::from(bytes);
    let mut taken = 0;
    while let Ok(Some(message)) = Message::take(&mut buffer) {
        assert_eq!((Some(&message.letter), 5), (bytes.get(taken), 5));
        taken += 5 + message.body.len();
        assert_eq!(bytes.get(taken - message.body.len()..taken), Some(&message.body[..]));
        if let Some(values) = row(message.body.clone()) {
            assert!(values.len() <= usize::from(u16::MAX));
        }
        let _ = Notice::of(message.body).map(|notice| notice.words());
    }
    assert_eq!(bytes.get(taken..), Some(&buffer[..]));
}

/// Everything that a server of version `major` sends from the start of a base backup on.
///
/// # Errors
///
/// As a base backup has them.
pub async fn base_backup(bytes: &[u8], major: u32, previous: Option<Manifest>) -> Result<(), SourceError> {
    let wire = tokio::io::join(Cursor::new(bytes.to_vec()), tokio::io::sink());
    let connection = Connection::new(Box::new(wire), "postgres".to_owned(), Duration::from_secs(5));
    crate::fuzzing::drain(of_connection(connection, major, previous)).await
}

/// Reads an archive whole and in pieces.
///
/// # Panics
///
/// If it is another one in pieces, or a member has another length than its header says.
pub fn tar(bytes: &[u8]) {
    let whole = members([bytes].into_iter());
    let cut = members(pieces(bytes));
    assert_eq!(whole, cut);
}

fn members<'a>(pieces: impl Iterator<Item = &'a [u8]>) -> (Vec<(Member, Vec<u8>)>, Option<TarError>) {
    let (mut found, mut tar): (Vec<(Member, Vec<u8>)>, Tar) = (Vec::new(), Tar::default());
    for piece in pieces {
        let mut input = Bytes::copy_from_slice(piece);
        loop {
            match tar.next(&mut input) {
                Ok(Some(Part::Begin(member))) => found.push((member, Vec::new())),
                Ok(Some(Part::Data(data))) => found.last_mut().expect("data follows a header").1.extend(data),
                Ok(Some(Part::End)) => {
                    let (member, content) = found.last().expect("an end follows a header");
                    assert_eq!(member.len, content.len() as u64);
                }
                Ok(None) => break,
                Err(error) => return (found, Some(error)),
            }
        }
        assert!(input.is_empty());
    }
    (found, tar.finish().err())
}

/// Reads a manifest whole and in pieces, as it is and with a checksum that is right, and writes it again.
///
/// # Panics
///
/// If its lines are others in pieces, or what is written does not say the same.
pub fn manifest(bytes: &[u8]) {
    let _ = Manifest::parse(bytes);
    let mut whole = bytes.to_vec();
    if !whole.ends_with(b"\n") {
        whole.push(b'\n');
    }
    let sum = hex::encode(Sha256::new_with_prefix(&whole).finalize());
    whole.extend(format!("\"Manifest-Checksum\": \"{sum}\"}}\n").bytes());
    let Ok(lines) = Lines::default().push(&whole) else { return };
    let mut cut = Lines::default();
    let found: Vec<_> = pieces(&whole).flat_map(|piece| cut.push(piece).expect("it was read whole")).collect();
    assert_eq!(found, lines);
    let manifest = Manifest::parse(&whole).expect("its checksum is right");
    let mut writer = Writer::default();
    let written: Vec<u8> = lines.into_iter().flat_map(|line| writer.line(line)).collect();
    assert_eq!(Manifest::parse(&written), Ok(manifest));
}

/// The manifest of these lines, of which the last has `@` in place of the checksum.
///
/// # Panics
///
/// If they are none of a manifest.
pub fn sealed_manifest(lines: &str) -> Manifest {
    let end = lines.find("\"Manifest-Checksum\"").expect("a last line");
    let sum = hex::encode(Sha256::new_with_prefix(&lines[..end]).finalize());
    Manifest::parse(lines.replace('@', &sum).as_bytes()).expect("a manifest")
}

/// Reads the head of a file of blocks, in pieces of which the first that suffices must give it.
///
/// # Panics
///
/// If it says more than it is long, or something else once more bytes are there.
pub fn incremental(bytes: &[u8]) {
    for page_len in [1024, 8192, 32_768] {
        let Ok(Some((head, len))) = Head::read(bytes, page_len) else { continue };
        assert!(len <= bytes.len() && head.numbers.len() * 4 + 12 <= len);
        assert!(head.numbers.windows(2).all(|two| two[0] < two[1]));
        let base = head.base(page_len);
        assert!(base.len >= base.block_count * u64::from(page_len));
        assert_eq!(Head::read(&bytes[..len], page_len), Ok(Some((head, len))));
        assert_eq!(Head::read(&bytes[..len - 1], page_len), Ok(None));
    }
}
