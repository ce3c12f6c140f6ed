//! `restore`: snapshot → pages → places → get → open → write.
//!
//! ```text
//! entries ─► directories and small things at once ─► pieces of files ─► window ─► runs by pack ─► written at offsets
//!                      the next window is planned meanwhile; each ends with the further names of what is whole
//! then: what is to be deleted ─► metadata of directories
//! ```
//!
//! Invariant: everything stays beneath the target, whatever the manifest says; the sink sees to that, not the names.
//! Invariant: a lost chunk is a problem of the files that need it, and a lost page one of the entries in it; everything else
//! is restored.
//! Invariant: once stopped, nothing more is begun, what is being written ends with its chunk, and the restore returns only
//! when nothing of it writes any more. An unfinished file has not got its times yet, so that the next restore compares it.
//! Never here: how the target is written (see `source::sink`).

mod compare;
mod filter;
mod finish;
mod plan;
mod preview;
pub(crate) mod reads;
mod request;
mod windows;
mod write;

use std::collections::HashSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use futures::TryStreamExt;
use pack::Role;
use source::blocking;
use source::entry::EntryPath;
use source::sink::Target;
use tokio_util::sync::CancellationToken;

pub use request::{Foreseen, Overwrite, RestoreReport, RestoreRequest};

use crate::backup::Problems;
use crate::entries::{Scope, entries_of};
use crate::fetch::Fetcher;
use crate::repository::Repository;
use crate::restore::filter::{Filter, Unmatched};
use crate::restore::plan::Planner;
use crate::restore::preview::Counts;
use crate::restore::write::Tally;
use crate::{EngineError, Kind, Progress, SnapshotInfo};

/// What every part of a restore needs.
pub(crate) struct Restoring {
    pub(crate) target: Target,
    /// Whether the restore made the target.
    pub(crate) target_is_new: bool,
    pub(crate) request: RestoreRequest,
    pub(crate) filter: Filter,
    pub(crate) problems: Problems,
    pub(crate) tally: Tally,
    /// Counters of a dry run.
    pub(crate) counts: Counts,
    /// What was there and is not to be overwritten.
    pub(crate) left_alone: Mutex<HashSet<EntryPath>>,
    /// The first entries that were deleted, or would be.
    pub(crate) deleted: Mutex<Vec<String>>,
    /// Files begun that the next restore would leave alone: at most those of a window.
    pub(crate) unfinished: Mutex<HashSet<EntryPath>>,
    /// Whether something could not be had because the repository is damaged.
    pub(crate) met_damage: AtomicBool,
    pub(crate) progress: Arc<Progress>,
    /// Cancelled by the caller, or by the first error that ends the restore.
    pub(crate) stop: CancellationToken,
}

impl Repository {
    /// Restores a snapshot, or a part of it, beneath a directory.
    ///
    /// What is right already is kept, so that an interrupted restore goes on where it stopped.
    ///
    /// # Errors
    ///
    /// [`EngineError::NoEntry`] if there is nothing at the path; [`EngineError::NothingMatches`] if nothing matches what is
    /// to be included; in both cases nothing is made, or changed. Those of the store; a target that cannot be used or is
    /// full; [`EngineError::Interrupted`] soon after `cancel`. Entries that could not be restored are problems of the report.
    pub async fn restore(
        &self,
        snapshot: &SnapshotInfo,
        request: RestoreRequest,
        progress: &Arc<Progress>,
        cancel: CancellationToken,
    ) -> Result<RestoreReport, EngineError> {
        self.keyring.require(&[Role::Owner, Role::Reader], "restore")?;
        let clock = Instant::now();
        refuse_contradictions(snapshot, &request)?;
        let stop = cancel.child_token();
        // If the caller drops us, what runs on other threads ends too.
        let _stop_when_dropped = stop.clone().drop_guard();
        if request.dry_run && !request.target.exists() {
            return unless_stopped(&stop, self.plan_restore(snapshot, &request)).await;
        }
        let components = &snapshot.snapshot.structure.components;
        let (entries, len) = components
            .iter()
            .fold((0, 0), |(entries, len), component| (entries + component.entry_count, len + component.content_len));
        progress.set_totals(entries, len);
        let filter = Filter::new(&request)?;
        let unmatched = unless_stopped(&stop, self.unmatched(snapshot, &request)).await?;
        let folder = request.target.clone();
        let opened = blocking::run(move || (!folder.exists(), Target::open(&folder)));
        let (target_is_new, target) = opened.await.map_err(panicked)?;
        let restoring = Arc::new(Restoring {
            target: target?.replace_other_kinds(request.overwrite != Overwrite::Never),
            target_is_new,
            filter,
            problems: Problems::default(),
            tally: Tally::default(),
            counts: Counts::default(),
            left_alone: Mutex::default(),
            deleted: Mutex::default(),
            unfinished: Mutex::default(),
            met_damage: AtomicBool::new(false),
            progress: Arc::clone(progress),
            request,
            stop,
        });
        for pattern in unmatched {
            restoring.problems.add(pattern, NOTHING_MATCHES.into(), true);
        }
        let done = self.restore_to(snapshot, &restoring, clock).await;
        restoring.remove_unfinished(done.is_err()).await?;
        done
    }

