//! A repository that the real binary has mounted.
//!
//! Invariant: it is unmounted when dropped, also after a test that failed.
//! Never here: what it shows.

use std::path::{Path, PathBuf};
use std::process::Command;

use rustix::process::Signal;

use crate::binary::{Host, Ran};
use crate::running::Running;

/// A mount and its process.
#[derive(Debug)]
pub struct FuseMount {
    point: Unmounted,
    running: Running,
}

/// A mount point on which nothing is mounted any more when this is dropped.
#[derive(Debug)]
pub struct Unmounted(PathBuf);

impl Unmounted {
    /// Takes care of a folder.
    #[must_use]
    pub fn at(point: &Path) -> Self {
        Self(point.to_owned())
    }
}

impl Drop for Unmounted {
    fn drop(&mut self) {
        // Lazily, since it may be in use; and there may be nothing.
        drop(Command::new("umount").arg("-l").arg(&self.0).output());
    }
}

impl FuseMount {
    /// Mounts the host's repository on its folder `name`, made if it is missing. A system without FUSE fails the test.
    #[must_use]
    pub fn at(host: &Host, name: &str, options: &[&str]) -> Self {
        let point = host.path(name);
        std::fs::create_dir_all(&point).expect("a folder");
        let mut command = host.backstay(["mount"]);
        command.arg(&point).args(options);
        Self::start(command, &point)
    }

    /// The same on a folder whose last mount was killed, and which cannot be looked at therefore.
    #[must_use]
    pub fn at_dead(host: &Host, name: &str) -> Self {
        let point = host.path(name);
        let mut command = host.backstay(["mount"]);
        command.arg(&point);
        Self::start(command, &point)
    }

    /// As `command` mounts it.
    #[must_use]
    pub fn start(command: Command, point: &Path) -> Self {
        let point = Unmounted::at(point);
        let mut running = Running::start(command, false);
        running.wait_to_hear("mounted on");
        Self { point, running }
    }

    /// A path in the mount.
    #[must_use]
    pub fn path(&self, name: &str) -> PathBuf {
        self.point.0.join(name)
    }

    /// Where the newest snapshot has `path` of the host, in its only component of files.
    #[must_use]
    pub fn latest(&self, path: &Path) -> PathBuf {
        self.path("latest/files").join(path.strip_prefix("/").expect("an absolute path"))
    }

    /// What the process has written to stderr.
    #[must_use]
    pub fn said(&self) -> String {
        self.running.stderr_so_far()
    }

    /// Waits until it has said `text`.
    #[track_caller]
    pub fn wait_for(&mut self, text: &str) {
        self.running.wait_to_hear(text);
    }

    /// Sends the process a signal and waits for its end; with the most memory that it held, in bytes.
    pub fn end(self, signal: Signal) -> (Ran, u64) {
        let Self { point, running } = self;
        let ended = running.end(signal);
        drop(point);
        ended
    }

    /// As a signal that cannot be caught ends it: what it mounted stays, without a process.
    pub fn kill(self) -> Unmounted {
        let Self { point, running } = self;
        running.signal(Signal::KILL);
        drop(running.finish());
        point
    }

    /// Waits until the process ends by itself.
    pub fn finish(self) -> Ran {
        let Self { point, running } = self;
        let (ran, _) = running.finish();
        drop(point);
        ran
    }
}

/// Whether anything is mounted on a folder, as the system's table of mounts has it.
#[must_use]
pub fn is_mounted(point: &Path) -> bool {
    let table = std::fs::read_to_string("/proc/self/mountinfo").expect("the table of mounts");
    table.lines().any(|line| line.split(' ').nth(4) == point.to_str())
}
