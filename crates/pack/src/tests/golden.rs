//! Bytes that never change. A change here is a change of the format: see `docs/FORMAT.md`, section 16.
//!
//! Invariant: short things stand here whole, longer ones by their BLAKE3; nothing here went through zstd.
//! Never here: what the bytes mean.

use super::samples::{self, EPOCH, REPOSITORY, SALT, chunk_id, namer};
use crate::manifest::{EntryKind, Spans, TreeBuilder, sort_key};
use crate::*;

#[track_caller]
fn is(bytes: &[u8], expected: &str) {
    assert_eq!(hex::encode(bytes), expected.split_whitespace().collect::<String>());
}

#[track_caller]
fn hashes_to(bytes: &[u8], expected: &str) {
    assert_eq!(blake3::hash(bytes).to_hex().as_str(), expected);
}

#[test]
fn golden_names() {
    assert_eq!(names::key_slot(b"slot"), "keys/ead8f82aa7df1a432472f07c3f0d2ada094caaa5a04c415adc03c86b64ffff0d");
    assert_eq!(names::epoch(3), "epochs/0000000003");
    assert_eq!(names::pack(&PackId([0xAB; 32])), format!("packs/ab/{}", "ab".repeat(32)));
    assert_eq!(names::segment(&SegmentId([1; 32])), format!("index/{}", "01".repeat(32)));
    let id = SnapshotId([2; 16]);
    assert_eq!(names::snapshot(&id), format!("snapshots/{}", "02".repeat(16)));
    assert_eq!(names::forgotten(&id), format!("forgotten/{}", "02".repeat(16)));
    assert_eq!(names::hold(&id, &HoldId([3; 16])), format!("holds/{}/{}", "02".repeat(16), "03".repeat(16)));
    assert_eq!(names::announced(&id), format!("writers/{}/announced", "02".repeat(16)));
    assert_eq!(names::seen(&id), format!("writers/{}/seen", "02".repeat(16)));
    assert_eq!(names::ended(&id), format!("writers/{}/ended", "02".repeat(16)));
    assert_eq!(names::lease(&id, 7), format!("writers/{}/lease-000007", "02".repeat(16)));
    assert_eq!(names::condemned(&CondemnedId([3; 16])), format!("condemned/{}", "03".repeat(16)));
    assert_eq!(names::verified(&VerifiedId([4; 16])), format!("checks/{}", "04".repeat(16)));
}

#[test]
fn golden_records() {
    hashes_to(
        &codec::encode(&samples::config()).expect("encodes"),
        "d042f7a61a17e6fea1a7ec1f440d93bfcfb6ba0f1a3dc2e97755e02d7e165b97",
    );
    hashes_to(
        &codec::encode(&samples::certificate(Role::Maintenance)).expect("encodes"),
        "798c55abd32ee38cc7ebb7807e9b8d6955eabb6272e407af163d4d38431cdf37",
    );
    hashes_to(
        &codec::encode(&samples::slot(Role::Owner)).expect("encodes"),
        "3fa8776520e7ca96fb00c3fc3e2eecb6a0d68a73443f1043e63166cc86f5b99a",
    );
    hashes_to(
        &codec::encode(&samples::slot_secrets()).expect("encodes"),
        "cc3dc9e606768b8fe33260bf68fa283aa40220254c2adf60d180954512375f1e",
    );
    hashes_to(
        &codec::encode(&samples::epoch_secrets()).expect("encodes"),
        "a008b0003893f7c72df9609e1b041fba281c9bd1f4179421e72490ca54378108",
    );
    hashes_to(
        &codec::encode(&samples::epoch()).expect("encodes"),
        "23458d47e7f27791b66bf324d8d2239649f0b526cbf0692c03735d9afb25ed62",
    );
    hashes_to(
        &codec::encode(&samples::snapshot_structure()).expect("encodes"),
        "23b28c0dd4eb8af5987baf080fc56d835656abad95392760a1ba9a02b5b779c2",
    );
    hashes_to(
        &codec::encode(&samples::snapshot_body()).expect("encodes"),
        "21f41d076c401f303b0f99f91090b207c0347f692c03be5be67c037a06784482",
    );
    hashes_to(
        &codec::encode(&samples::announced()).expect("encodes"),
        "d1921732b312bb44b47aaa212c3f285fe5bf2b54eea0b96f505ecf91816cc02a",
    );
    is(
        &codec::encode(&samples::seen()).expect("encodes"),
        "
         5d5d5d5d5d5d5d5d5d5d5d5d5d5d5d5d0200000000000000010101010101010101010101010101010202020202020202
         0202020202020202010000000000000002",
    );
    is(
        &codec::encode(&samples::lease()).expect("encodes"),
        "5d5d5d5d5d5d5d5d5d5d5d5d5d5d5d5d0c000000010000000000000003",
    );
    is(&codec::encode(&samples::ended()).expect("encodes"), "5d5d5d5d5d5d5d5d5d5d5d5d5d5d5d5d010000000000000008");
    is(
        &codec::encode(&samples::condemned()).expect("encodes"),
        "
         0303030303030303030303030303030301000000000000009a9a9a9a9a9a9a9a9a9a9a9a9a9a9a9a9a9a9a9a9a9a9a9a
         9a9a9a9a9a9a9a9a010000000000000004",
    );
    is(&codec::encode(&samples::dead()).expect("encodes"), "5d5d5d5d5d5d5d5d5d5d5d5d5d5d5d5d010000000000000005");
    is(&codec::encode(&samples::forgotten()).expect("encodes"), "5d5d5d5d5d5d5d5d5d5d5d5d5d5d5d5d010000000000000006");
    is(
        &codec::encode(&samples::verified()).expect("encodes"),
        "
         c3c3c3c3c3c3c3c3c3c3c3c3c3c3c3c3020000000000000005000000000000000102000000000000009a9a9a9a9a9a9a9a9a9a9a9a9a9a9a9a
         9b9b9b9b9b9b9b9b9b9b9b9b9b9b9b9bffffffffffffffff0001000000000000009c9c9c9c9c9c9c9c9c9c9c9c9c9c9c9c
         01000000000000009d9d9d9d9d9d9d9d9d9d9d9d9d9d9d9d010000000000000007",
    );
    is(
        &codec::encode(&samples::keys()).expect("encodes"),
        "020000000000000002000000000000000061040000000000000064000063010000000000000006",
    );
}

