//! What changed from one snapshot to another: entries that came, went, or are no longer the same.
//!
//! ```text
//! for each component of either ─► a walk of differences ─► rows ─► only before: removed · only after: added
//!                                                             both ─► type · content · metadata · the same
//! ```
//!
//! Cost: the pages in which the two snapshots differ, and those that lead to them. Content is never read: it is the same if
//! its chunk ids are. So a file that was cut in another way counts as changed, though its bytes are the same.
//!
//! Invariant: what may lie in a page that is lost on one side is not told as added or removed.
//! Never here: inode numbers, times of the inode, and counts of links, which change without anybody's doing.

use std::collections::VecDeque;
use std::sync::Arc;

use futures::StreamExt;
use futures::stream::{self, BoxStream};
use pack::Role;
use pack::manifest::{Entry, EntryKind};
use seal::ChunkId;

use crate::across::{LostPage, Member, Row, Step, Walk, Walked};
use crate::entries::{FullEntry, Scope};
use crate::fetch::Fetcher;
use crate::repository::Repository;
use crate::{EngineError, SnapshotInfo};

/// A snapshot, and the part of it that is compared.
#[derive(Debug, Clone)]
pub struct Side {
    /// The snapshot.
    pub snapshot: SnapshotInfo,
    /// The path within; empty for all of it. Where the two sides name different paths, what lies below them is compared.
    pub path: Vec<u8>,
}

/// In what an entry differs, the most telling of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Change {
    /// Only there after.
    Added,
    /// Only there before.
    Removed,
    /// Another kind of thing: a file became a directory.
    Type,
    /// Other bytes, another target of a link, another device.
    Content,
    /// The same content with another mode, owner, time or attributes.
    Metadata,
}

/// A part of the metadata.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Field {
    /// Permission bits.
    Mode,
    /// User or group, by number or name.
    Owner,
    /// When it was modified.
    ModifiedAt,
    /// Extended attributes, access lists among them.
    Xattrs,
}

/// An entry that differs. At least one of both is there.
#[derive(Debug, Clone)]
pub struct Difference {
    /// The component's name.
    pub component: String,
    /// In what.
    pub change: Change,
    /// Which metadata differs as well; nothing for what is only on one side.
    pub fields: Vec<Field>,
    /// As it was.
    pub before: Option<Entry>,
    /// As it is now.
    pub after: Option<Entry>,
}

/// Differences as they are found.
pub type DiffStream = BoxStream<'static, Result<Walked<Difference>, EngineError>>;

impl Repository {
    /// What changed from `before` to `after`, component by component, in the order of paths.
    ///
    /// A page that cannot be had is told as [`Walked::Lost`], with 0 for a need of `before` and 1 for one of `after`.
    ///
    /// # Errors
    ///
    /// [`EngineError::Role`] if this key does not open names; [`EngineError::NoEntry`] if there is nothing at a path on
    /// either side; else those of reading.
    pub async fn diff(&self, before: &Side, after: &Side) -> Result<DiffStream, EngineError> {
        self.keyring.require(&[Role::Owner, Role::Reader], "open names and metadata")?;
        let fetcher = self.fetcher().await?;
        let comparing = Comparing {
            scopes: [before, after].map(|side| Arc::new(Scope::new(&side.path))),
            components: components(before, after),
            fetcher,
            walk: None,
        };
        let found = stream::try_unfold(comparing, |mut comparing| async move {
            Ok(comparing.next().await?.map(|told| (told, comparing)))
        });
        Ok(found.boxed())
    }
}

/// A component, and its root on each side.
type Pair = (String, [Option<ChunkId>; 2]);

/// The components of both, each once.
fn components(before: &Side, after: &Side) -> VecDeque<Pair> {
    let mut pairs: VecDeque<Pair> = VecDeque::new();
    for (at, side) in [before, after].into_iter().enumerate() {
        for component in &side.snapshot.snapshot.structure.components {
            let known = pairs.iter().position(|(name, _)| *name == component.name);
            let known = known.unwrap_or_else(|| {
                pairs.push_back((component.name.clone(), [None; 2]));
                pairs.len() - 1
            });
            if let Some(root) = pairs.get_mut(known).and_then(|(_, roots)| roots.get_mut(at)) {
                *root = component.root;
            }
        }
    }
    pairs
}

struct Comparing {
    fetcher: Fetcher,
    scopes: [Arc<Scope>; 2],
    components: VecDeque<Pair>,
    walk: Option<(String, Walk)>,
}

impl Comparing {
    async fn next(&mut self) -> Result<Option<Walked<Difference>>, EngineError> {
        loop {
            let Some((component, walk)) = &mut self.walk else {
                let Some((name, roots)) = self.components.pop_front() else { return Ok(None) };
                let member = |(root, scope): (Option<ChunkId>, &Arc<Scope>)| Member { root, scope: Arc::clone(scope) };
                let members = roots.into_iter().zip(&self.scopes).map(member).collect();
                self.walk = Some((name, Walk::of_differences(self.fetcher.clone(), members)));
                continue;
            };
            match walk.next().await? {
                None => self.walk = None,
                Some(Step::Lost { members, error }) => {
                    let (component, snapshots) = (component.clone(), members.to_vec());
                    return Ok(Some(Walked::Lost(LostPage { component, snapshots, error })));
                }
                Some(Step::Row(row)) => {
                    if let Some(found) = difference(component, &row) {
                        return Ok(Some(Walked::Found(found)));
                    }
                }
            }
        }
    }
}

fn difference(component: &str, row: &Row) -> Option<Difference> {
    let of = |side: usize| {
        let version = row.versions.iter().find(|version| version.members.contains(&side));
        version.and_then(|version| version.full())
    };
    let (before, after) = (of(0), of(1));
    let (change, fields) = match (before, after) {
        (Some(before), Some(after)) => changed(before, after)?,
        (None, Some(_)) if !row.unknown.contains(&0) => (Change::Added, Vec::new()),
        (Some(_), None) if !row.unknown.contains(&1) => (Change::Removed, Vec::new()),
        _ => return None,
    };
    let entry = |full: Option<&FullEntry>| full.map(|full| full.entry.clone());
    Some(Difference { component: component.to_owned(), change, fields, before: entry(before), after: entry(after) })
}

/// In what two entries of one path differ; nothing if a restore of either gives the same.
pub(crate) fn changed(before: &FullEntry, after: &FullEntry) -> Option<(Change, Vec<Field>)> {
    let (old, new) = (&before.entry, &after.entry);
    let owner = |entry: &Entry| (entry.uid, entry.gid, entry.user.clone(), entry.group.clone());
    let differs = [
        (Field::Mode, old.mode != new.mode),
        (Field::Owner, owner(old) != owner(new)),
        (Field::ModifiedAt, old.modified_at != new.modified_at),
        (Field::Xattrs, old.xattrs != new.xattrs),
    ];
    let fields: Vec<Field> = differs.into_iter().filter(|(_, differs)| *differs).map(|(field, _)| field).collect();
    let is_same_type = std::mem::discriminant(&old.kind) == std::mem::discriminant(&new.kind);
    let change = match (&old.kind, &new.kind) {
        _ if !is_same_type => Change::Type,
        (EntryKind::File { .. }, _) if old.kind == new.kind && before.children == after.children => Change::Metadata,
        (EntryKind::File { .. }, _) => Change::Content,
        (old, new) if old == new => Change::Metadata,
        _ => Change::Content,
    };
    (change != Change::Metadata || !fields.is_empty()).then_some((change, fields))
}
