//! Open files and folders.
//!
//! Invariant: what is closed is dropped at once, with what is being read ahead for it.
//! Never here: reading.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use engine::{EngineError, Folder, Found};

use super::nodes::{Node, Tree};
use crate::ahead::Reader;
use crate::neighbours::Readers;

/// An open file.
pub(super) struct OpenFile {
    pub(super) tree: Arc<Tree>,
    pub(super) path: Vec<u8>,
    pub(super) reader: Reader,
}

/// An open folder.
pub(super) enum OpenFolder {
    /// One of ours, as it was when it was opened: name, number and node of each.
    Ours(Vec<(String, u64, Node)>),
    /// One of a snapshot.
    Entries {
        tree: Arc<Tree>,
        path: Vec<u8>,
        /// Its own number, and that of the folder above.
        numbers: (u64, u64),
        folder: tokio::sync::Mutex<Listed>,
    },
}

/// A folder of a snapshot being listed.
pub(super) struct Listed {
    pub(super) folder: Folder,
    /// A page of it could not be had.
    pub(super) has_gaps: bool,
}

/// All that is open.
pub(super) struct Handles {
    next: AtomicU64,
    files: Mutex<HashMap<u64, Arc<OpenFile>>>,
    folders: Mutex<HashMap<u64, Arc<OpenFolder>>>,
    readers: Readers,
}

impl Handles {
    pub(super) fn new(ahead_len_max: u64) -> Self {
        Self {
            next: AtomicU64::new(1),
            files: Mutex::default(),
            folders: Mutex::default(),
            readers: Readers::new(ahead_len_max),
        }
    }

    /// Opens a file of a tree.
    ///
    /// # Errors
    ///
    /// Those of [`Found::file`].
    pub(super) fn open_file(&self, tree: Arc<Tree>, found: &Found) -> Result<u64, EngineError> {
        let reader = self.readers.open(found)?;
        let handle = self.next.fetch_add(1, Ordering::Relaxed);
        let opened = OpenFile { tree, path: found.entry().path.clone(), reader };
        lock(&self.files).insert(handle, Arc::new(opened));
        Ok(handle)
    }

    pub(super) fn open_folder(&self, folder: OpenFolder) -> u64 {
        let handle = self.next.fetch_add(1, Ordering::Relaxed);
        lock(&self.folders).insert(handle, Arc::new(folder));
        handle
    }

    pub(super) fn file(&self, handle: u64) -> Option<Arc<OpenFile>> {
        lock(&self.files).get(&handle).cloned()
    }

    pub(super) fn folder(&self, handle: u64) -> Option<Arc<OpenFolder>> {
        lock(&self.folders).get(&handle).cloned()
    }

    pub(super) fn close_file(&self, handle: u64) {
        let closed = lock(&self.files).remove(&handle);
        drop(closed);
    }

    pub(super) fn close_folder(&self, handle: u64) {
        let closed = lock(&self.folders).remove(&handle);
        drop(closed);
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
