//! Counts what passes: how many requests of each verb, and how many bytes.
//!
//! ```text
//! Counted over a backend      what was sent
//! Counted over Retrying       what was asked for
//! ```
//!
//! Invariant: a request counts when it is made, however it ends; bytes count when they have arrived.
//! Never here: prices. Who pays how much for a verb is the reader's to know.

use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};

use async_trait::async_trait;
use bytes::Bytes;
use futures::stream::{BoxStream, StreamExt};

use crate::StoreError;
use crate::store::{ObjectInfo, PutReport, SharedStore, Store};

/// How many requests were made, and how many bytes moved.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct RequestCounts {
    /// Creates.
    pub put_count: u64,
    /// Reads of whole objects.
    pub get_count: u64,
    /// Reads of ranges.
    pub get_range_count: u64,
    /// Looks at one object.
    pub head_count: u64,
    /// Listings begun. A store answers each in pages of about a thousand.
    pub list_count: u64,
    /// Objects that listings showed.
    pub listed_count: u64,
    /// Deletes.
    pub delete_count: u64,
    /// Bytes of successful creates, also of those that found the object there.
    pub upload_len: u64,
    /// Bytes of successful reads.
    pub download_len: u64,
}

impl RequestCounts {
    /// Requests of all verbs.
    pub fn total(&self) -> u64 {
        self.put_count + self.get_count + self.get_range_count + self.head_count + self.list_count + self.delete_count
    }

    /// What was added since `earlier`, which must be an earlier reading of the same store.
    #[must_use]
    pub fn since(&self, earlier: &Self) -> Self {
        Self {
            put_count: self.put_count - earlier.put_count,
            get_count: self.get_count - earlier.get_count,
            get_range_count: self.get_range_count - earlier.get_range_count,
            head_count: self.head_count - earlier.head_count,
            list_count: self.list_count - earlier.list_count,
            listed_count: self.listed_count - earlier.listed_count,
            delete_count: self.delete_count - earlier.delete_count,
            upload_len: self.upload_len - earlier.upload_len,
            download_len: self.download_len - earlier.download_len,
        }
    }
}

/// A store that counts the requests to the one below.
#[derive(Debug)]
pub struct Counted {
    inner: SharedStore,
    counters: Counters,
}

#[derive(Debug, Default)]
struct Counters {
    put: AtomicU64,
    get: AtomicU64,
    get_range: AtomicU64,
    head: AtomicU64,
    list: AtomicU64,
    listed: AtomicU64,
    delete: AtomicU64,
    upload: AtomicU64,
    download: AtomicU64,
}

fn add(counter: &AtomicU64, count: u64) {
    counter.fetch_add(count, Ordering::Relaxed);
}

impl Counted {
    /// Counts the requests to `inner`, from zero.
    pub fn new(inner: SharedStore) -> Self {
        Self { inner, counters: Counters::default() }
    }

    /// The counts so far.
    pub fn counts(&self) -> RequestCounts {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let counters = &self.counters;
        RequestCounts {
            put_count: read(&counters.put),
            get_count: read(&counters.get),
            get_range_count: read(&counters.get_range),
            head_count: read(&counters.head),
            list_count: read(&counters.list),
            listed_count: read(&counters.listed),
            delete_count: read(&counters.delete),
            upload_len: read(&counters.upload),
            download_len: read(&counters.download),
        }
    }

    fn received(&self, bytes: Bytes) -> Bytes {
        add(&self.counters.download, bytes.len() as u64);
        bytes
    }
}

#[async_trait]
impl Store for Counted {
    async fn put_new_reported(&self, name: &str, body: Vec<Bytes>) -> Result<PutReport, StoreError> {
        add(&self.counters.put, 1);
        let len = body.iter().map(|part| part.len() as u64).sum();
        let report = self.inner.put_new_reported(name, body).await?;
        add(&self.counters.upload, len);
        Ok(report)
    }

    async fn get(&self, name: &str) -> Result<Bytes, StoreError> {
        add(&self.counters.get, 1);
        self.inner.get(name).await.map(|bytes| self.received(bytes))
    }

    async fn get_range(&self, name: &str, range: Range<u64>) -> Result<Bytes, StoreError> {
        add(&self.counters.get_range, u64::from(!range.is_empty()));
        let bytes = self.inner.get_range(name, range).await;
        bytes.map(|bytes| self.received(bytes))
    }

    async fn head(&self, name: &str) -> Result<Option<ObjectInfo>, StoreError> {
        add(&self.counters.head, 1);
        self.inner.head(name).await
    }

    fn list(&self, prefix: &str) -> BoxStream<'_, Result<ObjectInfo, StoreError>> {
        add(&self.counters.list, 1);
        let items = self.inner.list(prefix);
        items.inspect(|item| add(&self.counters.listed, u64::from(item.is_ok()))).boxed()
    }

    async fn delete(&self, name: &str) -> Result<(), StoreError> {
        add(&self.counters.delete, 1);
        self.inner.delete(name).await
    }

    fn describe(&self) -> String {
        self.inner.describe()
    }
}

#[cfg(all(test, feature = "testing"))]
mod tests {
    use std::sync::Arc;

    use futures::TryStreamExt;

    use super::*;
    use crate::testing::MemoryStore;

    #[tokio::test]
    async fn every_verb_and_every_byte_counts_once() {
        let store = Counted::new(Arc::new(MemoryStore::new()));
        store.put_new("a", vec!["12".into(), "345".into()]).await.expect("creates");
        let before = store.counts();
        store.get("a").await.expect("reads");
        store.get_range("a", 1..3).await.expect("reads");
        store.get_range("a", 2..2).await.expect("costs no request");
        store.get("absent").await.expect_err("absent");
        store.head("a").await.expect("answers");
        store.list("").try_collect::<Vec<_>>().await.expect("lists");
        store.delete("a").await.expect("deletes");
        let expected = RequestCounts {
            get_count: 2,
            get_range_count: 1,
            head_count: 1,
            list_count: 1,
            listed_count: 1,
            delete_count: 1,
            download_len: 7,
            ..RequestCounts::default()
        };
        assert_eq!(store.counts().since(&before), expected);
        assert_eq!((store.counts().put_count, store.counts().upload_len, store.counts().total()), (1, 5, 7));
    }
}
