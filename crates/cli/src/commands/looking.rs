//! What the commands have in common that let other programs look into snapshots.
//!
//! Invariant: what could not be shown is told with what to do about it.
//! Never here: how snapshots are shown.

use std::time::Duration;

use clap::Args;
use engine::{Kind, View, ViewLimits};
use serve::Trouble;

use crate::commands::selection::FilterArgs;
use crate::context::Context;
use crate::error::CommandError;
use crate::hints;
use crate::words::{lasting, size};

/// The least that content kept in memory may take: a few blobs.
const MEMORY_LEN_MIN: u64 = 16 << 20;
/// What content on disk may take: some files, and as many as can be searched.
const DISK_LEN_MIN: u64 = 64 << 20;
const DISK_LEN_MAX: u64 = 8 << 30;

/// What is shown, and what that may take.
#[derive(Debug, Args)]
pub(crate) struct LookingArgs {
    /// Keep at most this much content in memory
    #[arg(long, value_name = "SIZE", default_value = "64M", value_parser = memory)]
    pub(crate) memory: u64,

    /// Keep about this much content on disk, sealed as it is stored; 0 for none
    ///
    /// It lies in the cache folder and is there for the next mount too. Of a repository in a folder none is kept, nor beside another mount
    /// of the same repository.
    #[arg(long, value_name = "SIZE", default_value = "1G", value_parser = disk)]
    pub(crate) disk: u64,

    /// Fail a request that the store has not answered for this time
    #[arg(long, value_name = "TIME", default_value = "30s", value_parser = lasting)]
    pub(crate) give_up_after: Duration,

    #[command(flatten)]
    pub(crate) filter: FilterArgs,
}

fn memory(text: &str) -> Result<u64, String> {
    size(text).and_then(|len| if len < MEMORY_LEN_MIN { Err("at least 16M are needed".to_owned()) } else { Ok(len) })
}

fn disk(text: &str) -> Result<u64, String> {
    let is_fine = |len: &u64| *len == 0 || (DISK_LEN_MIN..=DISK_LEN_MAX).contains(len);
    size(text).and_then(|len| Some(len).filter(is_fine).ok_or_else(|| "from 64M to 8G can be kept, or 0".to_owned()))
}

impl LookingArgs {
    /// Opens the repository to look into it.
    pub(crate) async fn view(&self, ctx: &Context) -> Result<View, CommandError> {
        let repository = ctx.open_repository_to_look(self.disk).await?;
        let memory = usize::try_from(self.memory).unwrap_or(usize::MAX);
        Ok(repository.view(ViewLimits { blobs_len_max: memory, ..ViewLimits::default() }).await?)
    }

    /// Bytes that are read ahead at most.
    pub(crate) const fn ahead_len_max(&self) -> u64 {
        self.memory / 2
    }

    /// Says what could not be shown, and what to do about it.
    pub(crate) fn tell(&self, trouble: &Trouble, ctx: &Context) {
        let Some(error) = &trouble.error else {
            let after = self.give_up_after;
            return ctx.ui.problem(format_args!("{}: the store has not answered for {after:?}", trouble.what));
        };
        ctx.ui.problem(format_args!("{}: {error}", trouble.what));
        if error.kind() == Kind::Damaged {
            ctx.ui.hint(hints::AFTER_DAMAGE_WHILE_SHOWN);
        }
    }
}
