//! The packer: the one place where new chunks become blobs, and blobs packs, in order.
//!
//! ```text
//! chunk ─► draft (about 1 MiB) ─► seal on the pool ─► open pack ─► finished pack ─► uploader
//! ```
//!
//! It owns the ids of chunks that are on their way, so equal chunks in flight are stored once. Data blobs vary over
//! two open packs, so that a pack's length says less about the content.
//!
//! Invariant: each blob is opened again and its chunks are named again before it goes into a pack.
//! Never here: what the chunks belong to.

use std::cell::RefCell;
use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, HashSet};

use bytes::Bytes;
use futures::StreamExt;
use futures::stream::FuturesOrdered;
use pack::{BlobKind, PackBuilder, PackClass, PackError, PackSeal};
use seal::{BLOB_PLAIN_LEN_MAX, Binding, BlobSealer, ChunkId, ChunkNamer, Matching, SealError, Secret};

use crate::EngineError;
use crate::backup::matching::{Learned, Wanted};
use crate::backup::request::COMPONENTS_AT_ONCE_MAX;
use crate::backup::upload::Uploader;
use crate::budget::Held;
use crate::fetch::with_opener;
use crate::objects::{random, random_seed};
use crate::offload::Pending;
use crate::repository::Repository;

/// Data packs that blobs vary over, once there is enough for two.
const OPEN_DATA_PACKS: usize = 2;
/// Blobs on the pool at once, on however many cores: what waits there for its turn holds budget.
const SEALING_MAX: usize = 16;
/// Ids of new chunks that a dry run keeps, twice, at up to 48 bytes. A chunk that comes again after more new ones than that
/// is counted once more: then what a dry run calls new is an upper bound.
const DRY_RUN_IDS_MAX: usize = 256 << 10;
/// What can be held back for the sake of order, in bytes: packs that are open or wait for their last blobs, the blobs on
/// the pool, and a draft of each component. The rest of the budget is always there for the readers, so they never wait for ever.
const HELD_BACK_LEN_MAX: usize =
    (2 * OPEN_DATA_PACKS) * PACK_LEN_MAX + (SEALING_MAX + 1) * (2 << 20) + COMPONENTS_AT_ONCE_MAX * (2 << 20);
const PACK_LEN_MAX: usize = 16 << 20;
const _: () = assert!(HELD_BACK_LEN_MAX + (16 << 20) <= crate::budget::IN_FLIGHT_LEN_MAX);

/// Packs new chunks.
pub(crate) struct Packer<'a> {
    repository: &'a Repository,
    uploader: Uploader<'a>,
    namer: ChunkNamer,
    level: i32,
    /// Only count; store nothing.
    dry_run: bool,
    on_their_way: HashSet<ChunkId>,
    /// Only in a dry run: ids before those.
    counted: HashSet<ChunkId>,
    /// Chunks of the segment published last; forgotten at the next, when every lookup made before has been settled.
    published: Vec<ChunkId>,
    drafts: BTreeMap<(usize, u8), Draft>,
    /// How to compress what is cut finely, by component.
    learned: BTreeMap<usize, Learned>,
    /// Bytes of blobs by component.
    sealed_lens: Vec<u64>,
    open: BTreeMap<u64, OpenPack>,
    next_pack: u64,
    sealing: FuturesOrdered<Pending<Result<Sealed, EngineError>>>,
    /// The memory of drafts that were sealed, for those to come: as many as are on the pool at most.
    spare: Vec<Vec<u8>>,
}

/// What a chunk is part of.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Part {
    /// Which component, counted from 0.
    pub(crate) component: usize,
    pub(crate) kind: BlobKind,
    /// Whether it is content that is cut finely, as databases are.
    pub(crate) is_fine: bool,
}

/// Chunks that will be one blob.
struct Draft {
    /// Of its first chunk.
    part: Part,
    plain: Vec<u8>,
    chunks: Vec<(ChunkId, u32)>,
    held: Held,
}

struct OpenPack {
    class: PackClass,
    builder: PackBuilder<Bytes>,
    seal: PackSeal,
    held: Held,
    /// Blobs sealed for this pack that have not arrived.
    expected: usize,
    is_full: bool,
}

/// A blob back from the pool.
struct Sealed {
    pack: u64,
    part: Part,
    /// What a trial found to be the best way of compressing it.
    best: Option<Matching>,
    counter: u64,
    blob: Bytes,
    chunks: Vec<(ChunkId, u32)>,
    held: Held,
    /// The draft's memory, empty.
    spare: Vec<u8>,
}

