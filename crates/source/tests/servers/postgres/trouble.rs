//! Servers that die, log that goes, pages that rot, and networks that meddle.

use std::fs;
use std::path::Path;
use std::time::Duration;

use futures::StreamExt as _;
use source::events::Event;
use source::postgres::{BaseBackup, Host, Server as Reached, TlsMode, base_backup};
use source::{Fault, SourceError};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

use super::{TABLES, backed_up, filled, is, reached, refused, settings};
use crate::postgres_server::{OWNER, Server, Version, verify_backup};
use crate::sink::{Told, write};

#[tokio::test]
async fn slot_and_backup_are_of_one_server() {
    let Some(version) = Version::find(15) else { return };
    let (server, other) = (Server::start(&version, settings(&version)), Server::start(&version, settings(&version)));
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
    let once = Host::new("127.0.0.1", listener.local_addr().unwrap().port());
    let port = server.port;
    tokio::spawn(async move {
        let (client, _) = listener.accept().await.unwrap();
        drop(listener);
        meddle(client, TcpStream::connect(("127.0.0.1", port)).await.unwrap(), Meddling::None).await;
    });
    let mut reached = Reached::new(vec![once.clone(), Host::new("127.0.0.1", other.port)], OWNER);
    reached.tls.mode = TlsMode::Disable;
    let error = refused(reached).await;
    is(&error, Fault::Unreachable, "refused");
    assert!(error.to_string().contains(&once.to_string()), "{error}");
}

#[tokio::test]
async fn a_server_that_is_killed_in_mid_stream_is_no_backup() {
    for version in Version::all() {
        let server = filled(&version);
        let wanted = BaseBackup { rate_max: Some(2048), ..BaseBackup::default() };
        let mut events = base_backup(reached(&server), wanted);
        let mut len = 0;
        let error = loop {
            match events.next().await.expect("an error before the end") {
                Ok(Event::Data(data)) => {
                    if len == 0 {
                        let _ = server.stop("immediate");
                    }
                    len += data.len();
                }
                Ok(_) => {}
                Err(error) => break error,
            }
        };
        assert!(len > 0);
        is(&error, Fault::Interrupted, "");
        assert!(events.next().await.is_none());
    }
}

#[tokio::test]
async fn a_page_whose_checksum_is_wrong_is_no_backup_and_names_its_file() {
    for version in Version::all() {
        let server = filled(&version);
        let path = server.sql("select pg_relation_filepath('blobs')");
        let _ = server.stop("fast");
        let mut bytes = fs::read(server.data().join(&path)).unwrap();
        bytes[3 * 8192 + 4000] ^= 0x40;
        fs::write(server.data().join(&path), bytes).unwrap();
        server.run();
        let error = refused(reached(&server)).await;
        is(&error, Fault::Damaged, path.rsplit('/').next().unwrap());
    }
}

#[tokio::test]
async fn a_backup_goes_on_without_a_slot_and_says_so() {
    let Some(version) = Version::find(15) else { return };
    let server = Server::start(&version, &["max_replication_slots = 0"]);
    let folder = version.folder();
    let told = backed_up(&server, BaseBackup::default(), folder.path(), None).await;
    assert!(told.warnings[0].contains("no replication slot"), "{:?}", told.warnings);
}

/// What becomes of the bytes that a server says.
#[derive(Debug, Clone, Copy)]
enum Meddling {
    None,
    /// After so many bytes the connection is closed.
    Cut(usize),
    /// The byte after so many is changed.
    Flip(usize),
    /// So many bytes at the end of the backup never come.
    Last(usize),
}

/// A backup through a network that meddles with it.
async fn meddled(server: &Server, meddling: Meddling, data: &Path) -> Result<Told, SourceError> {
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
    let mut reached = reached(server);
    reached.hosts = vec![Host::new("127.0.0.1", listener.local_addr().unwrap().port())];
    reached.tls.mode = TlsMode::Disable;
    let port = server.port;
    let network = tokio::spawn(async move {
        // The first connection brings the backup, the second keeps the log.
        for meddling in [meddling, Meddling::None] {
            let (client, _) = listener.accept().await.unwrap();
            let server = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
            tokio::spawn(meddle(client, server, meddling));
        }
    });
    let outcome = write(base_backup(reached, BaseBackup::default()), data, None).await;
    network.abort();
    outcome
}

