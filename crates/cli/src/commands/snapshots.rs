//! `snapshots`: list what was committed.
//!
//! Never here: what is in a snapshot (see `ls`).

use clap::Args;
use engine::{Repository, SnapshotInfo};
use pack::{Component, ComponentState, SnapshotState};

use crate::classes::classes;
use crate::commands::hold;
use crate::commands::selection::{FilterArgs, tell_passed_over};
use crate::commands::snapshot_document::{SnapshotDocument, component_word, seconds_between};
use crate::context::Context;
use crate::error::{CommandError, Outcome};
use crate::human;
use crate::paint::Paint;
use crate::table::{Align, Table};
use crate::terminal;
use crate::words::moment;

const EXAMPLES: &str = "\
Examples:
  backstay snapshots
  backstay snapshots --long --host web1 --tag nightly
  backstay snapshots --forgotten         # those which `backstay undelete` can bring back
  backstay snapshots --json | jq '.[-1].id'";

/// Columns, and in which order they are left out where a terminal is too narrow; 0 always stays.
const COLUMNS: [(&str, Align, u8); 11] = [
    ("ID", Align::Left, 0),
    ("Time", Align::Left, 0),
    ("Host", Align::Left, 5),
    ("Source", Align::Left, 0),
    ("Components", Align::Left, 3),
    ("Size", Align::Right, 0),
    ("New", Align::Right, 2),
    ("Stored", Align::Right, 4),
    ("Took", Align::Right, 1),
    ("Class", Align::Left, 6),
    ("Tags and state", Align::Left, 0),
];
/// Components that are named in a row.
const NAMED_MAX: usize = 4;

/// List snapshots, oldest first
///
/// Size is what the snapshot protects, New what the repository did not have of it; Stored is what it added, index and
/// snapshot included. Class is what it is by date: the first whole snapshot of a year, month, week or day of its host
/// and source. A narrow terminal shows fewer columns.
#[derive(Debug, Args)]
#[command(after_long_help = EXAMPLES)]
pub(crate) struct SnapshotsArgs {
    /// Only those that began at or before this time: 2026-11-19, "2026-11-19 14:30", yesterday, "2 days ago"
    #[arg(long, value_name = "TIME", help_heading = "Which snapshots")]
    at: Option<String>,

    /// Show each component in a line of its own
    #[arg(short, long)]
    long: bool,

    /// Those that were forgotten and that no prune has removed yet, in place of the others
    #[arg(long, help_heading = "Which snapshots")]
    forgotten: bool,

    #[command(flatten)]
    filter: FilterArgs,
}

/// A snapshot to be shown, what is said of it beside its tags, and its document.
struct Shown {
    info: SnapshotInfo,
    remark: Option<String>,
    document: SnapshotDocument,
    class: Option<&'static str>,
}

/// Lists them.
pub(crate) async fn run(args: &SnapshotsArgs, ctx: &Context) -> Result<Outcome, CommandError> {
    let at = args.at.as_deref().map(|at| moment(at, &ctx.now())).transpose()?;
    let repository = ctx.open_repository().await?;
    let mut shown = match args.forgotten {
        true => forgotten(args, &repository).await?,
        false => committed(args, &repository, ctx).await?,
    };
    if let Some(at) = at {
        shown.retain(|one| i128::from(one.info.snapshot.structure.started_at) <= at.as_nanosecond());
    }
    if ctx.ui.is_json {
        ctx.ui.json(&shown.into_iter().map(|one| one.document).collect::<Vec<_>>())?;
    } else if shown.is_empty() {
        ctx.ui.note(if args.forgotten { "no forgotten snapshots that are still there" } else { "no snapshots" });
    } else {
        let rows: Vec<Row> = shown.iter().flat_map(|one| rows_of(one, args.long)).collect();
        ctx.ui.line(fitted(&rows, terminal::width(), ctx.ui.stdout))?;
    }
    tell_passed_over(&repository, ctx);
    Ok(Outcome::Done)
}

async fn committed(args: &SnapshotsArgs, repository: &Repository, ctx: &Context) -> Result<Vec<Shown>, CommandError> {
    let (mut snapshots, holds) =
        futures::try_join!(async { repository.snapshots(&args.filter.any_tags()).await }, repository.holds())?;
    let now = ctx.now();
    let classes = classes(&snapshots, now.time_zone());
    snapshots.retain(|info| args.filter.fits_tags(info));
    let shown = snapshots.into_iter().map(|info| {
        let class = classes.get(&info.id).copied();
        let held = holds.of(&info, now.timestamp());
        let document = SnapshotDocument::new(&info, class).with_held(held.as_ref());
        Shown { remark: held.as_ref().map(hold::words), document, class, info }
    });
    Ok(shown.collect())
}

async fn forgotten(args: &SnapshotsArgs, repository: &Repository) -> Result<Vec<Shown>, CommandError> {
    let filter = args.filter.filter();
    let found = repository.forgotten_snapshots().await?.into_iter().filter(|found| filter.fits(&found.info.snapshot));
    let shown = found.map(|found| {
        let at = human::local_time(found.forgotten_at);
        let back = found.back_as.map(|id| format!(", back as {}", human::short(&id))).unwrap_or_default();
        let document = SnapshotDocument::forgotten(&found);
        Shown { remark: Some(format!("forgotten {at}{back}")), document, class: None, info: found.info }
    });
    Ok(shown.collect())
}

