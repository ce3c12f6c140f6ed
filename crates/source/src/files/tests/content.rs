//! Reading files that are still, sparse, changing or gone.

use super::*;

fn walked_file(dir: &TempDir) -> WalkedEntry {
    let (entries, _) = walk(&[dir.path()], FilesOptions::default());
    entries.into_iter().find(|walked| walked.entry.path.name() == b"file").unwrap()
}

fn pieces(reader: &mut ContentReader, len_max: usize) -> Vec<Piece> {
    std::iter::from_fn(|| reader.next_piece(len_max).unwrap()).collect()
}

#[test]
fn a_small_file_is_one_piece_and_an_empty_file_is_none() {
    let dir = tree(&["file"]);
    let mut reader = walked_file(&dir).open_content().unwrap();
    assert_eq!(pieces(&mut reader, 4), [Piece::Data("file".into())]);
    assert_eq!(reader.state().len, 4);
    reader.finish().unwrap();
    fs::write(dir.path().join("file"), b"").unwrap();
    assert!(pieces(&mut walked_file(&dir).open_content().unwrap(), 4).is_empty());
}

#[test]
fn file_that_the_system_makes_up_as_it_is_read_has_its_content_though_its_length_is_0() {
    let (entries, _) = walk(&[Path::new("/proc/self/status")], FilesOptions::default());
    let status = entries.into_iter().find(|walked| walked.entry.path.name() == b"status").unwrap();
    assert!(status.may_have_content() && status.entry.kind == EntryKind::File { len: 0 });
    assert!(read(&status).starts_with(b"Name:"));
    let mut reader = status.open_content().unwrap();
    while reader.next_piece(100).unwrap().is_some() {}
    assert_eq!(reader.next_piece(100).unwrap(), None);
    reader.finish().unwrap();
    // A file of a tmpfs has no device either, but its length is true, and it need not be opened.
    let shm = tempfile::tempdir_in("/dev/shm").unwrap();
    fs::write(shm.path().join("file"), b"").unwrap();
    let empty = walked_file(&shm);
    assert!(!empty.may_have_content());
    assert!(pieces(&mut empty.open_content().unwrap(), 4).is_empty());
}

#[test]
fn a_long_file_comes_in_pieces_of_the_length_asked_for() {
    let dir = tree(&["file"]);
    let content: Vec<u8> = (0..3_000_000_u32).map(|index| (index / 7) as u8).collect();
    fs::write(dir.path().join("file"), &content).unwrap();
    let mut reader = walked_file(&dir).open_content().unwrap();
    let pieces = pieces(&mut reader, 1_000_001);
    let lens: Vec<_> = pieces.iter().map(Piece::len).collect();
    assert_eq!(lens, [1_000_001, 1_000_001, 999_998]);
    reader.finish().unwrap();
    assert_eq!(read(&walked_file(&dir)), content);
}

#[test]
fn holes_of_a_sparse_file_are_found_not_read() {
    let dir = tree(&["file"]);
    let mut file = fs::File::create(dir.path().join("file")).unwrap();
    file.set_len(10 << 30).unwrap();
    for offset in [1 << 20, 5 << 30] {
        file.seek(std::io::SeekFrom::Start(offset)).unwrap();
        file.write_all(&[7; 8192]).unwrap();
    }
    let walked = walked_file(&dir);
    assert_eq!(walked.entry.kind, EntryKind::File { len: 10 << 30 });
    let mut reader = walked.open_content().unwrap();
    let data = Piece::Data(vec![7; 8192].into());
    let between = (5 << 30) - (1 << 20) - 8192;
    assert_eq!(
        pieces(&mut reader, 1 << 20),
        [Piece::Hole(1 << 20), data.clone(), Piece::Hole(between), data, Piece::Hole((5 << 30) - 8192)]
    );
    reader.finish().unwrap();
}

