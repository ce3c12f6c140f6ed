//! Writes a small whole repository with fixed keys: what `docs/reader` is tested against, and what must stay readable.
//!
//! ```text
//! cargo run --package backstay-pack --example golden_repository tests/golden/v1-preview
//! ```
//!
//! Two epochs, an owner with a password and a reader with a key file, two snapshots of two components (the second
//! partial), one forgotten, and the tombstone of a writer. Content follows from [`noise`], so a test can make it again.
//!
//! Invariant: the same bytes in every run, as far as zstd gives them.
//! Never here: chunking as the engine does it; chunks are 100 bytes so that a small file has many.

use std::collections::{BTreeMap, HashSet};
use std::fs;
use std::path::PathBuf;

use pack::manifest::{Child, ContentBuilder, Entry, EntryKind, MetaChunk, Spans, Time, TreeBuilder};
use pack::*;
use seal::*;

const REPOSITORY: RepositoryId = RepositoryId([7; 16]);
const PASSWORD: &[u8] = b"correct horse battery staple";
const CHUNK_LEN: usize = 100;
const BLOB_LEN: usize = 20_000;
const STARTED_AT: i64 = 1_795_000_000_000_000_000;

/// Hands out random-looking bytes that are the same in every run.
struct Dice(u64);

impl Dice {
    fn bytes<const N: usize>(&mut self) -> [u8; N] {
        self.0 += 1;
        let mut bytes = [0; N];
        blake3::Hasher::new_derive_key("backstay golden repository")
            .update(&self.0.to_le_bytes())
            .finalize_xof()
            .fill(&mut bytes);
        bytes
    }

    fn secret(&mut self) -> Secret {
        Secret::new(self.bytes())
    }
}

/// `len` bytes that do not compress: the extended BLAKE3 of `name`.
fn noise(name: &str, len: usize) -> Vec<u8> {
    let mut bytes = vec![0; len];
    blake3::Hasher::new().update(name.as_bytes()).finalize_xof().fill(&mut bytes);
    bytes
}

/// What is being written, and with which keys.
struct World {
    root: PathBuf,
    dice: Dice,
    owner: IdentityKey,
    namer: ChunkNamer,
    epochs: BTreeMap<u32, EpochSecrets>,
    known: HashSet<ChunkId>,
}

impl World {
    fn put(&self, name: &str, bytes: &[u8]) {
        let path = self.root.join(name);
        fs::create_dir_all(path.parent().expect("a folder")).expect("a folder");
        fs::write(path, bytes).expect("a file");
    }

    fn index_key(&self, epoch: u32) -> Secret {
        self.epochs[&epoch].index.clone()
    }

    fn public(&self, epoch: u32) -> ExchangePublic {
        self.epochs[&epoch].exchange.as_ref().expect("the owner's").public()
    }
}

fn main() {
    let folder = PathBuf::from(std::env::args().nth(1).expect("a directory to write to"));
    let root = folder.join("repository");
    let mut dice = Dice(0);
    let owner = IdentityKey::from_secret(dice.secret());
    let (chunk_id, chunker) = (dice.secret(), dice.secret());
    let epochs = [1, 2].map(|number| {
        let secrets = EpochSecrets {
            index: dice.secret(),
            chunk_id: Some(chunk_id.clone()),
            chunker: Some(chunker.clone()),
            exchange: Some(ExchangeKey::from_secret(dice.secret())),
        };
        (number, secrets)
    });
    let namer = ChunkNamer::new(chunk_id);
    let mut world = World { root, dice, owner, namer, epochs: epochs.into(), known: HashSet::new() };
    keys(&mut world);
    let first = snapshot(&mut world, 1, 1, &["a small file\n", "unchanged\n"]);
    let second = snapshot(&mut world, 2, 2, &["a small file, changed\n", "unchanged\n"]);
    let third = snapshot(&mut world, 3, 2, &["forgotten\n", "unchanged\n"]);
    coordination(&mut world, &[first, second, third]);
    fs::write(folder.join("key-file"), noise("key file", 64)).expect("a key file");
}

