//! Objects that only a collector would write, or somebody who took a key: made from the format alone.
//!
//! Invariant: what is forged with a key is exactly what the holder of that key could write.
//! Never here: the engine; it must take these objects as they come.

use bytes::Bytes;
use pack::manifest::{Child, Entry, MetaChunk, TreeBuilder};
use pack::{
    BlobKind, BlobRow, Condemned, CondemnedId, Config, Dead, Ended, Epoch, Forgotten, Hold, HoldEffect, HoldId,
    PackBuilder, PackClass, PackEntry, PackId, PackSeal, Protector, Segment, Signer, Slot, Snapshot, SnapshotBody,
    SnapshotId, SnapshotStructure, names,
};
use seal::{
    BlobOpener, BlobSealer, ChunkId, ChunkNamer, ExchangeKey, ExchangePublic, IdentityKey, RepositoryId, Secret,
    key_from_password,
};
use store::testing::MemoryStore;
use store::{Env, Store as _};

use crate::site::names_of;

/// A key of the repository, opened by hand.
#[derive(Debug)]
pub struct Forge {
    env: Env,
    repository: RepositoryId,
    signer: Signer,
    identity: IdentityKey,
    epoch: u32,
    index_key: Secret,
    chunk_id: Option<Secret>,
    exchange: Option<ExchangeKey>,
}

/// Packs that are made until one has a low id.
const TRIES_MAX: usize = 1 << 16;

/// Sealed bytes, their kind and counter, and the chunks that are said to be in them.
type ForgedBlob = (Vec<u8>, BlobKind, u64, Vec<(ChunkId, u32)>);

impl Forge {
    /// Opens the key slot whose password is `who`.
    pub async fn open(store: &MemoryStore, who: &str) -> Self {
        let config = store.get(names::CONFIG).await.expect("is there");
        let config = Config::decode(&config).expect("decodes");
        for name in names_of(store, names::KEYS).await {
            let slot = store.get(&name).await.expect("is there");
            let slot = Slot::decode(&slot, config.owner, config.repository).expect("decodes");
            let Protector::Password { cost, salt } = slot.protector else { continue };
            let key = key_from_password(who.as_bytes(), &salt, cost).expect("derives");
            let Ok(secrets) = slot.open_secrets(&key, config.repository) else { continue };
            let grant = slot.grants.last().expect("has an epoch");
            let granted = grant.open(&secrets.exchange, config.repository).expect("opens");
            let (epoch, index_key, chunk_id) = (grant.epoch, granted.index, granted.chunk_id);
            let exchange = granted.exchange;
            let identity = secrets.identity.clone();
            let signer = Signer::certified(secrets.identity.clone(), slot.certificate);
            let repository = config.repository;
            return Self { env: Env::system(), repository, signer, identity, epoch, index_key, chunk_id, exchange };
        }
        panic!("no key opens with {who}");
    }

    /// Gives the repository packs and blobs of other lengths than `init` does, in bytes.
    pub async fn set_lens(&self, store: &MemoryStore, pack_len: u32, blob_len: u32) {
        let config = store.get(names::CONFIG).await.expect("is there");
        let config = Config { pack_len, blob_len, ..Config::decode(&config).expect("decodes") };
        let bytes = Bytes::from(config.encode(&self.identity).expect("encodes"));
        store.overwrite(names::CONFIG, bytes.clone()).await;
        store.overwrite(names::CONFIG_COPY, bytes).await;
    }

    /// A snapshot's object that says this.
    pub async fn snapshot(
        &self,
        store: &MemoryStore,
        structure: &SnapshotStructure,
        body: &SnapshotBody,
    ) -> (String, Bytes) {
        let (to, seed, salt) = ((self.epoch, self.public(store).await), self.seed(), self.env.random_id());
        let bytes = Snapshot::encode(structure, body, to, &self.index_key, salt, seed, &self.signer, self.repository);
        (names::snapshot(&structure.id), bytes.expect("encodes").into())
    }

    /// Stores pages that list these entries with these children, whatever they claim; returns the root.
    pub async fn pages(&self, store: &MemoryStore, entries: Vec<(Entry, Vec<Child>)>) -> ChunkId {
        let (root, pages) = self.made(entries);
        self.store_pages(store, pages).await;
        root
    }

