//! Dumps of a server's databases and globals, as events.
//!
//! Invariant: whatever ends an entry has been judged first: exit status, then the format.
//! Never here: which programs and databases there are.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::time::Duration;

use async_stream::try_stream;
use futures::{Stream, StreamExt as _};

use super::Server;
use super::archive::{Archive, NotWhole};
use super::fault::{judge, words_of};
use super::plain::{CLUSTER_END_MARK, PlainEnd};
use super::programs::Programs;
use super::query::{About, Database, now};
use crate::command::{CommandLine, Patience, Producer};
use crate::entry::{Entry, EntryKind, EntryPath, Metadata, Time, escaped};
use crate::error::{Fault, SourceError};
use crate::events::{Event, Events, Layout, SourceEntry};

/// The name of the entry that holds roles and tablespaces.
const GLOBALS: &str = "globals.sql";

/// What to dump, and how.
#[derive(Debug, Clone, Default)]
pub struct Dump {
    /// Where.
    pub server: Server,
    /// What.
    pub selection: Selection,
    /// How long `pg_dump` waits for each table's lock; for ever if `None`.
    pub lock_wait_for: Option<Duration>,
    /// How long each program may be silent and take.
    pub patience: Patience,
    /// Folders in which programs are looked for first.
    pub folders: Vec<PathBuf>,
}

/// Which parts of a server.
#[derive(Debug, Clone, Default)]
pub struct Selection {
    /// Databases by name; all that accept connections, but for `template0`, if empty.
    pub databases: Vec<String>,
    /// Leaves roles and tablespaces out.
    pub without_globals: bool,
    /// Patterns of `pg_dump --schema`.
    pub schemas: Vec<String>,
    /// Patterns of `pg_dump --table`.
    pub tables: Vec<String>,
    /// Patterns of `pg_dump --exclude-schema`.
    pub exclude_schemas: Vec<String>,
    /// Patterns of `pg_dump --exclude-table`.
    pub exclude_tables: Vec<String>,
    /// Patterns of `pg_dump --exclude-table-data`.
    pub exclude_table_data: Vec<String>,
}

/// Dumps what is selected: `globals.sql`, then `NAME.dump` for each database.
///
/// Facts: `server`, `server_version`, `pg_dump_version`, `is_standby`, and for each entry `NAME.dump/started_at` (the server's
/// clock) and `NAME.dump/database_len` (bytes on its disk).
///
/// The stream fails with [`SourceError::Server`]; what was dumped before is then not to be kept.
#[must_use]
pub fn dump(mut request: Dump) -> Events {
    let events = try_stream! {
        let installed = Programs::installed(&request.folders).await;
        let (server, about) = About::ask_first(&request.server, &installed).await?;
        request.server = server;
        let place = request.server.place();
        let programs = Programs::choose(&place, &installed, about.version)?;
        let databases = chosen(&place, &request.selection, &about)?;
        for (name, value) in [
            ("server_version", about.version_text.clone()),
            ("pg_dump_version", programs.version.to_string()),
            ("is_standby", about.is_standby.to_string()),
            ("server", place.clone()),
        ] {
            yield fact(name, value);
        }
        if !request.selection.without_globals {
            if !about.sees_passwords {
                let role = "the role may not read roles' passwords";
                yield Event::Warning(format!("{GLOBALS} has no passwords: {role}"));
            }
            let (text, secs) = now(&request.server, &programs).await?;
            let command = globals_command(&request.server, &programs, about.sees_passwords);
            yield begin(GLOBALS.into(), secs)?;
            let mut data = Box::pin(globals_data(place.clone(), request.patience, command));
            while let Some(event) = data.next().await {
                yield event?;
            }
            yield fact(&format!("{GLOBALS}/started_at"), text);
        }
        for database in databases {
            let (text, secs) = now(&request.server, &programs).await?;
            let name = entry_name(&database.name);
            let place = format!("{place}, database {}", escaped(database.name.as_bytes()));
            yield begin(name.clone(), secs)?;
            let command = database_command(&request, &programs, &database.name);
            let mut data = Box::pin(database_data(place, request.patience, command));
            while let Some(event) = data.next().await {
                yield event?;
            }
            yield fact(&format!("{name}/started_at"), text);
            if let Some(len) = database.len {
                yield fact(&format!("{name}/database_len"), len.to_string());
            }
        }
    };
    Box::pin(events)
}

/// The file name for a database: what no file name can hold, and `%`, as `%XX`; then `.dump`.
#[must_use]
pub fn entry_name(database: &str) -> String {
    let mut name = String::new();
    for (index, char) in database.char_indices() {
        if char == '/' || char == '%' || char.is_control() || (index == 0 && char == '.') {
            let mut bytes = [0; 4];
            char.encode_utf8(&mut bytes).bytes().for_each(|byte| name.push_str(&format!("%{byte:02X}")));
        } else {
            name.push(char);
        }
    }
    name + ".dump"
}

