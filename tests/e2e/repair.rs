//! `repair`: every kind of damage, repaired by the real binary; what verifies restores, and doing it again changes nothing.
//!
//! ```text
//! delete · truncate · flip · swap · rename ─► repair index, packs, snapshots ─► check is clean ─► restore
//! ```
//!
//! Invariant: a repair removes nothing that verifies (L15).
//! Never here: what a check says of damage (see `damage`, `check`).

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use harness::binary::{Host, Ran, Run as _, noise, set_mode};
use harness::{Dice, copy_folder};
use pack::names;
use serde_json::Value;

/// What is done to an object.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Harm {
    Delete,
    /// To this part of its bytes.
    Truncate(usize, usize),
    /// A bit at this part of its bytes.
    Flip(usize, usize),
    /// With another object of its kind.
    Swap,
    Rename,
}

const HARMS: [Harm; 7] = [
    Harm::Delete,
    Harm::Truncate(1, 2),
    Harm::Flip(1, 3),
    Harm::Flip(2, 3),
    Harm::Flip(1, 1),
    Harm::Swap,
    Harm::Rename,
];

/// One of two backups that share nothing.
struct Half {
    id: String,
    folder: PathBuf,
    objects: BTreeSet<PathBuf>,
}

/// Two backups, and the key of their repository, which costs nothing to derive.
struct Scene {
    host: Host,
    key: PathBuf,
    halves: Vec<Half>,
}

/// A copy of the repository on a machine without a cache.
struct Copy<'s> {
    scene: &'s Scene,
    repository: PathBuf,
    cache: PathBuf,
}

fn files_below(folder: &Path) -> BTreeSet<PathBuf> {
    let Ok(entries) = fs::read_dir(folder) else { return BTreeSet::new() };
    let paths = entries.map(|entry| entry.expect("an entry").path());
    paths.flat_map(|path| if path.is_dir() { files_below(&path) } else { [path].into() }).collect()
}

/// Files with their bytes, by their paths below `folder`.
fn contents(folder: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let below = |path: &PathBuf| path.strip_prefix(folder).expect("is below").to_owned();
    files_below(folder).iter().map(|path| (below(path), fs::read(path).expect("reads"))).collect()
}

impl Scene {
    fn new() -> Self {
        let host = Host::new();
        let key = host.write_secret("key", noise("key", 64));
        let mut scene = Self { host, key, halves: Vec::new() };
        scene.backstay(&scene.host.repository(), "warm", &["init"]).run().expect_code(0);
        let mut known = scene.objects();
        for name in ["a", "b"] {
            let folder = scene.host.path(name);
            scene.host.write(&format!("{name}/one"), noise(&format!("{name} one"), 1_300_000));
            scene.host.write(&format!("{name}/sub/two"), noise(&format!("{name} two"), 1_300_000));
            scene.host.write(&format!("{name}/sub/three"), format!("the content of {name}"));
            let words = ["--json", "backup", folder.to_str().expect("a plain path")];
            let report = scene.backstay(&scene.host.repository(), "warm", &words).run().expect_code(0).json();
            let id = report["snapshot_id"].as_str().expect("an id").to_owned();
            let objects: BTreeSet<_> = scene.objects().difference(&known).cloned().collect();
            assert_eq!(objects.len(), 4, "two packs, a segment and a snapshot");
            known.extend(objects.iter().cloned());
            scene.halves.push(Half { id, folder, objects });
        }
        scene
    }

    fn objects(&self) -> BTreeSet<PathBuf> {
        let root = self.host.repository();
        files_below(&root).iter().map(|path| path.strip_prefix(&root).expect("is below").to_owned()).collect()
    }

    fn backstay(&self, repository: &Path, cache: &str, words: &[&str]) -> Command {
        let mut command = self.host.backstay(words);
        command.env_remove("BACKSTAY_PASSWORD_FILE").env("BACKSTAY_KEY_FILE", &self.key);
        command.env("BACKSTAY_REPOSITORY", repository).env("BACKSTAY_CACHE_DIR", self.host.path(cache));
        command
    }

