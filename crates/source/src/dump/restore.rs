//! Dumps back into a server: pg_restore for archives, psql for plain ones.
//!
//! A plain dump is a script that psql runs, and a script may run any command of this host (`\!`). So it runs in psql's
//! restricted mode, under a key that its author cannot know: the lines by which dumps of today restrict psql themselves
//! are left out, and ours put in their place.
//!
//! Invariant: no plain dump runs in a psql that has no restricted mode, nor under a key that is in the dump.
//! Never here: making roles or databases on our own account.

use std::collections::BTreeSet;
use std::io::Write as _;
use std::ops::Range;
use std::sync::{Arc, Mutex, PoisonError};

use serde_json::Value;
use tempfile::NamedTempFile;

use super::Server;
use super::contents::Contents;
use super::fault::judge;
use super::programs::Programs;
use super::query::{ask, misunderstood};
use crate::command::{CommandLine, Consumer};
use crate::entry::escaped;
use crate::error::{Fault, SourceError};

/// How much of a plain dump's end is held back, in bytes, to find its own `\unrestrict`.
const TAIL_LEN: usize = 1024;
/// How many failed statements of globals are named.
const FAILURES_MAX: usize = 20;

/// How to restore.
#[derive(Debug, Clone, Default)]
pub struct RestoreOptions {
    /// Into this database. With `creates` any that exists.
    pub database: String,
    /// Creates the database under the name that it had.
    pub creates: bool,
    /// Drops what is there under the same names first.
    pub cleans: bool,
    /// Everything belongs to who restores.
    pub without_owners: bool,
    /// Grants nothing.
    pub without_privileges: bool,
    /// All or nothing. Not with `creates`.
    pub in_one_transaction: bool,
    /// Only the items of an archive with these numbers, in the archive's order.
    pub only: Option<Vec<i64>>,
}

/// What an archive needs and its target lacks.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Missing {
    /// Roles that own something or are granted something.
    pub roles: BTreeSet<String>,
    /// Extensions that are not installed on the target's host.
    pub extensions: BTreeSet<String>,
}

impl Missing {
    /// Whether nothing is missing.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.roles.is_empty() && self.extensions.is_empty()
    }
}

/// A dump on its way into a server.
#[derive(Debug)]
pub struct Restore {
    place: String,
    program: &'static str,
    consumer: Consumer,
    script: Option<Script>,
    failures: Arc<Mutex<Vec<String>>>,
    /// Numbers of the items that are wanted; the program reads it.
    _list: Option<NamedTempFile>,
}

/// Names what `contents` need and the server has not.
///
/// # Errors
///
/// [`SourceError::Server`] if the server cannot be asked.
pub async fn missing(server: &Server, programs: &Programs, contents: &Contents) -> Result<Missing, SourceError> {
    let statement = "select json_build_object('roles', (select json_agg(rolname) from pg_roles), \
                     'extensions', (select json_agg(name) from pg_available_extensions))";
    let answer = ask(server, programs, server.maintenance_database(), statement).await?;
    let lacking = |name: &str, wanted: &BTreeSet<String>| {
        let there = answer.get(name)?.as_array()?;
        let there: BTreeSet<&str> = there.iter().filter_map(Value::as_str).collect();
        Some(wanted.iter().filter(|wanted| !there.contains(wanted.as_str())).cloned().collect())
    };
    let roles = lacking("roles", &contents.roles);
    let found = roles.zip(lacking("extensions", &contents.extensions));
    let (roles, extensions) = found.ok_or_else(|| misunderstood(server))?;
    Ok(Missing { roles, extensions })
}

/// Begins to restore an archive (`NAME.dump`). Stops at the first error.
///
/// `programs` must be at least as new as the `pg_dump` that wrote it. Must be called within a tokio runtime.
///
/// # Errors
///
/// [`SourceError::Spawn`] if `pg_restore` cannot be run; [`SourceError::Write`] if what is wanted of it cannot be noted
/// for it in a temporary file.
pub fn restore_archive(server: &Server, programs: &Programs, options: &RestoreOptions) -> Result<Restore, SourceError> {
    // pg_restore takes what looks like a connection string for one, so the name goes into one.
    let target = format!("--dbname=dbname='{}'", options.database.replace('\\', "\\\\").replace('\'', "\\'"));
    let mut command = CommandLine::new(programs.path("pg_restore"), ["--no-password", "--exit-on-error", &target]);
    let mut add = |is_wanted: bool, option: &str| {
        if is_wanted {
            command.args.push(option.into());
        }
    };
    add(options.creates, "--create");
    add(options.cleans, "--clean");
    add(options.cleans, "--if-exists");
    add(options.without_owners, "--no-owner");
    add(options.without_privileges, "--no-privileges");
    add(options.in_one_transaction, "--single-transaction");
    let list = options.only.as_deref().map(list_of).transpose()?;
    if let Some(list) = &list {
        command.args.extend(["--use-list".into(), list.path().into()]);
    }
    let restore = Restore::spawn(server, command, &options.database, "pg_restore", |_| None)?;
    Ok(Restore { _list: list, ..restore })
}