pub(super) fn chosen(place: &str, selection: &Selection, about: &About) -> Result<Vec<Database>, SourceError> {
    let mut chosen = Vec::new();
    let mut names = BTreeSet::new();
    for name in selection.databases.iter().filter(|name| names.insert(name.as_str())) {
        let found = about.databases.iter().find(|database| database.name == *name).ok_or_else(|| {
            let what = format!("there is no database {} that accepts connections", escaped(name.as_bytes()));
            SourceError::server(place, Fault::Missing, what)
        })?;
        chosen.push(found.clone());
    }
    if selection.databases.is_empty() {
        chosen.extend(about.databases.iter().filter(|database| database.name != "template0").cloned());
    }
    Ok(chosen)
}

fn globals_command(server: &Server, programs: &Programs, with_passwords: bool) -> CommandLine {
    let mut command = CommandLine::new(programs.path("pg_dumpall"), ["--globals-only", "--no-password"]);
    if !with_passwords {
        command.args.push("--no-role-passwords".into());
    }
    if server.maintenance_database() != "postgres" {
        command.args.push(format!("--database={}", server.maintenance_database()).into());
    }
    server.equip(&mut command, server.maintenance_database());
    command
}

fn database_command(request: &Dump, programs: &Programs, database: &str) -> CommandLine {
    let args = ["--format=custom", "--compress=0", "--no-password"];
    let mut command = CommandLine::new(programs.path("pg_dump"), args);
    let selection = &request.selection;
    let mut add = |option: &str, values: &[String]| {
        command.args.extend(values.iter().map(|value| format!("{option}={value}").into()));
    };
    add("--schema", &selection.schemas);
    add("--table", &selection.tables);
    add("--exclude-schema", &selection.exclude_schemas);
    add("--exclude-table", &selection.exclude_tables);
    add("--exclude-table-data", &selection.exclude_table_data);
    if let Some(limit) = request.lock_wait_for {
        add("--lock-wait-timeout", &[limit.as_millis().to_string()]);
    }
    if !(selection.schemas.is_empty() && selection.tables.is_empty()) {
        command.args.push("--strict-names".into());
    }
    request.server.equip(&mut command, database);
    command
}

/// The data of an archive, its end, and what `pg_dump` warned of.
fn database_data(
    place: String,
    patience: Patience,
    command: CommandLine,
) -> impl Stream<Item = Result<Event, SourceError>> + Send {
    try_stream! {
        let mut producer = Producer::spawn(&command, |_| {})?.with_patience(patience);
        let mut archive = Archive::default();
        let mut seen = Ok(());
        while let Some(data) = producer.next().await {
            let data = data.map_err(|error| at(&place, error))?;
            seen = seen.and_then(|()| archive.push(&data));
            yield Event::Data(data);
        }
        let end = producer.finish().await.map_err(|error| at(&place, error))?;
        judge(&place, "pg_dump", &end)?;
        seen.and_then(|()| archive.finish()).map_err(|fault| not_whole(&place, fault))?;
        yield Event::End;
        let words = words_of(&end.stderr_tail);
        if !words.is_empty() {
            yield Event::Warning(format!("{place}: {words}"));
        }
    }
}

fn globals_data(
    place: String,
    patience: Patience,
    command: CommandLine,
) -> impl Stream<Item = Result<Event, SourceError>> + Send {
    try_stream! {
        let mut producer = Producer::spawn(&command, |_| {})?.with_patience(patience);
        let mut plain = PlainEnd::default();
        while let Some(data) = producer.next().await {
            let data = data.map_err(|error| at(&place, error))?;
            plain.push(&data);
            yield Event::Data(data);
        }
        let end = producer.finish().await.map_err(|error| at(&place, error))?;
        judge(&place, "pg_dumpall", &end)?;
        if !plain.is_complete(CLUSTER_END_MARK) {
            let fault = NotWhole { why: "pg_dumpall returned 0 without the last line of its dump", is_cut: true };
            Err(not_whole(&place, fault))?;
        }
        yield Event::End;
    }
}

/// Says of a program's trouble which server it spoke to.
fn at(place: &str, error: SourceError) -> SourceError {
    match error {
        SourceError::Server { place: program, what, fault } => {
            SourceError::server(place, fault, format!("{program}: {what}"))
        }
        other => other,
    }
}

fn not_whole(place: &str, fault: NotWhole) -> SourceError {
    let kind = if fault.is_cut { Fault::Incomplete } else { Fault::Damaged };
    SourceError::server(place, kind, fault.why)
}

fn begin(name: String, secs: i64) -> Result<Event, SourceError> {
    let metadata = Metadata { mode: 0o600, modified_at: Time { secs, nanos: 0 }, ..Metadata::default() };
    let path = EntryPath::try_from(name.into_bytes())?;
    let entry = Entry { path, kind: EntryKind::File { len: 0 }, metadata };
    Ok(Event::Begin(SourceEntry { entry, layout: Layout::Unknown, base: None }))
}

fn fact(name: &str, value: String) -> Event {
    Event::Fact { name: name.to_owned(), value }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_databases_become_names_of_files() {
        assert_eq!(entry_name("shop"), "shop.dump");
        assert_eq!(entry_name("../a b/100%"), "%2E.%2Fa b%2F100%25.dump");
        assert_eq!(entry_name("größe = 'x'\n"), "größe = 'x'%0A.dump");
    }
}
