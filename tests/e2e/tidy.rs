//! The rules of `docs/STYLE.md` which a program can check.
//!
//! ```text
//! files of this repository ──▶ one scan per rule ──▶ findings ──▶ minus tests/e2e/tidy.txt ──▶ none may be left
//! ```
//!
//! It is a ratchet: a finding listed in `tidy.txt` passes as long as it does not grow, and an entry that is larger than
//! what is found fails too, so that every improvement is kept.
//!
//! Invariant: a rule has a number in `docs/STYLE.md`, and every message says where and what to do.
//! Never here: a parser. Brackets, line starts and words are enough, and they are easy to follow.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use scan::{code_only, functions, has_word, has_word_start};

mod scan;

const FILE_LINES_MAX: usize = 800;
const FUNCTION_LINES_MAX: usize = 70;
const NAMES_OF_NOTHING: [&str; 6] = ["common", "core", "helper", "helpers", "util", "utils"];
const PURE_CRATES: [&str; 3] = ["chunk", "pack", "seal"];
const IMPURE: [&str; 9] =
    ["async-trait", "futures", "getrandom", "jiff", "object_store", "rand", "reqwest", "rustix", "tokio"];
/// What a thing is not called in `crates/`, and what it is called instead. Capitals count: `sha2::Digest` is fine.
const SYNONYMS: [(&str, &str); 14] = [
    ("backup set", "snapshot"),
    ("chunk hash", "chunk id"),
    ("chunk_hash", "chunk id"),
    ("corrupt", "damage"),
    ("digest", "chunk id, or the name of the hash"),
    ("fingerprint", "chunk id"),
    ("footer", "trailer or end mark"),
    ("fsck", "check"),
    ("garbage collect", "prune"),
    ("packfile", "pack"),
    ("recovery point", "snapshot"),
    ("scrub", "check"),
    ("splitter", "cutter"),
    ("vault", "repository"),
];

/// Something beyond a wall. `place` has no spaces; `size` is lines where the rule counts lines, else occurrences.
struct Finding {
    place: String,
    size: usize,
    advice: String,
}

struct File {
    path: String,
    text: String,
}

impl File {
    fn is_rust(&self) -> bool {
        self.path.ends_with(".rs")
    }

    /// The lines that `wrong` has advice for, as one finding.
    fn lines_where(&self, wrong: impl Fn(&str) -> Option<String>) -> Option<Finding> {
        let advised = self.text.lines().enumerate().filter_map(|(index, line)| Some((index, wrong(line)?)));
        let advice: Vec<String> = advised.map(|(index, advice)| format!("line {}: {advice}", index + 1)).collect();
        (!advice.is_empty()).then(|| Finding {
            place: self.path.clone(),
            size: advice.len(),
            advice: advice.join("; "),
        })
    }
}

#[test]
fn a_crate_depends_only_on_crates_above_it() {
    let order: Vec<String> = read("Cargo.toml")
        .lines()
        .filter_map(|line| Some(line.trim().strip_prefix("\"crates/")?.strip_suffix("\",")?.to_owned()))
        .collect();
    assert!(order.len() >= 7, "the workspace lists its crates one a line: {order:?}");
    let mut findings = Vec::new();
    for (position, name) in order.iter().enumerate() {
        let path = format!("crates/{name}/Cargo.toml");
        for dependency in dependencies(&read(&path)) {
            if order.iter().position(|other| *other == dependency).is_some_and(|other| other >= position) {
                let advice = format!("{name} stands above {dependency}: move the code, or the crate");
                findings.push(Finding { place: format!("{path}:{dependency}"), size: 1, advice });
            }
            if PURE_CRATES.contains(&name.as_str()) && IMPURE.contains(&dependency.as_str()) {
                let advice = format!("{name} is pure: pass in what {dependency} would fetch");
                findings.push(Finding { place: format!("{path}:{dependency}"), size: 1, advice });
            }
        }
    }
    check("2-crate-order", findings);
}

