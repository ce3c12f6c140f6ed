//! Tablespaces of a restored data directory: folders outside of it, which links lead to.
//!
//! Invariant: what is in a folder already is never made part of a tablespace.
//! Never here: where they go.

use std::fs;
use std::io;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};

use super::{TABLESPACES, look, look_at};
use crate::{SourceError, blocking};

/// The tablespaces that a base backup had: their numbers, and where each was on its server; from its facts.
pub fn tablespaces_of(facts: &[(String, String)]) -> Vec<(String, PathBuf)> {
    let of = |(name, value): &(String, String)| Some((name.strip_prefix("tablespace_")?.to_owned(), value.into()));
    facts.iter().filter_map(of).collect()
}

/// Lets tablespace `oid` of the data directory `data` be the folder `place`, by a link: a directory there Postgres
/// refuses. Does nothing if the link is there already.
///
/// `place` has to be absolute and outside of `data`, and is made if need be, for its owner only.
///
/// # Errors
///
/// [`SourceError::Occupied`] if `place` is not empty, or something else stands for the tablespace;
/// [`SourceError::Write`] if something cannot be made.
pub async fn link_tablespace(data: &Path, oid: &str, place: &Path) -> Result<(), SourceError> {
    let (link, data, place) = (data.join(TABLESPACES).join(oid), data.to_owned(), place.to_owned());
    blocking::run(move || linked(&link, &data, &place)).await?
}

/// Makes sure that [`link_tablespace`] would do it.
///
/// # Errors
///
/// As there.
pub async fn refuse_if_tablespace_occupied(data: &Path, oid: &str, place: &Path) -> Result<(), SourceError> {
    let (link, data, place) = (data.join(TABLESPACES).join(oid), data.to_owned(), place.to_owned());
    blocking::run(move || is_linked(&link, &data, &place).map(drop)).await?
}

/// Makes sure that the data directory `data` and the tablespaces in `places` each have a folder of their own, with none in
/// another, also where links lead.
///
/// # Errors
///
/// [`SourceError::Write`] otherwise.
pub async fn refuse_if_nested(data: &Path, places: &[PathBuf]) -> Result<(), SourceError> {
    let all: Vec<PathBuf> =
        std::iter::once(data).chain(places.iter().map(PathBuf::as_path)).map(Path::to_owned).collect();
    blocking::run(move || disjoint(&all)).await?
}

fn disjoint(folders: &[PathBuf]) -> Result<(), SourceError> {
    let real: Vec<PathBuf> = folders.iter().map(|folder| resolved(folder)).collect();
    for (at, (path, one)) in folders.iter().zip(&real).enumerate() {
        let other =
            folders.iter().zip(&real).take(at).find(|(_, other)| one.starts_with(other) || other.starts_with(one));
        if let Some((other, _)) = other {
            let what = format!("neither may be, hold or lie in the other: {}", other.display());
            let (path, source) = (path.clone(), io::Error::other(what));
            return Err(SourceError::Write { path, action: "put a tablespace into", source });
        }
    }
    Ok(())
}

/// Where a path leads, as far as it is there.
fn resolved(path: &Path) -> PathBuf {
    let found =
        path.ancestors().find_map(|above| Some((fs::canonicalize(above).ok()?, path.strip_prefix(above).ok()?)));
    found.map_or_else(|| path.to_owned(), |(above, rest)| above.join(rest).components().collect())
}

fn linked(link: &Path, data: &Path, place: &Path) -> Result<(), SourceError> {
    let write = |path: &Path, action| {
        let path = path.to_owned();
        move |source| SourceError::Write { path, action, source }
    };
    if is_linked(link, data, place)? {
        return Ok(());
    }
    fs::create_dir_all(place).map_err(write(place, "make"))?;
    fs::set_permissions(place, fs::Permissions::from_mode(0o700)).map_err(write(place, "close"))?;
    let folder = data.join(TABLESPACES);
    fs::create_dir_all(&folder).map_err(write(&folder, "make"))?;
    symlink(place, link).map_err(write(link, "link"))
}

