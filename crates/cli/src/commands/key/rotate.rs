//! `key rotate`: begin a new epoch.
//!
//! Invariant: passwords and key files stay as they are.
//! Never here: re-sealing what was written before.

use clap::Args;
use serde::Serialize;

use crate::context::Context;
use crate::error::{CommandError, Outcome};

const EXAMPLES: &str = "\
Examples:
  backstay key rotate
  backstay key rotate -r s3://bucket/backup --key-file owner.key";

/// Begin a new epoch: new keys for all that is written from now on
///
/// Passwords and key files stay as they are. What was written before stays readable.
#[derive(Debug, Args)]
#[command(after_long_help = EXAMPLES)]
pub(crate) struct RotateArgs {}

#[derive(Debug, Serialize)]
struct Document {
    epoch: u32,
}

/// Begins it.
pub(super) async fn run(ctx: &Context) -> Result<Outcome, CommandError> {
    let epoch = ctx.open_repository().await?.rotate().await?;
    if ctx.ui.is_json {
        ctx.ui.json(&Document { epoch })?;
    } else {
        ctx.ui.note(format_args!("epoch {epoch} has begun"));
    }
    Ok(Outcome::Done)
}
