//! Dumps back into a server of Postgres: whole, or some tables of them.
//!
//! ```text
//! tables of contents, the target's own → plan: what goes where, what is in the way, what is lacking
//! roles → each dump: pg_restore, fed from the repository
//! ```
//!
//! Invariant: the plan is made for all dumps before the first is restored, and what it finds in the way ends it.
//! Never here: which items belong to a table (see `source::dump`).

use std::collections::BTreeSet;
use std::pin::Pin;

use bytes::Bytes;
use engine::{CatRequest, Progress};
use futures::{StreamExt as _, TryStreamExt as _};
use source::dump::{self, Choice, Contents, Present, Programs, RestoreOptions, Wanted};

use super::plan::{DatabasePlan, FilePlan, Plan, SHOWN_MAX};
use super::{Restoring, archive, paths_of};
use crate::error::{CommandError, Outcome};
use crate::jobs;

const GLOBALS: &[u8] = b"globals.sql";
/// Things in the way that are named.
const NAMED_MAX: usize = 5;

/// A server that is restored into.
struct Target<'r> {
    restoring: &'r Restoring<'r>,
    server: dump::Server,
    /// As the URL has it.
    database: Option<String>,
    /// Those that the server has.
    databases: BTreeSet<String>,
    programs: Programs,
    wanted: Wanted,
    brings_roles: bool,
    /// Of all dumps.
    content_len: u64,
}

/// Restores one dump into the database that the URL names, or every dump under its own name.
pub(super) async fn run(restoring: &Restoring<'_>, url: &str) -> Result<Outcome, CommandError> {
    let ctx = restoring.ctx;
    let (target, plan) = ctx.unless_interrupted(prepare(restoring, url)).await?;
    if restoring.args.is_dry_run() {
        return plan.tell(ctx);
    }
    if target.brings_roles {
        ctx.unless_interrupted(target.restore_globals()).await?;
    }
    let (progress, watch) = restoring.watched(target.content_len);
    for (at, database) in plan.databases.iter().enumerate() {
        if let Err(error) = ctx.unless_interrupted(target.restore(database, &progress)).await {
            return Err(target.left(plan.databases.get(..=at).unwrap_or_default(), error));
        }
    }
    drop(watch);
    plan.tell(ctx)
}

/// Looks at the server and plans all of it; writes nothing.
async fn prepare<'r>(restoring: &'r Restoring<'r>, url: &str) -> Result<(Target<'r>, Plan), CommandError> {
    let files = restoring.dumps(restoring.files().await?)?;
    let dumps: Vec<FilePlan> = files.iter().filter(|file| file.path.ends_with(b".dump")).cloned().collect();
    if files.iter().any(|file| file.path.ends_with(b"/toc.dat")) {
        return Err(CommandError::DumpFolders);
    }
    let mut target = Target::reach(restoring, url, &files).await?;
    if dumps.is_empty() || (target.database.is_some() && dumps.len() != 1) {
        return Err(CommandError::SeveralDumps { count: dumps.len(), known: paths_of(&dumps) });
    }
    let mut plan = restoring.plan(Some(&target.server.place())).with_files(&files);
    for file in &dumps {
        plan.databases.push(target.plan(file).await?);
    }
    if target.brings_roles {
        plan.note("roles and tablespaces of globals.sql that the server lacks are made; those that it has are altered");
    }
    target.content_len = dumps.iter().map(|file| file.content_len).sum();
    Ok((target, plan))
}

impl<'r> Target<'r> {
    async fn reach(restoring: &'r Restoring<'r>, url: &str, files: &[FilePlan]) -> Result<Self, CommandError> {
        let found = jobs::postgres_target(url)?;
        let installed = Programs::installed(&[]).await;
        let about = about(&found.server, &installed).await?;
        let programs = Programs::choose(&found.server.place(), &installed, about.version)?;
        let asked = restoring.wanted;
        let (tables, schemas) = (asked.table.clone(), asked.schema.clone());
        let wanted = Wanted { tables, schemas, replaces: asked.replace };
        let brings_roles = found.database.is_none() && files.iter().any(|file| file.path == GLOBALS);
        Ok(Self {
            restoring,
            server: found.server,
            database: found.database,
            databases: about.databases.into_iter().map(|database| database.name).collect(),
            programs,
            brings_roles: brings_roles && wanted.is_all(),
            wanted,
            content_len: 0,
        })
    }

