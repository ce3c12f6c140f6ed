//! What a restore of a component does, would do, or did: for people and as JSON.
//!
//! Invariant: what is not shown is counted.
//! Never here: making one.

use std::collections::BTreeMap;
use std::path::Path;

use engine::Problem;
use serde::{Serialize, Serializer};
use source::command::shell_quoted;

use crate::context::Context;
use crate::error::{CommandError, Outcome};
use crate::human::{self, escaped};
use crate::problems::{ProblemDocument, documents};
use crate::table::{Align, Table};

/// Files and tables that are named one by one.
pub(super) const SHOWN_MAX: usize = 1000;
/// Files of a plan that are named to people.
const LISTED_MAX: usize = 20;
/// Tables that are named in a line for people.
const NAMED_MAX: usize = 6;

/// What becomes of a component.
#[derive(Debug, Default, Serialize)]
pub(super) struct Plan {
    pub(super) snapshot_id: String,
    pub(super) component: String,
    pub(super) kind: String,
    /// Where to; none if it is only listed.
    pub(super) place: Option<String>,
    pub(super) is_dry_run: bool,
    pub(super) content_len: u64,
    pub(super) facts: BTreeMap<String, String>,
    /// At most [`SHOWN_MAX`].
    pub(super) files: Vec<FilePlan>,
    pub(super) file_count: u64,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) databases: Vec<DatabasePlan>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) tablespaces: Vec<TablespacePlan>,
    /// What people should know of it.
    pub(super) notes: Vec<String>,
    /// What is left to do, in order; nothing if something was lost.
    pub(super) next_steps: Vec<Step>,
    pub(super) problem_count: u64,
    /// What did not come back as it was.
    pub(super) problems: Vec<ProblemDocument>,
    /// Whether any of that lost something.
    #[serde(skip)]
    pub(super) is_partial: bool,
}

/// A file of the component.
#[derive(Debug, Clone, Serialize)]
pub(super) struct FilePlan {
    #[serde(serialize_with = "text")]
    pub(super) path: Vec<u8>,
    pub(super) content_len: u64,
    #[serde(skip)]
    pub(super) mode: u32,
    #[serde(skip)]
    pub(super) uid: u32,
    #[serde(skip)]
    pub(super) gid: u32,
}

/// A dump that goes into a database.
#[derive(Debug, Serialize)]
pub(super) struct DatabasePlan {
    #[serde(serialize_with = "text")]
    pub(super) file: Vec<u8>,
    /// The database that was dumped.
    pub(super) database: String,
    /// Where it goes.
    pub(super) into: String,
    /// Whether the database is made.
    pub(super) creates: bool,
    /// Whether what is there under the same names is dropped first.
    pub(super) replaces: bool,
    pub(super) item_count: u64,
    /// Tables, views and sequences; at most [`SHOWN_MAX`].
    pub(super) relations: Vec<String>,
    pub(super) relation_count: u64,
    /// What does not come, as it needs something that was not chosen.
    pub(super) left_out: Vec<String>,
    /// What does not come, as it is there and nothing is to be replaced.
    pub(super) kept: Vec<String>,
    /// Numbers of the items, if not all of them.
    #[serde(skip)]
    pub(super) only: Option<Vec<i64>>,
}

/// A tablespace of a data directory.
#[derive(Debug, Clone, Serialize)]
pub(super) struct TablespacePlan {
    pub(super) oid: String,
    /// Where it was on its server.
    pub(super) was: String,
    /// Where it goes.
    pub(super) to: String,
}

/// Something to be done by hand afterwards.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Step {
    /// What for.
    pub(super) what: String,
    /// As it is typed into a shell.
    pub(super) command: String,
}

fn text<S: Serializer>(bytes: &[u8], out: S) -> Result<S::Ok, S::Error> {
    out.serialize_str(&String::from_utf8_lossy(bytes))
}

impl Plan {
    /// Names files, as many as are shown.
    pub(super) fn with_files(mut self, files: &[FilePlan]) -> Self {
        self.file_count = files.len() as u64;
        self.content_len = files.iter().map(|file| file.content_len).sum();
        self.files = files.iter().take(SHOWN_MAX).cloned().collect();
        self
    }

    pub(super) fn note(&mut self, text: impl Into<String>) {
        self.notes.push(text.into());
    }

    pub(super) fn step(&mut self, what: &str, command: impl Into<String>) {
        self.next_steps.push(Step { what: what.to_owned(), command: command.into() });
    }

