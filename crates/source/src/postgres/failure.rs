//! What went wrong, and what is to be done about it.
//!
//! Invariant: what a server says reaches people in its own words; its SQLSTATE alone, and for logins the function that
//! refused, decide the fault, since its words may be translated.
//! Never here: what to type next.

use super::message::Notice;
use crate::{Fault, SourceError};

/// A failure of the server at `place`.
pub(super) fn failed(place: &str, what: impl Into<String>, fault: Fault) -> SourceError {
    SourceError::Server { place: place.to_owned(), what: what.into(), fault }
}

/// The server at `place` sent something that is not of the protocol.
pub(super) fn odd(place: &str, what: impl Into<String>) -> SourceError {
    failed(place, what, Fault::Protocol)
}

/// A setting that means nothing.
pub(super) fn unfit(what: &str) -> SourceError {
    failed("settings of postgres", what, Fault::Setting)
}

/// The server at `place` refused.
pub(super) fn refused(place: &str, notice: &Notice) -> SourceError {
    failed(place, format!("{} [{}]", notice.words(), notice.code), fault_of(notice))
}

fn fault_of(notice: &Notice) -> Fault {
    match &*notice.code {
        // pg_hba.conf has no line for us, or one that rejects: the server is to be set up.
        "28000" if notice.routine == "ClientAuthentication" => Fault::Setting,
        "28000" | "28P01" => Fault::Login,
        "42501" => Fault::Right,
        "3D000" | "42P01" | "42704" | "58P01" => Fault::Missing,
        // Starting, stopping or recovering; too many connections; locks; out of something.
        "57P03" | "55P03" | "55006" => Fault::Busy,
        "57P01" | "57P02" | "57P05" => Fault::Interrupted,
        "0A000" | "42601" | "08P01" => Fault::Version,
        "53400" => Fault::Setting,
        code => match code.get(..2) {
            Some("XX") if code != "XX000" => Fault::Damaged,
            Some("53") => Fault::Busy,
            Some("55") => Fault::Setting,
            Some("57") => Fault::Interrupted,
            _ => Fault::Incomplete,
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_state_decides_the_fault_and_the_words_are_the_servers_own() {
        let fault = |code: &str, routine: &str| {
            fault_of(&Notice { code: code.into(), routine: routine.into(), ..Notice::default() })
        };
        assert_eq!(fault("28P01", "auth_failed"), Fault::Login);
        assert_eq!(fault("28000", "InitializeSessionUserId"), Fault::Login);
        assert_eq!(fault("28000", "ClientAuthentication"), Fault::Setting);
        assert_eq!(fault("42501", "InitPostgres"), Fault::Right);
        assert_eq!(fault("53300", ""), Fault::Busy);
        assert_eq!(fault("XX001", ""), Fault::Damaged);
        assert_eq!(fault("", ""), Fault::Incomplete);
        let notice = Notice { code: "57P03".into(), message: "starting".into(), ..Notice::default() };
        assert_eq!(refused("postgres at a:1", &notice).to_string(), "postgres at a:1: starting [57P03]");
    }
}