/// A file as `pg_restore --use-list` reads it: a number a line is enough.
fn list_of(ids: &[i64]) -> Result<NamedTempFile, SourceError> {
    let write = |source| SourceError::Write { path: std::env::temp_dir(), action: "note what to restore in", source };
    let mut file = NamedTempFile::with_prefix(".backstay-").map_err(write)?;
    let lines: String = ids.iter().map(|id| format!("{id};\n")).collect();
    file.write_all(lines.as_bytes()).map_err(write)?;
    Ok(file)
}

/// Begins to restore a plain dump into a database.
///
/// `head` is its first kibibytes, not fed by this call: they tell where the dump restricts psql itself. `key` is of
/// letters and digits, secret, random, and used once.
///
/// # Errors
///
/// [`SourceError::Server`] with [`Fault::Version`] if this psql has no restricted mode; [`SourceError::Spawn`] if it
/// cannot be run.
pub async fn restore_plain(
    server: &Server,
    programs: &Programs,
    options: &RestoreOptions,
    head: &[u8],
    key: &str,
) -> Result<Restore, SourceError> {
    let mut args = vec!["-v", "ON_ERROR_STOP=1"];
    if options.in_one_transaction {
        args.push("--single-transaction");
    }
    let restore = Restore::psql(server, programs, &args, &options.database, |_| None)?;
    restore.restricted(head, key).await
}

/// Begins to restore `globals.sql`: roles and tablespaces. Those that exist already are altered, not refused.
///
/// # Errors
///
/// As [`restore_plain`].
pub async fn restore_globals(
    server: &Server,
    programs: &Programs,
    head: &[u8],
    key: &str,
) -> Result<Restore, SourceError> {
    let args = ["-v", "VERBOSITY=verbose", "-v", "SHOW_CONTEXT=never"];
    let restore = Restore::psql(server, programs, &args, server.maintenance_database(), failed_statement)?;
    restore.restricted(head, key).await
}

impl Restore {
    fn psql(
        server: &Server,
        programs: &Programs,
        args: &[&str],
        database: &str,
        failure: fn(&str) -> Option<String>,
    ) -> Result<Self, SourceError> {
        if !programs.version.has_restricted_mode() {
            let what = format!(
                "psql {} would let a plain dump run commands of this host: install 13.22, 14.19, 15.14, 16.10, 17.6, \
                 18 or newer",
                programs.version
            );
            return Err(SourceError::server(server.place(), Fault::Version, what));
        }
        let mut command = CommandLine::new(programs.path("psql"), ["-X", "-q", "-w", "-f", "-"]);
        command.args.extend(args.iter().map(Into::into));
        Self::spawn(server, command, database, "psql", failure)
    }

    fn spawn(
        server: &Server,
        mut command: CommandLine,
        database: &str,
        program: &'static str,
        failure: fn(&str) -> Option<String>,
    ) -> Result<Self, SourceError> {
        server.equip(&mut command, database);
        let failures = Arc::new(Mutex::new(Vec::new()));
        let told = Arc::clone(&failures);
        let consumer = Consumer::spawn(&command, move |line| {
            let mut failures = told.lock().unwrap_or_else(PoisonError::into_inner);
            if failures.len() < FAILURES_MAX {
                failures.extend(failure(&String::from_utf8_lossy(line)));
            }
        })?;
        let place = format!("{}, database {}", server.place(), escaped(database.as_bytes()));
        Ok(Self { place, program, consumer, script: None, failures, _list: None })
    }

    /// Turns the restricted mode on.
    async fn restricted(mut self, head: &[u8], key: &str) -> Result<Self, SourceError> {
        self.consumer.write(format!("\\restrict {key}\n").as_bytes()).await?;
        let last = format!("\n\\unrestrict {key}\n").into_bytes();
        self.script = Some(Script { left_out: own_restriction(head), passed: 0, held: Vec::new(), last });
        Ok(self)
    }

    /// The next bytes of the dump. Returns false once the program has stopped reading: [`Restore::finish`] says why.
    ///
    /// # Errors
    ///
    /// [`SourceError::Pipe`] if the pipe to it fails otherwise.
    pub async fn write(&mut self, data: &[u8]) -> Result<bool, SourceError> {
        match &mut self.script {
            Some(script) => self.consumer.write(&script.next(data)).await,
            None => self.consumer.write(data).await,
        }
    }

    /// Says that this was all, and waits for the program to agree.
    ///
    /// # Errors
    ///
    /// [`SourceError::Server`] with what the program said, if it did not restore everything.
    pub async fn finish(mut self) -> Result<(), SourceError> {
        if let Some(script) = self.script.take() {
            self.consumer.write(&script.finish()).await?;
        }
        judge(&self.place, self.program, &self.consumer.finish().await?)?;
        let failures = self.failures.lock().unwrap_or_else(PoisonError::into_inner);
        if failures.is_empty() {
            return Ok(());
        }
        let what = format!("{} statements failed: {}", self.program, failures.join("; "));
        Err(SourceError::server(&self.place, super::fault::fault_of(&failures.join(" ")), what))
    }
}

