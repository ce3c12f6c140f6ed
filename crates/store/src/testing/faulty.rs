//! A store that fails on order: when, at what, and how.
//!
//! ```text
//! call ─ logged ─ stopped? ─ a trigger matches? ─ before ─ inner store ─ after ─> reply
//!                                                 │                       └ reply lost, bytes wrong, stop
//!                                                 └ fail, full, denied, hang, stop, lie, keep for later
//! ```
//!
//! Invariant: without an order it does what the store below does, and logs every call in order.
//! Never here: chance. Random faults are orders that a test draws from its seed.

use std::ops::Range;
use std::sync::{Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use bytes::Bytes;
use futures::stream::{self, BoxStream, StreamExt};
use tokio::sync::watch;

use crate::StoreError;
use crate::error::{Obstacle, Reason};
use crate::store::{ObjectInfo, Put, PutReport, SharedStore, Store};

/// What is asked of a store.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[allow(missing_docs)] // they are the trait's
pub enum Verb {
    Put,
    Get,
    GetRange,
    Head,
    List,
    Delete,
}

/// One call as it was made, whether or not it came through.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Call {
    /// What was asked.
    pub verb: Verb,
    /// Of which object, or below which prefix.
    pub name: String,
}

/// What goes wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// Nothing happens and the connection is refused.
    Fail,
    /// It happens, and the reply is lost. A listing breaks before its last object.
    LoseReply,
    /// A put seems to time out, and lands when the test says [`FaultyStore::land_late`].
    LandLate,
    /// As if our process died before the call: this and every later call fails until a restart.
    StopBefore,
    /// As if our process died after the call took effect.
    StopAfter,
    /// A put is answered "already there", and nothing is written.
    FalseConflict,
    /// A put overwrites what is there and says that it was created.
    IgnoreCondition,
    /// No space is left; nothing is written.
    Full,
    /// Access is denied.
    Deny,
    /// One bit of what is read is flipped.
    ReadWrong,
    /// A read ends one byte early.
    ReadShort,
    /// Nothing happens until [`FaultyStore::release`]; then the call goes through.
    Hang,
}

/// Which calls a fault befalls.
#[derive(Debug, Clone)]
pub struct Trigger {
    verb: Option<Verb>,
    name_part: Option<String>,
    skip_count: u64,
    times: u64,
}

impl Trigger {
    /// The next call of any verb, once.
    pub fn next() -> Self {
        Self { verb: None, name_part: None, skip_count: 0, times: 1 }
    }

    /// Only calls of this verb.
    #[must_use]
    pub fn of(self, verb: Verb) -> Self {
        Self { verb: Some(verb), ..self }
    }

    /// Only calls whose name has this part.
    #[must_use]
    pub fn naming(self, part: &str) -> Self {
        Self { name_part: Some(part.to_owned()), ..self }
    }

    /// Only once this many such calls have passed untouched.
    #[must_use]
    pub fn after(self, skip_count: u64) -> Self {
        Self { skip_count, ..self }
    }

    /// So many calls in place of one.
    #[must_use]
    pub fn times(self, times: u64) -> Self {
        Self { times, ..self }
    }

    /// Every such call from then on.
    #[must_use]
    pub fn always(self) -> Self {
        self.times(u64::MAX)
    }

    /// Counts a call against the order; whether it is befallen.
    fn pulled_by(&mut self, call: &Call) -> bool {
        let is_meant = self.verb.is_none_or(|verb| verb == call.verb)
            && self.name_part.as_ref().is_none_or(|part| call.name.contains(part.as_str()));
        if !is_meant || self.times == 0 {
            return false;
        }
        if self.skip_count > 0 {
            self.skip_count -= 1;
            return false;
        }
        self.times -= 1;
        true
    }
}

/// A store that fails on order.
#[derive(Debug)]
pub struct FaultyStore {
    inner: SharedStore,
    state: Mutex<State>,
    releases: watch::Sender<u64>,
}

#[derive(Debug, Default)]
struct State {
    orders: Vec<(Trigger, Fault)>,
    calls: Vec<Call>,
    is_stopped: bool,
    late: Vec<(String, Vec<Bytes>)>,
}

impl FaultyStore {
    /// A store that does what `inner` does until ordered otherwise.
    pub fn new(inner: SharedStore) -> Self {
        Self { inner, state: Mutex::default(), releases: watch::Sender::new(0) }
    }

    /// Orders a fault. Of several orders that match a call, the oldest befalls it; all count it.
    pub fn inject(&self, trigger: Trigger, fault: Fault) {
        self.state().orders.push((trigger, fault));
    }

