//! `repair packs`: what is left of damaged packs goes into new ones, and the damaged ones are named no more.
//!
//! ```text
//! damaged pack ─ read again ─► blobs that verify and lie nowhere else ─► new pack ─► new segment
//!                          └─► segments that name it ─► rewritten without it        (the pack itself stays in the store)
//! described falsely ─► a segment of its own table, and the false entries rewritten away
//! ```
//!
//! Quarantine: a damaged pack that no segment names is used by nobody. It is deleted by prune, or by a person.
//!
//! Invariant: a pack loses its names only after all that verifies in it is named elsewhere.
//! Invariant: a pack is acted upon only if it is damaged when it is read again.
//! Never here: what a lost chunk breaks (see `snapshots`).

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

use bytes::Bytes;
use pack::{PackBuilder, PackClass, PackEntry, PackId, Segment, names};
use seal::ChunkId;
use store::{ObjectInfo, StoreError};
use tokio_util::sync::CancellationToken;

use super::index::is_full;
use super::salvage::{Salvage, own_table, salvage};
use super::survey::SegmentRead;
use crate::check::{DamagedPacks, Harm, Suspects, elsewhere};
use crate::objects::random;
use crate::repository::{Repository, list};
use crate::{EngineError, Progress};

/// What a repair would do about one pack.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PackRepair {
    /// The pack.
    pub id: PackId,
    /// What is wrong with it.
    pub what: String,
    /// Chunks that are copied out of it.
    pub saved_count: u64,
    /// Bytes of the blobs that hold them.
    pub saved_len: u64,
    /// Chunks that were in it and are nowhere.
    pub lost_count: u64,
}

/// What a repair of packs would do.
#[derive(Debug, Clone, Default)]
pub struct PacksRepair {
    /// The damaged packs.
    pub packs: Vec<PackRepair>,
    /// What the store did not let be looked at.
    pub unclear: Vec<String>,
}

/// What a repair of packs did.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PacksRepaired {
    /// The packs that are named no more, or truly now.
    pub packs: Vec<PackRepair>,
    /// Packs written.
    pub pack_count: u64,
    /// Segments rewritten.
    pub rewritten_count: u64,
    /// What everybody should know.
    pub warnings: Vec<String>,
}

impl PacksRepair {
    /// Whether there is nothing to do.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.packs.is_empty()
    }
}

/// A damaged pack as it was taken apart.
struct Parts {
    entry: PackEntry,
    domain: [u8; 16],
    salvage: Salvage,
    /// Its own table, where the index says something else.
    truth: Option<PackEntry>,
    repair: PackRepair,
}

impl Repository {
    /// Finds damaged packs and what is left of them; nothing is changed. Packs are read that a check found damaged before,
    /// or all.
    ///
    /// # Errors
    ///
    /// [`EngineError::Request`] if the index is damaged, which comes first; those of the store.
    pub async fn plan_repair_packs(
        &self,
        reads_all: bool,
        progress: &Arc<Progress>,
        cancel: &CancellationToken,
    ) -> Result<PacksRepair, EngineError> {
        let suspects = if reads_all { Suspects::All } else { Suspects::Known };
        let found = self.find_damaged_packs(suspects, progress, cancel).await?;
        refuse_damaged_index(&found)?;
        let mut plan = PacksRepair { packs: Vec::new(), unclear: found.unclear.clone() };
        let listed = list(&self.store, names::INDEX).await?;
        self.take_apart(&found, &listed, &HashSet::new(), cancel, async |parts| {
            plan.packs.push(parts.repair);
            Ok(())
        })
        .await?;
        plan.packs.sort_unstable_by_key(|pack| pack.id);
        Ok(plan)
    }

    /// Does what was planned, as far as it is still so.
    ///
    /// # Errors
    ///
    /// [`EngineError::Role`] if this key is not the owner's; those of the store. What was done before an error stays done,
    /// and doing it again goes on from there.
    pub async fn repair_packs(
        &self,
        plan: &PacksRepair,
        host: &str,
        progress: &Arc<Progress>,
        cancel: &CancellationToken,
    ) -> Result<PacksRepaired, EngineError> {
        self.require_owner("repair packs")?;
        let work = async |condemned| self.do_repair_packs(plan, &condemned, progress, cancel).await;
        self.as_writer(host, cancel, work).await
    }

