//! A base backup: a whole server as entries, or what changed of it.
//!
//! ```text
//! connect ─→ version, settings ─→ second connection: temporary slot that reserves the log
//!         ─→ earlier manifest? upload it, ask for what changed ─→ refused? connect again, ask for everything
//!         ─→ start, tablespaces ─→ archives, manifest ─→ stop ─→ BASE_BACKUP complete, ready ─→ facts
//! ```
//!
//! The log that is needed to make the data consistent comes along, so that what is restored starts by itself.
//!
//! Invariant: the events end well only after the server said `BASE_BACKUP` and that it is ready: it reports pages whose
//! checksums are wrong only after all their bytes.
//! Never here: what is done with the entries; splicing is the business of who has the earlier backup.

use bytes::{Bytes, BytesMut};
use postgres_protocol::message::frontend::{self, CopyData};

use super::connect::{Connected, connect, is_standby};
use super::connection::Connection;
use super::copy::{Copy, Piece};
use super::emit::{Out, events};
use super::failure::{failed, odd};
use super::lsn::Lsn;
use super::manifest::{Checksums, Manifest};
use super::members::Members;
use super::message::Row;
use super::server::Server;
use super::tar::Tar;
use crate::events::{Event, Events};
use crate::{Fault, SourceError, blocking};

/// The oldest version that writes manifests.
const MAJOR_MIN: u32 = 13;
/// The first version whose commands take options in brackets.
const MAJOR_BRACKETS: u32 = 15;
/// The first version that can tell what changed.
pub(super) const MAJOR_INCREMENTAL: u32 = 17;
/// Bytes of a manifest sent at once.
const UPLOAD_LEN: usize = 64 * 1024;

/// What is wanted of a base backup.
#[derive(Debug, Clone)]
pub struct BaseBackup {
    /// What the server calls it in its views and in `backup_label`.
    pub label: String,
    /// Whether the server is to write out what it has at once, or in its own time.
    pub checkpoint: Checkpoint,
    /// The most that the server may send, in KiB a second (32 to 1,048,576); `None` is all it can.
    pub rate_max: Option<u32>,
    /// What the manifest names each file's content with.
    pub checksums: Checksums,
    /// `backup_manifest` of the earlier snapshot that is at hand: then only changed blocks come, if the server can tell
    /// which they are.
    pub previous_manifest: Option<Bytes>,
}

/// How the checkpoint before a backup is made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Checkpoint {
    /// At once.
    #[default]
    Fast,
    /// Over the time that the server takes for its own ones: minutes, with less load.
    Spread,
}

impl Default for BaseBackup {
    fn default() -> Self {
        Self {
            label: "backstay".to_owned(),
            checkpoint: Checkpoint::Fast,
            rate_max: None,
            checksums: Checksums::default(),
            previous_manifest: None,
        }
    }
}

/// Reads a whole server, or with an earlier manifest what changed of it.
///
/// Facts: `server_version`, `server_version_num`, `system_identifier`, `timeline`, `start_lsn`, `stop_lsn`,
/// `stop_timeline`, `block_size`, `wal_segment_size`, `data_checksums`, `data_directory_mode`, `in_recovery`, `method`
/// (`full` or `incremental`) and for each tablespace `tablespace_<oid>`, where it was. Its files come as
/// `pg_tblspc/<oid>/…`, a directory where the server had a link.
///
/// Memory: at most a few messages of 128 KiB, and about 200 bytes for each file of the server (700 with an earlier
/// manifest, besides that itself).
///
/// # Errors
///
/// Items are [`SourceError::Server`]; nothing that came before one may be kept.
#[must_use]
pub fn base_backup(server: Server, wanted: BaseBackup) -> Events {
    events(|out| async move { run(&server, &wanted, &out).await })
}

/// What a server of version `major` says that was asked for a base backup on `connection`.
#[cfg(fuzzing)]
pub(super) fn of_connection(connection: Connection, major: u32, previous: Option<Manifest>) -> Events {
    events(move |out| async move {
        let setup = Setup { major, page_len: 8192, facts: Vec::new() };
        let wanted = BaseBackup::default();
        let started = begin(connection, setup, previous).await?;
        receive(started, wanted.checksums, &out).await
    })
}

