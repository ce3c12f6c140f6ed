//! `key remove`: take somebody's access away, from now on.
//!
//! Invariant: one key at a time, named by its id.
//! Never here: re-sealing what the removed key could read.

use clap::Args;
use serde::Serialize;

use crate::context::Context;
use crate::error::{CommandError, Outcome};
use crate::human;

const EXAMPLES: &str = "\
Examples:
  backstay key remove 1a2b3c4d
  backstay key remove 1a2b3c4d -r s3://bucket/backup --key-file owner.key";

/// Remove a key and begin a new epoch without it
///
/// Nothing that is written from now on opens with the removed key, and what it writes from now on is not trusted.
/// What it could read until now, it may have read.
#[derive(Debug, Args)]
#[command(after_long_help = EXAMPLES)]
pub(crate) struct RemoveArgs {
    /// The start of the key's id, as `backstay key list` shows it
    #[arg(value_name = "ID")]
    id: String,
}

#[derive(Debug, Serialize)]
struct Document {
    id: String,
}

/// Removes it.
pub(super) async fn run(args: &RemoveArgs, ctx: &Context) -> Result<Outcome, CommandError> {
    let repository = ctx.open_repository().await?;
    let id = repository.remove_key(&args.id.to_ascii_lowercase()).await?;
    if ctx.ui.is_json {
        ctx.ui.json(&Document { id })?;
    } else {
        ctx.ui.note(format_args!("key {} removed; a new epoch has begun", human::short(&id)));
    }
    Ok(Outcome::Done)
}
