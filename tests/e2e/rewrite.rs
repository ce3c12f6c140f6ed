//! Removing a path or a component from snapshots that are there.
//!
//! Invariant: everything that was not removed restores as it was; what was removed is in no snapshot that is listed.
//! Never here: what is shown of it (see `rewrite_commands`).

use std::sync::Arc;
use std::time::Duration;

use crate::crash::{open_when_released, until_stopped};
use engine::{
    Class, Count, EngineError, Forget, GroupBy, Policy, Progress, Removal, Repository, RewriteReport, SnapshotFilter,
    SnapshotInfo,
};
use futures::TryStreamExt as _;
use harness::{COST, Dice, Forge, Site, Tree, backup_request, check_all, copy_folder, fork, names_of, password};
use pack::{PackId, Role, SnapshotId, names};
use store::testing::{Fault, FaultyStore, Trigger};
use store::{SharedStore, Store as _};
use tokio_util::sync::CancellationToken;

const DAY: Duration = Duration::from_secs(24 * 60 * 60);

/// A site with two snapshots that have the folder `alice`, and one that does not; the trees as they were.
async fn with_alice() -> (Site, Repository, Vec<(SnapshotId, Tree)>) {
    let site = Site::new(1);
    let repository = site.init(site.store(), "cache").await.expect("makes");
    let mut known = Vec::new();
    write(&site, "kept/large", 90_000);
    write(&site, "kept/sub/file", 3_000);
    known.push(back_up(&site, &repository).await);
    write(&site, "alice/letter", 5_000);
    write(&site, "alice/deep/photo", 40_000);
    write(&site, "alicia", 100);
    known.push(back_up(&site, &repository).await);
    write(&site, "kept/more", 2_000);
    known.push(back_up(&site, &repository).await);
    (site, repository, known)
}

fn write(site: &Site, name: &str, len: usize) {
    let path = site.tree().join(name);
    std::fs::create_dir_all(path.parent().expect("the tree")).expect("creates");
    std::fs::write(path, Dice::of_seed(len as u64).bytes(len)).expect("writes");
}

async fn back_up(site: &Site, repository: &Repository) -> (SnapshotId, Tree) {
    let tree = Tree::read(&site.tree());
    let report = site.backup(repository).await;
    (report.snapshot.expect("was committed"), tree)
}

fn alice(site: &Site) -> Removal {
    Removal::Paths(vec![[site.tree_path().as_slice(), b"/alice"].concat()])
}

/// Rewrites whatever has it; the first failure ends it.
pub(crate) async fn rewrite(repository: &Repository, removal: &Removal) -> Result<Vec<RewriteReport>, EngineError> {
    let plan = repository.plan_rewrite(removal, &SnapshotFilter::default(), &[]).await?;
    let mut reports = Vec::new();
    for affected in &plan.affected {
        let (progress, cancel) = (Arc::new(Progress::new()), CancellationToken::new());
        reports.push(repository.rewrite(affected, removal, 1, &progress, &cancel).await?);
    }
    Ok(reports)
}

/// What a snapshot stands in for.
pub(crate) fn from(info: &SnapshotInfo) -> Vec<SnapshotId> {
    info.rewritten.as_ref().map(|rewritten| rewritten.from.clone()).unwrap_or_default()
}

async fn listed(repository: &Repository) -> Vec<SnapshotInfo> {
    repository.snapshots(&SnapshotFilter::default()).await.expect("lists")
}

/// The tree without `alice`.
fn without_alice(tree: &Tree) -> Tree {
    tree.without(b"alice")
}

