//! Roots made absolute and merged into a plan: the tree of directories that lead to them.
//!
//! ```text
//! /etc  /home/x  /home/x/y      plan:  etc*   home ─ x* ─ y*        * a root: everything beneath is walked
//! ```
//!
//! A root that is not there is kept out of the tree and told by the walk, as long as there is another one.
//!
//! Invariant: at least one root existed when the plan was made, and none is inside a forbidden folder.
//! Never here: walking. The plan knows names only.

use std::collections::BTreeMap;
use std::io;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Component, Path, PathBuf};

use crate::error::{ProblemKind, SourceError};
use crate::observe::FileId;

use super::FilesOptions;

/// One directory of the plan, as an index into it.
pub(super) type NodeId = usize;

/// The directory `/`, where every walk starts.
pub(super) const TOP: NodeId = 0;

/// The tree of directories that lead to roots.
#[derive(Debug)]
pub(super) struct Plan {
    nodes: Vec<Node>,
    roots: Vec<PathBuf>,
    missing: Vec<Missing>,
}

/// A root that cannot be walked.
#[derive(Debug)]
pub(super) struct Missing {
    pub(super) root: PathBuf,
    pub(super) kind: ProblemKind,
    os_error: i32,
}

impl Missing {
    /// What the system said.
    pub(super) fn cause(&self) -> io::Error {
        io::Error::from_raw_os_error(self.os_error)
    }

    /// The root that an error is about, unless more is wrong than that it cannot be had.
    fn of(error: &SourceError) -> Option<Self> {
        match error {
            SourceError::RootMissing { root } => {
                let os_error = rustix::io::Errno::NOENT.raw_os_error();
                Some(Self { root: root.clone(), kind: ProblemKind::Missing, os_error })
            }
            SourceError::RootUnreadable { root, source } => {
                Some(Self { root: root.clone(), kind: ProblemKind::Stat, os_error: source.raw_os_error()? })
            }
            _ => None,
        }
    }
}

#[derive(Debug, Default)]
struct Node {
    children: BTreeMap<Vec<u8>, NodeId>,
    is_root: bool,
}

impl Plan {
    pub(super) fn new(roots: &[PathBuf], options: &FilesOptions) -> Result<Self, SourceError> {
        let mut plan = Self { nodes: vec![Node::default()], roots: Vec::new(), missing: Vec::new() };
        let forbidden = forbidden_ids(options);
        let mut first_missing = None;
        for given in roots {
            let root = match absolute(&options.cwd, given) {
                Ok(root) => root,
                Err(error) => {
                    let Some(missing) = Missing::of(&error).filter(|_| !options.needs_all_roots) else {
                        return Err(error);
                    };
                    plan.missing.push(missing);
                    first_missing.get_or_insert(error);
                    continue;
                }
            };
            refuse_forbidden(&root, &forbidden)?;
            plan.add(&root);
        }
        plan.collect_roots(TOP, &mut PathBuf::from("/"));
        if plan.roots.is_empty() {
            return Err(first_missing.unwrap_or(SourceError::NoRoots));
        }
        // They stay roots, so that a snapshot without them is compared with those that have them.
        let alone = plan.missing.iter().map(|missing| missing.root.clone());
        let alone = alone.filter(|root| !plan.roots.iter().any(|other| root.starts_with(other)));
        let alone: Vec<PathBuf> = alone.collect();
        plan.roots.extend(alone);
        plan.roots.sort();
        plan.roots.dedup();
        Ok(plan)
    }

    /// The roots that cannot be walked.
    pub(super) fn missing(&self) -> &[Missing] {
        &self.missing
    }

    pub(super) fn roots(&self) -> &[PathBuf] {
        &self.roots
    }

    pub(super) fn child(&self, node: NodeId, name: &[u8]) -> Option<NodeId> {
        self.nodes.get(node)?.children.get(name).copied()
    }

