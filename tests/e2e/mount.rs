//! A mounted repository: other programs see in it exactly what was backed up.
//!
//! Where FUSE cannot be used these tests fail: what was not tried has not passed.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{DirEntryExt as _, FileExt as _, MetadataExt as _};
use std::path::Path;
use std::thread;
use std::time::Duration;

use harness::binary::{Host, Run as _, need_root, noise, set_mode, shell};
use harness::fuse::{FuseMount, Unmounted, is_mounted};
use harness::listing::{assert_same, listing_of};
use harness::mount::SmallDisk;
use harness::running::is_running;
use rustix::fs::{RawDir, SeekFrom};
use rustix::process::Signal;

use crate::fidelity::{host_with_everything, rsync_differences};

/// The most memory that a mount may take, in bytes: 300 MB.
const MEMORY_LEN_MAX: u64 = 300_000_000;

/// The numbers of all names below a folder.
fn inodes(folder: &Path) -> BTreeMap<Vec<u8>, u64> {
    let mut found = BTreeMap::new();
    for entry in fs::read_dir(folder).expect("a folder") {
        let entry = entry.expect("an entry");
        found.insert(entry.file_name().as_bytes().to_vec(), entry.metadata().expect("its metadata").ino());
        assert_eq!(entry.ino(), found[entry.file_name().as_bytes()], "{entry:?}");
    }
    found
}

#[test]
fn mounted_snapshot_is_to_other_programs_what_was_backed_up() {
    need_root();
    let (host, tree) = host_with_everything();
    host.back_up(&[&tree]);
    let mounted = FuseMount::at(&host, "mnt", &[]);
    let shown = mounted.latest(&tree);
    assert_eq!(rsync_differences(&tree, &shown), "");
    assert_same(&listing_of(&shown), &listing_of(&tree));
    let sums = host.path("sums").display().to_string();
    shell(&tree, &format!("find . -type f -print0 | LC_ALL=C sort -z | xargs -0 sha256sum >{sums}"));
    shell(&shown, &format!("sha256sum --quiet -c {sums}"));
    let tar =
        "tar --sort=name --pax-option=delete=atime,delete=ctime --acls --warning=no-file-ignored -cf - . | sha256sum";
    assert_eq!(shell(&shown, tar), shell(&tree, tar));
    let grep = "LC_ALL=C grep -rc --devices=skip work . | LC_ALL=C sort | sha256sum";
    assert_eq!(shell(&shown, grep), shell(&tree, grep));
    let copy = host.path("copy");
    shell(&shown, &format!("cp --sparse=auto sparse {0} && cmp sparse {0}", copy.display()));
    assert!(fs::metadata(&copy).expect("the copy").blocks() * 512 < 1 << 20, "the copy has no holes");
    let refused = shell(&shown, "! touch new 2>&1; ! rm plain/hello 2>&1; ! chmod 600 text 2>&1");
    assert_eq!(refused.matches("Read-only file system").count(), 3, "{refused}");
    assert!(!mounted.said().contains("problem"), "{}", mounted.said());
}

#[test]
fn inode_numbers_stay_the_same_and_names_of_one_file_share_theirs() {
    let host = Host::with_repository();
    let tree = host.path("tree");
    fs::create_dir(&tree).expect("a folder");
    shell(&tree, "echo a >a; ln a b; echo c >c; mkdir d; echo e >d/e; ln -s a link");
    host.back_up(&[&tree]);
    let numbers = || {
        let mounted = FuseMount::at(&host, "mnt", &[]);
        let (above, below) = (inodes(&mounted.latest(&tree)), inodes(&mounted.latest(&tree.join("d"))));
        let (ran, _) = mounted.end(Signal::INT);
        ran.expect_code(0);
        assert_eq!(above[b"a".as_slice()], above[b"b".as_slice()]);
        let all: std::collections::BTreeSet<_> = above.values().chain(below.values()).copied().collect();
        assert_eq!(all.len(), above.len() + below.len() - 1, "{above:?} {below:?}");
        (above, below)
    };
    assert_eq!(numbers(), numbers());
}

