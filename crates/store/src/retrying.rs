//! The one place where requests are sent again.
//!
//! ```text
//! ask ── answered ─────────────────────────────> done
//!  │  └─ weather ── wait, longer each time ──> ask again, at most so often
//!  └─ put: "already there" ── head: there ──> AlreadyThere
//!                              └─ absent: a lie, or since deleted ──> ask again
//! ```
//!
//! Every verb may be sent twice: names are never reused and nothing is overwritten. A put whose
//! reply was lost then ends as [`Put::AlreadyThere`], which callers expect anyway.
//!
//! Invariant: nothing is retried for ever, and no answer that says no is retried at all.
//! Never here: what an attempt is. The layer below sends one request per call.

use std::future::Future;
use std::ops::Range;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use backon::{BackoffBuilder, ExponentialBuilder};
use bytes::Bytes;
use futures::stream::{self, BoxStream, StreamExt};
use tokio::time::sleep;
use tracing::warn;

use crate::error::Reason;
use crate::store::{ObjectInfo, Put, PutReport, SharedStore, Store};
use crate::{Env, StoreError};

use self::shown::Shown;

mod shown;

/// How patient a [`Retrying`] store is.
#[derive(Debug, Clone, Copy)]
pub struct Patience {
    /// Further attempts at one request, once the store has ever answered.
    pub retries_max: usize,
    /// Further attempts before it has ever answered: it is more likely mistyped than asleep.
    pub first_retries_max: usize,
    /// The first pause; the second is twice as long, and so on. Up to as much again is added at random.
    pub pause_min: Duration,
    /// The longest pause before that addition.
    pub pause_max: Duration,
}

impl Default for Patience {
    /// 20 retries over five to ten minutes; 3 within a few seconds before the first answer.
    fn default() -> Self {
        Self {
            retries_max: 20,
            first_retries_max: 3,
            pause_min: Duration::from_millis(200),
            pause_max: Duration::from_secs(30),
        }
    }
}

/// Further attempts at a request that a disk failed: what it does not do at the second time it seldom does at the twentieth.
const DISK_RETRIES_MAX: usize = 2;

/// A store that sends again what failed for reasons that pass.
#[derive(Debug)]
pub struct Retrying {
    inner: SharedStore,
    env: Env,
    patience: Patience,
    answered: AtomicBool,
}

/// The pauses between attempts at one request.
struct Pauses {
    all: <ExponentialBuilder as BackoffBuilder>::Backoff,
    /// Attempts left where a disk fails.
    disk_count: usize,
}

impl Pauses {
    /// The pause before the next attempt, if there is one after this error.
    fn after(&mut self, error: &StoreError) -> Option<Duration> {
        if matches!(error, StoreError::Disk { .. }) {
            self.disk_count = self.disk_count.checked_sub(1)?;
        }
        self.all.next()
    }
}

impl Retrying {
    /// Retries the requests of `inner`; `env` gives the jitter.
    pub fn new(inner: SharedStore, env: Env, patience: Patience) -> Self {
        Self { inner, env, patience, answered: AtomicBool::new(false) }
    }

    fn pauses(&self) -> Pauses {
        let retries_max = match self.answered.load(Ordering::Relaxed) {
            true => self.patience.retries_max,
            false => self.patience.first_retries_max.min(self.patience.retries_max),
        };
        let all = ExponentialBuilder::new()
            .with_min_delay(self.patience.pause_min)
            .with_max_delay(self.patience.pause_max)
            .with_max_times(retries_max)
            .with_jitter()
            .with_jitter_seed(self.env.random_u64())
            .build();
        Pauses { all, disk_count: DISK_RETRIES_MAX }
    }

    /// Notes that the store answered, whatever it said.
    fn heard(&self, outcome: Result<(), &StoreError>) {
        if !matches!(outcome, Err(StoreError::Unreachable { .. })) {
            self.answered.store(true, Ordering::Relaxed);
        }
    }

    /// Waits before the next attempt, or gives the error back if it is not to be retried.
    async fn wait(&self, error: StoreError, pauses: &mut Pauses) -> Result<(), StoreError> {
        self.heard(Err(&error));
        if !error.is_transient() {
            return Err(error);
        }
        let Some(pause) = pauses.after(&error) else {
            return Err(error);
        };
        warn!(%error, ?pause, "trying again");
        sleep(pause).await;
        Ok(())
    }

    async fn retry<T, F, Fut>(&self, mut attempt: F) -> Result<T, StoreError>
    where
        F: FnMut() -> Fut + Send,
        Fut: Future<Output = Result<T, StoreError>> + Send,
        T: Send,
    {
        let mut pauses = self.pauses();
        loop {
            match attempt().await {
                Ok(answer) => {
                    self.heard(Ok(()));
                    return Ok(answer);
                }
                Err(error) => self.wait(error, &mut pauses).await?,
            }
        }
    }

