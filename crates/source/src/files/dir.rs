//! One directory of a walk: how to get back to it, without a path.
//!
//! A walked entry keeps its directory, not the directory's descriptor: descriptors are few. When it is needed
//! again and was closed meanwhile, it is opened again by descending, name by name, from the nearest directory
//! which is still open, and each step must find the very directory that was walked.
//!
//! Invariant: a descriptor handed out is of the directory that was walked, never of one that took its name.
//! Never here: paths; and following links, except on the way to a root.

use std::ffi::CStr;
use std::io;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use rustix::fs::{CWD, Mode, OFlags, openat};

use crate::fds::Fds;
use crate::observe::{FileId, stat_of};

/// How many directories of one walk are kept open, as a count.
const DIR_FDS_MAX: usize = 64;

/// The directories of one walk which are open.
#[derive(Debug)]
pub(super) struct DirFds {
    fds: Fds<u64>,
    next_serial: AtomicU64,
}

impl DirFds {
    pub(super) fn new() -> Arc<Self> {
        Arc::new(Self { fds: Fds::new(DIR_FDS_MAX), next_serial: AtomicU64::new(0) })
    }
}

/// A directory, and by its parents the way to it.
#[derive(Debug)]
pub(super) struct Dir {
    parent: Option<Arc<Dir>>,
    name: Box<CStr>,
    id: FileId,
    /// The name may be a symbolic link: it stands for the directory on the way to a root.
    follow: bool,
    serial: u64,
    open: Arc<DirFds>,
}

impl Dir {
    /// The directory `/`.
    pub(super) fn top(open: Arc<DirFds>) -> io::Result<(Arc<Self>, Arc<OwnedFd>)> {
        let fd = openat(CWD, c"/", OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
        Self::opened(None, c"/".into(), false, fd, open)
    }

    /// Opens the directory `name` in `parent`, which must be `id`.
    ///
    /// `to_list`: its names can be read, else it is only passed through, which needs fewer rights.
    pub(super) fn enter(
        parent: &Arc<Self>,
        name: Box<CStr>,
        id: FileId,
        follow: bool,
        to_list: bool,
    ) -> io::Result<(Arc<Self>, Arc<OwnedFd>)> {
        let access = if to_list { OFlags::RDONLY } else { OFlags::PATH };
        let fd = open_dir(parent.fd()?.as_fd(), &name, follow, access)?;
        let (dir, fd) = Self::opened(Some(Arc::clone(parent)), name, follow, fd, Arc::clone(&parent.open))?;
        if dir.id == id { Ok((dir, fd)) } else { Err(replaced()) }
    }

    /// The open directory; opened again if it was closed meanwhile.
    pub(super) fn fd(&self) -> io::Result<Arc<OwnedFd>> {
        let mut closed = Vec::new();
        let mut at = self;
        let mut fd = loop {
            if let Some(fd) = self.open.fds.get(&at.serial) {
                break fd;
            }
            closed.push(at);
            match &at.parent {
                Some(parent) => at = parent,
                None => break Arc::new(open_dir(CWD, c"/", false, OFlags::PATH)?),
            }
        };
        for dir in closed.into_iter().rev() {
            if dir.parent.is_some() {
                fd = Arc::new(open_dir(fd.as_fd(), &dir.name, dir.follow, OFlags::PATH)?);
            }
            if stat_of(fd.as_fd())?.id() != dir.id {
                return Err(replaced());
            }
            self.open.fds.put(dir.serial, Arc::clone(&fd));
        }
        Ok(fd)
    }

    pub(super) fn id(&self) -> FileId {
        self.id
    }

    fn opened(
        parent: Option<Arc<Self>>,
        name: Box<CStr>,
        follow: bool,
        fd: OwnedFd,
        open: Arc<DirFds>,
    ) -> io::Result<(Arc<Self>, Arc<OwnedFd>)> {
        let id = stat_of(fd.as_fd())?.id();
        let serial = open.next_serial.fetch_add(1, Ordering::Relaxed);
        let fd = Arc::new(fd);
        open.fds.put(serial, Arc::clone(&fd));
        Ok((Arc::new(Self { parent, name, id, follow, serial, open }), fd))
    }
}

impl Drop for Dir {
    /// Lets go of the parents in a loop: left to itself, a tree 100,000 levels deep would overflow the stack.
    fn drop(&mut self) {
        let mut parent = self.parent.take();
        while let Some(mut last_of) = parent.and_then(Arc::into_inner) {
            parent = last_of.parent.take();
        }
    }
}

/// Whether [`Dir::enter`] or [`Dir::fd`] failed because another directory has the name now.
pub(super) fn is_replaced(error: &io::Error) -> bool {
    error.get_ref().is_some_and(|inner| inner.is::<ReplacedDirectory>())
}

#[derive(Debug, thiserror::Error)]
#[error("another directory has its name")]
struct ReplacedDirectory;

fn replaced() -> io::Error {
    io::Error::other(ReplacedDirectory)
}

fn open_dir(at: BorrowedFd<'_>, name: &CStr, follow: bool, access: OFlags) -> io::Result<OwnedFd> {
    let link = if follow { OFlags::empty() } else { OFlags::NOFOLLOW };
    Ok(openat(at, name, access | link | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?)
}
