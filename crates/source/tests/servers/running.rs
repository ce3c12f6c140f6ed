//! What the tests of all servers need: private processes, and streams of events read to their end.

use std::net::TcpListener;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use futures::StreamExt as _;
use source::events::{Event, Events, Layout};
use source::{Fault, SourceError};

/// Longer than any server takes to start on a busy machine.
pub(crate) const START_FOR_MAX: Duration = Duration::from_secs(60);

/// A process of ours, killed when dropped.
pub(crate) struct Running(pub(crate) Child);

impl Running {
    pub(crate) fn start(command: &mut Command) -> Self {
        let command = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        Self(command.spawn().unwrap_or_else(|error| panic!("{command:?}: {error}")))
    }

    pub(crate) fn kill(&mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A port that was free a moment ago.
pub(crate) fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

pub(crate) fn until(what: impl Fn() -> bool) {
    let began = Instant::now();
    while !what() {
        assert!(began.elapsed() < START_FOR_MAX, "waited too long");
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// Runs a program that must succeed; gives what it printed.
pub(crate) fn printed(command: &mut Command) -> String {
    let output = command.stdin(Stdio::null()).output().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?}: {said}");
    String::from_utf8(output.stdout).unwrap()
}

/// A file that a source handed over.
#[derive(Debug)]
pub(crate) struct ReadEntry {
    pub(crate) name: String,
    pub(crate) layout: Layout,
    pub(crate) data: Vec<u8>,
}

/// All that a source said.
#[derive(Debug, Default)]
pub(crate) struct Read {
    pub(crate) entries: Vec<ReadEntry>,
    pub(crate) facts: Vec<(String, String)>,
    pub(crate) warnings: Vec<String>,
}

impl Read {
    #[track_caller]
    pub(crate) fn entry(&self, name: &str) -> &ReadEntry {
        let found = self.entries.iter().find(|entry| entry.name == name);
        found.unwrap_or_else(|| panic!("no entry {name} among {:?}", self.names()))
    }

    #[track_caller]
    pub(crate) fn fact(&self, name: &str) -> &str {
        let found = self.facts.iter().find(|(known, _)| known == name);
        &found.unwrap_or_else(|| panic!("no fact {name} among {:?}", self.facts)).1
    }

    pub(crate) fn names(&self) -> Vec<&str> {
        self.entries.iter().map(|entry| entry.name.as_str()).collect()
    }
}

/// Reads to the end, and holds the stream to its grammar.
pub(crate) async fn read(events: Events) -> Result<Read, SourceError> {
    read_with(events, |_| {}).await
}

/// As [`read`]; `on_data` is told how many bytes came so far.
pub(crate) async fn read_with(mut events: Events, mut on_data: impl FnMut(u64)) -> Result<Read, SourceError> {
    let mut read = Read::default();
    let (mut is_open, mut len) = (false, 0);
    while let Some(event) = events.next().await {
        match event? {
            Event::Begin(begun) => {
                assert!(!std::mem::replace(&mut is_open, true), "an entry begins before the last ended");
                let name = String::from_utf8(begun.entry.path.into_bytes()).unwrap();
                assert!(!read.names().contains(&name.as_str()), "{name} comes twice");
                read.entries.push(ReadEntry { name, layout: begun.layout, data: Vec::new() });
            }
            Event::Data(data) => {
                assert!(is_open && !data.is_empty());
                len += data.len() as u64;
                read.entries.last_mut().unwrap().data.extend_from_slice(&data);
                on_data(len);
            }
            Event::Block { .. } => panic!("no source here sends blocks"),
            Event::End => assert!(std::mem::replace(&mut is_open, false)),
            Event::Fact { name, value } => read.facts.push((name, value)),
            Event::Warning(text) => read.warnings.push(text),
        }
    }
    assert!(!is_open, "the stream ends within an entry");
    Ok(read)
}

/// Reads, expects failure of this kind, and gives its words.
#[track_caller]
pub(crate) fn failed(read: Result<Read, SourceError>, expected: Fault) -> String {
    match read.expect_err("it must fail") {
        SourceError::Server { place, what, fault } => {
            assert_eq!(fault, expected, "{place}: {what}");
            format!("{place}: {what}")
        }
        other => panic!("not a server's error: {other:?}"),
    }
}

/// The folder that `scripts/servers.sh` makes, which must be there.
#[track_caller]
pub(crate) fn newer_root() -> PathBuf {
    let home = PathBuf::from(std::env::var_os("HOME").expect("a home"));
    let cache = std::env::var_os("BACKSTAY_CACHE").map_or_else(|| home.join(".cache/backstay"), PathBuf::from);
    let root = cache.join("roots/servers");
    let is_there = root.join("usr/lib/postgresql/18/bin/postgres").exists() && rustix::process::geteuid().is_root();
    assert!(is_there, "no newer servers in {} (run scripts/servers.sh), or we are not root", root.display());
    root
}