/// A server that is about to send its data.
struct Started {
    connection: Connection,
    setup: Setup,
    start: (Lsn, String),
    tablespaces: Vec<(Option<u32>, String)>,
    /// The manifest of the backup that this one differs from.
    previous: Option<Manifest>,
}

/// What a server says about itself.
#[derive(Debug, Clone)]
pub(super) struct Setup {
    pub(super) major: u32,
    page_len: u32,
    pub(super) facts: Vec<(&'static str, String)>,
}

async fn run(server: &Server, wanted: &BaseBackup, out: &Out) -> Result<(), SourceError> {
    let (connection, setup, server) = open(server).await?;
    let slot = reserve(&server, setup.major, out).await?;
    let started = start(&server, wanted, connection, setup, out).await?;
    for (name, value) in &started.setup.facts {
        out.fact(name, value).await;
    }
    receive(started, wanted.checksums, out).await?;
    if let Some(slot) = slot {
        slot.close().await;
    }
    Ok(())
}

/// Connects. With the connection come what the server says about itself, and how it alone is reached: slot and backup
/// have to be of one server.
pub(super) async fn open(server: &Server) -> Result<(Connection, Setup, Server), SourceError> {
    let Connected { mut connection, server } = connect(server, &[]).await?;
    let number = connection.show("server_version_num").await?;
    let major = number.parse::<u32>().map_err(|_| connection.odd(format!("version {number:?}")))? / 10_000;
    if major < MAJOR_MIN {
        let what = format!("it is of version {major}, and {MAJOR_MIN} is the oldest that can be read");
        return Err(failed(connection.place(), what, Fault::Version));
    }
    let mut facts = vec![
        ("server_version", connection.parameter("server_version").unwrap_or_default().to_owned()),
        ("server_version_num", number),
    ];
    let [Some(system), ..] = &first_row(&mut connection, "IDENTIFY_SYSTEM").await?[..] else {
        return Err(connection.odd("it does not say which system it is"));
    };
    facts.push(("system_identifier", system.clone()));
    for name in ["block_size", "wal_segment_size", "data_checksums", "data_directory_mode"] {
        facts.push((name, connection.show(name).await?));
    }
    facts.push(("in_recovery", is_standby(&mut connection).await?.to_string()));
    let page_len = facts.iter().find(|fact| fact.0 == "block_size").and_then(|fact| fact.1.parse().ok());
    let page_len = page_len.filter(|len| (1024..=32_768).contains(len));
    let page_len = page_len.ok_or_else(|| connection.odd("a page length that no server has"))?;
    Ok((connection, Setup { major, page_len, facts }, server))
}

async fn first_row(connection: &mut Connection, command: &str) -> Result<Row, SourceError> {
    let rows = connection.query(command).await?;
    rows.into_iter().next().ok_or_else(|| connection.odd(format!("no answer to {command}")))
}

/// A connection that has a temporary slot, which reserves the log from now on.
pub(super) async fn make_slot(server: &Server, major: u32) -> Result<Connection, SourceError> {
    let parameters: &[_] = if major >= 14 { &[("idle_session_timeout", "0")] } else { &[] };
    let options = if major >= MAJOR_BRACKETS { "(RESERVE_WAL)" } else { "RESERVE_WAL" };
    let Connected { mut connection, .. } = connect(server, parameters).await?;
    let name = format!("backstay_{}", connection.process);
    connection.query(&format!("CREATE_REPLICATION_SLOT {name} TEMPORARY PHYSICAL {options}")).await?;
    Ok(connection)
}

/// Keeps the log from being recycled for as long as the connection lives. Where no slot is to be had the backup goes
/// on: the server itself refuses to end it if log is missing.
async fn reserve(server: &Server, major: u32, out: &Out) -> Result<Option<Connection>, SourceError> {
    match make_slot(server, major).await {
        Ok(connection) => Ok(Some(connection)),
        Err(SourceError::Server { what, fault: Fault::Setting | Fault::Busy, .. }) => {
            let warning = format!("no replication slot keeps the log during the backup: {what}");
            out.event(Event::Warning(warning)).await;
            Ok(None)
        }
        Err(error) => Err(error),
    }
}

/// Begins the backup: of what changed if it can be, of everything otherwise.
async fn start(
    server: &Server,
    wanted: &BaseBackup,
    connection: Connection,
    setup: Setup,
    out: &Out,
) -> Result<Started, SourceError> {
    let Some(bytes) = &wanted.previous_manifest else {
        return start_one(connection, setup, wanted, None).await;
    };
    let parsed = bytes.clone();
    let refusal = match blocking::run(move || Manifest::parse(&parsed)).await? {
        Err(error) => error.to_string(),
        Ok(_) if setup.major < MAJOR_INCREMENTAL => {
            format!("version {} cannot, {MAJOR_INCREMENTAL} is the first that can", setup.major)
        }
        Ok(previous) => match start_one(connection, setup, wanted, Some((bytes, previous))).await {
            // Whatever the server minds in the earlier manifest, it may still send everything.
            Err(SourceError::Server {
                what,
                fault: Fault::Setting | Fault::Incomplete | Fault::Missing | Fault::Version,
                ..
            }) => what,
            outcome => return outcome,
        },
    };
    let warning = format!("everything is read, since the server cannot tell what changed: {refusal}");
    out.event(Event::Warning(warning)).await;
    let (connection, setup, _) = open(server).await?;
    start_one(connection, setup, wanted, None).await
}

async fn start_one(
    mut connection: Connection,
    setup: Setup,
    wanted: &BaseBackup,
    previous: Option<(&Bytes, Manifest)>,
) -> Result<Started, SourceError> {
    if let Some((bytes, _)) = &previous {
        upload(&mut connection, bytes).await?;
    }
    connection.command(&command(wanted, setup.major, previous.is_some())).await?;
    begin(connection, setup, previous.map(|(_, manifest)| manifest)).await
}

/// Receives where the backup starts, and what it is made of.
async fn begin(
    mut connection: Connection,
    mut setup: Setup,
    previous: Option<Manifest>,
) -> Result<Started, SourceError> {
    let start = position(&mut connection).await?;
    let rows = connection.result().await?;
    let tablespace = |row: &Row| match &row[..] {
        [None, ..] => Some((None, String::new())),
        [Some(oid), Some(path), ..] => Some((Some(oid.parse().ok()?), path.clone())),
        _ => None,
    };
    let tablespaces = rows.iter().map(tablespace).collect::<Option<Vec<_>>>();
    let tablespaces = tablespaces.ok_or_else(|| connection.odd("a tablespace without a place"))?;
    setup.facts.push(("method", if previous.is_some() { "incremental" } else { "full" }.to_owned()));
    Ok(Started { connection, setup, start, tablespaces, previous })
}

/// Tells the server which backup the next one is to differ from.
async fn upload(connection: &mut Connection, manifest: &Bytes) -> Result<(), SourceError> {
    connection.command("UPLOAD_MANIFEST").await?;
    loop {
        match connection.receive().await?.letter {
            b'G' => break,
            b'N' => {}
            letter => return Err(connection.unexpected(letter, "leave to upload a manifest")),
        }
    }
    let mut buffer = BytesMut::new();
    for piece in manifest.chunks(UPLOAD_LEN) {
        buffer.clear();
        let data = CopyData::new(piece).map_err(|error| connection.odd(error.to_string()))?;
        data.write(&mut buffer);
        connection.send(&buffer).await?;
    }
    buffer.clear();
    frontend::copy_done(&mut buffer);
    connection.send(&buffer).await?;
    connection.ready().await
}

/// The command, in the grammar that the version has.
fn command(wanted: &BaseBackup, major: u32, is_incremental: bool) -> String {
    let label = format!("LABEL '{}'", wanted.label.replace('\'', "''").replace('\0', ""));
    let checksums = match wanted.checksums {
        Checksums::Crc32c => "CRC32C",
        Checksums::Sha256 => "SHA256",
    };
    let rate = wanted.rate_max.map(|rate| format!("MAX_RATE {rate}"));
    let is_fast = wanted.checkpoint == Checkpoint::Fast;
    if major < MAJOR_BRACKETS {
        let fast = is_fast.then_some("FAST".to_owned());
        let words = [Some(label), fast, Some("WAL NOWAIT".to_owned()), rate].into_iter().flatten();
        let words = words.collect::<Vec<_>>().join(" ");
        return format!("BASE_BACKUP {words} MANIFEST 'yes' MANIFEST_CHECKSUMS '{checksums}'");
    }
    let checkpoint = if is_fast { "CHECKPOINT 'fast'" } else { "CHECKPOINT 'spread'" }.to_owned();
    let fixed = format!("WAL, WAIT false, MANIFEST 'yes', MANIFEST_CHECKSUMS '{checksums}', TARGET 'client'");
    let incremental = is_incremental.then(|| "INCREMENTAL".to_owned());
    let words = [Some(label), Some(checkpoint), Some(fixed), rate, incremental].into_iter().flatten();
    format!("BASE_BACKUP ({})", words.collect::<Vec<_>>().join(", "))
}

/// Where the backup starts or stops, and on which timeline.
async fn position(connection: &mut Connection) -> Result<(Lsn, String), SourceError> {
    let rows = connection.result().await?;
    let Some([Some(lsn), Some(timeline), ..]) = rows.first().map(|row| &row[..]) else {
        return Err(connection.odd("a backup without a position"));
    };
    let lsn = Lsn::parse(lsn).ok_or_else(|| connection.odd(format!("position {lsn:?}")))?;
    Ok((lsn, timeline.clone()))
}

/// Receives everything, to the end mark.
async fn receive(started: Started, checksums: Checksums, out: &Out) -> Result<(), SourceError> {
    let Started { mut connection, setup, start, tablespaces, previous } = started;
    let place = connection.place().to_owned();
    let ids: Vec<_> = tablespaces.iter().map(|(oid, _)| *oid).collect();
    let mut copy = Copy::new(setup.major, &ids);
    let mut members = Members::new(&place, checksums, setup.page_len, previous);
    let mut warned = Warned::default();
    let copied = archives(&mut connection, &mut copy, &mut members, &mut warned, out).await;
    copied.map_err(|error| warned.explain(error))?;
    members.finish(out).await?;
    let stop = position(&mut connection).await.map_err(|error| warned.explain(error))?;
    completed(&mut connection).await.map_err(|error| warned.explain(error))?;
    connection.close().await;

    for (oid, path) in tablespaces {
        if let Some(oid) = oid {
            out.fact(&format!("tablespace_{oid}"), path).await;
        }
    }
    out.fact("start_lsn", start.0).await;
    out.fact("timeline", start.1).await;
    out.fact("stop_lsn", stop.0).await;
    out.fact("stop_timeline", stop.1).await;
    Ok(())
}

/// Receives the archives and the manifest.
async fn archives(
    connection: &mut Connection,
    copy: &mut Copy,
    members: &mut Members,
    warned: &mut Warned,
    out: &Out,
) -> Result<(), SourceError> {
    let mut tar: Option<Tar> = None;
    let mut has_manifest = false;
    let place = connection.place().to_owned();
    let unfit = |error: super::tar::TarError| odd(&place, error.to_string());
    loop {
        match copy.next(connection).await? {
            Piece::Archive(tablespace) => {
                tar.replace(Tar::default()).map_or(Ok(()), Tar::finish).map_err(unfit)?;
                members.archive(tablespace);
            }
            Piece::Data(mut data) => match &mut tar {
                Some(tar) => {
                    while let Some(part) = tar.next(&mut data).map_err(unfit)? {
                        members.part(part, out).await?;
                    }
                }
                None if has_manifest => members.manifest(data, out).await?,
                None => return Err(odd(&place, "data of no archive")),
            },
            Piece::Manifest => {
                tar.take().map_or(Ok(()), Tar::finish).map_err(unfit)?;
                has_manifest = true;
                members.begin_manifest(out).await?;
            }
            Piece::Warning(words) => {
                warned.note(&words);
                out.event(Event::Warning(words)).await;
            }
            Piece::End if has_manifest => return Ok(()),
            Piece::End => return Err(failed(&place, "it sent no manifest", Fault::Incomplete)),
        }
    }
}

/// Receives the end mark: that the backup is whole, and that the server is ready.
async fn completed(connection: &mut Connection) -> Result<(), SourceError> {
    let mut is_complete = false;
    loop {
        let message = connection.receive().await?;
        match message.letter {
            b'C' => is_complete |= message.body.starts_with(b"BASE_BACKUP\0"),
            b'N' => {}
            b'Z' if is_complete => return Ok(()),
            b'Z' => {
                return Err(failed(connection.place(), "it did not say that the backup is whole", Fault::Incomplete));
            }
            letter => return Err(connection.unexpected(letter, "the end of a backup")),
        }
    }
}

/// The first warning that came, which tells more than the error that comes of it: which pages are damaged.
#[derive(Default)]
struct Warned(Option<String>);

impl Warned {
    fn note(&mut self, words: &str) {
        self.0.get_or_insert_with(|| words.to_owned());
    }

