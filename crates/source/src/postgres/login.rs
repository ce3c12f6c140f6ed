//! Startup and authentication: from an open wire to a server that is ready.
//!
//! ```text
//! → startup(parameters)   ← how we are to prove who we are   → password | md5 | SCRAM   ← welcome, parameters, ready
//! ```
//!
//! Invariant: a password never crosses a wire in clear unless the wire is encrypted or stays on this machine.

use bytes::{Bytes, BytesMut};
use postgres_protocol::authentication::md5_hash;
use postgres_protocol::authentication::sasl::{ChannelBinding, SCRAM_SHA_256, SCRAM_SHA_256_PLUS, ScramSha256};
use postgres_protocol::message::frontend;
use zeroize::Zeroizing;

use super::connection::Connection;
use super::failure::failed;
use super::message::{Fields, Message};
use crate::{Fault, SourceError};

/// Who we are, and what is known of the wire.
pub(super) struct Login<'a> {
    /// What the startup message says: `user`, `replication` …
    pub(super) parameters: Vec<(&'a str, &'a str)>,
    pub(super) user: &'a str,
    pub(super) password: Option<Zeroizing<String>>,
    /// Whether nobody can listen: TLS, or a socket of this machine.
    pub(super) is_private: bool,
    /// What binds a proof to this TLS session, where there is one.
    pub(super) binding: Option<Vec<u8>>,
}

impl Login<'_> {
    /// Logs in; the connection is then ready for commands.
    pub(super) async fn run(mut self, connection: &mut Connection) -> Result<(), SourceError> {
        let mut buffer = BytesMut::new();
        frontend::startup_message(self.parameters.iter().copied(), &mut buffer)
            .map_err(|error| connection.odd(format!("it cannot be told who we are: {error}")))?;
        connection.send(&buffer).await?;
        loop {
            let message = connection.receive().await?;
            match message.letter {
                b'R' if self.authenticate(connection, Fields(message.body)).await? => break,
                b'R' | b'N' => {}
                letter => return Err(connection.unexpected(letter, "a question who we are")),
            }
        }
        self.greeted(connection).await
    }

    /// Answers one request; true once we are let in.
    async fn authenticate(&mut self, connection: &mut Connection, mut fields: Fields) -> Result<bool, SourceError> {
        let kind = fields.i32().ok_or_else(|| connection.odd("a request without a kind"))?;
        match kind {
            0 => return Ok(true),
            3 => {
                let place = connection.place();
                if !self.is_private {
                    let what = "it asks for the password in clear over a connection that is not encrypted";
                    return Err(failed(place, what, Fault::Setting));
                }
                let password = self.password(place)?;
                send_password(connection, password.as_bytes()).await?;
            }
            5 => {
                let salt = fields.bytes(4).and_then(|salt| salt.first_chunk::<4>().copied());
                let salt = salt.ok_or_else(|| connection.odd("a salt of another length than 4"))?;
                let password = self.password(connection.place())?;
                let proof = Zeroizing::new(md5_hash(self.user.as_bytes(), password.as_bytes(), salt));
                send_password(connection, proof.as_bytes()).await?;
            }
            10 => self.scram(connection, fields).await?,
            kind => {
                let what = format!("it wants to know who we are in a way that is not supported (kind {kind})");
                return Err(failed(connection.place(), what, Fault::Setting));
            }
        }
        Ok(false)
    }

    fn password(&mut self, place: &str) -> Result<Zeroizing<String>, SourceError> {
        let missing =
            || failed(place, format!("it asks for a password of {:?}, and none is set", self.user), Fault::Login);
        self.password.take().ok_or_else(missing)
    }

    /// SCRAM-SHA-256, bound to the TLS session where both sides can.
    async fn scram(&mut self, connection: &mut Connection, mut fields: Fields) -> Result<(), SourceError> {
        let mut offered = Vec::new();
        while let Some(mechanism) = fields.text().filter(|mechanism| !mechanism.is_empty()) {
            offered.push(mechanism);
        }
        let offers = |mechanism: &str| offered.iter().any(|offered| offered == mechanism);
        let (mechanism, binding) = match self.binding.take() {
            Some(binding) if offers(SCRAM_SHA_256_PLUS) => {
                (SCRAM_SHA_256_PLUS, ChannelBinding::tls_server_end_point(binding))
            }
            Some(_) => (SCRAM_SHA_256, ChannelBinding::unrequested()),
            None => (SCRAM_SHA_256, ChannelBinding::unsupported()),
        };
        if !offers(mechanism) {
            let what = format!("it offers {} only, which is not supported", offered.join(", "));
            return Err(failed(connection.place(), what, Fault::Setting));
        }
        let password = self.password(connection.place())?;
        let mut proof = ScramSha256::new(password.as_bytes(), binding);
        let mut buffer = BytesMut::new();
        let unsendable = |error| failed(connection.place(), format!("{error}"), Fault::Protocol);
        frontend::sasl_initial_response(mechanism, proof.message(), &mut buffer).map_err(unsendable)?;
        connection.send(&buffer).await?;

        let challenge = self.sasl(connection, 11).await?;
        proof.update(&challenge).map_err(|error| connection.odd(format!("its challenge is wrong: {error}")))?;
        buffer.clear();
        let unsendable = |error| failed(connection.place(), format!("{error}"), Fault::Protocol);
        frontend::sasl_response(proof.message(), &mut buffer).map_err(unsendable)?;
        connection.send(&buffer).await?;

        let outcome = self.sasl(connection, 12).await?;
        let what = "it does not know our password itself: it may not be the server it says it is";
        proof.finish(&outcome).map_err(|_| failed(connection.place(), what, Fault::Login))
    }

    /// The next step of SCRAM, which must be of `kind`.
    async fn sasl(&self, connection: &mut Connection, kind: i32) -> Result<Bytes, SourceError> {
        let Message { letter, body } = connection.receive().await?;
        let mut fields = Fields(body);
        match (letter, fields.i32()) {
            (b'R', Some(found)) if found == kind => Ok(fields.0),
            _ => Err(connection.unexpected(letter, "the next step of SCRAM")),
        }
    }

    async fn greeted(&self, connection: &mut Connection) -> Result<(), SourceError> {
        loop {
            let message = connection.receive().await?;
            match message.letter {
                b'Z' => return Ok(()),
                b'K' => connection.process = Fields(message.body).i32().unwrap_or_default(),
                b'N' => {}
                letter => return Err(connection.unexpected(letter, "a welcome")),
            }
        }
    }
}

