//! `cat`: write the content of one file of a snapshot to stdout.
//!
//! Invariant: what arrives on stdout is a prefix of what was asked for. Exit code 0 says that it is all of it, or that the
//! reader went away first.
//! Never here: looking for the file.

use std::ops::Range;

use clap::Args;
use engine::CatRequest;
use futures::StreamExt as _;

use crate::commands::losses::or_forgotten;
use crate::commands::selection::SelectionArgs;
use crate::context::Context;
use crate::error::{CommandError, Outcome};
use crate::words::size;

/// Written out: clap would show options that come from the environment as if they were required.
const USAGE: &str = "\
backstay cat [OPTIONS] SNAPSHOT[:PATH]
       backstay cat [OPTIONS] --at TIME [:PATH]";

const EXAMPLES: &str = "\
Examples:
  backstay cat latest:/etc/hosts
  backstay cat 1a2b3c4d | psql fresh
  backstay cat --source shop --at yesterday :shop.sql > shop.sql
  backstay cat latest:/srv/disk.img --offset 1G --length 4K | xxd";

/// Chunks written at once, as a count, if they are there already.
const CHUNKS_AT_ONCE: usize = 256;

/// Write the content of a file in a snapshot to standard output
///
/// A snapshot of a stream has only one file, which need not be named. Of a part of a file only the blobs are read that hold
/// something of it.
#[derive(Debug, Args)]
#[command(after_long_help = EXAMPLES, override_usage = USAGE)]
pub(crate) struct CatArgs {
    /// Begin at this byte, counted from 0, such as 4096 or 1G; behind the end there is nothing
    #[arg(long, value_name = "SIZE", value_parser = size, default_value = "0", hide_default_value = true)]
    offset: u64,

    /// Write at most this many bytes
    #[arg(long, value_name = "SIZE", value_parser = size)]
    length: Option<u64>,

    #[command(flatten)]
    selection: SelectionArgs,
}

impl CatArgs {
    /// Which bytes are wanted; none for all.
    fn range(&self) -> Option<Range<u64>> {
        let end = self.length.map_or(u64::MAX, |len| self.offset.saturating_add(len));
        (self.offset > 0 || self.length.is_some()).then_some(self.offset..end)
    }
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
    let mut content = match repository.cat(&snapshot, CatRequest { path, range: args.range() }).await {
        Ok(content) => content.ready_chunks(CHUNKS_AT_ONCE),
        Err(error) => return Err(or_forgotten(error.into(), &repository, snapshot.id).await),
    };
    while let Some(pieces) = content.next().await {
        let whole: Vec<_> = pieces.iter().map_while(|piece| piece.as_ref().ok()).cloned().collect();
        ctx.ui.bytes(whole).await?;
        if let Some(error) = pieces.into_iter().find_map(Result::err) {
            return Err(or_forgotten(error.into(), &repository, snapshot.id).await);
        }
    }
    Ok(Outcome::Done)
}
