//! Restores to real directories. Some need root: devices, owners, mounts.

use std::fs;
use std::fs::File;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{FileExt as _, MetadataExt as _, PermissionsExt as _, symlink};
use std::process::Command;

use tempfile::TempDir;

use self::opened::Opened;
use super::*;
use crate::ErrorKind;
use crate::entry::{Entry, Metadata, Time};
use crate::files::{FilesOptions, FilesSource, Piece, Walked, WalkedEntry};

mod escape;
pub(crate) mod opened;
mod round_trip;

/// An access ACL which lets user 1 read and write: version 2, then tag, permissions and id of each line.
pub(crate) const ACL_FOR_USER_1: [u8; 44] = [
    2, 0, 0, 0, // version
    1, 0, 6, 0, 0xff, 0xff, 0xff, 0xff, // the owner: rw-
    2, 0, 6, 0, 1, 0, 0, 0, // user 1: rw-
    4, 0, 4, 0, 0xff, 0xff, 0xff, 0xff, // the group: r--
    16, 0, 6, 0, 0xff, 0xff, 0xff, 0xff, // mask: rw-
    32, 0, 0, 0, 0xff, 0xff, 0xff, 0xff, // others: ---
];

fn path(bytes: impl AsRef<[u8]>) -> EntryPath {
    EntryPath::try_from(bytes.as_ref().to_vec()).unwrap()
}

fn target() -> (TempDir, Target) {
    let dir = tempfile::tempdir().unwrap();
    let target = Target::open(&dir.path().join("new/target")).unwrap();
    (dir, target)
}

fn write(target: &Target, name: &str, content: &[u8]) {
    let mut file = target.create_file(&path(name), content.len() as u64).unwrap();
    file.write_at(0, content).unwrap();
    file.finish(false).unwrap();
}

fn content(target: &Target, name: &str) -> Vec<u8> {
    fs::read(target.path().join(name)).unwrap()
}

fn entries(source: &FilesSource) -> Vec<WalkedEntry> {
    let entries = source.walk().map(|walked| match walked {
        Walked::Entry(entry) => entry,
        Walked::Problem(problem) => panic!("{problem}"),
    });
    entries.collect()
}

#[test]
fn a_file_that_is_there_is_opened_for_comparing_and_cut_to_its_length() {
    let (_dir, target) = target();
    write(&target, "file", b"0123456789");
    let mut file = target.create_file(&path("file"), 8).unwrap();
    assert_eq!(file.len_before(), 10);
    let mut there = [0; 20];
    assert_eq!(file.read_at(2, &mut there).unwrap(), 6);
    assert_eq!(&there[..6], b"234567");
    file.write_at(4, b"XY").unwrap();
    file.finish(true).unwrap();
    assert_eq!(content(&target, "file"), b"0123XY67");
}

#[test]
fn a_file_that_was_open_to_others_is_private_from_the_first_byte_written() {
    let (_dir, target) = target();
    write(&target, "file", b"old");
    let mode = || fs::metadata(target.path().join("file")).unwrap().mode() & 0o7777;
    fs::set_permissions(target.path().join("file"), fs::Permissions::from_mode(0o666)).unwrap();
    let mut file = target.create_file(&path("file"), 3).unwrap();
    assert_eq!(mode(), 0o666);
    file.write_at(0, b"n").unwrap();
    assert_eq!(mode(), 0o600);
}

#[test]
fn a_file_with_further_names_is_made_anew() {
    let (dir, target) = target();
    let outside = dir.path().join("outside");
    fs::write(&outside, b"precious").unwrap();
    fs::hard_link(&outside, target.path().join("file")).unwrap();
    let file = target.create_file(&path("file"), 3).unwrap();
    assert_eq!(file.len_before(), 0);
    drop(file);
    write(&target, "file", b"new");
    assert_eq!(content(&target, "file"), b"new");
    assert_eq!(fs::read(&outside).unwrap(), b"precious");
}

#[test]
fn holes_are_made_in_what_was_there_and_at_the_end() {
    let (_dir, target) = target();
    write(&target, "file", &[7; 1 << 20]);
    let mut file = target.create_file(&path("file"), 2 << 20).unwrap();
    file.punch_or_skip_hole(4096, 1 << 19).unwrap();
    file.punch_or_skip_hole(1 << 20, 1 << 20).unwrap();
    file.finish(false).unwrap();
    let mut expected = vec![7; 1 << 20];
    expected[4096..4096 + (1 << 19)].fill(0);
    expected.resize(2 << 20, 0);
    assert_eq!(content(&target, "file"), expected);
    assert!(fs::metadata(target.path().join("file")).unwrap().blocks() * 512 <= (1 << 19) + 8192);
}

