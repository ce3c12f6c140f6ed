//! Base backups of real Postgres servers: written to a folder, checked by Postgres' own tools, and started.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use futures::StreamExt as _;
use source::events::Event;
use source::postgres::manifest::Manifest;
use source::postgres::restore::{self, Lack};
use source::postgres::{BaseBackup, Checksums, Host, Server as Reached, SessionWanted, Tls, TlsMode, base_backup};
use source::{Fault, SourceError};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use zeroize::Zeroizing;

use crate::postgres_server::{OWNER, Server, Version, ran, verify_backup};
use crate::sink::{Told, write};

const TABLES: &str = "
create table customers (id int primary key, name text);
insert into customers select n, 'name ' || md5(n::text) from generate_series(1, 20000) n;
create table orders (id int primary key, customer int references customers, note text);
insert into orders select n, 1 + n % 20000, repeat(md5(n::text), 4) from generate_series(1, 30000) n;
create table blobs (id int primary key, data bytea);
insert into blobs select n, decode(repeat(md5('b' || n), 400), 'hex') from generate_series(1, 300) n;
create index on orders (customer);";

/// A hash of each table's rows.
const HASHES: &str = "
select md5(string_agg(t::text, ',' order by id)) from customers t union all
select md5(string_agg(t::text, ',' order by id)) from orders t union all
select md5(string_agg(t::text, ',' order by id)) from blobs t";

const WAL: [&str; 3] = ["wal_level = replica", "max_wal_senders = 5", "summarize_wal = on"];

fn settings(version: &Version) -> &'static [&'static str] {
    if version.major >= 17 { &WAL } else { &WAL[..2] }
}

fn filled(version: &Version) -> Server {
    let server = Server::start(version, settings(version));
    let _ = server.sql(TABLES);
    for name in [&b"odd \xff name"[..], b"a \"name\" with \\ in it"] {
        fs::write(server.data().join(OsStr::from_bytes(name)), name).unwrap();
    }
    server
}

fn reached(server: &Server) -> Reached {
    Reached::new(vec![Host::new("127.0.0.1", server.port)], OWNER)
}

async fn backed_up(server: &Server, wanted: BaseBackup, target: &Path, base: Option<&Path>) -> Told {
    write(base_backup(reached(server), wanted), target, base)
        .await
        .unwrap_or_else(|error| panic!("Postgres {}: {error}\n{}", server.version.major, server.log()))
}

/// Checks a backup by its manifest, starts it, and compares its rows and its indexes.
fn proven(version: &Version, folder: TempDir, data: PathBuf, hashes: &str) {
    assert_eq!(verify_backup(version, &data), None, "Postgres {}", version.major);
    let restored = Server::start_on(version, folder, &data, &[]);
    assert_eq!(restored.sql(HASHES), hashes, "Postgres {}", version.major);
    if restored.sql("select count(*) from pg_available_extensions where name = 'amcheck'") == "1" {
        amchecked(&restored);
    }
}

/// Lets Postgres compare each index with its table, and each table with itself.
fn amchecked(server: &Server) {
    let _ = server.sql("create extension if not exists amcheck");
    match server.version.major {
        13 => drop(server.sql(INDEXES_CHECKED)),
        _ => drop(ran(server.client("pg_amcheck").args(["--heapallindexed", "postgres"]))),
    }
}

const INDEXES_CHECKED: &str = "
select bt_index_check(i.indexrelid, true) from pg_index i join pg_class c on c.oid = i.indexrelid
join pg_am a on a.oid = c.relam where a.amname = 'btree' and c.relpersistence = 'p' and i.indisready and i.indisvalid";

/// Links the tablespaces of a restored directory, in such a way that its server sees them in its own root.
async fn linked(version: &Version, folder: &TempDir, data: &Path) {
    for (oid, place) in restore::link_tablespaces(data, &folder.path().join("away")).await.unwrap() {
        assert_eq!(restore::lacks(data).await.unwrap(), []);
        let link = data.join("pg_tblspc").join(oid);
        fs::remove_file(&link).unwrap();
        symlink(version.inside(&place), link).unwrap();
    }
}

