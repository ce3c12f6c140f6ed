//! `key`: who may do what with the repository.
//!
//! Invariant: a command that changes keys runs to its end once it has begun.
//! Never here: keys themselves.

mod add;
mod list;
mod passwd;
mod remove;
mod replacement;
mod rotate;
mod status;

use clap::{Subcommand, ValueEnum};
use pack::Role;

use crate::context::Context;
use crate::error::{CommandError, Outcome};

/// Manage keys: who may do what with the repository
///
/// A key is a password or a key file with a role. An owner may do everything; a writer backs up and can read nothing
/// back; a reader restores and changes nothing; maintenance checks and prunes and can read no content.
#[derive(Debug, Subcommand)]
pub(crate) enum KeyCommand {
    List(list::ListArgs),
    Add(add::AddArgs),
    Remove(remove::RemoveArgs),
    Passwd(passwd::PasswdArgs),
    Rotate(rotate::RotateArgs),
    Status(status::StatusArgs),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum RoleArg {
    /// Everything
    Owner,
    /// Back up, and read nothing back
    Writer,
    /// Restore, and change nothing
    Reader,
    /// Check and prune, and read no content
    Maintenance,
}

impl From<RoleArg> for Role {
    fn from(role: RoleArg) -> Self {
        match role {
            RoleArg::Owner => Self::Owner,
            RoleArg::Writer => Self::Writer,
            RoleArg::Reader => Self::Reader,
            RoleArg::Maintenance => Self::Maintenance,
        }
    }
}

impl KeyCommand {
    /// Does it.
    pub(crate) async fn run(&self, ctx: &Context) -> Result<Outcome, CommandError> {
        match self {
            Self::List(_) => ctx.unless_interrupted(list::run(ctx)).await,
            Self::Add(args) => add::run(args, ctx).await,
            Self::Remove(args) => remove::run(args, ctx).await,
            Self::Passwd(args) => passwd::run(args, ctx).await,
            Self::Rotate(_) => rotate::run(ctx).await,
            Self::Status(_) => ctx.unless_interrupted(status::run(ctx)).await,
        }
    }
}
