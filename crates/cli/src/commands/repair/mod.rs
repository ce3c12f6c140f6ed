//! `repair`: the index, packs and snapshots, each by a plan that is shown first.
//!
//! Invariant: without `--yes` nothing is changed, and the exit code says whether there was something to do.
//! Never here: what is damaged and what is left (see the engine).

mod index;
mod packs;
mod snapshots;

use clap::{Args, Subcommand};
use engine::Told;
use serde::Serialize;

use crate::context::Context;
use crate::error::{CommandError, Outcome};
use crate::human;
use crate::ui::Ui;

/// Packs that a plan shows one by one.
const SHOWN_MAX: usize = 100;

/// Bring a damaged repository in order: what is left is kept, what is lost is named
///
/// Each command shows its plan and changes nothing without --yes. In this order: the index, packs, snapshots. Then check
/// finds nothing, or says what is lost. A later backup of the same source stores again what it still has.
#[derive(Debug, Subcommand)]
pub(crate) enum RepairCommand {
    Index(index::IndexArgs),
    Packs(packs::PacksArgs),
    Snapshots(snapshots::SnapshotsArgs),
}

/// Whether the plan is carried out.
#[derive(Debug, Args)]
struct ConsentArgs {
    /// Show the plan and do nothing, with exit code 0
    #[arg(long, short = 'n', conflicts_with = "yes")]
    dry_run: bool,

    /// Carry the plan out
    #[arg(long)]
    yes: bool,
}

impl RepairCommand {
    /// Does it.
    pub(crate) async fn run(&self, ctx: &Context) -> Result<Outcome, CommandError> {
        match self {
            Self::Index(args) => index::run(args, ctx).await,
            Self::Packs(args) => packs::run(args, ctx).await,
            Self::Snapshots(args) => snapshots::run(args, ctx).await,
        }
    }
}

impl ConsentArgs {
    /// Ends a command that has something to do and was not told to do it.
    fn refuse(&self, what: String) -> Result<Outcome, CommandError> {
        if self.dry_run { Ok(Outcome::Done) } else { Err(CommandError::NotRepaired { what }) }
    }
}

/// Says something to people; a document says it to programs.
fn note(text: impl std::fmt::Display, ui: &Ui) {
    if !ui.is_json {
        ui.note(text);
    }
}

/// An object with what is wrong with it.
#[derive(Debug, Serialize)]
struct WrongDocument<'a> {
    object: &'a str,
    what: &'a str,
}

fn documents(told: &Told) -> Vec<WrongDocument<'_>> {
    told.named.iter().map(|(object, what)| WrongDocument { object, what }).collect()
}

/// Shows what stands in `told`, each behind `verb`.
fn show(told: &Told, verb: &str, ui: &Ui) -> Result<(), CommandError> {
    for (object, what) in &told.named {
        ui.line(format_args!("{verb} {object}: {what}"))?;
    }
    let untold = told.count.saturating_sub(told.named.len() as u64);
    if untold > 0 {
        ui.line(format_args!("  and {} more", human::count(untold)))?;
    }
    Ok(())
}
