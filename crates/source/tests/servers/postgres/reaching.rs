//! Which servers are reached, who is let in, and what is encrypted.

use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use source::postgres::{BaseBackup, Host, Server as Reached, SessionWanted, Tls, TlsMode, base_backup};
use source::{Fault, SourceError};
use tokio::net::TcpListener;
use zeroize::Zeroizing;

use super::{is, reached, refused, settings};
use crate::postgres_server::{OWNER, Server, Version, ran};
use crate::sink::write;

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
