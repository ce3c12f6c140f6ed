//! Keeps uploads and downloads within so many bytes per second.
//!
//! ```text
//! put    wait for our turn ─ send all
//! get    wait for our turn ─ receive all ─ the next one waits for what this one took
//! ```
//!
//! Whole objects are paced, not packets: over a few objects the average holds, within one it does not.
//!
//! Invariant: over any stretch, at most one object more than the rate allows is moved per direction.
//! Never here: the number of requests at a time, which is the engine's to choose.

use std::num::NonZeroU64;
use std::ops::Range;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures::stream::BoxStream;
use tokio::time::{Instant, sleep_until};

use crate::StoreError;
use crate::store::{ObjectInfo, PutReport, SharedStore, Store};

/// A store whose bytes are paced.
#[derive(Debug)]
pub struct Limited {
    inner: SharedStore,
    upload: Option<Pacer>,
    download: Option<Pacer>,
}

impl Limited {
    /// Paces `inner` to these bytes per second; `inner` itself if there is nothing to pace.
    pub fn over(inner: SharedStore, upload: Option<NonZeroU64>, download: Option<NonZeroU64>) -> SharedStore {
        if upload.is_none() && download.is_none() {
            return inner;
        }
        Arc::new(Self { inner, upload: upload.map(Pacer::new), download: download.map(Pacer::new) })
    }

    async fn received(&self, bytes: Bytes) -> Bytes {
        if let Some(pacer) = &self.download {
            pacer.claim(bytes.len() as u64);
        }
        bytes
    }

    async fn turn_to_receive(&self) {
        if let Some(pacer) = &self.download {
            sleep_until(pacer.claim(0)).await;
        }
    }
}

/// Hands out turns so that the bytes claimed never run ahead of the rate by more than one claim.
#[derive(Debug)]
struct Pacer {
    rate: NonZeroU64,
    free_at: Mutex<Option<Instant>>,
}

impl Pacer {
    fn new(rate: NonZeroU64) -> Self {
        Self { rate, free_at: Mutex::new(None) }
    }

    /// Claims `len` bytes and returns when their turn begins.
    fn claim(&self, len: u64) -> Instant {
        let mut free_at = self.free_at.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        let turn = free_at.map_or(now, |free_at| free_at.max(now));
        let nanos = u128::from(len) * 1_000_000_000 / u128::from(self.rate.get());
        let taken = Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX));
        *free_at = Some(turn.checked_add(taken).unwrap_or(turn));
        turn
    }
}

#[async_trait]
impl Store for Limited {
    async fn put_new_reported(&self, name: &str, body: Vec<Bytes>) -> Result<PutReport, StoreError> {
        if let Some(pacer) = &self.upload {
            let len = body.iter().map(|part| part.len() as u64).sum();
            sleep_until(pacer.claim(len)).await;
        }
        self.inner.put_new_reported(name, body).await
    }

    async fn get(&self, name: &str) -> Result<Bytes, StoreError> {
        self.turn_to_receive().await;
        Ok(self.received(self.inner.get(name).await?).await)
    }

    async fn get_range(&self, name: &str, range: Range<u64>) -> Result<Bytes, StoreError> {
        self.turn_to_receive().await;
        Ok(self.received(self.inner.get_range(name, range).await?).await)
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

#[cfg(all(test, feature = "testing"))]
mod tests {
    use super::*;
    use crate::testing::MemoryStore;

    fn limited(upload: u64, download: u64) -> SharedStore {
        Limited::over(Arc::new(MemoryStore::new()), NonZeroU64::new(upload), NonZeroU64::new(download))
    }

    #[tokio::test(start_paused = true)]
    async fn ten_uploads_take_as_long_as_their_bytes() {
        let store = limited(100, 0);
        let started = Instant::now();
        for i in 0..10 {
            store.put_new(&format!("o{i}"), vec![Bytes::from(vec![0; 100])]).await.expect("creates");
        }
        assert_eq!(started.elapsed().as_secs(), 9); // the first goes at once
    }

    #[tokio::test(start_paused = true)]
    async fn downloads_wait_for_what_came_before_and_uploads_do_not() {
        let store = limited(0, 100);
        store.put_new("o", vec![Bytes::from(vec![0; 500])]).await.expect("creates");
        let started = Instant::now();
        store.get("o").await.expect("reads");
        store.put_new("p", vec![Bytes::from(vec![0; 500])]).await.expect("creates");
        assert_eq!(started.elapsed(), Duration::ZERO);
        store.get_range("o", 0..1).await.expect("reads");
        assert_eq!(started.elapsed().as_secs(), 5);
    }
}
