//! A Postgres server by its own dump programs, and back.
//!
//! ```text
//! psql: version, databases → pg_dumpall --globals-only → globals.sql
//!                          → pg_dump -Fc -Z0 NAME      → NAME.dump      one after the other
//! restore: NAME.dump → pg_restore     globals.sql, plain dumps → psql in restricted mode
//! ```
//!
//! The archive is written without compression, so that what did not change is found again by whoever cuts it.
//! Each dump is of its own moment: there is no snapshot across databases.
//!
//! Invariant: a dump is whole only if its program returned 0, every table that its contents promise came to its end,
//! and nothing follows. An entry ends only then.
//! Invariant: a password is passed by the environment only, and names of databases too: neither is ever an argument.
//! Never here: physical copies, which are `postgres`'.

mod archive;
mod choice;
mod contents;
mod fault;
mod plain;
mod preflight;
mod present;
mod programs;
mod query;
mod read;
mod restore;
mod rights;

pub use archive::{Archive, NotWhole};
pub use choice::{Choice, NoChoice, Wanted};
pub use contents::{Contents, Item};
pub use plain::{CLUSTER_END_MARK, PLAIN_END_MARK, PlainEnd};
pub use preflight::preflight;
pub use present::Present;
pub use programs::{Programs, Version};
pub use query::{About, Database};
pub use read::{Dump, Selection, dump, entry_name};
pub use restore::{Missing, Restore, RestoreOptions, missing, restore_archive, restore_globals, restore_plain};

use std::ffi::OsString;
use std::path::PathBuf;

use crate::command::CommandLine;
use crate::error::SourceError;
use crate::postgres::{Host, Patroni};
use crate::secret::Secret;

/// Where a Postgres server is, and who we are there. What is `None` is left to libpq, its variables and files.
#[derive(Debug, Clone, Default)]
pub struct Server {
    /// Host name, address, or the folder of its socket.
    pub host: Option<String>,
    /// Port, also of a socket.
    pub port: Option<u16>,
    /// Tells host and port instead, when a dump begins.
    pub patroni: Option<Patroni>,
    /// The role that logs in.
    pub user: Option<String>,
    /// Its password; never an argument of a program.
    pub password: Option<Secret>,
    /// A password file in libpq's form.
    pub password_file: Option<PathBuf>,
    /// The database for questions about the whole server; `postgres` if `None`.
    pub database: Option<String>,
    /// Further variables of libpq, such as `PGSSLMODE`.
    pub variables: Vec<(OsString, OsString)>,
    /// Variables of our own environment that the programs do not get: secrets.
    pub env_hidden: Vec<OsString>,
}

impl Server {
    /// The server for messages: `postgres at HOST:PORT`.
    #[must_use]
    pub fn place(&self) -> String {
        let host = self.host.as_deref().unwrap_or("the default socket");
        match self.port {
            Some(port) => format!("postgres at {host}:{port}"),
            None => format!("postgres at {host}"),
        }
    }

    /// The servers that this may be, the best first: more than one only where Patroni tells them.
    async fn candidates(&self) -> Result<Vec<Self>, SourceError> {
        let Some(patroni) = &self.patroni else { return Ok(vec![self.clone()]) };
        let at = |host: Host| {
            let (name, port) = match host {
                Host::Tcp { name, port } => (name, port),
                Host::Unix { folder, port } => (folder.display().to_string(), port),
            };
            Self { host: Some(name), port: Some(port), patroni: None, ..self.clone() }
        };
        Ok(patroni.hosts().await?.into_iter().map(at).collect())
    }

    fn maintenance_database(&self) -> &str {
        self.database.as_deref().unwrap_or("postgres")
    }

    /// Lets a program of libpq reach `database`.
    fn equip(&self, command: &mut CommandLine, database: &str) {
        command.env = self.environment(database);
        command.env_hidden = self.env_hidden.clone();
    }

    fn environment(&self, database: &str) -> Vec<(OsString, OsString)> {
        let mut variables = self.variables.clone();
        let mut set = |name: &str, value: OsString| variables.push((name.into(), value));
        // Words of the programs themselves that we know how to read; those of the server stay in its own language.
        set("LC_ALL", "C".into());
        set("PGDATABASE", database.into());
        set("PGAPPNAME", "backstay".into());
        if let Some(host) = &self.host {
            set("PGHOST", host.into());
        }
        if let Some(port) = self.port {
            set("PGPORT", port.to_string().into());
        }
        if let Some(user) = &self.user {
            set("PGUSER", user.into());
        }
        if let Some(password) = &self.password {
            set("PGPASSWORD", password.expose().into());
        }
        if let Some(file) = &self.password_file {
            set("PGPASSFILE", file.into());
        }
        variables
    }
}
