//! `config`: write, check and describe `backstay.toml`.
//!
//! Invariant: nothing here changes a repository or a database.
//! Never here: what a configuration means (see `config`).

mod check;
mod init;
mod preflight;
mod timers;

use clap::Subcommand;

use crate::config::Config;
use crate::context::Context;
use crate::error::{CommandError, Outcome};

const SCHEMA_EXAMPLES: &str = "\
Examples:
  backstay config schema > backstay.schema.json
  backstay config schema | jq '.properties.jobs'";

/// Write, check and describe the configuration file
#[derive(Debug, Subcommand)]
pub(crate) enum ConfigCommand {
    Check(check::CheckArgs),
    Init(init::InitArgs),
    /// Print the JSON schema of the configuration, for editors
    ///
    /// Editors with a TOML language server check and complete backstay.toml by it: begin the file with
    /// `#:schema ./backstay.schema.json`.
    #[command(after_long_help = SCHEMA_EXAMPLES)]
    Schema,
    Timers(timers::TimersArgs),
}

impl ConfigCommand {
    /// Does it.
    pub(crate) async fn run(&self, ctx: &Context) -> Result<Outcome, CommandError> {
        match self {
            Self::Check(args) => ctx.unless_interrupted(check::run(args, ctx)).await,
            Self::Init(args) => ctx.unless_interrupted(init::run(args, ctx)).await,
            Self::Schema => schema(ctx),
            Self::Timers(args) => timers::run(args, ctx),
        }
    }
}

fn schema(ctx: &Context) -> Result<Outcome, CommandError> {
    let schema = schemars::schema_for!(Config);
    let text = serde_json::to_string_pretty(&schema).map_err(|error| CommandError::from_stdout(error.into()))?;
    ctx.ui.line(text)?;
    Ok(Outcome::Done)
}
