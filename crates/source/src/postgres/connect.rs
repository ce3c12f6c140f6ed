//! From hosts to a connection that is logged in: each host in turn, each of its addresses in turn.
//!
//! ```text
//! Patroni → hosts
//! host → addresses → tcp or unix socket → TLS, if wanted → login → is it the server that is wanted?
//! ```
//!
//! Invariant: a host that refuses who we are ends the search; one that does not answer, or is not what is wanted,
//! does not.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use bytes::BytesMut;
use postgres_protocol::message::frontend;
use rustix::net::sockopt;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpStream, UnixStream, lookup_host};
use tokio::time::timeout;

use super::address::Host;
use super::connection::{Connection, Wire};
use super::failure::failed;
use super::login::Login;
use super::server::{Server, SessionWanted, TlsMode};
use super::tls;
use crate::{Fault, SourceError};

/// After how much silence the kernel asks whether the other side is still there, and then how often, in seconds.
const KEEPALIVE_FOR: [u64; 2] = [30, 10];
/// Questions without an answer after which the connection is lost, as a count.
const KEEPALIVES_MAX: u32 = 6;

/// A connection that is logged in.
pub(super) struct Connected {
    pub(super) connection: Connection,
    /// How to reach the same server again: a name may stand for many.
    pub(super) server: Server,
}

/// Connects for physical replication, with further `parameters` for the session.
pub(super) async fn connect(server: &Server, parameters: &[(&str, &str)]) -> Result<Connected, SourceError> {
    let found = match &server.patroni {
        Some(patroni) => &Server { hosts: patroni.hosts().await?, ..server.clone() },
        None => server,
    };
    match found.wanted {
        SessionWanted::PreferStandby => match connect_to(found, parameters, SessionWanted::Standby).await {
            Ok(connection) => Ok(connection),
            Err(_) => connect_to(found, parameters, SessionWanted::Any).await,
        },
        wanted => connect_to(found, parameters, wanted).await,
    }
}

async fn connect_to(
    server: &Server,
    parameters: &[(&str, &str)],
    wanted: SessionWanted,
) -> Result<Connected, SourceError> {
    let mut last = failed("postgres", "no host was given", Fault::Setting);
    for host in &server.hosts {
        let place = format!("postgres at {host}");
        let addresses = match addresses(server, host, &place).await {
            Ok(addresses) => addresses,
            Err(error) => {
                last = error;
                continue;
            }
        };
        for address in &addresses {
            // Which of several it is, since they may say different things.
            let place = match address {
                Some(address) if addresses.len() > 1 => format!("{place} ({})", address.ip()),
                _ => place.clone(),
            };
            match attempt(&Server { address: *address, ..server.clone() }, host, parameters, wanted, &place).await {
                Ok(connected) => return Ok(connected),
                Err(error) if ends_search(&error) => return Err(error),
                Err(error) => last = error,
            }
        }
    }
    Err(last)
}

/// All that a host's name means, in the order of the resolver; one unknown for a socket.
async fn addresses(server: &Server, host: &Host, place: &str) -> Result<Vec<Option<SocketAddr>>, SourceError> {
    let Host::Tcp { name, port } = host else { return Ok(vec![None]) };
    if server.address.is_some() {
        return Ok(vec![server.address]);
    }
    let unreachable = |what: String| failed(place, what, Fault::Unreachable);
    let looked = timeout(server.connect_for, lookup_host((name.as_str(), *port))).await;
    let looked = looked.map_err(|_| unreachable("its name was not looked up in time".to_owned()))?;
    let found: Vec<_> = looked.map_err(|error| unreachable(error.to_string()))?.map(Some).collect();
    if found.is_empty() { Err(unreachable("its name has no address".to_owned())) } else { Ok(found) }
}

/// Logs in at one address, in time, and sees that it is what is wanted.
async fn attempt(
    server: &Server,
    host: &Host,
    parameters: &[(&str, &str)],
    wanted: SessionWanted,
    place: &str,
) -> Result<Connected, SourceError> {
    let logged_in = async {
        let mut connected = log_in(server, host, parameters, server.tls.mode, place).await?;
        is_wanted(&mut connected.connection, wanted).await?;
        Ok(connected)
    };
    timeout(server.connect_for, logged_in).await.unwrap_or_else(|_| {
        let what = format!("no answer within {} s", server.connect_for.as_secs());
        Err(failed(place, what, Fault::Unreachable))
    })
}

/// Whether the next host would say the same.
fn ends_search(error: &SourceError) -> bool {
    matches!(error, SourceError::Server { fault: Fault::Login | Fault::Right, .. })
}

/// Logs in to one host. Where TLS is only preferred, a server that lets nobody in that way is tried without.
async fn log_in(
    server: &Server,
    host: &Host,
    parameters: &[(&str, &str)],
    mode: TlsMode,
    place: &str,
) -> Result<Connected, SourceError> {
    let outcome = log_in_once(server, host, parameters, mode, place).await;
    match &outcome {
        Err(SourceError::Server { fault: Fault::Setting | Fault::Unreachable, .. })
            if mode == TlsMode::Prefer && host.socket().is_none() =>
        {
            let plain = log_in_once(server, host, parameters, TlsMode::Disable, place).await;
            plain.or(outcome)
        }
        _ => outcome,
    }
}