async fn whole_backup_restores(major: u32) {
    let Some(version) = Version::find(major) else { return };
    let server = filled(&version);
    let (_, inside) = server.further_folder("disk");
    let _ = server.sql(&format!("create tablespace disk location '{}'", inside.display()));
    let _ = server
        .sql("create table far (id int primary key) tablespace disk; insert into far select generate_series(1, 9000)");
    let folder = version.folder();
    let data = folder.path().join("data");
    let checksums = if major.is_multiple_of(2) { Checksums::Sha256 } else { Checksums::Crc32c };
    let told = backed_up(&server, BaseBackup { checksums, ..BaseBackup::default() }, &data, None).await;

    assert_eq!(told.warnings, [""; 0]);
    assert_eq!(told.facts["method"], "full");
    assert_eq!(told.facts["server_version_num"].parse::<u32>().unwrap() / 10_000, major);
    assert_eq!(told.facts["system_identifier"], server.sql("select system_identifier from pg_control_system()"));
    assert_eq!(told.facts["data_checksums"], "on");
    let tablespace = server.sql("select oid from pg_tablespace where spcname = 'disk'");
    assert_eq!(told.facts[&format!("tablespace_{tablespace}")], inside.display().to_string());
    assert!(told.paths.iter().any(|path| path.starts_with(&format!("pg_tblspc/{tablespace}/PG_{major}_"))));
    assert!(told.paged > 800, "{}", told.paged);
    assert_eq!(server.sql("select count(*) from pg_replication_slots"), "0");

    let hashes = server.sql(HASHES);
    let _ = server.stop("fast");
    fs::set_permissions(&data, fs::Permissions::from_mode(0o700)).unwrap();
    assert_eq!(restore::lacks(&data).await.unwrap(), [Lack::Unlinked(format!("pg_tblspc/{tablespace}").into())]);
    linked(&version, &folder, &data).await;
    let restored = Server::start_on(&version, folder, &data, &[]);
    assert_eq!(restored.sql(HASHES), hashes);
    assert_eq!(restored.sql("select count(*) from far"), "9000");
}

macro_rules! each_version {
    ($($name:ident $major:literal)*) => { $(
        #[tokio::test]
        async fn $name() {
            whole_backup_restores($major).await;
        }
    )* };
}

each_version! {
    a_whole_backup_of_postgres_13_restores 13
    a_whole_backup_of_postgres_14_restores 14
    a_whole_backup_of_postgres_15_restores 15
    a_whole_backup_of_postgres_16_restores 16
    a_whole_backup_of_postgres_17_restores 17
    a_whole_backup_of_postgres_18_restores 18
}

#[tokio::test]
async fn a_backup_passes_postgres_own_checks() {
    for version in Version::all() {
        let server = filled(&version);
        let folder = version.folder();
        let data = folder.path().join("data");
        backed_up(&server, BaseBackup::default(), &data, None).await;
        let hashes = server.sql(HASHES);
        proven(&version, folder, data, &hashes);
    }
}

const CHANGES: &str = "
update orders set note = 'changed' where id between 10000 and 10100;
delete from blobs where id > 20;
vacuum blobs;
insert into customers select n, 'late' from generate_series(20001, 26000) n;
create table young as select * from customers;
update far set name = 'far' where id = 77;
drop table if exists gone;";

