//! `cache`: look at and clear the local index caches.
//!
//! Invariant: clearing a cache costs speed, and this host's memory of what it saw; no data, so it needs no `--yes`.
//! Never here: what is in a cache.

use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};
use engine::EngineError;
use jiff::Timestamp;
use seal::RepositoryId;
use serde::Serialize;
use store::index_cache::{self, CacheOptions};

use crate::context::Context;
use crate::error::{CommandError, Outcome};
use crate::human;
use crate::table::{Align, Table};

const INFO_EXAMPLES: &str = "\
Examples:
  backstay cache info
  backstay cache info --cache-dir /var/cache/backstay --json";

const CLEAR_EXAMPLES: &str = "\
Examples:
  backstay cache clear -r s3://bucket/backup
  backstay cache clear 0a1b2c3d
  backstay cache clear --all";

/// Look at and clear the local index caches
#[derive(Debug, Subcommand)]
pub(crate) enum CacheCommand {
    /// List the caches on this host, one for each repository
    #[command(after_long_help = INFO_EXAMPLES)]
    Info,
    /// Remove caches: nothing is lost but the time to read the index again
    ///
    /// This host also forgets which snapshots and which key epoch it has seen: it no longer misses what vanished.
    #[command(after_long_help = CLEAR_EXAMPLES)]
    Clear(ClearArgs),
}

/// Which caches to remove; by default that of the repository in use.
#[derive(Debug, Args)]
pub(crate) struct ClearArgs {
    /// The start of the repository's id, as `backstay cache info` shows it
    #[arg(value_name = "ID", conflicts_with = "all")]
    id: Option<String>,

    /// All of them
    #[arg(long)]
    all: bool,
}

/// One repository's cache on this host.
#[derive(Debug)]
struct Found {
    repository: RepositoryId,
    len: u64,
    used_at: i64,
}

#[derive(Debug, Serialize)]
struct Document {
    folder: String,
    caches: Vec<CacheDocument>,
}

#[derive(Debug, Serialize)]
struct CacheDocument {
    repository_id: String,
    stored_len: u64,
    used_at: String,
}

impl CacheCommand {
    /// Does it.
    pub(crate) async fn run(&self, ctx: &Context) -> Result<Outcome, CommandError> {
        match self {
            Self::Info => info(ctx),
            Self::Clear(args) => clear(args, ctx).await,
        }
    }
}

fn info(ctx: &Context) -> Result<Outcome, CommandError> {
    let folder = ctx.cache_folder()?;
    let caches = found(&folder)?;
    if ctx.ui.is_json {
        let document = |cache: &Found| CacheDocument {
            repository_id: cache.repository.to_string(),
            stored_len: cache.len,
            used_at: human::rfc3339(cache.used_at),
        };
        let caches = caches.iter().map(document).collect();
        ctx.ui.json(&Document { folder: folder.display().to_string(), caches })?;
        return Ok(Outcome::Done);
    }
    ctx.ui.note(format_args!("{} in {}", human::counted(caches.len() as u64, "cache", "caches"), folder.display()));
    if !caches.is_empty() {
        let mut table = Table::new(&[("Repository", Align::Left), ("Size", Align::Right), ("Last used", Align::Left)]);
        for cache in &caches {
            table.row([cache.repository.to_string(), human::size(cache.len), human::local_time(cache.used_at)]);
        }
        ctx.ui.line(table.show(ctx.ui.stdout))?;
    }
    Ok(Outcome::Done)
}

async fn clear(args: &ClearArgs, ctx: &Context) -> Result<Outcome, CommandError> {
    let folder = ctx.cache_folder()?;
    let chosen: Vec<RepositoryId> = match &args.id {
        Some(prefix) => {
            let fits = found(&folder)?.into_iter().map(|cache| cache.repository);
            let fits: Vec<_> = fits.filter(|id| id.to_string().starts_with(prefix.as_str())).collect();
            if fits.len() == 1 { fits } else { return Err(CommandError::CacheUnknown { prefix: prefix.clone() }) }
        }
        None if args.all => found(&folder)?.into_iter().map(|cache| cache.repository).collect(),
        None => vec![ctx.unless_interrupted(in_use(ctx)).await?],
    };
    let options = CacheOptions::new(&folder);
    // What processes that crashed left behind goes even where there is no cache.
    let there = |repository: &&RepositoryId| folder.join(repository.to_string()).exists();
    let cleared: Vec<_> = chosen.iter().filter(there).map(ToString::to_string).collect();
    for repository in &chosen {
        index_cache::clear(&options, *repository).map_err(EngineError::from)?;
    }
    if ctx.ui.is_json {
        ctx.ui.json(&cleared)?;
    } else if cleared.is_empty() {
        ctx.ui.note("there was no cache to clear");
    } else {
        ctx.ui.note(format_args!("{} cleared", human::counted(cleared.len() as u64, "cache", "caches")));
    }
    Ok(Outcome::Done)
}

/// The id of the repository that the options name. Needs no key.
async fn in_use(ctx: &Context) -> Result<RepositoryId, CommandError> {
    let store = ctx.open_store().await?;
    let bytes = match store.get(pack::names::CONFIG).await {
        Err(error) if error.is_not_found() => {
            return Err(EngineError::NoRepository { place: store.describe() }.into());
        }
        read => read?,
    };
    let object = pack::names::CONFIG.to_owned();
    let config = pack::Config::decode(&bytes).map_err(|source| EngineError::Object { object, source })?;
    Ok(config.repository)
}

/// The folders whose names are ids, by name.
fn found(folder: &Path) -> Result<Vec<Found>, CommandError> {
    let entries = match std::fs::read_dir(folder) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        read => read.map_err(|source| CommandError::Folder { path: folder.to_owned(), action: "listed", source })?,
    };
    let mut caches: Vec<_> = entries.flatten().filter_map(|entry| cache_at(entry.path())).collect();
    caches.sort_by_key(|cache| cache.repository.to_string());
    Ok(caches)
}

/// What is at `path`, if it is a cache. Files that vanish meanwhile count nothing.
fn cache_at(path: PathBuf) -> Option<Found> {
    let mut id = [0; 16];
    hex::decode_to_slice(path.file_name()?.to_str()?, &mut id).ok()?;
    let files = std::fs::read_dir(&path).ok()?.flatten().filter_map(|entry| entry.metadata().ok());
    let (mut len, mut used_at) = (0, Timestamp::UNIX_EPOCH);
    for file in files {
        len += file.len();
        used_at = used_at.max(file.modified().ok().and_then(|at| Timestamp::try_from(at).ok()).unwrap_or_default());
    }
    Some(Found { repository: RepositoryId(id), len, used_at: i64::try_from(used_at.as_nanosecond()).unwrap_or(0) })
}
