//! A folder on this host as a store, in which every object is durable once it is reported.
//!
//! ```text
//! put_new   make folders, sync each new one's parent ─ write aside, sync, link, sync the folder
//!           no hard links here? rename and replace nothing instead, from then on
//!           a first put to a folder removes what long interrupted ones left there
//! delete    unlink, sync the folder; remove it with the last object of one run
//! ```
//!
//! The library writes and links; what it leaves open is closed here. A second writer may find a folder
//! that the first has made but not yet synced, so each store syncs every folder it meets once. A
//! deletion that comes back after a power cut could revive a snapshot, so it is synced too. The folder
//! itself is made by the first put: a mistyped path reads as an empty store and leaves nothing behind. One that was there and
//! is gone, with its disk or by somebody's hand, is never made again: what is put then would lie where nobody looks for it.
//!
//! A folder that cannot be synced makes the store doubt all of them from then on: the system tells of a failure once, and
//! says at the next attempt that all is well (fsync(2), on errors). Nothing more is put then, and nothing shown by `head`.
//!
//! What `head` shows survives a power cut too, even if its writer was killed before its put returned.
//!
//! A folder that it makes is this user's alone, with all that is in it, whatever the umask says. One that others may enter
//! already, such as that of a repository shared by a group, stays what its owner made it: then the umask decides.
//!
//! Invariant: when a put returns, the object and every folder above it survive a power cut.
//! Never here: locks. Hard links, or renames that replace nothing, decide races.

use std::collections::HashSet;
use std::io;
use std::ops::Range;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use async_trait::async_trait;
use bytes::Bytes;
use futures::stream::{self, BoxStream, StreamExt};
use object_store::local::LocalFileSystem;
use rustix::io::Errno;
use tokio::fs;
use tokio::time::timeout;

use crate::backend::{Backend, Deadlines, checked};
use crate::classify::{At, classify, classify_io};
use crate::exclusive::{self, means_no_hard_links};
use crate::store::{ObjectInfo, Put, PutReport, Store};
use crate::{Env, StoreError, StoreOptions};

mod leftovers;

/// How often the folder of a new object may vanish beneath it.
const FOLDER_TRIES_MAX: usize = 16;
/// How many folders are remembered as synced; beyond that they are synced again.
const SYNCED_FOLDERS_MAX: usize = 16_384;

/// What only this user may enter, or read.
const MODE_PRIVATE_FOLDER: u32 = 0o700;
const MODE_PRIVATE_FILE: u32 = 0o600;
const MODE_OTHERS: u32 = 0o077;

/// A folder on this host.
#[derive(Debug)]
pub(crate) struct Directory {
    root: PathBuf,
    label: String,
    deadlines: Deadlines,
    opened: OnceLock<Backend>,
    synced: Mutex<HashSet<PathBuf>>,
    /// Some folder could not be brought to the disk.
    is_unsure: AtomicBool,
    lacks_links: AtomicBool,
    /// Whether nobody else may enter the root, once it is there.
    private: OnceLock<bool>,
    env: Env,
}

impl Directory {
    /// Opens the folder `path`, or promises to make it.
    ///
    /// # Errors
    ///
    /// [`StoreError::NotADirectory`] if a file is there, [`StoreError::AccessDenied`] if we may not look,
    /// [`StoreError::Setting`] if no folder can have this path.
    pub(crate) async fn open(path: &Path, options: &StoreOptions, env: &Env) -> Result<Self, StoreError> {
        let label = path.display().to_string();
        let at = At { name: "", store: &label };
        let root = std::path::absolute(path).map_err(|error| classify_io(error, at))?;
        if root.to_str().is_none() {
            // The library takes every path for text.
            let problem = format!("{} is not text in UTF-8", root.display());
            return Err(StoreError::Setting { setting: "location".into(), problem });
        }
        let store = Self {
            root,
            label: label.clone(),
            deadlines: Deadlines::of(options),
            opened: OnceLock::new(),
            synced: Mutex::new(HashSet::new()),
            is_unsure: AtomicBool::new(false),
            lacks_links: AtomicBool::new(false),
            private: OnceLock::new(),
            env: env.clone(),
        };
        store.backend().await?;
        Ok(store)
    }

    fn at<'a>(&'a self, name: &'a str) -> At<'a> {
        At { name, store: &self.label }
    }

