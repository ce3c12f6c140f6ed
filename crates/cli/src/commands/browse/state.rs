//! What `browse` shows and what keys do to it.
//!
//! ```text
//! list ─ enter ─► list below it, or preview of a file        list ─ / ─► filter, as one types
//! list ─ space ─► marked       list ─ r ─► target ─ enter ─► plan ─ y ─► restore
//! ```
//!
//! Invariant: pure; a key gives an action, and whoever carries it out puts the result in.
//! Invariant: nothing is restored but by `y` on a plan that is shown.
//! Never here: the terminal, the repository.

use pack::manifest::{Entry, EntryKind};

/// A key, as far as it means something here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Key {
    Up,
    Down,
    PageUp,
    PageDown,
    Home,
    End,
    Enter,
    Back,
    Left,
    Escape,
    Quit,
    Char(char),
}

/// What is to be done after a key.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Action {
    Nothing,
    Quit,
    /// Fill the list anew: another place, or another filter.
    List,
    /// Show the beginning of the selected file.
    Preview,
    /// Plan a restore of what is marked.
    Plan,
    /// Carry out the plan that is shown.
    Restore,
}

/// Where a list is from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Place {
    Snapshots,
    Components { snapshot: usize },
    Folder { snapshot: usize, component: String, path: Vec<u8> },
}

/// Something in a list.
#[derive(Debug, Clone)]
pub(super) enum Item {
    Snapshot(usize),
    Component(String),
    Entry(Box<Entry>),
}

/// A line of a list.
#[derive(Debug, Clone)]
pub(super) struct Line {
    pub(super) text: String,
    pub(super) item: Item,
}

/// A list, and where one is in it.
#[derive(Debug, Clone)]
pub(super) struct Level {
    pub(super) place: Place,
    pub(super) title: String,
    pub(super) filter: String,
    pub(super) lines: Vec<Line>,
    /// How many there are, with those that are not in `lines`.
    pub(super) count: u64,
    pub(super) selected: usize,
}

impl Level {
    pub(super) fn new(place: Place, title: String) -> Self {
        Self { place, title, filter: String::new(), lines: Vec::new(), count: 0, selected: 0 }
    }
}

/// An entry that is to be restored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Mark {
    pub(super) snapshot: usize,
    pub(super) component: String,
    pub(super) path: Vec<u8>,
    pub(super) is_folder: bool,
}

/// What keys mean now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Mode {
    List,
    Filter,
    Preview { title: String, lines: Vec<String>, top: usize },
    Target { text: String },
    Plan { target: String, lines: Vec<String> },
}

/// All of it.
#[derive(Debug)]
pub(super) struct State {
    /// From the snapshots to where one is; never empty.
    trail: Vec<Level>,
    pub(super) mode: Mode,
    pub(super) marks: Vec<Mark>,
    /// What the last line says.
    pub(super) note: String,
    /// Lines that fit on the screen.
    pub(super) height: usize,
}

/// What the last line says while nothing else is to be said.
pub(super) const KEYS: &str = "enter open  left back  / filter  space mark  r restore  q quit";

impl State {
    pub(super) fn new(first: Level) -> Self {
        Self { trail: vec![first], mode: Mode::List, marks: Vec::new(), note: KEYS.to_owned(), height: 20 }
    }

    /// The list that is shown.
    pub(super) fn level(&self) -> Option<&Level> {
        self.trail.last()
    }

    pub(super) fn level_mut(&mut self) -> Option<&mut Level> {
        self.trail.last_mut()
    }

    /// Where one is, from the snapshots on.
    pub(super) fn titles(&self) -> String {
        self.trail.iter().map(|level| level.title.as_str()).collect::<Vec<_>>().join(" › ")
    }

    pub(super) fn selected(&self) -> Option<&Item> {
        let level = self.level()?;
        level.lines.get(level.selected).map(|line| &line.item)
    }

