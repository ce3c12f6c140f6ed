//! What goes in comes out: every kind of entry, every attribute, and only what was asked for.
//!
//! Trees are compared twice: by our own reading of them, down to nanoseconds, and by rsync, which shares no code with us.

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::process::Command;

use harness::binary::{Host, Run as _, is_root, noise, set_mode, shell};
use harness::listing::{Listing, assert_same, listing_of};
use harness::running::Running;
use rustix::fs::{Mode, OFlags, mkdirat, openat};

/// Everything that needs no root.
const ORDINARY: &str = r#"
mkdir -p plain/sub empty-dir dir-readonly 'with space'
printf 'hello\n' >plain/hello; : >plain/empty; chmod 000 plain/empty; chmod 4755 plain/hello
printf x >plain/sub/x; chmod 1777 plain/sub
ln -s hello plain/link; ln -s /nowhere/at/all plain/dangling; ln -s . plain/self
ln plain/hello plain/second-name; ln plain/hello with\ space/third-name
mkfifo -m 0620 pipe
truncate -s 3M sparse; printf middle | dd of=sparse bs=1 seek=1500000 conv=notrunc status=none
head -c 3000000 /dev/urandom >noise; yes 'all work and no play' | head -c 2000000 >text || true
printf a >$'new\nline'; printf b >$'not-utf8-\xff\xfe'; mkdir $'\xc3('; printf c >$'\xc3(/in it'
printf d >"$(printf 'n%.0s' $(seq 255))"; printf e >'-leading dash'; printf f >'* ? [a]'
setfattr -n user.note -v 'a value' plain/hello; setfattr -n user.binary -v 0x00ff0001 plain/sub
printf ro >dir-readonly/file; chmod 0555 dir-readonly
touch -d '1969-12-31 23:59:58.123456789Z' plain/sub/x; touch -d '2106-03-04 05:06:07.000000001Z' text
touch -h -d '2001-02-03 04:05:06.789012345Z' plain/dangling; touch -d '1999-01-01 00:00:00.5Z' pipe empty-dir
"#;

/// What only root can make.
const OF_ROOT: &str = r#"
mknod char c 1 3; mknod block b 7 200; mknod -m 0606 high c 250 70000
chown 12345:54321 plain/sub/x; chown daemon:adm noise; chown -h 4242:4243 plain/link
chown 77:88 plain/hello; chmod 6755 plain/hello
setfacl -m u:1234:rw,g:4321:r noise; setfacl -d -m u:1234:rwx plain/sub
setfattr -n trusted.note -v secret text; setfattr -h -n trusted.link -v 'of a link' plain/link
"#;

/// A host and a tree with one of everything in `tree`.
pub(crate) fn host_with_everything() -> (Host, PathBuf) {
    let host = Host::with_repository();
    let tree = tree_of_everything(&host);
    (host, tree)
}

/// The same tree on any host.
pub(crate) fn tree_of_everything(host: &Host) -> PathBuf {
    let tree = host.path("tree");
    fs::create_dir(&tree).expect("a folder");
    shell(&tree, ORDINARY);
    if is_root() {
        shell(&tree, OF_ROOT);
    }
    drop(UnixListener::bind(tree.join("socket")).expect("a socket"));
    tree
}

/// Folders below one another until the path has more bytes than `PATH_MAX`, and a file at the end.
fn make_deep(tree: &Path, letter: &str) {
    let name = letter.repeat(250);
    let open = |at: &rustix::fd::OwnedFd, name: &str| openat(at, name, OFlags::DIRECTORY, Mode::empty());
    let mut at = openat(rustix::fs::CWD, tree, OFlags::DIRECTORY, Mode::empty()).expect("the tree");
    for _ in 0..20 {
        mkdirat(&at, name.as_str(), Mode::from_raw_mode(0o755)).expect("a folder");
        at = open(&at, &name).expect("a folder");
    }
    let file = openat(&at, "deep", OFlags::CREATE | OFlags::WRONLY, Mode::from_raw_mode(0o640)).expect("a file");
    rustix::io::write(&file, b"far down").expect("a file");
}

