//! Whatever is written is read back, and what was read encodes to the same bytes.
//!
//! Invariant: every record and table of the format is drawn here.
//! Never here: damage.

use std::fmt::Debug;

use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use seal::{ChunkId, ExchangePublic, Identity, KdfCost, Suite, WrappedKey};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::samples;
use crate::manifest::{Child, ChildKind, EntriesBody, Entry, EntryKind, KeysBody, PageKind, Structure, Time};
use crate::*;

/// Encodes and decodes, both ways.
fn returns<T: Serialize + DeserializeOwned + PartialEq + Debug>(record: &T) -> Result<(), TestCaseError> {
    let bytes = codec::encode(record).expect("encodes");
    let back: T = codec::decode(&bytes).expect("decodes");
    prop_assert_eq!(&back, record);
    prop_assert_eq!(codec::encode(&back).expect("encodes"), bytes.clone());
    prop_assert!(codec::decode::<T>(&[bytes.as_slice(), &[0]].concat()).is_err(), "takes a byte too many");
    if let Some((_, short)) = bytes.split_last() {
        prop_assert!(codec::decode::<T>(short).is_err(), "takes a byte too few");
    }
    Ok(())
}

fn bytes() -> impl Strategy<Value = Vec<u8>> {
    vec(any::<u8>(), 0..40)
}

fn text() -> impl Strategy<Value = String> {
    proptest::string::string_regex("[a-zä€ ]{0,12}").expect("a pattern")
}

fn chunk_id() -> impl Strategy<Value = ChunkId> {
    any::<[u8; 20]>().prop_map(ChunkId::from_bytes)
}

fn role() -> impl Strategy<Value = Role> {
    prop_oneof![Just(Role::Owner), Just(Role::Writer), Just(Role::Reader), Just(Role::Maintenance)]
}

prop_compose! {
    fn certificate()(
        role in role(), domain: [u8; 16], exchange: [u8; 32], identity: [u8; 32], since_epoch: u32, signature in bytes(),
    ) -> Certificate {
        let (exchange, identity) = (ExchangePublic(exchange), Identity(identity));
        Certificate { role, domain, exchange, identity, since_epoch, signature }
    }
}

prop_compose! {
    fn grant()(epoch: u32, letter in bytes()) -> Grant {
        Grant { epoch, letter }
    }
}

fn protector() -> impl Strategy<Value = Protector> {
    prop_oneof![
        any::<[u8; 16]>().prop_map(|salt| Protector::KeyFile { salt }),
        any::<([u8; 16], u32, u32, u32)>().prop_map(|(salt, memory_kib, passes, lanes)| Protector::Password {
            cost: KdfCost { memory_kib, passes, lanes },
            salt,
        }),
    ]
}

fn component_state() -> impl Strategy<Value = ComponentState> {
    prop_oneof![Just(ComponentState::Complete), Just(ComponentState::Partial), Just(ComponentState::Failed)]
}

prop_compose! {
    fn component()(
        name in text(), kind in text(), root in option::of(chunk_id()), counts: (u64, u64, u64, u64),
        times: (i64, i64), state in component_state(), extension in bytes(),
    ) -> Component {
        let (entry_count, content_len, new_len, stored_len) = counts;
        let (started_at, ended_at) = times;
        Component { name, kind, state, started_at, ended_at, root, entry_count, content_len, new_len, stored_len, extension }
    }
}

