//! A store whose every call waits at a gate until a test lets it pass: so that a seed decides what happens when.
//!
//! ```text
//! actor ─ call ─► gate ─┬─ pass ─► carried out, answered
//!                       ├─ lose ─► answered with a timeout; carried out before, later, or never
//!                       └─ kill ─► its process is gone: nobody is answered any more, and what was sent may land later
//! ```
//!
//! A listing is two calls that show one half of the names each, as a server shows page after page.
//!
//! Invariant: what is in the store changes only by [`Gate::pass`], [`Gate::lose`] and [`Gate::land`], one call at a time.
//! Never here: chance. Which call goes next, and what befalls it, is the caller's.

use std::collections::HashMap;
use std::fmt;
use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use bytes::Bytes;
use futures::stream::{self, BoxStream, StreamExt as _, TryStreamExt as _};
use store::testing::MemoryStore;
use store::{ObjectInfo, Obstacle, Put, PutReport, Reason, SharedStore, Store, StoreError};
use tokio::sync::{Notify, oneshot};

/// What is wrong with a store, for tests that must see it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Flaw {
    /// Nothing.
    None,
    /// A put below this prefix replaces what is there, and says that it was created.
    Overwrites(&'static str),
    /// A listing misses what was created within so many calls before.
    ListsLate(u64),
}

/// What becomes of a call that gets no answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    /// It takes effect at once.
    Now,
    /// It takes effect when [`Gate::land`] says so.
    Later,
    /// It never does.
    Never,
}

#[derive(Debug, Clone)]
enum Request {
    Put(String, Vec<Bytes>),
    Get(String),
    GetRange(String, Range<u64>),
    Head(String),
    /// Names of which the sum of bytes is even or odd.
    List(String, u8),
    Delete(String),
}

enum Reply {
    Put(PutReport),
    Bytes(Bytes),
    Info(Option<ObjectInfo>),
    Listed(Vec<ObjectInfo>),
    Done,
}

impl Request {
    const fn changes_something(&self) -> bool {
        matches!(self, Self::Put(..) | Self::Delete(_))
    }

    fn name(&self) -> &str {
        match self {
            Self::Put(name, _)
            | Self::Get(name)
            | Self::GetRange(name, _)
            | Self::Head(name)
            | Self::List(name, _)
            | Self::Delete(name) => name,
        }
    }
}

impl fmt::Display for Request {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Put(name, _) => write!(f, "put {name}"),
            Self::Get(name) => write!(f, "get {name}"),
            Self::GetRange(name, range) => write!(f, "get {name} {range:?}"),
            Self::Head(name) => write!(f, "head {name}"),
            Self::List(prefix, half) => write!(f, "list {prefix} half {half}"),
            Self::Delete(name) => write!(f, "delete {name}"),
        }
    }
}

struct Waiting {
    number: u64,
    actor: usize,
    request: Request,
    reply: oneshot::Sender<Result<Reply, StoreError>>,
}

/// A call at the gate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WaitingCall {
    /// What the gate knows it by.
    pub number: u64,
    /// Whose it is.
    pub actor: usize,
    /// What is asked.
    pub what: String,
    /// It changes the store.
    pub changes_something: bool,
}

#[derive(Default)]
struct State {
    next: u64,
    waiting: Vec<Waiting>,
    late: Vec<Request>,
    /// How often each actor was killed.
    lives: HashMap<usize, u64>,
    /// Calls that were carried out, and when each object was created in that count.
    carried_count: u64,
    created: HashMap<String, u64>,
}

/// Where all calls wait.
pub struct Gate {
    inner: MemoryStore,
    flaw: Flaw,
    state: Mutex<State>,
    /// Told when a call arrives.
    pub arrivals: Notify,
}

impl Gate {
    /// A gate before `inner`.
    #[must_use]
    pub fn new(inner: MemoryStore, flaw: Flaw) -> Arc<Self> {
        Arc::new(Self { inner, flaw, state: Mutex::default(), arrivals: Notify::new() })
    }

