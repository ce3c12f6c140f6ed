//! Disks that fail beneath a repository in a folder, under the real binary: full ones, ones that give no bytes, ones that lose their
//! power, worn ones that fail.
//!
//! ```text
//! worn         FUSE shows a folder once more, and says EIO where it is told to
//! power cut    the disk is a file; a copy of it at any moment holds what reached the disk, and nothing of what the system held back
//! ```
//!
//! Invariant: what was reported as committed restores; what could not be done is said, and is done by the same command later.
//! Never here: full disks under caches and targets (see `bad_input`, `cache`).

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use harness::binary::{Host, Ran, Run as _, need_root, noise};
use harness::mount::{DiskImage, SmallDisk};
use harness::running::Running;
use harness::worn::{Failing, WornDisk};
use harness::{Dice, Tree};
use rustix::process::Signal;

/// Backups on a disk that loses its power, all but the first followed by a forget and a prune.
const ROUNDS: usize = 2;

/// A host whose key costs nothing to derive.
struct Quick {
    host: Host,
    key: PathBuf,
}

impl Quick {
    fn new() -> Self {
        let host = Host::new();
        let key = host.write_secret("key", noise("key", 64));
        Self { host, key }
    }

    fn command<S: AsRef<str>>(&self, repository: &Path, cache: &str, words: &[S]) -> Command {
        let mut command = self.host.backstay(words.iter().map(AsRef::as_ref));
        command.env_remove("BACKSTAY_PASSWORD_FILE").env("BACKSTAY_KEY_FILE", &self.key);
        command.env("BACKSTAY_REPOSITORY", repository).env("BACKSTAY_CACHE_DIR", self.host.path(cache));
        command
    }

    fn run<S: AsRef<str>>(&self, words: &[S]) -> Ran {
        self.command(&self.host.repository(), "cache", words).run()
    }

    fn tree(&self) -> PathBuf {
        self.host.path("tree")
    }

    fn back_up(&self) -> String {
        let report = self.run(&["--json", "backup", self.tree().to_str().expect("a plain path")]).expect_code(0).json();
        report["snapshot_id"].as_str().expect("an id").to_owned()
    }

    /// Fails unless the snapshot restores from there to this tree, on a host that knows nothing.
    fn assert_restores(&self, repository: &Path, id: &str, tree: &Tree, context: &str) {
        let target = self.host.path("restored");
        drop(fs::remove_dir_all(&target));
        let place = format!("{id}:{}", self.tree().display());
        let words = ["restore", &place, "--target", target.to_str().expect("a plain path")];
        self.command(repository, &format!("cache of {context}"), &words).run().expect_code(0);
        tree.assert_same(&Tree::read(&target), context);
    }
}

/// A repository on a worn disk, with one snapshot.
struct Worn {
    quick: Quick,
    disk: WornDisk,
    first: (String, Tree),
}

impl Worn {
    fn new() -> Self {
        need_root();
        let quick = Quick::new();
        let disk = WornDisk::mount(&quick.host.path("beneath"), &quick.host.repository());
        quick.run(&["init"]).expect_code(0);
        quick.host.write("tree/file", noise("file", 300_000));
        let first = (quick.back_up(), Tree::read(&quick.tree()));
        Self { quick, disk, first }
    }

    fn assert_first_restores(&self, context: &str) {
        self.quick.assert_restores(&self.quick.host.repository(), &self.first.0, &self.first.1, context);
    }
}

/// So often that no number of attempts helps.
const ALWAYS: usize = usize::MAX;

