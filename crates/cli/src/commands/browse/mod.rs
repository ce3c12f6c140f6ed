//! `browse`: walk through snapshots on the terminal, look into files, and restore what is marked.
//!
//! ```text
//! keys ─► state ─► action ─► engine ─► state ─► view
//! ```
//!
//! Invariant: of a folder at most [`LISTED_MAX`] entries are in memory; a filter finds the others.
//! Invariant: however it ends, the terminal is as before.
//! Never here: what keys do (see `state`), how it looks (see `view`).

mod state;
mod view;

use std::ffi::OsStr;
use std::io::IsTerminal as _;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use clap::Args;
use crossterm::event::{Event, EventStream, KeyCode, KeyEvent, KeyEventKind, KeyModifiers};
use engine::{
    CatRequest, EngineError, Kind, Look, Overwrite, Progress, Repository, RestoreReport, RestoreRequest, SnapshotInfo,
};
use futures::{StreamExt as _, TryStreamExt as _};
use pack::manifest::{Entry, EntryKind};
use ratatui::DefaultTerminal;
use source::sink::OwnerPolicy;
use source::with_causes;
use tokio_util::sync::CancellationToken;

use crate::commands::entry_shown;
use crate::commands::selection::{FilterArgs, shown};
use crate::context::Context;
use crate::error::{CommandError, Outcome};
use crate::human::{self, escaped};

use self::state::{Action, Item, Key, Level, Line, Mark, Mode, Place, State};

const EXAMPLES: &str = "\
Examples:
  backstay browse
  backstay browse --host web1 --tag nightly";

/// Entries of a folder that are listed at once, as a count.
const LISTED_MAX: usize = 10_000;
/// Sealed content kept on disk, in bytes: as much as a mount keeps there too, if nothing else is asked of it.
const KEPT_LEN: u64 = 1 << 30;
/// Bytes of a file that a preview shows.
const PREVIEW_LEN: u64 = 64 << 10;

/// Walk through snapshots on the terminal and restore what is marked
///
/// Arrows, PageUp and PageDown move, Enter opens a snapshot, component or folder and shows the beginning of a file, Left goes back. A /
/// filters as you type, Space marks, r asks for a folder, shows what a restore of what is marked to there would do, and does
/// it on y. Each marked entry goes below FOLDER/SNAPSHOT/COMPONENT at its own path, where files that are there are left alone.
#[derive(Debug, Args)]
#[command(after_long_help = EXAMPLES)]
pub(crate) struct BrowseArgs {
    #[command(flatten)]
    filter: FilterArgs,
}

/// Shows them.
pub(crate) async fn run(args: &BrowseArgs, ctx: &Context) -> Result<Outcome, CommandError> {
    if !std::io::stdin().is_terminal() || !std::io::stdout().is_terminal() {
        return Err(CommandError::NoTerminal);
    }
    let repository = ctx.open_repository_to_look(KEPT_LEN).await?;
    let mut snapshots = repository.snapshots(&args.filter.filter()).await?;
    snapshots.reverse();
    let mut session = Session {
        repository,
        snapshots,
        look: None,
        state: State::new(Level::new(Place::Snapshots, "snapshots".into())),
    };
    session.fill().await?;
    let terminal = ratatui::try_init().map_err(|source| CommandError::Screen { source })?;
    let ended = session.walk(terminal).await;
    ratatui::restore();
    ended.map(|()| Outcome::Done)
}

struct Session {
    repository: Repository,
    /// The newest first.
    snapshots: Vec<SnapshotInfo>,
    /// The snapshot that is looked at, by position.
    look: Option<(usize, Look)>,
    state: State,
}

