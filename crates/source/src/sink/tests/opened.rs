//! What is opened below some folders, as the kernel tells it.
//!
//! ```text
//! watch folders ─► whatever is to be looked at ─► opened(): how often each file and folder was opened
//! ```
//!
//! The kernel joins an event to the one before if both are equal. A file that is opened twice is closed or changed in between, so
//! that both are counted.
//!
//! Invariant: what goes on elsewhere, and how long anything takes, changes nothing.
//! Never here: what may be opened.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use rustix::fs::inotify::{CreateFlags, ReadFlags, Reader, WatchFlags, add_watch, init};

/// Bytes of events that are taken at once.
const EVENTS_LEN: usize = 64 << 10;

/// Folders that are watched, by the kernel's number for each.
pub(crate) struct Opened {
    events: OwnedFd,
    folders: BTreeMap<i32, PathBuf>,
}

impl Opened {
    /// Watches these folders, and what lies directly in each.
    pub(crate) fn watch<'a>(folders: impl IntoIterator<Item = &'a Path>) -> Self {
        let events = init(CreateFlags::NONBLOCK | CreateFlags::CLOEXEC).unwrap();
        let flags = WatchFlags::OPEN | WatchFlags::ACCESS | WatchFlags::MODIFY | WatchFlags::CLOSE;
        let watch = |folder: &Path| (add_watch(&events, folder, flags).unwrap(), folder.to_owned());
        let folders = folders.into_iter().map(watch).collect();
        Self { events, folders }
    }

    /// How often each file and folder was opened since.
    pub(crate) fn counts(&self) -> BTreeMap<PathBuf, usize> {
        let mut counts = BTreeMap::new();
        let mut buffer = [MaybeUninit::uninit(); EVENTS_LEN];
        let mut reader = Reader::new(&self.events, &mut buffer);
        loop {
            let event = match reader.next() {
                Err(rustix::io::Errno::AGAIN) => return counts,
                event => event.unwrap(),
            };
            assert!(!event.events().contains(ReadFlags::QUEUE_OVERFLOW), "more went on than the kernel notes");
            let name = event.file_name().map(|name| Path::new(OsStr::from_bytes(name.to_bytes())));
            // A folder that is watched tells of itself; its parent would tell it again.
            let is_told_twice = event.events().contains(ReadFlags::ISDIR) && name.is_some();
            if event.events().contains(ReadFlags::OPEN) && !is_told_twice {
                let folder = &self.folders[&event.wd()];
                *counts.entry(name.map_or_else(|| folder.clone(), |name| folder.join(name))).or_default() += 1;
            }
        }
    }
}
