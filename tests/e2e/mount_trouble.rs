//! A mounted repository when something is wrong: the place, the system, the store, what is stored.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::fs::{self, File};
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};

use harness::binary::{Host, Ran, Run as _, need_root, noise, shell};
use harness::fuse::{FuseMount, is_mounted};
use rustix::process::Signal;

/// Bytes of a file that is longer than a pack.
const LONG_LEN: usize = 40 << 20;

fn mount(host: &Host, point: &Path) -> Ran {
    host.backstay(["mount"]).arg(point).run()
}

/// The largest packs, which hold data.
pub(crate) fn large_packs(host: &Host) -> Vec<PathBuf> {
    let found = shell(&host.repository(), "find \"$PWD/packs\" -type f -size +4M | LC_ALL=C sort");
    found.lines().map(PathBuf::from).collect()
}

/// Entries of a folder of which a part is lost, the name of one that is, and of one that is not: more than a page lies between.
pub(crate) const MANY: usize = 8000;
pub(crate) const LOST: &str = "file 4000";
pub(crate) const KNOWN: &str = "file 0";

/// A host whose newest snapshot lacks one page of a folder: what the snapshot before it had stored anew is gone.
pub(crate) fn host_with_a_folder_partly_lost() -> (Host, PathBuf) {
    let host = Host::with_repository();
    let folder = host.path("tree/many");
    fs::create_dir_all(&folder).expect("a folder");
    for at in 0..MANY {
        File::create(folder.join(format!("file {at}"))).expect("a file");
    }
    let back_up = || -> BTreeSet<String> {
        host.back_up(&[&host.path("tree")]);
        shell(&host.repository(), "find \"$PWD/packs\" -type f").lines().map(str::to_owned).collect()
    };
    let first = back_up();
    fs::write(folder.join(LOST), "changed").expect("a file");
    let second = back_up();
    host.write("tree/beside", "what leads to the folder is stored once more");
    back_up();
    for pack in second.difference(&first) {
        fs::remove_file(pack).expect("a pack");
    }
    host.backstay(["cache", "clear"]).run().expect_code(0);
    (host, folder)
}

/// Which mebibytes of a file can be read and are right; the others must fail with this code.
fn readable(file: &Path, expected: &[u8], code: i32) -> Vec<bool> {
    let file = File::open(file).expect("it opens");
    let read = |(at, expected): (usize, &[u8])| {
        let mut piece = vec![0; expected.len()];
        match file.read_exact_at(&mut piece, (at << 20) as u64) {
            Ok(()) => {
                assert!(piece == expected, "mebibyte {at} is not what was backed up");
                true
            }
            Err(error) => {
                assert_eq!(error.raw_os_error(), Some(code), "mebibyte {at}: {error}");
                false
            }
        }
    };
    expected.chunks(1 << 20).enumerate().map(read).collect()
}

#[test]
fn mount_point_that_will_not_do_is_refused_with_what_to_do() {
    let host = Host::with_repository();
    host.write("tree/file", "x");
    mount(&host, &host.path("missing")).expect_code(2).says(&["missing is not there", "hint:", "mkdir -p"]);
    mount(&host, &host.path("tree/file")).expect_code(2).says(&["is not a folder", "hint:"]);
    mount(&host, &host.path("tree")).expect_code(2).says(&["is not empty", "hint:"]);
    for inside in ["repository", "repository/inside"] {
        fs::create_dir_all(host.path(inside)).expect("a folder");
        mount(&host, &host.path(inside)).expect_code(2).says(&["overlaps the repository", "hint:"]);
    }
    let mounted = FuseMount::at(&host, "mnt", &[]);
    mount(&host, &host.path("mnt")).expect_code(2).says(&["is mounted on", "already", "hint:", "fusermount3 -u"]);
    drop(mounted);
    host.backstay(["mount", "--log", "x", "y"]).run().expect_code(2).says(&["--daemon"]);
    host.backstay(["mount", "--memory", "1M", "y"]).run().expect_code(2).says(&["at least 16M"]);
}

