//! One of each object, the same in every run.
//!
//! Invariant: no field has its default, where one that has could be lost unnoticed.
//! Never here: assertions.

use seal::{
    ChunkId, ChunkNamer, ExchangeKey, Identity, IdentityKey, KdfCost, LetterSeed, ObjectKind, RepositoryId, Secret,
    Suite, WrappedKey,
};

use crate::manifest::{Child, EntriesBody, Entry, EntryKind, KeysBody, PageKind, Structure, Time};
use crate::*;

pub(super) const REPOSITORY: RepositoryId = RepositoryId([7; 16]);
pub(super) const EPOCH: u32 = 3;
pub(super) const SALT: [u8; 16] = [0x51; 16];

pub(super) fn secret(byte: u8) -> Secret {
    Secret::new([byte; 32])
}

pub(super) fn owner() -> IdentityKey {
    IdentityKey::from_secret(secret(0x0A))
}

pub(super) fn writer() -> IdentityKey {
    IdentityKey::from_secret(secret(0x0B))
}

/// The writer, with the owner's certificate.
pub(super) fn signer() -> Signer {
    Signer::certified(writer(), certificate(Role::Writer))
}

pub(super) fn index_key() -> Secret {
    secret(0x1D)
}

/// The index key, for the one epoch there is.
pub(super) fn index_keys(epoch: u32) -> Option<Secret> {
    (epoch == EPOCH).then(index_key)
}

pub(super) fn exchange() -> ExchangeKey {
    ExchangeKey::from_secret(secret(0x0E))
}

pub(super) fn slot_exchange() -> ExchangeKey {
    ExchangeKey::from_secret(secret(0x0F))
}

pub(super) fn namer() -> ChunkNamer {
    ChunkNamer::new(secret(0x0C))
}

pub(super) fn seed(byte: u8) -> LetterSeed {
    LetterSeed::new(std::array::from_fn(|at| byte.wrapping_add(at as u8)))
}

pub(super) fn chunk_id(number: u64) -> ChunkId {
    namer().name(&number.to_le_bytes())
}

pub(super) fn config() -> Config {
    Config {
        repository: REPOSITORY,
        owner: owner().identity(),
        created_at: 1_795_000_000_000_000_001,
        pack_len: 64 << 20,
        blob_len: 1 << 20,
        conditional_create: true,
        extension: vec![1, 2, 3],
    }
}

pub(super) fn epoch_secrets() -> EpochSecrets {
    EpochSecrets {
        index: index_key(),
        chunk_id: Some(secret(0x0C)),
        chunker: Some(secret(0x2C)),
        exchange: Some(exchange()),
    }
}

pub(super) fn certificate(role: Role) -> Certificate {
    Certificate::sign(role, slot_exchange().public(), writer().identity(), 2, &owner(), REPOSITORY).expect("signs")
}

pub(super) fn slot_secrets() -> SlotSecrets {
    SlotSecrets { exchange: slot_exchange(), identity: writer(), owner: owner().identity() }
}

pub(super) fn grant(role: Role) -> Grant {
    Grant::seal(EPOCH, &epoch_secrets(), &certificate(role), seed(1), REPOSITORY).expect("seals")
}

pub(super) fn slot(role: Role) -> Slot {
    Slot {
        certificate: certificate(role),
        protector: Protector::Password { cost: KdfCost { memory_kib: 64, passes: 2, lanes: 1 }, salt: [0x5A; 16] },
        secrets: Slot::seal_secrets(&slot_secrets(), &secret(0x61), SALT, REPOSITORY).expect("seals"),
        grants: vec![grant(role)],
        created_at: -5,
        label: b"label".to_vec(),
        extension: vec![9],
    }
}

pub(super) fn epoch() -> Epoch {
    Epoch {
        number: EPOCH,
        public: exchange().public(),
        created_at: 12,
        grants: vec![EpochGrant {
            to: writer().identity(),
            exchange: slot_exchange().public(),
            grant: grant(Role::Reader),
        }],
        revoked: vec![certificate(Role::Writer)],
        extension: vec![8, 8],
    }
}

