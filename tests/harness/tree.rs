//! A folder's content and metadata, read by plain system calls.
//!
//! Invariant: two trees are equal only if every name, byte, permission, owner, time and hard link is.
//! Never here: the engine.

use std::collections::{BTreeMap, HashMap};
use std::fs;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

/// What a name stands for.
#[derive(Clone, PartialEq, Eq)]
pub enum Node {
    /// A regular file.
    File(Vec<u8>),
    /// A directory.
    Directory,
    /// A symbolic link and where it points.
    Symlink(Vec<u8>),
    /// Anything else, by its mode bits and device number.
    Other(u32, u64),
}

#[derive(Clone, PartialEq, Eq)]
struct Named {
    node: Node,
    mode: u32,
    owner: (u32, u32),
    modified_at: (i64, i64),
    /// The first name of the same inode, where there are several.
    first_name: Option<Vec<u8>>,
}

/// Everything beneath a folder, by relative path.
#[derive(Clone, PartialEq, Eq, Default)]
pub struct Tree(BTreeMap<Vec<u8>, Named>);

impl Tree {
    /// Reads what is beneath `folder`, without the folder itself.
    #[must_use]
    pub fn read(folder: &Path) -> Self {
        let mut names = BTreeMap::new();
        let mut folders = vec![folder.to_owned()];
        while let Some(at) = folders.pop() {
            for entry in fs::read_dir(&at).unwrap_or_else(|error| panic!("{}: {error}", at.display())) {
                let path = entry.expect("lists").path();
                let metadata = fs::symlink_metadata(&path).expect("is there");
                if metadata.is_dir() {
                    folders.push(path.clone());
                }
                let relative = path.strip_prefix(folder).expect("is beneath").as_os_str().as_bytes().to_vec();
                names.insert(relative, (path, metadata));
            }
        }
        let mut first_names = HashMap::new();
        let named = names.into_iter().map(|(name, (path, metadata))| {
            let has_links = metadata.nlink() > 1 && !metadata.is_dir();
            let inode = (metadata.dev(), metadata.ino());
            let first_name = has_links.then(|| first_names.entry(inode).or_insert_with(|| name.clone()).clone());
            (name, Named::read(&path, &metadata, first_name))
        });
        Self(named.collect())
    }

    /// How many names there are.
    #[must_use]
    pub fn count(&self) -> usize {
        self.0.len()
    }

    /// Every file with its bytes.
    pub fn files(&self) -> impl Iterator<Item = (&[u8], &[u8])> {
        self.0.iter().filter_map(|(name, named)| match &named.node {
            Node::File(bytes) => Some((name.as_slice(), bytes.as_slice())),
            _ => None,
        })
    }

    /// What `name` stands for.
    #[must_use]
    pub fn node(&self, name: &[u8]) -> Option<&Node> {
        self.0.get(name).map(|named| &named.node)
    }

    /// The names of all entries.
    pub fn names(&self) -> impl Iterator<Item = &[u8]> {
        self.0.keys().map(Vec::as_slice)
    }

    /// What a restore of `path` alone gives: what is below a directory, or anything else by its last name.
    #[must_use]
    pub fn part(&self, path: &[u8]) -> Self {
        let below = [path, b"/"].concat();
        let own = path.rsplit(|byte| *byte == b'/').next().unwrap_or_default();
        let is_folder = self.node(path) == Some(&Node::Directory);
        let place = |name: &[u8]| match name.strip_prefix(below.as_slice()) {
            Some(rest) => Some(rest.to_vec()),
            None => (name == path && !is_folder).then(|| own.to_vec()),
        };
        let mut part: BTreeMap<Vec<u8>, Named> =
            self.0.iter().filter_map(|(name, named)| Some((place(name)?, named.clone()))).collect();
        let mut names: HashMap<Vec<u8>, Vec<Vec<u8>>> = HashMap::new();
        for (name, named) in &part {
            if let Some(first) = &named.first_name {
                names.entry(first.clone()).or_default().push(name.clone());
            }
        }
        for named in part.values_mut() {
            let links = named.first_name.as_ref().map(|first| &names[first]);
            named.first_name = links.filter(|links| links.len() > 1).map(|links| links[0].clone());
        }
        Self(part)
    }

