//! What a backup did, for people and for programs.
//!
//! Invariant: every problem that the engine reports is shown, or counted among those that are not.
//! Never here: deciding what is a problem.

use engine::BackupReport;
use pack::SnapshotState;
use serde::Serialize;

use crate::commands::snapshot_document::state_word;
use crate::error::{CommandError, Outcome};
use crate::human;
use crate::problems::{ProblemDocument, documents, tell_problems};
use crate::ui::Ui;

#[derive(Debug, Serialize)]
struct Document {
    snapshot_id: Option<String>,
    parent_id: Option<String>,
    state: Option<&'static str>,
    is_dry_run: bool,
    entry_count: u64,
    unchanged_count: u64,
    content_len: u64,
    read_len: u64,
    new_len: u64,
    /// Chunks that were lost and are there again.
    healed_chunk_count: u64,
    stored_len: u64,
    pack_count: u64,
    seconds: f64,
    problem_count: u64,
    problems: Vec<ProblemDocument>,
    warnings: Vec<String>,
    stderr: String,
}

/// Shows the report and says how it ended. `told` are warnings which stderr has seen already.
pub(super) fn tell(report: &BackupReport, told: &[String], is_dry_run: bool, ui: &Ui) -> Result<Outcome, CommandError> {
    let is_partial =
        report.state == Some(SnapshotState::Partial) || report.problems.iter().any(|problem| problem.loses);
    if ui.is_json {
        ui.json(&document(report, told, is_dry_run))?;
    } else {
        report.warnings.iter().for_each(|warning| ui.warn(warning));
        tell_problems(&report.problems, report.problem_count, ui);
        ui.detail(details(report));
        ui.note(summary(report, is_partial, is_dry_run));
        human::healed(report.healed_count).into_iter().for_each(|healed| ui.note(healed));
    }
    Ok(if is_partial { Outcome::Partly } else { Outcome::Done })
}

/// `snapshot 1a2b3c4d committed: 60,127 entries, 2.1 GiB protected, 3.1 MiB stored in 4.2 s`.
fn summary(report: &BackupReport, is_partial: bool, is_dry_run: bool) -> String {
    let what = match &report.snapshot {
        Some(id) if is_partial => format!("snapshot {} committed in part", human::short(id)),
        Some(id) => format!("snapshot {} committed", human::short(id)),
        None if is_dry_run => "dry run, nothing was stored".to_owned(),
        None => "nothing was committed".to_owned(),
    };
    let added = match is_dry_run {
        true => format!("{} of new content", human::size(report.new_len)),
        false => format!("{} stored", human::size(report.stored_len)),
    };
    let entries = human::counted(report.entry_count, "entry", "entries");
    let protected = human::size(report.content_len);
    format!("{what}: {entries}, {protected} protected, {added} in {}", human::duration(report.seconds))
}

/// `60,001 unchanged since 0b2c3d4e, 12.0 MiB read, 5.0 MiB of it new, 2 packs`.
fn details(report: &BackupReport) -> String {
    let parent = report.parent.map(|id| format!(" since {}", human::short(&id))).unwrap_or_default();
    let (unchanged, read, new) =
        (human::count(report.unchanged_count), human::size(report.read_len), human::size(report.new_len));
    let packs = human::counted(report.pack_count, "pack", "packs");
    format!("{unchanged} unchanged{parent}, {read} read, {new} of it new, {packs}")
}

fn document(report: &BackupReport, told: &[String], is_dry_run: bool) -> Document {
    Document {
        snapshot_id: report.snapshot.map(|id| id.to_string()),
        parent_id: report.parent.map(|id| id.to_string()),
        state: report.state.map(state_word),
        is_dry_run,
        entry_count: report.entry_count,
        unchanged_count: report.unchanged_count,
        content_len: report.content_len,
        read_len: report.read_len,
        new_len: report.new_len,
        healed_chunk_count: report.healed_count,
        stored_len: report.stored_len,
        pack_count: report.pack_count,
        seconds: report.seconds,
        problem_count: report.problem_count,
        problems: documents(&report.problems),
        warnings: [told, &report.warnings].concat(),
        stderr: String::from_utf8_lossy(&report.stderr).into_owned(),
    }
}

#[cfg(test)]
mod tests {
    use pack::SnapshotId;

    use super::*;

    #[test]
    fn summary_says_what_was_protected_and_what_it_cost() {
        let report = BackupReport {
            snapshot: Some(SnapshotId([0x1a; 16])),
            entry_count: 60_127,
            content_len: 2_254_857_830,
            new_len: 5 << 20,
            stored_len: 3_250_585,
            seconds: 4.2,
            ..BackupReport::default()
        };
        let rest = "60,127 entries, 2.1 GiB protected, 3.1 MiB stored in 4.2 s";
        assert_eq!(summary(&report, false, false), format!("snapshot 1a1a1a1a committed: {rest}"));
        assert_eq!(summary(&report, true, false), format!("snapshot 1a1a1a1a committed in part: {rest}"));
        let dry = BackupReport { snapshot: None, ..report };
        let rest = "60,127 entries, 2.1 GiB protected, 5.0 MiB of new content in 4.2 s";
        assert_eq!(summary(&dry, false, true), format!("dry run, nothing was stored: {rest}"));
    }
}