#[test]
fn a_file_is_about_one_thing_and_stays_below_the_wall() {
    let mut findings = Vec::new();
    for file in files().iter().filter(|file| file.is_rust()) {
        let before_tests = file.text.find("\n#[cfg(test)]\nmod ").unwrap_or(file.text.len());
        let size = file.text[..before_tests].lines().count();
        if size > FILE_LINES_MAX && !file.path.ends_with("tests.rs") {
            let advice = format!("{size} lines, the wall is {FILE_LINES_MAX}: find the second noun in it");
            findings.push(Finding { place: file.path.clone(), size, advice });
        }
        let named = file.path.trim_end_matches(".rs").rsplit('/').take(2).find(|part| NAMES_OF_NOTHING.contains(part));
        if let Some(name) = named {
            let advice = format!("`{name}` says nothing: name it after what it holds");
            findings.push(Finding { place: file.path.clone(), size: 1, advice });
        }
    }
    check("9-files", findings);
}

#[test]
fn a_function_stays_below_the_wall() {
    let mut findings = Vec::new();
    for file in files().iter().filter(|file| file.is_rust()) {
        for (name, size) in functions(&code_only(&file.text)).into_iter().filter(|found| found.1 > FUNCTION_LINES_MAX) {
            let advice = format!("{size} lines, the wall is {FUNCTION_LINES_MAX}: branches up, loops down");
            findings.push(Finding { place: format!("{}:{name}", file.path), size, advice });
        }
    }
    check("10-functions", findings);
}

#[test]
fn words_come_from_the_glossary() {
    let rust = files().into_iter().filter(|file| file.is_rust() && file.path.starts_with("crates/"));
    let findings = rust.filter_map(|file| {
        file.lines_where(|line| {
            let synonym = SYNONYMS.iter().find(|(synonym, _)| has_word_start(line, synonym))?;
            Some(format!("\"{}\" is called {} here, see docs/GLOSSARY.md", synonym.0, synonym.1))
        })
    });
    check("12-words", findings.collect());
}

#[test]
fn every_module_opens_with_a_header() {
    let rust = files().into_iter().filter(|file| file.is_rust());
    let headless = rust.filter(|file| {
        let first = file.text.lines().find(|line| !line.trim().is_empty() && !line.starts_with("#!["));
        !first.is_some_and(|line| line.starts_with("//!"))
    });
    let advice = "say in //! what this module is";
    check("15-headers", headless.map(|file| Finding { place: file.path, size: 1, advice: advice.into() }).collect());
}

#[test]
fn everything_left_to_do_names_an_issue() {
    let marks = ["TODO", "FIXME", "XXX"];
    let others = files().into_iter().filter(|file| file.path != "tests/e2e/tidy.rs" && file.path != "docs/STYLE.md");
    let findings = others.filter_map(|file| {
        file.lines_where(|line| {
            let mark = marks.into_iter().find(|mark| has_word(line, mark))?;
            let named = line.split_once(mark).is_some_and(|(_, after)| after.starts_with("(#"));
            (!named).then(|| format!("do it now, or open an issue and write {mark}(#12)"))
        })
    });
    check("17-todo", findings.collect());
}

#[test]
fn no_test_is_switched_off_or_named_after_being_a_test() {
    let rust = files().into_iter().filter(|file| file.is_rust());
    let findings = rust.filter_map(|file| {
        let code = File { text: code_only(&file.text), path: file.path };
        code.lines_where(|line| {
            let line = line.trim_start();
            let is_off = line.starts_with("#[ignore") || (line.starts_with("#[cfg_attr(") && line.contains("ignore"));
            let off = is_off.then(|| "run it or delete it; skip loudly what a machine lacks".into());
            off.or_else(|| line.contains("fn test_").then(|| "a test's name is a sentence, without test_".into()))
        })
    });
    check("22-tests", findings.collect());
}

#[test]
fn nothing_points_outside_the_repository() {
    let root = root();
    let checkout = format!("{}/", root.display());
    let findings = files().into_iter().filter_map(|file| {
        let folder = root.join(&file.path).parent().map(Path::to_path_buf).unwrap_or_default();
        file.lines_where(|line| {
            if line.contains(&checkout) {
                return Some("this path exists on one machine only".into());
            }
            let words = line.split(|c: char| !(c.is_alphanumeric() || "/._-".contains(c)));
            let mut documents = words.filter(|word| word.ends_with(".md") && !word.starts_with('/'));
            let stray = documents.find(|word| {
                let parent = Path::new(word).parent().unwrap_or(Path::new(""));
                !root.join(parent).is_dir() && !folder.join(parent).is_dir()
            })?;
            Some(format!("{stray} is not in this repository: say here what it says"))
        })
    });
    check("32-references", findings.collect());
}

