//! The second pass of a restore: remove what the snapshot does not have, then set the metadata of directories.
//!
//! Entries of a directory come together, and directories in the order in which their parents list them, a branch before
//! the next one. So of what is still to come, what lies before the present directory will never come: it is empty, or
//! all below it is done. The first walk removes, which changes the times of directories; the second sets them.
//!
//! Invariant: memory holds the names of one directory, and the directories listed beside the path to it.
//! Invariant: only directories that were listed whole are cleaned: not those above what was backed up, nor such as stand for
//! a mount or a folder that was not entered; nothing at all by a partial snapshot, and nothing after a page that is lost.
//! Invariant: the target's own metadata is set only where a directory of the snapshot is restored as the target itself: a
//! `/tmp` that a whole snapshot is restored below stays what it is.
//! Never here: content.

use std::collections::{BTreeMap, HashSet};
use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError};

use futures::TryStreamExt;
use futures::stream::BoxStream;
use pack::manifest::{Entry, EntryKind};
use source::blocking;
use source::entry::EntryPath;

use crate::backup::entry::metadata_of;
use crate::entries::FullEntry;
use crate::restore::{Overwrite, Restoring, panicked};
use crate::{EngineError, Kind};

/// Directories handled in one blocking job.
const BATCH: usize = 256;
/// Deleted entries that a report names, as a count.
const DELETED_NAMED_MAX: u64 = 1000;

impl Restoring {
    /// Whether the target becomes this directory of the snapshot.
    fn is_top_wanted(&self, top: &Entry) -> bool {
        self.filter.wants(top) && (self.target_is_new || self.request.overwrite != Overwrite::Never)
    }

    /// Counts what was removed, or would be, and names it if it is among the first.
    pub(crate) fn note_deleted(&self, path: &EntryPath) {
        let before = self.tally.deleted.fetch_add(1, Ordering::Relaxed);
        if before < DELETED_NAMED_MAX {
            self.deleted.lock().unwrap_or_else(PoisonError::into_inner).push(path.to_string());
        }
    }
}

/// Cleans directories if that was asked for, then sets their metadata.
pub(crate) async fn directories(
    restoring: &Arc<Restoring>,
    prefix: &[u8],
    walk: impl Fn() -> BoxStream<'static, Result<FullEntry, EngineError>>,
) -> Result<(), EngineError> {
    if restoring.request.delete {
        clean_all(restoring, prefix, walk()).await?;
    }
    if restoring.request.dry_run {
        return Ok(());
    }
    set_metadata(restoring, prefix, walk()).await
}

/// Removes what the snapshot does not have.
async fn clean_all(
    restoring: &Arc<Restoring>,
    prefix: &[u8],
    mut entries: BoxStream<'static, Result<FullEntry, EngineError>>,
) -> Result<(), EngineError> {
    let mut cleaner = Cleaner::new(Arc::clone(restoring), prefix);
    loop {
        let entry = match restoring.unless_stopped(entries.try_next()).await {
            Ok(Some(full)) => full.entry,
            Ok(None) => break,
            // What follows may have lost names that the target rightly has.
            Err(error) if error.kind() == Kind::Damaged => {
                let what = format!("nothing more is deleted, as the snapshot's list is not whole: {error}");
                restoring.problems.add(String::from("."), what, true);
                return Ok(());
            }
            Err(error) => return Err(error),
        };
        match restoring.filter.place(prefix, &entry) {
            None => cleaner.may_clean_top = entry.is_whole,
            Some(Ok(path)) => cleaner.take(&path, &entry).await?,
            Some(Err(_)) => {}
        }
    }
    cleaner.finish().await
}

