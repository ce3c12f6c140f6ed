//! What a copy did, for people and for programs.
//!
//! Invariant: every snapshot that was meant is in the document, with what became of it.
//! Never here: deciding what is copied.

use engine::{CopyReport, EngineError, Passed, SnapshotInfo};
use serde::Serialize;
use source::with_causes;

use crate::commands::copy::steps::Copies;
use crate::commands::selection::shown;
use crate::context::Context;
use crate::error::CommandError;
use crate::hints;
use crate::human;
use crate::ui::Ui;

/// What came of a copy.
#[derive(Debug, Serialize)]
pub(crate) struct CopiesDocument {
    is_dry_run: bool,
    snapshots: Vec<CopyDocument>,
    copied_count: usize,
    failed_count: usize,
    read_len: u64,
    new_len: u64,
    stored_len: u64,
}

#[derive(Debug, Serialize)]
struct CopyDocument {
    /// The snapshot in the repository that is copied from.
    id: String,
    started_at: String,
    host: String,
    source: String,
    /// `copied`, `failed`, `planned`, `present`, `outdated`, `let-go` or `untrusted`.
    result: &'static str,
    /// The snapshot in the repository that is copied to.
    #[serde(skip_serializing_if = "Option::is_none")]
    copy_id: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    failure: Option<String>,
    #[serde(flatten, skip_serializing_if = "Option::is_none")]
    figures: Option<Figures>,
}

#[derive(Debug, Serialize)]
struct Figures {
    parent_id: Option<String>,
    entry_count: u64,
    unchanged_count: u64,
    content_len: u64,
    read_len: u64,
    new_len: u64,
    stored_len: u64,
    pack_count: u64,
    seconds: f64,
    warnings: Vec<String>,
}

/// Tells what was not told while it went on.
pub(super) fn tell(copies: &Copies, ctx: &Context) -> Result<(), CommandError> {
    if ctx.ui.is_json {
        return ctx.ui.json(&CopiesDocument::new(copies));
    }
    for (info, why) in &copies.plan.passed {
        match why {
            Passed::Here(here) => ctx.ui.detail(format_args!("{} is there as {}", shown(info), human::short(here))),
            Passed::Outdated(here) => {
                let here = human::short(here);
                ctx.ui.warn(format_args!(
                    "{}: its copy {here} still has what was removed here: rewrite it there too",
                    shown(info)
                ));
            }
            Passed::LetGo => ctx.ui.detail(format_args!("{} was copied before and is there no more", shown(info))),
            Passed::NotTrusted => ctx.ui.warn(format_args!("{} is left out: its key was removed", shown(info))),
        }
    }
    if copies.is_dry_run {
        for info in &copies.plan.wanted {
            ctx.ui.line(format_args!("{}: {} to be copied", shown(info), human::size(content_len(info))))?;
        }
    }
    ctx.ui.note(summary(copies));
    Ok(())
}

/// `2 snapshots copied, 5 were there already, 1 failed`.
pub(super) fn summary(copies: &Copies) -> String {
    let counted = |count: usize| human::counted(count as u64, "snapshot", "snapshots");
    let first = match copies.is_dry_run {
        true => format!("dry run, {} would be copied", counted(copies.plan.wanted.len())),
        false => format!("{} copied", counted(copies.done.len())),
    };
    let passed = |wanted: fn(&Passed) -> bool| copies.plan.passed.iter().filter(|(_, why)| wanted(why)).count();
    let here = passed(|why| matches!(why, Passed::Here(_) | Passed::Outdated(_)));
    let let_go = passed(|why| matches!(why, Passed::LetGo));
    let more = [(here, "there already"), (let_go, "copied before and let go there"), (copies.failed.len(), "failed")];
    let more = more.into_iter().filter(|(count, _)| *count > 0).map(|(count, what)| format!(", {count} {what}"));
    std::iter::once(first).chain(more).collect()
}

