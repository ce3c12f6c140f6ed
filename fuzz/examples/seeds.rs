//! Writes the seeds: one small valid input for each target, from which fuzzing starts.
//!
//! ```text
//! cargo run --manifest-path fuzz/Cargo.toml --example seeds
//! ```
//!
//! Invariant: the same bytes in every run, so that a change of a seed is a change of the format.
//! Never here: inputs that were found by fuzzing; those are kept outside the repository.

use std::fs;
use std::path::Path;

use pack::manifest::{Child, EntriesBody, Entry, EntryKind, KeysBody, PageKind, Structure, Time};
use pack::*;
use seal::*;
use serde::Serialize;

const REPOSITORY: RepositoryId = RepositoryId([7; 16]);

fn id(byte: u8) -> ChunkId {
    ChunkId::from_bytes([byte; CHUNK_ID_LEN])
}

fn trailer() -> Trailer {
    let seal = SealRow { seal_id: [1; 16], epoch: 3, suite: Suite::default(), wrapped: WrappedKey([2; WRAPPED_LEN]) };
    let blob = |kind, offset, first_chunk, chunk_count, plain_len| BlobRow {
        kind,
        seal: 0,
        counter: u64::from(first_chunk),
        offset,
        sealed_len: 100,
        plain_len,
        first_chunk,
        chunk_count,
        hash: [first_chunk as u8; 32],
    };
    Trailer {
        class: PackClass::Data,
        seals: vec![seal],
        blobs: vec![blob(BlobKind::Data, 0, 0, 2, 500), blob(BlobKind::Structure, 100, 2, 1, 90)],
        chunks: vec![(id(1), 200), (id(2), 300), (id(3), 90)],
    }
}

fn segment(trailer: &[u8]) -> Vec<u8> {
    let mut table = 1u32.to_le_bytes().to_vec();
    table.extend_from_slice(&[3; 32]);
    table.extend_from_slice(&1000u64.to_le_bytes());
    table.extend_from_slice(&(trailer.len() as u32).to_le_bytes());
    table.extend_from_slice(trailer);
    table.extend_from_slice(&1u32.to_le_bytes());
    table.extend_from_slice(&[4; 32]);
    table.extend_from_slice(&[0; 16]);
    table.extend_from_slice(&0u32.to_le_bytes());
    table
}

fn entries() -> EntriesBody {
    let kinds = [
        ("a", EntryKind::File { len: 10 }),
        ("d", EntryKind::Directory),
        ("l", EntryKind::Symlink { target: b"../x".to_vec() }),
        ("d/c", EntryKind::CharDevice { major: 1, minor: 3 }),
    ];
    let entry = |(path, kind): (&str, EntryKind)| Entry {
        path: path.as_bytes().to_vec(),
        kind,
        mode: 0o644,
        uid: 1000,
        gid: 100,
        user: Some(b"anna".to_vec()),
        group: None,
        modified_at: Time { secs: 5, nanos: 6 },
        changed_at: Time::default(),
        inode: 7,
        device: 0,
        links: 1,
        xattrs: vec![(b"user.x".to_vec(), b"y".to_vec())],
        is_whole: true,
        child_count: 1,
    };
    EntriesBody { entries: kinds.map(entry).to_vec() }
}

fn structure() -> Structure {
    let children = vec![Child::body(id(1)), Child::chunk(id(2), 300), Child::hole(4096), Child::page(id(3), 1 << 40)];
    Structure { kind: PageKind::Entries, children }
}

/// A tar of one member and its end.
fn tar() -> Vec<u8> {
    let mut block = [0u8; 512];
    block[..9].copy_from_slice(b"base/5/12");
    block[124..136].copy_from_slice(b"00000020000 ");
    block[156] = b'0';
    block[148..156].fill(b' ');
    let sum: u32 = block.iter().map(|byte| u32::from(*byte)).sum();
    block[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    [block.as_slice(), &[1; 8192], &[0; 1024]].concat()
}

fn put(target: &str, name: &str, bytes: &[u8]) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus").join(target);
    fs::create_dir_all(&folder).expect("a folder");
    fs::write(folder.join(name), bytes).expect("a file");
}

fn record<T: Serialize>(record: &T) -> Vec<u8> {
    codec::encode(record).expect("encodes")
}

fn main() {
    let owner = IdentityKey::from_secret(Secret::new([1; 32]));
    let exchange = ExchangeKey::from_secret(Secret::new([2; 32]));
    keys(&owner, &exchange);
    tables();
    snapshots();
    coordination();
    sealed();
    streams();
}

