//! Where chunks are: the index cache brought up to the listed segments, and the packs that exist.
//!
//! Invariant: a pack is used only if a segment names it that was listed by this operation, and if it was itself listed
//! by this operation, with its right length. The cache may stand in for a segment's content, for neither listing.
//! Never here: publishing segments (see `backup`), opening blobs (see `fetch`).

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard};

use bytes::Bytes;
use futures::{Stream, StreamExt, TryStreamExt};
use pack::{Condemned, CondemnedId, Frame, PackError, PackId, Segment, SegmentId, names};
use seal::{ChunkId, Identity, ObjectKind};
use store::index_cache::{IndexCache, PackInfo, PackNo, PackSet, Place, Places};
use store::{ObjectInfo, StoreError};

use crate::host_cache::HostCache;
use crate::keyring::Writes;
use crate::repository::{REQUESTS_MAX, Repository};
use crate::{EngineError, Kind};

/// How often a listing is repeated when segments vanish between LIST and GET.
const LISTINGS_MAX: usize = 10;
/// Listed packs that are looked up at once.
const BATCH: usize = 4096;
/// Lost chunks that are kept to be recognised when they come again, at some 40 bytes each.
const MISSED_MAX: usize = 1 << 20;

/// Whose segments are applied.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Signers {
    /// Those of keys that had not been removed when the segment was written.
    Believed,
    All,
}

/// What became of a segment.
enum Applied {
    /// It was applied, or passed over.
    Done,
    /// It is not there any more.
    Gone,
    /// A removed key signed it, and it waits for those of others.
    Late,
}

/// The index as of one moment. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Index {
    pub(crate) cache: Arc<IndexCache>,
    host: Arc<HostCache>,
    /// Packs that a listed segment names, that were listed with their right length and are not condemned.
    usable: Arc<PackSet>,
    /// Packs that a listed segment names, there or not.
    named: Arc<PackSet>,
    /// Packs that this operation stored and named itself.
    own: Arc<RwLock<PackSet>>,
    /// Packs that are whole and are not to be used: condemned, or vouched for by a removed key alone.
    spared: Arc<PackSet>,
    /// Chunks that the parent needs and that nobody has any more.
    missed: Arc<RwLock<HashSet<ChunkId>>>,
    /// Whether the packs that were listed, those that are named and the usable ones are the same.
    is_plain: bool,
}

impl Index {
    /// A usable place of each chunk, if there is one. What cannot be looked up counts as unknown and is stored again.
    pub(crate) fn find(&self, ids: &[ChunkId]) -> Result<Vec<Option<Place>>, EngineError> {
        let Some(places) = self.host.allow(self.cache.lookup(ids)) else { return Ok(vec![None; ids.len()]) };
        let own = self.own.read().unwrap_or_else(PoisonError::into_inner);
        let may_use = |place: &&Place| self.usable.contains(place.pack) || own.contains(place.pack);
        Ok(places.iter().map(|places| places.iter().find(may_use).copied()).collect())
    }

    /// As [`Index::find`], and of what is not found whether it was there once and got lost: a snapshot needs it, or a
    /// segment still names a pack for it that is damaged or missing.
    pub(crate) fn find_or_miss(&self, ids: &[ChunkId]) -> Result<Vec<(Option<Place>, bool)>, EngineError> {
        let found = self.find(ids)?;
        if self.is_plain && self.missed().is_empty() {
            return Ok(found.into_iter().map(|place| (place, false)).collect());
        }
        let all = self.host.allow(self.cache.lookup(ids)).unwrap_or_else(|| vec![Places::default(); ids.len()]);
        let missed = self.missed();
        let is_lost = |id: &ChunkId, places: &Places| {
            let is_spared = places.iter().any(|place| self.spared.contains(place.pack));
            missed.contains(id) || (!is_spared && places.iter().any(|place| self.named.contains(place.pack)))
        };
        let both = found.into_iter().zip(ids.iter().zip(&all));
        Ok(both.map(|(place, (id, places))| (place, place.is_none() && is_lost(id, places))).collect())
    }