/// Changes a server between backups, each of which differs from the one before it.
async fn chain_of_backups_restores(major: u32) {
    let Some(version) = Version::find(major) else { return };
    let server = filled(&version);
    let _ = server.sql("create table gone as select * from orders");
    let (_, inside) = server.further_folder("disk");
    let _ = server.sql(&format!("create tablespace disk location '{}'", inside.display()));
    let _ = server.sql("create table far tablespace disk as select * from customers");
    let folder = version.folder();
    let path = |number: usize| folder.path().join(format!("data{number}"));
    let full = backed_up(&server, BaseBackup::default(), &path(0), None).await;
    let mut told = Told::default();
    for number in 1..=3 {
        let manifest = fs::read(path(number - 1).join("backup_manifest")).unwrap();
        match number {
            1 => drop(server.sql_lines(CHANGES)),
            2 => drop(server.sql("update customers set name = 'second' where id % 1000 = 0")),
            _ => {}
        }
        let wanted = BaseBackup { previous_manifest: Some(manifest.into()), ..BaseBackup::default() };
        told = backed_up(&server, wanted, &path(number), Some(&path(number - 1))).await;
        assert_eq!(told.warnings, [""; 0]);
        assert_eq!(told.facts["method"], "incremental");
        assert!(told.spliced > 500, "{}", told.spliced);
        assert_eq!(verify_backup(&version, &path(number)), None);
        let label = fs::read_to_string(path(number).join("backup_label")).unwrap();
        assert!(!label.contains("INCREMENTAL") && label.contains("START WAL LOCATION"), "{label}");
        assert!(!told.paths.iter().any(|path| path.contains("INCREMENTAL")));
    }
    // Besides the log and small files, of an idle server nearly nothing comes.
    assert!(told.blocks < 200, "{} blocks", told.blocks);
    assert!(told.len < full.len / 2, "{} bytes of {}", told.len, full.len);

    let hashes = server.sql(HASHES);
    const OTHERS: &str = "select count(*) from young union all select count(*) from far where name = 'far'";
    let (others, last) = (server.sql(OTHERS), path(3));
    let _ = server.stop("fast");
    // A file that nothing was changed in keeps the checksum that its manifest had, through all backups.
    let manifest = Manifest::parse(&fs::read(last.join("backup_manifest")).unwrap()).unwrap();
    let without = manifest.files.iter().filter(|file| file.checksum.is_none()).count();
    assert!((1..manifest.files.len() / 4).contains(&without), "{without} of {}", manifest.files.len());
    fs::set_permissions(&last, fs::Permissions::from_mode(0o700)).unwrap();
    linked(&version, &folder, &last).await;
    let restored = Server::start_on(&version, folder, &last, &[]);
    assert_eq!((restored.sql(HASHES), restored.sql(OTHERS)), (hashes, others));
    amchecked(&restored);
}

#[tokio::test]
async fn a_chain_of_backups_of_postgres_17_restores_from_its_last() {
    chain_of_backups_restores(17).await;
}

#[tokio::test]
async fn a_chain_of_backups_of_postgres_18_restores_from_its_last() {
    chain_of_backups_restores(18).await;
}

/// A second backup, with the manifest of the first; expected to read everything.
async fn everything_is_read(server: &Server, first: &Path, expected: &str) {
    let manifest = fs::read(first.join("backup_manifest")).unwrap();
    let wanted = BaseBackup { previous_manifest: Some(manifest.into()), ..BaseBackup::default() };
    let folder = server.version.folder();
    let data = folder.path().join("data");
    let told = backed_up(server, wanted, &data, Some(first)).await;
    assert_eq!(told.facts["method"], "full");
    assert_eq!(told.spliced, 0);
    assert_eq!(told.warnings.len(), 1);
    assert!(told.warnings[0].contains(expected), "{:?}", told.warnings);
    proven(&server.version, folder, data, &server.sql(HASHES));
}

#[tokio::test]
async fn everything_is_read_and_said_so_where_summaries_are_missing() {
    for version in [17, 18].into_iter().filter_map(Version::find) {
        let server = filled(&version);
        let folder = version.folder();
        backed_up(&server, BaseBackup::default(), folder.path().join("data").as_path(), None).await;
        let first = folder.path().join("data");
        let _ = server.stop("fast");
        server.configure(&["summarize_wal = off"]);
        server.run();
        everything_is_read(&server, &first, "unless WAL summarization is enabled").await;
        let _ = server.sql("insert into orders select n, 1, 'x' from generate_series(40000, 41000) n");
        let _ = server.stop("fast");
        for file in fs::read_dir(server.data().join("pg_wal/summaries")).unwrap() {
            fs::remove_file(file.unwrap().path()).unwrap();
        }
        server.configure(&["summarize_wal = on", "wal_keep_size = 0"]);
        server.run();
        let _ =
            server.sql_lines("checkpoint;\nselect pg_switch_wal();\ncheckpoint;\nselect pg_switch_wal();\ncheckpoint");
        for file in fs::read_dir(server.data().join("pg_wal/summaries")).unwrap() {
            let _ = fs::remove_file(file.unwrap().path());
        }
        everything_is_read(&server, &first, "WAL summaries are required").await;
    }
}

#[tokio::test]
async fn everything_is_read_where_the_manifest_is_of_another_server() {
    let Some(version) = Version::find(18) else { return };
    let (server, other) = (filled(&version), filled(&version));
    let folder = version.folder();
    let first = folder.path().join("data");
    backed_up(&other, BaseBackup::default(), &first, None).await;
    everything_is_read(&server, &first, "system identifier").await;
}

