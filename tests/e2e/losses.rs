//! How other programs lost data, driven through this one: see `tests/losses.md` for which test stands for which loss.
//!
//! Invariant: each test ends by restoring what must be there and comparing it byte for byte.
//! Never here: losses that another suite shows already.

use std::ffi::{OsStr, OsString};
use std::fs;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use engine::{EngineError, Repository, SnapshotFilter, SnapshotInfo};
use harness::binary::{Host, Run as _, is_root, need_root, noise, set_mode, shell};
use harness::mount::SmallDisk;
use harness::running::is_running;
use harness::{Dice, Site, Tree, change_something, check_all, names_of, prune_request, restore_request, try_restore};
use harness::{backup_request, try_prune};
use pack::{SnapshotId, names};
use store::testing::{Call, Fault, FaultyStore, Trigger, Verb};
use store::{Env, Store as _};
use tokio_util::sync::CancellationToken;

/// How far clocks are off.
const SKEW: Duration = Duration::from_secs(2 * 24 * 60 * 60);

async fn listed(repository: &Repository) -> Vec<SnapshotInfo> {
    repository.snapshots(&SnapshotFilter::default()).await.expect("lists")
}

/// A site with a snapshot of a small tree.
async fn backed_up(seed: u64) -> (Site, Tree) {
    let site = Site::new(seed);
    let repository = site.init(site.store(), "cache").await.expect("makes");
    fs::create_dir(site.tree().join("folder")).expect("creates");
    for (name, len) in [("folder/small", 2_000), ("kept", 20_000), ("large", 60_000)] {
        fs::write(site.tree().join(name), Dice::of_seed(len).bytes(len as usize)).expect("writes");
    }
    site.backup(&repository).await;
    let tree = Tree::read(&site.tree());
    (site, tree)
}