pub(super) fn trailer() -> Trailer {
    let seals = [1u8, 2].map(|n| SealRow {
        seal_id: [n; 16],
        epoch: u32::from(n),
        suite: Suite::default(),
        wrapped: WrappedKey([n + 16; 80]),
    });
    let blob = |kind, seal, counter, offset, sealed_len, plain_len, first_chunk, chunk_count| BlobRow {
        kind,
        seal,
        counter,
        offset,
        sealed_len,
        plain_len,
        first_chunk,
        chunk_count,
        hash: [counter as u8; 32],
    };
    Trailer {
        class: PackClass::Metadata,
        seals: seals.to_vec(),
        blobs: vec![
            blob(BlobKind::Data, 0, 0, 0, 317, 300, 0, 1),
            blob(BlobKind::Body, 1, 7, 317, 100, 70_000, 1, 2),
            blob(BlobKind::Structure, 0, 1, 417, 18, 1, 3, 1),
        ],
        chunks: vec![(chunk_id(1), 300), (chunk_id(2), 4464), (chunk_id(3), 65_536), (chunk_id(4), 1)],
    }
}

pub(super) fn segment() -> Segment {
    Segment {
        packs: vec![
            PackEntry { id: PackId([0x9A; 32]), len: 1234, trailer: trailer() },
            PackEntry {
                id: PackId([0x9B; 32]),
                len: 1 << 33,
                trailer: Trailer { class: PackClass::Data, seals: vec![], blobs: vec![], chunks: vec![] },
            },
        ],
        replaces: vec![SegmentId([0x3C; 32])],
        domain: [4; 16],
    }
}

pub(super) fn structure() -> Structure {
    Structure {
        kind: PageKind::Entries,
        children: vec![
            Child::body(chunk_id(1)),
            Child::chunk(chunk_id(2), 0x1234),
            Child::hole(1 << 40),
            Child::page(chunk_id(3), 5),
        ],
    }
}

pub(super) fn entry(path: &str, kind: EntryKind) -> Entry {
    Entry {
        path: path.as_bytes().to_vec(),
        kind,
        mode: 0o4755,
        uid: 1000,
        gid: 100,
        user: Some(b"anna".to_vec()),
        group: None,
        modified_at: Time { secs: -1, nanos: 999_999_999 },
        changed_at: Time { secs: 1_795_000_000, nanos: 1 },
        inode: 77,
        device: 9,
        links: 2,
        xattrs: vec![(b"user.note".to_vec(), vec![0, 255])],
        is_whole: true,
        child_count: 1,
    }
}

pub(super) fn entries() -> EntriesBody {
    let kinds = [
        ("a", EntryKind::File { len: 10 }),
        ("d", EntryKind::Directory),
        ("l", EntryKind::Symlink { target: b"../x".to_vec() }),
        ("p", EntryKind::Fifo),
        ("s", EntryKind::Socket),
        ("d/c", EntryKind::CharDevice { major: 1, minor: 3 }),
        ("d/e", EntryKind::BlockDevice { major: 8, minor: 1 }),
        ("d/f/g", EntryKind::File { len: 0 }),
    ];
    EntriesBody { entries: kinds.map(|(path, kind)| entry(path, kind)).to_vec() }
}

pub(super) fn keys() -> KeysBody {
    KeysBody { first_keys: vec![b"\0a".to_vec(), b"d\0\0c".to_vec()], extension: vec![6] }
}

pub(super) fn snapshot_structure() -> SnapshotStructure {
    SnapshotStructure {
        id: SnapshotId([0x5D; 16]),
        parent: Some(SnapshotId([0x5C; 16])),
        started_at: 1,
        ended_at: 2,
        host: "host".to_owned(),
        source: "web".to_owned(),
        tags: vec!["daily".to_owned(), "größer".to_owned()],
        state: SnapshotState::Partial,
        keep_until: Some(3),
        components: vec![Component {
            name: "files".to_owned(),
            kind: "files".to_owned(),
            state: ComponentState::Partial,
            started_at: 11,
            ended_at: 12,
            root: Some(chunk_id(5)),
            entry_count: 6,
            content_len: 7,
            new_len: 8,
            stored_len: 9,
            extension: vec![7],
        }],
        domain: [4; 16],
        extension: vec![1],
    }
}

pub(super) fn snapshot_body() -> SnapshotBody {
    SnapshotBody {
        components: vec![ComponentBody {
            roots: vec![b"/etc".to_vec()],
            command: vec![b"pg_dump".to_vec(), b"-Fc".to_vec()],
            stderr: b"warning".to_vec(),
            cutter: "cdc-64k".to_owned(),
            problems: vec!["/etc/shadow: permission denied".to_owned()],
            facts: vec![("revision".to_owned(), "17".to_owned())],
            extension: vec![3],
        }],
        description: "before the upgrade".to_owned(),
        program: "backstay 0.1.0".to_owned(),
        extension: vec![2],
    }
}