impl Session {
    async fn walk(&mut self, mut terminal: DefaultTerminal) -> Result<(), CommandError> {
        let failed = |source| CommandError::Screen { source };
        let mut events = EventStream::new();
        loop {
            terminal.draw(|frame| view::draw(frame, &mut self.state)).map_err(failed)?;
            let Some(event) = events.next().await else { return Ok(()) };
            let Event::Key(pressed) = event.map_err(failed)? else { continue };
            let Some(key) = key_of(pressed) else { continue };
            let done = match self.state.press(key) {
                Action::Nothing => Ok(()),
                Action::Quit => return Ok(()),
                Action::List => self.list().await,
                Action::Preview => self.preview().await,
                Action::Plan => self.plan().await,
                Action::Restore => self.restore(&mut events).await,
            };
            if let Err(error) = done {
                self.state.mode = Mode::List;
                self.state.note = format!("error: {}", with_causes(&error)).replace('\n', " ");
            }
        }
    }

    /// Goes to the list that is selected, or filters the one that is shown.
    async fn list(&mut self) -> Result<(), EngineError> {
        let is_filtered = self.state.level().is_some_and(|level| level.lines.is_empty());
        if !is_filtered && let Some(level) = self.level_below() {
            self.state.enter(level);
        }
        self.fill().await
    }

    fn level_below(&self) -> Option<Level> {
        let folder = |snapshot: usize, component: &str, path: &[u8]| Place::Folder {
            snapshot,
            component: component.to_owned(),
            path: path.to_vec(),
        };
        match (self.state.selected()?, &self.state.level()?.place) {
            (Item::Snapshot(at), _) => {
                let info = self.snapshots.get(*at)?;
                let place = match info.snapshot.structure.components.as_slice() {
                    [one] => folder(*at, &one.name, b""),
                    _ => Place::Components { snapshot: *at },
                };
                Some(Level::new(place, human::short(&info.id)))
            }
            (Item::Component(name), Place::Components { snapshot }) => {
                Some(Level::new(folder(*snapshot, name, b""), escaped(name.as_bytes()).to_string()))
            }
            (Item::Entry(entry), Place::Folder { snapshot, component, .. }) => {
                Some(Level::new(folder(*snapshot, component, &entry.path), escaped(name_of(&entry.path)).to_string()))
            }
            _ => None,
        }
    }

    /// Fills the list that is shown.
    async fn fill(&mut self) -> Result<(), EngineError> {
        let Some(level) = self.state.level() else { return Ok(()) };
        let (place, filter) = (level.place.clone(), level.filter.to_lowercase());
        let fits = |text: &str| filter.is_empty() || text.to_lowercase().contains(&filter);
        let (lines, count, lost) = match place {
            Place::Snapshots => counted(self.snapshot_lines(fits)),
            Place::Components { snapshot } => counted(self.component_lines(snapshot, fits)),
            Place::Folder { snapshot, component, path } => {
                self.look_at(snapshot).await?;
                let Some((_, look)) = &self.look else { return Ok(()) };
                entry_lines(&look.of_component(&component), &path, fits).await?
            }
        };
        let left = count.saturating_sub(lines.len() as u64);
        if let Some(lost) = lost {
            self.state.note = format!("damaged: {}", with_causes(&lost)).replace('\n', " ");
        } else if left > 0 {
            self.state.note = format!("{} more: filter with /", human::count(left));
        }
        if let Some(level) = self.state.level_mut() {
            level.selected = level.selected.min(lines.len().saturating_sub(1));
            (level.lines, level.count) = (lines, count);
        }
        Ok(())
    }

    fn snapshot_lines(&self, fits: impl Fn(&str) -> bool) -> Vec<Line> {
        let lines = self.snapshots.iter().enumerate().map(|(at, info)| {
            let tags = info.snapshot.structure.tags.join(" ");
            Line { text: format!("{} {}", shown(info), escaped(tags.as_bytes())), item: Item::Snapshot(at) }
        });
        lines.filter(|line| fits(&line.text)).collect()
    }

    fn component_lines(&self, snapshot: usize, fits: impl Fn(&str) -> bool) -> Vec<Line> {
        let Some(info) = self.snapshots.get(snapshot) else { return Vec::new() };
        let lines = info.snapshot.structure.components.iter().map(|component| {
            let name = escaped(component.name.as_bytes());
            let text =
                format!("{name} ({}, {})", escaped(component.kind.as_bytes()), human::size(component.content_len));
            Line { text, item: Item::Component(component.name.clone()) }
        });
        lines.filter(|line| fits(&line.text)).collect()
    }

