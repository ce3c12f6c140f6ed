//! What a backup takes over from its parent without reading it: nothing that may be lost.
//!
//! Invariant: the source still has everything, so whatever is lost in the repository, the next backup restores.
//! Never here: repair of the snapshots that lost something.

use std::collections::BTreeSet;

use engine::{BackupReport, Repository};
use harness::{Dice, Forge, Site, Tree, backup_request, check_all, names_of};
use pack::{PackClass, names};
use store::Store as _;

/// More than 32 chunks, so that the file's entry names pages and not the chunks themselves.
const FILE_LEN: usize = 1 << 20;

/// A large file, backed up.
async fn backed_up() -> (Site, Repository) {
    let site = Site::new(1);
    let repository = site.init(site.store(), "cache").await.expect("makes");
    std::fs::write(site.tree().join("large"), Dice::of_seed(3).bytes(FILE_LEN)).expect("writes");
    back_up(&site, &repository).await;
    (site, repository)
}

async fn back_up(site: &Site, repository: &Repository) -> BackupReport {
    let cutter = Some("pages-4096".parse().expect("is a cutter"));
    let mut request = backup_request(&site.tree());
    request.components[0].cutter = cutter;
    site.backup_of(repository, request).await
}

/// The names of the packs of content.
async fn data_packs(site: &Site) -> BTreeSet<String> {
    let forge = Forge::open(&site.memory, "owner").await;
    let mut found = BTreeSet::new();
    for name in names_of(&site.memory, names::INDEX).await {
        let segment = forge.open_segment(&site.memory.get(&name).await.expect("is there"));
        let data = segment.packs.iter().filter(|pack| pack.trailer.class == PackClass::Data);
        found.extend(data.map(|pack| names::pack(&pack.id)));
    }
    found
}

/// Backs up again, and fails unless that snapshot restores on a host that knows nothing.
async fn assert_next_backup_restores(site: &Site, repository: &Repository, context: &str) {
    let report = back_up(site, repository).await;
    let fresh = site.open(&format!("fresh {context}")).await;
    let snapshot = site.snapshot(&fresh, &report).await;
    site.assert_restores(&fresh, &snapshot, &Tree::read(&site.tree()), context).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn large_file_whose_pack_is_missing_is_read_again() {
    let (site, repository) = backed_up().await;
    for name in data_packs(&site).await {
        site.memory.delete(&name).await.expect("deletes");
    }
    assert_next_backup_restores(&site, &repository, "missing").await;
    let again = back_up(&site, &repository).await;
    assert_eq!((again.unchanged_count, again.new_len), (1, 0), "what is whole again is not read");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn large_file_whose_pack_a_check_found_damaged_is_read_again() {
    let (site, repository) = backed_up().await;
    for name in data_packs(&site).await {
        let mut bytes = site.memory.get(&name).await.expect("is there").to_vec();
        bytes[100] ^= 1;
        site.memory.overwrite(&name, bytes.into()).await;
    }
    assert_eq!(back_up(&site, &repository).await.unchanged_count, 1, "nobody knows of it yet");
    assert!(!check_all(&repository).await.expect("checks").is_whole());
    assert_next_backup_restores(&site, &repository, "damaged").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn large_file_whose_chunks_no_segment_names_any_more_is_read_again() {
    let (site, repository) = backed_up().await;
    let first = names_of(&site.memory, names::INDEX).await;
    let before = data_packs(&site).await;
    // The file's pages are new now and in another segment; most of its chunks are in the first.
    let mut content = std::fs::read(site.tree().join("large")).expect("reads");
    content.extend(Dice::of_seed(4).bytes(FILE_LEN / 8));
    std::fs::write(site.tree().join("large"), content).expect("writes");
    back_up(&site, &repository).await;
    for name in first.iter().chain(&before) {
        site.memory.delete(name).await.expect("deletes");
    }
    std::fs::write(site.tree().join("other"), b"other").expect("writes");
    assert_next_backup_restores(&site, &repository, "unnamed").await;
}
