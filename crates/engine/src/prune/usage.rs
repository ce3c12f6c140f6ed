//! How much of each pack is in use.
//!
//! ```text
//! index cache: chunk → places ─► live? ─► which copies stay ─► live bytes of each blob
//! ```
//!
//! Of copies that are the same sealed bytes, which repacking leaves behind, the one in the pack with the lowest id stays. Of
//! copies of one chunk that were sealed apart, all stay for a key that opens no content: it cannot tell whether each of them is what
//! its name says, and a writer whose key was stolen must not have the true one removed by a false one. A key that can tell looks
//! before it lets one go (see `second_mark`).
//!
//! Invariant: this is a guess that a plan rests on. Nothing is deleted, and no name dropped, before packs and index were read from the
//! store (see `second_mark`).
//! Never here: what is done about it.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use futures::TryStreamExt;
use pack::{PackClass, PackId, names};
use seal::ChunkId;
use store::StoreTime;
use store::index_cache::{IndexCache, PackNo, Place, Places};

use super::live::LiveSet;
use crate::EngineError;
use crate::index::Index;
use crate::repository::Repository;

/// A pack as the store lists it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Listed {
    pub(super) id: PackId,
    pub(super) len: u64,
    pub(super) modified_at: StoreTime,
}

/// A blob, and how much of it is in use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct BlobUse {
    pub(super) sealed_len: u32,
    pub(super) plain_len: u32,
    /// Bytes of plaintext that are live, and are to stay here.
    pub(super) live_len: u32,
}

/// A pack that may be used, and how much of it is.
#[derive(Debug, Clone)]
pub(super) struct PackUse {
    pub(super) id: PackId,
    pub(super) len: u64,
    pub(super) class: PackClass,
    pub(super) modified_at: StoreTime,
    pub(super) blobs: Vec<BlobUse>,
}

/// Of chunks that lie in several places, which one stays: for a key that can tell whether each is what its name says.
#[derive(Clone)]
pub(super) struct Copies {
    index: Index,
}

impl Copies {
    pub(super) const fn new(index: Index) -> Self {
        Self { index }
    }

    /// Whether each chunk stays in this blob, since it lies in no other or this one comes first. Blocks on the local disk.
    pub(super) fn stay(&self, ids: &[ChunkId], pack: &PackId, blob: u32) -> Result<Vec<bool>, EngineError> {
        let cache = &self.index.cache;
        let stays = |places: &Places| {
            let usable: Vec<Place> = places.iter().filter(|place| self.index.is_listed(place.pack)).copied().collect();
            if usable.len() < 2 {
                return Ok(true);
            }
            let mut first: Option<(PackId, u32)> = None;
            for place in usable {
                let Some(info) = cache.pack(place.pack)? else { continue };
                first = Some(first.map_or((info.id, place.blob), |first| first.min((info.id, place.blob))));
            }
            Ok(first.is_none_or(|first| first == (*pack, blob)))
        };
        cache.lookup(ids)?.iter().map(stays).collect()
    }
}

/// Every pack that may be used, and chunks that lie in several in different forms.
#[derive(Default)]
pub(super) struct Usage {
    pub(super) packs: Vec<PackUse>,
    /// Bytes of plaintext which this key has to keep more than once.
    pub(super) double_len: u64,
    /// Packs that the index names, that are gone, and in which nothing was that is still needed.
    pub(super) stale: HashSet<PackId>,
}

impl Repository {
    /// Every pack in the store, by id.
    pub(super) async fn list_packs(&self) -> Result<Vec<Listed>, EngineError> {
        let mut listed = Vec::new();
        let mut infos = self.store.list(names::PACKS);
        while let Some(info) = infos.try_next().await? {
            if let Some(id) = PackId::from_hex(names::last(&info.name)).filter(|id| names::pack(id) == info.name) {
                listed.push(Listed { id, len: info.len, modified_at: info.modified_at });
            }
        }
        listed.sort_unstable_by_key(|pack| pack.id);
        Ok(listed)
    }

