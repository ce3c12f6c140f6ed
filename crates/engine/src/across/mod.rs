//! Walking the manifests of several snapshots at once, in the order of their entries: each page is read once, whoever has it.
//!
//! ```text
//! members (a root each) ─► groups: members whose next thing is the same page ─► the group with the lowest key
//!     page that all members have, where only differences count ─► passed over unread
//!     page    ─► read once ─► entries, or pages: the members go on to the first, and part where theirs differ
//!     entries ─► a row: every entry at that key, and who has it
//! ```
//!
//! Pages are named by what they hold, so two snapshots with few differences have few pages that differ.
//!
//! Invariant: rows come in order, and a row names every member that has something at its key.
//! Invariant: memory holds the pages of one path from each distinct root, whatever the size of the trees.
//! Never here: what is looked for (see `find`), and what counts as a difference (see `diff`).

pub(crate) mod diff;
pub(crate) mod find;

use std::sync::Arc;

use pack::manifest::Child;
use seal::ChunkId;

use crate::entries::{FullEntry, Page, Pending, Scope};
use crate::fetch::Fetcher;
use crate::{EngineError, Kind};

/// One tree that takes part: the same component of one of the snapshots.
pub(crate) struct Member {
    pub(crate) root: Option<ChunkId>,
    pub(crate) scope: Arc<Scope>,
}

/// Something that a walk tells, or what is lost of it.
#[derive(Debug)]
pub enum Walked<T> {
    /// What was looked for.
    Found(T),
    /// A page that cannot be had, with all entries in it. The walk goes on behind it.
    Lost(LostPage),
}

/// A page that cannot be had.
#[derive(Debug)]
pub struct LostPage {
    /// The component.
    pub component: String,
    /// The snapshots that need it, as positions in the list that was asked about.
    pub snapshots: Vec<usize>,
    /// Which entries, and why.
    pub error: EngineError,
}

/// What comes next.
pub(crate) enum Step {
    Row(Row),
    Lost { members: Arc<Vec<usize>>, error: EngineError },
}

/// What there is at one key.
pub(crate) struct Row {
    /// Each entry, and who has it. One entry may stand there twice, out of two pages.
    pub(crate) versions: Vec<Version>,
    /// Members that may have something there, in a page that is lost.
    pub(crate) unknown: Vec<usize>,
}

pub(crate) struct Version {
    page: Arc<Vec<FullEntry>>,
    at: usize,
    pub(crate) members: Arc<Vec<usize>>,
}

impl Version {
    pub(crate) fn full(&self) -> Option<&FullEntry> {
        self.page.get(self.at)
    }
}

/// Members that are at the same place.
struct Group {
    members: Arc<Vec<usize>>,
    scope: Arc<Scope>,
    /// What orders it among the groups.
    key: Vec<u8>,
    head: Head,
}

enum Head {
    Page(Pending),
    Entries { page: Arc<Vec<FullEntry>>, at: usize },
}

/// Pages below a page that was read, some of which are still to come.
#[derive(Clone)]
struct Frame {
    children: Arc<Vec<(Vec<u8>, Child)>>,
    at: usize,
    end: Option<Arc<Vec<u8>>>,
}

/// A range of keys; without an end it reaches to the last.
type LostRange = (Vec<u8>, Option<Vec<u8>>);

/// A walk through several trees.
pub(crate) struct Walk {
    fetcher: Fetcher,
    members: Vec<Member>,
    /// What is still to come of each member, the next at the end.
    frames: Vec<Vec<Frame>>,
    /// The page of each member that was lost last.
    lost: Vec<Option<LostRange>>,
    groups: Vec<Group>,
    /// Whether a page that all have is passed over.
    passes_shared: bool,
}

impl Walk {
    /// Every entry of every member.
    pub(crate) fn new(fetcher: Fetcher, members: Vec<Member>) -> Self {
        let frames = members.iter().map(|_| Vec::new()).collect();
        let lost = members.iter().map(|_| None).collect();
        let mut walk = Self { fetcher, members, frames, lost, groups: Vec::new(), passes_shared: false };
        for at in 0..walk.members.len() {
            if let Some(root) = walk.members.get(at).and_then(|member| member.root) {
                walk.arrive(at, Pending::root(root));
            }
        }
        walk
    }

    /// Only what not all members have alike: pages that all have are not even read.
    pub(crate) fn of_differences(fetcher: Fetcher, members: Vec<Member>) -> Self {
        let is_comparable = members.windows(2).all(|pair| matches!(pair, [a, b] if a.scope == b.scope));
        Self { passes_shared: is_comparable, ..Self::new(fetcher, members) }
    }

    /// What comes next; nothing at the end. Any error but a lost page ends the walk.
    pub(crate) async fn next(&mut self) -> Result<Option<Step>, EngineError> {
        while let Some(at) = self.lowest() {
            if matches!(self.groups.get(at), Some(Group { head: Head::Entries { .. }, .. })) {
                let key = self.groups.get(at).map(|group| group.key.clone()).unwrap_or_default();
                return Ok(Some(Step::Row(self.row(&key))));
            }
            let group = self.groups.swap_remove(at);
            let Head::Page(pending) = group.head else { continue };
            if self.passes_shared && group.members.len() == self.members.len() {
                self.depart(&group.members);
                continue;
            }
            if let Some(lost) = self.open(pending, group.members, group.scope).await? {
                return Ok(Some(lost));
            }
        }
        Ok(None)
    }

