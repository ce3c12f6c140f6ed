//! Readers whose packs move, whose segments vanish, and whose index lies: all that is stored is found, and soon.
//!
//! ```text
//! restore, half done ─► the pack is repacked: new pack and segment, old ones deleted ─► the restore goes on
//! segment deleted, or with a false table ─► trailers
//! pack deleted ─► the index once more, each trailer once, then the files that need it are named
//! ```
//!
//! Invariant: what is read again is read once for all, not once per chunk.
//! Never here: prune itself, and check.

use std::sync::Arc;

use bytes::Bytes;
use engine::{CatRequest, EngineError, Repository, SnapshotInfo};
use futures::TryStreamExt as _;
use harness::{Dice, Forge, Site, SwappingStore, Tree, fork, names_of};
use pack::{PackClass, PackEntry, Segment, names};
use store::testing::{Call, FaultyStore, MemoryStore, Verb};
use store::{SharedStore, Store as _};

/// Files of a mebibyte: several reads of one pack.
const FILES: usize = 12;
const MIB: usize = 1 << 20;

/// What is made of a pack's row in a segment.
type Change = fn(&mut PackEntry);

/// One snapshot of noise: two packs of data, one of metadata, and a segment.
struct Scene {
    site: Site,
    forge: Forge,
    tree: Tree,
    id: String,
    segment: String,
    /// The larger pack of data.
    data: String,
}

impl Scene {
    async fn new() -> Self {
        let site = Site::new(1);
        let repository = site.init(site.store(), "cache").await.expect("makes");
        let dice = Dice::of_seed(5);
        for at in 0..FILES {
            std::fs::write(site.tree().join(format!("file {at:02}")), dice.bytes(MIB)).expect("writes");
        }
        let report = site.backup(&repository).await;
        let forge = Forge::open(&site.memory, "owner").await;
        let segment = names_of(&site.memory, names::INDEX).await.pop().expect("has a segment");
        let tree = Tree::read(&site.tree());
        let id = report.snapshot.expect("was committed").to_string();
        let mut scene = Self { site, forge, tree, id, segment, data: String::new() };
        let mut packs = scene.segment().await.packs;
        packs.sort_by_key(|pack| (pack.trailer.class == PackClass::Data, pack.len));
        scene.data = names::pack(&packs.last().expect("has data").id);
        scene
    }

    async fn segment(&self) -> Segment {
        self.forge.open_segment(&self.site.memory.get(&self.segment).await.expect("is there"))
    }

    /// A pack of the same chunks under another name with its segment, as a repack leaves it.
    async fn repacked(&self) -> Vec<(String, Bytes)> {
        let memory = fork(&self.site.memory).await;
        let before = names_of(&memory, "").await;
        for name in before.iter().filter(|name| name.starts_with("packs/") || name.starts_with("index/")) {
            memory.delete(name).await.expect("deletes");
        }
        let store: SharedStore = Arc::new(memory.clone());
        let repository = self.site.open_as("owner", store, "repack").await.expect("opens");
        self.site.backup(&repository).await;
        let mut made = Vec::new();
        for name in names_of(&memory, "").await {
            if !before.contains(&name) && (name.starts_with("packs/") || name.starts_with("index/")) {
                let bytes = memory.get(&name).await.expect("is there");
                made.push((name, bytes));
            }
        }
        made
    }

    /// The snapshot in `store`, seen without a cache, and a log of what is asked of the store from here on.
    async fn open(&self, store: SharedStore, cache: &str) -> (Repository, SnapshotInfo, Arc<FaultyStore>) {
        let logged = Arc::new(FaultyStore::new(store));
        let repository = self.site.open_as("owner", logged.clone(), cache).await.expect("opens");
        let listed = repository.snapshots(&engine::SnapshotFilter::default()).await.expect("lists");
        let snapshot = listed.into_iter().find(|info| info.id.to_string() == self.id).expect("is listed");
        (repository, snapshot, logged)
    }

    /// Fails unless restore, listing and cat give everything; returns what the restore asked for.
    async fn assert_readable(&self, memory: &MemoryStore, context: &str) -> Vec<Call> {
        let store: SharedStore = Arc::new(memory.clone());
        let (repository, snapshot, log) = self.open(store.clone(), &format!("{context} restore")).await;
        let before = log.calls().len();
        self.site.assert_restores(&repository, &snapshot, &self.tree, context).await;
        let asked = log.calls().split_off(before);
        let (repository, snapshot, _) = self.open(store, &format!("{context} cat")).await;
        let entries = repository.entries(&snapshot, &self.site.tree_path()).await.expect(context);
        assert_eq!(entries.try_collect::<Vec<_>>().await.expect(context).len(), FILES + 1, "{context}");
        assert!(self.cat(&repository, &snapshot).await.expect(context) == self.first_file(), "{context}");
        asked
    }

    fn first_file(&self) -> Vec<u8> {
        std::fs::read(self.site.tree().join("file 00")).expect("reads")
    }

    async fn cat(&self, repository: &Repository, snapshot: &SnapshotInfo) -> Result<Vec<u8>, EngineError> {
        let path = [self.site.tree_path().as_slice(), b"/file 00"].concat();
        let content = repository.cat(snapshot, CatRequest::whole(path)).await?;
        Ok(content.try_collect::<Vec<_>>().await?.concat())
    }

    /// The repository with `change` made to its segment, which is signed again.
    async fn with_segment(&self, change: impl FnOnce(&mut PackEntry)) -> MemoryStore {
        let memory = fork(&self.site.memory).await;
        let mut segment = self.segment().await;
        let data = segment.packs.iter_mut().find(|pack| names::pack(&pack.id) == self.data);
        change(data.expect("has data"));
        let (name, bytes) = self.forge.segment(&segment);
        memory.delete(&self.segment).await.expect("deletes");
        memory.overwrite(&name, bytes).await;
        memory
    }
}

