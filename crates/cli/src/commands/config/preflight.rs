//! Repositories and sources, looked at: each opens, or answers, or says why not and what to do.
//!
//! ```text
//! repositories, one after the other ─┐
//! sources, some at once, each in time ┴─► Looked: name, kind, findings ─► table, JSON
//! ```
//!
//! Invariant: whatever does not answer costs its own time limit and no more.
//! Never here: what is looked at in a source (see `source`).

use std::path::Path;
use std::time::{Duration, Instant};

use futures::StreamExt as _;
use serde::Serialize;
use source::{Preflight, Verdict, with_causes};
use store::Location;

use crate::config::{Config, RepositoryConfig, SourceConfig};
use crate::context::Context;
use crate::error::CommandError;
use crate::hints::hint;
use crate::human;
use crate::jobs;
use crate::paint::Paint;
use crate::table::{Align, Table};

/// How many sources are asked at once.
const AT_ONCE: usize = 4;
/// What a file system should have free at least, in bytes and in percent.
const FREE_LEN_MIN: u64 = 1 << 30;
const FREE_PERCENT_MIN: u64 = 5;

/// One repository or source, and what was found of it.
pub(super) struct Looked {
    pub(super) name: String,
    pub(super) kind: &'static str,
    pub(super) is_repository: bool,
    pub(super) told: Preflight,
    pub(super) seconds: f64,
}

#[derive(Debug, Serialize)]
pub(super) struct LookedDocument {
    name: String,
    subject: &'static str,
    kind: &'static str,
    state: &'static str,
    seconds: f64,
    findings: Vec<FindingDocument>,
}

#[derive(Debug, Serialize)]
struct FindingDocument {
    state: &'static str,
    what: String,
    advice: Option<String>,
}

/// Looks at everything; `is_offline` leaves out what has to be asked over a network.
pub(super) async fn look(config: &Config, is_offline: bool, limit: Duration, ctx: &Context) -> Vec<Looked> {
    let mut looked = Vec::new();
    if !is_offline {
        for (name, repository) in &config.repositories {
            let began = Instant::now();
            let told = repository_of(name, repository, limit, ctx).await;
            let (kind, seconds) = (kind_of(&repository.url), began.elapsed().as_secs_f64());
            looked.push(Looked { name: name.clone(), kind, is_repository: true, told, seconds });
        }
    }
    let wanted = config.sources.iter().filter(|(_, source)| !is_offline || is_here(source));
    let sources = wanted.map(|(name, source)| async move {
        let began = Instant::now();
        let told = within(limit, source_of(name, source, ctx)).await.unwrap_or_else(|silent| silent);
        let seconds = began.elapsed().as_secs_f64();
        Looked { name: name.clone(), kind: source.kind(), is_repository: false, told, seconds }
    });
    looked.extend(futures::stream::iter(sources).buffered(AT_ONCE).collect::<Vec<_>>().await);
    looked
}

/// Whether a source is of this machine, so that nobody has to be asked.
const fn is_here(source: &SourceConfig) -> bool {
    use SourceConfig::{Command, Files, RedisAof, Sqlite};
    matches!(source, Files(_) | Sqlite(_) | Command(_) | RedisAof(_))
}

/// What the work gives, or the finding that it took too long.
async fn within<T>(limit: Duration, work: impl Future<Output = T>) -> Result<T, Preflight> {
    tokio::time::timeout(limit, work).await.map_err(|_| {
        let mut told = Preflight::default();
        let what = format!("no answer within {limit:?}");
        told.problem(what, "see that it runs and that no firewall stands between, or give it longer by --timeout");
        told
    })
}

async fn repository_of(name: &str, repository: &RepositoryConfig, limit: Duration, ctx: &Context) -> Preflight {
    let mut told = match opens(name, limit, ctx).await {
        Ok(Ok(())) => {
            let mut told = Preflight::default();
            told.fine(format!("{}: opens", repository.url));
            told
        }
        Ok(Err(error)) => {
            let mut told = Preflight::default();
            failed(&error, &mut told);
            told
        }
        Err(silent) => silent,
    };
    if let Ok(Location::Directory(folder)) = repository.url.parse() {
        room(&folder, &mut told);
    }
    told
}

