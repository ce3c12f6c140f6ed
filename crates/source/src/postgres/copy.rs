//! The data of a base backup as the server sends it: archives one after the other, then the manifest.
//!
//! ```text
//! 13, 14   (H d* c) for each tablespace, raw tar; then (H d* c), the manifest
//! 15 on    H, then of each d the first byte says: n archive begins · d data · p progress · m manifest begins; then c
//! ```
//!
//! Invariant: which of the two it is follows from the server's version, never from the bytes.

use std::collections::VecDeque;

use bytes::Bytes;

use super::connection::Connection;
use super::message::{Fields, Message, Notice};
use crate::SourceError;

/// What comes next of a base backup's data.
#[derive(Debug)]
pub(super) enum Piece {
    /// An archive begins, of a tablespace or of the data directory.
    Archive(Option<u32>),
    /// Bytes of what began last.
    Data(Bytes),
    /// The manifest begins.
    Manifest,
    /// A warning in the server's words.
    Warning(String),
    /// All has come.
    End,
}

/// Reads the data of a base backup.
#[derive(Debug)]
pub(super) enum Copy {
    /// 13, 14: what is still to come, in this order; then `None` for the manifest.
    Many { left: VecDeque<Option<u32>>, is_manifest_left: bool },
    /// 15 on.
    One,
}

impl Copy {
    /// For a server of version `major` that announced `tablespaces` in this order.
    pub(super) fn new(major: u32, tablespaces: &[Option<u32>]) -> Self {
        match major {
            ..15 => Self::Many { left: tablespaces.iter().copied().collect(), is_manifest_left: true },
            _ => Self::One,
        }
    }

    /// What comes next.
    pub(super) async fn next(&mut self, connection: &mut Connection) -> Result<Piece, SourceError> {
        loop {
            let Message { letter, body } = connection.receive().await?;
            if letter == b'N' {
                match Notice::of(body).filter(|notice| notice.severity == "WARNING") {
                    Some(notice) => return Ok(Piece::Warning(notice.words())),
                    None => continue,
                }
            }
            let piece = match self {
                Self::Many { left, is_manifest_left } => match letter {
                    b'H' => match left.pop_front() {
                        Some(tablespace) => Some(Piece::Archive(tablespace)),
                        None if std::mem::take(is_manifest_left) => Some(Piece::Manifest),
                        None => return Err(connection.odd("more archives came than were announced")),
                    },
                    b'd' if body.is_empty() => None,
                    b'd' => Some(Piece::Data(body)),
                    b'c' if left.is_empty() && !*is_manifest_left => Some(Piece::End),
                    b'c' => None,
                    letter => return Err(connection.unexpected(letter, "data of a backup")),
                },
                Self::One => match letter {
                    b'H' => None,
                    b'd' => tagged(body).map_err(|what| connection.odd(what))?,
                    b'c' => Some(Piece::End),
                    letter => return Err(connection.unexpected(letter, "data of a backup")),
                },
            };
            if let Some(piece) = piece {
                return Ok(piece);
            }
        }
    }
}

/// A piece whose first byte says what it is; `None` if it is nothing to us.
fn tagged(body: Bytes) -> Result<Option<Piece>, &'static str> {
    let mut fields = Fields(body);
    match fields.u8() {
        Some(b'd') if fields.0.is_empty() => Ok(None),
        Some(b'd') => Ok(Some(Piece::Data(fields.0))),
        Some(b'm') => Ok(Some(Piece::Manifest)),
        Some(b'p') => Ok(None),
        Some(b'n') => {
            let name = fields.text().ok_or("an archive without a name")?;
            match name.strip_suffix(".tar").ok_or("an archive that is no tar")? {
                "base" => Ok(Some(Piece::Archive(None))),
                oid => Ok(Some(Piece::Archive(Some(oid.parse().map_err(|_| "an archive of no known tablespace")?)))),
            }
        }
        _ => Err("data of a backup of a kind that is not known"),
    }
}
