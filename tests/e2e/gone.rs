//! What somebody removed beneath us: the whole repository while a backup runs, its snapshots before a prune, or the one that is read.
//!
//! Invariant: nothing is reported as committed that cannot be opened, and no prune makes a loss final.
//! Never here: older states of a store (see `replayed`), damage (see `damage`).

use std::ffi::{OsStr, OsString};
use std::fs;
use std::path::{Path, PathBuf};

use harness::binary::{Host, Ran, Run as _, need_root, noise};
use harness::running::{Running, file_count};
use harness::worn::WornDisk;

fn pack_count(host: &Host) -> usize {
    file_count(&host.repository().join("packs"))
}

#[test]
fn repository_that_is_removed_or_moved_away_during_a_backup_gets_no_commit() {
    for is_moved in [false, true] {
        let host = Host::with_repository();
        host.write("tree/file", noise("before", 100_000));
        host.back_up(&[&host.path("tree")]);
        let (place, away) = (host.repository(), host.path("away"));
        let mut running = Running::start(host.backstay(["backup", "--stdin", "--name", "late"]), true);
        running.feed(&noise("late", 3 << 20));
        running
            .wait_until("a writer", || place.join("writers").read_dir().is_ok_and(|mut found| found.next().is_some()));
        if is_moved {
            fs::rename(&place, &away).expect("moves");
        } else {
            fs::remove_dir_all(&place).expect("removes");
        }
        running.end_input();
        let (ran, _) = running.finish();
        ran.expect_code(2).says(&["error:", "vanished meanwhile", "nothing was committed", "hint:", "unmounted"]);
        assert!(!place.join("snapshots").read_dir().is_ok_and(|mut found| found.next().is_some()));
        if is_moved {
            drop(fs::remove_dir_all(&place));
            fs::rename(&away, &place).expect("moves back");
            assert_eq!(host.snapshots().len(), 1);
            host.check();
            host.back_up(&[&host.path("tree")]);
        }
    }
}

#[test]
fn held_snapshot_that_is_gone_is_named_and_no_prune_removes_what_it_needs() {
    let host = Host::with_repository();
    let file = host.write("tree/file", "precious");
    host.back_up(&[&host.path("tree")]);
    let id = host.snapshots()[0]["id"].as_str().expect("an id").to_owned();
    host.backstay(["hold", &id, "--until", "7y"]).run().expect_code(0);
    let (object, kept) = (host.repository().join("snapshots").join(&id), host.path("kept"));
    fs::rename(&object, &kept).expect("moves");
    // A host that never saw it knows by what holds it.
    let other_cache = host.path("other cache");
    let host = host.with("BACKSTAY_CACHE_DIR", other_cache);
    let ran = host.backstay(["check"]).run().expect_code(1);
    assert!(
        ran.text().contains(&format!("snapshots/{id}")) && ran.text().contains("is held and is not there"),
        "{ran}"
    );
    let packs = pack_count(&host);
    for command in [vec!["prune", "--yes"], vec!["prune", "-n"]] {
        host.backstay(command).run().expect_code(2).says(&[
            "error:",
            "1 snapshot is held and gone",
            &id,
            "hint:",
            "--lift",
        ]);
    }
    assert_eq!(pack_count(&host), packs);
    fs::rename(&kept, &object).expect("moves back");
    let path = format!("{id}:{}", file.display());
    assert_eq!(host.backstay(["cat", &path]).run().expect_code(0).text(), "precious");
    host.check();
    // Who knows that it is gone for good says so.
    fs::remove_file(&object).expect("removes");
    host.backstay(["hold", "--lift", &id]).run().expect_code(0).says(&["which is gone"]);
    host.backstay(["cache", "clear"]).run().expect_code(0);
    host.backstay(["prune", "--yes"]).run().expect_code(0);
    assert_eq!(pack_count(&host), 0);
}

#[test]
fn snapshot_that_this_host_saw_and_that_vanished_stops_its_prune_until_the_cache_is_cleared() {
    let host = Host::with_repository();
    host.write("tree/file", noise("file", 100_000));
    host.back_up(&[&host.path("tree")]);
    let id = host.snapshots()[0]["id"].as_str().expect("an id").to_owned();
    fs::remove_file(host.repository().join("snapshots").join(&id)).expect("removes");
    let packs = pack_count(&host);
    let ran = host.backstay(["prune", "--yes"]).run().expect_code(2);
    ran.says(&["warning:", &id, "error:", "vanished", "hint:", "backstay cache clear"]);
    assert_eq!(pack_count(&host), packs);
    host.backstay(["cache", "clear"]).run().expect_code(0);
    host.backstay(["prune", "--yes"]).run().expect_code(0);
    assert_eq!(pack_count(&host), 0);
}

/// What is read of a snapshot when a prune takes it away.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Reading {
    Pages,
    Content,
}

