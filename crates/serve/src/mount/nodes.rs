//! Inode numbers and what they stand for.
//!
//! ```text
//! folder of ours           hash of its place
//! entry                    hash of snapshot, component and path
//! file with several names  that of the name which was seen first
//! ```
//!
//! A number that is taken already by something else gives way to the next one. The kernel says which numbers it has forgotten;
//! of an entry only the place is remembered, so that a million of them take some 50 MiB.
//!
//! Invariant: while the kernel knows a number, it stands for one and the same thing.
//! Never here: metadata.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use engine::{Found, SnapshotInfo, View};
use pack::SnapshotId;
use pack::manifest::EntryKind;
use seal::ChunkId;

use crate::component::Component;
use crate::layout::Item;

/// The number of the mount's first folder, as FUSE has it.
pub(super) const ROOT: u64 = 1;
/// Bits of a number: some programs take it as signed.
const NUMBER_MASK: u64 = u64::MAX >> 1;
/// Numbers below are not given: they may mean something to somebody.
const NUMBER_MIN: u64 = 16;

/// A component of a snapshot, with what its entries' numbers are made of.
#[derive(Debug)]
pub(super) struct Tree {
    pub(super) component: Component,
    /// Its position among the trees that were looked at.
    position: u32,
    seed: [u8; 32],
}

/// What a number stands for.
#[derive(Debug, Clone)]
pub(super) enum Node {
    /// A folder or link above the snapshots, or a snapshot.
    Ours(Item),
    Component(Arc<Tree>),
    Entry(Arc<Tree>, (ChunkId, usize)),
}

/// An entry's place, in positions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Slot {
    tree: u32,
    page: u32,
    index: u32,
}

#[derive(Debug)]
struct Counted {
    slot: Slot,
    /// How often the kernel was told of it and has not forgotten it.
    count: u32,
}

/// All numbers.
#[derive(Debug, Default)]
pub(super) struct Nodes(Mutex<Table>);

#[derive(Debug, Default)]
struct Table {
    entries: HashMap<u64, Counted>,
    ours: HashMap<u64, Node>,
    trees: Vec<Arc<Tree>>,
    tree_positions: HashMap<(SnapshotId, usize), u32>,
    pages: Vec<ChunkId>,
    page_positions: HashMap<ChunkId, u32>,
    /// Files with several names, by tree, device and inode of the time.
    links: HashMap<(u32, u64, u64), u64>,
}

impl Nodes {
    fn table(&self) -> MutexGuard<'_, Table> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What a number stands for; none if it was forgotten.
    pub(super) fn get(&self, number: u64) -> Option<Node> {
        let table = self.table();
        if number == ROOT {
            return Some(Node::Ours(Item::Folder { path: "".into(), at: 0 }));
        }
        if let Some(node) = table.ours.get(&number) {
            return Some(node.clone());
        }
        let slot = table.entries.get(&number)?.slot;
        let tree = table.trees.get(slot.tree as usize)?;
        Some(Node::Entry(Arc::clone(tree), (*table.pages.get(slot.page as usize)?, slot.index as usize)))
    }

    /// The number of something of ours at `place`, which is a path in the mount.
    pub(super) fn ours(&self, place: &str, node: Node) -> u64 {
        if place.is_empty() {
            return ROOT;
        }
        // A link that points to something else is another link to the kernel, which may keep where it pointed.
        let more = if let Node::Ours(Item::Link { target, .. }) = &node { target.as_ref() } else { "" };
        let number = number_of(&[b"ours", place.as_bytes(), more.as_bytes()]);
        self.table().ours.insert(number, node);
        number
    }

    /// The component at a position of a snapshot; none if it is not there.
    pub(super) fn tree(&self, view: &View, snapshot: &Arc<SnapshotInfo>, component: usize) -> Option<Arc<Tree>> {
        let mut table = self.table();
        let key = (snapshot.id, component);
        if let Some(tree) = table.tree_positions.get(&key).and_then(|at| table.trees.get(*at as usize)) {
            return Some(Arc::clone(tree));
        }
        let component = Component::open(view, snapshot, component)?;
        let position = table.trees.len() as u32;
        let seed = hash_of(&[b"tree", snapshot.id.to_string().as_bytes(), component.name.as_bytes()]);
        let tree = Arc::new(Tree { component, position, seed });
        table.trees.push(Arc::clone(&tree));
        table.tree_positions.insert(key, position);
        Some(tree)
    }

