//! Things that were read and may be wanted again, at most so many bytes of them.
//!
//! ```text
//! get_or ─► there ───────────────────────────────► given
//!        ├► being read by another ─► waits ──────► given, or reads itself if that failed
//!        └► absent ─► read ─► kept; what was used longest ago goes ─► given
//! ```
//!
//! Invariant: what is kept has at most the bytes that were allowed; what is being read is not counted.
//! Invariant: a thing that several want at once is read once.
//! Never here: what the things are.

use std::hash::Hash;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use lru::LruCache;
use tokio::sync::OnceCell;

/// Things by key, the one used last first to stay.
pub(crate) struct Kept<K, V> {
    slots: Mutex<Slots<K, V>>,
    len_max: usize,
}

struct Slots<K, V> {
    by_use: LruCache<K, Slot<V>>,
    len: usize,
}

struct Slot<V> {
    cell: Arc<OnceCell<V>>,
    /// 0 until it is there.
    len: usize,
}

impl<K: Hash + Eq + Clone, V: Clone> Kept<K, V> {
    /// Room for `len_max` bytes.
    pub(crate) fn new(len_max: usize) -> Self {
        Self { slots: Mutex::new(Slots { by_use: LruCache::unbounded(), len: 0 }), len_max }
    }

    fn slots(&self) -> MutexGuard<'_, Slots<K, V>> {
        self.slots.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What is kept under `key`, or what `read` gives together with its length.
    pub(crate) async fn get_or<E>(&self, key: &K, read: impl Future<Output = Result<(V, usize), E>>) -> Result<V, E> {
        let cell = {
            let mut slots = self.slots();
            let slot = slots.by_use.get_or_insert_mut(key.clone(), || Slot { cell: Arc::default(), len: 0 });
            Arc::clone(&slot.cell)
        };
        let mut read_len = None;
        let read = async {
            let (value, len) = read.await?;
            read_len = Some(len);
            Ok(value)
        };
        let value = cell.get_or_try_init(|| read).await.cloned();
        match (&value, read_len) {
            (Ok(_), Some(len)) => self.settle(key, &cell, len),
            (Err(_), _) => self.give_up(key, &cell),
            (Ok(_), None) => {}
        }
        value
    }

    /// Counts what was read, and lets go of what is too much.
    fn settle(&self, key: &K, cell: &Arc<OnceCell<V>>, len: usize) {
        let mut slots = self.slots();
        let Some(slot) = slots.by_use.peek_mut(key).filter(|slot| Arc::ptr_eq(&slot.cell, cell)) else { return };
        slot.len = len;
        slots.len += len;
        while slots.len > self.len_max
            && let Some((_, slot)) = slots.by_use.pop_lru()
        {
            slots.len -= slot.len;
        }
    }

    fn give_up(&self, key: &K, cell: &Arc<OnceCell<V>>) {
        let mut slots = self.slots();
        let is_ours = slots.by_use.peek(key).is_some_and(|slot| Arc::ptr_eq(&slot.cell, cell) && slot.len == 0);
        if is_ours {
            slots.by_use.pop(key);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};

    use super::*;

    async fn read(kept: &Kept<u32, u32>, key: u32, len: usize) -> bool {
        let mut was_read = false;
        let value = kept.get_or(&key, async {
            was_read = true;
            Ok::<_, ()>((key, len))
        });
        assert_eq!(value.await, Ok(key));
        was_read
    }

    #[tokio::test]
    async fn what_was_used_longest_ago_goes_first() {
        let kept = Kept::new(30);
        for key in [1, 2, 3] {
            assert!(read(&kept, key, 10).await);
        }
        assert!(!read(&kept, 1, 10).await, "it is kept");
        assert!(read(&kept, 4, 10).await);
        assert!(read(&kept, 2, 10).await, "it went for the fourth");
        assert!(!read(&kept, 4, 10).await);
        assert!(kept.slots().len <= 30);
    }

    #[tokio::test]
    async fn what_is_larger_than_all_room_is_given_and_not_kept() {
        let kept = Kept::new(30);
        assert!(read(&kept, 1, 31).await);
        assert!(read(&kept, 1, 31).await);
        assert_eq!(kept.slots().len, 0);
    }

    #[tokio::test]
    async fn several_who_want_the_same_share_one_reading() {
        let (kept, count) = (Kept::new(30), AtomicU32::new(0));
        let wanted = (0..10).map(|_| {
            kept.get_or(&7, async {
                count.fetch_add(1, Ordering::Relaxed);
                tokio::task::yield_now().await;
                Ok::<_, ()>(("seven", 10))
            })
        });
        let all = futures::future::join_all(wanted).await;
        assert!(all.iter().all(|value| *value == Ok("seven")));
        assert_eq!(count.load(Ordering::Relaxed), 1);
    }

    #[tokio::test]
    async fn reading_that_fails_or_is_given_up_leaves_nothing_behind() {
        let kept = Kept::new(30);
        assert_eq!(kept.get_or(&1, async { Err::<(u32, usize), _>("no") }).await, Err("no"));
        assert_eq!(kept.slots().by_use.len(), 0);
        let endless = kept.get_or(&1, std::future::pending::<Result<(u32, usize), ()>>());
        assert!(futures::poll!(std::pin::pin!(endless)).is_pending());
        assert!(read(&kept, 1, 10).await, "the next one reads it");
    }
}
