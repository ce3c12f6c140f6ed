//! A whole Postgres back by `restore --to FOLDER`: a data directory with tablespaces that starts.
//!
//! Invariant: what comes back is proved by `pg_verifybackup`, `pg_amcheck` and hashes of rows.

use std::fs;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::Path;
use std::process::Command;

use harness::binary::{Host, Run as _};
use harness::running::{Running, file_count};
use harness::servers::postgres::{self, Server, Version, ran};
use rustix::process::Signal;
use serde_json::Value;

const TABLES: &str = "create table near as select n as id, md5(n::text) as name from generate_series(1, 20000) n;
    alter table near add primary key (id);
    create table far (id int primary key, name text) tablespace disk;
    insert into far select n, md5(n::text) from generate_series(1, 9000) n;
    create table further (id int primary key) tablespace archive; insert into further select generate_series(1, 50)";
const HASHES: &str = "select md5(string_agg(t::text, ',' order by id)) from near t union all
    select md5(string_agg(t::text, ',' order by id)) from far t union all
    select md5(string_agg(t::text, ',' order by id)) from further t";

/// A server with two tablespaces, backed up.
struct Original {
    host: Host,
    server: Server,
    /// Where a tablespace is, as the server sees it.
    disk: String,
    /// Where another is.
    archive: String,
}

impl Original {
    fn new(version: &Version) -> Self {
        let server = Server::start(version, &[]);
        let (_, disk) = server.further_folder("disk");
        let (_, archive) = server.further_folder("archive");
        let _ = server.sql(&format!("create tablespace disk location '{}'", disk.display()));
        let _ = server.sql(&format!("create tablespace archive location '{}'", archive.display()));
        let _ = server.sql(TABLES);
        let host = Host::with_repository();
        let (repository, port) = (host.repository().display().to_string(), server.port);
        host.write(
            "backstay.toml",
            format!(
                "[repositories.main]\nurl = \"{repository}\"\n[sources.whole]\nkind = \"postgres-physical\"\n\
                 url = \"postgres://owner@127.0.0.1:{port}\"\n[jobs.all]\nsources = [\"whole\"]\n"
            ),
        );
        let original = Self { host, server, disk: disk.display().to_string(), archive: archive.display().to_string() };
        original.command(&["run", "all"]).run().expect_code(0);
        original
    }

    fn command(&self, words: &[&str]) -> Command {
        let mut command = self.host.backstay(words);
        command.current_dir(self.host.path(""));
        command
    }
}

/// Lets links lead to where the server sees their folders.
fn seen_from_inside(version: &Version, data: &Path, document: &Value) {
    for tablespace in document["tablespaces"].as_array().expect("tablespaces") {
        let link = data.join("pg_tblspc").join(tablespace["oid"].as_str().expect("a number"));
        let place = fs::read_link(&link).expect("a link");
        assert_eq!(place, Path::new(tablespace["to"].as_str().expect("a path")));
        fs::remove_file(&link).expect("our own link");
        symlink(version.inside(&place), &link).expect("our own folder");
    }
}

fn comes_back(version: &Version) {
    let original = Original::new(version);
    let target = version.folder();
    let (data, moved) = (target.path().join("data"), target.path().join("moved"));
    let to = data.display().to_string();
    let mapping = format!("{}={}", original.disk, moved.display());
    let words = ["--json", "restore", "latest", "whole", "--to", &to, "--tablespace", &mapping];
    let plan = original.command(&[&words[..], &["--dry-run"]].concat()).run().expect_code(0).json();
    assert!(plan["is_dry_run"] == true && !data.exists() && !moved.exists(), "{plan}");
    let document = original.command(&words).run().expect_code(0).json();
    assert_eq!(plan["tablespaces"], document["tablespaces"]);
    assert!(
        moved.join(fs::read_dir(&moved).expect("a folder").next().expect("files").expect("files").file_name()).is_dir()
    );
    assert!(target.path().join("data.tablespaces").is_dir());
    assert_eq!(fs::metadata(&data).expect("is there").permissions().mode() & 0o7777, 0o700);
    let steps: Vec<_> = document["next_steps"].as_array().expect("steps").iter().map(|step| &step["command"]).collect();
    assert_eq!(steps[2], &Value::from(format!("/usr/lib/postgresql/{}/bin/pg_ctl -D {to} -w start", version.major)));

    let again = original.command(&["restore", "latest", "whole", "--to", &to]).run().expect_code(2);
    again.says(&["data directory of Postgres"]);
    seen_from_inside(version, &data, &document);
    version.own(target.path());
    assert_eq!(postgres::verify_backup(version, &data), None);
    let hashes = original.server.sql(HASHES);
    let _ = original.server.stop("fast");
    let restored = Server::start_on(version, target, &data, &[]);
    assert_eq!(restored.sql(HASHES), hashes, "Postgres {}", version.major);
    if restored.sql("select count(*) from pg_available_extensions where name = 'amcheck'") == "1" {
        let _ = restored.sql("create extension amcheck");
        ran(restored.client("pg_amcheck").args(["--heapallindexed", "postgres"]));
    }
}

