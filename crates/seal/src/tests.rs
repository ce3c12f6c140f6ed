//! What sealing promises, and that it is built on the primitives it names.
//!
//! ```text
//! vectors   published test vectors of the primitives
//! golden    our own bytes under fixed keys: they never change
//! this      what opens, and above all what does not
//! ```
//!
//! Invariant: nothing here is random unless proptest draws it, so a failure replays.
//! Never here: objects and tables (see `pack`).

use proptest::prelude::*;

use crate::*;

mod golden;
mod vectors;

const REPOSITORY: RepositoryId = RepositoryId([7; 16]);
const KINDS: [ObjectKind; 4] =
    [ObjectKind::Data, ObjectKind::Body, ObjectKind::Structure, ObjectKind::SnapshotStructure];

fn secret(byte: u8) -> Secret {
    Secret::new([byte; 32])
}

fn binding() -> Binding {
    Binding { suite: Suite::default(), repository: REPOSITORY, kind: ObjectKind::Data, seal_id: [9; 16], counter: 3 }
}

/// Every binding that differs from [`binding`] in one thing.
fn other_bindings() -> [Binding; 4] {
    [
        Binding { repository: RepositoryId([8; 16]), ..binding() },
        Binding { kind: ObjectKind::Body, ..binding() },
        Binding { seal_id: [10; 16], ..binding() },
        Binding { counter: 4, ..binding() },
    ]
}

fn seal_blob(plaintext: &[u8]) -> Vec<u8> {
    BlobSealer::new(3).expect("zstd").seal(plaintext, &secret(1), binding()).expect("seals")
}

fn open_blob(sealed: &[u8], plain_len: usize) -> Result<Vec<u8>, SealError> {
    BlobOpener::new().expect("zstd").open(sealed, plain_len, &secret(1), binding())
}

/// Every truncation of `valid`, and `valid` with each byte changed in `bits`.
fn damaged(valid: &[u8], bits: u8) -> impl Iterator<Item = Vec<u8>> {
    let cut = (0..valid.len()).map(|len| valid[..len].to_vec());
    let flipped = (0..valid.len()).map(move |at| {
        let mut bytes = valid.to_vec();
        bytes[at] ^= bits;
        bytes
    });
    cut.chain(flipped)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn a_blob_opens_to_what_was_sealed(
        random in prop::collection::vec(any::<u8>(), 1..5000), repeat in 1usize..40,
    ) {
        let plaintext = random.repeat(repeat);
        let sealed = seal_blob(&plaintext);
        prop_assert!(sealed.len() <= plaintext.len() + BLOB_OVERHEAD);
        prop_assert_eq!(open_blob(&sealed, plaintext.len()), Ok(plaintext));
    }

    #[test]
    fn a_record_opens_to_what_was_sealed(
        plaintext in prop::collection::vec(any::<u8>(), 0..500), epoch: u32, salt: SealId, key: [u8; 32],
    ) {
        let key = Secret::new(key);
        for kind in KINDS {
            let sealed = seal_record(&plaintext, &key, epoch, salt, REPOSITORY, kind).expect("seals");
            prop_assert_eq!(sealed.len(), plaintext.len() + RECORD_OVERHEAD);
            prop_assert_eq!(record_epoch(&sealed), Ok(epoch));
            prop_assert_eq!(open_record(&sealed, &key, REPOSITORY, kind), Ok(plaintext.clone()));
        }
    }

    #[test]
    fn a_letter_opens_to_what_was_sealed(
        plaintext in prop::collection::vec(any::<u8>(), 0..500), epoch: u32, seed in prop::array::uniform32(any::<u8>()),
    ) {
        let to = ExchangeKey::from_secret(Secret::new(seed));
        let letter = seal_letter(&plaintext, to.public(), epoch, letter_seed(seed[0]), REPOSITORY, ObjectKind::Grant);
        let letter = letter.expect("seals");
        prop_assert_eq!(letter_epoch(&letter), Ok(epoch));
        prop_assert_eq!(open_letter(&letter, &to, REPOSITORY, ObjectKind::Grant), Ok(plaintext));
    }

    #[test]
    fn bytes_that_nobody_sealed_are_errors(bytes in prop::collection::vec(any::<u8>(), 0..300), plain_len: usize) {
        prop_assert!(open_blob(&bytes, plain_len).is_err());
        prop_assert!(open_record(&bytes, &secret(1), REPOSITORY, ObjectKind::Data).is_err());
        let key = ExchangeKey::from_secret(secret(1));
        prop_assert!(open_letter(&bytes, &key, REPOSITORY, ObjectKind::Data).is_err());
    }

    #[test]
    fn a_wrapped_key_comes_back(key: [u8; 32], ephemeral: [u8; 32], recipient: [u8; 32]) {
        let recipient = ExchangeKey::from_secret(Secret::new(recipient));
        let wrapped = wrap_key(&Secret::new(key), recipient.public(), Secret::new(ephemeral), binding()).expect("wraps");
        prop_assert_eq!(unwrap_key(&wrapped, &recipient, binding()), Ok(Secret::new(key)));
    }
}

