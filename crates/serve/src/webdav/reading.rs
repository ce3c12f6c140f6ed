//! An open file.
//!
//! Its first bytes are read before it is said to be open, so that what cannot be read is an error and no answer that breaks off.
//!
//! Invariant: bytes come in order and are those of the file, or the answer breaks off; never fewer as if they were all.
//! Never here: which range is asked for; the WebDAV library knows.

use std::fmt;
use std::io::SeekFrom;
use std::sync::Arc;

use bytes::{Buf, Bytes};
use dav_server::fs::{DavFile, DavMetaData, FsError, FsFuture, FsResult};

use super::answers::{Asked, Wants};
use super::places::{Meta, Shared};
use crate::ahead::Reader;
use crate::component::Component;

/// Bytes that are read and sent at once.
pub(super) const READ_LEN: usize = 512 << 10;
/// Bytes that are read to see whether there are any.
const FIRST_LEN: u64 = 64 << 10;

/// A file being read for one request.
pub(super) struct OpenFile {
    pub(super) shared: Arc<Shared>,
    pub(super) asked: Asked,
    pub(super) component: Arc<Component>,
    pub(super) path: Vec<u8>,
    pub(super) reader: Reader,
    pub(super) meta: Meta,
    /// Where the next bytes begin.
    at: u64,
    /// Bytes from there on that were read already.
    first: Bytes,
}

impl OpenFile {
    pub(super) async fn open(
        shared: Arc<Shared>,
        asked: Asked,
        component: Arc<Component>,
        path: Vec<u8>,
        (reader, meta): (Reader, Meta),
    ) -> FsResult<Self> {
        let mut opened = Self { shared, asked, component, path, reader, meta, at: 0, first: Bytes::new() };
        if opened.asked.wants() == Wants::All && opened.len() > 0 {
            opened.first = opened.read(FIRST_LEN).await?;
        }
        Ok(opened)
    }

    fn len(&self) -> u64 {
        self.reader.file().len()
    }

    /// The next bytes: at least one and at most so many.
    async fn read(&self, len: u64) -> FsResult<Bytes> {
        let range = self.at..self.at.saturating_add(len).min(self.len());
        match tokio::time::timeout(self.shared.patience, self.reader.read(range)).await {
            // Copied, so that an answer that nobody takes holds no more than itself.
            Ok(Ok(pieces)) => Ok(Bytes::from(pieces.concat()))
                .and_then(|all| if all.is_empty() { Err(FsError::GeneralFailure) } else { Ok(all) }),
            Ok(Err(error)) => {
                self.shared.refuse(&self.asked, &self.component, &self.path, error).await;
                Err(FsError::GeneralFailure)
            }
            Err(_) => {
                self.shared.was_too_slow(&self.asked, &self.component, &self.path);
                Err(FsError::GeneralFailure)
            }
        }
    }
}

impl fmt::Debug for OpenFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "OpenFile at {} of {}", self.at, self.len())
    }
}

impl DavFile for OpenFile {
    fn metadata(&'_ mut self) -> FsFuture<'_, Box<dyn DavMetaData>> {
        let meta: Box<dyn DavMetaData> = Box::new(self.meta.clone());
        Box::pin(std::future::ready(Ok(meta)))
    }

    fn read_bytes(&'_ mut self, count: usize) -> FsFuture<'_, Bytes> {
        Box::pin(async move {
            let mut bytes = std::mem::take(&mut self.first);
            if bytes.is_empty() {
                bytes = self.read(count as u64).await?;
            }
            self.first = bytes.split_off(count.min(bytes.len()));
            self.at = self.at.saturating_add(bytes.remaining() as u64);
            Ok(bytes)
        })
    }

    fn seek(&'_ mut self, to: SeekFrom) -> FsFuture<'_, u64> {
        Box::pin(async move {
            let SeekFrom::Start(at) = to else { return Err(FsError::NotImplemented) };
            (self.at, self.first) = (at, Bytes::new());
            if self.asked.wants() == Wants::Range && at < self.len() {
                self.first = self.read(FIRST_LEN).await?;
            }
            Ok(at)
        })
    }

    fn write_buf(&'_ mut self, _: Box<dyn Buf + Send>) -> FsFuture<'_, ()> {
        Box::pin(std::future::ready(Err(FsError::Forbidden)))
    }

    fn write_bytes(&'_ mut self, _: Bytes) -> FsFuture<'_, ()> {
        Box::pin(std::future::ready(Err(FsError::Forbidden)))
    }

    fn flush(&'_ mut self) -> FsFuture<'_, ()> {
        Box::pin(std::future::ready(Err(FsError::Forbidden)))
    }
}
