//! Components that are one file: RDBs, snapshots of etcd, SQLite files, streams.
//!
//! Invariant: a file gets its name only when it is whole, and what has the name already stays unless it is to be replaced.
//! Never here: what the bytes mean; their sinks know.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

use engine::CatRequest;
use futures::TryStreamExt as _;
use rustix::process::geteuid;
use source::etcd::{RestorePlan, RestoreTool, SnapshotRestore};
use source::file_sink::{FileSink, WholeFile, refuse_if_there};
use source::redis::RdbRestore;
use source::sqlite::SqliteRestore;
use source::{SourceError, blocking};

use super::Restoring;
use super::plan::{FilePlan, Plan, typed};
use crate::error::{CommandError, Outcome};
use crate::human;

/// How far revisions jump ahead for Kubernetes, as etcd's documentation has it: more than anybody writes in a week.
const BUMP: u64 = 1_000_000_000;

/// Writes the only file to stdout.
pub(super) async fn to_stdout(restoring: &Restoring<'_>) -> Result<Outcome, CommandError> {
    let file = only_file(restoring).await?;
    if restoring.args.is_dry_run() {
        return restoring.plan(Some("stdout")).with_files(&[file]).tell(restoring.ctx);
    }
    let mut content = restoring.repository.cat(restoring.snapshot, CatRequest::whole(file.path)).await?;
    while let Some(bytes) = content.try_next().await? {
        restoring.ctx.ui.bytes(vec![bytes]).await?;
    }
    Ok(Outcome::Done)
}

/// A folder that a server of Redis or Valkey starts on.
pub(super) async fn to_redis(restoring: &Restoring<'_>, folder: &Path) -> Result<Outcome, CommandError> {
    let file = only_file(restoring).await?;
    let mut plan = planned(restoring, folder, &file);
    let version = restoring.fact("server_version").unwrap_or("redis");
    let server = if version.starts_with("valkey") { "valkey" } else { "redis" };
    let shown = typed(folder);
    plan.note("the same bytes lie there as dump.rdb and as the base of an append-only file: either setting loads them");
    plan.note(format!("it is of {version}: start it with that version or a newer one"));
    plan.step("give it to who runs the server", format!("chown -R {server}: {shown}"));
    plan.step("look at it", format!("{server}-check-rdb {}", typed(&folder.join("dump.rdb"))));
    plan.step(
        "start a server on it, with appendonly as its configuration has it",
        format!("{server}-server --dir {shown}"),
    );
    let place = folder.to_owned();
    may(move || RdbRestore::refuse_if_occupied(&place)).await?;
    let place = folder.to_owned();
    pour(restoring, file, move |_| RdbRestore::create(&place)).await?;
    plan.tell(restoring.ctx)
}

/// A folder with the snapshot of a member, and the commands that make members of it.
pub(super) async fn to_etcd(restoring: &Restoring<'_>, folder: &Path) -> Result<Outcome, CommandError> {
    let file = only_file(restoring).await?;
    let mut plan = planned(restoring, folder, &file);
    let place = folder.join("snapshot.db");
    let (sink_place, replaces) = (place.clone(), restoring.wanted.replace);
    add_members(restoring, &mut plan, &place, &folder.join("data")).await?;
    let checked = place.clone();
    may(move || refuse_if_there(&checked, replaces)).await?;
    pour(restoring, file, move |_| SnapshotRestore::create(&sink_place, replaces)).await?;
    plan.tell(restoring.ctx)
}

async fn add_members(
    restoring: &Restoring<'_>,
    plan: &mut Plan,
    place: &Path,
    data: &Path,
) -> Result<(), CommandError> {
    let version = restoring.fact("server_version").unwrap_or_default();
    let tool = match RestoreTool::find(&[]).await {
        Ok(tool) => tool,
        Err(error) => {
            plan.note(format!("{error}; what follows is for the host that has it"));
            RestoreTool::usual(version)
        }
    };
    let token = format!("restored-{}", human::short(&restoring.snapshot.id));
    let mut member = RestorePlan::single(place, data, &token);
    plan.step("make a cluster of one member", tool.typed(&member)?);
    member.bump_revision = Some(BUMP);
    let (what, newer) = (
        "or, below Kubernetes, whose caches must not see revisions go back: let them jump ahead, and have all watches begin anew",
        RestoreTool::usual("3.6.0"),
    );
    plan.step(what, if tool.has_bump() { &tool } else { &newer }.typed(&member)?);
    if !tool.has_bump() {
        plan.note("--bump-revision takes etcdutl 3.5.10 or newer, which restores snapshots of older servers too");
    }
    plan.note(
        "for several members run it on each, with its own --name and --initial-advertise-peer-urls, and with the same \
         --initial-cluster and --initial-cluster-token",
    );
    Ok(())
}

