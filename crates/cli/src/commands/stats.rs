//! `stats`: how large the repository is, and how much it saves.
//!
//! Invariant: a ratio is shown only where there is something to divide by.
//! Never here: counting.

use clap::Args;
use engine::RepositoryStats;
use serde::Serialize;

use crate::context::Context;
use crate::error::{CommandError, Outcome};
use crate::human;
use crate::paint::Paint;
use crate::table::{Align, Table};

const EXAMPLES: &str = "\
Examples:
  backstay stats
  backstay stats --json | jq .stored_len";

/// Show how large the repository is, and how much deduplication and compression save
#[derive(Debug, Args)]
#[command(after_long_help = EXAMPLES)]
pub(crate) struct StatsArgs {}

#[derive(Debug, Serialize)]
struct Document {
    repository_id: String,
    snapshot_count: u64,
    protected_len: u64,
    unique_len: u64,
    sealed_len: u64,
    stored_len: u64,
    data_pack_count: u64,
    data_packs_len: u64,
    metadata_pack_count: u64,
    metadata_packs_len: u64,
    chunk_count: u64,
    blob_count: u64,
    object_count: u64,
}

/// Shows it.
pub(crate) async fn run(_args: &StatsArgs, ctx: &Context) -> Result<Outcome, CommandError> {
    let repository = ctx.open_repository().await?;
    let stats = repository.stats().await?;
    if ctx.ui.is_json {
        ctx.ui.json(&document(repository.config().repository.to_string(), &stats))?;
    } else {
        ctx.ui.line(table(&stats, ctx.ui.stdout))?;
    }
    Ok(Outcome::Done)
}

fn table(stats: &RepositoryStats, paint: Paint) -> String {
    let mut table =
        Table::new(&[("", Align::Left), ("Count", Align::Right), ("Size", Align::Right), ("", Align::Left)]);
    let mut row = |what: &str, count: Option<u64>, len: u64, remark: String| {
        table.row([what.to_owned(), count.map(human::count).unwrap_or_default(), human::size(len), remark]);
    };
    row("Protected by snapshots", Some(stats.snapshots), stats.protected_len, String::new());
    row("Unique content", None, stats.unique_len, ratio(stats.protected_len, stats.unique_len, "by deduplication"));
    row("Compressed and sealed", None, stats.sealed_len, ratio(stats.unique_len, stats.sealed_len, "by compression"));
    row("Data packs", Some(stats.data_packs), stats.data_packs_len, String::new());
    row("Metadata packs", Some(stats.metadata_packs), stats.metadata_packs_len, String::new());
    row("All objects", Some(stats.objects), stats.stored_len, ratio(stats.protected_len, stats.stored_len, "in all"));
    table.show(paint)
}

/// `12.3 times less by deduplication`.
fn ratio(before: u64, after: u64, by: &str) -> String {
    if before > after && after > 0 {
        format!("{:.1} times less {by}", before as f64 / after as f64)
    } else {
        String::new()
    }
}

fn document(repository_id: String, stats: &RepositoryStats) -> Document {
    Document {
        repository_id,
        snapshot_count: stats.snapshots,
        protected_len: stats.protected_len,
        unique_len: stats.unique_len,
        sealed_len: stats.sealed_len,
        stored_len: stats.stored_len,
        data_pack_count: stats.data_packs,
        data_packs_len: stats.data_packs_len,
        metadata_pack_count: stats.metadata_packs,
        metadata_packs_len: stats.metadata_packs_len,
        chunk_count: stats.chunks,
        blob_count: stats.blobs,
        object_count: stats.objects,
    }
}
