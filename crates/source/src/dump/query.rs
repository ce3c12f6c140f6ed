//! Questions to a server through psql. The answer is one JSON value, so that no name can be misread.
//!
//! Invariant: functions come from `pg_catalog` alone, whatever others have put in the search path.
//! Never here: changing anything.

use std::ffi::OsString;

use futures::StreamExt as _;
use serde_json::Value;

use super::Server;
use super::fault::judge;
use super::programs::{Programs, Version, none_installed};
use crate::command::{CommandLine, Patience, Producer};
use crate::error::{Fault, SourceError};

/// The longest answer, in bytes: some hundred bytes for each database, role or extension.
const ANSWER_LEN_MAX: usize = 64 * 1024 * 1024;

const ABOUT: &str = "
select json_build_object(
    'number', current_setting('server_version_num')::int,
    'version', current_setting('server_version'),
    'is_standby', pg_is_in_recovery(),
    'sees_passwords', has_table_privilege('pg_catalog.pg_authid', 'select'),
    'databases', (select json_agg(json_build_object(
        'name', datname,
        'is_template', datistemplate,
        'len', case when has_database_privilege(oid, 'connect') then pg_database_size(oid) end) order by datname)
        from pg_database where datallowconn))";

const NOW: &str = "
select json_build_object(
    'text', to_char(now() at time zone 'utc', 'YYYY-MM-DD\"T\"HH24:MI:SS.MS\"Z\"'),
    'secs', floor(extract(epoch from now()))::bigint)";

/// What a server says of itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct About {
    /// For comparing.
    pub version: Version,
    /// In its own words.
    pub version_text: String,
    /// Whether it is in recovery.
    pub is_standby: bool,
    /// Whether we may read the hashes of roles' passwords.
    pub sees_passwords: bool,
    /// Those that accept connections, by name.
    pub databases: Vec<Database>,
}

/// A database of a server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Database {
    /// As it is, unquoted.
    pub name: String,
    /// Whether new databases are made from it.
    pub is_template: bool,
    /// On disk, in bytes; unknown where we may not connect.
    pub len: Option<u64>,
}

impl About {
    /// Asks the server.
    ///
    /// # Errors
    ///
    /// [`SourceError::Server`] if there is no psql, or the server cannot be reached or refuses us.
    pub async fn ask(server: &Server, installed: &[Programs]) -> Result<Self, SourceError> {
        let programs = installed.first().ok_or_else(|| none_installed(&server.place()))?;
        let answer = ask(server, programs, server.maintenance_database(), ABOUT).await?;
        Self::of_answer(&answer).ok_or_else(|| misunderstood(server))
    }

    /// Asks the first of the servers that this may be which answers; gives that one too.
    ///
    /// # Errors
    ///
    /// As [`About::ask`], of the last one that was asked.
    pub(super) async fn ask_first(server: &Server, installed: &[Programs]) -> Result<(Server, Self), SourceError> {
        let mut last = SourceError::server(server.place(), Fault::Missing, "no server was named");
        for candidate in server.candidates().await? {
            match Self::ask(&candidate, installed).await {
                Ok(about) => return Ok((candidate, about)),
                Err(error) => last = error,
            }
        }
        Err(last)
    }

    fn of_answer(answer: &Value) -> Option<Self> {
        let databases = answer.get("databases")?.as_array()?.iter().map(Database::of_answer);
        Some(Self {
            version: Version::of_number(u32::try_from(answer.get("number")?.as_u64()?).ok()?),
            version_text: answer.get("version")?.as_str()?.to_owned(),
            is_standby: answer.get("is_standby")?.as_bool()?,
            sees_passwords: answer.get("sees_passwords")?.as_bool()?,
            databases: databases.collect::<Option<_>>()?,
        })
    }
}

impl Database {
    fn of_answer(answer: &Value) -> Option<Self> {
        Some(Self {
            name: answer.get("name")?.as_str()?.to_owned(),
            is_template: answer.get("is_template")?.as_bool()?,
            len: answer.get("len")?.as_u64(),
        })
    }
}

/// The server's time: for people, and in seconds since 1970.
pub(super) async fn now(server: &Server, programs: &Programs) -> Result<(String, i64), SourceError> {
    let answer = ask(server, programs, server.maintenance_database(), NOW).await?;
    let text = answer.get("text").and_then(Value::as_str);
    let secs = answer.get("secs").and_then(Value::as_i64);
    text.map(str::to_owned).zip(secs).ok_or_else(|| misunderstood(server))
}

/// One statement's one value.
pub(super) async fn ask(
    server: &Server,
    programs: &Programs,
    database: &str,
    statement: &str,
) -> Result<Value, SourceError> {
    let place = server.place();
    let args = ["-X", "-A", "-t", "-q", "-w", "-v", "ON_ERROR_STOP=1", "-c", "set search_path = pg_catalog", "-c"];
    let mut command = CommandLine::new(programs.path("psql"), args);
    command.args.push(OsString::from(statement));
    server.equip(&mut command, database);
    command.env.push(("PGCLIENTENCODING".into(), "UTF8".into()));
    let mut producer = Producer::spawn(&command, |_| {})?.with_patience(Patience::default());
    let mut answer = Vec::new();
    while let Some(data) = producer.next().await {
        answer.extend_from_slice(&data?);
        if answer.len() > ANSWER_LEN_MAX {
            return Err(misunderstood(server));
        }
    }
    judge(&place, "psql", &producer.finish().await?)?;
    serde_json::from_slice(&answer).map_err(|_| misunderstood(server))
}

pub(super) fn misunderstood(server: &Server) -> SourceError {
    SourceError::server(server.place(), Fault::Protocol, "psql's answer is not the one that was asked for")
}