/// A file under the name that is asked for.
pub(super) async fn to_file(restoring: &Restoring<'_>, place: &Path) -> Result<Outcome, CommandError> {
    let file = only_file(restoring).await?;
    let mut plan = planned(restoring, place, &file);
    add_owner(&mut plan, place, &file);
    let (is_sqlite, replaces) = (restoring.kind() == "sqlite", restoring.wanted.replace);
    let checked = place.to_owned();
    may(move || match is_sqlite {
        true => SqliteRestore::refuse_if_occupied(&checked, replaces),
        false => refuse_if_there(&checked, replaces),
    })
    .await?;
    let place = place.to_owned();
    match is_sqlite {
        true => pour(restoring, file, move |file| SqliteRestore::create(&place, file.mode, replaces)).await?,
        false => pour(restoring, file, move |file| WholeFile::create(&place, file.mode, replaces)).await?,
    }
    if is_sqlite && !plan.is_dry_run {
        plan.note("it passes its integrity check");
    }
    plan.tell(restoring.ctx)
}

/// The file belongs to who restores, and whoever had it must be able to open it.
fn add_owner(plan: &mut Plan, place: &Path, file: &FilePlan) {
    if geteuid().is_root() && file.uid != 0 {
        let owner = format!("{}:{}", file.uid, file.gid);
        plan.step("give it to whom it belonged", format!("chown {owner} {}", typed(place)));
    }
}

/// A file under its own name in a folder.
pub(super) async fn into_folder(restoring: &Restoring<'_>, folder: &Path) -> Result<Outcome, CommandError> {
    let file = only_file(restoring).await?;
    let name = file.path.rsplit(|byte| *byte == b'/').next().unwrap_or_default();
    to_file(restoring, &folder.join(OsStr::from_bytes(name))).await
}

/// The only file of the component, or the one that is named.
async fn only_file(restoring: &Restoring<'_>) -> Result<FilePlan, CommandError> {
    let files = restoring.files().await?;
    match files.as_slice() {
        [one] => Ok(one.clone()),
        files => Err(CommandError::SeveralFiles { count: files.len() }),
    }
}

fn planned(restoring: &Restoring<'_>, place: &Path, file: &FilePlan) -> Plan {
    restoring.plan(Some(&place.display().to_string())).with_files(std::slice::from_ref(file))
}

/// Asks whether something may be written to its place, before anything is.
async fn may(check: impl FnOnce() -> Result<(), SourceError> + Send + 'static) -> Result<(), CommandError> {
    Ok(blocking::run(check).await.map_err(SourceError::from)??)
}

/// Writes the file through a sink; does nothing in a dry run.
async fn pour<S: FileSink>(
    restoring: &Restoring<'_>,
    file: FilePlan,
    open: impl FnOnce(&FilePlan) -> Result<S, SourceError> + Send + 'static,
) -> Result<(), CommandError> {
    if restoring.args.is_dry_run() {
        return Ok(());
    }
    let path = file.path.clone();
    let (progress, _watch) = restoring.watched(file.content_len);
    let mut sink = blocking::run(move || open(&file)).await.map_err(SourceError::from)??;
    let mut content = restoring.repository.cat(restoring.snapshot, CatRequest::whole(path)).await?;
    while let Some(bytes) = content.try_next().await? {
        progress.add_len(bytes.len() as u64);
        let written = blocking::run(move || sink.write(&bytes).map(|()| sink));
        sink = written.await.map_err(SourceError::from)??;
    }
    blocking::run(move || sink.finish()).await.map_err(SourceError::from)??;
    Ok(())
}
