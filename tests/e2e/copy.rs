//! Copying snapshots into a repository with other keys: what comes, what is not read twice, what is left out.
//!
//! Invariant: the truth about a copy is the tree that was backed up, never what the repository copied from says.
//! Never here: what a backup does by itself.

use std::sync::Arc;
use std::time::Duration;

use crate::crash::{open_when_released, until_stopped};
use engine::{
    BackupRequest, Class, CopyReport, CopyRequest, Count, EngineError, Forget, GroupBy, Passed, Policy, Progress,
    Repository, SnapshotFilter, SnapshotInfo,
};
use harness::{
    COST, Dice, Site, Tree, backup_request, change_something, check_all, copy_folder, fork, names_of, password,
    try_backup,
};
use pack::{Role, SnapshotId, names};
use store::testing::{Fault, FaultyStore, MemoryStore, Trigger};
use store::{SharedStore, Store as _};
use tokio_util::sync::CancellationToken;

const DAY: Duration = Duration::from_secs(24 * 60 * 60);

/// Two repositories; the tree is that of the first.
struct Two {
    near: Site,
    far: Site,
    from: Repository,
    into: Repository,
}

impl Two {
    async fn new(seed: u64) -> Self {
        let (near, far) = (Site::new(seed), Site::new(seed + 1000));
        let from = near.init(near.store(), "cache").await.expect("makes");
        let into = far.init(far.store(), "cache").await.expect("makes");
        Self { near, far, from, into }
    }

    /// Backs the tree up; gives the snapshot and what the tree was.
    async fn back_up(&self) -> (SnapshotId, Tree) {
        self.back_up_of(backup_request(&self.near.tree())).await
    }

    async fn back_up_of(&self, request: BackupRequest) -> (SnapshotId, Tree) {
        let tree = Tree::read(&self.near.tree());
        let report = self.near.backup_of(&self.from, request).await;
        (report.snapshot.expect("was committed"), tree)
    }

    fn write(&self, name: &str, len: usize) {
        let path = self.near.tree().join(name);
        std::fs::create_dir_all(path.parent().expect("the tree")).expect("creates");
        std::fs::write(path, Dice::of_seed(len as u64).bytes(len)).expect("writes");
    }

    async fn copy(&self) -> Vec<CopyReport> {
        copy_named(&self.from, &self.into, &[]).await.expect("copies")
    }

    /// The copies, the oldest first.
    async fn copies(&self) -> Vec<SnapshotInfo> {
        self.into.snapshots(&SnapshotFilter::default()).await.expect("lists")
    }

    async fn assert_restores(&self, copy: &SnapshotInfo, tree: &Tree, context: &str) {
        let target = self.far.new_folder();
        let request = harness::restore_request(&self.near.tree_path(), target.path());
        let report = harness::try_restore(&self.into, copy, request).await.expect("restores");
        assert_eq!(report.problem_count, 0, "{context}: {:?}", report.problems);
        tree.assert_same(&Tree::read(target.path()), context);
    }
}

