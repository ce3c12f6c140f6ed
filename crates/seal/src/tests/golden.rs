//! Our own bytes under fixed keys. A change here is a change of the format: see `docs/FORMAT.md`, section 16.
//!
//! Invariant: short things stand here whole, longer ones by their BLAKE3.
//! Never here: zstd's output, which may change with its version.

use crate::*;

use super::{REPOSITORY, binding, letter_seed, secret};

#[test]
fn golden_binding_and_nonce() {
    let binding = Binding { counter: 0x0102_0304, ..binding() };
    let expected = "01 07070707070707070707070707070707 01 09090909090909090909090909090909 0403020100000000";
    assert_eq!(hex::encode(binding.to_bytes()), expected.replace(' ', ""));
    assert_eq!(hex::encode(binding.nonce()), "000000000403020100000000");
}

#[test]
fn golden_chunk_id() {
    assert_eq!(ChunkNamer::new(secret(1)).name(b"chunk").to_string(), "e6d2a0fe85d7033179ff4ca5c5dbf5df62779bba");
    assert_eq!(ChunkNamer::new(secret(1)).name_page(b"chunk").to_string(), "80b1f59b982b39cb5ea68bff9b1638d16afb685f");
    assert_eq!(ChunkNamer::new(secret(1)).cut_number(b"chunk"), 0x3CD9_6DAE);
}

#[test]
fn golden_derived_keys() {
    let hex_of = |purpose: Purpose| hex::encode(purpose.key(&[1; 32], &[2; 16]).expose());
    assert_eq!(hex_of(Purpose::Wrap), "62f424d2a38ac2a3ad44790da1f54128b206cc73f5a567dad35ae9d52c375014");
    assert_eq!(hex_of(Purpose::Record), "3056c9582b1990a6091ee8467cf08a20a9afb3276d4bb183b9ce6fbe56e3c62c");
    assert_eq!(hex_of(Purpose::Structure), "6e720a76ab7f2999997a633d813b0efaad6a19ce84cbb9e7ba87b7ff9fdc8028");
    assert_eq!(hex_of(Purpose::KeyFile), "eedf580cb3a753548f354becbff65993614eb65d7c20dad5f507b041bcec0760");
    assert_eq!(hex_of(Purpose::Password), "cdcf50e059076721003d20f899c1162c8a776c1b1856b56d3350104f74494991");
    let gear = Purpose::Gear.numbers::<256>(&secret(1));
    assert_eq!((gear[0], gear[255]), (0x8521_8089_8931_AE07, 0x7E6E_10AD_AA43_810C));
}

#[test]
fn golden_slot_keys() {
    let cost = KdfCost { memory_kib: 64, passes: 2, lanes: 2 };
    let key = key_from_password(b"correct horse", &[5; 16], cost).expect("derives");
    assert_eq!(hex::encode(key.expose()), "d5e998931a1b548cdc86de93ca989c6fa675d530d32b195b390e41067c0e5dff");
    let key = key_from_file(&[6; 40], &[5; 16]).expect("derives");
    assert_eq!(hex::encode(key.expose()), "c6cacb9e088099ae00a4711b4012d6f7dea6b6dfda5e2603edba0ac816e6f297");
}

#[test]
fn golden_blob() {
    let mut sealer = BlobSealer::new(3).expect("zstd");
    let sealed = sealer.seal(b"raw bytes", &secret(1), binding()).expect("seals");
    assert_eq!(hex::encode(sealed), "008196970d0a1d7d833bf1e942f4553645dd8073b051b08c7367");
}

#[test]
fn golden_record() {
    let sealed = seal_record(b"plain", &secret(1), 5, [3; 16], REPOSITORY, ObjectKind::Segment).expect("seals");
    assert_eq!(
        hex::encode(sealed),
        "0105000000030303030303030303030303030303034b98d071e3f7354c5196bac4c9f466331cce22d70b"
    );
}

#[test]
fn golden_letter() {
    let to = ExchangeKey::from_secret(secret(2));
    assert_eq!(hex::encode(to.public().0), "ce8d3ad1ccb633ec7b70c17814a5c76ecd029685050d344745ba05870e587d59");
    let letter = seal_letter(b"plain", to.public(), 5, letter_seed(1), REPOSITORY, ObjectKind::Grant).expect("seals");
    assert_eq!(
        hex::encode(letter),
        "5869aff450549732cbaaed5e5df9b30a6da31cb0e5742bad5ad4a1a768f1a67ba545133ca0fb5ddeafc9d9dbb0ee9d4b76fabb85a00df9f9b8f5406b4134489326fe83f8b9af9881462750cb079536c901050000004142434445464748494a4b4c4d4e4f501fbbbc985e8bf675efc7ed4789606fdac4435e99f4"
    );
}

#[test]
fn golden_wrapped_key() {
    let to = ExchangeKey::from_secret(secret(2));
    let wrapped = wrap_key(&secret(5), to.public(), secret(6), binding()).expect("wraps");
    assert_eq!(
        hex::encode(wrapped.0),
        "f5b2d6e60f9477e310c2982daaa6c9136c108a1777c5947e448fa37d6817455719f116d7953a8700dc9bbd450b9a63fc4b8fb4c1017b63c00ad027349b97ebf30ea169793bd921a0a8d6412e4533c2e6"
    );
}

#[test]
fn golden_signature() {
    let key = IdentityKey::from_secret(secret(4));
    assert_eq!(key.identity().to_string(), "ca93ac1705187071d67b83c7ff0efe8108e8ec4530575d7726879333dbdabe7c");
    assert_eq!(
        hex::encode(key.sign(b"object", REPOSITORY, ObjectKind::Segment)),
        "54b1329a4baf56d4310e16a8b1f828963e2368f3ec2ed0d37ff959140af0a00b388b409f258dd770a14f61bedd3c225d7493479e19b006a6e3438f269ceff702"
    );
}