fn letter_seed(byte: u8) -> LetterSeed {
    LetterSeed::new(std::array::from_fn(|at| byte.wrapping_add(at as u8)))
}

#[test]
fn a_blob_opens_only_with_its_key_binding_and_length() {
    let plaintext = b"neighbouring chunks".repeat(20);
    let sealed = seal_blob(&plaintext);
    let mut opener = BlobOpener::new().expect("zstd");
    assert_eq!(opener.open(&sealed, plaintext.len(), &secret(2), binding()), Err(SealError::Sealed));
    for other in other_bindings() {
        assert_eq!(opener.open(&sealed, plaintext.len(), &secret(1), other), Err(SealError::Sealed), "{other:?}");
    }
    for len in [0, 1, plaintext.len() - 1, plaintext.len() + 1, BLOB_PLAIN_LEN_MAX + 1, usize::MAX] {
        assert_eq!(open_blob(&sealed, len), Err(SealError::Decompress { expected: len }));
    }
}

#[test]
fn a_damaged_blob_is_an_error() {
    for plaintext in [b"compresses well ".repeat(30), (0..200).map(|at| (at * 37) as u8).collect()] {
        let sealed = seal_blob(&plaintext);
        for bits in [1, 0x80] {
            assert!(damaged(&sealed, bits).all(|bytes| open_blob(&bytes, plaintext.len()).is_err()));
        }
        let longer = [sealed.as_slice(), &[0]].concat();
        assert!(open_blob(&longer, plaintext.len()).is_err());
    }
}

#[test]
fn a_blob_is_raw_where_compression_does_not_pay() {
    let noise: Vec<u8> = (0..64u64).flat_map(|at| *blake3::hash(&at.to_le_bytes()).as_bytes()).collect();
    assert_eq!(seal_blob(&noise).len(), noise.len() + BLOB_OVERHEAD);
    assert_eq!(seal_blob(&noise).first(), Some(&METHOD_RAW));
    assert_eq!(seal_blob(&[0; 4096]).first(), Some(&METHOD_ZSTD));
}

/// Rows of random digits in hexadecimal, and pages of an index as Postgres lays them out.
fn rows_and_index() -> [Vec<u8>; 2] {
    let digits = |at: u32| blake3::hash(&at.to_le_bytes()).to_hex();
    let rows = (0..4000).map(|at| format!("{}\tpaid\t{at}\n", digits(at)));
    let per_page = 366_u32;
    let page = |page: u32| {
        let places = (1..=per_page).flat_map(|at| ((8176 - 16 * at) | (1 << 15) | (16 << 17)).to_le_bytes());
        let tuple = |at: u32| {
            let (row, key) = ([0, at / 61, at % 61 + 1, 16], u64::from(at).to_le_bytes());
            row.into_iter().flat_map(|part| (part as u16).to_le_bytes()).chain(key).collect::<Vec<_>>()
        };
        let tuples = (page * per_page..(page + 1) * per_page).rev().flat_map(tuple);
        [0; 24].into_iter().chain(places).chain([0; 832]).chain(tuples).chain([0; 16]).collect::<Vec<_>>()
    };
    [rows.collect::<String>().into_bytes(), (0..40).flat_map(page).collect()]
}

