//! A store in which objects are replaced by others just before one of them is read: what a prune does to a slow reader.
//!
//! Invariant: the swap happens once, before the first read of the object, or as many reads later as was said.
//! Never here: failing requests.

use std::ops::Range;
use std::sync::atomic::{AtomicUsize, Ordering};
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
    leaving: Vec<String>,
    successors: Mutex<Option<Vec<(String, Bytes)>>>,
    reads_left: AtomicUsize,
}

impl SwappingStore {
    /// `inner`, in which `name` goes away and `successors` come when `name` is first read.
    #[must_use]
    pub fn new(inner: MemoryStore, name: &str, successors: Vec<(String, Bytes)>) -> Self {
        let leaving = vec![name.to_owned()];
        let successors = Mutex::new(Some(successors));
        Self { inner, name: name.to_owned(), leaving, successors, reads_left: AtomicUsize::new(0) }
    }

    /// Lets so many reads of the object pass before the swap.
    #[must_use]
    pub fn after(mut self, reads: usize) -> Self {
        self.reads_left = AtomicUsize::new(reads);
        self
    }

    /// These objects go away with it.
    #[must_use]
    pub fn taking(mut self, names: impl IntoIterator<Item = String>) -> Self {
        self.leaving.extend(names);
        self
    }

    /// Whether the object was asked for.
    #[must_use]
    pub fn has_swapped(&self) -> bool {
        self.successors.lock().unwrap_or_else(PoisonError::into_inner).is_none()
    }

    async fn before_read(&self, name: &str) -> Result<(), StoreError> {
        let one_less = |left: usize| left.checked_sub(1);
        if name != self.name || self.reads_left.fetch_update(Ordering::SeqCst, Ordering::SeqCst, one_less).is_ok() {
            return Ok(());
        }
        let successors = self.successors.lock().unwrap_or_else(PoisonError::into_inner).take();
        let Some(successors) = successors else { return Ok(()) };
        for (name, bytes) in successors {
            self.inner.put_new(&name, vec![bytes]).await?;
        }
        for name in &self.leaving {
            self.inner.delete(name).await?;
        }
        Ok(())
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
