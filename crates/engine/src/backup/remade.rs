//! A component made again out of entries of a snapshot, without what is lost of it.
//!
//! ```text
//! entries of the old snapshot ─ which stay ─► looked up (W3) ─► pages ─► packer
//!                                              └ not there, or going away ─► read, and stored again
//! ```
//!
//! Invariant: an entry is taken over only if everything that it names lies in a pack that exists and is not condemned, or is stored
//! again by this very run.
//! Never here: which entries stay, committing.

use std::sync::Arc;

use futures::StreamExt;
use futures::stream::BoxStream;
use pack::manifest::{Child, ChildKind, TreeRoot};
use pack::{BlobKind, PackError};
use seal::{ChunkId, ChunkNamer};
use tokio::sync::Mutex;
use tokio_util::sync::CancellationToken;

use crate::backup::assemble::{Assembler, Order};
use crate::backup::batch::{Batch, Item};
use crate::backup::files::Problems;
use crate::backup::name::Named;
use crate::backup::packer::{Packer, Part};
use crate::backup::upload::Uploader;
use crate::budget::Held;
use crate::entries::{FullEntry, pages_and_leaves};
use crate::fetch::Fetcher;
use crate::index::Index;
use crate::repository::Repository;
use crate::{EngineError, Progress};

/// How hard pages are compressed.
const LEVEL: i32 = 3;
/// Entries handed on at once.
const ENTRIES_MAX: usize = 256;

/// Makes components again, one after the other.
pub(crate) struct Remaking<'a> {
    repository: &'a Repository,
    packer: Mutex<Packer<'a>>,
    index: Index,
    namer: ChunkNamer,
    progress: Arc<Progress>,
    cancel: CancellationToken,
    number: usize,
}

impl<'a> Remaking<'a> {
    pub(crate) fn new(
        repository: &'a Repository,
        index: Index,
        progress: &Arc<Progress>,
        cancel: &CancellationToken,
    ) -> Result<Self, EngineError> {
        let uploader = Uploader::new(repository, index.clone(), Arc::clone(progress))?;
        let packer = Mutex::new(Packer::new(repository, uploader, LEVEL, false)?);
        let namer = repository.keyring.namer()?;
        let (progress, cancel) = (Arc::clone(progress), cancel.clone());
        Ok(Self { repository, packer, index, namer, progress, cancel, number: 0 })
    }

    /// Makes a component of `entries`, which come in order.
    pub(crate) async fn component(
        &mut self,
        fetcher: &Fetcher,
        mut entries: BoxStream<'_, Result<FullEntry, EngineError>>,
    ) -> Result<TreeRoot, EngineError> {
        let of = (self.number, Order::Sorted);
        self.number += 1;
        let (index, progress) = (self.index.clone(), Arc::clone(&self.progress));
        let mut assembler = Assembler::new(&self.packer, self.repository, of, index, progress, Problems::default())?;
        let mut batch = Batch::new(Held::none());
        while let Some(full) = entries.next().await.transpose()? {
            self.require_there(fetcher, &full, of.0).await?;
            batch.items.push(Item::Whole(Box::new(full.entry), full.children));
            if batch.items.len() >= ENTRIES_MAX {
                let full = std::mem::replace(&mut batch, Batch::new(Held::none()));
                assembler.take(Named { batch: full, ids: Vec::new() }).await?;
            }
        }
        assembler.take(Named { batch, ids: Vec::new() }).await?;
        Ok(assembler.finish().await?.0)
    }

    /// Stores again what an entry's content needs and no pack holds that may be referred to: pages that only this host
    /// remembers, and what a prune is moving.
    async fn require_there(&self, fetcher: &Fetcher, full: &FullEntry, component: usize) -> Result<(), EngineError> {
        let mut parts = pages_and_leaves(fetcher.clone(), full.children.clone());
        let mut batch: Vec<Child> = Vec::new();
        loop {
            let part = parts.next().await.transpose()?;
            let is_over = part.is_none();
            batch.extend(part.filter(|part| part.kind != ChildKind::Hole));
            if is_over || batch.len() >= ENTRIES_MAX {
                let ids: Vec<ChunkId> = batch.iter().map(|part| part.id).collect();
                let index = self.index.clone();
                let found = self.repository.offload.start(move || index.find(&ids)).await??;
                for (part, _) in batch.drain(..).zip(found).filter(|(_, place)| place.is_none()) {
                    if self.cancel.is_cancelled() {
                        return Err(EngineError::Interrupted);
                    }
                    self.store_again(fetcher, part, component).await?;
                }
            }
            if is_over {
                return Ok(());
            }
        }
    }

    async fn store_again(&self, fetcher: &Fetcher, part: Child, component: usize) -> Result<(), EngineError> {
        let (bytes, kind) = match part.kind {
            ChildKind::Page => (fetcher.page(part.id).await?, BlobKind::Structure),
            _ => (fetcher.chunk(part.id).await?, BlobKind::Data),
        };
        let (namer, id) = (self.namer.clone(), part.id);
        let named = bytes.clone();
        let name = move || if kind == BlobKind::Data { namer.name(&named) } else { namer.name_page(&named) };
        // Whoever stored it may have lied, and the cache may remember it wrongly: the owner is about to vouch for it.
        if self.repository.offload.start(name).await? != id {
            let what = "it is not what its id says";
            return Err(EngineError::object(format!("chunk {id}"))(PackError::Inconsistent { what }));
        }
        let part_of = Part { component, kind, is_fine: false };
        self.packer.lock().await.add(part_of, part.id, &bytes, Held::none()).await?;
        Ok(())
    }

    /// Stores and names all that is left; gives the bytes stored.
    pub(crate) async fn finish(self) -> Result<u64, EngineError> {
        let mut packer = self.packer.into_inner();
        packer.finish().await?;
        Ok(packer.stored().0)
    }
}
