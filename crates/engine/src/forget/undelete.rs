//! Undelete: a forgotten snapshot is committed anew, under another id.
//!
//! ```text
//! announce (W1, W2) ─► index (W3) ─► every page and chunk looked up ─► commit (W5) ─► withdraw (W6)
//! ```
//!
//! What is forgotten stays so: the object that hides it is obeyed for ever. The new snapshot has the same content, times
//! and tags, and says which one it was, so that retention counts it as before.
//!
//! Invariant: nothing is committed that needs a chunk of which no copy lies in a pack that exists and that no condemned list
//! read by this very writer names. A prune at the same time then keeps what the new snapshot needs.
//! Invariant: a key whose signer was removed is not trusted by way of a new signature.
//! Never here: reading content; `check --read-data` proves it.

use std::collections::HashSet;

use pack::manifest::ChildKind;
use pack::{Role, SnapshotExtension, SnapshotId, SnapshotStructure, Undeleted, names};
use seal::ChunkId;
use tokio_util::sync::CancellationToken;

use crate::entries::load_structure;
use crate::fetch::Fetcher;
use crate::repository::{Repository, list};
use crate::snapshots::Origin;
use crate::writer::Writer;
use crate::{EngineError, Kind, SnapshotFilter, SnapshotInfo};

/// Chunks looked up at once.
const LOOKUP_BATCH: usize = 4096;

/// A snapshot that was forgotten and whose object no prune has removed yet.
#[derive(Debug, Clone)]
pub struct ForgottenSnapshot {
    /// It.
    pub info: SnapshotInfo,
    /// When it was forgotten: nanoseconds since 1970, by the store's clock.
    pub forgotten_at: i64,
    /// The snapshot as which it was brought back, if it was.
    pub back_as: Option<SnapshotId>,
}

/// What a snapshot needs, counted in pages and chunks.
#[derive(Debug, Default)]
struct Needs {
    count: u64,
    gone_count: u64,
}

impl Repository {
    /// The forgotten snapshots that are still there, oldest first.
    ///
    /// # Errors
    ///
    /// Those of the store.
    pub async fn forgotten_snapshots(&self) -> Result<Vec<ForgottenSnapshot>, EngineError> {
        let back = self.snapshots(&SnapshotFilter::default()).await?;
        let back_as = |id| back.iter().find(|info| info.undeleted.is_some_and(|before| before.snapshot == id));
        let hidden = self.read_forgotten().await?;
        let mut found = Vec::new();
        for object in list(&self.store, names::SNAPSHOTS).await? {
            let Some(forgotten_at) = hidden.get(names::last(&object.name)) else { continue };
            match self.read_snapshot(&object, Origin::Passing).await? {
                Ok(Some(info)) => {
                    let back_as = back_as(info.id).map(|info| info.id);
                    found.push(ForgottenSnapshot { info, forgotten_at: forgotten_at.as_nanos(), back_as });
                }
                Ok(None) => {}
                Err(error) => tracing::warn!("{} {error}; it is passed over", object.name),
            }
        }
        found.sort_by_key(|found| (found.info.snapshot.structure.started_at, found.info.id));
        Ok(found)
    }

    /// Commits a forgotten snapshot anew and gives its new id. Costs what a backup costs at its beginning, and the structure
    /// pages of the snapshot.
    ///
    /// # Errors
    ///
    /// [`EngineError::Role`] without the owner's key; [`EngineError::ContentGone`] if something it needs is gone or going;
    /// [`EngineError::Request`] if it is back already, or is not trusted; those of the store. Nothing is committed then.
    pub async fn undelete(
        &self,
        forgotten: &ForgottenSnapshot,
        cancel: CancellationToken,
    ) -> Result<SnapshotId, EngineError> {
        self.keyring.require(&[Role::Owner], "bring forgotten snapshots back")?;
        let id = forgotten.info.id;
        if let Some(back) = forgotten.back_as {
            return Err(EngineError::Request { what: format!("snapshot {id} is back already, as {back}") });
        }
        if !forgotten.info.trusted {
            let what = format!("snapshot {id} is not trusted: its key was removed before it was stored");
            return Err(EngineError::Request { what });
        }
        let writer = self.announce(&forgotten.info.snapshot.structure.host).await?;
        let stop = cancel.child_token();
        let work = self.commit_anew(&writer, &forgotten.info, stop.clone());
        if let Err(error) = writer.keep_alive(&stop, work).await {
            return Err(writer.fail(error).await);
        }
        for warning in writer.warnings() {
            tracing::warn!("{warning}");
        }
        if let Err(error) = writer.withdraw().await {
            tracing::warn!("the record of this commit stays in the repository: {error}");
        }
        Ok(writer.id)
    }