#[tokio::test]
async fn memory_does_not_grow_with_the_server() {
    let Some(version) = Version::find(15) else { return };
    let server = Server::start(&version, settings(&version));
    let _ = server.sql(
        "create table big (data text); alter table big alter data set storage external;
        insert into big select repeat(md5(n::text), 2000) from generate_series(1, 5000) n",
    );
    let mut events = base_backup(reached(&server), BaseBackup::default());
    let mut len = 0;
    while let Some(event) = events.next().await {
        if let Event::Data(data) = event.unwrap() {
            len += data.len();
        }
    }
    assert!(len > 300_000_000, "{len}");
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    let kib: usize = peak.trim().trim_end_matches(" kB").parse().unwrap();
    assert!(kib < 64 * 1024, "{kib} KiB");
}

#[tokio::test]
async fn everything_is_read_where_the_version_cannot_tell_what_changed_or_the_manifest_is_damaged() {
    let Some(version) = Version::find(15) else { return };
    let server = filled(&version);
    let folder = version.folder();
    let first = folder.path().join("data");
    backed_up(&server, BaseBackup::default(), &first, None).await;
    everything_is_read(&server, &first, "version 15 cannot").await;
    let mut manifest = fs::read(first.join("backup_manifest")).unwrap();
    manifest[500] ^= 1;
    fs::write(first.join("backup_manifest"), manifest).unwrap();
    everything_is_read(&server, &first, "backup manifest").await;
}

/// The error that a backup ends with.
async fn refused(reached: Reached) -> SourceError {
    let mut events = base_backup(reached, BaseBackup::default());
    while let Some(event) = events.next().await {
        if let Err(error) = event {
            assert!(events.next().await.is_none(), "an error is not the last item");
            return error;
        }
    }
    panic!("the backup ended well");
}

#[track_caller]
fn is(error: &SourceError, expected: Fault, words: &str) {
    let SourceError::Server { place, what, fault } = error else { panic!("{error}") };
    assert!(place.starts_with("postgres at "), "{place}");
    assert_eq!(*fault, expected, "{error}");
    assert!(what.contains(words), "{what:?} says nothing of {words:?}");
}

const HBA: &str = "
local all owner trust
host all owner 127.0.0.1/32 trust
host replication owner 127.0.0.1/32 trust
host replication plain 127.0.0.1/32 password
host replication hashed 127.0.0.1/32 md5
host replication scram 127.0.0.1/32 scram-sha-256
host replication meek 127.0.0.1/32 scram-sha-256
";

const ROLES: &str = "
set password_encryption = 'md5'; create role hashed login replication password 'secret m';
set password_encryption = 'scram-sha-256'; create role scram login replication password 'secret ü';
create role plain login replication password 'secret p';
create role meek login password 'secret';
create role stranger login replication password 'secret';
grant pg_read_all_settings to plain, hashed, scram";

fn as_role(server: &Server, user: &str, password: &str) -> Reached {
    let mut reached = Reached::new(vec![Host::new("127.0.0.1", server.port)], user);
    reached.password = Some(Zeroizing::new(password.to_owned()));
    reached
}

#[tokio::test]
async fn every_way_to_log_in_works_and_every_refusal_says_why() {
    for version in Version::all() {
        let server = Server::start(&version, settings(&version));
        let _ = server.sql(ROLES);
        server.write("pg_hba.conf", HBA);
        let _ = server.sql("select pg_reload_conf()");
        for (user, password) in [("plain", "secret p"), ("hashed", "secret m"), ("scram", "secret ü")] {
            let folder = version.folder();
            let told = write(base_backup(as_role(&server, user, password), BaseBackup::default()), folder.path(), None);
            let told = told.await.unwrap_or_else(|error| panic!("{user}: {error}"));
            assert_eq!(told.facts["method"], "full");
            is(&refused(as_role(&server, user, "wrong")).await, Fault::Login, "password authentication failed");
            let mut silent = as_role(&server, user, "");
            silent.password = None;
            is(&refused(silent).await, Fault::Login, "none is set");
        }
        is(&refused(as_role(&server, "nobody", "x")).await, Fault::Setting, "pg_hba.conf");
        is(&refused(as_role(&server, "stranger", "secret")).await, Fault::Setting, "pg_hba.conf");
        let meek = refused(as_role(&server, "meek", "secret")).await;
        assert!(matches!(meek, SourceError::Server { fault: Fault::Right, .. }), "{meek}");
    }
}