    /// All but `path` and what is below it.
    #[must_use]
    pub fn without(&self, path: &[u8]) -> Self {
        let below = [path, b"/"].concat();
        let is_kept = |name: &[u8]| name != path && !name.starts_with(&below);
        Self(
            self.0
                .iter()
                .filter(|(name, _)| is_kept(name))
                .map(|(name, named)| (name.clone(), named.clone()))
                .collect(),
        )
    }

    /// The names that are in only one of both or stand for something else, and in what.
    #[must_use]
    pub fn differences(&self, other: &Self) -> Vec<String> {
        let mut found = Vec::new();
        for (name, own) in &self.0 {
            let shown = String::from_utf8_lossy(name);
            match other.0.get(name) {
                None => found.push(format!("{shown} is missing")),
                Some(its) => found.extend(own.difference(its).map(|what| format!("{shown}: {what}"))),
            }
        }
        let extra = other.0.keys().filter(|name| !self.0.contains_key(*name));
        found.extend(extra.map(|name| format!("{} is too much", String::from_utf8_lossy(name))));
        found
    }

    /// Fails unless `found` is the same.
    #[track_caller]
    pub fn assert_same(&self, found: &Self, context: &str) {
        let differences = self.differences(found);
        assert!(differences.is_empty(), "{context}:\n  {}", differences.join("\n  "));
    }
}

impl Named {
    fn read(path: &Path, metadata: &fs::Metadata, first_name: Option<Vec<u8>>) -> Self {
        let file_type = metadata.file_type();
        let node = if file_type.is_dir() {
            Node::Directory
        } else if file_type.is_symlink() {
            Node::Symlink(fs::read_link(path).expect("reads").as_os_str().as_bytes().to_vec())
        } else if file_type.is_file() {
            Node::File(fs::read(path).expect("reads"))
        } else {
            Node::Other(metadata.mode() & 0o170_000, metadata.rdev())
        };
        Self {
            node,
            mode: metadata.mode() & 0o7777,
            owner: (metadata.uid(), metadata.gid()),
            modified_at: (metadata.mtime(), metadata.mtime_nsec()),
            first_name,
        }
    }

    fn difference(&self, other: &Self) -> Option<String> {
        let (own, its) = (self, other);
        if own.node != its.node {
            return Some(format!("{} and not {}", its.node.summary(), own.node.summary()));
        }
        let parts = [
            (own.mode != its.mode).then(|| format!("mode {:o} and not {:o}", its.mode, own.mode)),
            (own.owner != its.owner).then(|| format!("owner {:?} and not {:?}", its.owner, own.owner)),
            (own.modified_at != its.modified_at)
                .then(|| format!("time {:?} and not {:?}", its.modified_at, own.modified_at)),
            (own.first_name != its.first_name)
                .then(|| format!("linked to {:?} and not {:?}", shown(&its.first_name), shown(&own.first_name))),
        ];
        let parts: Vec<String> = parts.into_iter().flatten().collect();
        (!parts.is_empty()).then(|| parts.join(", "))
    }
}

fn shown(name: &Option<Vec<u8>>) -> String {
    name.as_ref().map(|name| String::from_utf8_lossy(name).into_owned()).unwrap_or_default()
}

impl Node {
    fn summary(&self) -> String {
        match self {
            Self::File(bytes) => {
                let sum = bytes.iter().fold(0u64, |sum, byte| sum.wrapping_mul(31).wrapping_add(u64::from(*byte)));
                format!("a file of {} bytes ({sum:x})", bytes.len())
            }
            Self::Directory => "a directory".to_owned(),
            Self::Symlink(target) => format!("a link to {}", String::from_utf8_lossy(target)),
            Self::Other(mode, device) => format!("something of mode {mode:o}, device {device}"),
        }
    }
}