    /// Notes those of `ids` that nobody has: a snapshot needs them.
    pub(crate) fn note_missed(&self, ids: &[ChunkId]) -> Result<(), EngineError> {
        let found = self.find(ids)?;
        let Some(all) = self.host.allow(self.cache.lookup(ids)) else { return Ok(()) };
        let mut missed = self.missed.write().unwrap_or_else(PoisonError::into_inner);
        for ((id, places), found) in ids.iter().zip(&all).zip(found) {
            let is_spared = places.iter().any(|place| self.spared.contains(place.pack));
            if found.is_none() && !is_spared && missed.len() < MISSED_MAX {
                missed.insert(*id);
            }
        }
        Ok(())
    }

    fn missed(&self) -> RwLockReadGuard<'_, HashSet<ChunkId>> {
        self.missed.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes in packs that this operation stored and that a segment names now, as far as the cache knows them.
    pub(crate) fn add_own(&self, packs: &[PackId]) {
        let numbers = self.host.allow(self.cache.pack_numbers(packs)).unwrap_or_default();
        self.own.write().unwrap_or_else(PoisonError::into_inner).extend(numbers.into_iter().flatten());
    }

    /// The plaintext of a page that this host kept, if it did.
    pub(crate) fn kept_page(&self, id: &ChunkId) -> Option<Vec<u8>> {
        self.host.allow(self.cache.page(id)).flatten()
    }

    /// Keeps pages, as far as it can be done.
    pub(crate) fn keep_pages(&self, pages: &[(ChunkId, Vec<u8>)]) {
        self.host.allow(self.cache.put_pages(pages));
    }

    /// Whether blobs are kept on this host.
    pub(crate) fn keeps_blobs(&self) -> bool {
        self.cache.keeps_blobs()
    }

    /// A sealed blob that this host kept, if it did.
    pub(crate) fn kept_blob(&self, pack: &PackId, offset: u64) -> Option<Vec<u8>> {
        self.host.allow(self.cache.blob(pack, offset)).flatten()
    }

    /// Keeps a sealed blob, as far as it can be done.
    pub(crate) fn keep_blob(&self, pack: &PackId, offset: u64, sealed: &[u8]) {
        self.cache.put_blob(pack, offset, sealed);
    }

    /// Every known place of a chunk, those in listed packs first.
    pub(crate) fn places(&self, id: ChunkId) -> Result<Vec<Place>, EngineError> {
        let found = self.cache.lookup(&[id])?;
        let mut places: Vec<Place> = found.iter().flat_map(|places| places.iter().copied()).collect();
        places.sort_by_key(|place| !self.usable.contains(place.pack));
        Ok(places)
    }

    /// Whether a pack was listed with its right length when the index was read.
    pub(crate) fn is_listed(&self, pack: PackNo) -> bool {
        self.usable.contains(pack)
    }

    /// Whether a listed segment names a pack, as far as segments can be read.
    pub(crate) fn is_named(&self, pack: PackNo) -> bool {
        self.named.contains(pack)
    }

    /// Whether every named pack may be used and every listed pack is named. Otherwise something that snapshots refer to
    /// may be lost: a pack is missing, has another length, is condemned or distrusted, or a segment is gone.
    pub(crate) const fn is_plain(&self) -> bool {
        self.is_plain
    }

    /// Every usable pack.
    pub(crate) fn packs(&self) -> Result<Vec<PackInfo>, EngineError> {
        self.each_pack().collect()
    }

    /// Every usable pack, one at a time. Blocks on the local disk.
    pub(crate) fn each_pack(&self) -> impl Iterator<Item = Result<PackInfo, EngineError>> + '_ {
        let all = self.cache.packs().map(|found| found.map_err(EngineError::from));
        let usable = all.filter(|found| found.as_ref().map_or(true, |(number, _)| self.usable.contains(*number)));
        usable.map(|found| found.map(|(_, info)| info))
    }

    pub(crate) fn pack(&self, number: PackNo) -> Result<Arc<PackInfo>, EngineError> {
        let missing = || EngineError::Lost {
            chunk: format!("in pack number {number}"),
            reason: "the index cache changed".into(),
        };
        self.cache.pack(number)?.ok_or_else(missing)
    }
}