    fn copy(&self, name: &str) -> Copy<'_> {
        let repository = self.host.path(&format!("copy-{name}"));
        copy_folder(&self.host.repository(), &repository);
        Copy { scene: self, repository, cache: PathBuf::from(format!("cache-{name}")) }
    }

    /// Objects of one kind of the first half.
    fn objects_of(&self, kind: &str) -> Vec<PathBuf> {
        self.halves[0].objects.iter().filter(|object| object.starts_with(kind)).cloned().collect()
    }
}

impl Copy<'_> {
    fn run(&self, words: &[&str]) -> Ran {
        self.scene.backstay(&self.repository, self.cache.to_str().expect("a plain path"), words).run()
    }

    fn json(&self, words: &[&str]) -> Ran {
        self.run(&[&["--json"], words].concat())
    }

    /// Harms an object; false if that changes nothing.
    fn harm(&self, object: &Path, harm: Harm) -> bool {
        let path = self.repository.join(object);
        let bytes = fs::read(&path).expect("reads");
        set_mode(&path, 0o600);
        match harm {
            Harm::Delete => fs::remove_file(&path).expect("removes"),
            Harm::Truncate(part, of) => fs::write(&path, &bytes[..bytes.len() * part / of]).expect("writes"),
            Harm::Flip(part, of) => {
                let mut wrong = bytes;
                let at = (wrong.len() * part / of).min(wrong.len() - 1);
                wrong[at] ^= 0x10;
                fs::write(&path, wrong).expect("writes");
            }
            Harm::Swap => {
                let kind = object.components().next().expect("a kind");
                let all = self.scene.halves.iter().flat_map(|half| &half.objects);
                let of_kind = all.filter(|other| other.starts_with(kind) && self.repository.join(other).exists());
                let Some(other) = of_kind.into_iter().find(|other| *other != object) else { return false };
                let other = self.repository.join(other);
                set_mode(&other, 0o600);
                fs::write(&path, fs::read(&other).expect("reads")).expect("writes");
                fs::write(&other, bytes).expect("writes");
            }
            Harm::Rename => {
                let name = path.to_str().expect("a plain path");
                let (front, last) = name.split_at(name.len() - 1);
                fs::rename(&path, format!("{front}{}", if last == "0" { "1" } else { "0" })).expect("renames");
            }
        }
        true
    }

    /// All objects with their bytes, but for what checks write down.
    fn state(&self) -> BTreeMap<PathBuf, Vec<u8>> {
        contents(&self.repository).into_iter().filter(|(path, _)| !path.starts_with(names::CHECKS)).collect()
    }

    /// Repairs everything; gives the paths that are lost.
    fn repair(&self, context: &str) -> BTreeSet<String> {
        self.json(&["repair", "index", "--yes"]).expect_code(0);
        let packs = self.json(&["repair", "packs", "--read-data", "--yes"]);
        assert!(matches!(packs.code, Some(0 | 1)), "{context}: {packs}");
        let ran = self.json(&["repair", "snapshots", "--forget", "--yes"]);
        let snapshots = ran.json();
        let repaired = snapshots["snapshots"].as_array().expect("a list");
        let components = repaired.iter().filter_map(|snapshot| snapshot["components"].as_array()).flatten();
        let has_lost = components.into_iter().any(|component| component["lost_count"] != 0);
        assert_eq!(ran.code, Some(i32::from(has_lost || snapshots["unreadable_count"] != 0)), "{ran}");
        let components = repaired.iter().flat_map(|one| one["components"].as_array().expect("a list"));
        let lost = components.flat_map(|one| one["lost"].as_array().expect("a list"));
        lost.map(|path| path.as_str().expect("a path").to_owned()).collect()
    }

    /// Restores every snapshot that is listed: what is in it is right. Gives what was restored, by half.
    fn restored(&self, context: &str) -> Vec<BTreeSet<PathBuf>> {
        let listed = self.json(&["snapshots"]).expect_code(0).json();
        let mut found = vec![BTreeSet::new(); self.scene.halves.len()];
        for (at, snapshot) in listed.as_array().expect("a list").iter().enumerate() {
            let id = snapshot["id"].as_str().expect("an id");
            let target = self.repository.with_extension(format!("restored-{at}"));
            let ran = self.run(&["restore", id, "--target", target.to_str().expect("a plain path")]).expect_code(0);
            for (half, found) in self.scene.halves.iter().zip(&mut found) {
                let below = target.join(half.folder.strip_prefix("/").expect("an absolute path"));
                let right = contents(&half.folder);
                for (path, bytes) in contents(&below) {
                    assert!(right.get(&path) == Some(&bytes), "{context}: wrong bytes in {}: {ran}", path.display());
                    found.insert(path);
                }
            }
        }
        found
    }
}