    /// The same, all in one page, in whose names `from` is replaced by `to`, which is as long: so they may be what no writer
    /// would write.
    pub async fn false_pages(
        &self,
        store: &MemoryStore,
        entries: Vec<(Entry, Vec<Child>)>,
        from: &[u8],
        to: &[u8],
    ) -> ChunkId {
        let namer = self.namer();
        let (_, mut pages) = self.made(entries);
        assert_eq!(pages.len(), 2, "a body and a structure");
        pages.sort_by_key(|page| page.kind != BlobKind::Body);
        let honest = pages[0].id;
        pages[0].bytes = replaced(&pages[0].bytes, from, to);
        pages[0].id = namer.name_page(&pages[0].bytes);
        pages[1].bytes = replaced(&pages[1].bytes, honest.as_bytes(), pages[0].id.as_bytes());
        pages[1].id = namer.name_page(&pages[1].bytes);
        let root = pages[1].id;
        self.store_pages(store, pages).await;
        root
    }

    fn namer(&self) -> ChunkNamer {
        ChunkNamer::new(self.chunk_id.clone().expect("a key that names chunks"))
    }

    fn made(&self, entries: Vec<(Entry, Vec<Child>)>) -> (ChunkId, Vec<MetaChunk>) {
        let namer = self.namer();
        let mut tree = TreeBuilder::new();
        for (entry, children) in entries {
            tree.push(entry, &children, &namer).expect("in order");
        }
        let mut pages = tree.take_pages();
        let (root, last) = tree.finish(&namer).expect("finishes");
        pages.extend(last);
        (root.root.expect("has entries"), pages)
    }

    async fn store_pages(&self, store: &MemoryStore, pages: Vec<MetaChunk>) {
        let seal = PackSeal::new(self.epoch, self.public(store).await, &self.index_key, self.seed(), self.repository);
        let mut seal = seal.expect("a seal");
        let mut builder = PackBuilder::new(PackClass::Metadata, &seal);
        let mut sealer = BlobSealer::new(1).expect("zstd");
        for page in pages {
            let (key, binding) = seal.next(page.kind);
            let blob = sealer.seal(&page.bytes, &key, binding).expect("seals");
            builder.push(blob, page.kind, binding.counter, &[(page.id, page.bytes.len() as u32)]);
        }
        let pack = builder.finish(&self.index_key, self.env.random_id(), self.repository).expect("finishes");
        store.overwrite(&names::pack(&pack.id), [pack.blobs.concat(), pack.tail].concat().into()).await;
        let entry = PackEntry { id: pack.id, len: pack.len, trailer: pack.trailer };
        let (name, bytes) =
            self.segment(&Segment { packs: vec![entry], replaces: Vec::new(), domain: Default::default() });
        store.overwrite(&name, bytes).await;
    }

    async fn public(&self, store: &MemoryStore) -> ExchangePublic {
        let owner = Config::decode(&store.get(names::CONFIG).await.expect("is there")).expect("decodes").owner;
        let epoch = store.get(&names::epoch(self.epoch)).await.expect("is there");
        Epoch::decode(&epoch, owner, self.repository).expect("decodes").public
    }

    fn seed(&self) -> zeroize::Zeroizing<[u8; 80]> {
        let mut seed = zeroize::Zeroizing::new([0; 80]);
        self.env.fill_random(&mut *seed);
        seed
    }

    /// A tombstone for `writer`: its name and bytes.
    #[must_use]
    pub fn dead(&self, writer: SnapshotId) -> (String, Bytes) {
        let record = Dead { writer, extension: Vec::new() };
        let bytes = record.encode(&self.index_key, self.epoch, self.env.random_id(), &self.signer, self.repository);
        (names::snapshot(&writer), bytes.expect("encodes").into())
    }

    /// What says that `writer` has ended: its name and bytes.
    #[must_use]
    pub fn ended(&self, writer: SnapshotId) -> (String, Bytes) {
        let record = Ended { writer, extension: Vec::new() };
        let bytes = record.encode(&self.index_key, self.epoch, self.env.random_id(), &self.signer, self.repository);
        (names::ended(&writer), bytes.expect("encodes").into())
    }