    /// The library's view of the folder, or `None` while it does not exist.
    async fn backend(&self) -> Result<Option<&Backend>, StoreError> {
        if let Some(backend) = self.opened.get() {
            return Ok(Some(backend));
        }
        match fs::read_dir(&self.root).await {
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(classify_io(error, self.at(""))),
        }
        let files = LocalFileSystem::new_with_prefix(&self.root)
            .map_err(|error| classify(error, self.at("")))?
            .with_fsync(true);
        let root = object_store::path::Path::default();
        let backend = Backend::new(Arc::new(files), root, self.label.clone(), self.deadlines);
        Ok(Some(self.opened.get_or_init(|| backend)))
    }

    fn folder_of(&self, name: &str) -> PathBuf {
        self.root.join(name).parent().unwrap_or(&self.root).to_path_buf()
    }

    /// Puts an object into its folder, making that as often as somebody removes it meanwhile, empty as it then is.
    async fn put_into_folder(&self, name: &str, body: &[Bytes]) -> Result<Put, StoreError> {
        let folder = self.folder_of(name);
        let mut tries = 0;
        loop {
            // The library makes all folders that a file lacks, so this is asked first.
            if self.is_gone().await {
                return Err(StoreError::FolderGone { path: self.label.clone() });
            }
            let settled = self.make_durable(&folder).await;
            let put = match settled.map_err(|error| classify_io(error, self.at(name))) {
                Ok(()) => self.create(name, body.to_vec()).await,
                Err(error) => Err(error),
            };
            tries += 1;
            if !matches!(&put, Err(StoreError::NotFound { .. })) {
                return put;
            }
            if tries == FOLDER_TRIES_MAX {
                let problem = format!("no folder can be made at {}", self.label);
                let never_made = StoreError::Setting { setting: "location".into(), problem };
                return if self.opened.get().is_none() { Err(never_made) } else { put };
            }
            self.forget(&folder);
        }
    }

    /// Whether the root was there and is not.
    async fn is_gone(&self) -> bool {
        self.opened.get().is_some() && matches!(fs::try_exists(&self.root).await, Ok(false))
    }

    async fn make_durable(&self, folder: &Path) -> io::Result<()> {
        if self.is_synced(folder) {
            return Ok(());
        }
        let mut changed = missing_folders(folder).await?;
        if self.opened.get().is_some() {
            // With the root gone, the first of these fails, as its parent is not there.
            changed.retain(|folder| *folder != self.root && folder.starts_with(&self.root));
        }
        for folder in changed.iter().rev() {
            self.make_folder(folder).await?;
        }
        changed.extend(folder.ancestors().take_while(|above| above.starts_with(&self.root)));
        for folder in changed {
            // The entry of a folder is in its parent. Above the root only what we made is ours to sync.
            if let Some(parent) = folder.parent()
                && (folder != self.root || self.opened.get().is_none())
            {
                self.sync(parent).await?;
            }
        }
        Ok(())
    }

    /// Brings a folder to the disk.
    async fn sync(&self, folder: &Path) -> io::Result<()> {
        if self.is_unsure.load(Ordering::Relaxed) {
            return Err(Errno::IO.into());
        }
        let synced = sync_folder(folder).await;
        if synced.as_ref().is_err_and(|error| Errno::from_io_error(error) == Some(Errno::IO)) {
            self.is_unsure.store(true, Ordering::Relaxed);
        }
        synced
    }

    /// The error about an object, once it is known whether folders are sure.
    fn doubted(&self, error: StoreError) -> StoreError {
        match error {
            StoreError::Disk { name, store, source } if self.is_unsure.load(Ordering::Relaxed) => {
                StoreError::Unsynced { name, store, source }
            }
            error => error,
        }
    }

    /// Makes one folder whose parent is there. The root and those below it are for this user only, unless the root was
    /// there and is not.
    async fn make_folder(&self, folder: &Path) -> io::Result<()> {
        let mut builder = fs::DirBuilder::new();
        if folder == self.root || (folder.starts_with(&self.root) && self.is_private().await?) {
            builder.mode(MODE_PRIVATE_FOLDER);
        }
        match builder.create(folder).await {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
            made => made,
        }
    }

    async fn is_private(&self) -> io::Result<bool> {
        if let Some(known) = self.private.get() {
            return Ok(*known);
        }
        let mode = fs::metadata(&self.root).await?.permissions().mode();
        Ok(*self.private.get_or_init(|| mode & MODE_OTHERS == 0))
    }

