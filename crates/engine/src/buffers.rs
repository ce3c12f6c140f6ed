//! Buffers for opened blobs, used again: pages that the system hands out anew for each blob cost more than decrypting it.
//!
//! ```text
//! lend ─► filled on the pool ─► Bytes, sliced and shared ─► the last slice is dropped ─► kept for the next blob
//! ```
//!
//! Invariant: idle buffers are at most [`KEPT_MAX`], of at most [`KEPT_LEN_MAX`] bytes each.
//! Never here: how many are in use; whoever reads bounds that.

use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;

/// Idle buffers, as a count: about as many as a reader has in use at once.
const KEPT_MAX: usize = 40;
/// The largest buffer that is kept, in bytes: blobs are aimed at 1 MiB.
const KEPT_LEN_MAX: usize = 2 << 20;

/// A reader's buffers. Clones share them.
#[derive(Clone, Default)]
pub(crate) struct Buffers(Arc<Mutex<Vec<Vec<u8>>>>);

/// A buffer that goes home when it is dropped.
struct Lent {
    content: Vec<u8>,
    home: Buffers,
}

impl Buffers {
    /// Fills a buffer by `work` and gives its content; it is used again after the last slice of that is dropped.
    pub(crate) fn filled<E>(&self, work: impl FnOnce(&mut Vec<u8>) -> Result<(), E>) -> Result<Bytes, E> {
        let content = self.0.lock().unwrap_or_else(PoisonError::into_inner).pop().unwrap_or_default();
        let mut lent = Lent { content, home: self.clone() };
        work(&mut lent.content)?;
        Ok(Bytes::from_owner(lent))
    }
}

impl AsRef<[u8]> for Lent {
    fn as_ref(&self) -> &[u8] {
        &self.content
    }
}

impl Drop for Lent {
    fn drop(&mut self) {
        let mut kept = self.home.0.lock().unwrap_or_else(PoisonError::into_inner);
        if kept.len() < KEPT_MAX && (1..=KEPT_LEN_MAX).contains(&self.content.capacity()) {
            kept.push(std::mem::take(&mut self.content));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn filled(buffers: &Buffers, len: usize) -> Bytes {
        let filled = buffers.filled(|buffer| {
            buffer.clear();
            buffer.resize(len, 7);
            Ok::<(), ()>(())
        });
        filled.expect("is filled")
    }

    #[test]
    fn buffer_is_used_again_only_after_its_last_slice_is_dropped() {
        let buffers = Buffers::default();
        let first = filled(&buffers, 100);
        let (slice, place) = (first.slice(10..20), first.as_ptr());
        drop(first);
        let second = filled(&buffers, 100);
        assert_ne!(second.as_ptr(), place, "the slice still shows it");
        assert_eq!(slice, [7; 10].as_slice());
        drop(slice);
        assert_eq!(filled(&buffers, 50).as_ptr(), place);
    }

    #[test]
    fn idle_buffers_are_few_and_no_larger_than_a_usual_blob() {
        let buffers = Buffers::default();
        let many: Vec<_> = (0..2 * KEPT_MAX).map(|_| filled(&buffers, 10)).collect();
        let large = filled(&buffers, KEPT_LEN_MAX + 1);
        drop((large, many));
        let kept = buffers.0.lock().expect("is not poisoned");
        assert_eq!(kept.len(), KEPT_MAX);
        assert!(kept.iter().all(|buffer| buffer.capacity() <= KEPT_LEN_MAX));
    }

    #[test]
    fn buffer_goes_home_when_filling_it_fails() {
        let buffers = Buffers::default();
        let failed = buffers.filled(|buffer| {
            buffer.push(1);
            Err("no")
        });
        assert_eq!(failed, Err("no"));
        assert_eq!(buffers.0.lock().expect("is not poisoned").len(), 1);
    }
}