/// Harms an object, repairs, and looks: the check is clean, all that is not named as lost restores, and a second repair
/// changes nothing.
fn repairs(scene: &Scene, object: &Path, harm: Harm, at: usize) -> Option<BTreeSet<String>> {
    let context = format!("{harm:?} of {}", object.display());
    let copy = scene.copy(&format!("{}-{at}", names::last(object.to_str().expect("a plain path"))));
    if !copy.harm(object, harm) {
        return None;
    }
    let lost = copy.repair(&context);
    let checked = copy.run(&["check", "--read-data"]);
    assert_eq!(checked.code, Some(0), "{context}: {checked}");
    let is_snapshot = object.starts_with(names::SNAPSHOTS);
    let found = copy.restored(&context);
    for (at, (half, found)) in scene.halves.iter().zip(&found).enumerate() {
        for path in contents(&half.folder).keys() {
            let whole = half.folder.join(path).display().to_string();
            let is_meant = |lost: &String| whole.ends_with(lost.as_str()) || (at == 0 && lost == "all names");
            let is_named = lost.iter().any(is_meant);
            let may_lack = is_named || (is_snapshot && (at == 0 || harm == Harm::Swap));
            assert!(found.contains(path) || may_lack, "{context}: {} of half {at} in {lost:?}", path.display());
        }
    }
    let before = copy.state();
    assert_eq!(copy.repair(&context), BTreeSet::new(), "{context}: nothing is left to be done");
    let after = copy.state();
    assert!(before == after, "{context}: {:?} became {:?}", before.keys(), after.keys());
    fs::remove_dir_all(&copy.repository).expect("removes");
    Some(lost)
}

fn repairs_all(kind: &str, expect: impl Fn(Harm, &BTreeSet<String>, &str)) {
    let scene = Scene::new();
    let mut count = 0;
    for object in scene.objects_of(kind) {
        for (at, harm) in HARMS.into_iter().enumerate() {
            if let Some(lost) = repairs(&scene, &object, harm, at) {
                expect(harm, &lost, &format!("{harm:?} of {}", object.display()));
                count += 1;
            }
        }
    }
    assert!(count >= HARMS.len(), "{count}");
}

#[test]
fn damaged_packs_give_what_is_left_of_them_and_nothing_else_is_lost() {
    repairs_all(names::PACKS, |harm, lost, context| match harm {
        // All of it is still there, at another place or beside the bit that changed.
        Harm::Swap | Harm::Rename | Harm::Flip(1, 1) => assert_eq!(*lost, BTreeSet::new(), "{context}"),
        Harm::Delete => assert!(!lost.is_empty(), "{context}"),
        Harm::Truncate(..) | Harm::Flip(..) => {}
    });
}

#[test]
fn damaged_segments_are_made_again_out_of_the_packs_and_lose_nothing() {
    repairs_all(names::INDEX, |_, lost, context| assert_eq!(*lost, BTreeSet::new(), "{context}"));
}

#[test]
fn damaged_snapshots_are_hidden_and_the_others_stay() {
    repairs_all(names::SNAPSHOTS, |_, lost, context| assert_eq!(*lost, BTreeSet::new(), "{context}"));
}

