//! `restore SNAPSHOT [COMPONENT] --to PLACE`: bring one component back into a server, or lay it out as one needs it.
//!
//! ```text
//! postgres            postgres://…/NAME   pg_restore into that database; without NAME, each database under its own
//! postgres-physical   a folder            a data directory, its tablespaces beside it
//! redis               a folder            dump.rdb, and the same as the base of an append-only file
//! etcd                a folder            snapshot.db, and the command that makes a member of it
//! sqlite, command     a file or folder    a file, in the folder under its own name
//! others, dumps       a folder            its files, and how they are used
//! anything            -                   the only file of the component, on stdout
//! ```
//!
//! Invariant: what the target lacks, and what is in the way, is told before anything is written to it.
//! Never here: restoring whole snapshots (see `restore`).

mod append_only;
mod archive;
mod data_directory;
mod file;
mod listing;
mod plan;
mod server;
mod tree;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use clap::Args;
use engine::{Progress, Repository, SnapshotInfo};
use futures::TryStreamExt as _;
use pack::manifest::EntryKind;
use source::{SourceError, dump};

use crate::commands::restore::RestoreArgs;
use crate::context::Context;
use crate::error::{CommandError, Outcome};
use crate::human::escaped;
use crate::watch::Watch;
use plan::{FilePlan, Plan};

/// What is asked of a component.
#[derive(Debug, Args)]
#[command(next_help_heading = "Of a component")]
pub(crate) struct ComponentArgs {
    /// Into a server, or laid out for one: postgres://HOST/DATABASE, a folder, a file, - for stdout
    #[arg(long, value_name = "PLACE", conflicts_with = "target")]
    pub(super) to: Option<String>,

    /// Show what it holds, such as the tables of a dump, and restore nothing
    #[arg(long, conflicts_with_all = ["target", "to"])]
    pub(super) list: bool,

    /// Replace what is there: the same tables of a database, the same file
    #[arg(long)]
    replace: bool,

    /// Of dumps of several databases only this one; may be given several times
    #[arg(long, value_name = "NAME")]
    database: Vec<String>,

    /// Of a dump only this table with all that belongs to it, as SCHEMA.NAME; may be given several times
    #[arg(long, value_name = "TABLE")]
    table: Vec<String>,

    /// Of a dump only what is in this schema; may be given several times
    #[arg(long, value_name = "SCHEMA")]
    schema: Vec<String>,

    /// Of a dump, grant nothing; with --owner none everything belongs to who restores
    #[arg(long)]
    no_privileges: bool,

    /// Where a tablespace goes that was at OLD; others go to TARGET.tablespaces
    #[arg(long, value_name = "OLD=NEW", value_parser = moved)]
    tablespace: Vec<(PathBuf, PathBuf)>,
}

fn moved(text: &str) -> Result<(PathBuf, PathBuf), String> {
    match text.split_once('=') {
        Some((old, new)) if !old.is_empty() && !new.is_empty() => Ok((old.into(), new.into())),
        _ => Err("write it as OLD=NEW".to_owned()),
    }
}

/// One component, and what is to become of it.
struct Restoring<'r> {
    repository: &'r Repository,
    /// With nothing but the component.
    snapshot: &'r SnapshotInfo,
    args: &'r RestoreArgs,
    wanted: &'r ComponentArgs,
    ctx: &'r Context,
}

/// The snapshot with nothing but this component, or its only one if none is named.
pub(crate) fn only(snapshot: &SnapshotInfo, component: Option<&str>) -> Result<SnapshotInfo, CommandError> {
    let mut one = snapshot.clone();
    let components = &mut one.snapshot.structure.components;
    let known = components.iter().map(|other| other.name.clone()).collect::<Vec<_>>().join(", ");
    let at = match component {
        Some(name) => components.iter().position(|other| other.name == name),
        None if components.len() == 1 => Some(0),
        None => return Err(CommandError::ComponentUnnamed { known }),
    };
    let Some(at) = at else {
        return Err(CommandError::ComponentUnknown { name: component.unwrap_or_default().to_owned(), known });
    };
    *components = vec![components.swap_remove(at)];
    if let Some(body) = one.snapshot.body.as_mut().filter(|body| at < body.components.len()) {
        body.components = vec![body.components.swap_remove(at)];
    }
    Ok(one)
}

/// Restores the only component of `snapshot` to where the arguments say, or shows what that would do, or what it holds.
pub(crate) async fn run(
    repository: &Repository,
    snapshot: &SnapshotInfo,
    args: &RestoreArgs,
    ctx: &Context,
) -> Result<Outcome, CommandError> {
    let restoring = Restoring { repository, snapshot, args, wanted: &args.of_component, ctx };
    restoring.refuse_what_does_not_apply()?;
    restoring.to_place().await.map_err(|error| match error {
        CommandError::Source(source @ SourceError::Occupied { .. }) if !takes_replace(restoring.kind()) => {
            CommandError::NeverReplaced { source }
        }
        error => error,
    })
}

/// Whether a restore of this kind can put what it brings in the place of what is there.
fn takes_replace(kind: &str) -> bool {
    !["postgres-physical", "redis"].contains(&kind)
}

