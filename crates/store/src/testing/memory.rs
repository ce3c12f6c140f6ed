//! A store in memory.
//!
//! Invariant: it behaves as the best of real stores do; what real ones get wrong is `faulty`'s.
//! Never here: durability.

use std::ops::Range;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use futures::stream::BoxStream;
use object_store::ObjectStoreExt;
use object_store::memory::InMemory;
use object_store::path::Path;

use crate::backend::{Backend, Deadlines};
use crate::store::{ObjectInfo, PutReport, Store};
use crate::{StoreError, StoreOptions, Variables};

/// A store in memory. Clones share their objects.
#[derive(Debug, Clone)]
pub struct MemoryStore {
    objects: Arc<InMemory>,
    backend: Arc<Backend>,
}

impl Default for MemoryStore {
    fn default() -> Self {
        Self::new()
    }
}

impl MemoryStore {
    /// An empty store.
    pub fn new() -> Self {
        let objects = Arc::new(InMemory::new());
        let options = StoreOptions { variables: Variables::none(), ..StoreOptions::default() };
        let deadlines = Deadlines::of(&options);
        let backend = Backend::new(objects.clone(), Path::default(), "memory".into(), deadlines);
        Self { objects, backend: Arc::new(backend) }
    }

    /// Puts `bytes` in place of whatever is there, which no real caller can: for damage tests.
    ///
    /// # Panics
    ///
    /// If `name` is not an object name.
    pub async fn overwrite(&self, name: &str, bytes: Bytes) {
        let path = Path::parse(name).expect("tests use object names");
        let put = self.objects.put(&path, bytes.into()).await;
        put.expect("memory takes every put");
    }
}

#[async_trait]
impl Store for MemoryStore {
    async fn put_new_reported(&self, name: &str, body: Vec<Bytes>) -> Result<PutReport, StoreError> {
        self.backend.put_new_reported(name, body).await
    }

    async fn get(&self, name: &str) -> Result<Bytes, StoreError> {
        self.backend.get(name).await
    }

    async fn get_range(&self, name: &str, range: Range<u64>) -> Result<Bytes, StoreError> {
        self.backend.get_range(name, range).await
    }

    async fn head(&self, name: &str) -> Result<Option<ObjectInfo>, StoreError> {
        self.backend.head(name).await
    }

    fn list(&self, prefix: &str) -> BoxStream<'_, Result<ObjectInfo, StoreError>> {
        self.backend.list(prefix)
    }

    async fn delete(&self, name: &str) -> Result<(), StoreError> {
        self.backend.delete(name).await
    }

    fn describe(&self) -> String {
        "memory".into()
    }
}