    /// The store as `actor` sees it until it is killed.
    #[must_use]
    pub fn store(self: &Arc<Self>, actor: usize) -> SharedStore {
        let life = self.state().lives.get(&actor).copied().unwrap_or_default();
        Arc::new(ScheduledStore { gate: Arc::clone(self), actor, life })
    }

    /// Every call that waits, in an order that does not depend on when it came.
    #[must_use]
    pub fn waiting(&self) -> Vec<WaitingCall> {
        let state = self.state();
        let mut calls: Vec<_> = state
            .waiting
            .iter()
            .map(|waiting| WaitingCall {
                number: waiting.number,
                actor: waiting.actor,
                what: waiting.request.to_string(),
                changes_something: waiting.request.changes_something(),
            })
            .collect();
        calls.sort_by(|one, other| (one.actor, &one.what, one.number).cmp(&(other.actor, &other.what, other.number)));
        calls
    }

    /// Carries a call out and answers it.
    pub async fn pass(&self, number: u64) {
        if let Some(waiting) = self.take(number) {
            let reply = self.carry_out(waiting.request).await;
            drop(waiting.reply.send(reply)); // whoever asked may have given up
        }
    }

    /// Answers a call with a timeout.
    pub async fn lose(&self, number: u64, fate: Fate) {
        let Some(waiting) = self.take(number) else { return };
        let error = timed_out(waiting.request.name());
        match fate {
            Fate::Now => drop(self.carry_out(waiting.request).await),
            Fate::Later => self.state().late.push(waiting.request),
            Fate::Never => {}
        }
        drop(waiting.reply.send(Err(error)));
    }

    /// Ends a process: what it has sent and would change something takes effect later if `lands` says so.
    pub fn kill(&self, actor: usize, mut lands: impl FnMut() -> bool) {
        let mut state = self.state();
        *state.lives.entry(actor).or_default() += 1;
        let (own, others) = std::mem::take(&mut state.waiting).into_iter().partition(|waiting| waiting.actor == actor);
        state.waiting = others;
        let mut own: Vec<Waiting> = own;
        own.sort_by_key(|waiting| waiting.request.to_string());
        let own = own.into_iter().map(|waiting| waiting.request).filter(Request::changes_something);
        state.late.extend(own.filter(|_| lands()));
    }

    /// How many calls may yet land.
    #[must_use]
    pub fn late_count(&self) -> usize {
        self.state().late.len()
    }

    /// Lets one of those take effect, and says which.
    pub async fn land(&self, at: usize) -> String {
        let request = self.state().late.remove(at);
        let what = request.to_string();
        drop(self.carry_out(request).await);
        what
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn take(&self, number: u64) -> Option<Waiting> {
        let mut state = self.state();
        let at = state.waiting.iter().position(|waiting| waiting.number == number)?;
        Some(state.waiting.remove(at))
    }

    async fn carry_out(&self, request: Request) -> Result<Reply, StoreError> {
        let now = {
            let mut state = self.state();
            state.carried_count += 1;
            state.carried_count
        };
        match request {
            Request::Put(name, body) => {
                if matches!(self.flaw, Flaw::Overwrites(prefix) if name.starts_with(prefix)) {
                    self.inner.delete(&name).await?;
                }
                let report = self.inner.put_new_reported(&name, body).await?;
                if report.put == Put::Created {
                    self.state().created.insert(name, now);
                }
                Ok(Reply::Put(report))
            }
            Request::Get(name) => Ok(Reply::Bytes(self.inner.get(&name).await?)),
            Request::GetRange(name, range) => Ok(Reply::Bytes(self.inner.get_range(&name, range).await?)),
            Request::Head(name) => Ok(Reply::Info(self.inner.head(&name).await?)),
            Request::List(prefix, half) => {
                let mut listed: Vec<_> = self.inner.list(&prefix).try_collect().await?;
                listed.retain(|info| half_of(&info.name) == half && !self.is_missed(&info.name, now));
                Ok(Reply::Listed(listed))
            }
            Request::Delete(name) => {
                self.inner.delete(&name).await?;
                Ok(Reply::Done)
            }
        }
    }

    fn is_missed(&self, name: &str, now: u64) -> bool {
        let Flaw::ListsLate(calls) = self.flaw else { return false };
        self.state().created.get(name).is_some_and(|created| now - created <= calls)
    }

    /// Puts a call before the gate; none if its process was killed.
    fn arrive(
        &self,
        actor: usize,
        life: u64,
        request: Request,
    ) -> Option<oneshot::Receiver<Result<Reply, StoreError>>> {
        let (reply, receiver) = oneshot::channel();
        {
            let mut state = self.state();
            if state.lives.get(&actor).copied().unwrap_or_default() != life {
                return None;
            }
            let number = state.next;
            state.next += 1;
            state.waiting.push(Waiting { number, actor, request, reply });
        }
        self.arrivals.notify_one();
        Some(receiver)
    }
}

impl fmt::Debug for Gate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Gate({:?})", self.waiting())
    }
}