    /// An entry's number, of which the kernel is told now.
    pub(super) fn tell(&self, tree: &Tree, found: &Found) -> u64 {
        let mut table = self.table();
        let (number, slot) = table.number(tree, found);
        let counted = table.entries.entry(number).or_insert(Counted { slot, count: 0 });
        counted.count = counted.count.saturating_add(1);
        number
    }

    /// An entry's number, of which the kernel is not told so that it may ask.
    pub(super) fn peek(&self, tree: &Tree, found: &Found) -> u64 {
        self.table().number(tree, found).0
    }

    /// The number that a folder of a tree has unless another thing took it: for `..` alone.
    pub(super) fn guess(tree: &Tree, path: &[u8]) -> u64 {
        number_of(&[&tree.seed, path])
    }

    /// The kernel has forgotten a number that it was told of `count` times.
    pub(super) fn forget(&self, number: u64, count: u64) {
        let mut table = self.table();
        let Some(counted) = table.entries.get_mut(&number) else { return };
        counted.count = counted.count.saturating_sub(u32::try_from(count).unwrap_or(u32::MAX));
        if counted.count == 0 {
            table.entries.remove(&number);
        }
    }

    /// How many entries the kernel knows.
    #[cfg(test)]
    fn count(&self) -> usize {
        self.table().entries.len()
    }
}

impl Table {
    fn number(&mut self, tree: &Tree, found: &Found) -> (u64, Slot) {
        let (page, index) = found.place();
        let next = self.pages.len() as u32;
        let page_position = *self.page_positions.entry(page).or_insert(next);
        if page_position == next {
            self.pages.push(page);
        }
        let slot = Slot { tree: tree.position, page: page_position, index: index as u32 };
        let entry = found.entry();
        let has_several = entry.links > 1 && entry.kind != EntryKind::Directory && entry.inode != 0;
        let key = (tree.position, entry.device, entry.inode);
        if has_several && let Some(number) = self.links.get(&key) {
            return (*number, slot);
        }
        let mut number = number_of(&[&tree.seed, &entry.path]);
        while self.ours.contains_key(&number) || self.entries.get(&number).is_some_and(|counted| counted.slot != slot) {
            number = (number + 1) & NUMBER_MASK;
        }
        if has_several {
            self.links.insert(key, number);
        }
        (number, slot)
    }
}

fn hash_of(parts: &[&[u8]]) -> [u8; 32] {
    let mut hasher = blake3::Hasher::new();
    for part in parts {
        hasher.update(&(part.len() as u64).to_le_bytes()).update(part);
    }
    *hasher.finalize().as_bytes()
}

fn number_of(parts: &[&[u8]]) -> u64 {
    let hash = hash_of(parts);
    let first = hash.first_chunk::<8>().map_or(0, |bytes| u64::from_le_bytes(*bytes));
    (first & NUMBER_MASK).max(NUMBER_MIN)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn place_of_ours_has_one_number_and_a_link_that_moves_has_another() {
        let nodes = Nodes::default();
        let link = |target: &str| Node::Ours(Item::Link { target: target.into(), at: 0 });
        let shelf = || Node::Ours(Item::Folder { path: "by-id".into(), at: 0 });
        assert_eq!(nodes.ours("by-id", shelf()), nodes.ours("by-id", shelf()));
        let first = nodes.ours("latest", link("by-id/1"));
        assert_eq!(first, nodes.ours("latest", link("by-id/1")));
        assert_ne!(first, nodes.ours("latest", link("by-id/2")));
        assert!(matches!(nodes.get(first), Some(Node::Ours(Item::Link { target, .. })) if &*target == "by-id/1"));
        assert!(nodes.get(ROOT).is_some() && nodes.get(2).is_none());
        assert_eq!(nodes.count(), 0);
    }
}
