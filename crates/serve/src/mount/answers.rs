//! How what the kernel asks is answered.
//!
//! ```text
//! number ─► node ─┬─ a folder of ours ─► layout
//!                 ├─ a snapshot ───────► its components
//!                 └─ an entry ─────────► its page ─► metadata, content
//! ```
//!
//! Invariant: what is not damaged stays readable beside what is; what is gone because it was forgotten is a stale handle.
//! Never here: the kernel's own words; `filesystem` speaks them.

use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use engine::{EngineError, Found, Kind, View};
use fuser::{Errno, FileAttr, FileType};
use pack::manifest::EntryKind;
use seal::ChunkId;
use tokio::sync::mpsc;

use super::handles::{Handles, Listed as ListedFolder, OpenFolder};
use super::nodes::{Node, Nodes, ROOT, Tree};
use super::{Options, attributes};
use crate::component::positions;
use crate::layout::{BY_ID, Item, LISTED_FOR, Layout, Listing};
use crate::trouble::{LISTING, Trouble, Troubles};

/// What never changes, the kernel keeps for a day.
const KEPT_FOR: Duration = Duration::from_secs(24 * 60 * 60);
/// Entries of a folder that are told at once.
const LISTED_MAX: usize = 512;
/// Bits of a cookie that say which entry of a page; the others say which page of the folder.
const INDEX_BITS: u32 = 24;
/// Cookies of `.` and `..`; those of entries follow.
const COOKIES_MIN: u64 = 2;
/// `whence` of lseek.
const SEEK_DATA: i32 = 3;
const SEEK_HOLE: i32 = 4;

/// Why there is no answer.
#[derive(Debug)]
pub(super) enum Refusal {
    /// What the kernel is told.
    Errno(Errno),
    /// Something of a tree, or of the listing, could not be had.
    Engine { tree: Option<Arc<Tree>>, path: Vec<u8>, error: EngineError },
}

impl From<Errno> for Refusal {
    fn from(error: Errno) -> Self {
        Self::Errno(error)
    }
}

/// An entry of a folder: its name, what it is, and where to go on behind it.
pub(super) struct Listed {
    pub(super) cookie: u64,
    pub(super) name: Vec<u8>,
    pub(super) what: What,
}

/// What is listed.
pub(super) enum What {
    /// `.` and `..`, by number.
    Dots(u64),
    Ours(u64, Node),
    Entry(Arc<Tree>, Found),
}

/// What all requests share.
pub(super) struct Shared {
    view: View,
    layout: Layout,
    nodes: Nodes,
    handles: Handles,
    patience: Duration,
    troubles: Troubles,
}

impl Shared {
    pub(super) fn new(view: View, options: Options, troubles: mpsc::Sender<Trouble>) -> Self {
        Self {
            layout: Layout::new(view.clone(), options.filter),
            view,
            nodes: Nodes::default(),
            handles: Handles::new(options.ahead_len_max),
            patience: options.patience,
            troubles: Troubles::new(troubles),
        }
    }

    pub(super) const fn patience(&self) -> Duration {
        self.patience
    }

    pub(super) fn forget(&self, number: u64, count: u64) {
        self.nodes.forget(number, count);
    }

    pub(super) fn close_file(&self, handle: u64) {
        self.handles.close_file(handle);
    }

    pub(super) fn close_folder(&self, handle: u64) {
        self.handles.close_folder(handle);
    }

    fn node(&self, number: u64) -> Result<Node, Refusal> {
        self.nodes.get(number).ok_or(Refusal::Errno(Errno::ESTALE))
    }

    /// The folders of ours; an older listing where the store does not answer.
    async fn listing(&self) -> Arc<Listing> {
        let (listing, error) = self.layout.listing().await;
        if let Some(error) = error {
            self.troubles.tell(LISTING, Some(error));
        }
        listing
    }

    /// The entry that a node stands for.
    async fn entry(&self, tree: &Arc<Tree>, place: (ChunkId, usize)) -> Result<Found, Refusal> {
        let found = self.view.entry_at(place).await.map_err(|error| refusal(tree, b"", error))?;
        found.ok_or(Refusal::Errno(Errno::ESTALE))
    }

