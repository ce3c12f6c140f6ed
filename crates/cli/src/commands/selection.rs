//! Which snapshots are meant: by name, by time, by host, tag and source.
//!
//! Invariant: `latest` and `--at` choose among what the filters leave.
//! Never here: listing.

use clap::Args;
use engine::{Repository, Selector, SnapshotFilter, SnapshotInfo};

use crate::context::Context;
use crate::error::CommandError;
use crate::words::{Reference, moment};

/// Which snapshots count at all.
#[derive(Debug, Args)]
#[command(next_help_heading = "Which snapshots")]
pub(crate) struct FilterArgs {
    /// Only those of this host; may be given several times
    #[arg(long, value_name = "HOST")]
    host: Vec<String>,

    /// Only those with this tag; given several times, with all of them
    #[arg(long, value_name = "TAG", value_delimiter = ',')]
    tag: Vec<String>,

    /// Only those of this source; may be given several times
    #[arg(long, value_name = "SOURCE")]
    source: Vec<String>,
}

/// Which one of them, and which part of it.
#[derive(Debug, Args)]
pub(crate) struct SelectionArgs {
    /// A snapshot, by `latest` or the start of its id, and a path within it
    ///
    /// Beside --at only the path is given, as `:PATH`.
    #[arg(value_name = "SNAPSHOT[:PATH]", value_parser = Reference::parser(), required_unless_present = "at")]
    reference: Option<Reference>,

    /// The newest snapshot at or before this time: 2026-11-19, "2026-11-19 14:30", yesterday, "2 days ago"
    #[arg(long, value_name = "TIME", help_heading = "Which snapshots")]
    at: Option<String>,

    #[command(flatten)]
    filter: FilterArgs,
}

impl FilterArgs {
    /// As the engine takes it.
    pub(crate) fn filter(&self) -> SnapshotFilter {
        SnapshotFilter { hosts: self.host.clone(), tags: self.tag.clone(), sources: self.source.clone() }
    }
}

impl SelectionArgs {
    /// The path within the snapshot; empty for all of it.
    pub(crate) fn path(&self) -> &[u8] {
        self.reference.as_ref().map_or(&[], |reference| reference.path.as_slice())
    }

    /// Looks the snapshot up.
    pub(crate) async fn select(&self, repository: &Repository, ctx: &Context) -> Result<SnapshotInfo, CommandError> {
        Ok(repository.select(&self.selector(ctx)?, &self.filter.filter()).await?)
    }

    fn selector(&self, ctx: &Context) -> Result<Selector, CommandError> {
        let name = self.reference.as_ref().map_or("", |reference| reference.snapshot.as_str());
        match (&self.at, name) {
            (Some(at), "") => {
                let at = moment(at, &ctx.now())?;
                Ok(Selector::At(i64::try_from(at.as_nanosecond()).unwrap_or(i64::MAX)))
            }
            (Some(_), _) => Err(CommandError::SnapshotTwice),
            (None, "") => Err(CommandError::SnapshotUnnamed),
            (None, "latest") => Ok(Selector::Latest),
            (None, id) => Ok(Selector::Prefix(id.to_owned())),
        }
    }
}
