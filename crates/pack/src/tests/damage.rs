//! Damage: truncations, flips and absurd counts are errors, and never a panic.
//!
//! Frames and sealed records notice every change. Tables and records after decryption need not, but what they accept
//! must encode to the same bytes again: so nothing is read in two ways.
//!
//! Invariant: an allocation that a count merely claims would end these tests: 2^32 rows do not fit into memory.
//! Never here: what damage does to a repository (see the damage tests of the whole).

use seal::ObjectKind;
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::samples::{self, REPOSITORY, index_keys};
use crate::manifest::{Child, EntriesBody, KeysBody, PageKind, Structure};
use crate::*;

/// `valid` with each bit flipped in turn, and with runs of 2, 4 and 8 bytes set to ones.
fn changed(valid: &[u8]) -> impl Iterator<Item = Vec<u8>> {
    let flipped = (0..valid.len() * 8).map(|bit| {
        let mut bytes = valid.to_vec();
        bytes[bit / 8] ^= 1 << (bit % 8);
        bytes
    });
    let claimed = (0..valid.len()).flat_map(|at| [2, 4, 8].map(|len| (at, len))).map(|(at, len)| {
        let mut bytes = valid.to_vec();
        bytes.iter_mut().skip(at).take(len).for_each(|byte| *byte = 0xFF);
        bytes
    });
    flipped.chain(claimed).filter(move |bytes| bytes != valid)
}

/// Decodes everything but `valid` itself; what is accepted must encode to what it was decoded from.
fn survives<T>(
    valid: &[u8],
    decode: impl Fn(&[u8]) -> Result<T, PackError>,
    encode: impl Fn(&T) -> Result<Vec<u8>, PackError>,
) {
    assert_eq!(encode(&decode(valid).expect("decodes")).as_deref(), Ok(valid));
    for len in 0..valid.len() {
        assert!(decode(&valid[..len]).is_err(), "accepts the first {len} of {} bytes", valid.len());
    }
    assert!(decode(&[valid, &[0]].concat()).is_err(), "accepts a byte too many");
    for bytes in changed(valid) {
        if let Ok(decoded) = decode(&bytes) {
            assert_eq!(encode(&decoded), Ok(bytes));
        }
    }
}

fn record_survives<T: Serialize + DeserializeOwned>(record: &T) {
    survives(&codec::encode(record).expect("encodes"), |bytes| codec::decode::<T>(bytes), codec::encode::<T>);
}

#[test]
fn damaged_records_are_errors_or_other_records() {
    record_survives(&samples::config());
    record_survives(&samples::certificate(Role::Owner));
    record_survives(&samples::slot(Role::Owner));
    record_survives(&samples::slot_secrets());
    record_survives(&samples::epoch_secrets());
    record_survives(&samples::epoch());
    record_survives(&samples::snapshot_structure());
    record_survives(&samples::snapshot_body());
    record_survives(&samples::announced());
    record_survives(&samples::seen());
    record_survives(&samples::lease());
    record_survives(&samples::ended());
    record_survives(&samples::condemned());
    record_survives(&samples::dead());
    record_survives(&samples::forgotten());
    record_survives(&samples::hold());
    record_survives(&samples::snapshot_extension());
    record_survives(&samples::verified());
    record_survives(&samples::keys());
}

#[test]
fn damaged_tables_are_errors_or_other_tables() {
    survives(&samples::trailer().encode().expect("encodes"), Trailer::decode, Trailer::encode);
    survives(&samples::structure().encode().expect("encodes"), Structure::decode, Structure::encode);
}

#[test]
fn damaged_segments_and_bodies_never_panic() {
    let mut table = 1u32.to_le_bytes().to_vec();
    let trailer = samples::trailer().encode().expect("encodes");
    table.extend([[0x9A; 32].as_slice(), &9u64.to_le_bytes(), &(trailer.len() as u32).to_le_bytes()].concat());
    table.extend([trailer.as_slice(), &1u32.to_le_bytes(), &[3; 32], &[4; 16], &0u32.to_le_bytes()].concat());
    assert!(Segment::decode(&table).is_ok());
    assert!((0..table.len()).all(|len| Segment::decode(&table[..len]).is_err()));
    changed(&table).for_each(|bytes| drop(Segment::decode(&bytes)));

    let body = samples::entries().encode().expect("encodes");
    assert!((0..body.len()).all(|len| EntriesBody::decode(&body[..len]).is_err()));
    changed(&body).for_each(|bytes| drop(EntriesBody::decode(&bytes)));
    changed(&body).for_each(|bytes| drop(codec::decode::<KeysBody>(&bytes)));
}

