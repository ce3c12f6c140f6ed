//! Whether a Redis or Valkey server could be read now.
//!
//! Whether the user may replicate is asked without replicating: a `PSYNC` whose offset is no number is refused with an
//! error of its own, from version 7 on, before anything is begun. Whoever may not, is told so first.
//!
//! Invariant: no server forks because of us.
//! Never here: the RDB.

use super::connection::Connection;
use super::read::{Candidate, Info, RedisDump, choose};
use crate::error::{Fault, SourceError};
use crate::preflight::{Preflight, size};

/// The first version of Redis which refuses a malformed offset.
const MAJOR_PSYNC_CHECKED: u32 = 7;
/// From what part of the machine's memory on a fork may not have room for the pages that change meanwhile, in percent.
const MEMORY_PERCENT_MAX: u64 = 50;

/// Logs in to each server, chooses as a backup does, and asks the chosen one.
pub async fn preflight(request: &RedisDump) -> Preflight {
    let mut told = Preflight::default();
    if let Err(error) = look(request, &mut told).await {
        told.refused(&error, advice);
    }
    told
}

async fn look(request: &RedisDump, told: &mut Preflight) -> Result<(), SourceError> {
    let (Candidate { mut connection, info, .. }, failures) = choose(request).await?;
    for failure in failures {
        told.warn(failure, "the others are read without it: repair it, or leave it out");
    }
    let place = connection.place.clone();
    let (role, keys) = (if info.get("role") == "slave" { "replica" } else { "primary" }, info.keys());
    told.fine(format!("{place}: {role}, {}, {keys} keys", info.version()));
    if info.get("loading") == "1" {
        told.problem(format!("{place}: it is loading its data"), "try again when it has loaded");
    }
    if info.get("role") == "slave" && info.get("master_link_status") != "up" {
        told.problem(
            format!("{place}: a replica that lost its primary, which refuses to hand on its data"),
            "repair the link to the primary, or name the primary among urls",
        );
    }
    memory(&place, &info, told);
    if info.get("rdb_last_bgsave_status") == "err" {
        let what = format!("{place}: the last RDB could not be written");
        told.warn(what, "look into its log: for a lack of memory to fork, or of room on its disk");
    }
    may_replicate(&mut connection, &info, told).await
}

/// Writing an RDB forks: each page that is written to meanwhile takes memory a second time.
fn memory(place: &str, info: &Info, told: &mut Preflight) {
    let number = |name: &str| info.get(name).parse::<u64>().unwrap_or_default();
    let (used, total) = (number("used_memory_rss").max(number("used_memory")), number("total_system_memory"));
    if total > 0 && used > total / 100 * MEMORY_PERCENT_MAX {
        let what = format!(
            "{place}: takes {} of {} of memory, and a busy server takes up to twice that while it writes an RDB",
            size(used),
            size(total)
        );
        told.warn(what, "read a replica, or give the machine more memory");
    }
}

async fn may_replicate(connection: &mut Connection, info: &Info, told: &mut Preflight) -> Result<(), SourceError> {
    let place = connection.place.clone();
    connection.ask(&["REPLCONF", "capa", "eof", "capa", "psync2"]).await?;
    let major = info.get("redis_version").split('.').next().and_then(|major| major.parse::<u32>().ok());
    if major.is_none_or(|major| major < MAJOR_PSYNC_CHECKED) {
        told.fine(format!("{place}: whether PSYNC is allowed shows only in a backup, before version 7"));
        return Ok(());
    }
    match connection.ask(&["PSYNC", "?", "-"]).await {
        Err(SourceError::Server { fault: Fault::Protocol, what, .. }) if what.contains("not an integer") => {
            told.fine(format!("{place}: PSYNC is allowed"));
            Ok(())
        }
        Err(error) => Err(error),
        Ok(answer) => {
            let what = format!("it answers to a PSYNC that makes no sense: {answer}");
            Err(SourceError::server(place, Fault::Protocol, what))
        }
    }
}

fn advice(fault: Fault, what: &str) -> Option<String> {
    match fault {
        Fault::Right => Some("run: ACL SETUSER name +psync +replconf +info".to_owned()),
        Fault::Setting if what.contains("PSYNC") || what.contains("REPLCONF") => Some(
            "managed servers let nobody replicate: back up what their own export writes, with kind = \"files\""
                .to_owned(),
        ),
        _ => None,
    }
}