/// Every snapshot restores to its tree without `alice`, and none has a path of it.
async fn assert_clean(site: &Site, repository: &Repository, known: &[(SnapshotId, Tree)], context: &str) {
    let snapshots = listed(repository).await;
    assert_eq!(snapshots.len(), known.len(), "{context}");
    for (info, (_, tree)) in snapshots.iter().zip(known) {
        site.assert_restores(repository, info, &without_alice(tree), context).await;
        let entries = repository.entries(info, b"").await.expect("lists");
        let paths: Vec<_> = entries.map_ok(|listed| listed.entry.path).try_collect().await.expect("lists");
        assert!(
            !paths.iter().any(|path| path.windows(6).any(|part| part == b"/alice") && !path.ends_with(b"/alicia")),
            "{context}"
        );
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rewritten_snapshots_lack_what_was_removed_and_nothing_else() {
    let (site, repository, known) = with_alice().await;
    let before = listed(&repository).await;
    let packs = names_of(&site.memory, names::PACKS).await.len();
    let removal = alice(&site);
    let plan = repository.plan_rewrite(&removal, &SnapshotFilter::default(), &[]).await.expect("plans");
    let planned: Vec<_> = plan.affected.iter().map(|one| (one.info.id, one.entry_count, one.content_len)).collect();
    assert_eq!(planned, [(known[1].0, 4, 45_000), (known[2].0, 4, 45_000)]);
    let reports = rewrite(&repository, &removal).await.expect("rewrites");
    assert_eq!(reports.iter().map(|report| report.read_len).collect::<Vec<_>>(), [0, 0]);
    assert!(names_of(&site.memory, names::PACKS).await.len() <= packs + 2, "only pages are stored");
    assert_clean(&site, &repository, &known, "rewritten").await;
    let after = listed(&repository).await;
    assert_eq!(after[0].id, known[0].0, "it has nothing of it");
    for (new, old) in after.iter().zip(&before).skip(1) {
        let (is, was) = (&new.snapshot.structure, &old.snapshot.structure);
        assert_eq!(from(new), [old.id]);
        assert_eq!(
            (&is.host, &is.source, &is.tags, is.keep_until),
            (&was.host, &was.source, &was.tags, was.keep_until)
        );
        assert_eq!((is.started_at, is.ended_at, is.state), (was.started_at, was.ended_at, was.state));
        assert_eq!(is.components[0].entry_count + 4, was.components[0].entry_count);
        assert_eq!(is.components[0].content_len + 45_000, was.components[0].content_len);
    }
    assert_eq!(check_all(&repository).await.expect("checks").damages, Vec::new());
    let objects = names_of(&site.memory, "").await;
    assert_eq!(rewrite(&repository, &removal).await.expect("looks").len(), 0, "there is nothing left to do");
    assert_eq!(names_of(&site.memory, "").await, objects);
    // Another removal goes on from there.
    let kept = Removal::Paths(vec![[site.tree_path().as_slice(), b"/alicia"].concat()]);
    assert_eq!(rewrite(&repository, &kept).await.expect("rewrites").len(), 2);
    let last = listed(&repository).await.pop().expect("is there");
    assert_eq!(from(&last), [after[2].id, known[2].0]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn component_is_removed_and_a_snapshot_of_nothing_else_is_forgotten() {
    let site = Site::new(2);
    let repository = site.init(site.store(), "cache").await.expect("makes");
    write(&site, "one", 10_000);
    let both = || {
        let mut request = backup_request(&site.tree());
        request.components.extend(backup_request(&site.path(".")).components);
        request.components[0].name = Some("first".to_owned());
        request.components[1].name = Some("second".to_owned());
        request
    };
    let tree = Tree::read(&site.tree());
    site.backup_of(&repository, both()).await;
    let mut alone = both();
    alone.components.remove(0);
    site.backup_of(&repository, alone).await;
    rewrite(&repository, &Removal::Component("second".to_owned())).await.expect("rewrites");
    let left = listed(&repository).await;
    let [only] = left.as_slice() else { panic!("{left:?}") };
    assert_eq!(only.snapshot.structure.components.iter().map(|one| one.name.as_str()).collect::<Vec<_>>(), ["first"]);
    assert_eq!(only.snapshot.body.as_ref().map(|body| body.components.len()), Some(1));
    site.assert_restores(&repository, only, &tree, "the other component").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_lies_in_packs_that_are_about_to_go_is_stored_anew() {
    let (site, repository, known) = with_alice().await;
    let packs = names_of(&site.memory, names::PACKS).await;
    let ids: Vec<PackId> = packs.iter().filter_map(|name| PackId::from_hex(names::last(name))).collect();
    let (name, list) = Forge::open(&site.memory, "owner").await.condemned(ids);
    site.memory.put_new(&name, vec![list]).await.expect("creates");
    let reports = rewrite(&repository, &alice(&site)).await.expect("rewrites");
    assert!(reports[0].read_len >= 93_000, "{reports:?}");
    assert_eq!(reports[1].read_len, 2_000, "the first one stored all but one file anew: {reports:?}");
    for pack in packs {
        site.memory.delete(&pack).await.expect("deletes");
    }
    drop(repository);
    let repository = site.open("another").await;
    let after = listed(&repository).await;
    for (info, (_, tree)) in after.iter().zip(&known).skip(1) {
        site.assert_restores(&repository, info, &without_alice(tree), "after the packs went").await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn snapshot_whose_kept_content_is_lost_stays_and_is_named() {
    let (site, repository, known) = with_alice().await;
    let first = names_of(&site.memory, names::PACKS).await;
    write(&site, "lost", 70_000);
    back_up(&site, &repository).await;
    for pack in names_of(&site.memory, names::PACKS).await.iter().filter(|pack| !first.contains(pack)) {
        if site.memory.get(pack).await.expect("is there").len() > 60_000 {
            site.memory.delete(pack).await.expect("deletes");
        }
    }
    drop(repository);
    let repository = site.open("another").await;
    let removal = alice(&site);
    let plan = repository.plan_rewrite(&removal, &SnapshotFilter::default(), &[]).await.expect("plans");
    assert_eq!(plan.affected.len(), 3);
    let (progress, cancel) = (Arc::new(Progress::new()), CancellationToken::new());
    let mut failures = Vec::new();
    for affected in &plan.affected {
        if let Err(error) = repository.rewrite(affected, &removal, 1, &progress, &cancel).await {
            failures.push(source::with_causes(&error));
        }
    }
    let [failure] = failures.as_slice() else { panic!("{failures:?}") };
    assert!(failure.contains("tree/lost cannot be taken over") && failure.contains("is lost"), "{failure}");
    let after = listed(&repository).await;
    assert_eq!(after.len(), 4);
    assert_eq!(after[3].id, plan.affected[2].info.id);
    site.assert_restores(&repository, &after[1], &without_alice(&known[1].1), "another").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn only_the_owner_rewrites_and_nothing_of_a_removed_key_becomes_the_owners() {
    let (site, repository, _) = with_alice().await;
    for (role, who) in [(Role::Writer, "writer"), (Role::Reader, "reader"), (Role::Maintenance, "keeper")] {
        repository.add_key(role, password(who), who, COST).await.expect("adds");
    }
    let removal = alice(&site);
    let writer = site.open_as("writer", site.store(), "writer").await.expect("opens");
    for who in ["writer", "reader", "keeper"] {
        let other = site.open_as(who, site.store(), &format!("{who}-2")).await.expect("opens");
        let refused = rewrite(&other, &removal).await.expect_err(who);
        assert!(matches!(refused, EngineError::Role { what: "rewrite snapshots", .. }), "{refused}");
    }
    let keys = repository.keys().await.expect("lists");
    let id = &keys.iter().find(|key| key.label.as_deref() == Some("writer")).expect("is there").id;
    repository.remove_key(&id.to_string()).await.expect("removes");
    let late = site.backup(&writer).await.snapshot.expect("was committed");
    drop(repository);
    let repository = site.open("again").await;
    let plan = repository.plan_rewrite(&removal, &SnapshotFilter::default(), &[]).await.expect("plans");
    assert_eq!(plan.untrusted.iter().map(|info| info.id).collect::<Vec<_>>(), [late]);
    assert_eq!(plan.affected.len(), 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rewritten_snapshots_of_long_ago_are_thinned_out_like_others() {
    let (site, repository, _) = with_alice().await;
    site.env.advance(DAY * 300);
    rewrite(&repository, &alice(&site)).await.expect("rewrites");
    let policy = Policy { counts: vec![(Class::Last, Count::Newest(1))], ..Policy::default() };
    let what = Forget::ByPolicy(policy, SnapshotFilter::default());
    let plan = repository.plan_forget(&what, GroupBy::default(), &jiff::Zoned::now()).await.expect("plans");
    assert_eq!(plan.going().count(), 2);
}

/// Blobs of any pack in which these bytes are.
async fn blobs_with(site: &Site, bytes: &[u8]) -> usize {
    let all = Forge::open(&site.memory, "owner").await.plaintexts(&site.memory).await;
    all.iter().filter(|plain| plain.windows(bytes.len()).any(|part| part == bytes)).count()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn after_a_prune_no_pack_holds_what_was_removed_nor_its_name() {
    let site = Site::new(9);
    let repository = site.init(site.store(), "cache").await.expect("makes");
    // Much is kept beside the little that goes, in the same blobs and pages.
    for at in 0..20 {
        write(&site, &format!("kept/{at}"), 40_000 + at);
    }
    write(&site, "alice/letter-to-bob", 3_000);
    std::fs::write(site.tree().join("alice/note"), "what nobody may know").expect("writes");
    let mut known = vec![back_up(&site, &repository).await];
    write(&site, "kept/20", 500);
    known.push(back_up(&site, &repository).await);
    let letter = Dice::of_seed(3_000).bytes(3_000);
    let secrets: [&[u8]; 4] = [b"what nobody may know", b"letter-to-bob", b"note", &letter[1_000..1_100]];
    rewrite(&repository, &alice(&site)).await.expect("rewrites");
    for secret in secrets {
        assert!(blobs_with(&site, secret).await > 0, "nothing is gone before the prune");
    }
    let report = harness::try_prune(&repository, harness::prune_request(0.0)).await.expect("prunes");
    assert_eq!(report.problems, Vec::<String>::new());
    for secret in secrets {
        assert_eq!(blobs_with(&site, secret).await, 0, "{}", String::from_utf8_lossy(secret));
    }
    assert_clean(&site, &repository, &known, "after the prune").await;
    assert_eq!(check_all(&repository).await.expect("checks").damages, Vec::new());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rewrite_that_dies_at_any_call_loses_nothing_and_is_completed_by_the_next() {
    let (site, repository, known) = with_alice().await;
    drop(repository);
    let removal = alice(&site);
    let run = async |store: SharedStore, cache: &str| {
        let repository = site.open_as("owner", store, cache).await?;
        rewrite(&repository, &removal).await
    };
    let counting = Arc::new(FaultyStore::new(Arc::new(fork(&site.memory).await)));
    copy_folder(&site.path("cache"), &site.path("counting"));
    run(counting.clone(), "counting").await.expect("rewrites");
    let calls = counting.calls();
    assert!(calls.len() > 20, "{calls:?}");
    for (at, call) in calls.iter().enumerate() {
        for fault in [Fault::StopBefore, Fault::StopAfter] {
            let context = format!("{fault:?} call {at}, {call:?}");
            let memory = fork(&site.memory).await;
            let faulty = Arc::new(FaultyStore::new(Arc::new(memory.clone())));
            faulty.inject(Trigger::next().after(at as u64), fault);
            let cache = format!("cache-{at}-{fault:?}");
            copy_folder(&site.path("cache"), &site.path(&cache));
            drop(until_stopped(&faulty, run(faulty.clone(), &cache)).await);
            site.let_time_pass().await;
            let repository = open_when_released(&site, &memory, &cache).await;
            for (id, tree) in &known {
                let stands = |info: &&SnapshotInfo| info.id == *id || from(info).contains(id);
                let snapshots = listed(&repository).await;
                let found = snapshots.iter().find(stands).unwrap_or_else(|| panic!("{context}: {id} is gone"));
                let expected = if found.id == *id { tree.clone() } else { without_alice(tree) };
                site.assert_restores(&repository, found, &expected, &context).await;
            }
            rewrite(&repository, &removal).await.expect(&context);
            assert_clean(&site, &repository, &known, &context).await;
            let checked = check_all(&repository).await.expect("checks");
            assert_eq!((checked.damages, checked.unclear), (Vec::new(), Vec::new()), "{context}");
        }
    }
}
