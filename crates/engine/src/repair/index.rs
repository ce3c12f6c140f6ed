//! `repair index`: segments for packs that none names, made of the packs' own trailers.
//!
//! ```text
//! segments ─► packs that are named    listed packs ─► those that are not ─ trailer ─► new segments
//! what segments say differently of one pack ─ trailer ─► which of them lies ─► rewritten without it
//! damaged segments ─► quarantine, once all that their packs hold is named
//! ```
//!
//! A pack that some check found damaged is read whole before it is named: so those that were given up in `repair packs` are
//! not named again.
//!
//! Invariant: condemned packs are never named again.
//! Never here: what is in the blobs.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use futures::{StreamExt, TryStreamExt};
use pack::{PackEntry, PackId, Role, Segment, names};
use store::{ObjectInfo, StoreError};
use tokio_util::sync::CancellationToken;

use super::Told;
use crate::repository::{REQUESTS_MAX, Repository, list};
use crate::{EngineError, Kind};

/// Packs in a segment.
const SEGMENT_PACKS_MAX: usize = 64;
/// Chunks in a segment, so that memory does not grow with how small chunks are.
const SEGMENT_CHUNKS_MAX: usize = 64 << 10;
/// How often an object that is not right is read.
const READS_MAX: usize = 2;

/// What a repair of the index would do.
#[derive(Debug, Clone, Default)]
pub struct IndexRepair {
    /// Packs that no segment names rightly and that can be named, with their lengths.
    pub packs: Vec<(PackId, u64)>,
    /// Chunks in them.
    pub chunk_count: u64,
    /// Segments that are damaged, and what is wrong.
    pub damaged: Told,
    /// Packs of which some segment says what the pack itself does not.
    pub lied_about: Vec<PackId>,
    /// Packs that no segment names and that cannot be named, and why.
    pub unreadable: Told,
    /// Packs that are going away and stay unnamed.
    pub condemned_count: u64,
    segments: Vec<ObjectInfo>,
}

/// What a repair of the index did.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct IndexRepaired {
    /// Packs named.
    pub pack_count: u64,
    /// Segments moved out of the way.
    pub quarantined_count: u64,
    /// Segments rewritten without what was wrong in them.
    pub rewritten_count: u64,
}

impl IndexRepair {
    /// Whether there is nothing to do.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.packs.is_empty() && self.damaged.is_empty() && self.lied_about.is_empty()
    }
}

impl Repository {
    /// Finds what the index lacks or says wrongly; nothing is changed.
    ///
    /// Reads every segment, lists the packs, and reads the trailer of each that no segment names.
    ///
    /// # Errors
    ///
    /// Those of the store.
    pub async fn plan_repair_index(&self, cancel: &CancellationToken) -> Result<IndexRepair, EngineError> {
        let mut survey = self.survey_segments().await?;
        let (_, condemned) = self.read_condemned().await?;
        let known_damaged = self.known_damaged().await?;
        let (mut plan, mut disputed, mut unnamed) = (IndexRepair::default(), Vec::new(), Vec::new());
        for info in list(&self.store, names::PACKS).await? {
            let Some(id) = PackId::from_hex(names::last(&info.name)) else { continue };
            if survey.disputed.contains(&id) {
                disputed.push((id, info.len));
            } else if condemned.contains(&id) {
                plan.condemned_count += u64::from(!survey.named.contains_key(&id));
            } else if !survey.named.contains_key(&id) {
                unnamed.push((id, info.len));
            }
        }
        let known_damaged = &known_damaged;
        let read = |(id, len): (PackId, u64)| async move {
            let is_suspect = known_damaged.contains(&id.half());
            Ok::<_, EngineError>((self.read_own_entry(id, len, is_suspect).await?, id, len))
        };
        let mut reads = futures::stream::iter(unnamed).map(read).buffered(REQUESTS_MAX);
        while let Some((read, id, len)) = reads.try_next().await? {
            if cancel.is_cancelled() {
                return Err(EngineError::Interrupted);
            }
            match read {
                Ok(Some(entry)) => {
                    plan.chunk_count += entry.trailer.chunks.len() as u64;
                    plan.packs.push((id, len));
                }
                Ok(None) => {}
                Err(why) => plan.unreadable.add(names::pack(&id), why),
            }
        }
        for (id, len) in disputed {
            match self.read_own_entry(id, len, false).await? {
                Ok(Some(_)) => plan.lied_about.push(id),
                Ok(None) => {}
                Err(why) => plan.unreadable.add(names::pack(&id), why),
            }
        }
        for (info, what) in std::mem::take(&mut survey.damaged) {
            plan.damaged.add(&info.name, what);
            plan.segments.push(info);
        }
        Ok(plan)
    }