impl<'a> Packer<'a> {
    pub(crate) fn new(
        repository: &'a Repository,
        uploader: Uploader<'a>,
        level: i32,
        dry_run: bool,
    ) -> Result<Self, EngineError> {
        Ok(Self {
            repository,
            uploader,
            namer: repository.keyring.namer()?,
            level,
            dry_run,
            on_their_way: HashSet::new(),
            counted: HashSet::new(),
            published: Vec::new(),
            drafts: BTreeMap::new(),
            learned: BTreeMap::new(),
            sealed_lens: Vec::new(),
            open: BTreeMap::new(),
            next_pack: 0,
            sealing: FuturesOrdered::new(),
            spare: Vec::new(),
        })
    }

    /// Takes a chunk that the index does not know; true if it is new to this run too.
    pub(crate) async fn add(&mut self, part: Part, id: ChunkId, bytes: &[u8], held: Held) -> Result<bool, EngineError> {
        if self.counted.contains(&id) || !self.on_their_way.insert(id) {
            return Ok(false);
        }
        if self.dry_run {
            self.forget_some();
            return Ok(true);
        }
        let blob_len = self.blob_len();
        let key = (part.component, part.kind as u8);
        if self.drafts.get(&key).is_some_and(|draft| draft.plain.len() + bytes.len() > BLOB_PLAIN_LEN_MAX)
            && let Some(full) = self.drafts.remove(&key)
        {
            self.seal(full).await?;
        }
        let draft = match self.drafts.entry(key) {
            Entry::Occupied(draft) => draft.into_mut(),
            Entry::Vacant(place) => place.insert(Draft::new(part, self.spare.pop().unwrap_or_default())),
        };
        draft.push(id, bytes, held, blob_len);
        if draft.plain.len() >= blob_len
            && let Some(full) = self.drafts.remove(&key)
        {
            self.seal(full).await?;
        }
        Ok(true)
    }

    /// Bytes of a draft from which on it is sealed.
    fn blob_len(&self) -> usize {
        (self.repository.config.blob_len as usize).min(BLOB_PLAIN_LEN_MAX / 2)
    }

    /// Forgets the older half of what a dry run has seen, of which no segment will ever tell.
    fn forget_some(&mut self) {
        if self.on_their_way.len() >= DRY_RUN_IDS_MAX {
            self.counted = std::mem::take(&mut self.on_their_way);
        }
    }

    /// Sends a draft to the pool, after settling the oldest blob if enough are there.
    async fn seal(&mut self, draft: Draft) -> Result<(), EngineError> {
        while self.sealing.len() >= SEALING_MAX.min(self.repository.offload.threads() * 2 + 1) {
            self.settle().await?;
        }
        let number = self.pack_for(draft.part.kind)?;
        let wanted = if draft.part.is_fine {
            self.learned.entry(draft.part.component).or_default().next()
        } else {
            Wanted::As(Matching::Usual)
        };
        let Some(open) = self.open.get_mut(&number) else { return Err(no_pack()) };
        open.expected += 1;
        let (key, binding) = open.seal.next(draft.part.kind);
        let (namer, level) = (self.namer.clone(), self.level);
        let how = (level, wanted);
        let job = self.repository.offload.start(move || seal_and_verify(draft, number, &key, binding, &namer, how));
        self.sealing.push_back(job);
        Ok(())
    }

    /// An open pack of the blob's class, by lot where there are two.
    fn pack_for(&mut self, kind: BlobKind) -> Result<u64, EngineError> {
        let class = if kind == BlobKind::Data { PackClass::Data } else { PackClass::Metadata };
        let mine = self.open.iter().filter(|(_, open)| open.class == class && !open.is_full);
        let numbers: Vec<(u64, u64)> = mine.map(|(number, open)| (*number, open.builder.len())).collect();
        let enough_for_two = u64::from(self.repository.config.pack_len) / 4;
        let wanted = match (class, numbers.first()) {
            (PackClass::Data, Some((_, len))) if *len >= enough_for_two => OPEN_DATA_PACKS,
            _ => 1,
        };
        if numbers.len() < wanted {
            return self.open_pack(class);
        }
        let [lot] = random::<1>(&self.repository.env);
        let chosen = numbers.get(usize::from(lot) % numbers.len().max(1));
        chosen.map(|(number, _)| *number).map_or_else(|| self.open_pack(class), Ok)
    }