/// The largest pack of the first half.
fn data_pack(scene: &Scene) -> PathBuf {
    let len = |object: &PathBuf| fs::metadata(scene.host.repository().join(object)).expect("is there").len();
    scene.objects_of(names::PACKS).into_iter().max_by_key(len).expect("has packs")
}

#[test]
fn nothing_is_done_without_yes_and_each_plan_says_what_would_be() {
    let scene = Scene::new();
    let copy = scene.copy("plan");
    let data = data_pack(&scene);
    copy.harm(&data, Harm::Flip(1, 3));
    copy.harm(&scene.objects_of(names::INDEX)[0], Harm::Flip(1, 2));
    let before = copy.state();
    let pack = data.file_name().and_then(|name| name.to_str()).expect("a name");
    let plan = copy.run(&["repair", "index"]).expect_code(2);
    assert!(plan.text().contains("move away index/") && plan.text().contains(pack), "{plan}");
    plan.says(&["2 packs are named by no segment, 1 segment is damaged; nothing was done", "--yes"]);
    copy.run(&["repair", "index", "--dry-run"]).expect_code(0);
    copy.run(&["repair", "packs", "--read-data"]).expect_code(2).says(&["repair the index first"]);
    assert!(copy.state() == before, "nothing changed");
    copy.run(&["repair", "index", "--yes"]).expect_code(0).says(&["2 packs named, 1 damaged segment moved"]);
    assert_eq!(files_below(&copy.repository.join("quarantine")).len(), 1);
    copy.run(&["repair", "packs"]).expect_code(0).says(&["no pack that is known to be damaged"]);
    // A check tells the repair what to look at.
    let found = copy.run(&["check", "--read-data"]).expect_code(1);
    found.says(&["backstay repair packs"]);
    let before = copy.state();
    let plan = copy.run(&["repair", "packs"]).expect_code(2).says(&["1 pack is damaged; nothing was done"]);
    assert!(plan.text().contains(pack) && plan.text().contains("saved"), "{plan}");
    assert!(copy.state() == before, "nothing changed");
    copy.run(&["repair", "packs", "--yes"]).expect_code(1).says(&["saved in 1 new pack", "repair snapshots"]);
    assert!(copy.repository.join(&data).exists(), "the damaged pack stays in the store");
    let plan = copy.run(&["repair", "snapshots"]).expect_code(2).says(&["1 snapshot misses content"]);
    assert!(plan.text().contains("lost "), "{plan}");
    let done = copy.run(&["repair", "snapshots", "--yes"]).expect_code(1).says(&["1 snapshot committed, 0 snapshots"]);
    assert!(done.text().contains("holds what is left of"), "{done}");
    // The old one stays, and says what it misses; the new one is partial and is the newer of both.
    assert_eq!(copy.json(&["snapshots"]).json().as_array().map(Vec::len), Some(3));
    copy.run(&["check"]).expect_code(1);
    copy.run(&["repair", "snapshots", "--yes"]).expect_code(1).says(&["nothing is left to be done"]);
    copy.run(&["repair", "snapshots", "--forget", "--yes"]).expect_code(1).says(&["0 snapshots committed, 1 snapshot"]);
    copy.run(&["check", "--read-data"]).expect_code(0);
}

#[test]
fn what_a_repair_leaves_names_what_it_lacks_and_takes_the_old_ones_place() {
    let scene = Scene::new();
    let copy = scene.copy("partial");
    copy.harm(&data_pack(&scene), Harm::Flip(1, 10));
    let lost = copy.repair("a flipped bit");
    assert!(!lost.is_empty() && lost.len() < 3, "some of it is left: {lost:?}");
    let half = &scene.halves[0];
    let listed = copy.json(&["snapshots"]).expect_code(0).json();
    let listed = listed.as_array().expect("a list");
    assert!(listed.iter().all(|one| one["id"] != half.id.as_str()), "the old one is hidden");
    let left = listed.iter().find(|one| one["parent"] == half.id.as_str()).or(listed.first()).expect("is there");
    assert_eq!(left["state"], "partial", "{left}");
    let report = copy.run(&["report", left["id"].as_str().expect("an id")]).expect_code(0);
    let said = format!("{}{}", report.text(), report.stderr);
    assert!(said.contains("lost in the repository"), "{report}");
}