/// What rsync would do to make `restored` like `tree`.
pub(crate) fn rsync_differences(tree: &Path, restored: &Path) -> String {
    let mut rsync = Command::new("rsync");
    rsync.args(["-aHAXnic", "--delete", "--modify-window=-1"]);
    rsync.arg(format!("{}/", tree.display())).arg(format!("{}/", restored.display()));
    rsync.run().expect_code(0).text().to_owned()
}

/// Where the snapshot has `tree`, below `target`.
fn restored_at(target: &Path, tree: &Path) -> PathBuf {
    target.join(tree.strip_prefix("/").expect("an absolute path"))
}

#[test]
fn every_kind_of_entry_comes_back_with_all_its_attributes() {
    let (host, tree) = host_with_everything();
    let report = host.back_up(&[&tree]);
    assert_eq!(report["state"], "complete");
    let target = host.path("target");
    host.backstay(["restore", "latest", "--verify", "--target"]).arg(&target).run().expect_code(0);
    let restored = restored_at(&target, &tree);
    assert_same(&listing_of(&restored), &listing_of(&tree));
    assert_eq!(rsync_differences(&tree, &restored), "");
    let blocks = fs::metadata(restored.join("sparse")).expect("the sparse file").blocks();
    assert!(blocks * 512 < 1 << 20, "a hole came back as {blocks} blocks");
}

#[test]
fn paths_longer_than_the_system_takes_at_once_come_back() {
    let host = Host::with_repository();
    let tree = host.path("tree");
    fs::create_dir(&tree).expect("a folder");
    make_deep(&tree, "d");
    host.back_up(&[&tree]);
    let target = host.path("target");
    let path = format!("latest:{}", tree.display());
    host.backstay(["restore", &path, "--verify", "--target"]).arg(&target).run().expect_code(0);
    let expected = listing_of(&tree);
    assert!(expected.keys().any(|path| path.len() > 5000), "the tree is deep");
    assert_same(&listing_of(&target), &expected);
    make_deep(&target, "e");
    let mut again = host.backstay(["restore", &path, "--delete", "--yes", "--target"]);
    again.arg(&target).run().expect_code(0);
    assert_same(&below(&target), &below(&tree));
}

#[test]
fn folder_of_a_hundred_thousand_files_takes_no_memory_for_them_and_comes_back() {
    const COUNT: usize = 100_000;
    const PEAK_LEN_MAX: u64 = 250 << 20;
    let host = Host::with_repository();
    let folder = host.path("tree/folder");
    fs::create_dir_all(&folder).expect("a folder");
    for at in 0..COUNT {
        let content = if at % 10 == 0 { at.to_string() } else { String::new() };
        fs::write(folder.join(format!("file {at}")), content).expect("a file");
    }
    let tree = host.path("tree");
    let measured = |command: std::process::Command| {
        let (ran, peak_len) = Running::start(command, false).finish();
        assert!(peak_len < PEAK_LEN_MAX, "{ran}: {} MiB", peak_len >> 20);
        ran.expect_code(0)
    };
    for is_new in [true, false] {
        let mut backup = host.backstay(["--json", "backup"]);
        backup.arg(&tree);
        let report = measured(backup).json();
        assert!(report["entry_count"].as_u64() > Some(COUNT as u64), "{report}");
        assert_eq!(report["new_len"].as_u64() > Some(0), is_new, "{report}");
    }
    let target = host.path("target");
    let mut restore = host.backstay(["restore", &format!("latest:{}", tree.display()), "--target"]);
    restore.arg(&target);
    measured(restore);
    for at in [0, 1, 50_000, COUNT - 1] {
        let content = fs::read(target.join(format!("folder/file {at}"))).expect("the file");
        assert_eq!(content, fs::read(folder.join(format!("file {at}"))).expect("the file"));
    }
    assert_eq!(fs::read_dir(target.join("folder")).expect("the folder").count(), COUNT);
}