fn keys(world: &mut World) {
    let config = Config {
        repository: REPOSITORY,
        owner: world.owner.identity(),
        created_at: STARTED_AT,
        pack_len: 16 << 20,
        blob_len: 1 << 20,
        conditional_create: true,
        extension: Vec::new(),
    };
    let config = config.encode(&world.owner).expect("encodes");
    world.put(names::CONFIG, &config);
    world.put(names::CONFIG_COPY, &config);

    let cost = KdfCost { memory_kib: 256, passes: 2, lanes: 1 };
    let salt = world.dice.bytes();
    let key = key_from_password(PASSWORD, &salt, cost).expect("derives");
    let owner = world.owner.clone();
    let owner = slot(world, Role::Owner, owner, Protector::Password { cost, salt }, &key);
    let salt = world.dice.bytes();
    let key = key_from_file(&noise("key file", 64), &salt).expect("derives");
    let identity = IdentityKey::from_secret(world.dice.secret());
    let reader = slot(world, Role::Reader, identity, Protector::KeyFile { salt }, &key);

    for number in [1, 2] {
        let to = if number == 1 { Vec::new() } else { vec![&owner, &reader] };
        let secrets = world.epochs[&number].clone();
        let grants = to.into_iter().map(|to| EpochGrant {
            to: to.identity,
            exchange: to.exchange,
            grant: Grant::seal(number, &secrets, to, world.dice.bytes().into(), REPOSITORY).expect("seals"),
        });
        let epoch = Epoch {
            number,
            grants: grants.collect(),
            public: world.public(number),
            created_at: STARTED_AT,
            revoked: Vec::new(),
            extension: Vec::new(),
        };
        let epoch = epoch.encode(&world.owner, REPOSITORY).expect("encodes");
        world.put(&names::epoch(number), &epoch);
        world.put(&names::copy_of(&names::epoch(number)), &epoch);
    }
}

/// A slot that was made in the first epoch.
fn slot(world: &mut World, role: Role, identity: IdentityKey, protector: Protector, key: &Secret) -> Certificate {
    let exchange = ExchangeKey::from_secret(world.dice.secret());
    let certificate =
        Certificate::sign(role, exchange.public(), identity.identity(), 1, &world.owner, REPOSITORY).expect("signs");
    let secrets = SlotSecrets { exchange, identity: identity.clone(), owner: world.owner.identity() };
    let grant = Grant::seal(1, &world.epochs[&1], &certificate, world.dice.bytes().into(), REPOSITORY).expect("seals");
    let label = seal_record(b"laptop", &world.index_key(1), 1, world.dice.bytes(), REPOSITORY, ObjectKind::KeySlot);
    let slot = Slot {
        certificate: certificate.clone(),
        protector,
        secrets: Slot::seal_secrets(&secrets, key, world.dice.bytes(), REPOSITORY).expect("seals"),
        grants: vec![grant],
        created_at: STARTED_AT,
        label: label.expect("seals"),
        extension: Vec::new(),
    };
    let bytes = slot.encode(&identity, REPOSITORY).expect("encodes");
    world.put(&names::key_slot(&bytes), &bytes);
    world.put(&names::copy_of(&names::key_slot(&bytes)), &bytes);
    certificate
}

/// New chunks of one kind, waiting for their blobs.
type Pending = Vec<(ChunkId, Vec<u8>)>;

fn snapshot(world: &mut World, number: u8, epoch: u32, texts: &[&str; 2]) -> SnapshotId {
    let (mut data, mut meta) = (Pending::new(), Vec::new());
    let files = component(world, "files", files(texts), &mut data, &mut meta);
    let stream = vec![(entry("dump.sql", file()), Content::Bytes(noise("dump", 7_777)))];
    let stream = component(world, "db", stream, &mut data, &mut meta);
    let index: Vec<_> =
        [pack_data(world, epoch, data), pack_metadata(world, epoch, meta)].into_iter().flatten().collect();
    let segment = Segment { packs: index, replaces: Vec::new(), domain: [0; 16] };
    let (key, salt) = (world.index_key(epoch), world.dice.bytes());
    let segment = segment.encode(&key, epoch, salt, &Signer::bare(world.owner.clone()), REPOSITORY).expect("encodes");
    world.put(&names::segment(&SegmentId::of(&segment)), &segment);

    let id = SnapshotId([number; 16]);
    let is_partial = number == 2;
    let structure = SnapshotStructure {
        id,
        parent: (number > 1).then(|| SnapshotId([number - 1; 16])),
        started_at: STARTED_AT + i64::from(number) * 86_400_000_000_000,
        ended_at: STARTED_AT + i64::from(number) * 86_400_000_000_000 + 5_000_000_000,
        host: "golden".to_owned(),
        source: "everything".to_owned(),
        tags: vec!["daily".to_owned(), "größer".to_owned()],
        state: if is_partial { SnapshotState::Partial } else { SnapshotState::Complete },
        keep_until: None,
        components: vec![files, stream],
        domain: [0; 16],
        extension: Vec::new(),
    };
    let problems = if is_partial { vec!["/root/secret: permission denied".to_owned()] } else { Vec::new() };
    let body = SnapshotBody {
        components: vec![ComponentBody { problems, ..ComponentBody::default() }, ComponentBody::default()],
        program: "golden_repository".to_owned(),
        ..SnapshotBody::default()
    };
    let (salt, seed) = (world.dice.bytes(), world.dice.bytes().into());
    let to = (epoch, world.public(epoch));
    let object =
        Snapshot::encode(&structure, &body, to, &key, salt, seed, &Signer::bare(world.owner.clone()), REPOSITORY)
            .expect("encodes");
    world.put(&names::snapshot(&id), &object);
    id
}

