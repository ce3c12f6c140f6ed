//! Changes as the kernel tells them.

use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use tempfile::TempDir;

use crate::files::{Changes, FilesOptions, Seeing};

const WAIT_FOR: Duration = Duration::from_secs(20);
/// How long nothing must come, to believe that nothing will.
const SILENCE_FOR: Duration = Duration::from_millis(300);

fn watch(roots: &[&Path], options: FilesOptions) -> Changes {
    let roots: Vec<_> = roots.iter().map(|root| root.to_path_buf()).collect();
    Changes::watch(&roots, options, || {}).unwrap()
}

/// What is seen within a while, until it is followed by silence.
#[track_caller]
fn expect_change(changes: &Changes) {
    let began = Instant::now();
    while changes.take() == Seeing::Nothing {
        assert!(began.elapsed() < WAIT_FOR, "no change was seen");
        std::thread::sleep(Duration::from_millis(5));
    }
    expect_nothing_more(changes);
}

/// Waits until nothing comes any more.
fn expect_nothing_more(changes: &Changes) {
    loop {
        std::thread::sleep(SILENCE_FOR);
        if changes.take() == Seeing::Nothing {
            return;
        }
    }
}

#[track_caller]
fn expect_nothing(changes: &Changes) {
    std::thread::sleep(SILENCE_FOR);
    assert_eq!(changes.take(), Seeing::Nothing);
}

#[test]
fn writing_making_renaming_and_removing_are_changes_and_reading_is_none() {
    let folder = TempDir::new().unwrap();
    let root = folder.path().join("root");
    fs::create_dir_all(root.join("deep/er")).unwrap();
    fs::write(root.join("deep/er/file"), "1").unwrap();
    let changes = watch(&[&root], FilesOptions::default());
    fs::read(root.join("deep/er/file")).unwrap();
    fs::read_dir(&root).unwrap().for_each(drop);
    fs::write(folder.path().join("beside"), "no root").unwrap();
    expect_nothing(&changes);
    fs::write(root.join("deep/er/file"), "2").unwrap();
    expect_change(&changes);
    fs::create_dir(root.join("new")).unwrap();
    expect_change(&changes);
    fs::write(root.join("new/file"), "1").unwrap();
    expect_change(&changes);
    fs::rename(root.join("new"), root.join("deep/moved")).unwrap();
    expect_change(&changes);
    fs::write(root.join("deep/moved/file"), "2").unwrap();
    expect_change(&changes);
    fs::remove_file(root.join("deep/er/file")).unwrap();
    expect_change(&changes);
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o700);
    fs::set_permissions(root.join("deep"), mode).unwrap();
    expect_change(&changes);
}

#[test]
fn what_is_left_out_is_no_change() {
    let folder = TempDir::new().unwrap();
    let root = folder.path().join("root");
    for name in ["cache/sub", "repository", "logs"] {
        fs::create_dir_all(root.join(name)).unwrap();
    }
    let linked = folder.path().join("linked");
    std::os::unix::fs::symlink(root.join("repository"), &linked).unwrap();
    let options = FilesOptions {
        exclude: vec!["cache/".into(), "*.log".into()],
        forbidden: vec![linked],
        ..FilesOptions::default()
    };
    let changes = watch(&[&root], options);
    for name in ["cache/sub/file", "repository/pack", "logs/a.log"] {
        fs::write(root.join(name), "1").unwrap();
    }
    expect_nothing(&changes);
    fs::write(root.join("logs/a.txt"), "1").unwrap();
    expect_change(&changes);
}

#[test]
fn roots_that_are_made_later_or_replaced_are_watched_once_the_watches_are_renewed() {
    let folder = TempDir::new().unwrap();
    let (root, file) = (folder.path().join("a/b/root"), folder.path().join("file"));
    let mut changes = watch(&[&root, &file], FilesOptions::default());
    expect_nothing(&changes);
    fs::create_dir(folder.path().join("a")).unwrap();
    expect_change(&changes);
    changes.renew().unwrap();
    fs::create_dir_all(&root).unwrap();
    expect_change(&changes);
    changes.renew().unwrap();
    fs::create_dir(root.join("sub")).unwrap();
    expect_change(&changes);
    fs::write(root.join("sub/file"), "1").unwrap();
    expect_change(&changes);
    fs::rename(&root, folder.path().join("old")).unwrap();
    fs::create_dir(&root).unwrap();
    expect_change(&changes);
    changes.renew().unwrap();
    fs::write(root.join("file"), "1").unwrap();
    expect_change(&changes);
    fs::write(&file, "1").unwrap();
    expect_change(&changes);
    fs::write(folder.path().join("file.new"), "2").unwrap();
    fs::rename(folder.path().join("file.new"), &file).unwrap();
    expect_change(&changes);
    fs::write(&file, "3").unwrap();
    expect_change(&changes);
    expect_nothing(&changes);
}

#[test]
fn more_changes_than_the_kernel_remembers_are_one_that_says_so() {
    let folder = TempDir::new().unwrap();
    let queue: u64 = fs::read_to_string("/proc/sys/fs/inotify/max_queued_events").unwrap().trim().parse().unwrap();
    let (is_held, wakes) = (Arc::new(AtomicBool::new(true)), Arc::new(AtomicU64::new(0)));
    let (held, counted) = (Arc::clone(&is_held), Arc::clone(&wakes));
    let wake = move || {
        counted.fetch_add(1, Ordering::Relaxed);
        while held.load(Ordering::Relaxed) {
            std::thread::sleep(Duration::from_millis(1));
        }
    };
    let mut changes = Changes::watch(&[folder.path().to_owned()], FilesOptions::default(), wake).unwrap();
    // Two events for each file at least, of which none is read while the call does not return.
    for number in 0..queue / 2 + 100 {
        fs::write(folder.path().join(number.to_string()), "").unwrap();
    }
    is_held.store(false, Ordering::Relaxed);
    let began = Instant::now();
    while changes.take() != Seeing::Lost {
        assert!(began.elapsed() < WAIT_FOR, "nothing was lost");
        std::thread::sleep(Duration::from_millis(5));
    }
    assert!(wakes.load(Ordering::Relaxed) >= 1);
    changes.renew().unwrap();
    expect_nothing_more(&changes);
    fs::write(folder.path().join("later"), "1").unwrap();
    expect_change(&changes);
}
