//! `check`: prove that what is stored is whole.
//!
//! ```text
//! small   both configurations, every key slot, epoch, index segment and snapshot, as the store has them
//! packs   every pack that a segment names is listed with its length; with --read-data every byte is hashed, and every
//!         blob opened and its chunks named again, where the key can
//! trees   every snapshot's pages are walked once; every chunk below is named by a segment and lies in a listed pack
//! ```
//!
//! A bad read is not a bad object: what fails is read once more before it is called damage.
//!
//! Invariant: a good local cache never hides damage; what it knows counts only where the store says so too.
//! Invariant: nothing is changed.
//! Never here: repair.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::Arc;

use futures::{StreamExt, TryStreamExt};
use pack::manifest::{ChildKind, PageKind, Structure};
use pack::{Epoch, PackError, PackId, SegmentId, Slot, names};
use seal::ChunkId;
use store::index_cache::PackInfo;
use store::{ObjectInfo, StoreError};
use tokio_util::sync::CancellationToken;

use crate::entries::{Scope, entries_of, leaves_of, load_structure};
use crate::fetch::{Fetcher, open_blob};
use crate::index::open_segment;
use crate::repository::{Repository, read_all};
use crate::snapshots::Origin;
use crate::{EngineError, Kind, Progress, SnapshotInfo};

/// Packs read at once.
const PACKS_AT_ONCE: usize = 3;
/// What is said of a pack that is not there.
const MISSING: &str = "is missing";
/// Paths named for one damage.
const AFFECTED_MAX: usize = 100;
/// Chunks looked up at once.
const LOOKUP_BATCH: usize = 4096;
/// Segments read at once.
const SEGMENTS_AT_ONCE: usize = 4;
/// How often a listing is repeated when segments vanish between LIST and GET.
const LISTINGS_MAX: usize = 10;
/// How often an object that is not right is read.
const READS_MAX: usize = 2;

/// An object, and what is wrong with it.
type Wrong = (String, String);

/// What the segments in the store say.
struct Named {
    /// The packs that whole segments name.
    packs: HashSet<PackId>,
    /// A segment that is not whole, if there is one.
    damaged: Option<Wrong>,
}

impl Named {
    /// Why no segment names something: a damaged one may have.
    fn why_not(&self) -> Wrong {
        let missing = || (names::INDEX.to_owned(), "lacks a segment that names what snapshots need".to_owned());
        self.damaged.clone().unwrap_or_else(missing)
    }
}

/// Packs that are not as they should be.
type Broken = HashMap<PackId, Wrong>;

/// How much of the data to read.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Subset {
    /// All of it.
    All,
    /// The packs whose id falls into part `n` (from 1) of `of`.
    Part {
        /// Which part, from 1.
        n: u32,
        /// Of how many.
        of: u32,
    },
    /// About this share of the bytes, drawn by lot.
    Percent(f64),
    /// About this many bytes, drawn by lot.
    Len(u64),
}

/// A check to make.
#[derive(Debug, Clone, Copy, Default)]
pub struct CheckRequest {
    /// Read data, and how much.
    pub read_data: Option<Subset>,
}

/// Something that is not as it was written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Damage {
    /// The object.
    pub object: String,
    /// What is wrong with it.
    pub what: String,
    /// Snapshots and paths that need it.
    pub affects: Vec<String>,
}

/// What a check found.
#[derive(Debug, Clone, Default)]
pub struct CheckReport {
    /// Packs that the index names.
    pub packs: u64,
    /// Snapshots.
    pub snapshots: u64,
    /// Pages walked and chunks looked up.
    pub chunks: u64,
    /// Bytes of packs read.
    pub read_len: u64,
    /// What is wrong.
    pub damages: Vec<Damage>,
    /// What is odd and harms nothing.
    pub warnings: Vec<String>,
    /// What could not be told, because the store failed.
    pub unclear: Vec<String>,
}

impl Repository {
    /// Checks the repository.
    ///
    /// # Errors
    ///
    /// Those of the store when nothing can be listed. Damage is no error but part of the report.
    pub async fn check(
        &self,
        request: CheckRequest,
        progress: &Arc<Progress>,
        cancel: CancellationToken,
    ) -> Result<CheckReport, EngineError> {
        let mut report = CheckReport::default();
        self.check_config(&mut report).await;
        self.check_keys(&mut report).await?;
        let fetcher = self.fetcher().await?;
        let named = self.check_segments(&mut report).await?;
        let broken = self.check_packs(&fetcher, &request, &named, progress, &cancel, &mut report).await?;
        self.distrust(&broken.keys().copied().collect::<Vec<_>>())?;
        let (snapshots, damaged) = self.read_snapshots_from(Origin::Store).await?;
        for (object, error) in damaged {
            report.damage(&object, &error.to_string());
        }
        report.snapshots = snapshots.len() as u64;
        let missing = self.check_trees(&fetcher, &snapshots, &named, &broken, &cancel, &mut report).await?;
        if !missing.is_empty() {
            self.name_what_breaks(&fetcher, &snapshots, &missing, &mut report).await;
        }
        report.note_unneeded(&named, &broken);
        Ok(report)
    }