/// Opens a repository. The store has to answer in time, twice; whoever types the password has all the time in the world.
async fn opens(name: &str, limit: Duration, ctx: &Context) -> Result<Result<(), CommandError>, Preflight> {
    ctx.mean(name);
    let store = match within(limit, ctx.open_store()).await? {
        Ok(store) => store,
        Err(error) => return Ok(Err(error)),
    };
    let given = async { Ok((ctx.credential(&["password: "]).await?, ctx.open_options()?)) };
    let (credential, options) = match ctx.unless_interrupted(given).await {
        Ok(given) => given,
        Err(error) => return Ok(Err(error)),
    };
    let opened = within(limit, engine::Repository::open(store, ctx.env.clone(), credential, options)).await?;
    Ok(opened.map(drop).map_err(CommandError::from))
}

/// Room in the file system of a repository in a folder.
fn room(folder: &Path, told: &mut Preflight) {
    let existing = folder.ancestors().find(|path| path.exists()).unwrap_or(folder);
    let Ok(stat) = rustix::fs::statvfs(existing) else { return };
    let (free, all) = (stat.f_bavail.saturating_mul(stat.f_frsize), stat.f_blocks.saturating_mul(stat.f_frsize));
    let words = format!("{}: {} of {} free", folder.display(), human::size(free), human::size(all));
    if free < FREE_LEN_MIN.min(all) || free < all / 100 * FREE_PERCENT_MIN {
        told.warn(words, "make room there: a backup that finds none commits nothing");
    } else {
        told.fine(words);
    }
}

async fn source_of(name: &str, source: &SourceConfig, ctx: &Context) -> Preflight {
    match jobs::request(name, source, ctx).await {
        Ok(request) => request.preflight().await,
        Err(error) => {
            let mut told = Preflight::default();
            failed(&error, &mut told);
            told
        }
    }
}

fn failed(error: &CommandError, told: &mut Preflight) {
    told.problem(with_causes(error), hint(error).unwrap_or_else(|| "correct what is named".to_owned()));
}

fn kind_of(url: &str) -> &'static str {
    match url.split_once("://") {
        Some(("s3", _)) => "s3",
        Some(("gs", _)) => "gs",
        Some(("az", _)) => "az",
        _ => "folder",
    }
}

impl Looked {
    /// `source "db"`.
    pub(super) fn title(&self) -> String {
        format!("{} \"{}\"", self.subject(), self.name)
    }

    const fn subject(&self) -> &'static str {
        if self.is_repository { "repository" } else { "source" }
    }

    pub(super) fn document(&self) -> LookedDocument {
        let findings = self.told.findings.iter().map(|finding| FindingDocument {
            state: word(finding.verdict),
            what: finding.what.clone(),
            advice: finding.advice.clone(),
        });
        LookedDocument {
            name: self.name.clone(),
            subject: self.subject(),
            kind: self.kind,
            state: word(self.told.verdict()),
            seconds: self.seconds,
            findings: findings.collect(),
        }
    }
}

/// How a verdict is called.
pub(super) const fn word(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::Fine => "ok",
        Verdict::Warning => "warning",
        Verdict::Problem => "problem",
    }
}

/// One line for each finding, and one for its next step.
pub(super) fn table(looked: &[Looked], paint: Paint) -> String {
    let columns = [("Name", Align::Left), ("Kind", Align::Left), ("State", Align::Left), ("Finding", Align::Left)];
    let mut table = Table::new(&columns);
    for one in looked {
        let (mut name, mut kind) = (one.name.clone(), one.kind.to_owned());
        for finding in &one.told.findings {
            let (name, kind) = (std::mem::take(&mut name), std::mem::take(&mut kind));
            table.row([name, kind, word(finding.verdict).to_owned(), finding.what.clone()]);
            if let Some(advice) = &finding.advice {
                table.row([String::new(), String::new(), String::new(), format!("  next: {advice}")]);
            }
        }
    }
    table.show(paint)
}