    fn open_pack(&mut self, class: PackClass) -> Result<u64, EngineError> {
        let keyring = &self.repository.keyring;
        let (epoch, public) = keyring.sealing()?;
        let seed = random_seed(&self.repository.env);
        let seal = PackSeal::new(epoch, public, &keyring.index_key()?, seed, self.repository.config.repository)
            .map_err(EngineError::object("a new pack"))?;
        let builder = PackBuilder::new(class, &seal);
        let open = OpenPack { class, builder, seal, held: Held::none(), expected: 0, is_full: false };
        self.next_pack += 1;
        self.open.insert(self.next_pack, open);
        Ok(self.next_pack)
    }

    /// Takes the oldest blob back from the pool and into its pack; uploads the pack when it is full.
    async fn settle(&mut self) -> Result<bool, EngineError> {
        let Some(sealed) = self.sealing.next().await else { return Ok(false) };
        let mut sealed = sealed??;
        if sealed.spare.capacity() <= 2 * self.blob_len() && self.spare.len() < SEALING_MAX {
            self.spare.push(std::mem::take(&mut sealed.spare));
        }
        let component = sealed.part.component;
        if let Some(best) = sealed.best {
            self.learned.entry(component).or_default().learn(best);
        }
        let pack_len = u64::from(self.repository.config.pack_len).min(PACK_LEN_MAX as u64);
        let Some(open) = self.open.get_mut(&sealed.pack) else { return Err(no_pack()) };
        if self.sealed_lens.len() <= component {
            self.sealed_lens.resize(component + 1, 0);
        }
        if let Some(len) = self.sealed_lens.get_mut(component) {
            *len += sealed.blob.len() as u64;
        }
        open.builder.push(sealed.blob, sealed.part.kind, sealed.counter, &sealed.chunks);
        open.held.join(sealed.held);
        open.expected -= 1;
        open.is_full |= open.builder.len() >= pack_len;
        if open.is_full && open.expected == 0 {
            self.upload(sealed.pack).await?;
        }
        Ok(true)
    }

    async fn upload(&mut self, number: u64) -> Result<(), EngineError> {
        let Some(OpenPack { builder, held, .. }) = self.open.remove(&number) else { return Ok(()) };
        if builder.is_empty() {
            return Ok(());
        }
        let (key, salt) = (self.repository.keyring.index_key()?, random(&self.repository.env));
        let repository = self.repository.config.repository;
        let finished = self.repository.offload.start(move || builder.finish(&key, salt, repository)).await?;
        let finished = finished.map_err(EngineError::object("a new pack"))?;
        if let Some(published) = self.uploader.put(finished, held).await? {
            for id in std::mem::replace(&mut self.published, published) {
                self.on_their_way.remove(&id);
            }
        }
        Ok(())
    }

    /// Seals what a component has left: from here on it holds nothing back.
    pub(crate) async fn end(&mut self, component: usize) -> Result<(), EngineError> {
        let own: Vec<_> = self.drafts.keys().filter(|(number, _)| *number == component).copied().collect();
        for draft in own.iter().filter_map(|key| self.drafts.remove(key)).collect::<Vec<_>>() {
            if !draft.chunks.is_empty() {
                self.seal(draft).await?;
            }
        }
        Ok(())
    }

    /// Finishes every blob and pack, waits for every upload, and publishes the last segment.
    pub(crate) async fn finish(&mut self) -> Result<(), EngineError> {
        for (_, draft) in std::mem::take(&mut self.drafts) {
            if !draft.chunks.is_empty() {
                self.seal(draft).await?;
            }
        }
        while self.settle().await? {}
        for number in self.open.keys().copied().collect::<Vec<_>>() {
            self.upload(number).await?;
        }
        self.uploader.drain().await
    }

    /// Bytes of blobs that a component has filled.
    pub(crate) fn sealed_len(&self, component: usize) -> u64 {
        self.sealed_lens.get(component).copied().unwrap_or_default()
    }

    /// Bytes and packs added to the store.
    pub(crate) const fn stored(&self) -> (u64, u64) {
        (self.uploader.stored_len, self.uploader.pack_count)
    }
}

impl Draft {
    const fn new(part: Part, plain: Vec<u8>) -> Self {
        Self { part, plain, chunks: Vec::new(), held: Held::none() }
    }