    /// Both copies of the configuration.
    async fn check_config(&self, report: &mut CheckReport) {
        for name in [names::CONFIG, names::CONFIG_COPY] {
            let read = self.store.get(name).await.map_err(EngineError::from);
            let right = read.and_then(|bytes| pack::Config::decode(&bytes).map_err(EngineError::object(name)));
            match right {
                Ok(config) if config == self.config => {}
                Ok(_) => report.damage(name, "differs from the other copy"),
                Err(error) if error.kind() == Kind::Damaged => report.damage(name, &error.to_string()),
                Err(error) => report.unclear.push(error.to_string()),
            }
        }
    }

    /// Key slots and epochs. A damaged one may have been any key's.
    async fn check_keys(&self, report: &mut CheckReport) -> Result<(), EngineError> {
        let (owner, repository) = (self.config.owner, self.config.repository);
        for (info, bytes) in read_all(&self.store, names::KEYS).await? {
            match Slot::decode(&bytes, owner, repository) {
                Ok(_) if info.name == names::key_slot(&bytes) => {}
                Ok(_) => report.damage(&info.name, "is not named after its content"),
                Err(error) => report.damage(&info.name, &error.to_string()),
            }
        }
        let mut there = HashSet::new();
        for (info, bytes) in read_all(&self.store, names::EPOCHS).await? {
            match Epoch::decode(&bytes, owner, repository) {
                Ok(epoch) if info.name == names::epoch(epoch.number) => drop(there.insert(epoch.number)),
                Ok(_) => report.damage(&info.name, "is another epoch than its name says"),
                Err(error) => report.damage(&info.name, &error.to_string()),
            }
            there.extend(names::last(&info.name).parse::<u32>());
        }
        let known = self.keyring.epochs.keys().chain(&there).max().copied().unwrap_or(0);
        for number in (1..=known).filter(|number| !there.contains(number)) {
            report.damage(&names::epoch(number), "is missing");
        }
        Ok(())
    }

    /// Reads every segment as the store has it.
    async fn check_segments(&self, report: &mut CheckReport) -> Result<Named, EngineError> {
        for _ in 0..LISTINGS_MAX {
            let listed: Vec<ObjectInfo> = self.store.list(names::INDEX).try_collect().await?;
            let mut reads = futures::stream::iter(listed)
                .map(|info| async move { (self.read_segment(&info).await, info) })
                .buffered(SEGMENTS_AT_ONCE);
            let (mut packs, mut wrong, mut has_vanished) = (HashSet::new(), Vec::new(), false);
            while let Some((read, info)) = reads.next().await {
                match read {
                    Ok(named) => packs.extend(named),
                    Err(EngineError::Store(StoreError::NotFound { .. })) => has_vanished = true,
                    Err(error @ EngineError::Object { .. }) => wrong.push((info.name, detail(&error))),
                    Err(error) => return Err(error),
                }
            }
            if !has_vanished {
                wrong.iter().for_each(|(object, what)| report.damage(object, what));
                return Ok(Named { packs, damaged: wrong.into_iter().next() });
            }
        }
        Err(EngineError::Request {
            what: "index segments vanish as fast as they are read; is a prune running in a loop?".into(),
        })
    }

    /// The packs that a segment names.
    async fn read_segment(&self, info: &ObjectInfo) -> Result<Vec<PackId>, EngineError> {
        let wrong_name = PackError::Inconsistent { what: "its name is not an id" };
        let id = SegmentId::from_hex(names::last(&info.name)).ok_or(wrong_name);
        let id = id.map_err(EngineError::object(&info.name))?;
        let mut result = Ok(Vec::new());
        for _ in 0..READS_MAX {
            let bytes = self.store.get(&info.name).await?;
            let (keyring, info) = (self.keyring.clone(), info.clone());
            let open = move || {
                let (segment, _) = open_segment(&keyring, id, &info, &bytes)?;
                Ok(segment.packs.iter().map(|entry| entry.id).collect())
            };
            result = self.offload.start(open).await?;
            if result.is_ok() {
                break;
            }
        }
        result
    }

