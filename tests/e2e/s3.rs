//! The everyday round trip against a real S3 server, and what can be wrong with one.

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::TcpListener;

use harness::binary::{Host, Ran, Run as _, noise, shell};
use harness::listing::{assert_same, listing_of};
use harness::running::file_count;
use store::testing::S3Server;

const MIB: usize = 1 << 20;

/// A host that knows the server by its environment, as on any machine with S3.
pub(crate) fn host_of(server: &S3Server) -> Host {
    let s3 = server.options().s3;
    let known = |value: Option<String>| value.expect("the server names it");
    Host::new()
        .with("BACKSTAY_REPOSITORY", server.location("backup/here").to_string())
        .with("AWS_ENDPOINT_URL", known(s3.endpoint))
        .with("AWS_ACCESS_KEY_ID", known(s3.access_key_id))
        .with("AWS_SECRET_ACCESS_KEY", known(s3.secret_access_key))
        .with("AWS_REGION", "us-east-1")
}

#[tokio::test]
async fn everyday_round_trip_works_and_a_second_client_needs_no_cache() {
    let server = S3Server::start().await;
    let host = host_of(&server);
    host.backstay(["init"]).run().expect_code(0);
    host.write("tree/large", noise("large", 40 * MIB));
    for at in 0..300 {
        host.write(&format!("tree/{}/{at}", at % 7), format!("file {at}"));
    }
    let tree = host.path("tree");
    host.back_up(&[&tree]);
    let first = listing_of(&tree);
    host.write("tree/3/3", "changed");
    fs::remove_file(tree.join("4/4")).expect("the file");
    let report = host.back_up(&[&tree]);
    assert!(report["new_len"].as_u64() < Some(1000), "{report}");
    let second = listing_of(&tree);

    let client = host_of(&server);
    let snapshots = client.snapshots();
    assert_eq!(snapshots.len(), 2);
    for (snapshot, expected) in snapshots.iter().zip([&first, &second]) {
        let id = snapshot["id"].as_str().expect("an id");
        let target = client.path(id);
        let mut restore = client.backstay(["restore", "--verify", "--target"]);
        restore.arg(&target).arg(format!("{id}:{}", tree.display())).run().expect_code(0);
        assert_same(&listing_of(&target), expected);
    }
    let stream = client.backstay(["backup", "--name", "out", "--command", "--", "seq", "100000"]).run();
    stream.expect_code(0);
    let cat = host.backstay(["cat", "--source", "out", "latest"]).run().expect_code(0);
    assert_eq!(cat.text(), shell(&host.path(""), "seq 100000"));
    host.check();
    client.check();
}

#[tokio::test]
async fn clients_may_back_up_at_the_same_time() {
    let server = S3Server::start().await;
    let host = host_of(&server);
    host.backstay(["init"]).run().expect_code(0);
    let others: Vec<Host> = (0..3).map(|_| host_of(&server)).collect();
    let shared = noise("shared", 4 * MIB);
    let started: Vec<_> = others
        .iter()
        .enumerate()
        .map(|(at, other)| {
            other.write("tree/shared", &shared);
            other.write("tree/own", noise(&at.to_string(), 2 * MIB));
            let mut command = other.backstay(["backup", "--host", &format!("host{at}")]);
            command.arg(other.path("tree")).spawn().expect("the binary starts")
        })
        .collect();
    for mut child in started {
        assert!(child.wait().expect("our own child").success());
    }
    assert_eq!(host.snapshots().len(), 3);
    for (at, other) in others.iter().enumerate() {
        let path = format!("latest:{}", other.path("tree/own").display());
        let cat = host.backstay(["cat", "--host", &format!("host{at}"), &path]).run().expect_code(0);
        assert!(cat.stdout == noise(&at.to_string(), 2 * MIB));
    }
    host.check();
}

/// Fails unless the command was refused, with these words and a next step.
#[track_caller]
fn refused(ran: Ran, texts: &[&str]) {
    ran.expect_code(2).says(&["error:", "hint:"]).says(texts);
}

#[tokio::test]
async fn server_that_refuses_or_cannot_be_reached_is_named_with_what_to_do() {
    let server = S3Server::start().await;
    let host = host_of(&server);
    host.backstay(["init"]).run().expect_code(0);
    host.write("file", "precious");
    host.back_up(&[&host.path("file")]);

    let one_try = ["snapshots", "--retries", "1"];
    let elsewhere = host.backstay(one_try).args(["--s3-endpoint", "http://127.0.0.1:9"]).run();
    refused(elsewhere, &["127.0.0.1:9", "network"]);
    let nowhere = host.backstay(one_try).args(["--s3-endpoint", "http://no-such-host.invalid"]).run();
    refused(nowhere, &["no-such-host.invalid", "host name"]);
    let missing = host.backstay(one_try).args(["-r", "s3://no-such-bucket/backup"]).run();
    refused(missing, &["s3://no-such-bucket/backup"]);
    let unmakable = host.backstay(["init", "--retries", "1", "-r", "s3://no-such-bucket/backup"]).run();
    refused(unmakable, &["no-such-bucket", "create the bucket"]);
    let unnamable = host.backstay(one_try).args(["-r", "s3://No_Bucket/backup"]).run();
    refused(unnamable, &["s3://No_Bucket/backup", "lower-case letters"]);
    let unmade = host.backstay(one_try).args(["-r", "s3://bucket1/elsewhere"]).run();
    refused(unmade, &["no backstay repository", "bucket1/elsewhere"]);
    let secret = host.backstay(one_try).env("AWS_SECRET_ACCESS_KEY", "wrong").run();
    refused(secret, &["access key"]);
    let unknown = host.backstay(one_try).env("AWS_ACCESS_KEY_ID", "nobody").run();
    refused(unknown, &["access key"]);
    let mut none = host.backstay(one_try);
    let none = none.env_remove("AWS_ACCESS_KEY_ID").env_remove("AWS_SECRET_ACCESS_KEY").run();
    refused(none, &["AWS_ACCESS_KEY_ID"]);

    let cat = host.backstay(["cat", &format!("latest:{}", host.path("file").display())]).run().expect_code(0);
    assert_eq!(cat.text(), "precious");
    host.check();
}

