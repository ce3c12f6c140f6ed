//! Problems with single entries: what was left out of a snapshot or a restored tree, and why.
//!
//! Invariant: what is not shown is counted.
//! Never here: errors, which stop a command.

use engine::Problem;
use serde::Serialize;

use crate::human;
use crate::ui::Ui;

/// A problem as JSON.
#[derive(Debug, Serialize)]
pub(crate) struct ProblemDocument {
    path: String,
    message: String,
    loses: bool,
}

/// All of them as JSON.
pub(crate) fn documents(problems: &[Problem]) -> Vec<ProblemDocument> {
    let document = |problem: &Problem| ProblemDocument {
        path: problem.path.clone(),
        message: problem.message.clone(),
        loses: problem.loses,
    };
    problems.iter().map(document).collect()
}

/// Path and message, but the path only once.
fn sentence(problem: &Problem) -> String {
    if problem.message.contains(&problem.path) {
        return problem.message.clone();
    }
    format!("{}: {}", problem.path, problem.message)
}

/// Tells each on stderr, and how many there are beside them. What loses nothing is only a note.
pub(crate) fn tell_problems(problems: &[Problem], count: u64, ui: &Ui) {
    for problem in problems {
        let text = sentence(problem);
        if problem.loses { ui.problem(text) } else { ui.note(text) }
    }
    let untold = count.saturating_sub(problems.len() as u64);
    if untold > 0 {
        ui.problem(format_args!("and {} more", human::count(untold)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn path_is_told_once() {
        let problem = |message: &str| Problem { path: "srv/x".into(), message: message.into(), loses: true };
        assert_eq!(sentence(&problem("changed")), "srv/x: changed");
        assert_eq!(sentence(&problem("/srv/x cannot be read")), "/srv/x cannot be read");
    }
}
