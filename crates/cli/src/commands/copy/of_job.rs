//! The copies that a job makes of its snapshots.
//!
//! Invariant: a copy that fails fails for itself: the snapshot is committed, and other repositories still get theirs.
//! Never here: backing up.

use engine::{Repository, SnapshotFilter};
use serde::Serialize;
use source::with_causes;

use crate::commands::copy::destination::open_configured;
use crate::commands::copy::outcome::{CopiesDocument, failures, summary};
use crate::commands::copy::steps::{Copies, Wanted, copy_all};
use crate::config::JobConfig;
use crate::context::Context;
use crate::error::CommandError;
use crate::hints;
use crate::ui::Ui;

/// A copy of a job's snapshots.
pub(crate) struct JobCopy {
    to: String,
    ended: Result<Copies, CommandError>,
}

/// What came of it.
#[derive(Debug, Serialize)]
pub(crate) struct JobCopyDocument {
    to: String,
    failures: Vec<String>,
    /// What to do about the failure.
    hint: Option<String>,
    #[serde(flatten)]
    copies: Option<CopiesDocument>,
}

/// Copies what was not copied yet of a job's snapshots of this host to each repository that the job names.
pub(crate) async fn copies_of_job(
    name: &str,
    job: &JobConfig,
    host: &str,
    from: &Repository,
    ctx: &Context,
) -> Vec<JobCopy> {
    let filter = SnapshotFilter { hosts: vec![host.to_owned()], sources: vec![name.to_owned()], tags: Vec::new() };
    let level = job.compression.unwrap_or(3);
    let wanted = Wanted { filter, named: Vec::new(), level, is_dry_run: false };
    let mut all = Vec::with_capacity(job.copy_to.len());
    for to in &job.copy_to {
        let ended = async {
            let into = open_configured(to, ctx).await?;
            copy_all(from, &into, &wanted, ctx).await
        };
        all.push(JobCopy { to: to.clone(), ended: ended.await });
    }
    all
}

impl JobCopy {
    /// Whether everything is there.
    pub(crate) fn is_whole(&self) -> bool {
        self.ended.as_ref().is_ok_and(|copies| copies.failed.is_empty())
    }

    /// Tells people what came of it.
    pub(crate) fn tell(&self, ui: &Ui) {
        match &self.ended {
            Ok(copies) => ui.note(format_args!("to {}: {}", self.to, summary(copies))),
            Err(error) => {
                ui.problem(format_args!("nothing more was copied to {}: {}", self.to, with_causes(error)));
                hints::hint(error).into_iter().for_each(|hint| ui.note(format_args!("  next: {hint}")));
            }
        }
    }

    /// The document.
    pub(crate) fn document(&self) -> JobCopyDocument {
        let (failures, hint) = match &self.ended {
            Ok(copies) => (failures(copies).collect(), None),
            Err(error) => (vec![with_causes(error)], hints::hint(error)),
        };
        let copies = self.ended.as_ref().ok().map(CopiesDocument::new);
        JobCopyDocument { to: self.to.clone(), failures, hint, copies }
    }
}
