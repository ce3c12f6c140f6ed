//! Undelete: a forgotten snapshot comes back whole under a new id, or not at all.
//!
//! Invariant: what an undelete reports as back restores, whatever was condemned or deleted meanwhile.
//! Never here: forgetting itself (see `forget`).

use std::fs;
use std::sync::Arc;

use engine::{EngineError, Forget, ForgottenSnapshot, GroupBy, Repository, SnapshotFilter};
use harness::binary::{Host, Run as _, noise};
use harness::{Forge, Site, Tree, check_all, fork, names_of};
use pack::{PackId, SnapshotId, names};
use store::testing::{Fault, FaultyStore, MemoryStore, Trigger};
use store::{SharedStore, Store as _};
use tokio_util::sync::CancellationToken;

fn left(host: &Host) -> Vec<String> {
    host.snapshots().iter().map(|snapshot| snapshot["id"].as_str().expect("an id").to_owned()).collect()
}

/// A host with two snapshots, of `state 0` and `state 1`, of which the first is forgotten.
fn with_one_forgotten() -> (Host, String) {
    let host = Host::with_repository();
    for at in 0..2 {
        let file = host.write("tree/file", noise(&format!("state {at}"), 40_000));
        host.backstay(["backup", "--tag", "mine"]).arg(file.parent().expect("the tree")).run().expect_code(0);
    }
    let first = left(&host).first().cloned().expect("two snapshots");
    host.backstay(["forget", &first, "--yes"]).run().expect_code(0).says(&["until a prune"]);
    (host, first)
}

#[test]
fn forgotten_snapshot_comes_back_with_its_time_and_tags_and_restores() {
    let (host, first) = with_one_forgotten();
    let listed = host.backstay(["--json", "snapshots", "--forgotten"]).run().expect_code(0).json();
    assert_eq!((listed[0]["id"].as_str(), listed.as_array().map(Vec::len)), (Some(first.as_str()), Some(1)));
    assert!(listed[0]["forgotten_at"].is_string() && listed[0]["back_as"].is_null(), "{listed}");
    let done = host.backstay(["--json", "undelete", &first[..8]]).run().expect_code(0).json();
    let new = done[0]["id"].as_str().expect("an id").to_owned();
    assert_eq!((done[0]["forgotten_id"].as_str(), &done[0]["error"]), (Some(first.as_str()), &serde_json::Value::Null));
    let back = host.snapshots().into_iter().find(|snapshot| snapshot["id"] == new.as_str()).expect("is listed");
    for field in ["started_at", "ended_at", "host", "source", "tags", "content_len", "components", "description"] {
        assert_eq!(back[field], listed[0][field], "{field}");
    }
    assert_eq!(back["undeleted_from"].as_str(), Some(first.as_str()));
    assert_eq!(left(&host).first(), Some(&new), "the older one is listed first, and only under its new id");
    let target = host.path("restored");
    let tree = host.path("tree");
    let from = format!("{new}:{}", tree.display());
    host.backstay(["restore", &from, "--target"]).arg(&target).run().expect_code(0);
    assert_eq!(fs::read(target.join("file")).expect("was restored"), noise("state 0", 40_000));
    host.check();
    let again = host.backstay(["undelete", &first]).run().expect_code(2);
    again.says(&["is back already, as", &new]);
    let shown = host.backstay(["snapshots", "--forgotten"]).run().expect_code(0);
    assert!(shown.text().contains(&format!("back as {}", &new[..8])), "{shown}");
}

#[test]
fn what_came_back_counts_for_a_policy_as_before() {
    let (host, first) = with_one_forgotten();
    host.backstay(["undelete", &first]).run().expect_code(0);
    let plan = ["--json", "forget", "--keep-last", "1", "--dry-run"];
    let plan = host.backstay(plan).run().expect_code(0).json();
    assert_eq!(plan["groups"].as_array().map(Vec::len), Some(1));
    let decided = plan["groups"][0]["snapshots"].as_array().expect("a list");
    let kept: Vec<_> = decided.iter().map(|decision| decision["kept"].as_bool()).collect();
    assert_eq!(kept, [Some(true), Some(false)]);
    host.backstay(["forget", "--keep-last", "1", "--yes"]).run().expect_code(0);
    // Either id of the one that was forgotten twice may be named.
    host.backstay(["undelete", &first]).run().expect_code(0);
    assert_eq!(left(&host).len(), 2);
}