#[test]
fn write_that_a_worn_disk_fails_is_named_and_leaves_former_snapshots_whole() {
    let worn = Worn::new();
    let tree = worn.quick.tree();
    let back_up = ["backup", tree.to_str().expect("a plain path")];
    for (number, folder) in ["packs", "index"].into_iter().enumerate() {
        for failing in [Failing::Write, Failing::Sync] {
            let context = format!("{failing:?} in {folder}/");
            worn.quick.host.write("tree/file", noise(&context, 300_000));
            worn.disk.fail(failing, &format!("/{folder}/"), ALWAYS);
            let ran = worn.quick.run(&back_up);
            assert!(worn.disk.heal() > 1, "{context}: tried once more: {ran}");
            ran.expect_code(2).says(&[&format!("failed for {folder}/"), "hint:", "dmesg"]);
            worn.assert_first_restores(&context);
            worn.quick.run(&["check", "--read-data"]).expect_code(0);
            assert_eq!(worn.quick.run(&["--json", "snapshots"]).json().as_array().map(Vec::len), Some(number + 1));
        }
        // Failed once, all the same: what is tried again arrives.
        worn.disk.fail(Failing::Sync, &format!("/{folder}/"), 1);
        let id = worn.quick.back_up();
        assert_eq!(worn.disk.heal(), 1);
        worn.quick.assert_restores(&worn.quick.host.repository(), &id, &Tree::read(&tree), folder);
    }
    // More often than one request is sent: a commit that may have landed is looked for and tried again, for a minute.
    worn.disk.fail(Failing::Sync, "/snapshots/", 4);
    let id = worn.quick.back_up();
    assert_eq!(worn.disk.heal(), 4);
    worn.quick.assert_restores(&worn.quick.host.repository(), &id, &Tree::read(&tree), "snapshots");
    worn.quick.run(&["check", "--read-data"]).expect_code(0);
}

#[test]
fn folder_that_a_worn_disk_fails_to_keep_ends_the_backup_even_if_the_next_attempt_would_succeed() {
    let worn = Worn::new();
    let tree = worn.quick.tree();
    for folder in ["packs", "index", "snapshots"] {
        worn.quick.host.write("tree/file", noise(folder, 300_000));
        worn.disk.fail(Failing::SyncFolder, &format!("/{folder}"), 1);
        let ran = worn.quick.run(&["backup", tree.to_str().expect("a plain path")]);
        assert_eq!(worn.disk.heal(), 1, "{folder}: {ran}");
        ran.expect_code(2).says(&[&format!("failed to keep {folder}/"), "hint:", "dmesg"]);
        worn.assert_first_restores(folder);
        // A process of its own begins with trust.
        let id = worn.quick.back_up();
        worn.quick.assert_restores(&worn.quick.host.repository(), &id, &Tree::read(&tree), folder);
    }
    worn.quick.run(&["check", "--read-data"]).expect_code(0);
}

#[test]
fn read_that_a_worn_disk_fails_is_tried_again_and_then_unclear_and_no_damage() {
    let worn = Worn::new();
    let target = worn.quick.host.path("elsewhere");
    let place = format!("{}:{}", worn.first.0, worn.quick.tree().display());
    let restore = ["restore", &place, "--target", target.to_str().expect("a plain path")];
    for folder in ["packs", "snapshots", "index"] {
        let part = format!("/{folder}/");
        for words in [["check", "--read-data"].as_slice(), &restore] {
            drop(fs::remove_dir_all(worn.quick.host.path("cache")));
            worn.disk.fail(Failing::Read, &part, 1);
            worn.quick.run(words).expect_code(0);
            assert_eq!(worn.disk.heal(), 1, "{words:?}");
            drop(fs::remove_dir_all(&target));
        }
        drop(fs::remove_dir_all(worn.quick.host.path("cache")));
        worn.disk.fail(Failing::Read, &part, ALWAYS);
        let checked = worn.quick.run(&["check", "--read-data"]);
        assert!(worn.disk.heal() > 1, "{checked}");
        assert!(!format!("{checked}").contains("amaged"), "{checked}");
        checked.expect_code(2).says(&[&format!("failed for {folder}/")]);
        worn.disk.fail(Failing::Read, &part, ALWAYS);
        drop(fs::remove_dir_all(worn.quick.host.path("cache")));
        let restored = worn.quick.run(&restore);
        worn.disk.heal();
        assert!(!format!("{restored}").contains("amaged"), "{restored}");
        assert_ne!(restored.code, Some(0), "{restored}");
        drop(fs::remove_dir_all(&target));
        worn.assert_first_restores(folder);
    }
    worn.quick.run(&["check", "--read-data"]).expect_code(0);
}

/// A power cut: the disk as it was then, and what had been reported by then.
struct Cut {
    image: PathBuf,
    committed: Vec<(String, Tree)>,
    forgotten: Vec<String>,
    context: String,
}