#[tokio::test]
async fn hosts_are_tried_in_order_and_a_socket_is_a_host() {
    let Some(version) = Version::find(15) else { return };
    let server = Server::start(&version, settings(&version));
    let closed = Host::new("127.0.0.1", 1);
    let socket = Host::new(server.sockets().to_str().unwrap(), server.port);
    let mut reached = Reached::new(vec![closed.clone(), Host::new("no.such.host.invalid", 5432), socket], OWNER);
    let folder = version.folder();
    write(base_backup(reached.clone(), BaseBackup::default()), folder.path(), None).await.unwrap();
    reached.hosts = vec![closed];
    is(&refused(reached.clone()).await, Fault::Unreachable, "refused");
    reached.hosts = vec![Host::new("127.0.0.1", server.port)];
    reached.wanted = SessionWanted::Standby;
    is(&refused(reached.clone()).await, Fault::Missing, "no standby");
    reached.wanted = SessionWanted::PreferStandby;
    let folder = version.folder();
    write(base_backup(reached, BaseBackup::default()), folder.path(), None).await.unwrap();
}

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

/// Makes an authority and a certificate of it for `db.example`, and lets the server use them. Returns the authority's
/// file and that of a stranger.
fn certified(server: &Server) -> (PathBuf, PathBuf) {
    let folder = server.sockets();
    let script = "
        openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 9 -subj /CN=authority -keyout ca.key -out ca.crt
        openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 9 -subj /CN=stranger -keyout s.key -out stranger.crt
        openssl req -newkey rsa:2048 -nodes -subj /CN=db -keyout server.key -out server.csr
        printf 'subjectAltName=DNS:localhost' > names
        openssl x509 -req -in server.csr -CA ca.crt -CAkey ca.key -CAcreateserial -days 9 -sha384 -extfile names -out server.crt
        openssl req -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -subj /CN=certified -keyout own.key -out own.csr
        openssl x509 -req -in own.csr -CA ca.crt -CAkey ca.key -days 9 -extfile names -out own.crt
        cp ca.crt data/
        mv server.key server.crt data/ && chmod 0600 data/server.key";
    ran(Command::new("sh").args(["-e", "-c", script]).current_dir(folder));
    server.version.own(server.data());
    (folder.join("ca.crt"), folder.join("stranger.crt"))
}

#[tokio::test]
async fn tls_is_as_strict_as_it_is_told_to_be_and_binds_passwords_to_the_session() {
    let Some(version) = Version::find(15) else { return };
    let server = Server::start(&version, &settings(&version)[..2]);
    let (authority, stranger) = certified(&server);
    let _ = server.sql("create role scram login replication password 'secret'");
    server.write(
        "pg_hba.conf",
        "local all owner trust\nhost all owner 127.0.0.1/32 trust\n\
        hostssl replication scram 127.0.0.1/32 scram-sha-256\n\
        hostssl replication certified 127.0.0.1/32 cert\n",
    );
    let _ = server.sql("create role certified login replication");
    server.append("postgresql.conf", "ssl = on\nssl_ca_file = 'ca.crt'\n");
    let _ = server.stop("fast");
    server.run();

    let with = |name: &str, mode: TlsMode, roots: Option<&PathBuf>| {
        let mut reached = as_role(&server, "scram", "secret");
        reached.hosts = vec![Host::new(name, server.port)];
        reached.tls = Tls { mode, roots: roots.cloned(), identity: None };
        reached
    };
    let good = [
        with("127.0.0.1", TlsMode::Prefer, None),
        with("127.0.0.1", TlsMode::Require, None),
        with("127.0.0.1", TlsMode::VerifyCa, Some(&authority)),
        with("localhost", TlsMode::VerifyFull, Some(&authority)),
    ];
    for reached in good {
        let folder = version.folder();
        write(base_backup(reached, BaseBackup::default()), folder.path(), None).await.unwrap();
    }
    is(&refused(with("127.0.0.1", TlsMode::Disable, None)).await, Fault::Setting, "pg_hba.conf");
    is(
        &refused(with("127.0.0.1", TlsMode::VerifyFull, Some(&authority))).await,
        Fault::Unreachable,
        "not valid for name",
    );
    for mode in [TlsMode::Require, TlsMode::VerifyCa, TlsMode::VerifyFull] {
        is(&refused(with("localhost", mode, Some(&stranger))).await, Fault::Unreachable, "TLS");
    }
    is(&refused(with("localhost", TlsMode::VerifyFull, None)).await, Fault::Unreachable, "TLS");
    let mut wrong = with("localhost", TlsMode::VerifyFull, Some(&authority));
    wrong.password = Some(Zeroizing::new("wrong".to_owned()));
    is(&refused(wrong).await, Fault::Login, "password authentication failed");

    let own = authority.with_file_name("own.crt");
    let mut certified = with("localhost", TlsMode::VerifyFull, Some(&authority));
    (certified.user, certified.password) = ("certified".to_owned(), None);
    assert!(matches!(refused(certified.clone()).await, SourceError::Server { .. }));
    certified.tls.identity = Some((own.clone(), own.with_extension("key")));
    let folder = version.folder();
    write(base_backup(certified, BaseBackup::default()), folder.path(), None).await.unwrap();
}