/// A host whose repository is read on a worn disk, and pruned beneath it, with two snapshots of one file.
struct Beneath {
    disk: WornDisk,
    host: Host,
    going: String,
    staying: String,
    /// The pack that has the file's content as only the first of them has it.
    content: PathBuf,
}

impl Beneath {
    fn new() -> Self {
        let host = Host::new();
        let disk = WornDisk::mount(&host.path("beneath"), &host.repository());
        let none = String::new();
        let mut scene = Self { disk, host, going: none.clone(), staying: none, content: PathBuf::new() };
        scene.beside(&["init"]);
        scene.going = scene.back_up(&noise("going", 300_000));
        let len = |pack: &PathBuf| fs::metadata(pack).expect("is there").len();
        scene.content = files_below(&scene.host.path("beneath/packs")).into_iter().max_by_key(len).expect("a pack");
        scene.staying = scene.back_up(b"staying");
        scene
    }

    /// What does not go through the worn disk.
    fn beside(&self, words: &[&str]) -> Ran {
        self.host.backstay(words).env("BACKSTAY_REPOSITORY", self.host.path("beneath")).run().expect_code(0)
    }

    fn back_up(&self, content: &[u8]) -> String {
        let file = self.host.write("tree/file", content);
        let tree = file.parent().and_then(Path::to_str).expect("a plain path");
        self.beside(&["--json", "backup", tree]).json()["snapshot_id"].as_str().expect("an id").to_owned()
    }

    /// Runs a command on a host that knows nothing; before it reads a pack, the first snapshot goes for good.
    fn pruned_under(&self, words: &[&str], reading: Reading) -> Ran {
        let begun = self.disk.stall(match reading {
            Reading::Pages => "packs/",
            Reading::Content => self.content.file_name().and_then(OsStr::to_str).expect("a plain name"),
        });
        let meant = |word: &&str| match *word {
            "GOING" => OsString::from(&self.going),
            "STAYING" => OsString::from(&self.staying),
            "FILE" => self.host.path("tree/file").into_os_string(),
            "TARGET" => self.host.path("target").into_os_string(),
            word => OsString::from(word),
        };
        let mut command = self.host.backstay(words.iter().map(meant));
        command.env("BACKSTAY_CACHE_DIR", self.host.path("cache of the reader"));
        let mut running = Running::start(command, false);
        // It ends first, also where an assertion fails.
        let stalling = begun;
        running.wait_until("a pack is asked for", || stalling.is_waited_for());
        self.beside(&["forget", "--yes", &self.going]);
        self.beside(&["prune", "--yes", "--max-unused", "0"]);
        assert!(!self.content.exists(), "its packs are gone");
        drop(stalling);
        running.finish().0
    }
}

fn files_below(folder: &Path) -> Vec<PathBuf> {
    let paths = fs::read_dir(folder).expect("a folder").map(|entry| entry.expect("an entry").path());
    paths.flat_map(|path| if path.is_dir() { files_below(&path) } else { vec![path] }).collect()
}

#[test]
fn what_reads_a_snapshot_that_is_forgotten_and_pruned_meanwhile_tells_that_from_damage() {
    need_root();
    let no_damage =
        "this is most likely no damage, since a prune gave back the space of what was forgotten meanwhile: ";
    let gave_up = " was forgotten, and a prune has given back its space while it was read";
    // What others lack may be damage all the same.
    let of_others = "; for what is missing of others, find out what else is damaged with: backstay check --read-data";
    let cases: [(&[&str], Reading, i32, [&str; 2]); 7] = [
        (&["ls", "GOING"], Reading::Pages, 1, [no_damage, ""]),
        (&["ls", "-l", "--depth", "1", "GOING"], Reading::Pages, 1, [no_damage, ""]),
        (&["find", "--snapshot", "GOING", "file"], Reading::Pages, 1, [no_damage, ""]),
        (&["diff", "GOING", "STAYING"], Reading::Pages, 1, [no_damage, of_others]),
        (&["versions", "FILE"], Reading::Pages, 1, [no_damage, of_others]),
        (&["restore", "GOING", "--target", "TARGET"], Reading::Pages, 2, ["snapshot ", gave_up]),
        (&["restore", "GOING", "--target", "TARGET"], Reading::Content, 1, [no_damage, ""]),
    ];
    for (words, reading, code, [before, after]) in cases {
        let scene = Beneath::new();
        let ran = scene.pruned_under(words, reading).expect_code(code);
        let told = format!("{before}{}{after}", &scene.going[..8]);
        assert!(ran.stderr.contains(&told), "{reading:?}: it does not say {told:?}: {ran}");
        assert_eq!(ran.stderr.contains("check --read-data"), after == of_others, "{reading:?}: {ran}");
        scene.beside(&["check", "--read-data"]);
    }
}
