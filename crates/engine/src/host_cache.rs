//! What this host keeps of a repository, and how to go on when it cannot.
//!
//! ```text
//! open ── another process has it ── warn ─► a private cache, gone with us
//!      ── the folder cannot be used, or fails while the index is read ── warn ─► a temporary cache, gone with us
//! remember, keep ── fails while an operation runs ── warn, once ─► go on; what is known stays readable
//! ```
//!
//! Losing the cache changes speed only, so no failure of it ends an operation that can do without. Two things need it:
//! looking up what is to be read (a place that cannot be looked up is no lost chunk), and knowing which packs are not
//! to be trusted, which is therefore held in memory too.
//!
//! Invariant: whatever is not remembered is told to the user: the next run cannot notice what it does not know of.
//! Never here: what may be deduplicated against (see `index`).

use std::collections::{HashSet, VecDeque};
use std::error::Error as _;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};

use pack::PackId;
use seal::RepositoryId;
use store::index_cache::{CacheError, CacheOptions, IndexCache};

/// Packs that only a removed key vouches for.
const DISTRUSTED: &str = "distrusted-packs";
/// Packs that a check or a reader found damaged.
const DAMAGED: &str = "damaged-packs";
/// A reader remembers no more than so many for later runs: it writes all of them, 32 bytes each, whenever it finds another.
const DAMAGED_MAX: usize = 4096;
/// Warnings that are kept for documents.
const WARNINGS_MAX: usize = 100;

/// The index cache in use, and what was warned of.
pub(crate) struct HostCache {
    options: CacheOptions,
    repository: RepositoryId,
    current: RwLock<Arc<IndexCache>>,
    /// Temporary folders that were not tried yet.
    spare: Mutex<VecDeque<PathBuf>>,
    distrusted: Mutex<Distrusted>,
    /// Held while a note of damaged packs is made and put, so that no older one follows a newer one.
    noting: Mutex<()>,
    has_failed: AtomicBool,
    has_seen_vanish: AtomicBool,
    warnings: Mutex<Vec<String>>,
}

/// Packs that serve to read and are not offered for deduplication.
#[derive(Default)]
struct Distrusted {
    /// Only a removed key vouches for them.
    late: HashSet<PackId>,
    /// A check or a reader found them damaged.
    damaged: HashSet<PackId>,
}

impl HostCache {
    /// Opens the cache of `repository`, or a temporary one in its stead. Blocks on the disk.
    ///
    /// # Errors
    ///
    /// Why the cache cannot be used, if there is no place for a temporary one either.
    pub(crate) fn open(options: CacheOptions, repository: RepositoryId) -> Result<Self, CacheError> {
        let mut spare = VecDeque::from(options.temporary.clone());
        let (cache, warning) = match IndexCache::open(&options, repository) {
            Ok(cache) => {
                let warning = cache.is_private().then(|| beside_another(&options));
                (cache, warning)
            }
            Err(error) => {
                let (cache, warning) = temporary(&mut spare, options.memory_len, repository, error)?;
                (cache, Some(warning))
            }
        };
        let opened = Self {
            options,
            repository,
            current: RwLock::new(Arc::new(cache)),
            spare: Mutex::new(spare),
            distrusted: Mutex::default(),
            noting: Mutex::default(),
            has_failed: AtomicBool::new(false),
            has_seen_vanish: AtomicBool::new(false),
            warnings: Mutex::default(),
        };
        warning.into_iter().for_each(|warning| opened.warn(warning));
        let (late, damaged) = (opened.packs_in(DISTRUSTED), opened.packs_in(DAMAGED));
        *opened.distrusted_now() = Distrusted { late, damaged };
        Ok(opened)
    }