/// Sets the metadata of directories. One that its owner may not enter would shut out what is below it, without root:
/// it waits until that is done.
async fn set_metadata(
    restoring: &Arc<Restoring>,
    prefix: &[u8],
    mut entries: BoxStream<'static, Result<FullEntry, EngineError>>,
) -> Result<(), EngineError> {
    let (mut batch, mut strict, mut top) = (Vec::new(), BTreeMap::new(), None);
    let mut present = Vec::new();
    loop {
        let entry = match restoring.unless_stopped(entries.try_next()).await {
            Ok(Some(full)) => full.entry,
            Ok(None) => break,
            // It was named when its entries should have been restored.
            Err(error) if error.kind() == Kind::Damaged => continue,
            Err(error) => return Err(error),
        };
        let place = match restoring.filter.place(prefix, &entry) {
            None if prefix.is_empty() => {
                top = Some(entry);
                continue;
            }
            None => EntryPath::try_from(prefix.to_vec()),
            Some(place) => place,
        };
        let Ok(path) = place else { continue };
        let parent = key_of(path.parent().as_ref());
        if parent != present {
            let is_done = |key: &Vec<u8>| *key < parent && !parent.starts_with(key);
            let done: Vec<_> =
                strict.range(..parent.clone()).map(|(key, _)| key).filter(|key| is_done(key)).cloned().collect();
            batch.extend(done.iter().rev().filter_map(|key| strict.remove(key)));
            present = parent;
        }
        let is_wanted = matches!(entry.kind, EntryKind::Directory) && restoring.filter.wants(&entry);
        if is_wanted && !restoring.is_left_alone(&path) {
            if entry.mode & 0o700 == 0o700 {
                batch.push((path, entry));
            } else {
                strict.insert(key_of(Some(&path)), (path, entry));
            }
        }
        if batch.len() >= BATCH {
            set_all(restoring, std::mem::take(&mut batch)).await?;
        }
    }
    batch.extend(strict.into_values().rev());
    set_all(restoring, batch).await?;
    set_top(restoring, top.filter(|top| restoring.is_top_wanted(top))).await
}

/// Sorts directories as entries sort them: each before all that is below it, and that before the next.
fn key_of(directory: Option<&EntryPath>) -> Vec<u8> {
    let parts = directory.map(EntryPath::as_bytes).unwrap_or_default();
    let mut key: Vec<u8> = parts.iter().map(|byte| if *byte == b'/' { 0 } else { *byte }).collect();
    if directory.is_some() {
        key.push(0);
    }
    key
}

async fn set_top(restoring: &Arc<Restoring>, top: Option<Entry>) -> Result<(), EngineError> {
    let Some(top) = top else { return Ok(()) };
    let restoring = Arc::clone(restoring);
    let set =
        move || restoring.note_all(restoring.target.set_own_metadata(&metadata_of(&top), &restoring.request.owners));
    blocking::run(set).await.map_err(panicked)
}

/// Compares the target itself with the directory that it became.
pub(crate) async fn verify_top(restoring: &Arc<Restoring>, top: Entry) -> Result<(), EngineError> {
    if !restoring.is_top_wanted(&top) {
        return Ok(());
    }
    let restoring = Arc::clone(restoring);
    let compare = move || {
        let shown = restoring.target.path().display().to_string();
        match restoring.target.own_differences(&metadata_of(&top), &restoring.request.owners) {
            Ok(differing) if differing.is_empty() => {}
            Ok(differing) => {
                let what = format!("differs from the snapshot after the restore: {}", differing.join(", "));
                restoring.progress.add_problem();
                restoring.problems.add(shown, what, true);
            }
            Err(error) => restoring.problem(&shown, &error),
        }
    };
    blocking::run(compare).await.map_err(panicked)
}

async fn set_all(restoring: &Arc<Restoring>, batch: Vec<(EntryPath, Entry)>) -> Result<(), EngineError> {
    let restoring = Arc::clone(restoring);
    let set = blocking::run(move || {
        for (path, entry) in &batch {
            restoring.go_on()?;
            match restoring.target.set_metadata(path, &metadata_of(entry), &restoring.request.owners) {
                Ok(problems) => restoring.note_all(problems),
                Err(error) => restoring.failed(&path.to_string(), &error)?,
            }
        }
        Ok(())
    });
    set.await.map_err(panicked)?
}