#[test]
fn every_way_of_matching_opens_to_the_same_and_the_best_is_found() {
    let mut sealer = BlobSealer::new(3).expect("zstd");
    for (plaintext, expected) in rows_and_index().into_iter().zip([Matching::Near, Matching::Lazy]) {
        let lens = [Matching::Usual, Matching::Near, Matching::Lazy].map(|way| {
            let sealed = sealer.seal_as(way, &plaintext, &secret(1), binding()).expect("seals");
            assert_eq!(open_blob(&sealed, plaintext.len()).as_ref(), Ok(&plaintext), "{way:?}");
            sealed.len()
        });
        let (sealed, best) = sealer.seal_best(&plaintext, &secret(1), binding()).expect("seals");
        assert_eq!((sealed.len(), best), (lens[expected as usize], expected), "usual, near, lazy: {lens:?}");
        assert!(sealed.len() < lens[0], "usual, near, lazy: {lens:?}");
        assert_eq!(open_blob(&sealed, plaintext.len()), Ok(plaintext));
    }
}

#[test]
fn other_levels_than_the_usual_one_have_no_ways() {
    let mut sealer = BlobSealer::new(1).expect("zstd");
    for plaintext in rows_and_index() {
        let usual = sealer.seal(&plaintext, &secret(1), binding());
        assert_eq!(sealer.seal_as(Matching::Lazy, &plaintext, &secret(1), binding()), usual);
        let best = sealer.seal_best(&plaintext, &secret(1), binding());
        assert_eq!(best.map(|(sealed, way)| (Ok(sealed), way)), Ok((usual, Matching::Usual)));
    }
}

/// L8. The other decoder shares no code with the one that a blob is opened with.
#[test]
fn another_decoder_reads_what_the_compressor_wrote_at_every_level() {
    use chacha20poly1305::aead::{Aead, KeyInit, Payload};
    let cipher = chacha20poly1305::ChaCha20Poly1305::new(secret(1).expose().into());
    let aad = [binding().to_bytes().as_slice(), &[METHOD_ZSTD]].concat();
    let [rows, index] = rows_and_index();
    let plaintexts = [rows[..100_000].to_vec(), index[..200_000].to_vec(), vec![0; 300_000], b"ab".repeat(7)];
    for level in 1..=19 {
        let mut sealer = BlobSealer::new(level).expect("zstd");
        for (at, plaintext) in plaintexts.iter().enumerate() {
            for way in [Matching::Usual, Matching::Near, Matching::Lazy] {
                let sealed = sealer.seal_as(way, plaintext, &secret(1), binding()).expect("seals");
                let Some((&METHOD_ZSTD, packed)) = sealed.split_first() else {
                    assert_eq!(sealed.len(), plaintext.len() + BLOB_OVERHEAD);
                    continue;
                };
                let payload = Payload { msg: packed, aad: &aad };
                let frame = cipher.decrypt(&binding().nonce().into(), payload).expect("opens");
                let mut decoder = ruzstd::decoding::StreamingDecoder::new(frame.as_slice()).expect("a frame");
                let mut found = Vec::new();
                std::io::Read::read_to_end(&mut decoder, &mut found).expect("decodes");
                assert!(found == *plaintext, "level {level}, {way:?}, plaintext {at}");
            }
        }
    }
}

#[test]
fn a_blob_outside_the_allowed_lengths_is_refused() {
    let mut sealer = BlobSealer::new(1).expect("zstd");
    for len in [0, BLOB_PLAIN_LEN_MAX + 1] {
        assert_eq!(sealer.seal(&vec![0; len], &secret(1), binding()), Err(SealError::BlobLen { len }));
    }
    let longest = vec![1; BLOB_PLAIN_LEN_MAX];
    let sealed = sealer.seal(&longest, &secret(1), binding()).expect("seals");
    assert_eq!(open_blob(&sealed, longest.len()), Ok(longest));
}