#[test]
fn path_of_a_snapshot_becomes_the_target_itself() {
    let (host, tree) = host_with_everything();
    host.back_up(&[&tree]);
    let of = |path: &str| format!("latest:{}", tree.join(path).display());
    let target = host.path("target");
    host.backstay(["restore", &of("plain/sub"), "--target"]).arg(&target).run().expect_code(0);
    assert_same(&listing_of(&target), &listing_of(&tree.join("plain/sub")));
    let beside = host.path("beside");
    host.backstay(["restore", &of("noise"), "--target"]).arg(&beside).run().expect_code(0);
    assert_same(&listing_of(&beside.join("noise")), &listing_of(&tree.join("noise")));
    let missing = host.backstay(["restore", &of("nothing"), "--target"]).arg(host.path("none")).run();
    missing.expect_code(2).says(&["nothing", "hint:"]);
}

#[test]
fn target_that_was_there_keeps_its_own_permissions_unless_a_directory_becomes_it() {
    let host = Host::with_repository();
    host.write("tree/file", "x");
    let tree = host.path("tree");
    set_mode(&tree, 0o700);
    host.back_up(&[&tree]);
    let target = host.path("target");
    fs::create_dir(&target).expect("a folder");
    set_mode(&target, 0o1777);
    host.backstay(["restore", "latest", "--target"]).arg(&target).run().expect_code(0);
    assert_eq!(fs::metadata(&target).expect("the target").mode() & 0o7777, 0o1777);
    let file = format!("latest:{}", tree.join("file").display());
    host.backstay(["restore", &file, "--target"]).arg(&target).run().expect_code(0);
    assert_eq!(fs::metadata(&target).expect("the target").mode() & 0o7777, 0o1777);
    assert_eq!(fs::read_to_string(target.join("file")).expect("the file"), "x");
}

#[test]
fn restore_takes_what_is_included_and_leaves_what_is_excluded() {
    let host = Host::with_repository();
    for name in ["tree/a.txt", "tree/b.log", "tree/sub/c.txt", "tree/sub/deep/d.txt", "tree/sub/deep/e.log"] {
        host.write(name, name);
    }
    let tree = host.path("tree");
    host.back_up(&[&tree]);
    let path = format!("latest:{}", tree.display());
    let files_of = |name: &str, options: &[&str]| {
        let target = host.path(name);
        host.backstay(["restore", &path, "--target"]).arg(&target).args(options).run().expect_code(0);
        shell(&target, "find . -type f | LC_ALL=C sort")
    };
    assert_eq!(files_of("1", &["--include", "*.log"]), "./b.log\n./sub/deep/e.log\n");
    assert_eq!(files_of("2", &["--exclude", "*.log", "--exclude", "a.txt"]), "./sub/c.txt\n./sub/deep/d.txt\n");
    assert_eq!(files_of("3", &["--include", "deep", "--exclude", "*.log"]), "./sub/deep/d.txt\n");
}

#[test]
fn include_that_matches_nothing_is_named_and_nothing_is_made_if_all_of_them_do() {
    let host = Host::with_repository();
    host.write("tree/a.txt", "a");
    let tree = host.path("tree");
    host.back_up(&[&tree]);
    let path = format!("latest:{}", tree.display());
    let restore =
        |target: &Path, options: &[&str]| host.backstay(["restore", &path, "--target"]).arg(target).args(options).run();
    for options in [["--dry-run"].as_slice(), &[]] {
        let none = [options, &["--include", "nothing-like-it", "--include", "*.log"]].concat();
        let target = host.path("none");
        restore(&target, &none).expect_code(2).says(&[
            "matches nothing-like-it, *.log",
            "begin at the root of the snapshot",
            "**/NAME",
            "backstay ls",
        ]);
        assert!(!target.exists());
        let one = [options, &["--include", "*.txt", "--include", "*.log"]].concat();
        restore(&host.path("one"), &one).expect_code(1).says(&["*.log: matches nothing in the snapshot", "**/NAME"]);
    }
    assert_eq!(fs::read(host.path("one/a.txt")).expect("is restored"), b"a");
}

