//! Documents of every command, as docs/JSON.md has them: nothing more, nothing less.
//!
//! Invariant: a command that has no shape there fails this suite, unless it is said to print none.
//! Never here: what the figures in them mean; each command's own suite says that.

use std::collections::BTreeSet;
use std::io::{BufRead as _, BufReader};
use std::process::{Command, Output, Stdio};

use harness::binary::{Host, Ran, Run as _, noise};
use harness::shapes::Shapes;
use serde_json::Value;

use crate::cli::every_command;

/// Commands without a document of their own.
const SILENT: [&str; 7] = ["browse", "cat", "completions", "config init", "config schema", "dump", "mount"];

/// A repository whose owner holds a key file, which opens at once, and a configuration with jobs of every outcome.
struct Everything {
    host: Host,
    ran: BTreeSet<String>,
}

impl Everything {
    fn new() -> Self {
        let host = Host::new();
        host.write("tree/file", "content");
        host.write("tree/sub/other", "content");
        for key in ["key", "writer", "next", "copy"] {
            host.write_secret(key, noise(key, 64));
        }
        let [repository, copy] = ["repository", "copy-repository"].map(|name| host.path(name).display().to_string());
        let [key, copy_key] = ["key", "copy"].map(|name| host.path(name).display().to_string());
        let python = "import sqlite3; sqlite3.connect('app.db').execute('create table t (a)')";
        Command::new("python3").args(["-c", python]).current_dir(host.path("")).run().expect_code(0);
        host.write(
            "backstay.toml",
            format!(
                "[repositories.main]\nurl = \"{repository}\"\nkey_file = \"{key}\"\n[repositories.copy]\nurl = \"{copy}\"\n\
                 key_file = \"{copy_key}\"\n[sources.tree]\nkind = \"files\"\npaths = [\"tree\"]\n\
                 [sources.app]\nkind = \"sqlite\"\npath = \"app.db\"\n\
                 [sources.dies]\nkind = \"command\"\ncommand = [\"sh\", \"-c\", \"echo half; exit 3\"]\n\
                 [jobs.part]\nrepository = \"main\"\nsources = [\"tree\", \"app\", \"dies\"]\ncopy_to = [\"copy\"]\n\
                 [jobs.tree]\nrepository = \"main\"\nsources = [\"tree\"]\nschedule = \"@daily\"\n\
                 [sources.gone]\nkind = \"sqlite\"\npath = \"gone.db\"\n\
                 [jobs.nothing]\nrepository = \"main\"\nsources = [\"dies\", \"gone\"]\n"
            ),
        );
        Self { host, ran: BTreeSet::new() }
    }

    fn command(&self, words: &[&str]) -> Command {
        let mut command = self.host.backstay(words);
        command.current_dir(self.host.path("")).arg("--json");
        command.env_remove("BACKSTAY_PASSWORD_FILE").env_remove("BACKSTAY_REPOSITORY");
        if !matches!(words, ["run" | "watch" | "config", ..]) {
            command.args(["-r", "main"]);
        }
        command
    }

    fn run(&mut self, words: &[&str], code: i32) -> Ran {
        let ran = self.command(words).run().expect_code(code);
        self.note(words);
        ran
    }

    fn note(&mut self, words: &[&str]) {
        let names = [words.get(..2).unwrap_or_default().join(" "), words[0].to_owned()];
        let name = names.into_iter().find(|name| Shapes::documented().commands().contains(name));
        self.ran.insert(name.unwrap_or_else(|| panic!("docs/JSON.md has no shape of {words:?}")));
    }

    /// The one document that a command which succeeds prints. Only what changes snapshots tells people of it as well.
    fn one(&mut self, words: &[&str]) -> Value {
        let ran = self.run(words, 0);
        let tells = matches!(words, ["rewrite" | "forget" | "undelete" | "prune", ..]);
        assert!((ran.stderr.is_empty() || tells) && ran.text().lines().count() == 1, "{ran}");
        ran.json()
    }

    /// The first document of a command that goes on, which is then ended.
    fn first(&mut self, words: &[&str]) -> Value {
        let mut command = self.command(words);
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().expect("it starts");
        let mut line = String::new();
        let read = BufReader::new(child.stdout.take().expect("a pipe")).read_line(&mut line);
        child.kill().expect("our own child");
        let status = child.wait().expect("our own child");
        assert!(read.is_ok_and(|len| len > 0), "it said nothing");
        self.note(words);
        Ran::of(&command, Output { status, stdout: line.into_bytes(), stderr: Vec::new() }).json()
    }
}