    /// What becomes of a dump.
    async fn plan(&self, file: &FilePlan) -> Result<DatabasePlan, CommandError> {
        let contents = archive::open(self.restoring, &file.path).await?.contents;
        let contents = contents.ok_or_else(|| CommandError::NotADump { path: paths_of(std::slice::from_ref(file)) })?;
        let into = self.database.clone().unwrap_or_else(|| contents.database.clone());
        let is_there = self.databases.contains(&into);
        if self.database.is_some() && !is_there {
            return Err(CommandError::DatabaseMissing { name: into, place: self.server.place() });
        }
        let present = match is_there {
            true => Present::ask(&self.server, &self.programs, &into).await?,
            false => Present::default(),
        };
        let choice = match self.wanted.is_all() {
            true => all_of(&contents),
            false => self.wanted.choose(&contents, &present)?,
        };
        self.refuse_if_in_the_way(&into, &choice, &present)?;
        self.refuse_if_lacking(&contents, &choice, self.brings_roles).await?;
        Ok(DatabasePlan {
            file: file.path.clone(),
            database: contents.database.clone(),
            into,
            creates: !is_there,
            replaces: self.restoring.wanted.replace && is_there,
            item_count: choice.ids.len() as u64,
            relation_count: choice.relations.len() as u64,
            relations: choice.relations.into_iter().take(SHOWN_MAX).collect(),
            left_out: choice.left_out,
            kept: choice.kept,
            only: (!self.wanted.is_all()).then_some(choice.ids),
        })
    }

    /// A whole dump goes into an empty database, and some tables beside others.
    fn refuse_if_in_the_way(&self, into: &str, choice: &Choice, present: &Present) -> Result<(), CommandError> {
        let is_all = self.wanted.is_all();
        let in_the_way = present.relations.iter().filter(|name| is_all || choice.relations.contains(*name));
        let mut named: Vec<&str> = in_the_way.map(String::as_str).collect();
        if self.restoring.wanted.replace || named.is_empty() {
            return Ok(());
        }
        let count = named.len();
        named.truncate(NAMED_MAX);
        if count > NAMED_MAX {
            named.push("…");
        }
        let (database, place) = (into.to_owned(), self.server.place());
        Err(CommandError::DatabaseOccupied { database, place, count, found: named.join(", ") })
    }

    /// Roles and extensions that are needed, and are not there.
    async fn refuse_if_lacking(
        &self,
        contents: &Contents,
        choice: &Choice,
        roles_come: bool,
    ) -> Result<(), CommandError> {
        let chosen: BTreeSet<i64> = choice.ids.iter().copied().collect();
        let mut needed = Contents::default();
        for item in contents.items.iter().filter(|item| chosen.contains(&item.id)) {
            if item.kind == "EXTENSION" {
                needed.extensions.insert(item.name.clone());
            }
            if !roles_come && !self.restoring.args.drops_owners() && !item.owner.is_empty() {
                needed.roles.insert(item.owner.clone());
            }
            if !roles_come && !self.restoring.wanted.no_privileges {
                needed.roles.extend(item.grantees.iter().cloned());
            }
        }
        let missing = dump::missing(&self.server, &self.programs, &needed).await?;
        let named = |what: &str, names: &BTreeSet<String>| {
            let names = names.iter().cloned().collect::<Vec<_>>().join(", ");
            (!names.is_empty()).then(|| format!("{what} {names}"))
        };
        let lacks = [named("the roles", &missing.roles), named("the extensions", &missing.extensions)];
        match lacks.into_iter().flatten().collect::<Vec<_>>().join(" and ") {
            what if what.is_empty() => Ok(()),
            what => Err(CommandError::TargetLacks { place: self.server.place(), what }),
        }
    }