#[test]
fn snapshots_are_found_by_id_date_host_source_and_tag_and_new_ones_appear() {
    let host = Host::with_repository();
    let file = host.write("tree/file", "first");
    let back_up = |tag: &str, source: &str| {
        let mut command = host.backstay(["--json", "backup", "--host", "web/1", "--tag", tag, "--source", source]);
        command.arg(host.path("tree")).run().expect_code(0).json()["snapshot_id"].as_str().expect("an id").to_owned()
    };
    let first = back_up("old", "www");
    let mounted = FuseMount::at(&host, "mnt", &[]);
    assert_eq!(fs::read_to_string(mounted.latest(&file)).expect("the file"), "first");
    fs::write(&file, "second").expect("a file");
    let second = back_up("new", "www");
    let has_appeared = || fs::read_to_string(mounted.latest(&file)).is_ok_and(|content| content == "second");
    while !has_appeared() {
        thread::sleep(Duration::from_millis(50));
    }
    let read = |place: &str| {
        let file = file.strip_prefix("/").expect("an absolute path");
        fs::read_to_string(mounted.path(place).join("files").join(file))
            .unwrap_or_else(|error| format!("{place}: {error}"))
    };
    assert_eq!((read(&format!("by-id/{first}")), read(&format!("by-id/{second}"))), ("first".into(), "second".into()));
    assert_eq!(read(&format!("by-id/{}", &first[..8])), "first", "the start of an id finds it");
    for shelf in ["by-date", "by-host/web%2F1", "by-source/www"] {
        let names = shell(&mounted.path(shelf), "ls");
        let dated: Vec<&str> = names.lines().filter(|name| *name != "latest").collect();
        assert_eq!(dated.len(), 2, "{shelf}: {names}");
        let of_first = dated.iter().find(|name| name.ends_with(&first[..8]));
        let of_first = of_first.unwrap_or_else(|| panic!("{shelf}: {names}"));
        assert_eq!(read(&format!("{shelf}/{of_first}")), "first");
        assert_eq!(names.contains("latest"), shelf != "by-date");
    }
    assert_eq!(
        (read("by-tag/old/latest"), read("by-tag/new/latest"), read("by-host/web%2F1/latest")),
        ("first".into(), "second".into(), "second".into())
    );
    assert!(read("by-id/ffffffff").contains("No such file"), "{}", read("by-id/ffffffff"));
    let (ran, _) = mounted.end(Signal::TERM);
    ran.expect_code(0);
    let filtered = FuseMount::at(&host, "mnt", &["--tag", "old"]);
    assert_eq!(shell(&filtered.path("by-id"), "ls").trim(), first);
}

#[test]
fn stream_of_a_command_is_a_file_and_odd_names_are_found() {
    let host = Host::with_repository();
    let mut backup = host.backstay(["backup", "--name", "shop.sql", "--command", "--", "printf", "create table"]);
    backup.run().expect_code(0);
    let mounted = FuseMount::at(&host, "mnt", &[]);
    let found = shell(&mounted.path("latest/"), "find . -type f");
    let shown = mounted.path("latest").join(found.trim());
    assert!(found.trim().ends_with("/shop.sql"), "{found}");
    assert_eq!(fs::read_to_string(shown).expect("the stream"), "create table");
}