impl Restoring<'_> {
    async fn to_place(&self) -> Result<Outcome, CommandError> {
        let Some(place) = self.wanted.to.as_deref() else {
            return self.ctx.unless_interrupted(listing::run(self)).await;
        };
        if place == "-" {
            return self.ctx.unless_interrupted(file::to_stdout(self)).await;
        }
        let kind = self.kind();
        if kind == "postgres" && (place.starts_with("postgres://") || place.starts_with("postgresql://")) {
            // Tells by itself what an interrupt leaves.
            return server::run(self, place).await;
        }
        if place.contains("://") {
            return Err(CommandError::PlaceUnfit { kind: kind.to_owned(), place: place.to_owned() });
        }
        let is_folder = place.ends_with('/') || Path::new(place).is_dir();
        let path = std::path::absolute(place).map_err(|source| CommandError::CurrentDirectory { source })?;
        let path: PathBuf = path.components().collect(); // names are made of it: no slash at its end
        match kind {
            // These end an interrupted restore in good order by themselves.
            "postgres-physical" => data_directory::run(self, &path).await,
            "redis" => self.ctx.unless_interrupted(file::to_redis(self, &path)).await,
            "etcd" => self.ctx.unless_interrupted(file::to_etcd(self, &path)).await,
            "sqlite" | "command" | "stdin" if is_folder => {
                self.ctx.unless_interrupted(file::into_folder(self, &path)).await
            }
            "sqlite" | "command" | "stdin" => self.ctx.unless_interrupted(file::to_file(self, &path)).await,
            _ => tree::run(self, &path).await,
        }
    }

    fn kind(&self) -> &str {
        self.snapshot.snapshot.structure.components.first().map_or("", |component| component.kind.as_str())
    }

    /// An option that says nothing about this kind is a mistake, not a wish to be passed over.
    fn refuse_what_does_not_apply(&self) -> Result<(), CommandError> {
        let (wanted, kind) = (self.wanted, self.kind());
        let (is_dump, is_whole) = (kind == "postgres", kind == "postgres-physical");
        let is_server = wanted.to.as_deref().is_some_and(|place| place.contains("://"));
        let is_tree = ["files", "kubernetes", "redis-aof"].contains(&kind);
        let options = [
            ("--database", !wanted.database.is_empty(), is_dump),
            ("--table", !wanted.table.is_empty(), is_dump && is_server),
            ("--schema", !wanted.schema.is_empty(), is_dump && is_server),
            ("--no-privileges", wanted.no_privileges, is_dump && is_server),
            ("--tablespace", !wanted.tablespace.is_empty(), is_whole),
            ("--include or --exclude", self.args.selects(), is_tree),
            ("--verify", self.args.verifies(), is_tree || is_whole),
            ("--replace", wanted.replace, takes_replace(kind) && !wanted.list),
        ];
        match options.into_iter().find(|(_, is_given, applies)| *is_given && !applies) {
            Some((option, _, _)) => Err(CommandError::OptionUnfit { option, kind: kind.to_owned() }),
            None => Ok(()),
        }
    }

    /// What the source said of itself.
    fn facts(&self) -> &[(String, String)] {
        let body = self.snapshot.snapshot.body.as_ref().and_then(|body| body.components.first());
        body.map_or(&[], |body| body.facts.as_slice())
    }

    fn fact(&self, name: &str) -> Option<&str> {
        self.facts().iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    /// The files that are wanted, with paths and lengths, in order; all of them unless the arguments name one.
    async fn files(&self) -> Result<Vec<FilePlan>, CommandError> {
        let path = self.args.path();
        let mut entries = self.repository.entries(self.snapshot, path).await?;
        let mut files = Vec::new();
        while let Some(listed) = entries.try_next().await? {
            let entry = listed.entry;
            if let EntryKind::File { len } = entry.kind {
                let (mode, uid, gid) = (entry.mode, entry.uid, entry.gid);
                files.push(FilePlan { path: entry.path, content_len: len, mode, uid, gid });
            }
        }
        Ok(files)
    }

    /// Of these files of dumps, those of the databases that are wanted; the roles only if no database is named.
    fn dumps(&self, files: Vec<FilePlan>) -> Result<Vec<FilePlan>, CommandError> {
        let wanted = &self.wanted.database;
        let is_of = |file: &FilePlan, name: &String| file.path == dump::entry_name(name).into_bytes();
        if let Some(name) = wanted.iter().find(|name| !files.iter().any(|file| is_of(file, name))) {
            return Err(CommandError::DatabaseUnknown { name: name.clone(), known: paths_of(&files) });
        }
        let is_wanted = |file: &FilePlan| wanted.is_empty() || wanted.iter().any(|name| is_of(file, name));
        Ok(files.into_iter().filter(is_wanted).collect())
    }

    /// Shows on the terminal how much of `len` bytes was read, as long as the second of both lives.
    fn watched(&self, len: u64) -> (Arc<Progress>, Watch) {
        let progress = Arc::new(Progress::new());
        progress.set_totals(0, len);
        let watch = Watch::start(&self.ctx.ui, &progress, "entries");
        (progress, watch)
    }

    /// The plan as far as every kind has it.
    fn plan(&self, place: Option<&str>) -> Plan {
        let component = self.snapshot.snapshot.structure.components.first();
        Plan {
            snapshot_id: self.snapshot.id.to_string(),
            component: component.map(|component| component.name.clone()).unwrap_or_default(),
            kind: self.kind().to_owned(),
            place: place.map(str::to_owned),
            is_dry_run: self.args.is_dry_run(),
            content_len: component.map_or(0, |component| component.content_len),
            facts: self.facts().iter().cloned().collect(),
            ..Plan::default()
        }
    }
}

fn paths_of(files: &[FilePlan]) -> String {
    files.iter().map(|file| escaped(&file.path).to_string()).collect::<Vec<_>>().join(", ")
}
