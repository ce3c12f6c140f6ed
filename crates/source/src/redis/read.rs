//! The RDB of the best of several servers, as events.
//!
//! Invariant: no byte after the RDB is taken for a part of it.
//! Never here: the bytes of the protocol.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use async_stream::try_stream;
use bytes::{Bytes, BytesMut};
use futures::StreamExt as _;

use super::Address;
use super::connection::{Connection, addresses};
use super::rdb::{Checksum, RdbEnd};
use crate::entry::{Entry, EntryKind, EntryPath, Metadata, Time};
use crate::error::{Fault, SourceError};
use crate::events::{Event, Events, Layout, SourceEntry};
use crate::secret::Secret;
use crate::tls::Tls;

/// Length of the mark that ends an RDB whose length the server does not know, in bytes.
const MARK_LEN: usize = 40;
/// How long a server may be silent unless told otherwise. It sends a byte every 10 s while it prepares.
const IDLE_FOR: Duration = Duration::from_secs(60);
/// The longest piece handed on, in bytes.
const PIECE_LEN_MAX: usize = 256 * 1024;

/// Which servers, and who we are there.
#[derive(Debug, Clone)]
pub struct RedisDump {
    /// One of them is read: a replica in step with its primary if there is one, else the first that answers. Of a name
    /// with several addresses, each is asked.
    pub addresses: Vec<Address>,
    /// The ACL user; the default one if `None`.
    pub user: Option<String>,
    /// The password.
    pub password: Option<Secret>,
    /// Whether TCP connections use TLS.
    pub tls: Option<Tls>,
    /// How long a server may be silent.
    pub idle_for: Duration,
}

impl RedisDump {
    /// One server, without a password.
    #[must_use]
    pub fn new(address: Address) -> Self {
        Self { addresses: vec![address], user: None, password: None, tls: None, idle_for: IDLE_FOR }
    }
}

/// Reads the one entry `dump.rdb`.
///
/// Facts: `server_version`, `server`, `role`, `replid`, `offset`, `keys` (shortly before), `rdb_checksum`.
///
/// The stream fails with [`SourceError::Server`]; what came before is then not to be kept.
#[must_use]
pub fn dump(request: RedisDump) -> Events {
    let events = try_stream! {
        let (Candidate { connection, info, .. }, warnings) = choose(&request).await?;
        for warning in warnings {
            yield Event::Warning(warning);
        }
        let mut copied = copy(connection, info);
        while let Some(event) = copied.next().await {
            yield event?;
        }
    };
    events.boxed()
}

/// All that a server says which has let us in, `INFO` first.
#[cfg(fuzzing)]
pub(super) fn transfer(mut connection: Connection) -> Events {
    let events = try_stream! {
        let info = Info::of_text(&connection.ask_bulk(&["INFO"]).await?);
        let mut copied = copy(connection, info);
        while let Some(event) = copied.next().await {
            yield event?;
        }
    };
    events.boxed()
}

/// Replicates from a server.
fn copy(mut connection: Connection, info: Info) -> Events {
    let events = try_stream! {
        connection.ask(&["REPLCONF", "capa", "eof", "capa", "psync2"]).await?;
        let answer = connection.ask(&["PSYNC", "?", "-1"]).await?;
        let (replid, offset) = resync_of(&connection, &answer)?;
        let line = connection.line().await?;
        let framing = Framing::of_line(&connection, &line)?;
        yield begin(&info)?;
        let mut end = RdbEnd::default();
        let mut body = Body { framing, held: BytesMut::new() };
        while let Some(data) = body.next(&mut connection).await? {
            end.push(&data);
            yield Event::Data(data);
        }
        let checksum = end.finish().map_err(|why| connection.error(Fault::Damaged, why))?;
        yield Event::End;
        if checksum == Checksum::Off {
            let what = "the server writes no checksum into its RDB (rdbchecksum no): only its end was verified";
            yield Event::Warning(format!("{}: {what}", connection.place));
        }
        let keys = info.keys().to_string();
        for (name, value) in [
            ("server", connection.place.clone()),
            ("server_version", info.version()),
            ("role", info.get("role").to_owned()),
            ("replid", replid),
            ("offset", offset),
            ("keys", keys),
            ("rdb_checksum", if checksum == Checksum::Right { "right" } else { "off" }.to_owned()),
        ] {
            yield Event::Fact { name: name.to_owned(), value };
        }
    };
    events.boxed()
}

/// A server that let us in.
pub(super) struct Candidate {
    pub(super) connection: Connection,
    pub(super) info: Info,
    rank: u8,
}

/// Asks all servers, and takes a replica that is in step, else a primary, else whatever answers.
///
/// Beside it, what the others lack; but where one address of a name answers, nobody has to listen at its others, such as
/// `::1` of `localhost`.
pub(super) async fn choose(request: &RedisDump) -> Result<(Candidate, Vec<String>), SourceError> {
    let mut best: Option<Candidate> = None;
    let mut failures = Vec::new();
    for address in &request.addresses {
        // A service's name may stand for a primary and its replicas.
        let each: Vec<_> = addresses(address).await.into_iter().map(Some).collect();
        let (mut has_answered, mut failed) = (false, Vec::new());
        for only in if each.is_empty() { vec![None] } else { each } {
            match enter(request, address, only).await {
                Ok(found) => {
                    has_answered = true;
                    if best.as_ref().is_none_or(|best| found.rank < best.rank) {
                        best = Some(found);
                    }
                }
                Err(error) => failed.push(error),
            }
        }
        let is_nobody = |error: &SourceError| matches!(error, SourceError::Server { fault: Fault::Unreachable, .. });
        failures.extend(failed.into_iter().filter(|error| !(has_answered && is_nobody(error))));
    }
    match best {
        Some(best) => Ok((best, failures.iter().map(ToString::to_string).collect())),
        None => Err(failures
            .into_iter()
            .next()
            .unwrap_or_else(|| SourceError::server("redis", Fault::Missing, "no server was named"))),
    }
}