#[test]
fn folder_of_a_million_entries_is_listed_whole_and_each_of_them_is_found() {
    const COUNT: usize = 1_000_000;
    need_root();
    let host = Host::with_repository();
    let disk = SmallDisk::mount(&host.path("tree"), 1024);
    let folder = disk.path().join("many");
    fs::create_dir(&folder).expect("a folder");
    shell(&folder, &format!("seq -f 'file %.0f' 0 {} | xargs -d '\\n' touch", COUNT - 1));
    let some = [0, 1, 777, COUNT / 2, COUNT - 1];
    for at in some {
        fs::write(folder.join(format!("file {at}")), at.to_string()).expect("a file");
    }
    host.back_up(&[disk.path()]);
    let mounted = FuseMount::at(&host, "mnt", &[]);
    let shown = mounted.latest(&folder);
    for at in some {
        assert_eq!(fs::read_to_string(shown.join(format!("file {at}"))).expect("the file"), at.to_string());
    }
    assert!(!shown.join("file").exists() && !shown.join(format!("file {COUNT}")).exists());
    assert_eq!(shell(&shown, "ls -f | wc -l").trim(), (COUNT + 2).to_string());
    assert_eq!(shell(&shown, "find . -type f | wc -l").trim(), COUNT.to_string());
    let (ran, peak_len) = mounted.end(Signal::INT);
    assert!(peak_len < MEMORY_LEN_MAX, "{ran}: {} MiB", peak_len >> 20);
}

#[test]
fn listing_of_a_folder_goes_on_from_any_place_where_another_listing_was() {
    let host = Host::with_repository();
    let folder = host.path("tree/many");
    fs::create_dir_all(&folder).expect("a folder");
    shell(&folder, "seq -f 'file %.0f' 0 19999 | xargs -d '\\n' touch");
    host.back_up(&[&host.path("tree")]);
    let mounted = FuseMount::at(&host, "mnt", &[]);
    let shown = mounted.latest(&folder);
    let mut buffer = Vec::with_capacity(32 << 10);
    let open = || File::open(&shown).expect("the folder");
    let first = open();
    let mut listed: Vec<(Vec<u8>, u64)> = Vec::new();
    let mut listing = RawDir::new(&first, buffer.spare_capacity_mut());
    // Not to the end: a whole listing stays in the kernel, which then asks no more.
    while listed.len() < 15_000 {
        let entry = listing.next().expect("more entries").expect("an entry");
        listed.push((entry.file_name().to_bytes().to_vec(), entry.next_entry_cookie()));
    }
    for at in [10, 14_000, 3000, 7777] {
        let other = open();
        rustix::fs::seek(&other, SeekFrom::Start(listed[at].1)).expect("a place");
        let mut listing = RawDir::new(&other, buffer.spare_capacity_mut());
        let next = listing.next().expect("more entries").expect("an entry");
        assert_eq!(next.file_name().to_bytes(), listed[at + 1].0, "behind {at}");
    }
}

#[test]
fn fifty_readers_at_once_get_what_is_right_in_bounded_memory() {
    const LEN: usize = 12 << 20;
    const READERS: usize = 50;
    let host = Host::with_repository();
    let contents: Vec<_> = (0..6).map(|at| noise(&format!("content {at}"), LEN)).collect();
    for (at, content) in contents.iter().enumerate() {
        host.write(&format!("tree/{at}"), content);
    }
    let tree = host.path("tree");
    host.back_up(&[&tree]);
    let mounted = FuseMount::at(&host, "mnt", &[]);
    let shown = mounted.latest(&tree);
    let read = |reader: usize| {
        let (at, expected) = (reader % contents.len(), &contents[reader % contents.len()]);
        let file = File::open(shown.join(at.to_string())).expect("the file");
        if reader.is_multiple_of(2) {
            let mut content = vec![0; LEN];
            file.read_exact_at(&mut content, 0).expect("the content");
            assert!(content == *expected, "reader {reader} got something else");
            return;
        }
        for step in 0..64 {
            let offset = (reader * 7_654_321 + step * 1_234_567) % (LEN - 4096);
            let mut piece = [0; 4096];
            file.read_exact_at(&mut piece, offset as u64).expect("the content");
            assert!(piece == expected[offset..offset + 4096], "reader {reader} got something else at {offset}");
        }
    };
    thread::scope(|scope| {
        for reader in 0..READERS {
            scope.spawn(move || read(reader));
        }
    });
    let (ran, peak_len) = mounted.end(Signal::INT);
    assert!(peak_len < MEMORY_LEN_MAX, "{ran}: {} MiB", peak_len >> 20);
}

