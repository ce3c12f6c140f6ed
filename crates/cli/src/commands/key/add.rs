//! `key add`: let somebody else use the repository.
//!
//! Invariant: the new key never shares its password by accident: it has options of its own.
//! Never here: what a role may do; the engine knows.

use clap::Args;
use pack::Role;
use seal::KdfCost;
use serde::Serialize;

use super::RoleArg;
use super::replacement::ReplacementArgs;
use crate::context::Context;
use crate::error::{CommandError, Outcome};
use crate::human;

const EXAMPLES: &str = "\
Examples:
  backstay key add --role writer --label web1 --new-password-file web1.password
  backstay key add --role reader --label 'restore drills' --new-key-file drills.key
  backstay key add --role owner --label 'spare, in the safe'";

/// Add a key with a role of its own
#[derive(Debug, Args)]
#[command(after_long_help = EXAMPLES)]
pub(crate) struct AddArgs {
    /// What the key may do
    #[arg(long, value_enum)]
    role: RoleArg,

    /// What the key is called in `backstay key list`
    #[arg(long, value_name = "TEXT", default_value = "", hide_default_value = true)]
    label: String,

    #[command(flatten)]
    replacement: ReplacementArgs,
}

#[derive(Debug, Serialize)]
struct Document {
    id: String,
    role: String,
}

/// Adds it.
pub(super) async fn run(args: &AddArgs, ctx: &Context) -> Result<Outcome, CommandError> {
    let repository = ctx.open_repository().await?;
    let credential = args.replacement.credential(ctx).await?;
    let role = Role::from(args.role);
    let id = repository.add_key(role, credential, &args.label, KdfCost::default()).await?;
    if ctx.ui.is_json {
        ctx.ui.json(&Document { id, role: role.to_string() })?;
    } else {
        ctx.ui.note(format_args!("{role} key {} added", human::short(&id)));
    }
    Ok(Outcome::Done)
}
