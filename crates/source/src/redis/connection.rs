//! A connection to a Redis server: commands out, lines and bulk strings in.
//!
//! Invariant: nothing is waited for longer than `idle_for`, and no answer is longer than [`ANSWER_LEN_MAX`].
//! Never here: which commands.

use std::net::SocketAddr;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::{TcpStream, UnixStream, lookup_host};
use tokio::time::timeout;

use super::Address;
use crate::entry::escaped;
use crate::error::{Fault, SourceError};
use crate::tls::Tls;

/// The longest line or `INFO`, in bytes.
const ANSWER_LEN_MAX: usize = 1024 * 1024;
/// How long a server may take to be reached: several may have to be tried.
const CONNECT_FOR: Duration = Duration::from_secs(10);
/// How much is read at a time, in bytes.
const READ_LEN: usize = 256 * 1024;

/// A stream of bytes both ways.
pub(super) trait Bidirectional: AsyncRead + AsyncWrite + Unpin + Send {}
impl<T: AsyncRead + AsyncWrite + Unpin + Send> Bidirectional for T {}

/// An open connection.
pub(super) struct Connection {
    pub(super) place: String,
    stream: Box<dyn Bidirectional>,
    buffer: BytesMut,
    idle_for: Duration,
}

impl Connection {
    pub(super) async fn open(
        address: &Address,
        only: Option<SocketAddr>,
        tls: Option<&Tls>,
        idle_for: Duration,
    ) -> Result<Self, SourceError> {
        let place = match only {
            Some(only) => format!("{} ({})", address.place(), only.ip()),
            None => address.place(),
        };
        let limit = idle_for.min(CONNECT_FOR);
        let opened = timeout(limit, connect(&place, address, only, tls)).await;
        let late = |_| SourceError::server(&place, Fault::Unreachable, format!("no answer within {limit:?}"));
        Ok(Self::over(opened.map_err(late)??, place, idle_for))
    }

    /// A connection that is open already.
    pub(super) fn over(stream: Box<dyn Bidirectional>, place: String, idle_for: Duration) -> Self {
        Self { place, stream, buffer: BytesMut::new(), idle_for }
    }

    pub(super) fn error(&self, fault: Fault, what: impl Into<String>) -> SourceError {
        SourceError::server(&self.place, fault, what)
    }

    /// Sends a command as an array of bulk strings.
    pub(super) async fn send(&mut self, words: &[&str]) -> Result<(), SourceError> {
        let mut message = zeroize::Zeroizing::new(format!("*{}\r\n", words.len()).into_bytes());
        for word in words {
            message.extend_from_slice(format!("${}\r\n", word.len()).as_bytes());
            message.extend_from_slice(word.as_bytes());
            message.extend_from_slice(b"\r\n");
        }
        let sent = timeout(self.idle_for, self.stream.write_all(&message)).await;
        let sent = sent.map_err(|_| self.error(Fault::Busy, "it does not take a command"))?;
        sent.map_err(|error| self.error(Fault::Interrupted, format!("the connection broke: {error}")))
    }

    /// The simple answer to a command: its line without `+`.
    pub(super) async fn ask(&mut self, words: &[&str]) -> Result<String, SourceError> {
        self.send(words).await?;
        let line = self.line().await?;
        match line.split_at_checked(1) {
            Some(("+", rest)) => Ok(rest.to_owned()),
            Some(("-", refusal)) => Err(self.refused(words.first().unwrap_or(&""), refusal)),
            _ => Err(self.error(Fault::Protocol, format!("an answer that is not Redis': {line}"))),
        }
    }

    /// The bulk answer to a command.
    pub(super) async fn ask_bulk(&mut self, words: &[&str]) -> Result<String, SourceError> {
        self.send(words).await?;
        let line = self.line().await?;
        if let Some(refusal) = line.strip_prefix('-') {
            return Err(self.refused(words.first().unwrap_or(&""), refusal));
        }
        let len = line.strip_prefix('$').and_then(|len| len.parse::<usize>().ok());
        let Some(len) = len.filter(|len| *len <= ANSWER_LEN_MAX) else {
            return Err(self.error(Fault::Protocol, format!("an answer that is not Redis': {line}")));
        };
        while self.buffer.len() < len + 2 {
            self.fill().await?;
        }
        let text = self.buffer.split_to(len + 2);
        Ok(String::from_utf8_lossy(text.get(..len).unwrap_or_default()).into_owned())
    }