    /// What hides `snapshot`: its name and bytes.
    #[must_use]
    pub fn forgotten(&self, snapshot: SnapshotId) -> (String, Bytes) {
        let record = Forgotten { snapshot, extension: Vec::new() };
        let bytes = record.encode(&self.index_key, self.epoch, self.env.random_id(), &self.signer, self.repository);
        (names::forgotten(&snapshot), bytes.expect("encodes").into())
    }

    /// What holds `snapshot`: its name and bytes.
    #[must_use]
    pub fn hold(&self, snapshot: SnapshotId) -> (String, Bytes) {
        let hold = HoldId(self.env.random_id());
        let (effect, lifts, reason) = (HoldEffect::UntilLifted, Vec::new(), String::new());
        let record = Hold { hold, snapshot, effect, lifts, reason, extension: Vec::new() };
        let bytes = record.encode(&self.index_key, self.epoch, self.env.random_id(), &self.signer, self.repository);
        (names::hold(&snapshot, &hold), bytes.expect("encodes").into())
    }

    /// A list that condemns `packs`.
    #[must_use]
    pub fn condemned(&self, packs: Vec<PackId>) -> (String, Bytes) {
        let list = CondemnedId(self.env.random_id());
        let record = Condemned { list, packs, extension: Vec::new() };
        let bytes = record.encode(&self.index_key, self.epoch, self.env.random_id(), &self.signer, self.repository);
        (names::condemned(&list), bytes.expect("encodes").into())
    }

    /// Stores a pack of one blob that puts `bytes` under `id`, whatever they are, and names it in a segment.
    pub async fn lie(&self, store: &MemoryStore, kind: BlobKind, id: ChunkId, bytes: &[u8]) -> PackId {
        self.lie_before(store, PackId([0xff; 32]), &[(kind, id, bytes.to_vec())]).await
    }

    /// Stores a pack whose id is lower than `other`, with a blob for each of `lies`, and names it in a segment.
    pub async fn lie_before(
        &self,
        store: &MemoryStore,
        other: PackId,
        lies: &[(BlobKind, ChunkId, Vec<u8>)],
    ) -> PackId {
        let seal = PackSeal::new(self.epoch, self.public(store).await, &self.index_key, self.seed(), self.repository);
        let mut seal = seal.expect("a seal");
        let mut sealer = BlobSealer::new(1).expect("zstd");
        let mut blobs = Vec::new();
        for (kind, id, bytes) in lies {
            let (key, binding) = seal.next(*kind);
            let blob = sealer.seal(bytes, &key, binding).expect("seals");
            blobs.push((blob, *kind, binding.counter, vec![(*id, bytes.len() as u32)]));
        }
        let entry = self.store_before(store, other, &seal, &blobs).await;
        self.name(store, entry).await
    }

    /// Stores a pack of noise whose id is lower than that of `truth`, and a segment which says that it holds what `truth` does.
    pub async fn claim(&self, store: &MemoryStore, truth: &PackEntry) -> PackId {
        let seal = PackSeal::new(self.epoch, self.public(store).await, &self.index_key, self.seed(), self.repository);
        let trailer = &truth.trailer;
        let noise = |row: &BlobRow| {
            let (id, bytes) = (self.env.random_id(), vec![0x5a; row.sealed_len as usize]);
            let noise = bytes.iter().zip(id.iter().cycle()).map(|(byte, other)| byte ^ other).collect();
            (noise, row.kind, row.counter, trailer.chunks_of(row).to_vec())
        };
        let blobs: Vec<_> = trailer.blobs.iter().map(noise).collect();
        let stored = self.store_before(store, truth.id, &seal.expect("a seal"), &blobs).await;
        self.name(store, PackEntry { trailer: trailer.clone(), ..stored }).await
    }

    /// Stores a pack under an id lower than `other`.
    async fn store_before(
        &self,
        store: &MemoryStore,
        other: PackId,
        seal: &PackSeal,
        blobs: &[ForgedBlob],
    ) -> PackEntry {
        let class = if blobs.iter().all(|(_, kind, ..)| *kind == BlobKind::Data) {
            PackClass::Data
        } else {
            PackClass::Metadata
        };
        for _ in 0..TRIES_MAX {
            let mut builder = PackBuilder::new(class, seal);
            for (blob, kind, counter, chunks) in blobs {
                builder.push(blob.clone(), *kind, *counter, chunks);
            }
            let pack = builder.finish(&self.index_key, self.env.random_id(), self.repository).expect("finishes");
            if pack.id < other {
                store.overwrite(&names::pack(&pack.id), [pack.blobs.concat(), pack.tail].concat().into()).await;
                return PackEntry { id: pack.id, len: pack.len, trailer: pack.trailer };
            }
        }
        panic!("no pack of {TRIES_MAX} has an id before {other}");
    }

