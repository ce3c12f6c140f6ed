//! A store in which an object is replaced by others just before it is read: what a prune does to a slow reader.
//!
//! Invariant: the swap happens once, before the first read of the object.
//! Never here: failing requests.

use std::ops::Range;
use std::sync::{Mutex, PoisonError};

use async_trait::async_trait;
use bytes::Bytes;
use futures::stream::BoxStream;
use store::testing::MemoryStore;
use store::{ObjectInfo, PutReport, Store, StoreError};

/// A store that swaps one object for others when it is asked for.
#[derive(Debug)]
pub struct SwappingStore {
    inner: MemoryStore,
    name: String,
    successors: Mutex<Option<Vec<(String, Bytes)>>>,
}

impl SwappingStore {
    /// `inner`, in which `name` goes away and `successors` come when `name` is first read.
    #[must_use]
    pub fn new(inner: MemoryStore, name: &str, successors: Vec<(String, Bytes)>) -> Self {
        Self { inner, name: name.to_owned(), successors: Mutex::new(Some(successors)) }
    }

    /// Whether the object was asked for.
    #[must_use]
    pub fn has_swapped(&self) -> bool {
        self.successors.lock().unwrap_or_else(PoisonError::into_inner).is_none()
    }

    async fn before_read(&self, name: &str) -> Result<(), StoreError> {
        if name != self.name {
            return Ok(());
        }
        let successors = self.successors.lock().unwrap_or_else(PoisonError::into_inner).take();
        let Some(successors) = successors else { return Ok(()) };
        for (name, bytes) in successors {
            self.inner.put_new(&name, vec![bytes]).await?;
        }
        self.inner.delete(name).await
    }
}

#[async_trait]
impl Store for SwappingStore {
    async fn put_new_reported(&self, name: &str, body: Vec<Bytes>) -> Result<PutReport, StoreError> {
        self.inner.put_new_reported(name, body).await
    }

    async fn get(&self, name: &str) -> Result<Bytes, StoreError> {
        self.before_read(name).await?;
        self.inner.get(name).await
    }

    async fn get_range(&self, name: &str, range: Range<u64>) -> Result<Bytes, StoreError> {
        self.before_read(name).await?;
        self.inner.get_range(name, range).await
    }

    async fn head(&self, name: &str) -> Result<Option<ObjectInfo>, StoreError> {
        self.inner.head(name).await
    }

    fn list(&self, prefix: &str) -> BoxStream<'_, Result<ObjectInfo, StoreError>> {
        self.inner.list(prefix)
    }

    async fn delete(&self, name: &str) -> Result<(), StoreError> {
        self.inner.delete(name).await
    }

    fn describe(&self) -> String {
        self.inner.describe()
    }
}
