//! A pack from its end to its chunks, and what a chunk costs.
//!
//! Invariant: packs are read here as a reader without an index reads them.
//! Never here: stores.

use proptest::prelude::*;
use seal::{BlobOpener, BlobSealer, ChunkId, ExchangeKey};

use super::samples::{self, EPOCH, REPOSITORY, SALT, index_keys, namer, seed};
use crate::manifest::{Child, PageKind, Structure};
use crate::*;

const KINDS: [BlobKind; 3] = [BlobKind::Data, BlobKind::Body, BlobKind::Structure];

fn pack_seal() -> PackSeal {
    PackSeal::new(EPOCH, samples::exchange().public(), &samples::index_key(), seed(40), REPOSITORY).expect("a seal")
}

/// A pack whose blobs hold `contents`, one chunk a word.
fn pack(contents: &[(BlobKind, Vec<Vec<u8>>)]) -> (FinishedPack<Vec<u8>>, Vec<u8>) {
    let mut seal = pack_seal();
    let mut builder = PackBuilder::new(PackClass::Data, &seal);
    let mut sealer = BlobSealer::new(1).expect("zstd");
    for (kind, chunks) in contents {
        let (key, binding) = seal.next(*kind);
        let ids: Vec<_> = chunks.iter().map(|chunk| (namer().name(chunk), chunk.len() as u32)).collect();
        builder.push(sealer.seal(&chunks.concat(), &key, binding).expect("seals"), *kind, binding.counter, &ids);
    }
    let finished = builder.finish(&samples::index_key(), SALT, REPOSITORY).expect("finishes");
    let object = [finished.blobs.concat(), finished.tail.clone()].concat();
    (finished, object)
}

fn read(object: &[u8]) -> Result<Trailer, PackError> {
    let end_mark_at = object.len().checked_sub(END_MARK_LEN).ok_or(PackError::Hash)?;
    let trailer_len = read_end_mark(&object[end_mark_at..])? as usize;
    let trailer_at = end_mark_at.checked_sub(trailer_len).ok_or(PackError::Hash)?;
    read_trailer(&object[trailer_at..end_mark_at], index_keys, REPOSITORY)
}

fn open(
    object: &[u8],
    trailer: &Trailer,
    blob: &BlobRow,
    exchange: Option<&ExchangeKey>,
) -> Result<Vec<u8>, PackError> {
    let row = &trailer.seals[usize::from(blob.seal)];
    let (key, binding) = open_blob_key(row, blob, &samples::index_key(), exchange, REPOSITORY)?;
    let start = blob.offset as usize;
    let sealed = &object[start..start + blob.sealed_len as usize];
    assert_eq!(blake3::hash(sealed).as_bytes(), &blob.hash);
    let plain = BlobOpener::new().expect("zstd").open(sealed, blob.plain_len as usize, &key, binding);
    plain.map_err(PackError::seal("a blob"))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]

    #[test]
    fn a_pack_gives_back_its_chunks_from_its_end(
        drawn in prop::collection::vec(
            (0usize..3, prop::collection::vec(prop::collection::vec(any::<u8>(), 1..400), 1..8)), 0..8,
        ),
    ) {
        let contents: Vec<_> = drawn.into_iter().map(|(kind, chunks)| (KINDS[kind], chunks)).collect();
        let (finished, object) = pack(&contents);
        prop_assert_eq!(PackId::of([object.as_slice()]), finished.id);
        prop_assert_eq!(object.len() as u64, finished.len);
        let trailer = read(&object).expect("reads");
        prop_assert_eq!(&trailer, &finished.trailer);
        prop_assert_eq!(trailer.blobs.len(), contents.len());
        for (blob, (kind, chunks)) in trailer.blobs.iter().zip(&contents) {
            prop_assert_eq!(blob.kind, *kind);
            let plain = open(&object, &trailer, blob, Some(&samples::exchange())).expect("opens");
            prop_assert_eq!(&plain, &chunks.concat());
            let mut rest = plain.as_slice();
            for (id, len) in trailer.chunks_of(blob) {
                let chunk = rest.split_off(..*len as usize).expect("a chunk");
                prop_assert_eq!(namer().name(chunk), *id);
            }
        }
    }

    #[test]
    fn padding_is_at_most_one_part_in_128(len in 0u64..1 << 40) {
        let padded = padded_len(len);
        prop_assert!(padded >= len && padded - len <= len / 128, "{len} to {padded}");
        prop_assert_eq!(padded_len(padded), padded);
    }
}

#[test]
fn a_pack_that_is_finished_again_with_another_salt_has_another_name_and_opens_the_same() {
    let (finished, object) = pack(&KINDS.map(|kind| (kind, vec![b"chunk".to_vec(), vec![7; 3000]])));
    let (id, len, trailer) = (finished.id, finished.len, finished.trailer.clone());
    let salt = SALT.map(|byte| byte ^ 1);
    let again = finished.reopen().finish(&samples::index_key(), salt, REPOSITORY).expect("finishes");
    let object_again = [again.blobs.concat(), again.tail.clone()].concat();
    assert_ne!(again.id, id);
    assert_eq!((again.len, PackId::of([object_again.as_slice()])), (len, again.id));
    let trailer_again = read(&object_again).expect("reads");
    assert_eq!(trailer_again, trailer);
    for blob in &trailer.blobs {
        let opened = open(&object_again, &trailer_again, blob, Some(&samples::exchange())).expect("opens");
        assert_eq!(opened, open(&object, &trailer, blob, Some(&samples::exchange())).expect("opens"));
    }
}