#[test]
fn snapshot_of_a_writers_key_comes_back_into_its_group_by_the_owner_alone() {
    let host = Host::with_repository();
    let tree = host.write("tree/file", "state").parent().expect("the tree").to_owned();
    for role in ["writer", "reader", "maintenance"] {
        let key = host.write_secret(&format!("{role}.key"), noise(role, 64));
        host.backstay(["key", "add", "--role", role, "--new-key-file"]).arg(&key).run().expect_code(0);
    }
    let by_key = |role: &str, words: &[&str]| {
        let mut command = host.backstay(words);
        command.env_remove("BACKSTAY_PASSWORD_FILE").arg("--key-file").arg(host.path(&format!("{role}.key")));
        command
    };
    for _ in 0..2 {
        by_key("writer", &["backup"]).arg(&tree).run().expect_code(0);
    }
    let first = left(&host).first().cloned().expect("two snapshots");
    host.backstay(["forget", &first, "--yes"]).run().expect_code(0);
    for role in ["writer", "reader", "maintenance"] {
        let refused = by_key(role, &["undelete", &first]).run().expect_code(2);
        refused.says(&["key cannot bring forgotten snapshots back", "the owner's key"]);
    }
    host.backstay(["undelete", &first]).run().expect_code(0);
    let plan = host.backstay(["--json", "forget", "--keep-last", "1", "--dry-run"]).run().expect_code(0).json();
    assert_eq!(plan["groups"].as_array().map(Vec::len), Some(1), "{plan}");
    host.check();
}

#[test]
fn snapshot_whose_content_is_gone_is_refused_and_the_others_come_back() {
    let (host, first) = with_one_forgotten();
    let second = left(&host).first().cloned().expect("one is left");
    let before = files_below(&host, "packs");
    fs::write(host.path("tree/file"), noise("state 2", 40_000)).expect("writes");
    host.back_up(&[&host.path("tree")]);
    let third = left(&host).last().cloned().expect("was committed");
    let of_third: Vec<_> = files_below(&host, "packs").into_iter().filter(|pack| !before.contains(pack)).collect();
    host.backstay(["forget", &second, &third, "--allow-last", "--yes"]).run().expect_code(0);
    of_third.iter().for_each(|pack| fs::remove_file(pack).expect("removes"));
    let alone = host.backstay(["undelete", &third]).run().expect_code(2);
    alone.says(&["cannot be brought back", "are gone, or about to be deleted", "hint:"]);
    let both = host.backstay(["undelete", &third, &first]).run().expect_code(1);
    both.says(&["cannot be brought back", "is back, as"]);
    assert_eq!(left(&host).len(), 1);
    assert_eq!(files_below(&host, "writers"), Vec::<std::path::PathBuf>::new());
    fs::remove_file(host.repository().join("snapshots").join(&second)).expect("as a prune does");
    host.backstay(["undelete", &second]).run().expect_code(2).says(&["no forgotten snapshot", "snapshots --forgotten"]);
    host.backstay(["undelete", "latest"]).run().expect_code(2).says(&["names no snapshot"]);
}

fn files_below(host: &Host, folder: &str) -> Vec<std::path::PathBuf> {
    let (mut todo, mut found) = (vec![host.repository().join(folder)], Vec::new());
    while let Some(at) = todo.pop() {
        for entry in fs::read_dir(&at).into_iter().flatten().flatten() {
            if entry.path().is_dir() { todo.push(entry.path()) } else { found.push(entry.path()) }
        }
    }
    found
}

/// A site whose only snapshot was forgotten, and its tree.
async fn forgotten_site(seed: u64) -> (Site, Repository, ForgottenSnapshot, Tree) {
    let site = Site::new(seed);
    let repository = site.init(site.store(), "cache").await.expect("makes");
    fs::create_dir(site.tree().join("folder")).expect("creates");
    fs::write(site.tree().join("folder/one"), noise("one", 30_000)).expect("writes");
    let id = site.backup(&repository).await.snapshot.expect("was committed");
    forget(&repository, id).await;
    let found = repository.forgotten_snapshots().await.expect("lists").pop().expect("one is forgotten");
    let tree = Tree::read(&site.tree());
    (site, repository, found, tree)
}

async fn forget(repository: &Repository, id: SnapshotId) {
    let (what, now) = (Forget::Named(vec![id]), jiff::Zoned::now());
    let plan = repository.plan_forget(&what, GroupBy::default(), &now).await.expect("plans");
    repository.forget(&plan).await.expect("forgets");
}