#[test]
fn a_file_that_changes_while_it_is_read_is_reported_and_never_yields_more_than_it_had() {
    let changes: [fn(&Path); 4] = [
        |path| fs::File::options().append(true).open(path).unwrap().write_all(&[1; 5000]).unwrap(),
        |path| fs::File::options().write(true).open(path).unwrap().set_len(1).unwrap(),
        |path| fs::write(path, [2; 100_000]).unwrap(),
        |path| fs::set_permissions(path, fs::Permissions::from_mode(0o600)).unwrap(),
    ];
    for change in changes {
        let dir = tree(&[]);
        let path = dir.path().join("file");
        fs::write(&path, [0; 100_000]).unwrap();
        let mut reader = walked_file(&dir).open_content().unwrap();
        let mut len = reader.next_piece(1000).unwrap().unwrap().len();
        std::thread::sleep(std::time::Duration::from_millis(20));
        change(&path);
        len += pieces(&mut reader, 1000).iter().map(Piece::len).sum::<u64>();
        assert!(len <= 100_000);
        let error = reader.finish().unwrap_err();
        assert!(matches!(&error, SourceError::ChangedWhileRead { path: named } if *named == path));
        assert_eq!(error.kind(), ErrorKind::Changed);
    }
}

#[test]
fn a_sparse_file_that_shrinks_or_grows_while_it_is_read_ends() {
    for new_len in [0, 4096, 40 << 20] {
        let dir = tree(&["file"]);
        let file = fs::File::options().write(true).open(dir.path().join("file")).unwrap();
        file.set_len(20 << 20).unwrap();
        let mut reader = walked_file(&dir).open_content().unwrap();
        file.set_len(new_len).unwrap();
        let len: u64 = pieces(&mut reader, 1000).iter().map(Piece::len).sum();
        assert!(len <= 20 << 20);
        assert!(reader.finish().is_err());
    }
}

#[test]
fn another_file_under_the_walked_name_is_not_read() {
    let dir = tree(&["file", "other"]);
    let path = dir.path().join("file");
    let walked = walked_file(&dir);
    fs::rename(dir.path().join("other"), &path).unwrap();
    assert!(matches!(walked.open_content(), Err(SourceError::Replaced { .. })));
    fs::remove_file(&path).unwrap();
    assert_eq!(walked.open_content().unwrap_err().kind(), ErrorKind::Unreadable);
    symlink("/etc/passwd", &path).unwrap();
    assert!(matches!(walked.open_content(), Err(SourceError::Replaced { .. })));
    fs::remove_file(&path).unwrap();
    assert!(Command::new("mkfifo").arg(&path).status().unwrap().success());
    assert!(matches!(walked.open_content(), Err(SourceError::Replaced { .. })));
    assert!(matches!(walked.refreshed(), Err(SourceError::Replaced { .. })));
}

#[test]
fn a_changed_file_can_be_looked_at_again() {
    let dir = tree(&["file"]);
    let walked = walked_file(&dir);
    fs::write(dir.path().join("file"), b"longer than before").unwrap();
    let mut reader = walked.open_content().unwrap();
    assert_eq!(reader.state().len, 18);
    assert_eq!(pieces(&mut reader, 100).len(), 1);
    let again = walked.refreshed().unwrap();
    assert_eq!(again.entry.kind, EntryKind::File { len: 18 });
    assert_eq!(again.entry.metadata.modified_at, reader.state().modified_at);
    assert_eq!(read(&again), b"longer than before");
}

#[test]
fn only_files_have_content() {
    let dir = tree(&["file", "d/"]);
    let (entries, _) = walk(&[dir.path()], FilesOptions::default());
    let error = entry_at(&entries, &dir.path().join("d")).open_content().unwrap_err();
    assert!(matches!(error, SourceError::NotAFile { found: "directory", .. }));
}

#[test]
fn reading_leaves_the_access_time_alone() {
    let dir = tree(&["file"]);
    let path = dir.path().join("file");
    let before = rustix::fs::Timespec { tv_sec: 1, tv_nsec: 0 };
    let times = rustix::fs::Timestamps { last_access: before, last_modification: before };
    rustix::fs::futimens(fs::File::open(&path).unwrap().as_fd(), &times).unwrap();
    read(&walked_file(&dir));
    assert_eq!(fs::metadata(&path).unwrap().atime(), 1);
}
