//! Whether a server's databases could be dumped now.
//!
//! Invariant: only questions are asked; no table is locked.
//! Never here: which objects are dumped (see `rights`).

use super::Server;
use super::programs::Programs;
use super::query::{About, ask, misunderstood};
use super::read::{Dump, chosen};
use super::rights::{Lacking, question};
use crate::entry::escaped;
use crate::error::{Fault, SourceError};
use crate::preflight::Preflight;

/// Asks the server for its version, the programs for theirs, and each selected database for what we may not read.
///
/// Takes a connection for the server and one for each database, one after the other.
pub async fn preflight(request: &Dump) -> Preflight {
    let mut told = Preflight::default();
    if let Err(error) = look(request, &mut told).await {
        told.refused(&error, advice);
    }
    told
}

async fn look(request: &Dump, told: &mut Preflight) -> Result<(), SourceError> {
    let installed = Programs::installed(&request.folders).await;
    let (server, about) = About::ask_first(&request.server, &installed).await?;
    let place = server.place();
    let role = if about.is_standby { "standby" } else { "primary" };
    let programs = Programs::choose(&place, &installed, about.version)?;
    told.fine(format!(
        "{place}: {role} of version {}, dumped by pg_dump {} in {}",
        about.version_text,
        programs.version,
        programs.folder.display()
    ));
    if !request.selection.without_globals && !about.sees_passwords {
        let advice = "let a superuser dump them, or set the passwords anew after a restore";
        told.warn(format!("{place}: roles are dumped without their passwords, which we may not read"), advice);
    }
    let takes_all = request.selection.databases.is_empty();
    for database in chosen(&place, &request.selection, &about)? {
        let is_of_every_server = matches!(database.name.as_str(), "postgres" | "template1");
        let outcome = rights(&server, &programs, &database.name, request).await;
        let place = format!("{place}, database {}", escaped(database.name.as_bytes()));
        match outcome {
            // What every server has, and few use; nobody asked for it by name.
            Ok(lacking) if takes_all && is_of_every_server && lacking.is_empty() && lacking.table_count == 0 => {
                told.fine(format!("{place}: has no table of its own"));
            }
            Ok(lacking) => told_of(&place, &lacking, told),
            Err(error) => told.refused(&error, advice),
        }
    }
    Ok(())
}

async fn rights(server: &Server, programs: &Programs, database: &str, request: &Dump) -> Result<Lacking, SourceError> {
    let answer = ask(server, programs, database, &question(&request.selection)).await?;
    Lacking::of_answer(&answer).ok_or_else(|| misunderstood(server))
}

fn told_of(place: &str, lacking: &Lacking, told: &mut Preflight) {
    if lacking.is_empty() {
        match lacking.table_count {
            0 => told.warn(format!("{place}: has no table to dump"), "see that database, tables and schemas are right"),
            count => told.fine(format!("{place}: may read all of {count} tables")),
        }
        return;
    }
    let mut lacks = |what: &str, named: &super::rights::Named, advice: &str| {
        if named.count > 0 {
            told.problem(format!("{place}: {what} {}", named.shown()), advice);
        }
    };
    let all = "grant pg_read_all_data to the role (Postgres 14 and later)";
    lacks("may not enter schema", &lacking.schemas, &format!("{all}, or usage on the schema"));
    lacks("may not read table", &lacking.tables, &format!("{all}, or select on the tables"));
    lacks("may not read sequence", &lacking.sequences, &format!("{all}, or select on the sequences"));
    lacks(
        "may not read large object",
        &lacking.large_objects,
        "grant select on each large object, which pg_read_all_data does not do, or dump as their owner",
    );
    lacks(
        "row security hides rows of",
        &lacking.filtered,
        "alter role ... bypassrls, or dump as the owner of the tables; a part of the rows would be no backup",
    );
}

fn advice(fault: Fault, what: &str) -> Option<String> {
    let lower = what.to_lowercase();
    match fault {
        Fault::Login if lower.contains("pg_hba.conf") => Some(
            "add to pg_hba.conf: host DATABASE USER ADDRESS scram-sha-256; then run: select pg_reload_conf()"
                .to_owned(),
        ),
        Fault::Right if lower.contains("connect") || lower.contains("permission denied for database") => {
            Some("grant connect on the database to the role".to_owned())
        }
        Fault::Missing if lower.contains("there is no database") || lower.contains("does not exist") => {
            Some("correct the name, or make the database".to_owned())
        }
        _ => None,
    }
}