enum Content {
    Bytes(Vec<u8>),
    /// Bytes around a hole of a million.
    Sparse,
}

const fn file() -> EntryKind {
    EntryKind::File { len: 0 }
}

fn entry(path: &str, kind: EntryKind) -> Entry {
    let is_directory = kind == EntryKind::Directory;
    Entry {
        path: path.as_bytes().to_vec(),
        kind,
        mode: if is_directory { 0o750 } else { 0o640 },
        uid: 0,
        gid: 0,
        user: Some(b"root".to_vec()),
        group: None,
        modified_at: Time { secs: 1_700_000_000, nanos: 123_456_789 },
        changed_at: Time { secs: 1_700_000_001, nanos: 0 },
        inode: 5,
        device: 0,
        links: 1,
        xattrs: Vec::new(),
        is_whole: true,
        child_count: 0,
    }
}

fn files(texts: &[&str; 2]) -> Vec<(Entry, Content)> {
    let none = || Content::Bytes(Vec::new());
    let text = |at: usize| Content::Bytes(texts[at].as_bytes().to_vec());
    let mut linked = entry("etc/linked", file());
    (linked.links, linked.device, linked.inode) = (2, 9, 77);
    let second = Entry { path: b"usr/second-link".to_vec(), ..linked.clone() };
    let mut with_attribute = entry("etc/motd", file());
    with_attribute.xattrs = vec![(b"user.note".to_vec(), b"kept".to_vec())];
    let mut odd = entry("etc/odd", file());
    odd.path = b"etc/\xFF odd".to_vec();
    let mut files = vec![
        (entry("etc", EntryKind::Directory), none()),
        (entry("usr", EntryKind::Directory), none()),
        (entry("etc/conf.d", EntryKind::Directory), none()),
        (entry("etc/fifo", EntryKind::Fifo), none()),
        (entry("etc/hostname", EntryKind::Symlink { target: b"../usr/empty".to_vec() }), none()),
        (linked, text(1)),
        (with_attribute, text(0)),
        (odd, text(1)),
        (entry("usr/big", file()), Content::Bytes(noise("big", 123_456))),
        (entry("usr/empty", file()), none()),
        (entry("usr/repeated", file()), Content::Bytes(b"all work and no play ".repeat(500))),
        (second, text(1)),
        (entry("usr/sparse", file()), Content::Sparse),
    ];
    files.extend((0..700).map(|at| {
        let path = format!("etc/conf.d/{at:03}");
        (entry(&path, file()), Content::Bytes(path.into_bytes()))
    }));
    files.sort_by_key(|(entry, _)| entry.sort_key());
    files
}

fn component(
    world: &mut World,
    name: &str,
    files: Vec<(Entry, Content)>,
    data: &mut Pending,
    meta: &mut Vec<MetaChunk>,
) -> Component {
    let mut tree = TreeBuilder::new();
    for (mut entry, content) in files {
        let mut children = ContentBuilder::new(Spans::Content);
        let (bytes, hole) = match &content {
            Content::Bytes(bytes) => (bytes.clone(), 0),
            Content::Sparse => (noise("sparse", 2_500), 1_000_000),
        };
        for (at, chunk) in bytes.chunks(CHUNK_LEN).enumerate() {
            if hole > 0 && at == 1 {
                children.push(Child::hole(hole), &world.namer).expect("pushes");
            }
            let id = world.namer.name(chunk);
            if world.known.insert(id) {
                data.push((id, chunk.to_vec()));
            }
            children.push(Child::chunk(id, chunk.len() as u64), &world.namer).expect("pushes");
        }
        let content = children.finish(&world.namer).expect("finishes");
        meta.extend(content.pages);
        if let EntryKind::File { len } = &mut entry.kind {
            *len = bytes.len() as u64 + hole;
        }
        tree.push(entry, &content.children, &world.namer).expect("pushes");
    }
    let (root, pages) = tree.finish(&world.namer).expect("finishes");
    meta.extend(pages);
    Component {
        name: name.to_owned(),
        kind: if name == "db" { "stdin" } else { "files" }.to_owned(),
        state: if name == "db" { ComponentState::Complete } else { ComponentState::Partial },
        started_at: STARTED_AT,
        ended_at: STARTED_AT + 1,
        root: root.root,
        entry_count: root.entry_count,
        content_len: root.content_len,
        new_len: 0,
        stored_len: 0,
        extension: Vec::new(),
    }
}