    /// The cache to use from now on.
    pub(crate) fn now(&self) -> Arc<IndexCache> {
        Arc::clone(&self.current.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Puts an empty temporary cache in the place of one that failed with `error`. Blocks on the disk.
    ///
    /// # Errors
    ///
    /// `error`, if there is no further place for one.
    pub(crate) fn replace(&self, error: CacheError) -> Result<Arc<IndexCache>, CacheError> {
        let mut spare = self.spare.lock().unwrap_or_else(PoisonError::into_inner);
        let (cache, warning) = temporary(&mut spare, self.options.memory_len, self.repository, error)?;
        self.warn(warning);
        let cache = Arc::new(cache);
        *self.current.write().unwrap_or_else(PoisonError::into_inner) = Arc::clone(&cache);
        Ok(cache)
    }

    /// The value, or a warning and none. Only the first failure is told: those that follow have the same cause.
    pub(crate) fn allow<T>(&self, done: Result<T, CacheError>) -> Option<T> {
        match done {
            Ok(value) => Some(value),
            Err(error) => {
                if !self.has_failed.swap(true, Ordering::Relaxed) {
                    self.warn(format!(
                        "{}; this run goes on, but the next one reads more than it would have to, and may not notice \
                         what vanishes from the repository until then",
                        explained(&error)
                    ));
                }
                None
            }
        }
    }

    /// A value that this host remembers, as far as it can.
    pub(crate) fn note(&self, name: &str) -> Option<Vec<u8>> {
        self.allow(self.now().get_note(name)).flatten()
    }

    /// Remembers a value; false, after a warning, if it cannot.
    pub(crate) fn remember(&self, name: &str, value: &[u8]) -> bool {
        self.allow(self.now().put_note(name, value)).is_some()
    }

    /// Packs that serve to read and are not offered for deduplication.
    pub(crate) fn distrusted(&self) -> HashSet<PackId> {
        let all = self.distrusted_now();
        all.late.union(&all.damaged).copied().collect()
    }

    /// Those of them that only a removed key vouches for.
    pub(crate) fn late(&self) -> HashSet<PackId> {
        self.distrusted_now().late.clone()
    }

    /// Packs that were found damaged and not found whole since.
    pub(crate) fn damaged(&self) -> HashSet<PackId> {
        self.distrusted_now().damaged.clone()
    }

    /// Takes a pack that a reader found damaged as not to be offered for deduplication, at once and by later runs on this
    /// host, as far as it can remember. Blocks on the disk if the pack is new.
    pub(crate) fn note_damaged(&self, pack: PackId) {
        let _one_at_a_time = self.noting.lock().unwrap_or_else(PoisonError::into_inner);
        let note = {
            let mut all = self.distrusted_now();
            if !all.damaged.insert(pack) {
                return;
            }
            (all.damaged.len() <= DAMAGED_MAX).then(|| note_of(&all.damaged))
        };
        match note {
            Some(note) => drop(self.remember(DAMAGED, &note)),
            None => self.warn(format!(
                "more than {DAMAGED_MAX} packs are damaged, and this host remembers no more of them than that: run check --read-data"
            )),
        }
    }

    /// Takes packs that only a removed key vouches for as not to be offered for deduplication, at once and by later runs
    /// on this host.
    ///
    /// # Errors
    ///
    /// Later runs will not know.
    pub(crate) fn distrust(&self, packs: &[PackId], cache: &IndexCache) -> Result<(), CacheError> {
        let note: Vec<u8> = {
            let mut all = self.distrusted_now();
            all.late.extend(packs);
            note_of(&all.late)
        };
        if packs.is_empty() { Ok(()) } else { cache.put_note(DISTRUSTED, &note) }
    }

    /// Takes in what a check found: packs that are damaged, packs that were found damaged once and are whole now, and
    /// distrusted packs that nothing names any more. Says so if later runs on this host will not know.
    pub(crate) fn settle_distrust(
        &self,
        damaged: &HashSet<PackId>,
        whole: &HashSet<PackId>,
        unnamed: &HashSet<PackId>,
    ) {
        let _one_at_a_time = self.noting.lock().unwrap_or_else(PoisonError::into_inner);
        let (late, all_damaged) = {
            let mut all = self.distrusted_now();
            all.late.retain(|id| !unnamed.contains(id));
            all.damaged.retain(|id| !unnamed.contains(id) && !whole.contains(id));
            all.damaged.extend(damaged);
            (note_of(&all.late), note_of(&all.damaged))
        };
        let put = |name: &str, note: &[u8]| {
            let before = self.note(name).unwrap_or_default();
            before == note || self.remember(name, note)
        };
        let is_remembered = put(DAMAGED, &all_damaged) & put(DISTRUSTED, &late);
        if !is_remembered || (self.now().is_private() && !damaged.is_empty()) {
            self.warn("which packs are damaged could not be remembered: this host may use them again".into());
        }
    }

    /// Remembers, for as long as this is open, that snapshots vanished.
    pub(crate) fn note_vanished(&self) {
        self.has_seen_vanish.store(true, Ordering::Relaxed);
    }

    /// Whether snapshots vanished that this host has seen.
    pub(crate) fn has_seen_vanish(&self) -> bool {
        self.has_seen_vanish.load(Ordering::Relaxed)
    }

    /// Tells something that everybody should know, unless it was told already.
    pub(crate) fn warn(&self, warning: String) {
        let mut warnings = self.warnings.lock().unwrap_or_else(PoisonError::into_inner);
        if !warnings.contains(&warning) && warnings.len() < WARNINGS_MAX {
            tracing::warn!("{warning}");
            warnings.push(warning);
        }
    }

    /// What was told so far.
    pub(crate) fn warnings(&self) -> Vec<String> {
        self.warnings.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn packs_in(&self, note: &str) -> HashSet<PackId> {
        self.note(note).unwrap_or_default().as_chunks::<32>().0.iter().map(|id| PackId(*id)).collect()
    }

    fn distrusted_now(&self) -> MutexGuard<'_, Distrusted> {
        self.distrusted.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Packs as they are remembered: their ids, sorted, so that the same packs make the same note.
fn note_of(packs: &HashSet<PackId>) -> Vec<u8> {
    let mut ids: Vec<_> = packs.iter().map(|id| id.0).collect();
    ids.sort_unstable();
    ids.concat()
}

/// What to tell when another process has the cache.
fn beside_another(options: &CacheOptions) -> String {
    format!(
        "another command uses the index cache in {}; this one goes on with an empty one of its own: it reads the index \
         anew, cannot notice what vanished from the repository, and remembers nothing of what it finds: end the other \
         one first, or give this one a cache folder of its own with --cache-dir",
        options.folder.display()
    )
}

/// An empty cache for this process alone in the first place that takes one, and what to tell about it.
fn temporary(
    spare: &mut VecDeque<PathBuf>,
    memory_len: usize,
    repository: RepositoryId,
    error: CacheError,
) -> Result<(IndexCache, String), CacheError> {
    while let Some(folder) = spare.pop_front() {
        match IndexCache::open_temporary(&folder, memory_len, repository) {
            Ok(cache) => {
                let warning = format!(
                    "{}; this run goes on with an empty one in {}: it reads the index anew, and cannot notice what \
                     vanished from the repository",
                    explained(&error),
                    folder.display()
                );
                return Ok((cache, warning));
            }
            Err(error) => tracing::info!("{}", explained(&error)),
        }
    }
    Err(error)
}

/// What failed, why, and what to do about it.
fn explained(error: &CacheError) -> String {
    let causes = std::iter::successors(error.source(), |&cause| cause.source());
    let causes: Vec<_> = causes.map(ToString::to_string).collect();
    let cause = if causes.is_empty() { String::new() } else { format!(" ({})", causes.join(": ")) };
    let remedy = match error {
        CacheError::Full { .. } | CacheError::Stopped { .. } => "free some space there, or keep it in another folder",
        CacheError::Folder { .. } => "make that a folder which this user may write to, or keep it in another one",
        CacheError::InUse { .. } => "run fewer commands at once",
        CacheError::Damaged { .. } => "it is made anew next time",
        _ => "remove it, if this goes on",
    };
    format!("{error}{cause}: {remedy}")
}

#[cfg(test)]
mod tests {
    use super::*;

    const REPOSITORY: RepositoryId = RepositoryId([0x5a; 16]);

    fn options(folder: &std::path::Path) -> CacheOptions {
        CacheOptions { memory_len: 4 << 20, ..CacheOptions::new(folder.join("cache")) }
    }

    #[test]
    fn cache_that_cannot_be_used_gives_way_to_a_temporary_one_and_is_told_once() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("cache"), "a file").unwrap();
        let options = options(folder.path())
            .with_temporary(vec![folder.path().join("missing/temporary"), folder.path().join("temporary")]);
        let host = HostCache::open(options, REPOSITORY).unwrap();
        assert!(host.now().is_private() && host.now().folder().starts_with(folder.path().join("temporary")));
        let [warning] = host.warnings().try_into().unwrap();
        for words in ["cache cannot use", "cache", "another one", "temporary"] {
            assert!(warning.contains(words), "{warning}");
        }
        drop(host);
        assert_eq!(
            std::fs::read_dir(folder.path().join("temporary")).unwrap().count(),
            0,
            "it is gone with its process"
        );
        assert_eq!(std::fs::read_to_string(folder.path().join("cache")).unwrap(), "a file");
    }

    #[test]
    fn cache_that_another_process_holds_is_told_and_so_is_what_cannot_be_remembered() {
        let folder = tempfile::tempdir().unwrap();
        let first = HostCache::open(options(folder.path()), REPOSITORY).unwrap();
        let second = HostCache::open(options(folder.path()), REPOSITORY).unwrap();
        assert!(first.warnings().is_empty(), "{:?}", first.warnings());
        let [warning] = second.warnings().try_into().unwrap();
        assert!(warning.contains("another command uses") && warning.contains("remembers nothing"), "{warning}");
        let (damaged, none) = (HashSet::from([PackId([7; 32])]), HashSet::new());
        first.settle_distrust(&damaged, &none, &none);
        assert!(first.warnings().is_empty(), "{:?}", first.warnings());
        second.settle_distrust(&damaged, &none, &none);
        assert!(second.warnings().last().is_some_and(|last| last.contains("damaged could not be remembered")));
    }

    #[test]
    fn damaged_packs_are_remembered_until_they_are_whole_or_unnamed_and_late_ones_until_they_are_unnamed() {
        let folder = tempfile::tempdir().unwrap();
        let open = || HostCache::open(options(folder.path()), REPOSITORY).unwrap();
        let of = |ids: &[u8]| ids.iter().map(|id| PackId([*id; 32])).collect::<HashSet<_>>();
        let host = open();
        host.distrust(&[PackId([1; 32]), PackId([2; 32])], &host.now()).unwrap();
        host.settle_distrust(&of(&[2, 3, 4, 5]), &of(&[]), &of(&[]));
        drop(host);
        let host = open();
        assert_eq!(host.distrusted(), of(&[1, 2, 3, 4, 5]));
        // Being whole says nothing of who vouches for a pack.
        host.settle_distrust(&of(&[3]), &of(&[1, 2, 4]), &of(&[5]));
        assert_eq!(host.distrusted(), of(&[1, 2, 3]));
        host.settle_distrust(&of(&[]), &of(&[]), &of(&[1, 2, 3]));
        drop(host);
        assert_eq!(open().distrusted(), of(&[]));
    }

    #[test]
    fn cache_without_a_place_for_a_temporary_one_is_an_error_that_names_it() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("cache"), "a file").unwrap();
        let Err(error) = HostCache::open(options(folder.path()), REPOSITORY) else { panic!("a file is in its place") };
        assert!(matches!(&error, CacheError::Folder { path, .. } if path.ends_with("cache")), "{error:?}");
    }