async fn log_in_once(
    server: &Server,
    host: &Host,
    parameters: &[(&str, &str)],
    mode: TlsMode,
    place: &str,
) -> Result<Connected, SourceError> {
    let opened = open(server, host, mode, place).await?;
    let mut connection = Connection::new(opened.wire, place.to_owned(), server.silence_for);
    let again = server.pinned(host.clone(), opened.address);
    let fixed = [("user", &*server.user), ("replication", "true"), ("application_name", "backstay")];
    let login = Login {
        parameters: fixed.into_iter().chain(parameters.iter().copied()).collect(),
        user: &server.user,
        password: server.password_for(host),
        is_private: opened.is_private,
        binding: opened.binding,
    };
    login.run(&mut connection).await?;
    Ok(Connected { connection, server: again })
}

/// Refuses a server which is not what is wanted.
async fn is_wanted(connection: &mut Connection, wanted: SessionWanted) -> Result<(), SourceError> {
    if wanted == SessionWanted::Any {
        return Ok(());
    }
    let is_standby = is_standby(connection).await?;
    if is_standby == (wanted == SessionWanted::Standby) {
        return Ok(());
    }
    let what = if is_standby { "it is a standby, and a primary is wanted" } else { "it is no standby" };
    Err(failed(connection.place(), what, Fault::Missing))
}

/// Whether the server is in recovery: it says so by itself from version 14 on; before, it only reads then.
pub(super) async fn is_standby(connection: &mut Connection) -> Result<bool, SourceError> {
    let answer = match connection.parameter("in_hot_standby") {
        Some(answer) => answer.to_owned(),
        None => connection.show("transaction_read_only").await?,
    };
    Ok(answer == "on")
}

struct Opened {
    wire: Box<dyn Wire>,
    address: Option<SocketAddr>,
    is_private: bool,
    binding: Option<Vec<u8>>,
}

async fn open(server: &Server, host: &Host, mode: TlsMode, place: &str) -> Result<Opened, SourceError> {
    let unreachable = |error: io::Error| failed(place, error.to_string(), Fault::Unreachable);
    let Host::Tcp { name, port } = host else {
        let socket = host.socket().unwrap_or_default();
        let wire = UnixStream::connect(socket).await.map_err(unreachable)?;
        return Ok(Opened { wire: Box::new(wire), address: None, is_private: true, binding: None });
    };
    let mut stream = match server.address {
        Some(address) => TcpStream::connect(address).await,
        None => TcpStream::connect((name.as_str(), *port)).await,
    }
    .map_err(unreachable)?;
    watch(&stream).map_err(unreachable)?;
    let address = stream.peer_addr().ok();
    let is_here = address.is_some_and(|address| address.ip().is_loopback());
    if mode == TlsMode::Disable {
        return Ok(Opened { wire: Box::new(stream), address, is_private: is_here, binding: None });
    }
    let mut request = BytesMut::new();
    frontend::ssl_request(&mut request);
    stream.write_all(&request).await.map_err(unreachable)?;
    // One byte and no more: what a stranger would put behind it must not pass as encrypted.
    match stream.read_u8().await.map_err(unreachable)? {
        b'S' => {}
        b'N' if mode == TlsMode::Prefer => {
            return Ok(Opened { wire: Box::new(stream), address, is_private: is_here, binding: None });
        }
        b'N' => return Err(failed(place, "it does not offer TLS, which is asked for", Fault::Setting)),
        letter => return Err(failed(place, format!("it answers TLS with {letter:#x}"), Fault::Protocol)),
    }
    let subject = ServerName::try_from(name.clone());
    let subject = subject.map_err(|_| failed(place, "its name fits no certificate", Fault::Setting))?;
    let handshake = tls::connector(&server.tls).await?.connect(subject, stream);
    let stream = handshake.await.map_err(|error| failed(place, format!("TLS: {error}"), Fault::Unreachable))?;
    let certificate = stream.get_ref().1.peer_certificates().and_then(<[_]>::first);
    let binding = certificate.and_then(|certificate| tls::binding(certificate));
    Ok(Opened { wire: Box::new(stream), address, is_private: true, binding })
}

/// Lets the kernel notice that the other side is gone.
fn watch(stream: &TcpStream) -> io::Result<()> {
    let [idle, every] = KEEPALIVE_FOR.map(Duration::from_secs);
    stream.set_nodelay(true)?;
    sockopt::set_socket_keepalive(stream, true)?;
    sockopt::set_tcp_keepidle(stream, idle)?;
    sockopt::set_tcp_keepintvl(stream, every)?;
    sockopt::set_tcp_keepcnt(stream, KEEPALIVES_MAX)?;
    Ok(())
}
