//! Every object of a small repository, damaged in every way: what is wrong is named, and the rest restores.
//!
//! ```text
//! A (epoch 1) and B (epoch 2) share nothing but configuration, keys and epochs
//! delete · truncate · flip · swap · rename  ─► open ─► check ─► restore A and B
//! ```
//!
//! Invariant: a restore gives the right bytes or names the entry; it never gives wrong ones.
//! Never here: repair.

use std::collections::BTreeSet;

use engine::{CheckReport, EngineError, Repository, Selector, SnapshotFilter};
use harness::{
    COST, Site, Tree, backup_request, check_all, copy_folder, fork, names_of, password, restore_request, try_restore,
};
use pack::{Role, SnapshotId, names};
use store::Store as _;
use store::testing::MemoryStore;

/// What is done to an object.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Harm {
    Delete,
    Truncate(usize),
    Flip(usize),
    /// With another object of its kind.
    Swap,
    Rename,
}

/// One of both backups.
struct Half {
    id: SnapshotId,
    path: Vec<u8>,
    tree: Tree,
    objects: BTreeSet<String>,
}

struct Scene {
    site: Site,
    halves: [Half; 2],
}

impl Scene {
    async fn new() -> Self {
        let site = Site::new(1);
        let owner = site.init(site.store(), "warm").await.expect("makes");
        owner.add_key(Role::Reader, password("reader"), "reader", COST).await.expect("adds");
        let a = Self::half(&site, &owner, "a", b'a').await;
        owner.rotate().await.expect("rotates");
        drop(owner);
        let owner = site.open("warm").await;
        let mut b = Self::half(&site, &owner, "b", b'b').await;
        b.objects = b.objects.difference(&a.objects).cloned().collect();
        assert_eq!((a.objects.len(), b.objects.len()), (4, 4), "two packs, a segment and a snapshot each");
        owner.snapshots(&SnapshotFilter::default()).await.expect("lists");
        Self { site, halves: [a, b] }
    }

    async fn half(site: &Site, owner: &Repository, name: &str, fill: u8) -> Half {
        let folder = site.tree().join(name);
        std::fs::create_dir_all(folder.join("sub")).expect("creates");
        std::fs::write(folder.join("file"), vec![fill; 40_000]).expect("writes");
        std::fs::write(folder.join("sub/other"), format!("the content of {name}")).expect("writes");
        let mut request = backup_request(&folder);
        request.source = Some(name.into());
        let report = site.backup_of(owner, request).await;
        let mut objects = BTreeSet::new();
        for prefix in [names::PACKS, names::INDEX, names::SNAPSHOTS] {
            objects.extend(names_of(&site.memory, prefix).await);
        }
        let path = [site.tree_path().as_slice(), name.as_bytes()].join(&b'/');
        Half { id: report.snapshot.expect("was committed"), path, tree: Tree::read(&folder), objects }
    }

    /// A damaged copy of the store; none if the harm changes nothing.
    async fn harmed(&self, name: &str, harm: Harm) -> Option<MemoryStore> {
        let memory = fork(&self.site.memory).await;
        let bytes = memory.get(name).await.expect("is there");
        match harm {
            Harm::Delete => memory.delete(name).await.expect("deletes"),
            Harm::Truncate(len) => memory.overwrite(name, bytes.slice(..len.min(bytes.len() - 1))).await,
            Harm::Flip(at) => {
                let mut wrong = bytes.to_vec();
                let at = at.min(wrong.len() - 1);
                wrong[at] ^= 0x10;
                memory.overwrite(name, wrong.into()).await;
            }
            Harm::Swap => {
                let folder = name.split('/').next().expect("has one");
                let others = names_of(&memory, folder).await;
                let other = others.iter().find(|other| *other != name && name.contains('/'))?;
                let its = memory.get(other).await.expect("is there");
                memory.overwrite(name, its).await;
                memory.overwrite(other, bytes).await;
            }
            Harm::Rename => {
                memory.delete(name).await.expect("deletes");
                memory.overwrite(&renamed(name), bytes).await;
            }
        }
        Some(memory)
    }

    /// The half that needs `name`, if only one does.
    fn needs(&self, name: &str) -> Option<usize> {
        self.halves.iter().position(|half| half.objects.contains(name))
    }