fn keys(owner: &IdentityKey, exchange: &ExchangeKey) {
    let config = Config {
        repository: REPOSITORY,
        owner: owner.identity(),
        created_at: 1,
        pack_len: 64 << 20,
        blob_len: 1 << 20,
        conditional_create: true,
        extension: vec![],
    };
    put("frame", "config", &config.encode(owner).expect("encodes"));
    put("frame", "record", &record(&config));
    let certificate =
        Certificate::sign(Role::Owner, exchange.public(), owner.identity(), 1, owner, REPOSITORY).expect("signs");
    let index = Secret::new([3; 32]);
    let secrets = EpochSecrets {
        index: index.clone(),
        chunk_id: Some(index.clone()),
        chunker: None,
        exchange: Some(exchange.clone()),
    };
    let grant = Grant::seal(1, &secrets, &certificate, [5; 80].into(), REPOSITORY).expect("seals");
    let slot_secrets = SlotSecrets { exchange: exchange.clone(), identity: owner.clone(), owner: owner.identity() };
    let protector = Protector::Password { cost: KdfCost::default(), salt: [6; 16] };
    let slot = Slot {
        certificate: certificate.clone(),
        protector,
        secrets: Slot::seal_secrets(&slot_secrets, &Secret::new([1; 32]), [7; 16], REPOSITORY).expect("seals"),
        grants: vec![grant.clone()],
        created_at: 2,
        label: b"label".to_vec(),
        extension: vec![],
    };
    put("slot", "record", &record(&slot));
    let epoch = Epoch {
        number: 1,
        public: exchange.public(),
        created_at: 3,
        grants: vec![EpochGrant { to: owner.identity(), exchange: exchange.public(), grant: grant.clone() }],
        revoked: vec![certificate.clone()],
        extension: vec![],
    };
    put("epoch", "record", &record(&epoch));
    put("records", "certificate", &[vec![6], record(&certificate)].concat());
    put("records", "grant", &[vec![7], record(&grant)].concat());
    put("records", "slot-secrets", &[vec![8], record(&slot_secrets)].concat());
    put("records", "epoch-secrets", &[vec![9], record(&secrets)].concat());
}

fn tables() {
    let table = trailer().encode().expect("encodes");
    put("trailer", "table", &table);
    put("segment", "table", &segment(&table));
    let seal = PackSeal::new(
        3,
        ExchangeKey::from_secret(Secret::new([2; 32])).public(),
        &Secret::new([1; 32]),
        [8; 80].into(),
        REPOSITORY,
    );
    let mut pack = PackBuilder::new(PackClass::Data, &seal.expect("a seal"));
    pack.push(vec![1; 50], BlobKind::Data, 0, &[(id(1), 40)]);
    let pack = pack.finish(&Secret::new([1; 32]), [9; 16], REPOSITORY).expect("finishes");
    let end_mark_at = pack.tail.len() - END_MARK_LEN;
    put("pack_tail", "end-mark", &pack.tail[end_mark_at..]);
    let sealed = &pack.tail[..end_mark_at];
    put("pack_tail", "sealed", sealed);
    let plain = open_record(sealed, &Secret::new([1; 32]), REPOSITORY, ObjectKind::Trailer).expect("opens");
    put("pack_tail", "plain", &plain);
    put("structure", "entries", &structure().encode().expect("encodes"));
    let content = Structure { kind: PageKind::Content, children: vec![Child::chunk(id(1), 5), Child::hole(9)] };
    put("structure", "content", &content.encode().expect("encodes"));
    put("entries", "body", &entries().encode().expect("encodes"));
    let keys = KeysBody { first_keys: vec![b"\0a".to_vec(), b"d\0\0c".to_vec()], extension: vec![] };
    put("keys", "body", &record(&keys));
}

fn snapshots() {
    let structure = SnapshotStructure {
        id: SnapshotId([1; 16]),
        parent: Some(SnapshotId([2; 16])),
        started_at: 1,
        ended_at: 2,
        host: "host".to_owned(),
        source: "source".to_owned(),
        tags: vec!["tag".to_owned()],
        state: SnapshotState::Partial,
        keep_until: Some(3),
        components: vec![Component {
            name: "files".to_owned(),
            kind: "files".to_owned(),
            state: ComponentState::Failed,
            started_at: 1,
            ended_at: 2,
            root: Some(id(1)),
            entry_count: 1,
            content_len: 2,
            new_len: 3,
            stored_len: 4,
            extension: vec![],
        }],
        domain: [0; 16],
        extension: vec![],
    };
    put("snapshot", "structure", &record(&structure));
    let component = ComponentBody {
        roots: vec![b"/etc".to_vec()],
        command: vec![b"pg_dump".to_vec()],
        stderr: b"warning".to_vec(),
        cutter: "tar".to_owned(),
        problems: vec!["denied".to_owned()],
        facts: vec![("revision".to_owned(), "17".to_owned())],
        extension: vec![],
    };
    let body = SnapshotBody { components: vec![component], ..SnapshotBody::default() };
    put("snapshot", "body", &record(&body));
}