    /// Compares packs with the index, and reads what was asked for. Gives the packs that are missing or damaged.
    async fn check_packs(
        &self,
        fetcher: &Fetcher,
        request: &CheckRequest,
        named: &Named,
        progress: &Arc<Progress>,
        cancel: &CancellationToken,
        report: &mut CheckReport,
    ) -> Result<Broken, EngineError> {
        let listed = self.list_packs().await?;
        let mut broken = Broken::new();
        let mut whole = Vec::new();
        for found in fetcher.index.cache.packs() {
            let (_, info) = found?;
            let wrong = |what: String| (names::pack(&info.id), what);
            let why = match listed.get(&info.id) {
                _ if !named.packs.contains(&info.id) => named.why_not(),
                Some(len) if *len == info.len => {
                    whole.push(Arc::new(info));
                    continue;
                }
                Some(len) => wrong(format!("is {len} bytes long instead of {}", info.len)),
                None => wrong(MISSING.to_owned()),
            };
            broken.insert(info.id, why);
        }
        report.packs = named.packs.len() as u64;
        let stray = listed.keys().filter(|id| !named.packs.contains(*id)).count();
        if stray > 0 {
            report
                .warnings
                .push(format!("{stray} packs are named by no index segment; interrupted backups leave such"));
        }
        let chosen = self.choose(request, whole);
        progress.set_totals(chosen.len() as u64, chosen.iter().map(|info| info.len).sum());
        let mut reads = futures::stream::iter(chosen)
            .map(|info| async move { (self.read_pack(fetcher, Arc::clone(&info)).await, info) })
            .buffer_unordered(PACKS_AT_ONCE);
        while let Some((read, info)) = reads.next().await {
            if cancel.is_cancelled() {
                return Err(EngineError::Interrupted);
            }
            progress.add_entries(1);
            progress.add_len(info.len);
            report.read_len += info.len;
            match read {
                Ok(()) => {}
                Err(error) if error.kind() == Kind::Damaged => {
                    broken.insert(info.id, (names::pack(&info.id), detail(&error)));
                }
                Err(error) => report.unclear.push(error.to_string()),
            }
        }
        Ok(broken)
    }

    fn choose(&self, request: &CheckRequest, whole: Vec<Arc<PackInfo>>) -> Vec<Arc<PackInfo>> {
        let Some(subset) = request.read_data else { return Vec::new() };
        let total: u64 = whole.iter().map(|info| info.len).sum();
        let wanted = match subset {
            Subset::All => return whole,
            Subset::Part { n, of } => {
                let part = |info: &PackInfo| info.id.0.first_chunk::<4>().map_or(0, |bytes| u32::from_be_bytes(*bytes));
                return whole.into_iter().filter(|info| part(info) % of.max(1) == n.saturating_sub(1)).collect();
            }
            Subset::Percent(percent) => (total as f64 * percent / 100.0) as u64,
            Subset::Len(len) => len,
        };
        let mut drawn: Vec<_> = whole.into_iter().map(|info| (crate::objects::random::<8>(&self.env), info)).collect();
        drawn.sort_by_key(|(lot, _)| *lot);
        let mut len = 0;
        let enough = |info: &Arc<PackInfo>| {
            let is_wanted = len < wanted;
            len += info.len;
            is_wanted
        };
        drawn.into_iter().map(|(_, info)| info).take_while(enough).collect()
    }

    /// Reads a whole pack, once more if something is wrong with it.
    async fn read_pack(&self, fetcher: &Fetcher, info: Arc<PackInfo>) -> Result<(), EngineError> {
        let name = names::pack(&info.id);
        let mut result = Ok(());
        for _ in 0..READS_MAX {
            let bytes = self.store.get(&name).await?;
            let (keyring, namer, info) = (Arc::clone(&fetcher.keyring), fetcher.namer.clone(), Arc::clone(&info));
            result = fetcher.offload.start(move || read_pack(&keyring, namer.as_ref(), &info, &bytes)).await?;
            if result.is_ok() {
                break;
            }
        }
        result
    }