/// The row of a snapshot, and if they are wanted those of its components.
fn rows_of(shown: &Shown, is_long: bool) -> Vec<Row> {
    let components = &shown.info.snapshot.structure.components;
    let named = match is_long {
        true => human::counted(components.len() as u64, "component", "components"),
        false => named(components),
    };
    let own = std::iter::once(row(shown, named));
    own.chain(components.iter().filter(|_| is_long).map(component_row)).collect()
}

type Row = [String; COLUMNS.len()];

/// A table that is no wider than this, if leaving out columns can make it so.
fn fitted(rows: &[Row], width: Option<usize>, paint: Paint) -> String {
    let mut left_out = 0;
    loop {
        let is_shown = |at: &usize| COLUMNS.get(*at).is_some_and(|(_, _, rank)| *rank == 0 || *rank > left_out);
        let shown: Vec<usize> = (0..COLUMNS.len()).filter(is_shown).collect();
        let columns: Vec<_> =
            shown.iter().filter_map(|at| COLUMNS.get(*at)).map(|(name, align, _)| (*name, *align)).collect();
        let mut table = Table::new(&columns);
        for row in rows {
            table.row(shown.iter().filter_map(|at| row.get(*at)).cloned());
        }
        let is_last = COLUMNS.iter().all(|(_, _, rank)| *rank <= left_out);
        let plain = table.width();
        if is_last || width.is_none_or(|width| plain <= width) {
            return table.show(paint);
        }
        left_out += 1;
    }
}

fn row(shown: &Shown, named: String) -> Row {
    let info = &shown.info;
    let structure = &info.snapshot.structure;
    let components = &structure.components;
    let sum = |of: fn(&Component) -> u64| human::size(components.iter().map(of).sum());
    [
        human::short(&info.id),
        human::local_time(structure.started_at),
        structure.host.clone(),
        structure.source.clone(),
        named,
        sum(|component| component.content_len),
        sum(|component| component.new_len),
        human::size(info.stored_len()),
        human::duration(seconds_between(structure.started_at, structure.ended_at)),
        shown.class.unwrap_or_default().to_owned(),
        remarks(info, shown.remark.as_deref()),
    ]
}

/// `db postgres, cache redis`: what is in it; a lone component that is called after its kind, once.
fn named(components: &[Component]) -> String {
    let name = |component: &Component| match component.name == component.kind {
        true => component.kind.clone(),
        false if components.len() == 1 => format!("{} {}", component.name, component.kind),
        false => component.name.clone(),
    };
    let mut names: Vec<String> = components.iter().take(NAMED_MAX).map(name).collect();
    if components.len() > NAMED_MAX {
        names.push(format!("{} more", components.len() - NAMED_MAX));
    }
    names.join(", ")
}

fn component_row(component: &Component) -> Row {
    let state = if component.state == ComponentState::Complete { "" } else { component_word(component.state) };
    [
        String::new(),
        String::new(),
        String::new(),
        String::new(),
        format!("{} {}", component.name, component.kind),
        human::size(component.content_len),
        human::size(component.new_len),
        human::size(component.stored_len),
        human::duration(seconds_between(component.started_at, component.ended_at)),
        String::new(),
        state.to_owned(),
    ]
}

/// Tags, and whatever is unusual: `nightly (partial: cache failed)`.
fn remarks(info: &SnapshotInfo, remark: Option<&str>) -> String {
    let structure = &info.snapshot.structure;
    let mut words = structure.tags.clone();
    if structure.state == SnapshotState::Partial {
        let lacking = structure.components.iter().filter(|component| component.state != ComponentState::Complete);
        let lacking = lacking.map(|component| format!("{} {}", component.name, component_word(component.state)));
        let lacking = lacking.collect::<Vec<_>>().join(", ");
        let is_alone = structure.components.len() == 1;
        words.push(if is_alone { "(partial)".to_owned() } else { format!("(partial: {lacking})") });
    }
    if !info.trusted {
        words.push("(not trusted: its key was removed)".to_owned());
    }
    words.extend(remark.map(|remark| format!("({remark})")));
    words.join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_narrow_terminal_leaves_out_what_matters_least_and_never_the_id() {
        let row: Row = COLUMNS.map(|(name, _, _)| format!("{name} of it"));
        let lines = |width| fitted(std::slice::from_ref(&row), width, Paint::plain());
        let wide = lines(None);
        assert!(COLUMNS.iter().all(|(name, _, _)| wide.contains(name)));
        let narrow = lines(Some(90));
        assert!(narrow.lines().all(|line| line.len() <= 90) && !narrow.contains("Took"), "{narrow}");
        let narrowest = lines(Some(10));
        let kept = COLUMNS.iter().filter(|(_, _, rank)| *rank == 0).map(|(name, _, _)| *name);
        assert!(kept.into_iter().all(|name| narrowest.contains(name)) && !narrowest.contains("Class"), "{narrowest}");
    }
}
