//! `undelete`: bring forgotten snapshots back, as long as no prune has removed what they need.
//!
//! Invariant: each comes back whole or not at all; one that cannot keeps none of the others from it.
//! Never here: what is looked up (see the engine).

use clap::Args;
use engine::{EngineError, ForgottenSnapshot};
use pack::SnapshotId;
use serde::Serialize;

use crate::context::Context;
use crate::error::{CommandError, Outcome};
use crate::human;
use crate::words::Reference;

const EXAMPLES: &str = "\
Examples:
  backstay snapshots --forgotten         # what can come back
  backstay undelete 1a2b3c4d 5e6f7a8b";

/// Bring forgotten snapshots back, until a prune has removed them
///
/// Each is committed anew, with the same content, times and tags, and gets a new id; the old id stays forgotten. What it
/// needs is looked up first, and if anything of that is gone, or about to be deleted, nothing is committed. Retention
/// counts it as it did before: a policy that let it go does so again, unless it is held. It takes the owner's key.
#[derive(Debug, Args)]
#[command(after_long_help = EXAMPLES)]
pub(crate) struct UndeleteArgs {
    /// Forgotten snapshots, by the start of their ids, as `backstay snapshots --forgotten` lists them
    #[arg(value_name = "SNAPSHOT", required = true, value_parser = Reference::parser())]
    named: Vec<Reference>,
}

#[derive(Debug, Serialize)]
struct Document {
    /// The id that it had.
    forgotten_id: String,
    /// The one that it has now; none if it could not come back.
    id: Option<String>,
    error: Option<String>,
}

/// Brings them back.
pub(crate) async fn run(args: &UndeleteArgs, ctx: &Context) -> Result<Outcome, CommandError> {
    let repository = ctx.open_repository().await?;
    let forgotten = repository.forgotten_snapshots().await?;
    let chosen = args.named.iter().map(|reference| choose(reference, &forgotten)).collect::<Result<Vec<_>, _>>()?;
    let mut documents = Vec::with_capacity(chosen.len());
    let mut failure = None;
    for one in chosen {
        let ended = repository.undelete(one, ctx.interrupts.token.clone()).await;
        match &ended {
            Ok(id) => ctx.ui.note(format_args!("{} is back, as {}", human::short(&one.info.id), human::short(id))),
            Err(EngineError::ContentGone { .. }) if args.named.len() > 1 => {}
            Err(_) => return Err(ended.err().map_or(CommandError::Interrupted, CommandError::Engine)),
        }
        documents.push(document(one.info.id, &ended));
        failure = ended.err().or(failure);
    }
    let back_count = documents.iter().filter(|document| document.id.is_some()).count();
    match failure {
        Some(error) if back_count == 0 => return Err(error.into()),
        _ if ctx.ui.is_json => ctx.ui.json(&documents)?,
        _ => documents.iter().filter_map(|document| document.error.as_ref()).for_each(|error| ctx.ui.warn(error)),
    }
    Ok(if back_count == documents.len() { Outcome::Done } else { Outcome::Partly })
}

fn document(forgotten: SnapshotId, ended: &Result<SnapshotId, EngineError>) -> Document {
    Document {
        forgotten_id: forgotten.to_string(),
        id: ended.as_ref().ok().map(ToString::to_string),
        error: ended.as_ref().err().map(ToString::to_string),
    }
}

fn choose<'f>(
    reference: &Reference,
    forgotten: &'f [ForgottenSnapshot],
) -> Result<&'f ForgottenSnapshot, CommandError> {
    let name = reference.snapshot().filter(|name| name != "latest" && !name.is_empty() && !reference.has_path);
    let name = name.ok_or_else(|| CommandError::NoSnapshotName { name: reference.name.clone() })?;
    let fits: Vec<_> = forgotten.iter().filter(|found| found.info.id.to_string().starts_with(&name)).collect();
    match fits.as_slice() {
        [one] => Ok(one),
        [] => Err(CommandError::NotThereToUndelete { name }),
        several => {
            let examples = several.iter().take(4).map(|found| found.info.id.to_string()).collect::<Vec<_>>();
            Err(EngineError::Ambiguous { what: name, count: several.len(), examples: examples.join(", ") }.into())
        }
    }
}