async fn undelete(repository: &Repository, found: &ForgottenSnapshot) -> Result<SnapshotId, EngineError> {
    repository.undelete(found, CancellationToken::new()).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn snapshot_that_needs_a_condemned_pack_stays_forgotten_though_the_pack_is_there() {
    let (site, repository, found, _) = forgotten_site(1).await;
    let packs = names_of(&site.memory, names::PACKS).await;
    for pack in packs {
        let memory = fork(&site.memory).await;
        let id = PackId::from_hex(names::last(&pack)).expect("an id");
        let (name, list) = Forge::open(&memory, "owner").await.condemned(vec![id]);
        memory.put_new(&name, vec![list]).await.expect("creates");
        let repository = site.open_as("owner", Arc::new(memory.clone()), "other").await.expect("opens");
        let error = undelete(&repository, &found).await.expect_err("a pack is condemned");
        assert!(matches!(error, EngineError::ContentGone { gone_count: 1.., .. }), "{error}");
        assert_eq!(names_of(&memory, names::SNAPSHOTS).await.len(), 1);
        assert_eq!(names_of(&memory, names::WRITERS).await, Vec::<String>::new());
    }
    undelete(&repository, &found).await.expect("nothing is condemned here");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn undelete_has_announced_itself_before_it_reads_condemned_lists() {
    let (site, repository, found, _) = forgotten_site(2).await;
    drop(repository);
    let faulty = Arc::new(FaultyStore::new(Arc::new(site.memory.clone())));
    let repository = site.open_as("owner", faulty.clone(), "other").await.expect("opens");
    let before = faulty.calls().len();
    undelete(&repository, &found).await.expect("comes back");
    let calls = faulty.calls().split_off(before);
    let at = |text: &str| calls.iter().position(|call| format!("{call:?}").contains(text)).expect(text);
    let order = ["/announced", names::CONDEMNED, "/seen", names::INDEX, "packs", names::SNAPSHOTS];
    assert!(order.windows(2).all(|pair| at(pair[0]) < at(pair[1])), "{calls:#?}");
}

/// Fails unless the store holds what was forgotten or what came back, and a next undelete or none completes it.
async fn assert_survives(site: &Site, memory: &MemoryStore, cache: &str, tree: &Tree, context: &str) {
    let repository = site.open_as("owner", Arc::new(memory.clone()), cache).await.expect("opens");
    let found = repository.forgotten_snapshots().await.expect("lists").pop().expect("is still there");
    if found.back_as.is_none() {
        undelete(&repository, &found).await.expect("comes back");
    }
    let listed = repository.snapshots(&SnapshotFilter::default()).await.expect("lists");
    assert_eq!(listed.len(), 1, "{context}");
    site.assert_restores(&repository, &listed[0], tree, context).await;
    let checked = check_all(&repository).await.expect("checks");
    assert_eq!((checked.damages, checked.unclear), (Vec::new(), Vec::new()), "{context}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn undelete_that_dies_at_any_call_leaves_the_snapshot_back_or_forgotten() {
    let (site, repository, found, tree) = forgotten_site(3).await;
    drop(repository);
    let run = |store: SharedStore, cache: String| {
        let (site, found) = (&site, &found);
        async move {
            let repository = site.open_as("owner", store, &cache).await?;
            undelete(&repository, found).await
        }
    };
    let faulty = Arc::new(FaultyStore::new(Arc::new(fork(&site.memory).await)));
    run(faulty.clone(), "counting".to_owned()).await.expect("comes back");
    let calls = faulty.calls();
    assert!(calls.len() > 10, "{calls:?}");
    for (at, call) in calls.iter().enumerate() {
        for fault in [Fault::StopBefore, Fault::StopAfter] {
            let memory = fork(&site.memory).await;
            let faulty = Arc::new(FaultyStore::new(Arc::new(memory.clone())));
            faulty.inject(Trigger::next().after(at as u64), fault);
            let mut work = std::pin::pin!(run(faulty.clone(), format!("dying-{at}-{fault:?}")));
            while !faulty.is_stopped() {
                let looked = tokio::time::timeout(std::time::Duration::from_millis(1), &mut work).await;
                if looked.is_ok() {
                    break;
                }
            }
            let context = format!("{fault:?} call {at}, {call:?}");
            assert_survives(&site, &memory, &format!("after-{at}-{fault:?}"), &tree, &context).await;
        }
    }
}