fn coordination() {
    let (writer, extension) = (SnapshotId([1; 16]), vec![1]);
    let announced = Announced { writer, host: "host".to_owned(), started_at: 1, extension: extension.clone() };
    let seen = Seen { writer, lists: vec![CondemnedId([2; 16])], extension: extension.clone() };
    let condemned =
        Condemned { list: CondemnedId([2; 16]), packs: vec![PackId([3; 32])], extension: extension.clone() };
    let lease = Lease { writer, renewal: 1, extension: extension.clone() };
    put("records", "announced", &[vec![0], record(&announced)].concat());
    put("records", "seen", &[vec![1], record(&seen)].concat());
    let claim = Claim { claim: ClaimId([5; 16]), host: "host".to_owned(), started_at: 1, extension: extension.clone() };
    put("records", "claim", &[vec![10], record(&claim)].concat());
    put("records", "lease", &[vec![2], record(&lease)].concat());
    put("records", "condemned", &[vec![3], record(&condemned)].concat());
    put("records", "dead", &[vec![4], record(&Dead { writer, extension: extension.clone() })].concat());
    put("records", "forgotten", &[vec![5], record(&Forgotten { snapshot: writer, extension: extension.clone() })].concat());
    let hold = Hold {
        hold: HoldId([4; 16]),
        snapshot: writer,
        effect: HoldEffect::Until(1),
        lifts: vec![HoldId([5; 16])],
        reason: "audit".to_owned(),
        extension: extension.clone(),
    };
    put("records", "hold", &[vec![11], record(&hold)].concat());
    let undeleted = Undeleted { snapshot: writer, signer: Identity([6; 32]), stored_at: 1 };
    let extended = SnapshotExtension { undeleted: Some(undeleted), extension: extension.clone() };
    put("records", "snapshot-extension", &[vec![12], record(&extended)].concat());
    let run = VerifiedRun { at: 1, is_opened: true, packs: vec![[3; 16]] };
    let damaged = vec![[5; 16]];
    let verified = Verified { record: VerifiedId([4; 16]), runs: vec![run], damaged, extension: extension.clone() };
    put("records", "ended", &[vec![14], record(&Ended { writer, extension: extension.clone() })].concat());
    put("records", "verified", &[vec![13], record(&verified)].concat());
}

/// Under other keys than the target tries, which expects that nothing opens.
fn sealed() {
    let key = Secret::new([9; 32]);
    let binding = Binding {
        suite: Suite::default(),
        repository: REPOSITORY,
        kind: ObjectKind::Data,
        seal_id: [0; 16],
        counter: 0,
    };
    let blob = BlobSealer::new(3).and_then(|mut sealer| sealer.seal(&[5; 100], &key, binding)).expect("seals");
    put("sealed", "blob", &blob);
    let record = seal_record(b"plain", &key, 3, [1; 16], REPOSITORY, ObjectKind::Segment).expect("seals");
    put("sealed", "record", &record);
    let to = ExchangeKey::from_secret(key).public();
    let letter = seal_letter(b"plain", to, 3, [4; 80].into(), REPOSITORY, ObjectKind::Grant).expect("seals");
    put("sealed", "letter", &letter);
}

fn streams() {
    let text: Vec<u8> = (0..4000u32).flat_map(|at| format!("line {}\n", at * at % 977).into_bytes()).collect();
    put("cutter", "cdc", &[[0, 7].as_slice(), &text].concat());
    put("cutter", "pages", &[[3, 1].as_slice(), &text[..2000]].concat());
    put("cutter", "tar", &[[4, 9].as_slice(), &tar()].concat());
    put("recognise", "tar", &tar()[..512]);
    put("recognise", "sqlite", b"SQLite format 3\0\x10\x00");
    put("recognise", "rdb", b"REDIS0011");
    put("recognise", "valkey", b"VALKEY080");
    put("recognise", "archive", b"PGDMP");
    put("recognise", "dump", b"--\n-- PostgreSQL database dump\n--\n");
    put("recognise", "name", b"cdc-64k");
    let mut bbolt = [0; 64];
    bbolt[16..20].copy_from_slice(&0xED0C_DAEDu32.to_le_bytes());
    bbolt[24..28].copy_from_slice(&4096u32.to_le_bytes());
    put("recognise", "bbolt", &bbolt);
}
