//! Names of packs that are gone: which of them segments need not keep.
//!
//! ```text
//! condemned packs that are gone, names of packs that were not listed ─► every segment: the live chunks said to be in them
//! each of these lies in a pack that counts, before and after the index was read ─► the name may go
//! ```
//!
//! A name that stays tells what was lost with a pack; one of which nothing is lost would be told as missing for ever.
//!
//! Invariant: a name goes only if each live chunk that any segment says of the pack is in a pack that counts.
//! Never here: whether a pack may go. The index cache is asked here, which nothing that deletes may.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use pack::{PackEntry, PackId};
use seal::ChunkId;

use super::live::LiveSet;
use super::second_mark::NEEDED_MAX;
use crate::EngineError;
use crate::repository::Repository;

/// Packs that are gone, each with the live chunks that segments say were in it; none if they are too many to look at.
pub(super) struct Gone {
    packs: HashMap<PackId, Option<Vec<ChunkId>>>,
    live: Arc<LiveSet>,
    noted_count: usize,
}

impl Gone {
    pub(super) fn new(packs: impl Iterator<Item = PackId>, live: Arc<LiveSet>) -> Self {
        Self { packs: packs.map(|pack| (pack, Some(Vec::new()))).collect(), live, noted_count: 0 }
    }

    pub(super) fn packs(&self) -> impl Iterator<Item = PackId> {
        self.packs.keys().copied()
    }

    /// What was noted out of a listing that did not hold counts no more.
    pub(super) fn forget(&mut self) {
        self.packs.values_mut().for_each(|ids| *ids = Some(Vec::new()));
        self.noted_count = 0;
    }

    /// Notes what a segment says of a pack.
    pub(super) fn note(&mut self, entry: &PackEntry) {
        let Some(noted) = self.packs.get_mut(&entry.id) else { return };
        let live = entry.trailer.chunks.iter().map(|(id, _)| *id).filter(|id| self.live.contains(id));
        let room = NEEDED_MAX.saturating_sub(self.noted_count);
        let ids: Vec<ChunkId> = live.take(room + 1).collect();
        self.noted_count += ids.len();
        match noted {
            Some(noted) if ids.len() <= room => noted.extend(ids),
            _ => *noted = None,
        }
    }

    /// Those of which every live chunk lies in a pack that counts and that was listed `after` the index.
    pub(super) async fn nameless(
        self,
        repository: &Repository,
        counts: &HashSet<PackId>,
        after: &HashSet<PackId>,
    ) -> Result<HashSet<PackId>, EngineError> {
        let there: HashSet<PackId> = counts.intersection(after).copied().collect();
        let after: HashSet<PackId> = self.packs().filter(|pack| after.contains(pack)).collect();
        let cache = repository.cache.now();
        let nameless = move || {
            let mut nameless = HashSet::new();
            for (pack, ids) in self.packs.iter().filter(|(pack, _)| !after.contains(*pack)) {
                let Some(ids) = ids else { continue };
                let mut has_all = true;
                for places in cache.lookup(ids)?.iter() {
                    let others = places.iter().map(|place| cache.pack(place.pack)).collect::<Result<Vec<_>, _>>()?;
                    has_all &= others.into_iter().flatten().any(|info| there.contains(&info.id));
                }
                if has_all {
                    nameless.insert(*pack);
                }
            }
            Ok(nameless)
        };
        repository.offload.start(nameless).await?
    }
}
