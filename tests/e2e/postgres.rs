//! A Postgres database: dumped through the binary, changed, dumped again, and restored into a fresh one.
//!
//! The server is private: it listens on a socket in a temporary folder and on no port.

use std::path::PathBuf;
use std::process::Command;

use harness::binary::{Host, Run as _, is_root, set_mode, shell};
use tempfile::TempDir;

const TABLES: &str = "
create table customers (id int primary key, name text, joined timestamptz);
insert into customers select n, 'name ' || md5(n::text), timestamptz '2020-01-01' + n * interval '1 hour' from generate_series(1, 5000) n;
create table orders (id int primary key, customer int references customers, note text, price numeric(10, 2), payload jsonb);
insert into orders select n, 1 + n % 5000, case when n % 3 = 0 then E'line\\nbreak \\\\ tab\\t' || n end, n / 7.0,
    jsonb_build_object('n', n, 'hash', md5(n::text)) from generate_series(1, 60000) n;
create table blobs (id int primary key, data bytea);
insert into blobs select n, decode(repeat(md5('b' || n), 40), 'hex') from generate_series(1, 2000) n;
create index on orders (customer);
create view spent as select customer, sum(price) as total from orders group by customer;";

const CHANGES: &str = "
update orders set note = 'changed' where id between 30000 and 30100;
delete from blobs where id between 700 and 720;
insert into customers select n, 'late', now() from generate_series(5001, 5100) n;";

/// A hash of each table's rows, whatever their order.
const HASHES: &str = "
select 'customers', md5(string_agg(t::text, E'\\n' order by id)) from customers t union all
select 'orders', md5(string_agg(t::text, E'\\n' order by id)) from orders t union all
select 'blobs', md5(string_agg(t::text, E'\\n' order by id)) from blobs t union all
select 'spent', md5(string_agg(t::text, E'\\n' order by customer)) from spent t order by 1";

/// A running server, stopped when dropped.
struct Server {
    folder: TempDir,
    programs: PathBuf,
}

impl Server {
    fn start() -> Self {
        let programs = shell("/".as_ref(), "compgen -G '/usr/lib/postgresql/*/bin' | sort -V | tail -n 1");
        let programs = PathBuf::from(programs.trim());
        let folder = TempDir::with_prefix("backstay-pg-").expect("a temporary folder");
        set_mode(folder.path(), 0o711);
        let server = Self { folder, programs };
        std::fs::create_dir(server.path("pg")).expect("a folder");
        if is_root() {
            shell(server.folder.path(), "chown postgres pg");
        }
        let made = server.own("initdb", &["-U", "shop", "-A", "trust", "-E", "UTF8", "--locale=C", "--no-sync"]);
        let settings = format!("-c listen_addresses= -c fsync=off -k {}", server.path("pg").display());
        let started = server.own("pg_ctl", &["-w", "-t", "60", "-l", "/dev/null", "-o", &settings, "start"]);
        assert!(made && started, "Postgres does not start");
        server
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Runs one of the programs that must not run as root. Returns whether it succeeded.
    fn own(&self, program: &str, args: &[&str]) -> bool {
        let program = self.programs.join(program);
        let mut command = match is_root() {
            true => Command::new("runuser"),
            false => Command::new(&program),
        };
        if is_root() {
            command.args(["-u", "postgres", "--"]).arg(&program);
        }
        // A server that stays must not keep our pipes open.
        command.arg("-D").arg(self.path("pg/data")).args(args).current_dir("/");
        let status = command.stdin(std::process::Stdio::null()).stdout(std::process::Stdio::null()).status();
        status.is_ok_and(|status| status.success())
    }

    /// Lets `command` reach the server.
    fn reached_by<'a>(&self, command: &'a mut Command) -> &'a mut Command {
        let path = std::env::join_paths([self.programs.clone(), "/usr/bin".into(), "/bin".into()]).expect("a path");
        command.env("PATH", path).env("PGHOST", self.path("pg")).env("PGUSER", "shop").env("PGDATABASE", "postgres")
    }

    fn sql(&self, database: &str, text: &str) -> String {
        let mut psql = Command::new(self.programs.join("psql"));
        // Parts of a union come in their order only where one worker takes them.
        psql.env("PGOPTIONS", "-c max_parallel_workers_per_gather=0");
        psql.args(["-qXAt", "-v", "ON_ERROR_STOP=1", "-d", database, "-c", text]);
        self.reached_by(&mut psql).run().expect_code(0).text().to_owned()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // Nothing to be done if it ended by itself.
        let _ = self.own("pg_ctl", &["-m", "immediate", "stop"]);
    }
}

#[test]
fn database_comes_back_from_every_snapshot_into_a_fresh_one() {
    let server = Server::start();
    let host = Host::with_repository();
    server.sql("postgres", "create database shop");
    server.sql("shop", TABLES);
    let back_up = || {
        let mut command = host.backstay(["--json", "backup", "--name", "shop.sql", "--command", "--"]);
        command.args(["pg_dump", "--no-sync", "shop"]);
        server.reached_by(&mut command).run().expect_code(0).json()
    };
    let (first, before) = (back_up(), server.sql("shop", HASHES));
    server.sql("shop", CHANGES);
    let (second, after) = (back_up(), server.sql("shop", HASHES));
    assert_ne!(before, after);
    let (new_len, content_len) = (second["new_len"].as_u64(), second["content_len"].as_u64().expect("a number"));
    assert!(new_len < Some(content_len / 2), "little has changed: {second}");

    for (database, report, hashes) in [("one", &first, &before), ("two", &second, &after)] {
        server.sql("postgres", &format!("create database {database}"));
        let id = report["snapshot_id"].as_str().expect("an id");
        let dump = host.path(&format!("{database}.sql"));
        let mut cat = host.backstay(["cat", id]);
        let mut cat = cat.stdout(std::process::Stdio::piped()).spawn().expect("the binary starts");
        let mut psql = Command::new(server.programs.join("psql"));
        psql.args(["-qX", "-v", "ON_ERROR_STOP=1", "-d", database, "-o"]).arg(dump);
        psql.stdin(cat.stdout.take().expect("a pipe"));
        server.reached_by(&mut psql).run().expect_code(0);
        assert!(cat.wait().expect("our own child").success());
        assert_eq!(&server.sql(database, HASHES), hashes);
    }
    host.check();
}

#[test]
fn dump_that_fails_in_the_middle_commits_nothing() {
    let server = Server::start();
    let host = Host::with_repository();
    server.sql("postgres", "create database shop");
    server.sql("shop", TABLES);
    // pg_dump refuses a table with row security, which is the last one, after it has written the others.
    server.sql("shop", "create table zz (n int); insert into zz values (1); alter table zz enable row level security");
    server.sql("shop", "create role reader login; grant select on all tables in schema public to reader");
    let mut command = host.backstay(["backup", "--name", "shop.sql", "--command", "--"]);
    command.args(["pg_dump", "--no-sync", "-U", "reader", "--no-owner", "shop"]);
    let ran = server.reached_by(&mut command).run().expect_code(2);
    ran.says(&["row-level security", "exit status 1", "nothing was committed", "hint:"]);
    assert!(host.snapshots().is_empty());
}
