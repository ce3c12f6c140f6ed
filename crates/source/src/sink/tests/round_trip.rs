//! Entries come back as they were.

use super::*;

/// Restores entries as an engine would: all but directories' metadata in order, then directories, deepest first.
fn restore(target: &Target, entries: &[WalkedEntry], policy: &OwnerPolicy) {
    for walked in entries {
        let Entry { path, kind, metadata } = &walked.entry;
        match kind {
            EntryKind::Directory => drop(target.create_dir(path).unwrap()),
            EntryKind::File { .. } => {
                restore_file(target, walked, policy);
                continue;
            }
            EntryKind::Symlink { target: to } => target.create_symlink(path, to).unwrap(),
            kind => target.mknod(path, kind).unwrap(),
        }
        if *kind != EntryKind::Directory {
            assert!(target.set_metadata(path, metadata, policy).unwrap().is_empty());
        }
    }
    for walked in entries.iter().rev().filter(|walked| walked.entry.kind == EntryKind::Directory) {
        let problems = target.set_metadata(&walked.entry.path, &walked.entry.metadata, policy).unwrap();
        assert!(problems.is_empty(), "{problems:?}");
    }
}

fn restore_file(target: &Target, walked: &WalkedEntry, policy: &OwnerPolicy) {
    let mut reader = walked.open_content().unwrap();
    let mut file = target.create_file(&walked.entry.path, reader.state().len).unwrap();
    let mut offset = 0;
    while let Some(piece) = reader.next_piece(1 << 20).unwrap() {
        match &piece {
            Piece::Data(data) => file.write_at(offset, data).unwrap(),
            Piece::Hole(len) => file.punch_or_skip_hole(offset, *len).unwrap(),
        }
        offset += piece.len();
    }
    let problems = target.set_file_metadata(&mut file, &walked.entry.metadata, policy).unwrap();
    assert!(problems.is_empty(), "{problems:?}");
    file.finish(false).unwrap();
}

/// What must be equal of an entry and its restored copy.
fn comparable(entry: &Entry, prefix: &[u8]) -> Option<(Vec<u8>, EntryKind, Metadata)> {
    let path = entry.path.as_bytes().strip_prefix(prefix)?;
    let mut metadata = entry.metadata.clone();
    (metadata.changed_at, metadata.inode, metadata.device) = Default::default();
    Some((path.to_vec(), entry.kind.clone(), metadata))
}

