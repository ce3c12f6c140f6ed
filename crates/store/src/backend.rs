//! A [`Store`] over any backend of the `object_store` library: names, deadlines, lengths, errors.
//!
//! ```text
//! name ── prefix/name ── one request, at most so long ── length checked ── our error
//! ```
//!
//! Invariant: one call sends one request (a listing: one per page), and none runs without a deadline.
//! Never here: retries, pacing, or anything that one kind of store needs alone.

use std::future::Future;
use std::num::NonZeroU64;
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::{Bytes, BytesMut};
use futures::stream::{self, BoxStream, StreamExt};
use object_store::path::Path;
use object_store::{
    Error as LibraryError, GetOptions, GetRange, GetResult, GetResultPayload, ObjectMeta, ObjectStore, ObjectStoreExt,
    PutMode, PutOptions, PutPayload,
};
use tokio::time::timeout;

use crate::classify::{At, classify};
use crate::store::{OBJECT_LEN_MAX, ObjectInfo, Put, PutReport, Store, StoreTime};
use crate::{StoreError, StoreOptions};

/// How long requests may take.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Deadlines {
    request_for: Duration,
    slowest_rate: NonZeroU64,
}

impl Deadlines {
    pub(crate) fn of(options: &StoreOptions) -> Self {
        Self { request_for: options.request_for, slowest_rate: options.slowest_rate }
    }

    /// How long a request that moves `len` bytes may take.
    pub(crate) fn moving(self, len: u64) -> Duration {
        self.request_for + Duration::from_secs(len / self.slowest_rate)
    }
}

/// One prefix in one store of the library.
#[derive(Debug)]
pub(crate) struct Backend {
    objects: Arc<dyn ObjectStore>,
    prefix: Path,
    label: String,
    deadlines: Deadlines,
}

impl Backend {
    /// A store of what lies below `prefix`; `label` stands for it in messages.
    pub(crate) fn new(objects: Arc<dyn ObjectStore>, prefix: Path, label: String, deadlines: Deadlines) -> Self {
        Self { objects, prefix, label, deadlines }
    }

    fn at<'a>(&'a self, name: &'a str) -> At<'a> {
        At { name, store: &self.label }
    }

    fn path(&self, name: &str) -> Result<Path, StoreError> {
        let path = checked(name)?;
        Ok(self.prefix.parts().chain(path.parts()).collect())
    }

    /// Runs one request under its deadline and turns its error into ours.
    async fn ask<T>(
        &self,
        name: &str,
        len: u64,
        request: impl Future<Output = Result<T, LibraryError>> + Send,
    ) -> Result<T, StoreError> {
        match timeout(self.deadlines.moving(len), request).await {
            Ok(answer) => answer.map_err(|error| classify(error, self.at(name))),
            Err(_) => Err(self.at(name).timed_out()),
        }
    }

    async fn fetch(&self, name: &str, range: Option<Range<u64>>) -> Result<Bytes, StoreError> {
        let path = self.path(name)?;
        let options = GetOptions { range: range.map(GetRange::Bounded), ..GetOptions::default() };
        let reply = self.ask(name, 0, self.objects.get_opts(&path, options)).await?;
        let expected_len = reply.range.end.saturating_sub(reply.range.start);
        if expected_len > OBJECT_LEN_MAX {
            return Err(self.too_long(name, expected_len));
        }
        let bytes = self.body(name, reply, expected_len).await?;
        match bytes.len() as u64 == expected_len {
            true => Ok(bytes),
            false => Err(self.at(name).cut_off(bytes.len() as u64, expected_len)),
        }
    }

    /// Collects a reply's body. Each part of it must come in time, so a stall ends early.
    async fn body(&self, name: &str, reply: GetResult, len: u64) -> Result<Bytes, StoreError> {
        let mut parts = match reply.payload {
            GetResultPayload::Stream(parts) => parts,
            _ => return self.ask(name, len, reply.bytes()).await,
        };
        let mut body = BytesMut::new();
        while let Some(part) = self.ask(name, 0, async { parts.next().await.transpose() }).await? {
            if body.is_empty() && part.len() as u64 == len {
                return Ok(part);
            }
            if (body.len() + part.len()) as u64 > len {
                return Err(self.too_long(name, len.saturating_add(1)));
            }
            body.reserve(usize::try_from(len).unwrap_or(0).saturating_sub(body.len()));
            body.extend_from_slice(&part);
        }
        Ok(body.freeze())
    }

    fn exactly(&self, name: &str, bytes: Bytes, expected_len: u64) -> Result<Bytes, StoreError> {
        let len = bytes.len() as u64;
        if len == expected_len {
            return Ok(bytes);
        }
        Err(self.truncated(name, len, expected_len))
    }