    /// The includes that match nothing, if not all of them do.
    async fn unmatched(&self, snapshot: &SnapshotInfo, request: &RestoreRequest) -> Result<Vec<String>, EngineError> {
        let mut unmatched = Unmatched::new(request)?;
        if unmatched.is_empty() {
            return Ok(Vec::new());
        }
        let (fetcher, all) = (self.fetcher().await?, unmatched.len());
        for component in &snapshot.snapshot.structure.components {
            let mut entries = entries_of(fetcher.clone(), component.root, Scope::new(&request.path));
            while !unmatched.is_empty() {
                match entries.try_next().await {
                    Ok(Some(full)) => unmatched.see(&full.entry),
                    Ok(None) => break,
                    // What is lost may be what is wanted: the restore says so.
                    Err(error) if error.kind() == Kind::Damaged => return Ok(Vec::new()),
                    Err(error) => return Err(error),
                }
            }
        }
        if unmatched.len() == all {
            let patterns = unmatched.lines().collect::<Vec<_>>().join(", ");
            return Err(EngineError::NothingMatches { patterns, snapshot: snapshot.id.to_string() });
        }
        Ok(unmatched.lines().map(str::to_owned).collect())
    }

    /// Restores, or looks what that would do.
    async fn restore_to(
        &self,
        snapshot: &SnapshotInfo,
        restoring: &Arc<Restoring>,
        clock: Instant,
    ) -> Result<RestoreReport, EngineError> {
        let fetcher = restoring.unless_stopped(self.fetcher()).await?;
        restore_all(&fetcher, snapshot, restoring, false).await?;
        finish_all(&fetcher, snapshot, restoring).await?;
        if restoring.request.verify && !restoring.request.dry_run {
            restore_all(&fetcher, snapshot, restoring, true).await?;
        }
        Ok(restoring.report(clock))
    }

    /// What a restore to a target that is not there would do.
    async fn plan_restore(
        &self,
        snapshot: &SnapshotInfo,
        request: &RestoreRequest,
    ) -> Result<RestoreReport, EngineError> {
        let filter = Filter::new(request)?;
        let unmatched = self.unmatched(snapshot, request).await?;
        let fetcher = self.fetcher().await?;
        let (mut report, mut found) = (RestoreReport::default(), request.path.is_empty());
        let problems = Problems::default();
        unmatched.into_iter().for_each(|pattern| problems.add(pattern, NOTHING_MATCHES.into(), true));
        let mut lost = None;
        let components = &snapshot.snapshot.structure.components;
        for component in components {
            let prefix = if components.len() > 1 { component.name.as_bytes() } else { &[] };
            let mut entries = entries_of(fetcher.clone(), component.root, Scope::new(&request.path));
            loop {
                let full = match entries.try_next().await {
                    Ok(Some(full)) => full,
                    Ok(None) => break,
                    Err(error) if error.kind() == Kind::Damaged => {
                        let (path, what) = of_lost_entries(&component.name, &error);
                        problems.add(path, what, true);
                        lost = lost.or(Some(error));
                        continue;
                    }
                    Err(error) => return Err(error),
                };
                found = true;
                if !filter.wants(&full.entry) {
                    continue;
                }
                if let Some(Ok(path)) = filter.place(prefix, &full.entry) {
                    tracing::info!("would write {path}");
                }
                report.entry_count += 1;
                report.content_len += full.children.iter().map(|child| child.len).sum::<u64>();
            }
        }
        report.written_len = report.content_len;
        report.foreseen.new_count = report.entry_count;
        report.met_damage = lost.is_some();
        (report.problems, report.problem_count, _) = problems.take();
        match lost {
            _ if found => Ok(report),
            Some(error) => Err(error),
            None => Err(no_entry(&request.path, snapshot)),
        }
    }
}

/// The second pass: what is to be removed, and the metadata of directories.
async fn finish_all(fetcher: &Fetcher, snapshot: &SnapshotInfo, restoring: &Arc<Restoring>) -> Result<(), EngineError> {
    let components = &snapshot.snapshot.structure.components;
    for component in components {
        let prefix = if components.len() > 1 { component.name.as_bytes() } else { &[] };
        let walk = || entries_of(fetcher.clone(), component.root, Scope::new(&restoring.request.path));
        finish::directories(restoring, prefix, walk).await?;
    }
    Ok(())
}

