//! The zip form: written in one go, with lengths and sums behind each file, and in 64 bits where they have to be.
//!
//! Invariant: compressing happens off the runtime, a piece at a time, so that memory stays bounded.
//! Never here: what a zip has no place for; the caller is told.

use std::io::{self, Write};
use std::sync::{Arc, Mutex, PoisonError};

use ::zip::write::{SimpleFileOptions, StreamWriter};
use ::zip::{CompressionMethod, DateTime, ZipWriter};
use bytes::Bytes;
use jiff::Timestamp;
use jiff::tz::TimeZone;
use pack::manifest::{Entry, EntryKind};

use crate::commands::entry_shown::nanos;
use crate::error::CommandError;
use crate::human::escaped;

use super::Begun;

/// From this length on a file's lengths take 64 bits, as it may grow a little by compressing.
const LARGE_LEN: u64 = 4_000_000_000;

/// Where the archive is written, until it is taken from there.
#[derive(Clone, Default)]
struct Written(Arc<Mutex<Vec<u8>>>);

impl Write for Written {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

type Writer = ZipWriter<StreamWriter<Written>>;

/// A zip in the making.
pub(super) struct ZipForm {
    writer: Option<Writer>,
    written: Written,
}

impl Default for ZipForm {
    fn default() -> Self {
        let written = Written::default();
        Self { writer: Some(ZipWriter::new_stream(written.clone())), written }
    }
}

impl ZipForm {
    /// Begins an entry. Names that are not UTF-8 are written as listings show them.
    pub(super) async fn begin(&mut self, place: &[u8], entry: &Entry) -> Result<Begun, CommandError> {
        if place.is_empty() {
            return Ok(Begun::Whole(Vec::new()));
        }
        let name = std::str::from_utf8(place).map_or_else(|_| escaped(place).to_string(), str::to_owned);
        let options = options(entry);
        match entry.kind.clone() {
            EntryKind::File { len } => {
                let options = options.large_file(len >= LARGE_LEN);
                Ok(Begun::Content(self.with(move |writer| writer.start_file(name, options)).await?))
            }
            EntryKind::Directory => {
                Ok(Begun::Whole(self.with(move |writer| writer.add_directory(name, options)).await?))
            }
            EntryKind::Symlink { target } => {
                let target = std::str::from_utf8(&target).map_or_else(|_| escaped(&target).to_string(), str::to_owned);
                Ok(Begun::Whole(self.with(move |writer| writer.add_symlink(name, target, options)).await?))
            }
            _ => Ok(Begun::Unfit),
        }
    }

    /// Content of the entry that was begun.
    pub(super) async fn content(&mut self, bytes: Bytes) -> Result<Vec<Bytes>, CommandError> {
        self.with(move |writer| Ok(writer.write_all(&bytes)?)).await
    }

    /// What ends a zip.
    pub(super) async fn finish(&mut self) -> Result<Vec<Bytes>, CommandError> {
        let Some(writer) = self.writer.take() else { return Ok(Vec::new()) };
        let done = source::blocking::run(move || writer.finish().map(drop)).await.map_err(source::SourceError::from)?;
        done.map_err(failed)?;
        Ok(self.taken())
    }

    /// Does something with the writer off the runtime, and takes what that gave.
    async fn with(
        &mut self,
        work: impl FnOnce(&mut Writer) -> ::zip::result::ZipResult<()> + Send + 'static,
    ) -> Result<Vec<Bytes>, CommandError> {
        let Some(mut writer) = self.writer.take() else { return Ok(Vec::new()) };
        let done = source::blocking::run(move || work(&mut writer).map(|()| writer)).await;
        self.writer = Some(done.map_err(source::SourceError::from)?.map_err(failed)?);
        Ok(self.taken())
    }

    fn taken(&self) -> Vec<Bytes> {
        let taken = std::mem::take(&mut *self.written.0.lock().unwrap_or_else(PoisonError::into_inner));
        if taken.is_empty() { Vec::new() } else { vec![taken.into()] }
    }
}

fn failed(error: ::zip::result::ZipError) -> CommandError {
    CommandError::from_stdout(io::Error::other(error))
}

fn options(entry: &Entry) -> SimpleFileOptions {
    let at = Timestamp::from_nanosecond(i128::from(nanos(entry.modified_at))).unwrap_or_default();
    let at = at.to_zoned(TimeZone::system());
    let part = |value: i8| u8::try_from(value).unwrap_or_default();
    let year = u16::try_from(at.year()).unwrap_or_default();
    let time = DateTime::from_date_and_time(
        year,
        part(at.month()),
        part(at.day()),
        part(at.hour()),
        part(at.minute()),
        part(at.second()),
    );
    SimpleFileOptions::default()
        .compression_method(CompressionMethod::Deflated)
        .unix_permissions(entry.mode)
        .last_modified_time(time.unwrap_or_default())
}
