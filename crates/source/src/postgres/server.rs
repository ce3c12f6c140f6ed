//! How a server is reached: what people set before anything is asked of it.
//!
//! Invariant: a password is wiped when it is dropped, and `Debug` never shows it.
//! Never here: environment variables and default files; whoever calls looks at those.

use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use zeroize::Zeroizing;

use super::address::{Host, hosts};
use super::failure::unfit;
use super::passfile::Passfile;
use super::patroni::Patroni;
use crate::SourceError;

/// How long a host may take until it let us in, unless told otherwise.
const CONNECT_FOR: Duration = Duration::from_secs(30);
/// How long a server may be silent, unless told otherwise: a checkpoint of a busy server takes minutes.
const SILENCE_FOR: Duration = Duration::from_secs(20 * 60);

/// How a server is reached.
#[derive(Clone)]
pub struct Server {
    /// Tried in this order, each with all addresses of its name.
    pub hosts: Vec<Host>,
    /// Tells the hosts instead, each time that a connection is made.
    pub patroni: Option<Patroni>,
    /// The role to log in as; it needs the attribute REPLICATION (or SUPERUSER).
    pub user: String,
    /// Its password, before what `passfile` says.
    pub password: Option<Zeroizing<String>>,
    /// Passwords by host.
    pub passfile: Passfile,
    /// The database, for who connects to one; replication connects to none.
    pub database: Option<String>,
    /// Whether and how the connection is encrypted.
    pub tls: Tls,
    /// Which of the hosts will do.
    pub wanted: SessionWanted,
    /// The longest that one host may take until it let us in.
    pub connect_for: Duration,
    /// The longest that a server may say nothing at all.
    pub silence_for: Duration,
    /// The one address to connect to, whatever the host's name means by now.
    pub(super) address: Option<SocketAddr>,
}

/// Whether and how a connection is encrypted.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Tls {
    /// What must hold.
    pub mode: TlsMode,
    /// PEM file of authorities that are trusted; `None` are those of this machine.
    pub roots: Option<PathBuf>,
    /// PEM files of our own certificate (with its chain) and its key, if the server asks for one.
    pub identity: Option<(PathBuf, PathBuf)>,
}

/// What must hold of a connection's encryption, in libpq's words (`sslmode`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum TlsMode {
    /// Not encrypted.
    Disable,
    /// Encrypted if the server can, whoever it is; not encrypted otherwise.
    #[default]
    Prefer,
    /// Encrypted, whoever the server is; with own `roots` as `VerifyCa`.
    Require,
    /// Encrypted, and an authority that is trusted vouches for the server.
    VerifyCa,
    /// Encrypted, and an authority that is trusted vouches that the server has the host's name.
    VerifyFull,
}

/// Which server will do, in libpq's words (`target_session_attrs`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum SessionWanted {
    /// The first that lets us in.
    #[default]
    Any,
    /// One that is no standby (`primary`, `read-write`).
    Primary,
    /// A standby (`standby`, `read-only`).
    Standby,
    /// A standby, or else any (`prefer-standby`).
    PreferStandby,
}

impl Server {
    /// A server at `hosts`, everything else as libpq would have it.
    #[must_use]
    pub fn new(hosts: Vec<Host>, user: impl Into<String>) -> Self {
        Self {
            hosts,
            patroni: None,
            user: user.into(),
            password: None,
            passfile: Passfile::default(),
            database: None,
            tls: Tls::default(),
            wanted: SessionWanted::default(),
            connect_for: CONNECT_FOR,
            silence_for: SILENCE_FOR,
            address: None,
        }
    }

