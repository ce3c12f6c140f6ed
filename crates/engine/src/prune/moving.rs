//! Moving what is live out of packs that go: the repack.
//!
//! ```text
//! trailer ─► blobs wanted ─► long reads ─► hash ─┬─► as they are, with their row of the key table ─┬─► new pack ─► put
//!                                                └─► opened, the live chunks sealed anew ──────────┘      └► segment
//! ```
//!
//! Blobs are opened ahead of being drafted, and sealed while others are drafted, each in order.
//!
//! Carrying needs no key that opens anything. Sealing anew does; each chunk is named again before and after.
//!
//! Invariant: a pack counts as moved only when all that is wanted of it lies in packs that were acknowledged and that a
//! published segment names. What does not match its hash, read twice, is never moved, and its pack stays.
//! Never here: which packs, and condemning them.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use futures::stream::FuturesUnordered;
use futures::{StreamExt, TryStreamExt};
use pack::{BlobKind, BlobRow, PackBuilder, PackClass, PackEntry, PackError, PackId, PackSeal, Segment, names};
use seal::{BLOB_PLAIN_LEN_MAX, ChunkId};
use store::StoreError;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::choice::BlobFate;
use super::opening::{Chunks, Opener, Taken};
use crate::backup::{SEGMENT_CHUNKS_MAX, SEGMENT_PACKS_MAX, UPLOADS_MAX, seal_chunks};
use crate::buffers::Buffers;
use crate::objects::{random, random_seed};
use crate::offload::Pending;
use crate::repository::Repository;
use crate::{EngineError, Kind, Progress};

/// Packs that are read at once, each of at most `OBJECT_LEN_MAX`, mostly of 16 MiB.
pub(super) const PACKS_AT_ONCE: usize = 3;
/// Bytes between two blobs that are read and thrown away rather than asked for apart.
const GAP_LEN_MAX: u64 = 64 << 10;
/// Bytes of one read, unless a single blob is longer.
const READ_LEN_MAX: u64 = 8 << 20;
/// Blobs that are opened at once for each thread of the pool.
const OPENED_PER_THREAD: usize = 2;
/// Drafts that are sealed at once, one for each thread: by so many blobs a pack may become longer.
const SEALED_AT_ONCE_MAX: usize = 8;
/// How often a blob that does not match its hash is read.
const READS_MAX: usize = 2;
/// At which zstd level blobs are sealed anew: as a backup does by default.
const LEVEL: i32 = 3;

/// What is wanted of a pack.
#[derive(Debug, Clone)]
pub(super) struct Move {
    pub(super) pack: PackId,
    pub(super) len: u64,
    /// Rows of its trailer, ascending, and what becomes of each.
    pub(super) blobs: Vec<(u32, BlobFate)>,
}

/// A pack's trailer and the blobs that were read of it.
pub(super) type Read = (Arc<PackEntry>, Vec<(u32, BlobFate, Bytes)>);

/// Packs that a prune wrote and that a segment names, each with a hash of what it says of it.
pub(super) type Own = HashMap<PackId, [u8; 32]>;

/// A pack being filled.
struct OpenPack {
    builder: PackBuilder<Bytes>,
    /// Only for a key that seals anew.
    seal: Option<PackSeal>,
}

/// A draft that is being sealed into the open pack of its class.
struct Sealing {
    class: PackClass,
    kind: BlobKind,
    counter: u64,
    sealed: Pending<(Result<Vec<u8>, EngineError>, Draft)>,
}

/// Live chunks of opened blobs that will be one blob.
#[derive(Default)]
struct Draft {
    plain: Vec<u8>,
    chunks: Vec<(ChunkId, u32)>,
}

/// Moves blobs into new packs.
pub(super) struct Mover<'a> {
    repository: &'a Repository,
    /// For blobs that are sealed anew.
    wanted: Arc<Chunks>,
    progress: &'a Progress,
    open: BTreeMap<u8, OpenPack>,
    drafts: BTreeMap<u8, Draft>,
    sealing: VecDeque<Sealing>,
    /// A draft that was sealed, to be filled again.
    spare: Draft,
    buffers: Buffers,
    uploads: FuturesUnordered<JoinHandle<Result<PackEntry, EngineError>>>,
    /// Acknowledged, and named by no segment yet.
    stored: Vec<PackEntry>,
    /// Packs written by this mover. What it sealed was opened and named on the way; what it carried is as true as it was.
    pub(super) own: Own,
    /// Bytes of packs and segments written.
    pub(super) written_len: u64,
}