    async fn restore_globals(&self) -> Result<(), CommandError> {
        let Restoring { repository, snapshot, ctx, .. } = self.restoring;
        let content = repository.cat(snapshot, CatRequest::whole(GLOBALS.to_vec())).await?;
        let mut content = content.peekable();
        let head = match Pin::new(&mut content).peek().await {
            Some(Ok(first)) => first.clone(),
            _ => Bytes::new(),
        };
        let key = hex::encode(ctx.env.random_id());
        let mut restore = dump::restore_globals(&self.server, &self.programs, &head, &key).await?;
        while let Some(bytes) = content.try_next().await? {
            if !restore.write(&bytes).await? {
                break;
            }
        }
        Ok(restore.finish().await?)
    }

    /// The error with what is left in databases, of which the last was being restored.
    fn left(&self, begun: &[DatabasePlan], error: CommandError) -> CommandError {
        let is_left = |(at, plan): &(usize, &DatabasePlan)| at + 1 < begun.len() || !is_in_one_transaction(plan);
        let left = begun.iter().enumerate().filter(is_left);
        let databases = left.map(|(_, plan)| plan.into.as_str()).collect::<Vec<_>>().join(", ");
        match databases.is_empty() {
            true => error,
            false => CommandError::DumpPartly { databases, place: self.server.place(), source: Box::new(error) },
        }
    }

    async fn restore(&self, plan: &DatabasePlan, progress: &Progress) -> Result<(), CommandError> {
        let opened = archive::open(self.restoring, &plan.file).await?;
        if let Some(contents) = opened.contents.as_ref().filter(|_| self.brings_roles) {
            // What globals.sql brought is there by now.
            self.refuse_if_lacking(contents, &all_of(contents), false).await?;
        }
        let options = RestoreOptions {
            database: if plan.creates { self.server.database.clone() } else { Some(plan.into.clone()) }
                .unwrap_or_else(|| "postgres".to_owned()),
            creates: plan.creates,
            cleans: plan.replaces,
            without_owners: self.restoring.args.drops_owners(),
            without_privileges: self.restoring.wanted.no_privileges,
            in_one_transaction: is_in_one_transaction(plan),
            only: plan.only.clone(),
        };
        let mut restore = dump::restore_archive(&self.server, &self.programs, &options)?;
        let mut rest = futures::stream::iter(opened.head.into_iter().map(Ok)).chain(opened.rest);
        while let Some(bytes) = rest.try_next().await? {
            progress.add_len(bytes.len() as u64);
            if !restore.write(&bytes).await? {
                break; // it says why when it is asked to finish
            }
        }
        Ok(restore.finish().await?)
    }
}

/// Whether a restore that does not come to its end leaves nothing.
const fn is_in_one_transaction(plan: &DatabasePlan) -> bool {
    (plan.only.is_some() || plan.replaces) && !plan.creates
}

/// What the server says of itself: asked in the database that every server has, and where that is closed to us in the one
/// that is restored into.
async fn about(server: &dump::Server, installed: &[Programs]) -> Result<dump::About, CommandError> {
    let anywhere = dump::Server { database: None, ..server.clone() };
    match dump::About::ask(&anywhere, installed).await {
        Ok(about) => Ok(about),
        Err(_) => Ok(dump::About::ask(server, installed).await?),
    }
}

/// Everything that a dump holds.
fn all_of(contents: &Contents) -> Choice {
    let relations = contents.items.iter().filter(|item| item.is_relation());
    Choice {
        ids: contents.items.iter().map(|item| item.id).collect(),
        relations: relations.map(dump::Item::full_name).collect(),
        left_out: Vec::new(),
        kept: Vec::new(),
    }
}