#[test]
fn a_damaged_frame_is_an_error_wherever_it_is_damaged() {
    for (kind, _, object) in samples::frames() {
        assert!(Frame::decode(&object, kind, REPOSITORY).is_ok(), "{kind:?}");
        for len in 0..object.len() {
            assert!(Frame::decode(&object[..len], kind, REPOSITORY).is_err(), "first {len} bytes of {kind:?}");
        }
        assert!(Frame::decode(&[object.as_slice(), &[0]].concat(), kind, REPOSITORY).is_err(), "{kind:?}");
        for at in 0..object.len() {
            let mut bytes = object.clone();
            bytes[at] ^= 1 << (at % 8);
            assert!(Frame::decode(&bytes, kind, REPOSITORY).is_err(), "byte {at} of {kind:?}");
        }
    }
}

#[test]
fn frames_of_another_kind_version_or_repository_are_errors() {
    let frames = samples::frames();
    for (kind, signer, object) in &frames {
        assert_eq!(Frame::decode(object, *kind, REPOSITORY).expect("decodes").signer, *signer);
        for (other, _, _) in frames.iter().filter(|(other, _, _)| other != kind) {
            let expected = PackError::Kind { found: *kind as u8, expected: *other as u8 };
            assert_eq!(Frame::decode(object, *other, REPOSITORY).err(), Some(expected));
        }
        assert!(Frame::decode(object, *kind, seal::RepositoryId([8; 16])).is_err(), "{kind:?}");
        let mut later = object.clone();
        later[4] = 2;
        let error = Frame::decode(&later, *kind, REPOSITORY).err();
        assert_eq!(error, Some(PackError::Version { version: 2 }));
    }
}

#[test]
fn an_entry_cannot_lead_out_of_the_target() {
    let body = EntriesBody::decode(&samples::entries().encode().expect("encodes")).expect("decodes");
    for path in ["", "/", "a/", "a//b", ".", "..", "a/..", "../a", "a/./b", "a\0b", "a\0/b"] {
        let mut bad = body.clone();
        bad.entries.truncate(1);
        bad.entries[0].path = path.as_bytes().to_vec();
        assert!(bad.encode().is_err(), "writes {path:?}");
        assert!(EntriesBody::decode(&bad.encode_unchecked().expect("encodes")).is_err(), "reads {path:?}");
    }
}

#[test]
fn entries_out_of_order_or_twice_are_errors() {
    let mut swapped = samples::entries();
    swapped.entries.swap(0, 1);
    let mut twice = samples::entries();
    twice.entries[1].path = twice.entries[0].path.clone();
    for body in [swapped, twice] {
        assert!(body.encode().is_err());
        assert!(EntriesBody::decode(&body.encode_unchecked().expect("encodes")).is_err());
    }
}

#[test]
fn a_few_bytes_cannot_repeat_a_long_name_without_end() {
    let long = vec![b'x'; 64 << 10];
    let mut body = samples::entries();
    let first = body.entries[0].clone();
    body.entries = (0..2000)
        .map(|at| {
            let mut entry = first.clone();
            entry.path = [long.as_slice(), format!("/{at:06}").as_bytes()].concat();
            entry
        })
        .collect();
    let encoded = body.encode().expect("encodes");
    assert!(encoded.len() < 1 << 20, "{} bytes", encoded.len());
    assert!(EntriesBody::decode(&encoded).is_err(), "2000 times 64 KiB are more than a page may name");
}

#[test]
fn pages_that_break_their_own_rules_are_errors() {
    let page = |kind, children: Vec<Child>| {
        Structure::decode(&Structure { kind, children }.encode().expect("encodes")).map(drop)
    };
    let id = samples::chunk_id(1);
    let hole_with_id = Child { id, ..Child::hole(5) };
    assert!(page(PageKind::Entries, vec![]).is_err(), "no body");
    assert!(page(PageKind::Entries, vec![Child::chunk(id, 1), Child::body(id)]).is_err(), "body is not the first");
    assert!(page(PageKind::Entries, vec![Child::body(id), Child::body(id)]).is_err(), "two bodies");
    assert!(page(PageKind::Content, vec![Child::body(id)]).is_err(), "content has no body");
    assert!(page(PageKind::Directory, vec![Child::body(id), Child::chunk(id, 1)]).is_err(), "content in a directory");
    assert!(page(PageKind::Content, vec![hole_with_id]).is_err(), "a hole with an id");
    assert!(page(PageKind::Content, vec![]).is_ok());
}

