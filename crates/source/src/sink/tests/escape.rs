//! Nothing outside the target is touched.

use super::*;

/// A directory outside the target with a file in it, and a link to it in the target.
fn planted(link: &str) -> (TempDir, Target, PathBuf) {
    let (dir, target) = target();
    let outside = dir.path().join("outside");
    fs::create_dir(&outside).unwrap();
    fs::write(outside.join("file"), b"precious").unwrap();
    symlink(&outside, target.path().join(link)).unwrap();
    (dir, target, outside)
}

fn assert_untouched(outside: &Path) {
    let names: Vec<_> = fs::read_dir(outside).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(names, ["file"]);
    assert_eq!(fs::read(outside.join("file")).unwrap(), b"precious");
    assert_eq!(fs::metadata(outside.join("file")).unwrap().mode() & 0o7777, 0o644);
    assert_ne!(fs::metadata(outside).unwrap().mode() & 0o7777, 0o123);
}

#[test]
fn nothing_is_done_behind_a_planted_link() {
    let (_dir, target, outside) = planted("link");
    let target = target.replace_other_kinds(true);
    write(&target, "plain", b"x");
    let metadata = Metadata { mode: 0o123, ..Metadata::default() };
    for name in ["link/file", "link/new", "link/deep/er"] {
        let name = path(name);
        let results: Vec<Result<(), SourceError>> = vec![
            target.create_file(&name, 1).map(drop),
            target.create_dir(&name).map(drop),
            target.create_dir_all(&name),
            target.create_symlink(&name, b"x"),
            target.mknod(&name, &EntryKind::Fifo),
            target.hard_link(&path("plain"), &name),
            target.hard_link(&name, &path("stolen")),
            target.remove(&name),
            target.existing(&name).map(drop),
            target.set_metadata(&name, &metadata, &OwnerPolicy::ByNumber).map(drop),
        ];
        for (index, result) in results.into_iter().enumerate() {
            assert!(matches!(result, Err(SourceError::BehindLink { .. })), "{name} {index}: {result:?}");
        }
    }
    for result in [target.list_dir(Some(&path("link"))).map(drop), target.sync_dir(Some(&path("link")))] {
        assert!(matches!(result, Err(SourceError::BehindLink { .. })));
    }
    assert_untouched(&outside);
    assert!(!target.path().join("stolen").exists());
}

#[test]
fn a_link_in_place_of_the_object_is_not_followed() {
    let (_dir, target, outside) = planted("link");
    symlink(outside.join("file"), target.path().join("to file")).unwrap();
    assert!(matches!(target.create_file(&path("to file"), 1), Err(SourceError::Occupied { .. })));
    assert!(matches!(target.create_dir(&path("link")), Err(SourceError::Occupied { .. })));
    let metadata =
        Metadata { mode: 0o123, uid: 55, xattrs: vec![(b"trusted.x".to_vec(), vec![1])], ..Metadata::default() };
    for name in ["to file", "link"] {
        assert!(target.set_metadata(&path(name), &metadata, &OwnerPolicy::ByNumber).unwrap().is_empty());
        assert_eq!(fs::symlink_metadata(target.path().join(name)).unwrap().uid(), 55);
    }
    assert_eq!(fs::metadata(outside.join("file")).unwrap().uid(), 0);
    assert_untouched(&outside);
    target.remove(&path("link")).unwrap();
    let target = target.replace_other_kinds(true);
    write(&target, "to file", b"x");
    assert_eq!(content(&target, "to file"), b"x");
    assert_untouched(&outside);
}

#[test]
fn a_manifest_that_makes_a_link_and_then_writes_through_it_is_refused() {
    let (dir, target) = target();
    let outside = dir.path().join("outside");
    fs::create_dir(&outside).unwrap();
    fs::write(outside.join("file"), b"precious").unwrap();
    for to in [outside.as_os_str().as_bytes(), b"../../outside", b"..", b"/", b"/proc/self/root"] {
        target.create_symlink(&path("a"), to).unwrap();
        assert!(matches!(target.create_file(&path("a/file"), 1), Err(SourceError::BehindLink { .. })));
        assert!(matches!(target.create_dir(&path("a/outside")), Err(SourceError::BehindLink { .. })));
    }
    assert_untouched(&outside);
}

#[test]
fn a_link_that_takes_the_place_of_an_open_directory_leads_nowhere() {
    let (dir, target) = target();
    let outside = dir.path().join("outside");
    fs::create_dir(&outside).unwrap();
    fs::write(outside.join("file"), b"precious").unwrap();
    target.create_dir(&path("a")).unwrap();
    write(&target, "a/first", b"x");
    fs::rename(target.path().join("a"), target.path().join("moved")).unwrap();
    symlink(&outside, target.path().join("a")).unwrap();
    // The directory is still open: what is written goes into it, wherever it is now, and not through the link.
    write(&target, "a/second", b"y");
    assert_eq!(content(&target, "moved/second"), b"y");
    assert_untouched(&outside);
}

#[test]
fn the_target_itself_may_be_reached_through_a_link() {
    let dir = tempfile::tempdir().unwrap();
    fs::create_dir(dir.path().join("real")).unwrap();
    symlink("real", dir.path().join("link")).unwrap();
    let target = Target::open(&dir.path().join("link")).unwrap();
    write(&target, "file", b"x");
    assert!(dir.path().join("real/file").exists());
    fs::write(dir.path().join("plain"), b"").unwrap();
    let refused = Target::open(&dir.path().join("plain"));
    assert!(matches!(refused, Err(SourceError::TargetKind { found: "file", .. })));
    assert!(matches!(Target::open(&dir.path().join("plain/below")), Err(SourceError::Target { .. })));
}
