//! Where a server listens: names with ports, or folders with sockets.
//!
//! Invariant: `Display` shows what people call it, and never a password.
//! Never here: looking names up.

use std::fmt;
use std::path::PathBuf;

use super::failure::unfit;
use crate::SourceError;

/// The port that Postgres listens on unless told otherwise.
const PORT: u16 = 5432;

/// One place where a server may listen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Host {
    /// A name or an IP address, over TCP.
    Tcp {
        /// As given; an IPv6 address has no brackets.
        name: String,
        /// TCP port.
        port: u16,
    },
    /// A folder with a socket `.s.PGSQL.<port>`.
    Unix {
        /// The folder.
        folder: PathBuf,
        /// The number in the socket's name.
        port: u16,
    },
}

impl Host {
    /// What `name` means to libpq: a socket's folder if it begins with a slash, a machine otherwise.
    #[must_use]
    pub fn new(name: &str, port: u16) -> Self {
        match name.starts_with('/') {
            true => Self::Unix { folder: name.into(), port },
            false => Self::Tcp { name: name.trim_start_matches('[').trim_end_matches(']').to_owned(), port },
        }
    }

    /// The socket's path, if it is one.
    pub(super) fn socket(&self) -> Option<PathBuf> {
        match self {
            Self::Tcp { .. } => None,
            Self::Unix { folder, port } => Some(folder.join(format!(".s.PGSQL.{port}"))),
        }
    }
}

impl fmt::Display for Host {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp { name, port } if name.contains(':') => write!(out, "[{name}]:{port}"),
            Self::Tcp { name, port } => write!(out, "{name}:{port}"),
            Self::Unix { folder, port } => write!(out, "{}:{port}", folder.display()),
        }
    }
}

/// Hosts from libpq's comma-separated lists: as many ports as names, or one port for all, or none.
///
/// # Errors
///
/// [`SourceError::Server`] if a port is no number, or their count fits no list of names.
pub fn hosts(names: &str, ports: &str) -> Result<Vec<Host>, SourceError> {
    let ports = ports.split(',').map(port).collect::<Result<Vec<u16>, _>>()?;
    let names: Vec<&str> = names.split(',').map(str::trim).collect();
    if ports.len() != 1 && ports.len() != names.len() {
        return Err(unfit(&format!("{} ports do not fit {} hosts", ports.len(), names.len())));
    }
    let ports = ports.iter().cycle();
    Ok(names.into_iter().zip(ports).map(|(name, &port)| Host::new(name_or_here(name), port)).collect())
}

fn name_or_here(name: &str) -> &str {
    if name.is_empty() { "localhost" } else { name }
}

fn port(text: &str) -> Result<u16, SourceError> {
    match text.trim() {
        "" => Ok(PORT),
        text => text.parse().map_err(|_| unfit(&format!("{text:?} is not a port"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_of_hosts_and_ports_are_read_as_libpq_does() {
        let shown = |names: &str, ports: &str| {
            hosts(names, ports).unwrap().iter().map(ToString::to_string).collect::<Vec<_>>().join(" ")
        };
        assert_eq!(shown("a, b,/run/pg", ""), "a:5432 b:5432 /run/pg:5432");
        assert_eq!(shown("a,[::1]", "1,2"), "a:1 [::1]:2");
        assert_eq!(shown("", "77"), "localhost:77");
        assert_eq!(hosts("/tmp", "9").unwrap()[0].socket().unwrap(), PathBuf::from("/tmp/.s.PGSQL.9"));
        assert!(hosts("a,b,c", "1,2").is_err());
        assert!(hosts("a", "70000").is_err());
    }
}