    pub(super) fn names(&self, node: NodeId) -> impl Iterator<Item = &[u8]> {
        self.nodes.get(node).into_iter().flat_map(|node| node.children.keys().map(Vec::as_slice))
    }

    pub(super) fn is_root(&self, node: NodeId) -> bool {
        self.nodes.get(node).is_some_and(|node| node.is_root)
    }

    fn add(&mut self, root: &Path) {
        let mut at = TOP;
        for name in root.components().filter(|part| matches!(part, Component::Normal(_))) {
            let next = self.nodes.len();
            let Some(node) = self.nodes.get_mut(at) else { return };
            at = *node.children.entry(name.as_os_str().as_bytes().to_vec()).or_insert(next);
            if at == next {
                self.nodes.push(Node::default());
            }
        }
        if let Some(node) = self.nodes.get_mut(at) {
            node.is_root = true;
        }
    }

    /// The topmost roots, without those inside them. As deep as a root that was given is long.
    fn collect_roots(&mut self, node: NodeId, path: &mut PathBuf) {
        if self.is_root(node) {
            self.roots.push(path.clone());
            return;
        }
        let names: Vec<Vec<u8>> = self.names(node).map(<[u8]>::to_vec).collect();
        for name in names {
            path.push(std::ffi::OsStr::from_bytes(&name));
            if let Some(child) = self.child(node, &name) {
                self.collect_roots(child, path);
            }
            path.pop();
        }
    }
}

/// Which inodes the forbidden folders are, following symbolic links. What does not exist cannot be walked.
pub(super) fn forbidden_ids(options: &FilesOptions) -> Vec<(PathBuf, FileId)> {
    let folders = options.forbidden.iter().map(|folder| options.cwd.join(folder));
    folders.filter_map(|folder| Some((folder.clone(), id(&std::fs::metadata(&folder).ok()?)))).collect()
}

/// Makes a root absolute by its text, without resolving links. The second value tells whether a `..` took a part away,
/// which leads elsewhere if that part is a link.
pub(super) fn absolute_by_text(cwd: &Path, given: &Path) -> (PathBuf, bool) {
    let mut root = PathBuf::from("/");
    let mut went_up = false;
    for part in cwd.join(given).components() {
        match part {
            Component::Normal(name) => root.push(name),
            Component::ParentDir => went_up = root.pop() || went_up,
            Component::RootDir | Component::CurDir | Component::Prefix(_) => {}
        }
    }
    (root, went_up)
}

/// Makes a root absolute by its text, and makes sure that it exists.
fn absolute(cwd: &Path, given: &Path) -> Result<PathBuf, SourceError> {
    let full = cwd.join(given);
    let (root, went_up) = absolute_by_text(cwd, given);
    let found = std::fs::symlink_metadata(&root);
    if went_up && found.as_ref().ok().map(id) != std::fs::symlink_metadata(&full).as_ref().ok().map(id) {
        return Err(SourceError::RootAmbiguous { root: given.to_owned() });
    }
    match found {
        Ok(_) => Ok(root),
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
            Err(SourceError::RootMissing { root })
        }
        Err(source) => Err(SourceError::RootUnreadable { root, source }),
    }
}

fn refuse_forbidden(root: &Path, forbidden: &[(PathBuf, FileId)]) -> Result<(), SourceError> {
    if forbidden.is_empty() {
        return Ok(());
    }
    let parents = root.ancestors().skip(1).filter_map(|at| std::fs::metadata(at).ok());
    let itself = std::fs::symlink_metadata(root).ok();
    for at in parents.chain(itself) {
        if let Some((folder, _)) = forbidden.iter().find(|(_, forbidden)| *forbidden == id(&at)) {
            return Err(SourceError::RootForbidden { root: root.to_owned(), forbidden: folder.clone() });
        }
    }
    Ok(())
}

fn id(metadata: &std::fs::Metadata) -> FileId {
    FileId { device: metadata.dev(), inode: metadata.ino() }
}
