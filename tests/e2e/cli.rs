//! The command line as people and programs see it: words on stdout and stderr, exit codes, silence, colours.
//!
//! What differs from run to run is replaced by a name in brackets, and clock and randomness are replayed.

use std::cell::Cell;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::process::Command;

use harness::binary::{Host, Ran, Run as _, binary, noise, shell};

/// 2026-11-19 11:06:40 UTC.
const STARTED_AT: u64 = 1_795_086_400;
const HOUR: u64 = 3600;

/// What a person typed and saw.
struct Session {
    host: Host,
    /// Commands so far: each has an hour and a seed of its own.
    count: Cell<u64>,
    transcript: String,
}

impl Session {
    fn new() -> Self {
        Self { host: Host::new(), count: Cell::new(0), transcript: String::new() }
    }

    /// A command an hour after the one before, as it would be on a host called `web1`.
    fn command(&self, words: &[&str]) -> Command {
        let at = self.count.get();
        self.count.set(at + 1);
        let mut command = self.host.backstay(words);
        command.current_dir(self.host.path("")).env("BACKSTAY_REPLAY", format!("{}:{at}", STARTED_AT + at * HOUR));
        command
    }

    /// Types a command and notes what is seen.
    fn types(&mut self, words: &[&str]) -> Ran {
        let ran = self.command(words).run();
        self.transcript.push_str(&format!("$ backstay {}\n", words.join(" ")));
        self.transcript.push_str(ran.text());
        for line in ran.stderr.lines() {
            self.transcript.push_str(&format!("! {line}\n"));
        }
        self.transcript.push_str(&format!("= {}\n\n", ran.code.unwrap_or(-1)));
        ran
    }
}

/// Compares a text with its recorded form.
fn assert_recorded(name: &str, host: &Host, text: &str) {
    let host_name = shell("/".as_ref(), "uname -n").trim().to_owned();
    let folder = host.path("").display().to_string();
    let text = text.replace(folder.trim_start_matches('/').trim_end_matches('/'), "[HOST]");
    let text = text.replace(&format!(" {host_name} "), " [NAME] ");
    let mut settings = insta::Settings::clone_current();
    settings.set_prepend_module_to_snapshot(false);
    settings.set_omit_expression(true);
    settings.add_filter("[0-9a-f]{64}", "[OBJECT]");
    settings.add_filter("[0-9a-f]{32}", "[ID]");
    settings.add_filter(r"\b[0-9a-f]{8}\b", "[SHORT]");
    settings.add_filter(r"in [0-9.]+ (s|min|h)\b", "in [DURATION]");
    // The folders that lead to the tree belong to the machine, and change meanwhile.
    settings.add_filter(r"[0-9.,]+ (B|KiB|MiB) (stored|read)", "[LEN] $2");
    settings.add_filter(r"[0-9]+ (packs|chunks)\b", "[COUNT] $1");
    settings.add_filter(r"New +Stored +Took", "New  Stored  Took");
    // What was stored, and how long it took: two columns of a list of snapshots.
    settings.add_filter(r"(?m) +[0-9.]+ (?:B|KiB) +[0-9.]+ s(  yearly.*|)$", "  [LEN]  [DURATION]$1");
    settings.add_filter(r"    1 +\d+ +[0-9.]+ KiB", "    1  [COUNT] [LEN]");
    settings.bind(|| insta::assert_snapshot!(name, text));
}

