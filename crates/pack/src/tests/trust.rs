//! Keys, signers and slots that must not be believed.
//!
//! Invariant: each case is an attack that somebody with a key of his own, or only with the store, could try.
//! Never here: roles of signers, which the engine checks against certificates.

use seal::{ExchangeKey, IdentityKey, ObjectKind, RepositoryId};

use super::samples::{self, EPOCH, REPOSITORY, SALT, index_keys, seed};
use crate::*;

#[test]
fn a_config_signed_by_another_than_its_owner_is_refused() {
    let object = samples::config().encode(&samples::writer()).expect("encodes");
    assert_eq!(Config::decode(&object), Err(PackError::Inconsistent { what: "not signed by its owner" }));
    assert!(Config::decode(&samples::config().encode(&samples::owner()).expect("encodes")).is_ok());
}

#[test]
fn a_slot_is_decoded_only_under_its_owner_and_signed_by_itself() {
    let (slot, owner) = (samples::slot(Role::Writer), samples::owner().identity());
    let object = slot.encode(&samples::writer(), REPOSITORY).expect("encodes");
    assert_eq!(Slot::decode(&object, owner, REPOSITORY), Ok(slot.clone()));
    assert!(Slot::decode(&object, samples::writer().identity(), REPOSITORY).is_err(), "another owner");
    assert!(Slot::decode(&object, owner, RepositoryId([8; 16])).is_err(), "another repository");
    let by_owner = slot.encode(&samples::owner(), REPOSITORY).expect("encodes");
    assert!(Slot::decode(&by_owner, owner, REPOSITORY).is_err(), "signed by another");
}

#[test]
fn a_certificate_cannot_be_improved() {
    let owner = samples::owner().identity();
    let certificate = samples::certificate(Role::Writer);
    assert_eq!(certificate.verify(owner, REPOSITORY), Ok(()));
    let improved = [
        Certificate { role: Role::Owner, ..certificate.clone() },
        Certificate { domain: [1; 16], ..certificate.clone() },
        Certificate { since_epoch: 1, ..certificate.clone() },
        Certificate { identity: owner, ..certificate.clone() },
        Certificate { exchange: samples::exchange().public(), ..certificate.clone() },
        Certificate { signature: vec![], ..certificate.clone() },
        Certificate { signature: [certificate.signature.clone(), vec![0]].concat(), ..certificate },
    ];
    assert!(improved.iter().all(|certificate| certificate.verify(owner, REPOSITORY).is_err()));
}

#[test]
fn a_slot_opens_with_its_key_alone() {
    let slot = samples::slot(Role::Owner);
    let secrets = slot.open_secrets(&samples::secret(0x61), REPOSITORY).expect("opens");
    assert_eq!(secrets.owner, samples::owner().identity());
    assert!(slot.open_secrets(&samples::secret(0x62), REPOSITORY).is_err());
    assert!(slot.open_secrets(&samples::secret(0x61), RepositoryId([8; 16])).is_err());
}

#[test]
fn the_secrets_of_a_slot_do_not_open_within_the_slot_of_another() {
    let thief = IdentityKey::from_secret(samples::secret(0x77));
    let thief_exchange = ExchangeKey::from_secret(samples::secret(0x78)).public();
    let certify = |owner: &IdentityKey, exchange, identity| {
        Certificate::sign(Role::Writer, exchange, identity, 2, owner, REPOSITORY).expect("signs")
    };
    let victim = samples::slot(Role::Owner);
    let (exchange, identity) = (victim.certificate.exchange, victim.certificate.identity);
    for certificate in [
        certify(&samples::owner(), thief_exchange, thief.identity()),
        certify(&samples::owner(), exchange, thief.identity()),
        certify(&samples::owner(), thief_exchange, identity),
        certify(&thief, exchange, identity),
    ] {
        let slot = Slot { certificate, ..victim.clone() };
        assert!(slot.open_secrets(&samples::secret(0x61), REPOSITORY).is_err());
    }
}

#[test]
fn a_role_is_granted_what_it_needs_and_no_more() {
    for (role, chunk_id, chunker, exchange) in [
        (Role::Owner, true, true, true),
        (Role::Writer, true, true, false),
        (Role::Reader, true, false, true),
        (Role::Maintenance, false, false, false),
    ] {
        let secrets = samples::grant(role).open(&samples::slot_exchange(), REPOSITORY).expect("opens");
        let granted = (secrets.chunk_id.is_some(), secrets.chunker.is_some(), secrets.exchange.is_some());
        assert_eq!(granted, (chunk_id, chunker, exchange), "{role}");
        assert_eq!(secrets.index, samples::index_key());
    }
}

#[test]
fn a_grant_opens_for_its_slot_and_epoch_alone() {
    let grant = samples::grant(Role::Owner);
    assert!(grant.open(&samples::exchange(), REPOSITORY).is_err(), "another slot");
    assert!(grant.open(&samples::slot_exchange(), RepositoryId([8; 16])).is_err(), "another repository");
    let moved = Grant { epoch: EPOCH + 1, ..grant };
    assert!(moved.open(&samples::slot_exchange(), REPOSITORY).is_err(), "another epoch");
}

