//! A repository that the real binary serves over WebDAV, and curl to ask it.
//!
//! Invariant: it is gone when dropped, also after a test that failed.
//! Never here: what it must answer.

use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;
use std::process::Command;

use rustix::process::Signal;

use crate::binary::{Host, Ran};
use crate::running::Running;

/// What precedes the address in what the server says.
const SAID: &str = "serving at ";

/// A server and its process.
#[derive(Debug)]
pub struct DavServer {
    url: String,
    running: Running,
}

/// What curl got.
#[derive(Debug)]
pub struct Answer {
    /// 0 unless the answer broke off or did not come.
    pub curl_code: i32,
    /// 0 if there was none.
    pub status: u16,
    /// Lines of the head, each `name: value` in lower case before the colon.
    pub head: Vec<String>,
    /// What came of the body.
    pub body: Vec<u8>,
}

impl DavServer {
    /// Serves the host's repository, at a port that is free if `options` say nothing else.
    #[must_use]
    pub fn of(host: &Host, options: &[&str]) -> Self {
        let mut command = host.backstay(["serve", "webdav"]);
        if !options.contains(&"--listen") {
            command.args(["--listen", "127.0.0.1:0"]);
        }
        command.args(options);
        let mut running = Running::start(command, false);
        let said = running.stderr_path().to_owned();
        let url = || {
            let said = std::fs::read_to_string(&said).unwrap_or_default();
            let (_, behind) = said.split_once(SAID)?;
            behind.split_once(';').map(|(url, _)| url.trim_end_matches('/').to_owned())
        };
        running.wait_until("it serves", || url().is_some());
        let url = url().expect("it was there");
        Self { url, running }
    }

    /// Its address, without a slash at the end.
    #[must_use]
    pub fn url(&self) -> &str {
        &self.url
    }

    /// The address of a path of the host in the only component of files of the newest snapshot.
    #[must_use]
    pub fn latest(&self, path: &Path) -> String {
        format!("{}/latest/files{}", self.url, encoded(path.as_os_str().as_bytes()))
    }

    /// Asks for `path`, which begins with a slash or is a whole address.
    #[must_use]
    pub fn ask(&self, options: &[&str], path: &str) -> Answer {
        let url = if path.starts_with('/') { format!("{}{path}", self.url) } else { path.to_owned() };
        asked(Command::new("curl"), options, &url)
    }

    /// What the process has written to stderr.
    #[must_use]
    pub fn said(&self) -> String {
        self.running.stderr_so_far()
    }

    /// Waits until it has said `text`.
    #[track_caller]
    pub fn wait_for(&mut self, text: &str) {
        self.running.wait_to_hear(text);
    }

    /// Sends the process a signal and waits for its end; with the most memory that it held, in bytes.
    pub fn end(self, signal: Signal) -> (Ran, u64) {
        self.running.end(signal)
    }
}

/// Runs `curl`, which may be wrapped in another command, and takes its answer apart.
#[must_use]
pub fn asked(mut curl: Command, options: &[&str], url: &str) -> Answer {
    if options.contains(&"-I") {
        curl.args(["-o", "/dev/null"]); // curl takes the head for the body then
    }
    let output = curl.args(["-s", "-q", "--path-as-is", "--noproxy", "*", "-D", "-"]).args(options).arg(url).output();
    let output = output.expect("curl runs");
    let split = output.stdout.windows(4).position(|bytes| bytes == b"\r\n\r\n");
    let (head, body) = match split {
        Some(at) => (&output.stdout[..at], output.stdout[at + 4..].to_vec()),
        None => (&output.stdout[..0], output.stdout.clone()),
    };
    let head = String::from_utf8_lossy(head).into_owned();
    let mut lines = head.lines();
    let status = lines.next().and_then(|line| line.split(' ').nth(1)?.parse().ok()).unwrap_or_default();
    let lower = |line: &str| match line.split_once(':') {
        Some((name, value)) => format!("{}:{value}", name.to_lowercase()),
        None => line.to_owned(),
    };
    Answer { curl_code: output.status.code().unwrap_or(-1), status, head: lines.map(lower).collect(), body }
}

impl Answer {
    /// The value of a header, whose name is in lower case.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        self.head.iter().find_map(|line| line.strip_prefix(name)?.strip_prefix(": "))
    }

    /// The body as text.
    #[must_use]
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// The addresses that a multistatus names, without that of the folder itself, which comes first.
    #[must_use]
    pub fn hrefs(&self) -> Vec<String> {
        let text = self.text();
        let all = text.split("<D:href>").skip(1).filter_map(|rest| rest.split("</D:href>").next());
        all.skip(1).map(str::to_owned).collect()
    }
}

/// A path as an address has it: every byte but letters, digits, `-`, `_`, `.`, `~` and slashes as `%XX`.
#[must_use]
pub fn encoded(path: &[u8]) -> String {
    let byte = |byte: &u8| match byte {
        b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' | b'/' => char::from(*byte).to_string(),
        _ => format!("%{byte:02X}"),
    };
    path.iter().map(byte).collect()
}
