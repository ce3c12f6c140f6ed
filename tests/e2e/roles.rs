//! What each role may do, and what rotating and removing keys changes.
//!
//! Invariant: a refusal is an error of role or key, before anything is written.
//! Never here: cryptography; `seal` and `pack` have their own tests for that.

use std::sync::Arc;

use engine::{CatRequest, EngineError, Repository, SnapshotFilter};
use futures::TryStreamExt as _;
use harness::{
    COST, Forge, Site, Tree, backup_request, check_all, names_of, password, restore_request, try_backup, try_restore,
};
use pack::{Role, names};
use store::Store as _;
use store::testing::{Fault, FaultyStore, Trigger, Verb};
use tokio_util::sync::CancellationToken;

const ROLES: [(Role, &str); 3] = [(Role::Writer, "writer"), (Role::Reader, "reader"), (Role::Maintenance, "keeper")];

/// A repository with a key of every role and some files to back up.
async fn all_roles() -> (Site, Repository) {
    let site = Site::new(1);
    let owner = site.init(site.store(), "owner").await.expect("makes");
    for (role, who) in ROLES {
        owner.add_key(role, password(who), who, COST).await.expect("adds");
    }
    drop(owner);
    let owner = open(&site, "owner", "owner").await;
    std::fs::create_dir(site.tree().join("folder")).expect("creates");
    for (name, len) in [("one", 5_000), ("folder/two", 70_000), ("three", 1)] {
        std::fs::write(site.tree().join(name), vec![b'x'; len]).expect("writes");
    }
    (site, owner)
}

async fn open(site: &Site, who: &str, cache: &str) -> Repository {
    site.open_as(who, site.store(), cache).await.expect("opens")
}

/// The names of all objects, to see that nothing was written.
async fn objects(site: &Site) -> Vec<String> {
    names_of(&site.memory, "").await
}

#[track_caller]
fn assert_refused<T>(result: Result<T, EngineError>, what: &str) {
    match result {
        Err(EngineError::Role { .. }) => {}
        Err(error) => panic!("{what}: {error}"),
        Ok(_) => panic!("{what} was allowed"),
    }
}

/// Restoring, printing and listing names are refused.
async fn assert_opens_no_content(site: &Site, repository: &Repository) {
    let listed = repository.snapshots(&SnapshotFilter::default()).await.expect("lists");
    let snapshot = listed.last().expect("there is one");
    assert!(snapshot.snapshot.body.is_none(), "the body stays closed");
    let target = site.new_folder();
    let restored = try_restore(repository, snapshot, restore_request(&site.tree_path(), target.path())).await;
    assert_refused(restored, "restore");
    assert_eq!(Tree::read(target.path()).count(), 0);
    let path = [site.tree_path().as_slice(), b"/one"].concat();
    assert_refused(repository.cat(snapshot, CatRequest::whole(path)).await.map(drop), "cat");
    assert_refused(repository.entries(snapshot, b"").await.map(drop), "ls");
}

