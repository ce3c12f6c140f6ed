//! A small file system of its own: for disks that are full.
//!
//! Invariant: it is gone when dropped.
//! Never here: filling it.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::binary::Run as _;

/// A mounted tmpfs. Only root can have one.
#[derive(Debug)]
pub struct SmallDisk(PathBuf);

impl SmallDisk {
    /// Mounts one of `mib` MiB at `place`, made if it is missing.
    #[must_use]
    pub fn mount(place: &Path, mib: u32) -> Self {
        std::fs::create_dir_all(place).expect("a folder");
        let mut mount = Command::new("mount");
        mount.args(["-t", "tmpfs", "-o", &format!("size={mib}m"), "tmpfs"]).arg(place).run().expect_code(0);
        Self(place.to_owned())
    }

    /// Gives it another size.
    pub fn resize(&self, mib: u32) {
        let mut mount = Command::new("mount");
        mount.args(["-o", &format!("remount,size={mib}m")]).arg(&self.0).run().expect_code(0);
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        // Lazily: a process that is still ending may have a file open.
        drop(Command::new("umount").arg("-l").arg(&self.0).output());
    }
}
