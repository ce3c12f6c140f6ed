//! What the index cache must hold, come what may.
//!
//! | file | asks |
//! |---|---|
//! | `model` | does it say what a plain map says, and the same again when rebuilt? |
//! | `folder` | two handles, two processes, junk, damage, another repository, no space |
//! | `crash` | is it consistent after its process was killed? |
//! | `pages` | what is kept and what goes |
//!
//! Invariant: packs and segments follow from their number, so any process can say what they must hold.
//! Never here: timings.

use std::collections::{BTreeMap, BTreeSet};
use std::process::{Child, Command, Stdio};

use pack::{BlobKind, BlobRow, PackClass, PackEntry, PackId, SealRow, Segment, SegmentId, Trailer};
use seal::{ChunkId, RepositoryId, Suite, WrappedKey};
use tempfile::TempDir;

use super::{CacheOptions, IndexCache, PackInfo, PackNo};

mod blobs;
mod crash;
mod folder;
mod model;
mod pages;

const REPOSITORY: RepositoryId = RepositoryId([0x5a; 16]);
const CHUNKS_PER_BLOB: u64 = 8;
/// What a child process finds in its environment: the cache's folder.
const CHILD_FOLDER: &str = "BACKSTAY_TEST_CACHE_FOLDER";

/// Every place of every chunk, with packs by id instead of number.
type Places = BTreeMap<ChunkId, BTreeSet<(PackId, u32, u32, u32)>>;

/// A replayable stream of numbers.
struct Numbers(u64);

impl Numbers {
    fn next(&mut self, below: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % below
    }
}

fn options(folder: &TempDir) -> CacheOptions {
    CacheOptions { memory_len: 8 << 20, ..CacheOptions::new(folder.path().join("cache")) }
}

fn open(options: &CacheOptions) -> IndexCache {
    IndexCache::open(options, REPOSITORY).unwrap()
}

fn chunk_id(number: u64) -> ChunkId {
    let hash = blake3::hash(&number.to_le_bytes());
    ChunkId::from_bytes(*hash.as_bytes().first_chunk().unwrap())
}

fn pack_id(number: u64) -> PackId {
    PackId::of([b"pack".as_slice(), &number.to_le_bytes()])
}

fn segment_id(number: u64) -> SegmentId {
    SegmentId::of(&number.to_le_bytes())
}

/// Pack `number`: `blob_count` blobs of eight chunks each, drawn from `chunks_below` different ones.
fn pack(number: u64, blob_count: u64, chunks_below: u64) -> PackEntry {
    let mut numbers = Numbers(number);
    let (mut blobs, mut chunks, mut offset) = (Vec::new(), Vec::new(), 0);
    for counter in 0..blob_count {
        let first_chunk = chunks.len() as u32;
        for _ in 0..CHUNKS_PER_BLOB {
            chunks.push((chunk_id(numbers.next(chunks_below)), 1 + numbers.next(20_000) as u32));
        }
        let plain_len = chunks[first_chunk as usize..].iter().map(|(_, len)| len).sum();
        let (sealed_len, hash) = (plain_len / 2, *blake3::hash(&counter.to_le_bytes()).as_bytes());
        let (kind, chunk_count) = (BlobKind::Data, CHUNKS_PER_BLOB as u32);
        blobs.push(BlobRow { kind, seal: 0, counter, offset, sealed_len, plain_len, first_chunk, chunk_count, hash });
        offset += u64::from(sealed_len);
    }
    let suite = Suite::X25519ChaCha20Poly1305;
    let seals = vec![SealRow { seal_id: [9; 16], epoch: number as u32, suite, wrapped: WrappedKey([7; 80]) }];
    PackEntry { id: pack_id(number), len: offset, trailer: Trailer { class: PackClass::Data, seals, blobs, chunks } }
}

fn segment(packs: Vec<PackEntry>) -> Segment {
    Segment { packs, replaces: vec![], domain: [3; 16] }
}

/// Adds what a pack holds to the model.
fn add(places: &mut Places, pack: &PackEntry) {
    for (blob, row) in (0..).zip(&pack.trailer.blobs) {
        let mut offset = 0;
        for (id, len) in pack.trailer.chunks_of(row) {
            places.entry(*id).or_default().insert((pack.id, blob, offset, *len));
            offset += len;
        }
    }
}

/// What the cache says about each of `ids`, those unknown left out.
fn places(cache: &IndexCache, ids: impl IntoIterator<Item = ChunkId>) -> Places {
    let ids: Vec<_> = ids.into_iter().collect();
    let name = |number: PackNo| cache.pack(number).unwrap().expect("a place names a known pack").id;
    let found = cache.lookup(&ids).unwrap();
    let sets = found.iter().map(|places| {
        places.iter().map(|place| (name(place.pack), place.blob, place.offset, place.len)).collect::<BTreeSet<_>>()
    });
    ids.into_iter().zip(sets).filter(|(_, set)| !set.is_empty()).collect()
}

/// The packs the cache knows, by number.
fn packs(cache: &IndexCache) -> Vec<(PackNo, PackInfo)> {
    cache.packs().collect::<Result<_, _>>().unwrap()
}

/// Starts this test program again, to run the test `name` alone with `CHILD_FOLDER` set.
fn child(name: &str, options: &CacheOptions) -> Child {
    let program = std::env::current_exe().unwrap();
    Command::new(program)
        .args(["--exact", &format!("index_cache::tests::{name}"), "--nocapture"])
        .env(CHILD_FOLDER, &options.folder)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap()
}

/// The options a child process was given; none when the test runs as one of many.
fn child_options() -> Option<CacheOptions> {
    Some(CacheOptions { memory_len: 8 << 20, ..CacheOptions::new(std::env::var_os(CHILD_FOLDER)?) })
}

/// Reads what the child prints up to `word`.
fn wait_for(child: &mut Child, word: &str) {
    use std::io::Read;
    let (mut text, mut byte) = (String::new(), [0]);
    while !text.ends_with(word) {
        child.stdout.as_mut().unwrap().read_exact(&mut byte).expect("the child says so before it ends");
        text.push(char::from(byte[0]));
    }
}