/// What happens on a disk that loses its power again and again.
struct Powerless {
    quick: Quick,
    disk: DiskImage,
    dice: Dice,
    committed: Vec<(String, Tree)>,
    forgotten: Vec<String>,
    cuts: Vec<Cut>,
}

impl Powerless {
    fn new(has_journal: bool) -> Self {
        let quick = Quick::new();
        let disk = DiskImage::make(&quick.host.path("disk"), 48, has_journal, &quick.host.repository());
        // What the file system itself puts there is no repository.
        drop(fs::remove_dir(quick.host.repository().join("lost+found")));
        quick.run(&["init"]).expect_code(0);
        let dice = Dice::new();
        Self { quick, disk, dice, committed: Vec::new(), forgotten: Vec::new(), cuts: Vec::new() }
    }

    fn cut(&mut self, when: &str) {
        let number = self.cuts.len();
        let image = self.quick.host.path(&format!("cut {number}"));
        self.disk.cut_power(&image);
        let context = format!("cut {number}, {when}, seed {}", self.dice.seed());
        let (committed, forgotten) = (self.committed.clone(), self.forgotten.clone());
        self.cuts.push(Cut { image, committed, forgotten, context });
    }

    /// Runs a command, with a power cut at a random moment of it; gives how it ended.
    fn run(&mut self, words: &[&str]) -> Ran {
        let command = self.quick.command(&self.quick.host.repository(), "cache", words);
        let mut running = Running::start(command, false);
        std::thread::sleep(std::time::Duration::from_millis(self.dice.below(150) as u64));
        running.freeze();
        self.cut(&format!("during {}", words[words.len() - 1]));
        if !running.has_ended() {
            running.signal(Signal::CONT);
        }
        running.finish().0.expect_code(0)
    }

    fn round(&mut self, number: usize) {
        self.quick.host.write("tree/file", noise(&format!("file {number}"), 300_000));
        self.quick.host.write(&format!("tree/{number}"), noise(&format!("{number}"), 50_000));
        let tree = self.quick.tree();
        let report = self.run(&["--json", "backup", tree.to_str().expect("a plain path")]).json();
        let id = report["snapshot_id"].as_str().expect("an id").to_owned();
        self.committed.push((id, Tree::read(&tree)));
        self.cut("after a backup");
        if self.committed.len() > 1 {
            let (gone, _) = self.committed.remove(0);
            self.quick.run(&["forget", "--yes", &gone]).expect_code(0);
            self.forgotten.push(gone);
            self.cut("after a forget");
            self.run(&["prune", "--max-unused", "0", "--yes"]);
            self.cut("after a prune");
        }
    }

    /// After each cut all is there that had been reported, nothing is back that was forgotten, and work goes on.
    fn assert_all_is_there(&self) {
        for Cut { image, committed, forgotten, context } in &self.cuts {
            let place = self.quick.host.path(&format!("{} again", image.file_name().expect("a name").display()));
            let disk = self.disk.after_power_cut(image, &place);
            for (id, tree) in committed {
                self.quick.assert_restores(&place, id, tree, context);
            }
            let cache = format!("cache of {context}");
            let run = |words: &[&str]| self.quick.command(&place, &cache, words).run();
            let listed = run(&["--json", "snapshots"]).expect_code(0).json();
            let ids: Vec<_> = listed.as_array().expect("a list").iter().map(|one| one["id"].as_str()).collect();
            let is_back = forgotten.iter().any(|id| ids.contains(&Some(id.as_str())));
            assert!(!is_back, "{context}: a forgotten snapshot is back: {ids:?}");
            run(&["backup", self.quick.tree().to_str().expect("a plain path")]).expect_code(0);
            run(&["prune", "--max-unused", "0", "--give-up-after", "0s", "--yes"]).expect_code(0);
            run(&["check", "--read-data"]).expect_code(0);
            drop(disk);
            fs::remove_file(image).expect("removes");
        }
    }
}

/// What is written and not synced is lost by a cut here, or the tests below would see nothing.
fn assert_a_cut_loses_what_was_not_synced(powerless: &Powerless) {
    let host = &powerless.quick.host;
    let is_lost = (0..20).any(|at| {
        fs::write(host.repository().join(format!("unsynced{at}")), noise("unsynced", 20_000)).expect("writes");
        let (image, place) = (host.path(&format!("control {at}")), host.path(&format!("control {at} again")));
        powerless.disk.cut_power(&image);
        let disk = powerless.disk.after_power_cut(&image, &place);
        let found = fs::read(place.join(format!("unsynced{at}"))).unwrap_or_default();
        drop(disk);
        fs::remove_file(&image).expect("removes");
        fs::remove_file(host.repository().join(format!("unsynced{at}"))).expect("removes");
        found != noise("unsynced", 20_000)
    });
    assert!(is_lost, "whatever is written here outlives a power cut");
}

