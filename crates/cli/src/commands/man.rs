//! `man`: manual pages, for whoever makes packages.
//!
//! Invariant: needs no repository.
//! Never here: the text, which is that of `--help`.

use std::path::PathBuf;

use clap::Args;

use crate::arguments::definition;
use crate::error::{CommandError, Outcome};

const EXAMPLES: &str = "\
Examples:
  backstay man /usr/local/share/man/man1
  backstay man target/man";

/// Write manual pages, one for each command
#[derive(Debug, Args)]
#[command(after_long_help = EXAMPLES)]
pub(crate) struct ManArgs {
    /// Where to: a directory, made if it is missing
    #[arg(value_name = "DIR")]
    folder: PathBuf,
}

/// Writes them.
pub(crate) fn run(args: &ManArgs) -> Result<Outcome, CommandError> {
    let folder = || args.folder.clone();
    std::fs::create_dir_all(&args.folder)
        .and_then(|()| clap_mangen::generate_to(definition(), &args.folder))
        .map_err(|source| CommandError::Folder { path: folder(), action: "written to", source })?;
    Ok(Outcome::Done)
}
