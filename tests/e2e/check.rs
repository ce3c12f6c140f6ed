//! What `check` reads, what it says, and what it does not know.
//!
//! Invariant: a damage is told with the snapshot and the path that need it, and with the next step.
//! Never here: every kind of damage to every object (see `damage`).

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use engine::{CheckReport, CheckRequest, EngineError, Progress, Repository, Subset};
use harness::binary::{Host, PASSWORD, Ran, Run as _, is_root, noise, set_mode};
use harness::{Dice, Forge, Site, Tree, backup_request, check_all, names_of, prune_request, try_backup, try_prune};
use pack::{PackClass, PackEntry, Segment, names};
use serde_json::Value;
use store::Store as _;
use store::testing::{Fault, FaultyStore, Trigger, Verb};
use tokio_util::sync::CancellationToken;

/// Backups of a file each, and so at least as many packs of data and of names.
const BACKUPS: usize = 6;

/// How often something is looked at that is waited for: some ten seconds.
const LOOKS_MAX: usize = 2_000;

/// A repository with some packs, and the names of the files in it.
fn host_with_packs() -> (Host, Vec<PathBuf>) {
    let host = Host::with_repository();
    let files: Vec<PathBuf> =
        (0..BACKUPS).map(|at| host.write(&format!("tree/{at}"), noise(&format!("{at}"), 40_000))).collect();
    for file in &files {
        host.back_up(&[file]);
    }
    (host, files)
}

/// Every pack of the repository, sorted.
fn packs(host: &Host) -> Vec<PathBuf> {
    fn below(folder: &Path, found: &mut Vec<PathBuf>) {
        for entry in fs::read_dir(folder).expect("a folder of the repository") {
            let path = entry.expect("an entry").path();
            if path.is_dir() { below(&path, found) } else { found.push(path) }
        }
    }
    let mut found = Vec::new();
    below(&host.repository().join(names::PACKS), &mut found);
    found.sort();
    found
}

fn len_of(files: &[PathBuf]) -> u64 {
    files.iter().map(|path| fs::metadata(path).expect("is there").len()).sum()
}

/// Flips a bit in the middle, and leaves the length alone.
fn flip(path: &Path) {
    flip_at(path, |len| len / 2);
}

/// Flips a bit in the tag of the trailer. Only who reads the pack whole looks at that: a bit of a page, which may lie in the
/// middle of a pack of metadata, is met by every check that follows the snapshots.
fn flip_trailer(path: &Path) {
    flip_at(path, |len| len - pack::END_MARK_LEN - 1);
}

fn flip_at(path: &Path, at: impl Fn(usize) -> usize) {
    let mut bytes = fs::read(path).expect("reads");
    let at = at(bytes.len());
    bytes[at] ^= 1;
    set_mode(path, 0o600);
    fs::write(path, bytes).expect("writes");
}

fn check(host: &Host, subset: &str) -> Ran {
    host.backstay(["--json", "check", "--read-data-subset", subset]).run()
}

fn read_len(report: &Value) -> u64 {
    report["read_len"].as_u64().expect("a length")
}

#[test]
fn parts_of_the_data_read_every_pack_exactly_once_and_the_same_ones_each_time() {
    let (host, _) = host_with_packs();
    let packs = packs(&host);
    let lens: Vec<u64> = (1..=4).map(|n| read_len(&check(&host, &format!("{n}/4")).expect_code(0).json())).collect();
    assert_eq!(lens.iter().sum::<u64>(), len_of(&packs), "{lens:?}");
    assert!(lens.iter().filter(|len| **len > 0).count() > 1, "{lens:?}");
    assert_eq!(read_len(&check(&host, "2/4").expect_code(0).json()), lens[1]);
    // One part finds the damage and the others do not, in a pack of metadata and in one of data.
    let by_len = |pack: &&PathBuf| len_of(std::slice::from_ref(*pack));
    for pack in [packs.iter().min_by_key(by_len), packs.iter().max_by_key(by_len)].into_iter().flatten() {
        let whole = fs::read(pack).expect("reads");
        flip_trailer(pack);
        let codes: Vec<_> = (1..=4).map(|n| check(&host, &format!("{n}/4")).code).collect();
        assert_eq!(codes.iter().filter(|code| **code == Some(1)).count(), 1, "{codes:?} for {}", pack.display());
        assert_eq!(codes.iter().filter(|code| **code == Some(0)).count(), 3, "{codes:?} for {}", pack.display());
        fs::write(pack, whole).expect("writes");
    }
}

