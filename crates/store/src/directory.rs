//! A folder on this host as a store, in which every object is durable once it is reported.
//!
//! ```text
//! put_new   make folders, sync each new one's parent ─ write aside, sync, link, sync the folder
//!           no hard links here? rename and replace nothing instead, from then on
//! delete    unlink, sync the folder
//! ```
//!
//! The library writes and links; what it leaves open is closed here. A second writer may find a folder
//! that the first has made but not yet synced, so each store syncs every folder it meets once. A
//! deletion that comes back after a power cut could revive a snapshot, so it is synced too. The folder
//! itself is made by the first put: a mistyped path reads as an empty store and leaves nothing behind.
//!
//! Invariant: when a put returns, the object and every folder above it survive a power cut.
//! Never here: locks. Hard links, or renames that replace nothing, decide races.

use std::collections::HashSet;
use std::io;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use async_trait::async_trait;
use bytes::Bytes;
use futures::stream::{self, BoxStream, StreamExt};
use object_store::local::LocalFileSystem;
use tokio::fs;
use tokio::time::timeout;

use crate::backend::{Backend, Deadlines, checked};
use crate::classify::{At, classify, classify_io};
use crate::exclusive::{self, means_no_hard_links};
use crate::store::{ObjectInfo, Put, PutReport, Store};
use crate::{Env, StoreError, StoreOptions};

/// How many folders are remembered as synced; beyond that they are synced again.
const SYNCED_FOLDERS_MAX: usize = 16_384;

/// A folder on this host.
#[derive(Debug)]
pub(crate) struct Directory {
    root: PathBuf,
    label: String,
    deadlines: Deadlines,
    opened: OnceLock<Backend>,
    synced: Mutex<HashSet<PathBuf>>,
    lacks_links: AtomicBool,
    env: Env,
}

impl Directory {
    /// Opens the folder `path`, or promises to make it.
    ///
    /// # Errors
    ///
    /// [`StoreError::NotADirectory`] if a file is there, [`StoreError::AccessDenied`] if we may not look.
    pub(crate) async fn open(path: &Path, options: &StoreOptions, env: &Env) -> Result<Self, StoreError> {
        let label = path.display().to_string();
        let at = At { name: "", store: &label };
        let root = std::path::absolute(path).map_err(|error| classify_io(error, at))?;
        let store = Self {
            root,
            label: label.clone(),
            deadlines: Deadlines::of(options),
            opened: OnceLock::new(),
            synced: Mutex::new(HashSet::new()),
            lacks_links: AtomicBool::new(false),
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

    /// Makes the folder of `name`, and everything between it and the root, durable.
    async fn settle_folder(&self, name: &str) -> Result<(), StoreError> {
        let folder = match self.root.join(name).parent() {
            Some(folder) => folder.to_path_buf(),
            None => self.root.clone(),
        };
        self.make_durable(&folder).await.map_err(|error| classify_io(error, self.at(name)))
    }

    async fn make_durable(&self, folder: &Path) -> io::Result<()> {
        if self.is_synced(folder) {
            return Ok(());
        }
        let mut changed = missing_folders(folder).await?;
        fs::create_dir_all(folder).await?;
        changed.extend(folder.ancestors().take_while(|above| above.starts_with(&self.root)));
        for folder in changed {
            // The entry of a folder is in its parent. Above the root only what we made is ours to sync.
            if let Some(parent) = folder.parent()
                && (folder != self.root || self.opened.get().is_none())
            {
                sync_folder(parent).await?;
            }
        }
        self.remember(folder);
        Ok(())
    }

    async fn create(&self, name: &str, body: Vec<Bytes>) -> Result<Put, StoreError> {
        if !self.lacks_links.load(Ordering::Relaxed) {
            match self.opened(name).await?.put_new(name, body.clone()).await {
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
        self.settle_folder(name).await?;
        let put = self.create(name, body).await?;
        if put == Put::AlreadyThere {
            // Another writer may have linked it a moment ago and not yet synced the folder.
            let path = self.root.join(name);
            let synced = sync_folder(path.parent().unwrap_or(&self.root)).await;
            synced.map_err(|error| classify_io(error, self.at(name)))?;
        }
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
        match self.backend().await? {
            Some(backend) => backend.head(name).await,
            None => Ok(None),
        }
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
        let path = self.root.join(name);
        match sync_folder(path.parent().unwrap_or(&self.root)).await {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(classify_io(error, self.at(name))),
            _ => Ok(()),
        }
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

    #[tokio::test]
    async fn directory_without_hard_links_conforms_and_lets_one_racer_win() {
        let folder = tempfile::tempdir().expect("a folder");
        let options = StoreOptions { variables: Variables::none(), ..StoreOptions::default() };
        let store = Directory::open(folder.path(), &options, &Env::system()).await.expect("opens");
        store.lacks_links.store(true, Ordering::Relaxed);
        let store: crate::SharedStore = Arc::new(store);
        conformance::conforms(&store).await;
        conformance::lets_one_of_many_racing_creates_win(&store).await;
    }
}