fn count(calls: &[Call], verb: Verb, name: &str) -> usize {
    calls.iter().filter(|call| call.verb == verb && call.name == name).count()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn restore_and_cat_go_on_in_the_new_pack_when_theirs_is_repacked_meanwhile() {
    let scene = Scene::new().await;
    let successors = scene.repacked().await;
    assert!(successors.iter().any(|(name, _)| name.starts_with("index/")), "packs and a segment");
    for reads in 0..3 {
        let context = format!("after {reads} reads");
        let swapping = |reads| {
            let (successors, scene) = (successors.clone(), &scene);
            async move {
                let memory = fork(&scene.site.memory).await;
                let store = SwappingStore::new(memory, &scene.data, successors).after(reads);
                Arc::new(store.taking([scene.segment.clone()]))
            }
        };
        let store = swapping(reads).await;
        let (repository, snapshot, log) = scene.open(store.clone(), &format!("restore {reads}")).await;
        let before = log.calls().len();
        scene.site.assert_restores(&repository, &snapshot, &scene.tree, &context).await;
        assert!(store.has_swapped(), "{context}");
        let asked = log.calls().split_off(before);
        assert_eq!(count(&asked, Verb::List, "index"), 2, "{context}: once at the beginning, and once for all runs");
        let moved = successors.iter().map(|(name, _)| count(&asked, Verb::GetRange, name)).sum::<usize>();
        assert!(moved <= FILES, "{context}: runs stay long reads: {asked:?}");

        let store = swapping(0).await;
        let (repository, snapshot, _) = scene.open(store.clone(), &format!("cat {reads}")).await;
        assert!(scene.cat(&repository, &snapshot).await.expect(&context) == scene.first_file(), "{context}");
        assert!(store.has_swapped(), "{context}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn packs_that_no_segment_names_are_found_by_their_trailers() {
    let scene = Scene::new().await;
    let memory = fork(&scene.site.memory).await;
    memory.delete(&scene.segment).await.expect("deletes");
    let asked = scene.assert_readable(&memory, "no segment").await;
    assert_eq!(count(&asked, Verb::List, "index"), 2, "{asked:?}");
    assert_eq!(count(&asked, Verb::List, "packs"), 3, "for the index, again, and for the trailers: {asked:?}");
    // A tail of each pack, the root page with its body, and the data in few long reads.
    let ranges = asked.iter().filter(|call| call.verb == Verb::GetRange).count();
    assert!(ranges <= 4 + 4 + FILES, "each trailer is read once: {asked:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pack_under_a_false_table_is_read_by_its_own() {
    let scene = Scene::new().await;
    let changes: [(&str, Change); 5] = [
        ("false hashes", |pack| pack.trailer.blobs.iter_mut().for_each(|blob| blob.hash[0] ^= 1)),
        ("blobs of other lengths", |pack| pack.trailer.blobs.iter_mut().for_each(|blob| blob.sealed_len += 100)),
        ("chunks in other places", |pack| pack.trailer.chunks.reverse()),
        ("chunks under other names", |pack| {
            let other = |at: u8| seal::ChunkId::from_bytes([at; seal::CHUNK_ID_LEN]);
            pack.trailer.chunks.iter_mut().zip(0..).for_each(|(chunk, at)| chunk.0 = other(at));
        }),
        ("another length", |pack| pack.len += 1),
    ];
    for (context, change) in changes {
        let memory = scene.with_segment(change).await;
        let asked = scene.assert_readable(&memory, context).await;
        assert!(count(&asked, Verb::List, "index") <= 2, "{context}: {asked:?}");
        assert!(asked.len() < 20 + 4 * FILES, "{context}: {} requests", asked.len());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn lost_pack_is_asked_for_a_few_times_whatever_number_of_chunks_it_held() {
    let scene = Scene::new().await;
    let memory = fork(&scene.site.memory).await;
    memory.delete(&scene.data).await.expect("deletes");
    let (repository, snapshot, log) = scene.open(Arc::new(memory), "lost").await;
    let before = log.calls().len();
    let (found, report) = scene.site.restored(&repository, &snapshot).await;
    let right = scene.tree.files().filter(|file| found.files().any(|own| own == *file)).count();
    assert_eq!((right + report.problems.len(), right < FILES / 2), (FILES, true), "{:?}", report.problems);
    assert!(report.problems.iter().all(|problem| problem.message.contains(&scene.data)), "{:?}", report.problems);
    let asked = log.calls().split_off(before);
    assert!(count(&asked, Verb::GetRange, &scene.data) <= 6, "{asked:?}");
    assert_eq!(count(&asked, Verb::List, "index"), 2, "{asked:?}");
    assert!(asked.len() < 20, "{asked:?}");
    if report.problems.iter().any(|problem| problem.path == "file 00") {
        let error = scene.cat(&repository, &snapshot).await.expect_err("is lost");
        assert!(matches!(error, EngineError::Lost { .. }), "{error}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn damaged_blob_is_read_a_few_times_and_named_once_per_file() {
    let scene = Scene::new().await;
    let memory = fork(&scene.site.memory).await;
    let mut bytes = memory.get(&scene.data).await.expect("is there").to_vec();
    bytes[100] ^= 1;
    memory.overwrite(&scene.data, bytes.into()).await;
    let (repository, snapshot, log) = scene.open(Arc::new(memory), "damaged").await;
    let before = log.calls().len();
    let (_, report) = scene.site.restored(&repository, &snapshot).await;
    assert!((1..=3).contains(&report.problem_count), "files of one blob: {:?}", report.problems);
    let asked = log.calls().split_off(before);
    assert!(asked.len() < 20, "{asked:?}");
}