    fn explain(&self, error: SourceError) -> SourceError {
        match (error, &self.0) {
            (SourceError::Server { place, what, fault: Fault::Damaged }, Some(warning)) => {
                SourceError::Server { place, what: format!("{what}: {warning}"), fault: Fault::Damaged }
            }
            (error, _) => error,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::io::AsyncWriteExt as _;

    use super::*;

    /// A connection to a server that says `words` and nothing more.
    async fn said(words: &[u8]) -> Connection {
        let (own, mut server) = tokio::io::duplex(64 * 1024);
        server.write_all(words).await.unwrap();
        Connection::new(Box::new(own), "postgres at test".to_owned(), Duration::from_secs(1))
    }

    async fn fault_of_end(words: &[u8]) -> Option<Fault> {
        match completed(&mut said(words).await).await {
            Ok(()) => None,
            Err(SourceError::Server { fault, .. }) => Some(fault),
            Err(error) => panic!("{error}"),
        }
    }

    #[tokio::test]
    async fn a_backup_is_whole_only_if_the_server_says_so_and_is_ready() {
        const DONE: &[u8] = b"C\0\0\0\x10BASE_BACKUP\0";
        const READY: &[u8] = b"Z\0\0\0\x05I";
        assert_eq!(fault_of_end(&[DONE, READY].concat()).await, None);
        assert_eq!(fault_of_end(DONE).await, Some(Fault::Interrupted));
        assert_eq!(fault_of_end(READY).await, Some(Fault::Incomplete));
        assert_eq!(fault_of_end(&[b"C\0\0\0\x0bSELECT\0", READY].concat()).await, Some(Fault::Incomplete));
        assert_eq!(fault_of_end(&[b"d\0\0\0\x05x", DONE, READY].concat()).await, Some(Fault::Protocol));
        let damaged = b"E\0\0\0\x11CXX001\0Mbad\0\0";
        assert_eq!(fault_of_end(&[damaged, DONE, READY].concat()).await, Some(Fault::Damaged));
    }

    #[test]
    fn commands_follow_the_grammar_of_the_version() {
        let wanted = BaseBackup { label: "it's".into(), rate_max: Some(64), ..BaseBackup::default() };
        assert_eq!(
            command(&wanted, 14, false),
            "BASE_BACKUP LABEL 'it''s' FAST WAL NOWAIT MAX_RATE 64 MANIFEST 'yes' MANIFEST_CHECKSUMS 'CRC32C'"
        );
        let wanted =
            BaseBackup { checksums: Checksums::Sha256, checkpoint: Checkpoint::Spread, ..BaseBackup::default() };
        assert_eq!(
            command(&wanted, 17, true),
            "BASE_BACKUP (LABEL 'backstay', CHECKPOINT 'spread', WAL, WAIT false, MANIFEST 'yes', \
             MANIFEST_CHECKSUMS 'SHA256', TARGET 'client', INCREMENTAL)"
        );
    }
}