async fn enter(request: &RedisDump, address: &Address, only: Option<SocketAddr>) -> Result<Candidate, SourceError> {
    let mut connection = Connection::open(address, only, request.tls.as_ref(), request.idle_for).await?;
    match (&request.user, &request.password) {
        (Some(user), password) => {
            let password = password.as_ref().map_or("", Secret::expose);
            connection.ask(&["AUTH", user, password]).await?;
        }
        (None, Some(password)) => _ = connection.ask(&["AUTH", password.expose()]).await?,
        (None, None) => {}
    }
    let info = Info::of_text(&connection.ask_bulk(&["INFO"]).await?);
    let rank = match (info.get("role"), info.get("master_link_status")) {
        ("slave", "up") => 0,
        ("master", _) => 1,
        _ => 2,
    };
    Ok(Candidate { connection, info, rank })
}

/// What `INFO` says, by name.
pub(super) struct Info(BTreeMap<String, String>);

impl Info {
    fn of_text(text: &str) -> Self {
        let pairs = text.lines().filter_map(|line| line.trim_end().split_once(':'));
        Self(pairs.map(|(name, value)| (name.to_owned(), value.to_owned())).collect())
    }

    pub(super) fn get(&self, name: &str) -> &str {
        self.0.get(name).map_or("", String::as_str)
    }

    pub(super) fn version(&self) -> String {
        match self.get("valkey_version") {
            "" => format!("redis {}", self.get("redis_version")),
            version => format!("valkey {version}"),
        }
    }

    /// Keys of all databases: `dbN:keys=K,…`.
    pub(super) fn keys(&self) -> u64 {
        let databases = self
            .0
            .iter()
            .filter(|(name, _)| name.strip_prefix("db").is_some_and(|number| number.parse::<u32>().is_ok()));
        let counts =
            databases.filter_map(|(_, value)| value.strip_prefix("keys=")?.split(',').next()?.parse::<u64>().ok());
        counts.sum::<u64>()
    }
}

fn resync_of(connection: &Connection, answer: &str) -> Result<(String, String), SourceError> {
    let mut words = answer.split(' ');
    match (words.next(), words.next(), words.next()) {
        (Some("FULLRESYNC"), Some(replid), Some(offset)) => Ok((replid.to_owned(), offset.to_owned())),
        _ => Err(connection.error(Fault::Protocol, format!("an answer to PSYNC that is not known: {answer}"))),
    }
}

/// How the end of the RDB is told.
#[derive(Debug, PartialEq, Eq)]
enum Framing {
    /// So many bytes are left.
    Len(u64),
    /// These bytes follow it.
    Mark([u8; MARK_LEN]),
    /// It has passed.
    Done,
}

impl Framing {
    fn of_line(connection: &Connection, line: &str) -> Result<Self, SourceError> {
        if let Some(refusal) = line.strip_prefix('-') {
            return Err(connection.error(Fault::Busy, format!("it gave up preparing the RDB: {refusal}")));
        }
        let mark = line.strip_prefix("$EOF:").and_then(|mark| mark.as_bytes().try_into().ok());
        let len = line.strip_prefix('$').and_then(|len| len.parse().ok());
        let known = mark.map(Self::Mark).or_else(|| len.map(Self::Len));
        known.ok_or_else(|| connection.error(Fault::Protocol, format!("not the beginning of an RDB: {line}")))
    }
}

/// The bytes of the RDB, without what frames them.
struct Body {
    framing: Framing,
    /// The last bytes that came, which may be the mark.
    held: BytesMut,
}

impl Body {
    /// The next piece; `None` once the RDB has ended.
    async fn next(&mut self, connection: &mut Connection) -> Result<Option<Bytes>, SourceError> {
        match &mut self.framing {
            Framing::Done | Framing::Len(0) => Ok(None),
            Framing::Len(left) => {
                let wanted = usize::try_from(*left).unwrap_or(usize::MAX).min(PIECE_LEN_MAX);
                let data = connection.some(wanted).await?;
                *left -= data.len() as u64;
                Ok(Some(data))
            }
            Framing::Mark(mark) => loop {
                // The server sends nothing after the mark until it is told that the RDB arrived.
                self.held.extend_from_slice(&connection.some(PIECE_LEN_MAX).await?);
                let ready = self.held.len().saturating_sub(MARK_LEN);
                let is_end = self.held.ends_with(mark);
                let data = self.held.split_to(ready).freeze();
                if is_end {
                    self.framing = Framing::Done;
                    return Ok((!data.is_empty()).then_some(data));
                }
                if !data.is_empty() {
                    return Ok(Some(data));
                }
            },
        }
    }
}

fn begin(info: &Info) -> Result<Event, SourceError> {
    let micros: i64 = info.get("server_time_usec").parse().unwrap_or_default();
    let nanos = u32::try_from(micros.rem_euclid(1_000_000) * 1000).unwrap_or_default();
    let modified_at = Time { secs: micros.div_euclid(1_000_000), nanos };
    let metadata = Metadata { mode: 0o600, modified_at, ..Metadata::default() };
    let path = EntryPath::try_from(b"dump.rdb".to_vec())?;
    let entry = Entry { path, kind: EntryKind::File { len: 0 }, metadata };
    Ok(Event::Begin(SourceEntry { entry, layout: Layout::Records, base: None }))
}