    /// What is left to do once an object is in its folder, for whoever put it there.
    async fn settle(&self, name: &str, put: Put) -> io::Result<()> {
        let folder = self.folder_of(name);
        if put == Put::Created && self.is_private().await? {
            self.close(name).await?;
        }
        if put == Put::AlreadyThere {
            // Another writer may have linked it a moment ago and not yet synced the folder.
            self.sync(&folder).await?;
        }
        if leftovers::is_of_one_run(name) {
            // Somebody may have removed the folder, and somebody else made it again: with the object in it, it stays.
            return self.sync(folder.parent().unwrap_or(&self.root)).await;
        }
        if !self.is_synced(&folder) {
            self.remember(&folder);
            leftovers::sweep(&folder, &self.root.join(name)).await;
        }
        Ok(())
    }

    /// Lets nobody else read an object. Its folder keeps others out until then.
    async fn close(&self, name: &str) -> io::Result<()> {
        let permissions = std::fs::Permissions::from_mode(MODE_PRIVATE_FILE);
        match fs::set_permissions(self.root.join(name), permissions).await {
            // Somebody removed it, who may.
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            done => done,
        }
    }

    async fn create(&self, name: &str, body: Vec<Bytes>) -> Result<Put, StoreError> {
        // From here on it is known that the root was there, whichever way is taken.
        let backend = self.opened(name).await?;
        if !self.lacks_links.load(Ordering::Relaxed) {
            match backend.put_new(name, body.clone()).await {
                Err(error) if means_no_hard_links(&error) => {}
                answer => return answer,
            }
        }
        let put = self.create_by_renaming(name, &body).await?;
        self.lacks_links.store(true, Ordering::Relaxed);
        Ok(put)
    }

    async fn create_by_renaming(&self, name: &str, body: &[Bytes]) -> Result<Put, StoreError> {
        let len = body.iter().map(|part| part.len() as u64).sum();
        let path = self.root.join(name);
        let request = exclusive::create(&path, body, self.env.random_u64());
        match timeout(self.deadlines.moving(len), request).await {
            Ok(answer) => answer.map_err(|error| classify_io(error, self.at(name))),
            Err(_) => Err(self.at(name).timed_out()),
        }
    }

    fn is_synced(&self, folder: &Path) -> bool {
        let synced = self.synced.lock().unwrap_or_else(PoisonError::into_inner);
        synced.contains(folder)
    }

    fn remember(&self, folder: &Path) {
        let mut synced = self.synced.lock().unwrap_or_else(PoisonError::into_inner);
        if synced.len() < SYNCED_FOLDERS_MAX {
            synced.insert(folder.to_path_buf());
        }
    }

    fn forget(&self, folder: &Path) {
        let mut synced = self.synced.lock().unwrap_or_else(PoisonError::into_inner);
        synced.remove(folder);
    }

    async fn opened(&self, name: &str) -> Result<&Backend, StoreError> {
        self.backend().await?.ok_or_else(|| self.at(name).not_found())
    }
}

/// The folders of the path that do not exist yet, deepest first.
async fn missing_folders(folder: &Path) -> io::Result<Vec<&Path>> {
    let mut missing = Vec::new();
    for folder in folder.ancestors() {
        if fs::try_exists(folder).await? {
            break;
        }
        missing.push(folder);
    }
    Ok(missing)
}

async fn sync_folder(folder: &Path) -> io::Result<()> {
    fs::File::open(folder).await?.sync_all().await
}

#[async_trait]
impl Store for Directory {
    async fn put_new_reported(&self, name: &str, body: Vec<Bytes>) -> Result<PutReport, StoreError> {
        checked(name)?;
        if self.is_unsure.load(Ordering::Relaxed) {
            return Err(self.doubted(classify_io(Errno::IO.into(), self.at(name))));
        }
        let put = self.put_into_folder(name, &body).await;
        if matches!(put, Err(StoreError::Disk { .. })) && fs::try_exists(self.root.join(name)).await.unwrap_or(true) {
            // The library has written and linked it, and could not sync its folder.
            self.is_unsure.store(true, Ordering::Relaxed);
        }
        let put = put.map_err(|error| self.doubted(error))?;
        let settled = self.settle(name, put).await;
        settled.map_err(|error| self.doubted(classify_io(error, self.at(name))))?;
        Ok(PutReport::answered(put))
    }

