//! `backup_manifest`: Postgres' own list of a backup's files, with lengths and checksums.
//!
//! ```text
//! { "PostgreSQL-Backup-Manifest-Version": 2,
//! "System-Identifier": 7…,
//! "Files": [
//! { "Path": "base/1/2", "Size": 8192, "Last-Modified": "…", "Checksum-Algorithm": "CRC32C", "Checksum": "…" },
//! …
//! ],
//! "WAL-Ranges": [
//! { "Timeline": 1, "Start-LSN": "0/2000028", "End-LSN": "0/2000100" }
//! ],
//! "Manifest-Checksum": "SHA-256 of all before this line"}
//! ```
//!
//! Postgres writes one file a line, so it is read line by line, whatever its length.
//!
//! Invariant: nothing is believed of a manifest whose own checksum is wrong.
//! Never here: the files themselves.

use std::mem;

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use super::lsn::Lsn;

/// Where a manifest is stored, relative to the data directory.
pub const NAME: &str = "backup_manifest";
/// The longest line that we take, in bytes.
const LINE_LEN_MAX: usize = 64 * 1024;
const END_MARK: &[u8] = b"\"Manifest-Checksum\": \"";

/// What a manifest names each file's content with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Checksums {
    /// CRC-32C: finds every accident, costs next to nothing.
    #[default]
    Crc32c,
    /// SHA-256: costs the server a second or two per GiB.
    Sha256,
}

/// Why a manifest cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ManifestError {
    /// It is not of the form that Postgres writes.
    #[error("line {line} of the backup manifest is not of the form that Postgres writes")]
    Form {
        /// Counted from 1.
        line: u64,
    },
    /// It is not what was written.
    #[error("the backup manifest fails its own checksum")]
    Checksum,
    /// It has no last line.
    #[error("the backup manifest ends too early")]
    Cut,
}

/// One file, as a manifest has it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ManifestFile {
    #[serde(rename = "Path", default, skip_serializing_if = "Option::is_none")]
    path: Option<String>,
    #[serde(rename = "Encoded-Path", default, skip_serializing_if = "Option::is_none")]
    encoded_path: Option<String>,
    /// Bytes.
    #[serde(rename = "Size")]
    pub len: u64,
    #[serde(rename = "Last-Modified", default, skip_serializing_if = "Option::is_none")]
    modified_at: Option<String>,
    /// `CRC32C`, `SHA256` …; `None` without a checksum.
    #[serde(rename = "Checksum-Algorithm", default, skip_serializing_if = "Option::is_none")]
    pub algorithm: Option<String>,
    /// In hexadecimal digits.
    #[serde(rename = "Checksum", default, skip_serializing_if = "Option::is_none")]
    pub checksum: Option<String>,
}

impl ManifestFile {
    /// Relative to the data directory, raw bytes.
    ///
    /// `None` if the manifest has no path for it, or one that cannot be decoded.
    #[must_use]
    pub fn path(&self) -> Option<Vec<u8>> {
        match (&self.path, &self.encoded_path) {
            (Some(path), _) => Some(path.clone().into_bytes()),
            (None, Some(encoded)) => hex::decode(encoded).ok(),
            (None, None) => None,
        }
    }

    /// Gives it another path, in clear if it is text.
    pub(super) fn set_path(&mut self, path: Vec<u8>) {
        (self.path, self.encoded_path) = match String::from_utf8(path) {
            Ok(path) => (Some(path), None),
            Err(error) => (None, Some(hex::encode(error.as_bytes()))),
        };
    }
}

/// A stretch of the log that a backup needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WalRange {
    /// Its timeline.
    pub timeline: u32,
    /// Its first byte.
    pub start: Lsn,
    /// Behind its last byte.
    pub end: Lsn,
}

#[derive(Deserialize)]
struct WalRangeLine {
    #[serde(rename = "Timeline")]
    timeline: u32,
    #[serde(rename = "Start-LSN")]
    start: String,
    #[serde(rename = "End-LSN")]
    end: String,
}

/// One line, with its bytes where they are to be kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Line {
    File(ManifestFile),
    WalRange(WalRange, Vec<u8>),
    Other(Vec<u8>),
    /// The last: its checksum was right.
    End,
}

/// Reads a manifest line by line.
#[derive(Debug, Default)]
pub(super) struct Lines {
    partial: Vec<u8>,
    sum: Sha256,
    count: u64,
    is_ended: bool,
}

impl Lines {
    /// The lines that `data` completes.
    pub(super) fn push(&mut self, data: &[u8]) -> Result<Vec<Line>, ManifestError> {
        let mut found = Vec::new();
        for piece in data.split_inclusive(|&byte| byte == b'\n') {
            self.partial.extend_from_slice(piece);
            if self.partial.len() > LINE_LEN_MAX || self.is_ended {
                return Err(ManifestError::Form { line: self.count + 1 });
            }
            if piece.ends_with(b"\n") {
                let line = mem::take(&mut self.partial);
                self.count += 1;
                found.push(self.line(line)?);
            }
        }
        Ok(found)
    }

