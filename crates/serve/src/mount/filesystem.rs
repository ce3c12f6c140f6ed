//! What the kernel asks, one function each, and who answers it.
//!
//! ```text
//! fuser's thread ─► FileSystem (takes arguments) ─┬─► Shared (answers out of memory) ───► reply
//!                                                 └─► task ─► Shared (answers) ─► reply
//! ```
//!
//! Invariant: every request is answered once, with an error when it took longer than the mount's patience.
//! Invariant: what is below a snapshot never changes, so the kernel may keep it for as long as it likes.
//! Never here: how answers are found; `Shared` knows (see `answers`).

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt as _;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, PoisonError, RwLock};
use std::task::{Context, Waker};
use std::time::Duration;

use fuser::{
    Errno, FileAttr, FileHandle, FopenFlags, Generation, INodeNo, InitFlags, KernelConfig, LockOwner, OpenFlags,
    ReplyAttr, ReplyData, ReplyDirectory, ReplyDirectoryPlus, ReplyEmpty, ReplyEntry, ReplyLseek, ReplyOpen,
    ReplyXattr, Request,
};
use tokio::runtime::Handle;
use tokio_util::task::TaskTracker;

use super::answers::{Listed, Refusal, Shared};

/// Requests that the kernel sends without waiting for answers: reading ahead, mostly.
const BACKGROUND_MAX: u16 = 64;
/// The longest request, in bytes; the kernel's reads follow it.
const REQUEST_LEN_MAX: u32 = 1 << 20;
/// How long the end of a mount waits for what is being answered.
const CLOSED_WITHIN: Duration = Duration::from_secs(3);
/// There are no numbers that mean one thing first and another later.
const GENERATION: Generation = Generation(0);

/// The file system.
pub(super) struct FileSystem {
    door: Door,
    runtime: Handle,
}

/// What answers requests, until it is closed.
#[derive(Clone)]
pub(super) struct Door {
    shared: Arc<RwLock<Option<Arc<Shared>>>>,
    tasks: TaskTracker,
}

impl Door {
    pub(super) fn new(shared: Shared) -> Self {
        Self { shared: Arc::new(RwLock::new(Some(Arc::new(shared)))), tasks: TaskTracker::new() }
    }

    fn shared(&self) -> Option<Arc<Shared>> {
        self.shared.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Answers nothing more, and waits for a while for what is being answered: then nothing of the repository is in use.
    pub(super) async fn close(&self) {
        drop(self.shared.write().unwrap_or_else(PoisonError::into_inner).take());
        self.tasks.close();
        // Whoever still waits for a store then gets no answer.
        let _ = tokio::time::timeout(CLOSED_WITHIN, self.tasks.wait()).await;
    }
}

impl std::fmt::Debug for Door {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Door({} requests)", self.tasks.len())
    }
}

impl FileSystem {
    pub(super) fn new(door: Door, runtime: Handle) -> Self {
        Self { door, runtime }
    }

    /// Answers at once if all that it takes is in memory, else in a task of its own: handing a request to another thread costs more
    /// than answering most of them.
    fn answer<T, F>(
        &self,
        what: &'static str,
        number: INodeNo,
        work: impl FnOnce(Arc<Shared>) -> F,
        reply: impl FnOnce(Result<T, Errno>, &Shared) + Send + 'static,
    ) where
        T: Send + 'static,
        F: Future<Output = Result<T, Refusal>> + Send + 'static,
    {
        // Dropped without an answer, a reply says that there is none.
        let Some(shared) = self.door.shared() else { return };
        let work = work(Arc::clone(&shared));
        let answered = async move {
            let done = match tokio::time::timeout(shared.patience(), work).await {
                Ok(Ok(value)) => Ok(value),
                Ok(Err(refusal)) => Err(shared.explain(refusal).await),
                Err(_) => Err(shared.was_too_slow(what, number.0)),
            };
            reply(done, &shared);
        };
        let mut answered = Box::pin(answered);
        let (_within, _counted) = (self.runtime.enter(), self.door.tasks.token());
        let mut poll = || answered.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending();
        // A panic drops the reply, which fails this request and leaves fuser's thread to the others.
        if catch_unwind(AssertUnwindSafe(&mut poll)).unwrap_or(false) {
            self.door.tasks.spawn_on(answered, &self.runtime);
        }
    }
}