#[test]
fn what_exists_is_described_and_what_does_not_is_none() {
    let (_dir, target) = target();
    write(&target, "file", b"four");
    symlink("file", target.path().join("link")).unwrap();
    let file = target.existing(&path("file")).unwrap().unwrap();
    assert_eq!((file.kind, file.len, file.links, file.mode), (EntryKind::File { len: 4 }, 4, 1, 0o600));
    let link = target.existing(&path("link")).unwrap().unwrap();
    assert_eq!(link.kind, EntryKind::Symlink { target: b"file".to_vec() });
    for missing in ["no", "no/deeper", "file/beneath"] {
        assert_eq!(target.existing(&path(missing)).unwrap(), None);
    }
}

#[test]
fn another_kind_is_in_the_way_unless_it_is_to_be_replaced() {
    let (_dir, target) = target();
    target.create_dir_all(&path("thing/with/depth")).unwrap();
    write(&target, "thing/file", b"x");
    let refused = target.create_file(&path("thing"), 0).unwrap_err();
    assert!(matches!(refused, SourceError::Occupied { found: "directory", .. }));
    assert_eq!(refused.kind(), ErrorKind::Invalid);
    assert!(target.create_symlink(&path("thing"), b"x").is_err());
    assert!(target.mknod(&path("thing"), &EntryKind::Fifo).is_err());
    assert_eq!(content(&target, "thing/file"), b"x");

    let target = target.replace_other_kinds(true);
    for refused in [
        target.create_file(&path("thing"), 0).map(drop),
        target.create_symlink(&path("thing"), b"x"),
        target.mknod(&path("thing"), &EntryKind::Fifo),
        target.hard_link(&path("thing/file"), &path("thing/with")),
    ] {
        assert!(matches!(refused, Err(SourceError::Occupied { found: "directory that is not empty", .. })));
    }
    assert_eq!(content(&target, "thing/file"), b"x");
    target.remove(&path("thing/file")).unwrap();
    target.remove(&path("thing/with")).unwrap();
    write(&target, "thing", b"now a file");
    target.create_symlink(&path("thing"), b"now a link").unwrap();
    target.mknod(&path("thing"), &EntryKind::Fifo).unwrap();
    assert!(target.create_dir(&path("thing")).unwrap());
    assert!(!target.create_dir(&path("thing")).unwrap());
    assert_eq!(target.list_dir(None).unwrap(), [b"thing"]);
}

#[test]
fn links_of_both_kinds_can_be_made_twice_and_are_replaced() {
    let (_dir, target) = target();
    write(&target, "one", b"content");
    for _ in 0..2 {
        target.create_symlink(&path("link"), b"one").unwrap();
        target.hard_link(&path("one"), &path("two")).unwrap();
    }
    target.create_symlink(&path("link"), b"elsewhere").unwrap();
    assert_eq!(fs::read_link(target.path().join("link")).unwrap().as_os_str().as_bytes(), b"elsewhere");
    write(&target, "three", b"other");
    target.hard_link(&path("one"), &path("three")).unwrap();
    assert_eq!(fs::metadata(target.path().join("one")).unwrap().nlink(), 3);
}

#[test]
fn removing_takes_all_that_is_beneath_and_no_link_is_followed() {
    let (dir, target) = target();
    fs::create_dir(dir.path().join("outside")).unwrap();
    fs::write(dir.path().join("outside/file"), b"precious").unwrap();
    target.create_dir_all(&path("a/b/c")).unwrap();
    write(&target, "a/b/file", b"x");
    symlink(dir.path().join("outside"), target.path().join("a/b/link")).unwrap();
    target.remove(&path("a")).unwrap();
    target.remove(&path("a")).unwrap();
    assert!(target.list_dir(None).unwrap().is_empty());
    assert!(dir.path().join("outside/file").exists());
    target.create_dir_all(&path("a/b/c")).unwrap();
    write(&target, "a/b/c/again", b"x");
}