impl Repository {
    /// The index, with every pack that exists.
    pub(crate) async fn load_index(&self) -> Result<Index, EngineError> {
        let (cache, listed) = self.sync_cache().await?;
        self.index_without(cache, listed, &HashSet::new(), &HashSet::new()).await
    }

    /// The index for a writer: without the packs in `condemned`, nor those which only a removed key vouches for.
    /// LISTs segments, then packs (W3). What no cache can hold is unknown, and is stored again.
    pub(crate) async fn load_index_without(&self, condemned: &HashSet<PackId>) -> Result<Index, EngineError> {
        let (cache, listed) = match self.sync_cache().await {
            Err(EngineError::Cache(error)) => {
                self.cache.allow::<()>(Err(error));
                (self.cache.now(), self.list_segments().await?.into_keys().collect())
            }
            synced => synced?,
        };
        let (mut unusable, mut spared) = (self.cache.distrusted(), self.cache.late());
        unusable.extend(condemned);
        spared.extend(condemned);
        self.index_without(cache, listed, &unusable, &spared).await
    }

    /// The index without the packs in `condemned`, for a writer that refers to what is there and stores nothing. LISTs
    /// segments, then packs (W3).
    pub(crate) async fn load_index_besides(&self, condemned: &HashSet<PackId>) -> Result<Index, EngineError> {
        let (cache, listed) = self.sync_cache().await?;
        self.index_without(cache, listed, condemned, condemned).await
    }

    /// LISTs packs, and takes those that count, a batch at a time.
    async fn index_without(
        &self,
        cache: Arc<IndexCache>,
        segments: HashSet<SegmentId>,
        unusable: &HashSet<PackId>,
        spared: &HashSet<PackId>,
    ) -> Result<Index, EngineError> {
        let (reads, spared) = (Arc::clone(&cache), spared.iter().copied().collect::<Vec<_>>());
        let numbers = move || Ok::<_, EngineError>((reads.named_packs(&segments)?, reads.pack_numbers(&spared)?));
        let (named, spared) = self.offload.start(numbers).await??;
        let (mut usable, mut listed_count) = (PackSet::new(), 0);
        let mut batches = std::pin::pin!(self.listed_packs().try_chunks(BATCH));
        while let Some(mut batch) = batches.try_next().await.map_err(|error| error.1)? {
            listed_count += batch.len();
            batch.retain(|(id, _)| !unusable.contains(id));
            let reads = Arc::clone(&cache);
            let numbers = self.offload.start(move || reads.numbers_of_length(&batch)).await??;
            usable.extend(numbers.into_iter().flatten().filter(|number| named.contains(*number)));
        }
        let is_plain = usable.len() == named.len() && usable.len() == listed_count;
        let spared = Arc::new(spared.into_iter().flatten().collect());
        let (host, usable, named) = (Arc::clone(&self.cache), Arc::new(usable), Arc::new(named));
        let (own, missed) = (Arc::default(), Arc::default());
        Ok(Index { cache, host, usable, own, named, spared, missed, is_plain })
    }

    /// The cache with every listed segment applied, and these segments. One that fails gives way to a temporary one.
    async fn sync_cache(&self) -> Result<(Arc<IndexCache>, HashSet<SegmentId>), EngineError> {
        let mut cache = self.cache.now();
        loop {
            match self.apply_listed(&cache).await {
                Err(EngineError::Cache(error)) => {
                    let host = Arc::clone(&self.cache);
                    cache = self.offload.start(move || host.replace(error)).await??;
                }
                listed => return Ok((cache, listed?)),
            }
        }
    }

    async fn list_segments(&self) -> Result<HashMap<SegmentId, ObjectInfo>, EngineError> {
        let infos = self.store.list(names::INDEX).map_err(EngineError::from);
        let named = infos.try_filter_map(|info| async move {
            Ok(SegmentId::from_hex(names::last(&info.name)).map(|id| (id, info)))
        });
        named.try_collect().await
    }