#[test]
fn system_without_fuse_or_a_right_to_it_says_what_is_missing() {
    need_root();
    let host = Host::with_repository();
    fs::create_dir(host.path("mnt")).expect("a folder");
    let run = |script: &str| {
        let command = host.backstay(["unused"]);
        let mut unshared = std::process::Command::new("unshare");
        unshared.args(["-m", "bash", "-euc", script, "script"]).arg(command.get_program()).current_dir(host.path(""));
        unshared.env_clear().envs(command.get_envs().filter_map(|(name, value)| Some((name, value?)))).run()
    };
    let missing =
        run("mount -t tmpfs none /dev; mknod /dev/null c 1 3; mknod /dev/urandom c 1 9; exec \"$1\" mount mnt");
    missing.expect_code(2).says(&["no /dev/fuse", "hint:", "modprobe fuse", "backstay serve webdav"]);
    let as_user = "exec setpriv --reuid 65534 --regid 65534 --clear-groups \"$1\" mount mnt";
    let device = |mode: &str| {
        format!("chown -R 65534:65534 .; rm -f device; mknod -m {mode} device c 10 229; mount --bind device /dev/fuse;")
    };
    run(&format!("{} {as_user}", device("600"))).expect_code(2).says(&[
        "may not open /dev/fuse",
        "hint:",
        "chmod 666",
        "serve webdav",
    ]);
    let others =
        run(&format!("{} echo >conf; mount --bind conf /etc/fuse.conf; {as_user} --allow-other", device("666")));
    others.expect_code(2).says(&["--allow-other is not allowed", "hint:", "user_allow_other"]);
    assert!(!is_mounted(&host.path("mnt")));
}

#[test]
fn killed_mount_is_cleared_away_by_the_next_one() {
    let host = Host::with_repository();
    let file = host.write("tree/file", "content");
    host.back_up(&[&host.path("tree")]);
    let dead = FuseMount::at(&host, "mnt", &[]).kill();
    assert!(fs::metadata(host.path("mnt")).is_err(), "nobody answers there");
    let mounted = FuseMount::at_dead(&host, "mnt");
    assert_eq!(fs::read_to_string(mounted.latest(&file)).expect("the file"), "content");
    let (ran, _) = mounted.end(Signal::INT);
    ran.expect_code(0);
    assert!(!is_mounted(&host.path("mnt")), "neither of them is left");
    drop(dead);
}

#[test]
fn lost_pack_makes_its_part_of_a_file_fail_and_is_told_with_what_to_do() {
    let host = Host::with_repository();
    let content = noise("long", LONG_LEN);
    let (long, short) = (host.write("tree/long", &content), host.write("tree/short", "short"));
    host.back_up(&[&host.path("tree")]);
    let packs = large_packs(&host);
    assert!(packs.len() >= 2, "{packs:?}");
    fs::remove_file(&packs[0]).expect("a pack");
    let mut mounted = FuseMount::at(&host, "mnt", &[]);
    let read = readable(&mounted.latest(&long), &content, 5);
    assert!(read.contains(&true) && read.contains(&false), "{read:?}");
    let is_there = fs::read(mounted.latest(&short));
    assert!(is_there.as_ref().is_ok_and(|read| read == b"short") || is_there.is_err(), "{is_there:?}");
    mounted.wait_for("backstay check --read-data");
    let said = mounted.said();
    let name = packs[0].file_name().and_then(|name| name.to_str()).expect("a name");
    for text in ["problem:", "tree/long", name, "backstay repair packs"] {
        assert!(said.contains(text), "{text}: {said}");
    }
    let (ran, _) = mounted.end(Signal::INT);
    ran.expect_code(0);
}

#[test]
fn folder_of_which_a_part_is_lost_shows_the_rest_and_fails_at_its_end() {
    let (host, folder) = host_with_a_folder_partly_lost();
    let mut mounted = FuseMount::at(&host, "mnt", &[]);
    let mut known = BTreeSet::new();
    let mut failed = None;
    for entry in fs::read_dir(mounted.latest(&folder)).expect("it opens") {
        match entry {
            Ok(entry) => drop(known.insert(entry.file_name())),
            Err(error) => failed = error.raw_os_error(),
        }
    }
    assert_eq!(failed, Some(5), "{} entries were listed", known.len());
    let is_known = |name: &str| known.contains(OsStr::new(name));
    assert!(is_known(KNOWN) && !is_known(LOST), "{} entries", known.len());
    assert!(fs::read(mounted.latest(&folder).join(KNOWN)).is_ok_and(|content| content.is_empty()));
    let lost = fs::metadata(mounted.latest(&folder).join(LOST)).expect_err("it is not known");
    assert_eq!(lost.raw_os_error(), Some(5), "it is not said to be missing");
    mounted.wait_for("backstay check --read-data");
}