#[test]
fn whole_server_comes_back_with_its_tablespaces_and_starts() {
    let all = Version::all();
    let program = |version: &&Version| format!("/usr/lib/postgresql/{}/bin/pg_verifybackup", version.major);
    let own = all.iter().find(|version| Path::new(&program(version)).exists());
    comes_back(own.expect("the machine has a Postgres of its own"));
}

#[test]
fn whole_server_of_the_newest_version_comes_back_too() {
    comes_back(Version::all().last().expect("a Postgres is installed"));
}

#[test]
fn an_interrupted_restore_starts_no_server_and_the_same_command_completes_it() {
    let version = Version::all().pop().expect("a Postgres is installed");
    let original = Original::new(&version);
    let target = version.folder();
    let data = target.path().join("data");
    let words = ["restore", "latest", "whole", "--to", data.to_str().expect("text")];
    let mut running = Running::start(original.command(&[&words[..], &["--limit-download", "2M"]].concat()), false);
    running.wait_until("the first files are there", || file_count(&data) > 20);
    running.signal(Signal::INT);
    running.finish().0.expect_code(130).says(&["interrupted", "hint: run the same command again"]);
    assert!(!data.join("global/pg_control").exists() && file_count(&data) > 0);
    let document = original.command(&[&["--json"], &words[..]].concat()).run().expect_code(0).json();
    seen_from_inside(&version, &data, &document);
    version.own(target.path());
    assert_eq!(postgres::verify_backup(&version, &data), None);
    let hashes = original.server.sql(HASHES);
    let _ = original.server.stop("fast");
    let restored = Server::start_on(&version, target, &data, &[]);
    assert_eq!(restored.sql(HASHES), hashes);
}

#[test]
fn a_restore_that_was_stopped_goes_on_and_never_over_something_else() {
    let original = Original::new(Version::all().last().expect("a Postgres is installed"));
    let data = original.host.path("data");
    let to = format!("{}/", data.display());
    let restore = || original.command(&["restore", "latest", "whole", "--to", &to]).run();
    fs::create_dir_all(data.join("base/1")).expect("a new folder");
    fs::write(data.join("base/1/1259"), "half of it").expect("our own folder");
    let both = format!("{}=x", original.disk);
    let nested = format!("{}=x/y", original.archive);
    let words = ["restore", "latest", "whole", "--to", &to, "--tablespace", &both, "--tablespace", &nested];
    original.command(&words).run().expect_code(2).says(&["neither may be, hold or lie in the other"]);
    assert!(!original.host.path("x").exists() && !data.join("pg_tblspc").exists(), "nothing was written");
    restore().expect_code(0).says(&["tablespace", "pg_verifybackup", "pg_ctl"]);
    assert!(data.join("global/pg_control").exists());
    assert!(original.host.path("data.tablespaces").is_dir(), "beside it, in spite of the slash");
    let other = original.host.path("other");
    fs::create_dir(&other).expect("a new folder");
    fs::write(other.join("notes"), "mine").expect("our own folder");
    let ran = original.command(&["restore", "latest", "whole", "--to"]).arg(&other).run().expect_code(2);
    ran.says(&["notes"]);
    let words = ["restore", "latest", "whole", "--to", "elsewhere", "--tablespace", "/nowhere=/x"];
    original.command(&words).run().expect_code(2).says(&["no tablespace", "/nowhere", &original.disk]);
}

#[test]
fn a_data_directory_that_lacks_something_is_told_as_partly_restored_without_how_to_start_it() {
    let original = Original::new(Version::all().last().expect("a Postgres is installed"));
    let data = original.host.path("data");
    // What a stopped restore left, and this one shall leave alone.
    let words = ["--json", "restore", "latest", "whole", "--overwrite", "never", "--to"];
    fs::create_dir(&data).expect("a new folder");
    fs::write(data.join("PG_VERSION"), "").expect("our own folder");
    let document = original.command(&words).arg(&data).run().expect_code(1).json();
    let problem = &document["problems"][0];
    assert!(problem["message"].as_str().is_some_and(|text| text.starts_with("PG_VERSION has 0 bytes")), "{document}");
    assert_eq!((&document["problem_count"], &problem["loses"]), (&1.into(), &true.into()), "{document}");
    assert_eq!(document["next_steps"], Value::Array(Vec::new()));
}