/// A plain dump passing by, without the lines by which it restricts psql itself.
#[derive(Debug)]
struct Script {
    /// Bytes of its own `\restrict`, counted from its start.
    left_out: Range<u64>,
    passed: u64,
    held: Vec<u8>,
    last: Vec<u8>,
}

impl Script {
    /// What may go to psql now.
    fn next(&mut self, data: &[u8]) -> Vec<u8> {
        let len = data.len() as u64;
        let at = |position: u64| usize::try_from(position.saturating_sub(self.passed).min(len)).unwrap_or_default();
        let (start, end) = (at(self.left_out.start), at(self.left_out.end));
        self.held.extend_from_slice(data.get(..start).unwrap_or_default());
        self.held.extend_from_slice(data.get(end..).unwrap_or_default());
        self.passed += len;
        let ready = self.held.len().saturating_sub(TAIL_LEN);
        self.held.drain(..ready).collect()
    }

    /// The rest, and the end of the restriction.
    fn finish(self) -> Vec<u8> {
        let mut end = self.held.len();
        for line in self.held.split_inclusive(|&byte| byte == b'\n').rev() {
            let start = end - line.len();
            if line.starts_with(b"\\unrestrict ") {
                let (before, after) = (self.held.get(..start), self.held.get(end..));
                return [before.unwrap_or_default(), after.unwrap_or_default(), &self.last].concat();
            }
            if !is_comment(line) {
                break;
            }
            end = start;
        }
        [self.held, self.last].concat()
    }
}

fn is_comment(line: &[u8]) -> bool {
    line.trim_ascii().is_empty() || line.starts_with(b"--")
}

/// Where the first line that is not a comment is, if it is psql's own `\restrict`; else nowhere.
fn own_restriction(head: &[u8]) -> Range<u64> {
    let mut position = 0;
    for line in head.split_inclusive(|&byte| byte == b'\n') {
        let end = position + line.len() as u64;
        if line.starts_with(b"\\restrict ") {
            return position..end;
        }
        if !is_comment(line) {
            break;
        }
        position = end;
    }
    0..0
}

/// Of a line of psql's verbose messages, `SEVERITY:  SQLSTATE: text`: the text, if a statement failed for another
/// reason than that its object exists. psql's own errors have no SQLSTATE.
fn failed_statement(line: &str) -> Option<String> {
    if let Some((_, text)) = line.split_once(": error: ") {
        return Some(escaped(text.as_bytes()).to_string());
    }
    let (_, message) = line.split_once(":  ")?;
    let (state, text) = message.split_at_checked(5)?;
    let text = text.strip_prefix(": ")?;
    let is_state = state.bytes().all(|byte| byte.is_ascii_digit() || byte.is_ascii_uppercase());
    let is_harmless = ["00", "01", "02"].iter().any(|class| state.starts_with(class)) || state == "42710";
    (is_state && !is_harmless).then(|| escaped(text.as_bytes()).to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fed(dump: &str, piece_len: usize) -> String {
        let left_out = own_restriction(dump.as_bytes());
        let mut script = Script { left_out, passed: 0, held: Vec::new(), last: b"\\unrestrict ours\n".to_vec() };
        let mut fed: Vec<u8> = dump.as_bytes().chunks(piece_len).flat_map(|piece| script.next(piece)).collect();
        fed.extend(script.finish());
        String::from_utf8(fed).unwrap()
    }

    #[test]
    fn a_dumps_own_restriction_is_replaced_by_ours() {
        let rows = "select 1;\n".repeat(500);
        for piece_len in [1, 7, 1000, 100_000] {
            let dump = format!("--\n-- PostgreSQL\n\n\\restrict abc\n\n{rows}--\n\n\\unrestrict abc\n\n");
            assert_eq!(fed(&dump, piece_len), format!("--\n-- PostgreSQL\n\n\n{rows}--\n\n\n\\unrestrict ours\n"));
            let dump = format!("{rows}\n\\unrestrict abc\n\n--\n-- cluster dump complete\n--\n\n");
            let expected = format!("{rows}\n\n--\n-- cluster dump complete\n--\n\n\\unrestrict ours\n");
            assert_eq!(fed(&dump, piece_len), expected);
            assert_eq!(fed(&rows, piece_len), format!("{rows}\\unrestrict ours\n"));
        }
        assert_eq!(own_restriction(b"--\nSET x;\n\\restrict abc\n"), 0..0);
        assert_eq!(own_restriction(b"-- \\restrict abc\nSET x;\n"), 0..0);
    }

    #[test]
    fn statements_fail_unless_their_object_exists() {
        assert_eq!(failed_statement("psql:<stdin>:4: ERROR:  42710: role \"postgres\" already exists"), None);
        assert_eq!(failed_statement("psql:<stdin>:4: NOTICE:  00000: nothing"), None);
        assert_eq!(failed_statement("LOCATION:  CreateRole, user.c:300"), None);
        let denied = failed_statement("psql:<stdin>:4: FEHLER:  42501: permission denied to create role");
        assert_eq!(denied.as_deref(), Some("permission denied to create role"));
    }
}