pub(super) fn snapshot_object() -> Vec<u8> {
    let to = (EPOCH, exchange().public());
    let (structure, body) = (snapshot_structure(), snapshot_body());
    Snapshot::encode(&structure, &body, to, &index_key(), SALT, seed(2), &signer(), REPOSITORY).expect("encodes")
}

pub(super) fn announced() -> Announced {
    Announced { writer: SnapshotId([0x5D; 16]), host: "host".to_owned(), started_at: 4, extension: vec![1] }
}

pub(super) fn seen() -> Seen {
    Seen { writer: SnapshotId([0x5D; 16]), lists: vec![CondemnedId([1; 16]), CondemnedId([2; 16])], extension: vec![2] }
}

pub(super) fn lease() -> Lease {
    Lease { writer: SnapshotId([0x5D; 16]), renewal: 12, extension: vec![3] }
}

pub(super) fn ended() -> Ended {
    Ended { writer: SnapshotId([0x5D; 16]), extension: vec![8] }
}

pub(super) fn condemned() -> Condemned {
    Condemned { list: CondemnedId([3; 16]), packs: vec![PackId([0x9A; 32])], extension: vec![4] }
}

pub(super) fn dead() -> Dead {
    Dead { writer: SnapshotId([0x5D; 16]), extension: vec![5] }
}

pub(super) fn forgotten() -> Forgotten {
    Forgotten { snapshot: SnapshotId([0x5D; 16]), extension: vec![6] }
}

pub(super) fn claim() -> Claim {
    Claim { claim: ClaimId([0xC1; 16]), host: "web1".into(), started_at: 1_700_000_000_000_000_000, extension: vec![7] }
}

pub(super) fn verified() -> Verified {
    let run =
        |at, is_opened, packs: &[u8]| VerifiedRun { at, is_opened, packs: packs.iter().map(|id| [*id; 16]).collect() };
    Verified {
        record: VerifiedId([0xC3; 16]),
        runs: vec![run(5, true, &[0x9A, 0x9B]), run(-1, false, &[0x9C])],
        damaged: vec![[0x9D; 16]],
        extension: vec![7],
    }
}

pub(super) fn hold() -> Hold {
    Hold {
        hold: HoldId([0x40; 16]),
        snapshot: SnapshotId([0x5D; 16]),
        effect: HoldEffect::Until(5),
        lifts: vec![HoldId([0x41; 16]), HoldId([0x5D; 16])],
        reason: "audit".to_owned(),
        extension: vec![7],
    }
}

pub(super) fn snapshot_extension() -> SnapshotExtension {
    let undeleted = Undeleted { snapshot: SnapshotId([0x5D; 16]), signer: Identity([0x1D; 32]), stored_at: 6 };
    let origin = Origin { repository: [9; 16], snapshot: SnapshotId([0x5E; 16]), copied: vec![SnapshotId([0x5F; 16])] };
    let rewritten = Rewritten { from: vec![SnapshotId([0x60; 16])], signer: Identity([0x1E; 32]), stored_at: 7 };
    SnapshotExtension {
        undeleted: Some(undeleted),
        origin: Some(origin),
        rewritten: Some(rewritten),
        extension: vec![8],
    }
}

/// Every frame there is, with its kind and signer.
pub(super) fn frames() -> Vec<(ObjectKind, Identity, Vec<u8>)> {
    let (key, writer) = (index_key(), writer());
    macro_rules! record {
        ($kind:ident, $record:expr) => {
            (
                ObjectKind::$kind,
                writer.identity(),
                $record.encode(&key, EPOCH, SALT, &signer(), REPOSITORY).expect("encodes"),
            )
        };
    }
    vec![
        (ObjectKind::Config, owner().identity(), config().encode(&owner()).expect("encodes")),
        (ObjectKind::KeySlot, writer.identity(), slot(Role::Owner).encode(&writer, REPOSITORY).expect("encodes")),
        (ObjectKind::Epoch, owner().identity(), epoch().encode(&owner(), REPOSITORY).expect("encodes")),
        (ObjectKind::SnapshotStructure, writer.identity(), snapshot_object()),
        record!(Segment, segment()),
        record!(WriterAnnounced, announced()),
        record!(WriterSeen, seen()),
        record!(WriterLease, lease()),
        record!(WriterEnded, ended()),
        record!(Condemned, condemned()),
        record!(Dead, dead()),
        record!(Forgotten, forgotten()),
        record!(Claim, claim()),
        record!(Hold, hold()),
        record!(Verified, verified()),
    ]
}
