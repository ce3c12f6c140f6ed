//! Components that are files in folders: Kubernetes' objects, dumps as files, whatever a job backs up as files.
//!
//! Never here: writing files.

use std::path::{Path, PathBuf};

use engine::RestoreRequest;

use super::plan::{FilePlan, Plan, typed};
use super::{Restoring, append_only};
use crate::commands::restore;
use crate::error::{CommandError, Outcome};
use crate::problems::tell_problems;

/// Restores the files below `folder`.
pub(super) async fn run(restoring: &Restoring<'_>, folder: &Path) -> Result<Outcome, CommandError> {
    let files = restoring.ctx.unless_interrupted(restoring.files()).await?;
    let mut plan = restoring.plan(Some(&folder.display().to_string())).with_files(&files);
    let mut request =
        RestoreRequest { target: folder.to_owned(), ..restoring.args.request(restoring.args.is_dry_run()) };
    if restoring.kind() == "postgres" {
        let files = restoring.dumps(files.clone())?;
        if !restoring.wanted.database.is_empty() {
            request.include = files.iter().map(|file| pattern(&file.path)).collect();
        }
        let name = |file: &FilePlan| PathBuf::from(String::from_utf8_lossy(&file.path).into_owned());
        let paths: Vec<_> = files.iter().map(name).collect();
        if !restoring.wanted.replace {
            refuse_if_there(folder, &paths)?;
        }
        plan = plan.with_files(&files);
        add_dumps(&mut plan, folder, &paths);
    }
    match restoring.kind() {
        "kubernetes" => add_objects(&mut plan, folder),
        "redis-aof" => append_only::add_steps(restoring, &mut plan, folder, &files).await,
        _ => {}
    }
    if ["kubernetes", "redis-aof"].contains(&restoring.kind()) && !restoring.wanted.replace {
        refuse_if_filled(folder)?;
    }
    let report = restore::carry_out(request, restoring.ctx, restoring.repository, restoring.snapshot).await?;
    tell_problems(&report.problems, report.problem_count, &restoring.ctx.ui);
    plan.with_problems(&report.problems, report.problem_count).tell(restoring.ctx)
}

/// A path as a pattern of .gitignore that fits nothing else.
fn pattern(path: &[u8]) -> String {
    let mut pattern = "/".to_owned();
    for letter in String::from_utf8_lossy(path).chars() {
        if "*?[]\\!# ".contains(letter) {
            pattern.push('\\');
        }
        pattern.push(letter);
    }
    pattern
}

fn refuse_if_there(folder: &Path, paths: &[PathBuf]) -> Result<(), CommandError> {
    match paths.iter().map(|path| folder.join(path)).find(|path| path.symlink_metadata().is_ok()) {
        Some(path) => Err(source::SourceError::Occupied { path, found: "file" }.into()),
        None => Ok(()),
    }
}

/// What lies there besides would be applied, or loaded, with the rest.
fn refuse_if_filled(folder: &Path) -> Result<(), CommandError> {
    match std::fs::read_dir(folder).ok().and_then(|mut entries| entries.next()) {
        Some(_) => {
            let found = "folder that is not empty";
            Err(source::SourceError::Occupied { path: folder.to_owned(), found }.into())
        }
        None => Ok(()),
    }
}

fn add_dumps(plan: &mut Plan, folder: &Path, paths: &[PathBuf]) {
    // Roles come first: they own what is in the dumps.
    let (scripts, dumps): (Vec<_>, Vec<_>) =
        paths.iter().partition(|path| path.extension().is_some_and(|end| end == "sql"));
    for path in scripts.into_iter().chain(dumps) {
        let file = typed(&folder.join(path));
        match path.extension().and_then(std::ffi::OsStr::to_str) {
            Some("sql") => plan.step("make roles and tablespaces", format!("psql -X -d postgres -f {file}")),
            Some("dump") => plan.step(
                "restore a dump into an empty database",
                format!("pg_restore --exit-on-error --dbname=NAME {file}"),
            ),
            _ if path.file_name().is_some_and(|name| name == "toc.dat") => {
                let folder = typed(folder.join(path).parent().unwrap_or(folder));
                let command = format!("pg_restore --exit-on-error --jobs=4 --dbname=NAME {folder}");
                plan.step("restore a dump into an empty database", command);
            }
            _ => {}
        }
    }
}

fn add_objects(plan: &mut Plan, folder: &Path) {
    plan.note("secrets are among these files, in clear: remove them when they are applied");
    let cluster = folder.join("_cluster");
    plan.step(
        "apply what belongs to no namespace, such as namespaces and resource definitions; twice, if some need others",
        format!("kubectl apply --server-side --force-conflicts -R -f {}", typed(&cluster)),
    );
    plan.step("apply all", format!("kubectl apply --server-side --force-conflicts -R -f {}", typed(folder)));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pattern_fits_the_file_of_a_database_of_any_name_and_nothing_else() {
        assert_eq!(pattern(b"shop.dump"), "/shop.dump");
        assert_eq!(pattern(b"a [b]* !#.dump"), r"/a\ \[b\]\*\ \!\#.dump");
    }

    #[test]
    fn folder_that_holds_something_is_not_filled_with_what_is_used_as_a_whole() {
        let folder = tempfile::tempdir().expect("a folder");
        refuse_if_filled(folder.path()).expect("it is empty");
        refuse_if_filled(&folder.path().join("new")).expect("it is not there");
        std::fs::write(folder.path().join("old.json"), "{}").expect("our own folder");
        assert!(refuse_if_filled(folder.path()).expect_err("is refused").to_string().contains("not empty"));
    }

    #[test]
    fn every_form_of_a_dump_comes_with_the_command_that_restores_it() {
        let mut plan = Plan::default();
        let paths = ["it's.dump", "globals.sql", "big.dump/3388.dat", "big.dump/toc.dat"].map(PathBuf::from);
        add_dumps(&mut plan, Path::new("/srv"), &paths);
        let steps: Vec<&str> = plan.next_steps.iter().map(|step| step.command.as_str()).collect();
        let expected = [
            "psql -X -d postgres -f /srv/globals.sql",
            r"pg_restore --exit-on-error --dbname=NAME '/srv/it'\''s.dump'",
            "pg_restore --exit-on-error --jobs=4 --dbname=NAME /srv/big.dump",
        ];
        assert_eq!(steps, expected);
    }
}