async fn send_password(connection: &mut Connection, password: &[u8]) -> Result<(), SourceError> {
    let len = u32::try_from(password.len() + 5).map_err(|_| connection.odd("the password is too long"))?;
    let mut bytes = Zeroizing::new(Vec::with_capacity(password.len() + 6));
    bytes.push(b'p');
    bytes.extend_from_slice(&len.to_be_bytes());
    bytes.extend_from_slice(password);
    bytes.push(0);
    connection.send(&bytes).await
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    use super::*;

    /// How a login ends at a server that says `words`, and what that server hears after the startup.
    async fn login(words: &[u8], is_private: bool) -> (Result<(), SourceError>, Vec<u8>) {
        let (own, mut server) = tokio::io::duplex(64 * 1024);
        server.write_all(words).await.unwrap();
        let mut connection = Connection::new(Box::new(own), "postgres at test".to_owned(), Duration::from_secs(1));
        let password = Some(Zeroizing::new("pass word".to_owned()));
        let login = Login { parameters: vec![("user", "u")], user: "u", password, is_private, binding: None };
        let (outcome, heard) = tokio::join!(
            async {
                let outcome = login.run(&mut connection).await;
                drop(connection);
                outcome
            },
            async {
                let mut heard = Vec::new();
                tokio::time::timeout(Duration::from_secs(3), server.read_to_end(&mut heard)).await.ok();
                heard
            }
        );
        (outcome, heard)
    }

    fn fault(outcome: Result<(), SourceError>) -> Option<Fault> {
        match outcome {
            Ok(()) => None,
            Err(SourceError::Server { fault, .. }) => Some(fault),
            Err(error) => panic!("{error}"),
        }
    }

    const WELCOME: &[u8] = b"R\0\0\0\x08\0\0\0\0K\0\0\0\x0c\0\0\0\x07\0\0\0\x01Z\0\0\0\x05I";
    const IN_CLEAR: &[u8] = b"R\0\0\0\x08\0\0\0\x03";

    #[tokio::test]
    async fn a_password_goes_in_clear_only_where_nobody_can_listen() {
        let words = [IN_CLEAR, WELCOME].concat();
        let holds = |heard: &[u8]| heard.windows(9).any(|bytes| bytes == b"pass word");
        let (outcome, heard) = login(&words, true).await;
        assert_eq!((fault(outcome), holds(&heard)), (None, true));
        let (outcome, heard) = login(&words, false).await;
        assert_eq!((fault(outcome), holds(&heard)), (Some(Fault::Setting), false));
    }

    #[tokio::test]
    async fn servers_that_ask_for_more_or_for_something_else_are_refused() {
        let twice = [IN_CLEAR, IN_CLEAR, WELCOME].concat();
        assert_eq!(fault(login(&twice, true).await.0), Some(Fault::Login));
        assert_eq!(fault(login(b"R\0\0\0\x08\0\0\0\x07", true).await.0), Some(Fault::Setting));
        assert_eq!(fault(login(b"R\0\0\0\x12\0\0\0\x0aOAUTH\0\0\0\0\0", true).await.0), Some(Fault::Setting));
        let wrong_nonce = b"R\0\0\0\x17\0\0\0\x0aSCRAM-SHA-256\0\0R\0\0\0\x17\0\0\0\x0br=x,s=AAAA,i=4096";
        let (outcome, heard) = login(wrong_nonce, false).await;
        assert_eq!(fault(outcome), Some(Fault::Protocol));
        assert!(!heard.windows(4).any(|bytes| bytes == b"pass"));
    }
}
