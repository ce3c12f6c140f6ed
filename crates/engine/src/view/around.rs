//! What lies around a place that was read by itself, for those who read a file here and there.
//!
//! Such a read waits for a round trip and takes one blob. The blob's neighbours in the pack hold what is beside it in the file,
//! and one more request, for which nobody waits, brings several of them.
//!
//! ```text
//! a read elsewhere, slow ─► its blob's neighbours in one ranged read, unless enough are under way ─► kept on disk, sealed
//! a read elsewhere, quick ─► what is kept is of use: more may be read around
//! ```
//!
//! Invariant: few such reads at a time in a view; what is read in vain stays within [`CREDIT_LEN_MAX`], however long the file is.
//! Never here: whether a blob is right. Whoever opens it finds out, as of any that is kept.

use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use pack::{BlobRow, names};
use store::index_cache::PackInfo;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::Instant;

use crate::EngineError;
use crate::fetch::Fetcher;

/// A read that takes this long went to the store.
const SLOW: Duration = Duration::from_millis(10);
/// Sealed bytes around a blob, at most and at least.
const AROUND_LEN_MAX: u64 = 1 << 20;
const AROUND_LEN_MIN: u64 = 128 << 10;
/// Reads around at once: who waits for one blob after the other leaves the link idle between them.
const AT_ONCE: usize = 3;
/// A read around that takes longer keeps the link from those who wait for it: the next ones are shorter.
const AROUND_TIME_MAX: Duration = Duration::from_millis(200);
/// What may be read in vain, in bytes, and what a quick read earns.
const CREDIT_LEN_MAX: u64 = 32 << 20;
const EARNED_LEN: u64 = 4 << 20;

/// How much is read around, and whether it may be now.
#[derive(Debug)]
pub(super) struct Around {
    turns: Arc<Semaphore>,
    allowance: Arc<Mutex<Allowance>>,
}

/// May read around. What was not read is given back.
#[derive(Debug)]
pub(super) struct Turn {
    len_max: u64,
    read_len: u64,
    allowance: Arc<Mutex<Allowance>>,
    _permit: OwnedSemaphorePermit,
}

/// What may be read. Pure.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Allowance {
    around_len: u64,
    credit_len: u64,
}

impl Default for Around {
    fn default() -> Self {
        let allowance = Allowance { around_len: AROUND_LEN_MAX, credit_len: CREDIT_LEN_MAX };
        Self { turns: Arc::new(Semaphore::new(AT_ONCE)), allowance: Arc::new(Mutex::new(allowance)) }
    }
}

impl Around {
    /// Takes note of a read elsewhere that took so long; the turn to read around it, if that is worth it.
    pub(super) fn after(&self, took: Duration) -> Option<Turn> {
        let mut allowance = locked(&self.allowance);
        if took < SLOW {
            allowance.give(EARNED_LEN);
            return None;
        }
        let permit = Arc::clone(&self.turns).try_acquire_owned().ok()?;
        let len_max = allowance.take()?;
        Some(Turn { len_max, read_len: 0, allowance: Arc::clone(&self.allowance), _permit: permit })
    }
}

impl Turn {
    /// Reads what lies around the blob of `row`, as far as it is not kept, and keeps it. Of a store that fails nothing is said:
    /// nobody asked.
    pub(super) async fn keep(mut self, fetcher: &Fetcher, info: &Arc<PackInfo>, row: u32) {
        let began = Instant::now();
        self.read_len = read_around(fetcher, info, row, self.len_max).await.unwrap_or_default();
        if self.read_len > 0 {
            locked(&self.allowance).pace(began.elapsed());
        }
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        locked(&self.allowance).give(self.len_max.saturating_sub(self.read_len));
    }
}

fn locked(allowance: &Mutex<Allowance>) -> MutexGuard<'_, Allowance> {
    allowance.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Allowance {
    /// So many bytes may be read now; none if too many were read in vain.
    fn take(&mut self) -> Option<u64> {
        self.credit_len = self.credit_len.checked_sub(self.around_len)?;
        Some(self.around_len)
    }

    fn give(&mut self, len: u64) {
        self.credit_len = (self.credit_len + len).min(CREDIT_LEN_MAX);
    }

    /// What was read took so long.
    fn pace(&mut self, took: Duration) {
        let next = if took > AROUND_TIME_MAX { self.around_len / 2 } else { self.around_len * 2 };
        self.around_len = next.clamp(AROUND_LEN_MIN, AROUND_LEN_MAX);
    }
}

/// The bytes that were read.
async fn read_around(fetcher: &Fetcher, info: &Arc<PackInfo>, row: u32, len_max: u64) -> Result<u64, EngineError> {
    let (index, pack) = (fetcher.index.clone(), Arc::clone(info));
    let wanted = fetcher.offload.start(move || {
        let is_kept = |blob: &BlobRow| index.kept_blob(&pack.id, blob.offset).is_some();
        neighbours(&pack.blobs, row as usize, len_max, is_kept)
    });
    let rows = wanted.await?;
    let Some((first, last)) = info.blobs.get(rows).and_then(|blobs| blobs.first().zip(blobs.last())) else {
        return Ok(0);
    };
    let range = first.offset..last.offset + u64::from(last.sealed_len);
    let len = range.end - range.start;
    let read = fetcher.store.get_range(&names::pack(&info.id), range.clone()).await?;
    let (index, pack) = (fetcher.index.clone(), Arc::clone(info));
    let kept = fetcher.offload.start(move || {
        for blob in pack.blobs.iter().filter(|blob| range.contains(&blob.offset)) {
            let start = (blob.offset - range.start) as usize;
            if let Some(sealed) = read.get(start..start + blob.sealed_len as usize) {
                index.keep_blob(&pack.id, blob.offset, sealed);
            }
        }
    });
    kept.await?;
    Ok(len)
}