    /// Applies every listed segment that the cache does not hold yet.
    async fn apply_listed(&self, cache: &Arc<IndexCache>) -> Result<HashSet<SegmentId>, EngineError> {
        for _ in 0..LISTINGS_MAX {
            let listed = self.list_segments().await?;
            let applied = cache.applied_segments()?;
            let missing = listed.iter().filter(|(id, _)| !applied.contains(*id));
            let missing: Vec<_> = missing.map(|(id, info)| (*id, info.clone())).collect();
            let vanished = self.apply_segments(cache, missing).await?;
            if !vanished {
                let listed = listed.into_keys().collect();
                self.cache.allow(cache.retain_segments(&listed));
                return Ok(listed);
            }
        }
        Err(EngineError::Request {
            what: "index segments vanish as fast as they are read; is a prune running in a loop?".into(),
        })
    }

    /// Reads and applies segments; true if one of them is gone. The first one that names a pack says what is in it: so
    /// older ones go first, and those of removed keys last.
    async fn apply_segments(
        &self,
        cache: &Arc<IndexCache>,
        mut missing: Vec<(SegmentId, ObjectInfo)>,
    ) -> Result<bool, EngineError> {
        missing.sort_by_key(|(id, info)| (info.modified_at, *id));
        let mut reads = futures::stream::iter(missing)
            .map(|(id, info)| async move {
                let read = self.store.get(&info.name).await;
                (id, info, read)
            })
            .buffered(REQUESTS_MAX / 4);
        let (mut vanished, mut late) = (false, Vec::new());
        while let Some((id, info, read)) = reads.next().await {
            match self.apply_read(cache, id, &info, read, Signers::Believed).await? {
                Applied::Done => {}
                Applied::Gone => vanished = true,
                Applied::Late => late.push((id, info)),
            }
        }
        for (id, info) in late {
            let read = self.store.get(&info.name).await;
            let applied = self.apply_read(cache, id, &info, read, Signers::All).await?;
            vanished |= matches!(applied, Applied::Gone);
        }
        Ok(vanished)
    }

    /// Applies a segment that was read, and reads it once more if it is damaged: a bad read is not a bad object.
    async fn apply_read(
        &self,
        cache: &Arc<IndexCache>,
        id: SegmentId,
        info: &ObjectInfo,
        read: Result<Bytes, StoreError>,
        signers: Signers,
    ) -> Result<Applied, EngineError> {
        let mut read = read;
        let mut is_again = false;
        loop {
            let bytes = match read {
                Ok(bytes) => bytes,
                Err(StoreError::NotFound { .. }) => return Ok(Applied::Gone),
                Err(error) => return Err(error.into()),
            };
            match self.apply_segment(cache, id, info.clone(), bytes, signers).await? {
                Ok(applied) => return Ok(applied),
                Err(error) if is_again || error.kind() != Kind::Damaged => {
                    tracing::warn!("{error}; the segment is passed over");
                    return Ok(Applied::Done);
                }
                Err(_) => read = self.store.get(&info.name).await,
            }
            is_again = true;
        }
    }

    /// Opens and applies a segment. If its signer had been removed when it was written, the packs that no other segment
    /// names serve to read and are not offered for deduplication, nor may a parent's content in them be reused: a backup
    /// then stores again what its source still has.
    async fn apply_segment(
        &self,
        cache: &Arc<IndexCache>,
        id: SegmentId,
        info: ObjectInfo,
        bytes: Bytes,
        signers: Signers,
    ) -> Result<Result<Applied, EngineError>, EngineError> {
        let (keyring, cache, host) = (self.keyring.clone(), Arc::clone(cache), Arc::clone(&self.cache));
        let applied = self.offload.start(move || {
            let (segment, signer) = match open_segment(&keyring, id, &info, &bytes) {
                Ok(opened) => opened,
                Err(error) => return Ok(Err(error)),
            };
            if keyring.is_late(signer, info.modified_at) {
                if signers == Signers::Believed {
                    return Ok(Ok(Applied::Late));
                }
                // First: once it is applied, nobody looks at its signer again.
                let packs: Vec<_> = segment.packs.iter().map(|pack| pack.id).collect();
                let numbers = cache.pack_numbers(&packs)?;
                let unknown = packs.into_iter().zip(numbers).filter(|(_, number)| number.is_none());
                host.distrust(&unknown.map(|(pack, _)| pack).collect::<Vec<_>>(), &cache)?;
            }
            cache.apply(id, &segment)?;
            Ok(Ok(Applied::Done))
        });
        applied.await?
    }

