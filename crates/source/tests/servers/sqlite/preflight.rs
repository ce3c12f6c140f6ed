//! Whether a SQLite file could be copied.

use source::Verdict;
use source::sqlite::preflight;
use tempfile::TempDir;

use super::{made, names_in, request};
use crate::preflight::finds;

#[tokio::test]
async fn a_file_is_looked_at_and_left_as_it_was() {
    let folder = TempDir::new().unwrap();
    let (path, open) = made(&folder, "pragma journal_mode = wal");
    finds(&preflight(&request(&path)).await, Verdict::Fine, "journal mode wal", "");
    finds(&preflight(&request(&path)).await, Verdict::Fine, "free for the copy", "");
    open.execute_batch("pragma journal_mode = delete").unwrap();
    finds(&preflight(&request(&path)).await, Verdict::Warning, "not in WAL mode", "journal_mode = wal");
    open.execute_batch("begin exclusive").unwrap();
    finds(&preflight(&request(&path)).await, Verdict::Problem, "locked", "lock_timeout");
    drop(open);
    assert_eq!(names_in(&folder), ["shop.db"]);
}

#[tokio::test]
async fn what_is_no_database_or_has_no_scratch_folder_is_told() {
    let folder = TempDir::new().unwrap();
    let (path, _open) = made(&folder, "pragma journal_mode = wal");
    let mut elsewhere = request(&path);
    elsewhere.scratch = Some(folder.path().join("none"));
    finds(&preflight(&elsewhere).await, Verdict::Problem, "no copy can be made in", "setting");
    finds(&preflight(&request(&folder.path().join("none"))).await, Verdict::Problem, "no such file", "correct path");
    let text = folder.path().join("text");
    std::fs::write(&text, "not a database at all, but long enough to be looked at as one ".repeat(20)).unwrap();
    finds(&preflight(&request(&text)).await, Verdict::Problem, "no SQLite file", "see that it is a SQLite file");
}
