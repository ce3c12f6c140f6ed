//! What every store must do, whoever made it.
//!
//! ```text
//! conforms(store) ─ create · read · ranges · head · list · delete · names · sizes · probe
//!                   and the race, for stores that look and create in one step
//! ```
//!
//! The race stands apart because the S3 server of the tests looks first and creates later: of many
//! creates at once two sometimes win there. It proves nothing about S3 and is run on the others.
//!
//! Invariant: each check keeps to a folder of its own, so the suite runs on a store that holds other things.
//! Never here: what only one store does.

use std::collections::BTreeSet;

use bytes::Bytes;
use futures::future::join_all;
use futures::stream::{self, StreamExt, TryStreamExt};

use crate::store::{Put, SharedStore, Store};
use crate::{Env, StoreError, probe};

/// Enough objects that every server needs a second page.
const MANY_OBJECTS: usize = 1_200;
const RACERS: usize = 16;
/// In bytes.
const LARGE_LEN: usize = 32 << 20;

/// Runs every check but the race on `store`, and panics at the first thing that it does not do as it must.
pub async fn conforms(store: &SharedStore) {
    creates_once_and_keeps_the_first(store).await;
    joins_the_parts_of_a_body(store).await;
    reads_exact_ranges_or_says_truncated(store).await;
    names_the_object_that_is_absent(store).await;
    shows_length_and_time(store).await;
    lists_below_a_folder_and_nothing_beside_it(store).await;
    deletes_and_creates_again(store).await;
    takes_odd_names(store).await;
    refuses_names_that_are_none(store).await;
    holds_an_empty_object(store).await;
    holds_a_large_object(store).await;
    lists_more_than_a_page(store).await;
    shows_all_abilities_to_a_probe(store).await;
}

/// A body of one part.
fn body(bytes: &'static [u8]) -> Vec<Bytes> {
    vec![Bytes::from_static(bytes)]
}

async fn names(store: &dyn Store, prefix: &str) -> BTreeSet<String> {
    let items: Vec<_> = store.list(prefix).try_collect().await.expect("lists");
    let count = items.len();
    let names: BTreeSet<_> = items.into_iter().map(|item| item.name).collect();
    assert_eq!(names.len(), count, "no object is listed twice");
    names
}

/// A second create is refused and changes nothing.
pub async fn creates_once_and_keeps_the_first(store: &SharedStore) {
    let name = "conformance/once/object";
    assert_eq!(store.put_new(name, body(b"first")).await.expect("creates"), Put::Created);
    assert_eq!(store.put_new(name, body(b"second")).await.expect("answers"), Put::AlreadyThere);
    assert_eq!(store.get(name).await.expect("reads"), "first");
}

/// Of many creates at once exactly one wins, and its bytes stay.
pub async fn lets_one_of_many_racing_creates_win(store: &SharedStore) {
    let name = "conformance/race/object";
    let racers = (0..RACERS).map(|racer| async move {
        let body = vec![Bytes::from(format!("racer {racer}"))];
        (racer, store.put_new(name, body).await.expect("answers"))
    });
    let outcomes = join_all(racers).await;
    let winners: Vec<_> = outcomes.iter().filter(|(_, put)| *put == Put::Created).collect();
    assert_eq!(winners.len(), 1, "{outcomes:?}");
    assert_eq!(store.get(name).await.expect("reads"), format!("racer {}", winners[0].0));
}

/// The parts of a body lie end to end, empty ones included.
pub async fn joins_the_parts_of_a_body(store: &SharedStore) {
    let name = "conformance/parts/object";
    let parts = [&b"one "[..], b"", b"two ", b"three"].map(Bytes::from_static);
    store.put_new(name, parts.to_vec()).await.expect("creates");
    assert_eq!(store.get(name).await.expect("reads"), "one two three");
}

/// A range comes exactly, or not at all.
pub async fn reads_exact_ranges_or_says_truncated(store: &SharedStore) {
    let name = "conformance/ranges/object";
    store.put_new(name, body(b"0123456789")).await.expect("creates");
    for (range, expected) in [(0..10, "0123456789"), (0..1, "0"), (9..10, "9"), (3..7, "3456"), (4..4, "")] {
        assert_eq!(store.get_range(name, range).await.expect("reads"), expected);
    }
    for range in [5..11, 10..11, 100..200] {
        let error = store.get_range(name, range.clone()).await.expect_err("ends too early");
        assert!(matches!(error, StoreError::Truncated { .. }), "{range:?}: {error:?}");
        assert!(error.to_string().contains(name), "{error}");
    }
}

/// What is absent is named.
pub async fn names_the_object_that_is_absent(store: &SharedStore) {
    let name = "conformance/absent/object";
    for error in [store.get(name).await.expect_err("absent"), store.get_range(name, 0..1).await.expect_err("absent")] {
        assert!(error.is_not_found(), "{error:?}");
        assert!(error.to_string().contains(name), "{error}");
    }
    assert_eq!(store.head(name).await.expect("answers"), None);
    assert_eq!(names(&**store, "conformance/absent").await, BTreeSet::new());
}

/// Length and time are the same in a look and in a listing, to the second, and later puts are not earlier.
pub async fn shows_length_and_time(store: &SharedStore) {
    let (first, second) = ("conformance/info/a", "conformance/info/b");
    store.put_new(first, body(b"12345")).await.expect("creates");
    store.put_new(second, body(b"1")).await.expect("creates");
    let looked = store.head(first).await.expect("answers").expect("is there");
    let later = store.head(second).await.expect("answers").expect("is there");
    assert_eq!((looked.name.as_str(), looked.len), (first, 5));
    assert!(later.modified_at >= looked.modified_at, "{later:?} {looked:?}");
    let listed: Vec<_> = store.list("conformance/info").try_collect().await.expect("lists");
    let listed = listed.into_iter().find(|info| info.name == first).expect("is listed");
    assert_eq!(listed.len, 5);
    assert_eq!(listed.modified_at.as_millis() / 1_000, looked.modified_at.as_millis() / 1_000);
}

