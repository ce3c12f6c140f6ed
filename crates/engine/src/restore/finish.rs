//! The second pass of a restore: remove what the snapshot does not have, then set the metadata of directories.
//!
//! Entries of a directory come together, and directories in the order in which their parents list them, so one pass
//! with a stack of directories still to come sees every directory with all of its names.
//!
//! Invariant: only directories that were listed whole are cleaned: not those above what was backed up, nor such as stand for
//! a mount or a folder that was not entered; and nothing at all by a partial snapshot.
//! Invariant: the target's own metadata is set only if the restore made it: `/tmp` stays what it is.
//! Never here: content.

use std::collections::HashSet;
use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError};

use futures::TryStreamExt;
use futures::stream::BoxStream;
use pack::manifest::{Entry, EntryKind};
use source::blocking;
use source::entry::EntryPath;

use crate::EngineError;
use crate::backup::entry::metadata_of;
use crate::entries::FullEntry;
use crate::restore::{Restoring, panicked};

/// Directories handled in one blocking job.
const BATCH: usize = 256;
/// Deleted entries that a report names, as a count.
const DELETED_NAMED_MAX: u64 = 1000;

/// Cleans directories if that was asked for, and sets their metadata, deepest last of each branch.
pub(crate) async fn directories(
    restoring: &Arc<Restoring>,
    prefix: &[u8],
    mut entries: BoxStream<'static, Result<FullEntry, EngineError>>,
) -> Result<(), EngineError> {
    let mut cleaner = restoring.request.delete.then(|| Cleaner::new(Arc::clone(restoring), prefix));
    let mut batch = Vec::new();
    let mut strict = Vec::new();
    let mut top = None;
    while let Some(FullEntry { entry, .. }) = restoring.unless_stopped(entries.try_next()).await? {
        let Some(place) = restoring.filter.place(prefix, &entry) else {
            if let Some(cleaner) = cleaner.as_mut() {
                cleaner.may_clean_top = entry.is_whole;
            }
            top = Some(entry);
            continue;
        };
        let Ok(path) = place else { continue };
        if let Some(cleaner) = cleaner.as_mut() {
            cleaner.take(&path, &entry).await?;
        }
        let is_wanted = matches!(entry.kind, EntryKind::Directory) && restoring.filter.wants(&entry);
        if !is_wanted || restoring.request.dry_run || restoring.is_left_alone(&path) {
            continue;
        }
        // Without root, a directory that its owner may not enter would shut out what is below it: it waits.
        if entry.mode & 0o700 == 0o700 {
            batch.push((path, entry))
        } else {
            strict.push((path, entry))
        }
        if batch.len() >= BATCH && cleaner.is_none() {
            set_all(restoring, std::mem::take(&mut batch)).await?;
        }
    }
    if let Some(cleaner) = cleaner {
        cleaner.finish().await?;
    }
    strict.reverse();
    batch.extend(strict);
    set_all(restoring, batch).await?;
    set_top(restoring, top.filter(|_| restoring.target_is_new)).await
}

async fn set_top(restoring: &Arc<Restoring>, top: Option<Entry>) -> Result<(), EngineError> {
    let Some(top) = top else { return Ok(()) };
    let restoring = Arc::clone(restoring);
    let set =
        move || restoring.note_all(restoring.target.set_own_metadata(&metadata_of(&top), &restoring.request.owners));
    blocking::run(set).await.map_err(panicked)
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
    /// Directories that were not listed whole.
    partial: HashSet<EntryPath>,
    /// Directories listed by their parents of which no name has come; in the end these are the empty ones.
    empty: HashSet<EntryPath>,
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
            partial: HashSet::new(),
            empty: HashSet::new(),
            is_top_empty: true,
        }
    }

    async fn take(&mut self, path: &EntryPath, entry: &Entry) -> Result<(), EngineError> {
        let parent = path.parent();
        if parent != self.current {
            self.clean_current().await?;
            self.current = parent;
        }
        match &self.current {
            Some(parent) => drop(self.empty.remove(parent)),
            None => self.is_top_empty = false,
        }
        self.names.insert(path.name().to_vec());
        if matches!(entry.kind, EntryKind::Directory) {
            let directories = if entry.is_whole { &mut self.empty } else { &mut self.partial };
            directories.insert(path.clone());
        }
        Ok(())
    }

    async fn clean_current(&mut self) -> Result<(), EngineError> {
        let (directory, names) = (self.current.take(), std::mem::take(&mut self.names));
        let is_whole = directory.as_ref().map_or(self.may_clean_top, |directory| !self.partial.contains(directory));
        if names.is_empty() || !is_whole {
            return Ok(());
        }
        self.clean(directory, names).await
    }

    async fn clean(&self, directory: Option<EntryPath>, names: HashSet<Vec<u8>>) -> Result<(), EngineError> {
        let restoring = Arc::clone(&self.restoring);
        blocking::run(move || clean(&restoring, directory.as_ref(), &names)).await.map_err(panicked)?
    }

    /// Cleans the last directory, then those that are empty in the snapshot.
    async fn finish(mut self) -> Result<(), EngineError> {
        self.clean_current().await?;
        if self.may_clean_top && self.is_top_empty {
            self.clean(None, HashSet::new()).await?;
        }
        for directory in std::mem::take(&mut self.empty) {
            self.clean(Some(directory), HashSet::new()).await?;
        }
        Ok(())
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
            Ok(path) => {
                let before = restoring.tally.deleted.fetch_add(1, Ordering::Relaxed);
                if before < DELETED_NAMED_MAX {
                    restoring.deleted.lock().unwrap_or_else(PoisonError::into_inner).push(path.to_string());
                }
            }
            Err(error) => restoring.failed(&source::entry::escaped(&name).to_string(), &error)?,
        }
    }
    Ok(())
}