/// The rows around `row`, on both sides alike as far as there are any, of at most `len_max` sealed bytes besides its own; none at
/// either end is kept. Nothing if only `row` itself is left.
fn neighbours(blobs: &[BlobRow], row: usize, len_max: u64, is_kept: impl Fn(&BlobRow) -> bool) -> Range<usize> {
    let Some(own) = blobs.get(row) else { return 0..0 };
    let (mut rows, mut len) = (row..row + 1, 0);
    loop {
        let begin_len = own.offset.saturating_sub(blobs[rows.start].offset);
        let end_len = blobs[rows.end - 1].offset.saturating_sub(own.offset);
        let before = rows.start.checked_sub(1).and_then(|at| blobs.get(at));
        let after = blobs.get(rows.end);
        let goes_back = before.is_some() && (after.is_none() || begin_len < end_len);
        let Some(next) = (if goes_back { before } else { after }) else { break };
        len += u64::from(next.sealed_len);
        if len > len_max {
            break;
        }
        if goes_back { rows.start -= 1 } else { rows.end += 1 }
    }
    let is_needless = |at: usize| at == row || is_kept(&blobs[at]);
    while !rows.is_empty() && is_needless(rows.start) {
        rows.start += 1;
    }
    while !rows.is_empty() && is_needless(rows.end - 1) {
        rows.end -= 1;
    }
    rows
}

#[cfg(test)]
mod tests {
    use super::*;
    use pack::BlobKind;

    fn blobs(count: u64) -> Vec<BlobRow> {
        let row = |at| BlobRow {
            kind: BlobKind::Data,
            seal: 0,
            counter: at,
            offset: at * 100,
            sealed_len: 100,
            plain_len: 100,
            first_chunk: 0,
            chunk_count: 0,
            hash: [0; 32],
        };
        (0..count).map(row).collect()
    }

    #[test]
    fn neighbours_lie_on_both_sides_as_far_as_the_pack_reaches() {
        let none_kept = |_: &BlobRow| false;
        assert_eq!(neighbours(&blobs(20), 10, 400, none_kept), 8..13);
        assert_eq!(neighbours(&blobs(20), 0, 400, none_kept), 1..5, "its own blob is not read again");
        assert_eq!(neighbours(&blobs(20), 19, 400, none_kept), 15..19);
        assert_eq!(neighbours(&blobs(3), 1, 5000, none_kept), 0..3);
        assert!(neighbours(&blobs(1), 0, 5000, none_kept).is_empty());
        assert!(neighbours(&blobs(20), 10, 99, none_kept).is_empty());
        assert!(neighbours(&blobs(20), 20, 500, none_kept).is_empty());
    }

    #[test]
    fn what_is_kept_at_either_end_is_not_read_again() {
        let is_kept = |blob: &BlobRow| blob.counter < 10;
        assert_eq!(neighbours(&blobs(20), 10, 400, is_kept), 11..13);
        assert!(neighbours(&blobs(20), 10, 5000, |_| true).is_empty());
    }

    #[test]
    fn little_is_read_in_vain_and_more_while_it_is_of_use() {
        let around = Around::default();
        let mut read_len = 0;
        while let Some(mut turn) = around.after(SLOW) {
            turn.read_len = turn.len_max;
            read_len += turn.len_max;
            assert!(read_len <= CREDIT_LEN_MAX);
        }
        assert_eq!(read_len, CREDIT_LEN_MAX);
        assert!(around.after(Duration::ZERO).is_none(), "a quick read needs nothing");
        assert!(around.after(SLOW).is_some(), "and shows that it was of use");
    }

    #[test]
    fn few_read_around_at_a_time() {
        let around = Around::default();
        let mut turns: Vec<_> = (0..AT_ONCE).filter_map(|_| around.after(SLOW)).collect();
        assert_eq!(turns.len(), AT_ONCE);
        assert!(around.after(SLOW).is_none());
        turns.pop();
        assert!(around.after(SLOW).is_some());
        turns.clear();
        assert_eq!(locked(&around.allowance).credit_len, CREDIT_LEN_MAX, "what was not read is given back");
    }

    #[test]
    fn slow_links_are_asked_for_less() {
        let mut allowance = Allowance { around_len: AROUND_LEN_MAX, credit_len: CREDIT_LEN_MAX };
        for (took, around_len) in [(AROUND_TIME_MAX * 2, AROUND_LEN_MIN), (AROUND_TIME_MAX, AROUND_LEN_MAX)] {
            for _ in 0..10 {
                allowance.pace(took);
            }
            assert_eq!(allowance.take(), Some(around_len));
        }
    }
}
