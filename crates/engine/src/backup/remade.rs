//! A component made again out of entries of a snapshot, without what is lost of it.
//!
//! ```text
//! entries of the old snapshot ─ which stay ─► looked up (W3) ─► pages ─► packer
//! ```
//!
//! Invariant: an entry is taken over only if everything that it names lies in a pack that exists and is not condemned.
//! Never here: which entries stay, committing.

use std::sync::Arc;

use futures::StreamExt;
use futures::stream::BoxStream;
use pack::manifest::{ChildKind, TreeRoot};
use seal::ChunkId;
use tokio::sync::Mutex;

use crate::backup::assemble::{Assembler, Order};
use crate::backup::batch::{Batch, Item};
use crate::backup::files::Problems;
use crate::backup::name::Named;
use crate::backup::packer::Packer;
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
    progress: Arc<Progress>,
    number: usize,
}

impl<'a> Remaking<'a> {
    pub(crate) fn new(repository: &'a Repository, index: Index, progress: &Arc<Progress>) -> Result<Self, EngineError> {
        let uploader = Uploader::new(repository, index.clone(), Arc::clone(progress))?;
        let packer = Mutex::new(Packer::new(repository, uploader, LEVEL, false)?);
        Ok(Self { repository, packer, index, progress: Arc::clone(progress), number: 0 })
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
            self.require_there(fetcher, &full).await?;
            batch.items.push(Item::Whole(Box::new(full.entry), full.children));
            if batch.items.len() >= ENTRIES_MAX {
                let full = std::mem::replace(&mut batch, Batch::new(Held::none()));
                assembler.take(Named { batch: full, ids: Vec::new() }).await?;
            }
        }
        assembler.take(Named { batch, ids: Vec::new() }).await?;
        Ok(assembler.finish().await?.0)
    }

    /// Refuses an entry whose content is going away: whoever commits may not refer to it.
    async fn require_there(&self, fetcher: &Fetcher, full: &FullEntry) -> Result<(), EngineError> {
        let mut parts = pages_and_leaves(fetcher.clone(), full.children.clone());
        let mut ids: Vec<ChunkId> = Vec::new();
        loop {
            let part = parts.next().await.transpose()?;
            let is_over = part.is_none();
            ids.extend(part.filter(|part| part.kind != ChildKind::Hole).map(|part| part.id));
            if is_over || ids.len() >= ENTRIES_MAX {
                let (index, looked_up) = (self.index.clone(), std::mem::take(&mut ids));
                let found = self.repository.offload.start(move || index.find(&looked_up)).await??;
                if found.iter().any(Option::is_none) {
                    let path = source::entry::escaped(&full.entry.path);
                    let what = format!(
                        "what {path} needs is being moved by a prune, or only this host's cache still knows where it was; repair \
                         again when no prune runs, or else after backstay cache clear"
                    );
                    return Err(EngineError::Request { what });
                }
            }
            if is_over {
                return Ok(());
            }
        }
    }

    /// Stores and names all that is left; gives the bytes stored.
    pub(crate) async fn finish(self) -> Result<u64, EngineError> {
        let mut packer = self.packer.into_inner();
        packer.finish().await?;
        Ok(packer.stored().0)
    }
}
