//! Pages of a snapshot's entries that cannot be had: each is named, and the command goes on behind it.
//!
//! Invariant: a command that met one does not end with code 0.
//! Never here: the entries themselves.

use engine::{EngineError, Kind};
use source::with_causes;

use crate::context::Context;
use crate::error::{CommandError, Outcome};
use crate::hints;

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

    /// How the command ends.
    pub(crate) fn outcome(&self, ctx: &Context) -> Outcome {
        if self.is_empty() {
            return Outcome::Done;
        }
        ctx.ui.hint(hints::AFTER_LOST_PAGES);
        Outcome::Partly
    }
}
