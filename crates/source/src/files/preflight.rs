//! Whether files and folders could be walked now.
//!
//! Invariant: roots are looked at, and nothing beneath them.
//! Never here: the walk.

use std::path::{Path, PathBuf};

use rustix::fs::{Access, AtFlags, CWD, accessat};

use super::{FilesOptions, FilesSource};
use crate::blocking;
use crate::error::{SourceError, with_causes};
use crate::preflight::Preflight;

/// Looks at each root, at the patterns and at the files of patterns. Blocks, on a thread of its own.
pub async fn preflight(roots: &[PathBuf], options: &FilesOptions) -> Preflight {
    let (roots, options) = (roots.to_vec(), options.clone());
    let told = blocking::run(move || look(&roots, &options)).await;
    told.unwrap_or_else(|panicked| {
        let mut told = Preflight::default();
        told.refused(&panicked.into(), |_, _| None);
        told
    })
}

fn look(roots: &[PathBuf], options: &FilesOptions) -> Preflight {
    let mut told = Preflight::default();
    for root in roots {
        match FilesSource::new(vec![root.clone()], options.clone()) {
            Ok(source) => source.roots().iter().for_each(|root| readable(root, &mut told)),
            Err(error) => {
                told.problem(with_causes(&error), advice(&error));
                if !is_about_a_root(&error) {
                    break; // the options are the same for every root
                }
            }
        }
    }
    told
}

fn readable(root: &Path, told: &mut Preflight) {
    let shown = root.display();
    let is_folder = root.symlink_metadata().is_ok_and(|metadata| metadata.is_dir());
    let is_link = root.is_symlink();
    let wanted = if is_folder { Access::READ_OK | Access::EXEC_OK } else { Access::READ_OK };
    match accessat(CWD, root, wanted, AtFlags::EACCESS) {
        _ if is_link => told.fine(format!("{shown}: a symbolic link, stored as such")),
        Ok(()) if is_folder && root.read_dir().is_ok_and(|mut entries| entries.next().is_none()) => {
            told.warn(format!("{shown}: is empty"), "see that what belongs there is mounted");
        }
        Ok(()) => told.fine(format!("{shown}: may be read")),
        Err(error) => told.problem(
            format!("{shown}: may not be read: {}", std::io::Error::from(error)),
            "let the user that backs up read it, or leave it out",
        ),
    }
}

fn is_about_a_root(error: &SourceError) -> bool {
    !matches!(error, SourceError::Pattern { .. } | SourceError::PatternFile { .. } | SourceError::MarkerName { .. })
}

fn advice(error: &SourceError) -> &'static str {
    match error {
        SourceError::RootMissing { .. } => "correct the path, or see that it is mounted",
        SourceError::RootForbidden { .. } => "leave it out: the repository is not backed up into itself",
        SourceError::RootAmbiguous { .. } => "write the path without '..'",
        SourceError::RootUnreadable { .. } => "let the user that backs up read the folders that lead there",
        _ => "correct it; patterns are written as in .gitignore",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Verdict;

    #[tokio::test]
    async fn every_root_is_told_of_and_wrong_patterns_once() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("file"), "x").unwrap();
        std::fs::create_dir(folder.path().join("empty")).unwrap();
        let roots = ["file", "none", "empty"].map(|name| folder.path().join(name));
        let told = preflight(&roots, &FilesOptions::default()).await;
        let verdicts: Vec<_> = told.findings.iter().map(|finding| finding.verdict).collect();
        assert_eq!(verdicts, [Verdict::Fine, Verdict::Problem, Verdict::Warning], "{told:?}");
        let options = FilesOptions { exclude: vec!["[z-a]".into()], ..FilesOptions::default() };
        let told = preflight(&roots, &options).await;
        assert_eq!((told.verdict(), told.findings.len()), (Verdict::Problem, 1), "{told:?}");
    }
}
