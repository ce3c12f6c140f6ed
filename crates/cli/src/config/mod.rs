//! `backstay.toml`: repositories, sources and jobs, as a team writes them down once.
//!
//! ```text
//! text ─► document (tables with places) ─► ${VARIABLES} ─► model, table by table ─► rules across tables ─► Config
//!                                          every mistake, with line, column and suggestion ─► Mistakes
//! ```
//!
//! Invariant: one reading finds every mistake, not only the first.
//! Invariant: a file that nobody named is read only if nobody but root and ourselves may write it: it names commands.
//! Invariant: a secret that stands in the file is wiped from memory when the configuration is dropped.
//! Never here: talking to a server (see `commands::config`).

mod document;
mod mistakes;
mod model;
mod places;
mod retention;
mod rules;
mod schedule;
mod spelling;
mod variables;

use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

pub(crate) use mistakes::Mistakes;
pub(crate) use model::*;
pub(crate) use schedule::on_calendar;

use crate::error::CommandError;

/// The file's name where no option gives one.
const NAME: &str = "backstay.toml";
/// The longest file, in bytes.
const LEN_MAX: u64 = 4 << 20;

/// A configuration, and where it was found.
#[derive(Debug)]
pub(crate) struct Found {
    pub(crate) path: PathBuf,
    pub(crate) config: Config,
}

/// Reads the file that is named, or the first there is at the usual places; none if there is none.
pub(crate) fn find(named: Option<&Path>) -> Result<Option<Found>, CommandError> {
    let Some(path) = place(named) else { return Ok(None) };
    let unreadable = |source| CommandError::ConfigFile { path: path.clone(), source };
    let metadata = std::fs::metadata(&path).map_err(unreadable)?;
    if named.is_none() && !is_trusted(metadata.uid(), metadata.mode(), rustix::process::geteuid().as_raw()) {
        return Err(CommandError::ConfigOfOthers { path });
    }
    let len = metadata.len();
    if len > LEN_MAX {
        return Err(unreadable(std::io::Error::other(format!("it has more than {LEN_MAX} bytes"))));
    }
    let text = std::fs::read_to_string(&path).map_err(unreadable)?;
    match read(&text, |name| std::env::var(name).ok()) {
        Ok(config) => Ok(Some(Found { path, config })),
        Err(mistakes) => Err(CommandError::Config { path, mistakes }),
    }
}

/// Whether a file of this owner and mode says only what root or we ourselves want.
fn is_trusted(owner: u32, mode: u32, user: u32) -> bool {
    (owner == user || owner == 0) && mode & 0o022 == 0
}

fn place(named: Option<&Path>) -> Option<PathBuf> {
    if let Some(path) = named {
        return Some(path.to_owned());
    }
    let home = std::env::var_os("XDG_CONFIG_HOME").map(PathBuf::from).filter(|folder| folder.is_absolute());
    let home = home.or_else(|| Some(std::env::home_dir()?.join(".config")));
    let usual = [Some(PathBuf::from(NAME)), home.map(|home| home.join("backstay").join(NAME))];
    let usual = usual.into_iter().flatten().chain([Path::new("/etc/backstay").join(NAME)]);
    usual.into_iter().find(|path| path.exists())
}

/// Reads a configuration; `variable` looks an environment variable up.
pub(crate) fn read(text: &str, variable: impl Fn(&str) -> Option<String>) -> Result<Config, Mistakes> {
    let mut mistakes = Mistakes::of(text);
    let read = document::read(text, &variable, &mut mistakes);
    if let Some((config, places)) = &read {
        rules::check(config, places, &mut mistakes);
    }
    match read {
        Some((config, _)) if mistakes.is_empty() => Ok(config),
        _ => Err(mistakes),
    }
}

#[cfg(test)]
mod schema_tests;
#[cfg(test)]
mod tests;