    /// Adds a chunk, after which it is still no longer than a blob may be.
    fn push(&mut self, id: ChunkId, bytes: &[u8], held: Held, blob_len: usize) {
        if self.plain.len() + bytes.len() > self.plain.capacity() {
            // At once what it will need: the pieces that growing by and by leaves behind are never of use again.
            self.plain.reserve_exact(blob_len.saturating_sub(self.plain.len()) + bytes.len());
        }
        self.plain.extend_from_slice(bytes);
        self.chunks.push((id, bytes.len() as u32));
        self.held.join(held);
    }
}

fn no_pack() -> EngineError {
    EngineError::Panicked { what: "a blob came for a pack that is not open".to_owned() }
}

/// What a thread of the pool seals with.
struct Sealing {
    level: i32,
    sealer: BlobSealer,
    /// What the last blob opened to, for the sake of its memory.
    opened: Vec<u8>,
}

thread_local! {
    static SEALING: RefCell<Option<Sealing>> = const { RefCell::new(None) };
}

fn with_sealing<T>(level: i32, work: impl FnOnce(&mut Sealing) -> Result<T, EngineError>) -> Result<T, EngineError> {
    SEALING.with(|cell| {
        let mut own = cell.borrow_mut();
        if own.as_ref().is_none_or(|own| own.level != level) {
            let sealer = BlobSealer::new(level).map_err(failed)?;
            *own = Some(Sealing { level, sealer, opened: Vec::new() });
        }
        own.as_mut().map_or_else(|| Err(failed(SealError::Sealed)), work)
    })
}

fn failed(source: SealError) -> EngineError {
    EngineError::object("a new blob")(PackError::Seal { what: "it", source })
}

/// Seals a draft, opens it again, and checks the name of every chunk. CPU-bound.
fn seal_and_verify(
    draft: Draft,
    pack: u64,
    key: &Secret,
    binding: Binding,
    namer: &ChunkNamer,
    (level, wanted): (i32, Wanted),
) -> Result<Sealed, EngineError> {
    let Draft { part, mut plain, chunks, mut held } = draft;
    let (blob, best) = seal_as_wanted((part.kind, &plain, &chunks), (key, binding), namer, (level, wanted))?;
    plain.clear();
    held.shrink_to(blob.len());
    let blob = Bytes::from(blob);
    Ok(Sealed { pack, part, best, counter: binding.counter, blob, chunks, held, spare: plain })
}

/// Seals chunks that lie end to end, opens the blob again, and checks the name of each. CPU-bound.
pub(crate) fn seal_chunks(
    (kind, plain, chunks): (BlobKind, &[u8], &[(ChunkId, u32)]),
    (key, binding): (&Secret, Binding),
    namer: &ChunkNamer,
    level: i32,
) -> Result<Vec<u8>, EngineError> {
    let usual = (level, Wanted::As(Matching::Usual));
    seal_as_wanted((kind, plain, chunks), (key, binding), namer, usual).map(|(blob, _)| blob)
}

/// The same in the way that is wanted; gives the best one too, if it was looked for.
fn seal_as_wanted(
    (kind, plain, chunks): (BlobKind, &[u8], &[(ChunkId, u32)]),
    (key, binding): (&Secret, Binding),
    namer: &ChunkNamer,
    (level, wanted): (i32, Wanted),
) -> Result<(Vec<u8>, Option<Matching>), EngineError> {
    with_sealing(level, |own| {
        let (blob, best) = match wanted {
            Wanted::Best => own.sealer.seal_best(plain, key, binding).map(|(blob, best)| (blob, Some(best))),
            Wanted::As(matching) => own.sealer.seal_as(matching, plain, key, binding).map(|blob| (blob, None)),
        }
        .map_err(failed)?;
        let opened = &mut own.opened;
        with_opener(|opener| opener.open_into(&blob, plain.len(), key, binding, opened)).map_err(failed)?;
        check_names(kind, chunks, opened, namer)?;
        Ok((blob, best))
    })
}

/// Names the chunks of an opened blob again.
fn check_names(
    kind: BlobKind,
    chunks: &[(ChunkId, u32)],
    opened: &[u8],
    namer: &ChunkNamer,
) -> Result<(), EngineError> {
    let mut rest = opened;
    for (id, len) in chunks {
        let (chunk, others) = rest.split_at_checked(*len as usize).unwrap_or((&[], rest));
        if kind.name(namer, chunk) != *id {
            // Memory that does not keep what was written to it, or a bug: in no case may this be stored.
            return Err(EngineError::Panicked {
                what: format!("chunk {id} changed while it was sealed; check this machine's memory"),
            });
        }
        rest = others;
    }
    Ok(())
}