    /// Forgets all orders and lets stopped and hanging calls go on.
    pub fn restart(&self) {
        {
            let mut state = self.state();
            state.orders.clear();
            state.is_stopped = false;
        }
        self.release();
    }

    /// Lets the calls go on that hang now.
    pub fn release(&self) {
        self.releases.send_modify(|count| *count += 1);
    }

    /// Lets the puts take effect that were kept back, in the order in which they were made, and says how
    /// each one ended.
    pub async fn land_late(&self) -> Vec<Result<Put, StoreError>> {
        let late = std::mem::take(&mut self.state().late);
        let mut outcomes = Vec::new();
        for (name, body) in late {
            outcomes.push(self.inner.put_new(&name, body).await);
        }
        outcomes
    }

    /// Every call so far, in order, also those that failed.
    pub fn calls(&self) -> Vec<Call> {
        self.state().calls.clone()
    }

    /// Whether a fault has stopped it.
    pub fn is_stopped(&self) -> bool {
        self.state().is_stopped
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Logs a call and finds the fault that befalls it.
    fn note(&self, call: &Call) -> Result<Option<Fault>, StoreError> {
        let mut state = self.state();
        state.calls.push(call.clone());
        if state.is_stopped {
            return Err(self.stopped(&call.name));
        }
        let befallen = state.orders.iter_mut().map(|(trigger, fault)| trigger.pulled_by(call).then_some(*fault));
        Ok(befallen.collect::<Vec<_>>().into_iter().flatten().next())
    }

    /// What happens before a call takes effect. Gives back the fault that is left for later.
    async fn enter(&self, verb: Verb, name: &str) -> Result<Option<Fault>, StoreError> {
        let call = Call { verb, name: name.to_owned() };
        let mut releases = self.releases.subscribe();
        let fault = self.note(&call)?;
        match fault {
            Some(Fault::Fail) => Err(self.unreachable(name, Obstacle::Refused)),
            Some(Fault::StopBefore) => {
                self.state().is_stopped = true;
                Err(self.stopped(name))
            }
            Some(Fault::Full) => Err(StoreError::Full { name: name.into(), store: self.describe(), source: ordered() }),
            Some(Fault::Deny) => {
                Err(StoreError::AccessDenied { name: name.into(), store: self.describe(), source: ordered() })
            }
            Some(Fault::Hang) => {
                // An error would say that we ourselves are gone, and we are here.
                drop(releases.changed().await);
                Ok(None)
            }
            later => Ok(later),
        }
    }

    /// What happens after a call took effect.
    fn leave<T>(&self, fault: Option<Fault>, name: &str, reply: T) -> Result<T, StoreError> {
        match fault {
            Some(Fault::LoseReply) => Err(self.unreachable(name, Obstacle::Interrupted)),
            Some(Fault::StopAfter) => {
                self.state().is_stopped = true;
                Err(self.stopped(name))
            }
            _ => Ok(reply),
        }
    }

    fn read(&self, fault: Option<Fault>, name: &str, bytes: Bytes) -> Result<Bytes, StoreError> {
        match fault {
            Some(Fault::ReadWrong) => Ok(flip_middle_bit(&bytes)),
            Some(Fault::ReadShort) => Ok(bytes.slice(..bytes.len().saturating_sub(1))),
            fault => self.leave(fault, name, bytes),
        }
    }

    fn unreachable(&self, name: &str, obstacle: Obstacle) -> StoreError {
        StoreError::Unreachable { name: name.into(), store: self.describe(), obstacle, source: ordered() }
    }

    fn stopped(&self, name: &str) -> StoreError {
        StoreError::Other { name: name.into(), store: self.describe(), source: Reason::cause("stopped by the test") }
    }
}

fn ordered() -> crate::Cause {
    Reason::cause("ordered by the test")
}

fn flip_middle_bit(bytes: &Bytes) -> Bytes {
    let mut wrong = bytes.to_vec();
    let middle = wrong.len() / 2;
    if let Some(byte) = wrong.get_mut(middle) {
        *byte ^= 1;
    }
    wrong.into()
}

#[async_trait]
impl Store for FaultyStore {
    async fn put_new_reported(&self, name: &str, body: Vec<Bytes>) -> Result<PutReport, StoreError> {
        let fault = self.enter(Verb::Put, name).await?;
        match fault {
            Some(Fault::FalseConflict) => return Ok(PutReport::answered(Put::AlreadyThere)),
            Some(Fault::LandLate) => {
                self.state().late.push((name.to_owned(), body));
                return Err(self.unreachable(name, Obstacle::Timeout));
            }
            Some(Fault::IgnoreCondition) => self.inner.delete(name).await?,
            _ => {}
        }
        let report = self.inner.put_new_reported(name, body).await?;
        self.leave(fault, name, report)
    }

