//! Uploading packs, several at a time, and publishing the segments that name them.
//!
//! ```text
//! finished pack ─► put ─► acknowledged ─► journal ─► segment (64 packs, 64 Ki chunks or 5 minutes) ─► index cache
//! ```
//!
//! Invariant: a segment names acknowledged packs only, and enters the cache only after it is stored.
//! Invariant: the journal names packs that were acknowledged and that no segment names yet, and no other: of a put that only
//! began nobody knows how often it was sent, and it may land when the pack was long deleted. The next run uses what the
//! journal names only as far as the store has it.
//! Invariant: one failed put fails the backup; it is never taken for a problem of some entry (L2).
//! Never here: what is in the packs.

use std::collections::HashSet;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use futures::TryStreamExt;
use futures::stream::FuturesUnordered;
use pack::{FinishedPack, PackEntry, PackId, Segment, SegmentId, names};
use seal::ChunkId;
use store::Timestamp;
use store::index_cache::IndexCache;
use tokio::task::JoinHandle;

use crate::backup::pack_puts::PackPuts;
use crate::budget::Held;
use crate::host_cache::HostCache;
use crate::index::Index;
use crate::objects::random;
use crate::repository::Repository;
use crate::{EngineError, Progress};

/// Packs being uploaded at once.
pub(crate) const UPLOADS_MAX: usize = 4;
/// Packs in a segment.
pub(crate) const SEGMENT_PACKS_MAX: usize = 64;
/// Chunks in a segment, so that memory does not grow with how small chunks are.
pub(crate) const SEGMENT_CHUNKS_MAX: usize = 64 << 10;
/// How long acknowledged packs wait for a segment.
const SEGMENT_EVERY: Duration = Duration::from_secs(300);
/// The journal of packs that were acknowledged and which no segment names yet, in the cache.
const JOURNAL: &str = "journal";

/// Uploads the packs of one backup.
pub(crate) struct Uploader<'a> {
    repository: &'a Repository,
    puts: PackPuts,
    journal: Arc<Journal>,
    index: Index,
    progress: Arc<Progress>,
    running: FuturesUnordered<JoinHandle<Result<PackEntry, EngineError>>>,
    acknowledged: Vec<PackEntry>,
    chunk_count: usize,
    published_at: Timestamp,
    pub(crate) stored_len: u64,
    pub(crate) pack_count: u64,
}

/// What a segment of the next run should name if this run is killed.
struct Journal {
    cache: Arc<HostCache>,
    unnamed: Mutex<Vec<PackId>>,
}

impl Journal {
    /// Notes a pack that was acknowledged.
    fn add(&self, id: PackId) {
        self.change(|unnamed| unnamed.push(id));
    }

    /// Forgets packs that a segment names.
    fn drop_named(&self, packs: &[PackEntry]) {
        self.change(|unnamed| unnamed.retain(|id| !packs.iter().any(|entry| entry.id == *id)));
    }

    fn change(&self, change: impl FnOnce(&mut Vec<PackId>)) {
        let mut unnamed = self.unnamed.lock().unwrap_or_else(PoisonError::into_inner);
        change(&mut unnamed);
        let note: Vec<u8> = unnamed.iter().flat_map(|id| id.0).collect();
        self.cache.remember(JOURNAL, &note);
    }
}

impl<'a> Uploader<'a> {
    pub(crate) fn new(repository: &'a Repository, index: Index, progress: Arc<Progress>) -> Result<Self, EngineError> {
        Ok(Self {
            repository,
            puts: repository.pack_puts()?,
            journal: Arc::new(Journal { cache: Arc::clone(&repository.cache), unnamed: Mutex::default() }),
            index,
            progress,
            running: FuturesUnordered::new(),
            acknowledged: Vec::new(),
            chunk_count: 0,
            published_at: repository.env.now(),
            stored_len: 0,
            pack_count: 0,
        })
    }

    /// Starts an upload; waits while too many are under way. Gives the chunks of a segment that this published.
    pub(crate) async fn put(
        &mut self,
        finished: FinishedPack<Bytes>,
        held: Held,
    ) -> Result<Option<Vec<ChunkId>>, EngineError> {
        while self.running.len() >= UPLOADS_MAX {
            self.acknowledge().await?;
        }
        let (puts, journal) = (self.puts.clone(), Arc::clone(&self.journal));
        self.running.push(tokio::spawn(async move {
            let _held = held;
            let entry = puts.put(finished).await?;
            journal.add(entry.id);
            Ok(entry)
        }));
        let is_due = self.acknowledged.len() >= SEGMENT_PACKS_MAX
            || self.chunk_count >= SEGMENT_CHUNKS_MAX
            || self.since_published() >= SEGMENT_EVERY.as_nanos();
        if is_due && !self.acknowledged.is_empty() { self.publish().await.map(Some) } else { Ok(None) }
    }

    /// Nanoseconds since the last segment. A clock that is set forwards or back brings the next one sooner, nothing else.
    fn since_published(&self) -> u128 {
        (self.repository.env.now().as_nanos() - self.published_at.as_nanos()).unsigned_abs()
    }