#[test]
fn share_or_size_of_the_data_is_read_and_not_much_more() {
    let (host, _) = host_with_packs();
    let packs = packs(&host);
    let (total, longest) = (len_of(&packs), packs.iter().map(|pack| len_of(std::slice::from_ref(pack))).max());
    let longest = longest.expect("has packs");
    for (subset, wanted) in [("10%", total / 10), ("100%", total), ("50000", 50_000), ("50M", total)] {
        let read = read_len(&check(&host, subset).expect_code(0).json());
        assert!((wanted..wanted + longest).contains(&read) && read <= total, "{subset}: {read} of {total}");
    }
}

#[test]
fn damage_names_the_object_the_snapshot_the_path_and_the_next_step() {
    let (host, files) = host_with_packs();
    let ids: Vec<String> = host.snapshots().iter().map(|one| one["id"].as_str().expect("an id").to_owned()).collect();
    let largest = packs(&host).into_iter().max_by_key(|pack| len_of(std::slice::from_ref(pack))).expect("has packs");
    fs::remove_file(&largest).expect("removes");
    let ran =
        host.backstay(["check"]).run().expect_code(1).says(&["1 object is damaged", "back up what is affected again"]);
    let pack = largest.file_name().and_then(|name| name.to_str()).expect("a name").to_owned();
    assert!(
        ran.text().lines().next().is_some_and(|line| line.contains(&pack) && line.ends_with("is missing")),
        "{ran}"
    );
    let named = |ran: &Ran, at: usize| {
        let path = format!("{}:{}", &ids[at][..8], files[at].display().to_string().trim_start_matches('/'));
        ran.text().contains(&format!("affects {path}"))
    };
    let affected: Vec<usize> = (0..BACKUPS).filter(|at| named(&ran, *at)).collect();
    assert_eq!(affected.len(), 1, "{ran}");
    // The next step works: what is still at its source heals the repository.
    let again = host.backstay(["backup", "--force"]).arg(&files[affected[0]]).run();
    again.expect_code(0);
    let healed = host.backstay(["check"]).run().expect_code(0);
    assert!(healed.stderr.contains("is missing, and no snapshot needs it"), "{healed}");
}

#[test]
fn more_paths_than_are_named_are_counted_with_the_snapshots_that_they_are_in() {
    let host = Host::with_repository();
    for at in 0..130 {
        host.write(&format!("tree/{at}"), noise(&format!("{at}"), 2_000));
    }
    let tree = host.path("tree");
    host.back_up(&[&tree]);
    fs::remove_file(tree.join("7")).expect("removes");
    host.back_up(&[&tree]);
    let largest = packs(&host).into_iter().max_by_key(|pack| len_of(std::slice::from_ref(pack))).expect("has packs");
    fs::remove_file(&largest).expect("removes");
    let ran = host.backstay(["check"]).run().expect_code(1);
    assert!(ran.text().lines().any(|line| line == "  and 239 more, in 2 snapshots in all"), "{ran}");
    let report = host.backstay(["--json", "check"]).run().expect_code(1).json();
    let damage = &report["damages"][0];
    assert_eq!(damage["affects"].as_array().map(Vec::len), Some(100), "{damage}");
    assert_eq!((&damage["affects_count"], &damage["affected_snapshot_count"]), (&259.into(), &2.into()), "{damage}");
}