    async fn get(&self, name: &str) -> Result<Bytes, StoreError> {
        let fault = self.enter(Verb::Get, name).await?;
        let bytes = self.inner.get(name).await?;
        self.read(fault, name, bytes)
    }

    async fn get_range(&self, name: &str, range: Range<u64>) -> Result<Bytes, StoreError> {
        let fault = self.enter(Verb::GetRange, name).await?;
        let expected_len = range.end.saturating_sub(range.start);
        let bytes = self.inner.get_range(name, range).await?;
        let bytes = self.read(fault, name, bytes)?;
        let (len, store) = (bytes.len() as u64, self.describe());
        match len == expected_len {
            true => Ok(bytes),
            false => Err(StoreError::Truncated { name: name.into(), store, len, expected_len }),
        }
    }

    async fn head(&self, name: &str) -> Result<Option<ObjectInfo>, StoreError> {
        let fault = self.enter(Verb::Head, name).await?;
        let info = self.inner.head(name).await?;
        self.leave(fault, name, info)
    }

    fn list(&self, prefix: &str) -> BoxStream<'_, Result<ObjectInfo, StoreError>> {
        let prefix = prefix.to_owned();
        let items = async move {
            let fault = match self.enter(Verb::List, &prefix).await {
                Ok(fault) => fault,
                Err(error) => return vec![Err(error)],
            };
            let mut items: Vec<_> = self.inner.list(&prefix).collect().await;
            if let Err(error) = self.leave(fault, &prefix, ()) {
                items.pop();
                items.push(Err(error));
            }
            items
        };
        stream::once(items).flat_map(stream::iter).boxed()
    }

    async fn delete(&self, name: &str) -> Result<(), StoreError> {
        let fault = self.enter(Verb::Delete, name).await?;
        self.inner.delete(name).await?;
        self.leave(fault, name, ())
    }

    fn describe(&self) -> String {
        self.inner.describe()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use futures::TryStreamExt;

    use super::*;
    use crate::testing::MemoryStore;

    fn faulty() -> FaultyStore {
        FaultyStore::new(Arc::new(MemoryStore::new()))
    }

    fn body() -> Vec<Bytes> {
        vec![Bytes::from_static(b"bytes")]
    }

    #[tokio::test]
    async fn stop_lasts_until_the_restart_and_before_and_after_differ_in_effect() {
        for (fault, is_there) in [(Fault::StopBefore, false), (Fault::StopAfter, true)] {
            let store = faulty();
            store.inject(Trigger::next().of(Verb::Put).after(1), fault);
            store.put_new("a", body()).await.expect("creates");
            store.put_new("b", body()).await.expect_err("stops");
            store.get("a").await.expect_err("stopped");
            assert!(store.is_stopped());
            store.restart();
            assert_eq!(store.head("b").await.expect("answers").is_some(), is_there);
            assert_eq!(store.calls().len(), 4);
        }
    }

    #[tokio::test]
    async fn hanging_call_takes_effect_when_it_is_released() {
        let store = faulty();
        store.inject(Trigger::next().naming("slow"), Fault::Hang);
        let (put, ()) = futures::join!(store.put_new("slow", body()), async {
            assert_eq!(store.head("other").await.expect("answers"), None);
            tokio::task::yield_now().await;
            store.release();
        });
        assert_eq!(put.expect("creates"), Put::Created);
    }

    #[tokio::test]
    async fn wrong_and_short_reads_happen_as_often_as_ordered() {
        let store = faulty();
        store.put_new("a", body()).await.expect("creates");
        store.inject(Trigger::next().of(Verb::Get), Fault::ReadWrong);
        store.inject(Trigger::next().of(Verb::GetRange), Fault::ReadShort);
        assert_ne!(store.get("a").await.expect("reads"), "bytes");
        assert_eq!(store.get("a").await.expect("reads"), "bytes");
        assert!(matches!(store.get_range("a", 0..2).await, Err(StoreError::Truncated { .. })));
        assert_eq!(store.get_range("a", 0..2).await.expect("reads"), "by");
    }

    #[tokio::test]
    async fn listing_whose_reply_is_lost_breaks_before_its_end() {
        let store = faulty();
        store.put_new("a", body()).await.expect("creates");
        store.put_new("b", body()).await.expect("creates");
        store.inject(Trigger::next().of(Verb::List), Fault::LoseReply);
        let mut items = store.list("");
        assert!(items.try_next().await.expect("one comes").is_some());
        items.try_next().await.expect_err("then it breaks");
    }
}