impl<'a> Mover<'a> {
    pub(super) fn new(repository: &'a Repository, wanted: Chunks, progress: &'a Progress) -> Self {
        Self {
            repository,
            wanted: Arc::new(wanted),
            progress,
            open: BTreeMap::new(),
            drafts: BTreeMap::new(),
            sealing: VecDeque::new(),
            spare: Draft::default(),
            buffers: Buffers::default(),
            uploads: FuturesUnordered::new(),
            stored: Vec::new(),
            own: Own::new(),
            written_len: 0,
        }
    }

    /// Moves what is wanted and publishes it; gives the packs of which all that is wanted was moved, and says of the others
    /// why it was not.
    pub(super) async fn run(
        &mut self,
        moves: Vec<Move>,
        cancel: &CancellationToken,
    ) -> Result<(Vec<PackId>, Vec<(PackId, EngineError)>), EngineError> {
        let (repository, mut moved, mut failed) = (self.repository, Vec::new(), Vec::new());
        let mut reads = futures::stream::iter(moves)
            .map(|wanted| async move { (wanted.pack, repository.read_blobs(wanted).await) })
            .buffered(PACKS_AT_ONCE);
        while let Some((pack, read)) = reads.next().await {
            if cancel.is_cancelled() {
                return Err(EngineError::Interrupted);
            }
            let taken = match read {
                Ok(read) => self.take(read).await?,
                Err(error) => Err(error),
            };
            match taken {
                Ok(()) => moved.push(pack),
                Err(error) if is_of_the_pack(&error) => failed.push((pack, error)),
                Err(error) => return Err(error),
            }
        }
        self.finish().await?;
        Ok((moved, failed))
    }

    /// Takes in the blobs of one pack; the inner error is of that pack alone.
    async fn take(&mut self, (entry, blobs): Read) -> Result<Result<(), EngineError>, EngineError> {
        let class = entry.trailer.class;
        let opener = Opener::new(self.repository, &self.wanted, &self.buffers, &entry);
        let opened = futures::stream::iter(blobs.into_iter().map(|blob| opener.open(blob)));
        let mut opened = opened.buffered(OPENED_PER_THREAD * self.repository.offload.threads());
        while let Some((row, len, taken)) = opened.next().await {
            self.progress.add_len(len);
            let Some(blob) = entry.trailer.blobs.get(row as usize) else { continue };
            let taken = match taken {
                Ok(Taken::AsIs(bytes)) => self.carry(&entry, blob, bytes)?,
                Ok(Taken::Opened(chunks)) => Ok(self.draft(blob.kind, class, &chunks).await?),
                Err(error) => Err(error),
            };
            if taken.is_err() {
                return Ok(taken);
            }
            self.upload_if_full(class).await?;
        }
        self.progress.add_entries(1);
        Ok(Ok(()))
    }

    /// Puts a blob into the open pack as it is.
    fn carry(
        &mut self,
        entry: &PackEntry,
        blob: &BlobRow,
        bytes: Bytes,
    ) -> Result<Result<(), EngineError>, EngineError> {
        let Some(seal) = entry.trailer.seals.get(usize::from(blob.seal)) else {
            return Ok(Err(inconsistent(&entry.id, "a blob without a seal")));
        };
        let open = self.open_pack(entry.trailer.class)?;
        let carried = open.builder.carry(bytes, blob, seal, entry.trailer.chunks_of(blob));
        Ok(carried.map_err(EngineError::object(names::pack(&entry.id))))
    }

    /// Drafts wanted chunks of a blob.
    async fn draft(
        &mut self,
        kind: BlobKind,
        class: PackClass,
        chunks: &[(ChunkId, Bytes)],
    ) -> Result<(), EngineError> {
        let len: usize = chunks.iter().map(|(_, chunk)| chunk.len()).sum();
        let is_too_much = |draft: &Draft| draft.plain.len() + len > BLOB_PLAIN_LEN_MAX;
        if self.drafts.get(&(kind as u8)).is_some_and(is_too_much) {
            self.seal_draft(kind, class).await?;
        }
        let spare = &mut self.spare;
        let draft = self.drafts.entry(kind as u8).or_insert_with(|| std::mem::take(spare));
        for (id, chunk) in chunks {
            draft.plain.extend_from_slice(chunk);
            draft.chunks.push((*id, chunk.len() as u32));
        }
        if draft.plain.len() >= self.repository.config.blob_len as usize {
            self.seal_draft(kind, class).await?;
        }
        Ok(())
    }

