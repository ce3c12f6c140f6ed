//! Whether something below some roots changed, as the kernel tells it.
//!
//! ```text
//! roots ──renew──→ what is watched: a root that is a directory, with all below it, and the directory above each root
//! kernel ──→ what concerns a root, and is not left out ──→ one flag, and a call
//! ```
//!
//! The directory above, or the nearest one that exists, is watched for roots that are files, that are not there yet,
//! and that are replaced.
//!
//! Invariant: changes are never queued here: they set a flag, so that memory does not grow with them.
//! Invariant: where the kernel lost count of changes, that is a change.
//! Never here: what changed, and when something is done about it.

use std::collections::BTreeMap;
use std::io;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use notify::event::{AccessKind, AccessMode};
use notify::{Config, Event, EventKind, RecommendedWatcher, RecursiveMode, Watcher as _};

use super::FilesOptions;
use super::rules::Rules;
use crate::error::SourceError;
use crate::scratch::is_scratch;

/// How often the watches are made anew while what they are for keeps changing, as a count.
const ATTEMPTS_MAX: u32 = 8;

/// What is known of changes below some roots.
pub struct Changes {
    roots: Vec<PathBuf>,
    watcher: RecommendedWatcher,
    /// What is watched, and which directory it was.
    watched: BTreeMap<PathBuf, Watched>,
    seen: Arc<Seen>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Watched {
    id: (u64, u64),
    is_recursive: bool,
}

/// What the kernel told since somebody asked.
#[derive(Debug, Default)]
struct Seen {
    has_changed: AtomicBool,
    /// Changes were lost, so the watches may be incomplete.
    is_lost: AtomicBool,
    is_full: AtomicBool,
}

/// What was learned about changes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Seeing {
    /// Nothing changed since somebody asked.
    Nothing,
    /// Something did.
    Change,
    /// The kernel lost count: something may have.
    Lost,
}

impl std::fmt::Debug for Changes {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.debug_struct("Changes").field("roots", &self.roots).field("watched", &self.watched).finish_non_exhaustive()
    }
}

impl Changes {
    /// Watches `roots`, which need not exist; what the options leave out by name is no change. `wake` is called for
    /// each change, from a thread of its own, and must return at once.
    ///
    /// Blocking: lists the directories below the roots.
    ///
    /// # Errors
    ///
    /// [`SourceError::Unwatchable`] if the kernel gives no watches, or not as many; [`SourceError::Pattern`] and its
    /// like for options.
    pub fn watch(
        roots: &[PathBuf],
        options: FilesOptions,
        wake: impl Fn() + Send + Sync + 'static,
    ) -> Result<Self, SourceError> {
        let roots: Vec<PathBuf> = roots.iter().map(|root| options.cwd.join(root)).collect();
        let forbidden = forbidden_of(&options);
        let rules = Rules::new(options)?;
        let seen = Arc::new(Seen::default());
        let (told, concerned) = (Arc::clone(&seen), roots.clone());
        let handler = move |event: notify::Result<Event>| {
            let is_change = match event {
                Ok(event) if event.need_rescan() => told.lose(),
                Ok(event) => {
                    is_change(&event.kind)
                        && event.paths.iter().any(|path| {
                            concerns(path, &concerned) && !is_left_out(path, &concerned, &forbidden, &rules)
                        })
                }
                Err(error) => {
                    told.is_full.fetch_or(matches!(error.kind, notify::ErrorKind::MaxFilesWatch), Ordering::Relaxed);
                    told.lose()
                }
            };
            if is_change {
                told.has_changed.store(true, Ordering::Release);
                wake();
            }
        };
        let config = Config::default().with_follow_symlinks(false);
        let place = roots.first().cloned().unwrap_or_default();
        let watcher = RecommendedWatcher::new(handler, config).map_err(|error| unwatchable(&place, error))?;
        let mut changes = Self { roots, watcher, watched: BTreeMap::new(), seen };
        changes.renew()?;
        Ok(changes)
    }

    /// What was seen since the last time.
    #[must_use]
    pub fn take(&self) -> Seeing {
        match (self.seen.has_changed.swap(false, Ordering::Acquire), self.seen.is_lost.load(Ordering::Acquire)) {
            (_, true) => Seeing::Lost,
            (true, false) => Seeing::Change,
            (false, false) => Seeing::Nothing,
        }
    }

    /// Watches what exists by now. To be called after each change, before what it is for: roots that appeared or were
    /// replaced are watched from here on.
    ///
    /// Blocking: lists directories that are new.
    ///
    /// # Errors
    ///
    /// [`SourceError::Unwatchable`] if the kernel gives no more watches.
    pub fn renew(&mut self) -> Result<(), SourceError> {
        if self.seen.is_lost.swap(false, Ordering::AcqRel) {
            let stale: Vec<PathBuf> = std::mem::take(&mut self.watched).into_keys().collect();
            stale.iter().for_each(|path| self.unwatch(path));
        }
        for _ in 0..ATTEMPTS_MAX {
            if !self.adjust()? {
                break;
            }
        }
        if self.seen.is_full.swap(false, Ordering::Relaxed) {
            let place = self.roots.first().cloned().unwrap_or_default();
            return Err(unwatchable(&place, notify::Error::new(notify::ErrorKind::MaxFilesWatch)));
        }
        Ok(())
    }

