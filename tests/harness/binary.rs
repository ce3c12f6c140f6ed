//! The real binary, run as a user of a freshly installed host would run it.
//!
//! ```text
//! Host (temporary folder)
//!   home/  cache/  password  repository/        what the environment of every command names
//! Host::backstay ─► Command ─► Run::run ─► Ran { code, stdout, stderr }
//! ```
//!
//! The binary is `BACKSTAY_BIN`, or the one beside the test's own folder. Cargo builds no binary for a test of another
//! package, so `cargo build -p backstay-cli` comes first; `scripts/test.sh` sees to it.
//!
//! Invariant: nothing of the caller's environment reaches the binary but `PATH`.
//! Invariant: a missing binary fails the test; it never passes unseen.
//! Never here: what a test expects.

use std::ffi::{OsStr, OsString};
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::OnceLock;

use serde_json::Value;
use tempfile::TempDir;

use crate::shapes::Shapes;

/// The password of every host's repository.
pub const PASSWORD: &str = "correct horse battery staple";

/// A folder that stands for a machine of its own; gone when dropped.
#[derive(Debug)]
pub struct Host {
    folder: TempDir,
    variables: Vec<(&'static str, OsString)>,
}

/// How a command ended and what it printed.
#[derive(Debug)]
pub struct Ran {
    /// The command line, for messages.
    line: String,
    /// The command of ours that it is, if it prints documents that docs/JSON.md describes.
    command: Option<String>,
    /// None if a signal ended it.
    pub code: Option<i32>,
    /// Data.
    pub stdout: Vec<u8>,
    /// For people.
    pub stderr: String,
}

/// Runs a command to its end.
pub trait Run {
    /// Runs it and collects what it prints.
    fn run(&mut self) -> Ran;
}

impl Host {
    /// A host without a repository.
    #[must_use]
    pub fn new() -> Self {
        // Recorded output shows what leads here, so it is the same place on every machine.
        let folder = TempDir::with_prefix_in("backstay-e2e-", "/tmp").expect("a temporary folder");
        let host = Self { folder, variables: Vec::new() };
        fs::create_dir(host.path("home")).expect("a home folder");
        host.write_secret("password", format!("{PASSWORD}\n"));
        host
    }

    /// A host whose repository was just made.
    #[must_use]
    pub fn with_repository() -> Self {
        let host = Self::new();
        host.backstay(["init"]).run().expect_code(0);
        host
    }

    /// The same host with a variable more in the environment of each command.
    #[must_use]
    pub fn with(mut self, name: &'static str, value: impl Into<OsString>) -> Self {
        self.variables.push((name, value.into()));
        self
    }

    /// A path within the host's folder.
    #[must_use]
    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Where the repository is unless a command says otherwise.
    #[must_use]
    pub fn repository(&self) -> PathBuf {
        self.path("repository")
    }

    /// The binary with the host's environment. Nothing is on its standard input.
    pub fn backstay<S: AsRef<OsStr>>(&self, args: impl IntoIterator<Item = S>) -> Command {
        let mut command = Command::new(binary());
        command.args(args).stdin(Stdio::null()).env_clear();
        command.env("PATH", std::env::var_os("PATH").unwrap_or_default());
        command.env("HOME", self.path("home")).env("LC_ALL", "C.UTF-8").env("TZ", "UTC");
        command.env("BACKSTAY_REPOSITORY", self.repository());
        command.env("BACKSTAY_PASSWORD_FILE", self.path("password"));
        command.env("BACKSTAY_CACHE_DIR", self.path("cache"));
        command.envs(self.variables.iter().cloned());
        command
    }

    /// Backs `roots` up, which must succeed wholly, and returns the report.
    pub fn back_up(&self, roots: &[&Path]) -> Value {
        self.backstay(["--json", "backup"]).args(roots).run().expect_code(0).json()
    }

    /// What is committed, oldest first.
    #[must_use]
    pub fn snapshots(&self) -> Vec<Value> {
        let listed = self.backstay(["--json", "snapshots"]).run().expect_code(0).json();
        listed.as_array().expect("a list of snapshots").clone()
    }

    /// Reads every stored byte, all of which must be right.
    pub fn check(&self) {
        self.backstay(["check", "--read-data"]).run().expect_code(0);
    }

    /// Writes a file that nobody else may read.
    pub fn write_secret(&self, name: &str, content: impl AsRef<[u8]>) -> PathBuf {
        let path = self.path(name);
        fs::write(&path, content).expect("the host's folder is writable");
        set_mode(&path, 0o600);
        path
    }

    /// Writes a file and the folders that lead to it.
    pub fn write(&self, name: &str, content: impl AsRef<[u8]>) -> PathBuf {
        let path = self.path(name);
        fs::create_dir_all(path.parent().expect("a path within the host")).expect("the host's folder is writable");
        fs::write(&path, content).expect("the host's folder is writable");
        path
    }
}

impl Default for Host {
    fn default() -> Self {
        Self::new()
    }
}

impl Run for Command {
    fn run(&mut self) -> Ran {
        let output = self.output().unwrap_or_else(|error| panic!("{self:?} does not start: {error}"));
        Ran::of(self, output)
    }
}

impl Ran {
    /// What `command` gave.
    #[must_use]
    pub fn of(command: &Command, output: Output) -> Self {
        let words = std::iter::once(command.get_program()).chain(command.get_args());
        let line = words.map(OsStr::to_string_lossy).collect::<Vec<_>>().join(" ");
        let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
        Self { line, command: documented(command), code: output.status.code(), stdout: output.stdout, stderr }
    }