    /// Begins to seal a draft into the open pack; waits while enough are being sealed.
    async fn seal_draft(&mut self, kind: BlobKind, class: PackClass) -> Result<(), EngineError> {
        let Some(draft) = self.drafts.remove(&(kind as u8)).filter(|draft| !draft.chunks.is_empty()) else {
            return Ok(());
        };
        self.settle(self.repository.offload.threads().min(SEALED_AT_ONCE_MAX) - 1).await?;
        let open = self.open_pack(class)?;
        let Some((key, binding)) = open.seal.as_mut().map(|seal| seal.next(kind)) else {
            return Err(EngineError::Panicked { what: "a pack without a seal was to be sealed into".to_owned() });
        };
        let namer = self.repository.keyring.namer()?;
        let counter = binding.counter;
        let sealed = self.repository.offload.start(move || {
            let sealed = seal_chunks((kind, &draft.plain, &draft.chunks), (&key, binding), &namer, LEVEL);
            (sealed, draft)
        });
        self.sealing.push_back(Sealing { class, kind, counter, sealed });
        Ok(())
    }

    /// Puts drafts into the open packs in the order in which they began to be sealed, until at most `left` still are.
    async fn settle(&mut self, left: usize) -> Result<(), EngineError> {
        while self.sealing.len() > left
            && let Some(Sealing { class, kind, counter, sealed }) = self.sealing.pop_front()
        {
            let (sealed, mut draft) = sealed.await?;
            self.open_pack(class)?.builder.push(Bytes::from(sealed?), kind, counter, &draft.chunks);
            draft.plain.clear();
            draft.chunks.clear();
            self.spare = draft;
        }
        Ok(())
    }

    /// The pack of a class that is being filled.
    fn open_pack(&mut self, class: PackClass) -> Result<&mut OpenPack, EngineError> {
        let repository = self.repository;
        let new = || {
            let keyring = &repository.keyring;
            let (epoch, public) = keyring.sealing()?;
            if !keyring.can_recut() {
                return Ok(OpenPack { builder: PackBuilder::carrying(class, epoch), seal: None });
            }
            let seed = random_seed(&repository.env);
            let seal = PackSeal::new(epoch, public, &keyring.index_key()?, seed, repository.config.repository)
                .map_err(EngineError::object("a new pack"))?;
            Ok::<_, EngineError>(OpenPack { builder: PackBuilder::new(class, &seal), seal: Some(seal) })
        };
        match self.open.entry(class as u8) {
            std::collections::btree_map::Entry::Occupied(open) => Ok(open.into_mut()),
            std::collections::btree_map::Entry::Vacant(place) => Ok(place.insert(new()?)),
        }
    }

    async fn upload_if_full(&mut self, class: PackClass) -> Result<(), EngineError> {
        let is_full = |open: &OpenPack, len: u32| open.builder.len() >= u64::from(len);
        if self.open.get(&(class as u8)).is_some_and(|open| is_full(open, self.repository.config.pack_len)) {
            self.upload(class).await?;
        }
        Ok(())
    }

    /// Starts to upload a pack; waits while too many are on their way.
    async fn upload(&mut self, class: PackClass) -> Result<(), EngineError> {
        self.settle(0).await?;
        let Some(open) = self.open.remove(&(class as u8)).filter(|open| !open.builder.is_empty()) else {
            return Ok(());
        };
        while self.uploads.len() >= UPLOADS_MAX {
            self.acknowledge().await?;
        }
        let (key, salt) = (self.repository.keyring.index_key()?, random(&self.repository.env));
        let repository = self.repository.config.repository;
        let finished = self.repository.offload.start(move || open.builder.finish(&key, salt, repository)).await?;
        let finished = finished.map_err(EngineError::object("a new pack"))?;
        let puts = self.repository.pack_puts()?;
        self.uploads.push(tokio::spawn(async move { puts.put(finished).await }));
        Ok(())
    }

    async fn acknowledge(&mut self) -> Result<bool, EngineError> {
        let next = self.uploads.try_next().await;
        let Some(entry) = next.map_err(|error| EngineError::Panicked { what: error.to_string() })? else {
            return Ok(false);
        };
        let entry = entry?;
        self.written_len += entry.len;
        self.progress.add_stored(entry.len);
        self.stored.push(entry);
        let chunk_count: usize = self.stored.iter().map(|entry| entry.trailer.chunks.len()).sum();
        if self.stored.len() >= SEGMENT_PACKS_MAX || chunk_count >= SEGMENT_CHUNKS_MAX {
            self.publish().await?;
        }
        Ok(true)
    }

    /// Uploads and names all that was taken.
    async fn finish(&mut self) -> Result<(), EngineError> {
        for kind in [BlobKind::Data, BlobKind::Body, BlobKind::Structure] {
            let class = if kind == BlobKind::Data { PackClass::Data } else { PackClass::Metadata };
            self.seal_draft(kind, class).await?;
        }
        for class in [PackClass::Data, PackClass::Metadata] {
            self.upload(class).await?;
        }
        while self.acknowledge().await? {}
        self.publish().await
    }

