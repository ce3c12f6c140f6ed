//! Where a Postgres server is, as libpq writes it: URLs with several hosts and options, services, password files.
//!
//! Source: PostgreSQL documentation, "Connection Strings" and "Parameter Key Words".
//!
//! Invariant: a password in a URL is refused: it would end in process lists and shell histories.
//! Never here: connecting.

use std::path::PathBuf;

use percent_encoding::percent_decode_str;
use source::Secret;
use source::{dump, postgres};

use crate::error::CommandError;

/// Settings by libpq's names.
pub(super) type Settings = Vec<(String, String)>;

/// Settings that we hand to programs by these variables.
const VARIABLES: [(&str, &str); 10] = [
    ("host", "PGHOST"),
    ("port", "PGPORT"),
    ("user", "PGUSER"),
    ("sslmode", "PGSSLMODE"),
    ("sslrootcert", "PGSSLROOTCERT"),
    ("sslcert", "PGSSLCERT"),
    ("sslkey", "PGSSLKEY"),
    ("target_session_attrs", "PGTARGETSESSIONATTRS"),
    ("connect_timeout", "PGCONNECT_TIMEOUT"),
    ("options", "PGOPTIONS"),
];

/// The settings of `postgres://user@host1:port1,host2:port2/database?sslmode=verify-full`.
pub(super) fn settings(url: &str) -> Result<Settings, CommandError> {
    let rest = url.strip_prefix("postgres://").or_else(|| url.strip_prefix("postgresql://"));
    let rest = rest.ok_or_else(|| super::wrong("the URL of Postgres", "does not begin with postgres://"))?;
    let (rest, options) = rest.split_once('?').unwrap_or((rest, ""));
    let (authority, database) = rest.split_once('/').unwrap_or((rest, ""));
    let (user, places) = authority.rsplit_once('@').unwrap_or(("", authority));
    if user.contains(':') {
        return Err(super::wrong(
            "the URL of Postgres",
            "holds a password: write password, password_file or password_command",
        ));
    }
    let mut settings = Settings::new();
    let mut add = |name: &str, value: &str| {
        if !value.is_empty() {
            let value = percent_decode_str(value).decode_utf8().map_err(|_| super::wrong(name, "is not UTF-8"))?;
            settings.push((name.to_owned(), value.into_owned()));
        }
        Ok::<_, CommandError>(())
    };
    let places: Vec<_> = places.split(',').map(split_place).collect();
    add("host", &places.iter().map(|(host, _)| *host).collect::<Vec<_>>().join(","))?;
    if places.iter().any(|(_, port)| !port.is_empty()) {
        let ports = places.iter().map(|(_, port)| if port.is_empty() { "5432" } else { *port });
        add("port", &ports.collect::<Vec<_>>().join(","))?;
    }
    add("user", user)?;
    add("dbname", database)?;
    for option in options.split('&').filter(|option| !option.is_empty()) {
        let (name, value) = option.split_once('=').unwrap_or((option, ""));
        if name == "password" {
            return Err(super::wrong(
                "the URL of Postgres",
                "holds a password: write password_file or password_command",
            ));
        }
        add(name, value)?;
    }
    with_service(settings)
}

/// `host:port`, where the host may be an address in brackets.
fn split_place(place: &str) -> (&str, &str) {
    match place.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        Some((host, rest)) => (host, rest.strip_prefix(':').unwrap_or_default()),
        None => place.rsplit_once(':').unwrap_or((place, "")),
    }
}

/// What a service file says, with what was given above it.
fn with_service(settings: Settings) -> Result<Settings, CommandError> {
    let Some(name) = value(&settings, "service") else { return Ok(settings) };
    let file = std::env::var_os("PGSERVICEFILE").map(PathBuf::from);
    let file = file.or_else(|| Some(std::env::home_dir()?.join(".pg_service.conf")));
    let file = file.ok_or_else(|| super::wrong("service", "needs PGSERVICEFILE or a home directory"))?;
    let mut all = postgres::service::read(&file, name)?;
    all.extend(settings);
    Ok(all)
}

/// A setting, the last one given.
pub(super) fn value<'s>(settings: &'s Settings, wanted: &str) -> Option<&'s str> {
    settings.iter().rev().find(|(name, _)| name == wanted).map(|(_, value)| value.as_str())
}

/// For libpq's own programs.
pub(crate) fn dump_server(settings: &Settings, password: Option<Secret>) -> dump::Server {
    let is_one = |text: &&str| !text.contains(',');
    let host = value(settings, "host").filter(is_one).map(str::to_owned);
    let port = value(settings, "port").filter(is_one).and_then(|port| port.parse().ok());
    let variables =
        VARIABLES.iter().filter_map(|(name, variable)| Some(((*variable).into(), value(settings, name)?.into())));
    dump::Server {
        patroni: None,
        host,
        port,
        user: value(settings, "user").map(str::to_owned),
        password,
        password_file: value(settings, "passfile").map(PathBuf::from),
        database: value(settings, "dbname").map(str::to_owned),
        variables: variables.collect(),
        env_hidden: vec![super::HIDDEN.into()],
    }
}

/// For the replication protocol.
pub(super) fn walsender(settings: &Settings, password: Option<Secret>) -> Result<postgres::Server, CommandError> {
    let user = std::env::var("PGUSER").or_else(|_| std::env::var("USER")).unwrap_or_else(|_| "postgres".to_owned());
    let mut server = postgres::Server::from_settings(settings, &user)?;
    let passfile = value(settings, "passfile").map(PathBuf::from);
    let passfile = passfile.or_else(|| std::env::var_os("PGPASSFILE").map(PathBuf::from));
    let usual = std::env::home_dir().map(|home| home.join(".pgpass")).filter(|path| path.exists());
    if let Some(path) = passfile.or(usual) {
        server.passfile = postgres::passfile::Passfile::read(&path)?;
    }
    if let Some(password) = password {
        server.password = Some(zeroize::Zeroizing::new(password.expose().to_owned()));
    }
    Ok(server)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(url: &str) -> Vec<(String, String)> {
        settings(url).expect("is right")
    }

    #[test]
    fn url_gives_hosts_ports_database_and_options() {
        let all = parsed("postgres://backup@one:5433,[fe80::1],three/shop%20db?sslmode=verify-full");
        let get = |name| value(&all, name).unwrap_or_default();
        assert_eq!((get("host"), get("port")), ("one,fe80::1,three", "5433,5432,5432"));
        assert_eq!((get("user"), get("dbname"), get("sslmode")), ("backup", "shop db", "verify-full"));
        let socket = parsed("postgresql://me@%2Frun%2Fpg/x");
        assert_eq!(value(&socket, "host"), Some("/run/pg"));
        assert_eq!(value(&socket, "port"), None);
    }

    #[test]
    fn password_in_a_url_is_refused() {
        for url in ["postgres://me:secret@host/x", "postgres://me@host/x?password=secret"] {
            let error = settings(url).expect_err("is refused").to_string();
            assert!(error.contains("password_file") && !error.contains("secret"), "{error}");
        }
    }
}
