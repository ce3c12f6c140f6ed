//! How `browse` looks.
//!
//! ```text
//! where one is
//! │ list, preview or plan
//! what is marked, and what keys do
//! ```
//!
//! Invariant: what comes out of a repository was escaped before it got here.
//! Never here: what keys do (see `state`).

use ratatui::Frame;
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::style::{Modifier, Style};
use ratatui::text::Line as Text;
use ratatui::widgets::{List, ListItem, ListState, Paragraph};

use super::state::{Item, Level, Mode, Place, State};

/// Draws all of it.
pub(super) fn draw(frame: &mut Frame<'_>, state: &mut State) {
    let rows = [Constraint::Length(1), Constraint::Min(1), Constraint::Length(1)];
    let [head, body, foot] = Layout::vertical(rows).areas(frame.area());
    state.height = usize::from(body.height);
    let bold = Style::new().add_modifier(Modifier::BOLD);
    let reversed = Style::new().add_modifier(Modifier::REVERSED);
    let title = match &state.mode {
        Mode::Preview { title, .. } => title.clone(),
        Mode::Plan { target, .. } => format!("plan: restore to {target}"),
        _ => state.titles(),
    };
    frame.render_widget(Paragraph::new(title).style(bold), head);
    match &state.mode {
        Mode::Preview { lines, top, .. } => text(frame, body, lines.iter().skip(*top)),
        Mode::Plan { lines, .. } => text(frame, body, lines.iter()),
        _ => {
            if let Some(level) = state.level() {
                list(frame, body, level, state);
            }
        }
    }
    let said = match &state.mode {
        Mode::Filter => format!("filter: {}_", state.level().map(|level| level.filter.as_str()).unwrap_or_default()),
        Mode::Target { text } => format!("restore to folder: {text}_"),
        Mode::Plan { .. } => "y restore  n do nothing".to_owned(),
        Mode::Preview { .. } => "left back".to_owned(),
        Mode::List => state.note.clone(),
    };
    frame.render_widget(Paragraph::new(said).style(reversed), foot);
}

fn text<'a>(frame: &mut Frame<'_>, area: Rect, lines: impl Iterator<Item = &'a String>) {
    let shown: Vec<Text<'_>> = lines.take(usize::from(area.height)).map(|line| Text::from(line.as_str())).collect();
    frame.render_widget(Paragraph::new(shown), area);
}

fn list(frame: &mut Frame<'_>, area: Rect, level: &Level, state: &State) {
    let is_marked = |item: &Item| match (&level.place, item) {
        (Place::Folder { snapshot, component, .. }, Item::Entry(entry)) => state
            .marks
            .iter()
            .any(|mark| mark.snapshot == *snapshot && mark.component == *component && mark.path == entry.path),
        _ => false,
    };
    // Only what is on the screen is laid out: a list may be long.
    let height = usize::from(area.height).max(1);
    let first = level.selected.saturating_sub(height - 1).max((level.selected / height) * height);
    let shown = level.lines.iter().skip(first).take(height);
    let items =
        shown.map(|line| ListItem::new(format!("{} {}", if is_marked(&line.item) { '*' } else { ' ' }, line.text)));
    let mut place = ListState::default();
    place.select((!level.lines.is_empty()).then_some(level.selected - first.min(level.selected)));
    let list = List::new(items).highlight_symbol("> ").highlight_style(Style::new().add_modifier(Modifier::BOLD));
    frame.render_stateful_widget(list, area, &mut place);
}