#[test]
fn removing_stops_at_another_file_system() {
    let (_dir, target) = target();
    target.create_dir_all(&path("a/mount")).unwrap();
    let mount = target.path().join("a/mount");
    assert!(Command::new("mount").args(["-t", "tmpfs", "none"]).arg(&mount).status().unwrap().success());
    fs::write(mount.join("file"), b"precious").unwrap();
    let removed = target.remove(&path("a"));
    let is_kept = mount.join("file").exists();
    assert!(Command::new("umount").arg(&mount).status().unwrap().success());
    assert!(matches!(removed, Err(SourceError::MountPoint { .. })));
    assert!(is_kept);
}

#[test]
fn a_path_longer_than_the_system_takes_is_written_looked_at_and_removed() {
    let (_dir, target) = target();
    let mut deep = path(vec![b'd'; 200]);
    for _ in 0..150 {
        target.create_dir(&deep).unwrap();
        deep = deep.join(&[b'd'; 200]).unwrap();
    }
    let mut file = target.create_file(&deep, 4).unwrap();
    file.write_at(0, b"deep").unwrap();
    file.finish(false).unwrap();
    assert_eq!(target.existing(&deep).unwrap().unwrap().len, 4);
    let metadata = Metadata { mode: 0o640, ..Metadata::default() };
    assert!(target.set_metadata(&deep, &metadata, &OwnerPolicy::ByNumber).unwrap().is_empty());
    assert_eq!(target.existing(&deep).unwrap().unwrap().mode, 0o640);
    target.sync_dir(deep.parent().as_ref()).unwrap();
    let mut other = deep.parent().unwrap().join(b"other").unwrap();
    target.create_dir_all(&other).unwrap();
    other = other.join(b"more").unwrap();
    target.create_dir_all(&other).unwrap();
    target.remove(&path(vec![b'd'; 200])).unwrap();
    assert!(target.list_dir(None).unwrap().is_empty());
}

#[test]
fn a_missing_parent_is_an_error_that_names_the_path() {
    let (_dir, target) = target();
    let error = target.create_file(&path("no/file"), 0).unwrap_err();
    assert!(matches!(&error, SourceError::Write { path, .. } if *path == target.path().join("no")));
    target.sync_all().unwrap();
    target.sync_dir(None).unwrap();
}

#[test]
fn file_is_opened_once_for_its_content_and_its_metadata() {
    let (_dir, target) = target();
    let metadata = Metadata { mode: 0o644, modified_at: Time { secs: 1, nanos: 2 }, ..Metadata::default() };
    let folders: Vec<EntryPath> = (0..6).map(|folder| path(format!("folder {folder}"))).collect();
    for folder in &folders {
        target.create_dir(folder).unwrap();
    }
    let places: Vec<PathBuf> = (0..6).map(|folder| target.path().join(format!("folder {folder}"))).collect();
    let opened = Opened::watch(places.iter().map(PathBuf::as_path));
    for folder in &folders {
        for file in 0..100 {
            let mut file = target.create_file(&folder.join(format!("file {file}").as_bytes()).unwrap(), 7).unwrap();
            file.write_at(0, b"content").unwrap();
            assert!(target.set_file_metadata(&mut file, &metadata, &OwnerPolicy::ByName).unwrap().is_empty());
            file.finish(false).unwrap();
        }
    }
    let counts = opened.counts();
    let of_files: Vec<usize> = counts.iter().filter(|(path, _)| path.is_file()).map(|(_, count)| *count).collect();
    assert_eq!(of_files, [1; 600]);
    let of_folders: usize = counts.iter().filter(|(path, _)| path.is_dir()).map(|(_, count)| *count).sum();
    assert!(of_folders <= folders.len(), "{of_folders} times for {} folders", folders.len());
}

#[test]
fn zeros_are_found_in_holes_and_in_data_and_nothing_else_is_taken_for_them() {
    const MIB: u64 = 1 << 20;
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("file");
    let file = File::options().read(true).write(true).create_new(true).open(path).expect("creates");
    file.set_len(8 * MIB).expect("sets the length");
    file.write_all_at(&vec![0; MIB as usize], 2 * MIB).expect("writes");
    file.write_all_at(b"x", 5 * MIB).expect("writes");
    let zero = |offset, len| is_zero(&file, offset, len).expect("reads");
    assert!(zero(0, 5 * MIB), "holes and written zeros");
    assert!(!zero(0, 5 * MIB + 1));
    assert!(!zero(5 * MIB, 1));
    assert!(zero(5 * MIB + 1, 3 * MIB - 1));
    assert!(is_zero(&file, 7 * MIB, MIB + 1).is_err(), "the file ends before");
}
