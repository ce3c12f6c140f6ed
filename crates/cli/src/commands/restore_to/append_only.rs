//! How a server is started on a restored append-only file of Redis or Valkey.
//!
//! Invariant: the server finds the file under the names that it has, whatever the server that wrote it was told.
//! Never here: restoring it.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

use engine::CatRequest;
use futures::TryStreamExt as _;

use super::Restoring;
use super::plan::{FilePlan, Plan, typed};

/// What servers call the folder, and the file, unless they are told otherwise.
const FOLDER: &str = "appendonlydir";
const FILE: &str = "appendonly.aof";
/// Bytes at the head of the base in which it names who wrote it.
const HEAD_LEN: usize = 64;

/// Says how a server is started on these files, restored below `folder`.
pub(super) async fn add_steps(restoring: &Restoring<'_>, plan: &mut Plan, folder: &Path, files: &[FilePlan]) {
    let Some((place, name)) = files.iter().find_map(|file| of_manifest(&file.path)) else {
        return plan.note("its manifest is not among these files: no server loads them by themselves");
    };
    if !restoring.args.path().is_empty() {
        return plan.note("a server loads it from a folder in the one that its setting dir names");
    }
    let server = if is_of_valkey(&head(restoring, place).await) { "valkey" } else { "redis" };
    let shown = typed(folder);
    plan.step("give it to who runs the server", format!("chown -R {server}: {shown}"));
    let mut command = format!("{server}-server --dir {shown} --appendonly yes");
    for (option, value, default) in [("--appenddirname", place, FOLDER), ("--appendfilename", name, FILE)] {
        if value != default {
            command.push_str(&format!(" {option} {}", typed(Path::new(value))));
        }
    }
    let what = match server {
        "redis" => "start a server on it; if a Valkey before version 8 wrote it, do both with its own user and program",
        _ => "start a server on it",
    };
    plan.step(what, command);
}

/// The names of folder and file that lead to this manifest; none if it is something else.
fn of_manifest(path: &[u8]) -> Option<(&OsStr, &OsStr)> {
    let path = Path::new(OsStr::from_bytes(path));
    let name = path.file_name()?.as_bytes().strip_suffix(b".manifest")?;
    let place = path.parent()?.as_os_str();
    (!name.is_empty() && !place.is_empty()).then(|| (place, OsStr::from_bytes(name)))
}

/// The beginning of the base; nothing if there is none, or it cannot be read, which the restore tells.
async fn head(restoring: &Restoring<'_>, place: &OsStr) -> Vec<u8> {
    let Some(base) = restoring.fact("base") else { return Vec::new() };
    let path = Path::new(place).join(base).into_os_string();
    let request = CatRequest::whole(path.as_bytes().to_vec());
    let Ok(mut content) = restoring.repository.cat(restoring.snapshot, request).await else { return Vec::new() };
    let mut head = Vec::new();
    while let Some(bytes) = content.try_next().await.ok().flatten().filter(|_| head.len() < HEAD_LEN) {
        head.extend(bytes.iter().take(HEAD_LEN - head.len()));
    }
    head
}

/// Whether an RDB that begins so is of Valkey.
fn is_of_valkey(head: &[u8]) -> bool {
    head.starts_with(b"VALKEY") || head.windows(10).any(|word| word == b"valkey-ver")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_wrote_an_rdb_is_seen_at_its_head() {
        assert!(is_of_valkey(b"REDIS0011\xfa\x0avalkey-ver\x058.1.3\xfa\x0aredis-bits\xc0\x40"));
        assert!(is_of_valkey(b"VALKEY080\xfa"));
        assert!(!is_of_valkey(b"REDIS0011\xfa\x09redis-ver\x057.2.4\xfa\x0aredis-bits\xc0\x40"));
        assert!(!is_of_valkey(b""));
    }

    #[test]
    fn names_are_those_of_the_manifest() {
        let names =
            |path: &'static str| of_manifest(path.as_bytes()).map(|(place, name)| (place.to_str(), name.to_str()));
        assert_eq!(names("our log/cache.aof.manifest"), Some((Some("our log"), Some("cache.aof"))));
        assert_eq!(names("our log/cache.aof.1.base.rdb"), None);
        assert_eq!(names("cache.aof.manifest"), None);
    }
}
