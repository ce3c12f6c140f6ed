//! `completions`: scripts that complete the command line.
//!
//! Invariant: needs no repository.
//! Never here: the command line itself (see `arguments`).

use clap::Args;
use clap_complete::Shell;

use crate::arguments::definition;
use crate::context::Context;
use crate::error::{CommandError, Outcome};

const EXAMPLES: &str = "\
Examples:
  backstay completions bash > /etc/bash_completion.d/backstay
  backstay completions zsh > ~/.zfunc/_backstay
  backstay completions fish > ~/.config/fish/completions/backstay.fish";

/// Print a script that completes backstay's command line in a shell
#[derive(Debug, Args)]
#[command(after_long_help = EXAMPLES)]
pub(crate) struct CompletionsArgs {
    /// Which shell
    #[arg(value_enum, value_name = "SHELL")]
    shell: Shell,
}

/// Prints it.
pub(crate) fn run(args: &CompletionsArgs, ctx: &Context) -> Result<Outcome, CommandError> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut definition(), "backstay", &mut script);
    ctx.ui.line(String::from_utf8_lossy(&script).trim_end())?;
    Ok(Outcome::Done)
}