/// A listing goes down all folders below its prefix, and stops at the folder's name.
pub async fn lists_below_a_folder_and_nothing_beside_it(store: &SharedStore) {
    let below = ["conformance/list/a", "conformance/list/b/c", "conformance/list/b/d/e"];
    for name in below.iter().chain(&["conformance/list2/x", "conformance/lis"]) {
        store.put_new(name, body(b"x")).await.expect("creates");
    }
    let expected: BTreeSet<_> = below.iter().map(ToString::to_string).collect();
    assert_eq!(names(&**store, "conformance/list").await, expected);
    assert_eq!(names(&**store, "conformance/list/").await, expected);
    assert_eq!(names(&**store, "conformance/list/b/d").await.len(), 1);
    assert!(names(&**store, "").await.is_superset(&expected));
    assert_eq!(names(&**store, "conformance/nothing").await, BTreeSet::new());
}

/// A deleted object is gone, deleting it again is fine, and its name is free.
pub async fn deletes_and_creates_again(store: &SharedStore) {
    let name = "conformance/delete/object";
    store.put_new(name, body(b"old")).await.expect("creates");
    store.delete(name).await.expect("deletes");
    assert_eq!(store.head(name).await.expect("answers"), None);
    assert!(store.get(name).await.expect_err("absent").is_not_found());
    assert_eq!(names(&**store, "conformance/delete").await, BTreeSet::new());
    store.delete(name).await.expect("absent is fine");
    store.delete("conformance/never/was").await.expect("absent is fine");
    assert_eq!(store.put_new(name, body(b"new")).await.expect("creates"), Put::Created);
    assert_eq!(store.get(name).await.expect("reads"), "new");
}

/// Names with spaces, umlauts and everything that URLs treat specially.
pub async fn takes_odd_names(store: &SharedStore) {
    let odd =
        ["a b", "ü", "1+1", "100%", "%20", "q?x=1&y", "h#x", "~!@$^*()=", "'\"<>", "-", "...", "a.b", "[1]", "日本"];
    for segment in odd {
        let name = format!("conformance/odd/{segment}/{segment}");
        store.put_new(&name, vec![Bytes::from(segment)]).await.expect(segment);
        assert_eq!(store.get(&name).await.expect(segment), segment);
        assert!(store.head(&name).await.expect(segment).is_some(), "{segment}");
    }
    let listed = names(&**store, "conformance/odd").await;
    let expected: BTreeSet<_> = odd.map(|segment| format!("conformance/odd/{segment}/{segment}")).into();
    assert_eq!(listed, expected);
    store.delete("conformance/odd/%20/%20").await.expect("deletes");
    assert_eq!(names(&**store, "conformance/odd").await.len(), odd.len() - 1);
}

/// Names that would leave the repository, or that two objects could share, are refused.
pub async fn refuses_names_that_are_none(store: &SharedStore) {
    for name in ["", "/", "/a", "a/", "a//b", "a/../b", "..", "./a"] {
        let error = store.put_new(name, body(b"x")).await.expect_err(name);
        assert!(matches!(error, StoreError::BadName { .. }), "{name}: {error:?}");
        assert!(store.get(name).await.is_err() && store.delete(name).await.is_err(), "{name}");
    }
}

/// An object may be empty.
pub async fn holds_an_empty_object(store: &SharedStore) {
    let name = "conformance/empty/object";
    store.put_new(name, Vec::new()).await.expect("creates");
    assert_eq!(store.get(name).await.expect("reads"), "");
    assert_eq!(store.head(name).await.expect("answers").expect("is there").len, 0);
    assert!(matches!(store.get_range(name, 0..1).await, Err(StoreError::Truncated { .. })));
}

/// A large object in many parts comes back whole and in ranges.
pub async fn holds_a_large_object(store: &SharedStore) {
    let name = "conformance/large/object";
    let mut bytes = vec![0; LARGE_LEN];
    Env::fixed(crate::Timestamp::from_secs(0), 32).fill_random(&mut bytes);
    let bytes = Bytes::from(bytes);
    let parts = (0..32).map(|part| bytes.slice(part << 20..(part + 1) << 20)).collect();
    store.put_new(name, parts).await.expect("creates");
    assert!(store.get(name).await.expect("reads") == bytes, "a large object reads back as it was written");
    let (start, end) = (LARGE_LEN - (1 << 20) - 7, LARGE_LEN - 7);
    let range = store.get_range(name, start as u64..end as u64).await.expect("reads");
    assert!(range == bytes.slice(start..end), "a range of a large object reads back as it was written");
}

/// More objects than a server lists at once.
pub async fn lists_more_than_a_page(store: &SharedStore) {
    stream::iter(0..MANY_OBJECTS)
        .map(|i| async move { store.put_new(&format!("conformance/many/{i:04}"), body(b"x")).await })
        .buffer_unordered(RACERS)
        .try_for_each(|put| async move {
            assert_eq!(put, Put::Created);
            Ok(())
        })
        .await
        .expect("creates");
    assert_eq!(names(&**store, "conformance/many").await.len(), MANY_OBJECTS);
}

/// The probe agrees, and leaves nothing behind.
pub async fn shows_all_abilities_to_a_probe(store: &SharedStore) {
    let abilities = probe(&**store, &Env::system()).await.expect("probes");
    assert!(abilities.are_complete(), "{abilities:?}");
    assert_eq!(names(&**store, "probe").await, BTreeSet::new());
}
