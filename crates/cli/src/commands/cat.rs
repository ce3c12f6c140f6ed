//! `cat`: write the content of one file of a snapshot to stdout.
//!
//! Invariant: what arrives on stdout is a prefix of the file. Exit code 0 says that it is all of it, or that the reader
//! went away first.
//! Never here: looking for the file.

use clap::Args;
use engine::CatRequest;
use futures::StreamExt as _;

use crate::commands::selection::SelectionArgs;
use crate::context::Context;
use crate::error::{CommandError, Outcome};

/// Written out: clap would show options that come from the environment as if they were required.
const USAGE: &str = "\
backstay cat [OPTIONS] SNAPSHOT[:PATH]
       backstay cat [OPTIONS] --at TIME [:PATH]";

const EXAMPLES: &str = "\
Examples:
  backstay cat latest:/etc/hosts
  backstay cat 1a2b3c4d | psql fresh
  backstay cat --source shop --at yesterday :shop.sql > shop.sql";

/// Chunks written at once, as a count, if they are there already.
const CHUNKS_AT_ONCE: usize = 256;

/// Write the content of a file in a snapshot to standard output
///
/// A snapshot of a stream has only one file, which need not be named.
#[derive(Debug, Args)]
#[command(after_long_help = EXAMPLES, override_usage = USAGE)]
pub(crate) struct CatArgs {
    #[command(flatten)]
    selection: SelectionArgs,
}

/// Writes it as it comes.
pub(crate) async fn run(args: &CatArgs, ctx: &Context) -> Result<Outcome, CommandError> {
    let repository = ctx.open_repository().await?;
    let snapshot = args.selection.select(&repository, ctx).await?;
    let path = args.selection.path().to_vec();
    let entry_count: u64 = snapshot.snapshot.structure.components.iter().map(|component| component.entry_count).sum();
    if path.is_empty() && entry_count != 1 {
        return Err(CommandError::PathUnnamed);
    }
    let mut content = repository.cat(&snapshot, CatRequest { path }).await?.ready_chunks(CHUNKS_AT_ONCE);
    while let Some(pieces) = content.next().await {
        let whole: Vec<_> = pieces.iter().map_while(|piece| piece.as_ref().ok()).cloned().collect();
        ctx.ui.bytes(whole).await?;
        if let Some(error) = pieces.into_iter().find_map(Result::err) {
            return Err(error.into());
        }
    }
    Ok(Outcome::Done)
}
