//! What a command writes to stderr: handed on by line, and its tail kept for the report.
//!
//! Invariant: memory is bounded by [`STDERR_TAIL_LEN_MAX`] and one line, however much is written.
//! Never here: what the lines mean.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::io::AsyncReadExt as _;
use tokio::process::ChildStderr;
use tokio::task::JoinHandle;

/// How much of the end of stderr is kept, in bytes.
pub const STDERR_TAIL_LEN_MAX: usize = 64 * 1024;

/// The longest line handed on in one piece, in bytes.
const LINE_LEN_MAX: usize = 8 * 1024;

/// Bytes read at a time.
const READ_LEN: usize = 64 * 1024;

/// Follows a command's stderr until it is closed.
#[derive(Debug)]
pub(super) struct StderrTail {
    tail: Arc<Mutex<VecDeque<u8>>>,
    task: JoinHandle<()>,
}

impl StderrTail {
    pub(super) fn follow(stderr: ChildStderr, on_line: impl FnMut(&[u8]) + Send + 'static) -> Self {
        let tail = Arc::new(Mutex::new(VecDeque::new()));
        let task = tokio::spawn(read_all(stderr, Lines { on_line, line: Vec::new() }, Arc::clone(&tail)));
        Self { tail, task }
    }

    /// Waits at most `patience` for stderr to be closed, then gives what was kept.
    pub(super) async fn finish(mut self, patience: Duration) -> Vec<u8> {
        // Too late, or the caller's callback panicked: what was kept until then is still the tail.
        let _ = tokio::time::timeout(patience, &mut self.task).await;
        let tail = self.tail.lock().unwrap_or_else(PoisonError::into_inner);
        tail.iter().copied().collect()
    }
}

impl Drop for StderrTail {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn read_all<F: FnMut(&[u8])>(mut stderr: ChildStderr, mut lines: Lines<F>, tail: Arc<Mutex<VecDeque<u8>>>) {
    let mut buffer = vec![0; READ_LEN];
    while let Ok(len @ 1..) = stderr.read(&mut buffer).await {
        let data = buffer.get(..len).unwrap_or_default();
        keep(&mut tail.lock().unwrap_or_else(PoisonError::into_inner), data);
        lines.push(data);
    }
    lines.end();
}

fn keep(tail: &mut VecDeque<u8>, data: &[u8]) {
    tail.extend(data);
    tail.drain(..tail.len().saturating_sub(STDERR_TAIL_LEN_MAX));
}

/// Cuts bytes into lines.
struct Lines<F> {
    on_line: F,
    line: Vec<u8>,
}

impl<F: FnMut(&[u8])> Lines<F> {
    fn push(&mut self, data: &[u8]) {
        for run in data.split_inclusive(|&byte| byte == b'\n') {
            let (run, is_whole) = run.strip_suffix(b"\n").map_or((run, false), |run| (run, true));
            self.add(run);
            if is_whole {
                (self.on_line)(&self.line);
                self.line.clear();
            }
        }
    }

    fn add(&mut self, mut run: &[u8]) {
        while let Some((now, later)) = run.split_at_checked(LINE_LEN_MAX - self.line.len()) {
            if later.is_empty() {
                break;
            }
            self.line.extend_from_slice(now);
            (self.on_line)(&self.line);
            self.line.clear();
            run = later;
        }
        self.line.extend_from_slice(run);
    }

    fn end(&mut self) {
        if !self.line.is_empty() {
            (self.on_line)(&self.line);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines_of(runs: &[&[u8]]) -> Vec<Vec<u8>> {
        let mut seen = Vec::new();
        let mut lines = Lines { on_line: |line: &[u8]| seen.push(line.to_vec()), line: Vec::new() };
        runs.iter().for_each(|run| lines.push(run));
        lines.end();
        seen
    }

    #[test]
    fn lines_are_put_together_from_runs_and_the_last_needs_no_newline() {
        assert_eq!(lines_of(&[b"on", b"e\ntwo\n\nth", b"ree"]), [b"one".as_slice(), b"two", b"", b"three"]);
    }

    #[test]
    fn a_line_that_is_too_long_comes_in_parts() {
        let long = vec![b'x'; LINE_LEN_MAX * 2 + 1];
        let lens: Vec<_> = lines_of(&[&long, b"\n"]).iter().map(Vec::len).collect();
        assert_eq!(lens, [LINE_LEN_MAX, LINE_LEN_MAX, 1]);
        let exact = vec![b'x'; LINE_LEN_MAX];
        assert_eq!(lines_of(&[&exact, b"\n"]), [exact]);
    }

    #[test]
    fn the_tail_is_the_end_and_is_bounded() {
        let mut tail = VecDeque::new();
        for byte in 0..=255 {
            keep(&mut tail, &[byte; 1000]);
        }
        assert_eq!(tail.len(), STDERR_TAIL_LEN_MAX);
        assert_eq!(tail.back(), Some(&255));
    }
}