    #[test]
    fn distrust_outlives_the_cache_that_knew_of_it_and_the_process() {
        let folder = tempfile::tempdir().unwrap();
        let options = options(folder.path())
            .with_temporary(vec![folder.path().join("missing/temporary"), folder.path().join("temporary")]);
        let pack = PackId([7; 32]);
        let host = HostCache::open(options.clone(), REPOSITORY).unwrap();
        host.distrust(&[pack], &host.now()).unwrap();
        let path = folder.path().join("cache");
        host.replace(CacheError::Stopped { path: path.clone() }).unwrap();
        assert!(host.distrusted().contains(&pack));
        assert!(host.replace(CacheError::Stopped { path }).is_err(), "every place was tried");
        drop(host);
        assert!(HostCache::open(options, REPOSITORY).unwrap().distrusted().contains(&pack));
    }

    #[test]
    fn failures_that_follow_the_first_are_not_told_again() {
        let folder = tempfile::tempdir().unwrap();
        let host = HostCache::open(options(folder.path()), REPOSITORY).unwrap();
        let path = || folder.path().join("cache");
        assert_eq!(host.allow(Ok(1)), Some(1));
        assert_eq!(host.allow::<()>(Err(CacheError::Full { path: path(), source: "no space".into() })), None);
        assert_eq!(host.allow::<()>(Err(CacheError::Stopped { path: path() })), None);
        let [warning] = host.warnings().try_into().unwrap();
        assert!(warning.contains("no space is left") && warning.contains("free some space"), "{warning}");
    }
}
