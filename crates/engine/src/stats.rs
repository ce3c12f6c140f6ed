//! `stats`: what the repository holds, and what that takes.
//!
//! Invariant: one snapshot and one pack at a time are in memory, besides what a listing of packs takes.
//! Never here: prices.

use futures::TryStreamExt;
use pack::PackClass;
use store::index_cache::PackInfo;

use crate::repository::Repository;
use crate::snapshots::Origin;
use crate::{EngineError, SnapshotInfo};

/// Numbers about a repository. Lengths in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct RepositoryStats {
    /// Snapshots.
    pub snapshots: u64,
    /// Content of all snapshots, as if each were restored.
    pub protected_len: u64,
    /// Packs of data, and of metadata.
    pub data_packs: u64,
    /// Their bytes.
    pub data_packs_len: u64,
    /// Packs of metadata.
    pub metadata_packs: u64,
    /// Their bytes.
    pub metadata_packs_len: u64,
    /// Distinct content before compression.
    pub unique_len: u64,
    /// The same, sealed.
    pub sealed_len: u64,
    /// Chunks, content and pages.
    pub chunks: u64,
    /// Blobs.
    pub blobs: u64,
    /// Objects of every kind.
    pub objects: u64,
    /// Their bytes.
    pub stored_len: u64,
}

impl Repository {
    /// Counts what is there. LISTs everything once.
    ///
    /// # Errors
    ///
    /// Those of the store.
    pub async fn stats(&self) -> Result<RepositoryStats, EngineError> {
        let mut stats = RepositoryStats::default();
        let mut listed = self.store.list("");
        while let Some(info) = listed.try_next().await? {
            stats.objects += 1;
            stats.stored_len += info.len;
        }
        let visit = |name, read: Result<SnapshotInfo, _>| match read {
            Ok(info) => stats.add_snapshot(&info),
            Err(error) => tracing::warn!("{name} {error}; it is passed over, and check tells more"),
        };
        self.visit_snapshots(Origin::Memory, visit).await?;
        let index = self.load_index().await?;
        self.offload.start(move || index.each_pack().try_fold(stats, |stats, pack| Ok(stats.with_pack(&pack?)))).await?
    }
}

impl RepositoryStats {
    fn add_snapshot(&mut self, info: &SnapshotInfo) {
        self.snapshots += 1;
        let components = &info.snapshot.structure.components;
        self.protected_len += components.iter().map(|component| component.content_len).sum::<u64>();
    }

    fn with_pack(mut self, pack: &PackInfo) -> Self {
        let (count, len) = match pack.class {
            PackClass::Data => (&mut self.data_packs, &mut self.data_packs_len),
            PackClass::Metadata => (&mut self.metadata_packs, &mut self.metadata_packs_len),
        };
        *count += 1;
        *len += pack.len;
        self.blobs += pack.blobs.len() as u64;
        self.chunks += pack.blobs.iter().map(|blob| u64::from(blob.chunk_count)).sum::<u64>();
        if pack.class == PackClass::Data {
            self.unique_len += pack.blobs.iter().map(|blob| u64::from(blob.plain_len)).sum::<u64>();
            self.sealed_len += pack.blobs.iter().map(|blob| u64::from(blob.sealed_len)).sum::<u64>();
        }
        self
    }
}
