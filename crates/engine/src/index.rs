//! Where chunks are: the index cache brought up to the listed segments, and the packs that exist.
//!
//! Invariant: the cache may stand in for segments that are still listed, never for the existence of a pack: whether
//! a pack may be used, a listing made by this operation decides.
//! Never here: publishing segments (see `backup`), opening blobs (see `fetch`).

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, PoisonError, RwLock};

use bytes::Bytes;
use futures::{StreamExt, TryStreamExt};
use pack::{CondemnedId, Frame, PackId, Segment, SegmentId, names};
use seal::{ChunkId, Identity, ObjectKind};
use store::index_cache::{IndexCache, PackInfo, PackNo, PackSet, Place};
use store::{ObjectInfo, StoreError};

use crate::keyring::Writes;
use crate::repository::{REQUESTS_MAX, Repository};
use crate::{EngineError, Kind};

/// How often a listing is repeated when segments vanish between LIST and GET.
const LISTINGS_MAX: usize = 10;
/// Packs that only a removed key vouches for or that a check found damaged, in the cache.
const DISTRUSTED: &str = "distrusted-packs";
/// Packs whose numbers are asked for at once.
const BATCH: usize = 4096;

/// The index as of one moment. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Index {
    pub(crate) cache: Arc<IndexCache>,
    /// Packs that were listed with their right length and are not condemned.
    usable: Arc<PackSet>,
    /// Packs that this operation stored and named itself.
    own: Arc<RwLock<PackSet>>,
}

impl Index {
    /// A usable place of each chunk, if there is one.
    pub(crate) fn find(&self, ids: &[ChunkId]) -> Result<Vec<Option<Place>>, EngineError> {
        let places = self.cache.lookup(ids)?;
        let own = self.own.read().unwrap_or_else(PoisonError::into_inner);
        let may_use = |place: &&Place| self.usable.contains(place.pack) || own.contains(place.pack);
        Ok(places.iter().map(|places| places.iter().find(may_use).copied()).collect())
    }

