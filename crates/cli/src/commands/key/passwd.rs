//! `key passwd`: change the password or key file of the key in use.
//!
//! Invariant: the old password opens the repository until the new one does.
//! Never here: other keys than the one in use.

use clap::Args;
use seal::KdfCost;
use serde::Serialize;

use super::replacement::ReplacementArgs;
use crate::context::Context;
use crate::error::{CommandError, Outcome};
use crate::human;

const EXAMPLES: &str = "\
Examples:
  backstay key passwd
  backstay key passwd --password-file old.password --new-password-file new.password
  backstay key passwd --new-key-file owner.key";

/// Change the password or key file of the key in use
///
/// The role, the label and what the key can open stay the same. Whoever has a copy of the old key slot and knows the old
/// password still has the key: use `backstay key remove` where that matters.
#[derive(Debug, Args)]
#[command(after_long_help = EXAMPLES)]
pub(crate) struct PasswdArgs {
    #[command(flatten)]
    replacement: ReplacementArgs,
}

#[derive(Debug, Serialize)]
struct Document {
    id: String,
}

/// Changes it.
pub(super) async fn run(args: &PasswdArgs, ctx: &Context) -> Result<Outcome, CommandError> {
    let repository = ctx.open_repository().await?;
    let credential = args.replacement.credential(ctx).await?;
    let id = repository.change_password(credential, KdfCost::default()).await?;
    if ctx.ui.is_json {
        ctx.ui.json(&Document { id })?;
    } else {
        ctx.ui.note(format_args!("changed; the key's id is now {}", human::short(&id)));
    }
    Ok(Outcome::Done)
}