/// Removes what the snapshot does not have.
struct Cleaner {
    restoring: Arc<Restoring>,
    /// The directory whose names are being collected; none for the target itself.
    current: Option<EntryPath>,
    names: HashSet<Vec<u8>>,
    /// Whether the target itself stands for a directory that was listed whole.
    may_clean_top: bool,
    /// Directories listed by their parents of which no name has come yet, and whether they were listed whole.
    coming: BTreeMap<Vec<u8>, (EntryPath, bool)>,
    /// Whether the present directory was listed whole.
    is_current_whole: bool,
    is_top_empty: bool,
}

impl Cleaner {
    fn new(restoring: Arc<Restoring>, prefix: &[u8]) -> Self {
        let current = EntryPath::try_from(prefix.to_vec()).ok();
        Self {
            restoring,
            current,
            names: HashSet::new(),
            may_clean_top: false,
            coming: BTreeMap::new(),
            is_current_whole: true,
            is_top_empty: true,
        }
    }

    async fn take(&mut self, path: &EntryPath, entry: &Entry) -> Result<(), EngineError> {
        let parent = path.parent();
        if parent != self.current {
            self.clean_current().await?;
            let key = key_of(parent.as_ref());
            let later = self.coming.split_off(&key);
            let empty = std::mem::replace(&mut self.coming, later);
            self.clean_empty(empty).await?;
            self.is_current_whole = self.coming.remove(&key).is_none_or(|(_, is_whole)| is_whole);
            self.current = parent;
        }
        self.is_top_empty &= self.current.is_some();
        self.names.insert(path.name().to_vec());
        if matches!(entry.kind, EntryKind::Directory) {
            self.coming.insert(key_of(Some(path)), (path.clone(), entry.is_whole));
        }
        Ok(())
    }

    async fn clean_current(&mut self) -> Result<(), EngineError> {
        let (directory, names) = (self.current.take(), std::mem::take(&mut self.names));
        let is_whole = if directory.is_some() { self.is_current_whole } else { self.may_clean_top };
        if names.is_empty() || !is_whole {
            return Ok(());
        }
        self.clean(directory, names).await
    }

    /// Cleans directories that are empty in the snapshot.
    async fn clean_empty(&self, empty: BTreeMap<Vec<u8>, (EntryPath, bool)>) -> Result<(), EngineError> {
        for (directory, _) in empty.into_values().filter(|(_, is_whole)| *is_whole) {
            self.clean(Some(directory), HashSet::new()).await?;
        }
        Ok(())
    }

    async fn clean(&self, directory: Option<EntryPath>, names: HashSet<Vec<u8>>) -> Result<(), EngineError> {
        let restoring = Arc::clone(&self.restoring);
        blocking::run(move || clean(&restoring, directory.as_ref(), &names)).await.map_err(panicked)?
    }

    /// Cleans the last directory, then those that have not come.
    async fn finish(mut self) -> Result<(), EngineError> {
        self.clean_current().await?;
        if self.may_clean_top && self.is_top_empty {
            self.clean(None, HashSet::new()).await?;
        }
        let empty = std::mem::take(&mut self.coming);
        self.clean_empty(empty).await
    }
}

fn clean(restoring: &Restoring, directory: Option<&EntryPath>, names: &HashSet<Vec<u8>>) -> Result<(), EngineError> {
    let is_plan = restoring.request.dry_run;
    let there = match restoring.target.list_dir(directory) {
        Ok(there) => there,
        // A plan looks also where the restore has yet to make something.
        Err(_) if is_plan => return Ok(()),
        Err(error) => return restoring.failed(&directory.map(ToString::to_string).unwrap_or_default(), &error),
    };
    for name in there.into_iter().filter(|name| !names.contains(name)) {
        restoring.go_on()?;
        let path = directory.map_or_else(|| EntryPath::try_from(name.clone()), |directory| directory.join(&name));
        let remove = |path| if is_plan { Ok(path) } else { restoring.target.remove(&path).map(|()| path) };
        match path.and_then(remove) {
            Ok(path) => restoring.note_deleted(&path),
            Err(error) => restoring.failed(&source::entry::escaped(&name).to_string(), &error)?,
        }
    }
    Ok(())
}