    /// What has a name in a folder, and how long the kernel may believe that.
    pub(super) async fn look_up(&self, parent: u64, name: &[u8]) -> Result<(Option<FileAttr>, Duration), Refusal> {
        let (tree, path) = match self.node(parent)? {
            Node::Ours(Item::Folder { path: folder, .. }) => {
                let Ok(name) = std::str::from_utf8(name) else { return Ok((None, Duration::ZERO)) };
                let found = self.listing().await.item(&folder, name).map(|item| self.ours(&join(&folder, name), &item));
                return Ok((found.map(|(number, node)| self.attr_of_ours(number, &node)), LISTED_FOR));
            }
            Node::Ours(Item::Snapshot(info)) => {
                let trees = self.trees(&info);
                let tree = trees.into_iter().find(|tree| tree.component.name.as_bytes() == name);
                let found =
                    tree.map(|tree| self.component(tree)).map(|(number, node)| self.attr_of_ours(number, &node));
                return Ok((found, KEPT_FOR));
            }
            Node::Ours(Item::Link { .. }) => return Err(Errno::ENOTDIR.into()),
            Node::Component(tree) => (tree, name.to_vec()),
            Node::Entry(tree, place) => {
                let folder = self.entry(&tree, place).await?;
                if folder.entry().kind != EntryKind::Directory {
                    return Err(Errno::ENOTDIR.into());
                }
                (tree, [folder.entry().path.as_slice(), b"/", name].concat())
            }
        };
        let found = tree.component.tree.find(&path).await.map_err(|error| refusal(&tree, &path, error))?;
        let attr = found.map(|found| attributes::of_entry(self.nodes.tell(&tree, &found), &found));
        Ok((attr, KEPT_FOR))
    }

    /// Metadata, and how long the kernel may believe it.
    pub(super) async fn attributes(&self, number: u64) -> Result<(FileAttr, Duration), Refusal> {
        match self.node(number)? {
            Node::Ours(Item::Folder { path: folder, .. }) => {
                let listing = self.listing().await;
                let shelf = listing.get(&folder).ok_or(Errno::ENOENT)?;
                Ok((attributes::of_ours(number, None, shelf.at), LISTED_FOR))
            }
            Node::Entry(tree, place) => Ok((attributes::of_entry(number, &self.entry(&tree, place).await?), KEPT_FOR)),
            node => Ok((self.attr_of_ours(number, &node), KEPT_FOR)),
        }
    }

    pub(super) async fn link_target(&self, number: u64) -> Result<Vec<u8>, Refusal> {
        match self.node(number)? {
            Node::Ours(Item::Link { target, .. }) => Ok(target.as_bytes().to_vec()),
            Node::Entry(tree, place) => match &self.entry(&tree, place).await?.entry().kind {
                EntryKind::Symlink { target } => Ok(target.clone()),
                _ => Err(Errno::EINVAL.into()),
            },
            _ => Err(Errno::EINVAL.into()),
        }
    }

    pub(super) async fn open(&self, number: u64) -> Result<u64, Refusal> {
        let Node::Entry(tree, place) = self.node(number)? else { return Err(Errno::EISDIR.into()) };
        let found = self.entry(&tree, place).await?;
        let opened = self.handles.open_file(Arc::clone(&tree), &found);
        opened.map_err(|error| refusal(&tree, &found.entry().path, error))
    }

    pub(super) async fn read(&self, handle: u64, range: Range<u64>) -> Result<Vec<Bytes>, Refusal> {
        let opened = self.handles.file(handle).ok_or(Errno::EBADF)?;
        opened.reader.read(range).await.map_err(|error| refusal(&opened.tree, &opened.path, error))
    }

    pub(super) async fn seek(&self, handle: u64, offset: i64, whence: i32) -> Result<i64, Refusal> {
        let opened = self.handles.file(handle).ok_or(Errno::EBADF)?;
        let offset =
            u64::try_from(offset).ok().filter(|offset| *offset < opened.reader.file().len()).ok_or(Errno::ENXIO)?;
        let found = match whence {
            SEEK_DATA => opened.reader.file().data_at(offset).await,
            SEEK_HOLE => opened.reader.file().hole_at(offset).await.map(Some),
            _ => return Err(Errno::EINVAL.into()),
        };
        let found = found.map_err(|error| refusal(&opened.tree, &opened.path, error))?.ok_or(Errno::ENXIO)?;
        i64::try_from(found).map_err(|_| Errno::EOVERFLOW.into())
    }

    pub(super) async fn xattr(&self, number: u64, name: &[u8]) -> Result<Vec<u8>, Refusal> {
        let Node::Entry(tree, place) = self.node(number)? else { return Err(Errno::NO_XATTR.into()) };
        let found = self.entry(&tree, place).await?;
        let value = found.entry().xattrs.iter().find(|(own, _)| own == name).map(|(_, value)| value.clone());
        value.ok_or(Refusal::Errno(Errno::NO_XATTR))
    }