fn lose_power(has_journal: bool) {
    need_root();
    let mut powerless = Powerless::new(has_journal);
    assert_a_cut_loses_what_was_not_synced(&powerless);
    for number in 0..ROUNDS {
        powerless.round(number);
    }
    powerless.assert_all_is_there();
}

#[test]
fn power_cut_at_any_moment_leaves_whole_what_was_reported_as_committed() {
    lose_power(true);
}

#[test]
fn power_cut_on_a_disk_without_a_journal_leaves_whole_what_was_reported_as_committed() {
    lose_power(false);
}

/// Takes all room there is on the disk.
fn fill(disk: &SmallDisk) -> PathBuf {
    let filler = disk.path().join("filler");
    let full = Command::new("dd").args(["if=/dev/zero", "bs=4k"]).arg(format!("of={}", filler.display())).output();
    assert!(!full.expect("dd runs").status.success(), "the disk is full in the end");
    filler
}

#[test]
fn every_operation_on_a_full_disk_says_so_and_loses_nothing() {
    need_root();
    let quick = Quick::new();
    let disk = SmallDisk::mount(&quick.host.repository(), 24);
    quick.run(&["init"]).expect_code(0);
    let far = quick.host.path("far");
    quick.command(&far, "far cache", &["init"]).run().expect_code(0);
    let mut known = Vec::new();
    for at in 0..4 {
        quick.host.write("tree/file", noise(&format!("file {at}"), 200_000));
        quick.host.write(&format!("tree/{at}"), noise(&format!("{at}"), 20_000));
        known.push((quick.back_up(), Tree::read(&quick.tree())));
    }
    let tree = quick.tree();
    let elsewhere = quick.command(&far, "far cache", &["backup", tree.to_str().expect("a plain path")]);
    { elsewhere }.run().expect_code(0);
    let (first, second) = (known.remove(0).0, known.remove(0).0);
    // Only the last one has it, which is so replaced by another.
    let removed = format!("{}/3", tree.display());
    let segment = |quick: &Quick| {
        let mut segments: Vec<_> = fs::read_dir(quick.host.repository().join("index"))
            .expect("lists")
            .map(|entry| entry.expect("lists").path())
            .collect();
        segments.sort();
        segments.remove(0)
    };
    let operations: [&[&str]; 7] = [
        &["hold", &second],
        &["forget", &first, "--yes"],
        &["undelete", &first],
        &["prune", "--max-unused", "0", "--yes"],
        &["rewrite", "--exclude-path", &removed, "--yes"],
        &["repair", "index", "--yes"],
        &["backup", tree.to_str().expect("a plain path")],
    ];
    for words in operations {
        if words[0] == "repair" {
            fs::remove_file(segment(&quick)).expect("removes");
        }
        let words: Vec<&str> = words.to_vec();
        let filler = fill(&disk);
        let full = quick.run(&words).expect_code(2);
        full.says(&["no space is left", "hint:"]);
        fs::remove_file(filler).expect("removes");
        quick.run(&words).expect_code(0);
    }
    let filler = fill(&disk);
    let copy = |quick: &Quick| {
        let mut command = quick.command(&far, "far cache", &["copy", "--to"]);
        command.arg(quick.host.repository()).arg("--to-key-file").arg(&quick.key).run()
    };
    assert_ne!(copy(&quick).code, Some(0));
    // What a check has read is not written down, and that is said; what it found is told all the same.
    quick.run(&["check", "--read-data"]).expect_code(0).says(&["could not be written down"]);
    fs::remove_file(filler).expect("removes");
    copy(&quick).expect_code(0);
    quick.run(&["check", "--read-data"]).expect_code(0);
    let [(third, tree), _] = known.as_slice() else { panic!("two are left") };
    quick.assert_restores(&quick.host.repository(), third, tree, "after all");
}