/// An entry, and how long the kernel may keep it; none says that there is nothing of that name.
fn reply_entry(reply: ReplyEntry, found: (Option<FileAttr>, Duration)) {
    match found {
        (Some(attr), ttl) => reply.entry(&ttl, &attr, GENERATION),
        // A number of 0 says that there is nothing, and that this may be remembered.
        (None, ttl) if !ttl.is_zero() => reply.entry(&ttl, &super::attributes::of_ours(0, None, 0), GENERATION),
        (None, _) => reply.error(Errno::ENOENT),
    }
}

/// What an attribute's value or the list of names is, of which the kernel may ask the length first.
fn reply_xattr(reply: ReplyXattr, room_len: u32, found: Result<Vec<u8>, Errno>) {
    match found {
        Err(error) => reply.error(error),
        Ok(value) if room_len == 0 => reply.size(value.len() as u32),
        Ok(value) if value.len() > room_len as usize => reply.error(Errno::ERANGE),
        Ok(value) => reply.data(&value),
    }
}

impl fuser::Filesystem for FileSystem {
    fn init(&mut self, _: &Request, config: &mut KernelConfig) -> std::io::Result<()> {
        for wanted in [
            InitFlags::FUSE_DO_READDIRPLUS,
            InitFlags::FUSE_READDIRPLUS_AUTO,
            InitFlags::FUSE_PARALLEL_DIROPS,
            InitFlags::FUSE_CACHE_SYMLINKS,
        ] {
            // An older kernel does without.
            let _ = config.add_capabilities(wanted);
        }
        let _ = config.set_max_background(BACKGROUND_MAX);
        let _ = config.set_max_write(REQUEST_LEN_MAX);
        Ok(())
    }

    fn lookup(&self, _: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEntry) {
        let name = name.as_bytes().to_vec();
        let work = |shared: Arc<Shared>| async move { shared.look_up(parent.0, &name).await };
        self.answer("a name", parent, work, |found, _| match found {
            Ok(found) => reply_entry(reply, found),
            Err(error) => reply.error(error),
        });
    }

    fn forget(&self, _: &Request, number: INodeNo, count: u64) {
        if let Some(shared) = self.door.shared() {
            shared.forget(number.0, count);
        }
    }

    fn getattr(&self, _: &Request, number: INodeNo, _: Option<FileHandle>, reply: ReplyAttr) {
        let work = |shared: Arc<Shared>| async move { shared.attributes(number.0).await };
        self.answer("attributes", number, work, |found, _| match found {
            Ok((attr, ttl)) => reply.attr(&ttl, &attr),
            Err(error) => reply.error(error),
        });
    }

    fn readlink(&self, _: &Request, number: INodeNo, reply: ReplyData) {
        let work = |shared: Arc<Shared>| async move { shared.link_target(number.0).await };
        self.answer("a link", number, work, |found, _| match found {
            Ok(target) => reply.data(&target),
            Err(error) => reply.error(error),
        });
    }

    fn open(&self, _: &Request, number: INodeNo, _: OpenFlags, reply: ReplyOpen) {
        let work = |shared: Arc<Shared>| async move { shared.open(number.0).await };
        self.answer("a file", number, work, |opened, _| match opened {
            Ok(handle) => reply.opened(FileHandle(handle), FopenFlags::FOPEN_KEEP_CACHE | FopenFlags::FOPEN_NOFLUSH),
            Err(error) => reply.error(error),
        });
    }

    fn read(
        &self,
        _: &Request,
        number: INodeNo,
        handle: FileHandle,
        offset: u64,
        len: u32,
        _: OpenFlags,
        _: Option<LockOwner>,
        reply: ReplyData,
    ) {
        let range = offset..offset.saturating_add(u64::from(len));
        let work = |shared: Arc<Shared>| async move { shared.read(handle.0, range).await };
        self.answer("content", number, work, |read, _| match read.as_deref() {
            Ok([one]) => reply.data(one),
            Ok(pieces) => reply.data(&pieces.concat()),
            Err(error) => reply.error(*error),
        });
    }