    async fn look_at(&mut self, snapshot: usize) -> Result<(), EngineError> {
        let is_there = self.look.as_ref().is_some_and(|(at, _)| *at == snapshot);
        if !is_there && let Some(info) = self.snapshots.get(snapshot) {
            self.look = Some((snapshot, self.repository.look_around(info).await?));
        }
        Ok(())
    }

    /// The snapshot of a mark, with its component alone.
    fn part(&self, mark: &Mark) -> Option<SnapshotInfo> {
        let mut info = self.snapshots.get(mark.snapshot)?.clone();
        info.snapshot.structure.components.retain(|component| component.name == mark.component);
        Some(info)
    }

    /// Shows the beginning of the selected file.
    async fn preview(&mut self) -> Result<(), EngineError> {
        let Some(mark) = self.state.selected_mark() else { return Ok(()) };
        let Some(info) = self.part(&mark) else { return Ok(()) };
        let request = CatRequest { path: mark.path.clone(), range: Some(0..PREVIEW_LEN) };
        let pieces: Vec<_> = self.repository.cat(&info, request).await?.try_collect().await?;
        let title = escaped(&mark.path).to_string();
        self.state.mode = Mode::Preview { title, lines: preview_of(&pieces.concat()), top: 0 };
        Ok(())
    }

    /// Where a mark is restored to: below the target at its own path, so that no two come together.
    fn place_of(&self, mark: &Mark, target: &str) -> PathBuf {
        let id = self.snapshots.get(mark.snapshot).map(|info| human::short(&info.id)).unwrap_or_default();
        let path = Path::new(OsStr::from_bytes(&mark.path));
        let folder = if mark.is_folder { path } else { path.parent().unwrap_or(Path::new("")) };
        Path::new(target).join(id).join(&mark.component).join(folder)
    }

    async fn restore_one(
        &self,
        mark: &Mark,
        target: &str,
        dry_run: bool,
        cancel: CancellationToken,
    ) -> Result<RestoreReport, EngineError> {
        let Some(info) = self.part(mark) else { return Ok(RestoreReport::default()) };
        let owners = if rustix::process::geteuid().is_root() { OwnerPolicy::ByName } else { OwnerPolicy::Keep };
        let request = RestoreRequest {
            path: mark.path.clone(),
            target: self.place_of(mark, target),
            overwrite: Overwrite::Never,
            delete: false,
            include: Vec::new(),
            exclude: Vec::new(),
            owners,
            verify: false,
            dry_run,
        };
        self.repository.restore(&info, request, &Arc::new(Progress::new()), cancel).await
    }

    /// Shows what a restore of what is marked would do.
    async fn plan(&mut self) -> Result<(), EngineError> {
        let Mode::Plan { target, .. } = self.state.mode.clone() else { return Ok(()) };
        let mut lines = Vec::new();
        for mark in self.state.marks.clone() {
            let report = self.restore_one(&mark, &target, true, CancellationToken::new()).await?;
            let foreseen = report.foreseen;
            let place = escaped(self.place_of(&mark, &target).as_os_str().as_bytes()).to_string();
            lines.push(format!("{} to {place}", escaped(&mark.path)));
            lines.push(format!(
                "    {} new, {} there already, {}",
                human::count(foreseen.new_count),
                human::count(foreseen.changed_count + foreseen.same_count + report.skipped_count),
                human::size(report.content_len)
            ));
            lines.extend(report.problems.iter().map(|problem| format!("    {}: {}", problem.path, problem.message)));
        }
        self.state.mode = Mode::Plan { target, lines };
        Ok(())
    }

