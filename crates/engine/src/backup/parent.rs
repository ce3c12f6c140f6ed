//! The parent snapshot: what need not be read again.
//!
//! Walk and parent come in the same order, so they are merged like two sorted lists; memory holds one page of each.
//! A key that cannot open bodies reads those that this host keeps in its cache; where one is missing, the rest is read
//! as if there were no parent, and still deduplicates.
//!
//! Which roots a snapshot is of stands in its body, so a key that opens no bodies cannot tell two jobs of one host, source and
//! component apart. What this host committed itself it remembers in its cache; without that, the newest is taken: it
//! costs time if it is the other job's, and nothing else.
//!
//! Invariant: a file is unchanged only if length, mtime, ctime and inode agree, both times are older than the parent's
//! start by more than the clock's grain, and it was read whole then.
//! Invariant: content is reused unread only if every chunk and page that its entry names is in a pack which exists and is
//! not condemned; below pages of content too, unless every named pack can be used and every listed one is named.
//! Never here: deciding which snapshot is the parent's parent.

use std::collections::VecDeque;

use bytes::Bytes;
use futures::StreamExt;
use futures::stream::BoxStream;
use pack::manifest::{Child, ChildKind, Entry, EntryKind, Structure, Time, sort_key};
use pack::{ComponentState, SnapshotId, SnapshotStructure};
use seal::ChunkId;

use crate::backup::component::Run;
use crate::backup::produce::Produced;
use crate::backup::request::{BackupRequest, ComponentRequest};
use crate::backup::splice::Earlier;
use crate::entries::{FullEntry, Scope, entries_of};
use crate::fetch::Fetcher;
use crate::repository::Repository;
use crate::{EngineError, Kind, SnapshotFilter, SnapshotInfo};

/// Times within this many nanoseconds of the parent's start prove nothing: the file may have changed once more
/// within the same tick of its file system's clock.
const CLOCK_GRAIN_NANOS: i64 = 2_000_000_000;

/// Entries looked up at once.
const ENTRIES_AHEAD: usize = 256;

/// An entry of the parent.
struct Known {
    key: Vec<u8>,
    full: FullEntry,
    is_there: bool,
}

/// The parent's entries, in step with the walk.
pub(crate) struct Parent {
    pub(crate) id: SnapshotId,
    started_at: i64,
    entries: BoxStream<'static, Result<FullEntry, EngineError>>,
    /// The next entries, with whether all that they name was found.
    ahead: VecDeque<Known>,
    fetcher: Fetcher,
    /// Something may be lost or condemned: look every chunk up before it is reused.
    is_careful: bool,
}

impl Repository {
    /// The newest snapshot of the same host, source, component and roots that this very key signed; of other roots, if
    /// there is none that is known to be of these.
    pub(crate) async fn find_parent(
        &self,
        request: &BackupRequest,
        component: &ComponentRequest,
        roots: &[Vec<u8>],
    ) -> Result<Option<SnapshotInfo>, EngineError> {
        let remembered = self.cache.note(&note_of(request, component, roots));
        let found = self.own_snapshots(request, &component.component_name()).await?;
        let same = found.iter().find(|(info, at)| is_same_job(info, *at, roots, remembered.as_deref()));
        Ok(same.or(found.first()).map(|(info, _)| info.clone()))
    }

    /// Snapshots of the same host and source with something in the component, which this very key signed, newest first,
    /// each with the component's position. Another writer's could name false content for what this host would not read.
    async fn own_snapshots(
        &self,
        request: &BackupRequest,
        component: &str,
    ) -> Result<Vec<(SnapshotInfo, usize)>, EngineError> {
        let (hosts, sources) = (vec![request.host.clone()], vec![request.source_name()]);
        let found = self.snapshots(&SnapshotFilter { hosts, sources, tags: Vec::new() }).await?;
        let own = self.keyring.identity().identity();
        let fits = found.into_iter().rev().filter(|info| info.trusted && info.signer == own).filter_map(|info| {
            let components = &info.snapshot.structure.components;
            let at = components.iter().position(|own| own.name == component && own.root.is_some())?;
            Some((info, at))
        });
        Ok(fits.collect())
    }

    /// Bytes of the component in the newest snapshot of the same roots that holds it whole.
    pub(crate) async fn newest_len(
        &self,
        request: &BackupRequest,
        component: &ComponentRequest,
        roots: &[Vec<u8>],
    ) -> Result<Option<u64>, EngineError> {
        let remembered = self.cache.note(&note_of(request, component, roots));
        let found = self.own_snapshots(request, &component.component_name()).await?;
        let same = found.iter().filter(|(info, at)| is_same_job(info, *at, roots, remembered.as_deref()));
        let mut whole = same.filter_map(|(info, at)| info.snapshot.structure.components.get(*at));
        let newest = whole.find(|component| component.state == ComponentState::Complete);
        Ok(newest.map(|component| component.content_len))
    }