#[test]
fn an_epoch_is_believed_from_the_owner_alone() {
    let (epoch, owner) = (samples::epoch(), samples::owner().identity());
    let object = epoch.encode(&samples::owner(), REPOSITORY).expect("encodes");
    assert_eq!(Epoch::decode(&object, owner, REPOSITORY), Ok(epoch.clone()));
    let forged = epoch.encode(&samples::writer(), REPOSITORY).expect("encodes");
    assert!(Epoch::decode(&forged, owner, REPOSITORY).is_err());
}

#[test]
fn a_signer_writes_what_the_owner_certified_and_no_more() {
    let owner = samples::owner().identity();
    let role_of = |signer: Signer, owner| {
        let object = Frame::encode(ObjectKind::Dead, &[b"x"], &signer, REPOSITORY).expect("encodes");
        Frame::decode(&object, ObjectKind::Dead, REPOSITORY).expect("decodes").role(owner, REPOSITORY)
    };
    assert_eq!(role_of(samples::signer(), owner), Some(Role::Writer));
    assert_eq!(role_of(Signer::bare(samples::owner()), owner), Some(Role::Owner));
    assert_eq!(role_of(Signer::bare(samples::writer()), owner), None, "without a certificate");
    assert_eq!(
        role_of(samples::signer(), samples::writer().identity()),
        Some(Role::Owner),
        "under an owner of its own"
    );
    let thief = IdentityKey::from_secret(samples::secret(0x77));
    let stolen = Signer::certified(thief.clone(), samples::certificate(Role::Owner));
    assert_eq!(role_of(stolen, owner), None, "the certificate of another");
    let improved = Certificate { role: Role::Maintenance, ..samples::certificate(Role::Writer) };
    assert_eq!(role_of(Signer::certified(samples::writer(), improved), owner), None, "a certificate improved");
    let exchange = samples::exchange().public();
    let own = Certificate::sign(Role::Owner, exchange, thief.identity(), 1, &thief, REPOSITORY).expect("signs");
    assert_eq!(role_of(Signer::certified(thief, own), owner), None, "a certificate of its own making");
}

#[test]
fn a_snapshot_opens_under_its_own_name_and_with_its_keys() {
    let object = samples::snapshot_object();
    let frame = Frame::decode(&object, ObjectKind::SnapshotStructure, REPOSITORY).expect("decodes");
    let open = |id: u8, exchange: Option<ExchangeKey>| {
        let keys = |epoch| index_keys(epoch).map(|key| (key, exchange.clone()));
        Snapshot::open(&frame, SnapshotId([id; 16]), keys, REPOSITORY)
    };
    let whole = open(0x5D, Some(samples::exchange())).expect("opens");
    assert_eq!((whole.structure, whole.body), (samples::snapshot_structure(), Some(samples::snapshot_body())));
    assert_eq!(open(0x5D, None).expect("opens").body, None, "without the epoch's key there is no body");
    assert!(open(0x5E, None).is_err(), "another name");
    assert!(open(0x5D, Some(samples::slot_exchange())).is_err(), "another key");
    let unknown = Snapshot::open(&frame, SnapshotId([0x5D; 16]), |_| None, REPOSITORY);
    assert!(unknown.is_err(), "an unknown epoch");
}

#[test]
fn a_snapshot_whose_halves_differ_is_refused() {
    let (structure, mut body) = (samples::snapshot_structure(), samples::snapshot_body());
    body.components.clear();
    let (to, key) = ((EPOCH, samples::exchange().public()), samples::index_key());
    let object = Snapshot::encode(&structure, &body, to, &key, SALT, seed(2), &samples::signer(), REPOSITORY);
    let object = object.expect("encodes");
    let frame = Frame::decode(&object, ObjectKind::SnapshotStructure, REPOSITORY).expect("decodes");
    let keys = |epoch| index_keys(epoch).map(|key| (key, Some(samples::exchange())));
    assert!(Snapshot::open(&frame, structure.id, keys, REPOSITORY).is_err());
}

#[test]
fn a_coordination_record_opens_as_its_own_kind_alone() {
    let object = samples::dead()
        .encode(&samples::index_key(), EPOCH, SALT, &Signer::bare(samples::owner()), REPOSITORY)
        .expect("encodes");
    let frame = Frame::decode(&object, ObjectKind::Dead, REPOSITORY).expect("decodes");
    assert_eq!(Dead::open(&frame, index_keys, REPOSITORY), Ok(samples::dead()));
    assert!(Forgotten::open(&frame, index_keys, REPOSITORY).is_err(), "the same fields under another kind");
    assert!(Dead::open(&frame, |_| Some(samples::secret(1)), REPOSITORY).is_err(), "another index key");
    assert!(Dead::open(&frame, |_| None, REPOSITORY).is_err(), "an unknown epoch");
}