    async fn publish(&mut self) -> Result<(), EngineError> {
        let packs = std::mem::take(&mut self.stored);
        if packs.is_empty() {
            return Ok(());
        }
        let domain = self.repository.keyring.certificate.domain;
        let segment = Arc::new(Segment { packs, replaces: Vec::new(), domain });
        self.written_len += self.repository.publish(&segment, &self.repository.cache.now()).await?;
        for entry in &segment.packs {
            self.own.insert(entry.id, entry.said().map_err(EngineError::object(names::INDEX))?);
        }
        Ok(())
    }
}

impl Repository {
    /// Reads a pack's trailer and those of its blobs that are wanted, in few long reads, and checks the hash of each.
    pub(super) async fn read_blobs(&self, wanted: Move) -> Result<Read, EngineError> {
        let entry = Arc::new(self.read_entry_twice(wanted.pack, wanted.len).await?);
        let count = entry.trailer.blobs.len();
        if wanted.blobs.iter().any(|(row, _)| *row as usize >= count) {
            return Err(inconsistent(&entry.id, "the index names a blob it does not have"));
        }
        self.read_rows(entry, wanted.blobs).await
    }

    /// Those of some rows that the trailer has.
    pub(super) async fn read_rows(
        &self,
        entry: Arc<PackEntry>,
        rows: Vec<(u32, BlobFate)>,
    ) -> Result<Read, EngineError> {
        let rows = rows.into_iter().filter(|(_, fate)| *fate != BlobFate::Dropped);
        let rows = rows.filter_map(|(row, fate)| Some((row, fate, entry.trailer.blobs.get(row as usize)?))).collect();
        let mut read = Vec::new();
        for run in runs(rows) {
            let (Some((_, _, first)), Some((_, _, last))) = (run.first(), run.last()) else { continue };
            let (start, end) = (first.offset, last.offset + u64::from(last.sealed_len));
            let bytes = self.read_part(&entry.id, start..end).await?;
            for (row, fate, blob) in run {
                let at = (blob.offset - start) as usize;
                let bytes = bytes.slice(at..at + blob.sealed_len as usize);
                read.push((row, fate, self.checked(&entry.id, blob, bytes).await?));
            }
        }
        Ok((entry, read))
    }

    /// A part of a pack. A read that is short once is no short pack.
    async fn read_part(&self, pack: &PackId, range: Range<u64>) -> Result<Bytes, EngineError> {
        let name = names::pack(pack);
        match self.store.get_range(&name, range.clone()).await {
            Err(StoreError::Truncated { .. }) => Ok(self.store.get_range(&name, range).await?),
            read => Ok(read?),
        }
    }

    /// A blob's bytes if they match its hash, read once more if they do not.
    async fn checked(&self, pack: &PackId, blob: &BlobRow, mut bytes: Bytes) -> Result<Bytes, EngineError> {
        for attempt in 1..=READS_MAX {
            let (given, hash) = (bytes.clone(), blob.hash);
            if self.offload.start(move || *blake3::hash(&given).as_bytes() == hash).await? {
                return Ok(bytes);
            }
            if attempt < READS_MAX {
                let range = blob.offset..blob.offset + u64::from(blob.sealed_len);
                bytes = self.read_part(pack, range).await?;
            }
        }
        Err(EngineError::object(names::pack(pack))(PackError::Hash))
    }
}

/// Neighbouring blobs that are read at once.
fn runs(rows: Vec<(u32, BlobFate, &BlobRow)>) -> Vec<Vec<(u32, BlobFate, &BlobRow)>> {
    let mut runs: Vec<Vec<(u32, BlobFate, &BlobRow)>> = Vec::new();
    for (row, fate, blob) in rows {
        let joins = runs.last().and_then(|run| Some((run.first()?.2, run.last()?.2))).is_some_and(|(first, last)| {
            let (end, own_end) = (last.offset + u64::from(last.sealed_len), blob.offset + u64::from(blob.sealed_len));
            blob.offset.saturating_sub(end) <= GAP_LEN_MAX && own_end - first.offset <= READ_LEN_MAX
        });
        match runs.last_mut().filter(|_| joins) {
            Some(run) => run.push((row, fate, blob)),
            None => runs.push(vec![(row, fate, blob)]),
        }
    }
    runs
}

/// Whether an error says something of one pack, of which others may be free: damage, or a version that is not known here.
pub(super) fn is_of_the_pack(error: &EngineError) -> bool {
    matches!(error, EngineError::Object { .. }) || error.kind() == Kind::Damaged
}

pub(super) fn inconsistent(pack: &PackId, what: &'static str) -> EngineError {
    EngineError::object(names::pack(pack))(PackError::Inconsistent { what })
}
