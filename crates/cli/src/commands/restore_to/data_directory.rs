//! A base backup of Postgres back as a data directory that starts.
//!
//! ```text
//! tablespaces linked → all but pg_control → tablespaces' own files → pg_control → looked over → how to start it
//! ```
//!
//! Invariant: whatever ends the restore early, Postgres refuses to start on what is there.
//! Never here: starting it.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt as _;
use std::path::{Path, PathBuf};

use engine::{Problem, RestoreRequest};
use source::postgres::restore as directory;

use super::Restoring;
use super::plan::{FilePlan, Plan, TablespacePlan};
use crate::commands::restore;
use crate::error::{CommandError, Outcome};
use crate::problems::tell_problems;

const CONTROL: &str = "global/pg_control";

/// Restores it into `data`.
pub(super) async fn run(restoring: &Restoring<'_>, data: &Path) -> Result<Outcome, CommandError> {
    let files = restoring.ctx.unless_interrupted(restoring.files()).await?;
    let tablespaces = tablespaces(restoring, data)?;
    let mut plan = restoring.plan(Some(&data.display().to_string())).with_files(&files);
    plan.tablespaces = tablespaces.clone();
    add_steps(restoring, &mut plan, data);
    directory::refuse_if_occupied(data, top_names(&files)).await?;
    let places: Vec<PathBuf> = tablespaces.iter().map(|tablespace| PathBuf::from(&tablespace.to)).collect();
    directory::refuse_if_nested(data, &places).await?;
    for tablespace in &tablespaces {
        directory::refuse_if_tablespace_occupied(data, &tablespace.oid, Path::new(&tablespace.to)).await?;
    }
    if restoring.args.is_dry_run() {
        return plan.tell(restoring.ctx);
    }
    restore(restoring, &tablespaces, data).await?;
    directory::close(data).await?;
    let lacks = directory::lacks(data).await?;
    let problems: Vec<Problem> = lacks.iter().map(|lack| problem_of(data, lack)).collect();
    tell_problems(&problems, problems.len() as u64, &restoring.ctx.ui);
    plan.with_problems(&problems, problems.len() as u64).tell(restoring.ctx)
}

/// Writes everything, `global/pg_control` last: without it nobody starts by mistake what is not whole.
async fn restore(restoring: &Restoring<'_>, tablespaces: &[TablespacePlan], data: &Path) -> Result<(), CommandError> {
    for tablespace in tablespaces {
        directory::link_tablespace(data, &tablespace.oid, Path::new(&tablespace.to)).await?;
    }
    let all_but = |exclude: &[&str]| RestoreRequest {
        target: data.to_owned(),
        path: Vec::new(),
        exclude: exclude.iter().map(|pattern| (*pattern).to_owned()).collect(),
        ..restoring.args.request(false)
    };
    let mut parts = vec![all_but(&["/global/pg_control", "/pg_tblspc/*"])];
    parts.extend(tablespaces.iter().map(|tablespace| RestoreRequest {
        path: format!("pg_tblspc/{}", tablespace.oid).into_bytes(),
        target: PathBuf::from(&tablespace.to),
        ..all_but(&[])
    }));
    parts.push(RestoreRequest { path: CONTROL.into(), target: data.join("global"), ..all_but(&[]) });
    for request in parts {
        let report = restore::carry_out(request, restoring.ctx, restoring.repository, restoring.snapshot).await?;
        tell_problems(&report.problems, report.problem_count, &restoring.ctx.ui);
        if report.problems.iter().any(|problem| problem.loses) {
            directory::close(data).await?;
            return Err(CommandError::DataDirectoryPartly { path: data.to_owned() });
        }
    }
    Ok(())
}

fn problem_of(data: &Path, lack: &directory::Lack) -> Problem {
    Problem { path: data.display().to_string(), message: lack.to_string(), loses: lack.loses() }
}

/// The names at the top of the backup.
fn top_names(files: &[FilePlan]) -> Vec<OsString> {
    let tops = files.iter().filter_map(|file| file.path.split(|byte| *byte == b'/').next());
    let mut names: BTreeSet<OsString> = tops.map(|top| OsString::from_vec(top.to_vec())).collect();
    names.extend(EMPTY_FOLDERS.map(OsString::from));
    names.into_iter().collect()
}

/// Folders at the top that may have no file.
const EMPTY_FOLDERS: [&str; 14] = [
    "pg_commit_ts",
    "pg_dynshmem",
    "pg_logical",
    "pg_multixact",
    "pg_notify",
    "pg_replslot",
    "pg_serial",
    "pg_snapshots",
    "pg_stat",
    "pg_stat_tmp",
    "pg_subtrans",
    "pg_tblspc",
    "pg_twophase",
    "pg_wal",
];

/// Where each tablespace goes.
fn tablespaces(restoring: &Restoring<'_>, data: &Path) -> Result<Vec<TablespacePlan>, CommandError> {
    let known = directory::tablespaces_of(restoring.facts());
    let moved = &restoring.wanted.tablespace;
    if let Some((old, _)) = moved.iter().find(|(old, _)| known.iter().all(|(_, was)| was != old)) {
        let known = known.iter().map(|(_, was)| was.display().to_string()).collect::<Vec<_>>().join(", ");
        return Err(CommandError::TablespaceUnknown { path: old.clone(), known });
    }
    let mut beside = data.as_os_str().to_owned();
    beside.push(".tablespaces");
    let beside = PathBuf::from(beside);
    let place = |(oid, was): (String, PathBuf)| {
        let to = moved.iter().find(|(old, _)| *old == was).map(|(_, new)| std::path::absolute(new));
        let to = to.unwrap_or_else(|| Ok(beside.join(&oid)));
        let to = to.map_err(|source| CommandError::CurrentDirectory { source })?;
        Ok(TablespacePlan { oid, was: was.display().to_string(), to: to.display().to_string() })
    };
    known.into_iter().map(place).collect()
}

fn add_steps(restoring: &Restoring<'_>, plan: &mut Plan, data: &Path) {
    let version = restoring.fact("server_version_num").and_then(|number| number.parse().ok()).unwrap_or_default();
    let places: Vec<PathBuf> = plan.tablespaces.iter().map(|tablespace| PathBuf::from(&tablespace.to)).collect();
    let starting = directory::starting(data, &places, version);
    let whats = [
        "as root, give it to who runs the server",
        "as that user, compare it with its manifest",
        "as that user, start it",
    ];
    for (what, command) in whats.iter().zip(starting.commands) {
        plan.step(what, command);
    }
    plan.note(format!(
        "it takes the programs of Postgres {} and no archive: the log that makes it consistent is in pg_wal, and it comes \
         up as it was at the end of the backup",
        starting.major
    ));
    plan.note("its configuration came along: look at port, listen_addresses and archive_command before it starts beside the old one");
}
