//! The terminal: how wide it is, and asking there: for a password without echo, or for a line.
//!
//! Invariant: however asking ends, the terminal shows again what is typed.
//! Never here: passwords from elsewhere (see `credential`).

use std::fs::File;
use std::io::{self, IsTerminal as _, Write as _};

use rustix::termios::{OptionalActions, Termios, tcgetattr, tcgetwinsize, tcsetattr};
use zeroize::Zeroizing;

/// Whether there is somebody to ask.
pub(crate) fn is_there() -> bool {
    io::stdin().is_terminal() || io::stderr().is_terminal()
}

/// The width of the terminal that shows stdout, in characters; none if stdout goes elsewhere.
pub(crate) fn width() -> Option<usize> {
    let size = tcgetwinsize(io::stdout()).ok()?;
    (size.ws_col > 0).then_some(size.ws_col.into())
}

/// Asks for one password. Dropping the future gives up and restores the terminal.
pub(crate) async fn ask(prompt: &'static str) -> io::Result<Zeroizing<Vec<u8>>> {
    let _echo = Echo::remember();
    let typed = source::blocking::run(move || rpassword::prompt_password(prompt)).await;
    Ok(Zeroizing::new(typed.map_err(io::Error::other)??.into_bytes()))
}

/// Whether somebody both reads what we ask and can answer on standard input.
pub(crate) fn answers() -> bool {
    io::stdin().is_terminal() && io::stderr().is_terminal()
}

/// Asks for one line, which is empty at the end of the input.
pub(crate) async fn ask_line(prompt: String) -> io::Result<String> {
    let asked = source::blocking::run(move || {
        let mut out = io::stderr();
        out.write_all(prompt.as_bytes())?;
        out.flush()?;
        let mut line = String::new();
        io::stdin().read_line(&mut line)?;
        Ok::<_, io::Error>(line.trim().to_owned())
    });
    asked.await.map_err(io::Error::other)?
}

/// The terminal's settings, put back when dropped.
struct Echo(Option<(File, Termios)>);

impl Echo {
    fn remember() -> Self {
        let terminal = File::open("/dev/tty").ok();
        Self(terminal.and_then(|terminal| tcgetattr(&terminal).ok().map(|settings| (terminal, settings))))
    }
}

impl Drop for Echo {
    fn drop(&mut self) {
        if let Some((terminal, settings)) = &self.0 {
            // A terminal that is gone shows nothing anyway.
            let _ = tcsetattr(terminal, OptionalActions::Now, settings);
        }
    }
}