#[tokio::test]
async fn a_server_without_tls_is_refused_where_tls_is_asked_for() {
    let Some(version) = Version::find(15) else { return };
    let server = Server::start(&version, &settings(&version)[..2]);
    let mut reached = reached(&server);
    reached.tls.mode = TlsMode::Require;
    is(&refused(reached).await, Fault::Setting, "does not offer TLS");
}

/// A primary and a standby that follows it.
async fn pair(version: &Version) -> (Server, Server) {
    let primary = filled(version);
    let folder = version.folder();
    let data = folder.path().join("data");
    backed_up(&primary, BaseBackup::default(), &data, None).await;
    fs::write(data.join("standby.signal"), "").unwrap();
    let follow = format!("primary_conninfo = 'host=127.0.0.1 port={} user={OWNER}'", primary.port);
    let standby = Server::start_on(version, folder, &data, &[&follow, "hot_standby = on"]);
    (primary, standby)
}

/// Adds rows to the primary and waits until the standby has them.
async fn followed(primary: &Server, standby: &Server, first: u32) {
    let rows = format!("select n, 'followed' from generate_series({first}, {first} + 999) n");
    let _ = primary.sql_lines(&format!("insert into customers {rows}; checkpoint"));
    let came = format!("select count(*) from customers where id between {first} and {first} + 999");
    for _ in 0..600 {
        if standby.sql(&came) == "1000" {
            return;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    panic!("the standby does not follow: {}", standby.log());
}

#[tokio::test]
async fn a_standby_is_read_as_well_as_a_primary() {
    for version in [13, 15, 18].into_iter().filter_map(Version::find) {
        let (primary, standby) = pair(&version).await;
        followed(&primary, &standby, 30_000).await;
        let both = vec![Host::new("127.0.0.1", primary.port), Host::new("127.0.0.1", standby.port)];
        let mut reached = Reached::new(both, OWNER);
        reached.wanted = SessionWanted::Standby;
        let folder = version.folder();
        let data = folder.path().join("data");
        let told = write(base_backup(reached, BaseBackup::default()), &data, None).await.unwrap();
        assert_eq!(told.facts["in_recovery"], "true");
        fs::set_permissions(&data, fs::Permissions::from_mode(0o700)).unwrap();
        assert_eq!(restore::lacks(&data).await.unwrap(), [Lack::Follows("standby.signal".into())]);
        // It is restored as a server of its own.
        fs::remove_file(data.join("standby.signal")).unwrap();
        assert_eq!(restore::lacks(&data).await.unwrap(), []);
        let _ = primary.stop("fast");
        let hashes = standby.sql(HASHES);
        proven(&version, folder, data, &hashes);
    }
}

#[tokio::test]
async fn what_changed_of_a_standby_is_read_and_everything_where_it_did_not_go_on() {
    for version in [17, 18].into_iter().filter_map(Version::find) {
        let (primary, standby) = pair(&version).await;
        followed(&primary, &standby, 30_000).await;
        let folder = version.folder();
        let path = |number: usize| folder.path().join(format!("data{number}"));
        let differing = |number: usize| {
            let manifest = fs::read(path(number).join("backup_manifest")).unwrap();
            BaseBackup { previous_manifest: Some(manifest.into()), ..BaseBackup::default() }
        };
        backed_up(&standby, BaseBackup::default(), &path(0), None).await;
        followed(&primary, &standby, 40_000).await;
        let told = backed_up(&standby, differing(0), &path(1), Some(&path(0))).await;
        assert_eq!((&*told.facts["method"], told.warnings.len()), ("incremental", 0), "{:?}", told.warnings);
        let told = backed_up(&standby, differing(1), &path(2), Some(&path(1))).await;
        assert_eq!(told.facts["method"], "full");
        assert!(told.warnings[0].contains("little activity"), "{:?}", told.warnings);
        let _ = primary.stop("fast");
        let hashes = standby.sql(HASHES);
        fs::remove_file(path(1).join("standby.signal")).unwrap();
        let data = path(1);
        proven(&version, folder, data, &hashes);
    }
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
        let patience = Duration::from_millis(if passed > 1 << 20 { 700 } else { 60_000 });
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

#[tokio::test]
async fn a_server_that_never_answers_or_is_not_ready_is_told_apart() {
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
    let mut silent = Reached::new(vec![Host::new("127.0.0.1", listener.local_addr().unwrap().port())], OWNER);
    silent.connect_for = Duration::from_millis(300);
    is(&refused(silent).await, Fault::Unreachable, "no answer within");

    let Some(version) = Version::find(15) else { return };
    let server = Server::start(&version, settings(&version));
    let _ = server.stop("fast");
    server.write("standby.signal", "");
    server.configure(&["hot_standby = off"]);
    server.run();
    is(&refused(reached(&server)).await, Fault::Busy, "not accepting connections");
}

#[tokio::test]
async fn a_configuration_that_is_kept_elsewhere_is_told() {
    let Some(version) = Version::find(15) else { return };
    let server = Server::start(&version, settings(&version));
    let (folder, inside) = server.further_folder("etc");
    let _ = server.stop("fast");
    fs::rename(server.data().join("pg_hba.conf"), folder.join("pg_hba.conf")).unwrap();
    server.configure(&[&format!("hba_file = '{}/pg_hba.conf'", inside.display())]);
    server.run();
    let folder = version.folder();
    let data = folder.path().join("data");
    let told = backed_up(&server, BaseBackup::default(), &data, None).await;
    assert_eq!(told.warnings.len(), 1);
    assert!(told.warnings[0].starts_with("pg_hba.conf"), "{:?}", told.warnings);
    fs::set_permissions(&data, fs::Permissions::from_mode(0o700)).unwrap();
    assert_eq!(restore::lacks(&data).await.unwrap(), [Lack::Missing("pg_hba.conf".into())]);
}

#[tokio::test]
async fn what_a_restored_directory_lacks_is_told() {
    let Some(version) = Version::find(15) else { return };
    let server = Server::start(&version, settings(&version));
    let folder = version.folder();
    let data = folder.path().join("data");
    backed_up(&server, BaseBackup::default(), &data, None).await;
    fs::set_permissions(&data, fs::Permissions::from_mode(0o755)).unwrap();
    fs::remove_file(data.join("global/pg_control")).unwrap();
    fs::write(data.join("PG_VERSION"), "15").unwrap();
    fs::write(data.join("postmaster.pid"), "").unwrap();
    let log = fs::read_dir(data.join("pg_wal")).unwrap().map(|entry| entry.unwrap());
    let segment = log.map(|entry| entry.file_name()).find(|name| name.len() == 24).unwrap();
    fs::remove_file(data.join("pg_wal").join(&segment)).unwrap();
    let lacks = restore::lacks(&data).await.unwrap();
    for lack in [
        Lack::Mode(0o755),
        Lack::Missing("global/pg_control".into()),
        Lack::Missing(Path::new("pg_wal").join(segment)),
        Lack::Length { path: "PG_VERSION".into(), found: 2, expected: 3 },
        Lack::Stranger("postmaster.pid".into()),
    ] {
        assert!(lacks.contains(&lack), "{lack} is not in {lacks:?}");
    }
    assert_eq!(lacks.len(), 5, "{lacks:?}");
}
