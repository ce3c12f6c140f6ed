//! What `backstay.toml` says is done: where it is found, how a server is reached, what of it is read, how many sources at
//! once, and for how long.
//!
//! Invariant: each key that is tried here is seen in what comes of a run, not in how it is read.
//! Never here: mistakes in the file (see the tests of `cli`), and servers that fail (see `bad_sources`).

use std::io::{Read as _, Write as _};
use std::net::TcpListener;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use harness::binary::{Host, Ran, Run as _, binary, is_root, set_mode, shell};
use harness::servers::postgres::{Server, Version};
use serde_json::Value;

/// A host whose configuration names its repository and what is given.
fn host_with(rest: &str) -> Host {
    let host = Host::with_repository();
    host.write("backstay.toml", front(&host) + rest);
    host
}

/// The table of the host's own repository.
fn front(host: &Host) -> String {
    let (repository, password) = (host.repository(), host.path("password"));
    format!("[repositories.main]\nurl = \"{}\"\npassword_file = \"{}\"\n", repository.display(), password.display())
}

fn run(host: &Host, words: &[&str]) -> Ran {
    host.backstay(words).current_dir(host.path("")).run()
}

fn own_postgres() -> Server {
    let version = Version::all().into_iter().find(|version| version.major == 15);
    Server::start(&version.expect("the machine's own Postgres"), &[])
}

#[test]
fn sources_of_a_job_are_read_at_the_same_time_as_many_as_it_says() {
    // Each waits until the other has begun: without end where they shall meet, a second where they cannot.
    let waits = |own: &str, other: &str| {
        format!(
            "[sources.{own}]\nkind = \"command\"\ncommand = [\"sh\", \"-c\", \"touch began-{own}; i=0; \
             until test -e began-{other}; do i=$((i + 1)); test -e hurry && test $i -gt 10 && exit 7; sleep 0.1; done; \
             echo met\"]\n"
        )
    };
    let host = host_with(&format!(
        "{}{}[jobs.beside]\nsources = [\"one\", \"two\"]\n[jobs.after]\nsources = [\"one\", \"two\"]\nsources_at_once = 1\n",
        waits("one", "two"),
        waits("two", "one"),
    ));
    run(&host, &["run", "beside"]).expect_code(0);
    shell(&host.path(""), "rm began-one began-two; touch hurry");
    let told = run(&host, &["--json", "run", "after"]).expect_code(1).json();
    let state = |at: usize| told["components"][at]["state"].as_str().unwrap_or_default().to_owned();
    assert_eq!((state(0), state(1)), ("failed".to_owned(), "complete".to_owned()), "{told}");
}

#[test]
fn commands_and_jobs_that_take_longer_than_they_may_are_stopped() {
    let host = host_with(
        "[sources.silent]\nkind = \"command\"\ncommand = [\"sh\", \"-c\", \"echo some; sleep 1000\"]\n\
         no_progress_timeout = \"1s\"\n\
         [sources.endless]\nkind = \"command\"\ncommand = [\"sh\", \"-c\", \"while :; do echo more; sleep 0.1; done\"]\n\
         timeout = \"2s\"\n\
         [sources.slow]\nkind = \"command\"\ncommand = [\"sleep\", \"1000\"]\n\
         [sources.fine]\nkind = \"command\"\ncommand = [\"echo\", \"x\"]\n\
         [jobs.part]\nsources = [\"silent\", \"endless\", \"fine\"]\n\
         [jobs.long]\nsources = [\"slow\"]\ntimeout = \"2s\"\n",
    );
    let began = Instant::now();
    run(&host, &["run", "part"])
        .expect_code(1)
        .says(&["silent: command sh: it printed nothing for 1s", "endless: command sh: it did not end within 2s"])
        .says(&["next: find out what it waits for", "no_progress_timeout"]);
    run(&host, &["run", "long"]).expect_code(2).says(&["job long took longer than 2s", "hint: "]);
    assert!(began.elapsed() < Duration::from_secs(100), "{:?}", began.elapsed());
    assert_eq!(host.snapshots().len(), 1);
}

/// Answers the first who connects with what no server says.
fn nonsense() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = listener.local_addr().expect("an address").port();
    std::thread::Builder::new()
        .spawn(move || {
            let (mut stream, _) = listener.accept().expect("somebody connects");
            let _ = stream.read(&mut [0; 1000]).expect("is asked");
            stream.write_all(b"what?\r\n").expect("is heard");
        })
        .expect("a thread");
    port
}

#[test]
fn what_nobody_has_foreseen_ends_with_an_exit_code_of_its_own() {
    let port = nonsense();
    let host = host_with(&format!(
        "[sources.odd]\nkind = \"redis\"\nurls = [\"redis://127.0.0.1:{port}\"]\n[jobs.odd]\nsources = [\"odd\"]\n"
    ));
    let ran = run(&host, &["run", "odd"]).expect_code(3);
    ran.says(&[&format!("redis at 127.0.0.1:{port}: "), "not Redis'", "hint: see that the address"]);
    assert!(host.snapshots().is_empty());
}