/// Copies what is planned; the first failure ends it.
pub(crate) async fn copy_named(
    from: &Repository,
    into: &Repository,
    named: &[SnapshotId],
) -> Result<Vec<CopyReport>, EngineError> {
    let plan = into.plan_copy(from, &SnapshotFilter::default(), named).await?;
    let mut copying = into.begin_copy(from, &plan, CopyRequest { level: 1 }).await?;
    let mut reports = Vec::new();
    for info in &plan.wanted {
        reports.push(copying.copy(info, &Arc::new(Progress::new()), &CancellationToken::new()).await?);
    }
    Ok(reports)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn copies_restore_byte_for_byte_say_what_their_originals_say_and_are_made_once() {
    let two = Two::new(1).await;
    let dice = Dice::of_seed(5);
    let mut known = Vec::new();
    for round in 0..4 {
        for _ in 0..25 {
            change_something(&two.near.tree(), &dice);
        }
        let mut request = backup_request(&two.near.tree());
        request.tags = vec![format!("round-{round}")];
        request.description = format!("after round {round}");
        request.keep_until = Some(i64::MAX / 2 + round);
        known.push(two.back_up_of(request).await);
    }
    assert_eq!(two.copy().await.len(), 4);
    let originals = two.from.snapshots(&SnapshotFilter::default()).await.expect("lists");
    let copies = two.copies().await;
    assert_eq!(copies.len(), 4);
    for ((copy, original), (id, tree)) in copies.iter().zip(&originals).zip(&known) {
        let (is, was) = (&copy.snapshot.structure, &original.snapshot.structure);
        let origin = copy.origin.as_ref().expect("says where it is from");
        assert_eq!((origin.repository, origin.snapshot), (two.from.config().repository.0, *id));
        assert_ne!(copy.id, original.id);
        assert_eq!((&is.host, &is.source, &is.tags, is.state), (&was.host, &was.source, &was.tags, was.state));
        assert_eq!((is.started_at, is.ended_at, is.keep_until), (was.started_at, was.ended_at, was.keep_until));
        assert_eq!(copy.snapshot.body, original.snapshot.body);
        let (one, other) = (&is.components[0], &was.components[0]);
        assert_eq!((one.entry_count, one.content_len), (other.entry_count, other.content_len));
        assert_ne!(one.root, other.root, "ids are each repository's own");
        two.assert_restores(copy, tree, &id.to_string()).await;
    }
    assert_eq!(check_all(&two.into).await.expect("checks").damages, Vec::new());
    let before = names_of(&two.far.memory, "").await;
    assert_eq!(two.copy().await.len(), 0);
    assert_eq!(names_of(&two.far.memory, "").await, before);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn unchanged_files_are_read_once_however_many_snapshots_have_them() {
    let two = Two::new(2).await;
    two.write("large", 3_000_000);
    two.write("folder/small", 20_000);
    two.back_up().await;
    two.write("new", 5_000);
    std::fs::remove_file(two.near.tree().join("folder/small")).expect("removes");
    two.back_up().await;
    let (_, tree) = two.back_up().await;
    let reports = two.copy().await;
    let read: Vec<u64> = reports.iter().map(|report| report.read_len).collect();
    assert_eq!(read, [3_020_000, 5_000, 0]);
    assert_eq!(reports[1].parent, reports[0].snapshot);
    // A snapshot that comes later is compared with a copy that was made by another run.
    let (_, same) = two.back_up().await;
    tree.assert_same(&same, "nothing changed");
    assert_eq!(two.copy().await.iter().map(|report| report.read_len).collect::<Vec<_>>(), [0]);
    two.assert_restores(two.copies().await.last().expect("is there"), &tree, "the last").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn backup_that_goes_there_by_itself_finds_everything_that_a_copy_brought() {
    let two = Two::new(3).await;
    two.write("large", 3_000_000);
    two.write("pages", 40 * 8192 + 100);
    two.write("folder/small", 20_000);
    two.back_up().await;
    two.copy().await;
    let mut request = backup_request(&two.near.tree());
    let report = try_backup(&two.into, backup_request(&two.near.tree())).await.expect("backs up");
    assert_eq!((report.unchanged_count, report.read_len), (3, 0), "the copy serves as a parent: {report:?}");
    request.components[0].force = true;
    let report = try_backup(&two.into, request).await.expect("backs up");
    assert_eq!((report.new_len, report.unchanged_count), (0, 0), "{report:?}");
    // What was cut in pages because its source said so is cut in pages again.
    let paged = || {
        let mut request = backup_request(&two.near.tree());
        request.source = Some("paged".to_owned());
        request.components[0].cutter = "pages-8192".parse().ok();
        request.components[0].force = true;
        request
    };
    two.back_up_of(paged()).await;
    two.copy().await;
    let report = try_backup(&two.into, paged()).await.expect("backs up");
    assert_eq!(report.new_len, 0, "{report:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn damage_ends_the_copy_of_the_snapshots_that_need_it_and_names_the_file() {
    let two = Two::new(4).await;
    two.write("first", 30_000);
    let (_, first) = two.back_up().await;
    let before = names_of(&two.near.memory, names::PACKS).await;
    two.write("second", 40_000);
    let (second, _) = two.back_up().await;
    let packs = names_of(&two.near.memory, names::PACKS).await;
    std::fs::remove_file(two.near.tree().join("second")).expect("removes");
    let (_, third) = two.back_up().await;
    for pack in packs.iter().filter(|pack| !before.contains(pack)) {
        let mut bytes = two.near.memory.get(pack).await.expect("is there").to_vec();
        if bytes.len() > 30_000 {
            bytes[1000] ^= 1;
            two.near.memory.overwrite(pack, bytes.into()).await;
        }
    }
    let plan = two.into.plan_copy(&two.from, &SnapshotFilter::default(), &[]).await.expect("plans");
    let mut copying = two.into.begin_copy(&two.from, &plan, CopyRequest { level: 1 }).await.expect("begins");
    let mut failed = Vec::new();
    for info in &plan.wanted {
        let copied = copying.copy(info, &Arc::new(Progress::new()), &CancellationToken::new()).await;
        if let Err(error) = copied {
            failed.push((info.id, source::with_causes(&error)));
        }
    }
    let [(id, message)] = failed.as_slice() else { panic!("{failed:?}") };
    assert_eq!(*id, second);
    assert!(message.contains("tree/second cannot be read") && message.contains("is lost"), "{message}");
    let copies = two.copies().await;
    assert_eq!(copies.len(), 2);
    two.assert_restores(&copies[0], &first, "before").await;
    two.assert_restores(&copies[1], &third, "after").await;
    assert_eq!(names_of(&two.far.memory, names::WRITERS).await, Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_forgotten_there_is_copied_again_only_if_it_is_named() {
    let two = Two::new(5).await;
    let mut ids = Vec::new();
    for round in 0..3 {
        two.write("file", 1_000 + round);
        ids.push(two.back_up().await.0);
    }
    two.copy().await;
    let forget = async |id: SnapshotId| {
        let now = jiff::Zoned::now();
        let plan = two.into.plan_forget(&Forget::Named(vec![id]), GroupBy::default(), &now).await.expect("plans");
        two.into.forget(&plan).await.expect("forgets");
    };
    forget(two.copies().await[0].id).await;
    // As after a prune: neither the snapshot nor what hides it is there.
    for name in names_of(&two.far.memory, names::FORGOTTEN).await {
        let id = names::last(&name).to_owned();
        two.far.memory.delete(&format!("{}/{id}", names::SNAPSHOTS)).await.expect("deletes");
        two.far.memory.delete(&name).await.expect("deletes");
    }
    two.write("file", 2_000);
    two.back_up().await;
    let plan = two.into.plan_copy(&two.from, &SnapshotFilter::default(), &[]).await.expect("plans");
    assert_eq!(plan.wanted.len(), 1);
    assert!(plan.passed.iter().any(|(info, why)| info.id == ids[0] && *why == Passed::LetGo), "{:?}", plan.passed);
    assert_eq!(two.copy().await.len(), 1);
    assert_eq!(copy_named(&two.from, &two.into, &ids[..1]).await.expect("copies").len(), 1);
    assert_eq!(two.copies().await.len(), 4);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn copies_of_long_ago_are_thinned_out_by_a_policy_of_their_own() {
    let two = Two::new(6).await;
    for _ in 0..3 {
        two.write("file", 1_000);
        two.back_up().await;
        two.near.env.advance(DAY);
    }
    for site in [&two.near, &two.far] {
        site.env.advance(DAY * 400);
    }
    two.copy().await;
    let policy = Policy { counts: vec![(Class::Last, Count::Newest(1))], ..Policy::default() };
    let what = Forget::ByPolicy(policy, SnapshotFilter::default());
    let plan = two.into.plan_forget(&what, GroupBy::default(), &jiff::Zoned::now()).await.expect("plans");
    assert_eq!(plan.going().count(), 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_side_needs_a_key_that_may_do_its_part() {
    let two = Two::new(7).await;
    two.write("file", 10_000);
    let (_, tree) = two.back_up().await;
    for (role, who) in [(Role::Writer, "writer"), (Role::Reader, "reader"), (Role::Maintenance, "keeper")] {
        two.from.add_key(role, password(who), who, COST).await.expect("adds");
        two.into.add_key(role, password(who), who, COST).await.expect("adds");
    }
    let before = names_of(&two.far.memory, "").await;
    for who in ["writer", "keeper"] {
        let from = two.near.open_as(who, two.near.store(), who).await.expect("opens");
        let refused = copy_named(&from, &two.into, &[]).await.expect_err(who);
        assert!(refused.to_string().contains("cannot open what is to be copied"), "{refused}");
    }
    for who in ["reader", "keeper"] {
        let into = two.far.open_as(who, two.far.store(), who).await.expect("opens");
        let refused = copy_named(&two.from, &into, &[]).await.expect_err(who);
        assert!(refused.to_string().contains("cannot write into the repository that is copied to"), "{refused}");
    }
    let same = copy_named(&two.from, &two.from, &[]).await.expect_err("one repository");
    assert!(same.to_string().contains("the same repository"), "{same}");
    assert_eq!(names_of(&two.far.memory, "").await, before);

    let from = two.near.open_as("reader", two.near.store(), "reader").await.expect("opens");
    let into = two.far.open_as("writer", two.far.store(), "writer").await.expect("opens");
    assert_eq!(copy_named(&from, &into, &[]).await.expect("copies").len(), 1);
    two.back_up().await;
    let again = copy_named(&from, &into, &[]).await.expect("copies");
    assert_eq!(again.iter().map(|report| report.read_len).collect::<Vec<_>>(), [0], "the writer's own cache helps");
    two.assert_restores(&two.copies().await[1], &tree, "by a writer's key").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn copy_that_dies_at_any_call_of_either_store_is_completed_by_the_next() {
    let two = Two::new(8).await;
    two.write("large", 60_000);
    two.write("folder/small", 2_000);
    let (_, first) = two.back_up().await;
    two.write("large", 50_000);
    let (_, second) = two.back_up().await;
    let Two { near, far, from, into } = two;
    drop((from, into));
    let run = async |from: SharedStore, into: SharedStore, cache: &str| {
        let from = near.open_as("owner", from, &format!("near-{cache}")).await?;
        let into = far.open_as("owner", into, cache).await?;
        copy_named(&from, &into, &[]).await
    };
    let counting = [FaultyStore::new(near.store()), FaultyStore::new(Arc::new(fork(&far.memory).await))].map(Arc::new);
    copy_folder(&far.path("cache"), &far.path("counting"));
    run(counting[0].clone(), counting[1].clone(), "counting").await.expect("copies");
    for (side, counted) in counting.iter().enumerate() {
        let calls = counted.calls();
        assert!(calls.len() > 5, "{calls:?}");
        for (at, call) in calls.iter().enumerate() {
            for fault in [Fault::StopBefore, Fault::StopAfter] {
                let context = format!("side {side}, {fault:?} call {at}, {call:?}");
                let memory: MemoryStore = fork(&far.memory).await;
                let stores = [FaultyStore::new(near.store()), FaultyStore::new(Arc::new(memory.clone()))].map(Arc::new);
                stores[side].inject(Trigger::next().after(at as u64), fault);
                let cache = format!("cache-{side}-{at}-{fault:?}");
                copy_folder(&far.path("cache"), &far.path(&cache));
                let work = run(stores[0].clone(), stores[1].clone(), &cache);
                drop(until_stopped(&stores[side], work).await);
                far.let_time_pass().await;
                let from = open_when_released(&near, &near.memory, &format!("near-{cache}")).await;
                let into = open_when_released(&far, &memory, &cache).await;
                copy_named(&from, &into, &[]).await.expect(&context);
                let copies = into.snapshots(&SnapshotFilter::default()).await.expect("lists");
                assert_eq!(copies.len(), 2, "{context}");
                for (copy, tree) in copies.iter().zip([&first, &second]) {
                    let target = far.new_folder();
                    let request = harness::restore_request(&near.tree_path(), target.path());
                    let report = harness::try_restore(&into, copy, request).await.expect("restores");
                    assert_eq!(report.problem_count, 0, "{context}");
                    tree.assert_same(&Tree::read(target.path()), &context);
                }
                let checked = check_all(&into).await.expect("checks");
                assert_eq!((checked.damages, checked.unclear), (Vec::new(), Vec::new()), "{context}");
            }
        }
    }
}
