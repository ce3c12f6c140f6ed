//! Pages of a snapshot that are lost: what stands in the others is restored, and what is lost is named.
//!
//! Invariant: a lost page never ends a restore, unless nothing at all is left, and nothing is deleted for its sake.
//! Never here: lost content (see `damage` and `moved`).

use std::collections::BTreeSet;
use std::sync::Arc;

use engine::{Kind, RestoreReport, RestoreRequest};
use harness::{Forge, Site, Tree, fork, names_of, restore_request, try_restore};
use pack::{BlobKind, names};
use store::Store as _;
use store::testing::MemoryStore;
use tempfile::TempDir;

/// So many that their entries take several pages.
const FILES: usize = 1_500;
/// One page fits into a blob.
const BLOB_LEN: u32 = 4 << 10;

struct Scene {
    site: Site,
    tree: Tree,
    id: String,
    /// Copies of the store, each with one page's body damaged.
    damaged: Vec<MemoryStore>,
}

impl Scene {
    async fn new() -> Self {
        let site = Site::new(1);
        drop(site.init(site.store(), "cache").await.expect("makes"));
        let forge = Forge::open(&site.memory, "owner").await;
        forge.set_lens(&site.memory, 1 << 20, BLOB_LEN).await;
        for at in 0..FILES {
            std::fs::write(site.tree().join(format!("file {at:04}")), format!("content {at}")).expect("writes");
        }
        let repository = site.open("cache").await;
        let report = site.backup(&repository).await;
        let id = report.snapshot.expect("was committed").to_string();
        let mut damaged = Vec::new();
        for name in names_of(&site.memory, names::INDEX).await {
            let segment = forge.open_segment(&site.memory.get(&name).await.expect("is there"));
            for pack in segment.packs {
                for blob in pack.trailer.blobs.iter().filter(|blob| blob.kind == BlobKind::Body) {
                    let memory = fork(&site.memory).await;
                    let name = names::pack(&pack.id);
                    let mut bytes = memory.get(&name).await.expect("is there").to_vec();
                    bytes[blob.offset as usize + 20] ^= 1;
                    memory.overwrite(&name, bytes.into()).await;
                    damaged.push(memory);
                }
            }
        }
        assert!(damaged.len() >= 4, "several pages: {}", damaged.len());
        let tree = Tree::read(&site.tree());
        Self { site, tree, id, damaged }
    }

    /// Restores from a damaged copy, without a cache, into `target`.
    async fn restore(&self, at: usize, target: &TempDir, delete: bool) -> Result<RestoreReport, engine::EngineError> {
        let store = Arc::new(self.damaged[at].clone());
        let repository = self.site.open_as("owner", store, &format!("cold {at} {delete}")).await.expect("opens");
        let listed = repository.snapshots(&engine::SnapshotFilter::default()).await.expect("lists");
        let snapshot = listed.into_iter().find(|info| info.id.to_string() == self.id).expect("is listed");
        let request = RestoreRequest { delete, ..restore_request(&self.site.tree_path(), target.path()) };
        try_restore(&repository, &snapshot, request).await
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn lost_page_of_entries_is_named_and_all_other_entries_are_restored() {
    let scene = Scene::new().await;
    let whole: BTreeSet<_> = scene.tree.files().collect();
    let mut ended = 0;
    let mut missing = 0;
    for at in 0..scene.damaged.len() {
        let target = scene.site.new_folder();
        let report = match scene.restore(at, &target, false).await {
            Ok(report) => report,
            Err(error) => {
                assert_eq!(error.kind(), Kind::Damaged, "{error}");
                ended += 1;
                continue;
            }
        };
        let found = Tree::read(target.path());
        assert!(found.files().all(|file| whole.contains(&file)), "page {at}: only right files");
        let count = found.files().count();
        assert!(count > 0 && count <= FILES, "page {at}: {count} files");
        assert!(report.problem_count >= 1, "page {at}: its loss is named");
        let message = &report.problems[0].message;
        assert!(message.contains("is lost with entries that follow it"), "{message}");
        missing += FILES - count;
    }
    assert_eq!(ended, 1, "only the root's loss leaves nothing to restore");
    // The last page may be small and share the root's blob.
    assert!(missing > FILES * 9 / 10 && missing <= FILES, "each page holds files of its own: {missing}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_deleted_that_a_lost_page_may_name() {
    let scene = Scene::new().await;
    for at in 0..scene.damaged.len() {
        let target = scene.site.new_folder();
        for (name, content) in scene.tree.files() {
            std::fs::write(target.path().join(std::str::from_utf8(name).expect("plain")), content).expect("writes");
        }
        let restored = scene.restore(at, &target, true).await;
        assert!(restored.is_err() || restored.is_ok_and(|report| report.problem_count > 0), "page {at}");
        assert_eq!(Tree::read(target.path()).files().count(), FILES, "page {at}: all are there");
    }
}