    /// Whether it was whole.
    pub(super) fn finish(self) -> Result<(), ManifestError> {
        if self.is_ended && self.partial.is_empty() { Ok(()) } else { Err(ManifestError::Cut) }
    }

    fn line(&mut self, line: Vec<u8>) -> Result<Line, ManifestError> {
        let form = ManifestError::Form { line: self.count };
        if let Some(rest) = line.strip_prefix(END_MARK) {
            let stored = rest.strip_suffix(b"\"}\n").ok_or(form)?;
            let found = hex::encode(mem::take(&mut self.sum).finalize());
            self.is_ended = true;
            return if stored == found.as_bytes() { Ok(Line::End) } else { Err(ManifestError::Checksum) };
        }
        self.sum.update(&line);
        let object = line.trim_ascii_end();
        let object = object.strip_suffix(b",").unwrap_or(object);
        if object.starts_with(b"{ \"Path\"") || object.starts_with(b"{ \"Encoded-Path\"") {
            let file: ManifestFile = serde_json::from_slice(object).map_err(|_| form.clone())?;
            return if file.path().is_some() { Ok(Line::File(file)) } else { Err(form) };
        }
        if object.starts_with(b"{ \"Timeline\"") {
            let range: WalRangeLine = serde_json::from_slice(object).map_err(|_| form.clone())?;
            let (start, end) = Lsn::parse(&range.start).zip(Lsn::parse(&range.end)).ok_or(form)?;
            return Ok(Line::WalRange(WalRange { timeline: range.timeline, start, end }, line));
        }
        Ok(Line::Other(line))
    }
}

/// A whole manifest.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Manifest {
    /// Every file but the manifest itself, and of `pg_wal` only what Postgres lists.
    pub files: Vec<ManifestFile>,
    /// The log that is needed until the backup is consistent.
    pub wal_ranges: Vec<WalRange>,
}

impl Manifest {
    /// Reads a manifest and checks its own checksum. Memory grows with the count of its files.
    ///
    /// # Errors
    ///
    /// [`ManifestError`] if it is not a manifest, or not what was written.
    pub fn parse(bytes: &[u8]) -> Result<Self, ManifestError> {
        let mut lines = Lines::default();
        let mut manifest = Self::default();
        for line in lines.push(bytes)? {
            match line {
                Line::File(file) => manifest.files.push(file),
                Line::WalRange(range, _) => manifest.wal_ranges.push(range),
                Line::Other(_) | Line::End => {}
            }
        }
        lines.finish()?;
        Ok(manifest)
    }
}

/// Writes a manifest of the same form.
#[derive(Debug, Default)]
pub(super) struct Writer {
    sum: Sha256,
    /// Whether a file's line waits for its end, which says whether another one follows.
    is_open: bool,
}

impl Writer {
    /// The bytes that `line` adds.
    pub(super) fn line(&mut self, line: Line) -> Vec<u8> {
        let mut bytes = Vec::new();
        match line {
            Line::File(file) => {
                if mem::replace(&mut self.is_open, true) {
                    bytes.extend_from_slice(b",\n");
                }
                bytes.extend_from_slice(file_line(&file).as_bytes());
            }
            Line::WalRange(_, text) | Line::Other(text) => {
                if mem::take(&mut self.is_open) {
                    bytes.push(b'\n');
                }
                bytes.extend_from_slice(&text);
            }
            Line::End => {
                if mem::take(&mut self.is_open) {
                    bytes.push(b'\n');
                }
                self.sum.update(&bytes);
                let sum = hex::encode(mem::take(&mut self.sum).finalize());
                return [&bytes, END_MARK, sum.as_bytes(), b"\"}\n"].concat();
            }
        }
        self.sum.update(&bytes);
        bytes
    }
}

/// A file's line as Postgres spaces it.
fn file_line(file: &ManifestFile) -> String {
    let text = |text: &str| serde_json::Value::from(text).to_string();
    let mut fields = Vec::new();
    fields.extend(file.path.as_ref().map(|path| format!("\"Path\": {}", text(path))));
    fields.extend(file.encoded_path.as_ref().map(|path| format!("\"Encoded-Path\": {}", text(path))));
    fields.push(format!("\"Size\": {}", file.len));
    fields.extend(file.modified_at.as_ref().map(|time| format!("\"Last-Modified\": {}", text(time))));
    fields.extend(file.algorithm.as_ref().map(|name| format!("\"Checksum-Algorithm\": {}", text(name))));
    fields.extend(file.checksum.as_ref().map(|sum| format!("\"Checksum\": {}", text(sum))));
    format!("{{ {} }}", fields.join(", "))
}