#[test]
fn structure_opens_with_the_index_key_and_content_does_not() {
    let (_, object) = pack(&KINDS.map(|kind| (kind, vec![b"chunk".to_vec()])));
    let trailer = read(&object).expect("reads");
    let opens = |blob: &BlobRow, key: Option<&ExchangeKey>| open(&object, &trailer, blob, key).is_ok();
    let stranger = samples::slot_exchange();
    let with_none: Vec<_> = trailer.blobs.iter().map(|blob| opens(blob, None)).collect();
    let with_wrong: Vec<_> = trailer.blobs.iter().map(|blob| opens(blob, Some(&stranger))).collect();
    assert_eq!(with_none, [false, false, true]);
    assert_eq!(with_wrong, [false, false, true]);
}

#[test]
fn a_blob_does_not_open_as_another_kind_counter_or_epoch() {
    let (_, object) = pack(&KINDS.map(|kind| (kind, vec![b"chunk".to_vec()])));
    let trailer = read(&object).expect("reads");
    for blob in &trailer.blobs {
        for kind in KINDS.into_iter().filter(|kind| *kind != blob.kind) {
            let swapped = BlobRow { kind, ..blob.clone() };
            assert!(
                open(&object, &trailer, &swapped, Some(&samples::exchange())).is_err(),
                "{:?} as {kind:?}",
                blob.kind
            );
        }
        let moved = BlobRow { counter: blob.counter + 1, ..blob.clone() };
        assert!(open(&object, &trailer, &moved, Some(&samples::exchange())).is_err());
    }
    let mut relabelled = trailer.clone();
    relabelled.seals[0].epoch += 1;
    assert!(open(&object, &relabelled, &trailer.blobs[0], Some(&samples::exchange())).is_err());
}

#[test]
fn a_seal_never_gives_out_the_same_nonce_twice() {
    let mut seal = pack_seal();
    let counters: Vec<_> = (0..30).map(|at| seal.next(KINDS[at % 3]).1.counter).collect();
    assert_eq!(counters, (0..30).collect::<Vec<_>>());
    assert_ne!(seal.next(BlobKind::Data).0, seal.next(BlobKind::Structure).0);
}

#[test]
fn a_damaged_pack_does_not_give_a_trailer_or_does_not_hash_to_its_name() {
    let (finished, object) = pack(&[(BlobKind::Data, vec![b"chunk".to_vec()])]);
    let trailer_at = finished.blobs.concat().len();
    for len in 0..object.len() {
        assert!(read(&object[..len]).is_err(), "first {len} bytes");
    }
    for at in 0..object.len() {
        let mut bytes = object.clone();
        bytes[at] ^= 1 << (at % 8);
        assert_ne!(PackId::of([bytes.as_slice()]), finished.id);
        assert!(at < trailer_at || read(&bytes).is_err(), "byte {at}");
    }
    assert_eq!(read_end_mark(b"BKPK"), Err(PackError::Truncated { len: 0, what: "a pack's end mark" }));
    assert_eq!(read_end_mark(b"\0\0\0\0\x02\0BKPK"), Err(PackError::Version { version: 2 }));
    assert_eq!(read_end_mark(b"\0\0\0\0\x01\0BKST"), Err(PackError::Magic { what: "a pack" }));
}

#[test]
fn a_chunk_costs_at_most_70_bytes_in_trailer_segment_and_content_list() {
    let count = 16_384u64;
    let len_of = |at: u64| {
        let bytes = blake3::hash(&at.to_le_bytes());
        let uniform =
            f64::from(u32::from_le_bytes(*bytes.as_bytes().first_chunk().expect("4 bytes"))) / f64::from(u32::MAX);
        (1024.0 - 3072.0 * (1.0 - uniform * 0.999).ln()).min(16_384.0) as u32
    };
    let chunks: Vec<(ChunkId, u32)> = (0..count).map(|at| (samples::chunk_id(at), len_of(at))).collect();
    let mut trailer = Trailer { blobs: vec![], chunks: vec![], ..samples::trailer() };
    for blob in chunks.chunks(256) {
        trailer.blobs.push(BlobRow {
            chunk_count: blob.len() as u32,
            sealed_len: 400_000,
            ..samples::trailer().blobs[0].clone()
        });
        trailer.chunks.extend_from_slice(blob);
    }
    let table = trailer.encode().expect("encodes");
    let in_trailer = zstd::bulk::compress(&table, 1).expect("compresses").len();
    let children = chunks.iter().map(|(id, len)| Child::chunk(*id, u64::from(*len)));
    let pages: Vec<u8> = children
        .collect::<Vec<_>>()
        .chunks(512)
        .flat_map(|children| {
            let page = Structure { kind: PageKind::Content, children: children.to_vec() };
            page.encode().expect("encodes")
        })
        .collect();
    let in_list = zstd::bulk::compress(&pages, 3).expect("compresses").len();
    let tenths = |len: usize| len as u64 * 10 / count;
    let total = tenths(2 * in_trailer + in_list);
    println!("tenths of a byte a chunk: trailer {}, list {}, all {total}", tenths(in_trailer), tenths(in_list));
    assert!(total <= 700, "{total} tenths of a byte: trailer {}, list {}", tenths(in_trailer), tenths(in_list));
}
