//! What the preflights of all servers are held to.

use source::{Preflight, Verdict};

/// Fails unless the verdict is this one and a finding of it says this, with a next step that says that.
#[track_caller]
pub(crate) fn finds(told: &Preflight, verdict: Verdict, what: &str, advice: &str) {
    assert_eq!(told.verdict(), verdict, "{told:#?}");
    let is_it = |finding: &&source::Finding| {
        finding.verdict == verdict
            && finding.what.contains(what)
            && finding.advice.as_deref().unwrap_or_default().contains(advice)
    };
    assert!(told.findings.iter().any(|finding| is_it(&finding)), "nothing says {what:?} and {advice:?}: {told:#?}");
    for finding in &told.findings {
        assert!(finding.verdict == Verdict::Fine || finding.advice.is_some(), "{finding:?} has no next step");
        assert!(!format!("{finding:?}").contains("hunter2"), "a secret is shown: {finding:?}");
    }
}