    /// Takes in packs that this operation stored and that a segment in the cache names now.
    pub(crate) fn add_own(&self, packs: &[PackId]) -> Result<(), EngineError> {
        let numbers = self.cache.pack_numbers(packs)?;
        self.own.write().unwrap_or_else(PoisonError::into_inner).extend(numbers.into_iter().flatten());
        Ok(())
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

    /// Every usable pack.
    pub(crate) fn packs(&self) -> Result<Vec<PackInfo>, EngineError> {
        let all = self.cache.packs().map(|found| found.map_err(EngineError::from));
        let usable = all.filter(|found| found.as_ref().map_or(true, |(number, _)| self.usable.contains(*number)));
        usable.map(|found| found.map(|(_, info)| info)).collect()
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
        self.sync_cache().await?;
        self.index_without(&HashSet::new()).await
    }

    /// The index for a writer: without the packs in `condemned`, nor those which only a removed key vouches for.
    /// LISTs segments, then packs (W3).
    pub(crate) async fn load_index_without(&self, condemned: &HashSet<PackId>) -> Result<Index, EngineError> {
        self.sync_cache().await?;
        let mut unusable = self.distrusted()?;
        unusable.extend(condemned);
        self.index_without(&unusable).await
    }

    async fn index_without(&self, unusable: &HashSet<PackId>) -> Result<Index, EngineError> {
        let listed = self.list_packs().await?;
        let usable = self.usable(&listed, unusable).await?;
        Ok(Index { cache: Arc::clone(&self.cache), usable: Arc::new(usable), own: Arc::default() })
    }

    /// Applies every listed segment that the cache does not hold yet.
    async fn sync_cache(&self) -> Result<(), EngineError> {
        for _ in 0..LISTINGS_MAX {
            let infos: Vec<ObjectInfo> = self.store.list(names::INDEX).try_collect().await?;
            let listed: HashMap<SegmentId, ObjectInfo> = infos
                .into_iter()
                .filter_map(|info| Some((SegmentId::from_hex(names::last(&info.name))?, info)))
                .collect();
            let applied = self.cache.applied_segments()?;
            let missing = listed.iter().filter(|(id, _)| !applied.contains(*id));
            let missing: Vec<_> = missing.map(|(id, info)| (*id, info.clone())).collect();
            let vanished = self.apply_segments(missing).await?;
            if !vanished {
                self.cache.retain_segments(&listed.keys().copied().collect())?;
                return Ok(());
            }
        }
        Err(EngineError::Request {
            what: "index segments vanish as fast as they are read; is a prune running in a loop?".into(),
        })
    }

    /// Reads and applies segments; true if one of them is gone.
    async fn apply_segments(&self, missing: Vec<(SegmentId, ObjectInfo)>) -> Result<bool, EngineError> {
        let mut reads = futures::stream::iter(missing)
            .map(|(id, info)| async move {
                let read = self.store.get(&info.name).await;
                (id, info, read)
            })
            .buffered(REQUESTS_MAX / 4);
        let mut vanished = false;
        let mut late = Vec::new();
        while let Some((id, info, read)) = reads.next().await {
            let mut applied = match read {
                Ok(bytes) => self.apply_segment(id, info.clone(), bytes).await?,
                Err(StoreError::NotFound { .. }) => {
                    vanished = true;
                    continue;
                }
                Err(error) => return Err(error.into()),
            };
            if applied.as_ref().is_err_and(|error| error.kind() == Kind::Damaged) {
                // A bad read is not a bad object.
                let again = self.store.get(&info.name).await?;
                applied = self.apply_segment(id, info, again).await?;
            }
            match applied {
                Ok(packs) => late.extend(packs),
                Err(error) => tracing::warn!("{error}; the segment is passed over"),
            }
        }
        self.distrust(&late)?;
        Ok(vanished)
    }

    /// Opens and applies a segment; gives its packs if its signer had been removed when it was written.
    async fn apply_segment(
        &self,
        id: SegmentId,
        info: ObjectInfo,
        bytes: Bytes,
    ) -> Result<Result<Vec<PackId>, EngineError>, EngineError> {
        let (keyring, cache) = (self.keyring.clone(), Arc::clone(&self.cache));
        let applied = self.offload.start(move || {
            let (segment, signer) = match open_segment(&keyring, id, &info, &bytes) {
                Ok(opened) => opened,
                Err(error) => return Ok(Err(error)),
            };
            cache.apply(id, &segment)?;
            let is_late = keyring.is_late(signer, info.modified_at);
            Ok(Ok(if is_late { segment.packs.iter().map(|pack| pack.id).collect() } else { Vec::new() }))
        });
        applied.await?
    }

    /// Packs that serve to read, and are not offered for deduplication, nor may a parent's content in them be reused: a
    /// backup then stores again what its source still has.
    fn distrusted(&self) -> Result<HashSet<PackId>, EngineError> {
        let note = self.cache.get_note(DISTRUSTED)?.unwrap_or_default();
        Ok(note.as_chunks::<32>().0.iter().map(|id| PackId(*id)).collect())
    }

    /// Remembers packs as not to be offered for deduplication by this host.
    pub(crate) fn distrust(&self, packs: &[PackId]) -> Result<(), EngineError> {
        let mut all = self.distrusted()?;
        let before = all.len();
        all.extend(packs);
        if all.len() == before {
            return Ok(());
        }
        let note: Vec<u8> = all.iter().flat_map(|id| id.0).collect();
        Ok(self.cache.put_note(DISTRUSTED, &note)?)
    }

    /// Every pack in the store, with its length.
    pub(crate) async fn list_packs(&self) -> Result<HashMap<PackId, u64>, EngineError> {
        let listed = self.store.list(names::PACKS);
        let packs = listed.try_filter_map(|info| async move {
            Ok(PackId::from_hex(names::last(&info.name)).map(|id| (id, info.len)))
        });
        Ok(packs.try_collect().await?)
    }

    async fn usable(&self, listed: &HashMap<PackId, u64>, condemned: &HashSet<PackId>) -> Result<PackSet, EngineError> {
        let candidates: Vec<_> =
            listed.iter().filter(|(id, _)| !condemned.contains(*id)).map(|(id, len)| (*id, *len)).collect();
        let cache = Arc::clone(&self.cache);
        self.offload.start(move || usable(&cache, &candidates)).await?
    }

    /// The ids of the condemned lists and the packs that they name (W2).
    pub(crate) async fn read_condemned(&self) -> Result<(Vec<CondemnedId>, HashSet<PackId>), EngineError> {
        let (mut lists, mut packs) = (Vec::new(), HashSet::new());
        for (info, bytes) in crate::repository::read_all(&self.store, names::CONDEMNED).await? {
            let Some(id) = CondemnedId::from_hex(names::last(&info.name)) else { continue };
            let repository = self.config.repository;
            let frame =
                Frame::decode(&bytes, ObjectKind::Condemned, repository).map_err(EngineError::object(&info.name))?;
            let list = pack::Condemned::open(&frame, |epoch| self.keyring.index_key_of(epoch), repository)
                .map_err(EngineError::object(&info.name))?;
            // Condemned is for ever, whatever became of the key that did it.
            if list.list == id && self.keyring.certifies(frame.signer, Writes::Collection) {
                lists.push(id);
                packs.extend(list.packs);
            }
        }
        Ok((lists, packs))
    }
}

/// Opens a segment and checks its name, its seal, and that the owner ever certified its signer.
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
    if !keyring.certifies(frame.signer, Writes::Index) {
        return Err(object()(pack::PackError::Inconsistent {
            what: "signed by a key that the owner does not vouch for",
        }));
    }
    let segment = Segment::open(&frame, |epoch| keyring.index_key_of(epoch), keyring.repository).map_err(object())?;
    Ok((segment, frame.signer))
}

/// The listed packs that the cache knows and whose length is right.
fn usable(cache: &IndexCache, candidates: &[(PackId, u64)]) -> Result<PackSet, EngineError> {
    let mut usable = PackSet::default();
    for batch in candidates.chunks(BATCH) {
        let ids: Vec<_> = batch.iter().map(|(id, _)| *id).collect();
        for ((_, len), number) in batch.iter().zip(cache.pack_numbers(&ids)?) {
            let Some(number) = number else { continue };
            if cache.pack(number)?.is_some_and(|info| info.len == *len) {
                usable.insert(number);
            }
        }
    }
    Ok(usable)
}
