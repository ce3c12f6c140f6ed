//! `cat-object`: what one stored object says, for experts.
//!
//! Invariant: what the engine hands over holds no secrets.
//! Never here: decoding.

use clap::Args;

use crate::context::Context;
use crate::error::{CommandError, Outcome};

const EXAMPLES: &str = "\
Examples:
  backstay cat-object config
  backstay cat-object snapshots/1a2b3c4d5e6f708192a3b4c5d6e7f801 | jq .components";

/// Show what a stored object says, as JSON; for experts
///
/// Objects are named as in the store: config, keys/…, epochs/…, packs/…, index/…, snapshots/… and so on. Secrets are
/// left out.
#[derive(Debug, Args)]
#[command(after_long_help = EXAMPLES)]
pub(crate) struct CatObjectArgs {
    /// The object's name in the store
    #[arg(value_name = "NAME")]
    name: String,
}

/// Shows it.
pub(crate) async fn run(args: &CatObjectArgs, ctx: &Context) -> Result<Outcome, CommandError> {
    let repository = ctx.open_repository().await?;
    let shown = repository.object(args.name.trim_start_matches('/')).await?;
    match serde_json::from_str::<serde_json::Value>(&shown) {
        Ok(document) if ctx.ui.is_json => ctx.ui.json(&document)?,
        _ => ctx.ui.line(shown)?,
    }
    Ok(Outcome::Done)
}