/// Changing keys is refused.
async fn assert_changes_no_keys(repository: &Repository) {
    assert_refused(repository.add_key(Role::Reader, password("more"), "more", COST).await, "add");
    assert_refused(repository.rotate().await, "rotate");
    assert_refused(repository.remove_key("").await, "remove");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn writer_reads_nothing_unchanged_thanks_to_its_cache_and_stores_nothing_twice_without() {
    let (site, owner) = all_roles().await;
    let tree = Tree::read(&site.tree());
    let writer = open(&site, "writer", "writer").await;
    let first = site.backup(&writer).await;
    let second = site.backup(&writer).await;
    assert_eq!((second.unchanged_count, second.read_len, second.new_len), (3, 0, 0), "{second:?}");
    drop(writer);
    let writer = open(&site, "writer", "another host").await;
    let third = site.backup(&writer).await;
    assert_eq!((third.unchanged_count, third.new_len), (0, 0), "{third:?}");
    assert_eq!(third.content_len, first.content_len);
    for report in [first, second, third] {
        let snapshot = site.snapshot(&owner, &report).await;
        assert!(snapshot.trusted);
        site.assert_restores(&owner, &snapshot, &tree, "by the owner").await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn writer_opens_nothing_its_own_included_and_changes_no_keys() {
    let (site, _owner) = all_roles().await;
    let writer = open(&site, "writer", "writer").await;
    site.backup(&writer).await;
    let before = objects(&site).await;
    assert_opens_no_content(&site, &writer).await;
    assert_changes_no_keys(&writer).await;
    assert_eq!(objects(&site).await, before);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn reader_restores_and_prints_but_writes_nothing() {
    let (site, owner) = all_roles().await;
    let report = site.backup(&owner).await;
    let reader = open(&site, "reader", "reader").await;
    let before = objects(&site).await;
    let snapshot = site.snapshot(&reader, &report).await;
    site.assert_restores(&reader, &snapshot, &Tree::read(&site.tree()), "by the reader").await;
    let path = [site.tree_path().as_slice(), b"/one"].concat();
    let content = reader.cat(&snapshot, CatRequest::whole(path)).await.expect("opens");
    assert_eq!(content.try_collect::<Vec<_>>().await.expect("reads").concat(), vec![b'x'; 5_000]);
    assert_eq!(check_all(&reader).await.expect("checks").damages, []);
    assert_refused(try_backup(&reader, backup_request(&site.tree())).await, "backup");
    assert_changes_no_keys(&reader).await;
    assert_eq!(objects(&site).await, before);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn maintenance_lists_and_checks_structure_and_opens_nothing() {
    let (site, owner) = all_roles().await;
    site.backup(&owner).await;
    let keeper = open(&site, "keeper", "keeper").await;
    let before = objects(&site).await;
    let listed = keeper.snapshots(&SnapshotFilter::default()).await.expect("lists");
    assert_eq!(listed[0].snapshot.structure.host, "host");
    let report = check_all(&keeper).await.expect("checks");
    assert_eq!((report.damages, report.unclear, report.snapshots), (Vec::new(), Vec::new(), 1));
    assert!(report.chunks > 3, "the trees were walked");
    assert_opens_no_content(&site, &keeper).await;
    assert_refused(try_backup(&keeper, backup_request(&site.tree())).await, "backup");
    assert_changes_no_keys(&keeper).await;
    assert_eq!(objects(&site).await, before);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn old_and_new_data_restore_after_a_rotation_for_old_and_new_keys() {
    let (site, owner) = all_roles().await;
    let old_tree = Tree::read(&site.tree());
    let old = site.backup(&owner).await;
    assert_eq!(owner.rotate().await.expect("rotates"), 2);
    drop(owner);
    let owner = open(&site, "owner", "owner").await;
    std::fs::write(site.tree().join("later"), b"after the rotation").expect("writes");
    let new_tree = Tree::read(&site.tree());
    let writer = open(&site, "writer", "writer").await;
    let new = site.backup(&writer).await;
    assert_eq!(new.new_len, 18, "chunks keep their ids: {new:?}");
    owner.add_key(Role::Reader, password("newcomer"), "newcomer", COST).await.expect("adds");
    for who in ["owner", "reader", "newcomer"] {
        let repository = open(&site, who, &format!("{who} again")).await;
        for (report, tree) in [(&old, &old_tree), (&new, &new_tree)] {
            let snapshot = site.snapshot(&repository, report).await;
            site.assert_restores(&repository, &snapshot, tree, who).await;
        }
        assert_eq!(check_all(&repository).await.expect("checks").damages, []);
    }
    let status = owner.key_status().await.expect("counts");
    assert_eq!(status.epoch, 2);
    assert!(status.packs.iter().all(|(_, count, _)| *count >= 1), "both epochs seal something: {status:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn removed_key_opens_no_more_and_the_others_go_on() {
    let (site, owner) = all_roles().await;
    let report = site.backup(&owner).await;
    let key = owner.keys().await.expect("lists").into_iter().find(|key| key.role == Role::Reader).expect("is there");
    let name = format!("{}/{}", names::KEYS, key.id);
    let slot = site.memory.get(&name).await.expect("is there");
    assert_eq!(owner.remove_key(&key.id).await.expect("removes"), key.id);
    drop(owner);
    let gone = site.open_as("reader", site.store(), "reader").await;
    assert!(matches!(gone, Err(EngineError::WrongKey { .. })), "{gone:?}");
    let owner = open(&site, "owner", "owner").await;
    std::fs::write(site.tree().join("later"), b"not for the removed key").expect("writes");
    let later = site.backup(&owner).await;
    assert_eq!(owner.keys().await.expect("lists").len(), 3);
    // Who kept a copy of the slot and can write to the store reads what it could read before, and nothing later.
    site.memory.put_new(&name, vec![slot]).await.expect("puts back");
    let reader = open(&site, "reader", "reader").await;
    let snapshots = reader.snapshots(&SnapshotFilter::default()).await;
    let shown = snapshots.map(|all| all.into_iter().map(|info| info.id).collect::<Vec<_>>()).unwrap_or_default();
    let later = later.snapshot.expect("committed");
    assert!(!shown.contains(&later), "the later snapshot does not open: {shown:?}");
    let selected = |prefix: String| {
        let reader = &reader;
        async move { reader.select(&engine::Selector::Prefix(prefix), &SnapshotFilter::default()).await }
    };
    assert!(selected(later.to_string()).await.is_err());
    assert!(selected(report.snapshot.expect("committed").to_string()).await.is_ok());
    let listed = owner.keys().await.expect("lists");
    assert!(listed.iter().any(|key| key.revoked && key.role == Role::Reader), "it is shown as removed: {listed:?}");
}

/// The exchange keys that an epoch is granted to.
async fn granted(site: &Site, epoch: u32) -> Vec<seal::ExchangePublic> {
    let config = pack::Config::decode(&site.memory.get(names::CONFIG).await.expect("is there")).expect("decodes");
    let bytes = site.memory.get(&names::epoch(epoch)).await.expect("is there");
    let epoch = pack::Epoch::decode(&bytes, config.owner, config.repository).expect("decodes");
    epoch.grants.iter().map(|grant| grant.exchange).collect()
}

/// Every key slot, by the start of its name.
async fn slots(site: &Site) -> Vec<(String, pack::Slot, bytes::Bytes)> {
    let config = pack::Config::decode(&site.memory.get(names::CONFIG).await.expect("is there")).expect("decodes");
    let mut slots = Vec::new();
    for name in names_of(&site.memory, names::KEYS).await {
        let bytes = site.memory.get(&name).await.expect("is there");
        slots.push((name, pack::Slot::decode(&bytes, config.owner, config.repository).expect("decodes"), bytes));
    }
    slots
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn removing_a_key_removes_every_slot_of_it_and_grants_to_none() {
    let (site, owner) = all_roles().await;
    // Without the right to delete, a changed password leaves two slots of one key.
    let faulty = Arc::new(FaultyStore::new(site.store()));
    faulty.inject(Trigger::next().of(Verb::Delete).always(), Fault::Deny);
    let reader = site.open_as("reader", faulty, "reader").await.expect("opens");
    assert!(reader.change_password(password("another"), COST).await.is_err(), "the old slot stays");
    drop(reader);
    let readers: Vec<_> =
        slots(&site).await.into_iter().filter(|slot| slot.1.certificate.role == Role::Reader).collect();
    let [(first, slot, _), (second, ..)] = readers.as_slice() else { panic!("two slots: {readers:?}") };
    owner.remove_key(names::last(first)).await.expect("removes");
    drop(owner);
    let left = names_of(&site.memory, names::KEYS).await;
    assert!(!left.contains(first) && !left.contains(second), "both slots are gone: {left:?}");
    assert!(!granted(&site, 2).await.contains(&slot.certificate.exchange), "the new epoch is not granted to the key");
    assert_eq!(granted(&site, 2).await.len(), 3, "but to all others");
    for who in ["reader", "another"] {
        let gone = site.open_as(who, site.store(), who).await;
        assert!(matches!(gone, Err(EngineError::WrongKey { .. })), "{who}: {gone:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn slot_of_a_removed_key_that_was_put_back_is_granted_no_later_epoch() {
    let (site, owner) = all_roles().await;
    let other_owner = owner.add_key(Role::Owner, password("second"), "second", COST).await.expect("adds");
    let removed: Vec<_> = slots(&site).await;
    let removed: Vec<_> = removed
        .into_iter()
        .filter(|(name, slot, _)| slot.certificate.role == Role::Reader || names::last(name) == other_owner)
        .collect();
    assert_eq!(removed.len(), 2);
    let mut owner = owner;
    for (name, ..) in &removed {
        owner.remove_key(names::last(name)).await.expect("removes");
        drop(owner);
        owner = open(&site, "owner", "owner").await;
    }
    for (name, _, bytes) in &removed {
        site.memory.put_new(name, vec![bytes.clone()]).await.expect("puts back");
    }
    assert_eq!(owner.rotate().await.expect("rotates"), 4);
    drop(owner);
    let owner = open(&site, "owner", "owner").await;
    let writer = owner.keys().await.expect("lists").into_iter().find(|key| key.role == Role::Writer).expect("is there");
    owner.remove_key(&writer.id).await.expect("removes");
    for epoch in [4, 5] {
        let granted = granted(&site, epoch).await;
        for (name, slot, _) in &removed {
            assert!(!granted.contains(&slot.certificate.exchange), "epoch {epoch} is granted to {name}");
        }
        assert_eq!(granted.len(), 7 - epoch as usize, "all others have epoch {epoch}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn owner_removes_an_old_slot_of_its_own_key_and_goes_on() {
    let (site, owner) = all_roles().await;
    drop(owner);
    let faulty = Arc::new(FaultyStore::new(site.store()));
    faulty.inject(Trigger::next().of(Verb::Delete).always(), Fault::Deny);
    let owner = site.open_as("owner", faulty, "owner").await.expect("opens");
    assert!(owner.change_password(password("another"), COST).await.is_err(), "the old slot stays");
    drop(owner);
    let owner = open(&site, "another", "owner").await;
    let own = owner.keys().await.expect("lists").into_iter().filter(|key| key.role == Role::Owner);
    let [old] = own.filter(|key| !key.is_current).collect::<Vec<_>>().try_into().expect("one other");
    owner.remove_key(&old.id).await.expect("removes");
    drop(owner);
    let gone = site.open_as("owner", site.store(), "none").await;
    assert!(matches!(gone, Err(EngineError::WrongKey { .. })), "{gone:?}");
    let owner = open(&site, "another", "owner").await;
    site.backup(&owner).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn repair_does_not_have_the_owner_vouch_for_what_a_removed_writer_wrote_later() {
    let (site, owner) = all_roles().await;
    let writer = open(&site, "writer", "writer").await;
    let key = owner.keys().await.expect("lists").into_iter().find(|key| key.role == Role::Writer).expect("is there");
    owner.remove_key(&key.id).await.expect("removes");
    for name in ["one", "two"] {
        std::fs::write(site.tree().join(name), harness::Dice::of_seed(5).bytes(300_000)).expect("writes");
    }
    let report = site.backup(&writer).await;
    drop(owner);
    let mut longest = (0, String::new());
    for name in names_of(&site.memory, names::PACKS).await {
        longest = longest.max((site.memory.get(&name).await.expect("reads").len(), name));
    }
    site.memory.delete(&longest.1).await.expect("deletes");
    let owner = open(&site, "owner", "owner").await;
    let cancel = CancellationToken::new();
    let plan = owner.plan_repair_snapshots(&cancel).await.expect("plans");
    let [repair] = plan.snapshots.as_slice() else { panic!("one is damaged: {plan:?}") };
    assert_eq!((Some(repair.info.id), repair.info.trusted), (report.snapshot, false));
    assert!(!repair.is_all_lost() && !repair.is_due() && plan.is_empty(false), "{plan:?}");
    assert!(!repair.may_go() && plan.is_empty(true), "what is left of it lies nowhere else: {plan:?}");
    for forget in [None, Some(&jiff::Zoned::now())] {
        let done = owner.repair_snapshots(&plan, forget, &Arc::default(), &cancel).await.expect("repairs");
        assert_eq!((done.committed, done.hidden), (vec![], vec![]), "{forget:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_removed_writer_writes_later_is_not_believed() {
    let (site, owner) = all_roles().await;
    let writer = open(&site, "writer", "writer").await;
    let before = site.backup(&writer).await;
    let key = owner.keys().await.expect("lists").into_iter().find(|key| key.role == Role::Writer).expect("is there");
    owner.remove_key(&key.id).await.expect("removes");
    // It is still running, with the keys of the old epoch.
    std::fs::write(site.tree().join("later"), b"by a stranger now").expect("writes");
    let after = site.backup(&writer).await;
    drop(owner);
    let owner = open(&site, "owner", "owner").await;
    let listed = owner.snapshots(&SnapshotFilter::default()).await.expect("lists");
    let trusted = |id| listed.iter().find(|info| Some(info.id) == id).map(|info| info.trusted);
    assert_eq!((trusted(before.snapshot), trusted(after.snapshot)), (Some(true), Some(false)));
    let latest = owner.select(&engine::Selector::Latest, &SnapshotFilter::default()).await.expect("selects");
    assert_eq!(Some(latest.id), before.snapshot);
    site.backup(&owner).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn segment_of_a_removed_writer_changes_nothing_about_packs_that_others_vouch_for() {
    let (site, owner) = all_roles().await;
    let forge = Forge::open(&site.memory, "writer").await;
    site.backup(&owner).await;
    let key = owner.keys().await.expect("lists").into_iter().find(|key| key.role == Role::Writer).expect("is there");
    owner.remove_key(&key.id).await.expect("removes");
    for name in names_of(&site.memory, names::INDEX).await {
        let mut segment = forge.open_segment(&site.memory.get(&name).await.expect("is there"));
        for chunk in segment.packs.iter_mut().flat_map(|pack| &mut pack.trailer.chunks) {
            chunk.0 = seal::ChunkId::from_bytes([7; seal::CHUNK_ID_LEN]);
        }
        let (name, bytes) = forge.segment(&segment);
        site.memory.put_new(&name, vec![bytes]).await.expect("puts");
    }
    drop(owner);
    // Whoever reads the index for the first time sees all segments at once.
    let fresh = open(&site, "owner", "fresh").await;
    let mut forced = backup_request(&site.tree());
    forced.components[0].force = true;
    assert_eq!(site.backup_of(&fresh, forced).await.new_len, 0, "what is known is neither hidden nor distrusted");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn losing_a_key_slot_makes_nothing_unbelievable_that_was_written_with_it() {
    let (site, owner) = all_roles().await;
    let writer = open(&site, "writer", "writer").await;
    let report = site.backup(&writer).await;
    let key = owner.keys().await.expect("lists").into_iter().find(|key| key.role == Role::Writer).expect("is there");
    for prefix in [names::KEYS, names::KEYS_COPY] {
        site.memory.delete(&format!("{prefix}/{}", key.id)).await.expect("loses it");
    }
    drop((owner, writer));
    let owner = open(&site, "owner", "a host that sees it for the first time").await;
    let listed = owner.snapshots(&SnapshotFilter::default()).await.expect("lists");
    assert!(listed.iter().any(|info| Some(info.id) == report.snapshot && info.trusted), "{listed:?}");
    assert_eq!(check_all(&owner).await.expect("checks").damages, []);
    let snapshot = site.snapshot(&owner, &report).await;
    site.assert_restores(&owner, &snapshot, &Tree::read(&site.tree()), "without the slot").await;
    let again = site.backup(&owner).await;
    assert_eq!(again.new_len, 0, "its segments still serve to deduplicate");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn new_password_opens_and_the_old_one_does_not() {
    let (site, owner) = all_roles().await;
    let report = site.backup(&owner).await;
    for who in ["owner", "reader", "writer", "keeper"] {
        let repository = open(&site, who, &format!("{who} before")).await;
        repository.change_password(password(&format!("new {who}")), COST).await.expect("changes");
        drop(repository);
        let old = site.open_as(who, site.store(), "none").await;
        assert!(matches!(old, Err(EngineError::WrongKey { .. })), "{who}: {old:?}");
        let repository = open(&site, &format!("new {who}"), &format!("{who} after")).await;
        assert_eq!(repository.snapshots(&SnapshotFilter::default()).await.expect("lists").len(), 1);
    }
    let reader = open(&site, "new reader", "reader after").await;
    let snapshot = site.snapshot(&reader, &report).await;
    site.assert_restores(&reader, &snapshot, &Tree::read(&site.tree()), "with a new password").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn owner_in_use_cannot_remove_itself() {
    let (_site, owner) = all_roles().await;
    let own = owner.keys().await.expect("lists").into_iter().find(|key| key.is_current).expect("is there");
    let refused = owner.remove_key(&own.id).await;
    assert!(matches!(refused, Err(EngineError::Request { .. })), "{refused:?}");
    let unclear = owner.remove_key("").await;
    assert!(matches!(unclear, Err(EngineError::Request { .. })), "{unclear:?}");
    assert_eq!(owner.keys().await.expect("lists").len(), 4);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn store_rolled_back_to_an_older_epoch_is_refused_by_who_saw_the_newer() {
    let (site, owner) = all_roles().await;
    owner.rotate().await.expect("rotates");
    drop(owner);
    drop(open(&site, "owner", "owner").await);
    for name in [names::epoch(2), names::copy_of(&names::epoch(2))] {
        site.memory.delete(&name).await.expect("deletes");
    }
    let refused = site.open_as("owner", site.store(), "owner").await;
    assert!(matches!(refused, Err(EngineError::RolledBack { found: 1, seen: 2 })), "{refused:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn segment_that_its_signer_may_not_write_is_named_and_passed_over() {
    let (site, owner) = all_roles().await;
    let writer = open(&site, "writer", "writer").await;
    site.backup(&writer).await;
    let own = names_of(&site.memory, names::INDEX).await.pop().expect("has one");
    let own_id = pack::SegmentId::from_hex(names::last(&own)).expect("is an id");
    for (who, may_replace) in [("writer", false), ("keeper", true), ("owner", true)] {
        let forge = Forge::open(&site.memory, who).await;
        let segment = forge.open_segment(&site.memory.get(&own).await.expect("is there"));
        let replacing = pack::Segment { replaces: vec![own_id], ..segment.clone() };
        let elsewhere = pack::Segment { domain: [7; 16], ..segment };
        for (segment, is_allowed) in [(replacing, may_replace), (elsewhere, who == "owner")] {
            let (name, bytes) = forge.segment(&segment);
            site.memory.overwrite(&name, bytes).await;
            let report = check_all(&owner).await.expect("checks");
            let is_named = report.damages.iter().any(|damage| damage.object == name);
            assert_eq!(is_named, !is_allowed, "{who}: {report:?}");
            site.memory.delete(&name).await.expect("deletes");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn snapshot_of_another_domain_than_its_signer_is_damaged() {
    let (site, owner) = all_roles().await;
    let report = site.backup(&owner).await;
    let id = report.snapshot.expect("was committed");
    let found = site.snapshot(&owner, &report).await.snapshot;
    let writer = Forge::open(&site.memory, "writer").await;
    for (domain, is_right) in [([0; 16], true), ([7; 16], false)] {
        let structure = pack::SnapshotStructure { domain, ..found.structure.clone() };
        let (name, bytes) = writer.snapshot(&site.memory, &structure, found.body.as_ref().expect("is open")).await;
        assert_eq!(name, names::snapshot(&id));
        site.memory.overwrite(&name, bytes).await;
        let report = check_all(&owner).await.expect("checks");
        assert_eq!(report.damages.iter().any(|damage| damage.object == name), !is_right, "{report:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tombstone_is_shown_as_one_only_if_a_collector_signed_it() {
    let (site, owner) = all_roles().await;
    let id = pack::SnapshotId([9; 16]);
    for (who, is_right) in [("writer", false), ("reader", false), ("keeper", true), ("owner", true)] {
        let (name, bytes) = Forge::open(&site.memory, who).await.dead(id);
        site.memory.overwrite(&name, bytes).await;
        let shown = owner.object(&name).await;
        assert_eq!(shown.as_ref().is_ok_and(|shown| shown.contains("tombstone")), is_right, "{who}: {shown:?}");
    }
}