    /// Says what went wrong; nothing is started on what is not whole.
    pub(super) fn with_problems(mut self, problems: &[Problem], count: u64) -> Self {
        self.problems = documents(problems);
        self.problem_count = count;
        self.is_partial = problems.iter().any(|problem| problem.loses);
        if self.is_partial {
            self.next_steps.clear();
        }
        self
    }

    /// Says what was, or would be, done and what is left to do.
    pub(super) fn tell(&self, ctx: &Context) -> Result<Outcome, CommandError> {
        let outcome = if self.is_partial { Outcome::Partly } else { Outcome::Done };
        if ctx.ui.is_json {
            ctx.ui.json(self)?;
            return Ok(outcome);
        }
        let verb = match (self.is_dry_run, self.is_partial) {
            (true, _) => "dry run: would restore",
            (false, true) => "restored, but for what is named above,",
            (false, false) => "restored",
        };
        let of = format!("{} of snapshot {}", escaped(self.component.as_bytes()), human::short(&self.snapshot_id));
        let (size, place) = (human::size(self.content_len), self.place.as_deref().unwrap_or_default());
        ctx.ui.note(format_args!("{verb} {of}, {size}, to {}", escaped(place.as_bytes())));
        if self.is_dry_run && self.databases.is_empty() {
            let listed = self.files.get(..LISTED_MAX).unwrap_or(&self.files);
            listed.iter().for_each(|file| ctx.ui.note(format_args!("  {}", file.line())));
            tell_rest(self.file_count, listed.len(), "files", ctx);
        }
        self.databases.iter().for_each(|database| database.tell(ctx));
        for tablespace in &self.tablespaces {
            let (was, to) = (escaped(tablespace.was.as_bytes()), escaped(tablespace.to.as_bytes()));
            ctx.ui.note(format_args!("  tablespace {}, which was {was}: {to}", tablespace.oid));
        }
        self.notes.iter().for_each(|note| ctx.ui.note(note));
        for (at, step) in self.next_steps.iter().enumerate() {
            ctx.ui.note(format_args!(
                "{} {}:\n    {}",
                if at == 0 { "next," } else { "then," },
                step.what,
                step.command
            ));
        }
        Ok(outcome)
    }
}

impl FilePlan {
    fn line(&self) -> String {
        format!("{}, {}", escaped(&self.path), human::size(self.content_len))
    }
}

impl DatabasePlan {
    fn tell(&self, ctx: &Context) {
        let made = match (self.creates, self.replaces) {
            (true, _) => " (made for it)",
            (false, true) => " (what has the same names is replaced)",
            _ => "",
        };
        let counts = [
            human::counted(self.item_count, "item", "items"),
            human::counted(self.relation_count, "table, view or sequence", "tables, views and sequences"),
        ];
        let (file, into) = (escaped(&self.file), escaped(self.into.as_bytes()));
        let mut line = format!("  {file} into database {into}{made}: {}", counts.join(", "));
        let mut named: Vec<_> =
            self.relations.iter().take(NAMED_MAX).map(|name| escaped(name.as_bytes()).to_string()).collect();
        if self.relation_count > NAMED_MAX as u64 {
            named.push("…".to_owned());
        }
        if !named.is_empty() {
            line.push_str(&format!(" ({})", named.join(", ")));
        }
        ctx.ui.note(line);
        for left_out in &self.left_out {
            ctx.ui.warn(format_args!("{} is left out: the other table is not restored", escaped(left_out.as_bytes())));
        }
        for kept in &self.kept {
            let kept = escaped(kept.as_bytes());
            ctx.ui.warn(format_args!("{kept} is there already and stays as it is: --replace replaces it"));
        }
    }
}

/// Files in a table.
pub(super) fn table_of(files: &[FilePlan]) -> Table {
    let mut table = Table::new(&[("Path", Align::Left), ("Size", Align::Right)]);
    for file in files {
        table.row([String::from_utf8_lossy(&file.path).into_owned(), human::size(file.content_len)]);
    }
    table
}

/// `and 12 more files`.
pub(super) fn tell_rest(count: u64, shown: usize, noun: &str, ctx: &Context) {
    let rest = count.saturating_sub(shown as u64);
    if rest > 0 {
        ctx.ui.note(format_args!("  and {} more {noun}", human::count(rest)));
    }
}

/// A path as a shell takes it.
pub(super) fn typed(path: &Path) -> String {
    shell_quoted(path)
}