#[test]
fn later_backup_of_the_same_source_stores_again_what_was_lost_and_says_so() {
    let scene = Scene::new();
    let folder = scene.halves[0].folder.clone();
    let folder = folder.to_str().expect("a plain path");
    // Whether or not anybody repaired anything, and on a host that knows nothing of the damage.
    for (name, repairs) in [("missing", false), ("repaired", true)] {
        let copy = scene.copy(name);
        copy.harm(&data_pack(&scene), Harm::Delete);
        if repairs {
            copy.run(&["repair", "packs", "--yes"]).expect_code(1);
        }
        copy.run(&["check"]).expect_code(1);
        let said = copy.run(&["backup", folder]).expect_code(0);
        assert!(said.stderr.contains("stored again: ") && said.stderr.contains("that were lost"), "{name}: {said}");
        let again = copy.json(&["backup", folder]).expect_code(0).json();
        assert_eq!(again["healed_chunk_count"], 0, "{name}: only once");
        copy.run(&["check", "--read-data"]).expect_code(0);
        let found = copy.restored(name);
        assert_eq!(found[0].len(), 3, "{name}: all of it, from each snapshot");
    }
    let copy = scene.copy("whole");
    scene.host.write("a/new", noise("new", 10_000));
    let report = copy.json(&["backup", folder]).expect_code(0).json();
    assert_eq!(report["healed_chunk_count"], 0, "what is new was not lost");
}

#[test]
fn pages_that_only_this_host_remembers_are_stored_again_and_what_is_lost_below_them_is_found() {
    let scene = Scene::new();
    let repository = scene.host.repository();
    let content = noise("dump", 20 << 20);
    let file = scene.host.write("dump", &content);
    let known = scene.objects();
    let file = file.to_str().expect("a plain path");
    let words = ["--json", "backup", "--name", "dump", "--cutter", "cdc-4k", "--command", "--", "cat", file];
    scene.backstay(&repository, "warm", &words).run().expect_code(0);
    let added: BTreeSet<PathBuf> = scene.objects().difference(&known).cloned().collect();
    let mut packs: Vec<&PathBuf> = added.iter().filter(|object| object.starts_with(names::PACKS)).collect();
    packs.sort_by_key(|pack| fs::metadata(repository.join(pack)).expect("is there").len());
    let [pages, data, ..] = packs[..] else { panic!("a pack of pages and two of content: {packs:?}") };
    for (name, harmed) in [("pages", vec![pages]), ("both", vec![pages, data])] {
        let copy = scene.copy(name);
        let all = copy.run(&["cat", "latest:dump"]).expect_code(0);
        assert!(all.stdout == content, "{name}: and now this host has its pages");
        harmed.iter().for_each(|pack| assert!(copy.harm(pack, Harm::Delete)));
        let lost = copy.repair(name);
        let is_all_there = harmed.len() == 1;
        assert_eq!(lost.is_empty(), is_all_there, "{name}: {lost:?}");
        copy.run(&["check", "--read-data"]).expect_code(0);
        fs::remove_dir_all(scene.host.path(copy.cache.to_str().expect("a plain path"))).expect("removes the cache");
        if is_all_there {
            assert!(copy.run(&["cat", "latest:dump"]).expect_code(0).stdout == content, "another host reads it all");
        }
        assert_eq!(copy.restored(name).iter().map(BTreeSet::len).sum::<usize>(), 6, "{name}: the other snapshots");
    }
}