    /// Restores a half, and fails on wrong bytes; true if it was complete.
    async fn restores(&self, repository: &Repository, half: &Half, context: &str) -> bool {
        let selector = Selector::Prefix(half.id.to_string());
        let Ok(snapshot) = repository.select(&selector, &SnapshotFilter::default()).await else { return false };
        let target = self.site.new_folder();
        let restored = try_restore(repository, &snapshot, restore_request(&half.path, target.path())).await;
        let Ok(report) = restored else { return false };
        let found = Tree::read(target.path());
        let named: BTreeSet<&[u8]> = report.problems.iter().map(|problem| problem.path.as_bytes()).collect();
        for (name, bytes) in found.files().filter(|(name, _)| !named.contains(name)) {
            let right = half.tree.files().find(|(own, _)| *own == name).map(|(_, bytes)| bytes);
            assert!(right == Some(bytes), "{context}: wrong bytes in {}", String::from_utf8_lossy(name));
        }
        if report.problem_count == 0 {
            half.tree.assert_same(&found, context);
        }
        report.problem_count == 0
    }

    /// Opens, checks and restores a damaged copy with a cache of this name.
    async fn examine(&self, memory: &MemoryStore, who: &str, cache: &str, context: &str) -> Result<Seen, EngineError> {
        let repository = self.site.open_as(who, std::sync::Arc::new(memory.clone()), cache).await?;
        let report = check_all(&repository).await.unwrap_or_else(|error| panic!("{context}: {error}"));
        let mut complete = [false; 2];
        for (half, complete) in self.halves.iter().zip(&mut complete) {
            *complete = self.restores(&repository, half, context).await;
        }
        Ok(Seen { report, complete })
    }

    /// All harms to all objects below `prefixes`, each seen with no cache and some with a warm one.
    async fn harm_all(&self, prefixes: &[&str], expect: impl Fn(&str, Harm, Result<Seen, EngineError>, &str)) {
        let mut at = 0;
        for prefix in prefixes {
            for name in names_of(&self.site.memory, "").await.iter().filter(|name| name.starts_with(prefix)) {
                let len = self.site.memory.get(name).await.expect("is there").len();
                for harm in harms(len) {
                    let Some(memory) = self.harmed(name, harm).await else { continue };
                    at += 1;
                    let cold = format!("cold-{at}");
                    let context = format!("{harm:?} of {name}, no cache");
                    expect(name, harm, self.examine(&memory, "owner", &cold, &context).await, &context);
                    if matches!(harm, Harm::Delete | Harm::Flip(_) | Harm::Swap) && self.needs(name).is_some() {
                        let (warm, context) = (format!("warm-{at}"), format!("{harm:?} of {name}, warm cache"));
                        copy_folder(&self.site.path("warm"), &self.site.path(&warm));
                        expect(name, harm, self.examine(&memory, "owner", &warm, &context).await, &context);
                    }
                }
            }
        }
        assert!(at > 10, "something was harmed");
    }
}

/// What was seen of a damaged repository.
#[derive(Debug)]
struct Seen {
    report: CheckReport,
    complete: [bool; 2],
}

impl Seen {
    /// Fails unless the check names one of `objects`.
    #[track_caller]
    fn assert_names(&self, objects: &[String], context: &str) {
        let is_named = self.report.damages.iter().any(|damage| objects.contains(&damage.object));
        assert!(is_named, "{context}: {objects:?} is not in {:?}", self.report);
    }

    /// Fails unless something is said to break this snapshot, and if given, this path in it.
    #[track_caller]
    fn assert_affects(&self, half: &Half, path: &str, context: &str) {
        let short = &half.id.to_string()[..8];
        let mut affected = self.report.damages.iter().flat_map(|damage| &damage.affects);
        let is_named = affected.any(|affected| affected.starts_with(short) && affected.contains(path));
        assert!(is_named, "{context}: {short} {path} is not in {:?}", self.report.damages);
    }
}

fn harms(len: usize) -> Vec<Harm> {
    let mut harms = vec![Harm::Delete, Harm::Swap, Harm::Rename];
    harms.extend([0, 1, len / 2, len - 1].map(Harm::Truncate));
    harms.extend([0, 6, len / 3, len / 2, len - 40, len - 1].map(Harm::Flip));
    harms
}

