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

use crate::context::{Context, looking_folder};
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
    /// List the caches on this host: one for each repository, and one for its mounts and servers
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
    purpose: Purpose,
    len: u64,
    used_at: i64,
}

/// Who uses a cache.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
enum Purpose {
    /// Every command that ends by itself.
    Commands,
    /// Mounts and servers.
    Looking,
}

impl Purpose {
    const ALL: [Self; 2] = [Self::Commands, Self::Looking];

    /// Where its caches lie.
    fn folder(self, caches: &Path) -> PathBuf {
        match self {
            Self::Commands => caches.to_owned(),
            Self::Looking => looking_folder(caches),
        }
    }
}

#[derive(Debug, Serialize)]
struct Document {
    folder: String,
    caches: Vec<CacheDocument>,
}

#[derive(Debug, Serialize)]
struct CacheDocument {
    repository_id: String,
    purpose: Purpose,
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
            purpose: cache.purpose,
            stored_len: cache.len,
            used_at: human::rfc3339(cache.used_at),
        };
        let caches = caches.iter().map(document).collect();
        ctx.ui.json(&Document { folder: folder.display().to_string(), caches })?;
        return Ok(Outcome::Done);
    }
    ctx.ui.note(format_args!("{} in {}", human::counted(caches.len() as u64, "cache", "caches"), folder.display()));
    if !caches.is_empty() {
        let columns =
            [("Repository", Align::Left), ("For", Align::Left), ("Size", Align::Right), ("Last used", Align::Left)];
        let mut table = Table::new(&columns);
        for cache in &caches {
            let purpose = match cache.purpose {
                Purpose::Commands => "commands",
                Purpose::Looking => "mounts",
            };
            let (len, used_at) = (human::size(cache.len), human::local_time(cache.used_at));
            table.row([cache.repository.to_string(), purpose.to_owned(), len, used_at]);
        }
        ctx.ui.line(table.show(ctx.ui.stdout))?;
    }
    Ok(Outcome::Done)
}

async fn clear(args: &ClearArgs, ctx: &Context) -> Result<Outcome, CommandError> {
    let folder = ctx.cache_folder()?;
    let mut chosen: Vec<RepositoryId> = match &args.id {
        Some(prefix) => {
            let fits = found(&folder)?.into_iter().map(|cache| cache.repository);
            let mut fits: Vec<_> = fits.filter(|id| id.to_string().starts_with(prefix.as_str())).collect();
            fits.dedup();
            if fits.len() == 1 { fits } else { return Err(CommandError::CacheUnknown { prefix: prefix.clone() }) }
        }
        None if args.all => found(&folder)?.into_iter().map(|cache| cache.repository).collect(),
        None => vec![ctx.unless_interrupted(in_use(ctx)).await?],
    };
    chosen.dedup();
    let folders = Purpose::ALL.map(|purpose| purpose.folder(&folder));
    // What processes that crashed left behind goes even where there is no cache.
    let there = |repository: &&RepositoryId| folders.iter().any(|folder| folder.join(repository.to_string()).exists());
    let cleared: Vec<_> = chosen.iter().filter(there).map(ToString::to_string).collect();
    let mut failed = Ok(());
    for repository in &chosen {
        for folder in &folders {
            let done = index_cache::clear(&CacheOptions::new(folder), *repository);
            // The others go nevertheless.
            failed = failed.and(done.map_err(EngineError::from));
        }
    }
    failed?;
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
fn found(caches: &Path) -> Result<Vec<Found>, CommandError> {
    let mut all = Vec::new();
    for purpose in Purpose::ALL {
        let folder = purpose.folder(caches);
        let entries = match std::fs::read_dir(&folder) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => continue,
            read => read.map_err(|source| CommandError::Folder { path: folder, action: "listed", source })?,
        };
        all.extend(entries.flatten().filter_map(|entry| cache_at(entry.path(), purpose)));
    }
    all.sort_by_key(|cache| cache.repository.to_string());
    Ok(all)
}

/// What is at `path`, if it is a cache. Files that vanish meanwhile count nothing.
fn cache_at(path: PathBuf, purpose: Purpose) -> Option<Found> {
    let mut id = [0; 16];
    hex::decode_to_slice(path.file_name()?.to_str()?, &mut id).ok()?;
    let files = std::fs::read_dir(&path).ok()?.flatten().filter_map(|entry| entry.metadata().ok());
    let (mut len, mut used_at) = (0, Timestamp::UNIX_EPOCH);
    for file in files {
        len += file.len();
        used_at = used_at.max(file.modified().ok().and_then(|at| Timestamp::try_from(at).ok()).unwrap_or_default());
    }
    Some(Found {
        repository: RepositoryId(id),
        purpose,
        len,
        used_at: i64::try_from(used_at.as_nanosecond()).unwrap_or(0),
    })
}