    /// What a pack says of itself; none if it is gone; or why it cannot be named. A suspect is read whole.
    async fn read_own_entry(
        &self,
        id: PackId,
        len: u64,
        is_suspect: bool,
    ) -> Result<Result<Option<PackEntry>, String>, EngineError> {
        let mut why = String::new();
        for _ in 0..READS_MAX {
            let read = async {
                if is_suspect && !self.is_whole(id).await? {
                    return Err(EngineError::object(names::pack(&id))(pack::PackError::Hash));
                }
                self.read_pack_entry(id, len).await
            };
            match read.await {
                Ok(entry) => return Ok(Ok(Some(entry))),
                Err(EngineError::Store(StoreError::NotFound { .. })) => return Ok(Ok(None)),
                Err(EngineError::Object { source, .. }) => why = source.to_string(),
                Err(error) if error.kind() == Kind::Damaged => why = error.to_string(),
                Err(error) => return Err(error),
            }
        }
        Ok(Err(why))
    }

    /// Whether a pack hashes to its name.
    async fn is_whole(&self, id: PackId) -> Result<bool, EngineError> {
        let bytes = self.store.get(&names::pack(&id)).await?;
        self.offload.start(move || PackId::of([bytes.as_ref()]) == id).await
    }

    /// Does what was planned, as far as it is still so.
    ///
    /// # Errors
    ///
    /// [`EngineError::Role`] if this key may not publish segments, or take damaged ones away; those of the store. What was
    /// done before an error stays done, and doing it again is harmless.
    pub async fn repair_index(
        &self,
        plan: &IndexRepair,
        host: &str,
        cancel: &CancellationToken,
    ) -> Result<IndexRepaired, EngineError> {
        self.keyring.require(&[Role::Owner, Role::Writer], "repair the index")?;
        if !plan.segments.is_empty() || !plan.lied_about.is_empty() {
            self.require_owner("take damaged index segments away")?;
        }
        self.as_writer(host, cancel, async |condemned| self.do_repair_index(plan, &condemned, cancel).await).await
    }

    async fn do_repair_index(
        &self,
        plan: &IndexRepair,
        condemned: &HashSet<PackId>,
        cancel: &CancellationToken,
    ) -> Result<IndexRepaired, EngineError> {
        let mut done = IndexRepaired::default();
        // Before anything is published: only these are rewritten.
        let listed = list(&self.store, names::INDEX).await?;
        let known_damaged = self.known_damaged().await?;
        let (mut batch, mut truth) = (Vec::new(), HashMap::new());
        let unnamed = plan.packs.iter().map(|(id, _)| (*id, false));
        for (id, is_disputed) in unnamed.chain(plan.lied_about.iter().map(|id| (*id, true))) {
            if cancel.is_cancelled() {
                return Err(EngineError::Interrupted);
            }
            if condemned.contains(&id) {
                continue;
            }
            let Some(info) = self.store.head(&names::pack(&id)).await? else { continue };
            let is_suspect = known_damaged.contains(&id.half());
            let Ok(Some(entry)) = self.read_own_entry(id, info.len, is_suspect).await? else { continue };
            if is_disputed {
                truth.insert(id, entry.said().map_err(EngineError::object(names::INDEX))?);
            }
            batch.push(entry);
            if is_full(&batch) {
                done.pack_count += self.publish_batch(&mut batch).await?;
            }
        }
        done.pack_count += self.publish_batch(&mut batch).await?;
        for info in &plan.segments {
            done.quarantined_count += u64::from(self.quarantine_segment(info).await?);
        }
        if !truth.is_empty() {
            let is_true = |entry: &PackEntry| truth.get(&entry.id).is_none_or(|own| entry.said().as_ref() == Ok(own));
            done.rewritten_count = self.drop_entries(&listed, is_true).await?;
            self.cache.allow(self.cache.now().make_anew());
        }
        Ok(done)
    }

    async fn publish_batch(&self, batch: &mut Vec<PackEntry>) -> Result<u64, EngineError> {
        let packs = std::mem::take(batch);
        let count = packs.len() as u64;
        if count > 0 {
            let domain = self.keyring.certificate.domain;
            self.publish(&Arc::new(Segment { packs, replaces: Vec::new(), domain }), &self.cache.now()).await?;
        }
        Ok(count)
    }
}

/// Whether a segment of these should be published.
pub(super) fn is_full(batch: &[PackEntry]) -> bool {
    let chunks: usize = batch.iter().map(|entry| entry.trailer.chunks.len()).sum();
    batch.len() >= SEGMENT_PACKS_MAX || chunks >= SEGMENT_CHUNKS_MAX
}