    /// Fails unless the exit code is this one.
    #[track_caller]
    #[allow(clippy::return_self_not_must_use)]
    pub fn expect_code(self, code: i32) -> Self {
        assert_eq!(self.code, Some(code), "{self}");
        self
    }

    /// Fails unless stderr holds each of these texts.
    #[track_caller]
    #[allow(clippy::return_self_not_must_use)]
    pub fn says(self, texts: &[&str]) -> Self {
        for text in texts {
            assert!(self.stderr.contains(text), "stderr lacks {text:?}: {self}");
        }
        self
    }

    /// Stdout as text.
    #[must_use]
    pub fn text(&self) -> &str {
        std::str::from_utf8(&self.stdout).expect("text on stdout")
    }

    /// Stdout as one JSON document, which is just as docs/JSON.md says where that describes it.
    #[track_caller]
    #[must_use]
    pub fn json(&self) -> Value {
        let document =
            serde_json::from_slice(&self.stdout).unwrap_or_else(|error| panic!("no JSON on stdout ({error}): {self}"));
        self.has_its_shape(&document);
        document
    }

    /// Stdout as JSON documents, one a line, each of them just as docs/JSON.md says where that describes it.
    #[track_caller]
    #[must_use]
    pub fn json_lines(&self) -> Vec<Value> {
        let lines = self.text().lines().map(serde_json::from_str);
        let lines = lines.map(|line| line.unwrap_or_else(|error| panic!("no JSON ({error}): {self}")));
        lines.inspect(|document| self.has_its_shape(document)).collect()
    }

    /// Stderr as the one document that an error is, just as docs/JSON.md says.
    #[track_caller]
    #[must_use]
    pub fn json_error(&self) -> Value {
        let error = serde_json::from_str(&self.stderr).unwrap_or_else(|error| panic!("no JSON ({error}): {self}"));
        let fault = Shapes::documented().fault("error", &error);
        assert!(fault.is_none(), "not as docs/JSON.md has it: {}: {self}", fault.unwrap_or_default());
        error
    }

    #[track_caller]
    fn has_its_shape(&self, document: &Value) {
        let fault = self.command.as_ref().and_then(|command| Shapes::documented().fault(command, document));
        assert!(fault.is_none(), "not as docs/JSON.md has it: {}: {self}", fault.unwrap_or_default());
    }
}

impl std::fmt::Display for Ran {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let code = self.code.map_or("by a signal".to_owned(), |code| code.to_string());
        let stdout = String::from_utf8_lossy(self.stdout.get(..self.stdout.len().min(2000)).unwrap_or_default());
        write!(f, "{} ended {code}\nstdout: {stdout}\nstderr: {}", self.line, self.stderr)
    }
}

/// The command among the words of a command line of ours, if docs/JSON.md has a shape of that name.
fn documented(command: &Command) -> Option<String> {
    if command.get_program() != binary() {
        return None;
    }
    let words: Vec<_> = command.get_args().map(OsStr::to_string_lossy).collect();
    let pairs = words.windows(2).map(|pair| pair.join(" "));
    let named: Vec<String> = pairs.chain(words.iter().map(ToString::to_string)).collect();
    named.into_iter().find(|name| Shapes::documented().commands().contains(name))
}

/// The binary under test.
///
/// # Panics
///
/// If it is not built.
pub fn binary() -> &'static Path {
    static BINARY: OnceLock<PathBuf> = OnceLock::new();
    BINARY.get_or_init(|| {
        let named = std::env::var_os("BACKSTAY_BIN").map(PathBuf::from);
        let binary = named.unwrap_or_else(|| {
            let test = std::env::current_exe().expect("a test knows where it is");
            test.ancestors().nth(2).expect("tests lie in deps/").join("backstay")
        });
        assert!(binary.exists(), "{} is missing: run cargo build -p backstay-cli first", binary.display());
        binary
    })
}

/// Sets a path's permissions.
pub fn set_mode(path: &Path, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).expect("the host's own files");
}

/// Runs a shell script in `folder`, which must succeed; returns what it printed.
pub fn shell(folder: &Path, script: &str) -> String {
    let ran = Command::new("bash").args(["-euo", "pipefail", "-c", script]).current_dir(folder).run().expect_code(0);
    ran.text().to_owned()
}

/// Whether the tests run as root: then more can be tried.
#[must_use]
pub fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// Ends a test of what only root can try, if we are not root: what was not tried has not passed.
#[track_caller]
pub fn need_root() {
    assert!(is_root(), "only root can try this: run the tests as root, or leave this one out by name");
}

/// `len` bytes that look random and are the same for the same name.
#[must_use]
pub fn noise(name: &str, len: usize) -> Vec<u8> {
    let mut bytes = vec![0; len];
    blake3::Hasher::new().update(name.as_bytes()).finalize_xof().fill(&mut bytes);
    bytes
}
