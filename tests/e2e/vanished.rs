//! Snapshots that vanish: which of them a host that saw them complains about.
//!
//! Invariant: a complaint names what is gone, and is made only where nobody who may had it forgotten.
//! Never here: how it is shown (see `cache`).

use engine::{Repository, SnapshotFilter};
use harness::{COST, Forge, Site, check_all, names_of, password};
use pack::{Role, SnapshotId, names};
use store::Store as _;

async fn listed(repository: &Repository) -> usize {
    repository.snapshots(&SnapshotFilter::default()).await.expect("lists").len()
}

/// A host that has seen two snapshots, the older one's id, and what the owner can forge.
async fn two_seen() -> (Site, Repository, SnapshotId, Forge) {
    let site = Site::new(1);
    let repository = site.init(site.store(), "cache").await.expect("makes");
    std::fs::write(site.tree().join("one"), b"some bytes").expect("writes");
    let first = site.backup(&repository).await.snapshot.expect("was committed");
    site.backup(&repository).await;
    assert_eq!(listed(&repository).await, 2);
    let forge = Forge::open(&site.memory, "owner").await;
    (site, repository, first, forge)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn snapshot_that_was_seen_and_is_gone_is_named_even_if_this_host_only_committed_it() {
    let site = Site::new(2);
    let repository = site.init(site.store(), "cache").await.expect("makes");
    std::fs::write(site.tree().join("one"), b"some bytes").expect("writes");
    let only = site.backup(&repository).await.snapshot.expect("was committed");
    site.memory.delete(&names::snapshot(&only)).await.expect("deletes");
    drop(repository);
    let repository = site.open("cache").await;
    assert_eq!(listed(&repository).await, 0);
    let [warning] = repository.warnings().try_into().expect("one warning");
    assert!(warning.contains(&only.to_string()) && warning.contains("files of host"), "{warning}");
    let other = site.open("other cache").await;
    assert_eq!((listed(&other).await, other.warnings()), (0, Vec::new()));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn snapshot_that_only_a_check_of_this_host_saw_is_missed_by_the_next_one() {
    let (site, _, first, _) = two_seen().await;
    let checked = check_all(&site.open("a host that only checks").await).await.expect("checks");
    assert!(checked.is_whole(), "{checked:?}");
    site.memory.delete(&names::snapshot(&first)).await.expect("deletes");
    let checker = site.open("a host that only checks").await;
    check_all(&checker).await.expect("checks");
    let warnings = checker.warnings();
    assert!(warnings.iter().any(|warning| warning.contains(&first.to_string())), "{warnings:?}");
    let other = site.open("a host that has seen nothing").await;
    check_all(&other).await.expect("checks");
    assert_eq!(other.warnings(), Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn snapshot_whose_forgetting_was_seen_may_go_and_so_may_what_hid_it() {
    let (site, repository, first, forge) = two_seen().await;
    let (name, record) = forge.forgotten(first);
    site.memory.put_new(&name, vec![record]).await.expect("creates");
    assert_eq!(listed(&repository).await, 1);
    site.memory.delete(&names::snapshot(&first)).await.expect("deletes");
    assert_eq!(listed(&repository).await, 1);
    site.memory.delete(&name).await.expect("deletes");
    assert_eq!((listed(&repository).await, repository.warnings()), (1, Vec::new()));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn snapshot_that_a_key_forgot_which_may_not_is_missed() {
    let (site, repository, first, _) = two_seen().await;
    repository.add_key(Role::Writer, password("writer"), "writer", COST).await.expect("adds");
    let (name, record) = Forge::open(&site.memory, "writer").await.forgotten(first);
    site.memory.put_new(&name, vec![record]).await.expect("creates");
    assert_eq!(listed(&repository).await, 2);
    site.memory.delete(&names::snapshot(&first)).await.expect("deletes");
    assert_eq!(listed(&repository).await, 1);
    let warnings = repository.warnings();
    assert!(warnings.iter().any(|warning| warning.contains(&first.to_string())), "{warnings:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tombstone_that_its_writer_removed_is_not_missed() {
    let (site, repository, _, forge) = two_seen().await;
    let (name, dead) = forge.dead(SnapshotId([9; 16]));
    site.memory.put_new(&name, vec![dead]).await.expect("creates");
    assert_eq!(listed(&repository).await, 2);
    site.memory.delete(&name).await.expect("deletes");
    assert_eq!((listed(&repository).await, repository.warnings()), (2, Vec::new()));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_that_vanished_are_told_in_one_line_that_counts_those_it_does_not_name() {
    let (site, repository, _, _) = two_seen().await;
    for _ in 0..10 {
        site.backup(&repository).await;
    }
    assert_eq!(listed(&repository).await, 12);
    for name in names_of(&site.memory, names::SNAPSHOTS).await {
        site.memory.delete(&name).await.expect("deletes");
    }
    assert_eq!((listed(&repository).await, listed(&repository).await), (0, 0));
    let [warning] = repository.warnings().try_into().expect("one warning");
    assert!(warning.starts_with("snapshots that") && warning.contains("and 2 more"), "{warning}");
}