#[test]
fn every_known_loss_names_tests_that_exist_or_says_why_it_cannot_happen() {
    let sources: Vec<File> = files().into_iter().filter(File::is_rust).collect();
    let table = read("tests/losses.md");
    let rows: Vec<Vec<&str>> =
        table.lines().filter(|line| line.starts_with("| L")).map(|line| line.split('|').collect()).collect();
    let numbers: Vec<&str> = rows.iter().map(|row| row[1].trim()).collect();
    assert_eq!(numbers, (1..=26).map(|number| format!("L{number}")).collect::<Vec<_>>(), "each once, in order");
    for row in rows {
        let named: Vec<&str> = row[4].split('`').skip(1).step_by(2).collect();
        assert!(!named.is_empty() || row[3].contains("cannot happen"), "{} has no test and no reason", row[1]);
        for name in named {
            let (module, test) = name.split_once("::").expect("a module and the name of a test");
            let declared = format!("fn {test}(");
            let place = |file: &File| file.path.trim_end_matches(".rs").split('/').any(|part| part == module);
            let is_there = sources.iter().any(|file| place(file) && file.text.contains(&declared));
            assert!(is_there, "{}: there is no test {test} in {module}", row[1]);
        }
    }
}

/// Fails with what is found and not listed in `tidy.txt`, and with what is listed and no longer true.
fn check(rule: &str, findings: Vec<Finding>) {
    let listing = read("tests/e2e/tidy.txt");
    let entries = listing.lines().filter_map(|line| line.strip_prefix(rule)?.trim().rsplit_once(' '));
    let mut listed: BTreeMap<String, usize> = entries
        .map(|(place, size)| (place.trim().to_owned(), size.parse().expect("tidy.txt: the size is a number")))
        .collect();
    let mut wrong = Vec::new();
    for Finding { place, size, advice } in findings {
        match listed.remove(&place) {
            Some(most) if size == most => {}
            Some(most) if size < most => wrong.push(format!("{place}: better! In tidy.txt write {size} for {most}")),
            _ => wrong.push(format!("{place}: {advice}")),
        }
    }
    wrong.extend(listed.keys().map(|place| format!("{place}: better! Remove the line from tidy.txt")));
    assert!(wrong.is_empty(), "rule {rule} of docs/STYLE.md:\n  {}", wrong.join("\n  "));
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("tests/ lies in the repository").to_path_buf()
}

fn read(path: &str) -> String {
    fs::read_to_string(root().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// Every text file that we write ourselves, with its path from the root.
fn files() -> Vec<File> {
    let mut found = Vec::new();
    let mut folders = vec![root()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).expect("folders of the repository are readable") {
            let path = entry.expect("folders of the repository are readable").path();
            let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
            if path.is_dir() && !["target", ".git", "corpus", "golden", "__pycache__"].contains(&name) {
                folders.push(path);
            } else if [".rs", ".md", ".sh", ".py", ".toml", "Makefile"].iter().any(|end| name.ends_with(end)) {
                let inside = path.strip_prefix(root()).expect("the walk began at the root").display().to_string();
                found.push(File { text: fs::read_to_string(&path).unwrap_or_default(), path: inside });
            }
        }
    }
    found.sort_by(|a, b| a.path.cmp(&b.path));
    found
}

/// The names under `[dependencies]`; tests and build scripts may use what they like.
fn dependencies(manifest: &str) -> Vec<String> {
    let section = manifest.split("\n[").find(|section| section.starts_with("dependencies]")).unwrap_or_default();
    let names = section.lines().skip(1).filter_map(|line| line.split(['.', ' ', '=']).next());
    names.filter(|name| !name.is_empty() && !name.starts_with('#')).map(str::to_owned).collect()
}
