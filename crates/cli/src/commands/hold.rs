//! `hold`: keep snapshots from being forgotten, after they were made, and lift that.
//!
//! Invariant: lifting forgets nothing; it lets a later `forget` do so.
//! Never here: the keep-until that a backup gives its snapshot (see `backup`).

use clap::Args;
use engine::{EngineError, Held, Repository, Selector, SnapshotFilter, SnapshotInfo};
use pack::SnapshotId;
use serde::Serialize;

use crate::context::Context;
use crate::error::{CommandError, Outcome};
use crate::human;
use crate::words::{Reference, until};

const EXAMPLES: &str = "\
Examples:
  backstay hold 1a2b3c4d --reason \"audit of 2026\"
  backstay hold latest --until 7y
  backstay hold --lift 1a2b3c4d
  backstay snapshots                     # says what is held, and until when";

/// Keep snapshots from being forgotten, until a time or until that is lifted
///
/// Neither a policy nor `forget SNAPSHOT` lets a held snapshot go. Several holds of one snapshot add up. Holds stop policies and
/// mistakes; they do not stop somebody who may delete from the store.
#[derive(Debug, Args)]
#[command(after_long_help = EXAMPLES)]
pub(crate) struct HoldArgs {
    /// Snapshots, by `latest` or the start of their ids
    #[arg(value_name = "SNAPSHOT", required = true, value_parser = Reference::parser())]
    named: Vec<Reference>,

    /// Until this date or for this long: 2033-11-19, 7y [default: until it is lifted]
    #[arg(long, value_name = "TIME", conflicts_with = "lift")]
    until: Option<String>,

    /// Why, for whoever wonders later; everyone with a key can read it
    #[arg(long, value_name = "TEXT", default_value = "", hide_default_value = true, conflicts_with = "lift")]
    reason: String,

    /// Lift all that holds them
    #[arg(long)]
    lift: bool,

    /// With --lift: also the --keep-until that they were backed up with, which only the owner's key may
    #[arg(long, requires = "lift")]
    also_keep_until: bool,
}

/// How long a snapshot is held, as JSON.
#[derive(Debug, Serialize)]
pub(crate) struct HeldDocument {
    /// None until it is lifted.
    until: Option<String>,
    reason: String,
}

#[derive(Debug, Serialize)]
struct Document {
    id: String,
    held: Option<HeldDocument>,
}

impl From<&Held> for HeldDocument {
    fn from(held: &Held) -> Self {
        Self { until: held.until.map(human::rfc3339), reason: held.reason.clone() }
    }
}

/// Holds, or lifts.
pub(crate) async fn run(args: &HoldArgs, ctx: &Context) -> Result<Outcome, CommandError> {
    let until = args.until.as_deref().map(|text| until(text, &ctx.now())).transpose();
    let until = until.map_err(|what| CommandError::UntilWhen { option: "--until", what })?;
    let until = until.map(|at| i64::try_from(at.as_nanosecond()).unwrap_or(i64::MAX));
    let repository = ctx.open_repository().await?;
    let (snapshots, gone) = selected(&args.named, args.lift, &repository).await?;
    let ids: Vec<_> = snapshots.iter().map(|info| info.id).chain(gone.iter().copied()).collect();
    if args.lift {
        repository.lift_holds(&ids, args.also_keep_until).await?;
    } else {
        repository.hold(&ids, until, &args.reason).await?;
    }
    let (holds, now) = (repository.holds().await?, ctx.now().timestamp());
    if ctx.ui.is_json {
        let document = |info: &SnapshotInfo| Document {
            id: info.id.to_string(),
            held: holds.of(info, now).as_ref().map(HeldDocument::from),
        };
        let gone = gone.iter().map(|id| Document { id: id.to_string(), held: None });
        ctx.ui.json(&snapshots.iter().map(document).chain(gone).collect::<Vec<_>>())?;
        return Ok(Outcome::Done);
    }
    for id in gone {
        ctx.ui.note(format_args!("{id}, which is gone, is held no more"));
    }
    for info in &snapshots {
        let id = human::short(&info.id);
        match (holds.of(info, now), args.lift) {
            (Some(held), false) => ctx.ui.note(format_args!("{id} is {}", words(&held))),
            (Some(held), true) => {
                let words = words(&held);
                ctx.ui
                    .warn(format_args!("{id} is still {words}, as it was backed up: --also-keep-until lifts that too"));
            }
            (None, _) => ctx.ui.note(format_args!("{id} is held no more")),
        }
    }
    Ok(Outcome::Done)
}

/// `held until 2033-11-19 10:00:00: audit`.
pub(crate) fn words(held: &Held) -> String {
    let until = held.until.map_or_else(|| "held".to_owned(), |at| format!("held until {}", human::local_time(at)));
    match held.reason.as_str() {
        "" => until,
        reason => format!("{until}: {}", human::escaped(reason.as_bytes())),
    }
}

/// The snapshots that are named; beside them, where `gone_too`, whole ids of which there is none.
async fn selected(
    references: &[Reference],
    gone_too: bool,
    repository: &Repository,
) -> Result<(Vec<SnapshotInfo>, Vec<SnapshotId>), CommandError> {
    let (mut found, mut gone) = (Vec::<SnapshotInfo>::with_capacity(references.len()), Vec::new());
    for reference in references {
        let name = reference.snapshot().filter(|name| !name.is_empty() && !reference.has_path);
        let name = name.ok_or_else(|| CommandError::NoSnapshotName { name: reference.name.clone() })?;
        let selector = if name == "latest" { Selector::Latest } else { Selector::Prefix(name) };
        let id = SnapshotId::from_hex(&reference.name).filter(|_| gone_too);
        let info = match (repository.select(&selector, &SnapshotFilter::default()).await, id) {
            (Err(EngineError::NoSnapshot { .. }), Some(id)) => {
                gone.push(id);
                continue;
            }
            (selected, _) => selected?,
        };
        if found.iter().all(|other| other.id != info.id) {
            found.push(info);
        }
    }
    Ok((found, gone))
}