    pub(super) async fn xattr_names(&self, number: u64) -> Result<Vec<u8>, Refusal> {
        let Node::Entry(tree, place) = self.node(number)? else { return Ok(Vec::new()) };
        let found = self.entry(&tree, place).await?;
        Ok(found.entry().xattrs.iter().flat_map(|(name, _)| [name.as_slice(), b"\0"].concat()).collect())
    }

    /// Opens a folder, and says whether it stays as it is for ever.
    pub(super) async fn open_folder(&self, number: u64) -> Result<(u64, bool), Refusal> {
        let (folder, is_for_ever) = match self.node(number)? {
            Node::Ours(Item::Folder { path, .. }) => {
                let listing = self.listing().await;
                let shelf = listing.get(&path).ok_or(Errno::ENOENT)?;
                let all = shelf.items.iter().map(|(name, item)| {
                    let (number, node) = self.ours(&join(&path, name), item);
                    (name.clone(), number, node)
                });
                (OpenFolder::Ours(all.collect()), false)
            }
            Node::Ours(Item::Snapshot(info)) => {
                let all = self.trees(&info).into_iter().map(|tree| {
                    let name = tree.component.name.clone();
                    let (number, node) = self.component(tree);
                    (name, number, node)
                });
                (OpenFolder::Ours(all.collect()), true)
            }
            Node::Component(tree) => (entries_of(&tree, b"".to_vec(), (number, ROOT)), true),
            Node::Entry(tree, place) => {
                let found = self.entry(&tree, place).await?;
                let path = found.entry().path.clone();
                let above = path.iter().rposition(|byte| *byte == b'/').and_then(|at| path.get(..at));
                let above =
                    above.map_or_else(|| component_number(&self.nodes, &tree), |above| Nodes::guess(&tree, above));
                (entries_of(&tree, path, (number, above)), true)
            }
            Node::Ours(Item::Link { .. }) => return Err(Errno::ENOTDIR.into()),
        };
        Ok((self.handles.open_folder(folder), is_for_ever))
    }

    /// Some entries of a folder behind a cookie; none at the end.
    pub(super) async fn list(&self, number: u64, handle: u64, cookie: u64) -> Result<Vec<Listed>, Refusal> {
        let opened = self.handles.folder(handle).ok_or(Errno::EBADF)?;
        let numbers = if let OpenFolder::Entries { numbers, .. } = &*opened { *numbers } else { (number, ROOT) };
        let dots = [(1, ".", numbers.0), (2, "..", numbers.1)];
        let dots = dots.into_iter().filter(|(at, ..)| *at > cookie);
        let mut listed: Vec<_> =
            dots.map(|(cookie, name, number)| Listed { cookie, name: name.into(), what: What::Dots(number) }).collect();
        let behind = cookie.max(COOKIES_MIN) - COOKIES_MIN;
        match &*opened {
            OpenFolder::Ours(all) => {
                let rest = all.iter().enumerate().skip(behind as usize).take(LISTED_MAX);
                listed.extend(rest.map(|(at, (name, number, node))| Listed {
                    cookie: at as u64 + 1 + COOKIES_MIN,
                    name: name.clone().into_bytes(),
                    what: What::Ours(*number, node.clone()),
                }));
            }
            OpenFolder::Entries { tree, path, folder, .. } => {
                listed.extend(self.list_entries(tree, path, &mut *folder.lock().await, behind).await?);
            }
        }
        Ok(listed)
    }

    /// Entries behind a position; pages that cannot be had are told of and passed over, and make the end an error.
    async fn list_entries(
        &self,
        tree: &Arc<Tree>,
        path: &[u8],
        listed: &mut ListedFolder,
        behind: u64,
    ) -> Result<Vec<Listed>, Refusal> {
        let mut position = (behind >> INDEX_BITS) as usize;
        let mut first = (behind & ((1 << INDEX_BITS) - 1)) as usize;
        loop {
            let (page, own) = match listed.folder.page(position).await {
                Ok(Some(found)) => found,
                Ok(None) if listed.has_gaps => return Err(Errno::EIO.into()),
                Ok(None) => return Ok(Vec::new()),
                Err(error) if error.kind() == Kind::Damaged => {
                    let _ = self.explain(refusal(tree, path, error)).await;
                    listed.has_gaps = true;
                    (position, first) = (position + 1, 0);
                    continue;
                }
                Err(error) => return Err(refusal(tree, path, error)),
            };
            let some = own.skip(first).take(LISTED_MAX).filter_map(|index| page.entry(index));
            let some = (first..).zip(some).map(|(at, found)| Listed {
                cookie: (((position as u64) << INDEX_BITS) | (at as u64 + 1)) + COOKIES_MIN,
                name: found.name().to_vec(),
                what: What::Entry(Arc::clone(tree), found),
            });
            let some: Vec<_> = some.collect();
            if !some.is_empty() {
                return Ok(some);
            }
            (position, first) = (position + 1, 0);
        }
    }