#[test]
fn damaged_pack_is_no_damage_once_all_that_it_held_was_read_elsewhere_in_the_same_check() {
    let (host, files) = host_with_packs();
    let before = packs(&host);
    let largest = before.iter().max_by_key(|pack| len_of(std::slice::from_ref(pack))).expect("has packs");
    flip(largest);
    let named = largest.file_name().and_then(|name| name.to_str()).expect("a name").to_owned();
    let is_damage = |ran: Ran| {
        let ran = ran.expect_code(1);
        assert!(ran.text().contains(&named) && ran.text().contains("does not hash to its name"), "{ran}");
    };
    is_damage(host.backstay(["check", "--read-data"]).run());
    for file in &files {
        host.backstay(["backup", "--force"]).arg(file).run().expect_code(0);
    }
    let healed = host.backstay(["check", "--read-data"]).run().expect_code(0);
    let healed = healed.says(&["and no snapshot needs it", "the repository is whole", "delete the damaged packs"]);
    assert!(healed.stderr.contains(&named) && !healed.text().contains("damage:"), "{healed}");
    let report = host.backstay(["--json", "check", "--read-data"]).run().expect_code(0).json();
    assert_eq!((&report["is_whole"], report["warnings"].as_array().map(Vec::len)), (&true.into(), Some(1)), "{report}");
    // A part of the data with the damaged pack and without those that stand in for it proves nothing of them.
    let start = |name: &str| u32::from_str_radix(&name[..8], 16).expect("hexadecimal");
    let new: Vec<_> = packs(&host).into_iter().filter(|pack| !before.contains(pack)).collect();
    let of_new = |pack: &PathBuf| start(pack.file_name().and_then(|name| name.to_str()).expect("a name"));
    let parts = (2..100).find(|parts| new.iter().all(|pack| of_new(pack) % parts != start(&named) % parts));
    let parts = parts.expect("they fall apart");
    let part = format!("{}/{parts}", start(&named) % parts + 1);
    is_damage(check(&host, &part));
    // What stands in for it is lost, too: then it is damage again.
    new.iter().for_each(|pack| fs::remove_file(pack).expect("removes"));
    is_damage(host.backstay(["check", "--read-data"]).run());
}

#[test]
fn key_that_opens_no_content_says_that_it_read_without_opening() {
    let (host, files) = host_with_packs();
    let password = host.write_secret("writer", "another password entirely\n");
    host.backstay(["key", "add", "--role", "writer", "--new-password-file"]).arg(&password).run().expect_code(0);
    let as_writer = |words: &[&str]| {
        let mut command = host.backstay(words);
        command.env("BACKSTAY_PASSWORD_FILE", &password).env("BACKSTAY_CACHE_DIR", host.path("writers-cache"));
        command.run()
    };
    let ran =
        as_writer(&["check", "--read-data"]).expect_code(0).says(&["opens no content", "the repository is whole"]);
    assert!(ran.stderr.contains("compared with its hashes"), "{ran}");
    assert_eq!(as_writer(&["--json", "check", "--read-data"]).json()["is_content_sealed"], true);
    let plain = as_writer(&["check"]).expect_code(0);
    assert!(!plain.stderr.contains("opens no content"), "without --read-data nobody asked: {plain}");
    let owner = host.backstay(["--json", "check", "--read-data"]).run().expect_code(0).json();
    assert_eq!(owner["is_content_sealed"], false);
    // It still finds damage, and which snapshots may be affected.
    let largest = packs(&host).into_iter().max_by_key(|pack| len_of(std::slice::from_ref(pack))).expect("has packs");
    flip(&largest);
    let damaged = as_writer(&["check", "--read-data"]).expect_code(1);
    assert_eq!(damaged.text().matches("(perhaps)").count(), files.len(), "{damaged}");
}