/// Lets a server take TLS with a certificate of an authority of its own. Returns the authority's file.
fn certified(server: &Server, folder: &Path) -> String {
    let data = server.data().display();
    shell(
        folder,
        &format!(
            "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 9 -subj /CN=authority -keyout ca.key -out ca.crt 2>/dev/null
            openssl req -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -subj /CN=db -keyout server.key -out server.csr 2>/dev/null
            printf 'subjectAltName=IP:127.0.0.1' > names
            openssl x509 -req -in server.csr -CA ca.crt -CAkey ca.key -CAcreateserial -days 9 -extfile names -out server.crt 2>/dev/null
            mv server.key server.crt '{data}' && chmod 0600 '{data}/server.key'"
        ),
    );
    server.version.own(server.data());
    folder.join("ca.crt").display().to_string()
}

#[test]
fn service_and_password_files_of_libpq_and_its_tls_serve_dumps_and_whole_servers() {
    let server = own_postgres();
    let host = host_with(
        "[sources.db]\nkind = \"postgres\"\nurl = \"postgres:///?service=shop\"\n\
         [sources.whole]\nkind = \"postgres-physical\"\nurl = \"postgres:///?service=shop\"\n\
         [jobs.all]\nsources = [\"db\", \"whole\"]\n",
    );
    let authority = certified(&server, &host.path(""));
    let _ = server.sql("create role backup login replication password 'hunter2'; grant pg_read_all_data to backup");
    let _ = server.sql("create table t as select 1 as n");
    server.write(
        "pg_hba.conf",
        "local all owner trust\nhost all owner 127.0.0.1/32 trust\nhostssl all backup 127.0.0.1/32 scram-sha-256\n\
         hostssl replication backup 127.0.0.1/32 scram-sha-256\n",
    );
    server.append("postgresql.conf", "ssl = on\n");
    let _ = server.stop("fast");
    server.run();
    let service = |more: &str| {
        let text = format!("[shop]\nhost=127.0.0.1\nport={}\nuser=backup\ndbname=postgres\n{more}\n", server.port);
        host.write("home/.pg_service.conf", text);
    };
    let passwords = |password: &str| {
        set_mode(&host.write("home/.pgpass", format!("127.0.0.1:*:*:backup:{password}\n")), 0o600);
    };
    let fails = |why: [&str; 2]| {
        let told = run(&host, &["run", "all"]).expect_code(2);
        told.says(&["problem: db: ", "problem: whole: "]).says(&why);
    };
    service(&format!("sslmode=verify-full\nsslrootcert={authority}"));
    passwords("hunter2");
    run(&host, &["run", "all"]).expect_code(0);
    run(&host, &["config", "check"]).expect_code(0);
    passwords("wrong");
    fails(["password authentication failed", "hint"]);
    passwords("hunter2");
    service("sslmode=disable");
    fails(["no encryption", "pg_hba.conf"]);
    // An authority that has not signed the server's certificate.
    shell(
        &host.path(""),
        "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 9 -subj /CN=other -keyout o.key -out o.crt 2>/dev/null",
    );
    service(&format!("sslmode=verify-full\nsslrootcert={}", host.path("o.crt").display()));
    fails(["certificate verify failed", "TLS"]);
    assert_eq!(host.snapshots().len(), 1);
}

#[test]
fn only_what_a_source_selects_is_in_its_dump() {
    let server = own_postgres();
    let _ = server.sql("create schema other; create table kept (n int); create table left_out (n int)");
    let _ = server.sql("create table other.inside (n int)");
    let url = format!("postgres://owner@127.0.0.1:{}/postgres", server.port);
    let source = |name: &str, key: &str| format!("[sources.{name}]\nkind = \"postgres\"\nurl = \"{url}\"\n{key}\n");
    let host = host_with(&format!(
        "{}{}{}[jobs.all]\nsources = [\"tables\", \"schemas\", \"without\"]\n",
        source("tables", "tables = [\"public.kept\", \"other.*\"]"),
        source("schemas", "schemas = [\"other\"]"),
        source("without", "exclude_tables = [\"left_out\"]"),
    ));
    run(&host, &["run", "all"]).expect_code(0);
    for (name, expected) in
        [("tables", &["inside", "kept"][..]), ("schemas", &["inside"]), ("without", &["inside", "kept"])]
    {
        let listed = run(&host, &["--json", "restore", "latest", name, "--list"]).expect_code(0).json();
        let items = listed["dumps"][0]["items"].as_array().expect("items");
        let mut tables: Vec<&str> =
            items.iter().filter(|item| item["kind"] == "TABLE DATA").filter_map(|item| item["name"].as_str()).collect();
        tables.sort_unstable();
        assert_eq!(tables, expected, "{name}");
    }
}