#[test]
fn keys_that_may_not_repair_say_so_and_change_nothing() {
    let scene = Scene::new();
    let copy = scene.copy("roles");
    let add = |role: &str| {
        let key = scene.host.write_secret(role, noise(role, 64));
        let words = ["key", "add", "--role", role, "--new-key-file", key.to_str().expect("a plain path")];
        copy.run(&words).expect_code(0);
        key
    };
    let keys: BTreeMap<&str, PathBuf> =
        ["writer", "reader", "maintenance"].into_iter().map(|role| (role, add(role))).collect();
    copy.harm(&scene.objects_of(names::INDEX)[0], Harm::Delete);
    let run_as = |role: &str, words: &[&str]| {
        let mut command = scene.backstay(&copy.repository, &format!("cache of a {role}"), words);
        command.env("BACKSTAY_KEY_FILE", &keys[role]).run()
    };
    let before = copy.state();
    for role in ["reader", "maintenance"] {
        run_as(role, &["repair", "index", "--dry-run"]).expect_code(0);
        let refused = run_as(role, &["repair", "index", "--yes"]).expect_code(2);
        refused.says(&[&format!("a {role} key cannot repair the index")]);
    }
    assert!(copy.state() == before, "nothing changed");
    // A writer names what is there, and takes nothing away.
    run_as("writer", &["repair", "index", "--yes"]).expect_code(0).says(&["2 packs named"]);
    copy.run(&["check", "--read-data"]).expect_code(0);
    copy.harm(&scene.objects_of(names::PACKS)[0], Harm::Flip(1, 3));
    copy.run(&["check", "--read-data"]).expect_code(1);
    let before = copy.state();
    for role in ["writer", "reader", "maintenance"] {
        run_as(role, &["repair", "packs", "--dry-run"]).expect_code(0);
        run_as(role, &["repair", "packs", "--yes"])
            .expect_code(2)
            .says(&[&format!("a {role} key cannot repair packs")]);
    }
    run_as("writer", &["repair", "snapshots"]).expect_code(2).says(&["a writer key cannot open the names"]);
    assert!(copy.state() == before, "nothing changed");
}

/// The packs that whole segments name, by what the binary says of each object.
fn is_right(copy: &Copy<'_>, object: &Path) -> bool {
    let bytes = fs::read(copy.repository.join(object)).expect("reads");
    let name = object.file_name().and_then(|name| name.to_str()).expect("a name");
    blake3::hash(&bytes).to_hex().as_str() == name
}

#[test]
fn repair_of_random_damage_removes_no_pack_or_snapshot_that_verifies_and_brings_back_all_that_is_there() {
    let dice = Dice::new();
    println!("seed {}", dice.seed());
    let scene = Scene::new();
    for round in 0..6 {
        let copy = scene.copy(&format!("random-{round}"));
        let objects: Vec<PathBuf> = scene.halves.iter().flat_map(|half| half.objects.iter().cloned()).collect();
        let harmed: Vec<(PathBuf, Harm)> = (0..1 + dice.below(3))
            .map(|_| (dice.pick(&objects).expect("some").clone(), *dice.pick(&HARMS).expect("some")))
            .filter(|(object, harm)| copy.repository.join(object).exists() && copy.harm(object, *harm))
            .collect();
        let context = format!("seed {}, round {round}: {harmed:?}", dice.seed());
        let before = copy.state();
        let whole: Vec<&PathBuf> =
            before.keys().filter(|path| path.starts_with(names::PACKS) && is_right(&copy, path)).collect();
        copy.repair(&context);
        let after = copy.state();
        for path in before.keys().filter(|path| !path.starts_with(names::INDEX)) {
            assert!(after.get(path) == before.get(path), "{context}: {} is gone or changed", path.display());
        }
        assert_eq!(copy.run(&["check", "--read-data"]).code, Some(0), "{context}");
        // Each pack that was whole serves: nothing that lies in it is called lost.
        let plan = copy.json(&["repair", "index", "--dry-run"]).expect_code(0).json();
        let unnamed: Vec<&str> =
            plan["unnamed_packs"].as_array().expect("a list").iter().filter_map(Value::as_str).collect();
        for pack in &whole {
            assert!(!unnamed.iter().any(|name| pack.ends_with(name)), "{context}: {} is not named", pack.display());
        }
        copy.restored(&context);
        assert_eq!(copy.repair(&context), BTreeSet::new(), "{context}");
        assert!(copy.state() == after, "{context}: a second repair changes nothing");
    }
}
