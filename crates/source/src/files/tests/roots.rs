//! Where a walk starts, and where it never goes.

use super::*;

fn refusal(roots: &[&Path], options: FilesOptions) -> SourceError {
    FilesSource::new(roots.iter().map(|root| root.to_path_buf()).collect(), options).unwrap_err()
}

#[test]
fn the_directories_that_lead_to_a_root_are_entries_without_what_else_is_in_them() {
    let dir = tree(&["a/b/c/file", "a/b/other", "a/beside", "top"]);
    fs::set_permissions(dir.path().join("a"), fs::Permissions::from_mode(0o711)).unwrap();
    let (entries, problems) = walk(&[&dir.path().join("a/b/c")], FilesOptions::default());
    assert!(problems.is_empty());
    assert_eq!(relative(dir.path(), &entries), ["a", "a/b", "a/b/c", "a/b/c/file"]);
    assert_eq!(entry_at(&entries, &dir.path().join("a")).entry.metadata.mode, 0o711);
    assert_eq!(entries[0].entry.path.parent(), None);
    assert_eq!(entries[0].entry.kind, EntryKind::Directory);
}

#[test]
fn roots_inside_each_other_are_merged() {
    let dir = tree(&["a/b/file", "a/c", "d/e", "d/f"]);
    let at = |name: &str| dir.path().join(name);
    let roots = [at("d/e"), at("a/b"), at("a"), at("a/b/file"), at("a/")];
    let source = FilesSource::new(roots.to_vec(), FilesOptions::default()).unwrap();
    assert_eq!(source.roots(), [at("a"), at("d/e")]);
    let (entries, problems) = split(source.walk());
    assert!(problems.is_empty());
    assert_eq!(relative(dir.path(), &entries), ["a", "d", "a/b", "a/c", "a/b/file", "d/e"]);
}

#[test]
fn a_root_may_be_a_single_file_or_a_link_which_is_not_followed() {
    let dir = tree(&["real/file"]);
    symlink("real", dir.path().join("link")).unwrap();
    let (entries, _) = walk(&[&dir.path().join("real/file")], FilesOptions::default());
    assert_eq!(relative(dir.path(), &entries), ["real", "real/file"]);
    for link in ["link", "link/"] {
        let (entries, _) = walk(&[&dir.path().join(link)], FilesOptions::default());
        assert_eq!(relative(dir.path(), &entries), ["link"]);
        let target = b"real".to_vec();
        assert_eq!(entry_at(&entries, &dir.path().join("link")).entry.kind, EntryKind::Symlink { target });
    }
}

#[test]
fn a_link_on_the_way_to_a_root_stands_for_its_directory() {
    let dir = tree(&["real/sub/file"]);
    symlink("real", dir.path().join("link")).unwrap();
    let (entries, problems) = walk(&[&dir.path().join("link/sub")], FilesOptions::default());
    assert!(problems.is_empty());
    assert_eq!(relative(dir.path(), &entries), ["link", "link/sub", "link/sub/file"]);
    let link = &entry_at(&entries, &dir.path().join("link")).entry;
    assert_eq!(link.kind, EntryKind::Directory);
    assert_eq!(link.metadata.inode, fs::metadata(dir.path().join("real")).unwrap().ino());
    assert_eq!(read(entry_at(&entries, &dir.path().join("link/sub/file"))), b"real/sub/file");
}

#[test]
fn relative_roots_are_relative_to_the_given_directory() {
    let dir = tree(&["a/b/file", "c"]);
    let options = FilesOptions { cwd: dir.path().join("a"), ..FilesOptions::default() };
    let roots = vec!["./b".into(), "../c".into()];
    let source = FilesSource::new(roots, options).unwrap();
    assert_eq!(source.roots(), [dir.path().join("a/b"), dir.path().join("c")]);
}

#[test]
fn the_root_of_the_file_system_can_be_a_root() {
    let dir = tree(&["x"]);
    let options = FilesOptions { exclude: vec!["/*/*".into()], ..FilesOptions::default() };
    let (entries, _) = walk(&[Path::new("/")], options.clone());
    assert!(entries.iter().any(|walked| walked.entry.path.as_bytes() == b"etc"));
    let (entries, _) = walk(&[Path::new("/"), dir.path()], options);
    assert_eq!(relative(dir.path(), &entries), ["x"]);
}

#[test]
fn roots_of_which_none_exists_are_refused_before_anything_starts() {
    let dir = tree(&["a"]);
    for missing in ["no", "no/deeper", "a/beneath a file"] {
        let roots = [dir.path().join(missing), dir.path().join("neither")];
        let error = refusal(&[&roots[0], &roots[1]], FilesOptions::default());
        assert!(matches!(&error, SourceError::RootMissing { root } if *root == roots[0]), "{error}");
        assert_eq!(error.kind(), ErrorKind::Invalid);
    }
    assert!(matches!(refusal(&[], FilesOptions::default()), SourceError::NoRoots));
}

#[test]
fn a_root_that_does_not_exist_is_told_and_the_others_are_walked() {
    let dir = tree(&["a/file", "b"]);
    let at = |name: &str| dir.path().join(name);
    let roots = vec![at("no/deeper"), at("b/beneath a file"), at("a/within another root"), at("a"), at("b")];
    let source = FilesSource::new(roots.clone(), FilesOptions::default()).unwrap();
    assert_eq!(source.roots(), [at("a"), at("b"), at("no/deeper")]);
    let (entries, problems) = split(source.walk());
    assert_eq!(relative(dir.path(), &entries), ["a", "b", "a/file"]);
    let told: Vec<_> = problems.iter().map(|problem| (problem.kind, problem.path.clone())).collect();
    assert_eq!(told, [0, 1, 2].map(|at| (ProblemKind::Missing, roots[at].clone())));
    assert!(problems.iter().all(SourceProblem::loses_something));
}

#[test]
fn going_up_after_a_link_is_refused() {
    let dir = tree(&["a/b/", "a/file", "file"]);
    symlink("a/b", dir.path().join("link")).unwrap();
    let error = refusal(&[&dir.path().join("link/../file")], FilesOptions::default());
    assert!(matches!(error, SourceError::RootAmbiguous { .. }));
}

#[test]
fn a_forbidden_folder_is_kept_empty_and_reported_once_whatever_way_leads_there() {
    let dir = tree(&["repo/pack", "file", "sub/"]);
    let other_way = dir.path().join("way");
    symlink("repo", &other_way).unwrap();
    let options = FilesOptions { forbidden: vec![other_way, "/no/such/folder".into()], ..FilesOptions::default() };
    let (entries, problems) = walk(&[dir.path()], options.clone());
    assert_eq!(relative(dir.path(), &entries), ["file", "repo", "sub", "way"]);
    assert_eq!(problems.len(), 1);
    assert_eq!((problems[0].kind, &problems[0].path), (ProblemKind::Forbidden, &dir.path().join("repo")));
    assert!(!problems[0].loses_something());

    for inside in ["repo", "repo/pack"] {
        let error = refusal(&[&dir.path().join(inside)], options.clone());
        assert!(matches!(error, SourceError::RootForbidden { .. }));
    }
}