    /// The newest snapshot, and what the component's source kept then; none unless both belong together.
    pub(crate) async fn find_earlier(
        &self,
        run: &Run<'_>,
        component: &ComponentRequest,
    ) -> Result<Option<Earlier>, EngineError> {
        let name = component.component_name();
        let Some((info, at)) = self.own_snapshots(run.request, &name).await?.into_iter().next() else {
            return Ok(None);
        };
        let Some(note) = self.cache.note(&kept_note_of(run.request, component)) else { return Ok(None) };
        let kept = note.strip_prefix(&info.id.0).map(Bytes::copy_from_slice);
        let root = info.snapshot.structure.components.get(at).and_then(|component| component.root);
        let fetcher = self.fetcher_of(run.index.clone());
        Ok(kept.zip(root).map(|(kept, root)| Earlier { id: info.id, root, fetcher, kept }))
    }

    /// Remembers `snapshot` as the parent of the next backup of the same, and what its source wants kept.
    pub(crate) fn remember_parent(
        &self,
        request: &BackupRequest,
        component: &ComponentRequest,
        produced: &Produced,
        snapshot: SnapshotId,
    ) {
        self.cache.remember(&note_of(request, component, &produced.roots), &snapshot.0);
        if let Some(kept) = &produced.kept {
            self.cache.remember(&kept_note_of(request, component), &[&snapshot.0, kept.as_ref()].concat());
        }
    }
}

impl Parent {
    /// The parent's `component`; none if it has no such.
    pub(crate) fn open(
        structure: &SnapshotStructure,
        component: &str,
        fetcher: Fetcher,
        is_careful: bool,
    ) -> Option<Self> {
        let root = structure.components.iter().find(|own| own.name == component)?.root?;
        let entries = entries_of(fetcher.clone(), Some(root), Scope::new(b""));
        let (id, started_at) = (structure.id, structure.started_at);
        Some(Self { id, started_at, entries, ahead: VecDeque::new(), fetcher, is_careful })
    }

    /// The content of `entry` in the parent, if it is unchanged. Entries must come in order.
    pub(crate) async fn unchanged(&mut self, entry: &Entry) -> Result<Option<Vec<Child>>, EngineError> {
        let started_at = self.started_at;
        self.reusable(&entry.path, |then| is_unchanged(then, entry, started_at)).await
    }

    /// The content of the entry at `path` in the parent, if that `fits` and all of its content may be referred to. Paths
    /// must come in order.
    pub(crate) async fn reusable(
        &mut self,
        path: &[u8],
        fits: impl FnOnce(&Entry) -> bool,
    ) -> Result<Option<Vec<Child>>, EngineError> {
        let key = sort_key(path);
        loop {
            self.ahead.drain(..self.ahead.partition_point(|known| known.key < key));
            if !self.ahead.is_empty() || !self.read_ahead().await? {
                break;
            }
        }
        let Some(known) = self.ahead.front().filter(|known| known.key == key) else { return Ok(None) };
        if !known.is_there || !fits(&known.full.entry) {
            return Ok(None);
        }
        let children = known.full.children.clone();
        let may_reuse = !self.is_careful || self.all_there(&children).await?;
        Ok(may_reuse.then_some(children))
    }

    /// Reads some more entries and looks up everything that they name; false at the end.
    async fn read_ahead(&mut self) -> Result<bool, EngineError> {
        let mut entries = Vec::new();
        while entries.len() < ENTRIES_AHEAD {
            match self.entries.next().await {
                Some(Ok(full)) => entries.push(full),
                Some(Err(error)) => {
                    tracing::info!("the parent snapshot is of no more help: {error}");
                    self.entries = futures::stream::empty().boxed();
                }
                None => break,
            }
        }
        let index = self.fetcher.index.clone();
        let known = self.fetcher.offload.start(move || {
            let named = entries.iter().flat_map(|full| &full.children).filter(|child| child.kind != ChildKind::Hole);
            let ids: Vec<_> = named.map(|child| child.id).collect();
            let found = index.find(&ids)?;
            let lost = ids.iter().zip(&found).filter(|(_, found)| found.is_none()).map(|(id, _)| *id);
            let lost: Vec<_> = lost.collect();
            if !lost.is_empty() {
                index.note_missed(&lost)?;
            }
            let mut places = found.into_iter();
            let known = entries.into_iter().map(|full| {
                let named = full.children.iter().filter(|child| child.kind != ChildKind::Hole).count();
                let found = places.by_ref().take(named).filter(Option::is_some).count();
                Known { key: full.entry.sort_key(), is_there: found == named, full }
            });
            Ok::<_, EngineError>(known.collect::<VecDeque<_>>())
        });
        self.ahead = known.await??;
        Ok(!self.ahead.is_empty())
    }

