//! The emergency reader in `docs/reader`, which shares no code with the binary, reads what the binary wrote.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use harness::binary::{Host, PASSWORD, Ran, Run as _, is_root, noise, shell};
use harness::listing::{assert_same, listing_of};

/// Runs the reader on the host's repository.
fn reader(host: &Host, args: &[&str]) -> Ran {
    let home = std::env::var_os("HOME").map(PathBuf::from).unwrap_or_default();
    let cache = std::env::var_os("BACKSTAY_CACHE").map_or_else(|| home.join(".cache/backstay"), PathBuf::from);
    let python = cache.join("venv/bin/python3");
    assert!(python.exists(), "{} is missing: run scripts/setup.sh once", python.display());
    let program = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/reader/backstay_reader.py");
    let mut command = Command::new(python);
    command.arg("-B").arg(program).arg("-r").arg(host.repository()).args(args);
    command.env("BACKSTAY_PASSWORD", PASSWORD).run()
}

fn tree_on(host: &Host) -> PathBuf {
    let tree = host.path("tree");
    host.write("tree/sub/large", noise("large", 9 << 20));
    host.write("tree/sub/text", "all work and no play\n".repeat(100_000));
    for at in 0..1500 {
        host.write(&format!("tree/many/{at}"), format!("file {at}"));
    }
    let script = "
        mkdir empty; : >nothing; mkfifo -m 620 pipe; ln -s /nowhere dangling; ln sub/text second-name
        truncate -s 5M sparse; printf end >>sparse; printf odd >$'odd\\n\\xff'
        setfattr -n user.note -v value sub/text; chmod 4750 nothing; chmod 1770 empty
        touch -d '1999-12-31 23:59:59.999999999Z' sub/large";
    shell(&tree, script);
    if is_root() {
        shell(&tree, "chown 123:456 nothing; mknod null c 1 3; setfacl -m u:1234:r sub/large; chmod 4750 nothing");
    }
    tree
}

#[test]
fn reader_restores_what_the_binary_backed_up() {
    let host = Host::with_repository();
    let tree = tree_on(&host);
    host.back_up(&[&tree]);
    let first = listing_of(&tree);
    host.backstay(["key", "rotate"]).run().expect_code(0);
    host.write("tree/many/7", "changed");
    fs::remove_file(tree.join("many/8")).expect("the file");
    host.back_up(&[&tree]);
    let second = listing_of(&tree);
    // What the check writes down is none of the reader's business.
    host.check();
    assert!(host.repository().join("checks").exists());
    let listed = reader(&host, &["list"]).expect_code(0);
    let snapshots = host.snapshots();
    assert_eq!(listed.text().lines().count(), snapshots.len());
    for (snapshot, expected) in snapshots.iter().zip([first, second]) {
        let id = snapshot["id"].as_str().expect("an id");
        assert!(listed.text().contains(id), "{listed}");
        let target = host.path(id);
        reader(&host, &["restore", id, target.to_str().expect("a plain path")]).expect_code(0);
        assert_same(&listing_of(&target.join(tree.strip_prefix("/").expect("an absolute path"))), &expected);
    }
    let names = reader(&host, &["ls", "latest"]).expect_code(0);
    let entries = snapshots[1]["entry_count"].as_u64().expect("a number") as usize;
    assert_eq!(names.text().lines().count(), entries);
}

#[test]
fn reader_writes_a_stream_to_stdout_with_and_without_the_index() {
    let host = Host::with_repository();
    let command = ["backup", "--name", "out", "--command", "--", "seq", "1", "500000"];
    host.backstay(command).run().expect_code(0);
    let expected = host.backstay(["cat", "latest"]).run().expect_code(0).stdout;
    for options in [&[][..], &["--no-index"]] {
        let found = reader(&host, &[options, &["cat", "latest:out"]].concat()).expect_code(0);
        assert!(found.stdout == expected);
    }
}

#[test]
fn reader_reads_every_golden_repository_as_the_binary_does() {
    for name in ["v1-one-epoch", "v1-two-epochs", "v1-writers-key", "v1-frozen"] {
        let host = Host::new();
        let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("golden").join(name);
        shell(&host.path(""), &format!("cp -r '{}' repository", golden.display()));
        let snapshots = host.snapshots();
        assert!(snapshots.len() > 2, "{name}");
        for snapshot in &snapshots {
            let id = snapshot["id"].as_str().expect("an id");
            let (ours, theirs) = (host.path(&format!("ours-{id}")), host.path(&format!("theirs-{id}")));
            host.backstay(["restore", id, "--target"]).arg(&ours).run().expect_code(0);
            reader(&host, &["restore", id, theirs.to_str().expect("a plain path")]).expect_code(0);
            let (mut theirs, mut ours) = (listing_of(&theirs), listing_of(&ours));
            // The target itself, which is no part of a snapshot of streams.
            theirs.remove(&b""[..]);
            ours.remove(&b""[..]);
            assert_same(&theirs, &ours);
        }
    }
}