    /// W2 to W5.
    async fn commit_anew(
        &self,
        writer: &Writer<'_>,
        info: &SnapshotInfo,
        cancel: CancellationToken,
    ) -> Result<(), EngineError> {
        let condemned = writer.see_condemned().await?;
        let index = self.load_index_besides(&condemned).await?;
        let needs = look_up_all(&self.fetcher_of(index), info, &cancel).await?;
        if needs.gone_count > 0 {
            let Needs { count, gone_count } = needs;
            return Err(EngineError::ContentGone { snapshot: info.id.to_string(), count, gone_count });
        }
        let missing = || EngineError::Request { what: format!("the body of snapshot {} does not open", info.id) };
        let body = info.snapshot.body.as_ref().ok_or_else(missing)?;
        let undeleted = Undeleted { snapshot: info.id, ..info.first() };
        let extension = SnapshotExtension { undeleted: Some(undeleted), ..info.snapshot.structure.extended() };
        let name = names::snapshot(&writer.id);
        let extension = extension.encode().map_err(EngineError::object(&name))?;
        let structure = SnapshotStructure { id: writer.id, extension, ..info.snapshot.structure.clone() };
        let object = self.encode_snapshot(&structure, body)?;
        if cancel.is_cancelled() {
            return Err(EngineError::Interrupted);
        }
        writer.commit(object.clone()).await?;
        self.cache.remember(&name, &object);
        Ok(())
    }
}

/// Looks up every page and every chunk that a snapshot needs. Costs in memory the ids of its pages.
async fn look_up_all(fetcher: &Fetcher, info: &SnapshotInfo, cancel: &CancellationToken) -> Result<Needs, EngineError> {
    let mut todo: Vec<ChunkId> = info.snapshot.structure.components.iter().filter_map(|part| part.root).collect();
    let mut seen: HashSet<ChunkId> = todo.iter().copied().collect();
    let (mut needs, mut batch) = (Needs::default(), Vec::new());
    while let Some(id) = todo.pop() {
        if cancel.is_cancelled() {
            return Err(EngineError::Interrupted);
        }
        match load_structure(fetcher, id).await {
            Ok(page) => {
                batch.push(id);
                for child in page.children.iter().filter(|child| child.kind != ChildKind::Hole) {
                    match child.kind {
                        ChildKind::Page if seen.insert(child.id) => todo.push(child.id),
                        ChildKind::Page => {}
                        _ => batch.push(child.id),
                    }
                }
            }
            // Whether it is gone or damaged, what is below it cannot be told.
            Err(error) if error.kind() == Kind::Damaged => {
                needs.count += 1;
                needs.gone_count += 1;
            }
            Err(error) => return Err(error),
        }
        if batch.len() >= LOOKUP_BATCH {
            needs.look_up(fetcher, std::mem::take(&mut batch)).await?;
        }
    }
    needs.look_up(fetcher, batch).await?;
    Ok(needs)
}

impl Needs {
    async fn look_up(&mut self, fetcher: &Fetcher, ids: Vec<ChunkId>) -> Result<(), EngineError> {
        self.count += ids.len() as u64;
        let index = fetcher.index.clone();
        let places = fetcher.offload.start(move || index.find(&ids)).await??;
        self.gone_count += places.iter().filter(|place| place.is_none()).count() as u64;
        Ok(())
    }
}
