//! Which snapshots are meant: by name, by time, by host, tag and source.
//!
//! A path is taken as it was typed; only where nothing lies there, as the one that `ls` shows so, with its escapes.
//!
//! Invariant: `latest` and `--at` choose among what the filters leave; with a path, among what has it.
//! Never here: listing.

use std::sync::OnceLock;

use clap::Args;
use engine::{Chosen, Part, Repository, Selector, SnapshotFilter, SnapshotInfo};

use crate::commands::snapshot_document::{UNREADABLE, lacking};
use crate::context::Context;
use crate::error::CommandError;
use crate::hints;
use crate::human::{self, escaped};
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
    /// Beside --at only the path is given, as `:PATH`, if any. With a path, `latest` and --at mean the newest snapshot that has it.
    /// A path may be written as `ls` shows it: `\n`, `\t`, `\r`, `\\` and `\xNN` stand for what they say, unless something is called just so.
    #[arg(value_name = "SNAPSHOT[:PATH]", value_parser = Reference::parser(), required_unless_present = "at")]
    reference: Option<Reference>,

    /// The path that was meant, where it was typed as it is shown.
    #[arg(skip)]
    meant: OnceLock<Vec<u8>>,

    /// The newest snapshot at or before this time: 2026-11-19, "2026-11-19 14:30", yesterday, "2 days ago"
    #[arg(long, value_name = "TIME", help_heading = "Which snapshots")]
    at: Option<String>,

    #[command(flatten)]
    filter: FilterArgs,
}

/// The snapshot that an option names, without a path in it.
pub(crate) async fn named(reference: &Reference, repository: &Repository) -> Result<SnapshotInfo, CommandError> {
    let name = reference.snapshot().filter(|name| !name.is_empty() && !reference.has_path);
    let name = name.ok_or_else(|| CommandError::NoSnapshotName { name: reference.name.clone() })?;
    let selector = if name == "latest" { Selector::Latest } else { Selector::Prefix(name) };
    Ok(repository.select(&selector, &SnapshotFilter::default()).await?)
}

/// The snapshot that an argument names, and the path in it; of `latest`, the newest that has something at the argument's path.
pub(crate) async fn one_of(
    reference: &Reference,
    repository: &Repository,
    filter: &SnapshotFilter,
) -> Result<(SnapshotInfo, Vec<u8>), CommandError> {
    let name = reference.snapshot().filter(|name| !name.is_empty());
    let name = name.ok_or_else(|| CommandError::NoSnapshotName { name: reference.name.clone() })?;
    let selector = if name == "latest" { Selector::Latest } else { Selector::Prefix(name) };
    let part = Part { path: &reference.path, component: None };
    let (chosen, meant) = holding(repository, &selector, filter, part).await?;
    Ok((chosen.snapshot, meant.unwrap_or_else(|| reference.path.clone())))
}

/// The snapshot that is meant, and its path if that was typed as it is shown.
async fn holding(
    repository: &Repository,
    selector: &Selector,
    filter: &SnapshotFilter,
    part: Part<'_>,
) -> Result<(Chosen, Option<Vec<u8>>), CommandError> {
    let chosen = repository.select_holding(selector, filter, part).await?;
    let Some(meant) = as_shown(part.path) else { return Ok((chosen, None)) };
    if repository.seems_to_hold(&chosen.snapshot, part).await? {
        return Ok((chosen, None));
    }
    let part = Part { path: &meant, ..part };
    let other = repository.select_holding(selector, filter, part).await?;
    let is_there = repository.seems_to_hold(&other.snapshot, part).await?;
    Ok(if is_there { (other, Some(meant)) } else { (chosen, None) })
}

/// The path that is shown like this one, if it is another.
pub(crate) fn as_shown(path: &[u8]) -> Option<Vec<u8>> {
    source::entry::unescaped(path).filter(|meant| meant != path)
}

/// `1a2b3c4d (files of web1, 2026-11-19 14:30:05)`.
pub(crate) fn shown(info: &SnapshotInfo) -> String {
    let structure = &info.snapshot.structure;
    let (source, host) = (escaped(structure.source.as_bytes()), escaped(structure.host.as_bytes()));
    format!("{} ({source} of {host}, {})", human::short(&info.id), human::local_time(structure.started_at))
}

/// Says what to do about snapshots that cannot be read, if the listing met any; each was warned of.
pub(crate) fn tell_passed_over(repository: &Repository, ctx: &Context) {
    if repository.has_passed_over() && !ctx.ui.is_json {
        ctx.ui.hint(hints::PASSED_OVER);
    }
}

