//! The command line as a whole: the options of every command and the commands.
//!
//! Invariant: every command has examples in its `--help`.
//! Never here: what a command does.

use clap::builder::styling::{AnsiColor, Style, Styles};
use clap::{CommandFactory as _, FromArgMatches as _, Parser};

use crate::commands::Command;
use crate::globals::GlobalArgs;

const EXAMPLES: &str = "\
Examples:
  export BACKSTAY_REPOSITORY=s3://bucket/backup BACKSTAY_PASSWORD_FILE=/etc/backstay/password
  backstay init
  backstay backup /etc /srv --exclude '*.tmp'
  backstay restore latest:/etc --target /tmp/restored

Exit codes: 0 done, 1 partly done or damage found, 2 not done, 3 unexpected, 130 or 143 interrupted.";

const STYLES: Styles = Styles::styled()
    .header(Style::new().bold())
    .usage(Style::new().bold())
    .literal(AnsiColor::Green.on_default())
    .error(AnsiColor::Red.on_default().bold());

/// Back up files and databases: deduplicated, encrypted, to a folder or an object store
#[derive(Debug, Parser)]
#[command(name = "backstay", version, styles = STYLES, after_long_help = EXAMPLES)]
#[command(arg_required_else_help = true, max_term_width = 100)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    pub(crate) command: Command,
    #[command(flatten)]
    pub(crate) globals: GlobalArgs,
}

impl Arguments {
    /// Reads the process's arguments.
    pub(crate) fn read() -> Result<Self, clap::Error> {
        let mut matches = definition().try_get_matches()?;
        Self::from_arg_matches_mut(&mut matches)
    }
}

/// The command line as clap knows it, for help, completions and manuals.
pub(crate) fn definition() -> clap::Command {
    Arguments::command()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The command and all below it, but for the `help` that clap adds.
    fn all(command: clap::Command) -> Vec<clap::Command> {
        let below: Vec<_> = command.get_subcommands().filter(|below| below.get_name() != "help").cloned().collect();
        std::iter::once(command).chain(below.into_iter().flat_map(all)).collect()
    }

    #[test]
    fn command_line_contradicts_itself_nowhere() {
        definition().debug_assert();
    }

    #[test]
    fn every_command_shows_two_to_four_examples() {
        let mut definition = definition();
        definition.build();
        for mut command in all(definition) {
            let (name, has_below) = (command.get_name().to_owned(), command.has_subcommands());
            let help = command.render_long_help().to_string();
            let examples = help.lines().filter(|line| line.starts_with("  backstay ") || line.starts_with("  export "));
            let count = examples.count();
            assert!((has_below && count == 0) || (2..=4).contains(&count), "{name}: {count}\n{help}");
        }
    }
}
