//! Pages of a snapshot that are lost: what stands in the others is restored, and what is lost is named.
//!
//! Invariant: a lost page never ends a restore, unless nothing at all is left, and nothing is deleted for its sake.
//! Never here: lost content (see `damage` and `moved`).

use std::collections::BTreeSet;
use std::sync::Arc;

use engine::{CatRequest, Change, Kind, RestoreReport, RestoreRequest, Side, SnapshotFilter, Walked};
use futures::TryStreamExt as _;
use harness::{Forge, Site, Tree, check_all, fork, names_of, restore_request, try_restore};
use pack::manifest::{Child, Entry, EntryKind, Time};
use pack::{BlobKind, names};
use store::Store as _;
use store::testing::MemoryStore;
use tempfile::TempDir;

/// So many that their entries take several pages.
const FILES: usize = 1_500;
/// So many that wherever a key cuts them, there are several pages.
const MANY_FILES: usize = 6_000;
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
    let mut lost = BTreeSet::new();
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
        let found: BTreeSet<_> = found.files().collect();
        assert!(found.is_subset(&whole), "page {at}: only right files");
        assert!(!found.is_empty(), "page {at}: what stands in the others");
        assert!(report.problem_count >= 1, "page {at}: its loss is named");
        let message = &report.problems[0].message;
        assert!(message.contains("is lost with entries that follow it"), "{message}");
        lost.extend(whole.difference(&found).map(|(name, _)| name.to_vec()));
    }
    // Of a page with one child alone, the loss of that child is as bad.
    assert!(ended >= 1 && ended * 2 <= scene.damaged.len(), "{ended} losses leave nothing to restore");
    // Where a page is cut depends on the key: the last one may share the root's blob, and there may be pages between.
    assert!(lost.len() > FILES / 2, "each page holds files of its own: {}", lost.len());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn dry_run_goes_on_past_a_lost_page_and_names_what_the_restore_names() {
    let scene = Scene::new().await;
    let mut ended = 0;
    for at in 0..scene.damaged.len() {
        let target = scene.site.new_folder();
        let repository = scene
            .site
            .open_as("owner", Arc::new(scene.damaged[at].clone()), &format!("dry {at}"))
            .await
            .expect("opens");
        let listed = repository.snapshots(&engine::SnapshotFilter::default()).await.expect("lists");
        let snapshot = listed.into_iter().find(|info| info.id.to_string() == scene.id).expect("is listed");
        let new = target.path().join("new");
        let request = || restore_request(&scene.site.tree_path(), &new);
        let planned = try_restore(&repository, &snapshot, RestoreRequest { dry_run: true, ..request() }).await;
        assert!(!new.exists());
        let (planned, done) = match (planned, try_restore(&repository, &snapshot, request()).await) {
            (Ok(planned), Ok(done)) => (planned, done),
            (Err(planned), Err(done)) => {
                assert_eq!((planned.kind(), done.kind()), (Kind::Damaged, Kind::Damaged));
                ended += 1;
                continue;
            }
            other => panic!("page {at}: {other:?}"),
        };
        assert_eq!(planned.problem_count, done.problem_count, "page {at}");
        // The top, if it is not lost, counts where there is no target.
        assert!((done.entry_count..=done.entry_count + 1).contains(&planned.entry_count), "page {at}");
        assert!(planned.met_damage && done.met_damage, "page {at}");
    }
    // Of a page with one child alone, the loss of that child is as bad.
    assert!(ended >= 1 && ended * 2 <= scene.damaged.len(), "{ended} losses leave nothing to restore");
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

/// A file of this name and length.
fn file(name: &str, len: u64) -> Entry {
    Entry {
        path: name.into(),
        kind: EntryKind::File { len },
        mode: 0o644,
        uid: 0,
        gid: 0,
        user: None,
        group: None,
        modified_at: Time::default(),
        changed_at: Time::default(),
        inode: 1,
        device: 0,
        links: 1,
        xattrs: Vec::new(),
        is_whole: true,
        child_count: 0,
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn snapshot_that_says_other_sums_than_its_pages_is_named_by_a_check() {
    let site = Site::new(1);
    let repository = site.init(site.store(), "cache").await.expect("makes");
    std::fs::write(site.tree().join("file"), "the only content").expect("writes");
    let report = site.backup(&repository).await;
    assert_eq!(check_all(&repository).await.expect("checks").damages, []);
    let found = site.snapshot(&repository, &report).await.snapshot;
    let mut structure = found.structure.clone();
    structure.components[0].content_len += 1;
    let forge = Forge::open(&site.memory, "owner").await;
    let (name, bytes) = forge.snapshot(&site.memory, &structure, found.body.as_ref().expect("is open")).await;
    site.memory.overwrite(&name, bytes).await;
    drop(repository);
    let damages = check_all(&site.open("another").await).await.expect("checks").damages;
    let [damage] = damages.try_into().expect("one damage");
    assert_eq!(damage.object, name);
    assert_eq!(damage.what, "should hold 17 bytes of content, and its pages hold 16");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn lengths_that_do_not_add_up_are_problems_of_their_files_and_give_no_zeros() {
    const CONTENT: &[u8] = b"the only content";
    const LEN: u64 = CONTENT.len() as u64;
    let site = Site::new(1);
    let repository = site.init(site.store(), "cache").await.expect("makes");
    std::fs::write(site.tree().join("file"), CONTENT).expect("writes");
    let report = site.backup(&repository).await;
    let found = site.snapshot(&repository, &report).await.snapshot;
    let forge = Forge::open(&site.memory, "owner").await;
    let segment = names_of(&site.memory, names::INDEX).await.pop().expect("has one");
    let segment = forge.open_segment(&site.memory.get(&segment).await.expect("is there"));
    let chunks = segment.packs.iter().flat_map(|pack| &pack.trailer.chunks);
    let (id, _) = *chunks.clone().find(|(_, len)| u64::from(*len) == LEN).expect("is stored");
    let chunk = |len| vec![Child::chunk(id, len)];
    let root = forge.pages(
        &site.memory,
        vec![
            (file("chunk too long", LEN + 5), chunk(LEN + 5)),
            (file("chunk too short", LEN - 1), chunk(LEN - 1)),
            (file("right", LEN), chunk(LEN)),
            (file("sum too large", LEN), vec![Child::chunk(id, LEN), Child::hole(1)]),
            (file("sum too small", LEN + 5), chunk(LEN)),
        ],
    );
    let root = root.await;
    let mut structure = found.structure.clone();
    structure.components[0].root = Some(root);
    let (name, bytes) = forge.snapshot(&site.memory, &structure, found.body.as_ref().expect("is open")).await;
    site.memory.overwrite(&name, bytes).await;
    drop(repository);
    let repository = site.open("another").await;
    let snapshot = site.snapshot(&repository, &report).await;
    let target = site.new_folder();
    let report = try_restore(&repository, &snapshot, restore_request(b"", target.path())).await.expect("goes on");
    let named: Vec<&str> = report.problems.iter().map(|problem| problem.path.as_str()).collect();
    assert_eq!(report.problem_count, 4, "{:?}", report.problems);
    assert!(!named.contains(&"right"), "{named:?}");
    assert_eq!(std::fs::read(target.path().join("right")).expect("is restored"), CONTENT);
    for name in ["right", "chunk too long", "chunk too short", "sum too large", "sum too small"] {
        let content = repository.cat(&snapshot, CatRequest::whole(name.into())).await.expect("is there");
        assert_eq!(content.try_collect::<Vec<_>>().await.is_ok(), name == "right", "{name}");
    }
}

/// Copies of a store, each with one body of the packs that are not among `old` damaged.
async fn with_damaged_bodies(memory: &MemoryStore, forge: &Forge, old: &[String]) -> Vec<MemoryStore> {
    let mut damaged = Vec::new();
    for name in names_of(memory, names::INDEX).await {
        let segment = forge.open_segment(&memory.get(&name).await.expect("is there"));
        for pack in segment.packs.iter().filter(|pack| !old.contains(&names::pack(&pack.id))) {
            for blob in pack.trailer.blobs.iter().filter(|blob| blob.kind == BlobKind::Body) {
                let copy = fork(memory).await;
                let name = names::pack(&pack.id);
                let mut bytes = copy.get(&name).await.expect("is there").to_vec();
                bytes[blob.offset as usize + 20] ^= 1;
                copy.overwrite(&name, bytes.into()).await;
                damaged.push(copy);
            }
        }
    }
    damaged
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn diff_and_find_name_a_lost_page_and_tell_nothing_wrong_of_what_is_in_it() {
    let site = Site::new(1);
    drop(site.init(site.store(), "cache").await.expect("makes"));
    let forge = Forge::open(&site.memory, "owner").await;
    forge.set_lens(&site.memory, 1 << 20, BLOB_LEN).await;
    for at in 0..MANY_FILES {
        std::fs::write(site.tree().join(format!("file {at:04}")), format!("content {at}")).expect("writes");
    }
    let repository = site.open("cache").await;
    site.backup(&repository).await;
    let old = names_of(&site.memory, names::PACKS).await;
    for at in (0..MANY_FILES).step_by(20) {
        std::fs::write(site.tree().join(format!("file {at:04}")), "another content").expect("writes");
    }
    site.backup(&repository).await;
    let (mut lost_count, mut told) = (0, BTreeSet::new());
    for (at, store) in with_damaged_bodies(&site.memory, &forge, &old).await.into_iter().take(8).enumerate() {
        let repository = site.open_as("owner", Arc::new(store), &format!("cold {at}")).await.expect("opens");
        let snapshots = repository.snapshots(&SnapshotFilter::default()).await.expect("lists");
        let side = |at: usize| Side { snapshot: snapshots[at].clone(), path: site.tree_path() };
        let found: Vec<_> =
            repository.diff(&side(0), &side(1)).await.expect("begins").try_collect().await.expect("ends");
        let mut is_lost = false;
        for walked in found {
            match walked {
                Walked::Lost(lost) => {
                    assert_eq!((lost.snapshots.as_slice(), lost.error.kind()), (&[1][..], Kind::Damaged));
                    is_lost = true;
                }
                Walked::Found(found) => {
                    assert_eq!(found.change, Change::Content, "blob {at}: {found:?}");
                    told.insert(found.after.expect("is there").path);
                }
            }
        }
        lost_count += usize::from(is_lost);
        let wanted: engine::Wanted = Arc::new(|entry| entry.path.ends_with(b"0"));
        let request = engine::FindRequest { snapshots, path: site.tree_path(), is_alone: false, wanted };
        let found: Vec<_> = repository.find(request).await.expect("begins").try_collect().await.expect("ends");
        let of_first =
            found.iter().filter(|walked| matches!(walked, Walked::Found(found) if found.snapshots.contains(&0)));
        assert_eq!(of_first.count(), MANY_FILES / 10, "blob {at}: the first snapshot is whole");
        let names_loss = found.iter().any(|walked| matches!(walked, Walked::Lost(lost) if lost.snapshots == [1]));
        assert_eq!(names_loss, is_lost, "blob {at}");
    }
    assert!(lost_count >= 4, "the root and several pages: {lost_count}");
    assert_eq!(told.len(), MANY_FILES / 20, "whatever page is lost, the changes in all others are told");
}
