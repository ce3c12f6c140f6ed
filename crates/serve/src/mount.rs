//! The mount: a repository's snapshots as a read-only file system of Linux, by FUSE.
//!
//! ```text
//! kernel ─► fuser's threads ─► filesystem ─► a task, if it takes waiting ─► answers ─► engine::View
//!                                  ◄── answer, or an error once it took too long ──┘
//! ```
//!
//! | file | holds |
//! |---|---|
//! | `point` | what a mount point must be, and what became of the last mount on it |
//! | `nodes` | inode numbers and what they stand for |
//! | `attributes` | an entry as the kernel takes it |
//! | `handles` | open files and folders |
//! | `filesystem` | what the kernel asks, one function each |
//! | `answers` | how that is answered |
//!
//! Invariant: no request keeps one of fuser's threads waiting, and none is unanswered for longer than [`Options::patience`].
//! Never here: a way to change anything.

mod answers;
mod attributes;
mod filesystem;
mod handles;
mod nodes;
mod point;

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use engine::{SnapshotFilter, View};
use fuser::{Config, MountOption, Session, SessionACL, SessionUnmounter};
use rustix::io::Errno;
use rustix::mount::UnmountFlags;
use source::blocking;
use tokio::sync::{mpsc, oneshot};

use crate::ServeError;
use crate::trouble::{TROUBLES_MAX, Trouble};
use answers::Shared;
use filesystem::{Door, FileSystem};

/// Threads that take requests from the kernel; each has a buffer of its own.
const THREADS: usize = 2;
/// What mounts of ours are called in the system's table.
pub(crate) const NAME: &str = "backstay";

/// How a repository is mounted.
#[derive(Debug, Clone)]
pub struct Options {
    /// The mount point.
    pub point: PathBuf,
    /// Repositories in local folders, which the mount point must not overlap.
    pub repositories: Vec<PathBuf>,
    /// Which snapshots are shown.
    pub filter: SnapshotFilter,
    /// Other users may look too, as far as permissions let them.
    pub allow_other: bool,
    /// How long a request may take until it fails.
    pub patience: Duration,
    /// Bytes that are read ahead at most, of all files together.
    pub ahead_len_max: u64,
}

/// A mount that is there.
#[derive(Debug)]
pub struct Mounted {
    point: PathBuf,
    unmounter: SessionUnmounter,
    door: Door,
    ended: oneshot::Receiver<std::io::Result<()>>,
    troubles: mpsc::Receiver<Trouble>,
}

/// What a mount has to say next.
#[derive(Debug)]
pub enum Heard {
    /// Something could not be shown.
    Trouble(Trouble),
    /// It was unmounted.
    Ended,
}

/// Mounts what `view` shows. Must be called within a tokio runtime, in which requests are answered.
///
/// A mount of ours on the same place whose process was killed is cleared away first.
///
/// # Errors
///
/// What is wrong with the mount point, or with FUSE on this system. Nothing is mounted then.
pub async fn mount(view: View, options: Options) -> Result<Mounted, ServeError> {
    let (send, troubles) = mpsc::channel(TROUBLES_MAX);
    let (point, repositories) = (options.point.clone(), options.repositories.clone());
    let point = blocking::run(move || point::prepare(&point, &repositories)).await??;
    let config = config(options.allow_other);
    let door = Door::new(Shared::new(view, options, send));
    let files = FileSystem::new(door.clone(), tokio::runtime::Handle::current());
    let place = point.clone();
    let begun = blocking::run(move || Session::new(files, &place, &config).map_err(|error| explain(place, error)));
    let mut session = begun.await??;
    let unmounter = session.unmount_callable();
    let (end, ended) = oneshot::channel();
    tokio::spawn(async move {
        let done = blocking::run(move || session.run()).await;
        drop(end.send(done.unwrap_or_else(|panicked| Err(std::io::Error::other(panicked)))));
    });
    Ok(Mounted { point, unmounter, door, ended, troubles })
}

fn config(allow_other: bool) -> Config {
    let name = || NAME.to_owned();
    let mut config = Config::default();
    config.mount_options =
        vec![MountOption::RO, MountOption::NoAtime, MountOption::FSName(name()), MountOption::Subtype(name())];
    if allow_other {
        // Others see what the permissions of the files let them see; whoever mounts for himself alone has the key and sees all.
        config.mount_options.push(MountOption::DefaultPermissions);
        config.acl = SessionACL::All;
    }
    config.n_threads = Some(THREADS);
    config
}

fn explain(path: PathBuf, source: std::io::Error) -> ServeError {
    if source.to_string().contains("user_allow_other") {
        return ServeError::OthersForbidden;
    }
    ServeError::Mount { path, source }
}

impl Mounted {
    /// Where it is.
    #[must_use]
    pub fn point(&self) -> &Path {
        &self.point
    }

    /// Waits for what there is to tell.
    pub async fn hear(&mut self) -> Heard {
        tokio::select! {
            _ = &mut self.ended => {
                self.door.close().await;
                Heard::Ended
            }
            Some(trouble) = self.troubles.recv() => Heard::Trouble(trouble),
        }
    }

    /// Unmounts it. If it is in use it vanishes from the folder at once, and open files fail from then on; true if so.
    ///
    /// # Errors
    ///
    /// [`ServeError::Unmount`] if the system refuses.
    pub async fn unmount(mut self) -> Result<bool, ServeError> {
        let (path, door) = (self.point, self.door);
        let done = blocking::run(move || match self.unmounter.unmount() {
            Ok(()) => Ok(false),
            Err(_) if !point::is_mounted(&path) => Ok(false),
            Err(_) => detach(&path).map(|()| true).map_err(|source| ServeError::Unmount { path, source }),
        });
        let done = done.await?;
        door.close().await;
        done
    }
}

/// Takes a mount out of the tree of folders, though it may be in use.
pub(crate) fn detach(path: &Path) -> std::io::Result<()> {
    match rustix::mount::unmount(path, UnmountFlags::DETACH) {
        Ok(()) => Ok(()),
        Err(Errno::PERM) => {
            let mut command = Command::new("fusermount3");
            let output = command.args(["-u", "-z", "--"]).arg(path).output()?;
            let said = || std::io::Error::other(String::from_utf8_lossy(&output.stderr).trim().to_owned());
            if output.status.success() { Ok(()) } else { Err(said()) }
        }
        Err(error) => Err(error.into()),
    }
}
