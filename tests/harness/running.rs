//! The real binary while it runs: fed, watched and interrupted.
//!
//! Invariant: what is still running when a test ends is killed.
//! Never here: commands that simply run to their end (see `binary`).

use std::fs::{self, File};
use std::io::{Read as _, Write as _};
use std::path::Path;
use std::process::{Child, ChildStdin, Command, Output, Stdio};
use std::thread::sleep;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use tempfile::NamedTempFile;

use crate::binary::Ran;

/// How often something is looked at that is waited for.
const LOOK_EVERY: Duration = Duration::from_millis(5);
/// How often at most: two minutes, after which what is waited for will not come.
const LOOKS_MAX: u32 = 24_000;

/// A command that was started. What it prints goes to files, so that it never waits for us.
#[derive(Debug)]
pub struct Running {
    line: Command,
    child: Child,
    stdout: NamedTempFile,
    stderr: NamedTempFile,
    peak_len: u64,
}

impl Running {
    /// Starts `command`; `with_input` gives it a pipe for its standard input.
    #[must_use]
    pub fn start(mut command: Command, with_input: bool) -> Self {
        let file = || NamedTempFile::new().expect("a temporary file");
        let (stdout, stderr) = (file(), file());
        let handle = |file: &NamedTempFile| Stdio::from(file.reopen().expect("a temporary file"));
        command.stdout(handle(&stdout)).stderr(handle(&stderr));
        if with_input {
            command.stdin(Stdio::piped());
        }
        let child = command.spawn().unwrap_or_else(|error| panic!("{command:?} does not start: {error}"));
        Self { line: command, child, stdout, stderr, peak_len: 0 }
    }

    /// Feeds it; fails if it does not want any more.
    pub fn feed(&mut self, data: &[u8]) {
        let stdin: &mut ChildStdin = self.child.stdin.as_mut().expect("a pipe, and not closed yet");
        stdin.write_all(data).expect("the command reads its input");
        self.look();
    }

    /// Ends its input.
    pub fn end_input(&mut self) {
        drop(self.child.stdin.take());
    }

    /// Sends it a signal.
    pub fn signal(&self, signal: Signal) {
        let id = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw).expect("a process id");
        kill_process(id, signal).expect("the command runs");
    }

    /// Freezes it, and waits until none of its threads is in the middle of a call to the system; it may also have ended.
    pub fn freeze(&self) {
        self.signal(Signal::STOP);
        let tasks = format!("/proc/{}/task", self.child.id());
        for _ in 0..LOOKS_MAX {
            let states = fs::read_dir(&tasks).into_iter().flatten().flatten().map(|task| {
                let stat = fs::read_to_string(task.path().join("stat")).unwrap_or_default();
                stat.rsplit(") ").next().and_then(|rest| rest.chars().next()).unwrap_or('Z')
            });
            if states.into_iter().all(|state| matches!(state, 'T' | 'Z' | 'X')) {
                return;
            }
            sleep(LOOK_EVERY);
        }
        panic!("it does not stand still");
    }

    /// Whether it has ended.
    pub fn has_ended(&mut self) -> bool {
        self.child.try_wait().expect("our own child").is_some()
    }

    /// Waits until `what` holds, which must be before it ends.
    #[track_caller]
    pub fn wait_until(&mut self, what: &str, holds: impl Fn() -> bool) {
        for _ in 0..LOOKS_MAX {
            if holds() {
                return;
            }
            let ended = self.child.try_wait().expect("our own child");
            assert!(ended.is_none(), "it ended before {what}: {}", self.stderr_so_far());
            self.look();
            sleep(LOOK_EVERY);
        }
        panic!("waited in vain for {what}: {}", self.stderr_so_far());
    }

    /// Waits until it has said `text` on stderr.
    #[track_caller]
    pub fn wait_to_hear(&mut self, text: &str) {
        let said = self.stderr.path().to_owned();
        self.wait_until(text, || fs::read_to_string(&said).unwrap_or_default().contains(text));
    }

    /// What it has written to stderr.
    #[must_use]
    pub fn stderr_so_far(&self) -> String {
        String::from_utf8_lossy(&fs::read(self.stderr.path()).expect("a temporary file")).into_owned()
    }

    /// Where what it writes to stdout is.
    #[must_use]
    pub fn stdout_path(&self) -> &Path {
        self.stdout.path()
    }

    /// Where what it writes to stderr is.
    #[must_use]
    pub fn stderr_path(&self) -> &Path {
        self.stderr.path()
    }

    /// Sends it a signal and waits for its end. Returns how it ended, and the most memory it held, in bytes.
    pub fn end(mut self, signal: Signal) -> (Ran, u64) {
        self.look();
        self.signal(signal);
        let (ran, peak_len) = self.finish();
        assert!(peak_len > 0, "its memory was seen");
        (ran, peak_len)
    }

    /// Waits for its end. Returns how it ended, and the most memory it held, in bytes.
    pub fn finish(mut self) -> (Ran, u64) {
        let status = loop {
            if let Some(status) = self.child.try_wait().expect("our own child") {
                break status;
            }
            self.look();
            sleep(LOOK_EVERY);
        };
        let read = |file: &NamedTempFile| {
            let mut bytes = Vec::new();
            File::open(file.path()).and_then(|mut file| file.read_to_end(&mut bytes)).expect("a temporary file");
            bytes
        };
        let output = Output { status, stdout: read(&self.stdout), stderr: read(&self.stderr) };
        (Ran::of(&self.line, output), self.peak_len)
    }

    /// Notes the most memory that it has held so far, as the system counts it.
    fn look(&mut self) {
        self.peak_len = self.peak_len.max(peak_of(self.child.id()));
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // It may have ended by itself; either way it is gone afterwards.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// The peak of a process's resident memory, in bytes; 0 once it has ended.
fn peak_of(process: u32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{process}/status")).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let kib = line.and_then(|line| line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok());
    kib.unwrap_or(0) * 1024
}

/// Whether a process runs, and has not ended without being waited for.
#[must_use]
pub fn is_running(process: &str) -> bool {
    let stat = fs::read_to_string(Path::new("/proc").join(process.trim()).join("stat")).unwrap_or_default();
    stat.rsplit(") ").next().is_some_and(|rest| !rest.is_empty() && !rest.starts_with('Z'))
}

/// How many files there are below a folder.
#[must_use]
pub fn file_count(folder: &Path) -> usize {
    let Ok(entries) = fs::read_dir(folder) else { return 0 };
    let count = |entry: fs::DirEntry| if entry.path().is_dir() { file_count(&entry.path()) } else { 1 };
    entries.flatten().map(count).sum()
}
