//! `key status`: the epochs, and what is sealed to each.
//!
//! Invariant: every epoch has a row, also one that seals nothing any more.
//! Never here: beginning an epoch (see `rotate`).

use clap::Args;
use engine::KeyStatus;
use serde::Serialize;

use crate::context::Context;
use crate::error::{CommandError, Outcome};
use crate::human;
use crate::paint::Paint;
use crate::table::{Align, Table};

const EXAMPLES: &str = "\
Examples:
  backstay key status
  backstay key status --json | jq .epoch";

/// Show the epochs, and how much is sealed to each
#[derive(Debug, Args)]
#[command(after_long_help = EXAMPLES)]
pub(crate) struct StatusArgs {}

#[derive(Debug, Serialize)]
struct Document {
    epoch: u32,
    began_at: String,
    epochs: Vec<EpochDocument>,
}

#[derive(Debug, Serialize)]
struct EpochDocument {
    epoch: u32,
    pack_count: u64,
    stored_len: u64,
}

/// Shows them.
pub(super) async fn run(ctx: &Context) -> Result<Outcome, CommandError> {
    let status = ctx.open_repository().await?.key_status().await?;
    if ctx.ui.is_json {
        ctx.ui.json(&document(&status))?;
    } else {
        ctx.ui.note(format_args!("epoch {}, since {}", status.epoch, human::local_time(status.since)));
        ctx.ui.line(table(&status, ctx.ui.stdout))?;
    }
    Ok(Outcome::Done)
}

fn table(status: &KeyStatus, paint: Paint) -> String {
    let mut table = Table::new(&[("Epoch", Align::Right), ("Packs", Align::Right), ("Size", Align::Right)]);
    for (epoch, count, len) in &status.packs {
        table.row([epoch.to_string(), human::count(*count), human::size(*len)]);
    }
    table.show(paint)
}

fn document(status: &KeyStatus) -> Document {
    let epochs = status.packs.iter().map(|(epoch, count, len)| EpochDocument {
        epoch: *epoch,
        pack_count: *count,
        stored_len: *len,
    });
    Document { epoch: status.epoch, began_at: human::rfc3339(status.since), epochs: epochs.collect() }
}