/// Whether the link is there already. Fails if it cannot be made.
fn is_linked(link: &Path, data: &Path, place: &Path) -> Result<bool, SourceError> {
    if !place.is_absolute() || place.starts_with(data) {
        let source = io::Error::other("it has to be absolute and outside of the data directory");
        return Err(SourceError::Write { path: place.to_owned(), action: "put a tablespace into", source });
    }
    if fs::read_link(link).is_ok_and(|found| found == place) {
        return Ok(true);
    }
    if look_at(link, fs::symlink_metadata(link))?.is_some() {
        return Err(SourceError::Occupied { path: link.to_owned(), found: "tablespace" });
    }
    if look(place)?.is_some() && !is_empty(place)? {
        return Err(SourceError::Occupied { path: place.to_owned(), found: "folder that is not empty" });
    }
    Ok(false)
}

fn is_empty(folder: &Path) -> Result<bool, SourceError> {
    let unreadable = |source| SourceError::Unreadable { path: folder.to_owned(), source };
    Ok(fs::read_dir(folder).map_err(unreadable)?.next().is_none())
}

#[cfg(test)]
mod tests {
    use super::super::{Lack, lacks};
    use super::*;

    #[tokio::test]
    async fn no_folder_of_a_tablespace_is_another_ones_or_lies_in_it() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        fs::create_dir(at("real")).unwrap();
        symlink(at("real"), at("linked")).unwrap();
        let refused = async |names: &[&str]| {
            let places: Vec<PathBuf> = names.iter().map(|name| at(name)).collect();
            refuse_if_nested(&at("data"), &places).await.err().map(|error| error.to_string())
        };
        assert_eq!(refused(&["data.tablespaces/1", "data.tablespaces/2", "real", "real2"]).await, None);
        for names in [&["x", "x"][..], &["x", "x/y"], &["x/y/z", "x"], &["x", "x/"], &["data/in"], &["."]] {
            assert!(refused(names).await.is_some(), "{names:?}");
        }
        assert!(refused(&["real/new", "linked"]).await.is_some(), "a link leads into the other");
    }

    #[tokio::test]
    async fn tablespaces_are_linked_once_and_outside_of_the_data_directory() {
        let folder = tempfile::tempdir().unwrap();
        let (data, away) = (folder.path().join("data"), folder.path().join("away"));
        fs::create_dir_all(data.join("pg_tblspc/77")).unwrap();
        assert!(lacks(&data).await.unwrap().contains(&Lack::Unlinked("pg_tblspc/77".into())));
        let refused = link_tablespace(&data, "77", &away).await.unwrap_err();
        assert!(matches!(refused, SourceError::Occupied { .. }), "{refused}");
        fs::remove_dir(data.join("pg_tblspc/77")).unwrap();
        assert!(link_tablespace(&data, "77", &data.join("in")).await.is_err());
        fs::create_dir_all(away.join("users")).unwrap();
        let refused = link_tablespace(&data, "77", &away).await.unwrap_err();
        assert!(matches!(refused, SourceError::Occupied { .. }), "{refused}");
        fs::remove_dir(away.join("users")).unwrap();
        link_tablespace(&data, "77", &away).await.unwrap();
        fs::create_dir_all(data.join("pg_tblspc/77/PG_15_1/5")).unwrap();
        assert!(away.join("PG_15_1/5").is_dir());
        link_tablespace(&data, "77", &away).await.unwrap();
        assert!(!lacks(&data).await.unwrap().contains(&Lack::Unlinked("pg_tblspc/77".into())));
        fs::remove_dir_all(&away).unwrap();
        assert!(lacks(&data).await.unwrap().contains(&Lack::Dangling("pg_tblspc/77".into())));
    }
}
