//! What a mount point must be, and what becomes of a mount whose process was killed.
//!
//! ```text
//! dead mount of ours ─► cleared away ─► there? a folder? nothing mounted? empty? apart from repositories? ─► FUSE usable?
//! ```
//!
//! Invariant: nothing but a dead mount of ours is cleared away.
//! Never here: mounting.

use std::fs::{self, OpenOptions};
use std::io;
use std::os::unix::ffi::OsStringExt as _;
use std::path::{Path, PathBuf};

use rustix::io::Errno;

use super::{NAME, detach};
use crate::ServeError;

/// Where the system keeps the helper for those who are not root.
const HELPERS: [&str; 2] = ["fusermount3", "fusermount"];
const HELPER_FOLDERS: [&str; 4] = ["/bin", "/sbin", "/usr/bin", "/usr/sbin"];

/// A line of the system's table of mounts.
#[derive(Debug, PartialEq, Eq)]
struct Line {
    point: PathBuf,
    kind: String,
    name: String,
}

/// Looks whether `path` can be mounted on, and gives it as the system's table of mounts has it.
pub(super) fn prepare(path: &Path, repositories: &[PathBuf]) -> Result<PathBuf, ServeError> {
    let owned = || path.to_owned();
    let wrong = |source| ServeError::Point { path: owned(), source };
    let mut metadata = fs::metadata(path);
    if metadata.as_ref().is_err_and(is_dead) {
        clear(path)?;
        metadata = fs::metadata(path);
    }
    match metadata {
        Ok(metadata) if !metadata.is_dir() => return Err(ServeError::PointNoFolder { path: owned() }),
        Ok(_) => {}
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return Err(ServeError::PointMissing { path: owned() });
        }
        Err(error) => return Err(wrong(error)),
    }
    let place = fs::canonicalize(path).map_err(wrong)?;
    if let Some(line) = mounted_on(&place) {
        return Err(ServeError::PointMounted { path: owned(), what: line.kind });
    }
    for repository in repositories {
        let folder = fs::canonicalize(repository).unwrap_or_else(|_| repository.clone());
        if place.starts_with(&folder) || folder.starts_with(&place) {
            return Err(ServeError::PointOverlaps { path: owned(), repository: repository.clone() });
        }
    }
    if fs::read_dir(&place).map_err(wrong)?.next().is_some() {
        return Err(ServeError::PointNotEmpty { path: owned() });
    }
    look_at_fuse()?;
    Ok(place)
}

/// Whether anything is mounted on `place`.
pub(super) fn is_mounted(place: &Path) -> bool {
    mounted_on(place).is_some()
}

fn is_dead(error: &io::Error) -> bool {
    error.raw_os_error() == Some(Errno::NOTCONN.raw_os_error())
}

/// Takes away a mount of ours whose process has ended.
fn clear(path: &Path) -> Result<(), ServeError> {
    // The mount point itself cannot be looked at, but what leads to it can.
    let absolute = std::path::absolute(path).map_err(|source| ServeError::Point { path: path.to_owned(), source })?;
    let place = match (absolute.parent().and_then(|parent| fs::canonicalize(parent).ok()), absolute.file_name()) {
        (Some(parent), Some(name)) => parent.join(name),
        _ => absolute,
    };
    let is_ours = mounted_on(&place).is_some_and(|line| line.name == NAME || line.kind.ends_with(NAME));
    if !is_ours || detach(&place).is_err() {
        return Err(ServeError::PointDead { path: path.to_owned() });
    }
    Ok(())
}

/// What was mounted last on `place`.
fn mounted_on(place: &Path) -> Option<Line> {
    let table = fs::read("/proc/self/mountinfo").unwrap_or_default();
    let mut lines = table.split(|byte| *byte == b'\n').filter_map(parse);
    lines.rfind(|line| line.point == place)
}

/// `36 35 98:0 /root /point options … - kind name …`, with spaces and the like as `\040`.
fn parse(line: &[u8]) -> Option<Line> {
    let words: Vec<&[u8]> = line.split(|byte| *byte == b' ').collect();
    let dash = words.iter().position(|word| *word == b"-")?;
    let text = |word: &[u8]| String::from_utf8_lossy(&unescaped(word)).into_owned();
    Some(Line {
        point: std::ffi::OsString::from_vec(unescaped(words.get(4)?)).into(),
        kind: text(words.get(dash + 1)?),
        name: text(words.get(dash + 2)?),
    })
}

/// Undoes the `\ooo` of the table of mounts.
fn unescaped(word: &[u8]) -> Vec<u8> {
    let mut plain = Vec::with_capacity(word.len());
    let mut rest = word;
    while let Some((first, after)) = rest.split_first() {
        let number = after.get(..3).and_then(|digits| u8::from_str_radix(std::str::from_utf8(digits).ok()?, 8).ok());
        match number.filter(|_| *first == b'\\') {
            Some(byte) => {
                plain.push(byte);
                rest = after.get(3..).unwrap_or_default();
            }
            None => {
                plain.push(*first);
                rest = after;
            }
        }
    }
    plain
}

/// Whether this user can mount by FUSE here.
fn look_at_fuse() -> Result<(), ServeError> {
    match OpenOptions::new().read(true).write(true).open("/dev/fuse") {
        Ok(_) => {}
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => return Err(ServeError::FuseForbidden),
        Err(_) => return Err(ServeError::FuseMissing),
    }
    let named = std::env::var_os("PATH").unwrap_or_default();
    let mut folders = std::env::split_paths(&named).chain(HELPER_FOLDERS.map(PathBuf::from));
    let mut has_helper = || folders.any(|folder| HELPERS.iter().any(|helper| folder.join(helper).exists()));
    if rustix::process::geteuid().is_root() || has_helper() { Ok(()) } else { Err(ServeError::FuseHelperMissing) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn line_of_the_table_of_mounts_gives_its_point_with_spaces_its_kind_and_its_name() {
        let line = br"41 28 0:36 / /mnt/a\040b\134 ro,nosuid shared:7 master:1 - fuse.backstay backstay ro,user_id=0";
        let read = parse(line).expect("it is a line");
        assert_eq!(read, Line { point: r"/mnt/a b\".into(), kind: "fuse.backstay".into(), name: NAME.into() });
        assert_eq!(parse(b""), None);
        assert_eq!(parse(b"41 28 0:36 / /mnt"), None);
    }
}