prop_compose! {
    fn component_body()(
        roots in vec(bytes(), 0..4), command in vec(bytes(), 0..4), stderr in bytes(), cutter in text(),
        problems in vec(text(), 0..4), facts in vec((text(), text()), 0..4), extension in bytes(),
    ) -> ComponentBody {
        ComponentBody { roots, command, stderr, cutter, problems, facts, extension }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn keys_round_trip(
        certificate in certificate(), grants in vec(grant(), 0..4), protector in protector(), created_at: i64,
        texts in vec(bytes(), 4), secrets: [u8; 32], pack_len: u32, flag: bool,
    ) {
        let [sealed, label, extension, _] = <[_; 4]>::try_from(texts).expect("four");
        returns(&certificate)?;
        returns(&Epoch {
            number: pack_len,
            public: certificate.exchange,
            created_at,
            grants: grants.iter().cloned().map(|grant| EpochGrant {
                to: certificate.identity, exchange: certificate.exchange, grant,
            }).collect(),
            revoked: vec![certificate.clone()],
            extension: extension.clone(),
        })?;
        returns(&Config {
            repository: seal::RepositoryId(certificate.domain),
            owner: certificate.identity,
            created_at,
            pack_len,
            blob_len: !pack_len,
            conditional_create: flag,
            extension: extension.clone(),
        })?;
        returns(&Slot { certificate, protector, secrets: sealed, grants, created_at, label, extension })?;
        let secret = seal::Secret::new(secrets);
        let secrets = EpochSecrets {
            index: secret.clone(),
            chunk_id: flag.then(|| secret.clone()),
            chunker: (!flag).then(|| secret.clone()),
            exchange: Some(seal::ExchangeKey::from_secret(secret)),
        };
        let encoded = codec::encode(&secrets).expect("encodes");
        let back: EpochSecrets = codec::decode(&encoded).expect("decodes");
        prop_assert_eq!(codec::encode(&back).expect("encodes"), encoded);
    }

    #[test]
    fn snapshots_round_trip(
        ids: ([u8; 16], [u8; 16], bool), times: (i64, i64, i64), texts in vec(text(), 3), tags in vec(text(), 0..4),
        components in vec(component(), 0..4), bodies in vec(component_body(), 0..4), extension in bytes(),
    ) {
        let (id, domain, flag) = ids;
        returns(&SnapshotStructure {
            id: SnapshotId(id),
            parent: flag.then_some(SnapshotId(domain)),
            started_at: times.0,
            ended_at: times.1,
            host: texts[0].clone(),
            source: texts[1].clone(),
            tags,
            state: if flag { SnapshotState::Complete } else { SnapshotState::Partial },
            keep_until: (!flag).then_some(times.2),
            components,
            domain,
            extension: extension.clone(),
        })?;
        let description = texts[2].clone();
        returns(&SnapshotBody { components: bodies, description, program: texts[0].clone(), extension })?;
    }

    #[test]
    fn coordination_round_trips(
        id: [u8; 16], ids in vec(any::<[u8; 16]>(), 0..5), packs in vec(any::<[u8; 32]>(), 0..5), host in text(),
        number: (i64, u32), extension in bytes(), runs in vec(any::<(i64, bool, Vec<[u8; 16]>)>(), 0..4),
    ) {
        let runs = runs.into_iter().map(|(at, is_opened, packs)| VerifiedRun { at, is_opened, packs }).collect();
        returns(&Verified { record: VerifiedId(id), runs, damaged: ids.clone(), extension: extension.clone() })?;
        let (writer, lists) = (SnapshotId(id), ids.into_iter().map(CondemnedId).collect());
        let packs = packs.into_iter().map(PackId).collect();
        returns(&Claim { claim: ClaimId(id), host: host.clone(), started_at: number.0, extension: extension.clone() })?;
        returns(&Announced { writer, host, started_at: number.0, extension: extension.clone() })?;
        returns(&Seen { writer, lists, extension: extension.clone() })?;
        returns(&Lease { writer, renewal: number.1, extension: extension.clone() })?;
        returns(&Ended { writer, extension: extension.clone() })?;
        returns(&Condemned { list: CondemnedId(id), packs, extension: extension.clone() })?;
        returns(&Dead { writer, extension: extension.clone() })?;
        returns(&Forgotten { snapshot: writer, extension })?;
    }

    #[test]
    fn holds_and_extensions_round_trip(
        id: [u8; 16], lifts in vec(any::<[u8; 16]>(), 0..4), which in 0..3, until: i64, signer: [u8; 32],
        reason in text(), extension in bytes(),
    ) {
        let effect = [HoldEffect::None, HoldEffect::UntilLifted, HoldEffect::Until(until)][which as usize];
        let lifts = lifts.into_iter().map(HoldId).collect();
        let snapshot = SnapshotId(id);
        returns(&Hold { hold: HoldId(id), snapshot, effect, lifts, reason, extension: extension.clone() })?;
        let undeleted = Undeleted { snapshot, signer: Identity(signer), stored_at: until };
        let origin = Origin { repository: id, snapshot, copied: vec![snapshot; which as usize] };
        let rewritten = Rewritten { from: vec![snapshot; which as usize], signer: Identity(signer), stored_at: until };
        returns(&SnapshotExtension {
            undeleted: (which > 0).then_some(undeleted),
            origin: (which > 1).then_some(origin),
            rewritten: (which < 2).then_some(rewritten),
            extension,
        })?;
    }
}

prop_compose! {
    fn seal_row()(seal_id: [u8; 16], epoch: u32, wrapped in vec(any::<u8>(), 80)) -> SealRow {
        let wrapped = WrappedKey(wrapped.try_into().expect("80 bytes"));
        SealRow { seal_id, epoch, suite: Suite::default(), wrapped }
    }
}

/// A blob as drawn: kind, seal, counter, sealed bytes per mille of the most, hash, chunks.
type DrawnBlob = (u8, u16, u64, u32, [u8; 32], Vec<([u8; 20], u32)>);

prop_compose! {
    fn trailer()(
        is_data: bool, seals in vec(seal_row(), 1..4),
        drawn in vec(any::<(u8, u16, u64, u32, [u8; 32])>(), 0..5),
        chunks in vec(vec((any::<[u8; 20]>(), 1u32..400_000), 1..8), 5),
    ) -> Trailer {
        let class = if is_data { PackClass::Data } else { PackClass::Metadata };
        let mut trailer = Trailer { class, seals, blobs: vec![], chunks: vec![] };
        let blobs = drawn.into_iter().zip(chunks).map(|((kind, seal, counter, len, hash), chunks)| {
            (kind, seal, counter, len, hash, chunks)
        });
        blobs.for_each(|blob| add_blob(&mut trailer, blob));
        trailer
    }
}

fn add_blob(trailer: &mut Trailer, (kind, seal, counter, len, hash, chunks): DrawnBlob) {
    let plain_len = chunks.iter().map(|(_, len)| len).sum();
    trailer.blobs.push(BlobRow {
        kind: [BlobKind::Data, BlobKind::Body, BlobKind::Structure][usize::from(kind) % 3],
        seal: seal % trailer.seals.len() as u16,
        counter,
        offset: trailer.blobs_len(),
        sealed_len: 18 + len % plain_len,
        plain_len,
        first_chunk: trailer.chunks.len() as u32,
        chunk_count: chunks.len() as u32,
        hash,
    });
    trailer.chunks.extend(chunks.into_iter().map(|(id, len)| (ChunkId::from_bytes(id), len)));
}

prop_compose! {
    fn segment()(
        packs in vec((any::<[u8; 32]>(), any::<u64>(), trailer()), 0..4), replaces in vec(any::<[u8; 32]>(), 0..3),
        domain: [u8; 16],
    ) -> Segment {
        let packs = packs.into_iter().map(|(id, len, trailer)| PackEntry { id: PackId(id), len, trailer }).collect();
        Segment { packs, replaces: replaces.into_iter().map(SegmentId).collect(), domain }
    }
}

prop_compose! {
    fn structure()(
        kind in 0usize..3, body in chunk_id(), children in vec((any::<u8>(), chunk_id(), any::<u64>()), 0..60),
    ) -> Structure {
        let kind = [PageKind::Entries, PageKind::Directory, PageKind::Content][kind];
        let child = |(child, id, len)| match child % 3 {
            _ if kind == PageKind::Directory => Child::page(id, len),
            0 => Child::chunk(id, len % (seal::BLOB_PLAIN_LEN_MAX as u64 + 1)),
            1 => Child::hole(len),
            _ => Child::page(id, len),
        };
        let body = (kind != PageKind::Content).then(|| Child::body(body));
        Structure { kind, children: body.into_iter().chain(children.into_iter().map(child)).collect() }
    }
}

fn entry_kind() -> impl Strategy<Value = EntryKind> {
    prop_oneof![
        any::<u64>().prop_map(|len| EntryKind::File { len }),
        Just(EntryKind::Directory),
        bytes().prop_map(|target| EntryKind::Symlink { target }),
        Just(EntryKind::Fifo),
        Just(EntryKind::Socket),
        any::<(u32, u32)>().prop_map(|(major, minor)| EntryKind::CharDevice { major, minor }),
        any::<(u32, u32)>().prop_map(|(major, minor)| EntryKind::BlockDevice { major, minor }),
    ]
}

prop_compose! {
    fn entry()(
        path in vec("[a-d.]{1,3}x", 1..4), kind in entry_kind(), ids: (u32, u32, u32, u64, u64, u64),
        user in option::of(bytes()), group in option::of(bytes()), times: (i64, u32, i64, u32),
        xattrs in vec((bytes(), bytes()), 0..3), is_whole: bool, child_count: u32,
    ) -> Entry {
        let (mode, uid, gid, inode, device, links) = ids;
        Entry {
            path: path.join("/").into_bytes(), kind, mode, uid, gid, user, group,
            modified_at: Time { secs: times.0, nanos: times.1 }, changed_at: Time { secs: times.2, nanos: times.3 },
            inode, device, links, xattrs, is_whole, child_count,
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn a_trailer_round_trips(trailer in trailer()) {
        let bytes = trailer.encode().expect("encodes");
        let back = Trailer::decode(&bytes).expect("decodes");
        prop_assert_eq!(&back, &trailer);
        prop_assert_eq!(back.encode().expect("encodes"), bytes);
        let chunks: usize = trailer.blobs.iter().map(|blob| trailer.chunks_of(blob).len()).sum();
        prop_assert_eq!(chunks, trailer.chunks.len());
    }

    #[test]
    fn a_segment_round_trips(segment in segment()) {
        let signer = samples::signer();
        let object = segment.encode(&samples::index_key(), 3, samples::SALT, &signer, samples::REPOSITORY);
        let object = object.expect("encodes");
        let frame = Frame::decode(&object, seal::ObjectKind::Segment, samples::REPOSITORY).expect("decodes");
        prop_assert_eq!(Segment::open(&frame, samples::index_keys, samples::REPOSITORY), Ok(segment));
    }

    #[test]
    fn a_structure_round_trips(structure in structure()) {
        let bytes = structure.encode().expect("encodes");
        let back = Structure::decode(&bytes).expect("decodes");
        prop_assert_eq!(&back, &structure);
        prop_assert_eq!(back.encode().expect("encodes"), bytes);
        let bodies = structure.children.iter().filter(|child| child.kind == ChildKind::Body).count();
        prop_assert_eq!(structure.content().len() + bodies, structure.children.len());
    }

    #[test]
    fn a_page_of_entries_round_trips(mut entries in vec(entry(), 0..30)) {
        entries.sort_by_key(Entry::sort_key);
        entries.dedup_by_key(|entry| entry.sort_key());
        let body = EntriesBody { entries };
        let bytes = body.encode().expect("encodes");
        let back = EntriesBody::decode(&bytes).expect("decodes");
        prop_assert_eq!(&back, &body);
        prop_assert_eq!(back.encode().expect("encodes"), bytes);
    }

    #[test]
    fn keys_of_pages_round_trip(first_keys in vec(bytes(), 0..20), extension in bytes()) {
        returns(&KeysBody { first_keys, extension })?;
    }
}

#[test]
fn ids_are_read_only_from_their_own_lower_case_hex() {
    let id = PackId([0xAB; 32]);
    assert_eq!(PackId::from_hex(&id.to_string()), Some(id));
    for wrong in ["", "ab", &"AB".repeat(32), &"ab".repeat(33), &"zz".repeat(32), &format!("{} ", "ab".repeat(31))] {
        assert_eq!(PackId::from_hex(wrong), None, "{wrong:?}");
    }
}

#[test]
fn a_record_of_any_length_around_the_limits_decodes() {
    for len in [0, 1, (16 << 10) - 9, (16 << 10) - 8, (16 << 10) - 7, (1 << 20) - 8, (1 << 20) - 7, 3 << 20] {
        let record = "x".repeat(len);
        let bytes = codec::encode(&record).expect("encodes");
        assert_eq!(codec::decode::<String>(&bytes), Ok(record), "{len} bytes");
    }
    assert!(codec::encode(&"x".repeat(codec::RECORD_LEN_MAX)).is_err());
}

#[test]
fn record_of_keys_is_encoded_like_any_other_and_in_one_place() {
    let secrets = samples::epoch_secrets();
    let bytes = codec::encode_secret(&secrets).expect("encodes");
    assert_eq!(*bytes, codec::encode(&secrets).expect("encodes"));
    assert_eq!(bytes.capacity(), codec::SECRET_RECORD_LEN_MAX, "it never grew, so no copy was left behind");
    assert!(codec::encode_secret(&vec![0_u8; codec::SECRET_RECORD_LEN_MAX]).is_err(), "nor may it");
}
