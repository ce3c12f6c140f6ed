//! What a walk yields, and in which order.

use super::*;
use crate::sink::tests::ACL_FOR_USER_1;
use crate::sink::tests::opened::Opened;

#[test]
fn entries_come_in_the_order_of_the_manifest_each_once() {
    let mut names = Vec::new();
    let parts = ["a", "a!", "a-b", "b", "Z", "é", "a.d"];
    for (index, one) in parts.iter().enumerate() {
        for (more, two) in parts.iter().enumerate() {
            names.push(format!("{one}/{two}{}/f{index}", if more % 2 == 0 { "" } else { "/a" }));
        }
        names.push(format!("{one}.txt"));
    }
    let dir = tree(&names.iter().map(String::as_str).collect::<Vec<_>>());
    let (entries, problems) = walk(&[dir.path()], FilesOptions::default());
    assert!(problems.is_empty());

    let paths: Vec<EntryPath> = entries.iter().map(|walked| walked.entry.path.clone()).collect();
    let found = Command::new("find").arg(dir.path()).output().unwrap().stdout;
    let mut naive: Vec<EntryPath> = String::from_utf8(found)
        .unwrap()
        .lines()
        .map(|line| EntryPath::try_from(line.as_bytes()[1..].to_vec()).unwrap())
        .collect();
    let ancestors = dir.path().ancestors().skip(1).filter(|path| *path != Path::new("/"));
    naive.extend(ancestors.map(|path| EntryPath::try_from(path.as_os_str().as_bytes()[1..].to_vec()).unwrap()));
    naive.sort_by_key(EntryPath::sort_key);
    assert_eq!(paths, naive);
}

#[test]
fn names_of_any_bytes_and_of_full_length_are_walked_and_read() {
    let dir = tempfile::tempdir().unwrap();
    let names = [b"new\nline".to_vec(), b"\xff\xfe\x80".to_vec(), vec![b'n'; 255], b" ".to_vec(), b"\\".to_vec()];
    for name in &names {
        fs::write(dir.path().join(OsStr::from_bytes(name)), name).unwrap();
    }
    let (entries, problems) = walk(&[dir.path()], FilesOptions::default());
    assert!(problems.is_empty());
    for name in &names {
        let walked = entry_at(&entries, &dir.path().join(OsStr::from_bytes(name)));
        assert_eq!(&read(walked), name);
    }
}

#[test]
fn a_tree_deeper_than_the_longest_path_and_than_the_open_directories_is_walked_and_read() {
    let dir = tempfile::tempdir().unwrap();
    let depth = 200;
    let long = CString::new(vec![b'd'; 100]).unwrap();
    let flags = OFlags::RDONLY | OFlags::DIRECTORY;
    let mut fd = openat(CWD, dir.path(), flags, Mode::empty()).unwrap();
    for level in 0..depth {
        for name in ["file", "zz"] {
            let file = openat(&fd, name, OFlags::CREATE | OFlags::WRONLY, Mode::RUSR).unwrap();
            fs::File::from(file).write_all(format!("{name} {level}").as_bytes()).unwrap();
        }
        for name in [long.as_c_str(), c"e"] {
            mkdirat(&fd, name, Mode::RWXU).unwrap();
        }
        fd = openat(&fd, &long, flags, Mode::empty()).unwrap();
    }
    let (entries, problems) = walk(&[dir.path()], FilesOptions::default());
    assert!(problems.is_empty(), "{problems:?}");
    let files: Vec<_> = entries.iter().filter(|walked| walked.entry.path.name() == b"file").collect();
    assert_eq!(files.len(), depth);
    assert!(files.last().unwrap().entry.path.as_bytes().len() > 20_000);
    for (level, walked) in files.iter().enumerate().rev() {
        assert_eq!(read(walked), format!("file {level}").into_bytes());
    }
    assert!(entries.windows(2).all(|pair| pair[0].entry.path < pair[1].entry.path));
    assert_eq!(entries.iter().filter(|walked| walked.entry.path.name() == b"e").count(), depth);
    let open = fs::read_dir("/proc/self/fd").unwrap().count();
    assert!(open < 500, "{open} descriptors are open");
}

#[test]
fn every_kind_of_entry_is_found_with_its_metadata() {
    let dir = tree(&["file", "dir/"]);
    let at = |name: &str| dir.path().join(name);
    symlink("no/where\n", at("link")).unwrap();
    for (name, kind) in [("fifo", "p"), ("char", "c 1 3"), ("block", "b 7 200")] {
        assert!(Command::new("mknod").arg(at(name)).args(kind.split(' ')).status().unwrap().success());
    }
    let _socket = std::os::unix::net::UnixListener::bind(at("socket")).unwrap();
    fs::set_permissions(at("file"), fs::Permissions::from_mode(0o6751)).unwrap();
    fs::hard_link(at("file"), at("other")).unwrap();
    std::os::unix::fs::chown(at("dir"), Some(1), Some(54_321)).unwrap();

    let (entries, problems) = walk(&[dir.path()], FilesOptions::default());
    assert!(problems.is_empty(), "{problems:?}");
    let kind = |name: &str| entry_at(&entries, &at(name)).entry.kind.clone();
    assert_eq!(kind("file"), EntryKind::File { len: 4 });
    assert_eq!(kind("dir"), EntryKind::Directory);
    assert_eq!(kind("link"), EntryKind::Symlink { target: b"no/where\n".to_vec() });
    assert_eq!(kind("fifo"), EntryKind::Fifo);
    assert_eq!(kind("socket"), EntryKind::Socket);
    assert_eq!(kind("char"), EntryKind::CharDevice { major: 1, minor: 3 });
    assert_eq!(kind("block"), EntryKind::BlockDevice { major: 7, minor: 200 });

    let expected = fs::metadata(at("file")).unwrap();
    let file = &entry_at(&entries, &at("file")).entry.metadata;
    let other = &entry_at(&entries, &at("other")).entry.metadata;
    assert_eq!((file.mode, file.links, file.inode), (0o6751, 2, expected.ino()));
    assert_eq!((other.inode, other.device), (file.inode, file.device));
    assert_eq!(file.device, expected.dev());
    assert_eq!((file.modified_at.secs, i64::from(file.modified_at.nanos)), (expected.mtime(), expected.mtime_nsec()));
    assert_eq!((file.changed_at.secs, i64::from(file.changed_at.nanos)), (expected.ctime(), expected.ctime_nsec()));
    assert_eq!(file.user.as_deref(), Some(b"root".as_slice()));
    let owned = &entry_at(&entries, &at("dir")).entry.metadata;
    assert_eq!((owned.uid, owned.gid, owned.group.clone()), (1, 54_321, None));
}