#[test]
fn golden_holds_and_extensions() {
    is(
        &codec::encode(&samples::hold()).expect("encodes"),
        "
         40404040404040404040404040404040 5d5d5d5d5d5d5d5d5d5d5d5d5d5d5d5d 02000000 0500000000000000
         0200000000000000 41414141414141414141414141414141 5d5d5d5d5d5d5d5d5d5d5d5d5d5d5d5d
         0500000000000000 6175646974 0100000000000000 07",
    );
    is(
        &samples::snapshot_extension().encode().expect("encodes"),
        "
         01 5d5d5d5d5d5d5d5d5d5d5d5d5d5d5d5d 1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d
         0600000000000000
         01 09090909090909090909090909090909 5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e
         0100000000000000 5f5f5f5f5f5f5f5f5f5f5f5f5f5f5f5f
         01 0100000000000000 60606060606060606060606060606060
         1e1e1e1e1e1e1e1e1e1e1e1e1e1e1e1e1e1e1e1e1e1e1e1e1e1e1e1e1e1e1e1e 0700000000000000
         0100000000000000 08",
    );
}

#[test]
fn golden_tables() {
    hashes_to(
        &samples::trailer().encode().expect("encodes"),
        "d32f786ade735bd5f8e26f1a252fa7922231c2144933165ae9626e025149340e",
    );
    is(
        &samples::structure().encode().expect("encodes"),
        "
         0104000000020001030034000500120000000000000000000000000000000001000000000000000000cbdc1ac0a6897c
         18c50afd7f26a593c9e3f9b9df1b5ec09e4a9689927e1bed0bfd81e955140579ca000000000000000000000000000000
         0000000000718858c08d0b9651703ca792f5f25b8dd1a1bdfb00000000",
    );
    hashes_to(
        &samples::entries().encode().expect("encodes"),
        "59a0533c2f61cf1c2da623688d3961cb373fb353f0eb8e9a1e13b9b88fd20e11",
    );
    is(&sort_key(b"a/b/c"), "61006200 00 63");
}