#[test]
fn configuration_is_found_where_the_manual_says_and_the_nearest_is_taken() {
    assert!(is_root(), "an /etc of our own takes root");
    let host = Host::with_repository();
    let at = |place: &str, job: &str| {
        let text = format!(
            "{}[sources.a]\nkind = \"files\"\npaths = [\"/etc\"]\n[jobs.{job}]\nsources = [\"a\"]\n",
            front(&host)
        );
        host.write(place, text);
    };
    std::fs::create_dir(host.path("etc")).expect("a new folder");
    std::fs::create_dir(host.path("work")).expect("a new folder");
    let known = |words: &[&str]| {
        let mut command = Command::new("unshare");
        let inside = "mount --bind ../etc /etc && exec \"$@\"";
        command.args(["--mount", "sh", "-c", inside, "sh"]).arg(binary()).args(["run", "nothing"]).args(words);
        for (name, value) in host.backstay(["x"]).get_envs() {
            match value {
                Some(value) => command.env(name, value),
                None => command.env_remove(name),
            };
        }
        command.env("XDG_CONFIG_HOME", host.path("xdg")).current_dir(host.path("work")).run().expect_code(2)
    };
    known(&[]).says(&["hint: write one with: backstay config init"]);
    for (place, job) in [
        ("etc/backstay/backstay.toml", "of-the-machine"),
        ("xdg/backstay/backstay.toml", "of-the-user"),
        ("work/backstay.toml", "of-the-folder"),
    ] {
        at(place, job);
        known(&[]).says(&[&format!("the configuration has: {job}")]);
    }
    at("named.toml", "named");
    known(&["--config", "../named.toml"]).says(&["the configuration has: named"]);
}

#[test]
fn uploads_of_a_job_take_no_more_than_it_may() {
    let host = host_with(
        "[sources.noise]\nkind = \"command\"\ncommand = [\"head\", \"-c\", \"6000000\", \"/dev/urandom\"]\n\
         [jobs.slow]\nsources = [\"noise\"]\nlimit_upload = \"2M\"\n",
    );
    let began = Instant::now();
    run(&host, &["run", "slow"]).expect_code(0);
    assert!(began.elapsed() >= Duration::from_secs(2), "six megabytes at two in a second");
}

#[test]
fn tags_of_a_job_are_those_of_its_snapshots() {
    let host = host_with(
        "[sources.fine]\nkind = \"command\"\ncommand = [\"echo\", \"x\"]\n\
         [jobs.tagged]\nsources = [\"fine\"]\ntags = [\"daily\", \"web\"]\n",
    );
    run(&host, &["run", "tagged"]).expect_code(0);
    assert_eq!(host.snapshots()[0]["tags"], Value::from(vec!["daily", "web"]));
}

#[test]
fn configuration_is_begun_from_options_or_by_asking_and_never_written_over() {
    let host = Host::new();
    host.write("tree/file", "content");
    host.write("app.db", "");
    let init = |words: &[&str]| {
        let mut command = host.backstay(["config", "init"]);
        command.args(words).current_dir(host.path("")).env_remove("BACKSTAY_REPOSITORY");
        command.env_remove("BACKSTAY_PASSWORD_FILE");
        command
    };
    let named =
        ["--output", "named.toml", "-r", "/mnt/backups", "--postgres", "postgres://backup@db/shop", "--files", "tree"];
    init(&named).run().expect_code(0).says(&["hint: check it with: backstay config check --config named.toml"]);
    init(&named).run().expect_code(2).says(&["named.toml"]);
    // Somebody at a terminal, who leaves the password's file, Redis and etcd as they are.
    let asking = init(&["--output", "asked.toml"]);
    let words: Vec<_> = asking.get_args().map(|word| word.to_string_lossy().into_owned()).collect();
    let line = format!("'{}' {}", asking.get_program().to_string_lossy(), words.join(" "));
    let mut terminal = Command::new("script");
    terminal.args(["-qec", &line, "/dev/null"]).current_dir(host.path("")).env_clear();
    terminal.envs(asking.get_envs().filter_map(|(name, value)| Some((name, value?))));
    host.write("answers", "/mnt/backups\n\npostgres://backup@db/shop\n\n\napp.db\ntree\n/home\n\n");
    terminal.stdin(std::fs::File::open(host.path("answers")).expect("our own file"));
    let ran = terminal.run().expect_code(0);
    assert!(ran.text().contains("Postgres (postgres://user@host/database) [none]: "), "{ran}");
    for (file, sources) in [("named.toml", &["db", "files"][..]), ("asked.toml", &["app", "db", "files"])] {
        let told = run(&host, &["--json", "config", "check", "--offline", "--config", file]).expect_code(0).json();
        assert_eq!((&told["sources"], &told["jobs"]), (&Value::from(sources), &Value::from(vec!["nightly"])), "{told}");
        let text = std::fs::read_to_string(host.path(file)).expect("was written");
        assert!(text.contains("url = \"/mnt/backups\"") && text.contains("# kind = \"kubernetes\""), "{text}");
    }
}