/// Looks in every way that decides about damage, and fails if any of them finds some.
async fn assert_nothing_is_found_wrong(site: &Site, repository: &Repository, tree: &Tree, context: &str) {
    let checked = check_all(repository).await.expect(context);
    assert_eq!((checked.damages, checked.unclear), (Vec::new(), Vec::new()), "{context}");
    let snapshots = listed(repository).await;
    site.assert_restores(repository, &snapshots[0], tree, context).await;
    let cancel = CancellationToken::new();
    let index = repository.plan_repair_index(&cancel).await.expect(context);
    assert!(index.is_empty(), "{context}: {index:?}");
    let packs = repository.plan_repair_packs(true, &Arc::default(), &cancel).await.expect(context);
    assert!(packs.is_empty(), "{context}: {packs:?}");
    let snapshots = repository.plan_repair_snapshots(&cancel).await.expect(context);
    assert!(snapshots.is_empty(true), "{context}: {snapshots:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_wrong_read_of_anything_is_no_damage_and_repairs_nothing() {
    let (site, tree) = backed_up(9).await;
    let is_read = |call: &Call| matches!(call.verb, Verb::Get | Verb::GetRange);
    let counted = Arc::new(FaultyStore::new(site.store()));
    let repository = site.open_as("owner", counted.clone(), "counting").await.expect("opens");
    let opening = counted.calls().len();
    assert_nothing_is_found_wrong(&site, &repository, &tree, "without a fault").await;
    let reads: Vec<Call> = counted.calls().split_off(opening).into_iter().filter(is_read).collect();
    assert!(reads.len() > 10, "{reads:?}");
    for (at, read) in reads.iter().enumerate() {
        for fault in [Fault::ReadWrong, Fault::ReadShort] {
            let context = format!("{fault:?} of read {at}, {read:?}");
            let faulty = Arc::new(FaultyStore::new(site.store()));
            let repository =
                site.open_as("owner", faulty.clone(), &format!("cache {at} {fault:?}")).await.expect("opens");
            faulty.inject(Trigger::next().of(read.verb).naming(&read.name), fault);
            assert_nothing_is_found_wrong(&site, &repository, &tree, &context).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pack_that_the_store_kept_only_a_part_of_is_named_and_stored_again_by_the_next_backup() {
    for part in [0, 1, 2] {
        let (site, _) = backed_up(10).await;
        for name in names_of(&site.memory, names::PACKS).await {
            let whole = site.memory.get(&name).await.expect("is there");
            let len = [0, whole.len() / 2, whole.len() - 1][part];
            site.memory.overwrite(&name, whole.slice(..len)).await;
        }
        let repository = site.open("cache").await;
        assert!(!check_all(&repository).await.expect("checks").is_whole());
        drop(repository);
        // The host that stored them knows nothing of it, and its cache says that all is there.
        let repository = site.open(if part == 1 { "another cache" } else { "cache" }).await;
        let report = site.backup(&repository).await;
        let fresh = site.open("fresh").await;
        let snapshot = site.snapshot(&fresh, &report).await;
        site.assert_restores(&fresh, &snapshot, &Tree::read(&site.tree()), &format!("part {part}")).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn clocks_of_hosts_that_are_two_days_off_change_nothing_that_restores() {
    let site = Site::new(26);
    drop(site.init(site.store(), "cache").await.expect("makes"));
    let (ahead, behind) = (Env::fixed(shifted(&site, true), 1), Env::fixed(shifted(&site, false), 2));
    let open = |env: &Env, cache: &str| {
        Repository::open(site.store(), env.clone(), harness::password("owner"), site.options(cache))
    };
    let dice = Dice::new();
    let mut kept: Vec<(SnapshotId, Tree)> = Vec::new();
    for round in 0..6 {
        let (writer, collector) = if round % 2 == 0 { (&ahead, &behind) } else { (&behind, &ahead) };
        let context = format!("round {round}, seed {}", dice.seed());
        (0..3).for_each(|_| drop(change_something(&site.tree(), &dice)));
        let repository = open(writer, &format!("writer {}", round % 2)).await.expect("opens");
        let report = site.backup(&repository).await;
        kept.push((report.snapshot.expect("was committed"), Tree::read(&site.tree())));
        if round > 1 {
            site.forget(&repository, kept.remove(dice.below(kept.len())).0).await;
        }
        drop(repository);
        let other = open(collector, &format!("collector {}", round % 2)).await.expect("opens");
        assert!(try_prune(&other, prune_request(0.0)).await.expect("prunes").is_complete(), "{context}");
        let snapshots = listed(&other).await;
        assert_eq!(snapshots.len(), kept.len(), "{context}");
        for (id, tree) in &kept {
            let info = snapshots.iter().find(|info| info.id == *id).expect("is listed");
            site.assert_restores(&other, info, tree, &context).await;
        }
    }
}

/// The site's time, two days later or earlier.
fn shifted(site: &Site, is_later: bool) -> store::Timestamp {
    let (now, by) = (site.env.now(), SKEW.as_secs() as i64);
    store::Timestamp { secs: if is_later { now.secs + by } else { now.secs - by }, ..now }
}

#[test]
fn times_of_objects_that_mean_nothing_lose_nothing_in_a_prune() {
    for date in ["1970-01-02", "2100-01-01"] {
        let host = Host::with_repository();
        let tree = host.path("tree");
        for at in 0..3 {
            host.write("tree/file", noise(&format!("{at}"), 100_000));
            host.write(&format!("tree/{at}"), noise(&format!("new {at}"), 10_000));
            host.back_up(&[&tree]);
            shell(&host.repository(), &format!("find . -type f -exec touch -a -m -d {date} {{}} +"));
        }
        host.backstay(["forget", "--keep-last", "1", "--allow-last", "--yes"]).run().expect_code(0);
        shell(&host.repository(), &format!("find . -type f -exec touch -a -m -d {date} {{}} +"));
        host.backstay(["prune", "--yes", "--max-unused", "0"]).run().expect_code(0);
        host.check();
        let newest = host.snapshots().last().expect("one stays")["id"].as_str().expect("an id").to_owned();
        let mut restore = host.backstay(["restore", "--target"]);
        restore.arg(host.path("out")).arg(format!("{newest}:{}", tree.display())).run().expect_code(0);
        Tree::read(&tree).assert_same(&Tree::read(&host.path("out")), date);
    }
}

#[test]
fn every_part_of_a_snapshot_restores_as_in_the_whole_though_a_file_was_left_out() {
    let (host, dice) = (Host::with_repository(), Dice::new());
    let tree = host.path("tree");
    (0..5).for_each(|at| drop(host.write(&format!("tree/{at}/file"), noise(&format!("{at}"), at * 30_000))));
    (0..8).for_each(|_| drop(change_something(&tree, &dice)));
    let left_out = host.write("tree/2 left out", "nobody reads this");
    set_mode(&left_out, 0o000);
    // Root without the right to read what it may not.
    let mut backup = Command::new("setpriv");
    if is_root() {
        backup.args([
            "--bounding-set=-dac_override,-dac_read_search",
            "--inh-caps=-dac_override,-dac_read_search",
            "--",
        ]);
    } else {
        backup = Command::new("env");
    }
    let backstay = host.backstay(["--json", "backup"]);
    backup.arg(backstay.get_program()).args(backstay.get_args()).arg(&tree).env_clear();
    backup.envs(backstay.get_envs().filter_map(|(name, value)| Some((name, value?))));
    let report = backup.run().expect_code(1).json();
    let id = report["snapshot_id"].as_str().expect("an id").to_owned();
    fs::remove_file(&left_out).expect("removes");
    let whole = Tree::read(&tree);
    let restored = |path: &Path| {
        let target = host.path("restored");
        drop(fs::remove_dir_all(&target));
        let mut restore = host.backstay(["restore", "--target"]);
        restore.arg(&target).arg(OsString::from_iter([OsStr::new(&format!("{id}:")), path.as_os_str()]));
        restore.run().expect_code(0);
        Tree::read(&target)
    };
    whole.assert_same(&restored(&tree), &format!("the whole, seed {}", dice.seed()));
    let names: Vec<&[u8]> = whole.names().collect();
    for _ in 0..6 {
        let name = dice.pick(&names).expect("has some");
        let context = format!("{}, seed {}", String::from_utf8_lossy(name), dice.seed());
        whole.part(name).assert_same(&restored(&tree.join(OsStr::from_bytes(name))), &context);
    }
}

#[test]
fn producer_whose_output_finds_no_room_is_stopped_and_nothing_is_committed() {
    need_root();
    let host = Host::new();
    let disk = SmallDisk::mount(&host.repository(), 12);
    host.backstay(["init"]).run().expect_code(0);
    let mut backup = host.backstay(["backup", "--name", "out", "--command", "--", "bash", "-c"]);
    let pid = host.path("pid");
    let script = format!("echo $$ >{}; while head -c 1M /dev/urandom; do :; done; sleep 1000", pid.display());
    backup.arg(script).run().expect_code(2).says(&["no space is left", "hint:"]);
    let producer = fs::read_to_string(&pid).expect("it has begun");
    assert!(!is_running(producer.trim()), "the producer goes on");
    assert!(host.snapshots().is_empty());
    disk.resize(100);
    host.backstay(["backup", "--name", "out", "--command", "--", "seq", "3"]).run().expect_code(0);
    assert_eq!(host.backstay(["cat", "latest"]).run().expect_code(0).text(), "1\n2\n3\n");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn packs_that_the_store_does_not_give_end_a_restore_with_their_name_and_leave_no_half_file() {
    let (site, tree) = backed_up(23).await;
    let faulty = Arc::new(FaultyStore::new(site.store()));
    let repository = site.open_as("owner", faulty.clone(), "cache").await.expect("opens");
    let snapshot = listed(&repository).await.remove(0);
    let target = site.new_folder();
    let large = [&site.tree_path(), &b"/large"[..]].concat();
    // The way to the file is in the cache and can be read; its content lies where it takes hours to get it.
    faulty.inject(Trigger::next().of(Verb::GetRange).naming("packs/").always(), Fault::Deny);
    let refused = try_restore(&repository, &snapshot, restore_request(&large, target.path())).await;
    match refused {
        Err(error) => assert!(matches!(error, EngineError::Store(_)), "{error}"),
        Ok(report) => assert!(report.problem_count > 0, "{report:?}"),
    }
    let left = Tree::read(target.path());
    let half = left.files().find(|(_, bytes)| !bytes.is_empty());
    assert!(half.is_none(), "a half file is left: {:?}", half.map(|(name, _)| String::from_utf8_lossy(name)));
    faulty.restart();
    site.assert_restores(&repository, &snapshot, &tree, "when they are given again").await;
    drop(site.backup_of(&repository, backup_request(&site.tree())).await);
}