#[test]
fn files_of_several_names_that_are_right_are_not_made_again_and_those_that_are_not_are() {
    let host = Host::with_repository();
    host.write("tree/a", "linked");
    fs::create_dir(host.path("tree/sub")).expect("a folder");
    shell(&host.path("tree"), "ln a b; ln a sub/c; mkfifo f; ln f g");
    let tree = host.path("tree");
    host.back_up(&[&tree]);
    let (path, target) = (format!("latest:{}", tree.display()), host.path("restored"));
    let restore = |more: &[&str]| {
        host.backstay(["--json", "restore", &path, "--target"]).arg(&target).args(more).run().expect_code(0).json()
    };
    restore(&["--verify"]);
    let state = || shell(&target, "stat -c '%n %i %h %Z %z' a b sub/c f g");
    let before = state();
    let dry = restore(&["--dry-run"]);
    assert_eq!((&dry["new_count"], &dry["changed_count"]), (&0.into(), &0.into()), "{dry}");
    let again = restore(&["--verify"]);
    assert_eq!((&again["written_len"], &again["kept_len"]), (&0.into(), &6.into()), "{again}");
    assert_eq!(state(), before, "neither inodes nor the times of their last change are others");
    // Longer by a further name of the user's: that one must keep what it holds, whatever the snapshot says.
    shell(&target, "ln a mine; printf linKed > a; touch -r f a");
    restore(&["--verify"]);
    assert_eq!(shell(&target, "cat a b sub/c mine; stat -c %h a mine"), "linkedlinkedlinkedlinKed3\n1\n");
}

#[test]
fn verify_names_metadata_that_differs_of_every_kind_of_entry() {
    let host = Host::with_repository();
    host.write("tree/sub/file", "x");
    shell(&host.path("tree"), "ln -s to sub/link; mkfifo sub/fifo; touch -hd 2001-02-03 sub/link");
    let tree = host.path("tree");
    host.back_up(&[&tree]);
    let (path, target) = (format!("latest:{}", tree.display()), host.path("restored"));
    let restore =
        |more: &[&str]| host.backstay(["restore", &path, "--verify", "--target"]).arg(&target).args(more).run();
    restore(&[]).expect_code(0);
    // Files that are believed to be right are not touched, so only looking finds this.
    shell(&target, "chmod 640 sub/file");
    restore(&["--overwrite", "if-changed"]).expect_code(1).says(&["sub/file: differs", "permissions"]);
    restore(&[]).expect_code(0);
    xattr::set(target.join("sub/file"), "user.more", b"1").expect("takes attributes");
    restore(&["--overwrite", "if-changed"]).expect_code(1).says(&["sub/file: differs", "attributes"]);
}

/// The entries below a directory; its own line changes with what is done in it.
fn below(directory: &Path) -> Listing {
    let mut listing = listing_of(directory);
    listing.remove(b"".as_slice());
    listing
}

#[test]
fn restore_deletes_what_the_snapshot_lacks_only_when_told_twice() {
    let host = Host::with_repository();
    host.write("tree/kept/a", "a");
    let tree = host.path("tree");
    host.back_up(&[&tree]);
    let expected = below(&tree);
    let path = format!("latest:{}", tree.display());
    for name in ["tree/kept/extra", "tree/more/deep/er", "outside"] {
        host.write(name, "x");
    }
    std::os::unix::fs::symlink(host.path("outside"), tree.join("to-outside")).expect("a link");
    let changed = below(&tree);
    let restore = |options: &[&str]| host.backstay(["restore", &path, "--target"]).arg(&tree).args(options).run();
    let plan =
        ["would delete kept/extra", "would delete more", "would delete to-outside", "3 entries would be deleted"];
    restore(&["--delete"]).expect_code(2).says(&plan).says(&["nothing was done", "hint:", "--yes"]);
    assert_same(&below(&tree), &changed);
    restore(&["--delete", "--dry-run"]).expect_code(0).says(&plan);
    fs::rename(tree.join("kept"), host.path("elsewhere")).expect("a folder");
    restore(&["--delete", "--dry-run"]).expect_code(0).says(&["2 entries would be deleted"]);
    fs::rename(host.path("elsewhere"), tree.join("kept")).expect("a folder");
    assert_same(&below(&tree), &changed);
    let report = restore(&["--delete", "--yes", "--json"]).expect_code(0).json();
    assert_same(&below(&tree), &expected);
    assert_eq!(report["deleted_count"], 3, "{report}");
    assert!(host.path("outside").exists(), "a link was followed");
    let missing = host.path("missing");
    host.backstay(["restore", &path, "--delete", "--dry-run", "--target"]).arg(&missing).run().expect_code(0);
    assert!(!missing.exists(), "a plan made its target");
}

