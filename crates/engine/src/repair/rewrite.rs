//! Segments without the entries that are not to be followed any more, and damaged ones out of the way.
//!
//! ```text
//! segment ─ read again ─► the entries to keep ─► a new segment that names the old one ─► the old one is deleted
//! damaged segment ─ read again ─► quarantine/index/<id> with its very bytes ─► the damaged one is deleted
//! ```
//!
//! Invariant: a segment is deleted only after one was acknowledged that holds every entry of it that is to be kept.
//! Invariant: only segments that were read by this very run are deleted.
//! Never here: which entries those are.

use std::sync::Arc;

use bytes::Bytes;
use pack::{PackEntry, Segment, SegmentId, names};
use store::{ObjectInfo, Put, StoreError};

use super::survey::SegmentRead;
use crate::EngineError;
use crate::repository::Repository;

/// Prefix of what was moved out of the way. It is nobody's business but people's.
const QUARANTINE: &str = "quarantine";

impl Repository {
    /// Rewrites those of `listed` segments of which `keeps` does not keep every entry; gives how many those were.
    pub(super) async fn drop_entries(
        &self,
        listed: &[ObjectInfo],
        keeps: impl Fn(&PackEntry) -> bool,
    ) -> Result<u64, EngineError> {
        let mut count = 0;
        for info in listed {
            let SegmentRead::Right(segment) = self.survey_segment(info).await? else { continue };
            let Segment { packs, domain, .. } = *segment;
            let before = packs.len();
            let packs: Vec<PackEntry> = packs.into_iter().filter(&keeps).collect();
            let Some(id) = SegmentId::from_hex(names::last(&info.name)).filter(|_| packs.len() < before) else {
                continue;
            };
            if !packs.is_empty() {
                let segment = Arc::new(Segment { packs, replaces: vec![id], domain });
                self.publish(&segment, &self.cache.now()).await?;
            }
            self.store.delete(&info.name).await?;
            count += 1;
        }
        Ok(count)
    }

    /// Moves a damaged segment out of the way, byte for byte; false if it is right or gone when it is read again.
    pub(super) async fn quarantine_segment(&self, info: &ObjectInfo) -> Result<bool, EngineError> {
        let SegmentRead::Damaged(_) = self.survey_segment(info).await? else { return Ok(false) };
        let bytes = match self.store.get(&info.name).await {
            Ok(bytes) => bytes,
            Err(StoreError::NotFound { .. }) => return Ok(false),
            Err(error) => return Err(error.into()),
        };
        let name = format!("{QUARANTINE}/{}", info.name);
        if !self.is_stored(&name, bytes).await? {
            return Err(EngineError::Request { what: format!("{name} is there already and holds something else") });
        }
        self.store.delete(&info.name).await?;
        Ok(true)
    }

    async fn is_stored(&self, name: &str, bytes: Bytes) -> Result<bool, EngineError> {
        match self.store.put_new(name, vec![bytes.clone()]).await? {
            Put::Created => Ok(true),
            Put::AlreadyThere => Ok(self.store.get(name).await? == bytes),
        }
    }
}