/// The store as one actor sees it.
#[derive(Debug)]
struct ScheduledStore {
    gate: Arc<Gate>,
    actor: usize,
    life: u64,
}

impl ScheduledStore {
    /// Waits for the answer; for ever if the process was killed, as nothing of it runs any more.
    async fn ask(&self, request: Request) -> Result<Reply, StoreError> {
        if let Some(receiver) = self.gate.arrive(self.actor, self.life, request)
            && let Ok(reply) = receiver.await
        {
            return reply;
        }
        std::future::pending().await
    }
}

fn half_of(name: &str) -> u8 {
    name.bytes().fold(0, u8::wrapping_add) % 2
}

fn timed_out(name: &str) -> StoreError {
    let source = Reason::cause("ordered by the test");
    StoreError::Unreachable { name: name.into(), store: "scheduled".into(), obstacle: Obstacle::Timeout, source }
}

fn unfit(name: &str) -> StoreError {
    StoreError::Other { name: name.into(), store: "scheduled".into(), source: Reason::cause("an unfit reply") }
}

#[async_trait]
impl Store for ScheduledStore {
    async fn put_new_reported(&self, name: &str, body: Vec<Bytes>) -> Result<PutReport, StoreError> {
        match self.ask(Request::Put(name.into(), body)).await? {
            Reply::Put(report) => Ok(report),
            _ => Err(unfit(name)),
        }
    }

    async fn get(&self, name: &str) -> Result<Bytes, StoreError> {
        match self.ask(Request::Get(name.into())).await? {
            Reply::Bytes(bytes) => Ok(bytes),
            _ => Err(unfit(name)),
        }
    }

    async fn get_range(&self, name: &str, range: Range<u64>) -> Result<Bytes, StoreError> {
        match self.ask(Request::GetRange(name.into(), range)).await? {
            Reply::Bytes(bytes) => Ok(bytes),
            _ => Err(unfit(name)),
        }
    }

    async fn head(&self, name: &str) -> Result<Option<ObjectInfo>, StoreError> {
        match self.ask(Request::Head(name.into())).await? {
            Reply::Info(info) => Ok(info),
            _ => Err(unfit(name)),
        }
    }

    fn list(&self, prefix: &str) -> BoxStream<'_, Result<ObjectInfo, StoreError>> {
        let prefix = prefix.to_owned();
        let pages = stream::iter([0, 1]).then(move |half| {
            let prefix = prefix.clone();
            async move {
                match self.ask(Request::List(prefix.clone(), half)).await? {
                    Reply::Listed(listed) => Ok(stream::iter(listed.into_iter().map(Ok))),
                    _ => Err(unfit(&prefix)),
                }
            }
        });
        pages.try_flatten().boxed()
    }

    async fn delete(&self, name: &str) -> Result<(), StoreError> {
        self.ask(Request::Delete(name.into())).await.map(drop)
    }

    fn describe(&self) -> String {
        "scheduled".into()
    }
}