#[test]
fn golden_frames() {
    hashes_to(
        &samples::config().encode(&samples::owner()).expect("encodes"),
        "340df2398d4befe1208fc3cd4ed7eb027b56ab31c322d936ef0fba7ab2e7b2cf",
    );
    hashes_to(
        &samples::slot(Role::Owner).encode(&samples::writer(), REPOSITORY).expect("encodes"),
        "ad02412ccf13aab08f0bcbf6d6143b844bb849fa3b8f388e74d50d44b4efbe85",
    );
    hashes_to(
        &samples::epoch().encode(&samples::owner(), REPOSITORY).expect("encodes"),
        "718fa49369e757fbac13afc46f32b9e3ab02227d83d6088fd5f0bb69878531ab",
    );
    hashes_to(&samples::snapshot_object(), "66725aa5e1af2fed3a512299ad733ad81ef2bb207db90c0b8c207833ea9acd6d");
    let dead = samples::dead().encode(&samples::index_key(), EPOCH, SALT, &samples::signer(), REPOSITORY);
    is(
        &dead.expect("encodes"),
        "
         424b535401000c013e000000010300000051515151515151515151515151515151a216e192f81c57b5af79829ba02c4f
         20654520a6d4c975c765022d130b4cf02a0f709b9ff14a052204a0000000010000000000000000000000000000000000
         00007e81e916e3afcdb31ef74d8db923f2ba15b82a1aa6594ea228dcdf27d7b54f6c66be7e332c7a453332bd9d0a7f7d
         b055f5c5ef1a06ada66d98b39fb6810c473a020000004000000000000000f4ce671b0a9b313200fff913ec07f82de2d7
         a1eb969e795191ed46318b0907896e4aa9355f2a28eb174d5a1efd02622e98eb44ebea60727496247a258af9eb0466be
         7e332c7a453332bd9d0a7f7db055f5c5ef1a06ada66d98b39fb6810c473a0520cf0c52d86ddaf188a423da7171d9b992
         e85656a270224c5530ca6750986138e80325ff6b921bc2179c18d83ecdbe6bd1a62846220bf9d41e14e0a8cb4b09",
    );
}

#[test]
fn golden_pages() {
    let mut content = manifest::ContentBuilder::new(Spans::Content);
    let mut fixed = manifest::ContentBuilder::new(Spans::Fixed);
    let mut tree = TreeBuilder::new();
    for at in 0..5000u64 {
        content.push(manifest::Child::chunk(chunk_id(at), at + 1), &namer()).expect("pushes");
        fixed.push(manifest::Child::chunk(chunk_id(at), 8192), &namer()).expect("pushes");
        let entry = samples::entry(&format!("{at:05}"), EntryKind::File { len: 1 });
        tree.push(entry, &[manifest::Child::chunk(chunk_id(at), 1)], &namer()).expect("pushes");
    }
    let ids = |content: manifest::Content| {
        content.children.iter().map(|child| child.id.to_string()).collect::<Vec<_>>().join(" ")
    };
    hashes_to(
        ids(content.finish(&namer()).expect("finishes")).as_bytes(),
        "6dc538c4a187e10b9a6802b84339db6f12a960ef110d1d08d41d5366ab47c2d5",
    );
    hashes_to(
        ids(fixed.finish(&namer()).expect("finishes")).as_bytes(),
        "df3a1d0ff8b4de87d489439f8122843e36450fcaa48b53538405649af5e9247b",
    );
    let (root, _) = tree.finish(&namer()).expect("finishes");
    assert_eq!(root.root.expect("a root").to_string(), "f09fd73edf084921dd00e17cc823cdae865c4b69");
}

#[test]
fn golden_numbers_of_kinds_and_roles() {
    use seal::ObjectKind::*;
    let kinds = [
        Data,
        Body,
        Structure,
        Trailer,
        Segment,
        SnapshotStructure,
        SnapshotBody,
        WriterAnnounced,
        WriterSeen,
        WriterLease,
        Condemned,
        Dead,
        Forgotten,
        Grant,
        KeySlot,
        SealKey,
        Config,
        Epoch,
        Certificate,
        Claim,
        Hold,
        Verified,
        WriterEnded,
    ];
    assert_eq!(kinds.map(|kind| kind as u8).to_vec(), (1..=23).collect::<Vec<u8>>());
    let roles = [Role::Owner, Role::Writer, Role::Reader, Role::Maintenance];
    assert_eq!(roles.map(|role| codec::encode(&role).expect("encodes")[0]), [0, 1, 2, 3]);
    assert_eq!([BlobKind::Data as u8, BlobKind::Body as u8, BlobKind::Structure as u8], [1, 2, 3]);
    assert_eq!((padded_len(127), padded_len(1_000_001), padded_len(64 << 20)), (127, 1_003_520, 64 << 20));
}