/// The checksum of a file as its bytes come.
#[derive(Debug, Clone)]
pub(super) enum Running {
    Crc32c(u32),
    Sha256(Box<Sha256>),
}

impl Running {
    pub(super) fn new(checksums: Checksums) -> Self {
        match checksums {
            Checksums::Crc32c => Self::Crc32c(0),
            Checksums::Sha256 => Self::Sha256(Box::default()),
        }
    }

    pub(super) fn update(&mut self, data: &[u8]) {
        match self {
            Self::Crc32c(sum) => *sum = crc32c::crc32c_append(*sum, data),
            Self::Sha256(sum) => sum.update(data),
        }
    }

    pub(super) fn finish(self) -> Sum {
        match self {
            Self::Crc32c(sum) => Sum::Crc32c(sum),
            Self::Sha256(sum) => Sum::Sha256(sum.finalize().into()),
        }
    }
}

/// A file's checksum.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Sum {
    Crc32c(u32),
    Sha256([u8; 32]),
}

impl Sum {
    /// Whether `file` has this checksum. One that has none fits nothing: we always ask for checksums.
    pub(super) fn is_of(&self, file: &ManifestFile) -> bool {
        let (Some(algorithm), Some(stored)) = (&file.algorithm, &file.checksum) else { return false };
        let stored = hex::decode(stored).unwrap_or_default();
        match self {
            // Postgres writes the number as it lies in its memory.
            Self::Crc32c(sum) => algorithm == "CRC32C" && (stored == sum.to_le_bytes() || stored == sum.to_be_bytes()),
            Self::Sha256(sum) => algorithm == "SHA256" && stored == sum,
        }
    }

    /// Names a file's content by this checksum.
    pub(super) fn put(&self, file: &mut ManifestFile) {
        let (algorithm, sum) = match self {
            Self::Crc32c(sum) => ("CRC32C", hex::encode(sum.to_le_bytes())),
            Self::Sha256(sum) => ("SHA256", hex::encode(sum)),
        };
        (file.algorithm, file.checksum) = (Some(algorithm.to_owned()), Some(sum));
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// As Postgres 17 writes it.
    fn sample() -> Vec<u8> {
        let text = "{ \"PostgreSQL-Backup-Manifest-Version\": 2,\n\"System-Identifier\": 7554,\n\"Files\": [\n\
            { \"Path\": \"backup_label\", \"Size\": 3, \"Last-Modified\": \"2026-11-20 21:10:00 GMT\", \
            \"Checksum-Algorithm\": \"CRC32C\", \"Checksum\": \"b73f4b36\" },\n\
            { \"Encoded-Path\": \"ff61\", \"Size\": 0, \"Last-Modified\": \"2026-11-20 21:10:00 GMT\" }\n],\n\
            \"WAL-Ranges\": [\n{ \"Timeline\": 1, \"Start-LSN\": \"0/2000028\", \"End-LSN\": \"0/2000120\" }\n],\n";
        let sum = hex::encode(Sha256::new_with_prefix(text).finalize());
        format!("{text}\"Manifest-Checksum\": \"{sum}\"}}\n").into_bytes()
    }

    #[test]
    fn files_and_ranges_are_read() {
        let manifest = Manifest::parse(&sample()).unwrap();
        let paths: Vec<_> = manifest.files.iter().map(|file| file.path().unwrap()).collect();
        assert_eq!(paths, [&b"backup_label"[..], &b"\xffa"[..]]);
        assert_eq!(manifest.wal_ranges, [WalRange { timeline: 1, start: Lsn(0x200_0028), end: Lsn(0x200_0120) }]);
        let mut sum = Running::new(Checksums::Crc32c);
        sum.update(b"abc");
        assert!(sum.finish().is_of(&manifest.files[0]));
    }

    #[test]
    fn a_manifest_written_from_its_lines_is_the_same_bytes() {
        let mut writer = Writer::default();
        let lines = Lines::default().push(&sample()).unwrap();
        let written: Vec<u8> = lines.into_iter().flat_map(|line| writer.line(line)).collect();
        assert_eq!(String::from_utf8(written).unwrap(), String::from_utf8(sample()).unwrap());
    }

    #[test]
    fn any_changed_byte_and_any_cut_is_noticed() {
        let whole = sample();
        for place in 0..whole.len() {
            let mut changed = whole.clone();
            changed[place] ^= 1;
            assert!(Manifest::parse(&changed).is_err(), "byte {place}");
            assert!(Manifest::parse(&whole[..place]).is_err(), "cut at {place}");
        }
    }

    proptest! {
        #[test]
        fn pieces_of_any_length_read_alike(step in 1_usize..400) {
            let mut lines = Lines::default();
            let pushed = sample();
            let found: Vec<Line> = pushed.chunks(step).flat_map(|piece| lines.push(piece).unwrap()).collect();
            prop_assert_eq!(found, Lines::default().push(&sample()).unwrap());
        }
    }
}