    /// Waits for one upload.
    async fn acknowledge(&mut self) -> Result<bool, EngineError> {
        let next = self.running.try_next().await;
        let Some(entry) = next.map_err(|error| EngineError::Panicked { what: error.to_string() })? else {
            return Ok(false);
        };
        let entry = entry?;
        self.stored_len += entry.len;
        self.pack_count += 1;
        self.chunk_count += entry.trailer.chunks.len();
        self.progress.add_stored(entry.len);
        self.acknowledged.push(entry);
        Ok(true)
    }

    /// Waits for every upload and publishes what no segment names yet.
    pub(crate) async fn drain(&mut self) -> Result<(), EngineError> {
        while self.acknowledge().await? {}
        if !self.acknowledged.is_empty() {
            self.publish().await?;
        }
        Ok(())
    }

    async fn publish(&mut self) -> Result<Vec<ChunkId>, EngineError> {
        let domain = self.repository.keyring.certificate.domain;
        let packs = std::mem::take(&mut self.acknowledged);
        let segment = Arc::new(Segment { packs, replaces: Vec::new(), domain });
        self.stored_len += self.repository.publish(&segment, &self.index.cache).await?;
        let (index, ids) = (self.index.clone(), segment.packs.iter().map(|entry| entry.id).collect::<Vec<_>>());
        self.repository.offload.start(move || index.add_own(&ids)).await?;
        self.chunk_count = 0;
        self.published_at = self.repository.env.now();
        self.journal.drop_named(&segment.packs);
        Ok(segment.packs.iter().flat_map(|entry| entry.trailer.chunks.iter().map(|(id, _)| *id)).collect())
    }
}

impl Repository {
    /// Seals, signs and stores a segment, then applies it to the cache, if that takes it; gives the bytes it took.
    pub(crate) async fn publish(&self, segment: &Arc<Segment>, cache: &Arc<IndexCache>) -> Result<u64, EngineError> {
        let (key, epoch, salt) = (self.keyring.index_key()?, self.keyring.epoch(), random(&self.env));
        let (signer, repository) = (self.keyring.signer(), self.config.repository);
        let table = Arc::clone(segment);
        let encoded = self.offload.start(move || table.encode(&key, epoch, salt, &signer, repository)).await?;
        let bytes = encoded.map_err(EngineError::object(names::INDEX))?;
        let (id, len) = (SegmentId::of(&bytes), bytes.len() as u64);
        crate::objects::create(&*self.store, &names::segment(&id), bytes).await?;
        let (cache, table) = (Arc::clone(cache), Arc::clone(segment));
        self.cache.allow(self.offload.start(move || cache.apply(id, &table)).await?);
        Ok(len)
    }

    /// Publishes a segment for packs which an interrupted run had stored but not named, as far as they are there: prune may
    /// have deleted some.
    ///
    /// Called after W2, so that what is found is protected like any other pack; and it deduplicates only if the listing of
    /// W3, which comes later, shows it with the length that is written here.
    pub(crate) async fn recover_journal(&self, condemned: &HashSet<PackId>) -> Result<(), EngineError> {
        let journal = self.cache.note(JOURNAL).unwrap_or_default();
        let (ids, _) = journal.as_chunks::<32>();
        let mut packs = Vec::new();
        for id in ids.iter().map(|id| PackId(*id)).filter(|id| !condemned.contains(id)) {
            let Some(info) = self.store.head(&names::pack(&id)).await? else {
                tracing::info!("pack {id} of an interrupted run is gone");
                continue;
            };
            match self.read_pack_entry(id, info.len).await {
                Ok(entry) => packs.push(entry),
                Err(error) if error.kind() == crate::Kind::Damaged => {
                    tracing::warn!("pack {id} of an interrupted run: {error}")
                }
                Err(error) => return Err(error),
            }
        }
        if !packs.is_empty() {
            let domain = self.keyring.certificate.domain;
            self.publish(&Arc::new(Segment { packs, replaces: Vec::new(), domain }), &self.cache.now()).await?;
        }
        if !journal.is_empty() {
            self.cache.remember(JOURNAL, &[]);
        }
        Ok(())
    }

    /// Reads the trailer of a pack of `len` bytes: two ranged reads.
    pub(crate) async fn read_pack_entry(&self, id: PackId, len: u64) -> Result<PackEntry, EngineError> {
        let name = names::pack(&id);
        let short = || EngineError::object(&name)(pack::PackError::Truncated { len: len as usize, what: "a pack" });
        let mark_at = len.checked_sub(pack::END_MARK_LEN as u64).ok_or_else(short)?;
        let mark = self.store.get_range(&name, mark_at..len).await?;
        let trailer_len = pack::read_end_mark(&mark).map_err(EngineError::object(&name))?;
        let start = mark_at.checked_sub(u64::from(trailer_len)).ok_or_else(short)?;
        let sealed = self.store.get_range(&name, start..mark_at).await?;
        let keyring = self.keyring.clone();
        let read = move || pack::read_trailer(&sealed, |epoch| keyring.index_key_of(epoch), keyring.repository);
        let trailer = self.offload.start(read).await?.map_err(EngineError::object(&name))?;
        if trailer.blobs_len() != start {
            return Err(EngineError::object(name)(pack::PackError::Inconsistent {
                what: "blobs and trailer do not meet",
            }));
        }
        Ok(PackEntry { id, len, trailer })
    }
}
