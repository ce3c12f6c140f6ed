//! A worn disk: a folder that FUSE shows once more, in which reading or writing what a test names fails with EIO, and opening
//! it waits.
//!
//! ```text
//! the binary ─► FUSE ─► waits? fails? ─┬─ fails ─► EIO
//!                                      └─ no ────► the same in the folder beneath
//! ```
//!
//! Invariant: what does not fail is done in the folder beneath, and kept nowhere else.
//! Invariant: it is unmounted when dropped.
//! Never here: what must hold on such a disk.

use std::collections::HashMap;
use std::ffi::OsStr;
use std::fs::{self, File, Metadata, OpenOptions};
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, FileExt as _, MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use fuser::{
    BackgroundSession, BsdFileFlags, Config, Errno, FileAttr, FileHandle, FileType, Filesystem, FopenFlags, Generation,
    INodeNo, LockOwner, OpenFlags, RenameFlags, ReplyAttr, ReplyCreate, ReplyData, ReplyDirectory, ReplyEmpty,
    ReplyEntry, ReplyOpen, ReplyWrite, Request, TimeOrNow, WriteFlags,
};
use rustix::fs::{CWD, renameat_with};

use crate::fuse::Unmounted;

/// The kernel asks each time.
const KEPT_FOR: Duration = Duration::ZERO;
/// The root's number.
const ROOT: u64 = 1;

/// What fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Failing {
    /// Reading a file.
    Read,
    /// Writing to a file.
    Write,
    /// Bringing a file to the disk.
    Sync,
    /// Bringing a folder to the disk.
    SyncFolder,
}

/// One part of the disk.
#[derive(Debug)]
struct Flaw {
    failing: Failing,
    /// A part of the path.
    part: String,
    left: usize,
}

/// What fails, and how often something has.
#[derive(Debug, Default)]
struct Flaws {
    flaws: Vec<Flaw>,
    count: usize,
}

/// Files that cannot be opened yet.
#[derive(Debug, Default)]
struct Stalled {
    /// A part of their paths.
    part: Option<String>,
    is_waited_for: bool,
}

/// Lets whoever opens such a file wait.
#[derive(Debug, Default)]
struct Stall {
    stalled: Mutex<Stalled>,
    ended: Condvar,
}

impl Stall {
    /// Waits as long as this file cannot be opened.
    fn pass(&self, path: &Path) {
        let shown = path.to_string_lossy();
        let mut stalled = lock(&self.stalled);
        while stalled.part.as_ref().is_some_and(|part| shown.contains(part.as_str())) {
            stalled.is_waited_for = true;
            stalled = self.ended.wait(stalled).unwrap_or_else(PoisonError::into_inner);
        }
    }
}

/// While it is kept, whoever opens certain files waits, and cannot even be killed.
#[derive(Debug)]
pub struct Stalling(Arc<Stall>);

/// A mounted worn disk. Only root can have one.
#[derive(Debug)]
pub struct WornDisk {
    flaws: Arc<Mutex<Flaws>>,
    stall: Arc<Stall>,
    /// Unmounted before the session's thread, which ends then, is left.
    _point: Unmounted,
    _session: BackgroundSession,
}

impl WornDisk {
    /// Shows the folder `beneath` at `place`; both are made if they are missing. Nothing fails yet.
    #[must_use]
    pub fn mount(beneath: &Path, place: &Path) -> Self {
        for folder in [beneath, place] {
            fs::create_dir_all(folder).expect("a folder");
        }
        let (flaws, stall) = (Arc::default(), Arc::default());
        let root = (ROOT, PathBuf::new());
        let numbers = Numbers { paths: HashMap::from([root.clone()]), numbers: HashMap::from([(root.1, ROOT)]) };
        let shown = Shown {
            beneath: beneath.to_owned(),
            flaws: Arc::clone(&flaws),
            stall: Arc::clone(&stall),
            numbers: Mutex::new(numbers),
        };
        let session = fuser::spawn_mount(shown, place, &Config::default()).expect("this system has FUSE");
        Self { flaws, stall, _point: Unmounted::at(place), _session: session }
    }

    /// From now on `failing` fails so many times where the path has this part.
    pub fn fail(&self, failing: Failing, part: &str, left: usize) {
        lock(&self.flaws).flaws.push(Flaw { failing, part: part.to_owned(), left });
    }