    /// Looks how much of each usable pack is live. Reads the whole index cache: some microseconds for each chunk. What is `condemned`
    /// and gone is not told: that is its own list's business.
    pub(super) async fn usage(
        &self,
        index: Index,
        live: Arc<LiveSet>,
        listed: &[Listed],
        condemned: &HashSet<PackId>,
    ) -> Result<Usage, EngineError> {
        let times: HashMap<PackId, StoreTime> = listed.iter().map(|pack| (pack.id, pack.modified_at)).collect();
        let can_tell = self.keyring.can_recut();
        let mut not_stale = self.cache.late();
        not_stale.extend(condemned);
        self.offload.start(move || usage(&index, &live, &times, &not_stale, can_tell)).await?
    }
}

/// Blocks on the local disk.
fn usage(
    index: &Index,
    live: &LiveSet,
    times: &HashMap<PackId, StoreTime>,
    not_stale: &HashSet<PackId>,
    can_tell: bool,
) -> Result<Usage, EngineError> {
    let (mut packs, mut stale): (HashMap<PackNo, PackUse>, HashMap<PackNo, PackId>) = Default::default();
    for found in index.cache.packs() {
        let (number, info) = found?;
        let Some(modified_at) = times.get(&info.id).filter(|_| index.is_listed(number)) else {
            let is_gone = !times.contains_key(&info.id) && !index.is_listed(number);
            if is_gone && index.is_named(number) && !not_stale.contains(&info.id) {
                stale.insert(number, info.id);
            }
            continue;
        };
        let blob =
            |blob: &pack::BlobRow| BlobUse { sealed_len: blob.sealed_len, plain_len: blob.plain_len, live_len: 0 };
        let blobs = info.blobs.iter().map(blob).collect();
        let pack = PackUse { id: info.id, len: info.len, class: info.class, modified_at: *modified_at, blobs };
        packs.insert(number, pack);
    }
    let mut double_len = 0;
    for row in index.cache.chunks() {
        let (id, places) = row?;
        if !live.contains(&id) {
            continue;
        }
        let usable: Vec<Place> = places.iter().filter(|place| packs.contains_key(&place.pack)).copied().collect();
        if usable.is_empty() {
            // Who looks for it is to be told where it was.
            for place in places.iter() {
                stale.remove(&place.pack);
            }
        }
        let kept = kept_copies(&index.cache, &packs, usable, can_tell)?;
        double_len += kept.iter().skip(1).map(|place| u64::from(place.len)).sum::<u64>();
        for place in kept {
            let blob = packs.get_mut(&place.pack).and_then(|pack| pack.blobs.get_mut(place.blob as usize));
            if let Some(blob) = blob {
                blob.live_len = blob.live_len.saturating_add(place.len).min(blob.plain_len);
            }
        }
    }
    let mut packs: Vec<_> = packs.into_values().collect();
    packs.sort_unstable_by_key(|pack| pack.id);
    Ok(Usage { packs, double_len, stale: stale.into_values().collect() })
}

/// Of several copies of a chunk those that stay: one, or of each sealed form one.
fn kept_copies(
    cache: &IndexCache,
    packs: &HashMap<PackNo, PackUse>,
    mut usable: Vec<Place>,
    can_tell: bool,
) -> Result<Vec<Place>, EngineError> {
    if usable.len() < 2 {
        return Ok(usable);
    }
    usable.sort_by_key(|place| (packs.get(&place.pack).map(|pack| pack.id), place.blob));
    if can_tell {
        usable.truncate(1);
        return Ok(usable);
    }
    let (mut kept, mut hashes) = (Vec::new(), Vec::new());
    for place in usable {
        let info = cache.pack(place.pack)?;
        let hash = info.and_then(|info| info.blobs.get(place.blob as usize).map(|blob| blob.hash));
        if !hashes.contains(&hash) {
            hashes.push(hash);
            kept.push(place);
        }
    }
    Ok(kept)
}
