//! Looking for entries in many snapshots at once: each distinct version of a path, and who has it.
//!
//! ```text
//! for each component of any ─► a walk through all that have it ─► rows ─► wanted? ─► versions that differ, the oldest first
//! ```
//!
//! Cost: every page below the path once, however many snapshots have it.
//!
//! Invariant: two versions of a path differ in what a restore would make of them.
//! Never here: patterns; what is wanted is the caller's to say.

use std::collections::VecDeque;
use std::sync::Arc;

use futures::StreamExt;
use futures::stream::{self, BoxStream};
use pack::Role;
use pack::manifest::{Child, Entry, EntryKind};
use seal::ChunkId;

use crate::across::diff::changed;
use crate::across::{LostPage, Member, Row, Step, Walk, Walked};
use crate::entries::{FullEntry, Scope};
use crate::fetch::Fetcher;
use crate::repository::Repository;
use crate::{EngineError, SnapshotInfo};

/// Bytes of a content id.
const CONTENT_ID_LEN: usize = 16;

/// Which entries are wanted.
pub type Wanted = Arc<dyn Fn(&Entry) -> bool + Send + Sync>;

/// What is looked for, and where.
#[derive(Clone)]
pub struct FindRequest {
    /// In these snapshots, the oldest first.
    pub snapshots: Vec<SnapshotInfo>,
    /// At and below this path; everywhere if it is empty.
    pub path: Vec<u8>,
    /// Whether only the path itself is meant.
    pub is_alone: bool,
    /// Which of the entries there.
    pub wanted: Wanted,
}

/// One version of an entry.
#[derive(Debug, Clone)]
pub struct FoundVersion {
    /// The component's name.
    pub component: String,
    /// The entry.
    pub entry: Entry,
    /// What names its content; none if it is no file.
    pub content: Option<ContentId>,
    /// The snapshots that have it so, as positions in the request.
    pub snapshots: Vec<usize>,
}

/// Names a file's content: the same chunks in the same order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct ContentId([u8; CONTENT_ID_LEN]);

impl std::fmt::Display for ContentId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&hex::encode(self.0))
    }
}

/// Versions as they are found.
pub type FindStream = BoxStream<'static, Result<Walked<FoundVersion>, EngineError>>;

impl Repository {
    /// The entries that are wanted, component by component, in the order of paths; of one path the oldest version first.
    ///
    /// A page that cannot be had is told as [`Walked::Lost`].
    ///
    /// # Errors
    ///
    /// [`EngineError::Role`] if this key does not open names; else those of reading.
    pub async fn find(&self, request: FindRequest) -> Result<FindStream, EngineError> {
        self.keyring.require(&[Role::Owner, Role::Reader], "open names and metadata")?;
        let scope = if request.is_alone { Scope::alone(&request.path) } else { Scope::new(&request.path) };
        let finding = Finding {
            fetcher: self.fetcher().await?,
            scope: Arc::new(scope),
            wanted: request.wanted,
            components: components(&request.snapshots),
            walk: None,
            ready: VecDeque::new(),
        };
        let found =
            stream::try_unfold(
                finding,
                |mut finding| async move { Ok(finding.next().await?.map(|told| (told, finding))) },
            );
        Ok(found.boxed())
    }
}

/// A component, and its root in the snapshots that have it, by position.
type Roots = (String, Vec<(usize, ChunkId)>);

/// The components of all, each once.
fn components(snapshots: &[SnapshotInfo]) -> VecDeque<Roots> {
    let mut all: VecDeque<Roots> = VecDeque::new();
    for (at, info) in snapshots.iter().enumerate() {
        for component in &info.snapshot.structure.components {
            let Some(root) = component.root else { continue };
            match all.iter_mut().find(|(name, _)| *name == component.name) {
                Some((_, roots)) => roots.push((at, root)),
                None => all.push_back((component.name.clone(), vec![(at, root)])),
            }
        }
    }
    all
}

struct Finding {
    fetcher: Fetcher,
    scope: Arc<Scope>,
    wanted: Wanted,
    components: VecDeque<Roots>,
    walk: Option<Walking>,
    /// Versions of the path that was found last.
    ready: VecDeque<FoundVersion>,
}

/// A walk through one component.
struct Walking {
    component: String,
    /// The snapshot of each member.
    snapshots: Vec<usize>,
    walk: Walk,
}

impl Finding {
    async fn next(&mut self) -> Result<Option<Walked<FoundVersion>>, EngineError> {
        loop {
            if let Some(found) = self.ready.pop_front() {
                return Ok(Some(Walked::Found(found)));
            }
            let Some(walking) = &mut self.walk else {
                let Some((component, roots)) = self.components.pop_front() else { return Ok(None) };
                let member = |root| Member { root: Some(root), scope: Arc::clone(&self.scope) };
                let (snapshots, members) = roots.into_iter().map(|(at, root)| (at, member(root))).unzip();
                self.walk = Some(Walking { component, snapshots, walk: Walk::new(self.fetcher.clone(), members) });
                continue;
            };
            match walking.walk.next().await? {
                None => self.walk = None,
                Some(Step::Lost { members, error }) => {
                    let (component, snapshots) = (walking.component.clone(), walking.snapshots_of(&members));
                    return Ok(Some(Walked::Lost(LostPage { component, snapshots, error })));
                }
                Some(Step::Row(row)) => self.ready = walking.versions(&row, &self.wanted),
            }
        }
    }
}

impl Walking {
    /// The snapshots of some members, in order.
    fn snapshots_of(&self, members: &[usize]) -> Vec<usize> {
        let mut found: Vec<usize> = members.iter().filter_map(|member| self.snapshots.get(*member)).copied().collect();
        found.sort_unstable();
        found
    }

    /// The wanted versions in a row, the one of the oldest snapshot first.
    fn versions(&self, row: &Row, wanted: &Wanted) -> VecDeque<FoundVersion> {
        let mut distinct: Vec<(&FullEntry, Vec<usize>)> = Vec::new();
        for version in &row.versions {
            let Some(full) = version.full().filter(|full| wanted(&full.entry)) else { continue };
            match distinct.iter_mut().find(|(other, _)| changed(other, full).is_none()) {
                Some((_, members)) => members.extend_from_slice(&version.members),
                None => distinct.push((full, version.members.to_vec())),
            }
        }
        let found = distinct.into_iter().map(|(full, members)| FoundVersion {
            component: self.component.clone(),
            entry: full.entry.clone(),
            content: content_id(full),
            snapshots: self.snapshots_of(&members),
        });
        let mut found: Vec<FoundVersion> = found.collect();
        found.sort_by_key(|version| version.snapshots.first().copied());
        found.into()
    }
}

/// What names an entry's content; none if it is no file.
pub(crate) fn content_id(full: &FullEntry) -> Option<ContentId> {
    if !matches!(full.entry.kind, EntryKind::File { .. }) {
        return None;
    }
    let mut hasher = blake3::Hasher::new();
    for Child { kind, id, len } in &full.children {
        hasher.update(&[*kind as u8]).update(&len.to_le_bytes()).update(id.as_bytes());
    }
    let hash = hasher.finalize();
    hash.as_bytes().first_chunk::<CONTENT_ID_LEN>().map(|id| ContentId(*id))
}
