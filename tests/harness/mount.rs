//! Small file systems of their own: for disks that are full, and for those that lose their power.
//!
//! Invariant: each is gone when dropped.
//! Never here: filling them, and what a power cut must not take.

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

/// A disk in a file. What the system holds back in memory is not in the file, as it would not be on a real disk.
#[derive(Debug)]
pub struct DiskImage {
    image: PathBuf,
    place: PathBuf,
    has_journal: bool,
}

impl DiskImage {
    /// Makes one of `mib` MiB in the file `image`, with or without a journal, and mounts it at `place`.
    #[must_use]
    pub fn make(image: &Path, mib: u64, has_journal: bool, place: &Path) -> Self {
        std::fs::File::create(image).and_then(|file| file.set_len(mib << 20)).expect("a file for the disk");
        let journal = if has_journal { "has_journal" } else { "^has_journal" };
        Command::new("mkfs.ext4").args(["-q", "-F", "-O", journal]).arg(image).run().expect_code(0);
        Self::mounted(image, has_journal, place)
    }

    fn mounted(image: &Path, has_journal: bool, place: &Path) -> Self {
        std::fs::create_dir_all(place).expect("a folder");
        // Without a request the system writes next to nothing to the journal for five minutes.
        let options = if has_journal { "loop,commit=300" } else { "loop" };
        Command::new("mount").args(["-o", options]).arg(image).arg(place).run().expect_code(0);
        Self { image: image.to_owned(), place: place.to_owned(), has_journal }
    }

    /// What a power cut would leave at this moment, as the file `image`. Nobody must be using the disk just now.
    pub fn cut_power(&self, image: &Path) {
        Command::new("cp").arg("--sparse=always").arg(&self.image).arg(image).run().expect_code(0);
    }

    /// Brings what a power cut has left in order, as a system does when it starts, and mounts it at `place`.
    #[must_use]
    pub fn after_power_cut(&self, image: &Path, place: &Path) -> Self {
        let code = Command::new("e2fsck").arg("-fy").arg(image).output().expect("e2fsck runs").status.code();
        assert!(code.is_some_and(|code| code <= 1), "e2fsck could not mend {}: {code:?}", image.display());
        Self::mounted(image, self.has_journal, place)
    }
}

impl Drop for DiskImage {
    fn drop(&mut self) {
        drop(Command::new("umount").arg("-l").arg(&self.place).output());
    }
}