#[test]
fn signal_unmounts_at_once_also_what_is_in_use() {
    let host = Host::with_repository();
    let file = host.write("tree/file", noise("file", 2 << 20));
    host.back_up(&[&host.path("tree")]);
    for signal in [Signal::INT, Signal::TERM] {
        let mounted = FuseMount::at(&host, "mnt", &[]);
        let open = File::open(mounted.latest(&file)).expect("the file");
        let (ran, _) = mounted.end(signal);
        ran.expect_code(0).says(&["in use"]);
        assert!(!is_mounted(&host.path("mnt")));
        drop(open);
    }
    let mounted = FuseMount::at(&host, "mnt", &[]);
    shell(&host.path(""), "umount mnt");
    mounted.finish().expect_code(0);
}

#[test]
fn daemon_stays_until_it_is_unmounted_and_says_what_is_wrong_before() {
    let host = Host::with_repository();
    let file = host.write("tree/file", "content");
    host.back_up(&[&host.path("tree")]);
    let point = host.path("mnt");
    let mut mount = host.backstay(["mount", "--daemon", "--log"]);
    mount.arg(host.path("log")).arg(&point).run().expect_code(2).says(&["mnt is not there", "hint:", "mkdir -p"]);
    fs::create_dir(&point).expect("a folder");
    let _unmounted = Unmounted::at(&point);
    mount.run().expect_code(0).says(&["mounted on", "in the background"]);
    assert!(is_mounted(&point));
    let shown = point.join("latest/files").join(file.strip_prefix("/").expect("an absolute path"));
    assert_eq!(fs::read_to_string(shown).expect("the file"), "content");
    let find = format!("pgrep -f -- '--log {}'", host.path("log").display());
    let process = shell(&host.path(""), &find);
    shell(&host.path(""), "umount mnt");
    while process.lines().any(is_running) {
        thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn daemon_whose_log_cannot_be_opened_says_so_and_mounts_nothing() {
    let host = Host::with_repository();
    let point = host.path("mnt");
    fs::create_dir(&point).expect("a folder");
    let _unmounted = Unmounted::at(&point);
    // In a folder that is not there, and a folder itself.
    for log in ["missing/log", "home"].map(|name| host.path(name)) {
        let mut mount = host.backstay(["mount", "--daemon", "--log"]);
        let ran = mount.arg(&log).arg(&point).run().expect_code(2);
        ran.says(&["error:", &format!("{} cannot be written to", log.display())]);
        assert!(!is_mounted(&point), "{}", log.display());
    }
}

#[test]
fn user_who_is_not_root_mounts_and_reads_everything_that_the_key_opens() {
    need_root();
    let host = Host::with_repository();
    let file = host.write("tree/file", "content");
    set_mode(&file, 0);
    host.back_up(&[&host.path("tree")]);
    fs::create_dir(host.path("mnt")).expect("a folder");
    let shown = host.path("mnt/latest/files").join(file.strip_prefix("/").expect("an absolute path"));
    // The device is another one in a namespace of its own, so that nobody else notices.
    let script = r#"
        chown -R 65534:65534 .; mknod -m 666 device c 10 229; mount --bind device /dev/fuse
        as_user() { setpriv --reuid 65534 --regid 65534 --clear-groups "$@"; }
        as_user "$1" mount --daemon mnt
        as_user cat "$2"
        cat "$2" && exit 9 || true
        as_user fusermount3 -u mnt
    "#;
    let command = host.backstay(["unused"]);
    // Where the binary lies, another user may not reach it.
    let binary = host.path("backstay");
    fs::copy(command.get_program(), &binary).expect("the binary");
    set_mode(&binary, 0o755);
    let mut unshared = std::process::Command::new("unshare");
    unshared.args(["-m", "bash", "-euc", script, "script"]).arg(binary).arg(&shown).current_dir(host.path(""));
    unshared.env_clear().envs(command.get_envs().filter_map(|(name, value)| Some((name, value?))));
    let ran = unshared.run().expect_code(0);
    assert_eq!(ran.text(), "content", "{ran}");
}