    /// Every pack in the store, with its length, as the listing shows them.
    pub(crate) fn listed_packs(&self) -> impl Stream<Item = Result<(PackId, u64), EngineError>> + '_ {
        let listed = self.store.list(names::PACKS).map_err(EngineError::from);
        listed.try_filter_map(
            |info| async move { Ok(PackId::from_hex(names::last(&info.name)).map(|id| (id, info.len))) },
        )
    }

    /// The ids of the condemned lists and the packs that they name (W2).
    ///
    /// # Errors
    ///
    /// [`EngineError::CondemnedUnreadable`] if what one names cannot be told: what a writer then refers to may be deleted.
    pub(crate) async fn read_condemned(&self) -> Result<(Vec<CondemnedId>, HashSet<PackId>), EngineError> {
        let (mut lists, mut packs) = (Vec::new(), HashSet::new());
        for list in self.read_condemned_lists().await? {
            lists.push(list.list);
            packs.extend(list.packs);
        }
        Ok((lists, packs))
    }

    /// The condemned lists, as [`read_condemned`](Self::read_condemned) believes them.
    pub(crate) async fn read_condemned_lists(&self) -> Result<Vec<Condemned>, EngineError> {
        let mut lists = Vec::new();
        let open = |_: &ObjectInfo, bytes: &[u8]| self.open_condemned(bytes);
        for (info, read) in crate::repository::open_all(&self.store, names::CONDEMNED, open).await? {
            let list = read.map_err(|error| condemned_unreadable(&info, error))?;
            lists.extend(list.filter(|list| info.name == names::condemned(&list.list)));
        }
        Ok(lists)
    }

    /// None if its signer may not condemn.
    fn open_condemned(&self, bytes: &[u8]) -> Result<Option<Condemned>, PackError> {
        let repository = self.config.repository;
        let frame = Frame::decode(bytes, ObjectKind::Condemned, repository)?;
        let list = Condemned::open(&frame, |epoch| self.keyring.index_key_of(epoch), repository)?;
        // Condemned is for ever, whatever became of the key that did it.
        Ok(self.keyring.certifies(&frame, Writes::Collection).then_some(list))
    }
}

fn condemned_unreadable(info: &ObjectInfo, error: PackError) -> EngineError {
    let name = info.name.clone();
    match error {
        PackError::Version { .. } | PackError::UnknownEpoch { .. } => EngineError::object(name)(error),
        source => EngineError::CondemnedUnreadable { name, source },
    }
}

/// Opens a segment and checks its name, its seal, and that the owner ever certified its signer for what it says.
pub(crate) fn open_segment(
    keyring: &crate::Keyring,
    id: SegmentId,
    info: &ObjectInfo,
    bytes: &[u8],
) -> Result<(Segment, Identity), EngineError> {
    let object = || EngineError::object(info.name.clone());
    if SegmentId::of(bytes) != id {
        return Err(object()(pack::PackError::Hash));
    }
    let frame = Frame::decode(bytes, ObjectKind::Segment, keyring.repository).map_err(object())?;
    if !keyring.certifies(&frame, Writes::Index) {
        return Err(object()(pack::PackError::Inconsistent {
            what: "signed by a key that the owner does not vouch for",
        }));
    }
    let segment = Segment::open(&frame, |epoch| keyring.index_key_of(epoch), keyring.repository).map_err(object())?;
    let refuse = |what| Err(object()(pack::PackError::Inconsistent { what }));
    if !keyring.is_of(&frame, segment.domain) {
        return refuse("of another domain than its signer");
    }
    if !segment.replaces.is_empty() && !keyring.certifies(&frame, Writes::Collection) {
        return refuse("replaces other segments, but its signer may only add some");
    }
    Ok((segment, frame.signer))
}