fn every_kind(dir: &std::path::Path) {
    let at = |name: &str| dir.join(name);
    fs::create_dir_all(at("deep/er")).unwrap();
    fs::write(at("file"), b"content").unwrap();
    fs::write(at("deep/er/\u{e9}\n"), [1; 100_000]).unwrap();
    fs::File::create(at("sparse")).unwrap().set_len(50 << 20).unwrap();
    symlink("no/where", at("link")).unwrap();
    for (name, kind) in [("fifo", "p"), ("char", "c 1 3"), ("block", "b 7 200")] {
        assert!(Command::new("mknod").arg(at(name)).args(kind.split(' ')).status().unwrap().success());
    }
    drop(std::os::unix::net::UnixListener::bind(at("socket")).unwrap());
    for name in ["file", "link", "fifo", "deep"] {
        std::os::unix::fs::lchown(at(name), Some(1234), Some(4321)).unwrap();
    }
    for (name, mode) in [("file", 0o6751), ("deep", 0o3770), ("fifo", 0o622), ("deep/er", 0o500)] {
        fs::set_permissions(at(name), fs::Permissions::from_mode(mode)).unwrap();
    }
    let set = |name: &str, key: &str, value: &[u8]| {
        rustix::fs::lsetxattr(at(name), key, value, rustix::fs::XattrFlags::empty()).unwrap();
    };
    set("file", "user.note", b"\0binary\xff");
    set("file", "security.capability", &[1, 0, 0, 2, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
    set("sparse", "system.posix_acl_access", &ACL_FOR_USER_1);
    set("deep", "system.posix_acl_default", &ACL_FOR_USER_1);
    set("link", "trusted.link", b"l");
    for name in ["file", "link", "fifo", "deep", "deep/er", "char"] {
        let time = rustix::fs::Timespec { tv_sec: -1_000_000, tv_nsec: 123_456_789 };
        let times = rustix::fs::Timestamps { last_access: time, last_modification: time };
        rustix::fs::utimensat(CWD, at(name), &times, AtFlags::SYMLINK_NOFOLLOW).unwrap();
    }
}

#[test]
fn every_kind_of_entry_is_restored_as_it_was_also_a_second_time() {
    let (dir, target) = target();
    let from = dir.path().join("from");
    fs::create_dir(&from).unwrap();
    every_kind(&from);
    let source = FilesSource::new(vec![from.clone()], FilesOptions::default()).unwrap();
    let original = entries(&source);
    let top = &from.as_os_str().as_bytes()[1..];
    let expected: Vec<_> = original.iter().filter_map(|walked| comparable(&walked.entry, top)).collect();
    assert_eq!(expected.len(), 11);
    assert!(expected.iter().any(|(_, _, metadata)| metadata.modified_at.nanos == 123_456_789));

    for policy in [OwnerPolicy::ByName, OwnerPolicy::ByNumber] {
        restore(&target, &original, &policy);
        let copy = FilesSource::new(vec![target.path().to_owned()], FilesOptions::default()).unwrap();
        let prefix = [&target.path().as_os_str().as_bytes()[1..], b"/", top].concat();
        let restored: Vec<_> = entries(&copy).iter().filter_map(|walked| comparable(&walked.entry, &prefix)).collect();
        assert_eq!(restored, expected);
    }
    let sparse = target.path().join(from.strip_prefix("/").unwrap()).join("sparse");
    assert!(fs::metadata(sparse).unwrap().blocks() < 100);
}

#[test]
fn names_win_over_numbers_unless_numbers_are_asked_for() {
    let (_dir, target) = target();
    write(&target, "file", b"");
    let metadata = Metadata { uid: 77, gid: 78, user: Some(b"daemon".to_vec()), ..Metadata::default() };
    let owner = || {
        let found = fs::metadata(target.path().join("file")).unwrap();
        (found.uid(), found.gid())
    };
    for (policy, expected) in
        [(OwnerPolicy::Keep, (0, 0)), (OwnerPolicy::ByName, (1, 78)), (OwnerPolicy::ByNumber, (77, 78))]
    {
        assert!(target.set_metadata(&path("file"), &metadata, &policy).unwrap().is_empty());
        assert_eq!(owner(), expected);
    }
}

#[test]
fn a_program_is_not_set_user_id_for_another_owner_than_it_had() {
    let (_dir, target) = target();
    write(&target, "file", b"");
    let metadata = Metadata { mode: 0o6755, uid: 77, gid: 0, ..Metadata::default() };
    target.set_metadata(&path("file"), &metadata, &OwnerPolicy::Keep).unwrap();
    assert_eq!(target.existing(&path("file")).unwrap().unwrap().mode, 0o2755);
    target.set_metadata(&path("file"), &metadata, &OwnerPolicy::ByNumber).unwrap();
    assert_eq!(target.existing(&path("file")).unwrap().unwrap().mode, 0o6755);
}

#[test]
fn an_acl_inherited_from_the_directory_does_not_stay() {
    let (_dir, target) = target();
    target.create_dir(&path("dir")).unwrap();
    let acl = (b"system.posix_acl_default".to_vec(), ACL_FOR_USER_1.to_vec());
    let metadata = Metadata { mode: 0o755, xattrs: vec![acl], ..Metadata::default() };
    assert!(target.set_metadata(&path("dir"), &metadata, &OwnerPolicy::Keep).unwrap().is_empty());
    write(&target, "dir/file", b"secret");
    let plain = Metadata { mode: 0o640, ..Metadata::default() };
    assert!(target.set_metadata(&path("dir/file"), &plain, &OwnerPolicy::Keep).unwrap().is_empty());
    let source = FilesSource::new(vec![target.path().join("dir/file")], FilesOptions::default()).unwrap();
    let file = entries(&source).pop().unwrap().entry;
    assert_eq!((file.metadata.mode, file.metadata.xattrs), (0o640, vec![]));
}

#[test]
fn attributes_that_cannot_be_set_are_reported_and_the_rest_is_set() {
    let (_dir, target) = target();
    target.mknod(&path("fifo"), &EntryKind::Fifo).unwrap();
    let xattrs = vec![(b"user.none".to_vec(), b"x".to_vec())]; // pipes take none
    let metadata = Metadata { mode: 0o640, modified_at: Time { secs: 5, nanos: 6 }, xattrs, ..Metadata::default() };
    let problems = target.set_metadata(&path("fifo"), &metadata, &OwnerPolicy::Keep).unwrap();
    let kinds: Vec<_> = problems.iter().map(|problem| problem.kind).collect();
    assert_eq!(kinds, [crate::ProblemKind::Xattrs]);
    let there = target.existing(&path("fifo")).unwrap().unwrap();
    assert_eq!((there.mode, there.modified_at), (0o640, Time { secs: 5, nanos: 6 }));
}

#[test]
fn only_special_files_are_made_as_special_files() {
    let (_dir, target) = target();
    let error = target.mknod(&path("x"), &EntryKind::Directory).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Bug);
}

#[test]
fn an_owner_who_may_not_be_set_is_reported_and_the_rest_is_set() {
    let (_dir, target) = target();
    write(&target, "file", b"");
    let metadata =
        Metadata { mode: 0o4751, uid: 4242, gid: 4242, modified_at: Time { secs: 5, nanos: 6 }, ..Metadata::default() };
    let problems = target.set_metadata(&path("file"), &metadata, &OwnerPolicy::ByName).unwrap();
    let kinds: Vec<_> = problems.iter().map(|problem| problem.kind).collect();
    let there = target.existing(&path("file")).unwrap().unwrap();
    if rustix::process::geteuid().is_root() {
        assert_eq!((kinds.as_slice(), there.mode), ([].as_slice(), 0o4751));
    } else {
        assert_eq!((kinds.as_slice(), there.mode), ([crate::ProblemKind::Owner].as_slice(), 0o751));
    }
    assert_eq!(there.modified_at, metadata.modified_at);
}
