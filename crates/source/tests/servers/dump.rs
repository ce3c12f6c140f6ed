//! Postgres by pg_dump and back, against private servers.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use source::command::Patience;
use source::dump::{
    About, Archive, Contents, Dump, Programs, RestoreOptions, Selection, Server, dump, missing, restore_archive,
    restore_globals, restore_plain,
};
use source::{Fault, Secret, SourceError};
use tempfile::TempDir;

use crate::running::{Read, failed, newer_root, printed, read, read_with};

mod preflight;

const TABLES: &str = "
create table customers (id int primary key, name text);
insert into customers select n, 'name ' || md5(n::text) from generate_series(1, 5000) n;
create table orders (id int primary key, customer int references customers, note text);
insert into orders select n, 1 + n % 5000, E'line\\nbreak \\\\ tab\\t' || n from generate_series(1, 20000) n;
create view spent as select customer, count(*) as n from orders group by customer;
select lo_from_bytea(0, decode(repeat('ab', 10000), 'hex'));
create schema other; create table other.kept (n int); insert into other.kept values (7);";

const HASHES: &str = "
select md5(string_agg(t::text, ',' order by id)) from customers t union all
select md5(string_agg(t::text, ',' order by id)) from orders t union all
select md5(string_agg(t::text, ',' order by customer)) from spent t union all
select md5(lo_get(oid)::text) from pg_largeobject_metadata";

/// A private server on a socket, stopped when dropped.
struct Postgres {
    folder: TempDir,
    programs: PathBuf,
    root: Option<PathBuf>,
}

impl Postgres {
    fn start() -> Self {
        let mut versions: Vec<PathBuf> = std::fs::read_dir("/usr/lib/postgresql")
            .expect("Postgres is installed")
            .map(|entry| entry.unwrap().path())
            .collect();
        versions.sort();
        Self::start_in(None, &versions.pop().unwrap().join("bin"))
    }