    async fn get(&self, name: &str) -> Result<Bytes, StoreError> {
        checked(name)?;
        self.opened(name).await?.get(name).await
    }

    async fn get_range(&self, name: &str, range: Range<u64>) -> Result<Bytes, StoreError> {
        checked(name)?;
        self.opened(name).await?.get_range(name, range).await
    }

    async fn head(&self, name: &str) -> Result<Option<ObjectInfo>, StoreError> {
        checked(name)?;
        let Some(backend) = self.backend().await? else { return Ok(None) };
        let found = backend.head(name).await?;
        if found.is_some() {
            // Whoever linked it may have been killed before the folder was synced, and what is seen here may be relied on.
            match self.sync(&self.folder_of(name)).await {
                Err(error) if !matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::ReadOnlyFilesystem) => {
                    return Err(self.doubted(classify_io(error, self.at(name))));
                }
                _ => {}
            }
        }
        Ok(found)
    }

    fn list(&self, prefix: &str) -> BoxStream<'_, Result<ObjectInfo, StoreError>> {
        let prefix = prefix.to_owned();
        stream::once(async move {
            match self.backend().await {
                Ok(Some(backend)) => backend.list(&prefix),
                Ok(None) => stream::empty().boxed(),
                Err(error) => stream::once(async { Err(error) }).boxed(),
            }
        })
        .flatten()
        .boxed()
    }

    async fn delete(&self, name: &str) -> Result<(), StoreError> {
        checked(name)?;
        let Some(backend) = self.backend().await? else {
            return Ok(());
        };
        backend.delete(name).await?;
        let folder = self.folder_of(name);
        match self.sync(&folder).await {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(self.doubted(classify_io(error, self.at(name))));
            }
            _ => {}
        }
        if leftovers::is_of_one_run(name) {
            leftovers::remove_if_empty(&folder).await;
        }
        Ok(())
    }

    fn describe(&self) -> String {
        self.label.clone()
    }
}

#[cfg(all(test, feature = "testing"))]
mod tests {
    use super::*;
    use crate::Variables;
    use crate::testing::conformance;

    async fn open(folder: &Path, lacks_links: bool) -> crate::SharedStore {
        let options = StoreOptions { variables: Variables::none(), ..StoreOptions::default() };
        let store = Directory::open(folder, &options, &Env::system()).await.expect("opens");
        store.lacks_links.store(lacks_links, Ordering::Relaxed);
        Arc::new(store)
    }

    #[tokio::test]
    async fn folder_that_was_there_is_not_made_again() {
        for lacks_links in [false, true] {
            let above = tempfile::tempdir().expect("a folder");
            let root = above.path().join("parent/root");
            let store = open(&root, lacks_links).await;
            store.put_new("packs/ab/pack", vec!["x".into()]).await.expect("makes all folders");
            for gone in [root.as_path(), root.parent().expect("it has one")] {
                std::fs::rename(gone, above.path().join("away")).expect("moves");
                for name in ["packs/ab/other", "packs/cd/other", "config"] {
                    let error = store.put_new(name, vec!["x".into()]).await.expect_err("its root is gone");
                    assert!(matches!(error, StoreError::FolderGone { .. }), "{name}: {error}");
                }
                assert!(!gone.exists());
                std::fs::rename(above.path().join("away"), gone).expect("moves back");
            }
            store.put_new("packs/cd/other", vec!["x".into()]).await.expect("goes on");
        }
    }

    fn names_in(folder: &Path) -> Vec<String> {
        let entries = std::fs::read_dir(folder).expect("a folder").map(|entry| entry.expect("an entry").file_name());
        let mut names: Vec<_> = entries.map(|name| name.into_string().expect("plain names")).collect();
        names.sort();
        names
    }

    #[tokio::test]
    async fn directory_without_hard_links_conforms_and_lets_one_racer_win() {
        let folder = tempfile::tempdir().expect("a folder");
        let store = open(folder.path(), true).await;
        conformance::conforms(&store).await;
        conformance::lets_one_of_many_racing_creates_win(&store).await;
    }

    fn modes_below(folder: &Path, found: &mut Vec<(bool, u32)>) {
        for entry in std::fs::read_dir(folder).expect("a folder") {
            let entry = entry.expect("an entry");
            let metadata = entry.metadata().expect("is there");
            found.push((metadata.is_dir(), metadata.permissions().mode() & 0o777));
            if metadata.is_dir() {
                modes_below(&entry.path(), found);
            }
        }
    }