/// One pass over every component: writing, or only comparing what is there with what should be.
async fn restore_all(
    fetcher: &Fetcher,
    snapshot: &SnapshotInfo,
    restoring: &Arc<Restoring>,
    compare_only: bool,
) -> Result<(), EngineError> {
    let scope = Scope::new(&restoring.request.path);
    let components = &snapshot.snapshot.structure.components;
    let (mut found, mut lost) = (false, None);
    for component in components {
        let prefix = if components.len() > 1 { component.name.as_bytes() } else { &[] };
        let mut planner = Planner::new(Arc::clone(restoring), fetcher.clone(), prefix, compare_only);
        let mut entries = entries_of(fetcher.clone(), component.root, scope.clone());
        let planned = loop {
            match restoring.unless_stopped(entries.try_next()).await {
                Ok(Some(full)) => {
                    found = true;
                    if let Err(error) = planner.take(full).await {
                        break Err(error);
                    }
                }
                Ok(None) => break Ok(()),
                Err(error) if error.kind() == Kind::Damaged => {
                    if !compare_only {
                        restoring.entries_lost(&component.name, &error);
                    }
                    lost = lost.or(Some(error));
                }
                Err(error) => break Err(error),
            }
        };
        planner.finish(planned).await?;
    }
    match lost {
        Some(error) if !found => return Err(error),
        None if !found && !restoring.request.path.is_empty() => {}
        _ => return Ok(()),
    }
    Err(no_entry(&restoring.request.path, snapshot))
}

/// What is said of an include that matches nothing.
const NOTHING_MATCHES: &str =
    "matches nothing in the snapshot; patterns with a slash begin at its root: write **/NAME for one anywhere";

/// Where a page of entries is lost, and what to say of it.
fn of_lost_entries(component: &str, error: &EngineError) -> (String, String) {
    match error {
        EngineError::EntriesLost { from, source } => {
            (from.clone(), format!("is lost with entries that follow it: {source}"))
        }
        error => (component.to_owned(), error.to_string()),
    }
}

fn no_entry(path: &[u8], snapshot: &SnapshotInfo) -> EngineError {
    EngineError::NoEntry { path: source::entry::escaped(path).to_string(), snapshot: snapshot.id.to_string() }
}

/// Waits for `work`, but not beyond `stop`. Only for work that may be dropped anywhere.
async fn unless_stopped<T>(
    stop: &CancellationToken,
    work: impl Future<Output = Result<T, EngineError>>,
) -> Result<T, EngineError> {
    tokio::select! {
        biased;
        () = stop.cancelled() => Err(EngineError::Interrupted),
        done = work => done,
    }
}

impl Restoring {
    /// Waits for `work`, but not when the restore ends. For reading; what writes is waited for.
    pub(crate) async fn unless_stopped<T>(
        &self,
        work: impl Future<Output = Result<T, EngineError>>,
    ) -> Result<T, EngineError> {
        unless_stopped(&self.stop, work).await
    }

    /// Between two chunks or entries: goes on unless the restore ends.
    pub(crate) fn go_on(&self) -> Result<(), EngineError> {
        if self.stop.is_cancelled() { Err(EngineError::Interrupted) } else { Ok(()) }
    }

    /// Notes a page of entries that cannot be had.
    fn entries_lost(&self, component: &str, error: &EngineError) {
        let (path, what) = of_lost_entries(component, error);
        self.met_damage.store(true, Ordering::Relaxed);
        self.progress.add_problem();
        self.problems.add(path, what, true);
    }

    /// Removes files that were begun and that a next restore would take for the user's.
    async fn remove_unfinished(self: &Arc<Self>, has_failed: bool) -> Result<(), EngineError> {
        let unfinished = std::mem::take(&mut *self.unfinished.lock().unwrap_or_else(PoisonError::into_inner));
        if !has_failed || unfinished.is_empty() {
            return Ok(());
        }
        let restoring = Arc::clone(self);
        let remove = move || {
            for path in unfinished {
                if let Err(error) = restoring.target.remove(&path) {
                    tracing::warn!("{error}; it is incomplete");
                }
            }
        };
        blocking::run(remove).await.map_err(panicked)
    }

    fn report(&self, clock: Instant) -> RestoreReport {
        let (problems, problem_count, _) = self.problems.take();
        let deleted = std::mem::take(&mut *self.deleted.lock().unwrap_or_else(PoisonError::into_inner));
        let seconds = clock.elapsed().as_secs_f64();
        let foreseen = self.counts.foreseen();
        let met_damage = self.met_damage.load(Ordering::Relaxed);
        RestoreReport { problems, problem_count, met_damage, deleted, seconds, foreseen, ..self.tally.report() }
    }
}

/// Requests that could only do harm.
fn refuse_contradictions(snapshot: &SnapshotInfo, request: &RestoreRequest) -> Result<(), EngineError> {
    let refuse = |what: &str| Err(EngineError::Request { what: what.to_owned() });
    let is_partial = snapshot.snapshot.structure.state == pack::SnapshotState::Partial;
    if request.delete && (!request.include.is_empty() || !request.exclude.is_empty()) {
        return refuse(
            "what a filter leaves out is not in the snapshot's place: delete cannot be used with include or exclude",
        );
    }
    if request.delete && is_partial {
        return refuse(
            "the snapshot is partial: what it lacks may be what could not be read, so nothing is deleted by it",
        );
    }
    if request.verify && request.overwrite == Overwrite::Never {
        return refuse("files that are left alone cannot be verified: choose another way to overwrite");
    }
    Ok(())
}

pub(crate) fn panicked(error: blocking::Panicked) -> EngineError {
    EngineError::Panicked { what: error.to_string() }
}