    /// The number and kind of what is listed.
    pub(super) fn shown(&self, what: &What) -> (u64, FileType) {
        match what {
            What::Dots(number) => (*number, FileType::Directory),
            What::Ours(number, node) => (*number, self.attr_of_ours(*number, node).kind),
            What::Entry(tree, found) => (self.nodes.peek(tree, found), attributes::kind(&found.entry().kind)),
        }
    }

    /// What is listed with its metadata, how long the kernel may believe it, and whether it will say when it forgets it.
    pub(super) fn told(&self, what: &What) -> (FileAttr, Duration, bool) {
        match what {
            What::Dots(number) => (attributes::of_ours(*number, None, 0), Duration::ZERO, false),
            What::Ours(number, node) => (self.attr_of_ours(*number, node), LISTED_FOR, false),
            What::Entry(tree, found) => (attributes::of_entry(self.nodes.tell(tree, found), found), KEPT_FOR, true),
        }
    }

    /// An item of a folder of ours, by its path in the mount.
    fn ours(&self, place: &str, item: &Item) -> (u64, Node) {
        let node = Node::Ours(item.clone());
        (self.nodes.ours(place, node.clone()), node)
    }

    fn component(&self, tree: Arc<Tree>) -> (u64, Node) {
        let node = Node::Component(Arc::clone(&tree));
        (component_number(&self.nodes, &tree), node)
    }

    /// The components of a snapshot that are in it; their names as files can have them.
    fn trees(&self, info: &Arc<engine::SnapshotInfo>) -> Vec<Arc<Tree>> {
        positions(info).filter_map(|at| self.nodes.tree(&self.view, info, at)).collect()
    }

    fn attr_of_ours(&self, number: u64, node: &Node) -> FileAttr {
        match node {
            Node::Ours(Item::Link { target, at }) => attributes::of_ours(number, Some(target), *at),
            Node::Ours(item) => attributes::of_ours(number, None, item.at()),
            Node::Component(tree) => attributes::of_ours(number, None, tree.component.at),
            Node::Entry(..) => attributes::of_ours(number, None, 0),
        }
    }

    /// What the kernel is told of a refusal; people are told of it once.
    pub(super) async fn explain(&self, refusal: Refusal) -> Errno {
        let (tree, path, error) = match refusal {
            Refusal::Errno(error) => return error,
            Refusal::Engine { tree, path, error } => (tree, path, error),
        };
        let Some(tree) = tree else {
            self.troubles.tell(LISTING, Some(error));
            return Errno::EIO;
        };
        let is_gone = self.troubles.explain(&self.layout, &tree.component, &path, error).await;
        if is_gone { Errno::ESTALE } else { Errno::EIO }
    }

    /// What the kernel is told when an answer took too long.
    pub(super) fn was_too_slow(&self, what: &str, number: u64) -> Errno {
        let place = match self.nodes.get(number) {
            Some(Node::Entry(tree, _) | Node::Component(tree)) => join(BY_ID, &tree.component.snapshot.id.to_string()),
            _ => LISTING.to_owned(),
        };
        self.troubles.tell(&format!("{what} of {place}"), None);
        Errno::EIO
    }
}

fn refusal(tree: &Arc<Tree>, path: &[u8], error: EngineError) -> Refusal {
    Refusal::Engine { tree: Some(Arc::clone(tree)), path: path.to_vec(), error }
}

fn entries_of(tree: &Arc<Tree>, path: Vec<u8>, numbers: (u64, u64)) -> OpenFolder {
    let folder = ListedFolder { folder: tree.component.tree.folder(&path), has_gaps: false };
    OpenFolder::Entries { tree: Arc::clone(tree), path, numbers, folder: tokio::sync::Mutex::new(folder) }
}

fn component_number(nodes: &Nodes, tree: &Arc<Tree>) -> u64 {
    nodes.ours(&tree.component.place(), Node::Component(Arc::clone(tree)))
}

/// A path in the mount.
fn join(folder: &str, name: &str) -> String {
    if folder.is_empty() { name.to_owned() } else { format!("{folder}/{name}") }
}