#[test]
fn trailers_that_contradict_themselves_are_errors() {
    let broken = |change: &dyn Fn(&mut Trailer)| {
        let mut trailer = samples::trailer();
        change(&mut trailer);
        Trailer::decode(&trailer.encode().expect("encodes")).is_err()
    };
    assert!(!broken(&|_| ()));
    assert!(broken(&|trailer| trailer.blobs[0].seal = 2), "a seal that is not there");
    assert!(broken(&|trailer| trailer.blobs[0].chunk_count = 2), "more chunks than there are");
    assert!(broken(&|trailer| trailer.blobs[1].chunk_count = 1), "a chunk in no blob");
    assert!(broken(&|trailer| trailer.chunks[0].1 = 0), "an empty chunk");
    assert!(broken(&|trailer| trailer.chunks[0].1 = 5 << 20), "a blob past the limit");
    assert!(broken(&|trailer| trailer.blobs[0].sealed_len = 17), "a blob of nothing but overhead");
    assert!(broken(&|trailer| trailer.blobs[0].sealed_len = 318), "a blob longer than its content");
    let row = samples::trailer().seals[0].clone();
    let endless = Trailer { seals: vec![row; 65_537], ..samples::trailer() };
    assert!(endless.encode().is_err());
}

#[test]
fn a_sealed_trailer_that_expands_without_end_is_an_error() {
    let zeros = vec![0; 200 << 20];
    let bomb = zstd::bulk::compress(&zeros, 1).expect("compresses");
    let plain = [(bomb.len() as u32).to_le_bytes().as_slice(), &bomb].concat();
    let sealed = seal::seal_record(
        &plain,
        &samples::index_key(),
        samples::EPOCH,
        samples::SALT,
        REPOSITORY,
        ObjectKind::Trailer,
    );
    let error = read_trailer(&sealed.expect("seals"), index_keys, REPOSITORY);
    assert_eq!(error, Err(PackError::Inconsistent { what: "a table is too long" }));
}

#[test]
fn chunk_longer_than_a_blob_and_body_with_a_length_are_refused() {
    use crate::manifest::{Child, PageKind, Structure};
    let id = seal::ChunkId::from_bytes([1; 20]);
    let longest = seal::BLOB_PLAIN_LEN_MAX as u64;
    let decoded =
        |kind, child| Structure::decode(&Structure { kind, children: vec![child] }.encode().expect("encodes"));
    assert!(decoded(PageKind::Content, Child::chunk(id, longest)).is_ok());
    assert!(decoded(PageKind::Content, Child::chunk(id, longest + 1)).is_err());
    assert!(decoded(PageKind::Entries, Child::body(id)).is_ok());
    assert!(decoded(PageKind::Entries, Child { len: 1, ..Child::body(id) }).is_err());
}

#[test]
fn only_names_of_the_formats_forms_are_known() {
    use crate::names::{self, is_known};
    use crate::{CondemnedId, HoldId, PackId, SegmentId, SnapshotId, VerifiedId};
    let (hash, id) = ([0xab; 32], SnapshotId([0xcd; 16]));
    let known = [
        names::CONFIG.to_owned(),
        names::CONFIG_COPY.to_owned(),
        names::key_slot(b"a slot"),
        names::epoch(u32::MAX),
        names::pack(&PackId(hash)),
        names::segment(&SegmentId(hash)),
        names::snapshot(&id),
        names::forgotten(&id),
        names::hold(&id, &HoldId([1; 16])),
        names::announced(&id),
        names::seen(&id),
        names::lease(&id, 12),
        names::ended(&id),
        names::condemned(&CondemnedId([1; 16])),
        names::verified(&VerifiedId([2; 16])),
    ];
    for name in known {
        assert!(is_known(&name), "{name}");
        let others = [format!("{name}.tmp"), format!("{name}/x"), format!("x/{name}"), name.to_uppercase()];
        for other in others {
            assert!(!is_known(&other), "{other}");
        }
    }
    for other in ["", "README", "epochs/README", "epochs/1", "snapshots/", "index/.DS_Store", "packs/ab/cd"] {
        assert!(!is_known(other), "{other}");
    }
    let elsewhere = names::pack(&PackId(hash)).replace("packs/ab/", "packs/ac/");
    assert!(!is_known(&elsewhere), "{elsewhere}");
}