#[test]
fn a_blob_that_decompresses_past_its_promise_is_refused() {
    use chacha20poly1305::aead::{Aead, KeyInit, Payload};
    let bomb = zstd::bulk::compress(&vec![0; 100 << 20], 1).expect("compresses");
    let aad = [binding().to_bytes().as_slice(), &[METHOD_ZSTD]].concat();
    let cipher = chacha20poly1305::ChaCha20Poly1305::new(secret(1).expose().into());
    let packed = cipher.encrypt(&binding().nonce().into(), Payload { msg: &bomb, aad: &aad }).expect("encrypts");
    let sealed = [&[METHOD_ZSTD], packed.as_slice()].concat();
    assert_eq!(open_blob(&sealed, 1000), Err(SealError::Decompress { expected: 1000 }));
    let aad = [binding().to_bytes().as_slice(), &[2]].concat();
    let packed = cipher.encrypt(&binding().nonce().into(), Payload { msg: b"later", aad: &aad }).expect("encrypts");
    let sealed = [&[2], packed.as_slice()].concat();
    assert_eq!(open_blob(&sealed, 5), Err(SealError::Method { method: 2 }));
}

#[test]
fn a_record_opens_only_with_its_key_repository_and_kind() {
    let sealed = seal_record(b"plain", &secret(1), 5, [3; 16], REPOSITORY, ObjectKind::Segment).expect("seals");
    let open = |bytes: &[u8], key: u8, repository: u8, kind| {
        open_record(bytes, &secret(key), RepositoryId([repository; 16]), kind)
    };
    assert_eq!(open(&sealed, 1, 7, ObjectKind::Segment), Ok(b"plain".to_vec()));
    assert_eq!(open(&sealed, 2, 7, ObjectKind::Segment), Err(SealError::Sealed));
    assert_eq!(open(&sealed, 1, 8, ObjectKind::Segment), Err(SealError::Sealed));
    assert_eq!(open(&sealed, 1, 7, ObjectKind::Trailer), Err(SealError::Sealed));
    assert!(damaged(&sealed, 1).all(|bytes| open(&bytes, 1, 7, ObjectKind::Segment).is_err()));
}

#[test]
fn a_letter_opens_only_for_its_recipient_repository_and_kind() {
    let (to, other) = (ExchangeKey::from_secret(secret(1)), ExchangeKey::from_secret(secret(2)));
    let letter = seal_letter(b"plain", to.public(), 5, letter_seed(1), REPOSITORY, ObjectKind::Grant).expect("seals");
    assert_eq!(open_letter(&letter, &to, REPOSITORY, ObjectKind::Grant), Ok(b"plain".to_vec()));
    assert!(open_letter(&letter, &other, REPOSITORY, ObjectKind::Grant).is_err());
    assert!(open_letter(&letter, &to, RepositoryId([8; 16]), ObjectKind::Grant).is_err());
    assert!(open_letter(&letter, &to, REPOSITORY, ObjectKind::SnapshotBody).is_err());
    assert!(damaged(&letter, 1).all(|bytes| open_letter(&bytes, &to, REPOSITORY, ObjectKind::Grant).is_err()));
    let elsewhere =
        seal_letter(b"plain", to.public(), 5, letter_seed(9), REPOSITORY, ObjectKind::Grant).expect("seals");
    let spliced = [&letter[..WRAPPED_LEN], &elsewhere[WRAPPED_LEN..]].concat();
    assert_eq!(open_letter(&spliced, &to, REPOSITORY, ObjectKind::Grant), Err(SealError::Sealed));
}

#[test]
fn a_wrapped_key_opens_only_for_its_recipient_and_binding() {
    let to = ExchangeKey::from_secret(secret(1));
    let wrapped = wrap_key(&secret(5), to.public(), secret(6), binding()).expect("wraps");
    assert!(unwrap_key(&wrapped, &ExchangeKey::from_secret(secret(2)), binding()).is_err());
    for other in other_bindings() {
        assert_eq!(unwrap_key(&wrapped, &to, other), Err(SealError::Sealed), "{other:?}");
    }
    for at in 0..WRAPPED_LEN {
        let mut changed = wrapped;
        changed.0[at] ^= 1;
        assert!(unwrap_key(&changed, &to, binding()).is_err(), "byte {at}");
    }
}

