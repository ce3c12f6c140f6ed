//! `check`: prove that what is stored is whole.
//!
//! ```text
//! packs   every pack that a segment names is listed with its length; with --read-data every byte is hashed, and every
//!         blob opened and its chunks named again, where the key can
//! trees   every snapshot's pages are walked once; every chunk below is named by a segment and lies in a listed pack
//! ```
//!
//! A bad read is not a bad object: what fails is read once more before it is called damage.
//!
//! Invariant: nothing is changed.
//! Never here: repair.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

use futures::{StreamExt, TryStreamExt};
use pack::manifest::{ChildKind, Structure};
use pack::{PackError, PackId, names};
use seal::ChunkId;
use store::index_cache::PackInfo;
use tokio_util::sync::CancellationToken;

use crate::entries::{Scope, entries_of, leaves_of};
use crate::fetch::{Fetcher, open_blob};
use crate::repository::Repository;
use crate::{EngineError, Kind, Progress, SnapshotInfo};

/// Packs read at once.
const PACKS_AT_ONCE: usize = 3;
/// Paths named for one damage.
const AFFECTED_MAX: usize = 100;
/// Chunks looked up at once.
const LOOKUP_BATCH: usize = 4096;

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
        let fetcher = self.fetcher().await?;
        let broken = self.check_packs(&fetcher, &request, progress, &cancel, &mut report).await?;
        let (snapshots, damaged) = self.read_snapshots().await?;
        for (object, error) in damaged {
            report.damages.push(Damage { object, what: error.to_string(), affects: Vec::new() });
        }
        report.snapshots = snapshots.len() as u64;
        let missing = self.check_trees(&fetcher, &snapshots, &broken, &cancel, &mut report).await?;
        if !missing.is_empty() {
            self.name_what_breaks(&fetcher, &snapshots, &missing, &mut report).await;
        }
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

    /// Compares packs with the index, and reads what was asked for. Gives the packs that are missing or damaged.
    async fn check_packs(
        &self,
        fetcher: &Fetcher,
        request: &CheckRequest,
        progress: &Arc<Progress>,
        cancel: &CancellationToken,
        report: &mut CheckReport,
    ) -> Result<HashMap<PackId, String>, EngineError> {
        let listed = self.list_packs().await?;
        let mut broken = HashMap::new();
        let mut whole = Vec::new();
        let mut known = HashSet::new();
        for found in self.cache.packs() {
            let (_, info) = found?;
            known.insert(info.id);
            match listed.get(&info.id) {
                Some(len) if *len == info.len => whole.push(Arc::new(info)),
                Some(len) => drop(broken.insert(info.id, format!("is {len} bytes long instead of {}", info.len))),
                None => drop(broken.insert(info.id, "is missing".to_owned())),
            }
        }
        report.packs = known.len() as u64;
        let stray = listed.keys().filter(|id| !known.contains(*id)).count();
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
                Err(error) if error.kind() == Kind::Damaged => drop(broken.insert(info.id, detail(&error))),
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
        for _ in 0..2 {
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
        broken: &HashMap<PackId, String>,
        cancel: &CancellationToken,
        report: &mut CheckReport,
    ) -> Result<BTreeMap<ChunkId, String>, EngineError> {
        let roots = snapshots
            .iter()
            .flat_map(|info| &info.snapshot.structure.components)
            .filter_map(|component| component.root);
        let mut todo: Vec<ChunkId> = roots.collect();
        let mut seen: HashSet<ChunkId> = todo.iter().copied().collect();
        let mut leaves = Vec::new();
        let mut missing = BTreeMap::new();
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
                Err(error) if error.kind() == Kind::Damaged => drop(missing.insert(id, error.to_string())),
                Err(error) => report.unclear.push(error.to_string()),
            }
            if leaves.len() >= LOOKUP_BATCH {
                look_up(fetcher, std::mem::take(&mut leaves), broken, report, &mut missing).await?;
            }
        }
        look_up(fetcher, leaves, broken, report, &mut missing).await?;
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
        missing: &BTreeMap<ChunkId, String>,
        report: &mut CheckReport,
    ) {
        let mut damages: BTreeMap<String, Vec<String>> =
            missing.values().map(|what| (what.clone(), Vec::new())).collect();
        for info in snapshots {
            let short: String = info.id.to_string().chars().take(8).collect();
            if self.keyring.opens_content()
                && let Ok(affected) = affected_paths(fetcher, info, missing).await
            {
                for (what, path) in affected {
                    let shown = format!("{short}:{}", source::entry::escaped(&path));
                    damages.entry(what).or_default().push(shown);
                }
                continue;
            }
            damages.values_mut().for_each(|affects| affects.push(format!("{short} (perhaps)")));
        }
        for (what, mut affects) in damages {
            affects.truncate(AFFECTED_MAX);
            let (object, what) = what
                .split_once(' ')
                .map_or((what.clone(), String::new()), |(object, what)| (object.to_owned(), what.to_owned()));
            report.damages.push(Damage { object, what, affects });
        }
    }
}

impl CheckReport {
    fn damage(&mut self, object: &str, what: &str) {
        self.damages.push(Damage { object: object.to_owned(), what: what.to_owned(), affects: Vec::new() });
    }
}

/// What is wrong, without the object's name in front.
fn detail(error: &EngineError) -> String {
    match error {
        EngineError::Object { source, .. } => source.to_string(),
        other => other.to_string(),
    }
}

async fn look_up(
    fetcher: &Fetcher,
    ids: Vec<ChunkId>,
    broken: &HashMap<PackId, String>,
    report: &mut CheckReport,
    missing: &mut BTreeMap<ChunkId, String>,
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
                Some(what) => why = Some(format!("{} {what}", names::pack(&pack.id))),
            }
        }
        if !is_there && !missing.contains_key(id) {
            missing.insert(*id, why.unwrap_or_else(|| format!("chunk {id} is named by no index segment")));
        }
    }
    Ok(())
}

/// Paths of one snapshot that need a missing chunk, with what is wrong with it.
async fn affected_paths(
    fetcher: &Fetcher,
    info: &SnapshotInfo,
    missing: &BTreeMap<ChunkId, String>,
) -> Result<Vec<(String, Vec<u8>)>, EngineError> {
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
            if let Some(what) = found {
                affected.push((what.clone(), full.entry.path));
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
