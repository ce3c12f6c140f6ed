//! Preflight: whether a source could be read now, and what to do where it could not.
//!
//! ```text
//! request ──→ log in, ask for versions, rights, settings, room ──→ findings: fine, warning, problem
//! ```
//!
//! Each source has its own `preflight`, which takes the same request as its reading does.
//!
//! Invariant: nothing of a source is changed, and nothing that would be a load for it is begun.
//! Invariant: a finding never holds a secret, and every problem has a next step.
//! Never here: which sources there are, and how findings are shown.

use crate::error::{Fault, SourceError, with_causes};

/// How grave a finding is; the gravest last.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub enum Verdict {
    /// As it should be.
    #[default]
    Fine,
    /// The source can be read, with something missing or at a cost.
    Warning,
    /// The source cannot be read as it was asked for.
    Problem,
}

/// One thing that was looked at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// How grave it is.
    pub verdict: Verdict,
    /// What was found, with the server or file that it is about.
    pub what: String,
    /// What to do about it; always there for a problem.
    pub advice: Option<String>,
}

/// All that was found about one source, in the order of looking.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Preflight {
    /// The findings.
    pub findings: Vec<Finding>,
}

impl Preflight {
    /// The gravest verdict.
    #[must_use]
    pub fn verdict(&self) -> Verdict {
        self.findings.iter().map(|finding| finding.verdict).max().unwrap_or_default()
    }

    /// Adds something that is as it should be.
    pub fn fine(&mut self, what: impl Into<String>) {
        self.findings.push(Finding { verdict: Verdict::Fine, what: what.into(), advice: None });
    }

    /// Adds something that costs or lacks something.
    pub fn warn(&mut self, what: impl Into<String>, advice: impl Into<String>) {
        self.findings.push(Finding { verdict: Verdict::Warning, what: what.into(), advice: Some(advice.into()) });
    }

    /// Adds something that keeps the source from being read.
    pub fn problem(&mut self, what: impl Into<String>, advice: impl Into<String>) {
        self.findings.push(Finding { verdict: Verdict::Problem, what: what.into(), advice: Some(advice.into()) });
    }

    /// Adds what a source said when it refused, with the next step that `advice` knows for it.
    pub(crate) fn refused(&mut self, error: &SourceError, advice: impl FnOnce(Fault, &str) -> Option<String>) {
        let own = match error {
            SourceError::Server { fault, what, .. } => advice(*fault, what).unwrap_or_else(|| usual(*fault).to_owned()),
            SourceError::Spawn { .. } => "install the program, or write its whole path".to_owned(),
            _ => "look at the message, and try again".to_owned(),
        };
        self.problem(with_causes(error), own);
    }
}

/// What to do about what a server refused, where nothing better is known; none for what no server said.
#[must_use]
pub fn advice(error: &SourceError) -> Option<String> {
    match error {
        SourceError::Server { fault, .. } => Some(usual(*fault).to_owned()),
        _ => None,
    }
}

/// What to do about a fault, where nothing better is known.
fn usual(fault: Fault) -> &'static str {
    match fault {
        Fault::Unreachable => {
            "see that it runs, that host, port and TLS are right, and that no firewall stands between"
        }
        Fault::Interrupted => "see that the address is that of a server of this kind, and try again; its log says more",
        Fault::Busy => "try again when it is less busy; its log says more",
        Fault::Full => "make room in the folder that is named",
        Fault::Login => {
            "correct the user or the password; it is given by password_file or password_command of the source, and for \
             Postgres by PGPASSWORD or ~/.pgpass too"
        }
        Fault::Right => "give the user the right that is named",
        Fault::Setting => "correct the setting that is named",
        Fault::Version => "install the version that is named",
        Fault::Missing => "correct the name, or make what is missing",
        Fault::Incomplete | Fault::Damaged => "look into its log, and repair it",
        Fault::Protocol => "see that the address is that of a server of this kind",
    }
}

/// Bytes for people.
pub(crate) fn size(len: u64) -> String {
    const UNITS: [&str; 5] = ["KiB", "MiB", "GiB", "TiB", "PiB"];
    let mut scaled = len as f64 / 1024.0;
    let mut unit = 0;
    while scaled >= 1024.0 && unit + 1 < UNITS.len() {
        scaled /= 1024.0;
        unit += 1;
    }
    format!("{scaled:.1} {}", UNITS.get(unit).unwrap_or(&"KiB"))
}

/// Bytes that are free in the file system of `path` for whoever is not root; none if it cannot be asked.
pub(crate) fn free_len(path: &std::path::Path) -> Option<u64> {
    let stat = rustix::fs::statvfs(path).ok()?;
    Some(stat.f_bavail.saturating_mul(stat.f_frsize))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_gravest_finding_decides_and_a_refusal_has_a_next_step() {
        let mut told = Preflight::default();
        assert_eq!(told.verdict(), Verdict::Fine);
        told.fine("one");
        told.warn("two", "do this");
        assert_eq!(told.verdict(), Verdict::Warning);
        told.refused(&SourceError::server("redis at x", Fault::Login, "no"), |_, _| None);
        assert_eq!(told.verdict(), Verdict::Problem);
        let last = told.findings.last().unwrap();
        assert_eq!(last.what, "redis at x: no");
        assert_eq!(last.advice.as_deref(), Some(usual(Fault::Login)));
    }
}
