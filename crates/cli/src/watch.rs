//! Shows what an operation has done so far, on stderr, as long as it runs.
//!
//! ```text
//! Progress ─[every 100 ms]► one line     dropped ─► the line is gone
//! ```
//!
//! Invariant: looking costs the operation nothing; counters are read without locks.
//! Never here: counting.

use std::sync::Arc;
use std::time::Duration;

use engine::{Progress, ProgressView};
use indicatif::{ProgressBar, ProgressStyle};
use tokio::task::JoinHandle;

use crate::human;
use crate::ui::Ui;

const LOOK_EVERY: Duration = Duration::from_millis(100);
const UNTIL_KNOWN: &str = "{spinner} {elapsed_precise}  {binary_bytes}  {binary_bytes_per_sec}  {wide_msg}";
const ONCE_KNOWN: &str =
    "{bar:16} {percent:>3} %  {binary_bytes} of {binary_total_bytes}  {binary_bytes_per_sec}  {eta} left  {wide_msg}";

/// A line on the terminal that follows an operation; gone when dropped.
pub(crate) struct Watch(Option<(ProgressBar, JoinHandle<()>)>);

impl Watch {
    /// Starts to show `progress`, whose entries are called `noun`, if progress is shown at all.
    pub(crate) fn start(ui: &Ui, progress: &Arc<Progress>, noun: &'static str) -> Self {
        if !ui.draws {
            return Self(None);
        }
        let bar = ui.bars.add(ProgressBar::no_length().with_style(style(UNTIL_KNOWN)));
        let follower = tokio::spawn(follow(bar.clone(), Arc::clone(progress), noun));
        Self(Some((bar, follower)))
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        if let Some((bar, follower)) = self.0.take() {
            follower.abort();
            bar.finish_and_clear();
        }
    }
}

async fn follow(bar: ProgressBar, progress: Arc<Progress>, noun: &'static str) {
    let mut looks = tokio::time::interval(LOOK_EVERY);
    loop {
        looks.tick().await;
        let view = progress.view();
        if view.len_total > 0 && bar.length() != Some(view.len_total) {
            bar.set_style(style(ONCE_KNOWN));
            bar.set_length(view.len_total);
        }
        bar.set_position(view.len);
        bar.set_message(message(&view, noun));
        bar.tick();
    }
}

fn message(view: &ProgressView, noun: &str) -> String {
    let mut parts = vec![match view.entries_total {
        0 => format!("{} {noun}", human::count(view.entries)),
        total => format!("{} of {} {noun}", human::count(view.entries), human::count(total)),
    }];
    if view.stored_len > 0 {
        parts.push(format!("{} stored", human::size(view.stored_len)));
    }
    if view.problems > 0 {
        parts.push(human::counted(view.problems, "problem", "problems"));
    }
    parts.join(", ")
}

fn style(template: &str) -> ProgressStyle {
    let style = ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar());
    style.progress_chars("━╸ ").tick_chars("⠋⠙⠹⠸⠼⠴⠦⠧⠇⠏ ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn templates_are_templates() {
        for template in [UNTIL_KNOWN, ONCE_KNOWN] {
            assert!(ProgressStyle::with_template(template).is_ok(), "{template}");
        }
    }

    #[test]
    fn message_tells_totals_once_they_are_known_and_problems_once_there_are_some() {
        let view = ProgressView { entries: 1200, ..ProgressView::default() };
        assert_eq!(message(&view, "entries"), "1,200 entries");
        let view = ProgressView { entries_total: 3000, stored_len: 2048, problems: 1, ..view };
        assert_eq!(message(&view, "entries"), "1,200 of 3,000 entries, 2.0 KiB stored, 1 problem");
    }
}