    /// The next line, without its end. Empty lines, which keep a connection alive, are passed over.
    pub(super) async fn line(&mut self) -> Result<String, SourceError> {
        loop {
            if let Some(end) = self.buffer.iter().position(|&byte| byte == b'\n') {
                let line = self.buffer.split_to(end + 1);
                let line = line.trim_ascii_end();
                if !line.is_empty() {
                    return Ok(escaped(line).to_string());
                }
            } else if self.buffer.len() > ANSWER_LEN_MAX {
                return Err(self.error(Fault::Protocol, "an answer without an end"));
            } else {
                self.fill().await?;
            }
        }
    }

    /// Whatever comes next, at most `len_max` bytes, at least one.
    pub(super) async fn some(&mut self, len_max: usize) -> Result<Bytes, SourceError> {
        if self.buffer.is_empty() {
            self.fill().await?;
        }
        let len = self.buffer.len().min(len_max);
        Ok(self.buffer.split_to(len).freeze())
    }

    async fn fill(&mut self) -> Result<(), SourceError> {
        self.buffer.reserve(READ_LEN);
        let read = timeout(self.idle_for, self.stream.read_buf(&mut self.buffer)).await;
        match read {
            Err(_) => Err(self.error(Fault::Busy, format!("it sent nothing for {:?}", self.idle_for))),
            Ok(Ok(0)) => Err(self.error(Fault::Interrupted, "it closed the connection")),
            Ok(Ok(_)) => Ok(()),
            Ok(Err(error)) => Err(self.error(Fault::Interrupted, format!("the connection broke: {error}"))),
        }
    }

    /// What a refusal means for who has to act.
    fn refused(&self, command: &str, refusal: &str) -> SourceError {
        let word = refusal.split(' ').next().unwrap_or_default();
        let is_about_login = refusal.contains("invalid password") || refusal.contains("without any password");
        let fault = match word {
            "NOAUTH" | "WRONGPASS" => Fault::Login,
            "NOPERM" => Fault::Right,
            "LOADING" | "BUSY" | "NOMASTERLINK" | "MASTERDOWN" | "TRYAGAIN" => Fault::Busy,
            _ if is_about_login => Fault::Login,
            _ if refusal.contains("max number of clients") => Fault::Busy,
            _ if refusal.contains("unknown command") => Fault::Setting,
            _ => Fault::Protocol,
        };
        let advice = match (command, fault) {
            ("PSYNC" | "REPLCONF", Fault::Right) => {
                "; give the user the rights +psync +replconf +info, or copy dump.rdb after BGSAVE instead"
            }
            ("PSYNC" | "REPLCONF", Fault::Setting) => {
                "; this server lets nobody replicate, as managed services do: take dump.rdb by their own export"
            }
            _ => "",
        };
        self.error(fault, format!("it refuses {command}: {refusal}{advice}"))
    }
}

/// The addresses of a name that has several, each of which may be another server; none otherwise.
pub(super) async fn addresses(address: &Address) -> Vec<SocketAddr> {
    let Address::Tcp(host, port) = address else { return Vec::new() };
    let looked = timeout(CONNECT_FOR, lookup_host((host.as_str(), *port))).await;
    // A name that cannot be looked up fails where it is connected to.
    let found: Vec<SocketAddr> = looked.ok().and_then(Result::ok).into_iter().flatten().collect();
    if found.len() > 1 { found } else { Vec::new() }
}

async fn connect(
    place: &str,
    address: &Address,
    only: Option<SocketAddr>,
    tls: Option<&Tls>,
) -> Result<Box<dyn Bidirectional>, SourceError> {
    let unreachable = |error: std::io::Error| SourceError::server(place, Fault::Unreachable, error.to_string());
    match address {
        Address::Socket(path) => Ok(Box::new(UnixStream::connect(path).await.map_err(unreachable)?)),
        Address::Tcp(host, port) => {
            let stream = match only {
                Some(only) => TcpStream::connect(only).await,
                None => TcpStream::connect((host.as_str(), *port)).await,
            };
            let stream = stream.map_err(unreachable)?;
            match tls {
                Some(tls) => Ok(Box::new(tls.connect(place, host, stream).await?)),
                None => Ok(Box::new(stream)),
            }
        }
    }
}