#[test]
fn deleting_restore_leaves_alone_what_was_never_backed_up() {
    let host = Host::with_repository();
    host.write("here/web/site/a", "a");
    host.write("here/web/note", "a");
    host.back_up(&[&host.path("here/web/site"), &host.path("here/web/note")]);
    let target = host.path("target");
    let here = restored_at(&target, &host.path("here"));
    for name in ["web/site/extra", "web/mail/letter", "more"] {
        let path = here.join(name);
        fs::create_dir_all(path.parent().expect("a folder")).expect("a folder");
        fs::write(path, "precious").expect("a file");
    }
    fs::write(target.join("top"), "precious").expect("a file");
    let delete = |reference: &str, target: &Path| {
        let mut command = host.backstay(["restore", reference, "--delete", "--yes", "--json", "--target"]);
        command.arg(target).run().expect_code(0).json()["deleted"].to_string()
    };
    let deleted = delete("latest", &target);
    assert!(deleted.ends_with("/here/web/site/extra\"]"), "{deleted}");
    assert_eq!(deleted.matches(',').count(), 0, "{deleted}");
    let found = shell(&target, "find . -type f -printf '%f\n' | LC_ALL=C sort | tr '\n' ' '");
    assert_eq!(found, "a letter more note top ");
    let of = |path: &str| format!("latest:{}", host.path(path).display());
    assert_eq!(delete(&of("here/web"), &here.join("web")), "[]");
    assert_eq!(delete(&of("here/web/note"), &here.join("web")), "[]", "a file becomes no directory to clean");
}

#[test]
fn deleting_restore_takes_no_patterns() {
    let host = Host::with_repository();
    host.write("tree/a.txt", "stored");
    let tree = host.path("tree");
    host.back_up(&[&tree]);
    host.write("tree/extra", "x");
    let path = format!("latest:{}", tree.display());
    for option in ["--include=*.txt", "--exclude=*.txt"] {
        let mut command = host.backstay(["restore", &path, "--delete", "--yes", option, "--target"]);
        command.arg(&tree).run().expect_code(2).says(&["error:", "delete"]);
    }
    assert!(tree.join("extra").exists());
}

#[test]
fn overwriting_never_or_only_what_changed_is_obeyed() {
    let host = Host::with_repository();
    let file = host.write("tree/file", "as it was");
    host.write("tree/gone", "gone");
    let tree = host.path("tree");
    host.back_up(&[&tree]);
    let path = format!("latest:{}", tree.display());
    let restore = |options: &[&str]| {
        host.backstay(["restore", &path, "--json", "--target"]).arg(&tree).args(options).run().expect_code(0).json()
    };
    let read = || fs::read_to_string(&file).expect("the file");
    fs::remove_file(tree.join("gone")).expect("the file");
    fs::write(&file, "edited").expect("the file");
    let report = restore(&["--overwrite", "never"]);
    assert_eq!((read().as_str(), report["skipped_count"].as_u64()), ("edited", Some(1)));
    assert!(tree.join("gone").exists(), "what is missing is restored");
    restore(&["--overwrite", "if-changed"]);
    assert_eq!(read(), "as it was", "another length is a change");
    let modified = fs::metadata(&file).and_then(|metadata| metadata.modified()).expect("the file");
    fs::write(&file, "As It Was").expect("the file");
    fs::File::options().write(true).open(&file).and_then(|file| file.set_modified(modified)).expect("the file");
    restore(&["--overwrite", "if-changed"]);
    assert_eq!(read(), "As It Was", "length and time are believed");
    restore(&[]);
    assert_eq!(read(), "as it was", "without that, content is compared");
}