fn pack_data(world: &mut World, epoch: u32, data: Pending) -> Option<PackEntry> {
    let mut blobs: Vec<(BlobKind, Pending)> = Vec::new();
    let mut len = BLOB_LEN;
    for chunk in data {
        if len >= BLOB_LEN {
            blobs.push((BlobKind::Data, Pending::new()));
            len = 0;
        }
        len += chunk.1.len();
        blobs.last_mut().expect("a blob").1.push(chunk);
    }
    pack(world, epoch, PackClass::Data, blobs)
}

fn pack_metadata(world: &mut World, epoch: u32, pages: Vec<MetaChunk>) -> Option<PackEntry> {
    let mut blobs: Vec<(BlobKind, Pending)> = Vec::new();
    for kind in [BlobKind::Body, BlobKind::Structure] {
        let new = pages.iter().filter(|page| page.kind == kind && world.known.insert(page.id));
        blobs.push((kind, new.map(|page| (page.id, page.bytes.clone())).collect()));
    }
    pack(world, epoch, PackClass::Metadata, blobs)
}

fn pack(world: &mut World, epoch: u32, class: PackClass, blobs: Vec<(BlobKind, Pending)>) -> Option<PackEntry> {
    let key = world.index_key(epoch);
    let mut seal =
        PackSeal::new(epoch, world.public(epoch), &key, world.dice.bytes().into(), REPOSITORY).expect("a seal");
    let mut builder = PackBuilder::new(class, &seal);
    let mut sealer = BlobSealer::new(3).expect("zstd");
    for (kind, chunks) in blobs.into_iter().filter(|(_, chunks)| !chunks.is_empty()) {
        let (key, binding) = seal.next(kind);
        let plain: Vec<u8> = chunks.iter().flat_map(|(_, bytes)| bytes.iter().copied()).collect();
        let ids: Vec<_> = chunks.iter().map(|(id, bytes)| (*id, bytes.len() as u32)).collect();
        builder.push(sealer.seal(&plain, &key, binding).expect("seals"), kind, binding.counter, &ids);
    }
    if builder.is_empty() {
        return None;
    }
    let finished = builder.finish(&key, world.dice.bytes(), REPOSITORY).expect("finishes");
    world.put(&names::pack(&finished.id), &[finished.blobs.concat(), finished.tail].concat());
    Some(PackEntry { id: finished.id, len: finished.len, trailer: finished.trailer })
}

fn coordination(world: &mut World, snapshots: &[SnapshotId; 3]) {
    let (key, owner) = (world.index_key(2), Signer::bare(world.owner.clone()));
    let mut put = |name: String, encode: &dyn Fn(SealId) -> Result<Vec<u8>, PackError>| {
        let salt = world.dice.bytes();
        world.put(&name, &encode(salt).expect("encodes"));
    };
    let [_, running, forgotten] = *snapshots;
    let dead = SnapshotId([9; 16]);
    let extension = Vec::new;
    put(names::forgotten(&forgotten), &|salt| {
        Forgotten { snapshot: forgotten, extension: extension() }.encode(&key, 2, salt, &owner, REPOSITORY)
    });
    put(names::snapshot(&dead), &|salt| {
        Dead { writer: dead, extension: extension() }.encode(&key, 2, salt, &owner, REPOSITORY)
    });
    put(names::announced(&running), &|salt| {
        let announced =
            Announced { writer: running, host: "golden".to_owned(), started_at: STARTED_AT, extension: extension() };
        announced.encode(&key, 2, salt, &owner, REPOSITORY)
    });
    let list = CondemnedId([8; 16]);
    put(names::seen(&running), &|salt| {
        Seen { writer: running, lists: vec![list], extension: extension() }.encode(&key, 2, salt, &owner, REPOSITORY)
    });
    put(names::lease(&running, 1), &|salt| {
        Lease { writer: running, renewal: 1, extension: extension() }.encode(&key, 2, salt, &owner, REPOSITORY)
    });
    put(names::condemned(&list), &|salt| {
        Condemned { list, packs: Vec::new(), extension: extension() }.encode(&key, 2, salt, &owner, REPOSITORY)
    });
}
