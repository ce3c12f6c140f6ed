//! Postgres' own programs: which versions are installed, and which of them fits a server.
//!
//! Looked for in `PATH`, then in `/usr/lib/postgresql/*/bin` and `/usr/pgsql-*/bin`. Debian's wrapper, which chooses
//! by its own rules, is passed over.
//!
//! A dump program must be at least as new as the server. Of those the one nearest to the server is taken: what a newer
//! one writes may not load into a server of the old version again.
//!
//! Invariant: the programs of one [`Programs`] are of one folder.
//! Never here: the server's own version.

use std::ffi::OsStr;
use std::fmt;
use std::path::{Path, PathBuf};

use futures::StreamExt as _;

use crate::blocking;
use crate::command::{CommandLine, Producer};
use crate::error::{Fault, SourceError};

/// The longest answer to `--version` that is read, in bytes.
const VERSION_LEN_MAX: usize = 1024;

/// A version of Postgres from 10 on: `major.minor`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Version {
    /// What decides who understands whom.
    pub major: u32,
    /// Repairs only. 0 in betas.
    pub minor: u32,
}

impl Version {
    /// From `server_version_num`, such as `150018`.
    #[must_use]
    pub fn of_number(number: u32) -> Self {
        Self { major: number / 10_000, minor: number % 10_000 }
    }

    /// From `pg_dump (PostgreSQL) 15.18 (Debian …)`.
    #[must_use]
    pub fn of_program(text: &str) -> Option<Self> {
        let number = text.split("(PostgreSQL) ").nth(1)?;
        let digits = |text: &str| text.bytes().take_while(u8::is_ascii_digit).count();
        let major_len = digits(number);
        let major = number.get(..major_len)?.parse().ok()?;
        let rest = number.get(major_len..)?.strip_prefix('.').unwrap_or_default();
        Some(Self { major, minor: rest.get(..digits(rest))?.parse().unwrap_or(0) })
    }

    /// Whether psql of this version knows `\restrict`, which keeps a dump from running commands.
    #[must_use]
    pub fn has_restricted_mode(self) -> bool {
        let since = match self.major {
            13 => 22,
            14 => 19,
            15 => 14,
            16 => 10,
            17 => 6,
            major => return major > 17,
        };
        self.minor >= since
    }
}

impl fmt::Display for Version {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{}.{}", self.major, self.minor)
    }
}

/// One installed set of programs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Programs {
    /// Where they are.
    pub folder: PathBuf,
    /// What `pg_dump` there says that it is.
    pub version: Version,
}

impl Programs {
    /// All that are installed, each version once, the newest first. `folders` are looked at before the usual ones.
    pub async fn installed(folders: &[PathBuf]) -> Vec<Self> {
        let mut found: Vec<Self> = Vec::new();
        for folder in candidates(folders).await {
            if let Some(version) = version_of(&folder.join("pg_dump")).await
                && !found.iter().any(|known| known.version == version)
            {
                found.push(Self { folder, version });
            }
        }
        found.sort_by_key(|programs| std::cmp::Reverse(programs.version));
        found
    }

    /// The best of `installed` for a server of this version: the nearest that is not older.
    ///
    /// # Errors
    ///
    /// [`SourceError::Server`] with [`Fault::Missing`] if there are none at all, with [`Fault::Version`] if all are too
    /// old; it names what to install.
    pub fn choose(place: &str, installed: &[Self], server: Version) -> Result<Self, SourceError> {
        let newest = installed.first().ok_or_else(|| none_installed(place))?;
        let fit = installed.iter().filter(|programs| programs.version.major >= server.major);
        let nearest = fit.min_by_key(|found| (found.version.major, std::cmp::Reverse(found.version.minor)));
        nearest.cloned().ok_or_else(|| {
            let what = format!(
                "the server is of version {server} and the newest pg_dump here is {} in {}: install the client \
                 programs of version {} or newer (Debian: postgresql-client-{})",
                newest.version,
                newest.folder.display(),
                server.major,
                server.major
            );
            SourceError::server(place, Fault::Version, what)
        })
    }