#[test]
fn attributes_and_acls_are_read_and_others_are_not() {
    let dir = tree(&["file", "dir/"]);
    symlink("file", dir.path().join("link")).unwrap();
    let set = |name: &str, key: &str, value: &[u8]| {
        rustix::fs::lsetxattr(dir.path().join(name), key, value, rustix::fs::XattrFlags::empty()).unwrap();
    };
    set("file", "user.long", &[7; 2000]);
    set("file", "user.empty", b"");
    set("file", "trusted.mark", b"t");
    set("link", "trusted.link", b"l");
    let acl = ACL_FOR_USER_1;
    set("file", "system.posix_acl_access", &acl);
    set("dir", "system.posix_acl_default", &acl);

    let (entries, problems) = walk(&[dir.path()], FilesOptions::default());
    assert!(problems.is_empty(), "{problems:?}");
    let xattrs = |name: &str| entry_at(&entries, &dir.path().join(name)).entry.metadata.xattrs.clone();
    let pair = |key: &str, value: &[u8]| (key.as_bytes().to_vec(), value.to_vec());
    assert_eq!(
        xattrs("file"),
        [
            pair("system.posix_acl_access", &acl),
            pair("trusted.mark", b"t"),
            pair("user.empty", b""),
            pair("user.long", &[7; 2000])
        ]
    );
    assert_eq!(xattrs("dir"), [pair("system.posix_acl_default", &acl)]);
    assert_eq!(xattrs("link"), [pair("trusted.link", b"l")]);
}

#[test]
fn what_vanishes_or_is_replaced_during_a_walk_is_a_problem_and_the_walk_goes_on() {
    let dir = tree(&["a", "b", "c/x", "d/x", "e/x"]);
    let at = |name: &str| dir.path().join(name);
    let walk = FilesSource::new(vec![dir.path().to_owned()], FilesOptions::default()).unwrap().walk();
    let mut seen = Vec::new();
    let mut problems: BTreeMap<PathBuf, ProblemKind> = BTreeMap::new();
    for walked in walk {
        match walked {
            Walked::Problem(problem) => _ = problems.insert(problem.path, problem.kind),
            Walked::Entry(walked) => {
                let name = walked.entry.path.as_bytes().to_vec();
                if name.ends_with(b"/a") {
                    fs::remove_file(at("b")).unwrap();
                }
                if name.ends_with(b"/e") {
                    fs::remove_dir_all(at("c")).unwrap();
                    fs::rename(at("d"), at("moved")).unwrap();
                    fs::create_dir(at("d")).unwrap();
                }
                seen.push(name);
            }
        }
    }
    let expected = [("b", ProblemKind::Vanished), ("c", ProblemKind::Directory), ("d", ProblemKind::Replaced)];
    assert_eq!(problems, expected.map(|(name, kind)| (at(name), kind)).into());
    assert!(seen.last().unwrap().ends_with(b"/e/x"));
}

#[test]
fn a_folder_with_many_files_is_walked() {
    let dir = tempfile::tempdir().unwrap();
    for index in 0..20_000 {
        fs::File::create(dir.path().join(format!("{index:05}"))).unwrap();
    }
    let names = names_in(dir.path(), FilesOptions::default());
    assert_eq!(names.len(), 20_000);
    assert!(names.is_sorted());
}

#[test]
fn walk_opens_each_folder_once_and_no_file_and_reading_opens_each_file_once() {
    let dir = tempfile::tempdir().unwrap();
    let folders: Vec<PathBuf> = (0..6).map(|folder| dir.path().join(format!("some folder {folder}"))).collect();
    for folder in &folders {
        fs::create_dir(folder).unwrap();
        (0..100).for_each(|file| fs::write(folder.join(format!("some file {file}")), b"content").unwrap());
    }
    let opened = Opened::watch(folders.iter().map(PathBuf::as_path));
    let source = FilesSource::new(vec![dir.path().to_owned()], FilesOptions::default()).unwrap();
    let (entries, _) = split(source.walk());
    assert_eq!(opened.counts(), folders.iter().map(|folder| (folder.clone(), 1)).collect());
    entries.iter().filter(|walked| matches!(walked.entry.kind, EntryKind::File { .. })).for_each(|walked| {
        assert_eq!(read(walked), b"content");
    });
    let of_files = opened.counts().into_iter().filter(|(path, _)| path.is_file()).map(|(_, count)| count);
    assert_eq!(of_files.collect::<Vec<_>>(), [1; 600]);
}