    async fn do_repair_packs(
        &self,
        plan: &PacksRepair,
        condemned: &HashSet<PackId>,
        progress: &Arc<Progress>,
        cancel: &CancellationToken,
    ) -> Result<PacksRepaired, EngineError> {
        // Before anything is published: only these are rewritten.
        let listed = list(&self.store, names::INDEX).await?;
        let these: HashSet<PackId> = plan.packs.iter().map(|pack| pack.id).collect();
        let mut found = self.find_damaged_packs(Suspects::These(&these), progress, cancel).await?;
        refuse_damaged_index(&found)?;
        let (mut done, mut copy) = (PacksRepaired::default(), Copying::new(self));
        let (mut gone, mut truths) = (HashSet::new(), HashMap::new());
        self.take_apart(&found, &listed, condemned, cancel, async |parts| {
            let Parts { entry, domain, salvage, truth, repair } = parts;
            match truth {
                Some(truth) => {
                    truths.insert(truth.id, truth.said().map_err(EngineError::object(names::INDEX))?);
                    copy.name(domain, truth).await?;
                }
                None => {
                    gone.insert(entry.id);
                    copy.carry(domain, entry.trailer.class, salvage).await?;
                }
            }
            done.packs.push(repair);
            Ok(())
        })
        .await?;
        done.pack_count = copy.finish().await?;
        let keeps = |entry: &PackEntry| {
            !gone.contains(&entry.id) && truths.get(&entry.id).is_none_or(|truth| entry.said().as_ref() == Ok(truth))
        };
        // First what is known of them: nobody must name them again unread.
        done.warnings = self.remember_damaged_packs(&mut found).await;
        if !done.packs.is_empty() {
            done.rewritten_count = self.drop_entries(&listed, keeps).await?;
        }
        if !truths.is_empty() {
            self.cache.allow(self.cache.now().make_anew());
        }
        Ok(done)
    }

    /// Shows every damaged pack that is not condemned, with what is left of it.
    async fn take_apart(
        &self,
        found: &DamagedPacks,
        listed: &[ObjectInfo],
        condemned: &HashSet<PackId>,
        cancel: &CancellationToken,
        mut show: impl AsyncFnMut(Parts) -> Result<(), EngineError>,
    ) -> Result<(), EngineError> {
        let mut left: HashMap<PackId, (Harm, &str)> = HashMap::new();
        for pack in found.damaged.iter().filter(|pack| !condemned.contains(&pack.id)) {
            left.insert(pack.id, (pack.harm, pack.what.as_str()));
        }
        let mut saved = HashSet::new();
        for info in listed {
            if left.is_empty() {
                break;
            }
            let SegmentRead::Right(segment) = self.survey_segment(info).await? else { continue };
            for entry in segment.packs {
                if cancel.is_cancelled() {
                    return Err(EngineError::Interrupted);
                }
                let Some((harm, what)) = left.remove(&entry.id) else { continue };
                let parts = self.take_one_apart(found, entry, segment.domain, (harm, what), &mut saved).await?;
                if let Some(parts) = parts {
                    show(parts).await?;
                }
            }
        }
        Ok(())
    }

    /// Reads a damaged pack once more. None if it is not there to be described.
    async fn take_one_apart(
        &self,
        found: &DamagedPacks,
        entry: PackEntry,
        domain: [u8; 16],
        (harm, what): (Harm, &str),
        saved: &mut HashSet<ChunkId>,
    ) -> Result<Option<Parts>, EngineError> {
        let bytes = match self.store.get(&names::pack(&entry.id)).await {
            Ok(bytes) => bytes,
            Err(StoreError::NotFound { .. }) => Bytes::new(),
            Err(error) if error.kind() == store::Kind::Damaged => Bytes::new(),
            Err(error) => return Err(error.into()),
        };
        let mut repair =
            PackRepair { id: entry.id, what: what.to_owned(), saved_count: 0, saved_len: 0, lost_count: 0 };
        let keyring = Arc::clone(&found.fetcher.keyring);
        if harm == Harm::Described {
            let own = self.offload.start(move || (own_table(&keyring, &bytes), bytes.len() as u64)).await?;
            let (Some(trailer), len) = own else { return Ok(None) };
            let truth = Some(PackEntry { id: entry.id, len, trailer });
            return Ok(Some(Parts { entry, domain, salvage: Salvage::default(), truth, repair }));
        }
        let namer = found.fetcher.namer.clone();
        let work = move || (salvage(&keyring, namer.as_ref(), &entry, &bytes), entry);
        let (mut salvage, entry) = self.offload.start(work).await?;
        let ids = salvage.blobs.iter().flat_map(|blob| &blob.chunks).map(|(id, _)| *id);
        let ids: Vec<ChunkId> = ids.chain(salvage.named.iter().copied()).collect();
        let elsewhere = elsewhere(found, ids).await?;
        salvage.blobs.retain(|blob| {
            let brings = blob.chunks.iter().any(|(id, _)| !elsewhere.contains(id) && !saved.contains(id));
            if brings {
                saved.extend(blob.chunks.iter().map(|(id, _)| *id));
                repair.saved_count += blob.chunks.len() as u64;
                repair.saved_len += u64::from(blob.row.sealed_len);
            }
            brings
        });
        let lost: HashSet<_> =
            salvage.named.iter().filter(|id| !elsewhere.contains(*id) && !saved.contains(*id)).collect();
        repair.lost_count = lost.len() as u64;
        Ok(Some(Parts { entry, domain, salvage, truth: None, repair }))
    }
}

