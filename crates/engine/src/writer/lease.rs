//! The lease: telling collectors, beside the work, that this writer is alive, and obeying when one gave it up.
//!
//! ```text
//! work     ──────────────────────────────────────────────► done ─► the renewal under way ends, or is given up
//! renewal  ──5 min──► look, create lease-1 ──5 min──► …
//!                      └ tombstone: stop the work in good order, then W7
//! ```
//!
//! A renewal that fails is tried again at the next tick. A lease that ran out endangers nothing: the create of
//! `snapshots/<id>` settles this writer, whoever comes first. So failures are told, and never end a backup.
//!
//! Invariant: the work goes on while a renewal waits, and is never dropped half-done.
//! Invariant: once the commit was begun, only its own answer ends the writer.
//! Never here: clocks that decide anything.

use std::pin::pin;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::Duration;

use futures::future::{Either, select};
use pack::{Lease, names};
use store::StoreError;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use crate::EngineError;
use crate::objects::create;
use crate::writer::Writer;

/// How long between lease renewals.
const RENEWED_EVERY: Duration = Duration::from_secs(300);
/// How long one renewal is tried.
const RENEWAL_LASTS_FOR: Duration = Duration::from_secs(240);
/// Renewals in a row that may fail before the backup warns: half an hour without a sign of life.
const FAILURES_MAX: u32 = 6;
/// How long the work's end waits for a renewal that is under way, so that its object is not left behind. One that is
/// given up may land later: then the record stays too, or collectors would find a lease of nobody.
const LAST_RENEWAL_ENDS_IN: Duration = Duration::from_secs(3);

/// What became of a writer's lease.
#[derive(Debug, Default)]
pub(super) struct LeaseState {
    renewals: AtomicU32,
    failures: AtomicU32,
    has_lapsed: AtomicBool,
    is_dead: AtomicBool,
    may_land_late: AtomicBool,
}

impl LeaseState {
    /// Whether a renewal found the own tombstone.
    pub(super) fn is_dead(&self) -> bool {
        self.is_dead.load(Ordering::Relaxed)
    }

    /// Whether a renewal was given up that was never answered.
    pub(super) fn may_land_late(&self) -> bool {
        self.may_land_late.load(Ordering::Relaxed)
    }

    /// What everybody should know about it.
    pub(super) fn warning(&self) -> Option<String> {
        let text = "the lease of this backup could not be renewed for half an hour; a prune may give such a backup up";
        self.has_lapsed.load(Ordering::Relaxed).then(|| text.to_owned())
    }

    /// Counts a renewal that failed, or forgets those before it.
    fn note(&self, renewed: &Result<(), EngineError>) {
        let Err(error) = renewed else { return self.failures.store(0, Ordering::Relaxed) };
        tracing::info!("the lease was not renewed, and is tried again in five minutes: {error}");
        if self.failures.fetch_add(1, Ordering::Relaxed) + 1 >= FAILURES_MAX {
            self.has_lapsed.store(true, Ordering::Relaxed);
        }
    }
}

impl Writer<'_> {
    /// Runs `work`, renewing the lease meanwhile. A tombstone cancels `stop`, which `work` must heed.
    pub(crate) async fn keep_alive<T>(&self, stop: &CancellationToken, work: impl Future<Output = T>) -> T {
        let has_ended = CancellationToken::new();
        let (work, keeping) = (pin!(work), pin!(self.renew_until(&has_ended, stop)));
        match select(work, keeping).await {
            Either::Left((done, keeping)) => {
                has_ended.cancel();
                if timeout(LAST_RENEWAL_ENDS_IN, keeping).await.is_err() {
                    self.lease.may_land_late.store(true, Ordering::Relaxed);
                    tracing::info!("the last renewal of the lease was given up");
                }
                done
            }
            Either::Right(((), work)) => work.await,
        }
    }

    /// Renews the lease now and then, until the work has ended or a tombstone is found.
    async fn renew_until(&self, has_ended: &CancellationToken, stop: &CancellationToken) {
        let env = &self.repository.env;
        loop {
            tokio::select! {
                () = has_ended.cancelled() => return,
                () = env.sleep(RENEWED_EVERY) => {}
            }
            let limit = EngineError::Request { what: "the store took too long".to_owned() };
            let renewed = timeout(RENEWAL_LASTS_FOR, self.renew()).await.unwrap_or(Err(limit));
            if matches!(renewed, Err(EngineError::DeclaredDead)) {
                if !self.has_begun_commit() {
                    self.lease.is_dead.store(true, Ordering::Relaxed);
                    stop.cancel();
                }
                return;
            }
            self.lease.note(&renewed);
        }
    }

    /// Looks whether a collector has given this writer up, and says that it is alive.
    async fn renew(&self) -> Result<(), EngineError> {
        let found = self.repository.store.get(&names::snapshot(&self.id)).await;
        if found.as_ref().is_ok_and(|bytes| self.is_tombstone(bytes)) {
            return Err(EngineError::DeclaredDead);
        }
        // A new name each time: an object that is there already would not be younger than it is.
        let renewal = self.lease.renewals.fetch_add(1, Ordering::Relaxed) + 1;
        let name = names::lease(&self.id, renewal);
        let lease = Lease { writer: self.id, renewal, extension: Vec::new() };
        let bytes = self
            .repository
            .seal(&name, |key, epoch, salt, signer, repository| lease.encode(key, epoch, salt, signer, repository))?;
        create(&*self.repository.store, &name, bytes).await?;
        match found {
            Ok(_) | Err(StoreError::NotFound { .. }) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }
}
