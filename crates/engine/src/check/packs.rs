//! Which packs can be had: named by a segment, listed, and of the length that the index says.
//!
//! Costs in memory: 48 bytes for each pack that is sound, and half as much for each that is not; a thousand packs of 16 MiB are
//! 16 GiB stored. Rows of blobs stay in the cache on disk.
//!
//! Invariant: a pack that only the local cache knows does not count.
//! Never here: what is in the packs.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::Arc;

use futures::TryStreamExt;
use pack::{PackId, names};
use store::ObjectInfo;
use store::index_cache::{IndexCache, PackNo, PackSet, Place};

use super::choose::Sound;
use super::report::{CheckReport, Wrong};
use super::segments::Named;
use crate::EngineError;
use crate::fetch::Fetcher;
use crate::repository::Repository;

/// Listed packs whose numbers are asked for at once.
const BATCH: usize = 4096;
/// What is said of a pack that is not there.
const MISSING: &str = "is missing";
/// What is said behind a pack where snapshots or pages that cannot be read may need it.
const NEEDS_UNKNOWN: &str = "whether a snapshot needs it cannot be told, as not all that says so could be read";
/// What is said of a segment that does not describe a pack as the pack does itself.
const FALSE_TABLE: &str = "says other things of a pack than the pack's own trailer";

/// What is wrong with a pack.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Flaw {
    /// No segment names it.
    Unnamed,
    /// It is not listed.
    Missing,
    /// It is listed with this length instead of its own.
    Len(u64),
    /// It was read, and this is wrong.
    Content(String),
    /// It was read, and says something else of itself than the index does.
    Table,
}

/// The packs that the cache knows, as the store has them.
#[derive(Default)]
pub(super) struct Packs {
    /// Those that can be had, by the first halves of their ids.
    pub(super) sound: Vec<Sound>,
    /// What is wrong with the others.
    pub(super) flaws: HashMap<PackNo, Flaw>,
    /// Whether data is read, and not only what was found damaged before.
    pub(super) reads_data: bool,
    /// Those that were to be read: a bit for each pack.
    pub(super) chosen: PackSet,
    /// Those that were read and are right: a bit for each pack.
    pub(super) read: PackSet,
    /// The first halves of the ids of packs that a check found damaged, this one or one before.
    pub(super) known_damaged: BTreeSet<[u8; 16]>,
    /// Of packs that were said to be damaged, and that this check found right.
    pub(super) found_right: BTreeSet<[u8; 16]>,
    /// Those of the packs read that hold something which snapshots need and which is in no other pack, or which was not read there
    /// although this one was.
    pub(super) irreplaceable: HashSet<PackNo>,
    /// The segments that described packs falsely, by pack.
    pub(super) liars: HashMap<PackId, String>,
}

/// What a listing of packs says.
#[derive(Default)]
struct Listing {
    right: PackSet,
    lens: HashMap<PackNo, u64>,
    stray_count: u64,
}

impl Repository {
    /// Compares what is listed with the index.
    pub(super) async fn compare_packs(
        &self,
        cache: &Arc<IndexCache>,
        named: &Named,
        report: &mut CheckReport,
    ) -> Result<Packs, EngineError> {
        let listing = self.list_for_check(cache, named).await?;
        report.packs = named.count();
        report.stray_packs = listing.stray_count;
        if listing.stray_count > 0 {
            let stray = listing.stray_count;
            report.warn(format!(
                "packs that no index segment names: {stray}; interrupted backups leave such, and repairs of damaged packs"
            ));
        }
        let (cache, is_named) = (Arc::clone(cache), named.packs.clone());
        self.offload.start(move || sort_packs(&cache, &is_named, &listing)).await?
    }

    /// Lists packs, a batch at a time.
    async fn list_for_check(&self, cache: &Arc<IndexCache>, named: &Named) -> Result<Listing, EngineError> {
        let mut listed = self.store.list(names::PACKS);
        let (mut listing, mut is_over) = (Listing::default(), false);
        while !is_over {
            let mut batch = Vec::new();
            while batch.len() < BATCH && !is_over {
                match listed.try_next().await? {
                    Some(info) => batch.extend(pack_of(&info).map(|id| (id, info.len))),
                    None => is_over = true,
                }
            }
            batch.retain(|(id, _)| !named.late.contains(id));
            let (cache, is_named) = (Arc::clone(cache), named.packs.clone());
            listing = self.offload.start(move || listing.with(&cache, &is_named, &batch)).await??;
        }
        Ok(listing)
    }
}

impl Listing {
    /// Takes in some listed packs.
    fn with(mut self, cache: &IndexCache, named: &PackSet, batch: &[(PackId, u64)]) -> Result<Self, EngineError> {
        let ids: Vec<PackId> = batch.iter().map(|(id, _)| *id).collect();
        for ((_, len), number) in batch.iter().zip(cache.pack_numbers(&ids)?) {
            let Some(number) = number.filter(|number| named.contains(*number)) else {
                self.stray_count += 1;
                continue;
            };
            if cache.pack(number)?.is_some_and(|info| info.len == *len) {
                self.right.insert(number);
            } else {
                self.lens.insert(number, *len);
            }
        }
        Ok(self)
    }
}