/// What is said of a component that failed in the snapshot that was meant.
async fn failed(repository: &Repository, snapshot: &SnapshotInfo, name: &str) -> Result<CommandError, CommandError> {
    let newest = repository.newest_with(snapshot, name).await?;
    let lacking = lacking(snapshot).into_iter().find(|lacking| lacking.component == name);
    Ok(CommandError::ComponentFailed {
        name: name.to_owned(),
        snapshot: human::short(&snapshot.id),
        reason: lacking.and_then(|lacking| lacking.reason).unwrap_or_else(|| UNREADABLE.to_owned()),
        newest: newest.map(|info| shown(&info)),
    })
}

impl FilterArgs {
    /// All of the hosts and sources that are meant, whatever their tags.
    pub(crate) fn any_tags(&self) -> SnapshotFilter {
        SnapshotFilter { tags: Vec::new(), ..self.filter() }
    }

    /// Whether a snapshot has all of the tags that are meant.
    pub(crate) fn fits_tags(&self, info: &SnapshotInfo) -> bool {
        self.tag.iter().all(|tag| info.snapshot.structure.tags.contains(tag))
    }

    /// As the engine takes it.
    pub(crate) fn filter(&self) -> SnapshotFilter {
        SnapshotFilter { hosts: self.host.clone(), tags: self.tag.clone(), sources: self.source.clone() }
    }
}

impl SelectionArgs {
    /// The path within the snapshot; empty for all of it.
    pub(crate) fn path(&self) -> &[u8] {
        let typed = self.reference.as_ref().map(|reference| &reference.path);
        self.meant.get().or(typed).map_or(&[], Vec::as_slice)
    }

    /// What is named beside --at where a snapshot would be: a component.
    pub(crate) fn component(&self) -> Option<&str> {
        let reference = self.reference.as_ref().filter(|_| self.at.is_some())?;
        (!reference.has_path && reference.name != "latest").then_some(reference.name.as_str())
    }

    /// Looks the snapshot up, and says so if it is not the newest, as that has nothing at the path.
    pub(crate) async fn select(&self, repository: &Repository, ctx: &Context) -> Result<SnapshotInfo, CommandError> {
        self.select_with(repository, ctx, None).await
    }

    /// The same, where a component is wanted: one that failed in the snapshot is an error.
    pub(crate) async fn select_with(
        &self,
        repository: &Repository,
        ctx: &Context,
        component: Option<&str>,
    ) -> Result<SnapshotInfo, CommandError> {
        let (selector, filter) = (self.selector(ctx, component)?, self.filter.filter());
        let part = Part { path: self.path(), component };
        let chosen = holding(repository, &selector, &filter, part).await;
        tell_passed_over(repository, ctx);
        let (Chosen { snapshot, passed_over }, meant) = chosen?;
        if let Some(meant) = meant {
            self.meant.get_or_init(|| meant);
        }
        if let Some(newest) = &passed_over {
            let what = match component {
                Some(name) if newest.has_failed(name) => format!("{} failed", escaped(name.as_bytes())),
                Some(name) if self.path().is_empty() => format!("{} is not", escaped(name.as_bytes())),
                _ => format!("/{} is not", escaped(self.path())),
            };
            let (taken, newest) = (shown(&snapshot), shown(newest));
            ctx.ui.note(format_args!("{what} in the newest snapshot, {newest}; taking {taken}"));
        }
        match component.filter(|name| snapshot.has_failed(name)) {
            Some(name) => Err(failed(repository, &snapshot, name).await?),
            None => Ok(snapshot),
        }
    }

    fn selector(&self, ctx: &Context, component: Option<&str>) -> Result<Selector, CommandError> {
        let reference = self.reference.as_ref().filter(|reference| !reference.name.is_empty());
        let is_component = component.is_some() && component == self.component();
        let reference = reference.filter(|_| !is_component);
        let name = reference.map(|found| found.snapshot().ok_or_else(|| found.name.clone())).transpose();
        match (&self.at, name.as_ref().map(Option::as_deref)) {
            (Some(at), Ok(None)) => {
                let at = moment(at, &ctx.now())?;
                Ok(Selector::At(i64::try_from(at.as_nanosecond()).unwrap_or(i64::MAX)))
            }
            (Some(_), _) => Err(CommandError::SnapshotTwice),
            (None, Ok(None)) => Err(CommandError::SnapshotUnnamed),
            (None, Ok(Some("latest"))) => Ok(Selector::Latest),
            (None, Ok(Some(id))) => Ok(Selector::Prefix(id.to_owned())),
            (None, Err(name)) => Err(CommandError::NoSnapshotName { name: (*name).clone() }),
        }
    }
}