#[test]
fn keys_of_small_order_are_refused() {
    let one = std::array::from_fn(|at| u8::from(at == 0));
    for point in [[0; 32], one] {
        let error = wrap_key(&secret(5), ExchangePublic(point), secret(6), binding());
        assert_eq!(error, Err(SealError::PublicKey));
        let mut wrapped = WrappedKey([0; WRAPPED_LEN]);
        wrapped.0[..32].copy_from_slice(&point);
        let opened = unwrap_key(&wrapped, &ExchangeKey::from_secret(secret(1)), binding());
        assert_eq!(opened, Err(SealError::PublicKey));
    }
    // The neutral element "signs" everything unless small order is refused.
    let identity = Identity(one);
    let mut signature = [0; SIGNATURE_LEN];
    signature[0] = 1;
    assert!(verify(b"object", REPOSITORY, ObjectKind::Config, identity, &signature).is_err());
}

#[test]
fn a_signature_holds_for_its_bytes_repository_kind_and_signer() {
    let key = IdentityKey::from_secret(secret(4));
    let signature = key.sign(b"object", REPOSITORY, ObjectKind::Segment);
    let check = |bytes: &[u8], repository, kind, signer: &IdentityKey, signature: &[u8; SIGNATURE_LEN]| {
        verify(bytes, RepositoryId([repository; 16]), kind, signer.identity(), signature)
    };
    assert_eq!(check(b"object", 7, ObjectKind::Segment, &key, &signature), Ok(()));
    assert_eq!(check(b"Object", 7, ObjectKind::Segment, &key, &signature), Err(SealError::Signature));
    assert_eq!(check(b"object", 8, ObjectKind::Segment, &key, &signature), Err(SealError::Signature));
    assert_eq!(check(b"object", 7, ObjectKind::Dead, &key, &signature), Err(SealError::Signature));
    let other = IdentityKey::from_secret(secret(5));
    assert_eq!(check(b"object", 7, ObjectKind::Segment, &other, &signature), Err(SealError::Signature));
    for at in 0..SIGNATURE_LEN {
        let mut changed = signature;
        changed[at] ^= 1;
        assert!(check(b"object", 7, ObjectKind::Segment, &key, &changed).is_err(), "byte {at}");
    }
}

#[test]
fn purposes_give_different_keys() {
    let purposes =
        [Purpose::Wrap, Purpose::Record, Purpose::Structure, Purpose::Gear, Purpose::KeyFile, Purpose::Password];
    let keys: Vec<_> = purposes.map(|purpose| *purpose.key(&[1; 32], &[2; 16]).expose()).to_vec();
    for (at, key) in keys.iter().enumerate() {
        assert!(!keys[..at].contains(key));
    }
    assert_ne!(Purpose::Record.key(&[1; 32], &[2; 16]), Purpose::Record.key(&[1; 32], &[3; 16]));
}

#[test]
fn a_slot_cannot_ask_for_unbounded_costs() {
    for cost in [
        KdfCost { memory_kib: MEMORY_KIB_MAX + 1, passes: 1, lanes: 1 },
        KdfCost { memory_kib: u32::MAX, passes: u32::MAX, lanes: u32::MAX },
        KdfCost { memory_kib: 64, passes: 65, lanes: 1 },
        KdfCost { memory_kib: 64, passes: 0, lanes: 1 },
        KdfCost { memory_kib: 64, passes: 1, lanes: 0 },
        KdfCost { memory_kib: 64, passes: 1, lanes: 17 },
        KdfCost { memory_kib: 0, passes: 1, lanes: 1 },
    ] {
        let error = key_from_password(b"password", &[0; 16], cost).expect_err("refused");
        assert_eq!(error.kind(), ErrorKind::Invalid);
    }
    assert_eq!(key_from_file(&[0; 31], &[0; 16]), Err(SealError::KeyFile { len: 31 }));
}

#[test]
fn secrets_are_not_printed() {
    let key = secret(0xAB);
    let shown = format!("{key:?} {:?} {:?}", ExchangeKey::from_secret(key.clone()), ChunkNamer::new(key.clone()));
    assert!(!shown.to_lowercase().contains("ab, ab") && !shown.contains("171"), "{shown}");
    assert!(!format!("{:?}", IdentityKey::from_secret(key)).contains("171"));
}