    /// Looks up every chunk and every page below `children`, reading the pages from the store. What cannot be told
    /// counts as gone: it is then read at the source.
    async fn all_there(&self, children: &[Child]) -> Result<bool, EngineError> {
        let mut todo: Vec<ChunkId> = pages_in(children).collect();
        while let Some(page) = todo.pop() {
            let structure = match self.fetcher.chunk(page).await {
                Ok(bytes) => Structure::decode(&bytes).ok(),
                Err(error) if is_untold(&error) => None,
                Err(error) => return Err(error),
            };
            let Some(structure) = structure else { return Ok(false) };
            let index = self.fetcher.index.clone();
            let below = structure.children.iter().filter(|child| child.kind != ChildKind::Hole);
            let ids: Vec<_> = below.map(|child| child.id).collect();
            let is_there = move || {
                let found = index.find(&ids)?;
                let is_there = found.iter().all(Option::is_some);
                if is_there { Ok(true) } else { index.note_missed(&ids).map(|()| false) }
            };
            if !self.fetcher.offload.start(is_there).await?? {
                return Ok(false);
            }
            todo.extend(pages_in(&structure.children));
        }
        Ok(true)
    }
}

/// Whether a snapshot's component is of these roots, as far as this key or this host can tell.
fn is_same_job(info: &SnapshotInfo, at: usize, roots: &[Vec<u8>], remembered: Option<&[u8]>) -> bool {
    match info.snapshot.body.as_ref().and_then(|body| body.components.get(at)) {
        Some(body) => body.roots == roots,
        None => remembered == Some(&info.id.0),
    }
}

/// The note about a job's last snapshot: one for each host, source, component and list of roots.
fn note_of(request: &BackupRequest, component: &ComponentRequest, roots: &[Vec<u8>]) -> String {
    note_named("parent", request, component, roots)
}

/// The note of what a source keeps for its next run: the snapshot's id, and what it is.
fn kept_note_of(request: &BackupRequest, component: &ComponentRequest) -> String {
    note_named("kept", request, component, &[])
}

fn note_named(kind: &str, request: &BackupRequest, component: &ComponentRequest, roots: &[Vec<u8>]) -> String {
    let mut hasher = blake3::Hasher::new();
    let names = [request.host.clone(), request.source_name(), component.component_name()];
    for word in names.iter().map(String::as_bytes).chain(roots.iter().map(Vec::as_slice)) {
        hasher.update(&(word.len() as u64).to_le_bytes()).update(word);
    }
    format!("{kind}/{}", hasher.finalize().to_hex())
}

fn pages_in(children: &[Child]) -> impl Iterator<Item = ChunkId> + '_ {
    children.iter().filter(|child| child.kind == ChildKind::Page).map(|child| child.id)
}

/// Whether a page that could not be read may be done without: it is lost, or where it lies cannot be looked up. A store
/// that fails is something else.
fn is_untold(error: &EngineError) -> bool {
    error.kind() == Kind::Damaged || matches!(error, EngineError::Cache(_))
}

fn is_unchanged(then: &Entry, now: &Entry, parent_started_at: i64) -> bool {
    let is_old = |time: Time| {
        let nanos = i128::from(time.secs) * 1_000_000_000 + i128::from(time.nanos);
        nanos < i128::from(parent_started_at) - i128::from(CLOCK_GRAIN_NANOS)
    };
    matches!((&then.kind, &now.kind), (EntryKind::File { len: one }, EntryKind::File { len: other }) if one == other)
        && then.is_whole
        && then.modified_at == now.modified_at
        && then.changed_at == now.changed_at
        && then.inode == now.inode
        && is_old(now.modified_at)
        && is_old(now.changed_at)
}

#[cfg(test)]
mod tests {
    use store::index_cache::CacheError;

    use super::*;

    #[test]
    fn page_that_is_lost_or_cannot_be_looked_up_ends_no_backup_and_a_failing_store_does() {
        let lost = EngineError::Lost { chunk: "id".into(), reason: "gone".into() };
        let unknown = EngineError::Cache(CacheError::Stopped { path: "cache".into() });
        let source = store::Reason::cause("a reason");
        let full = store::StoreError::Full { name: "packs/id".into(), store: "a store".into(), source };
        assert!(is_untold(&lost) && is_untold(&unknown));
        assert!(!is_untold(&EngineError::Store(full)) && !is_untold(&EngineError::Interrupted));
    }
}
