//! Index segments as the store has them, and the packs which they name.
//!
//! Invariant: a pack counts as named only if a segment says so that was read whole by this very check.
//! Never here: whether the packs are there.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use futures::{StreamExt, TryStreamExt};
use pack::{PackEntry, PackError, PackId, SegmentId, names};
use store::index_cache::{IndexCache, PackNo, PackSet};
use store::{ObjectInfo, StoreError};

use super::report::{CheckReport, Wrong};
use super::{LACKING_INDEX, READS_MAX, detail};
use crate::EngineError;
use crate::index::open_segment;
use crate::repository::Repository;
use crate::trailers::is_as_cached;

/// Segments read at once.
const SEGMENTS_AT_ONCE: usize = 4;
/// What is said of a segment that does not agree with the others.
const OTHER_TABLE: &str = "says other things of a pack than another segment";
/// How often a listing is repeated when segments vanish between LIST and GET.
const LISTINGS_MAX: usize = 10;

/// What the segments in the store say: a bit for each pack.
#[derive(Default)]
pub(super) struct Named {
    /// The packs that whole segments name, by their numbers in the cache.
    pub(super) packs: PackSet,
    /// Those which the cache does not know: published since this check began.
    pub(super) late: HashSet<PackId>,
    /// A segment that is not whole, if there is one.
    damaged: Option<Wrong>,
}

/// A pack that a segment names.
struct NamedPack {
    id: PackId,
    /// Its number in the cache, if that knows it.
    number: Option<PackNo>,
    /// Whether the segment says of it what the cache does. Whoever applied this segment first sees no difference.
    is_as_cached: bool,
}

impl Named {
    /// Packs named.
    pub(super) fn count(&self) -> u64 {
        (self.packs.len() + self.late.len()) as u64
    }

    /// Takes in a segment that was found not to be right later on.
    pub(super) fn blame(&mut self, wrong: Wrong) {
        self.damaged.get_or_insert(wrong);
    }

    /// Whether a pack is named, or may be: nobody knows what a damaged segment said.
    pub(super) fn may_name(&self, id: &PackId, number: Option<PackNo>) -> bool {
        self.damaged.is_some() || self.late.contains(id) || number.is_some_and(|number| self.packs.contains(number))
    }

    /// Why no segment names something: a damaged one may have.
    pub(super) fn why_not(&self) -> Wrong {
        let missing = || (names::INDEX.to_owned(), LACKING_INDEX.to_owned());
        self.damaged.clone().unwrap_or_else(missing)
    }
}

impl Repository {
    /// Reads every segment as the store has it. The cache must have been brought up to the listing before.
    pub(super) async fn check_segments(
        &self,
        cache: &Arc<IndexCache>,
        report: &mut CheckReport,
    ) -> Result<Named, EngineError> {
        for _ in 0..LISTINGS_MAX {
            let listed: Vec<ObjectInfo> = crate::repository::list(&self.store, names::INDEX).await?;
            let mut reads = futures::stream::iter(listed)
                .map(|info| async move { (self.read_segment(cache, &info).await, info) })
                .buffered(SEGMENTS_AT_ONCE);
            let (mut named, mut wrong, mut has_vanished) = (Named::default(), Vec::new(), false);
            while let Some((read, info)) = reads.next().await {
                match read {
                    Ok(packs) => {
                        if packs.iter().any(|pack| !pack.is_as_cached) {
                            wrong.push((info.name, OTHER_TABLE.to_owned()));
                        }
                        named.packs.extend(packs.iter().filter_map(|pack| pack.number));
                        named.late.extend(packs.iter().filter(|pack| pack.number.is_none()).map(|pack| pack.id));
                    }
                    Err(EngineError::Store(StoreError::NotFound { .. })) => has_vanished = true,
                    Err(error @ EngineError::Object { .. }) if error.kind() == crate::Kind::Invalid => {
                        report.unclear(error)
                    }
                    Err(error @ EngineError::Object { .. }) => wrong.push((info.name, detail(&error))),
                    Err(error) => return Err(error),
                }
            }
            if !has_vanished {
                wrong.iter().for_each(|(object, what)| report.damage(object, what));
                named.damaged = wrong.into_iter().next();
                return Ok(named);
            }
        }
        Err(EngineError::Request {
            what: "index segments vanish as fast as they are read; is a prune running in a loop?".into(),
        })
    }

    /// The packs that a segment names, compared with the cache.
    async fn read_segment(&self, cache: &Arc<IndexCache>, info: &ObjectInfo) -> Result<Vec<NamedPack>, EngineError> {
        let wrong_name = PackError::Inconsistent { what: "its name is not an id" };
        let id = SegmentId::from_hex(names::last(&info.name)).ok_or(wrong_name);
        let id = id.map_err(EngineError::object(&info.name))?;
        let mut result = Ok(Vec::new());
        for _ in 0..READS_MAX {
            let bytes = self.store.get(&info.name).await?;
            let (keyring, cache, info) = (self.keyring.clone(), Arc::clone(cache), info.clone());
            let open = move || {
                let (segment, _) = open_segment(&keyring, id, &info, &bytes)?;
                let ids: Vec<PackId> = segment.packs.iter().map(|entry| entry.id).collect();
                let numbers = cache.pack_numbers(&ids)?;
                let compare = |(entry, number): (&PackEntry, Option<PackNo>)| {
                    let same = number.map(|number| is_as_cached(&cache, number, entry.len, &entry.trailer));
                    Ok(NamedPack { id: entry.id, number, is_as_cached: same.transpose()?.unwrap_or(true) })
                };
                segment.packs.iter().zip(numbers).map(compare).collect()
            };
            result = self.offload.start(open).await?;
            if result.is_ok() {
                break;
            }
        }
        result
    }

    /// For each of `packs` a segment that describes it as the cache does.
    pub(super) async fn segments_that_say(
        &self,
        cache: &Arc<IndexCache>,
        packs: &HashSet<PackId>,
    ) -> Result<HashMap<PackId, String>, EngineError> {
        let mut found = HashMap::new();
        if packs.is_empty() {
            return Ok(found);
        }
        let mut listed = self.store.list(names::INDEX);
        while let Some(info) = listed.try_next().await? {
            match self.read_segment(cache, &info).await {
                Ok(named) => {
                    let meant = named.into_iter().filter(|pack| pack.is_as_cached && packs.contains(&pack.id));
                    found.extend(meant.map(|pack| (pack.id, info.name.clone())));
                }
                Err(EngineError::Object { .. } | EngineError::Store(StoreError::NotFound { .. })) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(found)
    }
}