    fn release(
        &self,
        _: &Request,
        _: INodeNo,
        handle: FileHandle,
        _: OpenFlags,
        _: Option<LockOwner>,
        _: bool,
        reply: ReplyEmpty,
    ) {
        if let Some(shared) = self.door.shared() {
            shared.close_file(handle.0);
        }
        reply.ok();
    }

    fn lseek(&self, _: &Request, number: INodeNo, handle: FileHandle, offset: i64, whence: i32, reply: ReplyLseek) {
        let work = |shared: Arc<Shared>| async move { shared.seek(handle.0, offset, whence).await };
        self.answer("content", number, work, |found, _| match found {
            Ok(offset) => reply.offset(offset),
            Err(error) => reply.error(error),
        });
    }

    fn opendir(&self, _: &Request, number: INodeNo, _: OpenFlags, reply: ReplyOpen) {
        let work = |shared: Arc<Shared>| async move { shared.open_folder(number.0).await };
        self.answer("a folder", number, work, |opened, _| match opened {
            Ok((handle, is_for_ever)) => {
                let keep = FopenFlags::FOPEN_CACHE_DIR | FopenFlags::FOPEN_KEEP_CACHE;
                reply.opened(FileHandle(handle), if is_for_ever { keep } else { FopenFlags::empty() });
            }
            Err(error) => reply.error(error),
        });
    }

    fn readdir(&self, _: &Request, number: INodeNo, handle: FileHandle, offset: u64, mut reply: ReplyDirectory) {
        let work = |shared: Arc<Shared>| async move { shared.list(number.0, handle.0, offset).await };
        self.answer("a folder", number, work, move |listed, shared| match listed {
            Ok(listed) => {
                for Listed { cookie, name, what } in listed {
                    let (number, kind) = shared.shown(&what);
                    if reply.add(INodeNo(number), cookie, kind, OsStr::from_bytes(&name)) {
                        break;
                    }
                }
                reply.ok();
            }
            Err(error) => reply.error(error),
        });
    }

    fn readdirplus(
        &self,
        _: &Request,
        number: INodeNo,
        handle: FileHandle,
        offset: u64,
        mut reply: ReplyDirectoryPlus,
    ) {
        let work = |shared: Arc<Shared>| async move { shared.list(number.0, handle.0, offset).await };
        self.answer("a folder", number, work, move |listed, shared| match listed {
            Ok(listed) => {
                for Listed { cookie, name, what } in listed {
                    let (attr, ttl, is_told) = shared.told(&what);
                    if reply.add(attr.ino, cookie, OsStr::from_bytes(&name), &ttl, &attr, GENERATION) {
                        if is_told {
                            shared.forget(attr.ino.0, 1);
                        }
                        break;
                    }
                }
                reply.ok();
            }
            Err(error) => reply.error(error),
        });
    }

    fn releasedir(&self, _: &Request, _: INodeNo, handle: FileHandle, _: OpenFlags, reply: ReplyEmpty) {
        if let Some(shared) = self.door.shared() {
            shared.close_folder(handle.0);
        }
        reply.ok();
    }

    fn getxattr(&self, _: &Request, number: INodeNo, name: &OsStr, room_len: u32, reply: ReplyXattr) {
        let name = name.as_bytes().to_vec();
        let work = |shared: Arc<Shared>| async move { shared.xattr(number.0, &name).await };
        self.answer("an attribute", number, work, move |found, _| reply_xattr(reply, room_len, found));
    }

    fn listxattr(&self, _: &Request, number: INodeNo, room_len: u32, reply: ReplyXattr) {
        let work = |shared: Arc<Shared>| async move { shared.xattr_names(number.0).await };
        self.answer("attributes", number, work, move |found, _| reply_xattr(reply, room_len, found));
    }
}
