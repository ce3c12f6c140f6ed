//! Pages of a snapshot's entries that cannot be had: each is named, and the command goes on behind it.
//!
//! Invariant: a command that met one does not end with code 0.
//! Never here: the entries themselves.

use engine::{EngineError, Kind, Repository};
use pack::SnapshotId;
use source::with_causes;

use crate::context::Context;
use crate::error::{CommandError, Outcome};
use crate::{hints, human};

/// Snapshots that a hint names.
const NAMED_MAX: usize = 3;

/// What was lost on the way.
#[derive(Debug, Default)]
pub(crate) struct Losses {
    count: u64,
}

impl Losses {
    /// Names what is lost; any other error ends the command.
    pub(crate) fn pass(&mut self, error: EngineError, of: &str, ctx: &Context) -> Result<(), CommandError> {
        if error.kind() != Kind::Damaged {
            return Err(error.into());
        }
        self.name(&error, of, ctx);
        Ok(())
    }

    /// Names what is lost, and of what.
    pub(crate) fn name(&mut self, error: &EngineError, of: &str, ctx: &Context) {
        let of = if of.is_empty() { String::new() } else { format!("{of}: ") };
        ctx.ui.problem(format_args!("{of}{}", with_causes(error)));
        self.count += 1;
    }

    /// Whether anything was lost.
    pub(crate) const fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// How the command ends, which looked at these snapshots.
    pub(crate) async fn outcome(&self, repository: &Repository, snapshots: &[SnapshotId], ctx: &Context) -> Outcome {
        if self.is_empty() {
            return Outcome::Done;
        }
        ctx.ui.hint(next_step(repository, snapshots, hints::AFTER_LOST_PAGES).await);
        Outcome::Partly
    }
}

/// The next step after something of these snapshots could not be had: `damaged`, unless one of them was forgotten meanwhile.
pub(crate) async fn next_step(repository: &Repository, snapshots: &[SnapshotId], damaged: &str) -> String {
    let forgotten = repository.removed_of(snapshots).await.unwrap_or_default();
    let ids: Vec<_> = forgotten.iter().take(NAMED_MAX).map(human::short).collect();
    let ids = if forgotten.len() > ids.len() { format!("{} and others", ids.join(", ")) } else { ids.join(", ") };
    match forgotten.len() {
        0 => damaged.to_owned(),
        count if count == snapshots.len() => format!("{}: {ids}", hints::FORGOTTEN_MEANWHILE),
        _ => format!("{}: {ids}; for what is missing of others, {damaged}", hints::FORGOTTEN_MEANWHILE),
    }
}

/// Tells damage from what a prune gave back since, because the snapshot was forgotten.
pub(crate) async fn or_forgotten(error: CommandError, repository: &Repository, snapshot: SnapshotId) -> CommandError {
    let is_forgotten = error.kind() == Kind::Damaged
        && repository.removed_of(&[snapshot]).await.is_ok_and(|removed| !removed.is_empty());
    if is_forgotten {
        CommandError::ForgottenMeanwhile { snapshot: human::short(&snapshot), source: Box::new(error) }
    } else {
        error
    }
}
