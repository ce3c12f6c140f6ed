//! Which password or key file is tried on which repository, what it may do there, and that it opens one key alone.
//!
//! Invariant: what belongs to one repository is never tried on another that has its own.
//! Never here: credentials that are missing, exposed or short (see `bad_input`).

use std::path::Path;
use std::process::Command;

use harness::binary::{Host, Run as _, noise};

/// A command without what the environment of a host says of repositories.
fn bare(host: &Host, words: &[&str]) -> Command {
    let mut command = host.backstay(words);
    command.current_dir(host.path("")).env_remove("BACKSTAY_REPOSITORY").env_remove("BACKSTAY_PASSWORD_FILE");
    command
}

/// A host with two repositories in its configuration, each with a password of its own.
fn with_two() -> Host {
    let host = Host::with_repository();
    host.write_secret("far-password", "quite another");
    host.write("tree/file", "x");
    let folder = host.path("");
    let folder = folder.display().to_string();
    let folder = folder.trim_end_matches('/');
    host.write(
        "backstay.toml",
        format!(
            "[repositories.near]\nurl = \"{folder}/repository\"\npassword_file = \"{folder}/password\"\n\
             [repositories.far]\nurl = \"{folder}/far\"\npassword_file = \"{folder}/far-password\"\n\
             [sources.tree]\nkind = \"files\"\npaths = [\"{folder}/tree\"]\n\
             [jobs.nightly]\nrepository = \"far\"\nsources = [\"tree\"]\n"
        ),
    );
    bare(&host, &["init", "-r", "far"]).run().expect_code(0);
    host
}

#[test]
fn password_of_the_environment_is_not_tried_on_a_repository_that_was_chosen_by_its_name() {
    let host = with_two();
    let near = host.path("password");
    let of_near = |words: &[&str]| {
        let mut command = bare(&host, words);
        command.env("BACKSTAY_PASSWORD_FILE", &near);
        command
    };
    of_near(&["snapshots", "-r", "far"]).run().expect_code(0);
    of_near(&["run", "nightly"]).run().expect_code(0);
    // An option says it for this very command.
    let mut wrong = of_near(&["snapshots", "-r", "far", "--password-file"]);
    wrong.arg(&near).run().expect_code(2).says(&["no key of the repository"]);
    // What the environment says of both belongs together.
    let mut both = of_near(&["snapshots"]);
    both.env("BACKSTAY_REPOSITORY", "far").run().expect_code(2).says(&["no key of the repository"]);
    let mut other = of_near(&["snapshots", "-r", "far"]);
    other.env("BACKSTAY_REPOSITORY", host.repository()).run().expect_code(0);
    // A location is not a name.
    let place = host.path("far").display().to_string();
    of_near(&["snapshots", "-r", &place]).run().expect_code(2).says(&["no key of the repository"]);
    let mut copy = of_near(&["copy", "-r", "far", "--to", "near"]);
    copy.env("BACKSTAY_TO_PASSWORD_FILE", host.path("far-password")).run().expect_code(0);
}

#[test]
fn password_of_the_environment_is_tried_on_the_only_repository_of_the_configuration() {
    let host = Host::with_repository();
    host.write_secret("other", "quite another");
    let folder = host.path("");
    let folder = folder.display().to_string();
    let folder = folder.trim_end_matches('/');
    let entry = |secret: &str| {
        format!("[repositories.main]\nurl = \"{folder}/repository\"\npassword_file = \"{folder}/{secret}\"\n")
    };
    host.write("backstay.toml", entry("other"));
    bare(&host, &["snapshots"]).run().expect_code(2).says(&["no key of the repository"]);
    bare(&host, &["snapshots"]).env("BACKSTAY_PASSWORD_FILE", host.path("password")).run().expect_code(0);
}

/// Adds a key of this role; `option` says what opens it.
fn add(host: &Host, role: &str, option: &str, file: &Path) -> Command {
    let mut command = host.backstay(["key", "add", "--role", role, option]);
    command.arg(file);
    command
}

#[test]
fn password_or_key_file_that_opens_a_key_is_given_to_no_other() {
    let host = Host::with_repository();
    let key = host.write_secret("a.key", noise("a", 64));
    let added = add(&host, "writer", "--new-key-file", &key).run().expect_code(0);
    let id = added.stderr.split(' ').find(|word| word.len() == 8).expect("an id").to_owned();
    let used = ["this key file opens the writer key", &id, "hint:"];
    add(&host, "reader", "--new-key-file", &key).run().expect_code(2).says(&used);
    let own = host.path("password");
    let used = ["this password opens the owner key"];
    add(&host, "writer", "--new-password-file", &own).run().expect_code(2).says(&used);
    let mut change = host.backstay(["key", "passwd", "--new-password-file"]);
    change.arg(&own).env_remove("BACKSTAY_PASSWORD_FILE").arg("--key-file").arg(&key);
    change.run().expect_code(2).says(&used);
    // A key whose first copy is lost counts too.
    std::fs::remove_dir_all(host.repository().join("keys")).expect("removes");
    add(&host, "reader", "--new-key-file", &key).run().expect_code(2).says(&["opens the writer key"]);
}

#[test]
fn role_that_is_needed_is_named_with_the_way_to_a_key_of_it() {
    let host = Host::with_repository();
    let file = host.write("tree/file", "x");
    host.back_up(&[&file]);
    let key = host.write_secret("writer.key", noise("writer", 64));
    add(&host, "writer", "--new-key-file", &key).run().expect_code(0);
    let by_writer = |words: &[&str]| {
        let mut command = host.backstay(words);
        command.env_remove("BACKSTAY_PASSWORD_FILE").arg("--key-file").arg(&key).run()
    };
    for (words, role) in [
        (&["prune"][..], "maintenance"),
        (&["forget", "--keep-last", "1"], "maintenance"),
        (&["hold", "latest"], "maintenance"),
        (&["ls", "latest"], "reader"),
        (&["cat", "latest:/x"], "reader"),
    ] {
        let way = format!("key add --role {role}");
        by_writer(words).expect_code(2).says(&["a writer key cannot", "use the owner's key or one of role", &way]);
    }
    by_writer(&["key", "rotate"]).expect_code(2).says(&["only the owner's key may do this"]);
    by_writer(&["check", "--read-data"]).expect_code(0).says(&["the owner's key or one of role reader opens it"]);
}
