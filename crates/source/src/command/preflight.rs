//! Whether a program could be started now.
//!
//! Invariant: it is not started.
//! Never here: what it prints.

use std::path::{Path, PathBuf};

use rustix::fs::{Access, access};

use super::CommandLine;
use crate::entry::escaped;
use crate::preflight::Preflight;

/// Looks for the program as the system would, and for the folder that it runs in.
#[must_use]
pub fn preflight(command: &CommandLine) -> Preflight {
    let mut told = Preflight::default();
    let name = escaped(command.program.as_encoded_bytes()).to_string();
    if let Some(folder) = command.cwd.as_ref().filter(|folder| !folder.is_dir()) {
        told.problem(format!("there is no folder {}", folder.display()), "correct directory");
        return told;
    }
    match found(command) {
        Found::At(path) => told.fine(format!("{name}: runs {}", path.display())),
        Found::NotRunnable(path) => {
            told.problem(format!("{}: may not be run", path.display()), "make it executable, for this user");
        }
        Found::Nowhere => told.problem(format!("there is no program {name}"), "install it, or write its whole path"),
    }
    told
}

enum Found {
    At(PathBuf),
    NotRunnable(PathBuf),
    Nowhere,
}

fn found(command: &CommandLine) -> Found {
    let program = Path::new(&command.program);
    let set = command.env.iter().rev().find(|(name, _)| name == "PATH").map(|(_, value)| value.clone());
    let path = set.or_else(|| std::env::var_os("PATH")).unwrap_or_default();
    let cwd = command.cwd.clone().unwrap_or_default();
    let candidates: Vec<PathBuf> = match program.components().count() > 1 || program.is_absolute() {
        true => vec![cwd.join(program)],
        false => std::env::split_paths(&path).map(|folder| folder.join(program)).collect(),
    };
    let files: Vec<PathBuf> = candidates.into_iter().filter(|path| path.is_file()).collect();
    match files.iter().find(|path| access(path.as_path(), Access::EXEC_OK).is_ok()) {
        Some(path) => Found::At(path.clone()),
        None => files.into_iter().next().map_or(Found::Nowhere, Found::NotRunnable),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Verdict;

    fn verdict(command: &CommandLine) -> (Verdict, String) {
        let told = preflight(command);
        (told.verdict(), told.findings.first().map(|finding| finding.what.clone()).unwrap_or_default())
    }

    fn command(program: &str) -> CommandLine {
        CommandLine::new(program, [] as [&str; 0])
    }

    #[test]
    fn programs_are_found_as_the_system_finds_them() {
        assert_eq!(verdict(&command("sh")).0, Verdict::Fine);
        assert_eq!(verdict(&command("/bin/sh")).0, Verdict::Fine);
        assert_eq!(
            verdict(&command("no-such-program")),
            (Verdict::Problem, "there is no program no-such-program".into())
        );
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("text"), "").unwrap();
        let own = CommandLine { cwd: Some(folder.path().to_owned()), ..command("./text") };
        assert!(verdict(&own).1.ends_with("may not be run"), "{:?}", verdict(&own));
        let elsewhere = CommandLine { cwd: Some(folder.path().join("none")), ..command("sh") };
        assert!(verdict(&elsewhere).1.starts_with("there is no folder"), "{:?}", verdict(&elsewhere));
        let empty = CommandLine { env: vec![("PATH".into(), folder.path().into())], ..command("sh") };
        assert_eq!(verdict(&empty).0, Verdict::Problem);
    }
}
