//! `stats`: what the repository holds, and what that takes.
//!
//! Never here: prices.

use futures::TryStreamExt;
use pack::PackClass;

use crate::repository::Repository;
use crate::{EngineError, SnapshotFilter};

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
        let snapshots = self.snapshots(&SnapshotFilter::default()).await?;
        stats.snapshots = snapshots.len() as u64;
        let components = snapshots.iter().flat_map(|info| &info.snapshot.structure.components);
        stats.protected_len = components.map(|component| component.content_len).sum();
        for pack in self.load_index().await?.packs()? {
            let (count, len) = match pack.class {
                PackClass::Data => (&mut stats.data_packs, &mut stats.data_packs_len),
                PackClass::Metadata => (&mut stats.metadata_packs, &mut stats.metadata_packs_len),
            };
            *count += 1;
            *len += pack.len;
            stats.blobs += pack.blobs.len() as u64;
            stats.chunks += pack.blobs.iter().map(|blob| u64::from(blob.chunk_count)).sum::<u64>();
            if pack.class == PackClass::Data {
                stats.unique_len += pack.blobs.iter().map(|blob| u64::from(blob.plain_len)).sum::<u64>();
                stats.sealed_len += pack.blobs.iter().map(|blob| u64::from(blob.sealed_len)).sum::<u64>();
            }
        }
        Ok(stats)
    }
}
