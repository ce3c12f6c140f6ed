//! Whether a whole server could be read now.
//!
//! Invariant: all that is made is a temporary slot, which vanishes with its connection.
//! Never here: reading it.

use super::base_backup::{MAJOR_INCREMENTAL, make_slot, open};
use super::server::Server;
use crate::preflight::Preflight;
use crate::{Fault, SourceError};

/// Logs in as a backup does, asks for versions and settings, and makes the slot that a backup would make.
///
/// `is_incremental` says whether only changed blocks are wanted where the server can tell them. Takes as long as a
/// connection, twice; a host that does not answer takes [`Server::connect_for`].
pub async fn preflight(server: &Server, is_incremental: bool) -> Preflight {
    let mut told = Preflight::default();
    if let Err(error) = ask(server, is_incremental, &mut told).await {
        told.refused(&error, |fault, what| advice(server, fault, what));
    }
    told
}

async fn ask(server: &Server, is_incremental: bool, told: &mut Preflight) -> Result<(), SourceError> {
    let (mut connection, setup, pinned) = open(server).await?;
    let place = connection.place().to_owned();
    let fact = |name: &str| setup.facts.iter().find(|fact| fact.0 == name).map_or("", |fact| fact.1.as_str());
    let role = if fact("in_recovery") == "true" { "standby" } else { "primary" };
    told.fine(format!("{place}: {role} of version {}, lets {} replicate", fact("server_version"), pinned.user));
    if fact("data_checksums") != "on" {
        let advice = "stop the server and run pg_checksums --enable, so that damaged pages are found";
        told.warn(format!("{place}: pages have no checksums"), advice);
    }
    if is_incremental && setup.major >= MAJOR_INCREMENTAL && connection.show("summarize_wal").await? != "on" {
        let advice = "run: alter system set summarize_wal = on; select pg_reload_conf()";
        told.warn(format!("{place}: summarize_wal is off, so that everything is read each time"), advice);
    }
    match make_slot(&pinned, setup.major).await {
        Ok(slot) => {
            told.fine(format!("{place}: a slot keeps the log while it is read"));
            slot.close().await;
        }
        Err(SourceError::Server { what, fault: Fault::Setting | Fault::Busy, .. }) => {
            let advice = "raise max_replication_slots and max_wal_senders: a backup takes one slot and two senders";
            told.warn(format!("{place}: no slot can keep the log while it is read: {what}"), advice);
        }
        Err(error) => return Err(error),
    }
    connection.close().await;
    Ok(())
}

/// What to do, by the state that stands behind the server's words.
fn advice(server: &Server, fault: Fault, what: &str) -> Option<String> {
    let user = &server.user;
    let has_state = |state: &str| what.ends_with(&format!("[{state}]"));
    match fault {
        Fault::Setting if has_state("28000") => Some(format!(
            "add to pg_hba.conf: host replication {user} ADDRESS scram-sha-256; then run: select pg_reload_conf()"
        )),
        Fault::Right => Some(format!("run: alter role \"{}\" replication", user.replace('"', "\"\""))),
        Fault::Busy if has_state("53300") => Some(
            "raise max_wal_senders (at least 2 for a backup), with wal_level = replica, and restart the server"
                .to_owned(),
        ),
        Fault::Version if has_state("08P01") || has_state("0A000") => Some(
            "name the server itself, not a connection pooler; managed servers without replication are dumped instead: \
             kind = \"postgres\""
                .to_owned(),
        ),
        _ => None,
    }
}