#[test]
fn object_that_the_store_does_not_let_be_read_is_unclear_and_neither_whole_nor_damaged() {
    let (host, _) = host_with_packs();
    let largest = packs(&host).into_iter().max_by_key(|pack| len_of(std::slice::from_ref(pack))).expect("has packs");
    set_mode(&largest, 0o000);
    set_mode(&host.path(""), 0o755);
    fs::create_dir(host.path("their-cache")).expect("creates");
    fs::set_permissions(host.path("their-cache"), fs::Permissions::from_mode(0o777)).expect("opens");
    open_to_all(&host.repository(), &largest);
    let as_nobody = |words: &[&str]| {
        let mut backstay = host.backstay(words);
        if !is_root() {
            // Then the mode keeps us out too.
            return backstay.env("BACKSTAY_CACHE_DIR", host.path("their-cache")).run();
        }
        let mut command = Command::new("setpriv");
        command.args(["--reuid=65534", "--regid=65534", "--clear-groups", "--"]).arg(backstay.get_program());
        command.args(words).env_clear();
        command.envs(backstay.get_envs().filter_map(|(name, value)| Some((name, value?))));
        command.env_remove("BACKSTAY_PASSWORD_FILE").env("BACKSTAY_PASSWORD", PASSWORD);
        command.env("BACKSTAY_CACHE_DIR", host.path("their-cache"));
        command.run()
    };
    let ran =
        as_nobody(&["check", "--read-data"]).expect_code(2).says(&["unclear: ", "no damage was found, but 1 object"]);
    assert!(ran.stderr.contains("run the same check again") && !ran.stderr.contains("is whole"), "{ran}");
    let document = as_nobody(&["--json", "check", "--read-data"]).expect_code(2).json();
    assert_eq!((&document["is_whole"], &document["unclear_count"]), (&Value::Bool(false), &Value::from(1)));
    assert_eq!(document["damages"], Value::Array(Vec::new()));
    as_nobody(&["check"]).expect_code(0);
    // With damage besides, damage is what the exit code tells.
    let other = packs(&host).into_iter().find(|pack| *pack != largest).expect("has packs");
    flip(&other);
    set_mode(&other, 0o644);
    as_nobody(&["check", "--read-data"]).expect_code(1);
}

/// Lets everybody read what is below `folder`, but for one file.
fn open_to_all(folder: &Path, but: &Path) {
    set_mode(folder, 0o755);
    for entry in fs::read_dir(folder).expect("a folder of the repository") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            open_to_all(&path, but);
        } else if path != but {
            set_mode(&path, 0o644);
        }
    }
}