#[test]
fn everyday_commands_say_what_they_did() {
    let mut session = Session::new();
    session.host.write("tree/etc/hosts", "127.0.0.1 localhost\n");
    session.host.write("tree/etc/motd", "welcome\n");
    session.host.write("tree/var/log", noise("log", 300_000));
    for words in [
        &["init", "--label", "first"][..],
        &["init"],
        &["snapshots"],
        &["backup", "tree", "--source", "www", "--host", "web1", "--tag", "nightly"],
        &["backup", "tree", "--source", "www", "--host", "web1"],
        &["backup", "tree", "--source", "www", "--dry-run", "--host", "web1"],
        &["backup", "--host", "db1", "--name", "shop.sql", "--command", "--", "echo", "select 1;"],
        &["backup", "--host", "db1", "--name", "shop.sql", "--command", "--", "sh", "-c", "echo oops >&2; exit 1"],
        &["snapshots"],
        &["snapshots", "--host", "db1"],
        &["cat", "latest"],
        &["cat", "latest:nothing"],
        &["ls", "latest", "--host", "web1"],
        &["restore", "latest", "--host", "web1", "--target", "restored"],
        &["restore", "latest", "--host", "web1", "--target", "restored", "--verify"],
        &["restore", "latest", "--host", "web1", "--target", "restored", "--dry-run"],
        &["check"],
        &["check", "--read-data"],
        &["key", "status"],
        &["cache", "clear"],
    ] {
        session.types(words);
    }
    assert_recorded("everyday", &session.host, &session.transcript);
}

#[test]
fn mistakes_in_the_command_line_are_explained() {
    let mut session = Session::new();
    for words in [
        &["backups"][..],
        &["backup"],
        &["backup", "--stdin"],
        &["backup", "--command", "--name", "x"],
        &["restore", "latest"],
        &["restore", "/etc/hosts", "--target", "x"],
        &["restore", "latest", "--target", "x", "--yes"],
        &["backup", ".", "--compression", "99"],
        &["backup", ".", "--exclude-larger-than", "big"],
        &["snapshots", "--limit-upload", "0"],
        &["check", "--read-data-subset", "9/7"],
    ] {
        assert_eq!(session.types(words).code, Some(2));
    }
    assert_recorded("mistakes", &session.host, &session.transcript);
}

/// The commands that `--help` of a command lists.
fn commands_below(host: &Host, words: &[String]) -> Vec<String> {
    let help = host.backstay(words).arg("--help").run().expect_code(0);
    let listed = help.text().split("\nCommands:\n").nth(1).unwrap_or_default();
    let listed = listed.lines().take_while(|line| !line.is_empty()).filter(|line| line.starts_with("  "));
    let names = listed.filter_map(|line| line.strip_prefix("  ").filter(|rest| !rest.starts_with(' ')));
    let names = names.filter_map(|line| line.split_whitespace().next()).filter(|name| *name != "help");
    names.map(str::to_owned).collect()
}

/// All commands, each as its words.
pub(crate) fn every_command(host: &Host) -> Vec<Vec<String>> {
    let (mut found, mut todo) = (Vec::new(), vec![Vec::new()]);
    while let Some(words) = todo.pop() {
        for name in commands_below(host, &words) {
            todo.push([words.clone(), vec![name]].concat());
        }
        found.push(words);
    }
    found.sort();
    found
}

#[test]
fn help_of_every_command_is_as_recorded() {
    let host = Host::new();
    let commands = every_command(&host);
    assert!(commands.len() > 15, "{commands:?}");
    for words in commands {
        let long = host.backstay(&words).arg("--help").run().expect_code(0);
        assert_eq!(long.stderr, "");
        assert!(long.text().contains("Usage: backstay"), "{long}");
        let name = format!("help {}", words.join(" ")).trim().replace(' ', "-");
        assert_recorded(&name, &host, long.text());
        let short = host.backstay(&words).arg("-h").run().expect_code(0);
        assert!(short.text().len() <= long.text().len(), "{short}");
    }
}

#[test]
fn version_is_told_and_no_command_at_all_shows_help() {
    let host = Host::new();
    let version = host.backstay(["--version"]).run().expect_code(0);
    assert_eq!(version.text(), format!("backstay {}\n", env!("CARGO_PKG_VERSION")));
    let bare = host.backstay::<&str>([]).run().expect_code(2);
    bare.says(&["Usage: backstay", "init", "backup", "restore"]);
}

