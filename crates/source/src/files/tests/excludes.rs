//! What a walk leaves out.

use super::*;

fn excluding(patterns: &[&str]) -> FilesOptions {
    FilesOptions { exclude: patterns.iter().map(ToString::to_string).collect(), ..FilesOptions::default() }
}

#[test]
fn patterns_leave_out_what_gitignore_would() {
    let dir = tree(&["a.tmp", "b", "cache/x", "deep/cache", "deep/keep.tmp", "deep/c.tmp", "node/mod/x"]);
    let anchored = format!("{}/node", dir.path().display());
    let options = excluding(&["*.tmp", "!keep.tmp", "cache/", &anchored]);
    assert_eq!(names_in(dir.path(), options), ["b", "deep", "deep/cache", "deep/keep.tmp"]);
}

#[test]
fn patterns_match_names_that_are_not_text() {
    let dir = tree(&["plain"]);
    fs::write(dir.path().join(OsString::from_vec(b"\xff.tmp".to_vec())), b"").unwrap();
    assert_eq!(names_in(dir.path(), excluding(&["*.tmp"])), ["plain"]);
}

#[test]
fn patterns_come_from_files_too_and_comments_are_not_patterns() {
    let dir = tree(&["top/a", "top/b", "top/c", "patterns"]);
    fs::write(dir.path().join("patterns"), "\u{feff}# a comment\n\nb\n!c\n").unwrap();
    let options =
        FilesOptions { exclude_files: vec!["patterns".into()], cwd: dir.path().to_owned(), ..excluding(&["c"]) };
    assert_eq!(names_in(&dir.path().join("top"), options), ["a", "c"]);
    let missing = FilesOptions { exclude_files: vec!["/no/such/file".into()], ..FilesOptions::default() };
    let error = FilesSource::new(vec![dir.path().to_owned()], missing).unwrap_err();
    assert_eq!(error.to_string(), "file of patterns /no/such/file cannot be read");
}

#[test]
fn a_line_that_is_no_pattern_is_refused() {
    let error = FilesSource::new(vec!["/".into()], excluding(&["[z-a]"])).unwrap_err();
    assert!(matches!(&error, SourceError::Pattern { pattern, .. } if pattern == "[z-a]"));
}

#[test]
fn a_root_is_kept_even_if_a_pattern_matches_it_or_what_it_is_in() {
    let dir = tree(&["out/in/root/file", "out/in/beside", "out/file", "kept"]);
    let (entries, _) = walk(&[dir.path(), &dir.path().join("out/in/root")], excluding(&["out"]));
    assert_eq!(relative(dir.path(), &entries), ["kept", "out", "out/in", "out/in/root", "out/in/root/file"]);
}

#[test]
fn only_what_is_included_is_kept() {
    let dir = tree(&["a.conf", "b.txt", "deep/c.conf", "deep/d", "whole/x", "whole/y/z", "whole/y/w.tmp"]);
    let options = FilesOptions { include: vec!["*.conf".into(), "whole/".into()], ..excluding(&["*.tmp"]) };
    let expected = ["a.conf", "deep", "whole", "deep/c.conf", "whole/x", "whole/y", "whole/y/z"];
    assert_eq!(names_in(dir.path(), options), expected);
}

#[test]
fn caches_and_marked_directories_keep_their_marker_only() {
    let dir = tree(&["cache/x", "cache/sub/y", "fake/x", "marked/x", "headed/x", "unheaded/x"]);
    let write = |name: &str, text: &str| fs::write(dir.path().join(name), text).unwrap();
    write("cache/CACHEDIR.TAG", "Signature: 8a477f597d28d172789f06886806bc55\n# made by a tool");
    write("fake/CACHEDIR.TAG", "Signature: something else");
    write("marked/.nobackup", "");
    write("headed/.skip", "yes, skip");
    write("unheaded/.skip", "no");
    let options = FilesOptions {
        exclude_caches: true,
        exclude_if_present: vec![".nobackup".into(), ".skip:yes".into()],
        ..FilesOptions::default()
    };
    let names = names_in(dir.path(), options);
    let files: Vec<_> = names.iter().filter(|name| name.contains('/')).collect();
    let expected = [
        "cache/CACHEDIR.TAG",
        "fake/CACHEDIR.TAG",
        "fake/x",
        "headed/.skip",
        "marked/.nobackup",
        "unheaded/.skip",
        "unheaded/x",
    ];
    assert_eq!(files, expected.iter().collect::<Vec<_>>());
}

#[test]
fn a_marker_must_be_a_plain_file_name() {
    for name in ["", ":header", "a/b", "..", "."] {
        let options = FilesOptions { exclude_if_present: vec![name.into()], ..FilesOptions::default() };
        let error = FilesSource::new(vec!["/".into()], options).unwrap_err();
        assert!(matches!(error, SourceError::MarkerName { .. }), "{name:?}");
    }
}

#[test]
fn a_marker_that_is_a_pipe_blocks_nothing() {
    let dir = tree(&["sub/x"]);
    assert!(Command::new("mkfifo").arg(dir.path().join("sub/.skip")).status().unwrap().success());
    let options = FilesOptions { exclude_if_present: vec![".skip:yes".into()], ..FilesOptions::default() };
    assert_eq!(names_in(dir.path(), options), ["sub", "sub/.skip", "sub/x"]);
}

#[test]
fn files_longer_than_the_limit_are_left_out() {
    let dir = tree(&["small", "limit", "d/"]);
    fs::write(dir.path().join("long"), [0; 11]).unwrap();
    fs::write(dir.path().join("limit"), [0; 10]).unwrap();
    let options = FilesOptions { exclude_larger_than: Some(10), ..FilesOptions::default() };
    assert_eq!(names_in(dir.path(), options), ["d", "limit", "small"]);
}

/// A tmpfs which is unmounted when the test ends.
struct Mounted(PathBuf);

impl Mounted {
    fn at(path: PathBuf) -> Self {
        assert!(Command::new("mount").args(["-t", "tmpfs", "none"]).arg(&path).status().unwrap().success());
        Self(path)
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg(&self.0).status();
    }
}

#[test]
fn another_file_system_is_kept_empty_if_only_one_is_wanted() {
    let dir = tree(&["a", "mount/", "z/x"]);
    let mounted = Mounted::at(dir.path().join("mount"));
    fs::write(dir.path().join("mount/inside"), b"").unwrap();
    fs::create_dir(dir.path().join("mount/sub")).unwrap();
    let one = FilesOptions { one_file_system: true, ..FilesOptions::default() };
    assert_eq!(names_in(dir.path(), one.clone()), ["a", "mount", "z", "z/x"]);
    let all = ["a", "mount", "z", "mount/inside", "mount/sub", "z/x"];
    assert_eq!(names_in(dir.path(), FilesOptions::default()), all);

    let (entries, _) = walk(&[dir.path(), &dir.path().join("mount/sub")], one.clone());
    assert_eq!(relative(dir.path(), &entries), ["a", "mount", "z", "mount/sub", "z/x"]);
    let (entries, _) = walk(&[&dir.path().join("mount")], one);
    assert_eq!(relative(dir.path(), &entries), ["mount", "mount/inside", "mount/sub"]);
    drop(mounted);
}
