//! One connection to a server: messages out and in, and simple commands.
//!
//! Invariant: after any error a connection is of no more use, and is dropped.
//! Never here: how it was made.

use std::collections::HashMap;
use std::time::Duration;

use bytes::BytesMut;
use postgres_protocol::message::frontend;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::time::timeout;

use super::failure::{failed, odd, refused};
use super::message::{Fields, MESSAGE_LEN_MAX, Message, Notice, Row, row};
use crate::{Fault, SourceError};

/// Room for what is read at once, in bytes.
const READ_LEN: usize = 256 * 1024;
/// Rows of an answer that we keep, as a count: tablespaces are the most.
const ROWS_MAX: usize = 100_000;
/// Parameters that a server may report, as a count.
const PARAMETERS_MAX: usize = 1_000;

/// Whatever bytes go through: a socket, with or without TLS.
pub(super) trait Wire: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Wire for T {}

/// One connection to a server.
pub(super) struct Connection {
    wire: Box<dyn Wire>,
    unread: BytesMut,
    place: String,
    silence_for: Duration,
    parameters: HashMap<String, String>,
    /// The server's process that serves us.
    pub(super) process: i32,
}

impl Connection {
    pub(super) fn new(wire: Box<dyn Wire>, place: String, silence_for: Duration) -> Self {
        Self { wire, unread: BytesMut::new(), place, silence_for, parameters: HashMap::new(), process: 0 }
    }

    /// What people call this server, such as `postgres at db:5432`.
    pub(super) fn place(&self) -> &str {
        &self.place
    }

    /// A parameter that the server reported, such as `server_version`.
    pub(super) fn parameter(&self, name: &str) -> Option<&str> {
        self.parameters.get(name).map(|value| &**value)
    }

    pub(super) async fn send(&mut self, bytes: &[u8]) -> Result<(), SourceError> {
        let sent = async {
            self.wire.write_all(bytes).await?;
            self.wire.flush().await
        };
        match timeout(self.silence_for, sent).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(error)) => Err(failed(&self.place, format!("connection lost: {error}"), Fault::Interrupted)),
            Err(_) => Err(self.silent()),
        }
    }

    /// The next message. Reports of parameters are noted and not returned; an error message is an error.
    pub(super) async fn receive(&mut self) -> Result<Message, SourceError> {
        loop {
            let message = self.receive_any().await?;
            match message.letter {
                b'E' => {
                    let notice = Notice::of(message.body).ok_or_else(|| self.odd("an error without an end"))?;
                    return Err(refused(&self.place, &notice));
                }
                b'S' => self.note_parameter(Fields(message.body)),
                _ => return Ok(message),
            }
        }
    }

    async fn receive_any(&mut self) -> Result<Message, SourceError> {
        loop {
            let taken = Message::take(&mut self.unread);
            let too_long = |_| odd(&self.place, format!("a message of more than {MESSAGE_LEN_MAX} bytes"));
            if let Some(message) = taken.map_err(too_long)? {
                return Ok(message);
            }
            if self.unread.capacity() - self.unread.len() < READ_LEN / 8 {
                self.unread.reserve(READ_LEN);
            }
            match timeout(self.silence_for, self.wire.read_buf(&mut self.unread)).await {
                Ok(Ok(0)) => return Err(failed(&self.place, "it closed the connection", Fault::Interrupted)),
                Ok(Ok(_)) => {}
                Ok(Err(error)) => {
                    return Err(failed(&self.place, format!("connection lost: {error}"), Fault::Interrupted));
                }
                Err(_) => return Err(self.silent()),
            }
        }
    }

    fn silent(&self) -> SourceError {
        failed(&self.place, format!("it said nothing for {} s", self.silence_for.as_secs()), Fault::Busy)
    }

    fn note_parameter(&mut self, mut fields: Fields) {
        if let (Some(name), Some(value)) = (fields.text(), fields.text())
            && self.parameters.len() < PARAMETERS_MAX
        {
            self.parameters.insert(name, value);
        }
    }

    pub(super) fn odd(&self, what: impl Into<String>) -> SourceError {
        odd(&self.place, what)
    }

    /// Sends a command, and leaves its answer to be received.
    pub(super) async fn command(&mut self, text: &str) -> Result<(), SourceError> {
        let mut buffer = BytesMut::new();
        frontend::query(text, &mut buffer).map_err(|error| self.odd(format!("{text:?} cannot be sent: {error}")))?;
        self.send(&buffer).await
    }

    /// Sends a command that has one result, and returns its rows.
    pub(super) async fn query(&mut self, text: &str) -> Result<Vec<Row>, SourceError> {
        self.command(text).await?;
        let rows = self.result().await?;
        self.ready().await?;
        Ok(rows)
    }

    /// Receives one result: its description, its rows, and that it is complete.
    pub(super) async fn result(&mut self) -> Result<Vec<Row>, SourceError> {
        let mut rows = Vec::new();
        loop {
            let message = self.receive().await?;
            match message.letter {
                b'T' | b'N' => {}
                b'D' if rows.len() < ROWS_MAX => {
                    rows.push(row(message.body).ok_or_else(|| self.odd("a row without an end"))?);
                }
                b'C' => return Ok(rows),
                letter => return Err(self.unexpected(letter, "a result")),
            }
        }
    }

    /// Receives that the server is ready for the next command.
    pub(super) async fn ready(&mut self) -> Result<(), SourceError> {
        loop {
            match self.receive().await?.letter {
                b'Z' => return Ok(()),
                b'C' | b'N' => {}
                letter => return Err(self.unexpected(letter, "the end of a command")),
            }
        }
    }

    pub(super) fn unexpected(&self, letter: u8, wanted: &str) -> SourceError {
        self.odd(format!("message {:?} came instead of {wanted}", char::from(letter)))
    }

    /// A setting of the server, by SHOW.
    pub(super) async fn show(&mut self, name: &str) -> Result<String, SourceError> {
        let rows = self.query(&format!("SHOW {name}")).await?;
        let value = rows.into_iter().flatten().flatten().next();
        value.ok_or_else(|| self.odd(format!("no answer to SHOW {name}")))
    }

    /// Says good-bye, which lets a server end its side at once. What the network says to that is of no matter.
    pub(super) async fn close(mut self) {
        let mut buffer = BytesMut::new();
        frontend::terminate(&mut buffer);
        let _ = timeout(Duration::from_secs(1), self.send(&buffer)).await;
    }
}