/// The same name but for its last digit.
fn renamed(name: &str) -> String {
    let (front, last) = name.split_at(name.len() - 1);
    format!("{front}{}", if last == "0" { "1" } else { "0" })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn damaged_configuration_is_named_and_its_copy_stands_in() {
    let scene = Scene::new().await;
    scene
        .harm_all(&["config"], |name, _, seen, context| {
            let seen = seen.unwrap_or_else(|error| panic!("{context}: {error}"));
            seen.assert_names(&[name.to_owned()], context);
            assert_eq!(seen.complete, [true, true], "{context}");
        })
        .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_damaged_configurations_are_an_error_that_names_one() {
    let scene = Scene::new().await;
    let memory = fork(&scene.site.memory).await;
    for name in [names::CONFIG, names::CONFIG_COPY] {
        memory.overwrite(name, "no configuration".into()).await;
    }
    let error = scene.examine(&memory, "owner", "cold", "both").await.expect_err("cannot be opened");
    assert!(error.to_string().starts_with(names::CONFIG), "{error}");
    assert_eq!(error.kind(), engine::Kind::Damaged);
    for name in [names::CONFIG, names::CONFIG_COPY] {
        memory.delete(name).await.expect("deletes");
    }
    let error = scene.examine(&memory, "owner", "cold", "none").await.expect_err("cannot be opened");
    assert!(matches!(error, EngineError::ConfigLost { .. }), "{error}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn key_slots_and_epochs_outlive_the_damage_of_either_copy_and_check_names_it() {
    let scene = Scene::new().await;
    let mut at = 0;
    for prefix in [names::KEYS, names::KEYS_COPY, names::EPOCHS, names::EPOCHS_COPY] {
        for name in names_of(&scene.site.memory, &format!("{prefix}/")).await {
            let len = scene.site.memory.get(&name).await.expect("is there").len();
            for harm in harms(len) {
                at += 1;
                let memory = scene.harmed(&name, harm).await.expect("is harmed");
                for who in ["owner", "reader"] {
                    let context = format!("{harm:?} of {name} for {who}");
                    let seen = scene.examine(&memory, who, &format!("{who}{at}"), &context).await;
                    let seen = seen.unwrap_or_else(|error| panic!("{context}: {error}"));
                    assert_eq!(seen.complete, [true, true], "{context}");
                    assert!(seen.report.damages.iter().any(|damage| damage.object == name), "{context}: {seen:?}");
                }
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn key_slot_that_is_lost_twice_opens_no_more_and_another_key_still_does() {
    let scene = Scene::new().await;
    let mut shut = 0;
    for name in names_of(&scene.site.memory, &format!("{}/", names::KEYS)).await {
        let memory = scene.harmed(&name, Harm::Delete).await.expect("is harmed");
        memory.delete(&names::copy_of(&name)).await.expect("deletes");
        let last = names::last(&name);
        for who in ["owner", "reader"] {
            match scene.examine(&memory, who, &format!("{who} {last}"), &name).await {
                Ok(seen) => assert_eq!(seen.complete, [true, true], "{who} without {name}"),
                Err(error) => {
                    assert!(matches!(error, EngineError::WrongKey { .. }), "{who} without {name}: {error}");
                    shut += 1;
                }
            }
        }
    }
    assert_eq!(shut, 2, "each of the two keys is lost with its own slot");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn damaged_pack_is_named_with_what_it_breaks_and_the_other_snapshot_restores() {
    let scene = Scene::new().await;
    scene
        .harm_all(&[names::PACKS], |name, harm, seen, context| {
            let seen = seen.unwrap_or_else(|error| panic!("{context}: {error}"));
            let own = scene.needs(name).expect("one half needs it");
            seen.assert_names(&[name.to_owned()], context);
            seen.assert_affects(&scene.halves[own], "", context);
            assert!(harm == Harm::Swap || seen.complete[1 - own], "{context}: the other one restores");
            if harm == Harm::Rename {
                assert_eq!(seen.complete, [true, true], "{context}: its trailer tells what it is, whatever its name");
            }
            let is_gone = matches!(harm, Harm::Delete | Harm::Truncate(0));
            let is_warm = context.ends_with("warm cache"); // and may still know the pages of a lost metadata pack
            assert!(!is_gone || is_warm || !seen.complete[own], "{context}: not without this pack");
        })
        .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn lost_data_pack_is_named_with_every_path_in_it() {
    let scene = Scene::new().await;
    let half = &scene.halves[0];
    let mut named = 0;
    for name in half.objects.iter().filter(|name| name.starts_with(names::PACKS)) {
        let memory = scene.harmed(name, Harm::Delete).await.expect("is harmed");
        copy_folder(&scene.site.path("warm"), &scene.site.path(&format!("warm-{named}")));
        let seen = scene.examine(&memory, "owner", &format!("warm-{named}"), name).await.expect("opens");
        if seen.complete[0] {
            continue; // the metadata pack: a warm cache still knows its pages
        }
        seen.assert_affects(half, "a/file", name);
        seen.assert_affects(half, "a/sub/other", name);
        assert!(seen.report.damages.iter().all(|damage| damage.object == *name), "{:?}", seen.report.damages);
        named += 1;
    }
    assert_eq!(named, 1, "one of both packs holds the data");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn damaged_segment_is_named_even_if_the_cache_knows_what_it_said() {
    let scene = Scene::new().await;
    scene
        .harm_all(&[names::INDEX], |name, harm, seen, context| {
            let seen = seen.unwrap_or_else(|error| panic!("{context}: {error}"));
            let own = scene.needs(name).expect("one half needs it");
            let absent = if harm == Harm::Delete { names::INDEX.to_owned() } else { renamed(name) };
            seen.assert_names(&[name.to_owned(), absent], context);
            seen.assert_affects(&scene.halves[own], "", context);
            assert_eq!(seen.complete, [true, true], "{context}: the trailers of the packs say the same");
        })
        .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn damaged_snapshot_is_named_even_if_the_cache_knows_what_it_said() {
    let scene = Scene::new().await;
    scene
        .harm_all(&[names::SNAPSHOTS], |name, harm, seen, context| {
            let seen = seen.unwrap_or_else(|error| panic!("{context}: {error}"));
            let own = scene.needs(name).expect("one half needs it");
            if harm == Harm::Delete {
                assert_eq!((seen.report.snapshots, seen.report.damages.len()), (1, 0), "{context}");
            } else {
                seen.assert_names(&[name.to_owned(), renamed(name)], context);
            }
            assert!(harm == Harm::Swap || seen.complete[1 - own], "{context}: the other one restores");
        })
        .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn objects_under_names_of_other_forms_are_ignored_everywhere() {
    let scene = Scene::new().await;
    let memory = fork(&scene.site.memory).await;
    for prefix in [names::KEYS, names::EPOCHS, names::PACKS, names::INDEX, names::SNAPSHOTS, names::FORGOTTEN] {
        for name in ["README", ".DS_Store", "0000000001.bak", "folder/0000000001"] {
            memory.overwrite(&format!("{prefix}/{name}"), "somebody's own".into()).await;
        }
    }
    for name in [names::CONDEMNED, names::WRITERS] {
        memory.overwrite(&format!("{name}/README"), "somebody's own".into()).await;
    }
    let seen = scene.examine(&memory, "owner", "cold", "junk").await.expect("opens");
    assert_eq!((seen.complete, seen.report.damages), ([true, true], Vec::new()));
    let owner = scene.site.open_as("owner", std::sync::Arc::new(memory), "cold").await.expect("opens");
    assert_eq!(owner.rotate().await.expect("rotates"), 3);
    scene.site.backup(&owner).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn objects_too_long_for_their_kind_are_named_and_never_read() {
    let scene = Scene::new().await;
    let memory = fork(&scene.site.memory).await;
    let long = bytes::Bytes::from(vec![0; (64 << 20) + (8 << 10)]);
    let slot = format!("{}/{}", names::KEYS, "0".repeat(64));
    let hides = format!("{}/{}", names::FORGOTTEN, "0".repeat(32));
    for name in [&slot, &hides] {
        memory.overwrite(name, long.clone()).await;
    }
    let store = std::sync::Arc::new(store::testing::FaultyStore::new(std::sync::Arc::new(memory)));
    let repository = scene.site.open_as("owner", store.clone(), "cold").await.expect("opens");
    let report = check_all(&repository).await.expect("checks");
    assert!(report.damages.iter().any(|damage| damage.object == slot), "{report:?}");
    let read = store.calls().into_iter().filter(|call| call.verb == store::testing::Verb::Get);
    assert!(!read.into_iter().any(|call| call.name == slot || call.name == hides), "they are not read");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn snapshot_of_an_epoch_that_the_key_missed_is_unclear_and_no_damage() {
    let scene = Scene::new().await;
    // The reader's slot was made in epoch 1; without its grant of epoch 2 it knows nothing of that.
    let site = &scene.site;
    let slots = names_of(&site.memory, names::KEYS).await;
    let owner = site.open("warm").await;
    let keys = owner.keys().await.expect("lists");
    let reader = keys.iter().find(|key| key.role == Role::Reader).expect("is there");
    let name = slots.iter().find(|name| name.ends_with(&reader.id)).expect("is there");
    let slot = site.memory.get(name).await.expect("is there");
    owner.remove_key(&reader.id).await.expect("removes");
    drop(owner);
    let owner = site.open("warm").await;
    let later = site.backup(&owner).await.snapshot.expect("commits");
    site.memory.overwrite(name, slot).await;
    let removed = site.open_as("reader", site.store(), "reader").await.expect("opens");
    let report = check_all(&removed).await.expect("checks");
    let later = names::snapshot(&later);
    assert!(report.damages.iter().all(|damage| damage.object != later), "{report:?}");
    assert!(report.unclear.iter().any(|what| what.contains(&later) && what.contains("epoch 3")), "{report:?}");
}