/// What could not be copied, with the reasons.
pub(super) fn failures(copies: &Copies) -> impl Iterator<Item = String> {
    copies.failed.iter().map(|(info, error)| format!("{}: {}", shown(info), with_causes(error)))
}

/// Tells of a snapshot that was copied.
pub(super) fn tell_copied(info: &SnapshotInfo, report: &CopyReport, ui: &Ui) {
    if ui.is_json {
        return;
    }
    report.warnings.iter().for_each(|warning| ui.warn(warning));
    let here = report.snapshot.map(|id| human::short(&id)).unwrap_or_default();
    ui.note(format_args!(
        "{} copied as {here}: {}, {} protected, {} read, {} stored in {}",
        shown(info),
        human::counted(report.entry_count, "entry", "entries"),
        human::size(report.content_len),
        human::size(report.read_len),
        human::size(report.stored_len),
        human::duration(report.seconds)
    ));
}

/// Tells of a snapshot that could not be copied.
pub(super) fn tell_failed(info: &SnapshotInfo, error: &EngineError, ui: &Ui) {
    if ui.is_json {
        return;
    }
    ui.problem(format_args!("{} was not copied: {}", shown(info), with_causes(error)));
    hints::of_component(error).into_iter().for_each(|hint| ui.note(format_args!("  next: {hint}")));
}

fn content_len(info: &SnapshotInfo) -> u64 {
    info.snapshot.structure.components.iter().map(|component| component.content_len).sum()
}

impl CopiesDocument {
    /// The document.
    pub(super) fn new(copies: &Copies) -> Self {
        let done = copies.done.iter().map(|(info, report)| copied(info, report));
        let failed = copies.failed.iter().map(|(info, error)| {
            let failure = Some(with_causes(error));
            CopyDocument { failure, ..document(info, "failed") }
        });
        let planned = copies.plan.wanted.iter().filter(|_| copies.is_dry_run).map(|info| document(info, "planned"));
        let passed = copies.plan.passed.iter().map(|(info, why)| match why {
            Passed::Here(here) => CopyDocument { copy_id: Some(here.to_string()), ..document(info, "present") },
            Passed::Outdated(here) => CopyDocument { copy_id: Some(here.to_string()), ..document(info, "outdated") },
            Passed::LetGo => document(info, "let-go"),
            Passed::NotTrusted => document(info, "untrusted"),
        });
        let sum = |of: fn(&CopyReport) -> u64| copies.done.iter().map(|(_, report)| of(report)).sum();
        Self {
            is_dry_run: copies.is_dry_run,
            copied_count: copies.done.len(),
            failed_count: copies.failed.len(),
            read_len: sum(|report| report.read_len),
            new_len: sum(|report| report.new_len),
            stored_len: sum(|report| report.stored_len),
            snapshots: done.chain(failed).chain(planned).chain(passed).collect(),
        }
    }
}

fn document(info: &SnapshotInfo, result: &'static str) -> CopyDocument {
    let structure = &info.snapshot.structure;
    CopyDocument {
        id: info.id.to_string(),
        started_at: human::rfc3339(structure.started_at),
        host: structure.host.clone(),
        source: structure.source.clone(),
        result,
        copy_id: None,
        failure: None,
        figures: None,
    }
}

fn copied(info: &SnapshotInfo, report: &CopyReport) -> CopyDocument {
    let figures = Figures {
        parent_id: report.parent.map(|id| id.to_string()),
        entry_count: report.entry_count,
        unchanged_count: report.unchanged_count,
        content_len: report.content_len,
        read_len: report.read_len,
        new_len: report.new_len,
        stored_len: report.stored_len,
        pack_count: report.pack_count,
        seconds: report.seconds,
        warnings: report.warnings.clone(),
    };
    let copy_id = report.snapshot.map(|id| id.to_string());
    CopyDocument { copy_id, figures: Some(figures), ..document(info, "copied") }
}