    /// Walks the structure of every snapshot once; gives the chunks that cannot be had.
    async fn check_trees(
        &self,
        fetcher: &Fetcher,
        snapshots: &[SnapshotInfo],
        named: &Named,
        broken: &Broken,
        cancel: &CancellationToken,
        report: &mut CheckReport,
    ) -> Result<BTreeMap<ChunkId, Wrong>, EngineError> {
        let roots = snapshots
            .iter()
            .flat_map(|info| &info.snapshot.structure.components)
            .filter_map(|component| component.root);
        let mut todo: Vec<ChunkId> = roots.collect();
        let mut seen: HashSet<ChunkId> = todo.iter().copied().collect();
        let mut leaves = Vec::new();
        let (mut missing, mut unread) = (BTreeMap::new(), Vec::new());
        while let Some(id) = todo.pop() {
            if cancel.is_cancelled() {
                return Err(EngineError::Interrupted);
            }
            report.chunks += 1;
            leaves.push(id);
            match self.structure(fetcher, id).await {
                Ok(page) => {
                    for child in page.children.iter().filter(|child| child.kind != ChildKind::Hole) {
                        match child.kind {
                            ChildKind::Page if seen.insert(child.id) => todo.push(child.id),
                            ChildKind::Page => {}
                            _ => leaves.push(child.id),
                        }
                    }
                }
                Err(error) if error.kind() == Kind::Damaged => unread.push((id, error.to_string())),
                Err(error) => report.unclear.push(error.to_string()),
            }
            if leaves.len() >= LOOKUP_BATCH {
                look_up(fetcher, std::mem::take(&mut leaves), named, broken, report, &mut missing).await?;
            }
        }
        look_up(fetcher, leaves, named, broken, report, &mut missing).await?;
        for (id, what) in unread {
            missing.entry(id).or_insert_with(|| (format!("page {id}"), what));
        }
        Ok(missing)
    }

    /// A page's structure as the store has it, not as this host remembers it.
    async fn structure(&self, fetcher: &Fetcher, id: ChunkId) -> Result<Structure, EngineError> {
        let bytes = fetcher.chunk(id).await?;
        Structure::decode(&bytes).map_err(EngineError::object(format!("page {id}")))
    }

    /// Turns chunks that cannot be had into damages which name the objects, and what needs them.
    async fn name_what_breaks(
        &self,
        fetcher: &Fetcher,
        snapshots: &[SnapshotInfo],
        missing: &BTreeMap<ChunkId, Wrong>,
        report: &mut CheckReport,
    ) {
        let mut damages: BTreeMap<Wrong, Vec<String>> =
            missing.values().map(|wrong| (wrong.clone(), Vec::new())).collect();
        for info in snapshots {
            let short: String = info.id.to_string().chars().take(8).collect();
            for wrong in broken_pages(fetcher, info, missing).await {
                damages.entry(wrong).or_default().push(format!("{short} (names and metadata)"));
            }
            if self.keyring.opens_content()
                && let Ok(affected) = affected_paths(fetcher, info, missing).await
            {
                for (wrong, path) in affected {
                    let shown = format!("{short}:{}", source::entry::escaped(&path));
                    damages.entry(wrong).or_default().push(shown);
                }
                continue;
            }
            damages.values_mut().for_each(|affects| affects.push(format!("{short} (perhaps)")));
        }
        for ((object, what), mut affects) in damages {
            affects.truncate(AFFECTED_MAX);
            // A damaged segment was noted when it was read; now its consequences are known.
            match report.damages.iter_mut().find(|damage| damage.object == object && damage.what == what) {
                Some(damage) => damage.affects = affects,
                None => report.damages.push(Damage { object, what, affects }),
            }
        }
    }
}

impl CheckReport {
    fn damage(&mut self, object: &str, what: &str) {
        self.damages.push(Damage { object: object.to_owned(), what: what.to_owned(), affects: Vec::new() });
    }

    /// Notes packs that are not right although no snapshot needs them.
    fn note_unneeded(&mut self, named: &Named, broken: &Broken) {
        let mut others: Vec<&Wrong> =
            broken.iter().filter(|(id, _)| named.packs.contains(*id)).map(|(_, wrong)| wrong).collect();
        others.retain(|(object, _)| self.damages.iter().all(|damage| damage.object != *object));
        others.sort();
        for (object, what) in others {
            if what == MISSING {
                self.warnings.push(format!("{object} {what}, and no snapshot needs it"));
            } else {
                self.damage(object, what);
            }
        }
    }
}

/// What is wrong, without the object's name in front.
fn detail(error: &EngineError) -> String {
    match error {
        EngineError::Object { source, .. } => source.to_string(),
        other => other.to_string(),
    }
}