    /// The selected entry as something to be restored.
    pub(super) fn selected_mark(&self) -> Option<Mark> {
        let Some(Level { place: Place::Folder { snapshot, component, .. }, .. }) = self.level() else { return None };
        let Some(Item::Entry(entry)) = self.selected() else { return None };
        let is_folder = matches!(entry.kind, EntryKind::Directory);
        Some(Mark { snapshot: *snapshot, component: component.clone(), path: entry.path.clone(), is_folder })
    }

    /// Goes to another list.
    pub(super) fn enter(&mut self, level: Level) {
        self.trail.push(level);
        self.mode = Mode::List;
    }

    /// Does what a key means.
    pub(super) fn press(&mut self, key: Key) -> Action {
        if key == Key::Quit {
            return Action::Quit;
        }
        KEYS.clone_into(&mut self.note);
        match std::mem::replace(&mut self.mode, Mode::List) {
            Mode::List => self.in_list(key),
            Mode::Filter => self.in_filter(key),
            Mode::Preview { title, lines, top } => self.in_preview(key, title, lines, top),
            Mode::Target { text } => self.in_target(key, text),
            Mode::Plan { target, lines } => self.in_plan(key, target, lines),
        }
    }

    fn in_list(&mut self, key: Key) -> Action {
        match key {
            Key::Enter => match self.selected() {
                Some(Item::Entry(entry)) => match entry.kind {
                    EntryKind::Directory => Action::List,
                    EntryKind::File { .. } => Action::Preview,
                    _ => Action::Nothing,
                },
                Some(_) => Action::List,
                None => Action::Nothing,
            },
            Key::Left | Key::Back | Key::Escape => {
                let has_filter = self.level().is_some_and(|level| !level.filter.is_empty());
                if key == Key::Escape && has_filter {
                    return self.filter_with(String::new());
                }
                if self.trail.len() > 1 {
                    self.trail.pop();
                }
                Action::Nothing
            }
            Key::Char('q') => Action::Quit,
            Key::Char('/') => {
                self.mode = Mode::Filter;
                Action::Nothing
            }
            Key::Char(' ') => {
                self.mark();
                Action::Nothing
            }
            Key::Char('r') => {
                if self.marks.is_empty() {
                    self.marks.extend(self.selected_mark());
                }
                match self.marks.is_empty() {
                    true => "nothing is marked".clone_into(&mut self.note),
                    false => self.mode = Mode::Target { text: String::new() },
                }
                Action::Nothing
            }
            key => {
                self.step(key);
                Action::Nothing
            }
        }
    }

    fn mark(&mut self) {
        let Some(mark) = self.selected_mark() else { return };
        match self.marks.iter().position(|other| *other == mark) {
            Some(at) => drop(self.marks.remove(at)),
            None => self.marks.push(mark),
        }
        self.step(Key::Down);
        self.note = format!("{} marked", self.marks.len());
    }

    fn step(&mut self, key: Key) {
        let height = self.height.max(1);
        let Some(level) = self.level_mut() else { return };
        level.selected = moved(level.selected, key, height, level.lines.len());
    }

    fn in_filter(&mut self, key: Key) -> Action {
        let mut filter = self.level().map(|level| level.filter.clone()).unwrap_or_default();
        self.mode = Mode::Filter;
        match key {
            Key::Enter => self.mode = Mode::List,
            Key::Escape => {
                self.mode = Mode::List;
                return self.filter_with(String::new());
            }
            Key::Back if filter.pop().is_some() => return self.filter_with(filter),
            Key::Char(letter) => {
                filter.push(letter);
                return self.filter_with(filter);
            }
            key => self.step(key),
        }
        Action::Nothing
    }

    /// The same list with another filter.
    fn filter_with(&mut self, filter: String) -> Action {
        if let Some(level) = self.level_mut() {
            level.filter = filter;
            level.selected = 0;
            level.lines.clear();
        }
        Action::List
    }

