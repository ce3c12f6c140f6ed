//! Walks over real trees in temporary directories. Some need root: devices, owners, mounts.

use std::collections::BTreeMap;
use std::ffi::{CString, OsStr, OsString};
use std::fs;
use std::io::{Seek as _, Write as _};
use std::os::fd::AsFd as _;
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, symlink};
use std::path::Path;
use std::process::Command;

use rustix::fs::{CWD, Mode, OFlags, mkdirat, openat};
use tempfile::TempDir;

use super::*;
use crate::entry::{EntryKind, EntryPath};
use crate::{ErrorKind, ProblemKind, SourceProblem};

mod changes;
mod content;
mod excludes;
mod order;
mod roots;

/// A tree to walk; names ending in `/` are directories, the others files with their name as content.
fn tree(names: &[&str]) -> TempDir {
    let dir = tempfile::tempdir().unwrap();
    for name in names {
        let path = dir.path().join(name);
        fs::create_dir_all(if name.ends_with('/') { &path } else { path.parent().unwrap() }).unwrap();
        if !name.ends_with('/') {
            fs::write(path, name).unwrap();
        }
    }
    dir
}

fn walk(roots: &[&Path], options: FilesOptions) -> (Vec<WalkedEntry>, Vec<SourceProblem>) {
    let source = FilesSource::new(roots.iter().map(|root| root.to_path_buf()).collect(), options).unwrap();
    split(source.walk())
}

fn split(walk: Walk) -> (Vec<WalkedEntry>, Vec<SourceProblem>) {
    let (mut entries, mut problems) = (Vec::new(), Vec::new());
    for walked in walk {
        match walked {
            Walked::Entry(entry) => entries.push(entry),
            Walked::Problem(problem) => problems.push(problem),
        }
    }
    (entries, problems)
}

/// The paths beneath `top`, relative to it, of a walk without problems.
fn names_in(top: &Path, options: FilesOptions) -> Vec<String> {
    let (entries, problems) = walk(&[top], options);
    assert!(problems.is_empty(), "{problems:?}");
    relative(top, &entries)
}

fn relative(top: &Path, entries: &[WalkedEntry]) -> Vec<String> {
    let prefix = [&top.as_os_str().as_bytes()[1..], b"/"].concat();
    let beneath = entries.iter().filter_map(|walked| walked.entry.path.as_bytes().strip_prefix(prefix.as_slice()));
    beneath.map(|path| String::from_utf8(path.to_vec()).unwrap()).collect()
}

fn entry_at<'a>(entries: &'a [WalkedEntry], path: &Path) -> &'a WalkedEntry {
    let wanted = &path.as_os_str().as_bytes()[1..];
    entries.iter().find(|walked| walked.entry.path.as_bytes() == wanted).unwrap()
}

fn read(entry: &WalkedEntry) -> Vec<u8> {
    let mut reader = entry.open_content().unwrap();
    let mut content = Vec::new();
    while let Some(piece) = reader.next_piece(1000).unwrap() {
        match piece {
            Piece::Data(data) => content.extend_from_slice(&data),
            Piece::Hole(len) => content.resize(content.len() + usize::try_from(len).unwrap(), 0),
        }
    }
    reader.finish().unwrap();
    content
}
