//! A small set of open directories, the least recently used closed first.
//!
//! Walks and restores work relative to directory descriptors, which keeps them in the tree they started in and
//! lets paths be longer than the system takes. A tree can be deeper than a process may have files open, so only
//! the last few stay open; the others are opened again when they are needed.
//!
//! Invariant: at most `count_max` descriptors are held, besides those in use at this moment.
//! Never here: how a directory is opened.

use std::borrow::Borrow;
use std::collections::VecDeque;
use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Open directories by key. Looked through from the newest, which nearly always is the one asked for.
#[derive(Debug)]
pub(crate) struct Fds<K> {
    count_max: usize,
    newest_last: Mutex<VecDeque<(K, Arc<OwnedFd>)>>,
}

impl<K> Fds<K> {
    pub(crate) fn new(count_max: usize) -> Self {
        Self { count_max, newest_last: Mutex::new(VecDeque::with_capacity(count_max + 1)) }
    }

    pub(crate) fn get<Q: Eq + ?Sized>(&self, key: &Q) -> Option<Arc<OwnedFd>>
    where
        K: Borrow<Q>,
    {
        let mut fds = self.lock();
        let found = fds.iter().rposition(|(held, _)| held.borrow() == key)?;
        if found + 1 < fds.len()
            && let Some(used) = fds.remove(found)
        {
            fds.push_back(used);
        }
        fds.back().map(|(_, fd)| Arc::clone(fd))
    }

    pub(crate) fn put(&self, key: K, fd: Arc<OwnedFd>) {
        let mut fds = self.lock();
        fds.push_back((key, fd));
        let oldest = if fds.len() > self.count_max { fds.pop_front() } else { None };
        drop(fds);
        drop(oldest); // closing is a system call: after the lock
    }

    /// Closes what is held for keys which `is_gone` names.
    pub(crate) fn forget(&self, is_gone: impl Fn(&K) -> bool) {
        self.lock().retain(|(key, _)| !is_gone(key));
    }

    fn lock(&self) -> MutexGuard<'_, VecDeque<(K, Arc<OwnedFd>)>> {
        self.newest_last.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fd() -> Arc<OwnedFd> {
        Arc::new(std::fs::File::open("/").unwrap().into())
    }

    #[test]
    fn the_least_recently_used_directory_is_closed_first() {
        let fds = Fds::new(2);
        fds.put(1, fd());
        fds.put(2, fd());
        assert!(fds.get(&1).is_some());
        fds.put(3, fd());
        assert!(fds.get(&2).is_none());
        assert!(fds.get(&1).is_some() && fds.get(&3).is_some());
    }

    #[test]
    fn forgotten_directories_are_closed() {
        let fds = Fds::new(2);
        let held = fd();
        fds.put(1, Arc::clone(&held));
        fds.forget(|key| *key == 1);
        assert!(fds.get(&1).is_none());
        assert_eq!(Arc::strong_count(&held), 1);
    }
}
