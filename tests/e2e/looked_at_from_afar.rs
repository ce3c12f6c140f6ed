//! A repository on S3 that is mounted or served: what was read is kept on this host's disk, within its bound, sealed.

use std::fs;
use std::io::Read as _;
use std::os::unix::fs::FileExt as _;
use std::path::PathBuf;
use std::sync::mpsc;
use std::time::{Duration, Instant};

use harness::binary::{Host, Run as _, need_root, noise, shell};
use harness::dav::DavServer;
use harness::fuse::FuseMount;
use harness::listing::{assert_same, listing_of};
use rustix::process::Signal;
use store::testing::S3Server;
use tokio::time::sleep;

use crate::fidelity::{rsync_differences, tree_of_everything};
use crate::s3::host_of;

const MIB: usize = 1 << 20;
/// Stands in each content.
const NEEDLE: &[u8] = b"a sentence that is in no other file";
/// The most memory that a mount or server may take, in bytes: 300 MB.
const MEMORY_LEN_MAX: u64 = 300_000_000;
/// After this a mount is taken to wait for its store, whose own patience is longer.
const HANGS_AT_MOST: Duration = Duration::from_secs(25);

/// A host with a repository on a server, and in it a file of so many MiB of noise, and that.
async fn host_with_noise(mib: usize) -> (S3Server, Host, PathBuf, Vec<u8>) {
    let server = S3Server::start().await;
    let host = host_of(&server);
    host.backstay(["init"]).run().expect_code(0);
    let mut content = noise("content", mib * MIB);
    content[MIB..MIB + NEEDLE.len()].copy_from_slice(NEEDLE);
    let file = host.write("tree/file", &content);
    host.back_up(&[&host.path("tree")]);
    (server, host, file, content)
}

/// Overwrites what is in packs with zeros, but the last 64 KiB of each: their lengths and trailers stay.
fn spoil_packs(server: &S3Server) {
    let packs = server.bucket_folder().join("backup/here/packs");
    let spoil = "find . -type f -size +1M | while read -r pack; do \
                 head -c $(($(stat -c %s \"$pack\") - 65536)) /dev/zero | dd of=\"$pack\" conv=notrunc status=none; done";
    shell(&packs, spoil);
}

fn cache_len(host: &Host) -> u64 {
    let all = host.backstay(["--json", "cache", "info"]).run().expect_code(0).json();
    let caches = all["caches"].as_array().expect("a list").iter();
    caches.filter(|cache| cache["purpose"] == "looking").filter_map(|cache| cache["stored_len"].as_u64()).sum()
}

#[tokio::test]
async fn mount_shows_exactly_what_was_backed_up() {
    need_root();
    let server = S3Server::start().await;
    let host = host_of(&server);
    host.backstay(["init"]).run().expect_code(0);
    let tree = tree_of_everything(&host);
    host.back_up(&[&tree]);
    let mounted = FuseMount::at(&host, "mnt", &[]);
    let shown = mounted.latest(&tree);
    assert_eq!(rsync_differences(&tree, &shown), "");
    assert_same(&listing_of(&shown), &listing_of(&tree));
    assert!(!mounted.said().contains("problem"), "{}", mounted.said());
    let (ran, peak_len) = mounted.end(Signal::INT);
    assert!(peak_len < MEMORY_LEN_MAX, "{ran}: {} MiB", peak_len >> 20);
}

#[tokio::test]
async fn content_that_was_looked_at_is_read_from_this_hosts_disk_by_the_next_mount() {
    let (server, host, file, content) = host_with_noise(40).await;
    let mounted = FuseMount::at(&host, "mnt", &[]);
    assert!(fs::read(mounted.latest(&file)).expect("the file") == content);
    drop(mounted.end(Signal::INT));
    let kept_len = cache_len(&host);
    assert!(kept_len > 30 * MIB as u64, "{kept_len}");
    spoil_packs(&server);
    let mounted = FuseMount::at(&host, "mnt", &[]);
    // What was put last may not have reached the disk when the mount ended.
    let mut head = vec![0; 24 * MIB];
    let read = fs::File::open(mounted.latest(&file)).and_then(|mut file| file.read_exact(&mut head));
    read.expect("the first part of the file");
    assert!(head == content[..24 * MIB], "it is something else");
    drop(mounted.end(Signal::INT));
    host.backstay(["cache", "clear", "--all"]).run().expect_code(0);
    assert_eq!(cache_len(&host), 0);
    let mounted = FuseMount::at(&host, "mnt", &[]);
    assert!(fs::read(mounted.latest(&file)).is_err(), "it was there all the time");
}