    /// With the programs of a system that lies in the folder `root`.
    fn start_in(root: Option<&Path>, programs: &Path) -> Self {
        let base = root.map_or_else(std::env::temp_dir, |root| root.join("tmp"));
        let folder = TempDir::with_prefix_in("backstay-pg-", base).unwrap();
        printed(Command::new("chmod").arg("711").arg(folder.path()));
        let server = Self { folder, programs: programs.to_owned(), root: root.map(Path::to_owned) };
        std::fs::create_dir(server.path("pg")).unwrap();
        if is_root() {
            let mut given = Command::new(if root.is_some() { "chroot" } else { "chown" });
            if let Some(root) = root {
                given.arg(root).arg("chown");
            }
            printed(given.arg("postgres").arg(server.inside("pg")));
        }
        server.own("initdb", &["-U", "owner", "-A", "trust", "-E", "UTF8", "--locale=C", "--no-sync"]);
        let rules = "local all guarded scram-sha-256\nlocal all all trust\n";
        std::fs::write(server.path("pg/data/pg_hba.conf"), rules).unwrap();
        let settings = format!("-c listen_addresses= -c fsync=off -k {}", server.inside("pg").display());
        server.own("pg_ctl", &["-w", "-t", "60", "-l", "/dev/null", "-o", &settings, "start"]);
        server
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// The path as the server sees it.
    fn inside(&self, name: &str) -> PathBuf {
        let path = self.path(name);
        match &self.root {
            Some(root) => Path::new("/").join(path.strip_prefix(root).unwrap()),
            None => path,
        }
    }

    fn own(&self, program: &str, args: &[&str]) {
        let program = self.programs.join(program);
        let mut command = match &self.root {
            Some(root) => {
                let mut command = Command::new("chroot");
                command.arg("--userspec=postgres").arg(root).arg(&program);
                command
            }
            None if is_root() => {
                let mut command = Command::new("runuser");
                command.args(["-u", "postgres", "--"]).arg(&program);
                command
            }
            None => Command::new(&program),
        };
        command.arg("-D").arg(self.inside("pg/data")).args(args).current_dir("/").env("LC_ALL", "C");
        let status = command.stdin(std::process::Stdio::null()).stdout(std::process::Stdio::null()).status();
        assert!(status.unwrap().success(), "{command:?}");
    }

    fn sql(&self, database: &str, statement: &str) -> String {
        let mut command = Command::new("psql");
        command.args(["-qXAt", "-v", "ON_ERROR_STOP=1", "-U", "owner", "-h"]).arg(self.path("pg"));
        // Parts of a union come in their order only where one worker takes them.
        command.env("PGOPTIONS", "-c max_parallel_workers_per_gather=0");
        printed(command.env("PGDATABASE", database).args(["-c", statement]))
    }

    fn server(&self) -> Server {
        let host = Some(self.path("pg").display().to_string());
        Server { host, user: Some("owner".into()), ..Server::default() }
    }

    fn server_as(&self, user: &str) -> Server {
        Server { user: Some(user.into()), ..self.server() }
    }

    fn dump(&self, databases: &[&str]) -> Dump {
        let databases = databases.iter().map(|&name| name.to_owned()).collect();
        let selection = Selection { databases, ..Selection::default() };
        Dump { server: self.server(), selection, ..Dump::default() }
    }

    async fn programs(&self) -> Programs {
        let installed = Programs::installed(&[]).await;
        let about = About::ask(&self.server(), &installed).await.unwrap();
        Programs::choose("here", &installed, about.version).unwrap()
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        let pid = std::fs::read_to_string(self.path("pg/data/postmaster.pid")).unwrap_or_default();
        if let Some(pid) = pid.lines().next() {
            let _ = Command::new("kill").args(["-QUIT", pid]).status();
            for _ in 0..100 {
                if !Path::new("/proc").join(pid).exists() {
                    break;
                }
                std::thread::sleep(Duration::from_millis(50));
            }
        }
    }
}

fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

fn contents_of(data: &[u8]) -> Contents {
    let mut archive = Archive::default();
    data.chunks(1000).for_each(|piece| archive.push(piece).unwrap());
    archive.finish().unwrap()
}

async fn feed(restore: Result<source::dump::Restore, SourceError>, data: &[u8]) -> Result<(), SourceError> {
    let mut restore = restore?;
    for piece in data.chunks(100_000) {
        if !restore.write(piece).await? {
            break;
        }
    }
    restore.finish().await
}

#[tokio::test]
async fn databases_and_globals_are_dumped_and_restored() {
    let server = Postgres::start();
    server.sql("postgres", "create role shopper login password 'secret'");
    let odd = "odd/name = 'x' %\"";
    server.sql("postgres", "create database shop owner shopper");
    server.sql("postgres", &format!("create database \"{}\"", odd.replace('"', "\"\"")));
    server.sql("postgres", "create database empty");
    server.sql("shop", TABLES);
    server.sql("shop", "alter table orders owner to shopper; create extension pgcrypto");
    server.sql(odd, "create table \"weird \"\"table\" (n int); insert into \"weird \"\"table\" values (1)");
    let read = read(dump(server.dump(&[]))).await.unwrap();
    let odd_entry = "odd%2Fname = 'x' %25\".dump";
    let mut names = read.names();
    names.sort_unstable();
    assert_eq!(names, ["empty.dump", "globals.sql", odd_entry, "postgres.dump", "shop.dump", "template1.dump"]);
    assert!(read.fact("server_version").starts_with("15."), "{:?}", read.facts);
    assert!(read.fact("shop.dump/started_at").starts_with("20"));
    assert!(read.fact("shop.dump/database_len").parse::<u64>().unwrap() > 1_000_000);
    assert!(read.warnings.is_empty(), "{:?}", read.warnings);
    let contents = contents_of(&read.entry("shop.dump").data);
    assert_eq!(contents.database, "shop");
    assert!(contents.roles.iter().eq(["owner", "shopper"]), "{:?}", contents.roles);
    assert!(contents.extensions.iter().eq(["pgcrypto"]));
    assert_eq!(contents_of(&read.entry("empty.dump").data).data_count, 0);

    let target = Postgres::start();
    let programs = target.programs().await;
    let lacking = missing(&target.server(), &programs, &contents).await.unwrap();
    assert!(lacking.roles.iter().eq(["shopper"]) && lacking.extensions.is_empty(), "{lacking:?}");
    let foreign = Contents { extensions: ["pgcrypto", "no such"].map(str::to_owned).into(), ..Contents::default() };
    let lacking = missing(&target.server(), &programs, &foreign).await.unwrap();
    assert!(lacking.extensions.iter().eq(["no such"]), "{lacking:?}");
    let globals = &read.entry("globals.sql").data;
    feed(restore_globals(&target.server(), &programs, globals, "k1").await, globals).await.unwrap();
    assert!(missing(&target.server(), &programs, &contents).await.unwrap().is_empty());
    let options = RestoreOptions { database: "postgres".into(), creates: true, ..RestoreOptions::default() };
    for entry in ["shop.dump", odd_entry, "empty.dump"] {
        feed(restore_archive(&target.server(), &programs, &options), &read.entry(entry).data).await.unwrap();
    }
    assert_eq!(target.sql("shop", HASHES), server.sql("shop", HASHES));
    assert_eq!(target.sql(odd, "select * from \"weird \"\"table\""), "1\n");
    let hash = "select rolpassword from pg_authid where rolname = 'shopper'";
    assert_eq!(target.sql("postgres", hash), server.sql("postgres", hash));
    // Into a database whose name looks like a connection string.
    target.sql("postgres", "create database \"user=x 'y' \\\\z\"");
    let options = RestoreOptions { database: "user=x 'y' \\\\z".into(), ..RestoreOptions::default() };
    feed(restore_archive(&target.server(), &programs, &options), &read.entry("shop.dump").data).await.unwrap();
    assert_eq!(target.sql(&options.database, HASHES), server.sql("shop", HASHES));
    let again = feed(restore_archive(&target.server(), &programs, &options), &read.entry("shop.dump").data).await;
    assert!(again.unwrap_err().to_string().contains("already exists"));
}

#[tokio::test]
async fn tables_and_schemas_are_selected_and_what_matches_nothing_is_an_error() {
    let server = Postgres::start();
    server.sql("postgres", TABLES);
    let mut request = server.dump(&["postgres"]);
    request.selection.without_globals = true;
    request.selection.schemas = vec!["other".into()];
    let part = read(dump(request.clone())).await.unwrap();
    assert_eq!(part.names(), ["postgres.dump"]);
    assert_eq!(contents_of(&part.entry("postgres.dump").data).data_count, 1);
    request.selection.schemas = vec!["nothing".into()];
    let words = failed(read(dump(request)).await, Fault::Missing);
    assert!(words.contains("no matching schemas"), "{words}");
    let words = failed(read(dump(server.dump(&["nothing"]))).await, Fault::Missing);
    assert!(words.contains("there is no database nothing"), "{words}");
}

#[tokio::test]
async fn an_unchanged_database_dumps_the_same_but_for_its_head() {
    let server = Postgres::start();
    server.sql("postgres", TABLES);
    let one = read(dump(server.dump(&["postgres"]))).await.unwrap();
    let two = read(dump(server.dump(&["postgres"]))).await.unwrap();
    let (one, two) = (&one.entry("postgres.dump").data, &two.entry("postgres.dump").data);
    assert_eq!(one.len(), two.len());
    let differing = one.iter().zip(two).filter(|(a, b)| a != b).count();
    assert!(differing < 10, "{differing}");
}

#[tokio::test]
async fn who_we_are_and_what_we_may_decides_the_fault() {
    let server = Postgres::start();
    server.sql("postgres", "create role guarded login password 'right'; create role reader login");
    server.sql("postgres", "create table private (n int); create table zz (n int)");
    let mut request = server.dump(&["postgres"]);
    request.server = Server { password: Some(Secret::new("wrong".into())), ..server.server_as("guarded") };
    let words = failed(read(dump(request.clone())).await, Fault::Login);
    assert!(words.contains("password authentication failed") && !words.contains("wrong"), "{words}");
    request.server.password = None;
    failed(read(dump(request.clone())).await, Fault::Login);
    request.server = server.server_as("nobody");
    failed(read(dump(request.clone())).await, Fault::Login);
    // A role that may not read passwords, nor the tables.
    request.server = Server { password: Some(Secret::new("right".into())), ..server.server_as("guarded") };
    let words = failed(read(dump(request.clone())).await, Fault::Right);
    assert!(words.contains("permission denied") && words.contains("database postgres"), "{words}");
    server.sql("postgres", "grant select on all tables in schema public to guarded");
    // The password may come from a file as well.
    let file = server.path("passwords");
    std::fs::write(&file, "*:*:*:guarded:right\n").unwrap();
    printed(Command::new("chmod").arg("600").arg(&file));
    let with_file = Server { password_file: Some(file), ..server.server_as("guarded") };
    read(dump(Dump { server: with_file, ..request.clone() })).await.unwrap();
    let read_all = read(dump(request.clone())).await.unwrap();
    assert_eq!(read_all.warnings.len(), 1, "{:?}", read_all.warnings);
    let globals = String::from_utf8_lossy(&read_all.entry("globals.sql").data).into_owned();
    assert!(globals.contains("CREATE ROLE guarded") && !globals.contains("PASSWORD"), "{globals}");
    server.sql("postgres", "alter table zz enable row level security");
    let words = failed(read(dump(request)).await, Fault::Right);
    assert!(words.contains("row-level security"), "{words}");
}

#[tokio::test]
async fn a_server_that_is_down_or_goes_down_is_no_whole_dump() {
    let server = Postgres::start();
    server.sql("postgres", "create table large as select n, repeat(md5(n::text), 40) from generate_series(1, 60000) n");
    let pid = std::fs::read_to_string(server.path("pg/data/postmaster.pid")).unwrap();
    let pid = pid.lines().next().unwrap().to_owned();
    let mut is_killed = false;
    let mut request = server.dump(&["postgres"]);
    request.selection.without_globals = true;
    let read_part = read_with(dump(request.clone()), |len| {
        if len > 3_000_000 && !is_killed {
            is_killed = true;
            printed(Command::new("kill").args(["-QUIT", &pid]));
            std::thread::sleep(Duration::from_secs(1));
        }
    });
    let read_part = read_part.await;
    failed(read_part, Fault::Interrupted);
    let words = failed(read(dump(request)).await, Fault::Unreachable);
    assert!(words.contains(server.path("pg").to_str().unwrap()), "{words}");
}

/// Puts a script beside links to the real programs, and gives the folder.
fn pretending(server_programs: &Programs, program: &str, script: &str) -> TempDir {
    let folder = TempDir::new().unwrap();
    for name in ["pg_dump", "pg_dumpall", "psql"].iter().filter(|name| **name != program) {
        std::os::unix::fs::symlink(server_programs.folder.join(name), folder.path().join(name)).unwrap();
    }
    let real = server_programs.folder.join(program);
    let script =
        format!("#!/bin/sh\nreal={}\ncase $1 in --version) exec $real \"$@\";; esac\n{script}\n", real.display());
    std::fs::write(folder.path().join(program), script).unwrap();
    printed(Command::new("chmod").arg("755").arg(folder.path().join(program)));
    folder
}

#[tokio::test]
async fn a_program_that_returns_0_without_the_end_of_its_dump_is_not_believed() {
    let server = Postgres::start();
    server.sql("postgres", TABLES);
    let programs = server.programs().await;
    let cases = [
        ("pg_dump", "$real \"$@\" | head -c 100000", Fault::Incomplete, "in the middle of a table"),
        ("pg_dump", "$real \"$@\" | head -c 100", Fault::Incomplete, "within its table of contents"),
        ("pg_dump", "$real \"$@\"; echo more", Fault::Damaged, "neither a table nor large objects"),
        ("pg_dump", "exit 0", Fault::Incomplete, "within its first bytes"),
        ("pg_dumpall", "$real \"$@\" | head -n 20", Fault::Incomplete, "without the last line"),
    ];
    for (program, script, fault, words) in cases {
        let folder = pretending(&programs, program, script);
        let mut request = server.dump(&["postgres"]);
        request.folders = vec![folder.path().to_owned()];
        let said = failed(read(dump(request)).await, fault);
        assert!(said.contains(words), "{script}: {said}");
    }
}

#[tokio::test]
async fn a_locked_table_ends_the_dump_in_time() {
    let server = Postgres::start();
    server.sql("postgres", "create table busy (n int)");
    let mut holder = Command::new("psql");
    holder.args(["-qX", "-U", "owner", "-h"]).arg(server.path("pg")).args(["-d", "postgres", "-c"]);
    holder.arg("begin; lock table busy in access exclusive mode; select pg_sleep(60)");
    let _held = crate::running::Running::start(&mut holder);
    let is_locked = "select count(*) from pg_locks where relation = 'busy'::regclass and granted";
    crate::running::until(|| server.sql("postgres", is_locked) == "1\n");
    let mut request = server.dump(&["postgres"]);
    request.lock_wait_for = Some(Duration::from_millis(300));
    let words = failed(read(dump(request.clone())).await, Fault::Busy);
    assert!(words.contains("statement timeout") && words.contains("LOCK TABLE"), "{words}");
    request.lock_wait_for = None;
    request.patience = Patience { idle_for: Some(Duration::from_millis(700)), total_for: None };
    let words = failed(read(dump(request)).await, Fault::Busy);
    assert!(words.contains("printed nothing for 700ms"), "{words}");
}

#[tokio::test]
async fn a_plain_dump_cannot_run_commands_of_the_host() {
    let server = Postgres::start();
    let programs = server.programs().await;
    let options = RestoreOptions { database: "postgres".into(), ..RestoreOptions::default() };
    let trace = server.path("trace");
    let evil = format!("create table one (n int);\n\\! touch {}\n", trace.display());
    let refused =
        feed(restore_plain(&server.server(), &programs, &options, evil.as_bytes(), "k2").await, evil.as_bytes());
    let words = refused.await.unwrap_err().to_string();
    assert!(words.contains("restrict"), "{words}");
    assert!(!trace.exists());
    // One that lifts the restriction which it began itself.
    let sly = format!(
        "--\n\\restrict k\ncreate table if not exists two (n int);\n\\unrestrict k\n\\! touch {}\n",
        trace.display()
    );
    for is_globals in [false, true] {
        let restore = match is_globals {
            true => restore_globals(&server.server(), &programs, sly.as_bytes(), "k6").await,
            false => restore_plain(&server.server(), &programs, &options, sly.as_bytes(), "k6").await,
        };
        let words = feed(restore, sly.as_bytes()).await.unwrap_err().to_string();
        assert!(words.contains("restrict"), "{words}");
        assert!(!trace.exists());
    }
    let mut old = programs.clone();
    old.version.minor = 1;
    let refused = restore_plain(&server.server(), &old, &options, b"", "k3").await.unwrap_err();
    assert!(matches!(refused, SourceError::Server { fault: Fault::Version, .. }));
    // One of pg_dump's own, and one of a time before it knew how to restrict psql.
    server.sql("postgres", "drop table one");
    server.sql("postgres", "create database copy");
    server.sql("postgres", TABLES);
    let mut plain = Command::new(programs.folder.join("pg_dump"));
    let plain = printed(plain.args(["-U", "owner", "-d", "postgres", "-h"]).arg(server.path("pg")));
    let options = RestoreOptions { database: "copy".into(), in_one_transaction: true, ..options };
    let restored = restore_plain(&server.server(), &programs, &options, plain.as_bytes(), "k4").await;
    feed(restored, plain.as_bytes()).await.unwrap();
    assert_eq!(server.sql("copy", HASHES), server.sql("postgres", HASHES));
    let lines = plain.lines().filter(|line| !line.starts_with("\\restrict") && !line.starts_with("\\unrestrict"));
    let older: String = lines.flat_map(|line| [line, "\n"]).collect();
    server.sql("postgres", "create database older");
    let options = RestoreOptions { database: "older".into(), ..options };
    let restored = restore_plain(&server.server(), &programs, &options, older.as_bytes(), "k5").await;
    feed(restored, older.as_bytes()).await.unwrap();
    assert_eq!(server.sql("older", HASHES), server.sql("postgres", HASHES));
}

#[tokio::test]
async fn a_newer_server_is_dumped_by_newer_programs_only() {
    let root = newer_root();
    let server = Postgres::start_in(Some(&root), Path::new("/usr/lib/postgresql/18/bin"));
    server.sql("postgres", TABLES);
    let words = failed(read(dump(server.dump(&["postgres"]))).await, Fault::Version);
    assert!(words.contains("the server is of version 18.") && words.contains("postgresql-client-18"), "{words}");
    // The programs of that system, by its own loader and libraries.
    let folder = TempDir::new().unwrap();
    for program in ["pg_dump", "pg_dumpall", "psql", "pg_restore"] {
        let script = format!(
            "#!/bin/sh\nexec '{root}/lib64/ld-linux-x86-64.so.2' --library-path \
             '{root}/usr/lib/x86_64-linux-gnu:{root}/lib/x86_64-linux-gnu' --argv0 \"$0\" \
             '{root}/usr/lib/postgresql/18/bin/{program}' \"$@\"\n",
            root = root.display()
        );
        let path = folder.path().join(program);
        std::fs::write(&path, script).unwrap();
        printed(Command::new("chmod").arg("755").arg(&path));
    }
    let mut request = server.dump(&["postgres"]);
    request.folders = vec![folder.path().to_owned()];
    let read: Read = read(dump(request)).await.unwrap();
    assert!(read.fact("pg_dump_version").starts_with("18."));
    assert!(contents_of(&read.entry("postgres.dump").data).server_version.starts_with("18."));
}
