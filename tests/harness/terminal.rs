//! The real binary on a pseudo-terminal: keys go in, and what a person would see comes out.
//!
//! Invariant: nothing is asserted of how long it takes; what does not come within two minutes will not come.
//! Never here: what a screen should show.

use std::fs::File;
use std::io::{Read as _, Write as _};
use std::num::NonZeroU16;
use std::process::{Child, Command, Stdio};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{Winsize, tcsetwinsize};

const ROWS: NonZeroU16 = NonZeroU16::new(24).expect("a screen has lines");
const COLUMNS: NonZeroU16 = NonZeroU16::new(120).expect("a screen has columns");
/// How long one look waits, and how many there are at most: two minutes in all.
const LOOK_WAITS: Timespec = Timespec { tv_sec: 0, tv_nsec: 100_000_000 };
const LOOKS_MAX: u32 = 1_200;

/// A command on a terminal. It is killed when dropped.
pub struct Terminal {
    child: Child,
    master: File,
    screen: vt100::Parser,
}

impl std::fmt::Debug for Terminal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Terminal({})", self.screen())
    }
}

impl Terminal {
    /// Starts `command` on a terminal of its own.
    #[must_use]
    pub fn start(mut command: Command) -> Self {
        let master = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC).expect("a terminal");
        grantpt(&master).and_then(|()| unlockpt(&master)).expect("a terminal");
        let name = ptsname(&master, Vec::new()).expect("a terminal has a name").into_string().expect("of letters");
        let size = Winsize { ws_row: ROWS.get(), ws_col: COLUMNS.get(), ws_xpixel: 0, ws_ypixel: 0 };
        tcsetwinsize(&master, size).expect("a terminal has a size");
        let side = || File::options().read(true).write(true).open(&name).expect("the other side of the terminal");
        command.stdin(Stdio::from(side())).stdout(Stdio::from(side())).stderr(Stdio::from(side()));
        command.env("TERM", "xterm-256color");
        let child = command.spawn().unwrap_or_else(|error| panic!("{command:?} does not start: {error}"));
        drop(command);
        Self { child, master: File::from(master), screen: vt100::Parser::new(ROWS, COLUMNS, 0) }
    }

    /// Presses keys.
    pub fn press(&mut self, keys: &str) {
        self.master.write_all(keys.as_bytes()).expect("the terminal takes keys");
    }

    /// What is on the screen now.
    #[must_use]
    pub fn screen(&self) -> String {
        self.screen.screen().contents()
    }

    /// Waits until the screen is so.
    #[track_caller]
    pub fn wait(&mut self, what: &str, is_so: impl Fn(&str) -> bool) -> String {
        for _ in 0..LOOKS_MAX {
            if is_so(&self.screen()) {
                return self.screen();
            }
            if !self.look() {
                break;
            }
        }
        panic!("{what} never came:\n{}", self.screen());
    }

    /// Waits until the screen shows a text.
    #[track_caller]
    pub fn wait_for(&mut self, text: &str) -> String {
        self.wait(text, |screen| screen.contains(text))
    }

    /// Takes in what the command has written meanwhile; false once nothing more will come.
    fn look(&mut self) -> bool {
        let ready = poll(&mut [PollFd::new(&self.master, PollFlags::IN)], Some(&LOOK_WAITS)).expect("waits");
        if ready == 0 {
            return true;
        }
        let mut bytes = [0; 8192];
        match self.master.read(&mut bytes) {
            Ok(0) | Err(_) => false, // the other side is closed
            Ok(len) => {
                self.screen.process(&bytes[..len]);
                true
            }
        }
    }

    /// Waits for the end and gives the exit code.
    pub fn end(&mut self) -> Option<i32> {
        for _ in 0..LOOKS_MAX {
            if let Some(status) = self.child.try_wait().expect("a child of ours") {
                return status.code();
            }
            if !self.look() {
                // Its side of the terminal is closed: nothing keeps it any more.
                return self.child.wait().expect("a child of ours").code();
            }
        }
        panic!("it does not end:\n{}", self.screen());
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