#[test]
fn restore_over_a_damaged_file_writes_only_the_blocks_that_differ() {
    let host = Host::with_repository();
    let content = noise("delta", 24 << 20);
    let file = host.write("tree/file", &content);
    let tree = host.path("tree");
    host.back_up(&[&tree]);
    let mut damaged = content.clone();
    damaged[5_000_000] ^= 1;
    damaged.truncate(content.len() - 100);
    fs::write(&file, damaged).expect("the file");
    let path = format!("latest:{}", tree.display());
    let report = host.backstay(["restore", &path, "--json", "--target"]).arg(&tree).run().expect_code(0).json();
    let (written, kept) = (report["written_len"].as_u64().expect("a number"), report["kept_len"].as_u64());
    assert!((1..2 << 20).contains(&written), "{report}");
    assert_eq!(kept.map(|kept| kept + written), Some(24 << 20), "{report}");
    assert!(fs::read(&file).expect("the file") == content);
}

#[test]
fn verify_names_a_file_with_a_wrong_byte() {
    let host = Host::with_repository();
    let content = noise("verify", 3 << 20);
    let file = host.write("tree/file", &content);
    let other = host.write("tree/other", "right");
    let tree = host.path("tree");
    host.back_up(&[&tree]);
    // Length and time are right, so the restore believes the file; only reading it can tell.
    let modified = fs::metadata(&file).and_then(|metadata| metadata.modified()).expect("the file");
    let mut wrong = content;
    wrong[2_000_000] ^= 0x10;
    fs::write(&file, wrong).expect("the file");
    fs::File::options().write(true).open(&file).and_then(|file| file.set_modified(modified)).expect("the file");
    let path = format!("latest:{}", tree.display());
    let restore = |options: &[&str]| {
        let mut command = host.backstay(["restore", &path, "--overwrite", "if-changed", "--target"]);
        command.arg(&tree).args(options).run()
    };
    restore(&[]).expect_code(0);
    let ran = restore(&["--verify"]).expect_code(1).says(&["problem:", "file", "differs"]);
    assert!(!ran.stderr.contains("other"), "{ran}");
    assert_eq!(fs::read_to_string(other).expect("the other file"), "right");
}

#[test]
fn fifty_gigabytes_of_hole_cost_next_to_nothing() {
    let host = Host::with_repository();
    let file = host.write("tree/disk.img", "first block");
    let len = 50 << 30;
    let opened = fs::File::options().write(true).open(&file).expect("the file");
    std::os::unix::fs::FileExt::write_all_at(&opened, b"in the middle", 20 << 30).expect("the file");
    opened.set_len(len).expect("the file");
    let tree = host.path("tree");
    let report = host.back_up(&[&tree]);
    assert!(report["stored_len"].as_u64() < Some(1 << 20), "{report}");
    assert_eq!(report["content_len"], len);
    let target = host.path("target");
    let path = format!("latest:{}", tree.display());
    host.backstay(["restore", &path, "--target"]).arg(&target).run().expect_code(0);
    let restored = target.join("disk.img");
    let metadata = fs::metadata(&restored).expect("the file");
    assert_eq!(metadata.len(), len);
    assert!(metadata.blocks() * 512 < 1 << 20, "{} blocks", metadata.blocks());
    let opened = fs::File::open(restored).expect("the file");
    let read = |offset, expected: &[u8]| {
        let mut there = vec![1; expected.len()];
        std::os::unix::fs::FileExt::read_exact_at(&opened, &mut there, offset).expect("the file");
        assert_eq!(there, expected);
    };
    read(0, b"first block\0");
    read((20 << 30) - 1, b"\0in the middle\0");
    read(len - 1, b"\0");
}
