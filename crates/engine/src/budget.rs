//! The byte semaphore: all content in flight, from read to acknowledged upload, is counted here.
//!
//! Invariant: the budget exceeds what an operation may hold back for order (open packs, drafts, blobs being sealed),
//! so a reader that waits for bytes always gets them in the end.
//! Never here: what the bytes are.

use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Bytes of content that may be in memory at once, in bytes.
pub(crate) const IN_FLIGHT_LEN_MAX: usize = 128 << 20;

/// The semaphore. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Budget(Arc<Semaphore>);

/// Bytes held; given back when dropped.
pub(crate) struct Held(Option<OwnedSemaphorePermit>);

impl Budget {
    pub(crate) fn new(len: usize) -> Self {
        Self(Arc::new(Semaphore::new(len)))
    }

    /// Waits until `len` bytes (at most the whole budget) are free and takes them.
    pub(crate) async fn take(&self, len: usize) -> Held {
        let permits = u32::try_from(len.min(IN_FLIGHT_LEN_MAX)).unwrap_or(u32::MAX);
        Held(Arc::clone(&self.0).acquire_many_owned(permits).await.ok())
    }
}

impl Held {
    /// Nothing.
    pub(crate) const fn none() -> Self {
        Self(None)
    }

    /// Splits off `len` bytes, or all there are.
    pub(crate) fn split(&mut self, len: usize) -> Self {
        let Some(permit) = self.0.as_mut() else { return Self(None) };
        let len = len.min(permit.num_permits());
        Self(permit.split(len))
    }

    /// Adds `other` to this.
    pub(crate) fn join(&mut self, other: Self) {
        match (self.0.as_mut(), other.0) {
            (Some(own), Some(other)) => own.merge(other),
            (None, other) => self.0 = other,
            (Some(_), None) => {}
        }
    }

    /// Gives back all but `len` bytes.
    pub(crate) fn shrink_to(&mut self, len: usize) {
        let held = self.0.as_ref().map_or(0, OwnedSemaphorePermit::num_permits);
        drop(self.split(held.saturating_sub(len)));
    }
}