    /// Names a pack in a segment of its own.
    async fn name(&self, store: &MemoryStore, entry: PackEntry) -> PackId {
        let id = entry.id;
        let segment = Segment { packs: vec![entry], replaces: Vec::new(), domain: Default::default() };
        let (name, object) = self.segment(&segment);
        store.overwrite(&name, object).await;
        id
    }

    /// Every pack that segments name.
    pub async fn packs(&self, store: &MemoryStore) -> Vec<PackEntry> {
        let mut packs = Vec::new();
        for name in names_of(store, names::INDEX).await {
            packs.extend(self.open_segment(&store.get(&name).await.expect("is there")).packs);
        }
        packs
    }

    /// Every chunk that stored packs hold, with what each is.
    pub async fn chunks(&self, store: &MemoryStore) -> Vec<(BlobKind, ChunkId, u32)> {
        let mut found = Vec::new();
        for pack in self.packs(store).await {
            for blob in &pack.trailer.blobs {
                found.extend(pack.trailer.chunks_of(blob).iter().map(|(id, len)| (blob.kind, *id, *len)));
            }
        }
        found
    }

    /// What every blob of every pack holds, whatever still names it.
    pub async fn plaintexts(&self, store: &MemoryStore) -> Vec<Vec<u8>> {
        let mut all = Vec::new();
        let mut opener = BlobOpener::new().expect("has memory");
        for name in names_of(store, names::PACKS).await {
            let bytes = store.get(&name).await.expect("is there");
            let (rest, mark) = bytes.split_at(bytes.len() - pack::END_MARK_LEN);
            let trailer_len = pack::read_end_mark(mark).expect("ends a pack") as usize;
            let (blobs, sealed) = rest.split_at(rest.len() - trailer_len);
            let index_key = |epoch| (epoch == self.epoch).then(|| self.index_key.clone());
            let trailer = pack::read_trailer(sealed, index_key, self.repository).expect("opens");
            let mut at = 0;
            for blob in &trailer.blobs {
                let seal = trailer.seals.get(usize::from(blob.seal)).expect("is there");
                let opened = pack::open_blob_key(seal, blob, &self.index_key, self.exchange.as_ref(), self.repository);
                let (key, binding) = opened.expect("opens");
                let len = trailer.chunks_of(blob).iter().map(|(_, len)| *len as usize).sum();
                let (from, to) = (at, at + blob.sealed_len as usize);
                let mut plain = Vec::new();
                opener.open_into(&blobs[from..to], len, &key, binding, &mut plain).expect("opens");
                all.push(plain);
                at = to;
            }
        }
        all
    }

    /// What a segment's object says.
    #[must_use]
    pub fn open_segment(&self, bytes: &[u8]) -> Segment {
        let frame = pack::Frame::decode(bytes, seal::ObjectKind::Segment, self.repository).expect("decodes");
        let key = |epoch| (epoch == self.epoch).then(|| self.index_key.clone());
        Segment::open(&frame, key, self.repository).expect("opens")
    }

    /// A segment's object.
    #[must_use]
    pub fn segment(&self, segment: &Segment) -> (String, Bytes) {
        let bytes = segment.encode(&self.index_key, self.epoch, self.env.random_id(), &self.signer, self.repository);
        let bytes = bytes.expect("encodes");
        (names::segment(&pack::SegmentId::of(&bytes)), bytes.into())
    }
}

/// `bytes` with every `from` replaced by `to`; there must be one.
fn replaced(bytes: &[u8], from: &[u8], to: &[u8]) -> Vec<u8> {
    assert_eq!(from.len(), to.len());
    let (mut out, mut at, mut count) = (bytes.to_vec(), 0, 0);
    while let Some(found) = out.get(at..).and_then(|rest| rest.windows(from.len()).position(|part| part == from)) {
        out[at + found..at + found + to.len()].copy_from_slice(to);
        at += found + to.len();
        count += 1;
    }
    assert!(count > 0, "nothing to replace");
    out
}