    /// A server from libpq's settings by name, such as a service has; `user` is who we are if they do not say.
    ///
    /// Names that mean nothing to replication are left out of account.
    ///
    /// # Errors
    ///
    /// [`SourceError::Server`] if a value means nothing.
    pub fn from_settings(settings: &[(String, String)], user: &str) -> Result<Self, SourceError> {
        let value = |wanted: &str| settings.iter().rev().find(|(name, _)| name == wanted).map(|(_, value)| &**value);
        let names = value("host").or(value("hostaddr")).unwrap_or_default();
        let hosts = hosts(names, value("port").unwrap_or_default())?;
        let mut server = Self::new(hosts, value("user").unwrap_or(user));
        server.password = value("password").map(|password| Zeroizing::new(password.to_owned()));
        server.database = value("dbname").map(str::to_owned);
        server.tls.mode = TlsMode::parse(value("sslmode").unwrap_or("prefer"))?;
        server.tls.roots = value("sslrootcert").filter(|path| *path != "system").map(PathBuf::from);
        server.tls.identity = value("sslcert").map(PathBuf::from).zip(value("sslkey").map(PathBuf::from));
        server.wanted = SessionWanted::parse(value("target_session_attrs").unwrap_or("any"))?;
        if let Some(text) = value("connect_timeout") {
            let secs: u64 = text.parse().map_err(|_| unfit(&format!("connect_timeout {text:?} is no number")))?;
            server.connect_for = if secs == 0 { server.silence_for } else { Duration::from_secs(secs) };
        }
        Ok(server)
    }

    /// The same, but for the very server that `host` and `address` led to.
    pub(super) fn pinned(&self, host: Host, address: Option<SocketAddr>) -> Self {
        Self { hosts: vec![host], patroni: None, wanted: SessionWanted::Any, address, ..self.clone() }
    }

    /// The password for `host`, if there is one.
    pub(super) fn password_for(&self, host: &Host) -> Option<Zeroizing<String>> {
        let database = self.database.as_deref().unwrap_or("replication");
        self.password.clone().or_else(|| self.passfile.password(host, database, &self.user))
    }
}

impl TlsMode {
    /// From libpq's words.
    ///
    /// # Errors
    ///
    /// [`SourceError::Server`] if there is no such mode.
    pub fn parse(text: &str) -> Result<Self, SourceError> {
        Ok(match text {
            "disable" => Self::Disable,
            "allow" | "prefer" => Self::Prefer,
            "require" => Self::Require,
            "verify-ca" => Self::VerifyCa,
            "verify-full" => Self::VerifyFull,
            _ => return Err(unfit(&format!("there is no sslmode {text:?}"))),
        })
    }
}

impl SessionWanted {
    /// From libpq's words.
    ///
    /// # Errors
    ///
    /// [`SourceError::Server`] if there is nothing of that name.
    pub fn parse(text: &str) -> Result<Self, SourceError> {
        Ok(match text {
            "any" => Self::Any,
            "primary" | "read-write" => Self::Primary,
            "standby" | "read-only" => Self::Standby,
            "prefer-standby" => Self::PreferStandby,
            _ => return Err(unfit(&format!("there is no target_session_attrs {text:?}"))),
        })
    }
}

impl fmt::Debug for Server {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let password = self.password.as_ref().map(|_| "…");
        out.debug_struct("Server")
            .field("hosts", &self.hosts)
            .field("patroni", &self.patroni)
            .field("user", &self.user)
            .field("password", &password)
            .field("tls", &self.tls)
            .field("wanted", &self.wanted)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
        pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
    }

    #[test]
    fn settings_become_a_server_and_the_last_of_a_name_wins() {
        let pairs = [
            ("host", "a,b"),
            ("port", "1"),
            ("user", "old"),
            ("user", "backup"),
            ("sslmode", "verify-full"),
            ("sslrootcert", "/ca.pem"),
            ("target_session_attrs", "prefer-standby"),
            ("connect_timeout", "7"),
            ("keepalives", "1"),
        ];
        let server = Server::from_settings(&settings(&pairs), "me").unwrap();
        assert_eq!(server.hosts, [Host::new("a", 1), Host::new("b", 1)]);
        assert_eq!(server.user, "backup");
        assert_eq!(server.tls.mode, TlsMode::VerifyFull);
        assert_eq!(server.tls.roots, Some("/ca.pem".into()));
        assert_eq!(server.wanted, SessionWanted::PreferStandby);
        assert_eq!(server.connect_for, Duration::from_secs(7));
    }

    #[test]
    fn values_that_mean_nothing_are_refused() {
        for pair in [("sslmode", "yes"), ("target_session_attrs", "best"), ("port", "x"), ("connect_timeout", "soon")] {
            assert!(Server::from_settings(&settings(&[pair]), "me").is_err(), "{pair:?}");
        }
    }

    #[test]
    fn debug_never_shows_a_password() {
        let mut server = Server::new(vec![Host::new("a", 1)], "u");
        server.password = Some(Zeroizing::new("hunter2".into()));
        assert!(!format!("{server:?}").contains("hunter2"));
    }
}
