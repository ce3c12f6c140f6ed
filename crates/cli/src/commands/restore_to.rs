//! `restore SNAPSHOT COMPONENT --to PLACE`: bring one component back into a server, or lay it out as one needs it.
//!
//! ```text
//! postgres            postgres://…/NAME   pg_restore into that database; without NAME, each database under its own
//! redis               a folder            dump.rdb, and the same as the base of an append-only file
//! anything            -                   the only file of the component, on stdout
//! ```
//!
//! Invariant: what the target lacks is told before anything is written to it.
//! Never here: restoring files (see `restore`).

use std::path::PathBuf;

use bytes::Bytes;
use engine::{CatRequest, Repository, SnapshotInfo};
use futures::stream::BoxStream;
use futures::{StreamExt as _, TryStreamExt as _};
use source::blocking;
use source::dump::{self, Programs, RestoreOptions};
use source::redis::RdbRestore;

use crate::context::Context;
use crate::error::{CommandError, Outcome};
use crate::jobs;

/// Bytes that are read ahead of a dump to find its table of contents, at most.
const HEAD_LEN_MAX: usize = 64 << 20;

type Content = BoxStream<'static, Result<Bytes, engine::EngineError>>;

/// The snapshot with nothing but this component.
pub(crate) fn only(snapshot: &SnapshotInfo, component: &str) -> Result<SnapshotInfo, CommandError> {
    let mut one = snapshot.clone();
    let components = &mut one.snapshot.structure.components;
    let known = components.iter().map(|other| other.name.clone()).collect::<Vec<_>>().join(", ");
    let Some(at) = components.iter().position(|other| other.name == component) else {
        return Err(CommandError::ComponentUnknown { name: component.to_owned(), known });
    };
    *components = vec![components.swap_remove(at)];
    if let Some(body) = one.snapshot.body.as_mut().filter(|body| at < body.components.len()) {
        body.components = vec![body.components.swap_remove(at)];
    }
    Ok(one)
}

/// Restores the only component of `snapshot` to `place`.
pub(crate) async fn run(
    repository: &Repository,
    snapshot: &SnapshotInfo,
    place: &str,
    ctx: &Context,
) -> Result<Outcome, CommandError> {
    let kind =
        snapshot.snapshot.structure.components.first().map(|component| component.kind.clone()).unwrap_or_default();
    let is_postgres = place.starts_with("postgres://") || place.starts_with("postgresql://");
    match kind.as_str() {
        _ if place == "-" => to_stdout(repository, snapshot, ctx).await,
        "postgres" if is_postgres => to_postgres(repository, snapshot, place, ctx).await,
        "redis" if !place.contains("://") => to_redis_folder(repository, snapshot, PathBuf::from(place), ctx).await,
        _ => Err(CommandError::PlaceUnfit { kind, place: place.to_owned() }),
    }
}

async fn to_stdout(repository: &Repository, snapshot: &SnapshotInfo, ctx: &Context) -> Result<Outcome, CommandError> {
    let mut content = repository.cat(snapshot, CatRequest { path: Vec::new() }).await?;
    while let Some(bytes) = content.try_next().await? {
        ctx.ui.bytes(vec![bytes]).await?;
    }
    Ok(Outcome::Done)
}

/// Restores one dump into the database that the URL names, or every dump under its own name.
async fn to_postgres(
    repository: &Repository,
    snapshot: &SnapshotInfo,
    url: &str,
    ctx: &Context,
) -> Result<Outcome, CommandError> {
    let target = jobs::postgres_target(url)?;
    let names = names_in(repository, snapshot).await?;
    let dumps: Vec<_> = names.iter().filter(|name| name.ends_with(b".dump")).cloned().collect();
    let globals = names.iter().find(|name| name.as_slice() == b"globals.sql").cloned();
    if target.database.is_some() && dumps.len() != 1 {
        return Err(CommandError::SeveralDumps { count: dumps.len() });
    }
    let installed = Programs::installed(&[]).await;
    let about = dump::About::ask(&target.server, &installed).await?;
    let programs = Programs::choose(&target.server.place(), &installed, about.version)?;
    if let Some(globals) = globals.filter(|_| target.database.is_none()) {
        restore_globals(repository, snapshot, globals, &target.server, &programs, ctx).await?;
    }
    for name in &dumps {
        let options = match &target.database {
            Some(database) => RestoreOptions { database: database.clone(), ..RestoreOptions::default() },
            None => RestoreOptions { database: "postgres".to_owned(), creates: true, ..RestoreOptions::default() },
        };
        restore_dump(repository, snapshot, name, &target.server, &programs, &options).await?;
        ctx.ui.note(format_args!("restored {} into {}", String::from_utf8_lossy(name), target.server.place()));
    }
    Ok(Outcome::Done)
}

