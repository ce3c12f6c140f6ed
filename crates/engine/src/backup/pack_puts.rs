//! Putting a pack, under a name that is created by one request.
//!
//! ```text
//! finished pack ─► put ─┬─ created, answered at the first attempt ─► its entry, which a segment may name
//!                       └─ any attempt without an answer: burnt ─► sealed with another salt, so another name ─► put …
//! ```
//!
//! An attempt without an answer may land at any later time, also after the pack was deleted; what was found then would be
//! deleted again by whoever still means to (decision 0007). So a burnt name is never referred to, and what arrives under it is
//! left to prune.
//!
//! Invariant: an entry is given back only for a pack whose create was sent once and answered.
//! Never here: what is in the pack, and which segment names it.

use bytes::Bytes;
use pack::{FinishedPack, PackEntry, names};
use seal::{RepositoryId, Secret};
use store::{Env, Put, Reason, SharedStore, StoreError};

use crate::EngineError;
use crate::objects::random;
use crate::offload::Offload;
use crate::repository::Repository;

/// Names that one pack is put under at most.
const PACK_NAMES_MAX: usize = 16;

/// Puts packs. Cheap to clone.
#[derive(Clone)]
pub(crate) struct PackPuts {
    store: SharedStore,
    offload: Offload,
    env: Env,
    index_key: Secret,
    repository: RepositoryId,
}

impl Repository {
    /// What puts the packs of this repository.
    ///
    /// # Errors
    ///
    /// This key has no index key.
    pub(crate) fn pack_puts(&self) -> Result<PackPuts, EngineError> {
        Ok(PackPuts {
            store: self.store.clone(),
            offload: self.offload.clone(),
            env: self.env.clone(),
            index_key: self.keyring.index_key()?,
            repository: self.config.repository,
        })
    }
}

impl PackPuts {
    /// Puts a pack, again and under another name as long as an attempt got no answer; gives the entry of the last one.
    ///
    /// # Errors
    ///
    /// Those of the store: the pack may be there then, and nothing may refer to it. [`StoreError::Busy`] if every name was
    /// burnt.
    pub(crate) async fn put(&self, mut finished: FinishedPack<Bytes>) -> Result<PackEntry, EngineError> {
        for _ in 0..PACK_NAMES_MAX {
            let name = names::pack(&finished.id);
            let body = finished.blobs.iter().cloned().chain([Bytes::copy_from_slice(&finished.tail)]).collect();
            let report = self.store.put_new_reported(&name, body).await?;
            // Nobody else makes this name, so if it is there already then by an attempt of ours that nobody answered.
            if report.put == Put::Created && report.unanswered_count == 0 {
                return Ok(PackEntry { id: finished.id, len: finished.len, trailer: finished.trailer });
            }
            tracing::info!("{name} may be created once more at any time: the pack is put under another name");
            finished = self.renamed(finished).await?;
        }
        Err(EngineError::Store(StoreError::Busy {
            name: names::pack(&finished.id),
            store: self.store.describe(),
            answer: format!("of a pack's {PACK_NAMES_MAX} names none was created at the first attempt"),
            source: Reason::cause("attempts that were not answered, or conflicts where nothing was"),
        }))
    }

    /// The same blobs under another name.
    async fn renamed(&self, finished: FinishedPack<Bytes>) -> Result<FinishedPack<Bytes>, EngineError> {
        let (key, salt, repository) = (self.index_key.clone(), random(&self.env), self.repository);
        let finished = self.offload.start(move || finished.reopen().finish(&key, salt, repository)).await?;
        finished.map_err(EngineError::object("a new pack"))
    }
}
