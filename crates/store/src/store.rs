//! What the engine sees of an object store: seven verbs on named, immutable objects.
//!
//! ```text
//! put_new   create if absent, whole object       get        whole object
//! head      length and time, or nothing          get_range  exactly these bytes
//! list      every object below a prefix          delete     gone afterwards, absent is fine
//! ```
//!
//! A name is relative to the repository's root: `packs/ab/abcdef`, `config`. It has no empty, `.` or
//! `..` segment and no `/` at either end.
//!
//! Invariant: nothing is ever overwritten. There is no plain put, so no caller can.
//! Never here: what an object means, its format, or encryption. We move bytes.

use std::fmt::Debug;
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures::stream::BoxStream;

use crate::StoreError;

/// The longest object that any store accepts or returns, in bytes.
///
/// The engine writes at most 64 MiB; the rest is room for padding and trailers. The bound keeps a
/// hostile store from filling the memory, and every put within what one request may carry.
pub const OBJECT_LEN_MAX: u64 = 128 << 20;

/// A store that layers and tasks share.
pub type SharedStore = Arc<dyn Store>;

/// An instant on the store's own clock, in nanoseconds since the Unix epoch.
///
/// Compare these with each other only, never with our clock. A store that keeps whole seconds or
/// milliseconds shows them rounded down, and a `head` may show less than a `list` does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct StoreTime(i64);

impl StoreTime {
    /// The instant that is `nanos` nanoseconds after the Unix epoch.
    pub const fn from_nanos(nanos: i64) -> Self {
        Self(nanos)
    }

    /// Nanoseconds since the Unix epoch.
    pub const fn as_nanos(self) -> i64 {
        self.0
    }

    /// Whole milliseconds since the Unix epoch.
    pub const fn as_millis(self) -> i64 {
        self.0.div_euclid(1_000_000)
    }

    /// How much later this is than `earlier`; zero if it is not later.
    pub fn since(self, earlier: Self) -> Duration {
        let nanos = self.0.saturating_sub(earlier.0).max(0);
        Duration::from_nanos(nanos.unsigned_abs())
    }
}

/// One stored object as a listing shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ObjectInfo {
    /// Name relative to the repository's root.
    pub name: String,
    /// Length in bytes.
    pub len: u64,
    /// When the store took it, by the store's clock.
    pub modified_at: StoreTime,
}

/// How a create-if-absent ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Put {
    /// The object was absent and now holds our bytes.
    Created,
    /// An object of this name is there. It may be our own earlier attempt, whose reply was lost:
    /// where the content matters, read it back and compare.
    AlreadyThere,
}

/// How a create-if-absent ended, and whether an attempt of it may still land.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PutReport {
    /// How it ended.
    pub put: Put,
    /// Attempts whose fate the store never told. Each may take effect at any later time, so
    /// whoever deletes this object must expect it to come back.
    pub unanswered_count: u32,
}

impl PutReport {
    /// A report of one attempt that was answered at once.
    pub const fn answered(put: Put) -> Self {
        Self { put, unanswered_count: 0 }
    }
}

/// An object store below one prefix. Every layer and every backend is one of these.
///
/// Names are checked by the backends: [`StoreError::BadName`]. All calls may be made concurrently
/// and dropped at any point; a dropped `put_new` or `delete` may still take effect.
#[async_trait]
pub trait Store: Send + Sync + Debug {
    /// Creates `name` from the parts of `body`, laid end to end, unless something is there.
    ///
    /// The parts are not copied into one buffer. When this returns [`Put::Created`] the object is
    /// durable: on a local disk the file and every folder above it were synced.
    ///
    /// # Errors
    ///
    /// Any [`StoreError`] but `NotFound` and `Truncated`. After an error that
    /// [leaves the outcome unknown](StoreError::is_outcome_unknown) the object may be there, or yet
    /// appear.
    async fn put_new(&self, name: &str, body: Vec<Bytes>) -> Result<Put, StoreError> {
        Ok(self.put_new_reported(name, body).await?.put)
    }

    /// [`put_new`](Self::put_new), telling also how many attempts were never answered.
    ///
    /// # Errors
    ///
    /// As for [`put_new`](Self::put_new).
    async fn put_new_reported(&self, name: &str, body: Vec<Bytes>) -> Result<PutReport, StoreError>;

    /// Reads the whole object, at most [`OBJECT_LEN_MAX`] bytes.
    ///
    /// # Errors
    ///
    /// [`StoreError::NotFound`] names the object.
    async fn get(&self, name: &str) -> Result<Bytes, StoreError>;

    /// Reads exactly the bytes `range` of the object. An empty range costs no request.
    ///
    /// # Errors
    ///
    /// [`StoreError::Truncated`] if the object ends before the range does, else as for
    /// [`get`](Self::get).
    async fn get_range(&self, name: &str, range: Range<u64>) -> Result<Bytes, StoreError>;

    /// The object's length and time, or `None` if it is absent.
    ///
    /// # Errors
    ///
    /// Any [`StoreError`] but `NotFound` and `Truncated`.
    async fn head(&self, name: &str) -> Result<Option<ObjectInfo>, StoreError>;

    /// Every object below the folder `prefix` (all objects if it is empty), in no order, once each.
    ///
    /// `packs` and `packs/` are the same and do not match `packs2/x`. A folder that is absent is
    /// empty. Collect the listing before deleting what it shows: some servers lose their place.
    fn list(&self, prefix: &str) -> BoxStream<'_, Result<ObjectInfo, StoreError>>;

    /// Makes the object absent. That it was absent already is fine.
    ///
    /// # Errors
    ///
    /// Any [`StoreError`] but `NotFound` and `Truncated`. The object may be gone nevertheless.
    async fn delete(&self, name: &str) -> Result<(), StoreError>;

    /// The store's location for messages, without secrets.
    fn describe(&self) -> String;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_before_the_epoch_rounds_down_to_milliseconds() {
        assert_eq!(StoreTime::from_nanos(-1).as_millis(), -1);
        assert_eq!(StoreTime::from_nanos(1_999_999).as_millis(), 1);
    }

    #[test]
    fn time_since_a_later_instant_is_zero() {
        let (early, late) = (StoreTime::from_nanos(5), StoreTime::from_nanos(9));
        assert_eq!(late.since(early), Duration::from_nanos(4));
        assert_eq!(early.since(late), Duration::ZERO);
    }
}