#[test]
fn changed_pack_makes_no_wrong_byte_readable() {
    let host = Host::with_repository();
    let content = noise("long", LONG_LEN);
    let long = host.write("tree/long", &content);
    host.back_up(&[&host.path("tree")]);
    for pack in large_packs(&host) {
        let mut bytes = fs::read(&pack).expect("a pack");
        let middle = bytes.len() / 2;
        bytes[middle] ^= 1;
        shell(&host.path(""), &format!("chmod u+w {}", pack.display()));
        fs::write(&pack, bytes).expect("a pack");
    }
    let mounted = FuseMount::at(&host, "mnt", &[]);
    let read = readable(&mounted.latest(&long), &content, 5);
    assert!(read.contains(&true) && read.contains(&false), "{read:?}");
}

#[test]
fn file_of_a_snapshot_that_was_forgotten_and_pruned_is_a_stale_handle_and_others_stay() {
    let host = Host::with_repository();
    let content = noise("going", LONG_LEN);
    let going = host.write("tree/going", &content);
    let first = host.back_up(&[&host.path("tree")])["snapshot_id"].as_str().expect("an id").to_owned();
    fs::remove_file(&going).expect("a file");
    let staying = host.write("tree/staying", "stays");
    host.back_up(&[&host.path("tree")]);
    let mounted = FuseMount::at(&host, "mnt", &[]);
    let of_first =
        mounted.path(&format!("by-id/{first}/files")).join(going.strip_prefix("/").expect("an absolute path"));
    let file = File::open(&of_first).expect("it is there");
    let mut piece = [0; 4096];
    file.read_exact_at(&mut piece, 0).expect("it can be read");
    host.backstay(["forget", "--yes", &first]).run().expect_code(0);
    host.backstay(["prune", "--yes", "--max-unused", "0"]).run().expect_code(0);
    let failed = file.read_exact_at(&mut piece, (LONG_LEN - 8192) as u64).expect_err("its packs are gone");
    assert!([Some(116), Some(5)].contains(&failed.raw_os_error()), "{failed}");
    assert_eq!(fs::read_to_string(mounted.latest(&staying)).expect("the other is there"), "stays");
    let names = shell(&mounted.path("by-id"), "sleep 3.5; ls");
    assert!(!names.contains(&first), "{names}");
    let (ran, _) = mounted.end(Signal::INT);
    assert!(!ran.stderr.contains(&first), "what was forgotten is no damage: {ran}");
}

#[test]
fn store_that_vanishes_fails_reads_and_serves_them_again_when_it_is_back() {
    let host = Host::with_repository();
    let content = noise("long", LONG_LEN);
    let long = host.write("tree/long", &content);
    host.back_up(&[&host.path("tree")]);
    let mut mounted = FuseMount::at(&host, "mnt", &["--give-up-after", "20s"]);
    let shown = mounted.latest(&long);
    let file = File::open(&shown).expect("it is there");
    let (there, away) = (host.repository(), host.path("away"));
    fs::rename(&there, &away).expect("the repository goes");
    let mut piece = [0; 4096];
    let failed = file.read_exact_at(&mut piece, 20 << 20).expect_err("nothing is there");
    assert_eq!(failed.raw_os_error(), Some(5), "{failed}");
    mounted.wait_for("problem:");
    fs::rename(&away, &there).expect("the repository comes back");
    file.read_exact_at(&mut piece, 20 << 20).expect("it is read again");
    assert!(piece == content[20 << 20..(20 << 20) + 4096]);
    assert!(fs::read(&shown).expect("all of it") == content);
}
