//! What a directory tree is, down to nanoseconds and access lists, as lines that can be compared.
//!
//! ```text
//! a/b  ─►  "file len=3 content=<hash> mode=104755 owner=12:34 mtime=1700000000.123456789 xattrs={…} first=a/a"
//! ```
//!
//! Paths of any length work: each directory is opened below its parent, and what is in it is reached through
//! `/proc/self/fd`.
//!
//! Invariant: two trees with the same lines are the same for everybody who reads them.
//! Never here: writing.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::ffi::OsString;
use std::fs::{self, File, Metadata};
use std::io;
use std::os::fd::AsRawFd as _;
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};

/// Each path below a directory, the directory itself as the empty path, and what is there.
pub type Listing = BTreeMap<Vec<u8>, String>;

/// Reads a whole tree.
///
/// # Panics
///
/// If something cannot be read.
#[must_use]
pub fn listing_of(root: &Path) -> Listing {
    let mut reading = Reading::default();
    let metadata = fs::symlink_metadata(root).expect("the tree's root");
    reading.entry(Vec::new(), root, &metadata);
    reading.listing
}

/// Fails with the paths that differ.
#[track_caller]
pub fn assert_same(found: &Listing, expected: &Listing) {
    let paths: BTreeSet<_> = found.keys().chain(expected.keys()).collect();
    let differing = paths.into_iter().filter(|path| found.get(*path) != expected.get(*path));
    let lines: Vec<_> = differing
        .map(|path| {
            let shown = path.escape_ascii();
            format!("{shown:?}\n  found    {:?}\n  expected {:?}", found.get(path), expected.get(path))
        })
        .collect();
    assert!(lines.is_empty(), "{} paths differ:\n{}", lines.len(), lines.join("\n"));
}

#[derive(Default)]
struct Reading {
    listing: Listing,
    /// The first path of each inode with several.
    first: HashMap<(u64, u64), Vec<u8>>,
}

impl Reading {
    /// Notes the entry that is now to be found at `place`, and all below it.
    fn entry(&mut self, path: Vec<u8>, place: &Path, metadata: &Metadata) {
        let mut line = describe(place, metadata);
        if metadata.nlink() > 1 && !metadata.is_dir() {
            let first = self.first.entry((metadata.dev(), metadata.ino())).or_insert_with(|| path.clone());
            line.push_str(&format!(" links={} first={}", metadata.nlink(), first.escape_ascii()));
        }
        self.listing.insert(path.clone(), line);
        if metadata.is_dir() {
            self.directory(&path, place);
        }
    }

    fn directory(&mut self, path: &[u8], place: &Path) {
        let opened = File::open(place).expect("a directory of the tree");
        let place = PathBuf::from(format!("/proc/self/fd/{}", opened.as_raw_fd()));
        let entries = fs::read_dir(&place).expect("a directory of the tree");
        let mut names: Vec<OsString> = entries.map(|entry| entry.expect("an entry").file_name()).collect();
        names.sort();
        for name in names {
            let below = place.join(&name);
            let metadata = fs::symlink_metadata(&below).expect("an entry of the tree");
            let path = if path.is_empty() { name.into_vec() } else { [path, name.as_bytes()].join(&b'/') };
            self.entry(path, &below, &metadata);
        }
    }
}

fn describe(place: &Path, metadata: &Metadata) -> String {
    let kind = metadata.file_type();
    let what = if kind.is_symlink() {
        let target = fs::read_link(place).expect("a symbolic link");
        format!("symlink to={}", target.as_os_str().as_bytes().escape_ascii())
    } else if kind.is_file() {
        format!("file len={} content={}", metadata.len(), hash_of(place))
    } else if kind.is_block_device() || kind.is_char_device() {
        format!("device={:x}", metadata.rdev())
    } else {
        String::from(if kind.is_dir() { "dir" } else { "pipe or socket" })
    };
    let (mode, uid, gid) = (metadata.mode(), metadata.uid(), metadata.gid());
    let time = format!("{}.{:09}", metadata.mtime(), metadata.mtime_nsec());
    format!("{what} mode={mode:o} owner={uid}:{gid} mtime={time} xattrs={{{}}}", xattrs_of(place))
}

fn hash_of(place: &Path) -> String {
    let mut hasher = blake3::Hasher::new();
    io::copy(&mut File::open(place).expect("a file of the tree"), &mut hasher).expect("a file of the tree");
    hasher.finalize().to_hex()[..16].to_owned()
}

/// Extended attributes by name, POSIX access lists among them. Not those of the system's security module.
fn xattrs_of(place: &Path) -> String {
    let names = xattr::list(place).expect("the names of extended attributes");
    let mut names: Vec<OsString> = names.filter(|name| name != "security.selinux").collect();
    names.sort();
    let value = |name: &OsString| xattr::get(place, name).expect("an extended attribute").unwrap_or_default();
    let shown = names.iter().map(|name| format!("{}={}", name.to_string_lossy(), value(name).escape_ascii()));
    shown.collect::<Vec<_>>().join(" ")
}
