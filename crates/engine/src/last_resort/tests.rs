//! The last resort on repositories of a few small packs, whose order in the cache is known.
//!
//! Never here: restores as users see them (see `tests/e2e/moved.rs`).

use std::path::Path;

use seal::KdfCost;
use source::files::FilesOptions;
use store::index_cache::{CacheError, CacheOptions};
use store::testing::{FaultyStore, MemoryStore, Verb};
use store::{Env, Store, Timestamp};
use tokio_util::sync::CancellationToken;
use zeroize::Zeroizing;

use super::*;
use crate::fetch::Fetcher;
use crate::{BackupRequest, ComponentRequest, Credential, InitRequest, Input, OpenOptions, Progress};

/// Backups of a file each, and so as many segments.
const BACKUPS: usize = 6;

/// A repository whose packs of content hold a chunk each, and a log of what is asked of its store.
async fn repository(folder: &Path) -> (Repository, Arc<FaultyStore>) {
    let temporary = vec![folder.join("temporary")];
    let cache = CacheOptions { memory_len: 4 << 20, ..CacheOptions::new(folder.join("cache")) };
    let request = InitRequest {
        credential: Credential::Password(Zeroizing::new(b"password".to_vec())),
        label: String::new(),
        cost: KdfCost { memory_kib: 8, passes: 1, lanes: 1 },
        options: OpenOptions { cache: cache.with_temporary(temporary) },
    };
    let store = Arc::new(FaultyStore::new(Arc::new(MemoryStore::new())));
    let env = Env::fixed(Timestamp { secs: 2_000_000_000, nanos: 0 }, 1);
    let repository = Repository::init(store.clone(), env, request).await.unwrap();
    for at in 0..BACKUPS {
        let file = folder.join(format!("file {at}"));
        std::fs::write(&file, format!("content {at}").repeat(1000)).unwrap();
        let request = BackupRequest {
            components: vec![ComponentRequest {
                input: Input::Files { roots: vec![file], options: FilesOptions::default() },
                name: None,
                cutter: None,
                force: true,
                allow_empty: false,
                shrink: None,
            }],
            at_once: 1,
            host: "host".into(),
            source: None,
            tags: Vec::new(),
            keep_until: None,
            description: String::new(),
            level: 1,
            dry_run: false,
        };
        repository.backup(request, &Arc::new(Progress::new()), CancellationToken::new()).await.unwrap();
    }
    (repository, store)
}

/// The chunks of content, as trailers tell of them, with their packs.
async fn chunks(repository: &Repository) -> Vec<(ChunkId, PackId)> {
    let listed: Vec<_> = repository.listed_packs().try_collect().await.unwrap();
    let mut found = Vec::new();
    for (id, _) in listed {
        let bytes = repository.store.get(&pack::names::pack(&id)).await.unwrap();
        let (rest, mark) = bytes.split_last_chunk::<{ pack::END_MARK_LEN }>().unwrap();
        let (_, sealed) = rest.split_at(rest.len() - pack::read_end_mark(mark).unwrap() as usize);
        let key = |epoch| repository.keyring.index_key_of(epoch);
        let trailer = pack::read_trailer(sealed, key, repository.keyring.repository).unwrap();
        if trailer.class == pack::PackClass::Data {
            found.extend(trailer.chunks.iter().map(|(chunk, _)| (*chunk, id)));
        }
    }
    found
}

async fn read_all(fetcher: &Fetcher, chunks: &[(ChunkId, PackId)]) {
    for (chunk, _) in chunks {
        let bytes = fetcher.chunk(*chunk).await.unwrap();
        assert!(bytes.starts_with(b"content "), "{chunk}");
    }
}

#[tokio::test]
async fn packs_are_told_apart_when_another_cache_numbers_them_otherwise_in_the_middle_of_an_operation() {
    let folder = tempfile::tempdir().unwrap();
    let (repository, _) = repository(folder.path()).await;
    let chunks = chunks(&repository).await;
    assert_eq!(chunks.len(), BACKUPS);
    let fetcher = repository.fetcher().await.unwrap();
    read_all(&fetcher, &chunks).await;

    // Without its oldest segment, the next cache numbers from another pack on.
    let cache = repository.cache.now();
    let mut segments: Vec<_> = repository.store.list(pack::names::INDEX).try_collect().await.unwrap();
    segments.sort_by_key(|info| info.modified_at);
    repository.store.delete(&segments[0].name).await.unwrap();
    repository.cache.replace(CacheError::Stopped { path: folder.path().join("cache") }).unwrap();
    let resort = LastResort::new(Some(repository.clone()));
    let tried = resort.search();
    assert!(resort.prepare(Step::IndexAgain, &tried).await.unwrap());
    let fetcher = fetcher.with_last_resort(resort);
    let numbers = |cache: &IndexCache, pack: PackId| cache.pack_numbers(&[pack]).unwrap()[0];
    let newest = fetcher.newest().cache;
    let chunks: Vec<_> = chunks.into_iter().filter(|(_, pack)| numbers(&newest, *pack).is_some()).collect();
    assert_eq!(chunks.len(), BACKUPS - 1);
    let is_other = |(_, pack): &(ChunkId, PackId)| numbers(&newest, *pack) != numbers(&cache, *pack);
    assert!(chunks.iter().all(is_other), "or this shows nothing");
    read_all(&fetcher, &chunks).await;
    assert!(!fetcher.last_resort().knows_more(), "each was found at its first place");
    // As planned reads do it.
    let index = fetcher.newest();
    let ids: Vec<_> = chunks.iter().map(|(chunk, _)| *chunk).collect();
    for (place, (_, pack)) in fetcher.find(&index, &ids).unwrap().into_iter().zip(&chunks) {
        assert_eq!(fetcher.pack(&index, place.unwrap()).unwrap().id, *pack);
    }
}

#[tokio::test]
async fn lost_chunks_cost_one_listing_when_there_are_more_packs_than_trailers_may_be_read() {
    let folder = tempfile::tempdir().unwrap();
    let (repository, store) = repository(folder.path()).await;
    let chunks = chunks(&repository).await;
    let fetcher = repository.fetcher().await.unwrap();
    let resort = LastResort { trailers_max: 2, ..LastResort::new(Some(repository.clone())) };
    let fetcher = fetcher.with_last_resort(resort);
    // Every pack is there and damaged, so that each is a suspect.
    for (_, pack) in &chunks {
        let name = pack::names::pack(pack);
        let len = store.get(&name).await.unwrap().len();
        store.delete(&name).await.unwrap();
        store.put_new(&name, vec![vec![0; len].into()]).await.unwrap();
    }
    let before = store.calls().len();
    for (chunk, _) in &chunks {
        let error = fetcher.chunk(*chunk).await.unwrap_err();
        assert!(matches!(error, EngineError::Lost { .. }), "{error}");
    }
    let asked = store.calls().split_off(before);
    let listings = asked.iter().filter(|call| call.verb == Verb::List && call.name == pack::names::PACKS).count();
    assert_eq!(listings, 2, "one for the index, and one for the trailers: {asked:?}");
}