/// A server that refuses every request with this code of S3's; gives its address.
fn refusing(code: &'static str) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = format!("http://{}", listener.local_addr().expect("is bound"));
    let answer = move || {
        for stream in listener.incoming() {
            let Ok(mut stream) = stream else { return };
            let (mut head, mut piece) = (Vec::new(), [0; 4096]);
            while !head.windows(4).any(|four| four == b"\r\n\r\n") {
                match stream.read(&mut piece) {
                    Ok(len @ 1..) => head.extend_from_slice(&piece[..len]),
                    _ => break,
                }
            }
            let body = format!("<?xml version=\"1.0\"?><Error><Code>{code}</Code><Message>no</Message></Error>");
            let (len, end) = (body.len(), "Content-Type: application/xml\r\nConnection: close");
            drop(write!(stream, "HTTP/1.1 403 Forbidden\r\n{end}\r\nContent-Length: {len}\r\n\r\n{body}"));
        }
    };
    std::thread::Builder::new().spawn(answer).expect("a thread");
    address
}

#[test]
fn refusal_for_a_wrong_clock_and_one_for_a_missing_right_are_told_apart() {
    let secret = [("AWS_ACCESS_KEY_ID", "one"), ("AWS_SECRET_ACCESS_KEY", "two"), ("AWS_REGION", "us-east-1")];
    let host = secret.into_iter().fold(Host::new(), |host, (name, value)| host.with(name, value));
    host.write("file", "precious");
    for (code, texts) in [
        ("RequestTimeTooSkewed", ["clock", "timedatectl set-ntp true"]),
        ("AccessDenied", ["denied", "check the permissions of the account"]),
    ] {
        let address = refusing(code);
        let place = ["-r", "s3://bucket1/backup", "--s3-endpoint", &address, "--retries", "1"];
        for command in [vec!["snapshots"], vec!["init"], vec!["restore", "latest", "--target", "/nowhere"]] {
            refused(host.backstay(command).args(place).run(), &texts);
        }
        refused(host.backstay(["backup"]).arg(host.path("file")).args(place).run(), &texts);
    }
}

#[tokio::test]
async fn lost_object_is_told_by_check_and_by_whoever_needs_it() {
    let server = S3Server::start().await;
    let host = host_of(&server);
    host.backstay(["init"]).run().expect_code(0);
    host.write("tree/file", noise("file", 3 * MIB));
    host.write("tree/other", "small");
    host.back_up(&[&host.path("tree")]);
    let packs = server.bucket_folder().join("backup/here/packs");
    assert!(file_count(&packs) > 0, "no packs in {}", packs.display());
    let largest = shell(&packs, "find . -type f -printf '%s %p\\n' | sort -n | tail -n 1 | cut -d' ' -f2");
    fs::remove_file(packs.join(largest.trim())).expect("the largest pack");
    let name = largest.trim().rsplit('/').next().expect("a name");
    let check = host.backstay(["check"]).run().expect_code(1);
    assert!(check.text().contains(name), "{check}");
    let target = host.path("target");
    let restore = host.backstay(["restore", "latest", "--target"]).arg(&target).run().expect_code(1);
    restore.says(&["problem:", "file"]);
}

#[tokio::test]
async fn snapshots_are_copied_from_a_folder_to_the_server_and_back() {
    let server = S3Server::start().await;
    let (near, far) = (Host::with_repository(), host_of(&server));
    far.backstay(["init"]).run().expect_code(0);
    near.write("tree/large", noise("large", 20 * MIB));
    near.write("tree/small", "some words");
    let tree = near.path("tree");
    near.back_up(&[&tree]);
    near.write("tree/small", "other words");
    near.back_up(&[&tree]);
    let expected = listing_of(&tree);
    let there = server.location("backup/here").to_string();
    let mut copy = far.backstay(["copy", "--json", "-r"]);
    copy.arg(near.repository()).args(["--to", &there, "--to-password-file"]).arg(far.path("password"));
    let report = copy.run().expect_code(0).json();
    assert_eq!(report["copied_count"], 2, "{report}");
    assert!(report["snapshots"][1]["read_len"].as_u64() < Some(1000), "{report}");
    far.check();

    let back = Host::with_repository();
    let mut copy = far.backstay(["copy", "latest", "--to"]);
    copy.arg(back.repository()).arg("--to-password-file").arg(back.path("password")).run().expect_code(0);
    let target = back.path("target");
    let mut restore = back.backstay(["restore", "--target"]);
    restore.arg(&target).arg(format!("latest:{}", tree.display())).run().expect_code(0);
    assert_same(&listing_of(&target), &expected);
    back.check();
}
