//! Extended attributes and ACLs of an entry, read and written through its directory's descriptor.
//!
//! The system has no call for "the attributes of this name in this directory", so the entry is named through
//! `/proc/self/fd/<directory>/<name>`: as short as the name, and as safe as the descriptor.
//!
//! Kept are `user.*`, `security.*` (capabilities among them), `trusted.*` (readable by root only) and the POSIX
//! ACLs, which are attributes named `system.posix_acl_*`.
//!
//! Invariant: what is not kept is neither read nor removed.
//! Never here: an interpretation of any attribute's value.

use std::ffi::CStr;
use std::io;
use std::os::fd::{AsRawFd as _, BorrowedFd};

use rustix::fs::{XattrFlags, getxattr, lgetxattr, listxattr, llistxattr, removexattr, setxattr};
use rustix::io::Errno;

/// The longest list of names and the longest value which Linux gives, in bytes.
const LEN_MAX: usize = 64 * 1024;

/// The access ACL of an entry, and the ACL that a directory hands to what is made in it.
const ACLS: [&[u8]; 2] = [b"system.posix_acl_access", b"system.posix_acl_default"];

/// Attributes as read: name and value.
pub(crate) type Xattrs = Vec<(Vec<u8>, Vec<u8>)>;

/// Reads attributes; keeps its buffers, so an entry without attributes costs one call and no allocation.
#[derive(Debug)]
pub(crate) struct XattrReader {
    path: Vec<u8>,
    prefix_len: usize,
    list: Vec<u8>,
    value: Vec<u8>,
}

impl XattrReader {
    pub(crate) fn new() -> Self {
        Self { path: Vec::new(), prefix_len: 0, list: Vec::with_capacity(LEN_MAX), value: Vec::with_capacity(LEN_MAX) }
    }

    /// From now on, names are names in this directory.
    pub(crate) fn enter(&mut self, directory: BorrowedFd<'_>) {
        self.path = proc_path(directory).into_bytes();
        self.path.push(b'/');
        self.prefix_len = self.path.len();
    }

    /// Puts the kept attributes of `name` into `xattrs`, sorted by name. A file system without attributes has none.
    ///
    /// `follow` tells whether a symbolic link means what it points to. Returns the first error after having
    /// tried all.
    pub(crate) fn read(&mut self, name: &CStr, follow: bool, xattrs: &mut Xattrs) -> io::Result<()> {
        self.path.truncate(self.prefix_len);
        self.path.extend_from_slice(name.to_bytes_with_nul());
        let path = CStr::from_bytes_with_nul(&self.path).map_err(io::Error::other)?;
        self.list.clear();
        let list = rustix::buffer::spare_capacity(&mut self.list);
        match if follow { listxattr(path, list) } else { llistxattr(path, list) } {
            Ok(0) | Err(Errno::OPNOTSUPP) => return Ok(()),
            Ok(_) => {}
            Err(error) => return Err(error.into()),
        }
        let read = all(kept(&self.list).map(|name| {
            self.value.clear();
            let value = rustix::buffer::spare_capacity(&mut self.value);
            match if follow { getxattr(path, name, value) } else { lgetxattr(path, name, value) } {
                Ok(_) => xattrs.push((name.to_vec(), self.value.clone())),
                // Removed since it was listed, or listed although it may not be read (trusted.* in a container).
                Err(Errno::NODATA) => {}
                Err(error) => return Err(error),
            }
            Ok(())
        }));
        xattrs.sort_unstable();
        read
    }
}

/// Removes what `wanted` does not have. Returns the first error after having tried all.
///
/// A new file inherits ACLs from its directory, and a file that was there may have any: without this, a restored
/// file could be open to somebody to whom it never was. `security.*` and `trusted.*` other than capabilities
/// belong to this host (SELinux labels, overlays) and stay.
pub(crate) fn remove_others(object: &str, wanted: &Xattrs) -> io::Result<()> {
    let mut list = Vec::with_capacity(LEN_MAX);
    match listxattr(object, rustix::buffer::spare_capacity(&mut list)) {
        Ok(0) | Err(Errno::OPNOTSUPP) => return Ok(()),
        Ok(_) => {}
        Err(error) => return Err(error.into()),
    }
    let removed = kept(&list).filter(|name| removable(name) && !wanted.iter().any(|(wanted, _)| wanted == name));
    all(removed.map(|name| match removexattr(object, name) {
        Err(Errno::NODATA) => Ok(()),
        done => done,
    }))
}

/// Whether the object has other attributes than [`remove_others`] and [`set`] would leave.
pub(crate) fn differ(object: &str, wanted: &Xattrs) -> io::Result<bool> {
    let mut list = Vec::with_capacity(LEN_MAX);
    match listxattr(object, rustix::buffer::spare_capacity(&mut list)) {
        Ok(_) => {}
        Err(Errno::OPNOTSUPP) => return Ok(!wanted.is_empty()),
        Err(error) => return Err(error.into()),
    }
    if kept(&list).any(|name| removable(name) && !wanted.iter().any(|(wanted, _)| wanted == name)) {
        return Ok(true);
    }
    let mut there = Vec::with_capacity(LEN_MAX);
    for (name, value) in wanted {
        there.clear();
        match getxattr(object, name.as_slice(), rustix::buffer::spare_capacity(&mut there)) {
            Ok(_) if there == *value => {}
            Ok(_) | Err(Errno::NODATA) => return Ok(true),
            Err(error) => return Err(error.into()),
        }
    }
    Ok(false)
}

/// Sets all of `wanted`. Returns the first error after having tried all.
pub(crate) fn set(object: &str, wanted: &Xattrs) -> io::Result<()> {
    all(wanted.iter().map(|(name, value)| setxattr(object, name.as_slice(), value, XattrFlags::empty())))
}

/// A path which leads to the very object that is open, whatever its name is by now.
pub(crate) fn proc_path(object: BorrowedFd<'_>) -> String {
    format!("/proc/self/fd/{}", object.as_raw_fd())
}

fn kept(list: &[u8]) -> impl Iterator<Item = &[u8]> {
    list.split(|&byte| byte == 0).filter(|name| {
        [b"user.".as_slice(), b"security.", b"trusted."].iter().any(|prefix| name.starts_with(prefix))
            || ACLS.contains(name)
    })
}

fn removable(name: &[u8]) -> bool {
    name.starts_with(b"user.") || ACLS.contains(&name) || name == b"security.capability"
}

fn all(results: impl Iterator<Item = rustix::io::Result<()>>) -> io::Result<()> {
    let failed = results.filter_map(Result::err).fold(None, |first, error| first.or(Some(error)));
    failed.map_or(Ok(()), |error| Err(error.into()))
}