#[tokio::test]
async fn store_that_hangs_holds_up_nothing_that_was_looked_at_before() {
    let (server, host, file, content) = host_with_noise(4).await;
    let mounted = FuseMount::at(&host, "mnt", &[]);
    let shown = mounted.latest(&file);
    assert!(fs::read(&shown).expect("the file") == content);
    server.hang();
    // The kernel asks again what `latest` is, and the mount its store which snapshots there are.
    sleep(Duration::from_secs(5)).await;
    let is_as_before = || assert!(fs::read(&shown).expect("the file") == content);
    assert!(while_it_hangs(&server, HANGS_AT_MOST, is_as_before), "the store was waited for");
    host.write("tree/file", "other content");
    host.back_up(&[&host.path("tree")]);
    let begun = Instant::now();
    while fs::read(&shown).expect("the file") != b"other content" {
        assert!(begun.elapsed() < HANGS_AT_MOST, "the next snapshot does not appear");
        sleep(Duration::from_millis(100)).await;
    }
}

#[tokio::test]
async fn read_here_and_there_brings_what_lies_around_it() {
    let server = S3Server::start().await;
    let host = host_of(&server);
    host.backstay(["init"]).run().expect_code(0);
    let content: Vec<u8> = (0..3_000_000_u32).flat_map(|line| format!("line {line} of many\n").into_bytes()).collect();
    let file = host.write("tree/file", &content);
    host.back_up(&[&host.path("tree")]);
    let mounted = FuseMount::at(&host, "mnt", &[]);
    let shown = fs::File::open(mounted.latest(&file)).expect("the file");
    let is_right = |at: usize| {
        let mut part = [0; 4096];
        shown.read_exact_at(&mut part, at as u64).expect("a part");
        part[..] == content[at..at + 4096]
    };
    // What lies around is read after the answer, so nobody can say when it is there: each attempt is at a new place.
    let is_there_without_the_server = |attempt: usize| {
        let at = (3 + 5 * attempt) * MIB;
        while_it_hangs(&server, Duration::from_millis(200), || assert!(is_right(at)));
        std::thread::sleep(Duration::from_secs(1));
        // No blob is as long as that.
        while_it_hangs(&server, Duration::from_secs(3), || assert!(is_right(at + 9 * MIB / 4)))
    };
    assert!((0..9).any(is_there_without_the_server), "each neighbour was asked for");
}

/// Does `work` while the server hangs, at most for so long; whether it was done by then.
fn while_it_hangs(server: &S3Server, at_most: Duration, work: impl FnOnce() + Send) -> bool {
    let (send, done) = mpsc::channel();
    server.hang();
    std::thread::scope(|scope| {
        scope.spawn(move || {
            work();
            assert!(send.send(()).is_ok());
        });
        let was_done = done.recv_timeout(at_most).is_ok();
        server.go_on();
        was_done
    })
}

#[tokio::test]
async fn content_kept_on_disk_is_sealed_and_stays_within_its_bound_which_may_be_nothing() {
    let (_server, host, file, content) = host_with_noise(160).await;
    for (disk, least, most) in [("64M", 16, 112), ("0", 0, 12)] {
        let mounted = FuseMount::at(&host, "mnt", &["--disk", disk, "--memory", "16M"]);
        assert!(fs::read(mounted.latest(&file)).expect("the file") == content);
        let (ran, peak_len) = mounted.end(Signal::INT);
        assert!(peak_len < MEMORY_LEN_MAX, "{ran}: {} MiB", peak_len >> 20);
        let kept_mib = cache_len(&host) / MIB as u64;
        assert!((least..=most).contains(&kept_mib), "{disk}: {kept_mib} MiB");
        let grep = format!("! grep -r -l -a -F '{}' .", String::from_utf8_lossy(NEEDLE));
        shell(&host.path("cache"), &grep);
    }
}

#[tokio::test]
async fn server_for_webdav_answers_from_a_repository_on_s3() {
    let (server, host, file, content) = host_with_noise(40).await;
    let served = DavServer::of(&host, &["--memory", "16M"]);
    let whole = served.ask(&[], &served.latest(&file));
    assert!(whole.status == 200 && whole.body == content, "{} {}", whole.status, whole.body.len());
    spoil_packs(&server);
    let part = served.ask(&["-r", "1000-1999"], &served.latest(&file));
    assert!(part.status == 206 && part.body == content[1000..2000], "{}", part.status);
    let (ran, peak_len) = served.end(Signal::INT);
    assert!(peak_len < MEMORY_LEN_MAX, "{ran}: {} MiB", peak_len >> 20);
}

#[test]
fn mount_leaves_the_cache_to_commands_that_run_beside_it() {
    let host = Host::with_repository();
    let file = host.write("tree/file", "content");
    host.back_up(&[&host.path("tree")]);
    let mounted = FuseMount::at(&host, "mnt", &[]);
    assert_eq!(fs::read_to_string(mounted.latest(&file)).expect("the file"), "content");
    for words in [&["backup", "--quiet"][..], &["check", "--quiet"], &["snapshots"]] {
        let mut command = host.backstay(words);
        if words[0] == "backup" {
            command.arg(host.path("tree"));
        }
        let ran = command.run().expect_code(0);
        assert!(!format!("{ran}").contains("another command"), "{ran}");
    }
    let all = host.backstay(["cache", "info"]).run().expect_code(0);
    assert!(all.text().contains("commands") && all.text().contains("mounts"), "{all}");
}