async fn check_with(repository: &Repository, read_data: Option<Subset>) -> Result<CheckReport, EngineError> {
    repository
        .check(
            CheckRequest { read_data, ..CheckRequest::default() },
            &Arc::new(Progress::new()),
            CancellationToken::new(),
        )
        .await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn snapshot_that_is_committed_while_a_check_runs_is_no_damage() {
    // Each listing that a check makes.
    for (prefix, skipped) in
        [("forgotten", 0), ("snapshots", 0), ("index", 0), ("index", 1), ("packs", 0), ("packs", 1)]
    {
        let site = Site::new(1);
        let writer = site.init(site.store(), "cache").await.expect("makes");
        fs::write(site.tree().join("old"), b"old content").expect("writes");
        site.backup(&writer).await;
        let faulty = Arc::new(FaultyStore::new(site.store()));
        let checker = site.open_as("owner", faulty.clone(), "checker").await.expect("opens");
        faulty.inject(Trigger::next().of(Verb::List).naming(prefix).after(skipped), Fault::Hang);
        fs::write(site.tree().join("new"), b"new content").expect("writes");
        let commit = async {
            let hangs = || {
                let calls = faulty.calls();
                let lists = calls.iter().filter(|call| call.verb == Verb::List && call.name == prefix);
                lists.count() as u64 > skipped
            };
            for _ in 0..LOOKS_MAX {
                if hangs() {
                    break;
                }
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
            site.backup(&writer).await;
            faulty.release();
        };
        let (checked, ()) = futures::join!(check_with(&checker, None), commit);
        let checked = checked.expect("checks");
        assert!(checked.is_whole(), "list {skipped} of {prefix}: {checked:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn snapshot_that_is_forgotten_and_pruned_while_a_check_runs_is_no_damage() {
    // Each listing that a check makes, and the first pages and packs that it reads.
    let moments = [
        (Verb::List, "forgotten", 0),
        (Verb::List, "snapshots", 0),
        (Verb::List, "index", 0),
        (Verb::List, "index", 1),
        (Verb::List, "index", 2),
        (Verb::List, "packs", 0),
        (Verb::List, "packs", 1),
        (Verb::Get, "packs/", 0),
        (Verb::Get, "packs/", 2),
        (Verb::GetRange, "packs/", 0),
        (Verb::GetRange, "packs/", 1),
    ];
    let both = |moment| [(moment, None), (moment, Some(Subset::All))];
    for ((verb, prefix, skipped), read_data) in moments.into_iter().flat_map(both) {
        let site = Site::new(1);
        let writer = site.init(site.store(), "cache").await.expect("makes");
        let mut ids = Vec::new();
        for content in ["old", "new"] {
            fs::write(site.tree().join("file"), content.repeat(4000)).expect("writes");
            let report = site.backup(&writer).await;
            ids.push(site.snapshot(&writer, &report).await.id);
        }
        let faulty = Arc::new(FaultyStore::new(site.store()));
        let checker = site.open_as("owner", faulty.clone(), "checker").await.expect("opens");
        let before = faulty.calls().len();
        faulty.inject(Trigger::next().of(verb).naming(prefix).after(skipped), Fault::Hang);
        let checked = AtomicBool::new(false);
        let is_checked = || checked.load(Ordering::Relaxed);
        let prune = async {
            let hangs = || {
                let calls = faulty.calls();
                let since = calls.iter().skip(before);
                since.filter(|call| call.verb == verb && call.name.starts_with(prefix)).count() as u64 > skipped
            };
            // Without data it does not come to some of these.
            while !hangs() && !is_checked() {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
            assert!(hangs() || read_data.is_none(), "{verb:?} {skipped} of {prefix} is never asked for");
            site.forget(&writer, ids[0]).await;
            let pruned = try_prune(&writer, prune_request(0.0)).await.expect("prunes");
            assert!(pruned.packs_deleted > 0, "{pruned:?}");
            while !is_checked() {
                faulty.release();
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        let check = async {
            let report = check_with(&checker, read_data).await;
            checked.store(true, Ordering::Relaxed);
            report
        };
        let (report, ()) = futures::join!(check, prune);
        let report = report.expect("checks");
        assert!(report.is_whole(), "{verb:?} {skipped} of {prefix}: {report:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn store_that_fails_for_one_pack_leaves_the_check_unclear_and_not_whole() {
    let site = Site::new(1);
    let repository = site.init(site.store(), "cache").await.expect("makes");
    fs::write(site.tree().join("file"), b"content").expect("writes");
    try_backup(&repository, backup_request(&site.tree())).await.expect("backs up");
    drop(repository);
    let faulty = Arc::new(FaultyStore::new(site.store()));
    let repository = site.open_as("owner", faulty.clone(), "cache").await.expect("opens");
    faulty.inject(Trigger::next().of(Verb::Get).naming("packs/"), Fault::Fail);
    let report = check_all(&repository).await.expect("checks");
    assert_eq!((report.damages.len(), report.unclear_count, report.unclear.len()), (0, 1, 1));
    assert!(!report.is_whole());
    assert!(check_all(&repository).await.expect("checks").is_whole());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pack_that_could_not_be_read_before_a_prune_is_read_after_it() {
    let site = Site::new(1);
    let writer = site.init(site.store(), "cache").await.expect("makes");
    fs::write(site.tree().join("file"), "old".repeat(4000)).expect("writes");
    let report = site.backup(&writer).await;
    let forgotten = site.snapshot(&writer, &report).await.id;
    let before = names_of(&site.memory, names::PACKS).await;
    fs::write(site.tree().join("file"), "new".repeat(4000)).expect("writes");
    site.backup(&writer).await;
    let packs = names_of(&site.memory, names::PACKS).await;
    let kept = packs.iter().find(|pack| !before.contains(pack)).expect("a new pack");
    let faulty = Arc::new(FaultyStore::new(site.store()));
    let checker = site.open_as("owner", faulty.clone(), "checker").await.expect("opens");
    let calls_before = faulty.calls().len();
    faulty.inject(Trigger::next().of(Verb::Get).naming(kept), Fault::Fail);
    faulty.inject(Trigger::next().of(Verb::GetRange).naming("packs/"), Fault::Hang);
    let count = |verb: Verb, name: &str| {
        let calls = faulty.calls();
        calls.iter().skip(calls_before).filter(|call| call.verb == verb && call.name.starts_with(name)).count()
    };
    let checked = AtomicBool::new(false);
    let prune = async {
        while count(Verb::GetRange, "packs/") == 0 && !checked.load(Ordering::Relaxed) {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        site.forget(&writer, forgotten).await;
        try_prune(&writer, prune_request(0.0)).await.expect("prunes");
        while !checked.load(Ordering::Relaxed) {
            faulty.release();
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    let check = async {
        let report = check_with(&checker, Some(Subset::All)).await;
        checked.store(true, Ordering::Relaxed);
        report.expect("checks")
    };
    let (report, ()) = futures::join!(check, prune);
    assert!(report.is_whole(), "{report:?}");
    assert_eq!(count(Verb::Get, kept), 2, "once in vain, and once by the pass after the prune");
}

/// One snapshot of a file of many chunks, and the only segment with its name.
async fn site_with_segment() -> (Site, Repository, Forge, String, Segment) {
    let site = Site::new(1);
    let repository = site.init(site.store(), "cache").await.expect("makes");
    fs::write(site.tree().join("file"), Dice::of_seed(2).bytes(8 << 20)).expect("writes");
    site.backup(&repository).await;
    let forge = Forge::open(&site.memory, "owner").await;
    let name = names_of(&site.memory, names::INDEX).await.pop().expect("has a segment");
    let segment = forge.open_segment(&site.memory.get(&name).await.expect("is there"));
    (site, repository, forge, name, segment)
}

/// The entry of the pack that holds most chunks of content.
fn data_of(segment: &mut Segment) -> &mut PackEntry {
    let data = segment.packs.iter_mut().filter(|pack| pack.trailer.class == PackClass::Data);
    data.max_by_key(|pack| pack.trailer.chunks.len()).expect("has data")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn segment_that_lies_about_chunks_is_found_when_data_is_read_and_blamed() {
    type Change = fn(&mut PackEntry);
    let changes: [(&str, Change); 3] = [
        ("another chunk's name", |pack| pack.trailer.chunks[0].0 = seal::ChunkId::from_bytes([7; seal::CHUNK_ID_LEN])),
        ("two chunks swapped", |pack| {
            let (one, other) = (pack.trailer.chunks[0].0, pack.trailer.chunks[1].0);
            (pack.trailer.chunks[0].0, pack.trailer.chunks[1].0) = (other, one);
        }),
        ("another hash", |pack| pack.trailer.blobs[0].hash[0] ^= 1),
    ];
    for (context, change) in changes {
        let (site, repository, forge, honest, mut segment) = site_with_segment().await;
        change(data_of(&mut segment));
        let (liar, bytes) = forge.segment(&segment);
        site.memory.overwrite(&liar, bytes).await;
        // This host applied the true one before; it sees at once that they do not agree.
        let report = check_with(&repository, None).await.expect("checks");
        assert_eq!(report.damages.iter().map(|damage| &damage.object).collect::<Vec<_>>(), [&liar], "{context}");
        site.memory.delete(&honest).await.expect("deletes");
        let fresh = site.open(&format!("fresh {context}")).await;
        let report = check_all(&fresh).await.expect("checks");
        let objects: Vec<_> = report.damages.iter().map(|damage| damage.object.as_str()).collect();
        assert_eq!(objects, [liar.as_str()], "{context}: {report:?}");
        assert_eq!(report.unclear_count, 0, "{context}");
        // What is stored now does not rely on it, and the check after that says so.
        let mut forced = backup_request(&site.tree());
        forced.components[0].force = true;
        let again = site.backup_of(&fresh, forced).await;
        let snapshot = site.snapshot(&fresh, &again).await;
        assert!(again.new_len > 0, "{context}: the pack is not deduplicated against");
        site.assert_restores(&fresh, &snapshot, &Tree::read(&site.tree()), context).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pack_that_is_whole_again_is_used_again_once_it_was_read() {
    let (site, repository, _, _, mut segment) = site_with_segment().await;
    let name = names::pack(&data_of(&mut segment).id);
    let right = site.memory.get(&name).await.expect("is there");
    let mut wrong = right.to_vec();
    wrong[100] ^= 1;
    let new_len = async || {
        let mut forced = backup_request(&site.tree());
        forced.components[0].force = true;
        site.backup_of(&repository, forced).await.new_len
    };
    site.memory.overwrite(&name, wrong.into()).await;
    assert!(!check_all(&repository).await.expect("checks").is_whole());
    assert!(!check_with(&repository, None).await.expect("checks").is_whole(), "what is known is read again");
    site.memory.overwrite(&name, right).await;
    // Its length alone proves nothing.
    let stored = names_of(&site.memory, "").await;
    assert!(new_len().await > 0);
    // The copy that was stored instead goes away again.
    for name in names_of(&site.memory, "").await.iter().filter(|name| !stored.contains(name)) {
        site.memory.delete(name).await.expect("deletes");
    }
    assert!(check_with(&repository, None).await.expect("checks").is_whole());
    assert_eq!(new_len().await, 0);
}

#[test]
fn damage_that_a_reader_met_is_known_to_checks_and_backups_until_it_is_healed() {
    let (host, files) = host_with_packs();
    let largest = packs(&host).into_iter().max_by_key(|pack| len_of(std::slice::from_ref(pack))).expect("has packs");
    flip(&largest);
    let named = largest.file_name().and_then(|name| name.to_str()).expect("a name").to_owned();
    let checked = host.backstay(["check"]).run().expect_code(0);
    checked.says(&["contents were not read"]);
    let fails = |file: &&PathBuf| {
        let at = files.iter().position(|other| other == *file).expect("one of them");
        let id = host.snapshots()[at]["id"].as_str().expect("an id").to_owned();
        host.backstay(["cat", &format!("{id}:{}", file.display())]).run().code != Some(0)
    };
    let broken: Vec<&PathBuf> = files.iter().filter(fails).collect();
    let [file] = broken.as_slice() else { panic!("{broken:?} instead of one") };
    for _ in 0..2 {
        let ran =
            host.backstay(["check"]).run().expect_code(1).says(&["1 object is damaged", "back up what is affected"]);
        assert!(ran.text().contains(&named) && ran.text().contains("affects"), "{ran}");
    }
    // Another host learns of it from what the check wrote down.
    let mut command = host.backstay(["check"]);
    command.env("BACKSTAY_CACHE_DIR", host.path("another-cache"));
    command.run().expect_code(1);
    host.backstay(["backup", "--force"]).arg(file).run().expect_code(0);
    let healed = host.backstay(["check"]).run().expect_code(0);
    assert!(healed.stderr.contains(&named) && healed.stderr.contains("no snapshot needs it"), "{healed}");
    host.backstay(["check", "--read-data"]).run().expect_code(0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pack_that_no_segment_names_for_a_while_is_used_again_when_one_does() {
    let (site, repository, _, name, _) = site_with_segment().await;
    let segment = site.memory.get(&name).await.expect("is there");
    site.memory.delete(&name).await.expect("deletes");
    assert!(!check_with(&repository, None).await.expect("checks").is_whole());
    site.memory.overwrite(&name, segment).await;
    let mut forced = backup_request(&site.tree());
    forced.components[0].force = true;
    assert_eq!(site.backup_of(&repository, forced).await.new_len, 0);
}