    /// Carries out the plan; Escape stops it.
    async fn restore(&mut self, events: &mut EventStream) -> Result<(), EngineError> {
        let Mode::Plan { target, .. } = self.state.mode.clone() else { return Ok(()) };
        let (mut entries, mut len, mut problems, mut first) = (0, 0, 0, None);
        let cancel = CancellationToken::new();
        for mark in self.state.marks.clone() {
            let mut work = std::pin::pin!(self.restore_one(&mark, &target, false, cancel.clone()));
            let report = loop {
                tokio::select! {
                    report = &mut work => break report?,
                    Some(Ok(Event::Key(pressed))) = events.next() => {
                        if matches!(key_of(pressed), Some(Key::Escape | Key::Quit)) {
                            cancel.cancel();
                        }
                    }
                }
            };
            entries += report.entry_count;
            len += report.written_len;
            problems += report.problem_count;
            first = first
                .or_else(|| report.problems.first().map(|problem| format!("{}: {}", problem.path, problem.message)));
        }
        self.state.marks.clear();
        self.state.mode = Mode::List;
        let restored = human::counted(entries, "entry", "entries");
        let trouble = match first {
            Some(first) => format!(", {}: {first}", human::counted(problems, "problem", "problems")),
            None => String::new(),
        };
        self.state.note = format!("restored {restored}, {} written{trouble}", human::size(len));
        Ok(())
    }
}

type Filled = (Vec<Line>, u64, Option<EngineError>);

fn counted(lines: Vec<Line>) -> Filled {
    let count = lines.len() as u64;
    (lines, count, None)
}

/// What lies in a folder, as far as it fits, and a loss that was met.
async fn entry_lines(look: &Look, path: &[u8], fits: impl Fn(&str) -> bool) -> Result<Filled, EngineError> {
    let (mut lines, mut count, mut lost) = (Vec::new(), 0, None);
    let mut children = look.children(path);
    while let Some(next) = children.next().await {
        match next {
            Ok(listed) if fits(&escaped(name_of(&listed.entry.path)).to_string()) => {
                count += 1;
                if lines.len() < LISTED_MAX {
                    lines.push(entry_line(listed.entry));
                }
            }
            Ok(_) => {}
            Err(error) if error.kind() == Kind::Damaged => lost = lost.or(Some(error)),
            Err(error) => return Err(error),
        }
    }
    Ok((lines, count, lost))
}

fn entry_line(entry: Entry) -> Line {
    let mut name = escaped(name_of(&entry.path)).to_string();
    if matches!(entry.kind, EntryKind::Directory) {
        name.push('/');
    }
    Line { text: entry_shown::long(&entry, &name, None), item: Item::Entry(Box::new(entry)) }
}

fn name_of(path: &[u8]) -> &[u8] {
    path.rsplit(|byte| *byte == b'/').next().unwrap_or_default()
}

/// Text as lines; of anything else, what it is.
fn preview_of(bytes: &[u8]) -> Vec<String> {
    if bytes.is_empty() {
        return vec!["(empty)".to_owned()];
    }
    if bytes.contains(&0) {
        let start = bytes.get(..bytes.len().min(64)).unwrap_or_default();
        return vec!["(no text; it begins with)".to_owned(), hex::encode(start)];
    }
    let lines = bytes.split(|byte| *byte == b'\n').map(|line| escaped(line).to_string().replace("\\t", "    "));
    lines.collect()
}

fn key_of(pressed: KeyEvent) -> Option<Key> {
    if pressed.kind == KeyEventKind::Release {
        return None;
    }
    if pressed.modifiers.contains(KeyModifiers::CONTROL) {
        return matches!(pressed.code, KeyCode::Char('c' | 'd')).then_some(Key::Quit);
    }
    match pressed.code {
        KeyCode::Up => Some(Key::Up),
        KeyCode::Down => Some(Key::Down),
        KeyCode::PageUp => Some(Key::PageUp),
        KeyCode::PageDown => Some(Key::PageDown),
        KeyCode::Home => Some(Key::Home),
        KeyCode::End => Some(Key::End),
        KeyCode::Enter | KeyCode::Right => Some(Key::Enter),
        KeyCode::Left => Some(Key::Left),
        KeyCode::Backspace => Some(Key::Back),
        KeyCode::Esc => Some(Key::Escape),
        KeyCode::Char(letter) => Some(Key::Char(letter)),
        _ => None,
    }
}