/// Looks chunks up and adds those that cannot be had to `missing`.
async fn look_up(
    fetcher: &Fetcher,
    ids: Vec<ChunkId>,
    named: &Named,
    broken: &Broken,
    report: &mut CheckReport,
    missing: &mut BTreeMap<ChunkId, Wrong>,
) -> Result<(), EngineError> {
    report.chunks += ids.len() as u64;
    let index = fetcher.index.clone();
    let (ids, places) = fetcher
        .offload
        .start(move || {
            let places = index.cache.lookup(&ids);
            (ids, places)
        })
        .await?;
    for (id, places) in ids.iter().zip(places?) {
        let mut why = None;
        let mut is_there = false;
        for place in &places {
            let pack = fetcher.index.pack(place.pack)?;
            match broken.get(&pack.id) {
                None => is_there = true,
                Some(wrong) => why = Some(wrong.clone()),
            }
        }
        if !is_there && !missing.contains_key(id) {
            missing.insert(*id, why.unwrap_or_else(|| named.why_not()));
        }
    }
    Ok(())
}

/// What is wrong with pages of entries of one snapshot. A local cache may still know such pages; other hosts do not.
async fn broken_pages(fetcher: &Fetcher, info: &SnapshotInfo, missing: &BTreeMap<ChunkId, Wrong>) -> BTreeSet<Wrong> {
    let mut todo: Vec<ChunkId> =
        info.snapshot.structure.components.iter().filter_map(|component| component.root).collect();
    let mut found = BTreeSet::new();
    while let Some(id) = todo.pop() {
        found.extend(missing.get(&id).cloned());
        let Ok(page) = load_structure(fetcher, id).await else { continue };
        found.extend(page.body().and_then(|body| missing.get(&body)).cloned());
        if page.kind == PageKind::Directory {
            todo.extend(page.content().iter().map(|child| child.id));
        }
    }
    found
}

/// Paths of one snapshot that need a missing chunk, with what is wrong with it.
async fn affected_paths(
    fetcher: &Fetcher,
    info: &SnapshotInfo,
    missing: &BTreeMap<ChunkId, Wrong>,
) -> Result<Vec<(Wrong, Vec<u8>)>, EngineError> {
    let mut affected = Vec::new();
    for component in &info.snapshot.structure.components {
        let mut entries = entries_of(fetcher.clone(), component.root, Scope::new(b""));
        while let Some(full) = entries.try_next().await? {
            let mut leaves = leaves_of(fetcher.clone(), full.children.clone());
            let mut found = full.children.iter().find_map(|child| missing.get(&child.id));
            while found.is_none()
                && let Some(leaf) = leaves.try_next().await?
            {
                found = missing.get(&leaf.id);
            }
            if let Some(wrong) = found {
                affected.push((wrong.clone(), full.entry.path));
            }
            if affected.len() >= AFFECTED_MAX {
                return Ok(affected);
            }
        }
    }
    Ok(affected)
}

/// Hashes a pack, opens its trailer and blobs, and names every chunk again, as far as the key can. CPU-bound.
fn read_pack(
    keyring: &crate::Keyring,
    namer: Option<&seal::ChunkNamer>,
    info: &PackInfo,
    bytes: &[u8],
) -> Result<(), EngineError> {
    let object = || EngineError::object(names::pack(&info.id));
    if PackId::of([bytes]) != info.id {
        return Err(object()(PackError::Hash));
    }
    let (rest, mark) = bytes.split_last_chunk::<{ pack::END_MARK_LEN }>().ok_or_else(|| object()(PackError::Hash))?;
    let trailer_len = pack::read_end_mark(mark).map_err(object())? as usize;
    let start = rest.len().checked_sub(trailer_len).ok_or_else(|| object()(PackError::Hash))?;
    let (blobs, sealed) = rest.split_at(start);
    let trailer =
        pack::read_trailer(sealed, |epoch| keyring.index_key_of(epoch), keyring.repository).map_err(object())?;
    if trailer.blobs != info.blobs || trailer.blobs_len() != blobs.len() as u64 {
        return Err(object()(PackError::Inconsistent { what: "its trailer differs from the index" }));
    }
    let Some(namer) = namer.filter(|_| keyring.opens_content()) else { return Ok(()) };
    for (row, blob) in trailer.blobs.iter().enumerate() {
        let end = blob.offset as usize + blob.sealed_len as usize;
        let sealed = blobs.get(blob.offset as usize..end).unwrap_or_default();
        let opened = open_blob(keyring, info, row as u32, sealed)?;
        let mut rest = opened.as_slice();
        for (id, len) in trailer.chunks_of(blob) {
            let (chunk, others) = rest.split_at_checked(*len as usize).unwrap_or((&[], rest));
            if namer.name(chunk) != *id {
                return Err(object()(PackError::Inconsistent { what: "a chunk does not hash to its id" }));
            }
            rest = others;
        }
    }
    Ok(())
}