    fn truncated(&self, name: &str, len: u64, expected_len: u64) -> StoreError {
        StoreError::Truncated { name: name.to_owned(), store: self.label.clone(), len, expected_len }
    }

    fn too_long(&self, name: &str, len: u64) -> StoreError {
        StoreError::TooLong { name: name.to_owned(), store: self.label.clone(), len }
    }

    /// Says whether a failed ranged read failed because the object is shorter than that.
    async fn range_error(&self, name: &str, range: &Range<u64>, error: StoreError) -> StoreError {
        if error.is_transient() || error.is_not_found() {
            return error;
        }
        match self.head(name).await {
            Ok(Some(info)) if info.len < range.end => {
                self.truncated(name, info.len.saturating_sub(range.start), range.end - range.start)
            }
            _ => error,
        }
    }

    fn info(&self, meta: &ObjectMeta) -> Option<ObjectInfo> {
        let below: Path = meta.location.prefix_match(&self.prefix)?.collect();
        Some(ObjectInfo {
            name: below.into(),
            len: meta.size,
            modified_at: StoreTime::from_nanos(meta.last_modified.timestamp_nanos_opt().unwrap_or(0)),
        })
    }
}

/// Reads `name` as a path, if it is one as it stands.
pub(crate) fn checked(name: &str) -> Result<Path, StoreError> {
    match Path::parse(name) {
        Ok(path) if path.as_ref() == name && !name.is_empty() => Ok(path),
        _ => Err(StoreError::BadName { name: name.to_owned() }),
    }
}

#[async_trait]
impl Store for Backend {
    async fn put_new_reported(&self, name: &str, body: Vec<Bytes>) -> Result<PutReport, StoreError> {
        let path = self.path(name)?;
        let body = PutPayload::from_iter(body);
        let len = body.content_length() as u64;
        if len > OBJECT_LEN_MAX {
            return Err(self.too_long(name, len));
        }
        let request = self.objects.put_opts(&path, body, PutOptions::from(PutMode::Create));
        let put = match timeout(self.deadlines.moving(len), request).await {
            Ok(Ok(_)) => Put::Created,
            Ok(Err(LibraryError::AlreadyExists { .. } | LibraryError::Precondition { .. })) => Put::AlreadyThere,
            Ok(Err(error)) => return Err(classify(error, self.at(name))),
            Err(_) => return Err(self.at(name).timed_out()),
        };
        Ok(PutReport::answered(put))
    }

    async fn get(&self, name: &str) -> Result<Bytes, StoreError> {
        self.fetch(name, None).await
    }

    async fn get_range(&self, name: &str, range: Range<u64>) -> Result<Bytes, StoreError> {
        let expected_len = range.end.saturating_sub(range.start);
        if expected_len == 0 {
            return Ok(Bytes::new());
        }
        match self.fetch(name, Some(range.clone())).await {
            Ok(bytes) => self.exactly(name, bytes, expected_len),
            Err(error) => Err(self.range_error(name, &range, error).await),
        }
    }

    async fn head(&self, name: &str) -> Result<Option<ObjectInfo>, StoreError> {
        let path = self.path(name)?;
        match self.ask(name, 0, self.objects.head(&path)).await {
            Ok(meta) => Ok(self.info(&meta)),
            Err(StoreError::NotFound { .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }

    fn list(&self, prefix: &str) -> BoxStream<'_, Result<ObjectInfo, StoreError>> {
        let folder = prefix.strip_suffix('/').unwrap_or(prefix).to_owned();
        let path = match folder.as_str() {
            "" => Ok(self.prefix.clone()),
            folder => self.path(folder),
        };
        let path = match path {
            Ok(path) => path,
            Err(error) => return stream::once(async { Err(error) }).boxed(),
        };
        let pages = self.objects.list(Some(&path));
        stream::unfold(Some(pages), move |pages| {
            let folder = folder.clone();
            async move {
                let mut pages = pages?;
                let next = async { pages.next().await.transpose() };
                match self.ask(&folder, 0, next).await.transpose()? {
                    Ok(meta) => Some((Ok(self.info(&meta)), Some(pages))),
                    Err(error) => Some((Err(error), None)),
                }
            }
        })
        .filter_map(|item| async { item.transpose() })
        .boxed()
    }

    async fn delete(&self, name: &str) -> Result<(), StoreError> {
        let path = self.path(name)?;
        match self.ask(name, 0, self.objects.delete(&path)).await {
            Err(StoreError::NotFound { .. }) => Ok(()),
            answer => answer,
        }
    }

    fn describe(&self) -> String {
        self.label.clone()
    }
}
