//! What the words of Postgres' programs mean for who has to act.
//!
//! The programs run with `LC_ALL=C`, so their own words and libpq's are known; a server may speak another language, and
//! then the fault falls back to [`Fault::Incomplete`]: it failed, and its words are shown.
//!
//! Never here: whether something failed; that is the exit status'.

use crate::command::ProducerEnd;
use crate::command::ProducerStatus;
use crate::entry::escaped;
use crate::error::{Fault, SourceError};

/// How much of what a program said goes into an error, in bytes.
const WORDS_LEN_MAX: usize = 2000;

/// In this order: the first that is found decides.
const WORDS: [(&str, Fault); 38] = [
    ("server version mismatch", Fault::Version),
    ("lock timeout", Fault::Busy),
    ("statement timeout", Fault::Busy),
    ("conflict with recovery", Fault::Busy),
    ("deadlock detected", Fault::Busy),
    ("too many clients", Fault::Busy),
    ("too many connections", Fault::Busy),
    ("remaining connection slots", Fault::Busy),
    ("is starting up", Fault::Busy),
    ("is not yet accepting connections", Fault::Busy),
    ("server closed the connection unexpectedly", Fault::Interrupted),
    ("terminating connection", Fault::Interrupted),
    ("is shutting down", Fault::Interrupted),
    ("ssl connection has been closed", Fault::Interrupted),
    ("ssl syscall error", Fault::Interrupted),
    ("connection not open", Fault::Interrupted),
    ("could not receive data", Fault::Interrupted),
    ("could not send data", Fault::Interrupted),
    ("row-level security", Fault::Right),
    ("permission denied", Fault::Right),
    ("must be superuser", Fault::Right),
    ("must be owner", Fault::Right),
    ("password authentication failed", Fault::Login),
    ("no password supplied", Fault::Login),
    ("authentication failed", Fault::Login),
    ("no pg_hba.conf entry", Fault::Login),
    ("is not permitted to log in", Fault::Login),
    ("fatal:  role ", Fault::Login),
    ("does not exist", Fault::Missing),
    ("no matching", Fault::Missing),
    ("could not translate host name", Fault::Unreachable),
    ("certificate", Fault::Unreachable),
    ("does not support ssl", Fault::Unreachable),
    ("connection refused", Fault::Unreachable),
    ("timeout expired", Fault::Unreachable),
    ("no route to host", Fault::Unreachable),
    ("no such file or directory", Fault::Unreachable),
    ("could not connect", Fault::Unreachable),
];

/// The fault that these words of a program speak of.
pub(super) fn fault_of(words: &str) -> Fault {
    let words = words.to_lowercase();
    WORDS.iter().find(|(known, _)| words.contains(known)).map_or(Fault::Incomplete, |(_, fault)| *fault)
}

/// Turns the end of `program` at `place` into an error unless it succeeded.
pub(super) fn judge(place: &str, program: &str, end: &ProducerEnd) -> Result<(), SourceError> {
    let status = match end.status {
        ProducerStatus::Exited(0) => return Ok(()),
        ProducerStatus::Exited(code) => format!("ended with exit status {code}"),
        ProducerStatus::Signalled(signal) => format!("was killed by signal {signal}"),
    };
    let words = words_of(&end.stderr_tail);
    let what = if words.is_empty() { format!("{program} {status}") } else { format!("{program} {status}: {words}") };
    Err(SourceError::server(place, fault_of(&words), what))
}

/// The end of what a program said, on one line.
pub(super) fn words_of(stderr: &[u8]) -> String {
    let tail = stderr.trim_ascii();
    let tail = tail.get(tail.len().saturating_sub(WORDS_LEN_MAX)..).unwrap_or_default();
    let lines = tail.split(|&byte| byte == b'\n').map(|line| escaped(line.trim_ascii()).to_string());
    lines.filter(|line| !line.is_empty()).collect::<Vec<_>>().join("; ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_of_programs_name_the_fault() {
        let said = |words| fault_of(words);
        assert_eq!(said("FATAL:  password authentication failed for user \"x\""), Fault::Login);
        assert_eq!(said("FATAL:  role \"nobody\" does not exist"), Fault::Login);
        assert_eq!(said("FATAL:  database \"nothing\" does not exist"), Fault::Missing);
        assert_eq!(said("ERROR:  canceling statement due to lock timeout"), Fault::Busy);
        assert_eq!(said("FATAL:  Passwort-Authentifizierung fehlgeschlagen"), Fault::Incomplete);
    }

    #[test]
    fn what_a_program_said_is_one_line() {
        assert_eq!(words_of(b"\n one \n\ntwo\x1b[0m\n"), "one; two\\x1b[0m");
    }
}
