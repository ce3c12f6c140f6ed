//! What is sent again, what is not, and how often.

use std::sync::Arc;
use std::sync::atomic::AtomicUsize;

use futures::TryStreamExt;
use tokio::time::Instant;

use super::*;
use crate::Timestamp;
use crate::testing::{Fault, FaultyStore, MemoryStore, Trigger, Verb};

fn retrying() -> (Arc<FaultyStore>, Retrying) {
    let faulty = Arc::new(FaultyStore::new(Arc::new(MemoryStore::new())));
    let env = Env::fixed(Timestamp::from_secs(0), 1);
    (faulty.clone(), Retrying::new(faulty, env, Patience::default()))
}

fn body() -> Vec<Bytes> {
    vec![Bytes::from_static(b"bytes")]
}

#[tokio::test(start_paused = true)]
async fn put_whose_reply_is_lost_ends_as_already_there_and_says_so() {
    let (faulty, store) = retrying();
    faulty.inject(Trigger::next().of(Verb::Put), Fault::LoseReply);
    let report = store.put_new_reported("a", body()).await.expect("answers");
    assert_eq!(report, PutReport { put: Put::AlreadyThere, unanswered_count: 1 });
    assert_eq!(store.get("a").await.expect("reads"), "bytes");
}

#[tokio::test(start_paused = true)]
async fn put_that_timed_out_may_land_after_its_successor_was_deleted() {
    let (faulty, store) = retrying();
    faulty.inject(Trigger::next().of(Verb::Put), Fault::LandLate);
    let report = store.put_new_reported("a", body()).await.expect("answers");
    assert_eq!(report, PutReport { put: Put::Created, unanswered_count: 1 });
    store.delete("a").await.expect("deletes");
    faulty.land_late().await;
    assert!(store.head("a").await.expect("answers").is_some());
}

#[tokio::test(start_paused = true)]
async fn conflict_that_wrote_nothing_is_not_believed() {
    let (faulty, store) = retrying();
    faulty.inject(Trigger::next().of(Verb::Put).times(2), Fault::FalseConflict);
    assert_eq!(store.put_new("a", body()).await.expect("creates"), Put::Created);
    assert_eq!(store.get("a").await.expect("reads"), "bytes");
}

#[tokio::test(start_paused = true)]
async fn store_that_always_lies_about_a_conflict_ends_in_an_error() {
    let (faulty, store) = retrying();
    faulty.inject(Trigger::next().of(Verb::Put).always(), Fault::FalseConflict);
    let error = store.put_new("a", body()).await.expect_err("never creates");
    assert!(matches!(error, StoreError::Busy { .. }), "{error:?}");
}

#[tokio::test(start_paused = true)]
async fn reads_and_deletes_are_sent_again_until_they_are_answered() {
    let (faulty, store) = retrying();
    store.put_new("a", body()).await.expect("creates");
    faulty.inject(Trigger::next().times(10), Fault::Fail);
    assert_eq!(store.get("a").await.expect("reads"), "bytes");
    faulty.inject(Trigger::next().times(3), Fault::LoseReply);
    store.delete("a").await.expect("deletes");
    assert_eq!(store.head("a").await.expect("answers"), None);
}

#[tokio::test(start_paused = true)]
async fn store_that_never_answered_is_given_up_sooner() {
    let (faulty, store) = retrying();
    faulty.inject(Trigger::next().always(), Fault::Fail);
    let started = Instant::now();
    store.get("a").await.expect_err("unreachable");
    assert_eq!(faulty.calls().len(), 4);
    assert!(started.elapsed() < Duration::from_secs(3));
    faulty.restart();
    store.head("a").await.expect("answers");
    faulty.inject(Trigger::next().always(), Fault::Fail);
    store.get("a").await.expect_err("unreachable");
    assert_eq!(faulty.calls().len(), 4 + 1 + 21);
    assert!(started.elapsed() < Duration::from_secs(1_200));
}

#[tokio::test(start_paused = true)]
async fn answer_that_says_no_is_not_retried() {
    let (faulty, store) = retrying();
    for fault in [Fault::Deny, Fault::Full, Fault::StopBefore] {
        faulty.inject(Trigger::next(), fault);
        let calls = faulty.calls().len();
        store.put_new("a", body()).await.expect_err("refused");
        assert_eq!(faulty.calls().len(), calls + 1, "{fault:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn listing_that_breaks_starts_again_and_shows_nothing_twice() {
    let (faulty, store) = retrying();
    for name in ["l/a", "l/b", "l/c"] {
        store.put_new(name, body()).await.expect("creates");
    }
    faulty.inject(Trigger::next().of(Verb::List).times(2), Fault::LoseReply);
    let items: Vec<_> = store.list("l").try_collect().await.expect("lists");
    assert_eq!(items.len(), 3);
    faulty.inject(Trigger::next().of(Verb::List), Fault::Deny);
    store.list("l").try_collect::<Vec<_>>().await.expect_err("denied");
}

const NAMES: usize = 60;

/// A store whose every listing breaks one name later than the one before.
#[derive(Debug)]
struct OneMore {
    inner: MemoryStore,
    listings: AtomicUsize,
}

#[async_trait]
impl Store for OneMore {
    async fn put_new_reported(&self, name: &str, body: Vec<Bytes>) -> Result<PutReport, StoreError> {
        self.inner.put_new_reported(name, body).await
    }

    async fn get(&self, name: &str) -> Result<Bytes, StoreError> {
        self.inner.get(name).await
    }

    async fn get_range(&self, name: &str, range: Range<u64>) -> Result<Bytes, StoreError> {
        self.inner.get_range(name, range).await
    }

    async fn head(&self, name: &str) -> Result<Option<ObjectInfo>, StoreError> {
        self.inner.head(name).await
    }

    fn list(&self, prefix: &str) -> BoxStream<'_, Result<ObjectInfo, StoreError>> {
        let count = 1 + self.listings.fetch_add(1, Ordering::Relaxed);
        let broken = StoreError::Unreachable {
            name: prefix.to_owned(),
            store: self.describe(),
            obstacle: crate::Obstacle::Interrupted,
            source: Reason::cause("it broke"),
        };
        let items = self.inner.list(prefix).take(count);
        if count < NAMES { items.chain(stream::once(async { Err(broken) })).boxed() } else { items.boxed() }
    }

    async fn delete(&self, name: &str) -> Result<(), StoreError> {
        self.inner.delete(name).await
    }

    fn describe(&self) -> String {
        self.inner.describe()
    }
}

#[tokio::test(start_paused = true)]
async fn listing_that_breaks_often_goes_on_as_long_as_it_gets_further() {
    let inner = MemoryStore::new();
    for index in 0..NAMES {
        inner.put_new(&format!("l/{index:02}"), body()).await.expect("creates");
    }
    let one_more = Arc::new(OneMore { inner, listings: AtomicUsize::new(0) });
    let patience = Patience { retries_max: 2, ..Patience::default() };
    let store = Retrying::new(one_more, Env::fixed(Timestamp::from_secs(0), 1), patience);
    let names: Vec<_> = store.list("l").map_ok(|info| info.name).try_collect().await.expect("lists");
    assert_eq!(names, (0..NAMES).map(|index| format!("l/{index:02}")).collect::<Vec<_>>());
}