fn refuse_damaged_index(found: &DamagedPacks) -> Result<(), EngineError> {
    match found.wrong_segments.first() {
        None => Ok(()),
        Some(wrong) => {
            let what = format!("{} {}: repair the index first", wrong.object, wrong.what);
            Err(EngineError::Request { what })
        }
    }
}

/// Writes what was saved into new packs, and names them.
struct Copying<'a> {
    repository: &'a Repository,
    open: BTreeMap<([u8; 16], u8), PackBuilder<Bytes>>,
    stored: BTreeMap<[u8; 16], Vec<PackEntry>>,
    pack_count: u64,
}

impl<'a> Copying<'a> {
    const fn new(repository: &'a Repository) -> Self {
        Self { repository, open: BTreeMap::new(), stored: BTreeMap::new(), pack_count: 0 }
    }

    /// Takes the blobs of a pack; stores packs that are full.
    async fn carry(&mut self, domain: [u8; 16], class: PackClass, salvage: Salvage) -> Result<(), EngineError> {
        let epoch = self.repository.keyring.epoch();
        for blob in salvage.blobs {
            let builder = self.open.entry((domain, class as u8));
            let builder = builder.or_insert_with(|| PackBuilder::carrying(class, epoch));
            builder
                .carry(blob.bytes, &blob.row, &blob.seal, &blob.chunks)
                .map_err(EngineError::object("a new pack"))?;
            if builder.len() >= u64::from(self.repository.config.pack_len) {
                self.store((domain, class as u8)).await?;
            }
        }
        Ok(())
    }

    async fn store(&mut self, key: ([u8; 16], u8)) -> Result<(), EngineError> {
        let Some(builder) = self.open.remove(&key).filter(|builder| !builder.is_empty()) else { return Ok(()) };
        let repository = self.repository;
        let (index_key, salt) = (repository.keyring.index_key()?, random(&repository.env));
        let id = repository.config.repository;
        let finished = repository.offload.start(move || builder.finish(&index_key, salt, id)).await?;
        let finished = finished.map_err(EngineError::object("a new pack"))?;
        let entry = repository.pack_puts()?.put(finished).await?;
        self.pack_count += 1;
        self.name(key.0, entry).await
    }

    /// Names a pack that is stored, now or with others.
    async fn name(&mut self, domain: [u8; 16], entry: PackEntry) -> Result<(), EngineError> {
        let stored = self.stored.entry(domain).or_default();
        stored.push(entry);
        if is_full(stored) { self.publish(domain).await } else { Ok(()) }
    }

    async fn publish(&mut self, domain: [u8; 16]) -> Result<(), EngineError> {
        let packs = self.stored.remove(&domain).unwrap_or_default();
        if !packs.is_empty() {
            let segment = Arc::new(Segment { packs, replaces: Vec::new(), domain });
            self.repository.publish(&segment, &self.repository.cache.now()).await?;
        }
        Ok(())
    }

    /// Stores and names all that is left; gives the packs written.
    async fn finish(mut self) -> Result<u64, EngineError> {
        for key in self.open.keys().copied().collect::<Vec<_>>() {
            self.store(key).await?;
        }
        for domain in self.stored.keys().copied().collect::<Vec<_>>() {
            self.publish(domain).await?;
        }
        Ok(self.pack_count)
    }
}