async fn meddle(client: TcpStream, server: TcpStream, meddling: Meddling) {
    let (mut from_client, mut to_client) = client.into_split();
    let (mut from_server, mut to_server) = server.into_split();
    tokio::spawn(async move { tokio::io::copy(&mut from_client, &mut to_server).await });
    let mut passed = 0;
    let mut waiting = Vec::new();
    let mut buffer = vec![0; 16 * 1024];
    loop {
        // Once the backup has begun, a server that is silent has said all.
        let is_told_by_silence = matches!(meddling, Meddling::Last(_)) && passed > 1 << 20;
        let patience = Duration::from_millis(if is_told_by_silence { 700 } else { 60_000 });
        let Ok(Ok(len @ 1..)) = tokio::time::timeout(patience, from_server.read(&mut buffer)).await else { return };
        waiting.extend_from_slice(&buffer[..len]);
        let end = passed + waiting.len();
        let mut is_over = false;
        let ready = match meddling {
            Meddling::Cut(place) if place < end => {
                is_over = true;
                place - passed
            }
            Meddling::Flip(place) if (passed..end).contains(&place) => {
                waiting[place - passed] ^= 0x10;
                waiting.len()
            }
            Meddling::Last(kept) if end > 1 << 20 => waiting.len().saturating_sub(kept),
            _ => waiting.len(),
        };
        if to_client.write_all(&waiting[..ready]).await.is_err() || is_over {
            return;
        }
        waiting.drain(..ready);
        passed += ready;
    }
}

#[tokio::test]
async fn a_stream_that_is_cut_anywhere_is_no_backup() {
    for version in [13, 15, 18].into_iter().filter_map(Version::find) {
        let server = Server::start(&version, settings(&version));
        let folder = version.folder();
        let whole = backed_up(&server, BaseBackup::default(), &folder.path().join("whole"), None).await;
        let len = usize::try_from(whole.len).unwrap();
        let through = tempfile::tempdir().unwrap();
        meddled(&server, Meddling::None, through.path()).await.unwrap();
        let within = (0..6).map(|step| Meddling::Cut(200 + len / 6 * step + step * 17));
        // The last six bytes say that the server is ready, the seventeen before them that the backup is whole.
        for meddling in within.chain([1, 6, 7, 23, 24, 60, 200].map(Meddling::Last)) {
            let data = tempfile::tempdir().unwrap();
            let outcome = meddled(&server, meddling, data.path()).await;
            let error = outcome.err().unwrap_or_else(|| panic!("Postgres {}: {meddling:?} passed", version.major));
            is(&error, Fault::Interrupted, "");
        }
    }
}

#[tokio::test]
async fn a_changed_byte_never_passes_for_another() {
    for version in [13, 15, 18].into_iter().filter_map(Version::find) {
        let server = Server::start(&version, settings(&version));
        let folder = version.folder();
        let whole = backed_up(&server, BaseBackup::default(), &folder.path().join("whole"), None).await;
        // The log comes last, and has checksums of its own only.
        let len = usize::try_from(whole.len).unwrap() - (17 << 20);
        let mut noticed = 0;
        for step in 0..12 {
            let data = version.folder();
            match meddled(&server, Meddling::Flip(2000 + len / 12 * step + step * 17), data.path()).await {
                Err(SourceError::Server { .. }) => noticed += 1,
                Err(error) => panic!("{error}"),
                // A byte that is of no matter, such as of a progress report: then all the rest must be right.
                Ok(_) => assert_eq!(verify_backup(&version, data.path()), None, "step {step}"),
            }
        }
        assert!(noticed >= 11, "{noticed} of 12");
    }
}

/// Reads a server that writes and recycles its log meanwhile.
async fn busily_backed_up(version: &Version, settings: &[&str], data: &Path) -> Result<Told, SourceError> {
    let server = Server::start(version, settings);
    let _ = server.sql(TABLES);
    let began = base_backup(reached(&server), BaseBackup { rate_max: Some(32 * 1024), ..BaseBackup::default() });
    let mut is_first = true;
    let busy = began.map(move |event| {
        if matches!(event, Ok(Event::Data(_))) && std::mem::take(&mut is_first) {
            for _ in 0..6 {
                let _ = server.sql("insert into customers select max(id) + 1, 'meanwhile' from customers");
                let _ = server.sql_lines("select pg_switch_wal(); checkpoint");
            }
        }
        event
    });
    write(busy.boxed(), data, None).await
}

#[tokio::test]
async fn log_that_is_needed_is_kept_while_the_backup_runs() {
    for version in Version::all() {
        let mut settings = settings(&version).to_vec();
        settings.extend(["max_wal_size = 32MB", "min_wal_size = 32MB"]);
        let folder = version.folder();
        let data = folder.path().join("data");
        busily_backed_up(&version, &settings, &data).await.unwrap();
        assert_eq!(verify_backup(&version, &data), None);
        let restored = Server::start_on(&version, folder, &data, &[]);
        assert_eq!(restored.sql("select count(*) from customers where name = 'meanwhile'"), "6");
    }
}

#[tokio::test]
async fn a_backup_whose_log_is_gone_is_no_backup() {
    let Some(version) = Version::find(15) else { return };
    let settings = ["max_replication_slots = 0", "max_wal_size = 32MB", "min_wal_size = 32MB"];
    let folder = version.folder();
    let error = busily_backed_up(&version, &settings, folder.path()).await.unwrap_err();
    is(&error, Fault::Incomplete, "WAL");
}