impl Packs {
    /// What is wrong with a pack, and which object is to blame; none if it can be had.
    pub(super) fn why_not(
        &self,
        number: PackNo,
        named: &Named,
        fetcher: &Fetcher,
    ) -> Result<Option<Wrong>, EngineError> {
        let Some(flaw) = self.flaws.get(&number) else { return Ok(None) };
        if *flaw == Flaw::Unnamed {
            return Ok(Some(named.why_not()));
        }
        let info = fetcher.index.pack(number)?;
        let what = match flaw {
            Flaw::Table => return Ok(Some(self.false_table(&info.id))),
            Flaw::Len(len) => format!("is {len} bytes long instead of {}", info.len),
            Flaw::Content(what) => what.clone(),
            Flaw::Missing | Flaw::Unnamed => MISSING.to_owned(),
        };
        Ok(Some((names::pack(&info.id), what)))
    }

    /// The segment that describes a whole pack falsely, and that it does.
    pub(super) fn false_table(&self, pack: &PackId) -> Wrong {
        let segment = self.liars.get(pack).cloned().unwrap_or_else(|| names::INDEX.to_owned());
        (segment, FALSE_TABLE.to_owned())
    }

    /// Whether a pack that is named is not sound.
    pub(super) fn has_flaws(&self) -> bool {
        self.flaws.values().any(|flaw| *flaw != Flaw::Unnamed)
    }

    /// The packs of which the index says something else than they do themselves.
    pub(super) fn described_falsely(&self, fetcher: &Fetcher) -> Result<HashSet<PackId>, EngineError> {
        self.flawed(fetcher, |flaw| *flaw == Flaw::Table)
    }

    /// The packs that are named and not sound.
    pub(super) fn damaged(&self, fetcher: &Fetcher) -> Result<HashSet<PackId>, EngineError> {
        self.flawed(fetcher, |flaw| *flaw != Flaw::Unnamed)
    }

    fn flawed(&self, fetcher: &Fetcher, is_meant: impl Fn(&Flaw) -> bool) -> Result<HashSet<PackId>, EngineError> {
        let meant = self.flaws.iter().filter(|(_, flaw)| is_meant(flaw));
        meant.map(|(number, _)| Ok(fetcher.index.pack(*number)?.id)).collect()
    }

    /// Notes packs that are not right although no snapshot needs them: what is still there of such a pack is no damage of
    /// the repository, once all that it held and that is needed was found elsewhere. Of one that is missing it may be unclear.
    pub(super) fn note_unneeded(
        &self,
        named: &Named,
        fetcher: &Fetcher,
        report: &mut CheckReport,
    ) -> Result<(), EngineError> {
        let keeps = self.irreplaceable.iter().map(|number| Ok(names::pack(&fetcher.index.pack(*number)?.id)));
        let keeps = keeps.collect::<Result<HashSet<String>, EngineError>>()?;
        let mut others = Vec::new();
        for number in self.flaws.iter().filter(|(_, flaw)| **flaw != Flaw::Unnamed).map(|(number, _)| *number) {
            others.extend(self.why_not(number, named, fetcher)?);
        }
        others.sort();
        let knows_needs = report.has_seen_all_needs();
        for (object, what) in others {
            if report.damages.iter().any(|damage| damage.object == object) {
                continue;
            }
            let is_listed = what != MISSING;
            match (is_listed, knows_needs) {
                (true, _) if keeps.contains(&object) => {
                    report.damage(&object, &what);
                    continue;
                }
                (true, false) => {
                    report.damage(&object, &format!("{what}; {NEEDS_UNKNOWN}"));
                    continue;
                }
                (false, false) => {
                    report.unclear(format!("{object} {what}; {NEEDS_UNKNOWN}"));
                    continue;
                }
                _ => {}
            }
            report.unneeded_count += u64::from(is_listed);
            let next = if is_listed { "" } else { "; the next prune forgets it" };
            report.warnings.push(format!("{object} {what}, and no snapshot needs it{next}"));
        }
        Ok(())
    }

    /// Whether a chunk can be had at one of these places. A damaged pack counts as needed until what it held was read
    /// elsewhere by this very check, if it reads data.
    pub(super) fn can_be_had(&mut self, places: &[Place]) -> bool {
        let is_there = places.iter().any(|place| !self.flaws.contains_key(&place.pack));
        let is_proven = if self.reads_data { places.iter().any(|place| self.is_read(place.pack)) } else { is_there };
        let holds_back = |place: &&Place| match self.flaws.get(&place.pack) {
            Some(Flaw::Content(_)) => !is_proven,
            Some(_) => !is_there,
            None => false,
        };
        let keeps: Vec<_> = places.iter().filter(holds_back).map(|place| place.pack).collect();
        self.irreplaceable.extend(keeps);
        is_there
    }

    fn is_read(&self, number: PackNo) -> bool {
        self.read.contains(number) && !self.flaws.contains_key(&number)
    }
}

/// The pack that lies under its own name.
fn pack_of(info: &ObjectInfo) -> Option<PackId> {
    PackId::from_hex(names::last(&info.name)).filter(|id| names::pack(id) == info.name)
}

/// Goes through every pack that the cache knows. Blocks on the local disk.
fn sort_packs(cache: &IndexCache, named: &PackSet, listing: &Listing) -> Result<Packs, EngineError> {
    let mut packs = Packs::default();
    for found in cache.packs() {
        let (number, info) = found?;
        let flaw = match listing.lens.get(&number) {
            _ if !named.contains(number) => Flaw::Unnamed,
            _ if listing.right.contains(number) => {
                packs.sound.push(Sound::new(number, &info));
                continue;
            }
            Some(len) => Flaw::Len(*len),
            None => Flaw::Missing,
        };
        packs.flaws.insert(number, flaw);
    }
    packs.sound.sort_unstable_by_key(|pack| pack.half);
    Ok(packs)
}
