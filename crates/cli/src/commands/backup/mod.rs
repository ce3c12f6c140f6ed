//! `backup`: commit a snapshot of files, of standard input, or of what a command prints.
//!
//! Invariant: what could not be read is told by name, and the exit code says that something is missing.
//! Never here: reading anything.

mod arguments;
mod outcome;

use std::sync::Arc;

use engine::Progress;

pub(crate) use arguments::BackupArgs;

use crate::context::Context;
use crate::error::{CommandError, Outcome};
use crate::watch::Watch;

/// Backs up, and tells what came of it.
pub(crate) async fn run(args: &BackupArgs, ctx: &Context) -> Result<Outcome, CommandError> {
    let request = args.request(ctx)?;
    let repository = ctx.open_repository().await?;
    let progress = Arc::new(Progress::new());
    let watch = Watch::start(&ctx.ui, &progress, "entries");
    let report = repository.backup(request, &progress, ctx.interrupts.token.clone()).await;
    drop(watch);
    outcome::tell(&report?, &repository.warnings(), args.is_dry_run(), &ctx.ui)
}