    pub(super) fn path(&self, program: &str) -> PathBuf {
        self.folder.join(program)
    }
}

pub(super) fn none_installed(place: &str) -> SourceError {
    let what = "no pg_dump is installed here: install Postgres' client programs (Debian: postgresql-client)";
    SourceError::server(place, Fault::Missing, what)
}

/// Folders which hold both `pg_dump` and `psql`.
async fn candidates(first: &[PathBuf]) -> Vec<PathBuf> {
    let mut folders = first.to_vec();
    let path = std::env::var_os("PATH").unwrap_or_default();
    folders.extend(std::env::split_paths(&path));
    let found = blocking::run(move || {
        folders.extend(versions_below("/usr/lib/postgresql", ""));
        folders.extend(versions_below("/usr", "pgsql-"));
        folders.retain(|folder| is_program(&folder.join("pg_dump")) && is_program(&folder.join("psql")));
        folders
    });
    found.await.unwrap_or_default()
}

fn versions_below(parent: &str, prefix: &str) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(parent).into_iter().flatten().flatten();
    let named = entries.filter(|entry| entry.file_name().to_string_lossy().starts_with(prefix));
    named.map(|entry| entry.path().join("bin")).collect()
}

fn is_program(path: &Path) -> bool {
    let real = path.canonicalize().unwrap_or_default();
    real.is_file() && real.file_name() != Some(OsStr::new("pg_wrapper"))
}

async fn version_of(program: &Path) -> Option<Version> {
    let mut producer = Producer::spawn(&CommandLine::new(program, ["--version"]), |_| {}).ok()?;
    let mut said = Vec::new();
    while let Some(Ok(data)) = producer.next().await {
        said.extend_from_slice(data.get(..VERSION_LEN_MAX.min(data.len())).unwrap_or_default());
        if said.len() >= VERSION_LEN_MAX {
            break;
        }
    }
    Version::of_program(&String::from_utf8_lossy(&said))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn installed(versions: &[(u32, u32)]) -> Vec<Programs> {
        let made = versions.iter().map(|&(major, minor)| Programs {
            folder: format!("/usr/lib/postgresql/{major}/bin").into(),
            version: Version { major, minor },
        });
        made.collect()
    }

    #[test]
    fn versions_are_read_from_numbers_and_programs() {
        assert_eq!(Version::of_number(150_018), Version { major: 15, minor: 18 });
        let said = "pg_dump (PostgreSQL) 15.18 (Debian 15.18-0+deb12u1)\n";
        assert_eq!(Version::of_program(said), Some(Version { major: 15, minor: 18 }));
        assert_eq!(Version::of_program("pg_dump (PostgreSQL) 19beta1"), Some(Version { major: 19, minor: 0 }));
        assert_eq!(Version::of_program("Error: no cluster"), None);
    }

    #[test]
    fn the_nearest_version_that_is_not_older_is_chosen() {
        let all = installed(&[(18, 4), (16, 2), (15, 18)]);
        let chosen = |major| Programs::choose("p", &all, Version { major, minor: 9 }).unwrap().version.major;
        assert_eq!([chosen(13), chosen(15), chosen(16), chosen(17)], [15, 15, 16, 18]);
    }

    #[test]
    fn programs_that_are_too_old_are_refused_and_the_right_ones_named() {
        let error = Programs::choose("postgres at h", &installed(&[(15, 18)]), Version { major: 17, minor: 2 });
        let error = error.unwrap_err();
        assert!(matches!(&error, SourceError::Server { fault: Fault::Version, .. }));
        assert!(error.to_string().contains("postgresql-client-17"), "{error}");
        let none = Programs::choose("postgres at h", &[], Version { major: 17, minor: 2 }).unwrap_err();
        assert!(matches!(none, SourceError::Server { fault: Fault::Missing, .. }));
    }
}