#[test]
fn quiet_says_nothing_but_results_and_errors() {
    let host = Host::new();
    host.write("tree/file", "content");
    let (tree, target) = (host.path("tree").display().to_string(), host.path("target").display().to_string());
    for words in [
        &["init", "-q"][..],
        &["backup", "-q", &tree],
        &["restore", "-q", "latest", "--target", &target],
        &["check", "-q", "--read-data"],
        &["cache", "clear", "-q"],
    ] {
        let ran = host.backstay(words).run().expect_code(0);
        assert_eq!((ran.text(), ran.stderr.as_str()), ("", ""), "{ran}");
    }
    let found = host.backstay(["cat", "-q", &format!("latest:{tree}/file")]).run().expect_code(0);
    assert_eq!((found.text(), found.stderr.as_str()), ("content", ""));
    host.backstay(["-q", "cat", "latest:nothing"]).run().expect_code(2).says(&["error:"]);
}

/// What a command shows on a terminal.
fn on_a_terminal(command: &Command) -> String {
    let quoted = std::iter::once(command.get_program()).chain(command.get_args());
    let quoted: Vec<_> = quoted.map(|word| format!("'{}'", word.to_string_lossy())).collect();
    let mut script = Command::new("script");
    script.args(["-qec", &quoted.join(" "), "/dev/null"]).env_clear();
    script.envs(command.get_envs().filter_map(|(name, value)| Some((name, value?)))).env("TERM", "xterm-256color");
    script.run().text().to_owned()
}

#[test]
fn colours_are_for_terminals_that_want_them() {
    let host = Host::with_repository();
    let command = host.backstay(["cat", "latest:nothing"]);
    assert!(on_a_terminal(&command).contains("\u{1b}["), "{}", on_a_terminal(&command));
    let mut plain = host.backstay(["cat", "latest:nothing"]);
    plain.env("NO_COLOR", "1");
    let shown = on_a_terminal(&plain);
    assert!(shown.contains("error:") && !shown.contains("\u{1b}[3"), "{shown}");
    let ran = host.backstay(["cat", "latest:nothing"]).run().expect_code(2);
    assert!(!ran.stderr.contains('\u{1b}'), "{ran}");
}

#[test]
fn progress_is_shown_on_terminals_only() {
    let host = Host::with_repository();
    host.write("tree/file", noise("file", 8 << 20));
    let tree = host.path("tree");
    let back_up = |options: &[&str]| {
        let mut command = host.backstay(["backup", "--force"]);
        command.arg(&tree).args(options);
        command
    };
    assert!(on_a_terminal(&back_up(&[])).contains("entries"));
    let hidden = on_a_terminal(&back_up(&["--no-progress"]));
    assert_eq!(hidden.lines().count(), 1, "{hidden:?}");
    let ran = back_up(&[]).run().expect_code(0);
    assert!(ran.stderr.starts_with("snapshot ") && ran.stderr.lines().count() == 1, "{ran}");
}

#[test]
fn reader_that_has_seen_enough_is_no_failure() {
    let host = Host::with_repository();
    host.write("tree/large", noise("large", 16 << 20));
    for at in 0..3000 {
        host.write(&format!("tree/many/{at:0>200}"), "");
    }
    let tree = host.path("tree");
    host.back_up(&[&tree]);
    for words in [format!("ls -l latest:{}", tree.display()), format!("cat latest:{}/large", tree.display())] {
        let words: Vec<&str> = words.split(' ').collect();
        let command = host.backstay(words);
        let script = "\"$0\" \"$@\" | head -c 10 | wc -c; echo ${PIPESTATUS[0]}";
        let mut shell = Command::new("bash");
        shell.args(["-c", script]).arg(binary()).args(command.get_args());
        shell.env_clear().envs(command.get_envs().filter_map(|(name, value)| Some((name, value?))));
        let ran = shell.run().expect_code(0);
        assert_eq!((ran.text(), ran.stderr.as_str()), ("10\n0\n", ""), "{ran}");
    }
}

