//! What a reader does before it calls a chunk lost: it reads the index again, then trailers.
//!
//! ```text
//! places known so far ─► the index again ─► trailers ─► lost
//!                        │                  │ first of packs whose table in the index proved false, then of packs
//!                        │                  │ that no segment names or names with another length, then of the rest
//!                        │                  └ kept: what they say and the index does not
//!                        └ once; and again whenever a pack is gone that the last listing showed
//! ```
//!
//! All readers of one operation share what was learned: whoever misses something while another one reads waits for that
//! reading and then looks at what came of it. A pack that is gone, and a blob that does not open, are asked for once.
//!
//! Invariant: however much is lost, an operation reads the index at most [`INDEX_READS_MAX`] times again, and at most
//! [`TRAILERS_MAX`] trailers, of which it keeps at most [`crate::trailers::CHUNKS_MAX`] chunks.
//! Invariant: nothing of this enters the index cache but listed segments; the index of a writer stays what it announced.
//! Never here: opening blobs (see `fetch`), many chunks at once (see `restore::reads`).

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use futures::future::BoxFuture;
use futures::{FutureExt, StreamExt, TryStreamExt};
use pack::PackId;
use seal::ChunkId;
use store::index_cache::{IndexCache, PackInfo, PackNo, Place};

use crate::index::Index;
use crate::repository::{REQUESTS_MAX, Repository};
use crate::trailers::{TrailerRead, Trailers};
use crate::{EngineError, Kind};

/// How often one operation reads the index again: for each, a prune must have passed meanwhile.
pub(crate) const INDEX_READS_MAX: u32 = 32;
/// Trailers that one operation reads, of packs of about 16 MiB each; one request for each, two for a long one.
pub(crate) const TRAILERS_MAX: usize = 4096;
/// Packs and blobs that are remembered as gone or bad; any further one is asked for again.
const FAILURES_KEPT_MAX: usize = 64 << 10;

/// The reader's further ways to a chunk, and what it learned on them.
pub(crate) struct LastResort {
    /// None for a writer's reader, which gives up at once: what it cannot read of its parent it reads at the source.
    repository: Option<Repository>,
    learned: RwLock<Learned>,
    /// Trailers to be read at most.
    trailers_max: usize,
    /// Held while the index or trailers are read.
    reading: tokio::sync::Mutex<()>,
}

/// What was learned since the operation began.
#[derive(Default)]
struct Learned {
    /// The index as it was read last, if that was after the beginning.
    index: Option<Index>,
    index_read_count: u32,
    /// Packs that were gone, and blobs that did not open, with what was said of them.
    gone: HashMap<Table, String>,
    bad: HashMap<(Table, u32), String>,
    trailers: Trailers,
    /// After which reading of the index trailers were read.
    trailers_read_at: Option<u32>,
    /// Packs whose trailers were not read, because they are too many, too long or damaged.
    unread_count: usize,
}

/// A pack as the index describes it, or as its own trailer does. Not its number: another cache numbers otherwise, and the
/// one in use may give way to another in the middle of an operation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Table {
    pack: PackId,
    is_own: bool,
}

impl Table {
    /// The one that led to `place`, which is in the pack of `info`.
    pub(crate) fn of(place: Place, info: &PackInfo) -> Self {
        Self { pack: info.id, is_own: Trailers::is_own(place.pack) }
    }
}

/// How the search for one chunk went so far.
#[derive(Default)]
pub(crate) struct Tried {
    /// Tables, blobs, and bytes before the chunk.
    places: Vec<(Table, u32, u32)>,
    reasons: Vec<String>,
    /// Packs whose tables in the index did not lead to the chunk.
    suspects: Vec<PackId>,
    /// Whether a pack was gone that the index had listed.
    has_vanished: bool,
    /// How often the index had been read again when the search began.
    index_read_count: u32,
}

/// Where a search looks, one after the other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Step {
    Known,
    IndexAgain,
    Trailers,
}

impl Tried {
    /// Takes note of a place; false if it was tried already.
    pub(crate) fn begin(&mut self, table: Table, place: Place) -> bool {
        let place = (table, place.blob, place.offset);
        let is_new = !self.places.contains(&place);
        if is_new {
            self.places.push(place);
        }
        is_new
    }

