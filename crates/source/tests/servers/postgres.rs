//! Base backups of real Postgres servers: written to a folder, checked by Postgres' own tools, and started.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};
use std::time::Duration;

use futures::StreamExt as _;
use source::events::Event;
use source::postgres::manifest::Manifest;
use source::postgres::restore::{self, Lack};
use source::postgres::{BaseBackup, Checksums, Host, Server as Reached, SessionWanted, base_backup};
use source::{Fault, SourceError};
use tempfile::TempDir;

use crate::postgres_server::{OWNER, Server, Version, ran, verify_backup};
use crate::sink::{Told, write};

mod patroni;
mod preflight;
mod reaching;
mod trouble;

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

/// Moves the tablespaces out of a restored directory, and links them in such a way that its server sees them in its own
/// root.
async fn linked(version: &Version, folder: &TempDir, data: &Path) {
    for entry in fs::read_dir(data.join("pg_tblspc")).unwrap() {
        let (link, oid) = (entry.as_ref().unwrap().path(), entry.unwrap().file_name().into_string().unwrap());
        let place = folder.path().join("away").join(&oid);
        restore::link_tablespace(data, &oid, &place).await.unwrap_err();
        let moved = place.with_extension("moved");
        fs::create_dir_all(place.parent().unwrap()).unwrap();
        fs::rename(&link, &moved).unwrap();
        restore::link_tablespace(data, &oid, &place).await.unwrap();
        fs::remove_dir(&place).unwrap();
        fs::rename(&moved, &place).unwrap();
        assert_eq!(restore::lacks(data).await.unwrap(), []);
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
    assert_eq!(restore::lacks(&data).await.unwrap(), [Lack::Unconfigured("pg_hba.conf".into())]);
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