    /// The error for a listing that cannot be put together.
    fn out_of_order(&self, name: &str, source: Reason) -> StoreError {
        let answer = "a listing that broke off".to_owned();
        StoreError::Busy { name: name.to_owned(), store: self.describe(), answer, source: source.into() }
    }

    /// The error for a store that refuses to create what it does not have.
    fn refused_but_absent(&self, name: &str) -> StoreError {
        StoreError::Busy {
            name: name.to_owned(),
            store: self.describe(),
            answer: "refused as already there, yet absent".into(),
            source: Reason::cause("a conflict that was reported as an existing object"),
        }
    }
}

#[async_trait]
impl Store for Retrying {
    async fn put_new_reported(&self, name: &str, body: Vec<Bytes>) -> Result<PutReport, StoreError> {
        let mut pauses = self.pauses();
        let mut unanswered_count = 0;
        loop {
            let error = match self.inner.put_new_reported(name, body.clone()).await {
                Ok(report) => {
                    self.heard(Ok(()));
                    unanswered_count += report.unanswered_count;
                    if report.put == Put::Created || self.head(name).await?.is_some() {
                        let put = report.put;
                        return Ok(PutReport { put, unanswered_count });
                    }
                    self.refused_but_absent(name)
                }
                Err(error) => {
                    unanswered_count += u32::from(error.is_outcome_unknown());
                    error
                }
            };
            self.wait(error, &mut pauses).await?;
        }
    }

    async fn get(&self, name: &str) -> Result<Bytes, StoreError> {
        self.retry(|| self.inner.get(name)).await
    }

    async fn get_range(&self, name: &str, range: Range<u64>) -> Result<Bytes, StoreError> {
        self.retry(|| self.inner.get_range(name, range.clone())).await
    }

    async fn head(&self, name: &str) -> Result<Option<ObjectInfo>, StoreError> {
        self.retry(|| self.inner.head(name)).await
    }

    /// Starts the listing again when it breaks, and leaves out what was shown already.
    ///
    /// For that it remembers at most 64 Ki names, some 6 MiB. A longer listing is started again only if it came in
    /// order so far, as those of S3, GCS and Azure do; else its first failure is its end.
    fn list(&self, prefix: &str) -> BoxStream<'_, Result<ObjectInfo, StoreError>> {
        let listing = Listing {
            store: self,
            prefix: prefix.to_owned(),
            items: self.inner.list(prefix),
            pauses: self.pauses(),
            shown: Shown::default(),
            has_failed: false,
            is_over: false,
        };
        stream::unfold(listing, |mut listing| async move {
            let item = listing.next().await?;
            Some((item, listing))
        })
        .boxed()
    }

    async fn delete(&self, name: &str) -> Result<(), StoreError> {
        self.retry(|| self.inner.delete(name)).await
    }

    fn describe(&self) -> String {
        self.inner.describe()
    }
}

struct Listing<'a> {
    store: &'a Retrying,
    prefix: String,
    items: BoxStream<'a, Result<ObjectInfo, StoreError>>,
    pauses: Pauses,
    shown: Shown,
    /// Since the last name that was shown.
    has_failed: bool,
    is_over: bool,
}

impl Listing<'_> {
    /// Begins to count failures anew: a long listing may break often, as long as each attempt gets further.
    fn go_on(&mut self) {
        if std::mem::take(&mut self.has_failed) {
            self.store.heard(Ok(()));
            self.pauses = self.store.pauses();
        }
    }

    fn end(&mut self, error: StoreError) -> StoreError {
        self.is_over = true;
        error
    }

    async fn next(&mut self) -> Option<Result<ObjectInfo, StoreError>> {
        while !self.is_over {
            match self.items.next().await {
                None => {
                    self.store.heard(Ok(()));
                    self.is_over = true;
                }
                Some(Ok(info)) => match self.shown.is_new(&info.name) {
                    Ok(true) => {
                        self.go_on();
                        return Some(Ok(info));
                    }
                    Ok(false) => {}
                    Err(reason) => return Some(Err(self.end(self.store.out_of_order(&self.prefix, reason)))),
                },
                Some(Err(error)) if !self.shown.can_resume() => return Some(Err(self.end(error))),
                Some(Err(error)) => {
                    if let Err(error) = self.store.wait(error, &mut self.pauses).await {
                        return Some(Err(self.end(error)));
                    }
                    self.has_failed = true;
                    self.shown.resume();
                    self.items = self.store.inner.list(&self.prefix);
                }
            }
        }
        None
    }
}

#[cfg(all(test, feature = "testing"))]
mod tests;