#[test]
fn full_disk_behind_stdout_is_a_failure() {
    let host = Host::with_repository();
    host.write("file", noise("file", 1 << 20));
    host.back_up(&[&host.path("file")]);
    let mut cat = host.backstay(["cat", &format!("latest:{}", host.path("file").display())]);
    cat.stdout(fs::File::options().write(true).open("/dev/full").expect("a full disk"));
    cat.run().expect_code(2).says(&["standard output cannot be written", "No space left"]);
}

#[test]
fn snapshots_are_named_by_latest_by_time_and_by_the_start_of_their_ids() {
    let session = Session::new();
    session.command(&["init"]).run().expect_code(0); // at 11:06
    for (hour, host) in [(12, "web1"), (13, "web2"), (14, "web1")] {
        session.host.write("file", hour.to_string());
        session.command(&["backup", "file", "--host", host]).run().expect_code(0); // at 12:06, 13:06, 14:06
    }
    let path = session.host.path("file").display().to_string();
    let snapshots = session.host.snapshots();
    let shown = |words: &[&str]| session.host.backstay(words).run().expect_code(0).text().to_owned();
    let latest = format!("latest:{path}");
    assert_eq!(shown(&["cat", &latest]), "14");
    assert_eq!(shown(&["cat", &latest, "--host", "web2"]), "13");
    let only = format!(":{path}");
    assert_eq!(shown(&["cat", "--at", "2026-11-19", &only]), "14");
    assert_eq!(shown(&["cat", "--at", "2026-11-19 14:00", &only]), "13");
    assert_eq!(shown(&["cat", "--at", "2026-11-19 13:06", &only]), "13");
    assert_eq!(shown(&["cat", "--at", "2026-11-19T14:30:00+02:00", &only]), "12");
    assert_eq!(shown(&["cat", "--at", "2026-11-19 14:00", "--host", "web1", &only]), "12");
    for (snapshot, content) in snapshots.iter().zip(["12", "13", "14"]) {
        let id = snapshot["id"].as_str().expect("an id");
        for name in [id, &id[..12], &id[..8], &id[..8].to_uppercase()] {
            assert_eq!(shown(&["cat", &format!("{name}:{path}")]), content);
        }
    }
    let both = session.host.backstay(["cat", "--at", "yesterday", &latest]).run();
    both.expect_code(2).says(&["--at", "hint:"]);
}

#[test]
fn completions_are_scripts_that_their_shells_can_read() {
    let host = Host::new();
    for name in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let script = host.backstay(["completions", name]).run().expect_code(0);
        assert!(script.text().contains("restore") && script.text().contains("password-file"), "{name}");
        assert_eq!(script.stderr, "");
    }
    let script = host.backstay(["completions", "bash"]).run().expect_code(0);
    let file = host.write("completions", script.stdout);
    let try_it = format!(
        "set +u; source {}; COMP_WORDS=(backstay rest); COMP_CWORD=1; _backstay backstay rest backstay; echo ${{COMPREPLY[*]}}",
        file.display()
    );
    assert_eq!(shell("/".as_ref(), &try_it), "restore\n");
}

#[test]
fn every_command_has_a_manual_page() {
    let host = Host::new();
    let folder = host.path("man");
    host.backstay(["man"]).arg(&folder).run().expect_code(0);
    for words in every_command(&host) {
        let name = std::iter::once("backstay".to_owned()).chain(words).collect::<Vec<_>>().join("-");
        let page =
            fs::read_to_string(folder.join(format!("{name}.1"))).unwrap_or_else(|error| panic!("{name}: {error}"));
        assert!(page.contains(".TH") && page.contains("SYNOPSIS"), "{name}");
    }
}

#[test]
fn cache_is_closed_to_others() {
    let host = Host::with_repository();
    host.write("file", "content");
    host.back_up(&[&host.path("file")]);
    let mode = fs::metadata(host.path("cache")).expect("the cache").permissions().mode();
    assert_eq!(mode & 0o077, 0, "{mode:o}");
}