    /// The group with the lowest key; a page before the entries that its members may have at the same key.
    fn lowest(&self) -> Option<usize> {
        let is_entry = |group: &Group| matches!(group.head, Head::Entries { .. });
        let order = |a: &Group, b: &Group| (&a.key, is_entry(a)).cmp(&(&b.key, is_entry(b)));
        let lowest = self.groups.iter().enumerate().min_by(|(_, a), (_, b)| order(a, b));
        lowest.map(|(at, _)| at)
    }

    /// Reads a page; its members go on to what is in it.
    async fn open(
        &mut self,
        pending: Pending,
        members: Arc<Vec<usize>>,
        scope: Arc<Scope>,
    ) -> Result<Option<Step>, EngineError> {
        match pending.read(&self.fetcher).await {
            Ok(Page::Entries(entries)) => {
                self.settle(Group {
                    members,
                    scope,
                    key: Vec::new(),
                    head: Head::Entries { page: Arc::new(entries), at: 0 },
                });
                Ok(None)
            }
            Ok(Page::Directory(children)) => {
                let frame = Frame { children: Arc::new(children), at: 0, end: pending.end.map(Arc::new) };
                for member in members.iter() {
                    if let Some(frames) = self.frames.get_mut(*member) {
                        frames.push(frame.clone());
                    }
                }
                self.depart(&members);
                Ok(None)
            }
            Err(error) if error.kind() == Kind::Damaged => {
                let relative = |key: &Vec<u8>| scope.relative(key).to_vec();
                let range =
                    (pending.first.as_ref().map(relative).unwrap_or_default(), pending.end.as_ref().map(relative));
                for member in members.iter() {
                    if let Some(lost) = self.lost.get_mut(*member) {
                        *lost = Some(range.clone());
                    }
                }
                self.depart(&members);
                Ok(Some(Step::Lost { members, error: pending.lost(error) }))
            }
            Err(error) => Err(error),
        }
    }

    /// Puts a group that is in a page of entries at the next one that is wanted; its members go on if there is none.
    fn settle(&mut self, mut group: Group) {
        let Head::Entries { page, at } = &mut group.head else { return };
        while let Some(full) = page.get(*at) {
            if group.scope.holds(&full.entry.path) {
                group.key = group.scope.relative(&full.entry.sort_key()).to_vec();
                self.groups.push(group);
                return;
            }
            *at += 1;
        }
        let members = Arc::clone(&group.members);
        self.depart(&members);
    }

    /// Members go on to the page that is next for each.
    fn depart(&mut self, members: &[usize]) {
        for member in members {
            if let Some(pending) = self.next_page(*member) {
                self.arrive(*member, pending);
            }
        }
    }

    /// The next page of a member that can hold something wanted.
    fn next_page(&mut self, member: usize) -> Option<Pending> {
        let scope = Arc::clone(&self.members.get(member)?.scope);
        let frames = self.frames.get_mut(member)?;
        loop {
            let level = frames.len();
            let frame = frames.last_mut()?;
            let Some((first, child)) = frame.children.get(frame.at) else {
                frames.pop();
                continue;
            };
            let next = frame.children.get(frame.at + 1).map(|(first, _)| first);
            let end = next.or(frame.end.as_deref());
            frame.at += 1;
            if scope.overlaps(first, end.map(Vec::as_slice)) {
                let (first, end) = (Some(first.clone()), end.cloned());
                return Some(Pending { id: child.id, level, len: Some(child.len), first, end });
            }
        }
    }

    /// A member has come to a page: it joins those who are there.
    fn arrive(&mut self, member: usize, pending: Pending) {
        let Some(scope) = self.members.get(member).map(|member| Arc::clone(&member.scope)) else { return };
        let is_there = |group: &&mut Group| match &group.head {
            Head::Page(other) => {
                (other.id, &other.first, other.len) == (pending.id, &pending.first, pending.len) && group.scope == scope
            }
            Head::Entries { .. } => false,
        };
        if let Some(group) = self.groups.iter_mut().find(is_there) {
            Arc::make_mut(&mut group.members).push(member);
            let Head::Page(other) = &mut group.head else { return };
            // What is read has to fit what is said of it in every tree.
            if pending.end.as_ref().is_some_and(|end| other.end.as_ref().is_none_or(|other| end < other)) {
                other.end = pending.end;
            }
            return;
        }
        let key = pending.first.as_ref().map(|first| scope.relative(first).to_vec()).unwrap_or_default();
        self.groups.push(Group { members: Arc::new(vec![member]), scope, key, head: Head::Page(pending) });
    }

    /// All that is at the lowest key.
    fn row(&mut self, key: &[u8]) -> Row {
        let (mut versions, mut at) = (Vec::new(), 0);
        while at < self.groups.len() {
            let is_it = |group: &Group| group.key == key && matches!(group.head, Head::Entries { .. });
            if !self.groups.get(at).is_some_and(is_it) {
                at += 1;
                continue;
            }
            let mut group = self.groups.swap_remove(at);
            if let Head::Entries { page, at } = &mut group.head {
                let version = Version { page: Arc::clone(page), at: *at, members: Arc::clone(&group.members) };
                versions.push(version);
                *at += 1;
            }
            self.settle(group);
        }
        let is_lost = |(member, lost): (usize, &Option<LostRange>)| {
            let (first, end) = lost.as_ref()?;
            let is_within = first.as_slice() <= key && end.as_ref().is_none_or(|end| key < end.as_slice());
            is_within.then_some(member)
        };
        Row { versions, unknown: self.lost.iter().enumerate().filter_map(is_lost).collect() }
    }
}