    fn in_preview(&mut self, key: Key, title: String, lines: Vec<String>, top: usize) -> Action {
        if !matches!(key, Key::Escape | Key::Left | Key::Back | Key::Char('q') | Key::Enter) {
            let top = moved(top, key, self.height.max(1), lines.len());
            self.mode = Mode::Preview { title, lines, top };
        }
        Action::Nothing
    }

    fn in_target(&mut self, key: Key, mut text: String) -> Action {
        match key {
            Key::Escape => return Action::Nothing,
            Key::Enter if !text.is_empty() => {
                self.mode = Mode::Plan { target: text, lines: Vec::new() };
                return Action::Plan;
            }
            Key::Back => drop(text.pop()),
            Key::Char(letter) => text.push(letter),
            _ => {}
        }
        self.mode = Mode::Target { text };
        Action::Nothing
    }

    fn in_plan(&mut self, key: Key, target: String, lines: Vec<String>) -> Action {
        match key {
            Key::Char('y') => {
                self.mode = Mode::Plan { target, lines };
                Action::Restore
            }
            Key::Char('n') | Key::Escape => {
                "nothing was restored".clone_into(&mut self.note);
                Action::Nothing
            }
            _ => {
                self.mode = Mode::Plan { target, lines };
                Action::Nothing
            }
        }
    }
}

/// A place in a list of so many after a key.
fn moved(at: usize, key: Key, height: usize, count: usize) -> usize {
    let last = count.saturating_sub(1);
    match key {
        Key::Up | Key::Char('k') => at.saturating_sub(1),
        Key::Down | Key::Char('j') => (at + 1).min(last),
        Key::PageUp => at.saturating_sub(height),
        Key::PageDown => (at + height).min(last),
        Key::Home => 0,
        Key::End => last,
        _ => at,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn state() -> State {
        let mut level = Level::new(Place::Snapshots, "snapshots".into());
        level.lines = (0..3).map(|at| Line { text: at.to_string(), item: Item::Snapshot(at) }).collect();
        State::new(level)
    }

    #[test]
    fn keys_move_within_a_list_and_never_beyond_it() {
        let mut state = state();
        for key in [Key::Up, Key::Down, Key::Down, Key::Down, Key::PageDown] {
            assert_eq!(state.press(key), Action::Nothing);
        }
        assert_eq!(state.level().map(|level| level.selected), Some(2));
        state.press(Key::Home);
        assert_eq!(state.level().map(|level| level.selected), Some(0));
        assert_eq!(state.press(Key::Left), Action::Nothing, "there is nothing above");
        assert!(state.level().is_some());
    }

    #[test]
    fn letters_filter_while_one_types_and_mean_nothing_else_then() {
        let mut state = state();
        state.press(Key::Char('/'));
        for letter in ['q', 'r', ' '] {
            assert_eq!(state.press(Key::Char(letter)), Action::List);
        }
        assert_eq!(state.level().map(|level| level.filter.as_str()), Some("qr "));
        assert_eq!(state.press(Key::Escape), Action::List);
        assert_eq!(state.level().map(|level| level.filter.as_str()), Some(""));
        assert_eq!(state.press(Key::Char('q')), Action::Quit);
    }

    #[test]
    fn nothing_is_restored_without_a_plan_and_a_yes() {
        let mut state = state();
        state.marks.push(Mark { snapshot: 0, component: "files".into(), path: b"a".to_vec(), is_folder: false });
        state.press(Key::Char('r'));
        assert_eq!(state.press(Key::Enter), Action::Nothing, "no target");
        state.press(Key::Char('t'));
        assert_eq!(state.press(Key::Enter), Action::Plan);
        assert_eq!(state.press(Key::Char('x')), Action::Nothing);
        assert_eq!(state.press(Key::Char('y')), Action::Restore);
        state.mode = Mode::Plan { target: "t".into(), lines: Vec::new() };
        assert_eq!(state.press(Key::Char('n')), Action::Nothing);
        assert_eq!(state.mode, Mode::List);
    }
}