#[test]
fn json_of_every_command_has_the_documented_fields_and_no_others() {
    let mut all = Everything::new();
    let place = |name: &str| all.host.path(name).display().to_string();
    let (tree, copy, key, copy_key) = (place("tree"), place("copy-repository"), place("key"), place("copy"));
    let repository = place("repository");
    let init = all.host.backstay(["init", "--json", "--key-file", &key]).env_remove("BACKSTAY_PASSWORD_FILE").run();
    assert_eq!(init.expect_code(0).json()["location"], repository);
    all.note(&["init"]);
    let mut init = all.host.backstay(["init", "-r", &copy, "--key-file", &copy_key]);
    init.env_remove("BACKSTAY_PASSWORD_FILE").run().expect_code(0);

    let id = all.one(&["backup", &tree])["snapshot_id"].as_str().expect("an id").to_owned();
    assert_eq!(all.one(&["backup", &tree, "--dry-run"])["is_dry_run"], true);
    assert_eq!(all.run(&["run", "part"], 1).json()["components"][2]["state"], "failed");
    assert_eq!(all.run(&["run", "nothing"], 2).json_error()["components"][0]["name"], "dies");
    assert_eq!(all.first(&["watch", "tree"])["job"], "tree");
    let served = all.first(&["serve", "webdav", "--listen", "127.0.0.1:0"]);
    assert!(served["url"].as_str().is_some_and(|url| url.starts_with("http://127.0.0.1:")), "{served}");
    assert_eq!(all.one(&["snapshots"])[0]["id"], id.as_str());
    assert_eq!(all.one(&["report", "latest"])["source"], "tree");
    let listed = all.run(&["ls", &id], 0).json_lines();
    assert!(listed.len() > 4 && listed.iter().all(|entry| entry["path"].is_string()), "{listed:?}");
    assert_eq!(all.run(&["find", "file"], 0).json_lines()[0]["kind"], "file");
    assert!(all.one(&["versions", &format!("{tree}/file")]).as_array().is_some_and(|found| !found.is_empty()));
    assert!(all.run(&["diff", &id, "latest"], 0).json_lines().pop().is_some_and(|last| last["summary"].is_object()));
    assert_eq!(all.one(&["restore", &id, "--target", "target"])["snapshot_id"], id.as_str());
    assert_eq!(all.one(&["restore", &id, "--target", "target", "--dry-run"])["is_dry_run"], true);
    assert_eq!(all.one(&["restore", "latest", "app", "--source", "part", "--to", "restored.db"])["component"], "app");
    assert_eq!(all.one(&["restore", "latest", "app", "--source", "part", "--list"])["kind"], "sqlite");
    assert_eq!(all.one(&["copy", "--to", "copy"])["failed_count"], 0);
    assert_eq!(all.one(&["check", "--read-data"])["is_whole"], true);
    assert!(all.one(&["stats"])["stored_len"].as_u64() > Some(0));
    assert!(all.one(&["cat-object", &format!("snapshots/{id}")]).is_object());
    for words in [&["repair", "index"], &["repair", "packs"], &["repair", "snapshots"]] {
        all.one(words);
    }
    assert_eq!(all.one(&["hold", &id, "--reason", "audit"])[0]["held"]["reason"], "audit");
    assert_eq!(all.one(&["hold", &id, "--lift"])[0]["held"], Value::Null);
    let rewritten = all.one(&["rewrite", &id, "--exclude-path", &format!("{tree}/sub"), "--yes"]);
    assert!(rewritten["snapshots"][0]["replaced_by"].is_string(), "{rewritten}");
    let rewritten = rewritten["snapshots"][0]["replaced_by"].as_str().expect("an id").to_owned();
    assert_eq!(all.one(&["forget", "--keep-last", "100"])["done"], false);
    assert_eq!(all.one(&["forget", &rewritten, "--allow-last", "--yes"])["forgotten"], 1);
    assert!(!all.one(&["snapshots", "--forgotten"]).as_array().expect("a list").is_empty());
    assert!(all.one(&["undelete", &rewritten])[0]["id"].is_string());
    assert_eq!(all.run(&["prune"], 2).json()["done"], false);
    assert_eq!(all.one(&["prune", "--yes"])["done"], true);
    all.keys_and_cache();
    assert_eq!(all.run(&["config", "check", "--offline"], 1).json()["jobs"].as_array().map(Vec::len), Some(3));
    assert!(!all.run(&["config", "check"], 1).json()["checks"].as_array().expect("checks").is_empty());
    assert_eq!(all.one(&["config", "timers"])[0]["job"], "tree");

    let documented: BTreeSet<String> = Shapes::documented().commands().iter().cloned().collect();
    assert_eq!(all.ran, documented, "each command of docs/JSON.md was run");
    let there: BTreeSet<String> = every_command(&all.host).iter().map(|words| words.join(" ")).collect();
    let is_group = |name: &&String| there.iter().any(|other| other.starts_with(&format!("{name} "))) || name.is_empty();
    let leaves: BTreeSet<String> = there.iter().filter(|name| !is_group(name)).cloned().collect();
    let known: BTreeSet<String> = documented.into_iter().chain(SILENT.map(str::to_owned)).collect();
    assert_eq!(leaves, known, "each command has its shape in docs/JSON.md, or is said to print none");
}

impl Everything {
    fn keys_and_cache(&mut self) {
        let added = self.one(&["key", "add", "--role", "writer", "--label", "web1", "--new-key-file", "writer"]);
        let added = added["id"].as_str().expect("an id").to_owned();
        assert!(self.one(&["key", "list"]).as_array().is_some_and(|keys| keys.len() == 2));
        self.one(&["key", "status"]);
        self.one(&["key", "rotate"]);
        self.one(&["key", "remove", &added]);
        assert!(!self.one(&["cache", "info"])["caches"].as_array().expect("a list").is_empty());
        self.one(&["cache", "clear"]);
        self.one(&["key", "passwd", "--new-key-file", "next"]);
        std::fs::copy(self.host.path("next"), self.host.path("key")).expect("our own files");
    }
}

#[test]
fn json_errors_are_one_document_on_stderr() {
    let host = Host::new();
    for words in [&["snapshots"][..], &["restore", "latest"], &["no-such-command"]] {
        let ran = host.backstay(words).arg("--json").run().expect_code(2);
        assert_eq!(ran.text(), "");
        assert_eq!(ran.json_error()["exit_code"], 2);
    }
}