    /// Makes one step from what is watched to what should be. Whether there was something to do.
    fn adjust(&mut self) -> Result<bool, SourceError> {
        let wanted = wanted(&self.roots);
        let old: Vec<PathBuf> = self
            .watched
            .iter()
            .filter(|(path, was)| wanted.get(*path) != Some(*was))
            .map(|(path, _)| path.clone())
            .collect();
        for path in &old {
            self.watched.remove(path);
            self.unwatch(path);
        }
        let new: Vec<(&PathBuf, &Watched)> =
            wanted.iter().filter(|(path, _)| !self.watched.contains_key(*path)).collect();
        let is_done = old.is_empty() && new.is_empty();
        for (path, watched) in new {
            let mode = if watched.is_recursive { RecursiveMode::Recursive } else { RecursiveMode::NonRecursive };
            match self.watcher.watch(path, mode) {
                Ok(()) => _ = self.watched.insert(path.clone(), *watched),
                Err(error) if is_gone(&error) => self.unwatch(path), // the next step sees what is there instead
                Err(error) => return Err(unwatchable(path, error)),
            }
        }
        Ok(!is_done)
    }

    /// What vanished is watched no more by itself.
    fn unwatch(&mut self, path: &Path) {
        let _ = self.watcher.unwatch(path);
    }
}

impl Seen {
    fn lose(&self) -> bool {
        self.is_lost.store(true, Ordering::Release);
        true
    }
}

/// The directories that have to be watched now.
fn wanted(roots: &[PathBuf]) -> BTreeMap<PathBuf, Watched> {
    let mut wanted = BTreeMap::new();
    let is_below = |path: &Path| roots.iter().any(|root| path.starts_with(root) && directory(root).is_some());
    for root in roots {
        if let Some(id) = directory(root)
            && !root.parent().is_some_and(is_below)
        {
            wanted.insert(root.clone(), Watched { id, is_recursive: true });
        }
    }
    for root in roots {
        let above = root.ancestors().skip(1).find_map(|above| Some((above, directory(above)?)));
        if let Some((above, id)) = above.filter(|(above, _)| !is_below(above)) {
            wanted.insert(above.to_owned(), Watched { id, is_recursive: false });
        }
    }
    wanted
}

/// Which directory `path` is, if it is one.
fn directory(path: &Path) -> Option<(u64, u64)> {
    use std::os::unix::fs::MetadataExt as _;
    let found = path.symlink_metadata().ok().filter(std::fs::Metadata::is_dir)?;
    Some((found.dev(), found.ino()))
}

/// Reading is none, else every run would be followed by the next.
fn is_change(kind: &EventKind) -> bool {
    match kind {
        EventKind::Access(kind) => *kind == AccessKind::Close(AccessMode::Write),
        _ => true,
    }
}

/// Whether `path` is a root, below one, or on the way to one.
fn concerns(path: &Path, roots: &[PathBuf]) -> bool {
    roots.iter().any(|root| path.starts_with(root) || root.starts_with(path))
}

/// The folders that are never entered, by the names that they were given and by those that they have.
fn forbidden_of(options: &FilesOptions) -> Vec<PathBuf> {
    let named: Vec<PathBuf> = options.forbidden.iter().map(|path| options.cwd.join(path)).collect();
    let real: Vec<PathBuf> = named.iter().filter_map(|path| path.canonicalize().ok()).collect();
    [named, real].concat()
}

fn is_left_out(path: &Path, roots: &[PathBuf], forbidden: &[PathBuf], rules: &Rules) -> bool {
    let is_forbidden = |path: &Path| forbidden.iter().any(|folder| path.starts_with(folder));
    let real = || path.parent().and_then(|above| above.canonicalize().ok()?.join(path.file_name()?).into());
    if is_forbidden(path) || real().is_some_and(|real: PathBuf| is_forbidden(&real)) {
        return true;
    }
    // What a root names is kept, whatever the rules say.
    let below = path.ancestors().take_while(|at| !roots.iter().any(|root| root == at));
    let is_below_root = roots.iter().any(|root| path.starts_with(root));
    let excludes = |at: &Path, is_dir| {
        let bytes = at.as_os_str().as_bytes();
        let is_scratch_folder = at.file_name().is_some_and(|name| is_scratch(name.as_bytes()));
        is_scratch_folder || rules.excludes(bytes.strip_prefix(b"/").unwrap_or(bytes), is_dir)
    };
    is_below_root && below.enumerate().any(|(index, at)| excludes(at, index > 0))
}

fn is_gone(error: &notify::Error) -> bool {
    match &error.kind {
        notify::ErrorKind::PathNotFound => true,
        notify::ErrorKind::Io(error) => error.kind() == io::ErrorKind::NotFound,
        _ => false,
    }
}

fn unwatchable(path: &Path, error: notify::Error) -> SourceError {
    let source = match error.kind {
        notify::ErrorKind::Io(source) => source,
        // What the kernel says when it has no more watches.
        notify::ErrorKind::MaxFilesWatch => io::ErrorKind::StorageFull.into(),
        _ => io::Error::other(error),
    };
    SourceError::Unwatchable { path: path.to_owned(), source }
}