async fn names_in(repository: &Repository, snapshot: &SnapshotInfo) -> Result<Vec<Vec<u8>>, CommandError> {
    let entries = repository.entries(snapshot, b"").await?;
    Ok(entries.map_ok(|listed| listed.entry.path).try_collect().await?)
}

async fn restore_globals(
    repository: &Repository,
    snapshot: &SnapshotInfo,
    path: Vec<u8>,
    server: &dump::Server,
    programs: &Programs,
    ctx: &Context,
) -> Result<(), CommandError> {
    let content = repository.cat(snapshot, CatRequest { path }).await?;
    let mut content = content.peekable();
    let head = match std::pin::Pin::new(&mut content).peek().await {
        Some(Ok(first)) => first.clone(),
        _ => Bytes::new(),
    };
    let key = hex::encode(ctx.env.random_id());
    let mut restore = dump::restore_globals(server, programs, &head, &key).await?;
    while let Some(bytes) = content.try_next().await? {
        if !restore.write(&bytes).await? {
            break;
        }
    }
    Ok(restore.finish().await?)
}

async fn restore_dump(
    repository: &Repository,
    snapshot: &SnapshotInfo,
    path: &[u8],
    server: &dump::Server,
    programs: &Programs,
    options: &RestoreOptions,
) -> Result<(), CommandError> {
    let mut content = repository.cat(snapshot, CatRequest { path: path.to_vec() }).await?;
    let head = refuse_if_lacking(&mut content, server, programs).await?;
    let mut restore = dump::restore_archive(server, programs, options)?;
    let mut rest = futures::stream::iter(head.into_iter().map(Ok)).chain(content);
    while let Some(bytes) = rest.try_next().await? {
        if !restore.write(&bytes).await? {
            break; // it says why when it is asked to finish
        }
    }
    Ok(restore.finish().await?)
}

/// Reads a dump's table of contents, and refuses a target that lacks what it needs; gives what was read.
async fn refuse_if_lacking(
    content: &mut Content,
    server: &dump::Server,
    programs: &Programs,
) -> Result<Vec<Bytes>, CommandError> {
    let (mut archive, mut head, mut len) = (dump::Archive::default(), Vec::new(), 0);
    while archive.contents().is_none() && len < HEAD_LEN_MAX {
        let Some(bytes) = content.try_next().await? else { break };
        len += bytes.len();
        let whole = archive.push(&bytes);
        head.push(bytes);
        if whole.is_err() {
            break; // pg_restore says what is wrong with it
        }
    }
    if let Some(contents) = archive.contents() {
        let missing = dump::missing(server, programs, contents).await?;
        if !missing.is_empty() {
            let named = |what: &str, names: &std::collections::BTreeSet<String>| {
                let names = names.iter().cloned().collect::<Vec<_>>().join(", ");
                (!names.is_empty()).then(|| format!("{what} {names}"))
            };
            let lacks = [named("the roles", &missing.roles), named("the extensions", &missing.extensions)];
            let what = lacks.into_iter().flatten().collect::<Vec<_>>().join(" and ");
            return Err(CommandError::TargetLacks { place: server.place(), what });
        }
    }
    Ok(head)
}

async fn to_redis_folder(
    repository: &Repository,
    snapshot: &SnapshotInfo,
    folder: PathBuf,
    ctx: &Context,
) -> Result<Outcome, CommandError> {
    let mut content = repository.cat(snapshot, CatRequest { path: b"dump.rdb".to_vec() }).await?;
    let own = folder.clone();
    let begun = blocking::run(move || {
        let made = std::fs::create_dir_all(&own);
        made.map_err(|source| source::SourceError::Target { target: own.clone(), source })?;
        RdbRestore::create(&own)
    });
    let mut restore = begun.await.map_err(source::SourceError::from)??;
    while let Some(bytes) = content.try_next().await? {
        let written = blocking::run(move || restore.write(&bytes).map(|()| restore));
        restore = written.await.map_err(source::SourceError::from)??;
    }
    blocking::run(move || restore.finish()).await.map_err(source::SourceError::from)??;
    ctx.ui.note(format_args!("laid out in {}: dump.rdb, and appendonlydir for appendonly yes", folder.display()));
    ctx.ui.hint(format_args!("start it with: redis-server --dir {}", folder.display()));
    Ok(Outcome::Done)
}
