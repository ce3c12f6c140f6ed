//! The commands, one file each: its arguments, and `run`.
//!
//! Invariant: a command that only reads ends at the first interrupt; one that writes ends in good order.
//! Never here: how anything is done; commands ask the engine and show what it says.

mod backup;
mod browse;
mod cache;
mod cat;
mod cat_object;
mod check;
mod completions;
mod component_table;
mod config;
mod copy;
mod diff;
mod dump;
mod entry_shown;
mod find;
mod forget;
mod hold;
mod init;
mod key;
mod looking;
mod losses;
mod ls;
mod man;
mod mount;
mod prune;
mod repair;
mod report;
mod restore;
mod restore_to;
mod rewrite;
mod run;
mod selection;
mod serve;
mod snapshot_document;
mod snapshots;
mod stats;
mod undelete;
mod versions;
mod watch;

use clap::Subcommand;

use crate::context::Context;
use crate::error::{CommandError, Outcome};

/// What to do.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    Init(init::InitArgs),
    Backup(Box<backup::BackupArgs>),
    Run(run::RunArgs),
    Watch(watch::WatchArgs),
    Snapshots(snapshots::SnapshotsArgs),
    Report(report::ReportArgs),
    Ls(ls::LsArgs),
    Cat(cat::CatArgs),
    Find(Box<find::FindArgs>),
    Versions(versions::VersionsArgs),
    Diff(diff::DiffArgs),
    Browse(browse::BrowseArgs),
    Dump(dump::DumpArgs),
    Mount(mount::MountArgs),
    #[command(subcommand)]
    Serve(serve::ServeCommand),
    Restore(Box<restore::RestoreArgs>),
    Copy(Box<copy::CopyArgs>),
    Check(check::CheckArgs),
    #[command(subcommand)]
    Repair(repair::RepairCommand),
    Forget(Box<forget::ForgetArgs>),
    Prune(prune::PruneArgs),
    Undelete(undelete::UndeleteArgs),
    Hold(hold::HoldArgs),
    Rewrite(Box<rewrite::RewriteArgs>),
    Stats(stats::StatsArgs),
    #[command(subcommand)]
    Key(key::KeyCommand),
    #[command(subcommand)]
    Cache(cache::CacheCommand),
    #[command(subcommand)]
    Config(config::ConfigCommand),
    CatObject(cat_object::CatObjectArgs),
    Completions(completions::CompletionsArgs),
    #[command(hide = true)]
    Man(man::ManArgs),
}

impl Command {
    /// Does it.
    pub(crate) async fn run(&self, ctx: &Context) -> Result<Outcome, CommandError> {
        match self {
            Self::Init(args) => init::run(args, ctx).await,
            Self::Backup(args) => backup::run(args, ctx).await,
            Self::Run(args) => run::run(args, ctx).await,
            Self::Watch(args) => watch::run(args, ctx).await,
            Self::Snapshots(args) => ctx.unless_interrupted(snapshots::run(args, ctx)).await,
            Self::Report(args) => ctx.unless_interrupted(report::run(args, ctx)).await,
            Self::Ls(args) => ctx.unless_interrupted(ls::run(args, ctx)).await,
            Self::Cat(args) => ctx.unless_interrupted(cat::run(args, ctx)).await,
            Self::Find(args) => ctx.unless_interrupted(find::run(args, ctx)).await,
            Self::Versions(args) => ctx.unless_interrupted(versions::run(args, ctx)).await,
            Self::Diff(args) => ctx.unless_interrupted(diff::run(args, ctx)).await,
            Self::Dump(args) => ctx.unless_interrupted(dump::run(args, ctx)).await,
            Self::Mount(args) => mount::run(args, ctx).await,
            Self::Serve(command) => command.run(ctx).await,
            Self::Browse(args) => ctx.unless_interrupted(browse::run(args, ctx)).await,
            Self::Restore(args) => restore::run(args, ctx).await,
            Self::Copy(args) => copy::run(args, ctx).await,
            Self::Check(args) => check::run(args, ctx).await,
            Self::Forget(args) => forget::run(args, ctx).await,
            Self::Prune(args) => prune::run(args, ctx).await,
            Self::Undelete(args) => undelete::run(args, ctx).await,
            Self::Hold(args) => ctx.unless_interrupted(hold::run(args, ctx)).await,
            Self::Repair(command) => command.run(ctx).await,
            Self::Rewrite(args) => rewrite::run(args, ctx).await,
            Self::Stats(args) => ctx.unless_interrupted(stats::run(args, ctx)).await,
            Self::Key(command) => command.run(ctx).await,
            Self::Cache(command) => command.run(ctx).await,
            Self::Config(command) => command.run(ctx).await,
            Self::CatObject(args) => ctx.unless_interrupted(cat_object::run(args, ctx)).await,
            Self::Completions(args) => completions::run(args, ctx),
            Self::Man(args) => man::run(args),
        }
    }
}