    #[tokio::test]
    async fn folder_that_a_store_makes_is_its_users_alone_and_one_that_is_open_to_others_stays_so() {
        for lacks_links in [false, true] {
            let above = tempfile::tempdir().expect("a folder");
            let new = above.path().join("parent/new");
            let store = open(&new, lacks_links).await;
            store.put_new("packs/ab/pack", vec!["x".into()]).await.expect("creates");
            let mut modes = Vec::new();
            modes_below(&above.path().join("parent"), &mut modes);
            assert_eq!(modes, [(true, 0o700), (true, 0o700), (true, 0o700), (false, 0o600)]);
            let shared = above.path().join("shared");
            std::fs::create_dir(&shared).expect("a folder");
            std::fs::set_permissions(&shared, std::fs::Permissions::from_mode(0o2775)).expect("may be set");
            let store = open(&shared, lacks_links).await;
            store.put_new("packs/ab/pack", vec!["x".into()]).await.expect("creates");
            let mut modes = Vec::new();
            modes_below(&shared, &mut modes);
            // As the umask has it, which tests run with.
            std::fs::create_dir(above.path().join("plain")).expect("a folder");
            std::fs::write(above.path().join("plain/file"), "").expect("a file");
            let mut plain = Vec::new();
            modes_below(&above.path().join("plain"), &mut plain);
            assert_eq!(modes.last(), plain.last());
            assert!(modes.iter().all(|(_, mode)| mode & 0o400 != 0));
        }
    }

    #[tokio::test]
    async fn folder_of_one_run_goes_with_its_last_object_and_others_stay() {
        let folder = tempfile::tempdir().expect("a folder");
        let store = open(folder.path(), false).await;
        for name in ["writers/a/one", "writers/a/two", "packs/ab/pack"] {
            store.put_new(name, vec!["x".into()]).await.expect("creates");
        }
        store.delete("writers/a/one").await.expect("deletes");
        assert_eq!(names_in(&folder.path().join("writers/a")), ["two"]);
        store.delete("writers/a/two").await.expect("deletes");
        store.delete("packs/ab/pack").await.expect("deletes");
        assert!(names_in(&folder.path().join("writers")).is_empty());
        assert_eq!(names_in(&folder.path().join("packs")), ["ab"]);
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn object_that_is_put_while_its_folder_is_being_removed_is_there() {
        for lacks_links in [false, true] {
            let folder = tempfile::tempdir().expect("a folder");
            // As two processes would: what one remembers of a folder says nothing to the other.
            let stores = [open(folder.path(), lacks_links).await, open(folder.path(), lacks_links).await];
            // Two only, so that the folder is often empty.
            let runs = stores.into_iter().enumerate().map(|(racer, store)| {
                tokio::spawn(async move {
                    let name = format!("writers/a/{racer}");
                    for _ in 0..300 {
                        assert_eq!(store.put_new(&name, vec!["x".into()]).await.expect("creates"), Put::Created);
                        assert_eq!(store.get(&name).await.expect("reads"), "x");
                        store.delete(&name).await.expect("deletes");
                    }
                })
            });
            for run in runs.collect::<Vec<_>>() {
                run.await.expect("no racer fails");
            }
            assert!(names_in(&folder.path().join("writers")).is_empty());
        }
    }

    #[tokio::test]
    async fn leftovers_of_killed_puts_go_when_they_are_old_and_stay_while_a_put_may_be_at_work() {
        let folder = tempfile::tempdir().expect("a folder");
        let index = folder.path().join("index");
        std::fs::create_dir(&index).expect("a folder");
        let day = std::time::Duration::from_secs(24 * 60 * 60);
        for (name, age) in
            [("old#1", day * 2), ("old#18446744073709551615", day * 2), ("young#1", day / 2), ("object", day * 2)]
        {
            let file = std::fs::File::create(index.join(name)).expect("a file");
            let now = file.metadata().expect("is there").modified().expect("a time");
            file.set_modified(now - age).expect("may be set");
        }
        let store = open(folder.path(), false).await;
        let listed: Vec<_> = store.list("index").map(|info| info.expect("lists").name).collect().await;
        assert_eq!(listed, ["index/object"], "what was never published is not listed");
        store.put_new("index/new", vec!["x".into()]).await.expect("creates");
        assert_eq!(names_in(&index), ["new", "object", "young#1"]);
    }
}