    /// Notes why a place did not give the chunk.
    pub(crate) fn failed(&mut self, table: Table, reason: String, is_gone: bool, was_listed: bool) {
        if !self.reasons.contains(&reason) {
            self.reasons.push(reason);
        }
        self.has_vanished |= is_gone && was_listed;
        if !is_gone && !table.is_own && !self.suspects.contains(&table.pack) {
            self.suspects.push(table.pack);
        }
    }
}

impl LastResort {
    /// For an operation over `repository`; without one nothing is read again.
    pub(crate) fn new(repository: Option<Repository>) -> Self {
        let (learned, reading) = (RwLock::default(), tokio::sync::Mutex::default());
        Self { repository, learned, trailers_max: TRAILERS_MAX, reading }
    }

    fn learned(&self) -> RwLockReadGuard<'_, Learned> {
        self.learned.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn learn(&self) -> RwLockWriteGuard<'_, Learned> {
        self.learned.write().unwrap_or_else(PoisonError::into_inner)
    }

    /// The index as it was read last, or `first`.
    pub(crate) fn newest(&self, first: &Index) -> Index {
        self.learned().index.as_ref().unwrap_or(first).clone()
    }

    /// Whether there is anything to learn from beside the index: trailers, packs that are gone, bad blobs.
    pub(crate) fn knows_more(&self) -> bool {
        let learned = self.learned();
        !(learned.gone.is_empty() && learned.bad.is_empty() && learned.trailers.is_empty())
    }

    /// Places that trailers name.
    pub(crate) fn places(&self, id: ChunkId) -> Vec<Place> {
        self.learned().trailers.places(id)
    }

    /// A pack by its number, if a trailer told of it.
    pub(crate) fn pack(&self, number: PackNo) -> Option<Arc<PackInfo>> {
        self.learned().trailers.pack(number)
    }

    /// What is known to be wrong with a blob, and whether its pack is gone.
    pub(crate) fn failure_at(&self, table: Table, blob: u32) -> Option<(String, bool)> {
        let gone = self.failure_of(table).map(|reason| (reason, true));
        gone.or_else(|| self.learned().bad.get(&(table, blob)).map(|reason| (reason.clone(), false)))
    }

    /// Why a pack is known to be gone.
    pub(crate) fn failure_of(&self, table: Table) -> Option<String> {
        self.learned().gone.get(&table).cloned()
    }

    /// Notes that a pack is gone.
    pub(crate) fn note_gone(&self, table: Table, reason: String) {
        let mut learned = self.learn();
        if learned.gone.len() < FAILURES_KEPT_MAX {
            learned.gone.insert(table, reason);
        }
    }

    /// Notes that a blob does not open, however often it is read. If that is damage, the host remembers it, so that backups
    /// store anew what is in this pack, and a check reads it.
    pub(crate) async fn note_bad(&self, table: Table, blob: u32, error: &EngineError) {
        let is_kept = {
            let mut learned = self.learn();
            let is_kept = learned.bad.len() < FAILURES_KEPT_MAX;
            if is_kept {
                learned.bad.insert((table, blob), error.to_string());
            }
            is_kept
        };
        if let Some(repository) = self.repository.as_ref().filter(|_| is_kept && error.kind() == Kind::Damaged) {
            let cache = Arc::clone(&repository.cache);
            // Whatever becomes of the note, the blob stays bad.
            drop(repository.offload.start(move || cache.note_damaged(table.pack)).await);
        }
    }

    /// A search that begins now.
    pub(crate) fn search(&self) -> Tried {
        Tried { index_read_count: self.learned().index_read_count, ..Tried::default() }
    }

    /// Does what `step` asks for, unless it was done already; false if there is nothing new to look at.
    ///
    /// # Errors
    ///
    /// Those of the store, when it cannot be asked. That says nothing of the chunk.
    pub(crate) fn prepare<'a>(&'a self, step: Step, tried: &'a Tried) -> BoxFuture<'a, Result<bool, EngineError>> {
        match (&self.repository, step) {
            (_, Step::Known) => std::future::ready(Ok(true)).boxed(),
            (None, _) => std::future::ready(Ok(false)).boxed(),
            (Some(repository), Step::IndexAgain) => self.read_index(repository, tried).boxed(),
            (Some(repository), Step::Trailers) => self.read_trailers(repository, tried).boxed(),
        }
    }

    async fn read_index(&self, repository: &Repository, tried: &Tried) -> Result<bool, EngineError> {
        let _one_at_a_time = self.reading.lock().await;
        let count = self.learned().index_read_count;
        if count > tried.index_read_count {
            return Ok(true);
        }
        if count > 0 && !(tried.has_vanished && count < INDEX_READS_MAX) {
            return Ok(false);
        }
        tracing::info!("something that a snapshot needs is not where it was: the index is read again");
        let before = repository.cache.now();
        let index = repository.load_index().await?;
        let mut learned = self.learn();
        if !Arc::ptr_eq(&before, &index.cache) {
            // Another cache may have learned of a pack from another segment.
            learned.bad.clear();
        }
        learned.index = Some(index);
        learned.index_read_count = count + 1;
        learned.gone.clear();
        Ok(true)
    }

    async fn read_trailers(&self, repository: &Repository, tried: &Tried) -> Result<bool, EngineError> {
        let _one_at_a_time = self.reading.lock().await;
        let (suspects, room) = {
            let learned = self.learned();
            let done = learned.trailers.read_packs();
            let suspects: Vec<_> = tried.suspects.iter().filter(|id| !done.contains(id)).copied().collect();
            let room = self.trailers_max.saturating_sub(done.len());
            let is_done = learned.trailers_read_at == Some(learned.index_read_count);
            if room == 0 || (is_done && suspects.is_empty()) {
                return Ok(!learned.trailers.is_empty());
            }
            (suspects, room)
        };
        tracing::info!("the index does not lead to something that a snapshot needs: trailers are read");
        let listed: HashMap<PackId, u64> = repository.listed_packs().try_collect().await?;
        let done: HashSet<PackId> = self.learned().trailers.read_packs().clone();
        let cache = repository.cache.now();
        let unlisted: Vec<_> = suspects.iter().filter(|id| !listed.contains_key(*id)).copied().collect();
        let ordered = repository.offload.start(move || in_order(&cache, listed, &suspects, &done)).await??;
        let unread_count = ordered.len().saturating_sub(room);
        let mut reads = futures::stream::iter(ordered.into_iter().take(room))
            .map(|(id, len)| repository.read_trailer(id, len))
            .buffered(REQUESTS_MAX);
        let mut unkept_count = 0;
        while let Some(read) = reads.try_next().await? {
            let mut learned = self.learn();
            let (id, extra) = match read {
                TrailerRead::Extra(id, extra) => (id, extra),
                TrailerRead::Unreadable(id) => {
                    unkept_count += 1;
                    (id, None)
                }
            };
            unkept_count += usize::from(!learned.trailers.add(id, extra));
        }
        let mut learned = self.learn();
        for pack in unlisted {
            // Nobody needs to list packs once more to look for it.
            learned.trailers.add(pack, None);
        }
        learned.trailers.settle();
        learned.trailers_read_at = Some(learned.index_read_count);
        learned.unread_count = unread_count + unkept_count;
        Ok(true)
    }

    /// What to say of a chunk that no place gave.
    pub(crate) fn lost(&self, id: ChunkId, tried: Tried) -> EngineError {
        let nowhere = || match &self.repository {
            Some(_) => "no index segment and no trailer names it".to_owned(),
            None => "no index segment names it".to_owned(),
        };
        let mut reason = if tried.reasons.is_empty() { nowhere() } else { tried.reasons.join("; ") };
        let unread_count = self.learned().unread_count;
        if unread_count > 0 {
            reason.push_str(&format!(" (the trailers of {unread_count} packs could not be looked at)"));
        }
        EngineError::Lost { chunk: id.to_string(), reason }
    }
}

/// The listed packs whose trailers were not read, those first that are likelier to hold what is missed. CPU-bound.
fn in_order(
    cache: &IndexCache,
    listed: HashMap<PackId, u64>,
    suspects: &[PackId],
    done: &HashSet<PackId>,
) -> Result<Vec<(PackId, u64)>, EngineError> {
    let packs: Vec<_> = listed.into_iter().filter(|(id, _)| !done.contains(id)).collect();
    let ids: Vec<_> = packs.iter().map(|(id, _)| *id).collect();
    let mut ordered = Vec::with_capacity(packs.len());
    for ((id, len), number) in packs.into_iter().zip(cache.pack_numbers(&ids)?) {
        let named = number.map(|number| cache.pack(number)).transpose()?.flatten();
        let is_as_named = named.is_some_and(|info| info.len == len);
        let rank = if suspects.contains(&id) { 0 } else { 1 + u8::from(is_as_named) };
        ordered.push((rank, id, len));
    }
    ordered.sort_unstable();
    Ok(ordered.into_iter().map(|(_, id, len)| (id, len)).collect())
}

#[cfg(test)]
mod tests;