    /// Nothing fails any more; gives how often something has since the last time.
    pub fn heal(&self) -> usize {
        std::mem::take(&mut *lock(&self.flaws)).count
    }

    /// Whoever opens a file with this part in its path waits, for as long as what this gives is kept.
    #[must_use]
    pub fn stall(&self, part: &str) -> Stalling {
        *lock(&self.stall.stalled) = Stalled { part: Some(part.to_owned()), is_waited_for: false };
        Stalling(Arc::clone(&self.stall))
    }
}

impl Stalling {
    /// Whether anybody waits for such a file.
    #[must_use]
    pub fn is_waited_for(&self) -> bool {
        lock(&self.0.stalled).is_waited_for
    }
}

impl Drop for Stalling {
    /// Nobody waits any more: whoever did meets what is there by now.
    fn drop(&mut self) {
        *lock(&self.0.stalled) = Stalled::default();
        self.0.ended.notify_all();
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The kernel's numbers of paths, which are relative to the root.
struct Numbers {
    paths: HashMap<u64, PathBuf>,
    numbers: HashMap<PathBuf, u64>,
}

impl Numbers {
    fn of(&mut self, path: PathBuf) -> u64 {
        let next = self.paths.len() as u64 + ROOT;
        let number = *self.numbers.entry(path.clone()).or_insert(next);
        self.paths.entry(number).or_insert(path);
        number
    }

    /// A file is known by its number under its new path, and the number of whatever was there before is nobody's.
    fn rename(&mut self, old: PathBuf, new: PathBuf) {
        let number = self.of(old.clone());
        self.numbers.remove(&old);
        self.numbers.insert(new.clone(), number);
        self.paths.insert(number, new);
    }
}

/// What the kernel asks.
struct Shown {
    beneath: PathBuf,
    flaws: Arc<Mutex<Flaws>>,
    stall: Arc<Stall>,
    numbers: Mutex<Numbers>,
}

impl Shown {
    fn relative(&self, number: INodeNo) -> io::Result<PathBuf> {
        lock(&self.numbers).paths.get(&number.0).cloned().ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    fn path(&self, number: INodeNo) -> io::Result<PathBuf> {
        Ok(self.beneath.join(self.relative(number)?))
    }

    fn child(&self, parent: INodeNo, name: &OsStr) -> io::Result<PathBuf> {
        Ok(self.path(parent)?.join(name))
    }

    /// Fails if it is to fail.
    fn pass(&self, failing: Failing, path: &Path) -> io::Result<()> {
        let mut flaws = lock(&self.flaws);
        let shown = path.to_string_lossy();
        let hit = |flaw: &&mut Flaw| flaw.failing == failing && flaw.left > 0 && shown.contains(&flaw.part);
        let Some(flaw) = flaws.flaws.iter_mut().find(hit) else { return Ok(()) };
        flaw.left -= 1;
        flaws.count += 1;
        Err(rustix::io::Errno::IO.into())
    }

    fn look(&self, parent: INodeNo, name: &OsStr) -> io::Result<FileAttr> {
        let path = self.relative(parent)?.join(name);
        let metadata = fs::symlink_metadata(self.beneath.join(&path))?;
        Ok(attributes(lock(&self.numbers).of(path), &metadata))
    }

    fn attributes(&self, number: INodeNo) -> io::Result<FileAttr> {
        Ok(attributes(number.0, &fs::symlink_metadata(self.path(number)?)?))
    }

    fn open_some(&self, number: INodeNo) -> io::Result<()> {
        let path = self.path(number)?;
        self.stall.pass(&path);
        fs::symlink_metadata(path).map(drop)
    }

    fn make(&self, parent: INodeNo, name: &OsStr, mode: u32) -> io::Result<FileAttr> {
        OpenOptions::new().write(true).create_new(true).mode(mode).open(self.child(parent, name)?)?;
        self.look(parent, name)
    }

    fn read_some(&self, number: INodeNo, offset: u64, len: usize) -> io::Result<Vec<u8>> {
        let path = self.path(number)?;
        self.pass(Failing::Read, &path)?;
        let (file, mut bytes, mut done) = (File::open(path)?, vec![0; len], 0);
        while let Some(rest) = bytes.get_mut(done..).filter(|rest| !rest.is_empty()) {
            match file.read_at(rest, offset + done as u64)? {
                0 => break,
                more => done += more,
            }
        }
        bytes.truncate(done);
        Ok(bytes)
    }

    fn write_all(&self, number: INodeNo, offset: u64, bytes: &[u8]) -> io::Result<u32> {
        let path = self.path(number)?;
        self.pass(Failing::Write, &path)?;
        OpenOptions::new().write(true).open(path)?.write_all_at(bytes, offset)?;
        Ok(bytes.len() as u32)
    }

    fn sync_file(&self, number: INodeNo) -> io::Result<()> {
        let path = self.path(number)?;
        self.pass(Failing::Sync, &path)?;
        File::open(path)?.sync_all()
    }

    fn sync_folder(&self, number: INodeNo) -> io::Result<()> {
        let path = self.path(number)?;
        self.pass(Failing::SyncFolder, &path)?;
        File::open(path)?.sync_all()
    }

    fn change(&self, number: INodeNo, mode: Option<u32>, len: Option<u64>) -> io::Result<FileAttr> {
        let path = self.path(number)?;
        if let Some(mode) = mode {
            fs::set_permissions(&path, fs::Permissions::from_mode(mode))?;
        }
        if let Some(len) = len {
            OpenOptions::new().write(true).open(&path)?.set_len(len)?;
        }
        self.attributes(number)
    }

    fn move_over(&self, from: (INodeNo, &OsStr), to: (INodeNo, &OsStr), flags: RenameFlags) -> io::Result<()> {
        let flags = rustix::fs::RenameFlags::from_bits_retain(flags.bits());
        renameat_with(CWD, self.child(from.0, from.1)?, CWD, self.child(to.0, to.1)?, flags)?;
        let (old, new) = (self.relative(from.0)?.join(from.1), self.relative(to.0)?.join(to.1));
        lock(&self.numbers).rename(old, new);
        Ok(())
    }

    fn names(&self, number: INodeNo) -> io::Result<Vec<(String, FileType)>> {
        let mut names = Vec::new();
        for entry in fs::read_dir(self.path(number)?)? {
            let entry = entry?;
            let kind = if entry.file_type()?.is_dir() { FileType::Directory } else { FileType::RegularFile };
            names.push((entry.file_name().to_string_lossy().into_owned(), kind));
        }
        names.sort_unstable_by(|one, other| one.0.cmp(&other.0));
        Ok(names)
    }
}

fn attributes(number: u64, metadata: &Metadata) -> FileAttr {
    FileAttr {
        ino: INodeNo(number),
        size: metadata.len(),
        blocks: metadata.blocks(),
        atime: metadata.accessed().unwrap_or(SystemTime::UNIX_EPOCH),
        mtime: metadata.modified().unwrap_or(SystemTime::UNIX_EPOCH),
        ctime: metadata.modified().unwrap_or(SystemTime::UNIX_EPOCH),
        crtime: SystemTime::UNIX_EPOCH,
        kind: if metadata.is_dir() { FileType::Directory } else { FileType::RegularFile },
        perm: (metadata.mode() & 0o7777) as u16,
        nlink: metadata.nlink() as u32,
        uid: metadata.uid(),
        gid: metadata.gid(),
        rdev: 0,
        blksize: 4096,
        flags: 0,
    }
}

/// Answers with nothing but whether it was done.
fn answer(done: io::Result<()>, reply: ReplyEmpty) {
    match done {
        Ok(()) => reply.ok(),
        Err(error) => reply.error(refused(error)),
    }
}

fn answer_entry(found: io::Result<FileAttr>, reply: ReplyEntry) {
    match found {
        Ok(found) => reply.entry(&KEPT_FOR, &found, Generation(0)),
        Err(error) => reply.error(refused(error)),
    }
}

fn answer_attributes(found: io::Result<FileAttr>, reply: ReplyAttr) {
    match found {
        Ok(found) => reply.attr(&KEPT_FOR, &found),
        Err(error) => reply.error(refused(error)),
    }
}

fn refused(error: io::Error) -> Errno {
    if error.kind() == io::ErrorKind::NotFound { Errno::ENOENT } else { error.into() }
}

impl Filesystem for Shown {
    fn lookup(&self, _: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEntry) {
        answer_entry(self.look(parent, name), reply);
    }

    fn getattr(&self, _: &Request, ino: INodeNo, _: Option<FileHandle>, reply: ReplyAttr) {
        answer_attributes(self.attributes(ino), reply);
    }

    fn setattr(
        &self,
        _: &Request,
        ino: INodeNo,
        mode: Option<u32>,
        _: Option<u32>,
        _: Option<u32>,
        size: Option<u64>,
        _: Option<TimeOrNow>,
        _: Option<TimeOrNow>,
        _: Option<SystemTime>,
        _: Option<FileHandle>,
        _: Option<SystemTime>,
        _: Option<SystemTime>,
        _: Option<SystemTime>,
        _: Option<BsdFileFlags>,
        reply: ReplyAttr,
    ) {
        answer_attributes(self.change(ino, mode, size), reply);
    }

    fn mkdir(&self, _: &Request, parent: INodeNo, name: &OsStr, mode: u32, _: u32, reply: ReplyEntry) {
        let made = self.child(parent, name).and_then(|path| fs::DirBuilder::new().mode(mode).create(path));
        answer_entry(made.and_then(|()| self.look(parent, name)), reply);
    }

    fn unlink(&self, _: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        answer(self.child(parent, name).and_then(fs::remove_file), reply);
    }

    fn rmdir(&self, _: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        answer(self.child(parent, name).and_then(fs::remove_dir), reply);
    }

    fn rename(
        &self,
        _: &Request,
        parent: INodeNo,
        name: &OsStr,
        newparent: INodeNo,
        newname: &OsStr,
        flags: RenameFlags,
        reply: ReplyEmpty,
    ) {
        answer(self.move_over((parent, name), (newparent, newname), flags), reply);
    }

    fn link(&self, _: &Request, ino: INodeNo, newparent: INodeNo, newname: &OsStr, reply: ReplyEntry) {
        let linked = self.path(ino).and_then(|old| fs::hard_link(old, self.child(newparent, newname)?));
        answer_entry(linked.and_then(|()| self.look(newparent, newname)), reply);
    }

    fn open(&self, _: &Request, ino: INodeNo, _: OpenFlags, reply: ReplyOpen) {
        match self.open_some(ino) {
            // The kernel keeps no content, so that every read comes here.
            Ok(()) => reply.opened(FileHandle(0), FopenFlags::FOPEN_DIRECT_IO),
            Err(error) => reply.error(refused(error)),
        }
    }

    fn create(&self, _: &Request, parent: INodeNo, name: &OsStr, mode: u32, _: u32, _: i32, reply: ReplyCreate) {
        match self.make(parent, name, mode) {
            Ok(made) => {
                reply.created(&KEPT_FOR, &made, Generation(0), FileHandle(0), FopenFlags::FOPEN_DIRECT_IO);
            }
            Err(error) => reply.error(refused(error)),
        }
    }

    fn read(
        &self,
        _: &Request,
        ino: INodeNo,
        _: FileHandle,
        offset: u64,
        size: u32,
        _: OpenFlags,
        _: Option<LockOwner>,
        reply: ReplyData,
    ) {
        match self.read_some(ino, offset, size as usize) {
            Ok(bytes) => reply.data(&bytes),
            Err(error) => reply.error(refused(error)),
        }
    }

    fn write(
        &self,
        _: &Request,
        ino: INodeNo,
        _: FileHandle,
        offset: u64,
        data: &[u8],
        _: WriteFlags,
        _: OpenFlags,
        _: Option<LockOwner>,
        reply: ReplyWrite,
    ) {
        match self.write_all(ino, offset, data) {
            Ok(len) => reply.written(len),
            Err(error) => reply.error(refused(error)),
        }
    }

    fn flush(&self, _: &Request, _: INodeNo, _: FileHandle, _: LockOwner, reply: ReplyEmpty) {
        reply.ok();
    }

    fn fsync(&self, _: &Request, ino: INodeNo, _: FileHandle, _: bool, reply: ReplyEmpty) {
        answer(self.sync_file(ino), reply);
    }

    fn fsyncdir(&self, _: &Request, ino: INodeNo, _: FileHandle, _: bool, reply: ReplyEmpty) {
        answer(self.sync_folder(ino), reply);
    }

    fn readdir(&self, _: &Request, ino: INodeNo, _: FileHandle, offset: u64, mut reply: ReplyDirectory) {
        let names = match self.names(ino) {
            Ok(names) => names,
            Err(error) => return reply.error(refused(error)),
        };
        for (at, (name, kind)) in (1_u64..).zip(names).skip(offset as usize) {
            // The number is looked up when it is needed; here any will do.
            if reply.add(INodeNo(u64::MAX), at, kind, name) {
                break;
            }
        }
        reply.ok();
    }
}
